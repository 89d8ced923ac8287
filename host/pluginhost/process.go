package pluginhost

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"sync"
	"syscall"
	"time"
)

// Exit says how a process ended.
type Exit struct {
	At     time.Time
	Status string // "exit status 1", "signal: killed"
	Signal string // "" if it exited by itself
	Reason string // why the host ended it; "" if the host did not
	// Stderr is up to 20 of the last lines that were logged; if it panicked, the first since then.
	Stderr []string
}

// String is one line for people.
func (e Exit) String() string {
	s := e.Status
	if e.Reason != "" {
		s += " (" + e.Reason + ")"
	}
	if last := e.lastWords(); last != "" {
		s += "; last stderr: " + last
	}
	return s
}

// lastWords is the line of Stderr that says most, quoted and not too long; "" if there is none.
func (e Exit) lastWords() string {
	if len(e.Stderr) == 0 {
		return ""
	}
	line := e.Stderr[len(e.Stderr)-1]
	if isPanic(e.Stderr[0]) {
		line = e.Stderr[0]
	}
	return fmt.Sprintf("%.200q", line)
}

// process is a plugin's process and everything that it started and that is still in its process group. Of a dialled plugin it is the
// connection: neither has it a pid nor output, and any signal hangs up.
type process struct {
	pid    int
	link   *link // nil unless it is a connection
	cmd    *exec.Cmd
	out    *output
	pipes  []*os.File // read ends
	exited chan struct{}
	exit   Exit // valid when exited is closed

	mu     sync.Mutex // guards the rest, and whoever signals or reaps
	reaped bool
	reason string
}

// drainGrace is how long output that is still in a pipe is read after its process has ended.
const drainGrace = 500 * time.Millisecond

// startProcess starts cmd in a process group of its own, with out and hs reading what it prints. The process is waited for by a
// goroutine that ends with it; nobody else has to.
func startProcess(s *spawner, cmd *exec.Cmd, out *output, hs *handshake) (*process, error) {
	stdout, stdoutChild, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	defer stdoutChild.Close()
	stderr, stderrChild, err := os.Pipe()
	if err != nil {
		stdout.Close()
		return nil, err
	}
	defer stderrChild.Close()
	cmd.Stdin, cmd.Stdout, cmd.Stderr = nil, stdoutChild, stderrChild
	cmd.SysProcAttr = processAttributes()
	if err := s.start(cmd); err != nil {
		stdout.Close()
		stderr.Close()
		return nil, err
	}
	p := &process{pid: cmd.Process.Pid, cmd: cmd, out: out, pipes: []*os.File{stdout, stderr}, exited: make(chan struct{})}
	var readers sync.WaitGroup
	readers.Go(func() { hs.copy(stdout) })
	readers.Go(func() { out.copy("stderr", stderr) })
	go p.reap(&readers)
	return p, nil
}

// reap waits for the end of the process, ends what it left behind, and fills in exit.
func (p *process) reap(readers *sync.WaitGroup) {
	err := p.waitForGroup()
	for _, pipe := range p.pipes {
		// A child that left the process group can hold the pipe open for ever.
		pipe.SetReadDeadline(time.Now().Add(drainGrace))
	}
	readers.Wait()
	for _, pipe := range p.pipes {
		pipe.Close()
	}
	p.exit = newExit(p.cmd.ProcessState, err)
	p.exit.Reason, p.exit.Stderr = p.reason, p.out.close()
	close(p.exited)
}

func newExit(state *os.ProcessState, err error) Exit {
	e := Exit{At: time.Now()}
	if state == nil {
		e.Status = err.Error()
		return e
	}
	e.Status = state.String()
	if status, ok := state.Sys().(syscall.WaitStatus); ok && status.Signaled() {
		e.Signal = status.Signal().String()
	}
	return e
}

// signal sends a signal to the process group. The first reason given is kept.
func (p *process) signal(sig syscall.Signal, reason string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.reaped {
		return
	}
	if p.reason == "" {
		p.reason = reason
	}
	if p.link != nil {
		p.link.Close()
		return
	}
	syscall.Kill(-p.pid, sig)
}

// kill ends the process group at once.
func (p *process) kill(reason string) { p.signal(syscall.SIGKILL, reason) }

// hasEnded says whether the process has ended.
func (p *process) hasEnded() bool {
	select {
	case <-p.exited:
		return true
	default:
		return false
	}
}

// wait waits until the process has ended, at most for d, and says whether it has.
func (p *process) wait(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-p.exited:
	case <-timer.C:
	case <-ctx.Done():
	}
	return p.hasEnded()
}
