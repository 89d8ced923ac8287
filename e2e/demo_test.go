//go:build linux

package e2e_test

import (
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
)

// The demonstration of the README runs, shows that everything is equal, and leaves no process.
func TestDemo(t *testing.T) {
	t.Parallel()
	p, processes := startDemo(t)
	if code := p.exitCode(t); code != 0 {
		t.Fatalf("exit code %d:\n%s%s", code, p.stdout.String(), p.stderr.String())
	}
	for flow, row := range map[string]string{
		"push at the provider":      `push +provider +COMPLETED +\d+ +8,388,608 .* yes`,
		"push at the consumer":      `push +consumer +COMPLETED +\d+ +8,388,608 .* yes`,
		"pull at the provider":      `pull +provider +COMPLETED +\d+ +8,388,608 .* yes`,
		"pull at the consumer":      `pull +consumer +COMPLETED +\d+ +8,388,608 .* yes`,
		"pull that ends before":     `pull +provider +TERMINATED +0 +0 `,
		"the token after terminate": `403 Forbidden`,
	} {
		if !regexp.MustCompile(row).MatchString(p.stdout.String()) {
			t.Errorf("%s: there is no %q in\n%s", flow, row, p.stdout.String())
		}
	}
	expectGone(t, processes())
}

// Whoever interrupts the demonstration is rid of it, whether it can stop in order or not.
func TestDemoIsInterrupted(t *testing.T) {
	t.Parallel()
	for name, signal := range map[string]syscall.Signal{"in order": syscall.SIGINT, "at once": syscall.SIGKILL} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p, processes := startDemo(t)
			eventually(t, "the first transfer", func() bool { return strings.Contains(p.stdout.String(), "Push") })
			p.signal(signal)
			if code := p.exitCode(t); code == 0 {
				t.Errorf("exit code 0 after %v", signal)
			}
			expectGone(t, processes())
		})
	}
}

// startDemo starts the demonstration with a small dataset. processes ends the search for what it has started, and returns what was
// found.
func startDemo(t *testing.T) (p *process, processes func() []child) {
	t.Helper()
	demo := filepath.Join(t.TempDir(), "demo")
	if err := goBuild(demo, "./demo"); err != nil {
		t.Fatal(err)
	}
	p = startProcess(t, nil, demo, "-plain", "-size", "8MiB", "-work", filepath.Join(t.TempDir(), "work"),
		"-bin", binaries.towpath, "-plugins", binaries.plugins, "-configs", "../configs")
	found := make(chan []child, 1)
	go func() { found <- p.descendants() }()
	return p, func() []child { return <-found }
}
