package token_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/towpath-dataplane/towpath/host/token"
	"github.com/towpath-dataplane/towpath/host/token/tokentest"
)

const them = "did:web:them"

var renewable = token.Grant{Flow: grant.Flow, Subject: them, Access: token.Read, Renewable: true}

// pair issues tokens that can be renewed.
func (b *bench) pair(t testing.TB, g token.Grant) token.Issued {
	t.Helper()
	issued, err := b.Issue(t.Context(), g)
	if err != nil {
		t.Fatal(err)
	}
	return issued
}

// request is for the tokens of a pair.
func request(p token.Issued) token.RenewRequest {
	return token.RenewRequest{Refresh: p.Refresh, Client: them, Access: p.Access}
}

func renew(t testing.TB, a *token.Authority, p token.Issued) token.Issued {
	t.Helper()
	next, err := a.Renew(t.Context(), request(p))
	if err != nil {
		t.Fatal(err)
	}
	return next
}

// refuse checks that a request is refused.
func refuse(t *testing.T, what string, a *token.Authority, r token.RenewRequest, want error) {
	t.Helper()
	if issued, err := a.Renew(t.Context(), r); !errors.Is(err, want) || issued != (token.Issued{}) {
		t.Errorf("%s: %+v, %v; want %v", what, issued, err, want)
	}
}

// good checks which access tokens are good.
func good(t *testing.T, when string, a *token.Authority, want map[string]bool) {
	t.Helper()
	for raw, want := range want {
		if _, err := a.Verify(t.Context(), raw); (err == nil) != want {
			t.Errorf("%s: token is good: %v; want %v: %v", when, err == nil, want, err)
		}
	}
}

func TestRefreshTokenIsIssuedToThoseWhoCanRenew(t *testing.T) {
	b := newBench(t)
	p := b.pair(t, renewable)
	if p.Refresh == "" || strings.ContainsAny(p.Refresh, ".+/= ") || !p.RefreshExpires.Equal(p.Claims.Issued.Add(refreshLifetime)) || p.Repeated {
		t.Errorf("issued %+v", p)
	}
	if p.Claims.Renewable {
		t.Error("the access token says that it can be renewed")
	}
	if plain := b.pair(t, grant); plain.Refresh != "" || !plain.RefreshExpires.IsZero() {
		t.Errorf("issued %+v for a grant without renewal", plain)
	}
	a := b.with(t, func(c *token.Config) { c.RefreshLifetime = 0 })
	if off, err := a.Issue(t.Context(), renewable); err != nil || off.Refresh != "" || off.Access == "" {
		t.Errorf("issued %+v, %v by an authority that renews nothing", off, err)
	}
}

func TestRenew(t *testing.T) {
	b := newBench(t)
	first := b.pair(t, renewable)
	b.advance(9 * time.Minute)
	second := renew(t, b.Authority, first)
	want := first.Claims
	want.ID, want.Issued, want.Expires = second.Claims.ID, want.Issued.Add(9*time.Minute), want.Expires.Add(9*time.Minute)
	if diff := cmp.Diff(want, second.Claims); diff != "" {
		t.Errorf("claims (-want +got):\n%s", diff)
	}
	if second.Claims.ID == first.Claims.ID || second.Access == first.Access || second.Refresh == first.Refresh || second.Repeated {
		t.Errorf("renewed %+v", second)
	}
	if !second.RefreshExpires.Equal(second.Claims.Issued.Add(refreshLifetime)) {
		t.Errorf("the refresh token expires at %v", second.RefreshExpires)
	}
	got, err := b.Verify(t.Context(), second.Access)
	if diff := cmp.Diff(second.Claims, got); diff != "" || err != nil {
		t.Errorf("%v (-issued +verified):\n%s", err, diff)
	}
}

// The token before the renewal is good until it expires, also when the new one is used; the one before that is not.
func TestAccessTokensOfOlderGenerations(t *testing.T) {
	b := newBench(t)
	first := b.pair(t, renewable)
	mustVerify(t, b.Authority, first.Access)
	b.advance(time.Minute)
	second := renew(t, b.Authority, first)
	good(t, "after a renewal", b.Authority, map[string]bool{first.Access: true, second.Access: true})
	good(t, "after its use", b.Authority, map[string]bool{first.Access: true})
	third := renew(t, b.Authority, second)
	good(t, "after two", b.Authority, map[string]bool{first.Access: false, second.Access: true, third.Access: true})
	b.advance(lifetime - time.Minute + leeway)
	good(t, "when it expires", b.Authority, map[string]bool{second.Access: true})
	b.advance(time.Minute)
	good(t, "when it has expired", b.Authority, map[string]bool{second.Access: false, third.Access: false})
	fourth := renew(t, b.Authority, third) // an expired access token can be renewed
	good(t, "after all expired", b.Authority, map[string]bool{fourth.Access: true})
}

// Either access token of a family shows that the client had it.
func TestAccessTokenThatProves(t *testing.T) {
	b := newBench(t)
	first := b.pair(t, renewable)
	second := renew(t, b.Authority, first)
	r := request(second)
	r.Access = first.Access
	third, err := b.Renew(t.Context(), r)
	if err != nil {
		t.Fatal(err)
	}
	r = request(third)
	refuse(t, "two generations old", b.Authority, token.RenewRequest{Refresh: r.Refresh, Client: them, Access: first.Access}, token.ErrInvalidGrant)
	renew(t, b.Authority, third)
}

func TestRenewRefuses(t *testing.T) {
	b := newBench(t)
	p := b.pair(t, renewable)
	neighbour := renewable
	neighbour.Flow.ID = "g"
	other := b.pair(t, neighbour)
	stranger := newBench(t).pair(t, renewable)
	flip := func(s string, at int) string {
		c := byte('A')
		if s[at] == 'A' {
			c = 'B'
		}
		return s[:at] + string(c) + s[at+1:]
	}
	for _, tc := range []struct {
		name   string
		change func(*token.RenewRequest)
	}{
		{"no refresh token", func(r *token.RenewRequest) { r.Refresh = "" }},
		{"no base64", func(r *token.RenewRequest) { r.Refresh = "a refresh token" }},
		{"short", func(r *token.RenewRequest) { r.Refresh = r.Refresh[:60] }},
		{"longer", func(r *token.RenewRequest) { r.Refresh += "AAAA" }},
		{"long", func(r *token.RenewRequest) { r.Refresh = strings.Repeat("A", 1<<20) }},
		{"padded", func(r *token.RenewRequest) { r.Refresh += "==" }},
		{"line break", func(r *token.RenewRequest) { r.Refresh += "\n" }},
		{"other spelling", func(r *token.RenewRequest) { r.Refresh = otherSpelling(r.Refresh) }},
		{"other family", func(r *token.RenewRequest) { r.Refresh = flip(r.Refresh, 3) }},
		{"other generation", func(r *token.RenewRequest) { r.Refresh = flip(r.Refresh, 24) }},
		{"other code", func(r *token.RenewRequest) { r.Refresh = flip(r.Refresh, 50) }},
		{"of another key", func(r *token.RenewRequest) { r.Refresh = stranger.Refresh }},
		{"of another flow", func(r *token.RenewRequest) { r.Refresh = other.Refresh }},
		{"an access token", func(r *token.RenewRequest) { r.Refresh = r.Access }},
		{"another client", func(r *token.RenewRequest) { r.Client = "did:web:others" }},
		{"no client", func(r *token.RenewRequest) { r.Client = "" }},
		{"no access token", func(r *token.RenewRequest) { r.Access = "" }},
		{"access token is garbage", func(r *token.RenewRequest) { r.Access = "a.b.c" }},
		{"long access token", func(r *token.RenewRequest) { r.Access += strings.Repeat("A", 9<<10) }},
		{"access token of another flow", func(r *token.RenewRequest) { r.Access = other.Access }},
		{"access token of another key", func(r *token.RenewRequest) { r.Access = stranger.Access }},
		{"access token with another signature", func(r *token.RenewRequest) { r.Access = flip(r.Access, len(r.Access)-30) }},
	} {
		r := request(p)
		tc.change(&r)
		refuse(t, tc.name, b.Authority, r, token.ErrInvalidGrant)
	}
	good(t, "after all that", b.Authority, map[string]bool{p.Access: true, other.Access: true})
	b.advance(refreshLifetime - time.Second)
	r := request(renew(t, b.Authority, p))
	b.advance(refreshLifetime)
	refuse(t, "expired", b.Authority, r, token.ErrInvalidGrant)
}

// otherSpelling changes bits of base64 that are not used.
func otherSpelling(s string) string {
	const alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
	last := strings.IndexByte(alphabet, s[len(s)-1])
	return s[:len(s)-1] + string(alphabet[last|1])
}

func TestLostAnswer(t *testing.T) {
	b := newBench(t)
	first := b.pair(t, renewable)
	second := renew(t, b.Authority, first)
	for _, after := range []time.Duration{0, time.Second, grace - 2*time.Second} {
		b.advance(after)
		// The program may have been started again in the meantime.
		for how, a := range map[string]*token.Authority{"the same": b.Authority, "another": b.with(t, func(*token.Config) {})} {
			again := renew(t, a, first)
			want := second
			want.Repeated = true
			if diff := cmp.Diff(want, again); diff != "" {
				t.Errorf("%s authority, %v later (-first +second answer):\n%s", how, after, diff)
			}
			good(t, "after the second answer", a, map[string]bool{first.Access: true})
		}
	}
	r := request(first)
	r.Access = "a.b.c"
	refuse(t, "without the access token", b.Authority, r, token.ErrInvalidGrant)
	third := renew(t, b.Authority, second)
	good(t, "in the end", b.Authority, map[string]bool{third.Access: true})
}

func TestReuse(t *testing.T) {
	for name, do := range map[string]func(t *testing.T, b *bench, first, second token.Issued) (reused token.Issued){
		"when the new token was used": func(t *testing.T, b *bench, first, second token.Issued) token.Issued {
			mustVerify(t, b.Authority, second.Access)
			return first
		},
		"when it was used before a start": func(t *testing.T, b *bench, first, second token.Issued) token.Issued {
			mustVerify(t, b.with(t, func(*token.Config) {}), second.Access)
			return first
		},
		"after the grace": func(_ *testing.T, b *bench, first, _ token.Issued) token.Issued {
			b.advance(grace)
			return first
		},
		"two generations late": func(t *testing.T, b *bench, first, second token.Issued) token.Issued {
			renew(t, b.Authority, second)
			return first
		},
		"with an access token that proves nothing": func(t *testing.T, b *bench, first, second token.Issued) token.Issued {
			mustVerify(t, b.Authority, second.Access)
			first.Access = "a.b.c"
			return first
		},
		"after everything has expired": func(_ *testing.T, b *bench, first, _ token.Issued) token.Issued {
			b.advance(2 * refreshLifetime)
			return first
		},
	} {
		t.Run(name, func(t *testing.T) {
			b := newBench(t)
			first := b.pair(t, renewable)
			neighbour := renewable
			neighbour.Flow.Context = "other"
			b.advance(time.Minute)
			second := renew(t, b.Authority, first)
			reused := do(t, b, first, second)
			other := b.pair(t, neighbour)
			mustVerify(t, b.Authority, other.Access)
			refuse(t, "the reuse", b.Authority, request(reused), token.ErrReused)
			good(t, "after the reuse", b.Authority, map[string]bool{first.Access: false, second.Access: false, other.Access: true})
			refuse(t, "the good one after the reuse", b.Authority, request(second), token.ErrInvalidGrant)
			refuse(t, "the reuse again", b.Authority, request(reused), token.ErrInvalidGrant)
			// What a resume issues is not affected.
			fresh := b.pair(t, renewable)
			refuse(t, "an old token beside a new family", b.Authority, request(reused), token.ErrInvalidGrant)
			renew(t, b.Authority, fresh)
		})
	}
}

// A look at an expired token, or at the one before the renewal, is no use of the new one.
func TestWhatIsNoUse(t *testing.T) {
	b := newBench(t)
	first := b.pair(t, renewable)
	second := renew(t, b.Authority, first)
	mustVerify(t, b.Authority, first.Access)
	b.Verify(t.Context(), second.Access+"x")
	if again := renew(t, b.Authority, first); again.Access != second.Access {
		t.Error("the second answer is another one")
	}
}

func TestStopBetweenRenewals(t *testing.T) {
	b := newBench(t)
	first := b.pair(t, renewable)
	second := renew(t, b.Authority, first)
	if err := b.Revoke(t.Context(), renewable.Flow); err != nil {
		t.Fatal(err)
	}
	check := func(when string) {
		t.Helper()
		refuse(t, when+": the last", b.Authority, request(second), token.ErrInvalidGrant)
		refuse(t, when+": the one before", b.Authority, request(first), token.ErrInvalidGrant)
		good(t, when, b.Authority, map[string]bool{first.Access: false, second.Access: false})
	}
	check("after Revoke")
	resumed := b.pair(t, renewable)
	check("after Issue")
	renew(t, b.Authority, resumed)
	b.pair(t, grant)
	refuse(t, "after an Issue without renewal", b.Authority, request(resumed), token.ErrInvalidGrant)
}

func TestTwoAtOnceGetTheSame(t *testing.T) {
	b := newBench(t)
	p := b.pair(t, renewable)
	for range 20 {
		answers := make([]token.Issued, 4)
		var wg sync.WaitGroup
		for i := range answers {
			wg.Go(func() {
				var err error
				if answers[i], err = b.Renew(context.Background(), request(p)); err != nil {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		repeated := 0
		for _, a := range answers {
			if a.Access != answers[0].Access || a.Refresh != answers[0].Refresh {
				t.Fatal("two answers to one refresh token differ")
			}
			if a.Repeated {
				repeated++
			}
		}
		if repeated != len(answers)-1 {
			t.Errorf("%d of %d answers are repetitions", repeated, len(answers))
		}
		p = answers[0]
	}
}

// Renewals, suspends, resumes and requests meet. When the flow has stopped, nothing is good.
func TestNothingOutlivesAStop(t *testing.T) {
	b := newBench(t)
	for round := range 50 {
		g := renewable
		g.Flow.ID = fmt.Sprint(round)
		p := b.pair(t, g)
		renewed := make([]token.Issued, 4)
		var wg sync.WaitGroup
		for i := range renewed {
			wg.Go(func() {
				next, err := b.Renew(context.Background(), request(p))
				if err != nil && !errors.Is(err, token.ErrInvalidGrant) && !errors.Is(err, token.ErrReused) {
					t.Error(err)
				}
				if renewed[i] = next; err == nil {
					b.Verify(context.Background(), next.Access)
				}
			})
		}
		wg.Go(func() {
			if err := b.Revoke(context.Background(), g.Flow); err != nil {
				t.Error(err)
			}
		})
		wg.Wait()
		for _, p := range append(renewed, p) {
			if _, err := b.Verify(t.Context(), p.Access); err == nil {
				t.Fatal("a token is good after the stop")
			}
			if p.Access != "" {
				refuse(t, "after the stop", b.Authority, request(p), token.ErrInvalidGrant)
			}
		}
	}
}

func TestRenewalsHaveAPace(t *testing.T) {
	b := newBench(t)
	p := b.pair(t, renewable)
	n := 0
	for {
		next, err := b.Renew(t.Context(), request(p))
		if errors.Is(err, token.ErrTooOften) {
			break
		}
		if err != nil || n > 1000 {
			t.Fatalf("after %d renewals: %v", n, err)
		}
		p = next
		n++
	}
	if n != 100 {
		t.Errorf("%d renewals at once", n)
	}
	mustVerify(t, b.Authority, p.Access)
	b.advance(lifetime / 10)
	p = renew(t, b.Authority, p)
	refuse(t, "one more", b.Authority, request(p), token.ErrTooOften)
	b.advance(3 * lifetime)
	for range 30 {
		p = renew(t, b.Authority, p)
	}
}

func TestFlowOf(t *testing.T) {
	b := newBench(t)
	p := b.pair(t, renewable)
	neighbour := renewable
	neighbour.Flow.ID = "g"
	other := b.pair(t, neighbour)
	stranger := newBench(t).pair(t, renewable)
	boom := errors.New("boom")
	for _, tc := range []struct {
		name string
		r    token.RenewRequest
		want token.Flow
		err  error
	}{
		{"both", request(p), renewable.Flow, nil},
		{"refresh token alone", token.RenewRequest{Refresh: p.Refresh, Client: them, Access: "x"}, renewable.Flow, nil},
		{"access token alone", token.RenewRequest{Refresh: "x", Client: them, Access: p.Access}, renewable.Flow, nil},
		{"the refresh token comes first", token.RenewRequest{Refresh: other.Refresh, Client: them, Access: p.Access}, neighbour.Flow, nil},
		{"neither", token.RenewRequest{Refresh: "x", Client: them, Access: "x"}, token.Flow{}, token.ErrInvalidGrant},
		{"another client", token.RenewRequest{Refresh: p.Refresh, Client: "did:web:others", Access: p.Access}, token.Flow{}, token.ErrInvalidGrant},
		{"another authority", request(stranger), token.Flow{}, token.ErrInvalidGrant},
	} {
		if got, err := b.FlowOf(t.Context(), tc.r); got != tc.want || !errors.Is(err, tc.err) {
			t.Errorf("%s: %+v, %v; want %+v, %v", tc.name, got, err, tc.want, tc.err)
		}
	}
	b.store.Break(boom)
	if _, err := b.FlowOf(t.Context(), request(p)); !errors.Is(err, boom) || errors.Is(err, token.ErrInvalidGrant) {
		t.Errorf("with a broken store: %v", err)
	}
	// What brings nothing of ours does not get as far as the store.
	if _, err := b.FlowOf(t.Context(), request(stranger)); !errors.Is(err, token.ErrInvalidGrant) {
		t.Errorf("a stranger with a broken store: %v", err)
	}
	b.store.Break(nil)
	b.advance(24 * time.Hour)
	if err := b.Revoke(t.Context(), renewable.Flow); err != nil {
		t.Fatal(err)
	}
	if got, err := b.FlowOf(t.Context(), request(p)); got != renewable.Flow || err != nil {
		t.Errorf("after the stop: %+v, %v", got, err)
	}
}

func TestRenewWithAFailingStore(t *testing.T) {
	b := newBench(t)
	first := b.pair(t, renewable)
	boom := errors.New("boom")
	b.store.Break(boom)
	refuse(t, "a renewal", b.Authority, request(first), boom)
	b.store.Break(nil)
	second := renew(t, b.Authority, first)
	for call, fail := range map[string]func(s *failing){
		"RenewTokens":  func(s *failing) { s.renew = boom },
		"UseToken":     func(s *failing) { s.use = boom },
		"RevokeFamily": func(s *failing) { s.revoke = boom },
	} {
		s := &failing{Memory: b.store}
		fail(s)
		a := b.with(t, func(c *token.Config) { c.Store = s })
		var err error
		switch call {
		case "RenewTokens":
			_, err = a.Renew(t.Context(), request(second))
		case "UseToken":
			_, err = a.Verify(t.Context(), second.Access)
		case "RevokeFamily":
			b.advance(grace)
			_, err = a.Renew(t.Context(), request(first))
		}
		if !errors.Is(err, boom) || errors.Is(err, token.ErrReused) {
			t.Errorf("%s: %v, want the store's error", call, err)
		}
	}
	good(t, "when the store works", b.Authority, map[string]bool{first.Access: true, second.Access: true})
}

// failing is a store of which some calls fail.
type failing struct {
	*tokentest.Memory
	renew, use, revoke error
}

func (s *failing) RenewTokens(ctx context.Context, f token.Family) error {
	if s.renew != nil {
		return s.renew
	}
	return s.Memory.RenewTokens(ctx, f)
}

func (s *failing) UseToken(ctx context.Context, f token.Flow, id string) error {
	if s.use != nil {
		return s.use
	}
	return s.Memory.UseToken(ctx, f, id)
}

func (s *failing) RevokeFamily(ctx context.Context, id string) error {
	if s.revoke != nil {
		return s.revoke
	}
	return s.Memory.RevokeFamily(ctx, id)
}

// counting counts how often the first use of a token is written.
type counting struct {
	*tokentest.Memory
	uses int
}

func (s *counting) UseToken(ctx context.Context, f token.Flow, id string) error {
	s.uses++
	return s.Memory.UseToken(ctx, f, id)
}

func TestUseIsWrittenOnce(t *testing.T) {
	b := newBench(t)
	s := &counting{Memory: b.store}
	a := b.with(t, func(c *token.Config) { c.Store = s })
	first, err := a.Issue(t.Context(), renewable)
	if err != nil {
		t.Fatal(err)
	}
	mustVerify(t, a, first.Access)
	if s.uses != 0 {
		t.Error("the use of a token is written that was not renewed")
	}
	second := renew(t, a, first)
	for range 3 {
		mustVerify(t, a, second.Access)
		mustVerify(t, a, first.Access)
	}
	if s.uses != 1 {
		t.Errorf("the use of a token was written %d times", s.uses)
	}
}

func FuzzRenew(f *testing.F) {
	b := newBench(f)
	p := b.pair(f, renewable)
	for _, seed := range []string{p.Refresh, "", strings.Repeat("A", 70), p.Refresh[:69], p.Refresh + "A", otherSpelling(p.Refresh), "=\n"} {
		f.Add(seed, p.Access)
		f.Add(seed, "")
	}
	f.Fuzz(func(t *testing.T, refresh, access string) {
		r := token.RenewRequest{Refresh: refresh, Client: them, Access: access}
		flow, err := b.FlowOf(t.Context(), r)
		if known := refresh == p.Refresh || access == p.Access; known != (err == nil) || known && flow != renewable.Flow {
			t.Errorf("flow of %q and %q is %+v, %v", refresh, access, flow, err)
		}
		if refresh == p.Refresh && access == p.Access {
			return // the only good one
		}
		if _, err := b.Renew(t.Context(), r); !errors.Is(err, token.ErrInvalidGrant) {
			t.Errorf("%q and %q: %v", refresh, access, err)
		}
	})
}
