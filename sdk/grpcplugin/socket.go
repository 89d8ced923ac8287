package grpcplugin

import (
	"context"
	"net"
	"sync"

	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/mem"
)

// socketBuffer is asked for on both ends of a unix socket. A kernel that allows less gives less: the socket works all the same.
const socketBuffer = 1 << 20

// plainCredentials are no credentials, with room in the socket: fewer wake-ups a byte. The socket lies in a folder that only the host's
// user can enter.
type plainCredentials struct {
	credentials.TransportCredentials
}

func newPlainCredentials() credentials.TransportCredentials {
	return plainCredentials{insecure.NewCredentials()}
}

func (c plainCredentials) ClientHandshake(ctx context.Context, authority string, conn net.Conn) (net.Conn, credentials.AuthInfo, error) {
	widen(conn)
	return c.TransportCredentials.ClientHandshake(ctx, authority, conn)
}

func (c plainCredentials) ServerHandshake(conn net.Conn) (net.Conn, credentials.AuthInfo, error) {
	widen(conn)
	return c.TransportCredentials.ServerHandshake(conn)
}

func (c plainCredentials) Clone() credentials.TransportCredentials { return c }

func widen(conn net.Conn) {
	if u, ok := conn.(*net.UnixConn); ok {
		u.SetWriteBuffer(socketBuffer)
		u.SetReadBuffer(socketBuffer)
	}
}

// bufferPool keeps the buffers that the transport reads into. gRPC's own pool zeroes each before it is filled.
type bufferPool struct {
	frame sync.Pool // http2Frame bytes: a piece of a message
	rest  mem.BufferPool
}

// http2Frame is the most that gRPC puts into one frame of HTTP/2.
const http2Frame = 16 << 10

func newBufferPool() *bufferPool {
	return &bufferPool{rest: mem.DefaultBufferPool()}
}

func (p *bufferPool) Get(n int) *[]byte {
	if n > http2Frame || n < http2Frame/2 {
		return p.rest.Get(n)
	}
	b, ok := p.frame.Get().(*[]byte)
	if !ok {
		b = new([]byte)
		*b = make([]byte, http2Frame)
	}
	*b = (*b)[:n]
	return b
}

func (p *bufferPool) Put(b *[]byte) {
	if cap(*b) == http2Frame {
		p.frame.Put(b)
		return
	}
	p.rest.Put(b)
}
