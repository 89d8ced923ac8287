package sdk

import (
	"io"
	"sync"
)

// BufferSize is the capacity of a Buffer. Larger frames gain a few percent, and cost a host their size for each flow that is stalled.
const BufferSize = 192 << 10

// bufferHeadroom is room before the bytes where a wire can put its frame header without copying them.
const bufferHeadroom = 16

// Buffer is pooled memory for one Data frame. It is not safe for concurrent use.
type Buffer struct {
	mem []byte
	n   int
}

var buffers = sync.Pool{New: func() any { return &Buffer{mem: make([]byte, bufferHeadroom+BufferSize)} }}

// NewBuffer returns an empty Buffer. Its holder releases it, or hands it on inside a Data frame.
func NewBuffer() *Buffer {
	outstanding.Add(1)
	b := buffers.Get().(*Buffer)
	b.n = 0
	return b
}

// Len is the number of bytes filled.
func (b *Buffer) Len() int { return b.n }

// Bytes returns the bytes filled, valid until Release.
func (b *Buffer) Bytes() []byte { return b.mem[bufferHeadroom : bufferHeadroom+b.n] }

// Free returns the room behind the bytes filled, to be filled and counted with Grow.
func (b *Buffer) Free() []byte { return b.mem[bufferHeadroom+b.n:] }

// Grow counts n bytes of Free as filled.
func (b *Buffer) Grow(n int) { b.n += n }

// ReadOnce adds what one call of r.Read gives. A reader that gives little at a time is so passed on at once.
func (b *Buffer) ReadOnce(r io.Reader) (int, error) {
	n, err := r.Read(b.Free())
	b.Grow(n)
	return n, err
}

// WriteTo writes the bytes filled.
func (b *Buffer) WriteTo(w io.Writer) (int64, error) {
	n, err := w.Write(b.Bytes())
	return int64(n), err
}

// Release gives the memory back.
func (b *Buffer) Release() {
	outstanding.Add(-1)
	buffers.Put(b)
}

// WithHeader returns header followed by the bytes filled, in one slice, without copying the bytes. header has at most 16 bytes.
// It is for wires.
func (b *Buffer) WithHeader(header []byte) []byte {
	start := bufferHeadroom - len(header)
	copy(b.mem[start:], header)
	return b.mem[start : bufferHeadroom+b.n]
}

// OutstandingBuffers is the number of Buffers not yet released, for tests.
func OutstandingBuffers() int64 { return outstanding.Load() }
