package flow

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/towpath-dataplane/towpath/sdk"
)

// release tells whoever holds something for a flow that has ended to let go of it, its sink too, in the background and until they have;
// if revoke says so, it ends the flow's tokens before that.
func (e *Engine) release(f *Flow, revoke bool) {
	e.background(func() {
		pause := 100 * time.Millisecond
		for {
			err := e.letGo(f, revoke)
			if err == nil || e.ctx.Err() != nil {
				return
			}
			e.Logger.Warn("flow that has ended not released", "flow", f.Key.String(), "err", err, "pause", pause)
			select {
			case <-e.ctx.Done():
				return
			case <-time.After(pause):
			}
			pause = min(2*pause, time.Minute)
		}
	})
}

func (e *Engine) letGo(f *Flow, revoke bool) error {
	end, err := e.turn(e.ctx)
	if err != nil {
		return err
	}
	defer end()
	if err := e.Ended(e.ctx, f.Key); err != nil {
		return err
	}
	if revoke {
		if err := e.Endpoint.Revoke(e.ctx, f.Key); err != nil {
			return fmt.Errorf("revoke tokens: %w", err)
		}
	}
	if err := e.deprovision(f); err != nil {
		return err
	}
	return e.Store.Update(context.WithoutCancel(e.ctx), f.Key, func(tx Tx) error {
		f, err := tx.Flow()
		if err != nil {
			return err
		}
		f.Leftover = false
		return tx.Put(f)
	})
}

// deprovision tells the sink of a flow to let go of what it holds for it.
func (e *Engine) deprovision(f *Flow) error {
	a, err := e.sinkAddress(f)
	if err == nil && !a.IsZero() {
		ctx, cancel := context.WithTimeout(e.ctx, e.StopTimeout)
		defer cancel()
		var sink sdk.DataSink
		if sink, err = e.Sinks.Sink(a.Type); err == nil {
			err = sink.Deprovision(ctx, f.PluginContext(), a)
		}
	}
	// What was configured when the flow began may not be any more; then there is nobody to tell.
	if err != nil && sdk.AsError(err).Code != sdk.Invalid && !errors.As(err, new(*RequestError)) {
		return err
	}
	return nil
}

// sinkAddress returns the address that our side writes to, zero if it does not write.
func (e *Engine) sinkAddress(f *Flow) (sdk.DataAddress, error) {
	switch {
	case f.Target != nil:
		return *f.Target, nil
	case f.Role == Consumer:
		return f.Local, nil
	case f.Direction == Push && f.Remote != nil:
		return RemoteAddress(e.Catalog, f)
	}
	return sdk.DataAddress{}, nil
}

// RemoteAddress returns the address at the other end of a flow's transfer, with the type of the plugin that reads or writes it.
func RemoteAddress(c Catalog, f *Flow) (sdk.DataAddress, error) {
	if f.Target != nil {
		return *f.Target, nil
	}
	p, ok := c.Profile(f.Profile)
	if !ok {
		return sdk.DataAddress{}, &RequestError{Field: "profile", Message: fmt.Sprintf("%q is not configured", f.Profile)}
	}
	return p.resolve(*f.Remote), nil
}

func (p Profile) resolve(a sdk.DataAddress) sdk.DataAddress {
	a = a.Clone()
	if t, ok := p.Types[a.Type]; ok {
		a.Type = t
	}
	if p.Type != "" {
		a.Type = p.Type
	}
	return a
}
