package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
)

// datasetID is the id in the configurations, and the folder of the dataset below the files of either side.
const datasetID = "demo"

// dataset is a folder of files whose content follows from their names and sizes.
type dataset struct {
	files []file // in the order in which they are sent
	size  int64
}

// file is one of them.
type file struct {
	name string // relative to the dataset's folder, with '/'
	size int64
}

// largest is the file in whose middle the suspend falls.
const largest = "2025/whole year.bin"

// layout divides a size among files: large and small, in folders and not, with names and lengths that are easily got wrong.
func layout(size int64) *dataset {
	d := &dataset{size: size}
	d.files = []file{
		{"2024/summer.bin", size / 4},
		{largest, size / 2},
		{"2026/north/odd length.bin", size/8 - 4093},
		{"2026/south/Überblick.csv", 0}, // gets the rest
		{"empty.bin", 0},
		{"one byte.bin", 1},
		{"read me.txt", 1234},
	}
	rest := size
	for _, f := range d.files {
		rest -= f.size
	}
	d.files[3].size = rest
	return d
}

// makeDataset makes the dataset below files, unless it is there and right.
func makeDataset(ctx context.Context, files string, size int64) (*dataset, error) {
	d := layout(size)
	dir := filepath.Join(files, datasetID)
	right, err := d.isIn(ctx, dir)
	if err != nil || right {
		return d, err
	}
	if err := clearFolder(files); err != nil {
		return nil, err
	}
	for _, f := range d.files {
		if err := f.write(ctx, dir); err != nil {
			return nil, err
		}
	}
	return d, nil
}

// isIn reports whether the folder holds exactly the dataset.
func (d *dataset) isIn(ctx context.Context, dir string) (bool, error) {
	names, err := fileSizes(dir)
	if err != nil || len(names) != len(d.files) {
		return false, err
	}
	for _, f := range d.files {
		if same, err := f.isIn(ctx, dir); err != nil || !same {
			return false, err
		}
	}
	return true, nil
}

func (f file) path(dir string) string { return filepath.Join(dir, filepath.FromSlash(f.name)) }

// content returns what is in the file: noise that is the same in every run.
func (f file) content() io.Reader {
	return io.LimitReader(rand.NewChaCha8(sha256.Sum256([]byte("towpath demo: "+f.name))), f.size)
}

func (f file) write(ctx context.Context, dir string) error {
	path := f.path(dir)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	out, err := os.Create(path)
	if err != nil {
		return err
	}
	_, err = io.Copy(out, interruptible{ctx, f.content()})
	return errors.Join(err, out.Close())
}

// isIn reports whether the file is in the folder with its content. A wrong one is no error.
func (f file) isIn(ctx context.Context, dir string) (bool, error) {
	in, err := os.Open(f.path(dir))
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	defer in.Close()
	return sameContent(interruptible{ctx, in}, f.content())
}

// sameContent reports whether two readers give the same bytes.
func sameContent(a, b io.Reader) (bool, error) {
	x, y := make([]byte, 256<<10), make([]byte, 256<<10)
	for {
		n, errA := io.ReadFull(a, x)
		m, errB := io.ReadFull(b, y)
		endA, endB := isEnd(errA), isEnd(errB)
		switch {
		case errA != nil && !endA:
			return false, errA
		case errB != nil && !endB:
			return false, errB
		case !bytes.Equal(x[:n], y[:m]):
			return false, nil
		case endA || endB:
			return endA && endB, nil
		}
	}
}

func isEnd(err error) bool { return err == io.EOF || err == io.ErrUnexpectedEOF }

// interruptible reads until ctx ends.
type interruptible struct {
	ctx context.Context
	io.Reader
}

func (r interruptible) Read(b []byte) (int, error) {
	if r.ctx.Err() != nil {
		return 0, context.Cause(r.ctx)
	}
	return r.Reader.Read(b)
}

// fileSizes returns the sizes of all files below a folder, hidden and temporary ones included, by their names relative to it. What
// goes while it looks is left out.
func fileSizes(dir string) (map[string]int64, error) {
	sizes := map[string]int64{}
	err := filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err != nil || entry.IsDir() {
			return err
		}
		info, err := entry.Info()
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err != nil {
			return err
		}
		name, err := filepath.Rel(dir, path)
		sizes[filepath.ToSlash(name)] = info.Size()
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("look through %s: %w", shorten(dir), err)
	}
	return sizes, nil
}
