package main

import (
	"encoding/base64"
	"io"
)

// A line of base64, as RFC 2045 has it.
const (
	lineBytes = 57 // encoded in a line
	lineSize  = 78 // with its end
	flushSize = 512 * lineSize
)

// encodedSize is what an attachment of n bytes takes.
func encodedSize(n int64) int64 {
	chars := (n + 2) / 3 * 4
	return chars + (chars+75)/76*2
}

// encoder writes lines of base64. What it holds back is less than flushSize.
type encoder struct {
	w    io.Writer
	line []byte // not yet encoded
	out  []byte
	err  error // of w, for good
}

func newEncoder(w io.Writer) *encoder {
	return &encoder{w: w, line: make([]byte, 0, lineBytes), out: make([]byte, 0, flushSize+lineSize)}
}

func (e *encoder) Write(p []byte) (int, error) {
	written := 0
	for written < len(p) && e.err == nil {
		n := min(lineBytes-len(e.line), len(p)-written)
		e.line = append(e.line, p[written:written+n]...)
		written += n
		if len(e.line) == lineBytes {
			e.encode()
		}
		if len(e.out) >= flushSize {
			e.flush()
		}
	}
	return written, e.err
}

func (e *encoder) encode() {
	e.out = append(base64.StdEncoding.AppendEncode(e.out, e.line), "\r\n"...)
	e.line = e.line[:0]
}

func (e *encoder) flush() {
	if e.err == nil {
		_, e.err = e.w.Write(e.out)
	}
	e.out = e.out[:0]
}

// end writes what was held back.
func (e *encoder) end() error {
	if len(e.line) > 0 {
		e.encode()
	}
	e.flush()
	return e.err
}
