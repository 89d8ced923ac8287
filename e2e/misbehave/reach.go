package main

import (
	"net"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/towpath-dataplane/towpath/sdk"
	"github.com/towpath-dataplane/towpath/sdk/grpcplugin"
)

// modest says that it needs nothing.
func modest(p sdk.Plugin) {
	p.Permissions = &sdk.Permissions{}
	grpcplugin.Serve(p)
}

// greedy says that it needs all there is.
func greedy(p sdk.Plugin) {
	p.Permissions = &sdk.Permissions{Environment: []string{"GREEDY_ONE", "GREEDY_TWO"}, Read: []string{"/"}, Write: []string{"/"},
		Connect: []string{"*:*"}, Memory: 1 << 40, OpenFiles: 1 << 20}
	grpcplugin.Serve(p)
}

// reach tries to get at something, as "read /etc/passwd", and returns what came of it.
func reach(what string) string {
	verb, argument, _ := strings.Cut(what, " ")
	try, ok := reaches[verb]
	if !ok {
		return "nothing is called " + verb
	}
	if err := try(argument); err != nil {
		return err.Error()
	}
	return "reached"
}

var reaches = map[string]func(argument string) error{
	"read":  func(path string) error { _, err := os.ReadFile(path); return err },
	"write": func(path string) error { return os.WriteFile(path, []byte("was here"), 0o600) },
	"dial": func(address string) error {
		conn, err := net.DialTimeout("tcp", address, 30*time.Second)
		if err == nil {
			err = conn.Close()
		}
		return err
	},
	// escape starts a child that leaves the process group, to outlive it.
	"escape": func(string) error {
		child := exec.Command("sleep", "600")
		child.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
		return child.Start()
	},
	"open": func(count string) error {
		n, err := strconv.Atoi(count)
		for i := 0; i < n && err == nil; i++ {
			_, err = syscall.Open("/dev/null", syscall.O_RDONLY, 0)
		}
		return err
	},
	// eat takes and touches mebibytes.
	"eat": func(count string) error {
		n, err := strconv.Atoi(count)
		for range n {
			b := make([]byte, 1<<20)
			for i := 0; i < len(b); i += 4 << 10 {
				b[i] = 1
			}
			eaten = append(eaten, b)
		}
		return err
	},
}

// eaten is never given back.
var eaten [][]byte
