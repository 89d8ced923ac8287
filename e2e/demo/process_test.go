package main

import (
	"bufio"
	"os"
	"os/exec"
	"syscall"
	"testing"
	"time"
)

// startChild starts the test binary as a child and returns when it is up.
func startChild(t *testing.T, behaviour string) *process {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), childVariable+"="+behaviour)
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	cmd.Stdout = w
	p, err := startProcess(cmd)
	w.Close()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := bufio.NewReader(r).ReadString('\n'); err != nil {
		t.Fatal(err)
	}
	return p
}

func TestStop(t *testing.T) {
	p := startChild(t, "obliging")
	if group, err := syscall.Getpgid(p.handle.Pid); err != nil || group != p.handle.Pid {
		t.Errorf("process %d is in group %d: %v", p.handle.Pid, group, err)
	}
	for range 2 {
		if err := p.stop(time.Minute); err != nil {
			t.Error(err)
		}
	}
}

func TestStopKillsWhatDoesNotListen(t *testing.T) {
	p := startChild(t, "stubborn")
	if err := p.stop(time.Millisecond); err == nil {
		t.Error("it is said to have stopped in order")
	}
	if err := syscall.Kill(p.handle.Pid, 0); err != syscall.ESRCH {
		t.Errorf("the process is still there: %v", err)
	}
}

func TestStopTellsHowItEnded(t *testing.T) {
	p := startChild(t, "stubborn")
	if err := p.handle.Kill(); err != nil {
		t.Fatal(err)
	}
	<-p.ended
	if err := p.stop(time.Minute); err == nil {
		t.Error("it is said to have stopped in order")
	}
}

func TestStartOfNothing(t *testing.T) {
	p, err := startProcess(exec.Command("/nonexistent"))
	if err == nil {
		t.Fatal("it is said to have started")
	}
	<-p.ended
}
