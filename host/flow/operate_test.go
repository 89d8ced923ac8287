package flow_test

import (
	"errors"
	"log/slog"
	"strings"
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

// Why a flow waits is said by its transfer, and before that from outside: whoever asks hears it, its control plane too.
func TestWhyAFlowWaits(t *testing.T) {
	w := newWorld(t)
	outside := ""
	w.waiting = func(k flow.Key) string {
		if k == key("f") {
			return outside
		}
		return "another one"
	}
	w.Engine = w.engine()
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
