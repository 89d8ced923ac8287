package main

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/towpath-dataplane/towpath/sdk"
)

// newPipeReader returns a reader that ends when a context does, as the body of an answer does.
func newPipeReader(ctx context.Context) (*io.PipeReader, *io.PipeWriter) {
	r, w := io.Pipe()
	context.AfterFunc(ctx, func() { r.CloseWithError(ctx.Err()) })
	return r, w
}

func TestBodyCountsOnlyTheTimeOfTheServer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, end := context.WithCancel(t.Context())
		inner, w := newPipeReader(ctx)
		b := newBody(t.Context(), inner, "GET x", time.Minute, end)
		defer b.Close()
		go func() {
			io.WriteString(w, "a")
			time.Sleep(59 * time.Second) // nearly too long
			io.WriteString(w, "b")
		}()
		one := make([]byte, 1)
		for range 2 {
			if _, err := io.ReadFull(b, one); err != nil {
				t.Fatal(err)
			}
			time.Sleep(time.Hour) // the reader's own time
		}
		begun := time.Now()
		_, err := b.Read(one)
		wantError(t, err, sdk.Unavailable, true, "GET x: no byte came for 1m0s after 2 bytes")
		if waited := time.Since(begun); waited != time.Minute {
			t.Errorf("gave up after %s", waited)
		}
	})
}

func TestBodyOfAFlowThatIsCut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		flow, cut := context.WithTimeout(t.Context(), time.Second)
		defer cut()
		ctx, end := context.WithCancel(flow)
		inner, _ := newPipeReader(ctx)
		b := newBody(flow, inner, "GET x", time.Minute, end)
		defer b.Close()
		if _, err := b.Read(make([]byte, 1)); !errors.Is(err, context.DeadlineExceeded) {
			t.Error(err)
		}
	})
}

func TestConnCountsOnlyTheTimeOfTheReceiver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		near, far := net.Pipe()
		defer far.Close()
		c := &conn{Conn: near, idle: time.Minute, heard: make(chan struct{})}
		defer c.Close()
		go io.CopyN(io.Discard, far, 2)
		for range 2 {
			if _, err := c.Write([]byte("x")); err != nil {
				t.Fatal(err)
			}
			time.Sleep(time.Hour)
		}
		begun := time.Now()
		if _, err := c.Write([]byte("x")); !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("write to one that takes nothing: %v", err)
		}
		if waited := time.Since(begun); waited != time.Minute {
			t.Errorf("gave up after %s", waited)
		}
	})
}

// deafConn fails to write; what it reads is what its other side wrote.
type deafConn struct{ net.Conn }

func (deafConn) Write([]byte) (int, error) { return 0, syscall.ECONNRESET }

// A write that fails waits until what came before was read, but not for ever.
func TestConnListensBeforeItFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		near, far := net.Pipe()
		c := &conn{Conn: deafConn{near}, idle: time.Minute, heard: make(chan struct{})}
		begun := time.Now()
		if _, err := c.Write([]byte("x")); err == nil {
			t.Error("no error")
		}
		if waited := time.Since(begun); waited != lastWords {
			t.Errorf("waited %s, want %s", waited, lastWords)
		}
		go func() {
			time.Sleep(lastWords / 2)
			far.Close()
		}()
		go c.Read(make([]byte, 1)) // finds the end then
		begun = time.Now()
		if _, err := c.Write([]byte("x")); err == nil || time.Since(begun) != lastWords/2 {
			t.Errorf("waited %s after everything was read: %v", time.Since(begun), err)
		}
		c.Close()
	})
}

// A source that takes its time does not make the receiver look stalled.
func TestSlowSource(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newTestPlugin(t, block{})
		env := environmentOf(p)
		answered := make(chan struct{})
		env.writer.http.Transport.(*http.Transport).DialTLSContext = func(context.Context, string, string) (net.Conn, error) {
			near, far := net.Pipe()
			go func() {
				defer close(answered)
				defer far.Close()
				req, err := http.ReadRequest(bufio.NewReader(far))
				if err != nil {
					t.Error(err)
					return
				}
				io.Copy(io.Discard, req.Body)
				time.Sleep(env.writer.idle - time.Second) // to make it durable
				io.WriteString(far, "HTTP/1.1 201 Created\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
			}()
			return &conn{Conn: near, idle: env.writer.idle, heard: make(chan struct{})}, nil
		}
		w := startWriting(t, p, sdk.WriteOpen{Address: edc("https://a.example/")})
		go func() {
			w.begin(sdk.PartInfo{Name: "a", Size: 8})
			w.data([]byte("0123"))
			time.Sleep(24 * time.Hour)
			w.data([]byte("4567"))
			w.finish([]byte("01234567"))
			w.stream.Send(&sdk.End{Totals: w.sent})
		}()
		if _, err := w.outcome(); err != nil {
			t.Error(err)
		}
		<-answered
	})
}
