//go:build linux

package e2e_test

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
)

// receiver is a counterparty that takes whatever is sent, for as long as it is sent.
type receiver struct {
	url string

	mu   sync.Mutex
	open map[string]int // requests by path
}

func newReceiver(t testing.TB) *receiver {
	t.Helper()
	r := &receiver{open: map[string]int{}}
	r.url = serve(t, r.take)
	return r
}

func (r *receiver) take(w http.ResponseWriter, req *http.Request) {
	r.count(req.URL.Path, 1)
	defer r.count(req.URL.Path, -1)
	io.Copy(io.Discard, req.Body)
}

func (r *receiver) count(path string, n int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.open[path[1:]] += n; r.open[path[1:]] == 0 {
		delete(r.open, path[1:])
	}
}

// running lists the flows that are being received.
func (r *receiver) running() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	var ids []string
	for id := range r.open {
		ids = append(ids, id)
	}
	slices.Sort(ids)
	return ids
}

// newResettingReceiver accepts connections, reads a little and resets them.
func newResettingReceiver(t testing.TB) (url string, connections *atomic.Int64) {
	t.Helper()
	l, err := net.Listen("tcp", freeAddress(t))
	if err != nil {
		t.Fatal(err)
	}
	connections = new(atomic.Int64)
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			connections.Add(1)
			fmt.Fprint(c, "HTTP/1.1 100 Continue\r\n\r\n")
			io.CopyN(io.Discard, c, 64<<10)
			c.(*net.TCPConn).SetLinger(0)
			c.Close()
		}
	}()
	t.Cleanup(func() { l.Close() })
	return "http://" + l.Addr().String() + "/", connections
}
