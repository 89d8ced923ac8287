package flow

import (
	"context"
	"maps"
	"slices"
	"sync"
	"time"
)

const (
	// readsInterval is the time between two transactions that store what requests have read of one flow. Clients that read many small
	// parts, or the same again and again, cost no transaction each.
	readsInterval = 500 * time.Millisecond
	// maxReads is how many parts wait for that at most.
	maxReads = 4096
	// storeReadsTimeout bounds such a transaction.
	storeReadsTimeout = 10 * time.Second
)

// reads are the parts of a flow that requests have read whole and that are not stored yet. Methods may be called concurrently.
type reads struct {
	storing sync.Mutex // one transaction at a time, so that the later of two readings of a part stays

	mu      sync.Mutex // guards what follows
	parts   map[string]Part
	running bool // someone stores them
}

// add takes a part. begun says that nobody stores them yet; false is returned for ok if too many wait.
func (r *reads) add(p Part) (begun, ok bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if _, again := r.parts[p.Name]; !again && len(r.parts) >= maxReads {
		return false, false
	}
	if r.parts == nil {
		r.parts = map[string]Part{}
	}
	r.parts[p.Name] = p
	begun, r.running = !r.running, true
	return begun, true
}

// take returns what there is. With none, and last, whoever stores them has ended.
func (r *reads) take(last bool) []Part {
	r.mu.Lock()
	defer r.mu.Unlock()
	parts := slices.SortedFunc(maps.Values(r.parts), func(a, b Part) int { return int(a.Index) - int(b.Index) })
	r.parts = nil
	if last && len(parts) == 0 {
		r.running = false
	}
	return parts
}

// read stores that a request inside a flow has read a part: at once if the flow is quiet, and otherwise together with what follows. A
// signal that stops the flow returns after that.
func (e *Engine) read(key Key, l *live, p Part) {
	begun, ok := l.reads.add(p)
	for !ok {
		e.storeReads(key, l, false)
		begun, ok = l.reads.add(p)
	}
	if !begun {
		return
	}
	if !e.startReads(key, l) {
		e.keepReads(key, l)
	}
}

// startReads begins to store reads beside the request, unless the engine is closed. The request is inside, so that l is in use.
func (e *Engine) startReads(key Key, l *live) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	l.users++
	if !e.closed {
		e.work.Go(func() { e.keepReads(key, l) })
	}
	return !e.closed
}

// keepReads stores what is read of a flow until nothing is, for a while, or the engine closes.
func (e *Engine) keepReads(key Key, l *live) {
	defer e.unuse(key, l)
	for e.storeReads(key, l, true) {
		pause := time.NewTimer(readsInterval)
		select {
		case <-pause.C:
		case <-e.ctx.Done():
		}
		pause.Stop()
	}
}

// storeReads reports whether there was something to store. The counterparty has it, whatever becomes of the record: a failure is logged.
func (e *Engine) storeReads(key Key, l *live, last bool) bool {
	l.reads.storing.Lock()
	defer l.reads.storing.Unlock()
	parts := l.reads.take(last)
	if len(parts) == 0 {
		return false
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(e.ctx), storeReadsTimeout)
	defer cancel()
	if err := e.Record(ctx, key, parts...); err != nil {
		e.Logger.Error("parts that were read are not recorded", "flow", key.String(), "parts", len(parts), "err", err)
	}
	return true
}
