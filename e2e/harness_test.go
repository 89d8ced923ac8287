//go:build linux

// Package e2e_test tells what happens when whole programs meet: the host, its plugins, control planes, and things going wrong
// between them. It knows them by what anyone can see from outside: processes, files, sockets, HTTP.
package e2e_test

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"
)

// binaries are the programs under test.
var binaries struct {
	towpath string
	plugins string // folder
}

// pluginNames are the plugins that hosts run with.
var pluginNames = []string{"file", "http", "kafka", "synthetic"}

// TestMain builds the programs once. TOWPATH_E2E_BIN names a folder to take them from instead: towpath, and plugins/ with
// towpath-plugin-<name>, which only its owner can write to.
func TestMain(m *testing.M) {
	os.Exit(runTests(m))
}

func runTests(m *testing.M) int {
	dir := os.Getenv("TOWPATH_E2E_BIN")
	if dir == "" {
		var err error
		if dir, err = os.MkdirTemp("", "towpath-e2e-"); err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		defer os.RemoveAll(dir)
		if err := build(dir); err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
	}
	binaries.towpath = filepath.Join(dir, "towpath")
	binaries.plugins = filepath.Join(dir, "plugins")
	return m.Run()
}

func build(dir string) error {
	if err := goBuild(filepath.Join(dir, "towpath"), "../host/cmd/towpath"); err != nil {
		return err
	}
	for _, name := range pluginNames {
		if err := goBuild(filepath.Join(dir, "plugins", "towpath-plugin-"+name), "../plugins/"+name); err != nil {
			return err
		}
	}
	return nil
}

func goBuild(output, pkg string) error {
	cmd := exec.Command("go", "build", "-o", output, pkg)
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("build %s: %w\n%s", pkg, err, out)
	}
	return nil
}

// patience bounds every wait for something that is to happen. It is long, because nothing is measured with it.
const patience = 90 * time.Second

// eventually waits until done returns true, and fails the test if that takes too long.
func eventually(t testing.TB, what string, done func() bool) {
	t.Helper()
	deadline := time.Now().Add(patience)
	for !done() {
		if time.Now().After(deadline) {
			t.Fatalf("did not happen within %v: %s", patience, what)
		}
		time.Sleep(5 * time.Millisecond)
	}
}

// nextPort is the last port that was given out. The range lies below the one from which the system takes ports for connections, so
// that a host that comes back finds its ports free.
var nextPort atomic.Int64

// freeAddress returns an address on the loopback interface that nobody listens on.
func freeAddress(t testing.TB) string {
	t.Helper()
	const first, count = 20000, 12000
	nextPort.CompareAndSwap(0, int64(os.Getpid())*97%count)
	for range count {
		address := fmt.Sprintf("127.0.0.1:%d", first+nextPort.Add(1)%count)
		if l, err := net.Listen("tcp", address); err == nil {
			l.Close()
			return address
		}
	}
	t.Fatal("no port is free")
	return ""
}
