//go:build linux

package e2e_test

import (
	"fmt"
	"math/rand/v2"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// endless is a dataset whose flows end only by a signal.
const endless = `
dataset "endless" {
  source "Generate" {
    rate = "64KiB"
  }
}
`

// A host is killed in a storm of signals. Afterwards each signal that it has answered is in force, the one that it was about to
// answer is in force or not there, repeated messages get the answers they had, and what runs is what the states say.
func TestKillInStormOfSignals(t *testing.T) {
	t.Parallel()
	for seed := range uint64(6) {
		t.Run(fmt.Sprintf("seed %d", seed), func(t *testing.T) {
			t.Parallel()
			h := newHost(t, "provider", endless)
			h.start()
			receiver := newReceiver(t)
			flows := rage(h, receiver, int64(5+rand.New(rand.NewPCG(seed, 2)).IntN(250)))
			h.start()
			var running []string
			for _, f := range flows {
				f.check(t, h)
				if f.profile == "http-push" && f.state == "STARTED" {
					running = append(running, f.id)
				}
			}
			slices.Sort(running)
			eventually(t, "exactly the pushes of STARTED flows run", func() bool { return slices.Equal(receiver.running(), running) })
			for _, f := range flows {
				h.signal(f.id+"/terminate", nil)
			}
			eventually(t, "no push runs", func() bool { return len(receiver.running()) == 0 })
		})
	}
}

// rage sends signals about many flows at once, kills the host when so many are answered, and returns the flows when all senders have
// noticed.
func rage(h *host, r *receiver, signals int64) []*stormyFlow {
	var (
		answered atomic.Int64
		senders  sync.WaitGroup
		mu       sync.Mutex
		flows    []*stormyFlow
	)
	for sender := range 12 {
		senders.Go(func() {
			for n := 0; ; n++ {
				f := newStormyFlow(fmt.Sprintf("flow-%02d-%03d", sender, n), r)
				mu.Lock()
				flows = append(flows, f)
				mu.Unlock()
				for f.state != "TERMINATED" {
					if !f.next(h) {
						return
					}
					answered.Add(1)
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

// stormyFlow is a flow that is started, suspended and resumed a few times, and terminated.
type stormyFlow struct {
	id      string
	profile string
	create  message
	sent    []sentSignal // with an answer
	open    *sentSignal  // without
	state   string       // that the last answer told
	address *dataAddress // that the last answer with one told
}

type sentSignal struct {
	path    string
	message message
	state   string // that it leads to
	answer  string
}

// newStormyFlow makes every other flow a push to r.
func newStormyFlow(id string, r *receiver) *stormyFlow {
	f := &stormyFlow{id: id, profile: "http-pull"}
	var address *dataAddress
	if id[len(id)-1]%2 == 0 {
		f.profile, address = "http-push", newAddress(r.url+"/"+id)
	}
	f.create = creation(id, f.profile, "endless", address)
	return f
}

// next sends the next signal. It returns false if that was not taken.
func (f *stormyFlow) next(h *host) bool {
	s := f.following()
	a, err := h.try(s.path, s.message)
	if err != nil {
		f.open = &s
		return false
	}
	if a.code != http.StatusOK {
		h.t.Errorf("%s: %d %s", s.path, a.code, a.text)
		return false
	}
	s.answer = a.text
	f.sent = append(f.sent, s)
	f.learn(a)
	return true
}

func (f *stormyFlow) learn(a answer) {
	f.state = a.State
	if a.DataAddress != nil {
		f.address = a.DataAddress
	}
}

func (f *stormyFlow) following() sentSignal {
	m := message{"messageId": newID()}
	switch {
	case f.state == "":
		return sentSignal{path: "start", message: f.create, state: "STARTED"}
	case len(f.sent) == 6:
		return sentSignal{path: f.id + "/terminate", message: m, state: "TERMINATED"}
	case f.state == "SUSPENDED":
		return sentSignal{path: f.id + "/resume", message: m, state: "STARTED"}
	default:
		return sentSignal{path: f.id + "/suspend", message: m, state: "SUSPENDED"}
	}
}

// check compares what the host knows of the flow with what it has answered.
func (f *stormyFlow) check(t *testing.T, h *host) {
	t.Helper()
	if len(f.sent) > 0 {
		got := h.state(f.id)
		if got != f.state && (f.open == nil || got != f.open.state) {
			t.Errorf("%s is %s; %s was the last answer, the signal without an answer is %+v", f.id, got, f.state, f.open)
		}
	}
	for _, s := range f.sent {
		if a := h.signal(s.path, s.message); a.text != s.answer {
			t.Errorf("%s repeated (-first +second):\n%s", s.path, cmp.Diff(s.answer, a.text))
		}
	}
	if f.open != nil { // it is sent again, as a control plane does
		a := h.signal(f.open.path, f.open.message)
		if a.State != f.open.state {
			t.Errorf("%s repeated: %s", f.open.path, a.text)
		}
		f.learn(a)
	}
	h.expectState(f.id, f.state)
	f.checkToken(t)
}

// checkToken checks that the last token works if, and only if, the flow is STARTED.
func (f *stormyFlow) checkToken(t *testing.T) {
	t.Helper()
	if f.profile != "http-pull" {
		return
	}
	want := http.StatusForbidden
	if f.state == "STARTED" {
		want = http.StatusOK
	}
	code, _, err := request(http.MethodHead, f.address.Endpoint, f.address.token(), "")
	if err != nil || code != want {
		t.Errorf("the token of %s, which is %s: %d %v, not %d", f.id, f.state, code, err, want)
	}
}
