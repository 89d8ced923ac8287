package signaling

import (
	"context"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/towpath-dataplane/towpath/host/flow"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// watched is an outbox that tells what was settled.
type watched struct {
	flow.Outbox
	settled chan flow.Callback
}

func (w watched) Settle(ctx context.Context, c flow.Callback) error {
	err := w.Outbox.Settle(ctx, c)
	w.settled <- c
	return err
}

// overSockets is an office whose control plane "a" is at a URL, and the outcomes of its attempts.
func overSockets(t *testing.T, endpoint string, client *http.Client) (*office, <-chan flow.Callback) {
	o := newOffice(t)
	settled := make(chan flow.Callback, 1000)
	o.Outbox = watched{o.store, settled}
	o.client = client
	o.planes = map[string]ControlPlane{"a": {Endpoint: endpoint, Timeout: time.Minute}}
	return o, settled
}

func TestRedirectIsNotFollowed(t *testing.T) {
	var elsewhere atomic.Int64
	other := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { elsewhere.Add(1) }))
	defer other.Close()
	for _, code := range []int{301, 302, 303, 307, 308} {
		server := httptest.NewServer(http.RedirectHandler(other.URL+"/steal?x=y", code))
		o, settled := overSockets(t, server.URL, nil)
		o.enqueue("f", "a", completed("m"))
		o.open()
		c := <-settled
		o.stop()
		server.Close()
		if want := fmt.Sprintf(" to %s; redirects", other.URL); c.Status != flow.CallbackPending || !strings.Contains(c.LastErr, want) {
			t.Errorf("%d: %s, %q", code, c.Status, c.LastErr)
		}
	}
	if n := elsewhere.Load(); n != 0 {
		t.Errorf("%d callbacks went elsewhere", n)
	}
}

func TestConnectionErrors(t *testing.T) {
	silent, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	gone := silent.Addr().String()
	silent.Close()
	secure := httptest.NewUnstartedServer(http.NotFoundHandler())
	secure.Config.ErrorLog = log.New(io.Discard, "", 0) // of refused handshakes
	secure.StartTLS()
	defer secure.Close()
	cut := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }))
	defer cut.Close()
	for name, tt := range map[string]struct{ endpoint, want string }{
		"nothing listens":     {"http://" + gone, "connection refused"},
		"unknown certificate": {secure.URL, "certificate"},
		"connection cut":      {cut.URL, "EOF"},
	} {
		t.Run(name, func(t *testing.T) {
			o, settled := overSockets(t, tt.endpoint, nil)
			o.enqueue("f", "a", completed("m"))
			o.open()
			defer o.stop()
			c := <-settled
			if c.Status != flow.CallbackPending || !strings.Contains(c.LastErr, tt.want) || strings.Contains(c.LastErr, "/transfers/") {
				t.Errorf("%s, %q", c.Status, c.LastErr)
			}
		})
	}
}

// An answer without an end is not read to its end.
func TestEndlessAnswer(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.WriteHeader(http.StatusBadRequest)
		for r.Context().Err() == nil {
			if _, err := io.WriteString(w, strings.Repeat("no ", 1000)); err != nil {
				return
			}
		}
	}))
	defer server.Close()
	o, settled := overSockets(t, server.URL, nil)
	o.enqueue("f", "a", completed("m"))
	o.open()
	defer o.stop()
	if c := <-settled; c.Status != flow.CallbackFailed || len(c.LastErr) > 250 {
		t.Errorf("%s, %d bytes: %q", c.Status, len(c.LastErr), c.LastErr)
	}
}

func TestManyFlowsOverTLS(t *testing.T) {
	var (
		mu   sync.Mutex
		seen = map[string]string{}
	)
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil || r.Header.Get("Content-Type") != "application/json" || r.Method != http.MethodPost {
			http.Error(w, "not a callback", http.StatusBadRequest)
			return
		}
		mu.Lock()
		defer mu.Unlock()
		seen[r.URL.EscapedPath()] += string(body)
	}))
	server.Config.ErrorLog = log.New(io.Discard, "", 0) // of connections that were not needed
	server.StartTLS()
	defer server.Close()
	o, settled := overSockets(t, server.URL, server.Client())
	o.open()
	defer o.stop()
	const flows = 200
	for i := range flows {
		o.enqueue(fmt.Sprintf("f/%d", i), "a", completed("m"))
	}
	for range flows {
		if c := <-settled; c.Status != flow.CallbackDelivered {
			t.Errorf("%s: %s, %q", c.Key, c.Status, c.LastErr)
		}
	}
	mu.Lock()
	defer mu.Unlock()
	for i := range flows {
		want := fmt.Sprintf(`{"messageId":"m","dataFlowId":"f/%d","state":"COMPLETED"}`+"\n", i)
		if got := seen[fmt.Sprintf("/transfers/f%%2F%d/dataflow/completed", i)]; got != want {
			t.Errorf("flow %d: %q", i, got)
		}
	}
}

func TestStopBreaksOffRealAttempts(t *testing.T) {
	arrived := make(chan struct{}, 1)
	server := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		io.Copy(io.Discard, r.Body)
		arrived <- struct{}{}
		<-r.Context().Done()
	}))
	defer server.Close()
	o, _ := overSockets(t, server.URL, nil)
	o.planes["a"] = ControlPlane{Endpoint: server.URL, Timeout: time.Hour}
	o.enqueue("f", "a", completed("m"))
	o.furnish()
	defer o.ControlPlanes.Close()
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error)
	go func() { done <- o.Run(ctx) }()
	<-arrived
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
	if c := o.stored("f")[0]; c.Status != flow.CallbackPending || c.Attempts != 0 {
		t.Errorf("stored %+v", c)
	}
}
