package scaffold_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/towpath-dataplane/towpath/host/scaffold"
)

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
