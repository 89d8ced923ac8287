package limit

import (
	"context"
	"errors"
	"fmt"
	"math"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func n(v int64) *int64 { return &v }

var theHost = Scope{Kind: Host}

func who(counterparty, flow string) Who {
	return Who{Context: "default", Flow: flow, Dataset: "d", Counterparty: counterparty, Profile: "p"}
}

// mover moves frames through a Meter until its context ends.
type mover struct {
	Who
	frame   int64         // 0: 100 KB
	records int64         // in each frame
	pause   time.Duration // between frames
	moved   atomic.Int64
	worst   time.Duration // that a frame has waited
}

func (m *mover) run(ctx context.Context, l *Limiter) {
	meter := l.Open(m.Who)
	defer meter.Close()
	if m.frame == 0 {
		m.frame = 100_000
	}
	for {
		began := time.Now()
		if meter.Wait(ctx, m.frame, m.records) != nil {
			return
		}
		if m.moved.Load() > 0 { // whoever comes together with others has its turn among them at first
			m.worst = max(m.worst, time.Since(began))
		}
		m.moved.Add(m.frame)
		if m.pause > 0 {
			select {
			case <-ctx.Done():
				return
			case <-time.After(m.pause):
			}
		}
	}
}

// move lets all movers move for a while of simulated time.
func move(l *Limiter, d time.Duration, movers ...*mover) {
	ctx, cancel := context.WithTimeout(context.Background(), d)
	defer cancel()
	var wg sync.WaitGroup
	for _, m := range movers {
		wg.Go(func() { m.run(ctx, l) })
	}
	wg.Wait()
}

// want holds what a mover has moved against what it should have, within a share of that.
func want(t *testing.T, m *mover, bytes, tolerance float64) {
	t.Helper()
	if got := float64(m.moved.Load()); math.Abs(got-bytes) > tolerance*bytes {
		t.Errorf("%s of %s moved %.0f, not about %.0f", m.Flow, m.Counterparty, got, bytes)
	}
}

// Each of a flow's limits holds, and the narrowest decides.
func TestEveryLimitHolds(t *testing.T) {
	scopes := who("a", "f").scopes()
	for _, s := range scopes {
		for name, limits := range map[string]map[Scope]Limit{
			"alone":            {s: {Bytes: n(1_000_000)}},
			"below wider ones": {s: {Bytes: n(1_000_000)}, theHost: {Bytes: n(1_000_000)}, {Kind: Flow}: {Bytes: n(1_000_000)}},
			"in records":       {s: {Records: n(10), Bytes: n(50_000_000)}},
		} {
			synctest.Test(t, func(t *testing.T) {
				m := &mover{Who: who("a", "f"), records: 1}
				move(New(limits), 20*time.Second, m)
				want(t, m, 20_000_000, 0.04)
				if t.Failed() {
					t.Log(s, name)
				}
			})
		}
	}
}

func TestShares(t *testing.T) {
	host := map[Scope]Limit{theHost: {Bytes: n(10_000_000)}}
	with := func(more map[Scope]Limit) map[Scope]Limit {
		more[theHost] = host[theHost]
		return more
	}
	type share struct {
		mover
		of float64 // of the host's limit
	}
	mine := func(counterparty, flow string, of float64) *share {
		return &share{mover{Who: who(counterparty, flow)}, of}
	}
	hundred := func() (all []*share) {
		for i := range 100 {
			all = append(all, mine("many", fmt.Sprint(i), 0.005))
		}
		return append(all, mine("one", "alone", 0.5))
	}()
	for name, tc := range map[string]struct {
		limits map[Scope]Limit
		shares []*share
	}{
		"alone":                         {host, []*share{mine("a", "f", 1)}},
		"flows of one counterparty":     {host, []*share{mine("a", "f", 0.5), mine("a", "g", 0.5)}},
		"counterparties":                {host, []*share{mine("a", "f", 0.25), mine("a", "g", 0.25), mine("b", "h", 0.5)}},
		"a hundred flows and one":       {host, hundred},
		"frames of different sizes":     {host, []*share{{mover{Who: who("a", "f"), frame: 1 << 20}, 0.5}, {mover{Who: who("a", "g"), frame: 5000}, 0.5}}},
		"weights of flows":              {with(map[Scope]Limit{{Flow, "default", "f"}: {Weight: n(3)}}), []*share{mine("a", "f", 0.75), mine("a", "g", 0.25)}},
		"weights of counterparties":     {with(map[Scope]Limit{{Counterparty, "default", "b"}: {Weight: n(4)}}), []*share{mine("a", "f", 0.1), mine("a", "g", 0.1), mine("b", "h", 0.8)}},
		"what one cannot use":           {host, []*share{{mover{Who: who("a", "f"), pause: 90 * time.Millisecond}, 0.1}, mine("b", "g", 0.45), mine("c", "h", 0.45)}},
		"what one may not use":          {with(map[Scope]Limit{{Counterparty, "default", "a"}: {Bytes: n(1_000_000)}}), []*share{mine("a", "f", 0.05), mine("a", "g", 0.05), mine("b", "h", 0.9)}},
		"a moment too late":             {host, []*share{{mover{Who: who("a", "f"), pause: 3 * time.Millisecond}, 0.5}, mine("b", "g", 0.5)}},
		"weights of profiles":           {with(map[Scope]Limit{{Kind: Profile, ID: "p"}: {Weight: n(4)}}), []*share{mine("a", "f", 0.8), {mover{Who: Who{"default", "g", "e", "a", "q"}}, 0.2}}},
		"weights of datasets go before": {with(map[Scope]Limit{{Kind: Profile, ID: "p"}: {Weight: n(9)}, {Dataset, "default", "d"}: {Weight: n(1)}}), []*share{mine("a", "f", 0.5), {mover{Who: Who{"default", "g", "e", "a", "q"}}, 0.5}}},
		"participant contexts":          {with(map[Scope]Limit{{Context, "alice", "alice"}: {Weight: n(3)}}), []*share{mine("a", "f", 0.125), mine("b", "g", 0.125), {mover{Who: Who{"alice", "f", "d", "a", "p"}}, 0.75}}},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var movers []*mover
				for _, s := range tc.shares {
					movers = append(movers, &s.mover)
				}
				l := New(tc.limits)
				first := l.Open(who("first", "first")) // has what the host could let pass at once
				defer first.Close()
				if err := first.Wait(t.Context(), 2_500_000, 0); err != nil {
					t.Fatal(err)
				}
				move(l, 30*time.Second, movers...)
				for _, s := range tc.shares {
					want(t, &s.mover, s.of*300_000_000, 0.12)
				}
			})
		})
	}
}

// A small flow beside large ones waits for little more than the frame that is under way.
func TestSmallFlowsGetThrough(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := New(map[Scope]Limit{theHost: {Bytes: n(10_000_000)}})
		small := &mover{Who: who("a", "small"), frame: 500, pause: 50 * time.Millisecond}
		movers := []*mover{small}
		for i := range 50 {
			movers = append(movers, &mover{Who: who("a", fmt.Sprint(i)), frame: 200_000})
		}
		move(l, 20*time.Second, movers...)
		if small.worst > 25*time.Millisecond {
			t.Errorf("a small frame waited for %s", small.worst)
		}
	})
}

// After a rest no more than the burst passes at once.
func TestBurst(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := New(map[Scope]Limit{{Kind: Flow}: {Bytes: n(1_000_000)}})
		m := l.Open(who("a", "f"))
		defer m.Close()
		time.Sleep(time.Hour)
		began, passed := time.Now(), int64(0)
		for time.Since(began) == 0 {
			if err := m.Wait(t.Context(), 1000, 0); err != nil {
				t.Fatal(err)
			}
			passed += 1000
		}
		if want := int64(250_000); passed < want || passed > want+3000 {
			t.Errorf("%d bytes passed at once, not about %d", passed, want)
		}
	})
}

// Requests that come one after the other do not find the limit unused each time.
func TestReopenedMetersShareTheLimit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := New(map[Scope]Limit{{Kind: Flow}: {Bytes: n(1_000_000)}})
		began := time.Now()
		for range 100 {
			m := l.Open(who("a", "f"))
			if err := m.Wait(t.Context(), 100_000, 0); err != nil {
				t.Fatal(err)
			}
			m.Close()
		}
		if took := time.Since(began); took < 9*time.Second || took > 10*time.Second {
			t.Errorf("10 MB at 1 MB/s took %s", took)
		}
		if s, ok := l.At("default", "f"); ok {
			t.Errorf("it waits for %s", s)
		}
	})
}

// Those who come again with every frame have no more of a limit than those who stay.
func TestReopenedMetersTakeNoTurns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := New(map[Scope]Limit{theHost: {Bytes: n(1_000_000)}})
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
		defer cancel()
		again := 0
		var wg sync.WaitGroup
		wg.Go(func() {
			for ctx.Err() == nil {
				m := l.Open(who("a", "again"))
				if m.Wait(ctx, 100_000, 0) == nil {
					again += 100_000
				}
				m.Close()
			}
		})
		stays := &mover{Who: who("b", "stays")}
		wg.Go(func() { stays.run(ctx, l) })
		wg.Wait()
		want(t, stays, 10_000_000, 0.05)
		if again < 9_000_000 || again > 11_000_000 {
			t.Errorf("who comes again moved %d", again)
		}
	})
}

// A limit that is changed holds at once, for those who wait for it too.
func TestChanges(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := New(map[Scope]Limit{theHost: {Bytes: n(1_000_000)}})
		m := &mover{Who: who("a", "f"), frame: 10_000}
		move(l, 10*time.Second, m)
		want(t, m, 10_000_000, 0.05)
		for _, step := range []struct {
			scope Scope
			put   Limit
			rate  float64
		}{
			{theHost, Limit{Bytes: n(3_000_000)}, 3_000_000},
			{Scope{Flow, "default", "f"}, Limit{Bytes: n(100_000)}, 100_000},
			{Scope{Flow, "default", "f"}, Limit{}, 3_000_000},
			{Scope{Kind: Counterparty}, Limit{Records: n(1), Bytes: n(500_000)}, 500_000},
			{Scope{Kind: Counterparty}, Limit{}, 3_000_000},
			{theHost, Limit{}, 1_000_000},
		} {
			l.Put(step.scope, step.put)
			m.moved.Store(0)
			move(l, 10*time.Second, m)
			want(t, m, step.rate*10, 0.06)
		}

		// One that waits for hours is let go when there is no limit any more.
		l.Put(theHost, Limit{Bytes: n(1)})
		meter := l.Open(m.Who)
		defer meter.Close()
		events := ""
		meter.Tell(func(now bool) { events += map[bool]string{true: "+", false: "-"}[now] })
		var passed atomic.Int64
		var wg sync.WaitGroup
		wg.Go(func() {
			for range 3 {
				if meter.Wait(t.Context(), 1_000_000, 0) == nil {
					passed.Add(1)
				}
			}
		})
		synctest.Wait()
		if s, ok := l.At("default", "f"); passed.Load() > 1 || !ok || s != theHost {
			t.Errorf("%d frames have passed, it waits at %v", passed.Load(), s)
		}
		if r := l.Rule(theHost); r.Waiting != 1 {
			t.Errorf("%+v", r)
		}
		began := time.Now()
		if events != "+" {
			t.Errorf("was told %q", events)
		}
		l.Put(theHost, Limit{Bytes: n(0)})
		wg.Wait()
		if events != "+-" {
			t.Errorf("was told %q", events)
		}
		if passed.Load() != 3 || time.Since(began) > 0 {
			t.Errorf("%d frames, %s after the limit was lifted", passed.Load(), time.Since(began))
		}
	})
}

func TestWaitEndsWithItsContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := New(map[Scope]Limit{theHost: {Bytes: n(1000)}})
		first, second := l.Open(who("a", "f")), l.Open(who("a", "g"))
		defer first.Close()
		defer second.Close()
		if err := first.Wait(t.Context(), 100_000, 0); err != nil {
			t.Fatal(err)
		}
		cut := errors.New("suspended")
		ctx, cancel := context.WithCancelCause(t.Context())
		done := make(chan error)
		go func() { done <- second.Wait(ctx, 1, 0) }()
		synctest.Wait()
		cancel(cut)
		if err := <-done; !errors.Is(err, cut) {
			t.Errorf("got %v", err)
		}
		began := time.Now()
		if err := second.Wait(t.Context(), 1, 0); err != nil || time.Since(began) < 90*time.Second {
			t.Errorf("%v after %s: what has passed was forgotten", err, time.Since(began))
		}
	})
}

func TestRules(t *testing.T) {
	l := New(map[Scope]Limit{
		{Kind: Flow}:              {Bytes: n(100), Records: n(5)},
		{Dataset, "default", "d"}: {Bytes: n(1000), Transfers: n(2)},
	})
	l.Put(Scope{Flow, "default", "f"}, Limit{Bytes: n(7)})
	l.Put(Scope{Kind: Flow}, Limit{Records: n(0)})
	got := l.Rule(Scope{Flow, "default", "f"}).InForce
	if *got.Bytes != 7 || *got.Records != 0 || got.Transfers != nil {
		t.Errorf("in force are %d bytes and %d records", *got.Bytes, *got.Records)
	}
	var names []string
	for _, r := range l.Rules() {
		names = append(names, r.String())
	}
	if got, want := fmt.Sprint(names), `[the host dataset "d" each flow flow "f"]`; got != want {
		t.Errorf("rules of %s, want %s", got, want)
	}
}

// What nobody uses any more is forgotten.
func TestSweep(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := New(map[Scope]Limit{{Kind: Flow}: {Bytes: n(1_000_000)}, theHost: {Bytes: n(1_000_000_000)}})
		for i := range 4 * minSweep {
			m := l.Open(who("a", fmt.Sprint(i)))
			if err := m.Wait(t.Context(), 10, 0); err != nil {
				t.Fatal(err)
			}
			m.Close()
			if i%100 == 0 {
				time.Sleep(2 * keep)
			}
		}
		if len(l.gates) > 2*minSweep || len(l.flows) > 2*minSweep || len(l.host.classes) > 2*minSweep {
			t.Errorf("%d gates, %d flows and %d classes are left", len(l.gates), len(l.flows), len(l.host.classes))
		}
	})
}

func BenchmarkWaitUnlimited(b *testing.B) {
	l := New(nil)
	b.ReportAllocs()
	var id atomic.Int64
	b.RunParallel(func(pb *testing.PB) {
		m := l.Open(who("a", fmt.Sprint(id.Add(1))))
		defer m.Close()
		for pb.Next() {
			if err := m.Wait(b.Context(), 192<<10, 0); err != nil {
				b.Fatal(err)
			}
		}
	})
}

func BenchmarkWaitLimited(b *testing.B) {
	l := New(map[Scope]Limit{theHost: {Bytes: n(math.MaxInt64)}, {Kind: Counterparty}: {Bytes: n(math.MaxInt64)}})
	b.ReportAllocs()
	var id atomic.Int64
	b.RunParallel(func(pb *testing.PB) {
		m := l.Open(who("a", fmt.Sprint(id.Add(1))))
		defer m.Close()
		for pb.Next() {
			if err := m.Wait(b.Context(), 192<<10, 0); err != nil {
				b.Fatal(err)
			}
		}
	})
}

// A thousand flows wait for one limit, which is never slow to give what it has.
func BenchmarkThousandFlowsAtOneLimit(b *testing.B) {
	l := New(map[Scope]Limit{theHost: {Bytes: n(1 << 50)}})
	ctx, cancel := context.WithCancel(b.Context())
	defer cancel()
	var wg sync.WaitGroup
	var frames atomic.Int64
	b.ReportAllocs()
	for i := range 1000 {
		wg.Go(func() {
			m := l.Open(who(fmt.Sprint(i%10), fmt.Sprint(i)))
			defer m.Close()
			for frames.Add(1) < int64(b.N) {
				if m.Wait(ctx, 192<<10, 0) != nil {
					return
				}
			}
		})
	}
	wg.Wait()
}
