package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/towpath-dataplane/towpath/sdk"
)

// box is a folder that parts are read from and written to.
type box struct{ dir string }

func newPlugin() sdk.Plugin {
	b := &box{}
	path := sdk.Field{Name: "path", Required: true, Documentation: "Folder in the box."}
	key := sdk.Field{Name: "key", Sensitive: true, Documentation: "Opens the box."}
	return sdk.Plugin{
		Name: "broken", Version: "1.0.0", Documentation: "A box of parts.",
		Config: sdk.Schema{Fields: []sdk.Field{{Name: "dir", Required: true, Documentation: "Folder of the box."},
			{Name: "strict", Kind: sdk.Bool, Default: "true", Documentation: "Changes nothing."}}},
		Configure: b.configure,
		Sources: []sdk.SourceType{
			{Source: boxSource{b}, AddressType: sdk.AddressType{Type: "Box", Resumable: true, Address: sdk.Schema{Fields: []sdk.Field{path, key,
				{Name: "size", Kind: sdk.Size, Documentation: "In place of files, so many bytes in each part."},
				{Name: "parts", Kind: sdk.Int, Default: "1", Documentation: "How many."}}}}},
			{Source: tape{}, AddressType: sdk.AddressType{Type: "Tape", Records: true, Resumable: true, Address: sdk.Schema{Fields: []sdk.Field{
				{Name: "records", Kind: sdk.Int, Required: true, Documentation: "How many."}}}}},
		},
		Sinks: []sdk.SinkType{
			{Sink: boxSink{b}, AddressType: sdk.AddressType{Type: "Box", Resumable: true, Address: sdk.Schema{Fields: []sdk.Field{path, key,
				{Name: "mode", Default: "new", OneOf: []string{"new", "old"}, Documentation: "Old: the folder has to be there."}}}}},
			{Sink: void{}, AddressType: sdk.AddressType{Type: "Void", Records: true}},
		},
	}
}

func (b *box) configure(_ context.Context, c sdk.Config) error {
	var config struct {
		Dir    string `json:"dir"`
		Strict bool   `json:"strict"`
	}
	if err := c.Decode(&config); err != nil {
		return err
	}
	if config.Dir == "" {
		return sdk.InvalidFields([]sdk.FieldError{{Field: "dir", Message: "is required"}})
	}
	b.dir = config.Dir
	return nil
}

type boxSource struct{ *box }

func (s boxSource) Read(_ context.Context, req sdk.ReadRequest) iter.Seq2[sdk.Part, error] {
	return func(yield func(sdk.Part, error) bool) {
		if text := req.Address.Get("size"); text != "" {
			s.made(req.Address, text, yield)
			return
		}
		root := filepath.Join(s.dir, filepath.FromSlash(req.Address.Get("path")))
		err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
			if err != nil || d.IsDir() {
				return err
			}
			name, err := filepath.Rel(root, path)
			if err != nil {
				return err
			}
			if part, err := filePart(filepath.ToSlash(name), path); !yield(part, err) || err != nil {
				return fs.SkipAll
			}
			return nil
		})
		switch {
		case errors.Is(err, fs.ErrNotExist):
			yield(sdk.Part{}, sdk.Errorf(sdk.NotFound, "there is no such folder"))
		case err != nil:
			yield(sdk.Part{}, err)
		}
	}
}

// made yields parts that are made up.
func (s boxSource) made(a sdk.DataAddress, size string, yield func(sdk.Part, error) bool) {
	n, err := sdk.ParseSize(size)
	parts, err2 := strconv.Atoi(a.Get("parts"))
	if a.Get("parts") == "" {
		parts, err2 = 1, nil
	}
	if err := errors.Join(err, err2); err != nil {
		yield(sdk.Part{}, err)
		return
	}
	for i := range parts {
		part := sdk.Part{PartInfo: sdk.PartInfo{Name: fmt.Sprintf("made-%05d", i), Size: n},
			Open: func(_ context.Context, offset int64) (io.ReadCloser, error) {
				return io.NopCloser(&made{next: offset, end: n}), nil
			}}
		if !yield(part, nil) {
			return
		}
	}
}

// made is content that takes no memory.
type made struct{ next, end int64 }

func (m *made) Read(b []byte) (int, error) {
	if m.next == m.end {
		return 0, io.EOF
	}
	n := 0
	for ; n < len(b) && m.next < m.end; n++ {
		b[n] = byte(m.next * 31 >> (m.next >> 8 & 7))
		m.next++
	}
	return n, nil
}

func filePart(name, path string) (sdk.Part, error) {
	info, err := os.Stat(path)
	if err != nil {
		return sdk.Part{}, err
	}
	return sdk.Part{PartInfo: sdk.PartInfo{Name: name, Size: info.Size(), Validator: strconv.FormatInt(info.ModTime().UnixNano(), 36)},
		Open: func(_ context.Context, offset int64) (io.ReadCloser, error) {
			f, err := os.Open(path)
			if err == nil {
				_, err = f.Seek(offset, io.SeekStart)
			}
			return f, err
		}}, nil
}

type boxSink struct{ *box }

func (s boxSink) Write(_ context.Context, req sdk.WriteRequest, parts iter.Seq2[*sdk.IncomingPart, error]) error {
	folder := filepath.Join(s.dir, filepath.FromSlash(req.Address.Get("path")))
	if _, err := os.Stat(folder); req.Address.Get("mode") == "old" && err != nil {
		return sdk.Errorf(sdk.NotFound, "there is no such folder")
	}
	work := filepath.Join(s.dir, ".work", strings.ReplaceAll(req.Flow.ID, "/", "_"))
	for part, err := range parts {
		if err != nil {
			return err
		}
		if err := store(part, work, filepath.Join(folder, filepath.FromSlash(part.Name))); err != nil {
			return err
		}
	}
	return nil
}

// store writes a part under another name, and gives it its own when it is whole.
func store(part *sdk.IncomingPart, work, final string) error {
	temporary := filepath.Join(work, strconv.FormatUint(part.Index, 10))
	for _, path := range []string{temporary, final} {
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			return err
		}
	}
	f, err := os.OpenFile(temporary, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return err
	}
	defer f.Close()
	if err := restore(f, final, part.Offset); err != nil {
		return err
	}
	if err := f.Truncate(part.Offset); err != nil {
		return err
	}
	if _, err := f.Seek(part.Offset, io.SeekStart); err != nil {
		return err
	}
	part.OnCheckpoint(func() ([]byte, error) { return []byte("synced"), f.Sync() })
	if _, err := part.WriteTo(f); err != nil {
		return err
	}
	if err := errors.Join(f.Sync(), os.Rename(temporary, final)); err != nil {
		return err
	}
	part.Commit(part.Name)
	return nil
}

// restore gives a temporary file back what the part had when it was finished before.
func restore(f *os.File, final string, offset int64) error {
	info, err := f.Stat()
	if err != nil || info.Size() >= offset {
		return err
	}
	finished, err := os.Open(final)
	if err != nil {
		return err
	}
	defer finished.Close()
	_, err = io.CopyN(f, finished, offset)
	return err
}

func (s boxSink) Deprovision(_ context.Context, flow sdk.FlowContext, _ sdk.DataAddress) error {
	return os.RemoveAll(filepath.Join(s.dir, ".work", strings.ReplaceAll(flow.ID, "/", "_")))
}

// tape is a source of records.
type tape struct{}

func (tape) Read(_ context.Context, req sdk.ReadRequest) iter.Seq2[sdk.Part, error] {
	return func(yield func(sdk.Part, error) bool) {
		n, err := strconv.Atoi(req.Address.Get("records"))
		if err != nil {
			yield(sdk.Part{}, err)
			return
		}
		yield(sdk.Part{PartInfo: sdk.PartInfo{Name: "tape", Size: sdk.SizeUnknown, Records: true},
			OpenRecords: func(_ context.Context, token []byte) (sdk.RecordReader, error) {
				next, err := 0, error(nil)
				if token != nil {
					next, err = strconv.Atoi(string(token))
				}
				return &tapeReader{next: next, end: n}, err
			}}, nil)
	}
}

type tapeReader struct{ next, end int }

func (t *tapeReader) Next(context.Context) ([]sdk.Record, []byte, error) {
	if t.next == t.end {
		return nil, nil, io.EOF
	}
	t.next++
	token := []byte(strconv.Itoa(t.next))
	return []sdk.Record{{Key: token, Value: pattern(t.next, 2000)}}, token, nil
}

func (t *tapeReader) Close() error { return nil }

// void takes records and keeps none.
type void struct{}

func (void) Write(_ context.Context, _ sdk.WriteRequest, parts iter.Seq2[*sdk.IncomingPart, error]) error {
	for part, err := range parts {
		if err != nil {
			return err
		}
		for {
			if _, err := part.NextRecords(); err == io.EOF {
				break
			} else if err != nil {
				return err
			}
		}
		part.Commit("nowhere")
	}
	return nil
}

// pattern returns n bytes that are others for each seed.
func pattern(seed, n int) []byte {
	content, x := make([]byte, n), uint64(seed)*0x9e3779b97f4a7c15+1
	for i := range content {
		x ^= x << 13
		x ^= x >> 7
		x ^= x << 17
		content[i] = byte(x >> 32)
	}
	return content
}
