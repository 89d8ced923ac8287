package main

import (
	"context"
	"io"
	"iter"
	"mime"
	"os"
	"path"
	"slices"
	"strconv"
	"syscall"
	"time"

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
		if one := s.single(req); one != nil {
			defer one.close()
			yield(one.part(req), nil)
			return
		}
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

// single is a file that is all that is asked for, and open already.
type single struct {
	content content // nil when it was handed out
	identity
	name, path string
	open       func(offset int64) (io.ReadCloser, error) // again
}

// single returns nil if the request is for anything else.
func (s *source) single(req sdk.ReadRequest) *single {
	p := path.Clean(req.Address.Get("path"))
	name := path.Base(p)
	if req.List || req.After != nil || len(req.Skip) > 0 || req.Part != "" && req.Part != name {
		return nil
	}
	content, id := openSingle(s.path, p)
	if content == nil {
		return nil
	}
	again := func(offset int64) (io.ReadCloser, error) {
		root, err := s.volume.open()
		if err != nil {
			return nil, err
		}
		defer root.Close()
		return openFile(root, p, id, offset)
	}
	return &single{content: content, identity: id, name: name, path: p, open: again}
}

func (f *single) part(req sdk.ReadRequest) sdk.Part {
	info := f.info(f.name)
	if req.Part == "" {
		info.TotalParts, info.TotalBytes = 1, f.size
	}
	return sdk.Part{PartInfo: info, Open: func(_ context.Context, offset int64) (io.ReadCloser, error) {
		if f.content == nil {
			return f.open(offset)
		}
		c := f.content
		f.content = nil
		return newReader(c, f.path, f.identity).from(offset)
	}}
}

func (f *single) close() {
	if f.content != nil {
		f.content.Close()
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
	id := identityOf(info)
	part := sdk.Part{PartInfo: id.info(f.name), Open: func(_ context.Context, offset int64) (io.ReadCloser, error) {
		return openFile(l.root, f.path, id, offset)
	}}
	part.TotalParts, part.TotalBytes = total.files, total.bytes
	return part, nil
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

// identity tells two contents of a file apart by what every write changes.
type identity struct {
	size     int64
	modified time.Time
	inode    uint64
	regular  bool
}

func identityOf(info os.FileInfo) identity {
	id := identity{size: info.Size(), modified: info.ModTime(), regular: info.Mode().IsRegular()}
	if stat, ok := info.Sys().(*syscall.Stat_t); ok {
		id.inode = uint64(stat.Ino)
	}
	return id
}

func (i identity) same(as identity) bool {
	return i.size == as.size && i.modified.Equal(as.modified) && i.inode == as.inode
}

// validator is equal for what is the same.
func (i identity) validator() string {
	b := make([]byte, 0, 64)
	b = append(strconv.AppendInt(b, i.size, 16), '-')
	b = append(strconv.AppendInt(b, i.modified.UnixNano(), 16), '-')
	return string(strconv.AppendUint(b, i.inode, 16))
}

func (i identity) info(name string) sdk.PartInfo {
	return sdk.PartInfo{Name: name, MediaType: mediaType(name), Size: i.size, Modified: i.modified, Validator: i.validator()}
}

func validator(info os.FileInfo) string { return identityOf(info).validator() }

// content is a file that is open.
type content interface {
	io.ReadSeekCloser
	look() (identity, error)
}

type osFile struct{ *os.File }

func (f osFile) look() (identity, error) {
	info, err := f.Stat()
	if err != nil {
		return identity{}, err
	}
	return identityOf(info), nil
}

// reader reads a file that has to stay as it was announced.
type reader struct {
	file      content
	name      string
	announced identity
	rest      int64
}

// openFile does not wait for anything, even if a pipe has taken the file's place.
func openFile(root *os.Root, name string, announced identity, offset int64) (io.ReadCloser, error) {
	f, err := root.OpenFile(name, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, readFailure(err, name)
	}
	r := newReader(osFile{f}, name, announced)
	if err := r.check(); err != nil {
		f.Close()
		return nil, readFailure(err, name)
	}
	return r.from(offset)
}

func newReader(f content, name string, announced identity) *reader {
	return &reader{file: f, name: name, announced: announced, rest: announced.size}
}

// from has the reader begin at an offset. It closes the file if it fails.
func (r *reader) from(offset int64) (io.ReadCloser, error) {
	if offset == 0 {
		return r, nil
	}
	err := error(sdk.Errorf(sdk.Invalid, "%q has %d bytes, none at offset %d", r.name, r.announced.size, offset))
	if offset <= r.announced.size {
		_, err = r.file.Seek(offset, io.SeekStart)
	}
	if err != nil {
		r.file.Close()
		return nil, readFailure(err, r.name)
	}
	r.rest -= offset
	return r, nil
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
		if err := r.check(); err != nil {
			return n, err
		}
		return n, io.EOF
	}
	return n, nil
}

// check returns an error if the file is not as announced.
func (r *reader) check() error {
	now, err := r.file.look()
	if err != nil {
		return err
	}
	if !now.same(r.announced) {
		return r.changed()
	}
	return nil
}

// changed can be retried: a file that is being written will be whole some time, and is then read from its start.
func (r *reader) changed() error {
	return sdk.Retryf(sdk.Corrupt, "%q has changed since it was announced", r.name)
}

func (r *reader) Close() error { return r.file.Close() }
