package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"strings"
)

// place gives a finished file its name, durably, and returns where it is.
func (w *writer) place(t *temporary, target string) (location string, err error) {
	if err := w.make(path.Dir(target), 0o777); err != nil {
		return "", err
	}
	location, err = w.rename(t, target)
	if err != nil {
		return "", err
	}
	if err := w.sync(path.Dir(location)); err != nil {
		return "", err
	}
	return location, failure(t.file.Close(), "close", location)
}

func (w *writer) rename(t *temporary, target string) (location string, err error) {
	if w.collision == collisionReplace {
		return target, failure(w.root.Rename(t.name, target), "replace", target)
	}
	for n := 0; ; n++ {
		location = numbered(target, n)
		err := renameNew(w.root, t.name, location)
		if !errors.Is(err, fs.ErrExist) {
			return location, failure(err, "name", location)
		}
		if w.redelivery || t.again {
			if same, err := w.same(t.file, location); err != nil || same {
				return location, errors.Join(err, w.giveWay(t, location, same))
			}
		}
		if w.collision == collisionFail {
			return "", errTaken(target)
		}
	}
}

// giveWay removes the temporary file if the one at location is the same: a flow that goes on from a checkpoint finds its content there
// from now on.
func (w *writer) giveWay(t *temporary, location string, same bool) error {
	if !same {
		return nil
	}
	info, err := w.root.Lstat(location)
	if err != nil {
		return failure(err, "look at", location)
	}
	if err := t.note(info); err != nil {
		return err
	}
	return failure(w.root.Remove(t.name), "remove", t.name)
}

// numbered returns a name with a number before its extension; for 0 the name itself.
func numbered(name string, n int) string {
	if n == 0 {
		return name
	}
	folder, base := path.Split(name)
	extension := path.Ext(strings.TrimLeft(base, "."))
	return fmt.Sprintf("%s%s (%d)%s", folder, strings.TrimSuffix(base, extension), n, extension)
}

// link gives a file a new name without replacing another, for file systems that cannot do so in one step.
func link(root *os.Root, from, to string) error {
	if err := root.Link(from, to); err != nil {
		return err
	}
	return root.Remove(from)
}

// same reports whether the file at location is a regular one with the content of mine. It is durable then.
func (w *writer) same(mine *os.File, location string) (bool, error) {
	if info, err := w.root.Lstat(location); err != nil || !info.Mode().IsRegular() {
		return false, failure(err, "compare", location)
	}
	other, err := w.root.Open(location)
	if err != nil {
		return false, failure(err, "compare", location)
	}
	defer other.Close()
	equal, err := equalFiles(mine, other)
	if err == nil && equal {
		err = other.Sync()
	}
	return equal, failure(err, "compare", location)
}

func equalFiles(a, b *os.File) (bool, error) {
	infoA, errA := a.Stat()
	infoB, errB := b.Stat()
	if err := errors.Join(errA, errB); err != nil || infoA.Size() != infoB.Size() {
		return false, err
	}
	readerA, readerB := io.NewSectionReader(a, 0, infoA.Size()), io.NewSectionReader(b, 0, infoB.Size())
	bufferA, bufferB := make([]byte, 128<<10), make([]byte, 128<<10)
	for {
		n, err := io.ReadFull(readerA, bufferA)
		if err == io.EOF {
			return true, nil
		}
		if err != nil && err != io.ErrUnexpectedEOF {
			return false, err
		}
		if _, err := io.ReadFull(readerB, bufferB[:n]); err != nil {
			return false, err
		}
		if !bytes.Equal(bufferA[:n], bufferB[:n]) {
			return false, nil
		}
	}
}
