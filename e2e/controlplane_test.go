//go:build linux

package e2e_test

import (
	"encoding/json"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
)

// controlPlane records the callbacks of a data plane.
type controlPlane struct {
	address string
	url     string

	stop    func()
	mumbles atomic.Bool // it takes callbacks and hangs up, so that they come again

	mu        sync.Mutex
	callbacks []callback
}

// callback is what a data plane has told its control plane.
type callback struct {
	Flow  string
	Kind  string
	State string `json:"state"`
	Error string `json:"error"`

	MessageID  string `json:"messageId"`
	DataFlowID string `json:"dataFlowId"`

	DataAddress *dataAddress `json:"dataAddress"`
}

// newControlPlane returns one that listens.
func newControlPlane(t testing.TB) *controlPlane {
	t.Helper()
	c := &controlPlane{address: freeAddress(t)}
	c.url = "http://" + c.address
	c.start(t)
	return c
}

// start lets the control plane listen, until stop is called.
func (c *controlPlane) start(t testing.TB) {
	t.Helper()
	l, err := net.Listen("tcp", c.address)
	if err != nil {
		t.Fatal(err)
	}
	mux := http.NewServeMux()
	mux.HandleFunc("POST /transfers/{id}/dataflow/{kind}", c.take)
	server := &http.Server{Handler: mux}
	go server.Serve(l)
	c.stop = func() { server.Close() }
	t.Cleanup(c.stop)
}

func (c *controlPlane) take(w http.ResponseWriter, r *http.Request) {
	said := callback{Flow: r.PathValue("id"), Kind: r.PathValue("kind")}
	if err := json.NewDecoder(r.Body).Decode(&said); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	again := slices.ContainsFunc(c.callbacks, func(b callback) bool { return b.MessageID == said.MessageID })
	if !again { // they come at least once
		c.callbacks = append(c.callbacks, said)
	}
	if c.mumbles.Load() {
		panic(http.ErrAbortHandler)
	}
}

// about returns the callbacks about a flow in the order in which they came, each once.
func (c *controlPlane) about(flow string) []callback {
	c.mu.Lock()
	defer c.mu.Unlock()
	var all []callback
	for _, said := range c.callbacks {
		if said.Flow == flow {
			all = append(all, said)
		}
	}
	return all
}

// expect waits for as many callbacks about a flow as kinds are given, and checks that they are of these kinds, in this order.
func (c *controlPlane) expect(t testing.TB, flow string, kinds ...string) []callback {
	t.Helper()
	var all []callback
	eventually(t, "callbacks about "+flow+": "+strings.Join(kinds, ", "), func() bool {
		all = c.about(flow)
		return len(all) >= len(kinds)
	})
	var came []string
	for _, said := range all {
		came = append(came, said.Kind)
	}
	if !slices.Equal(came, kinds) {
		t.Fatalf("callbacks about %s are %v, not %v", flow, all, kinds)
	}
	return all
}
