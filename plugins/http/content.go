package main

import (
	"errors"
	"io"
	"sync"
	"sync/atomic"

	"github.com/towpath-dataplane/towpath/sdk"
)

// content is a part as the body of a request. It gives the last byte only when the part is known to be whole, so that a receiver
// which counts bytes cannot take for complete what was cut or is corrupt.
//
// The transport reads it on a goroutine of its own and may still do so when the answer is there; stop ends that.
type content struct {
	part   io.Reader
	size   int64 // announced; less than 0 if it is not known
	digest *sdk.Digester
	over   atomic.Bool
	// atEnd, if not nil, is called before the last byte is given.
	atEnd func(*sdk.Digester)

	mu      sync.Mutex // held while the part is read
	n       int64      // bytes read
	held    byte       // the byte read last
	holding bool
	ended   error // io.EOF: the part is whole
}

func newContent(part io.Reader, size int64, digest *sdk.Digester) *content {
	return &content{part: part, size: size, digest: digest}
}

var errUploadOver = errors.New("the upload is over")

// Read gives the byte held back and all but the last of those that follow it.
func (c *content) Read(p []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case c.over.Load():
		return 0, errUploadOver
	case len(p) == 0:
		return 0, nil
	}
	var single [1]byte
	if !c.holding {
		if _, err := c.next(single[:]); err != nil {
			return 0, err
		}
		c.held, c.holding = single[0], true
	}
	behind := p[1:]
	if len(behind) == 0 {
		behind = single[:]
	}
	n, err := c.next(behind)
	p[0] = c.held
	switch err {
	case nil:
		c.held = behind[n-1]
		return n, nil
	case io.EOF:
		c.holding = false
		if c.atEnd != nil {
			c.atEnd(c.digest)
		}
		return 1, io.EOF
	default:
		return 0, err
	}
}

// next reads at least one byte, or returns how the part ended.
func (c *content) next(p []byte) (int, error) {
	for c.ended == nil {
		n, err := c.part.Read(p)
		c.digest.Write(p[:n])
		c.n += int64(n)
		c.ended = err
		if c.size >= 0 && c.n > c.size {
			c.ended = sdk.Errorf(sdk.Corrupt, "has more than the %d bytes announced", c.size)
			break
		}
		if n > 0 {
			return n, nil
		}
	}
	return 0, c.ended
}

// Close is called by the transport, possibly beside Read.
func (c *content) Close() error {
	c.over.Store(true)
	return nil
}

// stop ends the reading of the part, waits until it has ended, and returns the error that the part broke with, if it did.
func (c *content) stop() error {
	c.over.Store(true)
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.ended == io.EOF {
		return nil
	}
	return c.ended
}

// whole reports whether every byte was given away.
func (c *content) whole() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.ended == io.EOF && !c.holding
}
