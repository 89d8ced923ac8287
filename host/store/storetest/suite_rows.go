package storetest

import (
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/towpath-dataplane/towpath/host/flow"
	"github.com/towpath-dataplane/towpath/sdk"
)

func testParts(t *testing.T, s Store) {
	put(t, s, started("f"))
	put(t, s, started("g"))
	part := func(index uint64, name string) flow.Part {
		return flow.Part{
			Index: index, Name: name, Size: 1 << 33, Records: 2, Location: "file:///" + name,
			Digests:  sdk.Digests{sdk.CRC32C: {1, 2, 3, 4}, sdk.SHA256: {0xff}},
			Finished: time.Date(2026, 3, 4, 5, 6, 7, 8000, time.UTC),
		}
	}
	add := func(p flow.Part) bool {
		t.Helper()
		var replaced bool
		update(t, s, key("f"), func(tx flow.Tx) (err error) {
			replaced, err = tx.AddPart(p)
			return err
		})
		return replaced
	}
	a, b, c := part(0, "a"), part(1, "dir/b"), part(2, "c")
	for _, p := range []flow.Part{c, a, b} {
		if add(p) {
			t.Errorf("AddPart(%s) replaced something", p.Name)
		}
	}
	if diff := cmp.Diff([]flow.Part{a, b, c}, parts(t, s, key("f"))); diff != "" {
		t.Error("parts (-want +got):\n", diff)
	}
	bare := flow.Part{Index: 7, Name: "a"}
	if !add(bare) {
		t.Error("AddPart replaced nothing")
	}
	for _, tc := range []struct {
		from  uint64
		limit int
		want  []flow.Part
	}{
		{0, 10, []flow.Part{b, c, bare}},
		{0, 2, []flow.Part{b, c}},
		{2, 10, []flow.Part{c, bare}},
		{8, 10, nil},
		{1 << 63, 10, nil},
		{0, 0, nil},
		{0, -1, nil},
	} {
		got, err := s.Parts(t.Context(), key("f"), tc.from, tc.limit)
		must(t, err)
		if diff := cmp.Diff(tc.want, got, cmpopts.EquateEmpty()); diff != "" {
			t.Errorf("parts from %d, at most %d (-want +got):\n%s", tc.from, tc.limit, diff)
		}
	}
	for _, k := range []flow.Key{key("g"), key("none")} {
		if got := parts(t, s, k); len(got) > 0 {
			t.Errorf("flow %s has parts %v", k, got)
		}
	}
	update(t, s, key("f"), func(tx flow.Tx) error {
		got, ok, err := tx.Part("dir/b")
		if diff := cmp.Diff(b, got); diff != "" || !ok || err != nil {
			t.Errorf("Tx.Part: %v, %v (-want +got):\n%s", ok, err, diff)
		}
		if _, ok, err := tx.Part("none"); ok || err != nil {
			t.Errorf("Tx.Part of a part that is not there: %v, %v", ok, err)
		}
		return nil
	})
}

// testResponseParts looks at what came on a response channel: it has names and places of its own.
func testResponseParts(t *testing.T, s Store) {
	put(t, s, started("f"))
	there := flow.Part{Index: 0, Name: "a", Size: 1, Digests: sdk.Digests{sdk.CRC32C: {1, 2, 3, 4}}, Finished: time.Date(2026, 3, 4, 5, 6, 7, 8000, time.UTC)}
	back, again := there, there
	back.Response, back.Size = true, 2
	again.Response, again.Size, again.Index = true, 3, 4
	add := func(p flow.Part, want bool) {
		t.Helper()
		update(t, s, key("f"), func(tx flow.Tx) error {
			replaced, err := tx.AddPart(p)
			if replaced != want {
				t.Errorf("AddPart(%+v) replaced %v", p, replaced)
			}
			return err
		})
	}
	add(there, false)
	add(back, false)
	update(t, s, key("f"), func(tx flow.Tx) error {
		got, ok, err := tx.ResponsePart("a")
		if diff := cmp.Diff(back, got); diff != "" || !ok || err != nil {
			t.Errorf("Tx.ResponsePart: %v, %v (-want +got):\n%s", ok, err, diff)
		}
		if _, ok, err := tx.ResponsePart("none"); ok || err != nil {
			t.Errorf("Tx.ResponsePart of a part that is not there: %v, %v", ok, err)
		}
		got, ok, err = tx.Part("a")
		if diff := cmp.Diff(there, got); diff != "" || !ok || err != nil {
			t.Errorf("Tx.Part: %v, %v (-want +got):\n%s", ok, err, diff)
		}
		return nil
	})
	add(again, true)
	got, err := s.ResponseParts(t.Context(), key("f"), 1, 10)
	if diff := cmp.Diff([]flow.Part{again}, got); diff != "" || err != nil {
		t.Errorf("response parts: %v (-want +got):\n%s", err, diff)
	}
	if diff := cmp.Diff([]flow.Part{there}, parts(t, s, key("f"))); diff != "" {
		t.Error("parts (-want +got):\n", diff)
	}
}

func testAnswers(t *testing.T, s Store) {
	put(t, s, started("f"))
	put(t, s, started("g"))
	first := flow.Answer{
		Operation: "start", Body: []byte{1, 2}, State: flow.Started,
		DataAddress: &sdk.DataAddress{Type: "HttpData", Properties: map[string]string{"authorization": "ours"}},
	}
	refused := flow.Answer{Operation: "resume", State: flow.Completed, Refused: "flow is COMPLETED"}
	answer := func(k flow.Key, message string) (a flow.Answer, ok bool) {
		t.Helper()
		update(t, s, k, func(tx flow.Tx) (err error) {
			a, ok, err = tx.Answer(message)
			return err
		})
		return a, ok
	}
	update(t, s, key("f"), func(tx flow.Tx) error {
		must(t, tx.PutAnswer("m1", first))
		got, ok, err := tx.Answer("m1")
		if diff := cmp.Diff(first, got); diff != "" || !ok {
			t.Errorf("in the transaction that put it: %v (-want +got):\n%s", ok, diff)
		}
		return err
	})
	update(t, s, key("f"), func(tx flow.Tx) error { return tx.PutAnswer("m2", refused) })
	for message, want := range map[string]flow.Answer{"m1": first, "m2": refused} {
		got, ok := answer(key("f"), message)
		if diff := cmp.Diff(want, got); diff != "" || !ok {
			t.Errorf("%s: %v (-want +got):\n%s", message, ok, diff)
		}
	}
	if _, ok := answer(key("f"), "m3"); ok {
		t.Error("there is an answer to a message that never came")
	}
	for _, k := range []flow.Key{key("g"), {Context: "other", ID: "f"}} {
		if _, ok := answer(k, "m1"); ok {
			t.Errorf("flow %v has an answer to a message for another flow", k)
		}
	}
	update(t, s, key("f"), func(tx flow.Tx) error { return tx.PutAnswer("m1", refused) })
	if got, _ := answer(key("f"), "m1"); got.Operation != refused.Operation || got.DataAddress != nil {
		t.Errorf("the answer was not replaced: %+v", got)
	}
}

func testCallbacks(t *testing.T, s Store) {
	put(t, s, started("f"))
	put(t, s, started("g"))
	want := flow.Callback{
		ControlPlane: "cp", To: "https://cp-0.example/x", Kind: flow.CallbackStarted, MessageID: "m", State: flow.Started, Error: "why",
		DataAddress: &sdk.DataAddress{Type: "HttpData", Properties: map[string]string{"authorization": "ours"}},
	}
	var now time.Time
	update(t, s, key("f"), func(tx flow.Tx) error {
		now = tx.Now()
		must(t, tx.Enqueue(want))
		later := want
		later.Kind, later.DataAddress, later.Next = flow.CallbackCompleted, nil, now.Add(time.Hour)
		return tx.Enqueue(later)
	})
	got := callbacks(t, s, key("f"))
	if len(got) != 2 || got[0].ID >= got[1].ID {
		t.Fatalf("callbacks %+v, want two with rising ids", got)
	}
	want.Key, want.Created, want.Next, want.Status = key("f"), now, now, flow.CallbackPending
	if diff := cmp.Diff(want, got[0], cmpopts.IgnoreFields(flow.Callback{}, "ID")); diff != "" {
		t.Error("(-want +got):\n", diff)
	}
	if !got[1].Next.Equal(now.Add(time.Hour)) || got[1].DataAddress != nil {
		t.Errorf("the second is due at %v with %v", got[1].Next, got[1].DataAddress)
	}
	for _, k := range []flow.Key{key("g"), key("none")} {
		if other := callbacks(t, s, k); len(other) > 0 {
			t.Errorf("flow %s has callbacks %v", k, other)
		}
	}
}

func testDue(t *testing.T, s Store) {
	if _, ok, err := s.NextDue(t.Context()); ok || err != nil {
		t.Errorf("NextDue of an empty outbox: %v, %v", ok, err)
	}
	now := time.Date(2026, 3, 4, 5, 6, 7, 0, time.UTC)
	// Flow b is due first, flow a waits although its second callback could go, flow c comes last.
	enqueue(t, s, "a", "a1", now.Add(2*time.Minute))
	enqueue(t, s, "a", "a2", now.Add(-time.Hour))
	enqueue(t, s, "b", "b1", now.Add(-time.Minute))
	enqueue(t, s, "b", "b2", now.Add(-2*time.Minute))
	enqueue(t, s, "c", "c1", now)

	check := func(at time.Time, limit int, want ...string) {
		t.Helper()
		got := due(t, s, at, limit)
		var ids []string
		for _, c := range got {
			ids = append(ids, c.MessageID)
		}
		if !slices.Equal(ids, want) {
			t.Errorf("due %v after the start, at most %d: %q, want %q", at.Sub(now), limit, ids, want)
		}
	}
	check(now.Add(-2*time.Minute), 10)
	check(now.Add(-time.Minute), 10, "b1")
	check(now, 10, "b1", "c1")
	check(now, 1, "b1")
	check(now, 0)
	check(now.Add(2*time.Minute), 10, "b1", "c1", "a1")

	next, ok, err := s.NextDue(t.Context())
	if want := now.Add(-time.Minute); err != nil || !ok || !next.Equal(want) {
		t.Errorf("NextDue: %v, %v, %v; want %v, the first of flow b", next, ok, err, want)
	}
	settle(t, s, due(t, s, now, 1)[0], flow.CallbackDelivered)
	check(now, 10, "b2", "c1")
	for _, c := range due(t, s, now, 10) {
		settle(t, s, c, flow.CallbackFailed)
	}
	check(now, 10)
	if next, _, _ := s.NextDue(t.Context()); !next.Equal(now.Add(2 * time.Minute)) {
		t.Errorf("NextDue is %v, want that of a1: a2 waits behind it", next)
	}
	if n, err := s.Depth(t.Context()); n != 2 || err != nil {
		t.Errorf("Depth: %d, %v; want 2", n, err)
	}
}

func testSettle(t *testing.T, s Store) {
	now := time.Date(2026, 3, 4, 5, 6, 7, 0, time.UTC)
	enqueue(t, s, "f", "m", now)
	c := due(t, s, now, 1)[0]

	c.Attempts, c.LastErr, c.Next = 1, "503", now.Add(time.Minute)
	settle(t, s, c, flow.CallbackPending)
	if got := due(t, s, now, 1); len(got) > 0 {
		t.Errorf("it is still due: %+v", got)
	}
	got := due(t, s, now.Add(time.Minute), 1)
	if diff := cmp.Diff([]flow.Callback{c}, got); diff != "" {
		t.Fatal("after a failed attempt (-want +got):\n", diff)
	}
	c.Attempts, c.LastErr = 2, ""
	settle(t, s, c, flow.CallbackDelivered)
	delivered := callbacks(t, s, key("f"))
	if len(delivered) != 1 || delivered[0].Status != flow.CallbackDelivered || delivered[0].Attempts != 2 {
		t.Fatalf("after delivery: %+v", delivered)
	}
	settle(t, s, c, flow.CallbackPending)
	if diff := cmp.Diff(delivered, callbacks(t, s, key("f"))); diff != "" {
		t.Error("a settled callback was settled again (-want +got):\n", diff)
	}
	if err := s.Settle(t.Context(), flow.Callback{ID: 1 << 40, Status: flow.CallbackDelivered}); err == nil {
		t.Error("a callback that is not there was settled")
	}
}

func testCancel(t *testing.T, s Store) {
	now := time.Date(2026, 3, 4, 5, 6, 7, 0, time.UTC)
	for _, m := range []string{"m0", "m1", "m2", "m3"} {
		enqueue(t, s, "f", m, now)
	}
	enqueue(t, s, "g", "other", now)
	settle(t, s, due(t, s, now, 1)[0], flow.CallbackFailed)
	settle(t, s, due(t, s, now, 1)[0], flow.CallbackDelivered)
	inFlight := due(t, s, now, 1)[0]
	update(t, s, key("f"), func(tx flow.Tx) error {
		must(t, tx.CancelCallbacks())
		return tx.Enqueue(flow.Callback{MessageID: "m4", Next: now})
	})
	settle(t, s, inFlight, flow.CallbackDelivered)

	var got []string
	for _, c := range callbacks(t, s, key("f")) {
		got = append(got, c.MessageID+" "+string(c.Status))
	}
	want := []string{"m0 cancelled", "m1 delivered", "m2 cancelled", "m3 cancelled", "m4 pending"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error("(-want +got):\n", diff)
	}
	if n, _ := s.Depth(t.Context()); n != 2 {
		t.Errorf("Depth is %d, want 2: m4 and that of the other flow", n)
	}
	update(t, s, key("f"), func(tx flow.Tx) error {
		if n, err := tx.RetryCallbacks(); n != 0 || err != nil {
			t.Errorf("%d callbacks that were withdrawn are tried again, %v", n, err)
		}
		return nil
	})
}

func testAdded(t *testing.T, s Store) {
	announced := func() bool {
		select {
		case <-s.Added():
			return true
		default:
			return false
		}
	}
	put(t, s, started("f"))
	if announced() {
		t.Error("announced although nothing was enqueued")
	}
	// Nobody listens: no update waits, and one value is kept.
	for i := range 3 {
		enqueue(t, s, "f", fmt.Sprint(i), time.Now())
	}
	if !announced() || announced() {
		t.Error("want one value after several transactions")
	}
	err := s.Update(t.Context(), key("none"), func(tx flow.Tx) error { return tx.Enqueue(flow.Callback{}) })
	if !errors.Is(err, flow.ErrNotFound) || announced() {
		t.Errorf("a callback of no flow: %v", err)
	}
}

func testRetryCallbacks(t *testing.T, s Store) {
	now := time.Now().UTC().Add(-time.Hour).Truncate(time.Microsecond)
	for _, m := range []string{"m1", "m2", "m3"} {
		enqueue(t, s, "f", m, now)
	}
	enqueue(t, s, "g", "other", now)
	settle(t, s, callbacks(t, s, key("f"))[0], flow.CallbackDelivered)
	settle(t, s, callbacks(t, s, key("f"))[1], flow.CallbackFailed)
	settle(t, s, callbacks(t, s, key("g"))[0], flow.CallbackFailed)
	retried := 0
	update(t, s, key("f"), func(tx flow.Tx) (err error) {
		retried, err = tx.RetryCallbacks()
		return err
	})
	if retried != 1 {
		t.Errorf("%d callbacks are tried again, want 1", retried)
	}
	var got []string
	for _, c := range append(callbacks(t, s, key("f")), callbacks(t, s, key("g"))...) {
		got = append(got, c.MessageID+" "+string(c.Status))
	}
	want := []string{"m1 delivered", "m2 pending", "m3 pending", "other failed"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error("(-want +got):\n", diff)
	}
	again := callbacks(t, s, key("f"))[1]
	if again.Attempts != 0 || again.LastErr != "" || again.Created.Before(now.Add(time.Minute)) || again.Next.Before(now.Add(time.Minute)) {
		t.Errorf("a callback that is tried again is as old as before: %+v", again)
	}
	update(t, s, key("f"), func(tx flow.Tx) (err error) {
		retried, err = tx.RetryCallbacks()
		return err
	})
	if retried != 0 {
		t.Errorf("%d callbacks are tried again although none was given up", retried)
	}
	update(t, s, key("none"), func(tx flow.Tx) error {
		n, err := tx.RetryCallbacks()
		if n != 0 {
			t.Error("a flow that is not there has callbacks")
		}
		return err
	})
}
