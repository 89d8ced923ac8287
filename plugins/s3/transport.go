package main

import (
	"context"
	"crypto/tls"
	"net"
	"net/http"
	"time"

	"github.com/towpath-dataplane/towpath/sdk/outbound"
)

const maxHeaderBytes = 256 << 10

// newHTTPClient returns the client that all flows share. It keeps to the policy with every request and every connection, follows no
// redirect, uses no proxy, and speaks HTTP/1.1 only: one connection carries one request, so that a stalled one holds up no other.
func newHTTPClient(p *outbound.Policy, t *tls.Config, timeout, idle time.Duration) *http.Client {
	protocols := new(http.Protocols)
	protocols.SetHTTP1(true)
	dial := p.Dialer(timeout)
	return &http.Client{
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		Transport: &guard{policy: p, transport: &http.Transport{
			DialContext: func(ctx context.Context, network, address string) (net.Conn, error) {
				c, err := dial(ctx, network, address)
				if err != nil {
					return nil, err
				}
				return &conn{Conn: c, idle: idle}, nil
			},
			TLSClientConfig:        t,
			TLSHandshakeTimeout:    timeout,
			ExpectContinueTimeout:  time.Second,
			MaxResponseHeaderBytes: maxHeaderBytes,
			MaxIdleConnsPerHost:    64,
			IdleConnTimeout:        time.Minute,
			WriteBufferSize:        64 << 10,
			ReadBufferSize:         64 << 10,
			DisableCompression:     true,
			Protocols:              protocols,
		}},
	}
}

// guard asks the policy before each request.
type guard struct {
	policy    *outbound.Policy
	transport *http.Transport
}

func (g *guard) RoundTrip(req *http.Request) (*http.Response, error) {
	if err := g.policy.CheckURL(req.URL); err != nil {
		if req.Body != nil {
			req.Body.Close()
		}
		return nil, err
	}
	return g.transport.RoundTrip(req)
}

// CloseIdleConnections is what the client's method of that name calls.
func (g *guard) CloseIdleConnections() { g.transport.CloseIdleConnections() }

// conn gives up when the other side neither gives nor takes a byte for too long. Only the time inside Read and Write counts.
type conn struct {
	net.Conn
	idle time.Duration
}

func (c *conn) Read(p []byte) (int, error) {
	if err := c.SetReadDeadline(time.Now().Add(c.idle)); err != nil {
		return 0, err
	}
	return c.Conn.Read(p)
}

func (c *conn) Write(p []byte) (int, error) {
	if err := c.SetWriteDeadline(time.Now().Add(c.idle)); err != nil {
		return 0, err
	}
	return c.Conn.Write(p)
}
