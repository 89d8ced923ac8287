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
	"slices"
	"sync"
	"syscall"
	"testing"
	"time"
)

// binaries are the programs under test.
var binaries struct {
	folder  string
	towpath string
	plugins string // folder
}

// pluginNames are the plugins that hosts run with.
var pluginNames = []string{"file", "http", "kafka", "s3", "synthetic"}

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
	binaries.folder = dir
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

func goBuild(output, pkg string, flags ...string) error {
	cmd := exec.Command("go", slices.Concat([]string{"build"}, flags, []string{"-o", output, pkg})...)
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

// ports gives out ports. They lie below those from which the system takes ports for connections, and no other run of these tests gives out
// the same ones, so that a host that comes back finds its ports free, and nobody else at them meanwhile.
var ports struct {
	sync.Mutex
	locks  []*os.File // of blocks of this process, for as long as it lives
	blocks []int      // their first ports
	next   int        // port
	end    int        // of the block
}

const (
	firstPort  = 20000
	blockSize  = 500
	portBlocks = 24
)

// freeAddress returns an address on the loopback interface that nobody listens on.
func freeAddress(t testing.TB) string {
	t.Helper()
	ports.Lock()
	defer ports.Unlock()
	for {
		if ports.next == ports.end && !nextBlock(t) {
			t.Fatal("no port is free")
		}
		address := fmt.Sprintf("127.0.0.1:%d", ports.next)
		ports.next++
		if l, err := net.Listen("tcp", address); err == nil {
			l.Close()
			return address
		}
	}
}

// nextBlock takes a block of ports that no other process has, or begins again with one of this process. It returns false if there is none.
func nextBlock(t testing.TB) bool {
	t.Helper()
	for i := range portBlocks {
		name := filepath.Join(os.TempDir(), fmt.Sprintf("towpath-e2e-%d-ports-%d", os.Getuid(), i))
		f, err := os.OpenFile(name, os.O_CREATE|os.O_RDWR, 0o600)
		if err != nil {
			t.Fatal(err)
		}
		if syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB) != nil { // this process holds it, or another
			f.Close()
			continue
		}
		ports.locks, ports.blocks = append(ports.locks, f), append(ports.blocks, firstPort+i*blockSize)
		ports.next, ports.end = firstPort+i*blockSize, firstPort+(i+1)*blockSize
		return true
	}
	if len(ports.blocks) == 0 {
		return false
	}
	// The one that was given out longest ago.
	first := ports.blocks[0]
	ports.blocks = append(ports.blocks[1:], first)
	ports.next, ports.end = first, first+blockSize
	return true
}
