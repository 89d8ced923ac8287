package token_test

import (
	"strings"
	"testing"
	"time"

	"github.com/towpath-dataplane/towpath/host/token"
)

func TestTokensThatAreGoodUntilTheyAreRevoked(t *testing.T) {
	b := newBench(t)
	g := grant
	g.Lifetime = token.Forever
	p := b.pair(t, g)
	var claims map[string]any
	decode(t, strings.Split(p.Access, ".")[1], &claims)
	if _, ok := claims["exp"]; ok || !p.Claims.Expires.Equal(token.Never) {
		t.Errorf("the claims are %v, and it expires at %v", claims, p.Claims.Expires)
	}
	b.advance(100 * 365 * 24 * time.Hour)
	if err := b.Purge(t.Context()); err != nil {
		t.Fatal(err)
	}
	other := b.with(t, func(*token.Config) {})
	good(t, "after a hundred years", b.Authority, map[string]bool{p.Access: true})
	good(t, "after a restart", other, map[string]bool{p.Access: true})

	next := b.pair(t, g)
	good(t, "after another was issued", b.Authority, map[string]bool{p.Access: false, next.Access: true})
	if err := b.Revoke(t.Context(), g.Flow); err != nil {
		t.Fatal(err)
	}
	good(t, "after a revocation", b.Authority, map[string]bool{next.Access: false})
	if err := b.Purge(t.Context()); err != nil {
		t.Fatal(err)
	}
	good(t, "when it is forgotten", b.Authority, map[string]bool{next.Access: false})
}

func TestTokensWithALifetimeOfTheirOwn(t *testing.T) {
	b := newBench(t)
	g := grant
	g.Lifetime = time.Minute
	p := b.pair(t, g)
	good(t, "at first", b.Authority, map[string]bool{p.Access: true})
	b.advance(time.Minute + leeway)
	good(t, "after its lifetime", b.Authority, map[string]bool{p.Access: false})
}

// A token that can be renewed has an end, which every renewal puts off by as much.
func TestLifetimeOfTokensThatAreRenewed(t *testing.T) {
	for name, tt := range map[string]struct{ asked, want time.Duration }{
		"none":    {0, lifetime},
		"forever": {token.Forever, lifetime},
		"shorter": {time.Minute, time.Minute},
		"longer":  {2 * refreshLifetime, 2 * refreshLifetime},
	} {
		t.Run(name, func(t *testing.T) {
			b := newBench(t)
			g := renewable
			g.Lifetime = tt.asked
			p := b.pair(t, g)
			for range 3 {
				if got := p.Claims.Expires.Sub(p.Claims.Issued); got != tt.want || p.RefreshExpires.Before(p.Claims.Expires) {
					t.Errorf("it is good for %v, its refresh token until %v", got, p.RefreshExpires)
				}
				b.advance(tt.want / 2)
				p = renew(t, b.Authority, p)
			}
		})
	}
}
