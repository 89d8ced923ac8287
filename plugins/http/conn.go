package main

import (
	"context"
	"errors"
	"net"
	"os"
	"sync"
	"syscall"
	"time"
)

// lastWords is how long a failed write waits for what the other side had said before.
const lastWords = time.Second

// dialer returns a function that connects within the policy.
func dialer(p *policy, timeout, idle time.Duration) func(context.Context, string, string) (net.Conn, error) {
	return func(ctx context.Context, network, address string) (net.Conn, error) {
		d := net.Dialer{
			Timeout: timeout,
			ControlContext: func(_ context.Context, _, resolved string, _ syscall.RawConn) error {
				return p.checkDial(address, resolved)
			},
		}
		c, err := d.DialContext(ctx, network, address)
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
}

func (c *conn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	if err != nil {
		c.once.Do(func() { close(c.heard) })
	}
	return n, err
}

func (c *conn) Write(p []byte) (int, error) {
	if err := c.SetWriteDeadline(time.Now().Add(c.idle)); err != nil {
		return 0, err
	}
	n, err := c.Conn.Write(p)
	if err != nil && !errors.Is(err, os.ErrDeadlineExceeded) {
		c.listen()
	}
	return n, err
}

// listen waits until nothing more will be read.
func (c *conn) listen() {
	timer := time.NewTimer(lastWords)
	defer timer.Stop()
	select {
	case <-c.heard:
	case <-timer.C:
	}
}

func (c *conn) Close() error {
	c.once.Do(func() { close(c.heard) })
	return c.Conn.Close()
}
