package keyfile_test

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"github.com/towpath-dataplane/towpath/host/keyfile"
)

func TestLoadRefuses(t *testing.T) {
	never := func() ([]byte, error) {
		t.Error("a key was made")
		return nil, nil
	}
	for _, mode := range []os.FileMode{0o640, 0o604, 0o620, 0o666} {
		path := filepath.Join(t.TempDir(), "key")
		if err := os.WriteFile(path, []byte("key"), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(path, mode); err != nil {
			t.Fatal(err)
		}
		if content, err := keyfile.Load(path, never); err == nil || content != nil {
			t.Errorf("mode %04o: %q, %v; want an error", mode, content, err)
		}
	}
	if _, err := keyfile.Load(t.TempDir(), never); err == nil {
		t.Error("a folder: no error")
	}
	boom := errors.New("boom")
	path := filepath.Join(t.TempDir(), "key")
	if _, err := keyfile.Load(path, func() ([]byte, error) { return nil, boom }); !errors.Is(err, boom) {
		t.Errorf("a failed generate: %v", err)
	}
	if _, err := os.Stat(path); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("after a failed generate there is a file: %v", err)
	}
}

// Of several that make a key at once, one wins, and all have its key.
func TestAKeyIsMadeOnce(t *testing.T) {
	path := filepath.Join(t.TempDir(), "key")
	var contents [8][]byte
	var wg sync.WaitGroup
	for i := range contents {
		wg.Go(func() {
			var err error
			contents[i], err = keyfile.Load(path, func() ([]byte, error) { return []byte{byte(i)}, nil })
			if err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	for _, c := range contents {
		if !bytes.Equal(c, contents[0]) {
			t.Fatalf("callers got different keys: %v", contents)
		}
	}
}
