package outbound

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/http"
	"syscall"
	"time"

	"github.com/towpath-dataplane/towpath/sdk"
)

const (
	defaultTimeout = 30 * time.Second
	defaultMaxBody = 1 << 20
	maxHeaderBytes = 64 << 10
)

// Limits bound what one exchange with a peer can cost.
type Limits struct {
	// Timeout is for a whole exchange: connecting, redirects, and reading the body. 0: 30 seconds.
	Timeout time.Duration
	// MaxBody is the largest body of an answer, in bytes. 0: 1 MiB.
	MaxBody int64
	// MaxRedirects is how many redirects are followed. 0: none, and the answer that redirects is returned as it is.
	MaxRedirects int
	// TLS has private roots and client certificates. nil: the roots of the system.
	TLS *tls.Config
}

// ErrTooLarge is what reading the body of an answer fails with when it is longer than Limits.MaxBody.
var ErrTooLarge = errors.New("the answer is too large")

// Client returns a client that checks the URL of each request and redirect, and each address that it connects to. It follows redirects
// that stay at one scheme, host and port and keep the method, and uses no proxy. What the policy says is in the chain of the client's
// errors as an *sdk.Error; the client itself puts the whole URL before it. The client has connections of its own: it is meant to be
// kept, and CloseIdleConnections ends them.
func (p *Policy) Client(l Limits) *http.Client {
	timeout := cmp.Or(l.Timeout, defaultTimeout)
	protocols := new(http.Protocols)
	protocols.SetHTTP1(true)
	return &http.Client{
		Timeout:       timeout,
		CheckRedirect: redirectRule(l.MaxRedirects),
		Transport: &guard{policy: p, maxBody: cmp.Or(l.MaxBody, defaultMaxBody), transport: &http.Transport{
			DialContext:            p.Dialer(timeout),
			TLSClientConfig:        l.TLS.Clone(),
			TLSHandshakeTimeout:    timeout,
			MaxResponseHeaderBytes: maxHeaderBytes,
			MaxIdleConns:           64,
			IdleConnTimeout:        time.Minute,
			DisableCompression:     true,
			Protocols:              protocols,
		}},
	}
}

// Dialer returns a function that connects within the policy, for a transport that is not Client's.
func (p *Policy) Dialer(timeout time.Duration) func(ctx context.Context, network, address string) (net.Conn, error) {
	return func(ctx context.Context, network, address string) (net.Conn, error) {
		d := net.Dialer{
			Timeout: timeout,
			ControlContext: func(_ context.Context, _, resolved string, _ syscall.RawConn) error {
				return p.CheckDial(address, resolved)
			},
		}
		return d.DialContext(ctx, network, address)
	}
}

// guard is the transport of a client. A client comes back to it with each redirect.
type guard struct {
	policy    *Policy
	maxBody   int64
	transport *http.Transport
}

func (g *guard) RoundTrip(req *http.Request) (*http.Response, error) {
	if err := g.policy.CheckURL(req.URL); err != nil {
		if req.Body != nil {
			req.Body.Close()
		}
		return nil, err
	}
	resp, err := g.transport.RoundTrip(req)
	if err != nil {
		return nil, err
	}
	resp.Body = &body{ReadCloser: resp.Body, max: g.maxBody, left: g.maxBody}
	return resp, nil
}

// CloseIdleConnections is what the client's method of that name calls.
func (g *guard) CloseIdleConnections() { g.transport.CloseIdleConnections() }

func redirectRule(most int) func(*http.Request, []*http.Request) error {
	if most <= 0 {
		return func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	}
	return func(req *http.Request, via []*http.Request) error {
		first := via[0]
		switch {
		case len(via) > most:
			return sdk.Errorf(sdk.Invalid, "redirected more than %d times", most)
		case req.URL.Scheme != first.URL.Scheme || HostPort(req.URL) != HostPort(first.URL):
			return sdk.Errorf(sdk.Denied, "redirected to %s://%s: redirects to another host are not allowed", req.URL.Scheme, req.URL.Host)
		case req.Method != first.Method:
			return sdk.Errorf(sdk.Denied, "redirected so that %s would become %s", first.Method, req.Method)
		}
		req.Header.Del("Referer") // it has the query of the URL before
		return nil
	}
}

// body is the body of an answer. It fails when more than max bytes come.
type body struct {
	io.ReadCloser
	max, left int64 // left is -1 when it has failed
}

func (b *body) Read(p []byte) (int, error) {
	if b.left < 0 {
		return 0, b.tooLarge()
	}
	if int64(len(p)) > b.left+1 {
		p = p[:b.left+1] // one more than is allowed, to see that it is there
	}
	n, err := b.ReadCloser.Read(p)
	if int64(n) > b.left {
		n = int(b.left)
		b.left = -1
		return n, b.tooLarge()
	}
	b.left -= int64(n)
	return n, err
}

func (b *body) tooLarge() error {
	return sdk.Errorf(sdk.Exhausted, "%w: more than %d bytes", ErrTooLarge, b.max)
}
