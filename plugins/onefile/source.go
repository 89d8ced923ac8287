package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"mime"
	"os"
	"path"
	"syscall"

	"github.com/towpath-dataplane/towpath/sdk"
)

// source reads one file.
type source struct{ *folder }

var (
	_ sdk.Source    = (*source)(nil)
	_ sdk.Validator = (*source)(nil)
)

// Validate checks the path by its letters. The file may come later.
func (s *source) Validate(_ context.Context, a sdk.DataAddress) error {
	_, err := s.below(a.Get("sourceFile"))
	return err
}

func (s *source) Read(_ context.Context, req sdk.ReadRequest) iter.Seq2[sdk.Part, error] {
	return func(yield func(sdk.Part, error) bool) {
		name, err := s.below(req.Address.Get("sourceFile"))
		if err != nil {
			yield(sdk.Part{}, err)
			return
		}
		root, err := os.OpenRoot(s.path)
		if err != nil {
			yield(sdk.Part{}, sdk.Retryf(sdk.Unavailable, "the root folder cannot be opened: %w", reason(err)))
			return
		}
		defer root.Close()
		yield(part(root, name))
	}
}

// part describes the file as it is now.
func part(root *os.Root, name string) (sdk.Part, error) {
	info, err := root.Stat(name)
	if err != nil {
		return sdk.Part{}, failure(err, name)
	}
	if !info.Mode().IsRegular() {
		return sdk.Part{}, sdk.Errorf(sdk.Invalid, "read %q: not a regular file", name)
	}
	mediaType := mime.TypeByExtension(path.Ext(name))
	if mediaType == "" {
		mediaType = "application/octet-stream"
	}
	return sdk.Part{
		PartInfo: sdk.PartInfo{Name: path.Base(name), MediaType: mediaType, Size: info.Size(), Modified: info.ModTime(),
			Validator: validator(info), TotalParts: 1, TotalBytes: info.Size()},
		Open: func(_ context.Context, offset int64) (io.ReadCloser, error) { return open(root, name, info, offset) },
	}, nil
}

// validator tells two contents of a file apart by what every write changes.
func validator(info os.FileInfo) string {
	inode := uint64(0)
	if stat, ok := info.Sys().(*syscall.Stat_t); ok {
		inode = uint64(stat.Ino)
	}
	return fmt.Sprintf("%x-%x-%x", info.Size(), info.ModTime().UnixNano(), inode)
}

// reader reads a file that has to stay as it was announced.
type reader struct {
	file      *os.File
	name      string
	announced os.FileInfo
	rest      int64
}

// open does not wait, even if a pipe has taken the file's place.
func open(root *os.Root, name string, announced os.FileInfo, offset int64) (io.ReadCloser, error) {
	if offset > announced.Size() {
		return nil, sdk.Errorf(sdk.Invalid, "%q has %d bytes, none at offset %d", name, announced.Size(), offset)
	}
	f, err := root.OpenFile(name, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, failure(err, name)
	}
	r := &reader{file: f, name: name, announced: announced, rest: announced.Size() - offset}
	if err = r.unchanged(); err == nil {
		if _, err = f.Seek(offset, io.SeekStart); err == nil {
			return r, nil
		}
	}
	f.Close()
	return nil, failure(err, name)
}

// Read gives what was announced. With the last bytes it says whether the file has changed meanwhile.
func (r *reader) Read(b []byte) (int, error) {
	if r.rest == 0 {
		return 0, io.EOF
	}
	n, err := r.file.Read(b[:min(int64(len(b)), r.rest)])
	r.rest -= int64(n)
	switch {
	case err == io.EOF:
		return n, changed(r.name)
	case err != nil:
		return n, failure(err, r.name)
	case r.rest == 0:
		return n, r.unchanged()
	}
	return n, nil
}

func (r *reader) unchanged() error {
	info, err := r.file.Stat()
	if err != nil {
		return failure(err, r.name)
	}
	if validator(info) != validator(r.announced) {
		return changed(r.name)
	}
	return nil
}

// changed can be tried again: a file that is being written will be whole some time, and is then read from its start.
func changed(name string) error {
	return sdk.Retryf(sdk.Corrupt, "%q has changed since it was announced", name)
}

func (r *reader) Close() error { return r.file.Close() }

// failure says what could not be read, with a code.
func failure(err error, name string) error {
	var known *sdk.Error
	var number syscall.Errno
	why := reason(err)
	switch {
	case errors.As(err, &known):
		return err
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, syscall.ENOTDIR):
		return sdk.Errorf(sdk.NotFound, "read %q: %w", name, why)
	case errors.Is(err, fs.ErrPermission):
		return sdk.Errorf(sdk.Denied, "read %q: %w", name, why)
	case !errors.As(err, &number): // what os.Root finds out by itself has no number
		return sdk.Errorf(sdk.Denied, "read %q: leads out of the root folder", name)
	case number == syscall.ELOOP, number == syscall.ENAMETOOLONG:
		return sdk.Errorf(sdk.Invalid, "read %q: %w", name, why)
	}
	return sdk.Retryf(sdk.Unavailable, "read %q: %w", name, why)
}

// reason strips the operation and the path from an error of package os: the path may be one of the host's.
func reason(err error) error {
	var pathError *fs.PathError
	if errors.As(err, &pathError) {
		return pathError.Err
	}
	return err
}
