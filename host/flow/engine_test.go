package flow_test

import (
	"context"
	"errors"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/towpath-dataplane/towpath/host/flow"
	"github.com/towpath-dataplane/towpath/sdk"
)

var bg = context.Background()

func must(t *testing.T) func(flow.Status, error) flow.Status {
	return func(s flow.Status, err error) flow.Status {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
}

func wantRefused(t *testing.T, err error) {
	t.Helper()
	if !errors.As(err, new(*flow.StateError)) {
		t.Errorf("got %v, want a StateError", err)
	}
}

func TestProviderPushRunsToItsEnd(t *testing.T) {
	w := newWorld(t)
	s := must(t)(w.Start(bg, create("f", "push")))
	if s.State != flow.Started || s.DataAddress != nil {
		t.Errorf("start answered %+v", s)
	}
	tr := w.transfer("f")
	parts := []flow.Part{{Index: 0, Name: "a", Size: 3, Digests: sdk.Digests{sdk.CRC32C: {1, 2, 3, 4}}}}
	if err := tr.progress.Checkpoint(bg, flow.Checkpoint{Source: []byte("s"), Sink: []byte("t")}, sdk.Totals{Parts: 1, Bytes: 3}, parts); err != nil {
		t.Fatal(err)
	}
	tr.end <- nil
	w.eventually("completed", func() bool { return w.flow("f").State == flow.Completed })
	if diff := cmp.Diff([]string{"completed COMPLETED pending"}, w.callbacks("f")); diff != "" {
		t.Error(diff)
	}
	w.eventually("the sink released", func() bool { return w.sinks.all() == "There:f" && !w.flow("f").Leftover })
	f := w.flow("f")
	if f.Totals != (sdk.Totals{Parts: 1, Bytes: 3}) || string(f.Digest) != string(flow.Sum(nil, parts[0])) {
		t.Errorf("totals %+v, digest %x", f.Totals, f.Digest)
	}
}

func TestFailedTransferIsReportedOnceAndMovesNothing(t *testing.T) {
	w := newWorld(t)
	must(t)(w.Start(bg, create("f", "push")))
	w.transfer("f").end <- sdk.Errorf(sdk.Denied, "the receiver says no")
	w.eventually("fault", func() bool { return w.flow("f").Fault != "" })
	w.wantState("f", flow.Started)
	if got := w.flow("f").Fault; got != "the receiver says no" {
		t.Errorf("fault %q", got)
	}
	w.close()

	w.Engine = w.engine() // a restart tries again, and fails in the same way
	if err := w.Revive(bg); err != nil {
		t.Fatal(err)
	}
	w.transfer("f").end <- sdk.Errorf(sdk.Denied, "the receiver says no")
	w.close()
	w.Engine = w.engine()
	if diff := cmp.Diff([]string{"errored STARTED pending"}, w.callbacks("f")); diff != "" {
		t.Error(diff)
	}
}

func TestSuspendStopsAndResumeGoesOn(t *testing.T) {
	w := newWorld(t)
	must(t)(w.Start(bg, create("f", "push")))
	tr := w.transfer("f")
	place := flow.Checkpoint{Source: []byte("s1"), Sink: []byte("t1")}
	if err := tr.progress.Checkpoint(bg, place, sdk.Totals{Bytes: 10}, nil); err != nil {
		t.Fatal(err)
	}
	s := must(t)(w.Suspend(bg, message("f"), "lunch"))
	if s.State != flow.Suspended || w.transfers.get("f") != nil {
		t.Errorf("after suspend: %+v, running %v", s, w.transfers.get("f") != nil)
	}
	<-tr.cut
	if f := w.flow("f"); f.Reason != "lunch" || f.Totals.Bytes != 10 {
		t.Errorf("suspended flow: %+v", f)
	}
	must(t)(w.Suspend(bg, message("f"), "again")) // repeated

	must(t)(w.Resume(bg, message("f"), nil))
	tr = w.transfer("f")
	if tr.flow.Checkpoint == nil || string(tr.flow.Checkpoint.Source) != "s1" || !tr.flow.Redelivery {
		t.Errorf("resumed from %+v, redelivery %v", tr.flow.Checkpoint, tr.flow.Redelivery)
	}
	must(t)(w.Resume(bg, message("f"), nil)) // repeated
	must(t)(w.Terminate(bg, message("f"), "enough"))
	w.wantState("f", flow.Terminated)
	if w.transfers.get("f") != nil {
		t.Error("a transfer runs after terminate")
	}
	w.eventually("the sink released", func() bool { return w.sinks.all() == "There:f" })
	_, err := w.Resume(bg, message("f"), nil)
	wantRefused(t, err)
}

// A suspend that lands between the commit of a resume and its effect would leave data running while the store says SUSPENDED.
func TestNothingRunsWhileSuspended(t *testing.T) {
	w := newWorld(t)
	must(t)(w.Start(bg, create("f", "push")))
	for range 300 {
		suspend, resume := message("f"), message("f")
		var wg sync.WaitGroup
		wg.Go(func() { w.Suspend(bg, suspend, "") })
		wg.Go(func() { w.Resume(bg, resume, nil) })
		wg.Wait()
		if w.flow("f").State == flow.Suspended {
			if w.transfers.get("f") != nil {
				t.Fatal("a transfer runs while the flow is SUSPENDED")
			}
			must(t)(w.Resume(bg, message("f"), nil))
		}
	}
}

func TestPullServesWhileStarted(t *testing.T) {
	w := newWorld(t)
	s := must(t)(w.Start(bg, create("f", "pull")))
	if s.DataAddress == nil || !w.endpoint.works(s.DataAddress) {
		t.Fatalf("start answered %+v", s)
	}
	j, err := w.Join(bg, key("f"))
	if err != nil {
		t.Fatal(err)
	}
	returned := make(chan struct{})
	suspend := message("f")
	go func() {
		defer close(returned)
		must(t)(w.Suspend(bg, suspend, ""))
	}()
	<-j.Context.Done()
	if w.endpoint.works(s.DataAddress) {
		t.Error("the token works while the flow is cut")
	}
	select {
	case <-returned:
		t.Error("suspend returned before the request had left")
	default:
	}
	j.Leave()
	<-returned
	_, err = w.Join(bg, key("f"))
	wantRefused(t, err)

	again := must(t)(w.Resume(bg, message("f"), s.DataAddress)) // EDC gives the provider's own address back
	if again.DataAddress == nil || w.endpoint.works(s.DataAddress) || !w.endpoint.works(again.DataAddress) {
		t.Errorf("resume answered %+v", again)
	}
	if j, err = w.Join(bg, key("f")); err != nil {
		t.Fatal(err)
	}
	if err := w.Record(bg, key("f"), flow.Part{Name: "a", Size: 5}, flow.Part{Name: "a", Size: 5}); err != nil {
		t.Fatal(err)
	}
	j.Leave()
	must(t)(w.Completed(bg, message("f")))
	must(t)(w.Completed(bg, message("f")))
	if f := w.flow("f"); f.Totals.Parts != 1 || f.Totals.Bytes != 5 || w.endpoint.works(again.DataAddress) {
		t.Errorf("completed flow: %+v", f.Totals)
	}
	_, err = w.Terminate(bg, message("f"), "")
	wantRefused(t, err)
}

func TestConsumerPushTakesDataFromPrepareOn(t *testing.T) {
	w := newWorld(t)
	c := create("f", "push")
	c.DataAddress = nil
	s := must(t)(w.Prepare(bg, c))
	if s.State != flow.Prepared || s.DataAddress == nil {
		t.Fatalf("prepare answered %+v", s)
	}
	again := c
	again.Message = message("f")
	if r := must(t)(w.Prepare(bg, again)); !w.endpoint.works(r.DataAddress) || r.DataAddress.Properties["authorization"] != s.DataAddress.Properties["authorization"] {
		t.Errorf("the same prepare under a new message id answered %+v", r)
	}
	again.Message, again.AgreementID = message("f"), "another"
	_, err := w.Prepare(bg, again)
	wantRefused(t, err)

	j, err := w.Join(bg, key("f"))
	if err != nil {
		t.Fatal(err)
	}
	j.Leave()
	_, err = w.Suspend(bg, message("f"), "")
	wantRefused(t, err)
	must(t)(w.Started(bg, message("f"), nil))
	must(t)(w.Started(bg, message("f"), nil))
	if w.transfers.starts("f") != 0 {
		t.Error("a transfer was started for a flow that serves an endpoint")
	}
	first, err1 := w.NextIndex(bg, key("f"))
	second, err2 := w.NextIndex(bg, key("f"))
	if err1 != nil || err2 != nil || first == second {
		t.Errorf("indices %d (%v), %d (%v)", first, err1, second, err2)
	}
	if err := w.Record(bg, key("f"), flow.Part{Name: "a", Size: 1}); err != nil {
		t.Fatal(err)
	}
	if p, ok, err := w.Part(bg, key("f"), "a"); err != nil || !ok || p.Size != 1 {
		t.Errorf("part %+v, %v, %v", p, ok, err)
	}
	missing := errors.New("missing")
	if err := w.Seal(bg, key("f"), func([]flow.Part) error { return missing }); !errors.Is(err, missing) {
		t.Errorf("seal: %v", err)
	}
	if err := w.Record(bg, key("f"), flow.Part{Name: "b"}); err != nil {
		t.Errorf("record after a manifest that did not fit: %v", err)
	}
	if err := w.Seal(bg, key("f"), func(parts []flow.Part) error {
		if len(parts) != 2 {
			t.Errorf("%d parts", len(parts))
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	wantRefused(t, w.Record(bg, key("f"), flow.Part{Name: "c"}))
	must(t)(w.Completed(bg, message("f")))
	w.eventually("the sink released", func() bool { return w.sinks.all() == "Here:f" })
}

func TestConsumerPull(t *testing.T) {
	w := newWorld(t)
	s := must(t)(w.Prepare(bg, create("f", "strict/pull")))
	if s.DataAddress != nil {
		t.Errorf("prepare for pull answered an address")
	}
	var invalid *flow.RequestError
	if _, err := w.Started(bg, message("f"), nil); !errors.As(err, &invalid) {
		t.Errorf("started without an address: %v", err)
	}
	for name, a := range map[string]sdk.DataAddress{
		"another endpointType": {Type: "pull", Endpoint: "https://there"},
		"no endpoint":          {Type: "strict/pull"},
		"no URL":               {Type: "strict/pull", Endpoint: "there"},
		"no authType":          {Type: "strict/pull", Endpoint: "https://there", Properties: map[string]string{"authorization": "x"}},
	} {
		if _, err := w.Started(bg, message("f"), &a); !errors.As(err, &invalid) {
			t.Errorf("started with an address that has %s: %v", name, err)
		}
	}
	if _, err := w.Started(bg, message("f"), &sdk.DataAddress{Type: "strict/pull", Endpoint: "https://bad"}); !errors.As(err, &invalid) {
		t.Errorf("started with a bad address: %v", err)
	}
	if _, err := w.Started(bg, message("f"), &sdk.DataAddress{Type: "strict/pull", Endpoint: "http://plain"}); !errors.As(err, &invalid) {
		t.Errorf("started with plain HTTP: %v", err)
	}
	w.wantState("f", flow.Prepared)
	must(t)(w.Started(bg, message("f"), &sdk.DataAddress{Type: "strict/pull", Endpoint: "https://there"}))
	tr := w.transfer("f")
	if a, err := flow.RemoteAddress(catalog{}, tr.flow); err != nil || a.Type != "There" {
		t.Errorf("reads %v, %v", a, err)
	}
	tr.end <- nil
	w.eventually("completed", func() bool { return w.flow("f").State == flow.Completed })

	c := create("g", "pull")
	c.DatasetID = "sinkless"
	must(t)(w.Prepare(bg, c))
	must(t)(w.Started(bg, message("g"), &sdk.DataAddress{Type: "pull", Endpoint: "https://there"}))
	if f := w.flow("g"); f.State != flow.Started || f.Remote == nil || f.Moves() {
		t.Errorf("a pull without a sink keeps the address: %+v", f)
	}
	must(t)(w.Completed(bg, message("g")))
}

func TestRequestsThatAreRefused(t *testing.T) {
	w := newWorld(t)
	for name, c := range map[string]flow.Create{
		"unknown profile":      create("f", "carrier pigeon"),
		"unknown dataset":      with(create("f", "pull"), func(c *flow.Create) { c.DatasetID = "unknown" }),
		"no source":            with(create("f", "pull"), func(c *flow.Create) { c.DatasetID = "sourceless" }),
		"address with pull":    with(create("f", "pull"), func(c *flow.Create) { c.DataAddress = &sdk.DataAddress{Type: "x"} }),
		"no address with push": with(create("f", "push"), func(c *flow.Create) { c.DataAddress = nil }),
		"bad address":          with(create("f", "push"), func(c *flow.Create) { c.DataAddress.Endpoint = "https://bad" }),
	} {
		var invalid *flow.RequestError
		if _, err := w.Start(bg, c); !errors.As(err, &invalid) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := w.Status(bg, flow.Message{Key: key("f"), ControlPlane: "cp"}); !errors.Is(err, flow.ErrNotFound) {
		t.Errorf("a refused start left %v", err)
	}
}

func with(c flow.Create, change func(*flow.Create)) flow.Create { change(&c); return c }

func TestRepeatedMessages(t *testing.T) {
	w := newWorld(t)
	c := create("f", "pull")
	first := must(t)(w.Start(bg, c))
	second := must(t)(w.Start(bg, c))
	if diff := cmp.Diff(first, second); diff != "" {
		t.Error(diff)
	}
	if !w.endpoint.works(first.DataAddress) {
		t.Error("a repeated start has made the first answer's token useless")
	}
	other := c
	other.Body = []byte("something else")
	if _, err := w.Start(bg, other); !errors.Is(err, flow.ErrMessageReused) {
		t.Errorf("reused message id: %v", err)
	}
	if _, err := w.Suspend(bg, c.Message, ""); !errors.Is(err, flow.ErrMessageReused) {
		t.Errorf("message id of a start used for suspend: %v", err)
	}
	again := c
	again.Message = message("f")
	_, err := w.Start(bg, again)
	wantRefused(t, err)

	resume := message("f")
	_, err = w.Resume(bg, resume, nil)
	wantRefused(t, err)
	must(t)(w.Suspend(bg, message("f"), ""))
	_, err = w.Resume(bg, resume, nil) // the refused message again, in a state that would take it
	wantRefused(t, err)
	w.wantState("f", flow.Suspended)
}

func TestFlowsOfAnotherControlPlaneDoNotExist(t *testing.T) {
	w := newWorld(t)
	must(t)(w.Start(bg, create("f", "pull")))
	m := message("f")
	m.ControlPlane = "stranger"
	if _, err := w.Terminate(bg, m, ""); !errors.Is(err, flow.ErrNotFound) {
		t.Errorf("terminate by a stranger: %v", err)
	}
	if _, err := w.Suspend(bg, message("g"), ""); !errors.Is(err, flow.ErrNotFound) {
		t.Errorf("suspend of nothing: %v", err)
	}
}

func TestTerminateWithdrawsCallbacks(t *testing.T) {
	w := newWorld(t)
	must(t)(w.Start(bg, create("f", "push")))
	w.transfer("f").end <- sdk.Errorf(sdk.Denied, "no")
	w.eventually("fault", func() bool { return w.flow("f").Fault != "" })
	must(t)(w.Terminate(bg, message("f"), ""))
	if diff := cmp.Diff([]string{"errored STARTED cancelled"}, w.callbacks("f")); diff != "" {
		t.Error(diff)
	}
}

func TestRestartRevives(t *testing.T) {
	w := newWorld(t)
	must(t)(w.Start(bg, create("f", "push")))
	must(t)(w.Start(bg, create("g", "push")))
	must(t)(w.Start(bg, create("h", "pull")))
	w.transfer("f")
	w.transfer("g")
	must(t)(w.Suspend(bg, message("g"), ""))
	w.close()
	w.wantState("f", flow.Started)
	if _, err := w.Join(bg, key("h")); !errors.Is(err, flow.ErrClosed) {
		t.Errorf("join after close: %v", err)
	}
	if _, err := w.Suspend(bg, message("f"), ""); !errors.Is(err, flow.ErrClosed) {
		t.Errorf("suspend after close: %v", err)
	}

	w.Engine = w.engine()
	if err := w.Revive(bg); err != nil {
		t.Fatal(err)
	}
	if tr := w.transfer("f"); !tr.flow.Redelivery {
		t.Error("a revived transfer does not know that it may send twice")
	}
	if w.transfers.starts("g") != 1 || w.transfers.starts("h") != 0 {
		t.Error("a flow that is suspended, or that serves, was started")
	}
	if j, err := w.Join(bg, key("h")); err != nil {
		t.Error(err)
	} else {
		j.Leave()
	}
}

func TestSinkIsReleasedUntilItIs(t *testing.T) {
	w := newWorld(t)
	w.sinks.failures = 2
	must(t)(w.Start(bg, create("f", "push")))
	must(t)(w.Terminate(bg, message("f"), ""))
	w.eventually("released", func() bool { return w.sinks.all() == "There:f" && !w.flow("f").Leftover })

	w.sinks.failures = 1 << 30 // never in this process
	must(t)(w.Start(bg, create("g", "push")))
	must(t)(w.Terminate(bg, message("g"), ""))
	w.close()
	w.sinks.failures = 0
	w.Engine = w.engine()
	if err := w.Revive(bg); err != nil {
		t.Fatal(err)
	}
	w.eventually("released after a restart", func() bool { return w.sinks.all() == "There:f There:g" })
}

func TestStoreFailureChangesNothing(t *testing.T) {
	w := newWorld(t)
	must(t)(w.Start(bg, create("f", "push")))
	w.transfer("f")
	full := errors.New("disk full")
	w.store.Break(full)
	if _, err := w.Suspend(bg, message("f"), ""); !errors.Is(err, full) {
		t.Errorf("suspend with a broken store: %v", err)
	}
	if w.transfers.get("f") == nil {
		t.Error("the transfer was stopped by a signal that failed")
	}
	w.store.Break(nil)
	w.wantState("f", flow.Started)
}

// What was told of its end before a start is not told again after it.
func TestReviveTellsNoEndTwice(t *testing.T) {
	w := newWorld(t)
	for _, id := range []string{"f", "g"} {
		must(t)(w.Start(bg, create(id, "push")))
		must(t)(w.Terminate(bg, message(id), ""))
		w.eventually(id+" is released", func() bool { return !w.flow(id).Leftover })
	}
	released := w.sinks.all()
	w.restart(nil)
	flows, err := w.store.Flows(bg, flow.Filter{Leftover: true})
	if err != nil || len(flows) != 0 || w.sinks.all() != released {
		t.Errorf("%d flows are left, %v; released: %s", len(flows), err, w.sinks.all())
	}
}
