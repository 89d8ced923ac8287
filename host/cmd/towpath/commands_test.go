package main

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func invoke(args ...string) (code int, stdout, stderr string) {
	var out, errs bytes.Buffer
	code = run(args, &out, &errs)
	return code, out.String(), errs.String()
}

func TestUsage(t *testing.T) {
	for _, c := range []struct {
		args   string
		code   int
		stdout string // a piece of it
		stderr string
	}{
		{"", 2, "", "Usage: towpath COMMAND"},
		{"--help", 0, "Exit codes", ""},
		{"help", 0, "towpath serve -config", ""},
		{"fly", 2, "", `there is no command "fly"`},
		{"plugins", 2, "", "plugins describe"},
		{"plugins --help", 0, "plugins describe", ""},
		{"plugins fly", 2, "", `there is no command "plugins fly"`},
		{"help plugins", 0, "plugins describe", ""},
		{"help flows show", 0, "Usage: towpath flows show [flags] ID", ""},
		{"help fly", 2, "", `there is no command "fly"`},
		{"help flows fly", 2, "", `there is no command "flows fly"`},
		{"serve --help", 0, "SIGTERM or Ctrl-C", ""},
		{"validate -h", 0, "file:line:column", ""},
		{"flows show --help", 0, "Usage: towpath flows show [flags] ID", ""},
		{"flows show", 2, "", "takes ID besides flags"},
		{"flows show a b", 2, "", `got ["a" "b"]`},
		{"flows list -colour", 2, "", "flag provided but not defined: -colour"},
		{"flows list -state STARTED,RUNNING", 2, "", `there is no state "RUNNING"`},
		{"flows list -limit 0", 2, "", "from 1 to 1000"},
		{"flows list -admin host:18082", 1, "", `"host:18082" is no http or https URL`},
		{"version now", 2, "", "takes nothing besides flags"},
		{"version", 0, "plugin protocol 1", ""},
		{"validate -config does-not-exist.hcl", 3, "", "does-not-exist.hcl"},
		{"serve -config does-not-exist.hcl", 3, "", "does-not-exist.hcl"},
		{"flows list -admin http://127.0.0.1:1", 1, "", "does it run?"},
	} {
		code, stdout, stderr := invoke(strings.Fields(c.args)...)
		if code != c.code || !strings.Contains(stdout, c.stdout) || !strings.Contains(stderr, c.stderr) {
			t.Errorf("towpath %s: exit %d, stdout %q, stderr %q", c.args, code, stdout, stderr)
		}
		if c.stdout == "" && stdout != "" || c.stderr == "" && stderr != "" {
			t.Errorf("towpath %s: stdout %q, stderr %q", c.args, stdout, stderr)
		}
	}
}

func TestEveryCommandTeaches(t *testing.T) {
	for _, c := range commands() {
		code, stdout, _ := invoke(append(strings.Fields(c.name), "--help")...)
		if code != 0 || !strings.HasPrefix(stdout, "Usage: towpath "+c.name) || len(stdout) < 80 {
			t.Errorf("%s --help: exit %d, %q", c.name, code, stdout)
		}
	}
}

func TestConfigurationErrorsPointAtTheLine(t *testing.T) {
	file := filepath.Join(t.TempDir(), "bad.hcl")
	if err := os.WriteFile(file, []byte("dataplane \"x\" {\n  data_dri = \"y\"\n}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	code, _, stderr := invoke("validate", "-config", file)
	if code != 3 || !strings.Contains(stderr, file+":2:3:") {
		t.Errorf("exit %d, %s", code, stderr)
	}
}

// A plugin that cannot be launched is why the configuration lacks what it offers: that comes first, and is not lost behind it.
func TestWhatKeepsAPluginFromLaunchingIsReported(t *testing.T) {
	dir := t.TempDir()
	plugins, file := filepath.Join(dir, "plugins"), filepath.Join(dir, "towpath.hcl")
	config := fmt.Sprintf("dataplane \"x\" {\n  data_dir = %q\n}\nplugins {\n  directory = %q\n  trust = \"off\"\n}\nplugin \"broken\" {}\n"+
		"control_plane \"c\" {\n  endpoint = \"https://cp.example\"\n}\nprofile \"http-pull\" {}\ndataset \"d\" {\n  source \"Broken\" {}\n}\n", filepath.Join(dir, "data"), plugins)
	if err := os.Mkdir(plugins, 0o700); err != nil {
		t.Fatal(err)
	}
	for name, content := range map[string]string{file: config, filepath.Join(plugins, "towpath-plugin-broken"): "#!/bin/sh\necho its last words >&2\nexit 1\n"} {
		if err := os.WriteFile(name, []byte(content), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	code, _, stderr := invoke("validate", "-config", file)
	why, lacks := strings.Index(stderr, "its last words"), strings.Index(stderr, file+":8:1:")
	if code != 3 || why < 0 || lacks < why {
		t.Errorf("exit %d, %s", code, stderr)
	}
}
