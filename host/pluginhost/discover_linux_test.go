package pluginhost

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestDiscover(t *testing.T) {
	dir := directory(t, "good", "rival", "twice")
	program, err := os.ReadFile(misbehave)
	if err != nil {
		t.Fatal(err)
	}
	digest := sha256.Sum256(program)
	foreign, object := head(program), head(program)
	machine, _ := map[string]uint16{"amd64": 183, "arm64": 62}[runtime.GOARCH]
	binary.LittleEndian.PutUint16(foreign[18:], max(machine, 8))
	binary.LittleEndian.PutUint16(object[16:], 1)
	for name, file := range map[string]struct {
		content string
		mode    os.FileMode
	}{
		"foreign":                        {string(foreign), 0o755},
		"object":                         {string(object), 0o755},
		"cut":                            {string(program[:30]), 0o755},
		"empty":                          {"", 0o755},
		"words":                          {"just words\n", 0o755},
		"no-bit":                         {string(program[:100]), 0o644},
		"README.md":                      {"# Plugins\n", 0o644},
		"towpath-plugin-a.verified.json": {"{}\n", 0o644},
		"install.sh":                     {"#!/bin/sh\n", 0o755},
		"towpath-plugin-script":          {"#! /bin/sh -e\nexit 1\n", 0o755},
		"towpath-plugin-no-interpreter":  {"#!/no/such/python3\n", 0o755},
		"towpath-plugin-bare-interp":     {"#!\n", 0o755},
		"towpath-plugin-Capital":         {"#!/bin/sh\n", 0o755},
		"twice":                          {"#!/bin/sh\n", 0o755},
		"alone":                          {"#!/bin/sh\n", 0o755},
		"file-v2":                        {"#!/bin/sh\n", 0o755},
		"towpath-plugin-file":            {"#!/bin/sh\n", 0o755},
		".hidden":                        {"#!/bin/sh\n", 0o755},
		"towpath-plugin-changed":         {"#!/bin/sh\n", 0o755},
	} {
		path := filepath.Join(dir, name)
		if err := errors.Join(os.WriteFile(path, []byte(file.content), 0o600), os.Chmod(path, file.mode)); err != nil {
			t.Fatal(err)
		}
	}
	os.Mkdir(filepath.Join(dir, "folder"), 0o755)
	os.Symlink("/no/such/file", filepath.Join(dir, "dangling"))
	os.Symlink(dir, filepath.Join(dir, "link-to-folder"))
	syscall.Mkfifo(filepath.Join(dir, "pipe"), 0o777)

	h, err := New(Options{Directory: dir, Trust: TrustOff, RuntimeDir: runtimeDir(t), Plugins: map[string]Settings{
		"good":    {SHA256: strings.ToUpper(hex.EncodeToString(digest[:]))},
		"file":    {Binary: "file-v2"},
		"alone":   {},
		"absent":  {},
		"abroad":  {Binary: misbehave},
		"changed": {SHA256: strings.Repeat("0", 64)},
	}})
	if err != nil {
		t.Fatal(err)
	}
	defer h.Close(t.Context())
	found, err := h.Discover()
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]string{}
	for _, c := range found {
		got[c.Name+" "+filepath.Base(c.Path)] = string(c.Status) + ": " + c.Reason
		if c.Status == StatusReady && (c.SHA256 == "" || c.Size == 0 || c.Owner != os.Geteuid()) {
			t.Errorf("candidate: %+v", c)
		}
	}
	changed := sha256.Sum256([]byte("#!/bin/sh\n"))
	want := map[string]string{
		"Capital towpath-plugin-Capital":               "untrusted: its name is not the name of a plugin: lower-case letters, digits, '-'",
		"README.md README.md":                          "untrusted: its name is not the name of a plugin: lower-case letters, digits, '-'",
		"abroad misbehave":                             "ready: trust is off",
		"absent towpath-plugin-absent":                 "missing: there is no such file",
		"alone alone":                                  "ready: trust is off",
		"bare-interp towpath-plugin-bare-interp":       "not executable: it begins with #! and names no interpreter",
		"changed towpath-plugin-changed":               "untrusted: its sha256 is " + hex.EncodeToString(changed[:]) + ", but " + strings.Repeat("0", 64) + " is pinned",
		"cut cut":                                      "not executable: it is a broken ELF file: EOF",
		"dangling dangling":                            "missing: there is no such file",
		"empty empty":                                  "not executable: it is neither an ELF program nor a script, which begins with #! and its interpreter",
		"file file-v2":                                 "ready: trust is off",
		"file towpath-plugin-file":                     `untrusted: plugin "file" has another binary`,
		"foreign foreign":                              "wrong architecture: it is built for " + map[string]string{"amd64": "arm64", "arm64": "amd64"}[runtime.GOARCH] + ", this host runs on " + runtime.GOARCH,
		"good towpath-plugin-good":                     "ready: its sha256 is pinned",
		"install.sh install.sh":                        "untrusted: its name is not the name of a plugin: lower-case letters, digits, '-'",
		"link-to-folder link-to-folder":                "not executable: it is not a regular file",
		"no-bit no-bit":                                "not executable: its mode 0644 has no executable bit",
		"no-interpreter towpath-plugin-no-interpreter": "not executable: its interpreter /no/such/python3: stat /no/such/python3: no such file or directory",
		"object object":                                "not executable: it is an ELF file of type ET_REL, not a program",
		"pipe pipe":                                    "not executable: it is not a regular file",
		"rival towpath-plugin-rival":                   "ready: trust is off",
		"script towpath-plugin-script":                 "ready: trust is off",
		"twice towpath-plugin-twice":                   "ready: trust is off",
		"twice twice":                                  "untrusted: towpath-plugin-twice takes precedence",
		"words words":                                  "not executable: it is neither an ELF program nor a script, which begins with #! and its interpreter",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

// head returns the ELF header of a program, without sections.
func head(program []byte) []byte {
	b := append([]byte(nil), program[:64]...)
	clear(b[32:48]) // offsets of program and section headers
	clear(b[54:64]) // their sizes and numbers
	return b
}

func TestPinnedRunsNothingElse(t *testing.T) {
	h, err := New(Options{Directory: directory(t, "good", "rival"), RuntimeDir: runtimeDir(t),
		Plugins: map[string]Settings{"good": {}}})
	if err != nil {
		t.Fatal(err)
	}
	defer h.Close(t.Context())
	err = h.Start(t.Context(), nil)
	mustContain(t, err, "towpath-plugin-good cannot be executed: untrusted: no sha256 is pinned for it")
	if !errors.Is(err, ErrRefused) {
		t.Errorf("error: %#v", err)
	}
	for _, i := range h.Plugins() {
		if i.Status != StatusUntrusted || i.State != StateResolved || i.PID != 0 {
			t.Errorf("info: %+v", i)
		}
	}
	if _, err := h.Describe(t.Context(), "rival"); !errors.Is(err, ErrRefused) {
		t.Errorf("describe: %v", err)
	}
	if d, err := h.Descriptions(t.Context()); len(d) != 0 || !errors.Is(err, ErrRefused) {
		t.Errorf("descriptions: %v, %v", d, err)
	}
	if copies, _ := filepath.Glob(filepath.Join(h.launcher.dir.path, imageDir, "*")); len(copies) > 0 {
		t.Errorf("copies: %v", copies)
	}
}

// A file that changes between the listing and the start is judged by what is copied.
func TestChangedAfterListing(t *testing.T) {
	dir := directory(t, "good")
	h, err := New(Options{Directory: dir, Trust: TrustPinned, RuntimeDir: runtimeDir(t)})
	if err != nil {
		t.Fatal(err)
	}
	defer h.Close(t.Context())
	c, err := h.candidate("good")
	if err != nil {
		t.Fatal(err)
	}
	h.options.Plugins = map[string]Settings{"good": {SHA256: c.SHA256}}
	if _, err := h.resolve(c); err != nil {
		t.Fatal(err)
	}
	os.Remove(c.Path)
	if err := os.WriteFile(c.Path, []byte("#!/bin/sh\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	if _, err := h.resolve(c); !errors.Is(err, ErrRefused) {
		t.Errorf("resolve: %v", err)
	}
}
