package main

import (
	"path"
	"strings"
	"testing"
)

// match matches a whole path.
func (g glob) match(p string) bool {
	at := g.start()
	for _, element := range strings.Split(p, "/") {
		at = g.step(at, element)
	}
	return g.matches(at)
}

func TestGlob(t *testing.T) {
	for _, test := range []struct{ pattern, matches, others string }{
		{"*.csv", "a.csv .csv", "a.txt d/a.csv a.csv/b"},
		{"?", "a ü .", "ab"},
		{"[a-c]x", "ax cx", "dx x"},
		{"[^a]", "b", "a bb"},
		{`\*`, "*", "a"},
		{"**", "a a/b a/b/c", ""},
		{"**/x", "x a/x a/b/x", "x/a ax"},
		{"*/**", "a/b a/b/c", "a"},
		{"*/**/c", "a/c a/b/c a/b/b/c", "c a/c/d"},
		{"**/b/**", "b/a a/b/c a/b/b b/b", "b a/b"},
		{"**/*/**", "a/b a/b/c", "a"},
		{"a*/**/[xy]/z", "a/x/z ab/c/d/y/z", "b/x/z a/z"},
	} {
		_, g, err := splitGlob(test.pattern)
		if err != nil {
			t.Fatal(err)
		}
		for _, p := range strings.Fields(test.matches) {
			if !g.match(p) {
				t.Errorf("%q does not match %q", test.pattern, p)
			}
		}
		for _, p := range strings.Fields(test.others) {
			if g.match(p) {
				t.Errorf("%q matches %q", test.pattern, p)
			}
		}
	}
}

func TestSplitGlob(t *testing.T) {
	for pattern, want := range map[string]string{
		"*":             ". *",
		"a/b/*":         "a/b *",
		"a/*/b":         "a */b",
		"a/**/**/**/b*": "a **/b*",
		"a/b":           "a/b ",
	} {
		folder, g, err := splitGlob(pattern)
		if got := folder + " " + path.Join(g...); err != nil || got != want {
			t.Errorf("%q splits into %q (%v), want %q", pattern, got, err, want)
		}
	}
	if _, _, err := splitGlob("a/*/[b"); err == nil {
		t.Error("a bracket that is not closed is taken")
	}
}

// matchSlowly says what a glob means, by trying every number of folders for each "**".
func matchSlowly(pattern, elements []string) bool {
	switch {
	case len(pattern) == 0:
		return len(elements) == 0
	case pattern[0] == anyFolders && len(pattern) == 1:
		return len(elements) > 0
	case pattern[0] == anyFolders:
		for n := range len(elements) + 1 {
			if matchSlowly(pattern[1:], elements[n:]) {
				return true
			}
		}
		return false
	case len(elements) == 0:
		return false
	}
	ok, _ := path.Match(pattern[0], elements[0])
	return ok && matchSlowly(pattern[1:], elements[1:])
}

func FuzzGlob(f *testing.F) {
	f.Add("**/b/**", "a/b/c")
	f.Add("*/**/a/**/*", "a/a/a/a")
	f.Add(`[a-`, "a")
	f.Add(`**/**/\`, "")
	f.Fuzz(func(t *testing.T, pattern, p string) {
		if strings.Count(pattern, "/")+strings.Count(p, "/") > 12 || strings.HasPrefix(pattern, "/") {
			return // the slow way would take too long; no address has such a pattern
		}
		// Everything is the pattern, with plain elements, too.
		_, g, err := splitGlob("*/" + pattern)
		if err != nil {
			return
		}
		got, want := g.match("x/"+p), matchSlowly(strings.Split("*/"+pattern, "/"), strings.Split("x/"+p, "/"))
		if got != want {
			t.Errorf("%q matches %q: %t, want %t", g, "x/"+p, got, want)
		}
	})
}
