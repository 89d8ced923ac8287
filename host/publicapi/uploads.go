package publicapi

import (
	"context"
	"sync"
	"time"

	"github.com/towpath-dataplane/towpath/host/flow"
)

// uploads keeps what may not happen at once apart: two uploads of one part, and a manifest while uploads run.
type uploads struct {
	mu    sync.Mutex // guards what follows
	flows map[ingestKey]*ingesting
}

// ingestKey is what an ingest is known by: a flow, or its response channel.
type ingestKey struct {
	flow.Key
	response bool
}

func (r route) ingestKey() ingestKey { return ingestKey{r.key, r.operation.responds()} }

// ingesting is what runs for one flow's ingest.
type ingesting struct {
	requests int
	sealing  bool
	names    map[string]*claimed // of parts on their way
}

func newUploads() *uploads { return &uploads{flows: map[ingestKey]*ingesting{}} }

// enter begins a request to a flow, before the flow is joined; leave ends it. Requests that only read always enter.
func (u *uploads) enter(r route) (leave func(), err error) {
	if r.operation.reads() {
		return func() {}, nil
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	key := r.ingestKey()
	f := u.flows[key]
	if f == nil {
		f = &ingesting{names: map[string]*claimed{}}
	}
	if f.sealing || r.operation == seal && f.requests > 0 {
		return nil, conflict.because("another request has to finish first").retryAfter(time.Second)
	}
	f.requests++
	f.sealing = r.operation == seal
	u.flows[key] = f
	return func() { u.leave(key) }, nil
}

func (u *uploads) leave(key ingestKey) {
	u.mu.Lock()
	defer u.mu.Unlock()
	f := u.flows[key]
	f.sealing = false
	if f.requests--; f.requests == 0 {
		delete(u.flows, key)
	}
}

// claimed is a part on its way.
type claimed struct {
	cut  func()        // ends the request; nil if it may not be ended
	done chan struct{} // closed when it has
}

// takeOverTime bounds how long a request waits for the one that it takes a part over from.
const takeOverTime = 30 * time.Second

// claim takes a name for an upload of a request that has entered; release gives it back. cut, if not nil, lets another request end
// this one. takeOver does so with the one that has the name now: its client has given it up.
func (u *uploads) claim(ctx context.Context, r route, name string, cut func(), takeOver bool) (release func(), err error) {
	mine := &claimed{cut: cut, done: make(chan struct{})}
	timer := time.NewTimer(takeOverTime)
	defer timer.Stop()
	for {
		f, other := u.tryClaim(r.ingestKey(), name, mine)
		if other == nil {
			return func() { u.unclaim(f, name, mine) }, nil
		}
		taken := conflict.because("part %q is being sent by another request", name).retryAfter(time.Second)
		if !takeOver || other.cut == nil {
			return nil, taken
		}
		other.cut()
		select {
		case <-other.done:
		case <-timer.C:
			return nil, taken
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}
}

// tryClaim takes a name, or returns who has it.
func (u *uploads) tryClaim(key ingestKey, name string, mine *claimed) (f *ingesting, other *claimed) {
	u.mu.Lock()
	defer u.mu.Unlock()
	f = u.flows[key]
	if other = f.names[name]; other == nil {
		f.names[name] = mine
	}
	return f, other
}

func (u *uploads) unclaim(f *ingesting, name string, mine *claimed) {
	u.mu.Lock()
	defer u.mu.Unlock()
	delete(f.names, name)
	close(mine.done)
}
