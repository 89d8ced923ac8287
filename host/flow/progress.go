package flow

import (
	"context"
	"errors"
	"sync/atomic"

	"github.com/towpath-dataplane/towpath/sdk"
)

// progress is what a transfer tells the engine, and asks it.
type progress struct {
	engine *Engine
	key    Key
	live   *live
	used   atomic.Pointer[sdk.DataAddress] // what Remote returned last, as the counterparty gave it
}

func (p *progress) Waiting(reason string) { p.engine.setWaiting(p.live, reason) }

func (p *progress) Observe(step func() Step) { p.live.tracker.observe(p, step) }

func (p *progress) Checkpoint(ctx context.Context, c Checkpoint, totals sdk.Totals, parts []Part) error {
	return storable(p.engine.Store.Update(ctx, p.key, func(tx Tx) error {
		f, err := tx.Flow()
		if err != nil {
			return err
		}
		if f.State.Final() {
			return &StateError{Key: f.Key, State: f.State, Signal: SignalFinished}
		}
		for _, part := range parts {
			if err := addPart(tx, f, part); err != nil {
				return err
			}
		}
		f.recovered()
		f.Checkpoint, f.Totals = &c, totals
		return tx.Put(f)
	}))
}

// storable has a transfer try again what could not be stored for now.
func storable(err error) error {
	if errors.Is(err, ErrStorage) {
		return sdk.Retryf(sdk.Unavailable, "%w", err)
	}
	return err
}

// addPart stores a part with its flow, in place of one of the same name. The flow still has to be Put.
func addPart(tx Tx, f *Flow, p Part) error {
	var former *Part
	find := tx.Part
	if p.Response {
		find = tx.ResponsePart
	}
	if old, ok, err := find(p.Name); err != nil {
		return err
	} else if ok {
		former = &old
	}
	p.Finished = tx.Now()
	if p.Response {
		f.respond(func(r *Response) { r.Digest = count(&r.Totals, r.Digest, p, former) })
	} else {
		f.Digest = count(&f.Totals, f.Digest, p, former)
	}
	_, err := tx.AddPart(p)
	return err
}
