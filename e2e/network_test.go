//go:build linux

package e2e_test

import (
	"io"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// network is what lies between a data plane and its counterparties. It can be slow, so that a test can do something while a transfer
// runs, and it counts what passes.
type network struct {
	address string
	to      string
	rate    atomic.Int64 // bytes per second in each direction of a connection; 0: as fast as it goes
	passed  atomic.Int64 // bytes, both directions
	ended   chan struct{}
	work    sync.WaitGroup

	mu    sync.Mutex // guards what follows
	conns map[*net.TCPConn]bool
}

// newNetwork returns one whose address leads to another one.
func newNetwork(t testing.TB, to string) *network {
	t.Helper()
	l, err := net.Listen("tcp", freeAddress(t))
	if err != nil {
		t.Fatal(err)
	}
	n := &network{address: l.Addr().String(), to: to, ended: make(chan struct{}), conns: map[*net.TCPConn]bool{}}
	n.work.Go(func() { n.serve(l) })
	t.Cleanup(func() {
		close(n.ended)
		l.Close()
		n.work.Wait()
	})
	return n
}

func (n *network) serve(l net.Listener) {
	for {
		from, err := l.Accept()
		if err != nil {
			return
		}
		n.work.Go(func() { n.connect(from.(*net.TCPConn)) })
	}
}

// connect joins a connection with one to the other side. What ends on one side ends on the other, and in the same way: an end in
// good order is one there, a reset is a reset.
func (n *network) connect(a *net.TCPConn) {
	defer a.Close()
	dialled, err := net.Dial("tcp", n.to)
	if err != nil {
		a.SetLinger(0)
		return
	}
	b := dialled.(*net.TCPConn)
	defer b.Close()
	defer n.track(a, b)()
	done := make(chan struct{})
	defer close(done)
	n.work.Go(func() {
		select {
		case <-n.ended:
			a.Close()
			b.Close()
		case <-done:
		}
	})
	var both sync.WaitGroup
	both.Go(func() { n.copy(a, b) })
	both.Go(func() { n.copy(b, a) })
	both.Wait()
}

// track has a connection's two halves cut with the others, until it ends.
func (n *network) track(halves ...*net.TCPConn) (end func()) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, c := range halves {
		n.conns[c] = true
	}
	return func() {
		n.mu.Lock()
		defer n.mu.Unlock()
		for _, c := range halves {
			delete(n.conns, c)
		}
	}
}

// cut breaks all connections, as a router that is switched off and on does.
func (n *network) cut() {
	n.mu.Lock()
	defer n.mu.Unlock()
	for c := range n.conns {
		c.SetLinger(0)
		c.Close()
	}
}

func (n *network) copy(to, from *net.TCPConn) {
	const piece = 16 << 10
	to.SetWriteBuffer(64 << 10)
	from.SetReadBuffer(64 << 10)
	buf := make([]byte, piece)
	for {
		count, err := from.Read(buf)
		n.pace(count)
		if _, failed := to.Write(buf[:count]); failed != nil {
			from.SetLinger(0)
			from.Close()
			return
		}
		n.passed.Add(int64(count))
		switch {
		case err == io.EOF:
			to.CloseWrite()
			return
		case err != nil:
			to.SetLinger(0)
			to.Close()
			return
		}
	}
}

func (n *network) pace(bytes int) {
	if rate := n.rate.Load(); rate > 0 {
		time.Sleep(time.Duration(bytes) * time.Second / time.Duration(rate))
	}
}

// awaitPassed waits until so many more bytes have passed.
func (n *network) awaitPassed(t testing.TB, bytes int64) {
	t.Helper()
	until := n.passed.Load() + bytes
	eventually(t, "bytes pass the network", func() bool { return n.passed.Load() >= until })
}
