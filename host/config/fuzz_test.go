package config

import (
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// FuzzLoad looks for texts that end the process, that are refused without a place, or that show a secret. What the configurations in
// testdata find beside themselves is there.
func FuzzLoad(f *testing.F) {
	for _, dir := range []string{"testdata", samples} {
		err := filepath.WalkDir(dir, func(name string, _ fs.DirEntry, err error) error {
			if err != nil || !strings.HasSuffix(name, ".hcl") {
				return err
			}
			text, err := os.ReadFile(name)
			f.Add(text)
			return err
		})
		if err != nil {
			f.Fatal(err)
		}
	}
	dir := f.TempDir()
	for _, name := range []string{"the.secret", "token.secret", "broken.secret", "keys.json"} {
		copyFile(f, filepath.Join("testdata", name), filepath.Join(dir, name))
	}
	writePair(f, dir, "host")
	f.Fuzz(func(t *testing.T, text []byte) {
		name := filepath.Join(dir, "fuzz.hcl")
		if err := os.WriteFile(name, []byte(strings.ReplaceAll(string(text), `"../`, `"`)), 0o600); err != nil {
			t.Fatal(err)
		}
		c, err := Load(name)
		if err == nil {
			checkHidden(t, c)
			err = c.Check(testPlugins())
		}
		if err != nil {
			checkError(t, err)
		}
	})
}

func copyFile(t testing.TB, from, to string) {
	t.Helper()
	text, err := os.ReadFile(from)
	if err == nil {
		err = os.WriteFile(to, text, 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
}
