package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"

	"golang.org/x/time/rate"
)

// relay is a slow line: it passes connections on to one server, and bounds the bytes on their way there.
type relay struct {
	server   string // host:port
	listener net.Listener
	limit    *rate.Limiter
	ctx      context.Context // ends with close
	cancel   context.CancelFunc
	work     sync.WaitGroup
}

// chunk is the most that passes at once, in bytes.
const chunk = 32 << 10

// newRelay returns a relay to the server of a base URL, which runs until it is closed.
func newRelay(base string, bytesPerSecond float64) (*relay, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, fmt.Errorf("slow line: %w", err)
	}
	r := &relay{server: address(base), listener: l, limit: rate.NewLimiter(rate.Limit(bytesPerSecond), chunk)}
	r.ctx, r.cancel = context.WithCancel(context.Background())
	r.work.Go(r.run)
	return r, nil
}

// through returns an address of the server that leads through the relay.
func (r *relay) through(a *dataAddress) *dataAddress {
	redirect := func(url string) string {
		if rest, ok := strings.CutPrefix(url, "http://"+r.server+"/"); ok {
			return "http://" + r.listener.Addr().String() + "/" + rest
		}
		return url
	}
	b := *a
	b.Endpoint = redirect(a.Endpoint)
	b.Properties = nil
	for _, p := range a.Properties {
		p.Value = redirect(p.Value)
		b.Properties = append(b.Properties, p)
	}
	return &b
}

// close cuts all connections and waits until they are gone.
func (r *relay) close() {
	r.cancel()
	r.listener.Close()
	r.work.Wait()
}

func (r *relay) run() {
	for {
		client, err := r.listener.Accept()
		if err != nil {
			return // closed
		}
		r.work.Go(func() { r.connect(client.(*net.TCPConn)) })
	}
}

// connect passes on one connection until both directions have ended.
func (r *relay) connect(client *net.TCPConn) {
	defer client.Close()
	var d net.Dialer
	conn, err := d.DialContext(r.ctx, "tcp", r.server)
	if err != nil {
		return
	}
	server := conn.(*net.TCPConn)
	defer server.Close()
	cut := func() { client.Close(); server.Close() }
	defer context.AfterFunc(r.ctx, cut)()
	var back sync.WaitGroup
	back.Go(func() { pass(client, server, cut) })
	pass(server, slowed{client, r}, cut)
	back.Wait()
}

// pass copies until from ends, and tells to so. If either breaks, the whole connection is cut.
func pass(to *net.TCPConn, from io.Reader, cut func()) {
	_, err := io.CopyBuffer(struct{ io.Writer }{to}, struct{ io.Reader }{from}, make([]byte, chunk))
	if err = errors.Join(err, to.CloseWrite()); err != nil {
		cut()
	}
}

// slowed reads at the rate of the relay.
type slowed struct {
	io.Reader
	relay *relay
}

func (s slowed) Read(b []byte) (int, error) {
	n, err := s.Reader.Read(b[:min(len(b), chunk)])
	if waited := s.relay.limit.WaitN(s.relay.ctx, n); waited != nil {
		return 0, waited
	}
	return n, err
}
