//go:build linux

package e2e_test

import (
	"fmt"
	"math/rand/v2"
	"net/http"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
)

// later is a profile whose starts are answered before their work is done.
const later = endless + `
profile "later-pull" {
  type       = "HttpData"
  allow_http = true
  mode       = "async"
}
`

// A host is killed while many flows are set up, and some of them terminated. Afterwards the others become STARTED, of which the control
// plane hears once, with a token that works; repeated messages get the answers they had; and of those that it has terminated it hears
// nothing more.
func TestKillWhileManyAreSetUp(t *testing.T) {
	t.Parallel()
	for seed := range uint64(4) {
		t.Run(fmt.Sprintf("seed %d", seed), func(t *testing.T) {
			t.Parallel()
			h := newHost(t, "provider", later)
			h.start()
			flows := setUpMany(h, int64(5+rand.New(rand.NewPCG(seed, 3)).IntN(200)))
			for _, f := range flows {
				f.heard = len(h.controlPlane.about(f.id))
			}
			h.start()
			for _, f := range flows {
				f.check(t, h)
			}
		})
	}
}

// underwayFlow is a flow that is started, and perhaps terminated at once.
type underwayFlow struct {
	id              string
	start, end      message // nil if it was not sent
	started, killed string  // the answers; "" if there was none
	heard           int     // callbacks before the kill
}

// setUpMany starts many flows at once, kills the host when so many signals are answered, and returns the flows.
func setUpMany(h *host, signals int64) []*underwayFlow {
	var (
		answered atomic.Int64
		senders  sync.WaitGroup
		mu       sync.Mutex
		flows    []*underwayFlow
	)
	send := func(path string, m message, code int) (text string, ok bool) {
		a, err := h.try(path, m)
		if err != nil {
			return "", false
		}
		if a.code != code {
			h.t.Errorf("%s: %d %s", path, a.code, a.text)
			return "", false
		}
		answered.Add(1)
		return a.text, true
	}
	for sender := range 12 {
		senders.Go(func() {
			for n, ok := 0, true; ok; n++ {
				f := &underwayFlow{id: fmt.Sprintf("flow-%02d-%03d", sender, n)}
				mu.Lock()
				flows = append(flows, f)
				mu.Unlock()
				f.start = creation(f.id, "later-pull", "endless", nil)
				if f.started, ok = send("start", f.start, http.StatusAccepted); ok && n%3 == 0 {
					f.end = message{"messageId": newID()}
					f.killed, ok = send(f.id+"/terminate", f.end, http.StatusOK)
				}
			}
		})
	}
	eventually(h.t, fmt.Sprint(signals, " signals are answered"), func() bool { return answered.Load() >= signals })
	h.process.signal(syscall.SIGKILL)
	senders.Wait()
	<-h.process.exited
	return flows
}

// check compares what the host knows of the flow with what it has answered. What it has not answered is sent again, as a control plane
// does.
func (f *underwayFlow) check(t *testing.T, h *host) {
	t.Helper()
	if f.end != nil && f.killed != "" {
		h.expectState(f.id, "TERMINATED")
	}
	again, err := h.try("start", f.start)
	if err != nil || again.code != http.StatusAccepted || again.State != "STARTING" || f.started != "" && again.text != f.started {
		t.Errorf("start of %s was answered %q, and again %d %q, %v", f.id, f.started, again.code, again.text, err)
	}
	if f.end != nil {
		if a := h.signal(f.id+"/terminate", f.end); f.killed != "" && a.text != f.killed {
			t.Errorf("terminate of %s was answered %q, and again %q", f.id, f.killed, a.text)
		}
		h.expectState(f.id, "TERMINATED")
		if f.killed != "" && len(h.controlPlane.about(f.id)) != f.heard {
			t.Errorf("%s was terminated, and then the control plane has heard %+v", f.id, h.controlPlane.about(f.id))
		}
		return
	}
	said := h.controlPlane.expect(t, f.id, "started")
	h.expectState(f.id, "STARTED")
	address := said[0].DataAddress
	if address == nil {
		t.Fatalf("callback about %s: %+v", f.id, said[0])
	}
	if code, _, err := request(http.MethodHead, address.Endpoint, address.token(), ""); err != nil || code != http.StatusOK {
		t.Errorf("the token of %s: %d %v", f.id, code, err)
	}
}
