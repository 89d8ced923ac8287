package storetest

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/towpath-dataplane/towpath/host/flow"
	"github.com/towpath-dataplane/towpath/sdk"
)

// TestStore tests that a store does what flow.Store, flow.Tx and flow.Outbox say. open returns an empty store that lives as long as
// the test.
func TestStore(t *testing.T, open func(t *testing.T) Store) {
	for _, tc := range []struct {
		name string
		test func(t *testing.T, s Store)
	}{
		{"a flow comes back as it was put", testRoundTrip},
		{"a sparse flow comes back as it was put", testSparse},
		{"what is for memory only is not stored", testMemoryOnly},
		{"what goes in or out is a copy", testCopies},
		{"flows are told apart by context and id", testKeys},
		{"times of a flow", testTimes},
		{"a failed update leaves nothing", testRollback},
		{"a panic in an update is an error", testPanic},
		{"a failed call fails the update", testSwallowed},
		{"a transaction ends", testTxEnds},
		{"a cancelled update does not run", testCancelled},
		{"concurrent updates lose nothing", testConcurrent},
		{"flows are listed newest first", testList},
		{"flows are counted by state", testCount},
		{"parts are kept by name and listed by index", testParts},
		{"parts of a response channel are kept apart", testResponseParts},
		{"answers are kept by flow and message", testAnswers},
		{"callbacks belong to a flow", testCallbacks},
		{"callbacks are due in order", testDue},
		{"callbacks are settled once", testSettle},
		{"callbacks are cancelled", testCancel},
		{"callbacks that were given up are tried again", testRetryCallbacks},
		{"an enqueued callback is announced", testAdded},
	} {
		t.Run(tc.name, func(t *testing.T) { tc.test(t, open(t)) })
	}
}

// Full returns a flow in which everything that a store keeps is set, but the times.
func Full(id string) *flow.Flow {
	return &flow.Flow{
		Key:  flow.Key{Context: flow.DefaultContext, ID: id},
		Role: flow.Consumer, Direction: flow.Push, State: flow.Suspended, Resumed: true,
		Profile: "http-push", DatasetID: "dataset", AgreementID: "agreement",
		ParticipantID: "did:web:us", CounterPartyID: "did:web:them", DataspaceContext: "dataspace", ControlPlane: "cp",
		Callback:       "https://cp-0.example/x",
		Labels:         []string{"a", "b \"quoted\" \x00 ü"},
		Claims:         json.RawMessage(`{ "sub": "<them>" }`),
		Metadata:       json.RawMessage(`{"n": 1.0}`),
		Local:          sdk.DataAddress{Type: "File", Properties: map[string]string{"path": "out"}},
		Remote:         &sdk.DataAddress{Type: "HttpData", Endpoint: "https://them.example/data", Properties: map[string]string{"authorization": "theirs"}},
		Issued:         &sdk.DataAddress{Type: "HttpData", Endpoint: "https://us.example/data", Properties: map[string]string{"authorization": "ours"}},
		Target:         &sdk.DataAddress{Type: "Queue"},
		RemoteSince:    time.Date(2026, 3, 4, 5, 6, 7, 8000, time.UTC),
		RenewalFault:   "no answer",
		RenewalRefused: true,
		Reason:         "maintenance",
		Fault:          "the sink is full",
		FaultPart:      "a/b.csv",
		Skipped:        []flow.Skipped{{Part: "c.csv", Reason: "no access", At: time.Date(2026, 1, 2, 3, 4, 5, 6000, time.UTC)}},
		Reported:       []string{"0a1b2c3d"},
		Totals:         sdk.Totals{Parts: 3, Bytes: 1 << 40, Records: 7},
		Digest:         []byte{0, 1, 2},
		Checkpoint:     &flow.Checkpoint{Source: []byte("source \xff"), Sink: []byte("sink")},
		NextIndex:      4,
		Sealed:         true,
		Leftover:       true,
		Response: &flow.Response{
			Local:  sdk.DataAddress{Type: "File", Properties: map[string]string{"path": "answers"}},
			Target: &sdk.DataAddress{Type: "Queue"},
			Issued: &sdk.DataAddress{Type: "Queue", Endpoint: "amqps://us.example/f", Properties: map[string]string{"authorization": "ours"}},
			Remote: &sdk.DataAddress{Type: "HttpData", Properties: map[string]string{"responseChannel-authorization": "theirs"}},
			Totals: sdk.Totals{Parts: 2, Bytes: 5, Records: 1}, Digest: []byte{3, 4},
			Checkpoint: &flow.Checkpoint{Source: []byte("there"), Sink: []byte("here")}, NextIndex: 9, Fault: "the queue is gone",
		},
	}
}

func started(id string) *flow.Flow {
	return &flow.Flow{Key: key(id), Role: flow.Provider, Direction: flow.Pull, State: flow.Started}
}

func key(id string) flow.Key { return flow.Key{Context: flow.DefaultContext, ID: id} }

func testRoundTrip(t *testing.T, s Store) {
	want := Full("f")
	put(t, s, want)
	got := read(t, s, want.Key)
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error("by Flow (-want +got):\n", diff)
	}
	update(t, s, want.Key, func(tx flow.Tx) error {
		inTx, err := tx.Flow()
		if diff := cmp.Diff(want, inTx); diff != "" {
			t.Error("by Tx.Flow (-want +got):\n", diff)
		}
		return err
	})
	got.State, got.Remote, got.Checkpoint, got.Claims, got.Labels = flow.Started, nil, nil, nil, nil
	put(t, s, got)
	if diff := cmp.Diff(got, read(t, s, want.Key)); diff != "" {
		t.Error("after it was replaced (-want +got):\n", diff)
	}
}

func testSparse(t *testing.T, s Store) {
	f := started("f")
	put(t, s, f)
	want := started("f")
	if diff := cmp.Diff(want, read(t, s, f.Key), cmpopts.IgnoreFields(flow.Flow{}, "Created", "Updated")); diff != "" {
		t.Error("(-want +got):\n", diff)
	}
	f.Checkpoint, f.Labels, f.Remote = &flow.Checkpoint{}, []string{}, &sdk.DataAddress{}
	put(t, s, f)
	got := read(t, s, f.Key)
	if got.Checkpoint == nil || got.Remote == nil {
		t.Errorf("checkpoint %v and remote %v: what is empty came back as nil", got.Checkpoint, got.Remote)
	}
}

func testMemoryOnly(t *testing.T, s Store) {
	f := started("f")
	f.Waiting, f.Redelivery = "for a plugin", true
	put(t, s, f)
	if f.Waiting == "" || !f.Redelivery {
		t.Error("Put has changed what is for memory only")
	}
	var inTx *flow.Flow
	update(t, s, f.Key, func(tx flow.Tx) (err error) {
		inTx, err = tx.Flow()
		return err
	})
	for _, got := range []*flow.Flow{inTx, read(t, s, f.Key)} {
		if got.Waiting != "" || got.Redelivery {
			t.Errorf("waiting %q and redelivery %v were stored", got.Waiting, got.Redelivery)
		}
	}
}

func testCopies(t *testing.T, s Store) {
	f := Full("f")
	put(t, s, f)
	want := read(t, s, f.Key)
	check := func(given string, f *flow.Flow) {
		t.Helper()
		scramble(reflect.ValueOf(f).Elem())
		if diff := cmp.Diff(want, read(t, s, want.Key)); diff != "" {
			t.Errorf("a flow given %s is shared with the store (-want +got):\n%s", given, diff)
		}
		update(t, s, want.Key, func(tx flow.Tx) error {
			got, err := tx.Flow()
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("a flow given %s is shared with a transaction (-want +got):\n%s", given, diff)
			}
			return err
		})
	}
	check("to Put", f)
	check("by Flow", read(t, s, want.Key))
	var inTx *flow.Flow
	update(t, s, want.Key, func(tx flow.Tx) (err error) {
		inTx, err = tx.Flow()
		return err
	})
	check("by Tx.Flow", inTx)
}

// scramble changes whatever v refers to.
func scramble(v reflect.Value) {
	switch v.Kind() {
	case reflect.Pointer:
		if !v.IsNil() {
			scramble(v.Elem())
			v.Elem().SetZero()
		}
	case reflect.Slice:
		for i := range v.Len() {
			v.Index(i).SetZero()
		}
	case reflect.Map:
		v.Clear()
	case reflect.Struct:
		for i := range v.NumField() {
			if v.Type().Field(i).IsExported() {
				scramble(v.Field(i))
			}
		}
	}
}

func testKeys(t *testing.T, s Store) {
	put(t, s, started("f"))
	for _, other := range []flow.Key{key("g"), key("F"), key(""), {Context: "other", ID: "f"}, {ID: "f"}} {
		if _, err := s.Flow(t.Context(), other); !errors.Is(err, flow.ErrNotFound) {
			t.Errorf("Flow(%v): %v, want ErrNotFound", other, err)
		}
		if _, err := s.View(t.Context(), other); !errors.Is(err, flow.ErrNotFound) {
			t.Errorf("View(%v): %v, want ErrNotFound", other, err)
		}
		update(t, s, other, func(tx flow.Tx) error {
			if _, err := tx.Flow(); !errors.Is(err, flow.ErrNotFound) {
				return fmt.Errorf("Tx.Flow of %v: %w, want ErrNotFound", other, err)
			}
			return nil
		})
	}
	twin := started("f")
	twin.Key = flow.Key{Context: "other", ID: "f"}
	twin.State = flow.Prepared
	put(t, s, twin)
	if got := read(t, s, key("f")).State; got != flow.Started {
		t.Errorf("a flow of another context made it %s", got)
	}
}

func testTimes(t *testing.T, s Store) {
	f := started("f")
	before := time.Now().UTC().Truncate(time.Microsecond)
	var now time.Time
	update(t, s, f.Key, func(tx flow.Tx) error {
		now = tx.Now()
		return tx.Put(f)
	})
	if now.Before(before) || now.After(time.Now()) || now.Location() != time.UTC {
		t.Errorf("Now is %v, want a time in UTC after %v", now, before)
	}
	if !f.Created.Equal(now) || !f.Updated.Equal(now) {
		t.Errorf("Put made Created %v and Updated %v, want %v", f.Created, f.Updated, now)
	}
	created := f.Created
	f.Created, f.Updated = time.Time{}, time.Time{}
	update(t, s, f.Key, func(tx flow.Tx) error {
		now = tx.Now()
		return tx.Put(f)
	})
	got := read(t, s, f.Key)
	if !got.Created.Equal(created) || !got.Updated.Equal(now) || !f.Created.Equal(created) {
		t.Errorf("a second Put made Created %v and Updated %v, want %v and %v", got.Created, got.Updated, created, now)
	}
}

func testRollback(t *testing.T, s Store) {
	put(t, s, started("f"))
	boom := errors.New("boom")
	for _, id := range []string{"f", "new"} {
		err := s.Update(t.Context(), key(id), func(tx flow.Tx) error {
			f := Full(id)
			must(t, tx.Put(f))
			must(t, tx.PutAnswer("m", flow.Answer{Operation: "start"}))
			must(t, tx.Enqueue(flow.Callback{Kind: flow.CallbackErrored}))
			_, err := tx.AddPart(flow.Part{Name: "p"})
			must(t, err)
			return boom
		})
		if err != boom {
			t.Errorf("Update of %s: %v, want the error of fn itself", id, err)
		}
	}
	var inTx *flow.Flow
	update(t, s, key("f"), func(tx flow.Tx) (err error) {
		inTx, err = tx.Flow()
		return err
	})
	for _, got := range []*flow.Flow{read(t, s, key("f")), inTx} {
		if got.State != flow.Started || got.Labels != nil {
			t.Errorf("the flow was changed to %s %q", got.State, got.Labels)
		}
	}
	if _, err := s.Flow(t.Context(), key("new")); !errors.Is(err, flow.ErrNotFound) {
		t.Errorf("the new flow: %v, want ErrNotFound", err)
	}
	for _, id := range []string{"f", "new"} {
		if p, c := parts(t, s, key(id)), callbacks(t, s, key(id)); len(p)+len(c) > 0 {
			t.Errorf("of flow %s there are parts %v and callbacks %v", id, p, c)
		}
		update(t, s, key(id), func(tx flow.Tx) error {
			if _, ok, err := tx.Answer("m"); ok || err != nil {
				t.Errorf("answer of flow %s: %v, %v", id, ok, err)
			}
			return nil
		})
	}
	select {
	case <-s.Added():
		t.Error("a callback was announced that is not there")
	default:
	}
}

func testPanic(t *testing.T, s Store) {
	err := s.Update(t.Context(), key("f"), func(tx flow.Tx) error {
		must(t, tx.Put(started("f")))
		panic("boom")
	})
	if err == nil {
		t.Error("Update returned nil")
	}
	if _, err := s.Flow(t.Context(), key("f")); !errors.Is(err, flow.ErrNotFound) {
		t.Errorf("the flow: %v, want ErrNotFound", err)
	}
	put(t, s, started("f"))
}

func testSwallowed(t *testing.T, s Store) {
	for name, call := range map[string]func(flow.Tx) error{
		"flow under another key":     func(tx flow.Tx) error { return tx.Put(started("g")) },
		"callback under another key": func(tx flow.Tx) error { return tx.Enqueue(flow.Callback{Key: key("g")}) },
		"answer of no flow":          func(tx flow.Tx) error { return tx.PutAnswer("m", flow.Answer{}) },
		"part of no flow":            func(tx flow.Tx) error { _, err := tx.AddPart(flow.Part{Name: "p"}); return err },
		"callback of no flow":        func(tx flow.Tx) error { return tx.Enqueue(flow.Callback{}) },
		"part out of range": func(tx flow.Tx) error {
			must(t, tx.Put(started("f")))
			_, err := tx.AddPart(flow.Part{Index: 1 << 63, Name: "p"})
			return err
		},
	} {
		var failed error
		err := s.Update(t.Context(), key("f"), func(tx flow.Tx) error {
			failed = call(tx)
			tx.Put(started("f")) // may or may not work: the transaction is lost
			return nil
		})
		if failed == nil || !errors.Is(err, failed) {
			t.Errorf("%s: the call returned %v, Update %v; want the same error", name, failed, err)
		}
		if _, err := s.Flow(t.Context(), key("f")); !errors.Is(err, flow.ErrNotFound) {
			t.Errorf("%s: what the transaction did besides is there: %v", name, err)
		}
	}
}

func testTxEnds(t *testing.T, s Store) {
	put(t, s, started("f"))
	var kept flow.Tx
	update(t, s, key("f"), func(tx flow.Tx) error { kept = tx; return nil })
	_, flowErr := kept.Flow()
	_, _, answerErr := kept.Answer("m")
	_, addErr := kept.AddPart(flow.Part{Name: "p"})
	_, _, partErr := kept.Part("p")
	for call, err := range map[string]error{
		"Flow": flowErr, "Answer": answerErr, "AddPart": addErr, "Part": partErr,
		"Put": kept.Put(started("f")), "PutAnswer": kept.PutAnswer("m", flow.Answer{}),
		"Enqueue": kept.Enqueue(flow.Callback{}), "CancelCallbacks": kept.CancelCallbacks(),
	} {
		if err == nil {
			t.Errorf("%s works after the end", call)
		}
	}
	if got := parts(t, s, key("f")); len(got) > 0 {
		t.Errorf("there are parts %v", got)
	}
}

func testCancelled(t *testing.T, s Store) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	ran := false
	err := s.Update(ctx, key("f"), func(tx flow.Tx) error {
		ran = true
		return tx.Put(started("f"))
	})
	if ran || !errors.Is(err, context.Canceled) {
		t.Errorf("ran %v, error %v; want context.Canceled", ran, err)
	}

	// A context that ends while fn runs does not change the outcome.
	ctx, cancel = context.WithCancel(t.Context())
	err = s.Update(ctx, key("f"), func(tx flow.Tx) error {
		cancel()
		return tx.Put(started("f"))
	})
	if err != nil {
		t.Errorf("cancelled while it ran: %v", err)
	}
	read(t, s, key("f"))
}

func testConcurrent(t *testing.T, s Store) {
	const callers, rounds = 16, 25
	put(t, s, started("shared"))
	var wg sync.WaitGroup
	for i := range callers {
		wg.Go(func() {
			for round := range rounds {
				err := s.Update(t.Context(), key("shared"), func(tx flow.Tx) error {
					f, err := tx.Flow()
					if err != nil {
						return err
					}
					f.Totals.Bytes++
					return tx.Put(f)
				})
				own := started(fmt.Sprintf("%d-%d", i, round))
				if e := s.Update(t.Context(), own.Key, func(tx flow.Tx) error { return tx.Put(own) }); err != nil || e != nil {
					t.Errorf("updates: %v, %v", err, e)
				}
				if _, err := s.Flow(t.Context(), own.Key); err != nil {
					t.Errorf("a flow is not there after Update: %v", err)
				}
			}
		})
	}
	wg.Wait()
	if got := read(t, s, key("shared")).Totals.Bytes; got != callers*rounds {
		t.Errorf("%d of %d increments are there", got, callers*rounds)
	}
}

func testList(t *testing.T, s Store) {
	const n = 40
	states := []flow.State{flow.Started, flow.Suspended, flow.Completed, flow.Terminated}
	for i := range n {
		f := started(fmt.Sprint(i))
		f.State = states[i%len(states)]
		if i%2 == 1 {
			f.Context = "odd"
		}
		f.Leftover = i == 3 || i == 7 || i == 11
		put(t, s, f)
		if i == 11 {
			f.Leftover = false
			put(t, s, f)
		}
	}
	// A change does not make a flow newer.
	put(t, s, read(t, s, key("0")))

	for _, tc := range []struct {
		filter flow.Filter
		want   []int
	}{
		{flow.Filter{Limit: 3}, []int{39, 38, 37}},
		{flow.Filter{Context: "odd", Limit: 2}, []int{39, 37}},
		{flow.Filter{States: []flow.State{flow.Suspended, flow.Completed}, Limit: 4}, []int{38, 37, 34, 33}},
		{flow.Filter{Context: flow.DefaultContext, States: []flow.State{flow.Started}, Limit: 2}, []int{36, 32}},
		{flow.Filter{Context: flow.DefaultContext, States: []flow.State{flow.Suspended}}, nil},
		{flow.Filter{States: []flow.State{}}, nil},
		{flow.Filter{Leftover: true}, []int{7, 3}},
		{flow.Filter{Leftover: true, States: []flow.State{flow.Terminated}, Limit: 1}, []int{7}},
		{flow.Filter{Leftover: true, Context: flow.DefaultContext}, nil},
		{flow.Filter{Context: "none"}, nil},
	} {
		if diff := cmp.Diff(tc.want, list(t, s, tc.filter)); diff != "" {
			t.Errorf("%+v (-want +got):\n%s", tc.filter, diff)
		}
	}

	var paged []int
	page := flow.Filter{Limit: 7}
	for {
		flows, err := s.Flows(t.Context(), page)
		must(t, err)
		if len(flows) == 0 {
			break
		}
		for _, f := range flows {
			paged = append(paged, number(t, f))
		}
		page.Before = flows[len(flows)-1].Created
	}
	all := list(t, s, flow.Filter{})
	if diff := cmp.Diff(all, paged); diff != "" || len(all) != n {
		t.Errorf("%d flows at once, page by page (-at once +paged):\n%s", len(all), diff)
	}
}

func testCount(t *testing.T, s Store) {
	want := map[flow.State]int64{}
	for _, state := range flow.States() {
		want[state] = 0
	}
	check := func() {
		t.Helper()
		got, err := s.Count(t.Context())
		must(t, err)
		if diff := cmp.Diff(want, got); diff != "" {
			t.Error("(-want +got):\n", diff)
		}
	}
	check()
	for _, id := range []string{"a", "b", "c"} {
		put(t, s, started(id))
	}
	want[flow.Started] = 3
	check()
	f := read(t, s, key("a"))
	f.State = flow.Completed
	put(t, s, f)
	want[flow.Started], want[flow.Completed] = 2, 1
	check()
}
