package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/towpath-dataplane/towpath/host/admin"
	"github.com/towpath-dataplane/towpath/sdk"
)

// scriptedPlugin is a configuration whose one plugin is a file that must not be executed: it would leave a trace.
func scriptedPlugin(t *testing.T, trust string) (config, plugin, trace string) {
	t.Helper()
	dir := t.TempDir()
	plugin, trace = filepath.Join(dir, "plugins", "towpath-plugin-script"), filepath.Join(dir, "trace")
	for path, content := range map[string]string{
		plugin: "#!/bin/sh\ntouch " + trace + "\n",
		filepath.Join(dir, "towpath.hcl"): fmt.Sprintf(`
dataplane "d" { data_dir = "data" }
listen "admin" { address = "127.0.0.1:1" }
control_plane "cp" { endpoint = "https://cp.example.com" }
plugins {
  directory = "plugins"
  trust     = %q
}
profile "http-pull" {}
`, trust),
	} {
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(content), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	return filepath.Join(dir, "towpath.hcl"), plugin, trace
}

// Without a running host, decisions are made in its store.
func TestTrustWithoutHost(t *testing.T) {
	config, plugin, trace := scriptedPlugin(t, "ask")
	step := func(wantCode int, says string, args ...string) {
		t.Helper()
		code, stdout, stderr := invoke(append(append([]string{"plugins"}, args...), "-config", config)...)
		if code != wantCode || !strings.Contains(stdout+stderr, says) {
			t.Errorf("plugins %s: exit %d, not %d: %s%s", strings.Join(args, " "), code, wantCode, stdout, stderr)
		}
	}
	step(0, "nobody has decided", "list")
	step(0, "it was not executed: nobody has decided", "diff", "script", plugin)
	step(4, `there is no plugin "none"`, "trust", "none")
	step(1, "not "+strings.Repeat("ab", 32), "trust", "script", "-sha256", strings.Repeat("ab", 32))
	step(4, "nothing is decided", "distrust", "script")
	if _, err := os.Stat(trace); err == nil {
		t.Fatal("a plugin that nobody trusts was executed")
	}
	step(0, `plugin "script" is trusted`, "trust", "script")
	step(0, "ready", "list")
	if _, err := os.Stat(trace); err != nil {
		t.Errorf("a plugin that is trusted was not executed: %v", err)
	}
	if err := os.WriteFile(plugin, []byte("#!/bin/sh\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	step(0, "but what was trusted on", "list")
	step(0, "is trusted no more", "distrust", "script")
	step(0, "nobody has decided", "list")
	step(4, "there is no such file", "diff", "script", plugin+"2")
}

func TestTrustUnderAnotherPolicy(t *testing.T) {
	config, _, _ := scriptedPlugin(t, "directory")
	if code, _, stderr := invoke("plugins", "trust", "script", "-config", config); code != 1 || !strings.Contains(stderr, `trust = "ask"`) {
		t.Errorf("exit %d: %s", code, stderr)
	}
	if code, _, stderr := invoke("plugins", "trust", "script", "-admin", "http://127.0.0.1:1"); code != 1 || !strings.Contains(stderr, "does it run?") {
		t.Errorf("exit %d: %s", code, stderr)
	}
}

func TestChanges(t *testing.T) {
	build := func(version, grpc string) *admin.Build {
		return &admin.Build{Go: "go1.26", Module: "example.com/p", Version: version, Revision: "abc",
			Dependencies: map[string]string{"google.golang.org/grpc": grpc, "a.example/" + version: "v1.0.0"}}
	}
	old := side{build: build("v1", "v1.84.0"), description: &sdk.Description{Version: "1.0.0",
		Config:  sdk.Schema{Fields: []sdk.Field{{Name: "root", Required: true}, {Name: "gone", Kind: sdk.Int}}},
		Sources: []sdk.AddressType{{Type: "A", Address: sdk.Schema{Fields: []sdk.Field{{Name: "path"}}}}}}}
	is := side{build: build("v2", "v1.85.0"), description: &sdk.Description{Version: "1.1.0",
		Config:      sdk.Schema{Fields: []sdk.Field{{Name: "root", Default: "."}, {Name: "key", Sensitive: true}}},
		Sources:     []sdk.AddressType{{Type: "A", Resumable: true, Address: sdk.Schema{Open: true, Fields: []sdk.Field{{Name: "path", Prefix: true}}}}},
		Sinks:       []sdk.AddressType{{Type: "B"}},
		Permissions: &sdk.Permissions{Connect: []string{"*:443"}, Memory: 5}}}
	var b strings.Builder
	printDifference(&b, difference{Plugin: "p", Old: old, New: is, Changes: changes(old, is)})
	_, got, _ := strings.Cut(b.String(), "\n\n")
	want := `~ build module: example.com/p v1 -> example.com/p v2
- config gone: int
+ config key: string; secret
~ config root: string; required -> string; default .
- dependency a.example/v1: v1.0.0
+ dependency a.example/v2: v1.0.0
~ dependency google.golang.org/grpc: v1.84.0 -> v1.85.0
+ permission connect *:443: needed
+ permission memory: 5
- permissions: it does not say what it needs
+ sink "B": offered
~ source "A": offered -> resumes inside a part
+ source "A" property (any other): accepted
- source "A" property path: string
+ source "A" property path...: string
~ version: 1.0.0 -> 1.1.0
`
	if got != want {
		t.Errorf("got:\n%s", got)
	}
	is.description, is.Unknown = nil, "it was not executed"
	for _, c := range changes(old, is) {
		if !strings.HasPrefix(c.What, "build ") && !strings.HasPrefix(c.What, "dependency ") {
			t.Errorf("of what is not known: %+v", c)
		}
	}
	if c := changes(old, old); len(c) != 0 {
		t.Errorf("of the same: %v", c)
	}
}

func TestReadBuild(t *testing.T) {
	own, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	if b := readBuild(own); b == nil || b.Go == "" || b.Dependencies["google.golang.org/grpc"] == "" {
		t.Errorf("of this program: %+v", b)
	}
	_, script, _ := scriptedPlugin(t, "off")
	if b := readBuild(script); b != nil {
		t.Errorf("of a script: %+v", b)
	}
}
