package pluginhost

import (
	"os/exec"
	"runtime"
)

// spawner starts all processes of a host from one operating system thread. A process that is to die with its parent dies, as
// the kernel sees it, with the thread that started it; so that thread has to live as long as the host.
type spawner struct {
	requests chan spawnRequest
	done     chan struct{}
}

type spawnRequest struct {
	cmd    *exec.Cmd
	result chan error
}

func newSpawner() *spawner {
	s := &spawner{requests: make(chan spawnRequest), done: make(chan struct{})}
	go s.run()
	return s
}

func (s *spawner) run() {
	defer close(s.done)
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	for r := range s.requests {
		r.result <- r.cmd.Start()
	}
}

// start starts cmd. It is not called after close.
func (s *spawner) start(cmd *exec.Cmd) error {
	r := spawnRequest{cmd, make(chan error, 1)}
	s.requests <- r
	return <-r.result
}

// close gives the thread back. Processes that still run may be killed by that.
func (s *spawner) close() {
	close(s.requests)
	<-s.done
}
