package flow_test

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/towpath-dataplane/towpath/host/flow"
	"github.com/towpath-dataplane/towpath/sdk"
)

// What ran has ended, and that cannot be stored at the moment: it is not forgotten, and an operator sees it.
func TestTheEndIsStoredWhenTheStoreWorksAgain(t *testing.T) {
	in(t, func(t *testing.T, w *world) {
		must(t)(w.Start(bg, create("moved", "push")))
		must(t)(w.Start(bg, create("broken", "push")))
		c := create("ready", "async/pull")
		answered := make(chan struct{})
		c.Answered = answered
		must(t)(w.Start(bg, c))
		moved, broken := w.transfer("moved"), w.transfer("broken")

		w.store.Break(errors.New("disk full"))
		moved.end <- nil
		broken.end <- sdk.Errorf(sdk.Denied, "no access")
		close(answered)
		time.Sleep(time.Minute)
		for _, id := range []string{"moved", "broken", "ready"} {
			if w.Waiting(key(id)) == "" {
				t.Errorf("flow %s does not say why it waits", id)
			}
		}
		w.store.Break(nil)
		time.Sleep(time.Minute)
		for id, want := range map[string]string{"moved": "completed COMPLETED pending", "broken": "errored STARTED pending", "ready": "started STARTED pending"} {
			if diff := cmp.Diff([]string{want}, w.callbacks(id)); diff != "" {
				t.Errorf("flow %s: %s", id, diff)
			}
			if waits := w.Waiting(key(id)); waits != "" {
				t.Errorf("flow %s still waits: %s", id, waits)
			}
		}
	})
}

// That a place cannot be stored is no fault of the flow: the transfer is told to try again.
func TestAPlaceThatCannotBeStoredNow(t *testing.T) {
	w := newWorld(t)
	must(t)(w.Start(bg, create("f", "push")))
	for failure, again := range map[error]bool{fmt.Errorf("disk full: %w", flow.ErrStorage): true, errors.New("the database is damaged"): false} {
		w.store.Break(failure)
		err := w.transfer("f").progress.Checkpoint(bg, flow.Checkpoint{}, sdk.Totals{Bytes: 1}, nil)
		if !errors.Is(err, failure) || sdk.AsError(err).Retryable != again {
			t.Errorf("got %#v, which should be retryable: %t", err, again)
		}
	}
}

func TestASignalGoesBeforeAnEndThatIsNotStored(t *testing.T) {
	in(t, func(t *testing.T, w *world) {
		must(t)(w.Start(bg, create("f", "push")))
		tr := w.transfer("f")
		w.store.Break(errors.New("disk full"))
		tr.end <- nil
		synctest.Wait()
		w.store.Break(nil)
		must(t)(w.Suspend(bg, message("f"), ""))
		time.Sleep(time.Hour)
		w.wantState("f", flow.Suspended)
		must(t)(w.Terminate(bg, message("f"), ""))
		if got := w.callbacks("f"); got != nil {
			t.Errorf("callbacks %v", got)
		}
	})
}

// A transfer that does not stop when it is cut is outlived by the signals, but not by the next transfer, which goes on where it was.
func TestOneTransferAtATime(t *testing.T) {
	in(t, func(t *testing.T, w *world) {
		var running, runs atomic.Int32
		free := make(chan struct{})
		from := make(chan string, 1)
		w.restart(func(o *flow.Options) {
			o.Transfer = func(ctx context.Context, f *flow.Flow, p flow.Progress) error {
				if running.Add(1) > 1 {
					t.Error("two transfers at a time")
				}
				defer running.Add(-1)
				if runs.Add(1) == 1 {
					<-free
					return p.Checkpoint(bg, flow.Checkpoint{Source: []byte("late")}, sdk.Totals{Bytes: 5}, nil)
				}
				from <- fmt.Sprintf("%s %d", f.Checkpoint.Source, f.Totals.Bytes)
				return nil
			}
		})
		must(t)(w.Start(bg, create("f", "push")))
		synctest.Wait()
		must(t)(w.Suspend(bg, message("f"), ""))
		must(t)(w.Resume(bg, message("f"), nil))
		synctest.Wait()
		if w.Waiting(key("f")) == "" {
			t.Error("an operator cannot see why the flow waits")
		}
		must(t)(w.Suspend(bg, message("f"), ""))
		must(t)(w.Resume(bg, message("f"), nil))
		close(free)
		synctest.Wait()
		if got := <-from; got != "late 5" {
			t.Errorf("goes on from %s", got)
		}
		w.wantState("f", flow.Completed)
	})
}

// What work has made is taken back when the flow cannot be stored.
func TestAFlowThatCannotBeStoredLeavesNothing(t *testing.T) {
	in(t, func(t *testing.T, w *world) {
		for _, profile := range []string{"sync/pull", "provisioned/pull"} {
			w.checker.setSlow(make(chan struct{}))
			failed := make(chan error)
			go func() {
				_, err := w.Start(bg, create("f", profile))
				failed <- err
			}()
			synctest.Wait()
			full := errors.New("disk full")
			w.store.Break(full)
			w.checker.release()
			if err := <-failed; !errors.Is(err, full) {
				t.Errorf("start with a broken store: %v", err)
			}
			w.store.Break(nil)
		}
		if len(w.endpoint.live) > 0 || w.sinks.all() != "Queue:f" {
			t.Errorf("tokens that work: %v; released: %q", w.endpoint.live, w.sinks.all())
		}
	})
}

// Whoever hangs up does not leave the flow locked behind.
func TestTheCallerOfAStartHangsUp(t *testing.T) {
	in(t, func(t *testing.T, w *world) {
		w.checker.setSlow(make(chan struct{}))
		ctx, cancel := context.WithTimeout(bg, time.Minute)
		defer cancel()
		if _, err := w.Start(ctx, create("f", "sync/pull")); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("got %v", err)
		}
		if _, err := w.Terminate(bg, message("f"), ""); !errors.Is(err, flow.ErrNotFound) {
			t.Errorf("terminate: %v", err)
		}
		w.checker.release()
		must(t)(w.Start(bg, create("f", "sync/pull")))
	})
}

// A process that dies between the commit of a terminate and its effect leaves tokens, which the next one ends.
func TestTokensOfAFlowThatEndedWithItsProcess(t *testing.T) {
	in(t, func(t *testing.T, w *world) {
		must(t)(w.Start(bg, create("f", "pull")))
		err := w.store.Update(bg, key("f"), func(tx flow.Tx) error {
			f, err := tx.Flow()
			if err != nil {
				return err
			}
			f.State, f.Issued, f.Leftover = flow.Terminated, nil, true
			return tx.Put(f)
		})
		if err != nil {
			t.Fatal(err)
		}
		w.restart(nil)
		synctest.Wait()
		if len(w.endpoint.live) > 0 || w.flow("f").Leftover {
			t.Errorf("tokens that work: %v", w.endpoint.live)
		}
	})
}

// trippingStore fails with one of the next updates.
type trippingStore struct {
	flow.Store
	next atomic.Int32
}

func (s *trippingStore) Update(ctx context.Context, key flow.Key, fn func(flow.Tx) error) error {
	if s.next.Add(-1) == 0 {
		return errDisk
	}
	return s.Store.Update(ctx, key, fn)
}

func TestAResumeThatFailsLeavesNoToken(t *testing.T) {
	in(t, func(t *testing.T, w *world) {
		s := &trippingStore{Store: w.store}
		w.restart(func(o *flow.Options) { o.Store = s })
		must(t)(w.Start(bg, create("f", "pull")))
		must(t)(w.Suspend(bg, message("f"), ""))
		s.next.Store(2)
		if _, err := w.Resume(bg, message("f"), nil); !errors.Is(err, errDisk) {
			t.Errorf("resume: %v", err)
		}
		w.wantState("f", flow.Suspended)
		if len(w.endpoint.live) > 0 {
			t.Errorf("tokens that work: %v", w.endpoint.live)
		}
	})
}

// The address that a resume brings counts, also when the clock was set back.
func TestANewAddressAfterTheClockWasSetBack(t *testing.T) {
	in(t, func(t *testing.T, w *world) {
		var back atomic.Int64
		w.restart(func(o *flow.Options) {
			o.Clock = func() time.Time { return time.Now().Add(-time.Duration(back.Load())) }
		})
		must(t)(w.Start(bg, create("f", "push")))
		must(t)(w.Suspend(bg, message("f"), ""))
		back.Store(int64(time.Hour))
		must(t)(w.Resume(bg, message("f"), &sdk.DataAddress{Type: "push", Endpoint: "https://there/new"}))
		if got := w.flow("f").Remote.Endpoint; got != "https://there/new" {
			t.Errorf("the flow goes to %s", got)
		}
	})
}

// slowEndpoint issues, and then takes its time to say so, whoever waits; and it takes its time to revoke.
type slowEndpoint struct {
	*endpoint
	slow   atomic.Pointer[chan struct{}]
	revoke atomic.Pointer[chan struct{}]
}

func (e *slowEndpoint) Revoke(ctx context.Context, key flow.Key) error {
	if slow := e.revoke.Swap(nil); slow != nil {
		<-*slow
	}
	return e.endpoint.Revoke(ctx, key)
}

func (e *slowEndpoint) Issue(ctx context.Context, f *flow.Flow) (sdk.DataAddress, error) {
	a, err := e.endpoint.Issue(ctx, f)
	if slow := e.slow.Swap(nil); slow != nil {
		<-*slow
	}
	return a, err
}

// A retry takes the place of an attempt that is about to succeed: only the token of the one that takes its place counts.
func TestRetryOfWorkThatSucceeds(t *testing.T) {
	in(t, func(t *testing.T, w *world) {
		e := &slowEndpoint{endpoint: w.endpoint}
		w.restart(func(o *flow.Options) { o.Endpoint = e })
		w.endpoint.breakWith(sdk.Retryf(sdk.Exhausted, "busy"))
		must(t)(w.Start(bg, create("f", "async/pull")))
		synctest.Wait()
		w.endpoint.breakWith(nil)
		slow := make(chan struct{})
		e.slow.Store(&slow)
		time.Sleep(100 * time.Millisecond)
		if w.Waiting(key("f")) == "" {
			t.Fatal("the flow does not wait for its next attempt")
		}
		time.Sleep(time.Second) // the second attempt has issued a token
		retried := make(chan error)
		go func() { retried <- w.Retry(bg, key("f")) }()
		synctest.Wait()
		next, revoke := make(chan struct{}), make(chan struct{})
		e.slow.Store(&next)
		e.revoke.Store(&revoke)
		close(slow)
		if err := <-retried; err != nil {
			t.Fatal(err)
		}
		synctest.Wait() // the one before has found out that it is too late, and the next has issued its token
		close(revoke)
		synctest.Wait()
		close(next)
		synctest.Wait()
		w.wantState("f", flow.Started)
		if f := w.flow("f"); f.Issued == nil || !w.endpoint.works(f.Issued) {
			t.Error("the address that was handed out does not work")
		}
	})
}

// Thousands of flows that were being set up do not hold up the start, nor fall upon the plugins all at once, nor wait for one of them
// that hangs.
func TestManyFlowsAreRevivedByTurns(t *testing.T) {
	in(t, func(t *testing.T, w *world) {
		const many = 400
		for i := range many {
			err := w.store.Update(bg, key(fmt.Sprint(i)), func(tx flow.Tx) error {
				return tx.Put(&flow.Flow{Role: flow.Provider, Direction: flow.Pull, State: flow.Starting, Profile: "pull", DatasetID: "data",
					ControlPlane: "cp", Local: sdk.DataAddress{Type: "Here"}})
			})
			if err != nil {
				t.Fatal(err)
			}
		}
		w.checker.setSlow(make(chan struct{}))
		begun := time.Now()
		w.restart(nil)
		if took := time.Since(begun); took > 0 {
			t.Errorf("the start took %v", took)
		}
		synctest.Wait()
		const atOnce = 64
		for i := range 3 {
			if n := w.checker.count(); n != (i+1)*atOnce {
				t.Errorf("%d were begun within %d seconds", n, i+1)
			}
			time.Sleep(time.Second + time.Millisecond)
			synctest.Wait()
		}
		w.checker.release()
		synctest.Wait()
		if counts, err := w.store.Count(bg); err != nil || counts[flow.Started] != many {
			t.Errorf("%v, %v", counts, err)
		}
	})
}

// A plugin that is busy does not say anything against an address.
func TestABusyPluginRefusesNothing(t *testing.T) {
	in(t, func(t *testing.T, w *world) {
		w.checker.failWith(sdk.Retryf(sdk.Exhausted, "busy"))
		must(t)(w.Start(bg, create("f", "sync/push")))
		must(t)(w.Prepare(bg, create("g", "pull")))
		must(t)(w.Started(bg, message("g"), renewable()))
		w.transfer("f")
		w.transfer("g")
	})
}
