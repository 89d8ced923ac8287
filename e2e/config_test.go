//go:build linux

package e2e_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// An operator writes a configuration with a mistake. towpath validate points at it, and serve does not start with it.
func TestConfigurationsThatAreWrong(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		config string
		at     string // line and column
		want   string
	}{
		"unknown type of address":    {"dataset \"x\" {\n  source \"Fiel\" {\n    path = \"x\"\n  }\n}", "2:3", `File`},
		"unknown type in a profile":  {"profile \"x-push\" {\n  type = \"Gopher\"\n}", "2:10", "Gopher"},
		"type that cannot be read":   {"dataset \"x\" {\n  source \"Discard\" {}\n}", "2:3", "Discard"},
		"plugin is missing":          {"plugin \"gopher\" {}", "1:1", "gopher"},
		"property missing":           {"dataset \"x\" {\n  source \"File\" {}\n}", "2:3", "path"},
		"unknown property":           {"dataset \"x\" {\n  source \"File\" {\n    path = \"x\"\n    pathh = \"y\"\n  }\n}", "4:13", "pathh"},
		"property of the wrong kind": {"dataset \"x\" {\n  source \"Generate\" {\n    size = \"much\"\n  }\n}", "3:12", "much"},
		"property not in its range":  {"dataset \"x\" {\n  sink \"File\" {\n    collision = \"merge\"\n  }\n}", "3:17", "replace"},
		"config of a plugin":         {"plugin \"synthetic\" {\n  config {\n    speed = 1\n  }\n}", "3:5", "speed"},
		"unknown variable in a rule": {"access {\n  default = \"deny\"\n  rule \"r\" {\n    effect = \"deny\"\n    when = rule == \"x\"\n  }\n}",
			"5:12", "counterparty"},
		"unknown block":       {"datasets \"x\" {}", "1:1", "dataset"},
		"unknown attribute":   {"dataset \"x\" {\n  sauce = 1\n}", "2:3", "sauce"},
		"block twice":         {"token {}", "1:1", "token"},
		"syntax":              {"dataset \"x\" {", "1:13", ""},
		"variable is not set": {"dataset \"x\" {\n  source \"File\" {\n    path = env(\"E2E_NOT_SET\")\n  }\n}", "3:12", "E2E_NOT_SET"},
		"file is not there":   {"dataset \"x\" {\n  source \"File\" {\n    path = file(\"no-such-file\")\n  }\n}", "3:12", "no-such-file"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := newHost(t, "host", c.config+"\n", "E2E_WATCH=false") // or it would wait for a plugin that is missing
			place := filepath.Join(h.config, "story.hcl") + ":" + c.at + ":"
			for _, command := range []string{"validate", "serve"} {
				code, stdout, stderr := towpath(t, h.env, command, "-config", h.config)
				if code != 3 || stdout != "" || !strings.Contains(stderr, place) || !strings.Contains(stderr, c.want) {
					t.Errorf("%s: exit code %d, stdout %q, and this instead of %s … %q:\n%s", command, code, stdout, place, c.want, stderr)
				}
			}
		})
	}
}

// All mistakes are reported at once.
func TestTwoMistakes(t *testing.T) {
	t.Parallel()
	h := newHost(t, "host", "plugin \"gopher\" {}\ndataset \"x\" {\n  source \"Fiel\" {}\n}\n")
	code, _, stderr := towpath(t, h.env, "validate", "-config", h.config)
	if code != 3 || !strings.Contains(stderr, "story.hcl:1:1:") || !strings.Contains(stderr, "story.hcl:3:3:") {
		t.Errorf("exit code %d:\n%s", code, stderr)
	}
}

// A configuration that is right is said to be so, and nothing is left running.
func TestConfigurationThatIsRight(t *testing.T) {
	t.Parallel()
	h := newHost(t, "host", endless)
	code, stdout, stderr := towpath(t, h.env, "validate", "-config", h.config)
	if code != 0 || !strings.Contains(stdout, "2 datasets") || stderr != "" {
		t.Errorf("exit code %d, stdout %q, stderr %q", code, stdout, stderr)
	}
	for what, args := range map[string][]string{
		"no such file": {"validate", "-config", h.config + "/no-such-file.hcl"},
		"empty folder": {"validate", "-config", h.files},
	} {
		if code, _, stderr := towpath(t, h.env, args...); code != 3 || !strings.Contains(stderr, args[2]) {
			t.Errorf("%s: exit code %d, stderr %q", what, code, stderr)
		}
	}
}

// A profile with a response channel that no dataset can fill is warned of before anybody tries to use it.
func TestProfileThatNobodyCanAnswer(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		dataset string
		warns   bool
	}{
		"no response sink":       {`source "Generate" {}`, true},
		"EDC's messages have it": {"source \"Generate\" {}\n}\ncontrol_plane \"edc\" {\n  protocol = \"edc\"\n  endpoint = \"http://127.0.0.1:1\"", false},
		"a response sink":        {"source \"Generate\" {}\n  response \"Discard\" {}", false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := newHost(t, "host", "profile \"HttpData-PULL-HttpData\" {}\ndataset \"x\" {\n  "+c.dataset+"\n}\n")
			code, _, stderr := towpath(t, h.env, "validate", "-config", h.config)
			if code != 0 || strings.Contains(stderr, "HttpData-PULL-HttpData") != c.warns {
				t.Errorf("exit code %d, stderr %q", code, stderr)
			}
		})
	}
}

// A plugin that anyone could have changed is listed and not executed.
func TestPluginThatIsNotTrusted(t *testing.T) {
	t.Parallel()
	h := newHost(t, "host", "")
	plugins := t.TempDir()
	for _, name := range pluginNames {
		content, err := os.ReadFile(filepath.Join(binaries.plugins, "towpath-plugin-"+name))
		if err != nil {
			t.Fatal(err)
		}
		path := filepath.Join(plugins, "towpath-plugin-"+name)
		if err := os.WriteFile(path, content, 0o700); err != nil {
			t.Fatal(err)
		}
	}
	h.env = append(h.env, "E2E_PLUGINS="+plugins)
	if code, _, stderr := towpath(t, h.env, "validate", "-config", h.config); code != 0 {
		t.Fatalf("exit code %d with the plugins as they should be: %s", code, stderr)
	}
	file := filepath.Join(plugins, "towpath-plugin-file")
	if err := os.Chmod(file, 0o777); err != nil {
		t.Fatal(err)
	}
	code, _, stderr := towpath(t, h.env, "validate", "-config", h.config)
	if code == 0 || !strings.Contains(stderr, "file") {
		t.Errorf("exit code %d, stderr %q", code, stderr)
	}
	code, stdout, _ := towpath(t, h.env, "plugins", "list", "-config", h.config)
	if code != 0 || !strings.Contains(stdout, "untrusted") || !strings.Contains(stdout, fmt.Sprintf("%04o", 0o777)) {
		t.Errorf("plugins list: exit code %d\n%s", code, stdout)
	}
}
