//go:build linux

package e2e_test

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// tree is the files below a folder: SHA-256 by path.
type tree map[string]string

// makeTree fills a folder with files of about the given size altogether, in folders, of all kinds of sizes, with names that need
// care.
func makeTree(t testing.TB, folder string, seed uint64, size int64) tree {
	t.Helper()
	random := rand.NewChaCha8([32]byte{byte(seed), byte(seed >> 8), 1})
	for name, share := range map[string]float64{
		"a.bin":                      0.4,
		"b/c.bin":                    0.25,
		"b/d/e f & ü%41.bin":         0.2,
		"b/d/one byte":               0,
		"empty.txt":                  -1,
		"z/deep/deeper/deepest.data": 0.15,
	} {
		writeRandom(t, filepath.Join(folder, name), random, int64(share*float64(size))+1)
	}
	return readTree(t, folder)
}

func writeRandom(t testing.TB, path string, random io.Reader, size int64) {
	t.Helper()
	content, err := io.ReadAll(io.LimitReader(random, max(0, size)))
	if err != nil {
		t.Fatal(err)
	}
	writeFile(t, path, string(content))
}

func writeFile(t testing.TB, path, content string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
}

func readTree(t testing.TB, folder string) tree {
	t.Helper()
	found := tree{}
	err := walkFiles(folder, func(name string, _ fs.FileInfo) (err error) {
		found[name], err = digestOf(filepath.Join(folder, name))
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return found
}

// walkFiles calls do for all regular files below a folder, which need not be there.
func walkFiles(folder string, do func(name string, info fs.FileInfo) error) error {
	return filepath.WalkDir(folder, func(path string, e fs.DirEntry, err error) error {
		if os.IsNotExist(err) {
			return nil
		}
		if err != nil || e.IsDir() {
			return err
		}
		info, err := e.Info()
		if os.IsNotExist(err) || err == nil && !info.Mode().IsRegular() {
			return nil
		}
		if err != nil {
			return err
		}
		name, err := filepath.Rel(folder, path)
		if err != nil {
			return err
		}
		return do(name, info)
	})
}

func digestOf(path string) (string, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer f.Close()
	h := sha256.New()
	if _, err := io.Copy(h, f); err != nil {
		return "", err
	}
	return hex.EncodeToString(h.Sum(nil)), nil
}

// expectTree checks that a folder holds these files and no others.
func expectTree(t testing.TB, folder string, want tree) {
	t.Helper()
	if diff := cmp.Diff(want, readTree(t, folder)); diff != "" {
		t.Errorf("files below %s (-want +got):\n%s", folder, diff)
	}
}

// guard watches a folder in which files of a tree appear, and fails the test if one is ever seen there that is not whole. finish
// ends it.
func guard(t testing.TB, folder string, want tree) (finish func()) {
	ended := make(chan struct{})
	var watching sync.WaitGroup
	watching.Go(func() {
		seen := map[string]string{}
		tick := time.NewTicker(10 * time.Millisecond)
		defer tick.Stop()
		for {
			if err := inspect(folder, want, seen); err != nil {
				t.Errorf("a file is visible that is not whole: %v", err)
				return
			}
			select {
			case <-tick.C:
			case <-ended:
				return
			}
		}
	})
	finish = sync.OnceFunc(func() {
		close(ended)
		watching.Wait()
	})
	t.Cleanup(finish)
	return finish
}

// inspect checks the files that it has not seen in this shape.
func inspect(folder string, want tree, seen map[string]string) error {
	found := map[string]string{}
	err := walkFiles(folder, func(name string, info fs.FileInfo) error {
		if strings.HasPrefix(name, ".towpath/") {
			return nil // what a sink keeps of parts that are not whole
		}
		found[name] = fmt.Sprint(info.Size(), info.ModTime(), info.Sys().(*syscall.Stat_t).Ino)
		return nil
	})
	if err != nil {
		return err
	}
	for name, shape := range found {
		if seen[name] == shape {
			continue
		}
		digest, err := digestOf(filepath.Join(folder, name))
		if err == nil && digest != want[name] {
			return fmt.Errorf("%s, whose size, time and inode are %s", name, shape)
		}
	}
	clear(seen)
	maps.Copy(seen, found)
	return nil
}
