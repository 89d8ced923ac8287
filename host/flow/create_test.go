package flow_test

import (
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/towpath-dataplane/towpath/host/flow"
	"github.com/towpath-dataplane/towpath/sdk"
)

// in runs a test with a world whose time passes by itself.
func in(t *testing.T, test func(t *testing.T, w *world)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		test(t, w)
		w.close()
	})
}

// A prepare or start is answered when its work is done, or with the state that says that it goes on; then a callback follows.
func TestWhenPrepareAndStartAreAnswered(t *testing.T) {
	const short, long = time.Second, time.Minute
	for _, tc := range []struct {
		name    string
		profile string
		dataset string
		takes   time.Duration
		want    flow.State
		after   time.Duration
	}{
		{"quick work", "auto/pull", "data", short, flow.Started, short},
		{"long work", "auto/pull", "data", long, flow.Starting, 2 * time.Second},
		{"long work of a synchronous profile", "sync/pull", "data", long, flow.Started, long},
		{"quick work of an asynchronous profile", "async/pull", "data", short, flow.Starting, 0},
		{"a dataset goes before its profile", "sync/pull", "async", short, flow.Starting, 0},
	} {
		for role, create := range map[string]func(w *world, c flow.Create) (flow.Status, error){
			"provider": func(w *world, c flow.Create) (flow.Status, error) { return w.Start(bg, c) },
			"consumer": func(w *world, c flow.Create) (flow.Status, error) { return w.Prepare(bg, c) },
		} {
			t.Run(tc.name+" of a "+role, func(t *testing.T) {
				in(t, func(t *testing.T, w *world) {
					want, end, callback := tc.want, flow.Started, "started STARTED pending"
					if role == "consumer" {
						want = map[flow.State]flow.State{flow.Started: flow.Prepared, flow.Starting: flow.Preparing}[want]
						end, callback = flow.Prepared, "prepared PREPARED pending"
					}
					w.checker.slow = make(chan struct{})
					time.AfterFunc(tc.takes, func() { close(w.checker.slow) })
					c := newCreate("f", tc.profile, tc.dataset)
					begun := time.Now()
					s, err := create(w, c)
					if err != nil || s.State != want || time.Since(begun) != tc.after {
						t.Fatalf("answered %v, %v after %v; want %s after %v", s, err, time.Since(begun), want, tc.after)
					}
					w.wantState("f", want)
					if again, err := create(w, c); err != nil || again.State != want {
						t.Errorf("the same message was answered %v, %v", again, err)
					}
					time.Sleep(2 * long)
					w.wantState("f", end)
					var callbacks []string
					if want != end {
						callbacks = []string{callback}
					}
					if diff := cmp.Diff(callbacks, w.callbacks("f")); diff != "" {
						t.Error(diff)
					}
				})
			})
		}
	}
}

func newCreate(id, profile, dataset string) flow.Create {
	c := create(id, profile)
	c.DatasetID = dataset
	return c
}

func TestTheCallbackCarriesTheAddress(t *testing.T) {
	in(t, func(t *testing.T, w *world) {
		must(t)(w.Start(bg, create("f", "async/pull")))
		synctest.Wait()
		all, err := w.store.Callbacks(bg, key("f"))
		if err != nil || len(all) != 1 || all[0].DataAddress == nil || !w.endpoint.works(all[0].DataAddress) {
			t.Fatalf("callbacks %+v, %v", all, err)
		}
		if f := w.flow("f"); !w.endpoint.works(f.Issued) {
			t.Errorf("the flow has %v", f.Issued)
		}
	})
}

// The end is not told before the beginning: it waits for the answer to leave, though not for ever.
func TestTheCallbackWaitsForTheAnswer(t *testing.T) {
	in(t, func(t *testing.T, w *world) {
		for id, leaves := range map[string]time.Duration{"f": 3 * time.Second, "never": time.Hour} {
			c := create(id, "async/pull")
			answered := make(chan struct{})
			c.Answered = answered
			must(t)(w.Start(bg, c))
			begun := time.Now()
			time.AfterFunc(leaves, func() { close(answered) })
			w.eventually("started", func() bool { return w.flow(id).State == flow.Started })
			if waited := time.Since(begun); waited < min(leaves, 4*time.Second) || waited > 6*time.Second {
				t.Errorf("%s: the end of the work was stored after %v", id, waited)
			}
		}
	})
}

func TestTerminateEndsWork(t *testing.T) {
	in(t, func(t *testing.T, w *world) {
		w.checker.slow = make(chan struct{})
		must(t)(w.Start(bg, create("f", "auto/pull")))
		_, err := w.Suspend(bg, message("f"), "")
		wantRefused(t, err)
		must(t)(w.Terminate(bg, message("f"), "enough"))
		close(w.checker.slow)
		time.Sleep(time.Minute)
		w.wantState("f", flow.Terminated)
		if got := w.callbacks("f"); got != nil {
			t.Errorf("callbacks %v", got)
		}
		if len(w.endpoint.live) > 0 {
			t.Errorf("tokens that work: %v", w.endpoint.live)
		}
	})
}

// Terminate comes when the work is done and waits for its answer to leave.
func TestTerminateBeforeTheCallback(t *testing.T) {
	in(t, func(t *testing.T, w *world) {
		c := create("f", "async/pull")
		c.Answered = make(chan struct{})
		must(t)(w.Start(bg, c))
		synctest.Wait()
		if len(w.endpoint.live) != 1 {
			t.Fatalf("the work is not done: %v", w.endpoint.live)
		}
		must(t)(w.Terminate(bg, message("f"), "enough"))
		time.Sleep(time.Minute)
		if got := w.callbacks("f"); got != nil || len(w.endpoint.live) > 0 {
			t.Errorf("callbacks %v, tokens that work %v", got, w.endpoint.live)
		}
	})
}

func TestWorkSurvivesARestart(t *testing.T) {
	in(t, func(t *testing.T, w *world) {
		w.checker.slow = make(chan struct{})
		must(t)(w.Start(bg, create("f", "auto/pull")))
		must(t)(w.Prepare(bg, create("g", "auto/pull")))
		w.close()
		w.wantState("f", flow.Starting)

		close(w.checker.slow)
		w.Engine = w.engine()
		if err := w.Revive(bg); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		w.wantState("f", flow.Started)
		w.wantState("g", flow.Prepared)
		if diff := cmp.Diff([]string{"started STARTED pending"}, w.callbacks("f")); diff != "" {
			t.Error(diff)
		}
	})
}

func TestFailuresOfWork(t *testing.T) {
	passing := sdk.Retryf(sdk.Exhausted, "busy")
	t.Run("that pass are got over", func(t *testing.T) {
		in(t, func(t *testing.T, w *world) {
			w.endpoint.breakWith(passing)
			s := must(t)(w.Start(bg, create("f", "auto/pull")))
			if s.State != flow.Starting {
				t.Errorf("answered %v", s)
			}
			synctest.Wait()
			if w.Waiting(key("f")) == "" {
				t.Error("an operator cannot see why the flow waits")
			}
			time.AfterFunc(time.Minute, func() { w.endpoint.breakWith(nil) })
			time.Sleep(5 * time.Minute)
			w.wantState("f", flow.Started)
			if diff := cmp.Diff([]string{"started STARTED pending"}, w.callbacks("f")); diff != "" {
				t.Error(diff)
			}
		})
	})
	t.Run("that stay are reported once", func(t *testing.T) {
		in(t, func(t *testing.T, w *world) {
			c := create("f", "async/push")
			c.DataAddress.Endpoint = "https://bad"
			must(t)(w.Start(bg, c))
			synctest.Wait()
			w.wantState("f", flow.Starting)
			for range 2 {
				if err := w.Retry(bg, key("f")); err != nil {
					t.Fatal(err)
				}
				synctest.Wait()
			}
			w.close()
			w.Engine = w.engine()
			if err := w.Revive(bg); err != nil {
				t.Fatal(err)
			}
			synctest.Wait()
			if diff := cmp.Diff([]string{"errored STARTING pending"}, w.callbacks("f")); diff != "" {
				t.Error(diff)
			}
			s, err := w.Status(bg, flow.Message{Key: key("f"), ControlPlane: "cp"})
			if err != nil || s.State != flow.Starting || s.Fault != "dataAddress: endpoint: is bad" {
				t.Errorf("status %+v, %v", s, err)
			}
		})
	})
	t.Run("within the answer refuse", func(t *testing.T) {
		in(t, func(t *testing.T, w *world) {
			c := create("f", "auto/push")
			c.DataAddress.Endpoint = "https://bad"
			if _, err := w.Start(bg, c); !errors.As(err, new(*flow.RequestError)) {
				t.Errorf("got %v", err)
			}
			w.checker.failWith(sdk.Errorf(sdk.Internal, "panic"))
			if _, err := w.Start(bg, create("f", "auto/pull")); err == nil || errors.As(err, new(*flow.RequestError)) {
				t.Errorf("a fault of a plugin: %v", err)
			}
			w.checker.failWith(nil)
			w.endpoint.breakWith(passing)
			if _, err := w.Start(bg, create("f", "sync/pull")); !errors.Is(err, passing) {
				t.Errorf("a synchronous profile got %v", err)
			}
			if _, err := w.store.Flow(bg, key("f")); !errors.Is(err, flow.ErrNotFound) {
				t.Errorf("a refusal left %v", err)
			}
		})
	})
}

func TestPrepareAgainWhileItIsUnderWay(t *testing.T) {
	in(t, func(t *testing.T, w *world) {
		w.checker.slow = make(chan struct{})
		c := create("f", "auto/pull")
		c.Claims = []byte(`{"a":1,"b":2}`)
		must(t)(w.Prepare(bg, c))
		c.Message = message("f")
		c.Claims = []byte(`{"b":2, "a":1}`)
		if s, err := w.Prepare(bg, c); err != nil || s.State != flow.Preparing {
			t.Errorf("the same prepare was answered %v, %v", s, err)
		}
		c.Message = message("f")
		c.Claims = []byte(`{"b":2}`)
		_, err := w.Prepare(bg, c)
		wantRefused(t, err)
		_, err = w.Started(bg, message("f"), nil)
		wantRefused(t, err)
		close(w.checker.slow)
	})
}

// A start that another control plane's flow has the id of neither touches that flow nor tells of it.
func TestTheIDOfAnother(t *testing.T) {
	in(t, func(t *testing.T, w *world) {
		must(t)(w.Start(bg, create("f", "pull")))
		before := w.flow("f")
		c := create("f", "pull")
		c.ControlPlane = "other"
		if _, err := w.Start(bg, c); !errors.As(err, new(*flow.RequestError)) {
			t.Errorf("start: %v", err)
		}
		m := message("f")
		m.ControlPlane = "other"
		if _, err := w.Terminate(bg, m, ""); !errors.Is(err, flow.ErrNotFound) {
			t.Errorf("terminate: %v", err)
		}
		if _, err := w.Status(bg, m); !errors.Is(err, flow.ErrNotFound) {
			t.Errorf("status: %v", err)
		}
		if diff := cmp.Diff(before, w.flow("f")); diff != "" {
			t.Error(diff)
		}
	})
}

// A sink plugin makes the address, and a transfer feeds it.
func TestProvisionedPull(t *testing.T) {
	in(t, func(t *testing.T, w *world) {
		s := must(t)(w.Start(bg, create("f", "provisioned/pull")))
		if s.State != flow.Started || s.DataAddress == nil || s.DataAddress.Endpoint != "amqps://here/f" {
			t.Fatalf("answered %+v", s)
		}
		tr := w.transfer("f")
		if a, err := flow.RemoteAddress(catalog{}, tr.flow); err != nil || a.Type != "Queue" {
			t.Errorf("writes to %v, %v", a, err)
		}
		must(t)(w.Suspend(bg, message("f"), ""))
		if s := must(t)(w.Resume(bg, message("f"), nil)); s.DataAddress == nil {
			t.Error("resume gave no address")
		}
		w.transfer("f").end <- nil
		w.eventually("the sink released", func() bool { return w.sinks.all() == "Queue:f" })
		w.wantState("f", flow.Completed)
	})
}
