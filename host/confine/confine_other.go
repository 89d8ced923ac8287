//go:build !linux

package confine

import (
	"context"
	"errors"
	"os"
	"os/exec"
)

// Confiner confines processes. It is safe for concurrent use.
type Confiner struct {
	machine machine
}

// Places are where a plugin is and works.
type Places struct{ Image, Folder string }

// Process is a confined process, nil for one that is not confined.
type Process struct{}

// New returns a Confiner that can do nothing: only Linux offers what it needs.
func New(bool) *Confiner {
	const linux = "only on Linux"
	return &Confiner{machine{seccomp: linux, notify: linux, noGroups: linux}}
}

// Prepare refuses what it cannot do.
func (c *Confiner) Prepare(_ *exec.Cmd, _ string, p Policy, _ Places, _ func(string)) (*Process, error) {
	if p.confines() {
		return nil, errors.New("plugins can be confined only on Linux")
	}
	return nil, nil
}

// Started returns at once.
func (p *Process) Started(context.Context) error { return nil }

// Close does nothing.
func (p *Process) Close() error { return nil }

// Run ends the program.
func Run([]string) { os.Exit(1) }
