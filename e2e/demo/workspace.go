package main

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
)

// The names of the two sides, of their folders, and of their configurations.
const (
	provider = "provider"
	consumer = "consumer"
)

// workspace is the folder in which everything happens.
type workspace struct{ dir string }

// openWorkspace makes the folder, or clears it of all that an earlier demo left but the provider's files.
func openWorkspace(dir string) (*workspace, error) {
	w := &workspace{dir}
	if err := w.claim(); err != nil {
		return nil, err
	}
	stale := []string{w.state(provider), w.state(consumer), w.files(consumer), w.log(provider), w.log(consumer)}
	for _, path := range stale {
		if err := os.RemoveAll(path); err != nil {
			return nil, err
		}
	}
	for _, path := range []string{w.files(provider), w.files(consumer)} {
		if err := os.MkdirAll(path, 0o755); err != nil {
			return nil, err
		}
	}
	return w, nil
}

// claim makes the folder, and refuses one in which there is anything that the demo does not make.
func (w *workspace) claim() error {
	if err := os.MkdirAll(w.dir, 0o755); err != nil {
		return err
	}
	entries, err := os.ReadDir(w.dir)
	if err != nil {
		return err
	}
	own := []string{provider, consumer, filepath.Base(w.log(provider)), filepath.Base(w.log(consumer))}
	for _, entry := range entries {
		if !slices.Contains(own, entry.Name()) {
			return fmt.Errorf("%s has %q in it, which is not from a demo: name another folder with -work", shorten(w.dir), entry.Name())
		}
	}
	return nil
}

func (w *workspace) files(side string) string { return filepath.Join(w.dir, side, "files") }
func (w *workspace) state(side string) string { return filepath.Join(w.dir, side, "state") }
func (w *workspace) log(side string) string   { return filepath.Join(w.dir, side+".log") }

// clearFolder removes what is in a folder.
func clearFolder(dir string) error {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	for _, entry := range entries {
		if err := os.RemoveAll(filepath.Join(dir, entry.Name())); err != nil {
			return err
		}
	}
	return nil
}
