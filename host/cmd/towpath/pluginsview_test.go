package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/towpath-dataplane/towpath/host/admin"
	"github.com/towpath-dataplane/towpath/sdk"
)

var viewed = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)

// versions are two of a plugin, between which everything changes that can.
func versions() (old, new side) {
	old = side{Path: "/plugins/towpath-plugin-box", SHA256: strings.Repeat("0a", 32),
		build: &admin.Build{Go: "go1.25.1", Module: "example.com/box", Version: "v1.2.0", Revision: "aaaa", Dependencies: map[string]string{
			"example.com/gone": "v1.0.0", "example.com/same": "v1.0.0", "example.com/newer": "v1.0.0"}},
		description: &sdk.Description{Name: "box", Version: "1.2.0",
			Config: sdk.Schema{Fields: []sdk.Field{{Name: "root", Required: true}, {Name: "old"}}},
			Sources: []sdk.AddressType{{Type: "Box", Address: sdk.Schema{Fields: []sdk.Field{{Name: "path"}}}},
				{Type: "Crate"}},
			Permissions: &sdk.Permissions{Read: []string{"/srv"}, Memory: 1 << 20}}}
	new = side{Path: "/tmp/towpath-plugin-box", SHA256: strings.Repeat("0b", 32),
		build: &admin.Build{Go: "go1.26.0", Module: "example.com/box", Version: "v1.3.0", Revision: "bbbb", Modified: true, Dependencies: map[string]string{
			"example.com/same": "v1.0.0", "example.com/newer": "v1.1.0", "example.com/new": "v0.1.0"}},
		description: &sdk.Description{Name: "box", Version: "1.3.0",
			Config: sdk.Schema{Fields: []sdk.Field{{Name: "root", Required: true}, {Name: "key", Sensitive: true}}},
			Sources: []sdk.AddressType{{Type: "Box", Resumable: true,
				Address: sdk.Schema{Fields: []sdk.Field{{Name: "path", Required: true}}, Open: true}}},
			Sinks:       []sdk.AddressType{{Type: "Box"}},
			Permissions: &sdk.Permissions{Read: []string{"/srv"}, Connect: []string{"*:443"}, Memory: 2 << 20}}}
	return old, new
}

// Version, types, schemas, permissions and build: what changes is shown, what does not is left out.
func TestDifference(t *testing.T) {
	old, new := versions()
	var b strings.Builder
	printDifference(&b, difference{Plugin: "box", Old: old, New: new, Changes: changes(old, new)})
	b.WriteString("\n--- what the new one says of itself is not known\n\n")
	new.description, new.Unknown = nil, "it was not executed: nobody has decided to trust it"
	printDifference(&b, difference{Plugin: "box", Old: old, New: new, Changes: changes(old, new)})
	golden(t, "diff.txt", b.String())
}

// Two builds of a shipped plugin are told apart.
func TestPluginsDiff(t *testing.T) {
	dir := t.TempDir()
	build := func(path, version string) string {
		path = filepath.Join(dir, path)
		c := exec.Command("go", "build", "-ldflags=-s -w -X main.version="+version, "-o", path, "github.com/towpath-dataplane/towpath/plugins/file")
		if out, err := c.CombinedOutput(); err != nil {
			t.Fatalf("build: %v\n%s", err, out)
		}
		return path
	}
	build("plugins/towpath-plugin-file", "1.2.3")
	next := build("next/towpath-plugin-file", "1.3.0")
	config := filepath.Join(dir, "towpath.hcl")
	put(t, config, fmt.Sprintf(`
dataplane "x" { data_dir = %q }
listen "admin" { address = "127.0.0.1:1" }
plugins {
  directory = %q
  trust     = "off"
}
control_plane "cp" { endpoint = "http://127.0.0.1:1/" }
profile "http-pull" { direction = "pull" }
`, filepath.Join(dir, "data"), filepath.Join(dir, "plugins")))
	code, stdout, stderr := invoke("plugins", "diff", "file", next, "-config", config)
	if code != 0 || !strings.Contains(stdout, "\n~ version: 1.2.3 -> 1.3.0\n") || strings.Contains(stdout, "not known") || strings.Contains(stdout, "~ source") {
		t.Errorf("exit %d: %s%s", code, stdout, stderr)
	}
	if err := os.Remove(next); err != nil {
		t.Fatal(err)
	}
	if code, _, stderr := invoke("plugins", "diff", "file", next, "-config", config); code != 4 || !strings.Contains(stderr, "there is no such file") {
		t.Errorf("without the file: exit %d: %s", code, stderr)
	}
}

// What an operator is shown of a plugin: what it is kept to and what not, how its last process ended, and how its build stands.
func TestPluginIsPrinted(t *testing.T) {
	var b strings.Builder
	for _, p := range []admin.Plugin{
		{Name: "box", Version: "1.2.0", Path: "/plugins/towpath-plugin-box", SHA256: strings.Repeat("0a", 32), Status: "ready",
			Reason: "its sha256 is pinned", State: "quarantined", Since: viewed, Launches: 5, Restarts: 4,
			Build:      &admin.Build{Go: "go1.26.0", Module: "example.com/box", Version: "v1.2.0", Revision: "aaaa", Modified: true},
			Quarantine: &admin.Quarantine{Since: viewed, Crashes: 5, WithinSeconds: 2.5, Do: "replace its file"},
			LastExit:   &admin.Exit{At: viewed, Status: "signal: segmentation fault", Signal: "segmentation fault", Stderr: []string{"SIGSEGV: bad", "pc=0x1"}},
			Confinement: []admin.Confinement{
				{Name: "read", Declared: "/", Allowed: "/srv", Confined: "/srv", InForce: true, How: "Landlock"},
				{Name: "cpu", Allowed: "1.5", Confined: "1.5", How: "there is no cgroup v2 here"},
			},
			Description: &sdk.Description{Name: "box", Documentation: "Boxes.", Sinks: []sdk.AddressType{{Type: "Box", Documentation: "A box."}}}},
		{Name: "crate", Version: "2.0.0", Path: "/plugins/towpath-plugin-crate", SHA256: strings.Repeat("0b", 32), Status: "ready", State: "ready",
			Since: viewed, Launches: 1, Processes: []admin.PluginProcess{{PID: 4711, For: "flow default/f1", State: "ready", Flows: 1}},
			Probation:   &admin.Probation{Since: viewed, SHA256: strings.Repeat("0a", 32), Version: "1.9.0"},
			Description: &sdk.Description{Name: "crate", Documentation: "Crates."}},
		{Name: "far", Address: "tcp://far.example:7443", Status: "dialled", State: "ready", Since: viewed,
			RolledBack:  &admin.RolledBack{At: viewed, SHA256: strings.Repeat("0c", 32), Version: "3.0.0", Why: "it moved nothing"},
			Description: &sdk.Description{Name: "far", Documentation: "Elsewhere."}},
	} {
		if err := printPlugin(&b, p); err != nil {
			t.Error(err)
		}
		b.WriteString("\n---\n\n")
	}
	golden(t, "describe.txt", times.ReplaceAllString(b.String(), "2026-01-02 03:04:05"))
}
