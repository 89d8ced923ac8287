package token

import (
	"context"
	"errors"
	"fmt"
)

const (
	// renewalBurst is how many times a family can be renewed at any pace, and renewalsPerLifetime how many times more for each lifetime
	// of an access token that has passed: every renewal leaves a record behind.
	renewalBurst        = 100
	renewalsPerLifetime = 10
)

// Renew returns new tokens for a refresh token. Whoever calls it has made sure that the client is who it says. The error wraps
// ErrInvalidGrant, ErrReused or ErrTooOften; any other is a failure of ours.
//
// An answer may be lost, and a client may ask twice at once. So the refresh token that was redeemed last is answered again with the same
// tokens, to the byte, until the new access token is used for the first time or Config.Grace has passed, or for a patient request until it
// is used. After that, to redeem it or an older one means that two parties have it: all tokens of the flow are revoked.
//
// The access token that was good before the renewal is good until it expires, so that requests which are on their way, or come from
// another thread of the client, are not refused. Those before it stop working.
func (a *Authority) Renew(ctx context.Context, r RenewRequest) (Issued, error) {
	for {
		issued, err := a.renew(ctx, r)
		// What was read is no longer so. It can be a renewal with the same token that came first: its answer is ours too.
		if !errors.Is(err, ErrStale) {
			return issued, err
		}
	}
}

func (a *Authority) renew(ctx context.Context, r RenewRequest) (Issued, error) {
	id, generation, ok := a.cfg.Key.openRefresh(r.Refresh, r.Client)
	if !ok {
		return Issued{}, fmt.Errorf("%w: it was not issued to this client", ErrInvalidGrant)
	}
	f, err := a.cfg.Store.Family(ctx, id)
	if errors.Is(err, ErrUnknown) {
		return Issued{}, fmt.Errorf("%w: it was revoked", ErrInvalidGrant)
	}
	if err != nil {
		return Issued{}, fmt.Errorf("renew tokens: %w", err)
	}
	now := a.cfg.Clock()
	again := generation+1 == f.Generation && f.Current.Unused && (r.Patient || now.Before(f.Issued.Add(a.cfg.Grace)))
	if generation < f.Generation && !again {
		return Issued{}, a.reused(ctx, f)
	}
	switch access, ok := a.ours(r.Access); {
	case !ok, access.ID != f.Current.ID && access.ID != f.Previous:
		return Issued{}, fmt.Errorf("%w: the access token does not belong to it", ErrInvalidGrant)
	case generation > f.Generation: // the store is older than the token
		return Issued{}, fmt.Errorf("%w: it was revoked", ErrInvalidGrant)
	case again:
		issued, err := a.issued(f, r.Client)
		issued.Repeated = true
		return issued, err
	case !now.Before(f.Expires):
		return Issued{}, fmt.Errorf("%w: it has expired", ErrInvalidGrant)
	case int64(f.Generation) >= renewalBurst+int64(now.Sub(f.Started)/(a.cfg.Lifetime/renewalsPerLifetime)):
		return Issued{}, ErrTooOften
	}
	return a.rotate(ctx, f, r.Client)
}

// rotate moves a family to its next generation.
func (a *Authority) rotate(ctx context.Context, f Family, client string) (Issued, error) {
	f.Generation++
	f.Previous = f.Current.ID
	f.Current.Unused = true
	a.begin(&f, f.Current.Expires.Sub(f.Issued))
	issued, err := a.issued(f, client)
	if err != nil {
		return Issued{}, fmt.Errorf("renew tokens: %w", err)
	}
	// Also after an error the store may have changed.
	defer a.live.forget(f.Current.Flow)
	if err := a.cfg.Store.RenewTokens(ctx, f); err != nil {
		return Issued{}, fmt.Errorf("renew tokens: %w", err)
	}
	return issued, nil
}

// reused revokes the tokens of a family, also for a client that has hung up.
func (a *Authority) reused(ctx context.Context, f Family) error {
	defer a.live.forget(f.Current.Flow)
	if err := a.cfg.Store.RevokeFamily(context.WithoutCancel(ctx), f.ID); err != nil {
		return fmt.Errorf("revoke tokens after a reuse: %w", err)
	}
	return ErrReused
}

// FlowOf returns the flow that a request is about, if something in it was issued to its client: the refresh token, or the access token.
// It neither changes anything nor says whether Renew would succeed: it is for telling whether it is worth the trouble to find out that
// the client is who it says. The error wraps ErrInvalidGrant if nothing was; any other is a failure of ours.
func (a *Authority) FlowOf(ctx context.Context, r RenewRequest) (Flow, error) {
	if id, _, ok := a.cfg.Key.openRefresh(r.Refresh, r.Client); ok {
		f, err := a.cfg.Store.Family(ctx, id)
		if err == nil {
			return f.Current.Flow, nil
		}
		if !errors.Is(err, ErrUnknown) {
			return Flow{}, fmt.Errorf("find flow of refresh token: %w", err)
		}
	}
	if access, ok := a.ours(r.Access); ok && access.Subject == r.Client {
		return access.Flow, nil
	}
	return Flow{}, ErrInvalidGrant
}

// ours returns what an access token says that we have signed, be it good or not.
func (a *Authority) ours(raw string) (Claims, bool) {
	if len(raw) > maxSize {
		return Claims{}, false
	}
	c, err := a.parseWith(a.signed, raw)
	return c, err == nil
}
