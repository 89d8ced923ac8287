package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"net"
	"net/netip"
	"net/url"
	"sync/atomic"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/towpath-dataplane/towpath/sdk"
)

// connection is a client of one flow, within the operator's policy.
type connection struct {
	*kgo.Client
	admin *kadm.Client
	guard *guard
}

// connect returns a client; nothing is sent yet. The caller closes it.
func (e *environment) connect(t *target, opts ...kgo.Opt) (*connection, error) {
	for _, server := range t.servers {
		// Brokers have no URL. That of a web server in the same place is judged alike.
		if err := e.policy.CheckURL(&url.URL{Scheme: "https", Host: server}); err != nil {
			return nil, err
		}
	}
	ctx, cancel := context.WithCancel(context.Background()) // outlives the flow, whose end takes requests too
	g := &guard{cancel: cancel, dial: e.policy.Dialer(time.Duration(e.settings.Timeout)), plaintext: e.settings.AllowPlaintext}
	if t.tls {
		g.tls = e.tls
	}
	all := []kgo.Opt{
		kgo.WithContext(ctx),
		kgo.SeedBrokers(t.servers...),
		kgo.ClientID(t.clientID),
		kgo.SoftwareNameAndVersion("towpath", version),
		kgo.Dialer(g.connect),
		kgo.RetryTimeout(time.Duration(e.settings.Timeout)),
		kgo.RequestTimeoutOverhead(time.Duration(e.settings.Timeout)),
		kgo.DisableClientMetrics(),
	}
	if t.mechanism != nil {
		all = append(all, kgo.SASL(t.mechanism))
	}
	client, err := kgo.NewClient(append(all, opts...)...)
	if err != nil {
		cancel()
		return nil, sdk.Errorf(sdk.Invalid, "make a client: %v", err)
	}
	return &connection{Client: client, admin: kadm.NewClient(client), guard: g}, nil
}

// close ends the client.
func (c *connection) close() {
	c.Client.Close()
	c.guard.cancel()
}

// failure is failure for a request of this connection. That a broker may not be connected to goes before what came of it.
func (c *connection) failure(doing string, err error) error {
	if refusal := c.guard.refusal.Load(); refusal != nil {
		return failure(doing, *refusal)
	}
	return failure(doing, err)
}

// guard connects to brokers. A refusal ends the client at once: trying again changes nothing.
type guard struct {
	dial      func(ctx context.Context, network, address string) (net.Conn, error)
	tls       *tls.Config // nil: connect without
	plaintext bool        // without TLS to all hosts
	cancel    context.CancelFunc
	refusal   atomic.Pointer[error]
}

func (g *guard) connect(ctx context.Context, network, address string) (net.Conn, error) {
	conn, err := g.open(ctx, network, address)
	var refused *sdk.Error
	if errors.As(err, &refused) {
		g.refusal.CompareAndSwap(nil, &err)
		g.cancel()
	}
	return conn, err
}

func (g *guard) open(ctx context.Context, network, address string) (net.Conn, error) {
	conn, err := g.dial(ctx, network, address)
	if err != nil {
		return nil, err
	}
	if g.tls == nil {
		if !g.plaintext && !isLoopback(conn.RemoteAddr()) {
			conn.Close()
			return nil, sdk.Errorf(sdk.Denied, "connections to %s without TLS are not allowed", address)
		}
		return conn, nil
	}
	config := g.tls.Clone()
	config.ServerName, _, _ = net.SplitHostPort(address)
	secure := tls.Client(conn, config)
	if err := secure.HandshakeContext(ctx); err != nil {
		conn.Close()
		if isTLSRefusal(err) {
			return nil, sdk.Errorf(sdk.Denied, "connect to %s: %w", address, err)
		}
		return nil, err
	}
	return secure, nil
}

func isLoopback(a net.Addr) bool {
	address, err := netip.ParseAddrPort(a.String())
	return err == nil && address.Addr().Unmap().IsLoopback()
}

// isTLSRefusal reports whether one side did not accept the other's certificate or protocol.
func isTLSRefusal(err error) bool {
	var verification *tls.CertificateVerificationError
	var authority x509.UnknownAuthorityError
	var record tls.RecordHeaderError
	var op *net.OpError
	return errors.As(err, &verification) || errors.As(err, &authority) || errors.As(err, &record) ||
		errors.As(err, &op) && op.Op == "remote error"
}
