package flow

import (
	"context"
	"errors"
	"fmt"

	"github.com/towpath-dataplane/towpath/sdk"
)

// Retry lets a flow go on that rests with a fault or waits for its next attempt, and tries callbacks again that were given up.
func (e *Engine) Retry(ctx context.Context, key Key) error {
	l, unlock, err := e.enter(ctx, key)
	if err != nil {
		return err
	}
	defer unlock()
	rests, responseRests := false, false
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
		responseRests = f.State == Started && f.carriesResponse() && (l.response == nil || e.ResponseWaiting(key) != "")
		if !rests && !responseRests && callbacks == 0 {
			why := "nothing of it has failed"
			if f.Fault != "" && f.serving() {
				why = "its control plane has to resume it: " + f.Fault
			}
			return &StateError{Key: key, State: f.State, Signal: signalRetry, Why: why}
		}
		if rests {
			// What was reported stays known, so that the control plane does not hear it twice.
			f.Fault, f.FaultPart, f.RenewalRefused = "", "", false
		}
		if responseRests {
			f.respond(func(r *Response) { r.Fault = "" })
		}
		return tx.Put(f)
	})
	if err != nil || !rests && !responseRests {
		return err
	}
	e.Logger.Info("flow is tried again", "flow", key.String())
	switch {
	case !rests:
		e.restartResponse(l, f)
		return nil
	case f.State == Started:
		e.restart(l, f)
		return nil
	}
	e.halt(key, l, f.State)
	e.reviveWork(l, f)
	return nil
}

// Skip gives up the part that a flow rests at.
func (e *Engine) Skip(ctx context.Context, key Key, part string) error {
	l, unlock, err := e.enter(ctx, key)
	if err != nil {
		return err
	}
	defer unlock()
	var f *Flow
	err = e.Store.Update(ctx, key, func(tx Tx) (err error) {
		if f, err = tx.Flow(); err != nil {
			return err
		}
		if why := f.unskippable(part); why != "" {
			return &StateError{Key: key, State: f.State, Signal: signalSkip, Why: why}
		}
		f.Skipped = append(f.Skipped, Skipped{Part: f.FaultPart, Reason: f.Fault, At: tx.Now()})
		f.Fault, f.FaultPart = "", ""
		return tx.Put(f)
	})
	if err != nil {
		return err
	}
	given := f.Skipped[len(f.Skipped)-1]
	e.Logger.Warn("part is skipped", "flow", key.String(), "part", given.Part, "failure", given.Reason)
	e.restart(l, f)
	return nil
}

// maxSkipped bounds the parts of a flow that can be given up.
const maxSkipped = 1000

// unskippable says why a part cannot be given up, "" if it can.
func (f *Flow) unskippable(part string) string {
	switch {
	case f.State != Started || !f.Moves():
		return "it has no transfer"
	case f.Fault == "":
		return "it does not rest"
	case f.FaultPart == "":
		return "its failure is not that of a part"
	case part != "" && part != f.FaultPart:
		return fmt.Sprintf("it rests at part %q", f.FaultPart)
	case len(f.Skipped) >= maxSkipped:
		return fmt.Sprintf("%d parts were skipped", maxSkipped)
	}
	return ""
}

// Resend has a flow begin again from its start.
func (e *Engine) Resend(ctx context.Context, key Key) error {
	l, unlock, err := e.enter(ctx, key)
	if err != nil {
		return err
	}
	defer unlock()
	f, err := e.Store.Flow(ctx, key)
	switch {
	case err != nil:
		return err
	case f.State != Started && f.State != Suspended, !f.Moves():
		return &StateError{Key: key, State: f.State, Signal: signalResend, Why: "it has no transfer"}
	case f.Lacks() != "":
		return &StateError{Key: key, State: f.State, Signal: signalResend, Why: f.Lacks()}
	}
	e.halt(key, l, f.State) // it would store where it is
	ctx = context.WithoutCancel(ctx)
	before := f.Totals
	err = e.edit(ctx, key, func(_ Tx, now *Flow) error {
		now.Checkpoint, now.Totals, now.Fault, now.FaultPart = nil, sdk.Totals{}, "", ""
		return nil
	})
	if f, failure := e.Store.Flow(ctx, key); failure == nil && f.State == Started {
		e.restart(l, f)
	}
	if err == nil {
		e.Logger.Info("flow begins again", "flow", key.String(), "parts", before.Parts, "bytes", before.Bytes)
	}
	return err
}

// restart runs what there is to run for a flow that is STARTED, in place of what still runs. The flow's lock is held.
func (e *Engine) restart(l *live, f *Flow) {
	e.halt(f.Key, l, f.State)
	f.Redelivery = true
	e.run(l, f)
}

// restartResponse runs the transfer of the response channel, in place of the one that still runs. The flow's lock is held.
func (e *Engine) restartResponse(l *live, f *Flow) {
	if r := l.response; r != nil {
		r.cancel(cut(f.Key, f.State))
		l.response, l.responseStuck = nil, r.done
	}
	f.Redelivery = true
	e.runResponse(l, f)
}

// Abort ends a flow without its control plane.
func (e *Engine) Abort(ctx context.Context, key Key, reason string) error {
	l, unlock, err := e.enter(ctx, key)
	if err != nil {
		return err
	}
	defer unlock()
	var f *Flow
	err = e.Store.Update(ctx, key, func(tx Tx) (err error) {
		if f, err = tx.Flow(); err != nil {
			return err
		}
		next, _, err := Next(f, SignalAbort)
		if err != nil {
			return err
		}
		f.State, f.Resumed, f.Reason, f.Leftover = next, false, reason, true
		f.withdraw()
		if err := tx.CancelCallbacks(); err != nil {
			return err
		}
		if err := tx.Put(f); err != nil {
			return err
		}
		c := newCallback(tx, f, CallbackErrored, nil)
		c.Error = "ended by the operator of the data plane"
		if reason != "" {
			c.Error += ": " + reason
		}
		return tx.Enqueue(c)
	})
	if err != nil {
		return err
	}
	e.Logger.Warn("flow ended by an operator", "flow", key.String(), "reason", reason)
	return e.effect(context.WithoutCancel(ctx), l, f)
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
	f, err := e.Store.Flow(ctx, key)
	if err != nil {
		return sdk.DataAddress{}, err
	}
	if f.State == Started && f.Role == Consumer && f.Response != nil && f.Response.Remote != nil {
		return f.Response.Remote.Clone(), nil // of a push
	}
	f, err = e.reachable(ctx, key)
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
	return e.stay(ctx, key, false, func(f *Flow) (*Flow, error) {
		if f.State != Started || f.Remote == nil {
			return nil, &StateError{Key: key, State: f.State, Signal: signalData, Why: f.Lacks()}
		}
		as := *f
		var err error
		as.Local, err = RemoteAddress(e.Catalog, f)
		return &as, err
	})
}
