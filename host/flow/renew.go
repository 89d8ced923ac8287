package flow

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/towpath-dataplane/towpath/sdk"
)

const (
	// renewAt is the part of a token's life after which it is renewed.
	renewAt = 0.8
	// The pauses after renewals that failed double from the first to the longest.
	firstRenewalPause = time.Second
	maxRenewalPause   = 5 * time.Minute
	// almostExpired is how much of a token's life has to be left for it to be given away.
	almostExpired = 5 * time.Second
)

// keeper renews the token of one flow's counterparty ahead of its expiry. A nil keeper does nothing.
type keeper struct {
	engine  *Engine
	key     Key
	live    *live
	ctx     context.Context // ends with stop
	cancel  context.CancelFunc
	timer   *time.Timer   // for the next renewal
	renewal chan struct{} // holds one value while a token is renewed: one at a time

	failures int // in a row; belongs to whoever renews
}

// keepFresh begins to renew the token of a STARTED flow's counterparty, if there is one that can be. The flow's lock is held.
func (e *Engine) keepFresh(l *live, f *Flow) {
	if f.Remote == nil || l.keeper != nil || f.RenewalRefused {
		return
	}
	if _, ok := e.Renewer.Renewable(f, *f.Remote); !ok {
		return
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.closed {
		return
	}
	l.users++
	k := &keeper{engine: e, key: f.Key, live: l, renewal: make(chan struct{}, 1)}
	k.ctx, k.cancel = context.WithCancel(e.ctx)
	l.keeper = k
	k.timer = time.AfterFunc(never, k.onTime)
	k.schedule(f)
	context.AfterFunc(k.ctx, func() { e.unuse(k.key, l) })
}

// never is for a timer that waits to be set.
const never = 1 << 62

// schedule sets the timer for the token that a flow has. One that does not say when it expires is renewed when it is refused.
func (k *keeper) schedule(f *Flow) {
	k.timer.Stop()
	k.failures = 0
	life, ok := k.engine.Renewer.Renewable(f, *f.Remote)
	if !ok || life <= 0 || k.ctx.Err() != nil {
		return
	}
	due := f.RemoteSince.Add(time.Duration(float64(life) * renewAt))
	k.timer.Reset(max(0, due.Sub(k.engine.Clock())))
}

func (k *keeper) stop() {
	if k != nil {
		k.cancel()
		k.timer.Stop()
	}
}

// onTime renews because it is time, and sets the timer for the next time.
func (k *keeper) onTime() {
	over, err := k.engine.turn(k.ctx) // after a stop, the tokens of thousands of flows may have expired
	if err != nil {
		return
	}
	defer over()
	if !k.begin(k.ctx) {
		return
	}
	defer k.end()
	f, err := k.renew(nil)
	switch e := sdk.AsError(err); {
	case k.ctx.Err() != nil:
	case err == nil:
		k.schedule(f)
	case e.Retryable:
		pause := max(min(firstRenewalPause<<min(k.failures, 20), maxRenewalPause), e.RetryAfter)
		k.failures++
		k.engine.Logger.Warn("token not renewed", "flow", k.key.String(), "err", err, "pause", pause)
		k.timer.Reset(pause)
	default:
		k.engine.Logger.Error("token cannot be renewed", "flow", k.key.String(), "err", err)
	}
}

// begin waits until nobody else renews. It returns false if the keeper was stopped, or ctx has ended.
func (k *keeper) begin(ctx context.Context) bool {
	select {
	case k.renewal <- struct{}{}:
	case <-k.ctx.Done():
		return false
	case <-ctx.Done():
		return false
	}
	k.engine.mu.Lock()
	defer k.engine.mu.Unlock()
	if k.engine.closed || k.ctx.Err() != nil {
		<-k.renewal
		return false
	}
	k.engine.work.Add(1)
	return true
}

func (k *keeper) end() {
	<-k.renewal
	k.engine.work.Done()
}

// renew renews the token and stores it before anyone uses it, unless the flow has another address than stale by now; nil stands for
// whatever it has. It returns the flow as it is then. begin has returned true.
func (k *keeper) renew(stale *sdk.DataAddress) (*Flow, error) {
	e, ctx := k.engine, k.ctx
	f, err := e.Store.Flow(ctx, k.key)
	if err != nil {
		return nil, sdk.Retryf(sdk.Unavailable, "read flow: %w", err)
	}
	if f.State != Started || f.Remote == nil {
		return nil, sdk.Errorf(sdk.Conflict, "the flow has stopped")
	}
	if stale != nil && !sameToken(*stale, *f.Remote) {
		return f, nil
	}
	used := *f.Remote
	renewed, failure := e.Renewer.Renew(ctx, f, used)
	store := func(tx Tx) (err error) {
		if f, err = tx.Flow(); err != nil {
			return err
		}
		if f.State != Started || f.Remote == nil || !sameToken(used, *f.Remote) {
			return nil // there is another one
		}
		if failure == nil {
			f.Remote, f.RemoteSince, f.RenewalFault, f.RenewalRefused = &renewed, e.Clock().UTC(), "", false
			return tx.Put(f)
		}
		f.RenewalFault, f.RenewalRefused = failure.Error(), !sdk.AsError(failure).Retryable
		if !f.RenewalRefused {
			return tx.Put(f)
		}
		return fault(tx, f, fmt.Errorf("the token of the counterparty's address cannot be renewed: %w", failure))
	}
	// What the counterparty has given must not be lost: it may take the refresh token that we had for stolen the next time.
	for pause := firstStorePause; ; pause = min(2*pause, maxStorePause) {
		err = e.Store.Update(context.WithoutCancel(ctx), k.key, store)
		if err == nil || failure != nil || errors.Is(err, ErrNotFound) {
			break
		}
		e.Logger.Error("renewed token not stored", "flow", k.key.String(), "err", err, "pause", pause)
		if !sleep(ctx, pause) {
			break
		}
	}
	if err != nil {
		return nil, sdk.Retryf(sdk.Unavailable, "store the renewed token: %w", err)
	}
	return f, failure
}

// sleep returns false if ctx has ended before.
func sleep(ctx context.Context, d time.Duration) bool {
	select {
	case <-ctx.Done():
		return false
	case <-time.After(d):
		return true
	}
}

func sameToken(a, b sdk.DataAddress) bool {
	return a.Endpoint == b.Endpoint && a.Get("authorization") == b.Get("authorization") && a.Get("refreshToken") == b.Get("refreshToken")
}

// fresh returns the flow with a token that is good now, as far as can be told: renewed if it is about to expire, or if refused is the
// address that it has. The error is ErrNotRenewed if that is so and no renewal is possible.
func (e *Engine) fresh(ctx context.Context, key Key, refused *sdk.DataAddress) (*Flow, error) {
	l, err := e.use(key)
	if err != nil {
		return nil, err
	}
	defer e.unuse(key, l)
	f, err := e.Store.Flow(ctx, key)
	switch {
	case err != nil:
		return nil, err
	case f.State != Started || f.Remote == nil:
		return nil, &StateError{Key: key, State: f.State, Signal: signalData, Why: f.Lacks()}
	case refused == nil && !e.almostExpired(f):
		return f, nil
	case f.RenewalRefused && (refused == nil || sameToken(*refused, *f.Remote)):
		return f, ErrNotRenewed // until somebody does something about it
	}
	k := e.keeperOf(ctx, l)
	if k == nil {
		return f, ErrNotRenewed
	}
	if !k.begin(ctx) {
		return f, ErrNotRenewed
	}
	stale := f.Remote
	if refused != nil {
		stale = refused
	}
	// The renewal does not end with who asked for it: the counterparty has perhaps given new tokens already.
	ended := make(chan error, 1)
	var renewed *Flow
	go func() {
		defer k.end()
		f, err := k.renew(stale)
		if err == nil {
			renewed = f
			k.schedule(f)
		}
		ended <- err
	}()
	select {
	case err = <-ended:
	case <-ctx.Done():
		err = ctx.Err()
	}
	if err != nil {
		return f, fmt.Errorf("%w: %w", ErrNotRenewed, err)
	}
	return renewed, nil
}

// keeperOf returns the keeper of a flow, nil if it has none.
func (e *Engine) keeperOf(ctx context.Context, l *live) *keeper {
	select {
	case l.lock <- struct{}{}:
		defer func() { <-l.lock }()
		return l.keeper
	case <-ctx.Done():
		return nil
	}
}

func (e *Engine) almostExpired(f *Flow) bool {
	life, ok := e.Renewer.Renewable(f, *f.Remote)
	return ok && life > 0 && e.Clock().After(f.RemoteSince.Add(life-min(almostExpired, life/5)))
}

// Remote returns the address at the other end of the transfer as it is now.
func (p *progress) Remote(ctx context.Context, refused bool) (sdk.DataAddress, error) {
	e := p.engine
	f, err := e.Store.Flow(ctx, p.key)
	if err != nil {
		return sdk.DataAddress{}, err
	}
	if f.Remote != nil {
		var used *sdk.DataAddress
		if refused {
			used = p.used.Load()
		}
		f, err = e.fresh(ctx, p.key, used)
		if err != nil && (refused || !errors.Is(err, ErrNotRenewed)) {
			return sdk.DataAddress{}, err
		}
		p.used.Store(f.Remote)
	}
	return RemoteAddress(e.Catalog, f)
}

// noRenewer is for an engine without one.
type noRenewer struct{}

func (noRenewer) Renewable(*Flow, sdk.DataAddress) (time.Duration, bool) { return 0, false }
func (noRenewer) Renew(context.Context, *Flow, sdk.DataAddress) (sdk.DataAddress, error) {
	return sdk.DataAddress{}, ErrNotRenewed
}
