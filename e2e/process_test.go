//go:build linux

package e2e_test

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// process is a program that a test has started. It ends with its test.
type process struct {
	cmd    *exec.Cmd
	stdout buffer
	stderr buffer
	exited chan struct{} // closed when the process has ended; cmd.ProcessState is valid then
}

// startProcess starts a program in a process group of its own, which is killed at the end of the test.
func startProcess(t testing.TB, env []string, name string, args ...string) *process {
	t.Helper()
	p := &process{cmd: exec.Command(name, args...), exited: make(chan struct{})}
	p.cmd.Env = append(os.Environ(), env...)
	p.cmd.Stdout, p.cmd.Stderr = &p.stdout, &p.stderr
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		p.cmd.Wait()
		close(p.exited)
	}()
	t.Cleanup(p.kill)
	return p
}

// kill ends the process group, which may have ended before, and waits for it.
func (p *process) kill() {
	syscall.Kill(-p.cmd.Process.Pid, syscall.SIGKILL)
	<-p.exited
}

// signal sends a signal to the process alone.
func (p *process) signal(s syscall.Signal) { p.cmd.Process.Signal(s) }

func (p *process) hasExited() bool {
	select {
	case <-p.exited:
		return true
	default:
		return false
	}
}

// exitCode waits for the end of the process.
func (p *process) exitCode(t testing.TB) int {
	t.Helper()
	eventually(t, "the end of "+p.cmd.Path, p.hasExited)
	return p.cmd.ProcessState.ExitCode()
}

// buffer collects what a process prints.
type buffer struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (b *buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.Write(p)
}

func (b *buffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.String()
}

// towpath runs the program to its end, and returns its exit code and what it printed.
func towpath(t testing.TB, env []string, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	p := startProcess(t, env, binaries.towpath, args...)
	code = p.exitCode(t)
	return code, p.stdout.String(), p.stderr.String()
}

// child is a process by its id and the time of its start, which together are never used twice.
type child struct {
	pid     int
	started string
}

// childrenOf lists the processes that a process has started and that are not reaped.
func childrenOf(parent int) []child { return processesByParent()[parent] }

func processesByParent() map[int][]child {
	all := map[int][]child{}
	entries, _ := os.ReadDir("/proc") // Linux has it
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil {
			continue
		}
		if stat, ok := statOf(pid); ok {
			all[stat.parent] = append(all[stat.parent], child{pid, stat.started})
		}
	}
	return all
}

// descendants watches the process until it ends, and returns all that it and its children were seen to start.
func (p *process) descendants() []child {
	seen := map[child]bool{}
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for !p.hasExited() {
		byParent := processesByParent()
		for parents := []int{p.cmd.Process.Pid}; len(parents) > 0; parents = parents[1:] {
			for _, c := range byParent[parents[0]] {
				seen[c] = true
				parents = append(parents, c.pid)
			}
		}
		<-tick.C
	}
	return slices.Collect(maps.Keys(seen))
}

// alive reports whether the process still runs.
func (c child) alive() bool {
	stat, ok := statOf(c.pid)
	return ok && stat.started == c.started && stat.state != "Z"
}

// exists reports whether there is a process with an id.
func exists(pid int) bool {
	_, ok := statOf(pid)
	return ok
}

type procStat struct {
	state   string
	parent  int
	started string
}

// statOf reads /proc/<pid>/stat. What follows the name of the program, which can hold anything, is separated by blanks.
func statOf(pid int) (procStat, bool) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return procStat{}, false
	}
	fields := strings.Fields(string(text[bytes.LastIndexByte(text, ')')+1:]))
	parent, err := strconv.Atoi(fields[1])
	return procStat{state: fields[0], parent: parent, started: fields[19]}, err == nil
}

// expectGone waits until none of the processes runs any more.
func expectGone(t testing.TB, all []child) {
	t.Helper()
	for _, c := range all {
		eventually(t, fmt.Sprintf("the end of process %d", c.pid), func() bool { return !c.alive() })
	}
}

// sendSignal sends a signal to a process that may just have ended.
func sendSignal(t testing.TB, pid int, s syscall.Signal) {
	t.Helper()
	if err := syscall.Kill(pid, s); err != nil && !errors.Is(err, syscall.ESRCH) {
		t.Fatalf("send %v to %d: %v", s, pid, err)
	}
}
