//go:build linux

package e2e_test

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"
)

// block is a fenced block of a page: the words behind its fence, and its text.
type block struct {
	words []string
	text  string
}

var fence = regexp.MustCompile("(?ms)^```([^\n]+)\n(.*?)^```$")

func blocksOf(page string) (all []block) {
	for _, m := range fence.FindAllStringSubmatch(page, -1) {
		all = append(all, block{strings.Fields(m[1]), m[2]})
	}
	return all
}

// toFollow returns what somebody does who follows the page word for word: runs the blocks marked "run", and saves those marked "file=NAME".
func toFollow(blocks []block) string {
	var b strings.Builder
	b.WriteString("set -euo pipefail\n")
	for _, block := range blocks {
		for _, word := range block.words[1:] {
			name, isFile := strings.CutPrefix(word, "file=")
			switch {
			case isFile:
				fmt.Fprintf(&b, "cat >'%s' <<'END OF THE BLOCK'\n%sEND OF THE BLOCK\n", name, block.text)
			case word == "run":
				fmt.Fprintf(&b, "%s", block.text)
			}
		}
	}
	return b.String()
}

// The guide for authors of plugins is followed word for word, from nothing to data that moves.
func TestGuide(t *testing.T) {
	t.Parallel()
	checkout, err := filepath.Abs("..")
	if err != nil {
		t.Fatal(err)
	}
	page, err := os.ReadFile("../sdk/README.md")
	if err != nil {
		t.Fatal(err)
	}
	lockMachine(t, "guide") // its host has the ports that the page says
	folder := t.TempDir()
	commands := toFollow(blocksOf(string(page)))
	for _, part := range []string{"towpath plugins new", "make verify", "cmp received.csv host/files/inbox", "towpath plugins diff", "cp towpath-plugin-notes host/plugins/\n",
		"minisign -S"} {
		if !strings.Contains(commands, part) {
			t.Errorf("nobody is told to do %q:\n%s", part, commands)
		}
	}
	writeFile(t, folder+"/follow.sh", commands)
	// What the page says to be done before: a checkout that is built.
	if err := os.MkdirAll(filepath.Join(folder, "notes"), 0o700); err != nil {
		t.Fatal(err)
	}
	built := filepath.Join(folder, "built")
	install(t, filepath.Join(built, ".towpath/plugins"), "http", binaries.plugins)
	for _, name := range []string{"go.mod", "go.sum", "sdk", "proto"} { // all that a build against the checkout looks at
		if err := os.Symlink(filepath.Join(checkout, name), filepath.Join(built, name)); err != nil {
			t.Fatal(err)
		}
	}
	env := []string{"CHECKOUT=" + built, "PATH=" + binaries.folder + ":" + os.Getenv("PATH"), "TOWPATH_TRUST=directory"}
	p := startProcess(t, env, "bash", "-c", `cd "$1" && . "$2"`, "bash", filepath.Join(folder, "notes"), folder+"/follow.sh")
	awaitExit(p)
	if code := p.exitCode(t); code != 0 {
		log, _ := os.ReadFile(filepath.Join(folder, "notes/towpath-plugin-notes/host/log"))
		t.Errorf("following the page ended with code %d:\n%s\n%s\nthe host's log:\n%s", code, tail(p.stdout.String(), 120), tail(p.stderr.String(), 60), log)
	}
}

// awaitExit waits for the end of a program that proves plugins, which takes its time, and kills it in the end.
func awaitExit(p *process) {
	select {
	case <-p.exited:
	case <-time.After(8 * patience):
		p.kill()
	}
}

// lockMachine keeps other runs of these tests on this machine out until the test has ended.
func lockMachine(t testing.TB, what string) {
	t.Helper()
	f, err := os.OpenFile(filepath.Join(os.TempDir(), fmt.Sprintf("towpath-e2e-%d-%s", os.Getuid(), what)), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	eventually(t, "the turn of this run", func() bool { return syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB) == nil })
}

// install puts a plugin into a directory, as an operator does.
func install(t testing.TB, dir, plugin, from string) {
	t.Helper()
	content, err := os.ReadFile(filepath.Join(from, "towpath-plugin-"+plugin))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "towpath-plugin-"+plugin), content, 0o700); err != nil {
		t.Fatal(err)
	}
}
