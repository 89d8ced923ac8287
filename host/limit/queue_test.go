package limit

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// desk puts transfers into a Queue, and says who has a place.
type desk struct {
	*Limiter
	got  chan string
	stop map[string]func()
	left map[string]chan struct{}
}

func newDesk(limits map[Scope]Limit) *desk {
	return &desk{Limiter: New(limits), got: make(chan string, 1000), stop: map[string]func(){}, left: map[string]chan struct{}{}}
}

// enter has a transfer ask for a place. It keeps that until it is ended.
func (d *desk) enter(w Who, since time.Time) {
	ctx, cancel := context.WithCancelCause(context.Background())
	left := make(chan struct{})
	name := w.Counterparty + w.Flow
	d.stop[name], d.left[name] = func() { cancel(errors.New("ended")) }, left
	go func() {
		defer close(left)
		leave, err := d.Queue.Enter(ctx, w, since)
		if err != nil {
			return
		}
		d.got <- name
		<-ctx.Done()
		leave()
		leave() // again is nothing
	}()
	synctest.Wait()
}

func (d *desk) end(name string) {
	d.stop[name]()
	<-d.left[name]
	synctest.Wait()
}

// drain ends each transfer as soon as it has a place, and returns the order. Those that have theirs at the same time are in that of
// their names.
func (d *desk) drain() string {
	var order []string
	for {
		var together []string
		for len(d.got) > 0 {
			together = append(together, <-d.got)
		}
		if together == nil {
			return strings.Join(order, " ")
		}
		slices.Sort(together)
		order = append(order, together...)
		for _, name := range together {
			d.end(name)
		}
	}
}

func TestTurns(t *testing.T) {
	one := Limit{Transfers: n(1)}
	entries := func(list string) (all []Who) {
		for i, counterparty := range strings.Split(list, "") {
			all = append(all, who(counterparty, fmt.Sprint(i)))
		}
		return all
	}
	for name, tc := range map[string]struct {
		limits map[Scope]Limit
		come   []Who
		want   string
	}{
		"first come, first served":    {map[Scope]Limit{theHost: one}, entries("aaaa"), "a0 a1 a2 a3"},
		"counterparties have turns":   {map[Scope]Limit{theHost: one}, entries("aaaabbc"), "a0 b4 c6 a1 b5 a2 a3"},
		"by weight":                   {map[Scope]Limit{theHost: one, {Counterparty, "default", "b"}: {Weight: n(2)}}, entries("aaabbbb"), "a0 b3 b4 a1 b5 b6 a2"},
		"as many as there are places": {map[Scope]Limit{theHost: {Transfers: n(3)}}, entries("aaaab"), "a0 a1 b4 a2 a3"},
		"no limit":                    {nil, entries("ab"), "a0 b1"},
		"datasets hold up no others": {map[Scope]Limit{theHost: {Transfers: n(2)}, {Dataset, "default", "d"}: one},
			append(entries("aa"), Who{"default", "9", "other", "a", "p"}), "a0 a9 a1"},
		"participant contexts": {map[Scope]Limit{theHost: one}, append(entries("aab"), Who{"alice", "9", "d", "c", "p"}), "a0 c9 b2 a1"},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				d := newDesk(tc.limits)
				for _, w := range tc.come {
					d.enter(w, time.Now())
				}
				if len(d.got) > 0 {
					t.Error("a place was given before the queue had begun")
				}
				d.Queue.Begin()
				synctest.Wait()
				if got := d.drain(); got != tc.want {
					t.Errorf("the order is %s, not %s", got, tc.want)
				}
				if len(d.Queue.parties)+len(d.Queue.running)+len(d.Queue.queued) > 0 {
					t.Errorf("something is left: %+v", d.Queue)
				}
			})
		})
	}
}

// The order outlives a restart: who asked first is first, whoever is found first.
func TestOldestFirst(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDesk(map[Scope]Limit{theHost: {Transfers: n(1)}})
		now := time.Now()
		for i := range 3 {
			d.enter(who("a", fmt.Sprint(i)), now.Add(-time.Duration(i)*time.Hour))
		}
		d.Queue.Begin()
		synctest.Wait()
		if got := d.drain(); got != "a2 a1 a0" {
			t.Errorf("the order is %s", got)
		}
	})
}

func TestPlaces(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDesk(map[Scope]Limit{theHost: {Transfers: n(2)}, {Counterparty, "default", "c"}: {Transfers: n(1)}})
		d.Queue.Begin()
		for _, w := range []Who{who("a", "0"), who("c", "1"), who("a", "2"), who("a", "3"), who("b", "4"), who("c", "5")} {
			d.enter(w, time.Now())
		}
		check := func(want ...string) {
			t.Helper()
			for i, w := range want {
				if got := d.Queue.Place("default", fmt.Sprint(i)); got != w {
					t.Errorf("flow %d: %q, not %q", i, got, w)
				}
			}
		}
		const full = ": 2 transfers of the host run"
		check("", "", "queued, place 2 of 4"+full, "queued, place 4 of 4"+full, "queued, place 1 of 4"+full,
			`queued, place 3 of 4: 1 transfers of counterparty "c" run`)
		if r := d.Rule(theHost); r.Running != 2 || r.Queued != 4 {
			t.Errorf("%+v", r)
		}
		d.end("a2") // suspended while it waits
		check("", "", "", "queued, place 2 of 3"+full, "queued, place 1 of 3"+full)
		d.end("a0")
		check("", "", "", "queued, place 1 of 2"+full, "")
		d.Put(theHost, Limit{Transfers: n(5)}) // changed while it runs
		synctest.Wait()
		check("", "", "", "", "", `queued, place 1 of 1: 1 transfers of counterparty "c" run`)
		d.Put(Scope{Counterparty, "default", "c"}, Limit{Transfers: n(0)})
		synctest.Wait()
		check("", "", "", "", "", "")
		for name := range d.stop {
			d.end(name)
		}
	})
}

// Whatever comes and goes, no limit is broken, and no place is empty while someone could have it.
func TestQueueIsWorkConserving(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDesk(map[Scope]Limit{theHost: {Transfers: n(5)}, {Kind: Counterparty}: {Transfers: n(2)}, {Kind: Dataset}: {Transfers: n(3)}})
		d.Queue.Begin()
		for i := range 60 {
			w := who(string(rune('a'+i%4)), fmt.Sprint(i))
			w.Dataset = fmt.Sprint(i % 3)
			d.enter(w, time.Now())
		}
		ended := 0
		for {
			for s, running := range d.Queue.running {
				if most := d.Queue.rules.of(s).Transfers; most != nil && int64(running) > *most {
					t.Fatalf("%d transfers of %s run", running, s)
				}
			}
			for _, waits := range d.Queue.waiting {
				if d.Queue.lacks(waits) == nil {
					t.Fatalf("%s waits though there is a place", waits.who.Flow)
				}
			}
			select {
			case name := <-d.got:
				d.end(name)
				ended++
				continue
			default:
			}
			break
		}
		if ended != 60 {
			t.Errorf("%d transfers have had a place", ended)
		}
	})
}

func BenchmarkQueue(b *testing.B) {
	l := New(map[Scope]Limit{theHost: {Transfers: n(1)}})
	for i := range 5000 {
		l.Queue.come(who(fmt.Sprint(i%20), fmt.Sprint(i)), time.Now())
	}
	l.Queue.Begin()
	for b.Loop() {
		l.Queue.mu.Lock()
		l.Queue.sort()
		l.Queue.mu.Unlock()
	}
}
