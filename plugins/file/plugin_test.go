package main

import (
	"context"
	"encoding/json"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/towpath-dataplane/towpath/sdk"
)

// newVolume returns the plugin's source and sink, configured for a root folder, as a host sees them.
func newVolume(t *testing.T, root string) (sdk.DataSource, sdk.DataSink) {
	t.Helper()
	return configured(t, map[string]any{"root": root})
}

func configured(t *testing.T, config map[string]any) (sdk.DataSource, sdk.DataSink) {
	t.Helper()
	p := newPlugin()
	if err := configure(p, config); err != nil {
		t.Fatalf("configure: %v", err)
	}
	return sdk.NewDataSource(p.Sources[0]), sdk.NewDataSink(p.Sinks[0])
}

func configure(p sdk.Plugin, config map[string]any) error {
	encoded, err := json.Marshal(config)
	if err != nil {
		return err
	}
	return p.Configure(context.Background(), sdk.Config{JSON: encoded})
}

func address(properties ...string) sdk.DataAddress {
	a := sdk.DataAddress{Type: addressType, Properties: map[string]string{}}
	for i := 0; i < len(properties); i += 2 {
		a.Properties[properties[i]] = properties[i+1]
	}
	return a
}

// put writes a file, and the folders above it.
func put(t *testing.T, root, name, content string) {
	t.Helper()
	file := filepath.Join(root, name)
	if err := os.MkdirAll(filepath.Dir(file), 0o777); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, []byte(content), 0o666); err != nil {
		t.Fatal(err)
	}
}

func symlink(t *testing.T, target, link string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(link), 0o777); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(target, link); err != nil {
		t.Fatal(err)
	}
}

func fifo(t *testing.T, name string) {
	t.Helper()
	if err := syscall.Mkfifo(name, 0o666); err != nil {
		t.Fatal(err)
	}
}

// tree lists the regular files below a folder, relative to it, but for those of the plugin.
func tree(root string) ([]string, error) {
	var names []string
	err := filepath.WalkDir(root, func(name string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir() && d.Name() == workFolder && name != root:
			return fs.SkipDir
		case d.Type().IsRegular():
			relative, err := filepath.Rel(root, name)
			names = append(names, relative)
			return err
		}
		return nil
	})
	return names, err
}

// temporaries lists what the plugin keeps for parts that are not whole.
func temporaries(root string) ([]string, error) {
	work := filepath.Join(root, workFolder)
	if _, err := os.Stat(work); os.IsNotExist(err) {
		return nil, nil
	}
	return tree(work)
}

func TestConfigure(t *testing.T) {
	folder := t.TempDir()
	put(t, folder, "file", "")
	for _, test := range []struct {
		name   string
		config map[string]any
		want   string // in the error; "" for none
	}{
		{"root", map[string]any{"root": folder}, ""},
		{"read-only", map[string]any{"root": folder, "read_only": true}, ""},
		{"no root", map[string]any{}, "root: is required"},
		{"root not there", map[string]any{"root": folder + "/nowhere"}, "root: no such file or directory"},
		{"root is a file", map[string]any{"root": folder + "/file"}, "root: is not a folder"},
		{"not the kind", map[string]any{"root": 7}, "configuration"},
	} {
		t.Run(test.name, func(t *testing.T) {
			err := configure(newPlugin(), test.config)
			if (err == nil) != (test.want == "") || err != nil && !strings.Contains(err.Error(), test.want) {
				t.Fatalf("error %v, want %q", err, test.want)
			}
			if err != nil && sdk.AsError(err).Code != sdk.Invalid {
				t.Errorf("code %q, want %q", sdk.AsError(err).Code, sdk.Invalid)
			}
		})
	}
}

func TestValidatePath(t *testing.T) {
	source, sink := newVolume(t, t.TempDir())
	for p, want := range map[string]string{
		"a":                "",
		"a/b c/../d":       `path: must not contain ".."`,
		"..":               `path: must not contain ".."`,
		"../a":             `path: must not contain ".."`,
		"a/..b":            "",
		"/a":               "path: has to be relative to the root",
		"a\x00b":           "path: contains a zero byte",
		".":                "",
		"./a/":             "",
		".towpath":         "path: leads into the folder .towpath, which is the plugin's own",
		"./.Towpath/x":     "path: leads into the folder .towpath, which is the plugin's own",
		"a/.towpath/x":     "",
		".towpathological": "",
	} {
		for name, err := range map[string]error{
			"source": source.Validate(t.Context(), address("path", p)),
			"sink":   sink.Validate(t.Context(), address("path", p)),
		} {
			got := ""
			if err != nil {
				got = err.Error()
			}
			if got != want {
				t.Errorf("%s with path %q: %q, want %q", name, p, got, want)
			}
		}
	}
}
