package flow_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/towpath-dataplane/towpath/host/flow"
	"github.com/towpath-dataplane/towpath/sdk"
)

func TestRetryOfATransfer(t *testing.T) {
	in(t, func(t *testing.T, w *world) {
		must(t)(w.Start(bg, create("f", "push")))
		wantRefused(t, w.Retry(bg, key("f"))) // nothing has failed
		for _, failure := range []string{"disk full", "disk full", "no access", "disk full"} {
			w.transfer("f").end <- sdk.Errorf(sdk.Denied, "%s", failure)
			synctest.Wait()
			if f := w.flow("f"); f.State != flow.Started || f.Fault != failure {
				t.Errorf("after %s: %s, %q", failure, f.State, f.Fault)
			}
			if err := w.Retry(bg, key("f")); err != nil {
				t.Fatal(err)
			}
			if f := w.flow("f"); f.Fault != "" {
				t.Errorf("the flow is tried again and still has %q", f.Fault)
			}
		}
		if diff := cmp.Diff([]string{"errored STARTED pending", "errored STARTED pending"}, w.callbacks("f")); diff != "" {
			t.Error("each failure is reported once:", diff)
		}

		// One that waits for its next attempt does not wait any longer.
		tr := w.transfer("f")
		tr.progress.Waiting("tries again in an hour")
		if err := w.Retry(bg, key("f")); err != nil {
			t.Fatal(err)
		}
		<-tr.cut
		synctest.Wait()
		if n := w.transfers.starts("f"); n != 6 {
			t.Errorf("%d transfers were started", n)
		}

		// What moved has got over its failures: the next one is news.
		if err := w.transfer("f").progress.Checkpoint(bg, flow.Checkpoint{}, sdk.Totals{Bytes: 1}, nil); err != nil {
			t.Fatal(err)
		}
		w.transfer("f").end <- sdk.Errorf(sdk.Denied, "disk full")
		synctest.Wait()
		if n := len(w.callbacks("f")); n != 3 {
			t.Errorf("%d callbacks", n)
		}
		must(t)(w.Terminate(bg, message("f"), ""))
		wantRefused(t, w.Retry(bg, key("f")))
		if err := w.Retry(bg, key("none")); !errors.Is(err, flow.ErrNotFound) {
			t.Errorf("no flow: %v", err)
		}
	})
}

func TestRetryOfCallbacks(t *testing.T) {
	in(t, func(t *testing.T, w *world) {
		must(t)(w.Start(bg, create("f", "push")))
		w.transfer("f").end <- nil
		w.eventually("completed", func() bool { return w.flow("f").State == flow.Completed })
		time.Sleep(time.Minute)
		due, err := w.store.Due(bg, time.Now(), 1)
		if err != nil || len(due) != 1 {
			t.Fatal(due, err)
		}
		due[0].Status = flow.CallbackFailed
		if err := w.store.Settle(bg, due[0]); err != nil {
			t.Fatal(err)
		}
		if err := w.Retry(bg, key("f")); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff([]string{"completed COMPLETED pending"}, w.callbacks("f")); diff != "" {
			t.Error(diff)
		}
	})
}

// A lenient profile lets a consumer start before it has an address; with a resume it gets one.
func TestStartedWithoutAnAddress(t *testing.T) {
	in(t, func(t *testing.T, w *world) {
		must(t)(w.Prepare(bg, create("f", "pull")))
		must(t)(w.Started(bg, message("f"), nil))
		synctest.Wait()
		if f := w.flow("f"); f.State != flow.Started || f.Lacks() == "" || w.transfers.get("f") != nil {
			t.Errorf("flow %+v", f)
		}
		must(t)(w.Suspend(bg, message("f"), ""))
		must(t)(w.Resume(bg, message("f"), &sdk.DataAddress{Type: "pull", Endpoint: "https://there"}))
		w.transfer("f").end <- nil
		w.eventually("completed", func() bool { return w.flow("f").State == flow.Completed })
	})
}

func TestMovement(t *testing.T) {
	in(t, func(t *testing.T, w *world) {
		if m, ok := w.Movement(key("f")); ok {
			t.Errorf("no flow moves: %+v", m)
		}
		must(t)(w.Start(bg, create("f", "push")))
		var sent atomic.Int64
		w.transfer("f").progress.Observe(func() flow.Step {
			return flow.Step{Totals: sdk.Totals{Bytes: sent.Load()}, Part: "a", TotalBytes: 100_000}
		})
		for range 30 {
			time.Sleep(time.Second)
			sent.Add(1000)
		}
		time.Sleep(500 * time.Millisecond)
		m, ok := w.Movement(key("f"))
		if end := m.End(time.Now()); !ok || m.Step.Totals.Bytes != 30_000 || m.Rate < 800 || m.Rate > 1100 || end.IsZero() {
			t.Errorf("movement %+v, %v", m, ok)
		}
		must(t)(w.Suspend(bg, message("f"), ""))
		if m, ok := w.Movement(key("f")); ok {
			t.Errorf("a suspended flow moves: %+v", m)
		}

		must(t)(w.Start(bg, create("g", "pull")))
		j, err := w.Join(bg, key("g"))
		if err != nil {
			t.Fatal(err)
		}
		j.Moved(512)
		if m, ok := w.Movement(key("g")); !ok || m.Requests != 1 || m.Rate == 0 {
			t.Errorf("served: movement %+v, %v", m, ok)
		}
		j.Leave()
		if m, ok := w.Movement(key("g")); ok {
			t.Errorf("nobody is inside: movement %+v", m)
		}
	})
}

// failing is a failure that is about a part.
func failing(part string) error {
	return &sdk.Error{Code: sdk.Denied, Message: "no access to " + part, Part: part}
}

func TestSkip(t *testing.T) {
	in(t, func(t *testing.T, w *world) {
		must(t)(w.Start(bg, create("f", "push")))
		wantRefused(t, w.Skip(bg, key("f"), ""))
		w.transfer("f").end <- sdk.Errorf(sdk.Denied, "disk full")
		synctest.Wait()
		wantRefused(t, w.Skip(bg, key("f"), "")) // is about no part
		if err := w.Retry(bg, key("f")); err != nil {
			t.Fatal(err)
		}
		for _, part := range []string{"a", "b"} {
			w.transfer("f").end <- fmt.Errorf("source: %w", failing(part))
			synctest.Wait()
			if f := w.flow("f"); f.FaultPart != part {
				t.Errorf("the flow rests at %q, want %q", f.FaultPart, part)
			}
			wantRefused(t, w.Skip(bg, key("f"), "c"))
			if err := w.Skip(bg, key("f"), part); err != nil {
				t.Fatal(err)
			}
		}
		tr := w.transfer("f")
		if got := tr.flow.Skipped; len(got) != 2 || got[0].Part != "a" || got[1].Part != "b" || got[1].Reason != "source: no access to b" {
			t.Errorf("the transfer skips %+v", got)
		}
		if !tr.flow.Redelivery || tr.flow.Fault != "" || tr.flow.FaultPart != "" {
			t.Errorf("the transfer begins with %+v", tr.flow)
		}
		tr.end <- nil
		w.eventually("completed", func() bool { return w.flow("f").State == flow.Completed })
		wantRefused(t, w.Skip(bg, key("f"), ""))
		if len(w.flow("f").Skipped) != 2 {
			t.Error("nobody can tell any more what was skipped")
		}
		if err := w.Skip(bg, key("none"), ""); !errors.Is(err, flow.ErrNotFound) {
			t.Errorf("no flow: %v", err)
		}
	})
}

func TestResend(t *testing.T) {
	in(t, func(t *testing.T, w *world) {
		must(t)(w.Start(bg, create("f", "push")))
		place := func() {
			t.Helper()
			err := w.transfer("f").progress.Checkpoint(bg, flow.Checkpoint{Source: []byte("s"), Sink: []byte("k")}, sdk.Totals{Parts: 1, Bytes: 7},
				[]flow.Part{{Name: "a", Size: 7}})
			if err != nil {
				t.Fatal(err)
			}
		}
		place()
		before := w.transfer("f")
		if err := w.Resend(bg, key("f")); err != nil {
			t.Fatal(err)
		}
		<-before.cut
		tr := w.transfer("f")
		if f := tr.flow; f.Checkpoint != nil || f.Totals != (sdk.Totals{}) || !f.Redelivery {
			t.Errorf("the transfer begins with %+v", f)
		}
		place()
		if f := w.flow("f"); f.Totals.Bytes != 7 || f.Totals.Parts != 1 {
			t.Errorf("totals %+v", f.Totals)
		}

		must(t)(w.Suspend(bg, message("f"), ""))
		if err := w.Resend(bg, key("f")); err != nil {
			t.Fatal(err)
		}
		if n := w.transfers.starts("f"); n != 2 {
			t.Errorf("%d transfers were started", n)
		}
		must(t)(w.Resume(bg, message("f"), nil))
		if f := w.transfer("f").flow; f.Checkpoint != nil {
			t.Errorf("after the resume, the transfer begins with %+v", f.Checkpoint)
		}
		must(t)(w.Start(bg, create("g", "pull")))
		wantRefused(t, w.Resend(bg, key("g"))) // has no transfer
		must(t)(w.Terminate(bg, message("f"), ""))
		wantRefused(t, w.Resend(bg, key("f")))
		if err := w.Resend(bg, key("none")); !errors.Is(err, flow.ErrNotFound) {
			t.Errorf("no flow: %v", err)
		}
	})
}

func TestAbort(t *testing.T) {
	in(t, func(t *testing.T, w *world) {
		must(t)(w.Start(bg, create("push", "push")))
		status := must(t)(w.Start(bg, create("pull", "pull")))
		tr := w.transfer("push")
		for _, id := range []string{"push", "pull"} {
			if err := w.Abort(bg, key(id), "nobody wants it"); err != nil {
				t.Fatal(err)
			}
			w.wantState(id, flow.Terminated)
			if diff := cmp.Diff([]string{"errored TERMINATED pending"}, w.callbacks(id)); diff != "" {
				t.Errorf("%s: %s", id, diff)
			}
			wantRefused(t, w.Abort(bg, key(id), ""))
			must(t)(w.Terminate(bg, message(id), "")) // it is so already
		}
		<-tr.cut
		if w.endpoint.works(status.DataAddress) {
			t.Error("the token works")
		}
		synctest.Wait()
		if w.flow("push").Leftover {
			t.Error("the sink was not told")
		}
		if err := w.Abort(bg, key("none"), ""); !errors.Is(err, flow.ErrNotFound) {
			t.Errorf("no flow: %v", err)
		}
	})
}

// What fails at an endpoint is told and kept, and the flow stays as it is, until a resume makes it good.
func TestReport(t *testing.T) {
	in(t, func(t *testing.T, w *world) {
		must(t)(w.Start(bg, create("f", "pull")))
		failure := sdk.Errorf(sdk.Denied, "tokens were revoked")
		for range 2 {
			if err := w.Report(bg, key("f"), failure); err != nil {
				t.Fatal(err)
			}
		}
		status := must(t)(w.Status(bg, message("f")))
		if status.State != flow.Started || status.Fault != "tokens were revoked" {
			t.Errorf("status %+v", status)
		}
		if err := w.Retry(bg, key("f")); err == nil || !strings.Contains(err.Error(), "has to resume it: tokens were revoked") {
			t.Errorf("retry: %v", err)
		}
		must(t)(w.Suspend(bg, message("f"), ""))
		wantRefused(t, w.Report(bg, key("f"), failure))
		must(t)(w.Resume(bg, message("f"), nil))
		if f := w.flow("f"); f.Fault != "" {
			t.Errorf("after resume: %q", f.Fault)
		}
		if err := w.Report(bg, key("f"), failure); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff([]string{"errored STARTED pending", "errored STARTED pending"}, w.callbacks("f")); diff != "" {
			t.Error(diff)
		}

		c := create("in", "push")
		c.DataAddress = nil
		must(t)(w.Prepare(bg, c)) // takes data already
		if err := w.Report(bg, key("in"), failure); err != nil {
			t.Error(err)
		}
		must(t)(w.Started(bg, message("in"), nil))
		if f := w.flow("in"); f.Fault == "" {
			t.Error("started makes nothing good")
		}
		if err := w.Report(bg, key("none"), failure); !errors.Is(err, flow.ErrNotFound) {
			t.Errorf("no flow: %v", err)
		}
	})
}

// Why a flow waits is said by its transfer, and before that from outside: whoever asks hears it, its control plane too.
func TestWhyAFlowWaits(t *testing.T) {
	w := newWorld(t)
	outside := ""
	w.restart(func(o *flow.Options) {
		o.Waits = func(k flow.Key) flow.Waits {
			if k == key("f") {
				return flow.Waits{Text: outside}
			}
			return flow.Waits{Text: "another one"}
		}
	})
	must(t)(w.Start(bg, create("f", "push")))
	tr := w.transfer("f")
	for _, c := range []struct{ outside, transfer, want string }{
		{"", "", ""}, {"", "tries again", "tries again"}, {"queued, place 1 of 2", "tries again", "queued, place 1 of 2"}, {"queued", "", "queued"},
	} {
		outside = c.outside
		tr.progress.Waiting(c.transfer)
		s, err := w.Status(bg, message("f"))
		if err != nil || s.Waiting != c.want || w.Waiting(key("f")) != c.want {
			t.Errorf("%q is told, not %q: %v", s.Waiting, c.want, err)
		}
	}
}

// Those that waited longest before a restart are the first to run again.
func TestReviveOldestFirst(t *testing.T) {
	w := newWorld(t)
	for _, id := range []string{"a", "b", "c", "d"} {
		must(t)(w.Start(bg, create(id, "push")))
		w.transfer(id)
	}
	w.close()
	w.Engine = w.engine()
	var log strings.Builder
	w.Engine.Logger = slog.New(slog.NewTextHandler(&log, nil))
	if err := w.Revive(bg); err != nil {
		t.Fatal(err)
	}
	last := -1
	for _, id := range []string{"a", "b", "c", "d"} {
		at := strings.Index(log.String(), "flow="+id+" ")
		if at <= last {
			t.Errorf("%s is not in its turn:\n%s", id, log.String())
		}
		last = at
	}
}

// Whoever wants to know hears of the end of each flow until they have taken note of it, whatever ended it, and past restarts; and not of
// a suspend.
func TestTheEndIsToldToThoseWhoWantToKnow(t *testing.T) {
	w := newWorld(t)
	var mu sync.Mutex // guards what follows
	told, busy := map[string]int{}, true
	note := func(o *flow.Options) {
		o.Ended = func(_ context.Context, k flow.Key) error {
			mu.Lock()
			defer mu.Unlock()
			told[k.ID]++
			if busy {
				return errors.New("busy")
			}
			return nil
		}
	}
	w.restart(note)
	for _, id := range []string{"done", "ended", "aborted", "rests"} {
		must(t)(w.Start(bg, create(id, "push")))
	}
	w.transfer("done").end <- nil
	must(t)(w.Terminate(bg, message("ended"), ""))
	if err := w.Abort(bg, key("aborted"), ""); err != nil {
		t.Error(err)
	}
	must(t)(w.Suspend(bg, message("rests"), ""))
	heard := func(id string) int {
		mu.Lock()
		defer mu.Unlock()
		return told[id]
	}
	ids := []string{"done", "ended", "aborted"}
	for _, id := range ids {
		w.eventually(id+" is told", func() bool { return heard(id) > 0 })
	}
	mu.Lock()
	told = map[string]int{}
	mu.Unlock()
	w.restart(note)
	mu.Lock()
	busy = false
	mu.Unlock()
	for _, id := range ids {
		w.eventually(id+" is told after a restart", func() bool { return heard(id) > 0 && !w.flow(id).Leftover })
	}
	if heard("rests") > 0 {
		t.Error("the end of a flow that was suspended is told")
	}
}
