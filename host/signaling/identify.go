package signaling

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"

	"github.com/towpath-dataplane/towpath/host/identity"
)

// identify finds out which control plane has sent a request: by its credential, which each control plane has verified by its own rules.
// The error is a *problem.
func (d *Directory) identify(r *http.Request) (*member, error) {
	switch {
	case d.open != nil && fromBrowser(r.Header):
		return nil, browser.problem("without a credential to ask for, a page of the web could have a browser send this")
	case d.open != nil:
		return d.open, nil
	}
	all := d.callers()
	if m := withSecret(all, r.Header); m != nil {
		return m, nil
	}
	token, ok := bearer(r.Header)
	if !ok {
		return nil, unauthorized.problem("the request has no credential of a control plane").with("WWW-Authenticate", "Bearer")
	}
	claims, err := identity.Peek(token)
	if err != nil {
		return nil, badToken(err)
	}
	return byToken(r.Context(), all, token, claims)
}

// callers are the control planes that speak Data Plane Signaling. Others call elsewhere.
func (d *Directory) callers() []*member {
	return slices.DeleteFunc(slices.Clone(d.sorted()), func(m *member) bool { return m.Protocol != nil })
}

// Refusal says with which status a request is refused that is to come from a control plane, and why: it has to bring what that is
// configured to prove itself by. The status is 0 if it does.
func (d *Directory) Refusal(r *http.Request, context, controlPlane string) (status int, why string) {
	m, ok := d.member(context, controlPlane)
	var p *problem
	switch {
	case !ok:
		p = unauthorized.problem("the control plane is not known here")
	case m.inbound == nil && fromBrowser(r.Header):
		p = browser.problem("without a credential to ask for, a page of the web could have a browser send this")
	case m.inbound == nil, m.inbound.static() && m.inbound.hasSecret(r.Header):
		return 0, ""
	case m.inbound.static():
		p = unauthorized.problem("the request has no credential of the control plane, which is in the header %s", m.inbound.header)
	default:
		p = unauthorized.problem("the control plane can only prove itself by a static secret here")
	}
	return p.Status, p.Detail
}

// fromBrowser reports whether a request has what browsers say of the page that makes them ask.
func fromBrowser(h http.Header) bool { return h.Get("Origin") != "" || h.Get("Sec-Fetch-Site") != "" }

// withSecret finds the control plane whose secret a request has. It compares all of them.
func withSecret(all []*member, h http.Header) *member {
	var found *member
	for _, m := range all {
		if m.inbound.static() && m.inbound.hasSecret(h) {
			found = m
		}
	}
	return found
}

// byToken finds the control plane that a token names and that accepts it. The operator's come first, so that nobody who registers gets
// hold of their tokens; and among equals there must be one.
func byToken(ctx context.Context, all []*member, token string, claims *identity.Claims) (*member, error) {
	var errs []error
	for _, registered := range []bool{false, true} {
		for _, how := range []naming{namedByItself, namedByContext, namedElsewhere} {
			var accepting []*member
			for _, m := range all {
				if m.registered.IsZero() == registered || m.inbound.static() || m.inbound.named(claims) != how {
					continue
				}
				if err := m.inbound.verify(ctx, token); err != nil {
					errs = append(errs, err)
					continue
				}
				accepting = append(accepting, m)
			}
			switch {
			case len(accepting) == 1:
				return accepting[0], nil
			case len(accepting) > 1:
				return nil, badToken(fmt.Errorf("%w: %q and %q", errAmbiguous, accepting[0].ID, accepting[1].ID))
			}
		}
	}
	return nil, badToken(errs...)
}

var errAmbiguous = errors.New("the token could be that of several control planes")

// badToken returns the problem with a token that failed with errs for the control planes it names. Details are for those only who have a
// token that was signed for one; to all others every failure looks the same.
func badToken(errs ...error) *problem {
	err := errors.Join(errs...)
	detail := "the token is not one of a control plane that is known here"
	switch {
	case errors.Is(err, identity.ErrKeys):
		p := keysUnavailable.problem("the keys to verify the token with cannot be fetched at present").with("Retry-After", retryAfter)
		p.cause = err
		return p
	case len(errs) == 1 && (errors.Is(err, identity.ErrClaims) || errors.Is(err, identity.ErrExpired) || errors.Is(err, identity.ErrReplay)):
		detail = printable(err.Error())
	}
	p := unauthorized.problem("%s", detail).with("WWW-Authenticate", `Bearer error="invalid_token"`)
	p.cause = err
	if err == nil {
		p.cause = errors.New("the token names no control plane")
	}
	return p
}

// registrant finds the participant context whose registration key a request has. It compares all of them. The error is a *problem.
func (d *Directory) registrant(h http.Header) (string, error) {
	given, ok := bearer(h)
	if keys := h.Values("X-Api-Key"); !ok && len(h.Values(authorization)) == 0 && len(keys) == 1 {
		given, ok = keys[0], true
	}
	sum, found, matches := sha256.Sum256([]byte(given)), "", false
	for context, key := range d.keys {
		if sameSecret(sum, sha256.Sum256([]byte(key))) {
			found, matches = context, true
		}
	}
	if !ok || !matches {
		p := unauthorized.problem("the request has no registration key").with("WWW-Authenticate", "Bearer")
		if strings.TrimSpace(given) != "" {
			p.Detail = "the registration key is not valid"
		}
		return "", p
	}
	return found, nil
}
