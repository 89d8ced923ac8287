package main

import (
	"bytes"
	"encoding/json"
	"encoding/xml"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/towpath-dataplane/towpath/host/verify"
)

// syntheticIn builds the plugin synthetic into a new plugin directory, and returns it with a configuration that uses it.
func syntheticIn(t *testing.T) (binary, config string) {
	t.Helper()
	dir := t.TempDir()
	binary = filepath.Join(dir, "plugins", "towpath-plugin-synthetic")
	build := exec.Command("go", "build", "-ldflags=-s -w", "-o", binary, "github.com/towpath-dataplane/towpath/plugins/synthetic")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build: %v\n%s", err, out)
	}
	config = filepath.Join(dir, "towpath.hcl")
	put(t, config, fmt.Sprintf(`
dataplane "x" {}
plugins {
  directory = %q
  trust     = "off"
}
control_plane "cp" {
  endpoint = "http://127.0.0.1:1/"
}
profile "http-pull" {
  direction = "pull"
}
`, filepath.Dir(binary)))
	return binary, config
}

func put(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

func TestPluginsVerify(t *testing.T) {
	binary, _ := syntheticIn(t)
	dir := t.TempDir()
	source, sink, junit, report := filepath.Join(dir, "source.json"), filepath.Join(dir, "sink.json"), filepath.Join(dir, "v.xml"), filepath.Join(dir, "v.json")
	put(t, source, `{"type":"Generate","properties":{"size":"100000","parts":"3"}}`)
	put(t, sink, `{"type":"Discard"}`)
	code, stdout, stderr := invoke("plugins", "verify", binary, "-source", source, "-sink", sink, "-only", "describe.*,source.whole,sink.whole,source.missing",
		"-junit", junit, "-report", report)
	if code != 0 || stderr != "" || !strings.Contains(stdout, "pass") || !strings.Contains(stdout, "0 failed, 1 not applicable") {
		t.Fatalf("exit %d, %s\n%s", code, stderr, stdout)
	}
	text, err := os.ReadFile(report)
	if err != nil {
		t.Fatal(err)
	}
	var r verify.Report
	if err := json.Unmarshal(text, &r); err != nil || r.Plugin != "synthetic" || len(r.SHA256) != 64 || r.Suite != verify.Version || r.Passed != 5 {
		t.Errorf("report %+v, %v", r, err)
	}
	if text, err = os.ReadFile(junit); err != nil {
		t.Fatal(err)
	}
	var suites struct {
		Suites []struct {
			Tests    int `xml:"tests,attr"`
			Failures int `xml:"failures,attr"`
			Skipped  int `xml:"skipped,attr"`
			Cases    []struct {
				Name string `xml:"name,attr"`
			} `xml:"testcase"`
		} `xml:"testsuite"`
	}
	if err := xml.Unmarshal(text, &suites); err != nil {
		t.Fatal(err)
	}
	if s := suites.Suites[0]; s.Tests != 6 || s.Failures != 0 || s.Skipped != 1 || len(s.Cases) != 6 {
		t.Errorf("JUnit %+v", s)
	}
}

func TestPluginsVerifyFails(t *testing.T) {
	binary, _ := syntheticIn(t)
	dir := t.TempDir()
	source, broken := filepath.Join(dir, "source.json"), filepath.Join(dir, "verify.hcl")
	put(t, source, `{"type":"Generate","properties":{"size":"many"}}`)
	put(t, broken, "source \"Generate\" {\n  size = sizzle\n}\n")
	for _, c := range []struct {
		args   []string
		code   int
		stdout string
		stderr string
	}{
		{[]string{binary, "-source", source, "-only", "source.validate"}, 1, "what to do", "1 checks failed"},
		{[]string{"/bin/false", "-only", "handshake.*"}, 1, "ended before it said where it listens", "is not verified"},
		{[]string{filepath.Join(dir, "nothing")}, 1, "", "no such file"},
		{[]string{binary, "-only", "no.such"}, 1, "", `no check is called "no.such"`},
		{[]string{binary, "-spec", broken}, 1, "", broken + ":2"},
		{[]string{binary, "-var", "x"}, 2, "", "is not NAME=VALUE"},
		{nil, 2, "", "takes BINARY"},
	} {
		code, stdout, stderr := invoke(append([]string{"plugins", "verify"}, c.args...)...)
		if code != c.code || !strings.Contains(stdout, c.stdout) || !strings.Contains(stderr, c.stderr) {
			t.Errorf("%q: exit %d, %s\n%s", c.args, code, stderr, stdout)
		}
	}
}

func TestPluginsDocsAndSchema(t *testing.T) {
	binary, config := syntheticIn(t)
	for args, name := range map[string]string{"docs": "synthetic.md", "schema": "synthetic.schema.json"} {
		code, stdout, stderr := invoke("plugins", args, "synthetic", "-config", config)
		if code != 0 {
			t.Fatalf("plugins %s: exit %d, %s", args, code, stderr)
		}
		golden(t, name, stdout)
		if code, same, stderr := invoke("plugins", args, binary); code != 0 || same != stdout {
			t.Errorf("plugins %s %s: exit %d, %s", args, binary, code, stderr)
		}
	}
	if code, _, stderr := invoke("plugins", "docs", "nothing", "-config", config); code != exitNotFound {
		t.Errorf("exit %d, %s", code, stderr)
	}
}

func TestPluginsNew(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "new")
	code, stdout, stderr := invoke("plugins", "new", "acme", "--source", "--sink", "-dir", dir)
	if code != 0 || !strings.Contains(stdout, dir+"/source.go\n") || !strings.Contains(stdout, "make test verify") {
		t.Fatalf("exit %d, %s\n%s", code, stderr, stdout)
	}
	if text, err := os.ReadFile(filepath.Join(dir, "plugin.go")); err != nil || !bytes.Contains(text, []byte(`Name:          "acme"`)) {
		t.Errorf("%v\n%s", err, text)
	}
	if code, _, stderr := invoke("plugins", "new", "acme"); code != exitUsage || !strings.Contains(stderr, "takes -source, -sink or both") {
		t.Errorf("exit %d, %s", code, stderr)
	}
	if code, _, stderr := invoke("plugins", "new", "acme", "--source", "-dir", dir); code != exitFailed || !strings.Contains(stderr, "is not empty") {
		t.Errorf("exit %d, %s", code, stderr)
	}
}
