package flow

import (
	"context"
	"errors"

	"github.com/towpath-dataplane/towpath/sdk"
)

// Retry lets a flow go on that rests with a fault or waits for its next attempt, and tries callbacks again that were given up.
func (e *Engine) Retry(ctx context.Context, key Key) error {
	l, unlock, err := e.enter(ctx, key)
	if err != nil {
		return err
	}
	defer unlock()
	rests := false
	var f *Flow
	err = e.Store.Update(ctx, key, func(tx Tx) (err error) {
		if f, err = tx.Flow(); err != nil {
			return err
		}
		callbacks, err := tx.RetryCallbacks()
		if err != nil {
			return err
		}
		rests = f.retryable() && (l.transfer == nil && l.work == nil || e.waits(l))
		if !rests && callbacks == 0 {
			return &StateError{Key: key, State: f.State, Signal: signalRetry, Why: "nothing of it has failed"}
		}
		if rests {
			// What was reported stays known, so that the control plane does not hear it twice.
			f.Fault, f.RenewalRefused = "", false
		}
		return tx.Put(f)
	})
	if err != nil || !rests {
		return err
	}
	e.halt(key, l, f.State)
	e.Logger.Info("flow is tried again", "flow", key.String())
	if f.State == Started {
		f.Redelivery = true
		e.run(l, f)
		return nil
	}
	e.reviveWork(l, f)
	return nil
}

// retryable reports whether there is something to run for a flow in its state.
func (f *Flow) retryable() bool {
	switch f.State {
	case Preparing, Starting:
		return true
	case Started:
		return f.Lacks() == "" && (f.Moves() || f.RenewalFault != "")
	}
	return false
}

func (e *Engine) waits(l *live) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	return l.waiting != ""
}

// Address returns the counterparty's address of a STARTED flow, for a local application.
func (e *Engine) Address(ctx context.Context, key Key) (sdk.DataAddress, error) {
	f, err := e.reachable(ctx, key)
	if err != nil {
		return sdk.DataAddress{}, err
	}
	return f.Remote.Clone(), nil
}

// reachable returns a STARTED flow whose counterparty serves its data, with a token that is good now, unless that cannot be had.
func (e *Engine) reachable(ctx context.Context, key Key) (*Flow, error) {
	f, err := e.Store.Flow(ctx, key)
	if err != nil {
		return nil, err
	}
	if f.Role != Consumer || f.Direction != Pull {
		return nil, &StateError{Key: key, State: f.State, Signal: signalData, Why: "its data is not fetched from the counterparty"}
	}
	f, err = e.fresh(ctx, key, nil)
	if errors.Is(err, ErrNotRenewed) && f != nil && f.Remote != nil {
		return f, nil // who uses it hears from the counterparty what is wrong
	}
	return f, err
}

// Visit enters a STARTED flow whose data the counterparty serves.
func (e *Engine) Visit(ctx context.Context, key Key) (*Joined, error) {
	if _, err := e.reachable(ctx, key); err != nil {
		return nil, err
	}
	return e.stay(ctx, key, func(f *Flow) error {
		if f.State != Started || f.Remote == nil {
			return &StateError{Key: key, State: f.State, Signal: signalData, Why: f.Lacks()}
		}
		a, err := RemoteAddress(e.Catalog, f)
		f.Local = a
		return err
	})
}
