package config

import (
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// FuzzLoad looks for texts that end the process, that are refused without a place, or that show a secret.
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
	if err := os.WriteFile(filepath.Join(dir, "the.secret"), []byte(theSecret), 0o600); err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		name := filepath.Join(dir, "fuzz.hcl")
		if err := os.WriteFile(name, []byte(strings.ReplaceAll(string(text), "../the.secret", "the.secret")), 0o600); err != nil {
			t.Fatal(err)
		}
		c, err := Load(name)
		if err == nil {
			err = c.Check(testPlugins())
		}
		if err != nil {
			checkError(t, err)
		}
	})
}
