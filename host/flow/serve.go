package flow

import (
	"bytes"
	"context"
	"time"
)

// stay is a request that runs inside a flow.
type stay struct {
	response bool // it is about the response channel
	cancel   context.CancelCauseFunc
	left     chan struct{}
}

// Join enters a flow that serves its endpoint for the time of one request.
func (e *Engine) Join(ctx context.Context, key Key) (*Joined, error) {
	return e.stay(ctx, key, false, func(f *Flow) (*Flow, error) {
		if !f.serving() {
			return nil, &StateError{Key: key, State: f.State, Signal: signalData}
		}
		return f, nil
	})
}

// stay enters a flow, or its response channel, if as lets it: as returns the flow as who enters is to see it, and leaves the one that it is
// given as it is, which others have too.
func (e *Engine) stay(ctx context.Context, key Key, response bool, as func(*Flow) (*Flow, error)) (*Joined, error) {
	l, err := e.use(key)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancelCause(ctx)
	s := &stay{response: response, cancel: cancel, left: make(chan struct{})}
	e.mu.Lock()
	l.stays[s] = struct{}{}
	e.mu.Unlock()
	leave := func() {
		cancel(nil)
		e.mu.Lock()
		delete(l.stays, s)
		e.mu.Unlock()
		close(s.left)
		e.unuse(key, l)
	}
	// A signal stores its state first and cuts the stays it finds afterwards: it has found this one, or this reads its state.
	of, err := e.Store.View(ctx, key)
	f := of
	if err == nil {
		f, err = as(of)
	}
	if err == nil && e.ctx.Err() != nil {
		err = ErrClosed
	}
	if err != nil {
		leave()
		return nil, err
	}
	t := &l.tracker
	if response {
		t = &l.responses
	}
	moved := func(n int) { t.moved(n, e.Clock()) }
	return &Joined{Context: ctx, Flow: f, Of: of, Moved: moved, Read: func(p Part) { e.read(key, l, p) }, Leave: leave}, nil
}

// serving reports whether the flow's endpoint takes requests now. Data may reach a consumer before it hears that the provider has
// started.
func (f *Flow) serving() bool {
	if !f.Serves() {
		return false
	}
	return f.State == Started || f.Role == Consumer && f.State == Prepared
}

// cutStays ends the requests inside a flow and waits until they have left. It returns false if timeout comes first.
func (e *Engine) cutStays(l *live, cause error, timeout <-chan time.Time) bool {
	e.mu.Lock()
	var stays []*stay
	for s := range l.stays {
		s.cancel(cause)
		stays = append(stays, s)
	}
	e.mu.Unlock()
	for _, s := range stays {
		select {
		case <-s.left:
		case <-timeout:
			return false
		}
	}
	return true
}

// Record stores parts that were read whole, or received and made durable.
func (e *Engine) Record(ctx context.Context, key Key, parts ...Part) error {
	return e.edit(ctx, key, func(tx Tx, f *Flow) error {
		if f.Sealed && f.Role == Consumer {
			return &StateError{Key: key, State: f.State, Signal: signalData, Why: "its manifest has closed it"}
		}
		for _, p := range parts {
			if err := addPart(tx, f, p); err != nil {
				return err
			}
		}
		return nil
	})
}

// Part returns a stored part of a flow.
func (e *Engine) Part(ctx context.Context, key Key, name string) (p Part, ok bool, err error) {
	err = e.Store.Update(ctx, key, func(tx Tx) (err error) {
		p, ok, err = tx.Part(name)
		return err
	})
	return p, ok, err
}

// Seal closes an ingest, if check finds its parts in order. A flow that is sealed stays so whatever a later check finds.
func (e *Engine) Seal(ctx context.Context, key Key, check func(parts []Part) error) error {
	for {
		parts, err := e.parts(ctx, key)
		if err != nil {
			return err
		}
		var sum []byte
		for _, p := range parts {
			sum = Sum(sum, p)
		}
		if err := check(parts); err != nil {
			return err
		}
		unchanged := false
		err = e.edit(ctx, key, func(_ Tx, f *Flow) error {
			if unchanged = bytes.Equal(f.Digest, sum); unchanged {
				f.Sealed = true
			}
			return nil
		})
		if err != nil || unchanged {
			return err
		}
	}
}

func (e *Engine) parts(ctx context.Context, key Key) (all []Part, err error) {
	const page = 1000
	from := uint64(0)
	for {
		parts, err := e.Store.Parts(ctx, key, from, page)
		if err != nil {
			return nil, err
		}
		all = append(all, parts...)
		if len(parts) < page {
			return all, nil
		}
		from = parts[len(parts)-1].Index + 1
	}
}

// NextIndex returns an index for a new part of an ingest.
func (e *Engine) NextIndex(ctx context.Context, key Key) (index uint64, err error) {
	err = e.edit(ctx, key, func(_ Tx, f *Flow) error {
		index = f.NextIndex
		f.NextIndex++
		return nil
	})
	return index, err
}

// Report keeps a failure with a flow that serves its endpoint, and tells the control plane, unless it has heard the same since the flow
// moved last.
func (e *Engine) Report(ctx context.Context, key Key, failure error) error {
	return e.Store.Update(ctx, key, func(tx Tx) error {
		f, err := tx.Flow()
		if err != nil {
			return err
		}
		return fault(tx, f, failure)
	})
}

// edit changes a flow without moving it.
func (e *Engine) edit(ctx context.Context, key Key, change func(Tx, *Flow) error) error {
	return e.Store.Update(ctx, key, func(tx Tx) error {
		f, err := tx.Flow()
		if err != nil {
			return err
		}
		if err := change(tx, f); err != nil {
			return err
		}
		return tx.Put(f)
	})
}
