package store

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"

	"github.com/towpath-dataplane/towpath/host/flow"
)

// held is a database whose writer is held in the middle of an update, so that all others wait.
type held struct {
	*DB
	t       *testing.T
	release chan struct{}
	holder  chan error
}

// hold runs test in a synctest bubble, with a writer that is held.
func hold(t *testing.T, test func(t *testing.T, h *held)) {
	synctest.Test(t, func(t *testing.T) {
		h := &held{DB: openTest(t), t: t, release: make(chan struct{}), holder: make(chan error, 1)}
		go func() {
			h.holder <- h.Update(context.Background(), testKey("holder"), func(tx flow.Tx) error {
				<-h.release
				return tx.Put(testFlow("holder"))
			})
		}()
		synctest.Wait()
		test(t, h)
	})
}

// wait starts updates, waits until all of them wait, lets the writer go, and returns how each ended.
func (h *held) wait(updates ...func(flow.Tx) error) []error {
	results := make([]error, len(updates))
	var wg sync.WaitGroup
	for i, fn := range updates {
		wg.Go(func() { results[i] = h.Update(context.Background(), testKey(fmt.Sprint(i)), fn) })
	}
	synctest.Wait()
	close(h.release)
	wg.Wait()
	return results
}

// stored reports whether there is a flow, for reads and for transactions.
func (h *held) stored(id string) bool {
	h.t.Helper()
	_, err := h.Flow(context.Background(), testKey(id))
	var inTx error
	if e := h.Update(context.Background(), testKey(id), func(tx flow.Tx) error { _, inTx = tx.Flow(); return nil }); e != nil {
		h.t.Error(e)
	}
	for _, err := range []error{err, inTx} {
		if err != nil && !errors.Is(err, flow.ErrNotFound) {
			h.t.Error(err)
		}
	}
	if (err == nil) != (inTx == nil) {
		h.t.Errorf("flow %s: a read says %v, a transaction %v", id, err, inTx)
	}
	return err == nil
}

func TestAFailureInAGroupStandsAlone(t *testing.T) {
	hold(t, func(t *testing.T, h *held) {
		boom := errors.New("boom")
		results := h.wait(
			putTest("0"),
			func(tx flow.Tx) error { return errors.Join(tx.Put(testFlow("1")), boom) },
			func(tx flow.Tx) error { tx.Put(testFlow("2")); panic(boom) },
			func(tx flow.Tx) error { tx.Put(testFlow("3")); panic(nil) },
			func(tx flow.Tx) error { return tx.Enqueue(flow.Callback{}) },
			putTest("5"),
		)
		var panicked *PanicError
		for i, want := range []func(error) bool{
			func(err error) bool { return err == nil },
			func(err error) bool { return errors.Is(err, boom) },
			func(err error) bool {
				return errors.As(err, &panicked) && panicked.Value == boom && strings.Contains(string(panicked.Stack), "writer_test.go")
			},
			func(err error) bool { return errors.As(err, &panicked) },
			func(err error) bool { return errors.Is(err, flow.ErrNotFound) },
			func(err error) bool { return err == nil },
		} {
			if !want(results[i]) {
				t.Errorf("update %d: %v", i, results[i])
			}
			if got := h.stored(fmt.Sprint(i)); got != (results[i] == nil) {
				t.Errorf("update %d: %v, stored %v", i, results[i], got)
			}
		}
		if err := <-h.holder; err != nil || !h.stored("holder") {
			t.Errorf("the first of the group: %v", err)
		}
	})
}

// What updates of a group write is written late, but before the next of the same flow looks.
func TestAnUpdateSeesWhatItsGroupDid(t *testing.T) {
	hold(t, func(t *testing.T, h *held) {
		const n = 5
		var order atomic.Int64
		var wg sync.WaitGroup
		for range n {
			wg.Go(func() {
				err := h.Update(context.Background(), testKey("f"), func(tx flow.Tx) error {
					i := order.Add(1)
					f, err := tx.Flow()
					if i == 1 && errors.Is(err, flow.ErrNotFound) {
						f, err = testFlow("f"), nil
					}
					if err != nil {
						return err
					}
					if f.Totals.Bytes != i-1 {
						t.Errorf("update %d reads the total %d", i, f.Totals.Bytes)
					}
					if _, ok, _ := tx.Answer(fmt.Sprint(i - 1)); ok != (i > 1) {
						t.Errorf("update %d: the answer before it is there: %v", i, ok)
					}
					f.Totals.Bytes = i
					replaced, e := false, tx.Put(f)
					if e == nil {
						replaced, e = tx.AddPart(flow.Part{Name: "p"})
					}
					if replaced != (i > 1) {
						t.Errorf("update %d replaces a part: %v", i, replaced)
					}
					return errors.Join(e, tx.PutAnswer(fmt.Sprint(i), flow.Answer{}), tx.Enqueue(flow.Callback{MessageID: fmt.Sprint(i)}))
				})
				if err != nil {
					t.Error(err)
				}
			})
		}
		synctest.Wait()
		// The last in the queue runs its statements at once, and sees it too.
		wg.Go(func() {
			err := h.change(context.Background(), func(w *writer) (err error) {
				var flows, callbacks int64
				err = w.one(`SELECT (SELECT count(*) FROM flows WHERE flow_id = 'f'), (SELECT count(*) FROM callbacks)`)(&flows, &callbacks)
				if flows != 1 || callbacks != n {
					t.Errorf("after %d updates there are %d flows and %d callbacks", n, flows, callbacks)
				}
				return err
			})
			if err != nil {
				t.Error(err)
			}
		})
		synctest.Wait()
		close(h.release)
		wg.Wait()
	})
}

func TestAnUpdateThatCannotBePreparedStandsAlone(t *testing.T) {
	hold(t, func(t *testing.T, h *held) {
		boom := errors.New("boom")
		result := make(chan error, 1)
		go func() {
			own, failure := h.write.do(context.Background(), &job{
				key:     testKey("f"),
				decide:  func(*writer) error { return nil },
				prepare: func() error { return boom },
				write:   func() error { t.Error("it was written"); return nil },
			})
			if failure != nil {
				t.Error(failure)
			}
			result <- own
		}()
		if err := h.wait(putTest("0"))[0]; err != nil || !h.stored("0") {
			t.Errorf("another of the group: %v", err)
		}
		if err := <-result; err != boom {
			t.Errorf("got %v, want its own failure", err)
		}
	})
}

// Of two messages with one key in the index, neither gets the answer to the other.
func TestMessagesWithTheSameKey(t *testing.T) {
	db := openTest(t)
	answer := func(message string) (a flow.Answer, ok bool) {
		err := db.Update(t.Context(), testKey("f"), func(tx flow.Tx) (err error) {
			a, ok, err = tx.Answer(message)
			return err
		})
		if err != nil {
			t.Error(err)
		}
		return a, ok
	}
	put := func(tx flow.Tx) error {
		return errors.Join(tx.Put(testFlow("f")), tx.PutAnswer("m", flow.Answer{Operation: "start"}))
	}
	if err := db.Update(t.Context(), testKey("f"), put); err != nil {
		t.Fatal(err)
	}
	err := db.change(t.Context(), func(w *writer) error { return w.exec(`UPDATE answers SET message_id = 'other'`) })
	if err != nil {
		t.Fatal(err)
	}
	if _, ok := answer("m"); ok {
		t.Error("it got the answer to the other message")
	}
	if err := db.Update(t.Context(), testKey("f"), put); err != nil {
		t.Fatal(err)
	}
	if a, ok := answer("m"); !ok || a.Operation != "start" {
		t.Errorf("its own answer: %v, %v", a, ok)
	}
}

// All of a group hear that its commit failed, also those that failed by themselves: what they saw was never true.
func TestAFailedCommitFailsTheGroup(t *testing.T) {
	hold(t, func(t *testing.T, h *held) {
		own := errors.New("own failure")
		results := h.wait(
			putTest("0"),
			func(t flow.Tx) error {
				// A reference that is checked at the commit.
				w := t.(*tx).w
				return errors.Join(w.exec(`PRAGMA defer_foreign_keys = ON`),
					w.exec(`INSERT INTO callbacks (flow, control_plane, kind, message_id, state, error, created, attempts, next, last_error, status)
						VALUES (-1, '', '', '', '', '', 0, 0, 0, '', '')`))
			},
			func(flow.Tx) error { return own },
			func(tx flow.Tx) error { return errors.Join(tx.Put(testFlow("3")), tx.Enqueue(flow.Callback{})) },
		)
		for i, err := range append(results, <-h.holder) {
			if err == nil || errors.Is(err, own) || !strings.Contains(err.Error(), "FOREIGN KEY") {
				t.Errorf("update %d: %v, want the failure of the commit", i, err)
			}
		}
		for _, id := range []string{"0", "3", "holder"} {
			if h.stored(id) {
				t.Errorf("flow %s is there", id)
			}
		}
		select {
		case <-h.Added():
			t.Error("a callback was announced that is not there")
		default:
		}
		if err := h.Update(t.Context(), testKey("0"), putTest("0")); err != nil {
			t.Errorf("the next update: %v", err)
		}
	})
}

func TestCancelledWhileItWaits(t *testing.T) {
	hold(t, func(t *testing.T, h *held) {
		ctx, cancel := context.WithCancel(t.Context())
		result := make(chan error)
		go func() { result <- h.Update(ctx, testKey("f"), putTest("f")) }()
		synctest.Wait()
		cancel()
		if err := <-result; !errors.Is(err, context.Canceled) {
			t.Errorf("got %v, want context.Canceled before the writer goes on", err)
		}
		close(h.release)
		<-h.holder
		if h.stored("f") {
			t.Error("the cancelled update was run")
		}
	})
}

func TestClosedWhileItWaits(t *testing.T) {
	hold(t, func(t *testing.T, h *held) {
		result, closed := make(chan error, 1), make(chan error, 1)
		go func() { result <- h.Update(context.Background(), testKey("f"), putTest("f")) }()
		synctest.Wait()
		go func() { closed <- h.Close() }()
		synctest.Wait()
		select {
		case err := <-closed:
			t.Errorf("Close did not wait for the update that runs: %v", err)
		default:
		}
		close(h.release)
		if err := <-h.holder; err != nil {
			t.Errorf("the update that ran: %v", err)
		}
		if err := <-closed; err != nil {
			t.Errorf("Close: %v", err)
		}
		if err := <-result; err != nil && !errors.Is(err, ErrClosed) {
			t.Errorf("the update that waited: %v, want nil or ErrClosed", err)
		}
	})
}

func TestGroupIsBounded(t *testing.T) {
	hold(t, func(t *testing.T, h *held) {
		updates := make([]func(flow.Tx) error, 3*maxBatch)
		for i := range updates {
			updates[i] = putTest(fmt.Sprint(i))
		}
		// The first of the group fails its commit; no more than a group may fall with it.
		failed := 0
		updates[0] = func(t flow.Tx) error {
			w := t.(*tx).w
			return errors.Join(w.exec(`PRAGMA defer_foreign_keys = ON`),
				w.exec(`INSERT INTO callbacks (flow, control_plane, kind, message_id, state, error, created, attempts, next, last_error, status)
						VALUES (-1, '', '', '', '', '', 0, 0, 0, '', '')`))
		}
		for i, err := range h.wait(updates...) {
			if err != nil {
				failed++
			}
			if got := h.stored(fmt.Sprint(i)); got != (err == nil) {
				t.Errorf("update %d: %v, stored %v", i, err, got)
			}
		}
		if failed < 2 || failed > maxBatch {
			t.Errorf("%d updates fell with one commit, want at most %d", failed, maxBatch)
		}
	})
}

func TestDiskFull(t *testing.T) {
	db := openTest(t)
	if err := db.Update(t.Context(), testKey("before"), putTest("before")); err != nil {
		t.Fatal(err)
	}
	pragma(t, db, `PRAGMA max_page_count = 1`) // SQLite takes the number of pages there are
	var full error
	for i := range 1000 {
		id := fmt.Sprint("large ", i)
		full = db.Update(t.Context(), testKey(id), func(tx flow.Tx) error {
			f := testFlow(id)
			f.Reason = strings.Repeat("x", 4000)
			return tx.Put(f)
		})
		_, err := db.Flow(t.Context(), testKey(id))
		if (full == nil) != (err == nil) {
			t.Errorf("flow %d: Update says %v, Flow %v", i, full, err)
		}
		if full != nil {
			break
		}
	}
	if !errors.Is(full, ErrFull) || !errors.Is(full, flow.ErrStorage) {
		t.Errorf("got %v, want ErrFull, which is flow.ErrStorage", full)
	}
	if _, err := db.Flow(t.Context(), testKey("before")); err != nil {
		t.Errorf("what was there before: %v", err)
	}
	pragma(t, db, `PRAGMA max_page_count = 1000000`)
	if err := db.Update(t.Context(), testKey("after"), putTest("after")); err != nil {
		t.Errorf("when there is space again: %v", err)
	}
}

func TestReadOnly(t *testing.T) {
	db := openTest(t)
	pragma(t, db, `PRAGMA query_only = 1`)
	if err := db.Update(t.Context(), testKey("f"), putTest("f")); !errors.Is(err, ErrReadOnly) {
		t.Errorf("got %v, want ErrReadOnly", err)
	}
}

func openTest(t *testing.T) *DB {
	t.Helper()
	db, err := Open(t.Context(), Options{Path: filepath.Join(t.TempDir(), "towpath.db"), Key: [32]byte{1}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := db.Close(); err != nil {
			t.Error(err)
		}
	})
	return db
}

// pragma sets something for the connection that writes.
func pragma(t *testing.T, db *DB, statement string) {
	t.Helper()
	err := db.change(t.Context(), func(w *writer) error {
		_, err := w.conn.ExecContext(t.Context(), statement)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

func putTest(id string) func(flow.Tx) error {
	return func(tx flow.Tx) error { return tx.Put(testFlow(id)) }
}

func testKey(id string) flow.Key { return flow.Key{Context: flow.DefaultContext, ID: id} }

func testFlow(id string) *flow.Flow { return &flow.Flow{Key: testKey(id), State: flow.Started} }
