//go:build python

package pluginhost

import (
	"cmp"
	"errors"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/towpath-dataplane/towpath/sdk"
	"github.com/towpath-dataplane/towpath/sdk/sdktest"
)

// pythonPlugins is where `make python` builds the plugin of e2e/python: pyfile, and pyplain, which computes no digests.
var pythonPlugins = cmp.Or(os.Getenv("TOWPATH_PYTHON_PLUGINS"), "../../.towpath/python")

// launchPython returns a host that runs a plugin in Python on a folder. Each test of a suite gets its own host, because the suites count
// what is left when a test has ended.
func launchPython(t *testing.T, name, root string) *Host {
	t.Helper()
	binary, err := filepath.Abs(filepath.Join(pythonPlugins, filePrefix+name))
	if err != nil {
		t.Fatal(err)
	}
	log := newRecorder()
	h, err := New(Options{Directory: t.TempDir(), Trust: TrustOff, RuntimeDir: runtimeDir(t), HostVersion: "test",
		Plugins: map[string]Settings{name: {Binary: binary}}, Logger: slog.New(slog.NewJSONHandler(log, nil))})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := h.Close(t.Context()); err != nil && t.Context().Err() == nil {
			t.Error(err)
		}
		if t.Failed() {
			t.Logf("log of the host: %v", log.records)
		}
	})
	if err := h.Start(t.Context(), map[string][]byte{name: []byte(`{"root":` + strconv.Quote(root) + `}`)}); err != nil {
		t.Fatal(err)
	}
	awaitBrokers(t)
	return h
}

func pyAddress(properties ...string) sdk.DataAddress {
	a := sdk.DataAddress{Type: "PyFile", Properties: map[string]string{}}
	for i := 0; i < len(properties); i += 2 {
		a.Properties[properties[i]] = properties[i+1]
	}
	return a
}

// A source in another language passes the suite of those in Go, also if the host computes the digests.
func TestPythonSource(t *testing.T) {
	root := t.TempDir()
	contents := []sdktest.Content{
		{Name: "a-b.csv", Bytes: []byte("-")},
		{Name: "a/b.csv", Bytes: sdktest.Pattern(1, 3<<20+5)},
		{Name: "a0.csv", Bytes: []byte{}},
		{Name: "Übung/z ü.csv", Bytes: []byte("x")},
	}
	for _, c := range contents {
		putFile(t, filepath.Join(root, "data", c.Name), c.Bytes)
	}
	putFile(t, filepath.Join(root, "elsewhere"), []byte("not of these addresses"))
	if err := os.Symlink(root+"/elsewhere", root+"/link"); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"pyfile", "pyplain"} {
		t.Run(name, func(t *testing.T) {
			sdktest.TestSource(t, sdktest.SourceCase{
				New:     func(t *testing.T) sdk.DataSource { return must(t)(launchPython(t, name, root).Source("PyFile")) },
				Address: pyAddress("https://example.org/ns/path", "data"),
				Parts:   contents,
				Bad: []sdktest.BadAddress{
					{Name: "nothing there", Address: pyAddress("path", "nowhere"), Code: sdk.NotFound},
					{Name: "nothing in a file", Address: pyAddress("path", "elsewhere/x"), Code: sdk.NotFound},
					{Name: "no path", Address: pyAddress(), Code: sdk.Invalid},
					{Name: "way out", Address: pyAddress("path", "../x"), Code: sdk.Invalid},
					{Name: "link", Address: pyAddress("path", "link"), Code: sdk.Denied},
					{Name: "unknown property", Address: pyAddress("path", "data", "pth", "x"), Code: sdk.Invalid},
				},
			})
		})
	}
}

func must(t *testing.T) func(s sdk.DataSource, err error) sdk.DataSource {
	return func(s sdk.DataSource, err error) sdk.DataSource {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
}

// So does a sink.
func TestPythonSink(t *testing.T) {
	for name, a := range map[string]sdk.DataAddress{
		"pyfile":  pyAddress(),
		"pyplain": pyAddress("path", "in/box", "collision", "replace"),
	} {
		t.Run(name, func(t *testing.T) {
			sdktest.TestSink(t, sdktest.SinkCase{
				Resumable: true,
				New:       func(t *testing.T) sdktest.Store { return pythonStore(t, name, t.TempDir(), a) },
			})
		})
	}
}

func pythonStore(t *testing.T, name, root string, a sdk.DataAddress) sdktest.Store {
	t.Helper()
	sink, err := launchPython(t, name, root).Sink("PyFile")
	if err != nil {
		t.Fatal(err)
	}
	folder, work := filepath.Join(root, a.Get("path")), filepath.Join(root, ".towpath")
	return sdktest.Store{
		Sink: sink, Address: a,
		Names:   func() ([]string, error) { return filesBelow(folder, work) },
		Content: func(name string) ([]byte, error) { return os.ReadFile(filepath.Join(folder, name)) },
		Begun:   func() ([]string, error) { return filesBelow(work, "") },
	}
}

// filesBelow lists the files below a folder by their paths relative to it, without those below another.
func filesBelow(folder, without string) (names []string, err error) {
	err = filepath.WalkDir(folder, func(path string, e fs.DirEntry, err error) error {
		switch {
		case errors.Is(err, fs.ErrNotExist):
			return nil
		case err != nil:
			return err
		case path == without:
			return fs.SkipDir
		case !e.IsDir():
			names = append(names, strings.TrimPrefix(path, folder+"/"))
		}
		return nil
	})
	slices.Sort(names)
	return names, err
}

func putFile(t *testing.T, path string, content []byte) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, content, 0o644); err != nil {
		t.Fatal(err)
	}
}
