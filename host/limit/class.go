package limit

import "container/heap"

// class is who shares a gate: a participant context, a counterparty in it, or a flow of that. Among the children of a class those have
// the next turn that have had least for their weight. What they have had is counted in tags, in seconds of the limit by weight; who was
// away comes back where the others are by now, with a little credit.
type class struct {
	scope  Scope
	who    Who
	parent *class // nil for the root
	weight float64

	users    int // Meters, also of the classes below
	children int // classes below

	tag   float64 // what it has had, in its parent's time
	now   float64 // of its children: the tag of who had the last turn
	index int     // in its parent's turns; -1 if nobody waits in it
	turns turns   // children in which someone waits

	first, last *waiter // in the class of a flow
}

// waiter is someone who waits at a gate.
type waiter struct {
	asked   amount
	granted amount        // at least what it asked for
	ready   chan struct{} // gets a value when it has got that
	next    *waiter
}

func (c *class) weigh(r *rules) {
	if c.scope.Kind == Flow {
		c.weight = r.flowWeight(c.who)
		return
	}
	c.weight = r.weight(c.scope)
}

// touch brings up to date what a class that was away has had.
func (c *class) touch() {
	for ; c.parent != nil && c.index < 0; c = c.parent {
		c.tag = max(c.tag, c.parent.now-credit.Seconds()/c.weight)
	}
}

// charge counts what someone in the class has got.
func (c *class) charge(cost float64) {
	for ; c.parent != nil; c = c.parent {
		c.parent.now = max(c.parent.now, c.tag)
		c.tag += cost / c.weight
		if c.index >= 0 {
			heap.Fix(&c.parent.turns, c.index)
		}
	}
}

// next returns the class that has the next turn, in which someone waits.
func (c *class) next() *class {
	for len(c.turns) > 0 {
		c = c.turns[0]
	}
	return c
}

func (c *class) add(w *waiter) {
	w.next = nil
	if c.first != nil {
		c.last.next = w
		c.last = w
		return
	}
	c.touch()
	c.first, c.last = w, w
	for ; c.parent != nil && c.index < 0; c = c.parent {
		heap.Push(&c.parent.turns, c)
	}
}

func (c *class) pop() *waiter {
	w := c.first
	c.remove(w)
	return w
}

// remove takes w out, and reports whether it was there.
func (c *class) remove(w *waiter) bool {
	var before *waiter
	at := c.first
	for ; at != nil && at != w; before, at = at, at.next {
	}
	if at == nil {
		return false
	}
	if before == nil {
		c.first = w.next
	} else {
		before.next = w.next
	}
	if c.last == w {
		c.last = before
	}
	w.next = nil
	for ; c.parent != nil && c.first == nil && len(c.turns) == 0; c = c.parent {
		heap.Remove(&c.parent.turns, c.index)
		c.index = -1
	}
	return true
}

// turns are classes in the order of their turns.
type turns []*class

func (t turns) Len() int           { return len(t) }
func (t turns) Less(i, j int) bool { return t[i].tag < t[j].tag }
func (t turns) Swap(i, j int) {
	t[i], t[j] = t[j], t[i]
	t[i].index, t[j].index = i, j
}

// Push is for package heap.
func (t *turns) Push(x any) {
	c := x.(*class)
	c.index = len(*t)
	*t = append(*t, c)
}

// Pop is for package heap.
func (t *turns) Pop() any {
	last := len(*t) - 1
	c := (*t)[last]
	(*t)[last] = nil
	*t = (*t)[:last]
	return c
}
