package store_test

import (
	"errors"
	"io/fs"
	"path/filepath"
	"testing"

	"github.com/towpath-dataplane/towpath/host/flow"
	"github.com/towpath-dataplane/towpath/host/store"
)

// What is in a store can be seen while a host has it open, and after; what is not there is not made.
func TestPeek(t *testing.T) {
	dir := t.TempDir()
	o := store.Options{Path: filepath.Join(dir, "towpath.sqlite"), Key: testKey}
	if _, err := store.Peek(t.Context(), o, "kind"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("without a store: %v", err)
	}
	if _, err := store.ReadKey(filepath.Join(dir, "sealing.key")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("without a key: %v", err)
	}
	if left, err := filepath.Glob(filepath.Join(dir, "*")); len(left) > 0 || err != nil {
		t.Errorf("made %v", left)
	}
	made, err := store.LoadKey(filepath.Join(dir, "sealing.key"))
	if err != nil {
		t.Fatal(err)
	}
	if read, err := store.ReadKey(filepath.Join(dir, "sealing.key")); err != nil || read != made {
		t.Errorf("read another key, %v", err)
	}
	db, err := store.Open(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	if err := db.PutDocument(t.Context(), flow.Document{Kind: "kind", Context: "c", ID: "d", Content: []byte("text")}); err != nil {
		t.Fatal(err)
	}
	peek := func(when string) {
		found, err := store.Peek(t.Context(), o, "kind")
		if err != nil || len(found) != 1 || found[0].ID != "d" || string(found[0].Content) != "text" {
			t.Errorf("%s: %+v, %v", when, found, err)
		}
	}
	peek("while it is open")
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	peek("while it is closed")
	if found, err := store.Peek(t.Context(), store.Options{Path: o.Path, Key: [32]byte{9}}, "kind"); len(found) > 0 || err != nil {
		t.Errorf("with another key: %+v, %v", found, err)
	}
	open(t, o) // nothing was spoilt
}
