package signaling

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/towpath-dataplane/towpath/host/flow"
)

func TestDelivery(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := newOffice(t)
		o.enqueue("before", "b", completed("m0"))
		o.open()
		defer o.stop()
		synctest.Wait()
		o.enqueue("urn:uuid:1/ä%", "a", errored("m1", "disk full"), completed("m2"))
		synctest.Wait()
		want := []arrival{
			{url: "https://b.example/transfers/before/dataflow/completed", body: `{"messageId":"m0","dataFlowId":"before","state":"COMPLETED"}`},
			{url: "https://a.example/cp/transfers/urn:uuid:1%2F%C3%A4%25/dataflow/errored",
				body: `{"messageId":"m1","dataFlowId":"urn:uuid:1/ä%","state":"STARTED","error":"disk full"}`},
			{url: "https://a.example/cp/transfers/urn:uuid:1%2F%C3%A4%25/dataflow/completed",
				body: `{"messageId":"m2","dataFlowId":"urn:uuid:1/ä%","state":"COMPLETED"}`},
		}
		got := o.net.arrivals()
		for i := range got {
			got[i].at = time.Time{}
		}
		if diff := cmp.Diff(want, got, cmp.AllowUnexported(arrival{})); diff != "" {
			t.Errorf("(-want +got):\n%s", diff)
		}
		for _, c := range o.stored("urn:uuid:1/ä%") {
			if c.Status != flow.CallbackDelivered || c.Attempts != 1 || c.LastErr != "" {
				t.Errorf("stored %+v", c)
			}
		}
	})
}

func TestInitialDelayIsKept(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := newOffice(t)
		o.open()
		defer o.stop()
		begun := time.Now()
		c := completed("m")
		c.Next = begun.Add(700 * time.Millisecond)
		o.enqueue("f", "a", c)
		time.Sleep(time.Minute)
		if got := o.net.arrivals(); len(got) != 1 || got[0].at.Sub(begun) != 700*time.Millisecond {
			t.Errorf("arrivals %v", got)
		}
	})
}

func TestCancelledIsNotSent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := newOffice(t)
		o.open()
		defer o.stop()
		o.net.answers["a.example"] = status(http.StatusNotFound)
		o.enqueue("f", "a", completed("m1"), completed("m2"))
		synctest.Wait()
		err := o.store.Update(t.Context(), flow.Key{Context: flow.DefaultContext, ID: "f"}, func(tx flow.Tx) error { return tx.CancelCallbacks() })
		if err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Hour)
		if got := o.net.urls(); len(got) != 1 {
			t.Errorf("sent %v", got)
		}
	})
}

func TestOrderWithinFlows(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := newOffice(t)
		var failures sync.Map
		o.net.answers["a.example"] = func(r *http.Request) (*http.Response, error) {
			if _, failed := failures.LoadOrStore(r.URL.Path, true); !failed { // once for each
				return status(500)(r)
			}
			return slowly(3 * time.Millisecond)(r)
		}
		const flows, each = 300, 4
		for i := range flows {
			var callbacks []flow.Callback
			for j := range each {
				callbacks = append(callbacks, errored(fmt.Sprint(j), fmt.Sprint("fault ", j)))
			}
			o.enqueue(fmt.Sprint("f", i), "a", callbacks...)
		}
		o.open()
		defer o.stop()
		time.Sleep(time.Minute)
		last := map[string]string{}
		for _, a := range o.net.arrivals() {
			if a.body < last[a.url] { // messageId is the first member
				t.Errorf("%s after %s", a.body, last[a.url])
			}
			last[a.url] = a.body
		}
		if n := len(o.net.arrivals()); n != flows*(each+1) {
			t.Errorf("%d attempts for %d callbacks with one failure per flow", n, flows*each)
		}
		if depth, _ := o.store.Depth(t.Context()); depth != 0 {
			t.Errorf("%d callbacks are left", depth)
		}
		if n := o.net.most(); n < 2 || n > DefaultParallel {
			t.Errorf("%d at a time", n)
		}
	})
}

func TestSlowControlPlaneHoldsUpNoOther(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := newOffice(t)
		o.net.answers["a.example"] = hang
		for i := range 20 * batch {
			o.enqueue(fmt.Sprint("slow", i), "a", completed("m"))
		}
		o.open()
		defer o.stop()
		time.Sleep(time.Second)
		for i := range 5 {
			o.enqueue(fmt.Sprint("f", i), "b", completed("m"))
			begun := time.Now()
			time.Sleep(recheckBusy + time.Millisecond)
			c := o.stored(fmt.Sprint("f", i))[0]
			if c.Status != flow.CallbackDelivered {
				t.Errorf("not delivered after %v", time.Since(begun))
			}
		}
	})
}

func TestHangingFlowHoldsUpNoOther(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := newOffice(t)
		o.net.answers["a.example"] = func(r *http.Request) (*http.Response, error) {
			if strings.Contains(r.URL.Path, "/bad/") {
				return hang(r)
			}
			return status(200)(r)
		}
		o.enqueue("bad", "a", completed("m"))
		o.open()
		defer o.stop()
		synctest.Wait()
		retry := errored("m", "x")
		retry.Next = time.Now().Add(2 * time.Second) // hidden behind the overdue one
		o.enqueue("later", "a", retry)
		o.enqueue("now", "a", completed("m"))
		synctest.Wait()
		if c := o.stored("now")[0]; c.Status != flow.CallbackDelivered {
			t.Errorf("now: %s", c.Status)
		}
		time.Sleep(2*time.Second + recheckBusy)
		if c := o.stored("later")[0]; c.Status != flow.CallbackDelivered {
			t.Errorf("later: %s", c.Status)
		}
	})
}

func TestStopLeavesCallbacksInFlight(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := newOffice(t)
		o.net.answers["a.example"] = hang
		o.enqueue("f", "a", completed("m"))
		o.open()
		synctest.Wait()
		begun := time.Now()
		o.stop()
		if took := time.Since(begun); took != 0 {
			t.Errorf("stopping took %v", took)
		}
		if c := o.stored("f")[0]; c.Status != flow.CallbackPending || c.Attempts != 0 || c.LastErr != "" {
			t.Errorf("stored %+v", c)
		}
		o.net.answers["a.example"] = nil
		o.open()
		synctest.Wait()
		o.stop()
		if c := o.stored("f")[0]; c.Status != flow.CallbackDelivered {
			t.Errorf("after the next start: %s", c.Status)
		}
	})
}

// What was delivered when the dispatcher stopped is recorded as delivered.
func TestStopDuringDelivery(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := newOffice(t)
		var stop context.CancelFunc
		o.net.answers["a.example"] = func(r *http.Request) (*http.Response, error) {
			stop()
			return status(200)(r)
		}
		o.enqueue("f", "a", completed("m"))
		o.furnish()
		ctx, cancel := context.WithCancel(t.Context())
		stop = cancel
		if err := o.Run(ctx); err != nil {
			t.Fatal(err)
		}
		if c := o.stored("f")[0]; c.Status != flow.CallbackDelivered {
			t.Errorf("stored %+v", c)
		}
	})
}

// settleFails is an outbox that cannot record outcomes for a while.
type settleFails struct {
	flow.Outbox
	mu    sync.Mutex // guards fails
	fails int
}

func (s *settleFails) Settle(ctx context.Context, c flow.Callback) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.fails--; s.fails >= 0 {
		return errors.New("disk full")
	}
	return s.Outbox.Settle(ctx, c)
}

func TestOutcomeThatCannotBeStoredIsNotSentAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := newOffice(t)
		o.Outbox = &settleFails{Outbox: o.store, fails: 5}
		o.enqueue("f", "a", completed("m"))
		o.open()
		defer o.stop()
		time.Sleep(time.Hour)
		if c := o.stored("f")[0]; c.Status != flow.CallbackDelivered || len(o.net.arrivals()) != 1 {
			t.Errorf("%s after %d attempts", c.Status, len(o.net.arrivals()))
		}
	})
}

func TestStopWhileOutcomeCannotBeStored(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := newOffice(t)
		o.Outbox = &settleFails{Outbox: o.store, fails: 1 << 30}
		o.enqueue("f", "a", completed("m"))
		o.open()
		time.Sleep(time.Minute)
		o.stop()
	})
}

func TestBrokenOutboxIsTriedAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := newOffice(t)
		log := &syncBuffer{}
		o.Logger = slog.New(slog.NewTextHandler(log, nil))
		o.enqueue("f", "a", completed("m"))
		o.store.Break(errors.New("disk on fire"))
		o.open()
		defer o.stop()
		time.Sleep(time.Minute)
		o.store.Break(nil)
		time.Sleep(2 * recheckBusy)
		if c := o.stored("f")[0]; c.Status != flow.CallbackDelivered {
			t.Errorf("stored %+v", c)
		}
		if n := strings.Count(log.String(), "disk on fire"); n == 0 || n > 70 {
			t.Errorf("%d lines in a minute", n)
		}
	})
}

// Control planes that have gone leave nothing in the dispatcher.
func TestNothingIsKeptOfControlPlanes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := newOffice(t)
		o.furnish()
		defer o.ControlPlanes.Close()
		for i := range 10 {
			o.enqueue(fmt.Sprint("f", i), fmt.Sprint("removed", i%5), completed("m"))
		}
		r := o.newRun()
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() { r.loop(ctx); close(done) }()
		time.Sleep(time.Second)
		cancel()
		<-done
		if len(r.busy) > 0 || len(r.flows) > 0 {
			t.Errorf("kept %v, %v", r.busy, r.flows)
		}
	})
}

func TestUnknownControlPlane(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := newOffice(t)
		o.enqueue("f", "removed", completed("m"))
		o.enqueue("g", "a", completed("m"))
		o.open()
		defer o.stop()
		time.Sleep(DefaultGiveUpAfter - time.Minute)
		c := o.stored("f")[0]
		if want := `control plane "removed" is not known`; c.Status != flow.CallbackPending || c.LastErr != want {
			t.Errorf("%s, %q", c.Status, c.LastErr)
		}
		time.Sleep(2 * time.Minute)
		if c := o.stored("f")[0]; c.Status != flow.CallbackFailed {
			t.Errorf("in the end: %s", c.Status)
		}
		if c := o.stored("g")[0]; c.Status != flow.CallbackDelivered {
			t.Errorf("the other one: %s", c.Status)
		}
	})
}

// An operator sees for how long a control plane has not taken something.
func TestFailingAge(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := newOffice(t)
		registry := prometheus.NewPedanticRegistry()
		o.Registerer = registry
		o.net.answers["b.example"] = status(503)
		o.enqueue("f", "a", completed("m"))
		o.enqueue("g", "b", completed("m"))
		age := func(id string) float64 {
			families, err := registry.Gather()
			if err != nil {
				t.Fatal(err)
			}
			for _, family := range families {
				for _, m := range family.GetMetric() {
					if family.GetName() == "towpath_callback_failing_age_seconds" && m.GetLabel()[0].GetValue() == id {
						return m.GetGauge().GetValue()
					}
				}
			}
			return -1
		}
		o.open()
		defer o.stop()
		time.Sleep(time.Hour)
		if a, b := age("a"), age("b"); a != 0 || b < 3000 || b > 3600 {
			t.Errorf("a %v, b %v", a, b)
		}
		o.net.set("b.example", nil)
		time.Sleep(maxBackoff)
		if b := age("b"); b != 0 {
			t.Errorf("afterwards %v", b)
		}
	})
}

// Of control planes that have left there are no metrics, and of those that left callbacks behind only while these are tried.
func TestMetricsOfThoseThatLeave(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := newOffice(t)
		registry := prometheus.NewPedanticRegistry()
		o.Registerer = registry
		o.enqueue("f", "a", completed("m"))
		o.enqueue("g", "b", completed("m"))
		o.enqueue("h", "removed", completed("m"))
		named := func() (names string) {
			families, err := registry.Gather()
			if err != nil {
				t.Fatal(err)
			}
			seen := map[string]bool{}
			for _, family := range families {
				for _, m := range family.GetMetric() {
					for _, l := range m.GetLabel() {
						if l.GetName() == "control_plane" {
							seen[l.GetValue()] = true
						}
					}
				}
			}
			return strings.Join(slices.Sorted(maps.Keys(seen)), " ")
		}
		o.open()
		defer o.stop()
		time.Sleep(time.Minute)
		if got := named(); got != "a b removed" {
			t.Errorf("at first there are metrics of %s", got)
		}
		o.ControlPlanes.put("b", nil).close()
		time.Sleep(2 * recheck)
		if got := named(); got != "a removed" {
			t.Errorf("after one has left there are metrics of %s", got)
		}
		time.Sleep(DefaultGiveUpAfter + time.Hour)
		if got := named(); got != "a" {
			t.Errorf("after all was given up there are metrics of %s", got)
		}
	})
}

func TestDispatcherMetrics(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := newOffice(t)
		registry := prometheus.NewPedanticRegistry()
		o.Registerer = registry
		o.net.answers["b.example"] = status(410)
		o.enqueue("f", "a", completed("m"))
		o.enqueue("g", "b", completed("m"))
		o.enqueue("h", "removed", errored("m1", "x"), completed("m2"))
		o.open()
		synctest.Wait()
		o.stop()
		want := `
# HELP towpath_callback_attempts_total Attempts to deliver a callback, by how they ended: delivered, retried or failed.
# TYPE towpath_callback_attempts_total counter
towpath_callback_attempts_total{callback="completed",control_plane="a",result="delivered"} 1
towpath_callback_attempts_total{callback="completed",control_plane="b",result="failed"} 1
towpath_callback_attempts_total{callback="errored",control_plane="removed",result="retried"} 1
# HELP towpath_outbox_depth Callbacks that are not delivered yet.
# TYPE towpath_outbox_depth gauge
towpath_outbox_depth 2
`
		if err := testutil.GatherAndCompare(registry, strings.NewReader(want), "towpath_callback_attempts_total", "towpath_outbox_depth"); err != nil {
			t.Error(err)
		}
		if n, err := testutil.GatherAndCount(registry, "towpath_callback_delivery_seconds"); n != 1 || err != nil {
			t.Errorf("%d latencies, %v", n, err)
		}
	})
}
