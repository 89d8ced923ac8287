package storetest

import (
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/towpath-dataplane/towpath/host/flow"
)

func put(t *testing.T, s Store, f *flow.Flow) {
	t.Helper()
	update(t, s, f.Key, func(tx flow.Tx) error { return tx.Put(f) })
}

func update(t *testing.T, s Store, k flow.Key, fn func(flow.Tx) error) {
	t.Helper()
	if err := s.Update(t.Context(), k, fn); err != nil {
		t.Fatalf("update flow %v: %v", k, err)
	}
}

func read(t *testing.T, s Store, k flow.Key) *flow.Flow {
	t.Helper()
	f, err := s.Flow(t.Context(), k)
	if err != nil {
		t.Fatalf("read flow %v: %v", k, err)
	}
	v, err := s.View(t.Context(), k)
	must(t, err)
	if diff := cmp.Diff(f, v); diff != "" {
		t.Errorf("View is not Flow: %s", diff)
	}
	return f
}

func list(t *testing.T, s Store, filter flow.Filter) []int {
	t.Helper()
	flows, err := s.Flows(t.Context(), filter)
	must(t, err)
	var ids []int
	for _, f := range flows {
		ids = append(ids, number(t, f))
	}
	return ids
}

func number(t *testing.T, f *flow.Flow) int {
	t.Helper()
	var n int
	_, err := fmt.Sscan(f.ID, &n)
	must(t, err)
	return n
}

// must does not end the test, because it is also called by functions that a store may run on a goroutine of its own.
func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Error(err)
	}
}

// enqueue adds a callback to a flow, which it makes if there is none.
func enqueue(t *testing.T, s Store, id, message string, next time.Time) {
	t.Helper()
	update(t, s, key(id), func(tx flow.Tx) error {
		if _, err := tx.Flow(); err != nil {
			must(t, tx.Put(started(id)))
		}
		return tx.Enqueue(flow.Callback{Kind: flow.CallbackStarted, MessageID: message, Next: next})
	})
}

func due(t *testing.T, s Store, at time.Time, limit int) []flow.Callback {
	t.Helper()
	found, err := s.Due(t.Context(), at, limit)
	if err != nil {
		t.Fatal(err)
	}
	return found
}

func settle(t *testing.T, s Store, c flow.Callback, status flow.CallbackStatus) {
	t.Helper()
	c.Status = status
	if err := s.Settle(t.Context(), c); err != nil {
		t.Fatal(err)
	}
}

func parts(t *testing.T, s Store, k flow.Key) []flow.Part {
	t.Helper()
	found, err := s.Parts(t.Context(), k, 0, 1000)
	must(t, err)
	return found
}

func callbacks(t *testing.T, s Store, k flow.Key) []flow.Callback {
	t.Helper()
	found, err := s.Callbacks(t.Context(), k)
	must(t, err)
	return found
}
