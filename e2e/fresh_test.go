package e2e_test

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// The Go code of the plugin protocol is what its generator makes of the .proto file.
func TestGeneratedCodeIsFresh(t *testing.T) {
	t.Parallel()
	const folder = "proto/towpath/plugin/v1"
	dir := t.TempDir()
	generator := filepath.Join(dir, "generate")
	run(t, "..", "go", "build", "-o", generator, "./proto/generate")
	// The generator takes its tools from go.mod.
	for _, file := range []string{"go.mod", "go.sum", folder + "/plugin.proto"} {
		copyFile(t, filepath.Join("..", file), filepath.Join(dir, file))
	}
	run(t, dir, generator)
	for _, file := range []string{"plugin.pb.go", "plugin_grpc.pb.go"} {
		fresh, checkedIn := readFile(t, filepath.Join(dir, folder, file)), readFile(t, filepath.Join("..", folder, file))
		if diff := cmp.Diff(fresh, checkedIn); diff != "" {
			t.Errorf("%s is stale; make proto renews it (-fresh +checked in):\n%s", file, diff)
		}
	}
}

// modernc.org/sqlite works with exactly the version of modernc.org/libc that it was made with.
func TestVersionOfLibc(t *testing.T) {
	t.Parallel()
	type required struct{ Path, Version string }
	var sqlite struct{ GoMod string }
	decode(t, run(t, "..", "go", "list", "-m", "-json", "modernc.org/sqlite"), &sqlite)
	var wants struct{ Require []required }
	decode(t, run(t, "..", "go", "mod", "edit", "-json", sqlite.GoMod), &wants)
	var libc required
	decode(t, run(t, "..", "go", "list", "-m", "-json", "modernc.org/libc"), &libc)
	for _, r := range wants.Require {
		if r.Path == libc.Path {
			if r.Version != libc.Version {
				t.Errorf("go.mod has %s %s, sqlite wants %s", libc.Path, libc.Version, r.Version)
			}
			return
		}
	}
	t.Errorf("%s does not name %s", sqlite.GoMod, libc.Path)
}

func run(t *testing.T, dir, name string, args ...string) string {
	t.Helper()
	cmd := exec.Command(name, args...)
	cmd.Dir = dir
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%v: %v", cmd, err)
	}
	return string(out)
}

func decode(t *testing.T, text string, into any) {
	t.Helper()
	if err := json.Unmarshal([]byte(text), into); err != nil {
		t.Fatal(err)
	}
}

func copyFile(t *testing.T, from, to string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(to), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(to, []byte(readFile(t, from)), 0o600); err != nil {
		t.Fatal(err)
	}
}

func readFile(t *testing.T, path string) string {
	t.Helper()
	content, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(content)
}
