package limit

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"sync"
	"time"
)

// Queue gives transfers places, as many as there are for the host, each participant context, each counterparty and each dataset. Those
// for which there is none wait: participant contexts have their turns by weight, counterparties in each of them too, and the transfers
// of a counterparty in the order in which they came. One that waits for a place of its dataset or counterparty holds up no other. All
// methods may be called concurrently.
type Queue struct {
	mu      sync.Mutex // guards what follows
	rules   rules
	begun   bool
	came    uint64
	running map[Scope]int
	waiting []*ticket
	queued  map[Scope]int      // number of those that wait
	now     float64            // the tag of the participant context that had the last turn
	parties map[Scope]*party   // of participant contexts and counterparties that have transfers
	places  map[Scope]position // by flow; nil if it is not known
}

// ticket is a transfer that waits.
type ticket struct {
	who   Who
	since time.Time
	came  uint64
	ready chan struct{} // closed when it has got a place
}

// party shares turns with others of its kind.
type party struct {
	transfers int
	tag       float64 // turns it has had, by weight
	now       float64 // of a participant context: the tag of the counterparty that had the last turn
}

func newQueue() *Queue {
	return &Queue{running: map[Scope]int{}, queued: map[Scope]int{}, parties: map[Scope]*party{}}
}

// Begin lets the first transfers have places. Before, transfers that were running earlier come in the order in which they happen to be
// found; so nobody has a place who would come later in the right one.
func (q *Queue) Begin() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.begun = true
	q.give()
}

// Begun reports whether places are given away.
func (q *Queue) Begun() bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.begun
}

// Enter waits for a place, and returns what gives it back. since is when the transfer asked first: of those of a counterparty, the
// oldest is the next. It returns the cause when ctx ends.
func (q *Queue) Enter(ctx context.Context, who Who, since time.Time) (leave func(), err error) {
	t := q.come(who, since)
	select {
	case <-t.ready:
	case <-ctx.Done():
		if q.withdraw(t) {
			return nil, context.Cause(ctx)
		}
	}
	return sync.OnceFunc(func() { q.leave(who) }), nil
}

func (q *Queue) come(who Who, since time.Time) *ticket {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.came++
	t := &ticket{who: who, since: since, came: q.came, ready: make(chan struct{})}
	q.arrive(t)
	if q.begun && q.lacks(t) == nil { // then there is none for any of those that wait
		q.admit(t)
		return t
	}
	q.waiting = append(q.waiting, t)
	q.counts(q.queued, who, 1)
	q.places = nil
	return t
}

// arrive counts a transfer with its parties. One that is new begins where the others are.
func (q *Queue) arrive(t *ticket) {
	now := q.now
	for _, s := range t.parties() {
		p := q.parties[s]
		if p == nil {
			p = &party{tag: now}
			q.parties[s] = p
		}
		p.transfers++
		now = p.now
	}
}

// parties are those whose turns a transfer takes.
func (t *ticket) parties() [2]Scope {
	at := t.who.scopes()
	return [2]Scope{at[atContext], at[atCounterparty]}
}

func (q *Queue) counts(in map[Scope]int, who Who, n int) {
	at := who.scopes()
	for _, s := range at[atDataset:] {
		if in[s] += n; in[s] == 0 {
			delete(in, s)
		}
	}
}

// withdraw takes a transfer out that waits. It returns false if it has a place.
func (q *Queue) withdraw(t *ticket) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	i := slices.Index(q.waiting, t)
	if i < 0 {
		return false
	}
	q.remove(i)
	q.depart(t.who)
	return true
}

func (q *Queue) remove(i int) {
	q.counts(q.queued, q.waiting[i].who, -1)
	q.waiting = slices.Delete(q.waiting, i, i+1)
	q.places = nil
}

func (q *Queue) depart(who Who) {
	for _, s := range (&ticket{who: who}).parties() {
		if q.parties[s].transfers--; q.parties[s].transfers == 0 {
			delete(q.parties, s)
		}
	}
}

func (q *Queue) leave(who Who) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.counts(q.running, who, -1)
	q.depart(who)
	q.places = nil
	q.give()
}

// change takes over other rules.
func (q *Queue) change(r rules) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.rules, q.places = r, nil
	q.give()
}

// give gives away the places that there are.
func (q *Queue) give() {
	free := func(t *ticket) bool { return q.lacks(t) == nil }
	if !q.begun || !slices.ContainsFunc(q.waiting, free) {
		return
	}
	q.sort()
	for i := 0; i < len(q.waiting); {
		if t := q.waiting[i]; free(t) {
			q.remove(i)
			q.admit(t)
		} else {
			i++
		}
	}
}

// admit gives t a place.
func (q *Queue) admit(t *ticket) {
	q.counts(q.running, t.who, 1)
	now := &q.now
	for _, s := range t.parties() {
		p := q.parties[s]
		*now = max(*now, p.tag)
		p.tag += 1 / q.rules.weight(s)
		now = &p.now
	}
	close(t.ready)
}

func (q *Queue) full(s Scope) bool {
	most := value(q.rules.of(s).Transfers)
	return most > 0 && int64(q.running[s]) >= most
}

// lacks returns the scope in which there is no place for t, nil if there is one in all.
func (q *Queue) lacks(t *ticket) *Scope {
	at := t.who.scopes()
	for _, s := range at[atDataset:] {
		if q.full(s) {
			return &s
		}
	}
	return nil
}

// sort puts those who wait into the order of their turns, as if each of them lacked only a place of the host.
func (q *Queue) sort() {
	slices.SortFunc(q.waiting, func(a, b *ticket) int { return cmp.Or(a.since.Compare(b.since), cmp.Compare(a.came, b.came)) })
	tags := map[Scope]float64{}
	for s, p := range q.parties {
		tags[s] = p.tag
	}
	// The n-th transfer of a party has its turn where the n before it have brought the party. A counterparty's turn is one within its
	// participant context, so the contexts' turns are dealt out to their transfers in the order that these have among each other.
	turn := map[*ticket]float64{}
	for _, t := range q.waiting {
		s := t.parties()[1]
		turn[t] = tags[s]
		tags[s] += 1 / q.rules.weight(s)
	}
	slices.SortStableFunc(q.waiting, func(a, b *ticket) int { return cmp.Compare(turn[a], turn[b]) })
	for _, t := range q.waiting {
		s := t.parties()[0]
		turn[t] = tags[s]
		tags[s] += 1 / q.rules.weight(s)
	}
	slices.SortStableFunc(q.waiting, func(a, b *ticket) int { return cmp.Compare(turn[a], turn[b]) })
}

// position is where a transfer waits.
type position struct {
	place int
	lacks *Scope
}

// Place says where a flow's transfer waits, for people: "" if it does not.
func (q *Queue) Place(participantContext, flow string) string {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.places == nil {
		q.places = map[Scope]position{}
		q.sort()
		for i, t := range q.waiting {
			q.places[t.who.scopes()[atFlow]] = position{i + 1, q.lacks(t)}
		}
	}
	p, ok := q.places[Scope{Flow, participantContext, flow}]
	if !ok {
		return ""
	}
	text := fmt.Sprintf("queued, place %d of %d", p.place, len(q.waiting))
	if p.lacks != nil {
		text += fmt.Sprintf(": %d transfers of %s run", q.running[*p.lacks], *p.lacks)
	}
	return text
}

// count returns the transfers of a scope that run and that wait.
func (q *Queue) count(s Scope) (running, queued int) {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.running[s], q.queued[s]
}
