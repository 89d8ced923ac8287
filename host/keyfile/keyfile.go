// Package keyfile keeps private keys in files: each whole or not there, made once, and closed to all but its owner. What a key is for
// it does not know.
package keyfile

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
)

// maxKeyFile is the most bytes that are read of a key file.
const maxKeyFile = 64 << 10

// Load returns the content of the file at path, which generate makes if there is none; a nil generate makes none. The file appears
// whole or not at all, with mode 0600, and of several processes that make it at once one wins. A file that others than its owner can
// read or write is refused.
func Load(path string, generate func() ([]byte, error)) ([]byte, error) {
	content, err := readKeyFile(path)
	if generate == nil || !errors.Is(err, fs.ErrNotExist) {
		return content, err
	}
	content, err = generate()
	if err != nil {
		return nil, fmt.Errorf("make key file %s: %w", path, err)
	}
	if err := createKeyFile(path, content); err != nil && !errors.Is(err, fs.ErrExist) {
		return nil, fmt.Errorf("make key file %s: %w", path, err)
	}
	return readKeyFile(path)
}

func readKeyFile(path string) ([]byte, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	info, err := file.Stat()
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("key file %s is not a regular file", path)
	}
	if mode := info.Mode().Perm(); mode&0o077 != 0 {
		return nil, fmt.Errorf("key file %s has mode %04o: others than its owner have access; want 0600", path, mode)
	}
	content, err := io.ReadAll(io.LimitReader(file, maxKeyFile))
	if err != nil {
		return nil, fmt.Errorf("read key file %s: %w", path, err)
	}
	return content, nil
}

func createKeyFile(path string, content []byte) error {
	dir := filepath.Dir(path)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	temp, err := os.CreateTemp(dir, ".key-*") // mode 0600
	if err != nil {
		return err
	}
	defer os.Remove(temp.Name())
	_, err = temp.Write(content)
	if err := errors.Join(err, temp.Sync(), temp.Close()); err != nil {
		return err
	}
	// Unlike a rename, a link does not replace what another process has put there.
	if err := os.Link(temp.Name(), path); err != nil {
		return err
	}
	return syncDir(dir)
}

func syncDir(path string) error {
	dir, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(dir.Sync(), dir.Close())
}
