package config

import (
	"bytes"
	"encoding/json"
	"errors"
	"flag"
	"log/slog"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

var update = flag.Bool("update", false, "rewrite the golden files")

// What testdata/the.secret and testdata/token.secret hold. It must not be seen anywhere.
const (
	theSecret = "correct horse battery staple"
	theToken  = "correct-horse-battery-staple"
)

// mentionsSecret reports whether a text has a secret in it.
func mentionsSecret(text string) bool {
	return strings.Contains(text, theSecret) || strings.Contains(text, theToken)
}

func TestGood(t *testing.T) {
	for _, c := range cases(t, "good") {
		t.Run(c.name, func(t *testing.T) {
			config, err := loadAndCheck(c.path)
			if err != nil {
				t.Fatal(err)
			}
			got, err := json.MarshalIndent(shown(reflect.ValueOf(*config)), "", "  ")
			if err != nil {
				t.Fatal(err)
			}
			c.compare(t, append(got, '\n'))
		})
	}
}

func TestBad(t *testing.T) {
	for _, c := range cases(t, "bad") {
		t.Run(c.name, func(t *testing.T) {
			_, err := loadAndCheck(c.path)
			if err == nil {
				t.Fatal("no error")
			}
			// What should have come from secret() is written out as this.
			if printed := checkError(t, err); strings.Contains(printed, "hunter2") {
				t.Errorf("a secret is shown:\n%s", printed)
			}
			c.compare(t, []byte(err.Error()+"\n"))
		})
	}
}

func loadAndCheck(path string) (*Config, error) {
	c, err := Load(path)
	if err != nil {
		return nil, err
	}
	return c, c.Check(testPlugins())
}

// checkError holds an error against what Error promises, and returns what it prints.
func checkError(t *testing.T, err error) (printed string) {
	t.Helper()
	var list *Error
	if !errors.As(err, &list) {
		t.Fatalf("%T is not an *Error", err)
	}
	if len(list.Diagnostics) == 0 {
		t.Error("an error without diagnostics")
	}
	for _, d := range list.Diagnostics {
		if d.Subject == nil || d.Subject.Filename == "" {
			t.Errorf("no place: %v", d)
		}
	}
	if lines := strings.Split(err.Error(), "\n"); len(lines) != len(list.Diagnostics) {
		t.Errorf("%d lines for %d diagnostics:\n%v", len(lines), len(list.Diagnostics), err)
	}
	var terminal strings.Builder
	if err := list.Print(&terminal, false); err != nil {
		t.Error(err)
	}
	if mentionsSecret(err.Error() + terminal.String()) {
		t.Errorf("a secret is shown:\n%v", err)
	}
	return terminal.String()
}

// goldenCase is a configuration in testdata with what is expected of it.
type goldenCase struct {
	name   string
	path   string // in a copy of testdata, which is the working directory
	golden string
	dir    string // the copy
}

// cases copies testdata to a directory of its own, where the modes of files are right, and goes there.
func cases(t *testing.T, kind string) []goldenCase {
	t.Helper()
	goldenDir, err := filepath.Abs(filepath.Join("testdata", kind))
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	if err := os.CopyFS(dir, os.DirFS("testdata")); err != nil {
		t.Fatal(err)
	}
	for name, mode := range map[string]os.FileMode{"the.secret": 0o600, "token.secret": 0o600, "broken.secret": 0o600, "open.secret": 0o644,
		"keys.json": 0o600} {
		chmod(t, filepath.Join(dir, name), mode)
	}
	writePair(t, dir, "host")
	t.Chdir(dir)
	t.Setenv("TOWPATH_TEST_SET", "from the environment")
	t.Setenv("TOWPATH_TEST_EMPTY", "")

	entries, err := os.ReadDir(kind)
	if err != nil {
		t.Fatal(err)
	}
	extension := map[string]string{"good": ".json", "bad": ".txt"}[kind]
	var list []goldenCase
	for _, e := range entries {
		name := strings.TrimSuffix(e.Name(), ".hcl")
		if name == e.Name() && !e.IsDir() {
			continue
		}
		list = append(list, goldenCase{
			name: name, path: filepath.Join(kind, e.Name()), golden: filepath.Join(goldenDir, name+extension), dir: dir,
		})
	}
	return list
}

func chmod(t *testing.T, name string, mode os.FileMode) {
	t.Helper()
	if err := os.Chmod(name, mode); err != nil {
		t.Fatal(err)
	}
}

func (c goldenCase) compare(t *testing.T, got []byte) {
	t.Helper()
	got = bytes.ReplaceAll(got, []byte(c.dir), []byte("TESTDATA"))
	if mentionsSecret(string(got)) {
		t.Error("a secret is shown")
	}
	if *update {
		if err := os.WriteFile(c.golden, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(c.golden)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), string(got)); diff != "" {
		t.Errorf("%s (-want +got):\n%s", c.golden, diff)
	}
}

// shown is a Config for people: durations and log levels as text, no ranges, plugin configurations without secrets.
func shown(v reflect.Value) any {
	switch x := v.Interface().(type) {
	case time.Duration:
		return x.String()
	case slog.Level:
		return x.String()
	case Address, Secret:
		return x
	case Plugin:
		return shownStruct(v)
	case Config:
		out := shownStruct(v)
		out["PluginConfigs"] = shownPluginConfigs(&x)
		return out
	}
	switch v.Kind() {
	case reflect.Struct:
		return shownStruct(v)
	case reflect.Pointer:
		if v.IsNil() {
			return nil
		}
		return shown(v.Elem())
	case reflect.Slice:
		out := []any{}
		for i := range v.Len() {
			out = append(out, shown(v.Index(i)))
		}
		return out
	default:
		return v.Interface()
	}
}

func shownStruct(v reflect.Value) map[string]any {
	out := map[string]any{}
	for i := range v.NumField() {
		f := v.Type().Field(i)
		if f.IsExported() && f.Name != "Range" {
			out[f.Name] = shown(v.Field(i))
		}
	}
	return out
}

func shownPluginConfigs(c *Config) map[string]json.RawMessage {
	out := map[string]json.RawMessage{}
	for _, p := range c.Plugins.Declared {
		encoded := c.PluginConfig(p.Name)
		if bytes.Contains(encoded, []byte(theSecret)) {
			encoded = bytes.ReplaceAll(encoded, []byte(theSecret), []byte(redacted))
		}
		out[p.Name] = encoded
	}
	return out
}
