package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"time"

	"github.com/towpath-dataplane/towpath/sdk"
	"github.com/towpath-dataplane/towpath/sdk/outbound"
)

const (
	maxRedirects   = 5
	maxHeaderBytes = 256 << 10
	// continueTimeout is how long an upload waits for a receiver that may not know 100-continue.
	continueTimeout = time.Second
)

// client sends requests within the operator's policy. It is shared by all flows.
type client struct {
	http         *http.Client
	policy       *outbound.Policy
	idle         time.Duration
	maxErrorBody int64
}

// newReader returns the client of sources.
func newReader(s settings, p *outbound.Policy, tlsConfig *tls.Config) *client {
	return newClient(s, p, newTransport(s, p, tlsConfig, time.Duration(s.Timeout)), redirectRule(s.Redirects, p))
}

// newProxy returns the client of requests that are handed on. It has the connections of sources, and follows no redirect: that is for
// whoever asked.
func newProxy(s settings, p *outbound.Policy, reader *client) *client {
	return newClient(s, p, reader.http.Transport.(*http.Transport), redirectRule(redirectsNone, p))
}

// newWriter returns the client of sinks. It waits longer for an answer, because a receiver makes a part durable before it answers, and
// follows no redirect: a body that was sent cannot be sent again.
func newWriter(s settings, p *outbound.Policy, tlsConfig *tls.Config) *client {
	return newClient(s, p, newTransport(s, p, tlsConfig, time.Duration(s.IdleTimeout)), redirectRule(redirectsNone, p))
}

func newClient(s settings, p *outbound.Policy, t *http.Transport, redirects func(*http.Request, []*http.Request) error) *client {
	return &client{
		http:         &http.Client{Transport: t, CheckRedirect: redirects},
		policy:       p,
		idle:         time.Duration(s.IdleTimeout),
		maxErrorBody: int64(s.MaxErrorBody),
	}
}

// newTransport has no proxy, and HTTP/1.1 only: one connection carries one part, so that a stalled one holds up no other.
func newTransport(s settings, p *outbound.Policy, tlsConfig *tls.Config, answer time.Duration) *http.Transport {
	protocols := new(http.Protocols)
	protocols.SetHTTP1(true)
	return &http.Transport{
		DialContext:            dialer(p, time.Duration(s.Timeout), time.Duration(s.IdleTimeout)),
		TLSClientConfig:        tlsConfig,
		TLSHandshakeTimeout:    time.Duration(s.Timeout),
		ResponseHeaderTimeout:  answer,
		ExpectContinueTimeout:  continueTimeout,
		MaxResponseHeaderBytes: maxHeaderBytes,
		MaxIdleConnsPerHost:    16,
		IdleConnTimeout:        time.Minute,
		WriteBufferSize:        64 << 10,
		DisableCompression:     true,
		Protocols:              protocols,
	}
}

// send sends a request and returns the answer, whatever its status. The caller closes its body. ctx is for the body too.
func (c *client) send(ctx context.Context, req *http.Request) (*http.Response, error) {
	what := describe(req)
	if err := c.policy.CheckURL(req.URL); err != nil {
		return nil, fmt.Errorf("%s: %w", what, err)
	}
	lifetime, end := context.WithCancel(ctx)
	resp, err := c.http.Do(req.WithContext(lifetime))
	if err != nil {
		end()
		return nil, failure(ctx, what, err)
	}
	resp.Body = newBody(ctx, resp.Body, what, c.idle, end)
	return resp, nil
}

// refused returns the error for an answer whose status is not what the caller wants, and closes its body.
func (c *client) refused(resp *http.Response, t *target) error {
	defer resp.Body.Close()
	return statusError(describe(resp.Request), resp, c.maxErrorBody, t.hide)
}

// describe names a request without anything that could be a secret.
func describe(req *http.Request) string { return req.Method + " " + shown(req.URL) }

// shown is a URL without query, fragment and credentials.
func shown(u *url.URL) string {
	bare := url.URL{Scheme: u.Scheme, Host: u.Host, Path: u.Path, RawPath: u.RawPath}
	return bare.String()
}

// failure is the error of a request that got no answer, or of an answer that broke.
func failure(ctx context.Context, what string, err error) error {
	var wrapped *url.Error
	if errors.As(err, &wrapped) {
		err = wrapped.Err
	}
	// What the transport says of a peer that spoke out of turn and hung up means nothing to an operator.
	if strings.Contains(err.Error(), "readLoopPeekFailLocked") {
		err = errHungUp
	}
	var known *sdk.Error
	switch {
	case ctx.Err() != nil:
		return fmt.Errorf("%s: %w", what, ctx.Err())
	case errors.As(err, &known):
		return fmt.Errorf("%s: %w", what, known)
	}
	e := &sdk.Error{Code: sdk.Unavailable, Retryable: true, Message: what + ": " + withoutQueries(err.Error()), Err: err}
	switch {
	case isTLSRefusal(err):
		e.Code, e.Retryable = sdk.Denied, false
	case errors.Is(err, http.ErrSchemeMismatch):
		e.Code, e.Retryable = sdk.Invalid, false
	}
	return e
}

// isTLSRefusal reports whether one side did not accept the other's certificate or protocol.
func isTLSRefusal(err error) bool {
	var verification *tls.CertificateVerificationError
	var authority x509.UnknownAuthorityError
	var op *net.OpError
	return errors.As(err, &verification) || errors.As(err, &authority) || errors.As(err, &op) && op.Op == "remote error"
}

var query = regexp.MustCompile(`\?[^\s"']+`)

// withoutQueries removes the queries of URLs from a message.
func withoutQueries(message string) string { return query.ReplaceAllString(message, "?...") }
