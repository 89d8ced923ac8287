//go:build unix && !linux

package main

import "syscall"

// processAttributes give a child its own process group. Only Linux lets it die with us as well.
func processAttributes() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true}
}
