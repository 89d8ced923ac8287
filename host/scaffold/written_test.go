//go:build !race

package scaffold_test

import (
	"flag"
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

// TestMain has more run at once than there are processors: programs that are verified are waited for more than they compute. That is what
// the race detector would slow down to a third, and it has seen all of it in the tests of host/verify.
func TestMain(m *testing.M) {
	flag.Parse()
	if flag.Set("test.parallel", "6") != nil {
		os.Exit(2)
	}
	os.Exit(m.Run())
}

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
	t.Parallel()
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
	r, err := verify.Run(t.Context(), verify.Options{Binary: binary, Spec: s, Patience: 5 * time.Minute})
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
