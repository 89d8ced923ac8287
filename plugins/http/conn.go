package main

import (
	"context"
	"errors"
	"io"
	"net"
	"os"
	"sync"
	"time"

	"github.com/towpath-dataplane/towpath/sdk/outbound"
)

// lastWords is how long a failed write waits for what the other side had said before.
const lastWords = time.Second

// dialer returns a function that connects within the policy.
func dialer(p *outbound.Policy, timeout, idle time.Duration) func(context.Context, string, string) (net.Conn, error) {
	dial := p.Dialer(timeout)
	return func(ctx context.Context, network, address string) (net.Conn, error) {
		c, err := dial(ctx, network, address)
		if err != nil {
			return nil, err
		}
		return &conn{Conn: c, idle: idle, heard: make(chan struct{})}, nil
	}
}

// conn is a connection that gives up writing when the other side takes no byte for too long.
//
// A receiver that refuses an upload may answer and hang up at once. The transport would then report the write that failed; so that it
// finds the answer, which says why, a write fails only when all that came was read.
type conn struct {
	net.Conn
	idle  time.Duration
	heard chan struct{} // closed when nothing more will be read
	once  sync.Once
	why   error // of that; valid when heard is closed
}

var errHungUp = errors.New("the other side has closed the connection")

func (c *conn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	switch {
	case err == io.EOF:
		c.end(errHungUp)
	case err != nil:
		c.end(err)
	}
	return n, err
}

func (c *conn) end(why error) {
	c.once.Do(func() {
		c.why = why
		close(c.heard)
	})
}

func (c *conn) Write(p []byte) (n int, err error) {
	if err = c.SetWriteDeadline(time.Now().Add(c.idle)); err == nil {
		n, err = c.Conn.Write(p)
	}
	if err != nil && !errors.Is(err, os.ErrDeadlineExceeded) {
		err = c.listen(err)
	}
	return n, err
}

// listen waits until nothing more will be read. It returns why, if the failure of a write says only that the connection was closed on
// that account, and otherwise the failure.
func (c *conn) listen(failure error) error {
	timer := time.NewTimer(lastWords)
	defer timer.Stop()
	select {
	case <-c.heard:
		if errors.Is(failure, net.ErrClosed) {
			return c.why
		}
	case <-timer.C:
	}
	return failure
}

func (c *conn) Close() error {
	c.end(net.ErrClosed)
	return c.Conn.Close()
}
