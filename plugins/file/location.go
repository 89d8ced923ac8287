package main

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"iter"
	"os"
	"path"
	"slices"
	"strings"
	"syscall"

	"github.com/towpath-dataplane/towpath/sdk"
)

// location is what the path of an address names: the files that a pattern matches below a folder. One file is its own name in its
// folder, and a folder is everything below it.
type location struct {
	root    *os.Root
	folder  string
	pattern glob
	single  bool        // the path names one file; folder and pattern are not used
	info    os.FileInfo // of that file
	path    string
}

// file is a regular file.
type file struct {
	name string // of the part: the path relative to the location's folder
	path string // relative to the root
}

// locate finds out what a path names. A name that exists is not taken for a pattern.
func locate(root *os.Root, address string) (*location, error) {
	p := path.Clean(address)
	info, err := root.Stat(p)
	switch {
	case err == nil && info.IsDir():
		return &location{root: root, folder: p, pattern: everything}, nil
	case err == nil:
		return &location{root: root, path: p, single: true, info: info}, checkRegular(info, p)
	case !isPattern(p) || !missing(err):
		return nil, readFailure(err, p)
	}
	folder, pattern, err := splitGlob(p)
	if err != nil {
		return nil, sdk.InvalidFields([]sdk.FieldError{{Field: "path", Message: "is not a pattern: " + err.Error()}})
	}
	if info, err = root.Stat(folder); err != nil {
		return nil, readFailure(err, folder)
	}
	if !info.IsDir() {
		return nil, sdk.Errorf(sdk.NotFound, "read %q: not a folder", folder)
	}
	return &location{root: root, path: p, folder: folder, pattern: pattern}, nil
}

// missing reports whether err is the file system's and says that there is nothing under a name.
func missing(err error) bool {
	var known *sdk.Error
	return !errors.As(err, &known) && (errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ENOTDIR))
}

func readFailure(err error, name string) error {
	if missing(err) {
		return sdk.Errorf(sdk.NotFound, "read %q: %w", name, reason(err))
	}
	return failure(err, "read", name)
}

func checkRegular(info os.FileInfo, name string) error {
	if info.Mode().IsRegular() {
		return nil
	}
	return sdk.Errorf(sdk.Invalid, "read %q: not a regular file (%s)", name, info.Mode().Type())
}

// files yields the files of the location by their paths, in the order of the bytes. It keeps the names of one folder at a time, and
// of those above it.
func (l *location) files(ctx context.Context) iter.Seq2[file, error] {
	return func(yield func(file, error) bool) {
		if l.single {
			yield(file{name: path.Base(l.path), path: l.path}, nil)
			return
		}
		w := &walk{location: l, ctx: ctx, yield: yield}
		w.own, _ = l.root.Stat(workFolder)
		w.folder("", nil, l.pattern.start())
	}
}

// count returns the number of files.
func (l *location) count(ctx context.Context) (all amount, err error) {
	if l.single {
		return amount{files: 1, bytes: l.info.Size()}, nil
	}
	for f, err := range l.files(ctx) {
		if err != nil {
			return all, err
		}
		all.files++
		if info, err := l.root.Stat(f.path); err == nil { // what is wrong with it is said when it is read
			all.bytes += info.Size()
		}
	}
	if all.files == 0 && l.path != "" {
		return all, sdk.Errorf(sdk.NotFound, "no file matches %q", l.path)
	}
	return all, nil
}

// amount is how much a location holds.
type amount struct {
	files int
	bytes int64
}

// walk is one pass over a location.
type walk struct {
	*location
	ctx   context.Context // of the pass
	own   os.FileInfo     // of the work folder, nil if there is none
	yield func(file, error) bool
}

// folder visits a folder, given by its path relative to the location's. above are the folders on the way to it. It returns false
// when the pass is over.
func (w *walk) folder(name string, above []os.FileInfo, at positions) bool {
	names, info, err := w.list(name, at)
	if missing(err) && name != "" {
		return true // gone since its own folder was listed
	}
	if err != nil {
		return w.fail(readFailure(err, w.full(name)))
	}
	if w.own != nil && os.SameFile(w.own, info) {
		return true
	}
	if slices.ContainsFunc(above, func(a os.FileInfo) bool { return os.SameFile(a, info) }) {
		return w.fail(sdk.Errorf(sdk.Invalid, "read %q: a symbolic link leads back to a folder above it", w.full(name)))
	}
	above = append(above, info)
	for _, child := range names {
		if !w.visit(path.Join(name, child), strings.HasSuffix(child, "/"), above, w.pattern.step(at, strings.TrimSuffix(child, "/"))) {
			return false
		}
	}
	return true
}

func (w *walk) visit(name string, folder bool, above []os.FileInfo, at positions) bool {
	switch {
	case w.ctx.Err() != nil:
		return w.fail(context.Cause(w.ctx))
	case folder:
		return w.folder(name, above, at)
	}
	if err := sdk.CheckName(name); err != nil {
		return w.fail(err)
	}
	return w.yield(file{name: name, path: w.full(name)}, nil)
}

func (w *walk) fail(err error) bool {
	w.yield(file{}, err)
	return false
}

func (w *walk) full(name string) string { return path.Join(w.location.folder, name) }

// list returns the names in a folder that the pattern may want, sorted so that the paths of all files come in the order of their
// bytes: a folder's name ends with '/'.
func (w *walk) list(name string, at positions) ([]string, os.FileInfo, error) {
	dir, err := w.root.Open(w.full(name))
	if err != nil {
		return nil, nil, err
	}
	defer dir.Close()
	info, err := dir.Stat()
	if err != nil {
		return nil, nil, err
	}
	var names []string
	for {
		entries, err := dir.ReadDir(1024)
		for _, entry := range entries {
			child, err := w.wanted(path.Join(name, entry.Name()), entry, w.pattern.step(at, entry.Name()))
			if err != nil {
				return nil, nil, err
			}
			if child != "" {
				names = append(names, child)
			}
		}
		if err == io.EOF {
			slices.Sort(names)
			return names, info, nil
		}
		if err != nil {
			return nil, nil, err
		}
	}
}

// wanted returns an entry's name in a list, "" if the pattern does not want it. A symbolic link counts as what it leads to; what is
// neither a folder nor a regular file is left out.
func (w *walk) wanted(name string, entry fs.DirEntry, at positions) (string, error) {
	if len(at) == 0 {
		return "", nil
	}
	mode := entry.Type()
	if mode&fs.ModeSymlink != 0 {
		info, err := w.root.Stat(w.full(name))
		if err != nil {
			return "", w.linkFailure(err, w.full(name))
		}
		mode = info.Mode().Type()
	}
	switch {
	case mode.IsDir() && w.pattern.goesOn(at):
		return entry.Name() + "/", nil
	case mode.IsRegular() && w.pattern.matches(at):
		return entry.Name(), nil
	}
	return "", nil
}

// linkFailure returns nil if the symbolic link itself is gone since its folder was listed.
func (w *walk) linkFailure(err error, name string) error {
	if _, gone := w.root.Lstat(name); missing(err) && missing(gone) {
		return nil
	}
	return readFailure(err, name)
}
