package verify

import (
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/towpath-dataplane/towpath/host/confine"
)

// TestMain is the shim, too, in which a plugin that says what it needs is kept to that.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == confine.Argument {
		confine.Run(os.Args[2:])
	}
	flag.Parse()
	if flag.Set("test.parallel", "4") != nil { // the tests wait more than they compute
		os.Exit(2)
	}
	code := m.Run()
	if err := goleak.Find(); err != nil && code == 0 {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	os.Exit(code)
}

// build builds a plugin of this repository.
func build(t *testing.T, name string) string {
	t.Helper()
	out := filepath.Join(t.TempDir(), "towpath-plugin-"+filepath.Base(name))
	if text, err := exec.Command("go", "build", "-ldflags=-s -w", "-o", out, "github.com/towpath-dataplane/towpath/"+name).CombinedOutput(); err != nil {
		t.Fatalf("build %s: %v\n%s", name, err, text)
	}
	return out
}

// verify runs the suite, or some checks of it, with a file in testdata.
func verify(t *testing.T, binary, spec string, o Options, vars map[string]string) *Report {
	t.Helper()
	s, err := Load(filepath.Join("testdata", spec+".hcl"), vars)
	if err != nil {
		t.Fatal(err)
	}
	o.Binary, o.Spec, o.HostVersion, o.Patience = binary, s, "0.0.0-test", 5*time.Minute
	r, err := Run(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	return r
}
