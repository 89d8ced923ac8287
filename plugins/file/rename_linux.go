package main

import (
	"errors"
	"os"
	"path"

	"golang.org/x/sys/unix"
)

// renameNew gives a file a new name. The error is io/fs's ErrExist if something has that name, even since a moment ago.
func renameNew(root *os.Root, from, to string) error {
	fromDir, err := root.Open(path.Dir(from))
	if err != nil {
		return err
	}
	defer fromDir.Close()
	toDir, err := root.Open(path.Dir(to))
	if err != nil {
		return err
	}
	defer toDir.Close()
	err = unix.Renameat2(int(fromDir.Fd()), path.Base(from), int(toDir.Fd()), path.Base(to), unix.RENAME_NOREPLACE)
	if errors.Is(err, unix.ENOSYS) || errors.Is(err, unix.EINVAL) {
		return link(root, from, to)
	}
	return err
}
