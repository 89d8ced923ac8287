package grpcplugin

import (
	"bytes"
	"context"
	"net"
	"sync"

	"google.golang.org/grpc"
	"google.golang.org/grpc/peer"

	pluginv1 "github.com/towpath-dataplane/towpath/proto/towpath/plugin/v1"
	"github.com/towpath-dataplane/towpath/sdk"
)

// hosts are those that have dialled a plugin. They share its configuration: the first host's, for as long as one is connected that has
// given the same.
type hosts struct {
	scratch string

	mu         sync.Mutex // guards the rest
	configured bool
	config     []byte
	using      map[*hostAddr]bool // connections that have given it
}

// configure takes the configuration of the host that calls. apply hands it to the plugin; it is not called for one that the plugin has.
func (h *hosts) configure(ctx context.Context, config []byte, busy func() bool, apply func(sdk.Config) error) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	from := hostOf(ctx)
	if from == nil || from.gone {
		return sdk.Retryf(sdk.Unavailable, "the connection has ended")
	}
	if h.configured && bytes.Equal(h.config, config) {
		h.using[from] = true
		return nil
	}
	for other := range h.using {
		if other != from {
			return sdk.Retryf(sdk.Unavailable, "the plugin is in use with another configuration: hosts that share it give it the same")
		}
	}
	if busy() {
		return sdk.Retryf(sdk.Unavailable, "flows still run with another configuration")
	}
	h.configured = false
	delete(h.using, from)
	if err := apply(sdk.Config{JSON: config, ScratchDir: h.scratch}); err != nil {
		return err
	}
	h.configured, h.config = true, bytes.Clone(config)
	h.using[from] = true
	return nil
}

// check refuses calls that need a configuration from hosts that have given none.
func (h *hosts) check(ctx context.Context, method string) error {
	switch method {
	case pluginv1.Plugin_Describe_FullMethodName, pluginv1.Plugin_Configure_FullMethodName, pluginv1.Plugin_Health_FullMethodName,
		pluginv1.Plugin_Drain_FullMethodName:
		return nil
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if from := hostOf(ctx); from == nil || !h.using[from] {
		return statusOf(sdk.Retryf(sdk.Unavailable, "this connection has not configured the plugin"))
	}
	return nil
}

func (h *hosts) checkUnary(ctx context.Context, req any, info *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (any, error) {
	if err := h.check(ctx, info.FullMethod); err != nil {
		return nil, err
	}
	return handler(ctx, req)
}

func (h *hosts) checkStream(srv any, stream grpc.ServerStream, info *grpc.StreamServerInfo, handler grpc.StreamHandler) error {
	if err := h.check(stream.Context(), info.FullMethod); err != nil {
		return err
	}
	return handler(srv, stream)
}

// leave forgets a host whose connection has ended.
func (h *hosts) leave(a *hostAddr) {
	h.mu.Lock()
	defer h.mu.Unlock()
	a.gone = true
	delete(h.using, a)
}

// hostAddr is the address of a host, and stands for its connection: gRPC tells calls no more about that.
type hostAddr struct {
	net.Addr
	gone bool // the connection has ended; guarded by hosts.mu
}

func hostOf(ctx context.Context) *hostAddr {
	p, ok := peer.FromContext(ctx)
	if !ok {
		return nil
	}
	a, _ := p.Addr.(*hostAddr)
	return a
}

// hostListener accepts hosts.
type hostListener struct {
	net.Listener
	hosts *hosts
}

func (l hostListener) Accept() (net.Conn, error) {
	conn, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	widen(conn)
	return &hostConn{Conn: conn, addr: &hostAddr{Addr: conn.RemoteAddr()}, hosts: l.hosts}, nil
}

// hostConn is the connection of a host.
type hostConn struct {
	net.Conn
	addr  *hostAddr
	hosts *hosts
}

func (c *hostConn) RemoteAddr() net.Addr { return c.addr }

func (c *hostConn) Close() error {
	c.hosts.leave(c.addr)
	return c.Conn.Close()
}
