package main

import (
	"fmt"
	"path/filepath"
	"testing"

	"github.com/towpath-dataplane/towpath/host/admin"
	"github.com/towpath-dataplane/towpath/host/config"
	"github.com/towpath-dataplane/towpath/host/store"
)

// What plugins said of themselves is there for the next host, and for commands beside a running one.
func TestDescriptionsAreKept(t *testing.T) {
	dir := t.TempDir()
	cfg := &config.Config{DataPlane: config.DataPlane{DataDir: dir}, Store: config.Store{Path: filepath.Join(dir, "towpath.sqlite")}}
	expect := func(what string, d *descriptions, want string) {
		t.Helper()
		content, ok, err := d.Load(t.Context(), "digest")
		if err != nil || ok != (want != "") || string(content) != want {
			t.Errorf("%s: %q, %t, %v", what, content, ok, err)
		}
	}
	expect("without a store", peekDescriptions(t.Context(), cfg), "")
	key, err := store.LoadKey(filepath.Join(dir, sealingKey))
	if err != nil {
		t.Fatal(err)
	}
	db, err := store.Open(t.Context(), store.Options{Path: cfg.Store.Path, Key: key})
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	for i := range 2 {
		d, err := loadDescriptions(t.Context(), db)
		if err != nil {
			t.Fatal(err)
		}
		if err := d.Save(t.Context(), "digest", fmt.Appendf(nil, "said %d", i)); err != nil {
			t.Fatal(err)
		}
		expect("by the host", d, fmt.Sprint("said ", i))
	}
	d, err := loadDescriptions(t.Context(), db)
	if err != nil {
		t.Fatal(err)
	}
	expect("by the next", d, "said 1")
	beside := peekDescriptions(t.Context(), cfg)
	expect("beside it", beside, "said 1")
	if err := beside.Save(t.Context(), "digest", []byte("said beside")); err != nil {
		t.Fatal(err)
	}
	expect("in memory", beside, "said beside")
	expect("by yet another", peekDescriptions(t.Context(), cfg), "said 1")
}

func TestConflictsAreNoted(t *testing.T) {
	plugins := []admin.Plugin{
		{Name: "a", Sources: []string{"File"}, Sinks: []string{"File"}}, {Name: "b", Sources: []string{"Http"}, Sinks: []string{"File"}},
		{Name: "c", Sinks: []string{"Http"}}, {Name: "d", Sources: []string{"Http"}, Problem: "it does not start"},
	}
	noteConflicts(plugins)
	for i, want := range []string{
		`the sink type "File" is offered by a and b: only the first that a host finds is used`,
		`the sink type "File" is offered by a and b: only the first that a host finds is used`, "", "it does not start",
	} {
		if plugins[i].Problem != want {
			t.Errorf("%s: %q, want %q", plugins[i].Name, plugins[i].Problem, want)
		}
	}
}
