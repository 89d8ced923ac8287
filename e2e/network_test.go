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
// runs, it can be cut, and it counts what passes.
type network struct {
	address string
	to      string
	rate    atomic.Int64 // bytes per second in each direction of a connection; 0: as fast as it goes
	passed  atomic.Int64 // bytes, both directions
	refuses atomic.Bool  // new connections are reset
	ended   chan struct{}
	work    sync.WaitGroup

	mu      sync.Mutex // guards what follows
	open    map[*connection]bool
	stalled chan struct{} // closed when bytes pass again; nil if they do
}

// connection is one that passes the network: from the counterparty to the data plane.
type connection struct {
	from, to       *net.TCPConn
	ends, endsBack atomic.Bool // one direction ends where it is, towards the data plane or back
}

// newNetwork returns one whose address leads to another one.
func newNetwork(t testing.TB, to string) *network {
	t.Helper()
	l, err := net.Listen("tcp", freeAddress(t))
	if err != nil {
		t.Fatal(err)
	}
	n := &network{address: l.Addr().String(), to: to, ended: make(chan struct{}), open: map[*connection]bool{}}
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
	if err != nil || n.refuses.Load() {
		if err == nil {
			dialled.Close()
		}
		a.SetLinger(0)
		return
	}
	b := dialled.(*net.TCPConn)
	defer b.Close()
	c := &connection{from: a, to: b}
	n.note(c, true)
	defer n.note(c, false)
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
	both.Go(func() { n.copy(a, b, &c.endsBack) })
	both.Go(func() { n.copy(b, a, &c.ends) })
	both.Wait()
}

func (n *network) copy(to, from *net.TCPConn, ends *atomic.Bool) {
	const piece = 16 << 10
	to.SetWriteBuffer(64 << 10)
	from.SetReadBuffer(64 << 10)
	buf := make([]byte, piece)
	for {
		count, err := from.Read(buf)
		n.pace(count)
		n.awaitFlow()
		if ends.Load() {
			to.CloseWrite()
			from.SetReadDeadline(time.Time{})
			io.Copy(io.Discard, from)
			return
		}
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

func (n *network) note(c *connection, open bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if open {
		n.open[c] = true
		return
	}
	delete(n.open, c)
}

// each calls do for the connections that are open.
func (n *network) each(do func(c *connection)) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for c := range n.open {
		do(c)
	}
}

// reset breaks the connections, so that both sides see a reset.
func (n *network) reset() {
	n.each(func(c *connection) {
		for _, end := range []*net.TCPConn{c.from, c.to} {
			end.SetLinger(0)
			end.Close()
		}
	})
}

// halfClose ends one direction of the connections in good order, in the middle of whatever passes. What else is sent there is lost,
// and the other direction stays.
func (n *network) halfClose(towardsDataPlane bool) {
	n.each(func(c *connection) {
		from, ends := c.to, &c.endsBack
		if towardsDataPlane {
			from, ends = c.from, &c.ends
		}
		ends.Store(true)
		from.SetReadDeadline(time.Unix(1, 0))
	})
}

// stall keeps all bytes from passing, until flow is called.
func (n *network) stall() {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.stalled == nil {
		n.stalled = make(chan struct{})
	}
}

// flow lets bytes pass again.
func (n *network) flow() {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.stalled != nil {
		close(n.stalled)
		n.stalled = nil
	}
}

func (n *network) awaitFlow() {
	n.mu.Lock()
	stalled := n.stalled
	n.mu.Unlock()
	if stalled == nil {
		return
	}
	select {
	case <-stalled:
	case <-n.ended:
	}
}
