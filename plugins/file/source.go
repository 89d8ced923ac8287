package main

import (
	"context"
	"fmt"
	"io"
	"iter"
	"mime"
	"os"
	"path"
	"slices"
	"syscall"

	"github.com/towpath-dataplane/towpath/sdk"
)

// source reads files. The parts of an address are its files by their paths.
type source struct{ *volume }

var (
	_ sdk.Source    = (*source)(nil)
	_ sdk.Validator = (*source)(nil)
)

// Validate checks the path by its letters: what it names may come later.
func (s *source) Validate(_ context.Context, a sdk.DataAddress) error {
	return checkPath(a.Get("path"))
}

func (s *source) Read(ctx context.Context, req sdk.ReadRequest) iter.Seq2[sdk.Part, error] {
	return func(yield func(sdk.Part, error) bool) {
		root, err := s.open()
		if err != nil {
			yield(sdk.Part{}, err)
			return
		}
		defer root.Close()
		l, err := locate(root, req.Address.Get("path"))
		if err != nil {
			yield(sdk.Part{}, err)
			return
		}
		for part, err := range l.parts(ctx, req) {
			if !yield(part, err) {
				return
			}
		}
	}
}

// parts yields the files of the location as parts. Those that the request does not want are not looked at.
func (l *location) parts(ctx context.Context, req sdk.ReadRequest) iter.Seq2[sdk.Part, error] {
	return func(yield func(sdk.Part, error) bool) {
		total, err := l.total(ctx, req)
		if err != nil {
			yield(sdk.Part{}, err)
			return
		}
		skip := req.After != nil
		for f, err := range l.files(ctx) {
			if skip = skip && f.name != req.After.Part; skip && err == nil {
				continue
			}
			part := unread(f)
			if err == nil && (req.Part == "" || req.Part == f.name) && !slices.Contains(req.Skip, f.name) {
				part, err = l.part(f, total)
			}
			if missing(err) && !l.single {
				continue // gone since its folder was listed
			}
			if err != nil {
				err = readFailure(err, f.path)
			}
			if !yield(part, err) || err != nil {
				return
			}
		}
	}
}

// total counts the files, which one part alone is not worth.
func (l *location) total(ctx context.Context, req sdk.ReadRequest) (amount, error) {
	if req.Part != "" {
		return amount{}, nil
	}
	return l.count(ctx)
}

// unread is a part that only counts.
func unread(f file) sdk.Part {
	return sdk.Part{
		PartInfo: sdk.PartInfo{Name: f.name, Size: sdk.SizeUnknown},
		Open: func(context.Context, int64) (io.ReadCloser, error) {
			return nil, sdk.Errorf(sdk.Internal, "part %q was not asked for", f.name)
		},
	}
}

// part describes a file as it is now.
func (l *location) part(f file, total amount) (sdk.Part, error) {
	info, err := l.look(f)
	if err != nil {
		return sdk.Part{}, err
	}
	return sdk.Part{
		PartInfo: sdk.PartInfo{
			Name: f.name, MediaType: mediaType(f.name), Size: info.Size(),
			Modified: info.ModTime(), Validator: validator(info), TotalParts: total.files, TotalBytes: total.bytes,
		},
		Open: func(_ context.Context, offset int64) (io.ReadCloser, error) {
			r, err := openFile(l.root, f.path, info, offset)
			if err != nil {
				return nil, readFailure(err, f.path)
			}
			return r, nil
		},
	}, nil
}

// look returns what there is to be known of a file, which has to be a regular one.
func (l *location) look(f file) (os.FileInfo, error) {
	if l.single {
		return l.info, nil
	}
	info, err := l.root.Stat(f.path)
	if err != nil {
		return nil, err
	}
	return info, checkRegular(info, f.path)
}

func mediaType(name string) string {
	if t := mime.TypeByExtension(path.Ext(name)); t != "" {
		return t
	}
	return "application/octet-stream"
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

// openFile does not wait for anything, even if a pipe has taken the file's place.
func openFile(root *os.Root, name string, announced os.FileInfo, offset int64) (io.ReadCloser, error) {
	f, err := root.OpenFile(name, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	r := &reader{file: f, name: name, announced: announced, rest: announced.Size() - offset}
	if err := r.begin(offset); err != nil {
		f.Close()
		return nil, err
	}
	return r, nil
}

func (r *reader) begin(offset int64) error {
	if r.rest < 0 {
		return sdk.Errorf(sdk.Invalid, "%q has %d bytes, none at offset %d", r.name, r.announced.Size(), offset)
	}
	if err := r.check(); err != nil || offset == 0 {
		return err
	}
	_, err := r.file.Seek(offset, io.SeekStart)
	return err
}

// Read gives no more than was announced. With the last bytes it says whether the file has changed meanwhile.
func (r *reader) Read(b []byte) (int, error) {
	if r.rest == 0 {
		return 0, io.EOF
	}
	n, err := r.file.Read(b[:min(int64(len(b)), r.rest)])
	r.rest -= int64(n)
	switch {
	case err == io.EOF:
		return n, r.changed()
	case err != nil:
		return n, readFailure(err, r.name)
	case r.rest == 0:
		return n, r.check()
	}
	return n, nil
}

// check returns an error if the file is not as announced.
func (r *reader) check() error {
	info, err := r.file.Stat()
	if err != nil {
		return err
	}
	if validator(info) != validator(r.announced) {
		return r.changed()
	}
	return nil
}

// changed can be retried: a file that is being written will be whole some time, and is then read from its start.
func (r *reader) changed() error {
	return sdk.Retryf(sdk.Corrupt, "%q has changed since it was announced", r.name)
}

func (r *reader) Close() error { return r.file.Close() }
