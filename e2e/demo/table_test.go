package main

import (
	"bytes"
	"flag"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

var update = flag.Bool("update", false, "write the golden files")

func golden(t *testing.T, name string, got []byte) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if *update {
		if err := os.WriteFile(path, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), string(got)); diff != "" {
		t.Error(diff)
	}
	for i, line := range bytes.Split(got, []byte("\n")) {
		if len(line) > 100 {
			t.Errorf("line %d has %d columns", i+1, len(line))
		}
	}
}

func TestTable(t *testing.T) {
	var b bytes.Buffer
	err := writeTable(&b, []row{
		{"demo-push", "push", "provider", "COMPLETED", 7, 268435456, 1180 * time.Millisecond, "yes"},
		{"demo-push", "push", "consumer", "COMPLETED", 7, 268435456, 61 * time.Second, "NO"},
		{"demo-refused", "pull", "provider", "TERMINATED", 0, 0, 0, "-"},
		{"demo-pull", "pull", "consumer", "COMPLETED", 12345, 64 << 30, 10 * time.Minute, "yes"},
	})
	if err != nil {
		t.Fatal(err)
	}
	golden(t, "table.golden", b.Bytes())
}

func TestHostsTable(t *testing.T) {
	var b bytes.Buffer
	err := writeHosts(&b, []*host{
		{name: "provider", signaling: "http://127.0.0.1:1", public: "http://127.0.0.1:22", admin: "http://127.0.0.1:333", log: "/logs/a.log"},
		{name: "consumer", signaling: "http://127.0.0.1:4444", public: "http://127.0.0.1:55555", admin: "http://127.0.0.1:6", log: "/logs/b.log"},
	})
	if err != nil {
		t.Fatal(err)
	}
	golden(t, "hosts.golden", b.Bytes())
}
