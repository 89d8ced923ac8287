//go:build linux

package e2e_test

import (
	"context"
	"io"
	"math"
	"net/http"
	"strings"
	"sync"
	"testing"
)

const fairConfiguration = `
dataset "endless" {
  source "Generate" {}
}

dataset "some" {
  source "Generate" {
    size = "2MiB"
  }
}

limits {
  host {
    bytes = "3MiB"
  }
}
`

// movement is what the admin API shows of how a flow moves.
type movement struct {
	Bytes, Copied  int64
	Served         int64
	Condition      string
	WaitsFor       string
	Limit          string
	BlockedSeconds map[string]float64
}

func (h *host) movement(id string) movement {
	h.t.Helper()
	var f struct{ Movement movement }
	h.ask("/api/v1/flows/"+id, &f)
	return f.Movement
}

// startFor starts a flow of a counterparty.
func (h *host) startFor(counterparty, id, profile, dataset string, address *dataAddress) answer {
	h.t.Helper()
	m := creation(id, profile, dataset, address)
	m["counterPartyId"] = "did:web:" + counterparty + ".example"
	return h.signal("start", m)
}

// shares waits until some bytes more have moved, and returns which part of them each flow had.
func (h *host) shares(bytes int64, ids ...string) map[string]float64 {
	h.t.Helper()
	read := func() (all map[string]int64, sum int64) {
		all = map[string]int64{}
		for _, id := range ids {
			m := h.movement(id)
			all[id] = m.Bytes + m.Served
			sum += all[id]
		}
		return all, sum
	}
	before, from := read()
	after, to := before, from
	eventually(h.t, "more bytes have moved", func() bool {
		after, to = read()
		return to-from >= bytes
	})
	shares := map[string]float64{}
	for _, id := range ids {
		shares[id] = float64(after[id]-before[id]) / float64(to-from)
	}
	return shares
}

func expectShares(t *testing.T, got, want map[string]float64) {
	t.Helper()
	for id, share := range want {
		if math.Abs(got[id]-share) > 0.1 {
			t.Errorf("%s had a share of %.2f, not about %.2f", id, got[id], share)
		}
	}
}

// Two counterparties share what the host may move, in transfers as in what they fetch themselves: one with two flows has no more of it
// than one with a single flow, unless an operator gives it more weight. What is changed holds at once, and outlives the host.
func TestCounterpartiesShareTheHost(t *testing.T) {
	t.Parallel()
	h := newHost(t, "provider", fairConfiguration)
	h.start()
	receiver := newReceiver(t)
	many := []string{"many-1", "many-2"}
	for _, id := range many {
		h.startFor("many", id, "http-push", "endless", newAddress(receiver.url+"/"+id))
	}
	fetched := h.startFor("one", "one", "http-pull", "endless", nil)
	var fetching sync.WaitGroup
	ctx, stop := context.WithCancel(t.Context())
	defer fetching.Wait()
	defer stop()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, fetched.DataAddress.Endpoint, nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+fetched.DataAddress.token())
	fetching.Go(func() {
		if res, err := http.DefaultClient.Do(req); err == nil {
			io.Copy(io.Discard, res.Body)
			res.Body.Close()
		}
	})
	all := append(many, "one")
	eventually(t, "all flows move", func() bool {
		for _, id := range all {
			if m := h.movement(id); m.Bytes+m.Served < mib {
				return false
			}
		}
		return true
	})
	expectShares(t, h.shares(9*mib, all...), map[string]float64{"many-1": 0.25, "many-2": 0.25, "one": 0.5})

	h.operate(0, "limits", "set", "counterparty=did:web:many.example", "-weight", "4")
	h.operate(0, "limits", "set", "flow=many-2", "-weight", "3")
	expectShares(t, h.shares(9*mib, all...), map[string]float64{"many-1": 0.2, "many-2": 0.6, "one": 0.2})
	if m := h.movement("many-1"); m.BlockedSeconds["limit"] < m.BlockedSeconds["source"]+m.BlockedSeconds["sink"] {
		t.Errorf("it has waited for %v", m.BlockedSeconds)
	}
	if out := h.operate(0, "flows", "show", "one"); !strings.Contains(out, "has waited for") || !strings.Contains(out, "limit ") {
		t.Errorf("flows show:\n%s", out)
	}

	// A narrower limit leaves the rest to the others.
	h.operate(0, "limits", "set", "flow=one", "-bytes", "300KiB")
	h.shares(2*mib, all...)
	expectShares(t, h.shares(9*mib, all...), map[string]float64{"many-1": 0.225, "many-2": 0.675, "one": 0.1})

	h.kill()
	h.start()
	if out := h.operate(0, "limits", "list"); !strings.Contains(out, "300KiB") || !strings.Contains(out, "did:web:many.example") {
		t.Errorf("after a restart there are the limits\n%s", out)
	}
	h.operate(0, "limits", "set", "host", "-bytes", "none")
	// More than the limit would let pass in the time that there is.
	h.shares(600*mib, many...)
	for _, id := range all {
		h.signal(id+"/terminate", message{"messageId": newID(), "reason": "done"})
	}
	eventually(t, "the limits of the flows have gone with them, and no others", func() bool {
		out := h.operate(0, "limits", "list")
		return !strings.Contains(out, "many-2") && !strings.Contains(out, "300KiB") && strings.Contains(out, "did:web:many.example")
	})
}

// Transfers for which there is no place wait in a queue that everyone can see, through a restart, until they are stopped or have their
// turn.
func TestQueue(t *testing.T) {
	t.Parallel()
	h := newHost(t, "provider", fairConfiguration)
	h.start()
	receiver := newReceiver(t)
	h.operate(0, "limits", "set", "host", "-transfers", "1", "-bytes", "none")
	start := func(counterparty, id, dataset string) {
		if a := h.startFor(counterparty, id, "http-push", dataset, newAddress(receiver.url+"/"+id)); a.State != "STARTED" {
			t.Errorf("%s is %s", id, a.State)
		}
	}
	start("many", "runs", "endless")
	eventually(t, "the first moves", func() bool { return h.movement("runs").Bytes > 0 })
	for _, id := range []string{"a", "b", "c"} {
		start("many", id, "some")
	}
	start("one", "d", "some")
	const full = ": 1 transfers of the host run"
	expect := func(when string, want map[string]string) {
		t.Helper()
		for id, place := range want {
			eventually(t, when+": "+id+" is at "+place, func() bool { return h.flow(id).Waiting == place })
		}
	}
	places := map[string]string{"runs": "", "d": "queued, place 1 of 4" + full, "a": "queued, place 2 of 4" + full,
		"b": "queued, place 3 of 4" + full, "c": "queued, place 4 of 4" + full}
	expect("at first", places)
	if out := h.operate(0, "flows", "list"); strings.Count(out, "queued, place") != 4 {
		t.Errorf("flows list:\n%s", out)
	}
	if out := h.operate(0, "limits", "list"); !strings.Contains(out, "file, set  1        4") {
		t.Errorf("limits list:\n%s", out)
	}
	_, status, err := fetch(h.signaling+"/dataflows/b/status", "")
	if err != nil || !strings.Contains(status, `"STARTED"`) || !strings.Contains(status, `"reason":"queued, place 3 of 4`) {
		t.Errorf("the control plane is told %s %v", status, err)
	}
	if m := h.movement("b"); m.WaitsFor != "queue" || m.Bytes != 0 {
		t.Errorf("%+v", m)
	}

	h.kill()
	h.start()
	// Everybody comes anew, so that nobody knows who had how many turns; but who ran before runs again.
	expect("after a restart", map[string]string{"runs": "", "b": "queued, place 3 of 4" + full, "c": "queued, place 4 of 4" + full})

	h.signal("b/suspend", message{"messageId": newID(), "reason": "lunch"})
	expect("without one that was suspended", map[string]string{"b": "", "c": "queued, place 3 of 3" + full})
	h.signal("runs/terminate", message{"messageId": newID(), "reason": "enough"})
	for _, id := range []string{"d", "a", "c"} {
		h.controlPlane.expect(t, id, "completed")
	}
	if n := h.movement("b").Bytes; n != 0 {
		t.Errorf("a suspended flow has moved %d bytes", n)
	}
	h.signal("b/resume", message{"messageId": newID()})
	h.controlPlane.expect(t, "b", "completed")
}
