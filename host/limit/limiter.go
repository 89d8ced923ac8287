package limit

import (
	"context"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// Limiter holds the flows of a host to their limits. All methods may be called concurrently.
type Limiter struct {
	// Queue is where transfers get their places.
	Queue *Queue

	mu    sync.Mutex // guards what follows, and the users of gates
	rules rules
	host  *gate
	gates map[Scope]*gate // of what has Meters, or had them lately
	flows map[Scope]*place
	sweep int // number of gates at which those that nobody uses are dropped
}

// minSweep keeps small maps from being swept often.
const minSweep = 1024

// keep is how long a gate stays that nobody uses.
const keep = 10 * time.Second

// New returns a Limiter with limits that are configured. Its Queue is closed.
func New(configured map[Scope]Limit) *Limiter {
	l := &Limiter{rules: rules{configured: maps.Clone(configured), put: map[Scope]Limit{}}, gates: map[Scope]*gate{},
		flows: map[Scope]*place{}, sweep: minSweep}
	l.Queue = newQueue()
	l.host = newGate(Scope{Kind: Host})
	l.apply()
	return l
}

// Put changes what is said about a scope besides what is configured. A zero Limit takes it back. It holds at once, for those who wait
// too.
func (l *Limiter) Put(s Scope, put Limit) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if put.IsZero() {
		delete(l.rules.put, s)
	} else {
		l.rules.put[s] = put
	}
	l.apply()
}

// apply makes gates and queue be as the rules have it.
func (l *Limiter) apply() {
	l.host.set(l.rules.of(l.host.scope))
	l.host.weigh(&l.rules)
	for s, g := range l.gates {
		g.set(l.rules.of(s))
		g.weigh(&l.rules)
	}
	l.Queue.change(rules{configured: l.rules.configured, put: maps.Clone(l.rules.put)})
}

// Rule is what is said about a scope.
type Rule struct {
	Scope
	Configured, Put Limit
	// InForce is what follows from both, and from what is said about all of its kind.
	InForce Limit
	// Waiting is how many transfers and requests wait for its rates now. Running and Queued are transfers.
	Waiting, Running, Queued int
}

// Rules lists what is said about anything, the widest scopes first.
func (l *Limiter) Rules() []Rule {
	l.mu.Lock()
	defer l.mu.Unlock()
	known := map[Scope]bool{{Kind: Host}: true}
	for _, m := range []map[Scope]Limit{l.rules.configured, l.rules.put} {
		for s := range m {
			known[s] = true
		}
	}
	var all []Rule
	for _, s := range slices.SortedFunc(maps.Keys(known), Scope.Compare) {
		all = append(all, l.rule(s))
	}
	return all
}

// Rule returns what is said about a scope, which may be nothing.
func (l *Limiter) Rule(s Scope) Rule {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.rule(s)
}

func (l *Limiter) rule(s Scope) Rule {
	r := Rule{Scope: s, Configured: l.rules.configured[s], Put: l.rules.put[s], InForce: l.rules.of(s)}
	g := l.gates[s]
	if s == l.host.scope {
		g = l.host
	}
	if g != nil {
		g.mu.Lock()
		r.Waiting = g.waiting
		g.mu.Unlock()
	}
	r.Running, r.Queued = l.Queue.count(s)
	return r
}

// place is where a flow waits; nil if it does not.
type place = atomic.Pointer[gate]

// At returns the scope for whose limit a flow waits, and false if it does not wait.
func (l *Limiter) At(participantContext, flow string) (Scope, bool) {
	l.mu.Lock()
	p := l.flows[Scope{Flow, participantContext, flow}]
	l.mu.Unlock()
	if p == nil {
		return Scope{}, false
	}
	g := p.Load()
	if g == nil {
		return Scope{}, false
	}
	return g.scope, true
}

// Meter holds one transfer, or one request, to the limits that its flow is under. Its methods are for one goroutine at a time. A nil
// Meter has no limits.
type Meter struct {
	limiter *Limiter
	who     Who
	place   *place
	gates   [levels]*gate
	classes [levels]*class // those that were needed
	paid    [levels]amount // in advance
	waiter  waiter
	waits   func(now bool) // may be nil
}

// Open returns a Meter for a flow, which has to be closed.
func (l *Limiter) Open(who Who) *Meter {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.dropIdle()
	m := &Meter{limiter: l, who: who}
	for i, s := range who.scopes() {
		m.gates[i] = l.gate(s)
		m.gates[i].users++
	}
	flow := m.gates[atFlow].scope
	if m.place = l.flows[flow]; m.place == nil {
		m.place = &place{}
		l.flows[flow] = m.place
	}
	return m
}

// Tell has f called whenever Wait begins to wait, and when it no longer does.
func (m *Meter) Tell(f func(now bool)) { m.waits = f }

func (l *Limiter) gate(s Scope) *gate {
	if s == l.host.scope {
		return l.host
	}
	g := l.gates[s]
	if g == nil {
		g = newGate(s)
		g.set(l.rules.of(s))
		l.gates[s] = g
	}
	return g
}

// dropIdle forgets what nobody has used for a while. Not earlier, or who comes again and again would find each limit unused.
func (l *Limiter) dropIdle() {
	if len(l.gates) < l.sweep {
		return
	}
	now := time.Now()
	for s, g := range l.gates {
		if g.users == 0 && now.Sub(g.idle) >= keep && g.full() {
			delete(l.gates, s)
			delete(l.flows, s)
		}
	}
	l.sweep = max(minSweep, 2*len(l.gates))
}

// Wait returns when so many bytes and records may move next, or with the cause for which ctx ended. More than a frame at once makes the
// flow uneven.
func (m *Meter) Wait(ctx context.Context, bytes, records int64) error {
	if m == nil {
		return nil
	}
	for i, g := range m.gates {
		if g.limited.Load() {
			if err := m.pass(ctx, i, bytes, records); err != nil {
				return err
			}
		}
	}
	return nil
}

// pass waits for one limit.
func (m *Meter) pass(ctx context.Context, level int, bytes, records int64) error {
	paid := &m.paid[level]
	if bytes <= paid.bytes && records <= paid.records {
		paid.bytes -= bytes
		paid.records -= records
		return nil
	}
	g := m.gates[level]
	c := m.classes[level]
	if c == nil {
		m.limiter.mu.Lock()
		c = g.class(m.who, &m.limiter.rules)
		m.limiter.mu.Unlock()
		m.classes[level] = c
	}
	w := &m.waiter
	if w.ready == nil {
		w.ready = make(chan struct{}, 1)
	}
	w.asked = amount{max(0, bytes-paid.bytes), max(0, records-paid.records)}
	if !g.enter(c, w) {
		if err := m.await(ctx, g, c); err != nil {
			return err
		}
	}
	paid.bytes += w.granted.bytes - bytes
	paid.records += w.granted.records - records
	return nil
}

// await waits for the turn at a gate.
func (m *Meter) await(ctx context.Context, g *gate, c *class) error {
	m.place.Store(g)
	defer m.place.CompareAndSwap(g, nil)
	if m.waits != nil {
		m.waits(true)
		defer m.waits(false)
	}
	select {
	case <-m.waiter.ready:
		return nil
	case <-ctx.Done():
	}
	if !g.leave(c, &m.waiter) {
		<-m.waiter.ready
	}
	return context.Cause(ctx)
}

// Close ends the use of the Meter.
func (m *Meter) Close() {
	if m == nil {
		return
	}
	l := m.limiter
	l.mu.Lock()
	defer l.mu.Unlock()
	for i, g := range m.gates {
		if c := m.classes[i]; c != nil {
			g.forget(c)
		}
		if g.users--; g.users == 0 {
			g.idle = time.Now()
		}
	}
}
