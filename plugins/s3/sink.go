package main

import (
	"cmp"
	"context"
	"fmt"
	"iter"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/towpath-dataplane/towpath/sdk"
)

// The collision policies.
const (
	collisionFail    = "fail"
	collisionReplace = "replace"
)

// cleanUp bounds what is removed when a flow breaks. What is left by then goes with Deprovision.
const cleanUp = 5 * time.Second

// grace is how long a write that was cut waits for the answer to what it has begun.
const grace = 2 * time.Second

// sink writes objects. A part is sent as it comes, and the store makes an object of it when it is known to be whole.
type sink struct{ env *environment }

var (
	_ sdk.Sink          = (*sink)(nil)
	_ sdk.Validator     = (*sink)(nil)
	_ sdk.Deprovisioner = (*sink)(nil)
)

// Validate checks the address by its letters, and whether its endpoint and the operator's credentials may be used.
func (s *sink) Validate(_ context.Context, a sdk.DataAddress) error {
	_, err := s.env.newWriteFolder(a)
	return err
}

func (s *sink) Write(ctx context.Context, req sdk.WriteRequest, parts iter.Seq2[*sdk.IncomingPart, error]) error {
	f, err := s.env.newWriteFolder(req.Address)
	if err != nil {
		return err
	}
	defer s.env.writes.begin(flowHash(req.Flow))()
	w := &writer{
		store:      s.env.open(f.place),
		to:         f,
		flow:       flowHash(req.Flow),
		replace:    cmp.Or(req.Address.Get("collision"), collisionReplace) == collisionReplace,
		redelivery: req.Redelivery,
		batch:      batchOf(req.Address),
	}
	for p, err := range parts {
		if err != nil {
			return err
		}
		if err := w.write(ctx, p); err != nil {
			return fmt.Errorf("part %q: %w", p.Name, err)
		}
	}
	return nil
}

// Deprovision aborts what was begun for the flow and removes what the plugin keeps for it. Records that were acknowledged stay. It looks
// again for what a write that was cut had sent, which can come to be after it was given up.
func (s *sink) Deprovision(ctx context.Context, flow sdk.FlowContext, a sdk.DataAddress) error {
	f, err := s.env.newWriteFolder(a)
	if err != nil {
		return err
	}
	if err := s.env.writes.await(ctx, flowHash(flow)); err != nil {
		return err
	}
	st, prefix := s.env.open(f.place), f.work+flowHash(flow)+"/"
	for n := 1; ; n++ {
		found, err := st.clear(ctx, prefix, clearing{rescue: true})
		switch {
		case err != nil:
			return err
		case n > 1 && !found:
			return nil
		case n == maxAborts:
			return sdk.Retryf(sdk.Unavailable, "what is below %q comes back", st.location(prefix))
		}
		if err := pause(ctx, abortPause); err != nil {
			return err
		}
	}
}

// writes are the writes that run, by flow.
type writes struct {
	mu   sync.Mutex // guards what follows
	runs map[string]map[chan struct{}]bool
}

// begin notes one, until end is called.
func (w *writes) begin(flow string) (end func()) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.runs == nil {
		w.runs = map[string]map[chan struct{}]bool{}
	}
	if w.runs[flow] == nil {
		w.runs[flow] = map[chan struct{}]bool{}
	}
	done := make(chan struct{})
	w.runs[flow][done] = true
	return func() {
		w.mu.Lock()
		defer w.mu.Unlock()
		if delete(w.runs[flow], done); len(w.runs[flow]) == 0 {
			delete(w.runs, flow)
		}
		close(done)
	}
}

// await waits for the end of those of a flow that run.
func (w *writes) await(ctx context.Context, flow string) error {
	w.mu.Lock()
	running := slices.Collect(maps.Keys(w.runs[flow]))
	w.mu.Unlock()
	for _, done := range running {
		select {
		case <-done:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	return nil
}

// writer writes the parts of one flow. It is used by one goroutine.
type writer struct {
	*store
	to         *writeFolder
	flow       string // hash of the flow
	replace    bool
	redelivery bool
	batch      batchLimits
	badSums    bool // the store does not know the checksums of ranges that it copies
}

func (w *writer) write(ctx context.Context, p *sdk.IncomingPart) error {
	key, err := w.to.key(p)
	if err != nil {
		return err
	}
	if p.PartInfo.Records {
		return w.writeRecords(ctx, p, key)
	}
	if p.Reference != nil {
		if err := w.copy(ctx, p, key); err != nil {
			return err
		}
		p.Commit(w.location(key))
		return nil
	}
	u, err := w.begin(ctx, p, key)
	if err != nil {
		return err
	}
	p.OnCheckpoint(u.checkpoint)
	if _, err = p.WriteTo(u); err == nil {
		err = u.finish()
	}
	if err != nil {
		u.abandon(err)
		return err
	}
	p.Commit(w.location(key))
	return nil
}
