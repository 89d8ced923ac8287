package main

import (
	"context"
	"encoding/json"
	"io"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/towpath-dataplane/towpath/sdk"
	"github.com/towpath-dataplane/towpath/sdk/sdktest"
)

func configured(t *testing.T, root string) (sdk.Plugin, error) {
	t.Helper()
	p := newPlugin()
	config, err := json.Marshal(map[string]string{"root": root})
	if err != nil {
		t.Fatal(err)
	}
	return p, p.Configure(t.Context(), sdk.Config{JSON: config})
}

func newSource(t *testing.T, root string) sdk.DataSource {
	t.Helper()
	p, err := configured(t, root)
	if err != nil {
		t.Fatal(err)
	}
	return sdk.NewDataSource(p.Sources[0])
}

func put(t *testing.T, root, name string, content []byte) {
	t.Helper()
	file := filepath.Join(root, name)
	if err := os.MkdirAll(filepath.Dir(file), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, content, 0o600); err != nil {
		t.Fatal(err)
	}
}

func address(sourceFile string) sdk.DataAddress {
	return sdk.DataAddress{Type: addressType, Properties: map[string]string{"sourceFile": sourceFile}}
}

func TestSourceSuite(t *testing.T) {
	outer := t.TempDir()
	root := filepath.Join(outer, "root")
	large := sdktest.Pattern(1, 1<<20+5)
	put(t, root, "data/Übung 1.csv", large)
	put(t, root, "empty", nil)
	put(t, outer, "secret.txt", []byte("not for others"))
	for link, to := range map[string]string{"link-out": "../secret.txt", "folder-out": "..", "loop": "loop"} {
		if err := os.Symlink(to, filepath.Join(root, link)); err != nil {
			t.Fatal(err)
		}
	}
	if err := syscall.Mkfifo(filepath.Join(root, "pipe"), 0o600); err != nil {
		t.Fatal(err)
	}
	bad := []sdktest.BadAddress{
		{Name: "nothing there", Address: address("nowhere.csv"), Code: sdk.NotFound},
		{Name: "nothing in a file", Address: address("empty/x"), Code: sdk.NotFound},
		{Name: "a folder", Address: address("data"), Code: sdk.Invalid},
		{Name: "the root", Address: address("."), Code: sdk.Invalid},
		{Name: "a slash at the end", Address: address("empty/"), Code: sdk.Invalid},
		{Name: "no path", Address: address(""), Code: sdk.Invalid},
		{Name: "up", Address: address("../secret.txt"), Code: sdk.Invalid},
		{Name: "up on the way", Address: address("data/../../secret.txt"), Code: sdk.Invalid},
		{Name: "an absolute path elsewhere", Address: address(filepath.Join(outer, "secret.txt")), Code: sdk.Invalid},
		{Name: "an absolute path that begins alike", Address: address(root + "-2/x"), Code: sdk.Invalid},
		{Name: "an absolute way out", Address: address(root + "/../secret.txt"), Code: sdk.Invalid},
		{Name: "a link that leads out", Address: address("link-out"), Code: sdk.Denied},
		{Name: "a folder that leads out", Address: address("folder-out/secret.txt"), Code: sdk.Denied},
		{Name: "a link to itself", Address: address("loop"), Code: sdk.Invalid},
		{Name: "a pipe", Address: address("pipe"), Code: sdk.Invalid},
		{Name: "zero byte", Address: address("a\x00b"), Code: sdk.Invalid},
		{Name: "unknown property", Address: sdk.DataAddress{Type: addressType, Properties: map[string]string{"sourceFile": "empty", "path": "x"}}, Code: sdk.Invalid},
	}
	for name, c := range map[string]sdktest.SourceCase{
		"relative": {Address: address("data/Übung 1.csv"), Parts: []sdktest.Content{{Name: "Übung 1.csv", Bytes: large}}, Bad: bad},
		"absolute": {Address: address(filepath.Join(root, "data/Übung 1.csv")), Parts: []sdktest.Content{{Name: "Übung 1.csv", Bytes: large}}},
		"empty":    {Address: address("./empty"), Parts: []sdktest.Content{{Name: "empty", Bytes: []byte{}}}},
	} {
		t.Run(name, func(t *testing.T) {
			c.New = func(t *testing.T) sdk.DataSource { return newSource(t, root) }
			sdktest.TestSource(t, c)
		})
	}
}

// A link that stays inside is followed: it is the operator's.
func TestLinkInside(t *testing.T) {
	root := t.TempDir()
	put(t, root, "v1.csv", []byte("1"))
	if err := os.Symlink("v1.csv", filepath.Join(root, "current.csv")); err != nil {
		t.Fatal(err)
	}
	for p, err := range (&source{&folder{root}}).Read(t.Context(), sdk.ReadRequest{Address: address("current.csv")}) {
		if err != nil || p.Name != "current.csv" || p.Size != 1 {
			t.Errorf("%+v, %v", p.PartInfo, err)
		}
	}
}

// What is read is one state of the file, or an error that can be tried again.
func TestFileChanges(t *testing.T) {
	for name, change := range map[string]func(t *testing.T, file string){
		"grows": func(t *testing.T, file string) {
			f, err := os.OpenFile(file, os.O_APPEND|os.O_WRONLY, 0)
			if err != nil {
				t.Fatal(err)
			}
			defer f.Close()
			if _, err := f.WriteString("more"); err != nil {
				t.Fatal(err)
			}
		},
		"shrinks": func(t *testing.T, file string) {
			if err := os.Truncate(file, 10); err != nil {
				t.Fatal(err)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			root := t.TempDir()
			put(t, root, "a", sdktest.Pattern(1, 100_000))
			for p, err := range (&source{&folder{root}}).Read(t.Context(), sdk.ReadRequest{Address: address("a")}) {
				if err != nil {
					t.Fatal(err)
				}
				r, err := p.Open(context.Background(), 0)
				if err != nil {
					t.Fatal(err)
				}
				defer r.Close()
				if _, err := io.CopyN(io.Discard, r, 5000); err != nil {
					t.Fatal(err)
				}
				change(t, filepath.Join(root, "a"))
				_, err = io.Copy(io.Discard, r)
				if e := sdk.AsError(err); e == nil || e.Code != sdk.Corrupt || !e.Retryable {
					t.Errorf("the end of it: %v", err)
				}
			}
		})
	}
}

func TestConfigurations(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for root, says := range map[string]string{"": "is required", file: "is not a folder", file + "-2": "no such file"} {
		if _, err := configured(t, root); err == nil || !strings.Contains(err.Error(), "root: ") || !strings.Contains(err.Error(), says) {
			t.Errorf("root %q: %v, want %q", root, err, says)
		}
	}
}
