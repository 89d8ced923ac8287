package main

import (
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"syscall"
	"time"
)

// process is a child that runs in a process group of its own, so that Ctrl-C reaches it through us only.
type process struct {
	handle *os.Process
	ended  chan struct{}
	err    error // how it ended; set before ended is closed
}

func startProcess(cmd *exec.Cmd) (*process, error) {
	cmd.SysProcAttr = processAttributes()
	p := &process{ended: make(chan struct{})}
	started := make(chan error, 1)
	go func() {
		defer close(p.ended)
		// Where a child dies with its parent, that is the thread which started it. This one ends when the child has.
		runtime.LockOSThread()
		if p.err = cmd.Start(); p.err != nil {
			started <- p.err
			return
		}
		p.handle = cmd.Process
		started <- nil
		p.err = cmd.Wait()
	}()
	return p, <-started
}

// stop asks the process to end, ends it if it does not in time, and returns how it ended. It can be called again.
func (p *process) stop(patience time.Duration) error {
	_ = p.handle.Signal(syscall.SIGTERM) // it may have ended
	timeout := time.NewTimer(patience)
	defer timeout.Stop()
	select {
	case <-p.ended:
		return p.err
	case <-timeout.C:
	}
	_ = p.handle.Kill()
	<-p.ended
	return fmt.Errorf("did not stop within %v and was killed", patience)
}
