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
	held, err := e.held(f)
	if err != nil {
		return err
	}
	if err := e.letGoOf(f, held); err != nil {
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

// holding is a sink's address, and the flow that the sink holds something for.
type holding struct {
	flow    sdk.FlowContext
	address sdk.DataAddress
}

// provisioned are the sinks that have made something for a flow.
func (f *Flow) provisioned() (all []holding) {
	if f.Target != nil {
		all = append(all, holding{f.PluginContext(), *f.Target})
	}
	if f.carriesResponse() {
		all = append(all, holding{f.responses().PluginContext(), *f.Response.Target})
	}
	return all
}

// held are all sinks that may hold something for a flow.
func (e *Engine) held(f *Flow) (all []holding, err error) {
	a, err := e.sinkAddress(f)
	switch {
	case errors.As(err, new(*RequestError)): // what was configured when the flow began is not any more
	case err != nil:
		return nil, err
	case !a.IsZero():
		all = append(all, holding{f.PluginContext(), a})
	}
	if !f.opensResponse() {
		return all, nil
	}
	view := f.responses().PluginContext()
	all = append(all, holding{view, f.Response.Local})
	if f.Response.Target != nil {
		all = append(all, holding{view, *f.Response.Target})
	}
	return all, nil
}

// letGoOf tells sinks to let go of what they hold for a flow.
func (e *Engine) letGoOf(f *Flow, all []holding) error {
	var errs []error
	for _, h := range all {
		errs = append(errs, e.deprovision(h))
	}
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("release flow %s: %w", f.Key, err)
	}
	return nil
}

// deprovision tells a sink to let go of what it holds.
func (e *Engine) deprovision(h holding) error {
	ctx, cancel := context.WithTimeout(e.ctx, e.StopTimeout)
	defer cancel()
	sink, err := e.Sinks.Sink(h.address.Type)
	if err == nil {
		err = sink.Deprovision(ctx, h.flow, h.address)
	}
	// What was configured when the flow began may not be any more; then there is nobody to tell.
	if err != nil && sdk.AsError(err).Code != sdk.Invalid {
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
	a = withoutResponse(a)
	if t, ok := p.Types[a.Type]; ok {
		a.Type = t
	}
	if p.Type != "" {
		a.Type = p.Type
	}
	return a
}
