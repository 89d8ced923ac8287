package main

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func write(t *testing.T, path string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
}

func TestWorkspaceIsClearedOfFormerRuns(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "new", "folder")
	w, err := openWorkspace(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{
		filepath.Join(w.state(provider), "towpath.db"), filepath.Join(w.files(consumer), ".towpath", "part"), w.log(consumer),
		filepath.Join(w.files(provider), "kept"),
	} {
		write(t, path)
	}
	if _, err := openWorkspace(dir); err != nil {
		t.Fatal(err)
	}
	left, err := fileSizes(dir)
	if diff := cmp.Diff(map[string]int64{"provider/files/kept": 1}, left); err != nil || diff != "" {
		t.Error(err, diff)
	}
	if _, err := os.Stat(w.files(consumer)); err != nil {
		t.Error(err)
	}
}

func TestWorkspaceIsNoOtherFolder(t *testing.T) {
	dir := t.TempDir()
	write(t, filepath.Join(dir, "consumer", "files", "precious"))
	write(t, filepath.Join(dir, "thesis.txt"))
	if _, err := openWorkspace(dir); err == nil {
		t.Error("a folder with other things in it was taken")
	}
	if _, err := os.Stat(filepath.Join(dir, "consumer", "files", "precious")); err != nil {
		t.Error(err)
	}
}
