package publicapi

import (
	"sync"
	"time"

	"github.com/towpath-dataplane/towpath/host/flow"
)

// uploads keeps what may not happen at once apart: two uploads of one part, and a manifest while uploads run.
type uploads struct {
	mu    sync.Mutex // guards what follows
	flows map[flow.Key]*ingesting
}

// ingesting is what runs for one flow's ingest.
type ingesting struct {
	requests int
	sealing  bool
	names    map[string]bool // of parts on their way
}

func newUploads() *uploads { return &uploads{flows: map[flow.Key]*ingesting{}} }

// enter begins a request to a flow, before the flow is joined; leave ends it. Requests that only read always enter.
func (u *uploads) enter(r route) (leave func(), err error) {
	if r.operation.reads() {
		return func() {}, nil
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	f := u.flows[r.key]
	if f == nil {
		f = &ingesting{names: map[string]bool{}}
	}
	if f.sealing || r.operation == seal && f.requests > 0 {
		return nil, conflict.because("another request has to finish first").retryAfter(time.Second)
	}
	f.requests++
	f.sealing = r.operation == seal
	u.flows[r.key] = f
	return func() { u.leave(r.key) }, nil
}

func (u *uploads) leave(key flow.Key) {
	u.mu.Lock()
	defer u.mu.Unlock()
	f := u.flows[key]
	f.sealing = false
	if f.requests--; f.requests == 0 {
		delete(u.flows, key)
	}
}

// claim takes a name for an upload of a request that has entered; release gives it back.
func (u *uploads) claim(key flow.Key, name string) (release func(), err error) {
	u.mu.Lock()
	defer u.mu.Unlock()
	f := u.flows[key]
	if f.names[name] {
		return nil, conflict.because("part %q is being sent by another request", name).retryAfter(time.Second)
	}
	f.names[name] = true
	return func() {
		u.mu.Lock()
		defer u.mu.Unlock()
		delete(f.names, name)
	}, nil
}
