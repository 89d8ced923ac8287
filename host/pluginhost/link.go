package pluginhost

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/towpath-dataplane/towpath/sdk/grpcplugin"
)

// use makes conn the one connection that the instance ever has: gRPC is not to dial another when it is lost.
func (in *instance) use(conn net.Conn) error {
	in.link = &link{Conn: conn, closed: make(chan struct{})}
	in.process = newConnection(in.link)
	once := make(chan net.Conn, 1)
	once <- in.link
	name, _, err := net.SplitHostPort(conn.RemoteAddr().String())
	if err != nil {
		name = "localhost"
	}
	options := append(grpcplugin.SecureDialOptions(), grpc.WithTransportCredentials(insecure.NewCredentials()), grpc.WithAuthority(name),
		grpc.WithIdleTimeout(0), grpc.WithContextDialer(func(context.Context, string) (net.Conn, error) {
			select {
			case conn := <-once:
				return conn, nil
			default:
				return nil, errLost
			}
		}))
	made, err := grpc.NewClient("passthrough:///plugin", options...)
	if err != nil {
		return err
	}
	in.conn, in.rpc = made, grpcplugin.NewClient(made)
	return nil
}

var errLost = errors.New("the connection is lost")

// link is the connection to a dialled plugin, under TLS if it has to be.
type link struct {
	net.Conn
	once   sync.Once
	closed chan struct{} // closed when it is of no use any more

	mu   sync.Mutex // guards lost
	lost error
}

func (l *link) Read(b []byte) (int, error) {
	n, err := l.Conn.Read(b)
	if err != nil && !errors.Is(err, os.ErrDeadlineExceeded) {
		l.lose(err)
	}
	return n, err
}

// Write fails when the other side has hung up; why, it may have said before.
func (l *link) Write(b []byte) (int, error) {
	n, err := l.Conn.Write(b)
	if err != nil {
		l.SetReadDeadline(time.Now().Add(lastWords))
		l.Read(make([]byte, 1))
		l.lose(err)
	}
	return n, err
}

// lastWords is how long is waited for what the other side has said last.
const lastWords = time.Second

// lose notes that the connection is lost, and why.
func (l *link) lose(err error) {
	if errors.Is(err, net.ErrClosed) {
		return // by this side
	}
	l.mu.Lock()
	if l.lost == nil {
		l.lost = err
	}
	l.mu.Unlock()
	l.once.Do(func() { close(l.closed) })
}

// cause is why the connection was lost; nil if it was not, or by this side.
func (l *link) cause() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.lost == nil {
		return nil
	}
	return fmt.Errorf("the connection was lost: %w", l.lost)
}

func (l *link) Close() error {
	l.once.Do(func() { close(l.closed) })
	return l.Conn.Close()
}

// newConnection is the process of a dialled plugin: the connection to it. To signal it is to hang up.
func newConnection(l *link) *process {
	p := &process{link: l, exited: make(chan struct{})}
	go p.awaitHangUp()
	return p
}

func (p *process) awaitHangUp() {
	<-p.link.closed
	p.mu.Lock()
	p.reaped = true
	p.exit = newHangUp(p.link.cause(), p.reason)
	p.mu.Unlock()
	close(p.exited)
	p.link.Close()
}

// newHangUp says how a connection ended.
func newHangUp(cause error, reason string) Exit {
	e := Exit{At: time.Now(), Status: "the host hung up", Reason: reason}
	switch {
	case cause != nil:
		e.Status = cause.Error()
	case reason == "":
		e.Status = "the connection was given up: the plugin did not answer, or wanted to end it"
	}
	return e
}

// leave lets the flows of a dialled plugin come to rest, and hangs up. The plugin lives on: neither is it drained, for it has other hosts,
// nor ended.
func (in *instance) leave(ctx context.Context) error {
	resting, cancel := context.WithTimeout(ctx, in.settings.DrainTimeout)
	defer cancel()
	idle := make(chan struct{})
	in.flows.whenIdle(func() { close(idle) })
	select {
	case <-idle:
	case <-in.process.exited:
	case <-resting.Done():
	}
	err := error(nil)
	if flows := in.flows.count(); flows > 0 && !in.process.hasEnded() {
		err = fmt.Errorf("drain plugin %s: %d flows still ran after %s", in.Name, flows, in.settings.DrainTimeout)
	}
	return errors.Join(err, in.end("the host takes its leave"))
}
