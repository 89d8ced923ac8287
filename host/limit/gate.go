package limit

import (
	"math"
	"sync"
	"sync/atomic"
	"time"
)

const (
	// burst is how much of its rate a limit that was not used lets pass at once: enough to make up for scheduling, too little to be
	// seen by whoever the limit protects.
	burst = 250 * time.Millisecond
	// credit is how much of a limit someone who was not waiting gets before those who were: what is small gets through beside what is
	// large, and who comes back a moment too late loses nothing.
	credit = 50 * time.Millisecond
	// minPause is the shortest time between two rounds of a gate, and what is given at least in each: small frames are paid in advance.
	minPause = time.Millisecond
)

// amount is what is asked for, or paid in advance.
type amount struct{ bytes, records int64 }

// bucket holds what may pass. It can be overdrawn: whatever comes next passes if the level is above 0, and what comes after that waits
// until the level is back. So no frame is too large for it.
type bucket struct {
	rate  float64 // per second; 0: no limit
	level float64
}

func (b *bucket) fill(d time.Duration) {
	b.level = min(b.level+b.rate*d.Seconds(), b.rate*burst.Seconds())
}

func (b *bucket) take(n int64) {
	if b.rate > 0 {
		b.level -= float64(n)
	}
}

// wait is how long it takes until something may pass.
func (b *bucket) wait() time.Duration {
	if b.rate == 0 || b.level > 0 {
		return 0
	}
	return time.Duration(math.Ceil(-b.level/b.rate*float64(time.Second))) + 1
}

// cost is how long the limit takes for n.
func (b *bucket) cost(n int64) float64 {
	if b.rate == 0 {
		return 0
	}
	return float64(n) / b.rate
}

// atLeast is n, or more than the limit lets pass in d if that is more. Who asks for nothing gets nothing.
func (b *bucket) atLeast(n int64, d time.Duration) int64 {
	if b.rate == 0 || d == 0 || n == 0 {
		return n
	}
	return max(n, int64(b.rate*d.Seconds())+1)
}

// set changes the rate. What is overdrawn takes as long to come back as before.
func (b *bucket) set(rate float64) {
	switch {
	case b.rate == 0 || rate == 0:
		b.level = rate * burst.Seconds()
	case b.level < 0:
		b.level *= rate / b.rate
	default:
		b.level = min(b.level, rate*burst.Seconds())
	}
	b.rate = rate
}

// gate is where flows wait for the limit of one scope.
type gate struct {
	scope   Scope
	limited atomic.Bool

	users int       // guarded by Limiter.mu, as is idle
	idle  time.Time // since when there are no users

	mu             sync.Mutex // guards what follows
	bytes, records bucket
	filled         time.Time
	root           class
	classes        map[Scope]*class
	sweep          int // number of classes at which those that nobody uses are dropped
	waiting        int
	timer          *time.Timer
	armed          bool
}

func newGate(s Scope) *gate {
	return &gate{scope: s, filled: time.Now(), classes: map[Scope]*class{}, sweep: minSweep}
}

// set changes the limit. Those who wait go on under the new one.
func (g *gate) set(l Limit) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.fill()
	g.bytes.set(float64(value(l.Bytes)))
	g.records.set(float64(value(l.Records)))
	g.limited.Store(g.bytes.rate > 0 || g.records.rate > 0)
	g.round()
}

func (g *gate) fill() {
	now := time.Now()
	g.bytes.fill(now.Sub(g.filled))
	g.records.fill(now.Sub(g.filled))
	g.filled = now
}

func (g *gate) pause() time.Duration { return max(g.bytes.wait(), g.records.wait()) }

// enter takes what w asks for, or puts w where it is woken when it has got it.
func (g *gate) enter(c *class, w *waiter) (passed bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.fill()
	if g.waiting == 0 && g.pause() == 0 {
		c.touch()
		g.grant(c, w, 0)
		return true
	}
	g.waiting++
	c.add(w)
	g.arm()
	return false
}

// grant gives w what it asks for, and at least what the limit lets pass in d.
func (g *gate) grant(c *class, w *waiter, d time.Duration) {
	w.granted = amount{g.bytes.atLeast(w.asked.bytes, d), g.records.atLeast(w.asked.records, d)}
	g.bytes.take(w.granted.bytes)
	g.records.take(w.granted.records)
	c.charge(max(g.bytes.cost(w.granted.bytes), g.records.cost(w.granted.records)))
}

// spare is how long the gate has let nothing pass though it could have.
func (g *gate) spare() time.Duration {
	spare := burst.Seconds()
	for _, b := range []*bucket{&g.bytes, &g.records} {
		if b.rate > 0 {
			spare = min(spare, b.level/b.rate)
		}
	}
	return time.Duration(spare * float64(time.Second))
}

// leave takes w back. It returns false if w has got what it asked for.
func (g *gate) leave(c *class, w *waiter) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	if !c.remove(w) {
		return false
	}
	g.waiting--
	return true
}

// round lets pass who may, in the order of their turns. Who has a turn gets all that there is: it cannot come again in this round, and
// others are not to have what is its own because of that.
func (g *gate) round() {
	for g.waiting > 0 && g.pause() == 0 {
		c := g.root.next()
		w := c.pop()
		g.waiting--
		g.grant(c, w, max(minPause, min(g.spare()+1, credit)))
		w.ready <- struct{}{}
	}
	g.armed = false
	if g.waiting > 0 {
		g.arm()
	}
}

// arm has the next round come when something may pass again.
func (g *gate) arm() {
	if g.armed {
		return
	}
	g.armed = true
	d := max(g.pause(), minPause)
	if g.timer == nil {
		g.timer = time.AfterFunc(d, g.tick)
		return
	}
	g.timer.Reset(d)
}

func (g *gate) tick() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.fill()
	g.round()
}

// full reports whether nothing is lost if the gate is forgotten.
func (g *gate) full() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.fill()
	return g.bytes.level >= g.bytes.rate*burst.Seconds() && g.records.level >= g.records.rate*burst.Seconds()
}

// class returns the class of a flow, below those of its counterparty and its context.
func (g *gate) class(w Who, r *rules) *class {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.dropIdle()
	at := w.scopes()
	parent := &g.root
	for _, s := range []Scope{at[atContext], at[atCounterparty], at[atFlow]} {
		c := g.classes[s]
		if c == nil {
			c = &class{scope: s, who: w, parent: parent, index: -1, tag: parent.now}
			c.weigh(r)
			parent.children++
			g.classes[s] = c
		}
		c.users++
		parent = c
	}
	return parent
}

// forget gives a class back that class has returned.
func (g *gate) forget(c *class) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for ; c.parent != nil; c = c.parent {
		c.users--
	}
}

// dropIdle removes the classes that nobody uses. As long as the limit is in demand, those that have had more than others stay: who comes
// again and again would have it forgotten each time.
func (g *gate) dropIdle() {
	if len(g.classes) < g.sweep {
		return
	}
	g.fill()
	unused := g.waiting == 0 && g.spare() >= burst/2
	for _, kind := range []Kind{Flow, Counterparty, Context} {
		for s, c := range g.classes {
			if s.Kind == kind && c.users == 0 && c.children == 0 && (unused || c.tag <= c.parent.now) {
				c.parent.children--
				delete(g.classes, s)
			}
		}
	}
	g.sweep = max(minSweep, 2*len(g.classes))
}

// weigh takes over changed weights.
func (g *gate) weigh(r *rules) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, c := range g.classes {
		c.weigh(r)
	}
}
