package main

import (
	"fmt"
	"io"
	"sync"
)

const blockSize = 256 << 10

var blockPool = sync.Pool{New: func() any { return new([blockSize]byte) }}

// blocks is memory that grows as it is filled and that can be read again and again. One goroutine uses it at a time.
type blocks struct {
	list []*[blockSize]byte
	n    int64
}

// Write appends. It never fails.
func (b *blocks) Write(p []byte) (int, error) {
	written := len(p)
	for len(p) > 0 {
		n := copy(b.room(), p)
		b.n += int64(n)
		p = p[n:]
	}
	return written, nil
}

// room is free memory behind what is filled.
func (b *blocks) room() []byte {
	at := int(b.n % blockSize)
	if int(b.n/blockSize) == len(b.list) {
		b.list = append(b.list, blockPool.Get().(*[blockSize]byte))
	}
	return b.list[b.n/blockSize][at:]
}

// fill appends n bytes of r.
func (b *blocks) fill(r io.Reader, n int64) error {
	for end := b.n + n; b.n < end; {
		room := b.room()
		m, err := r.Read(room[:min(int64(len(room)), end-b.n)])
		b.n += int64(m)
		if err != nil && b.n < end {
			if err == io.EOF {
				err = io.ErrUnexpectedEOF
			}
			return err
		}
	}
	return nil
}

// release gives the memory back. b is empty then.
func (b *blocks) release() {
	for _, block := range b.list {
		blockPool.Put(block)
	}
	b.list, b.n = nil, 0
}

// WriteTo writes everything.
func (b *blocks) WriteTo(w io.Writer) (int64, error) { return io.Copy(w, b.reader()) }

func (b *blocks) reader() *blockReader { return &blockReader{blocks: b} }

// blockReader reads what is in blocks when it is read.
type blockReader struct {
	*blocks
	at int64
}

func (r *blockReader) Read(p []byte) (int, error) {
	if r.at == r.n {
		return 0, io.EOF
	}
	from := r.at % blockSize
	to := min(blockSize, from+r.n-r.at)
	n := copy(p, r.list[r.at/blockSize][from:to])
	r.at += int64(n)
	return n, nil
}

// WriteTo hides that of blocks, which writes everything.
func (r *blockReader) WriteTo(w io.Writer) (int64, error) {
	written := int64(0)
	for r.at < r.n {
		from := r.at % blockSize
		n, err := w.Write(r.list[r.at/blockSize][from:min(blockSize, from+r.n-r.at)])
		r.at += int64(n)
		written += int64(n)
		if err != nil {
			return written, err
		}
	}
	return written, nil
}

func (r *blockReader) Seek(offset int64, whence int) (int64, error) {
	switch whence {
	case io.SeekCurrent:
		offset += r.at
	case io.SeekEnd:
		offset += r.n
	}
	if offset < 0 || offset > r.n {
		return r.at, fmt.Errorf("seek to %d of %d bytes", offset, r.n)
	}
	r.at = offset
	return offset, nil
}
