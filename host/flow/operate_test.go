package flow_test

import (
	"errors"
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

func TestMotion(t *testing.T) {
	in(t, func(t *testing.T, w *world) {
		if m, ok := w.Motion(key("f")); ok {
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
		m, ok := w.Motion(key("f"))
		if end := m.End(time.Now()); !ok || m.Step.Totals.Bytes != 30_000 || m.Rate < 800 || m.Rate > 1100 || end.IsZero() {
			t.Errorf("motion %+v, %v", m, ok)
		}
		must(t)(w.Suspend(bg, message("f"), ""))
		if m, ok := w.Motion(key("f")); ok {
			t.Errorf("a suspended flow moves: %+v", m)
		}

		must(t)(w.Start(bg, create("g", "pull")))
		j, err := w.Join(bg, key("g"))
		if err != nil {
			t.Fatal(err)
		}
		j.Moved(512)
		if m, ok := w.Motion(key("g")); !ok || m.Served != 512 || m.Requests != 1 || m.Rate == 0 {
			t.Errorf("served: motion %+v, %v", m, ok)
		}
		j.Leave()
		if m, ok := w.Motion(key("g")); ok {
			t.Errorf("nobody is inside: motion %+v", m)
		}
	})
}
