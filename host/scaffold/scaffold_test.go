package scaffold_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/towpath-dataplane/towpath/host/scaffold"
	"github.com/towpath-dataplane/towpath/host/verify"
)

// checkout is the root of this repository.
func checkout(t *testing.T) string {
	t.Helper()
	root, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}
	return root
}

// Whatever is asked for builds, passes its own tests, and is verified.
func TestWritten(t *testing.T) {
	for _, c := range []struct {
		name string
		scaffold.Options
	}{
		{"both", scaffold.Options{Name: "acme-drawer", Source: true, Sink: true}},
		{"source", scaffold.Options{Name: "reader", Source: true}},
		{"sink", scaffold.Options{Name: "writer", Sink: true, Module: "git.example.org/x/writer"}},
		{"records", scaffold.Options{Name: "tape", Source: true, Sink: true, Records: true}},
		{"source of records", scaffold.Options{Name: "tap", Source: true, Records: true}},
		{"sink of records", scaffold.Options{Name: "drain", Sink: true, Records: true}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			c.Dir, c.SDK, c.Version = dir, checkout(t), "0.1.0"
			names, err := scaffold.Write(c.Options)
			if err != nil {
				t.Fatal(err)
			}
			if slices.Contains(names, "source.go") != c.Source || slices.Contains(names, "sink.go") != c.Sink {
				t.Errorf("wrote %q", names)
			}
			run(t, dir, "go", "vet", ".")
			run(t, dir, "go", "test", "-count=1", ".")
			binary := filepath.Join(dir, "towpath-plugin-"+c.Name)
			run(t, dir, "go", "build", "-o", binary, ".")
			check(t, binary, filepath.Join(dir, "verify.hcl"))
		})
	}
}

func run(t *testing.T, dir, name string, args ...string) {
	t.Helper()
	cmd := exec.Command(name, args...)
	cmd.Dir = dir
	// The modules that the checkout needs are there already: nothing is looked up.
	cmd.Env = append(os.Environ(), "GOFLAGS=-mod=mod -trimpath", "GOPROXY=off")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, out)
	}
}

func check(t *testing.T, binary, spec string) {
	t.Helper()
	s, err := verify.Load(spec, nil)
	if err != nil {
		t.Fatal(err)
	}
	r, err := verify.Run(t.Context(), verify.Options{Binary: binary, Spec: s, Patience: 2 * time.Minute})
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range r.Checks {
		if c.Outcome == verify.Failed {
			t.Errorf("%s (%s): %s", c.ID, c.Subject, c.Reason)
		}
	}
	if r.Passed < 35 {
		t.Errorf("only %d checks passed", r.Passed)
	}
}

func TestRefused(t *testing.T) {
	full := t.TempDir()
	if err := os.WriteFile(filepath.Join(full, "main.go"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		scaffold.Options
		want string
	}{
		{scaffold.Options{Name: "Acme", Source: true}, "is not a name for a plugin"},
		{scaffold.Options{Name: "-a", Source: true}, "is not a name for a plugin"},
		{scaffold.Options{Name: "../a", Source: true}, "is not a name for a plugin"},
		{scaffold.Options{Name: "a"}, "reads, or writes"},
		{scaffold.Options{Name: "a", Source: true, Dir: full}, "is not empty"},
		{scaffold.Options{Name: "a", Source: true, SDK: full}, "is no checkout"},
	} {
		if c.Dir == "" {
			c.Dir = filepath.Join(t.TempDir(), "new")
		}
		if _, err := scaffold.Write(c.Options); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%+v: %v, want %q", c.Options, err, c.want)
		}
	}
}

// Without a checkout the module asks for the published version.
func TestPublished(t *testing.T) {
	dir := t.TempDir()
	if _, err := scaffold.Write(scaffold.Options{Dir: dir, Name: "acme", Source: true, Version: "1.2.3"}); err != nil {
		t.Fatal(err)
	}
	module, err := os.ReadFile(filepath.Join(dir, "go.mod"))
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(module), "require "+scaffold.SDKModule+" v1.2.3\n") || strings.Contains(string(module), "replace") {
		t.Errorf("go.mod is\n%s", module)
	}
}
