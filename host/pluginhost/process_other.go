//go:build unix && !linux

package pluginhost

import "syscall"

// processAttributes put a plugin in a process group of its own. Only Linux lets it die with the host as well.
func processAttributes() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true}
}

// waitForGroup reaps the process and kills what it left in its group.
func (p *process) waitForGroup() error {
	err := p.cmd.Wait()
	p.mu.Lock()
	defer p.mu.Unlock()
	syscall.Kill(-p.pid, syscall.SIGKILL)
	p.reaped = true
	return err
}
