package token_test

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"
	"github.com/google/go-cmp/cmp"

	"github.com/towpath-dataplane/towpath/host/token"
	"github.com/towpath-dataplane/towpath/host/token/tokentest"
)

const (
	issuer   = "dp-1"
	audience = "https://dp.example/public"
	lifetime = 10 * time.Minute
	leeway   = 5 * time.Second
	grace    = 2 * time.Minute

	refreshLifetime = time.Hour
)

var grant = token.Grant{Flow: token.Flow{Context: "default", ID: "f"}, Subject: "did:web:them", Access: token.Read}

// bench is an Authority with what it stands on.
type bench struct {
	*token.Authority
	store *tokentest.Memory
	key   *token.Key
	cfg   token.Config

	mu  sync.Mutex // guards now
	now time.Time
}

func newBench(t testing.TB) *bench {
	b := &bench{store: tokentest.NewMemory(), now: time.Date(2026, 3, 4, 5, 6, 7, 890, time.UTC)}
	b.key = loadKey(t, filepath.Join(t.TempDir(), "key.pem"))
	b.cfg = token.Config{
		Issuer: issuer, Audience: audience, Lifetime: lifetime, Leeway: leeway, RefreshLifetime: refreshLifetime, Grace: grace,
		Key: b.key, Store: b.store, Clock: b.clock,
	}
	b.Authority = b.with(t, func(*token.Config) {})
	return b
}

// with returns an Authority that is configured a bit differently.
func (b *bench) with(t testing.TB, change func(*token.Config)) *token.Authority {
	cfg := b.cfg
	change(&cfg)
	a, err := token.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func (b *bench) clock() time.Time {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.now
}

func (b *bench) advance(d time.Duration) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.now = b.now.Add(d)
}

func TestVerifyReturnsWhatWasIssued(t *testing.T) {
	b := newBench(t)
	for _, access := range []token.Access{token.Read, token.Write} {
		g := grant
		g.Access = access
		raw, issued := issue(t, b.Authority, g)
		if issued.Grant != g || !issued.Expires.Equal(issued.Issued.Add(lifetime)) {
			t.Errorf("issued %+v for %+v", issued, g)
		}
		for _, how := range []string{"looked up", "remembered"} {
			got, err := b.Verify(t.Context(), raw)
			if diff := cmp.Diff(issued, got); diff != "" || err != nil {
				t.Errorf("%s: %v (-issued +verified):\n%s", how, err, diff)
			}
		}
	}
}

func TestContentOfToken(t *testing.T) {
	b := newBench(t)
	raw, issued := issue(t, b.Authority, grant)
	segments := strings.Split(raw, ".")
	want := []map[string]any{
		{"alg": "ES256", "typ": "JWT", "kid": b.key.ID},
		{
			"iss": issuer, "sub": "did:web:them", "aud": []any{audience}, "jti": issued.ID,
			"iat": 1772600767.0, "exp": 1772601367.0,
			"participant_context": "default", "flow": "f", "access": "read",
		},
	}
	for i := range want {
		var got map[string]any
		decode(t, segments[i], &got)
		if diff := cmp.Diff(want[i], got); diff != "" {
			t.Errorf("segment %d (-want +got):\n%s", i, diff)
		}
	}
	if id, err := base64.RawURLEncoding.DecodeString(issued.ID); err != nil || len(id) != 16 {
		t.Errorf("the id %q is not 128 bits", issued.ID)
	}
}

func TestVerifyRefuses(t *testing.T) {
	b := newBench(t)
	raw, claims := issue(t, b.Authority, grant)
	header, payload, signature := split(raw)
	stranger := b.with(t, func(c *token.Config) { c.Key = loadKey(t, filepath.Join(t.TempDir(), "key.pem")) })
	foreign, _ := issue(t, stranger, grant)
	otherIssuer, _ := issue(t, b.with(t, func(c *token.Config) { c.Issuer = "dp-2"; c.Store = tokentest.NewMemory() }), grant)
	otherAudience, _ := issue(t, b.with(t, func(c *token.Config) { c.Audience = "dp-2"; c.Store = tokentest.NewMemory() }), grant)
	unrecorded, _ := issue(t, b.with(t, func(c *token.Config) { c.Store = tokentest.NewMemory() }), grant)
	current, _ := issue(t, b.Authority, grant)

	for _, tc := range []struct {
		name, raw string
		want      error
	}{
		{"empty", "", token.ErrMalformed},
		{"words", "not a token", token.ErrMalformed},
		{"dots", "..", token.ErrMalformed},
		{"four segments", raw + ".x", token.ErrMalformed},
		{"too long", raw + strings.Repeat("A", 9<<10), token.ErrMalformed},
		{"padding", raw + "=", token.ErrMalformed},
		{"payload is no JSON", join(header, encode("{"), signature), token.ErrMalformed},
		{"no signature", join(header, payload, ""), token.ErrSignature},
		{"other payload", join(header, encode(`{"exp":99999999999}`), signature), token.ErrSignature},
		{"algorithm none", join(encode(`{"alg":"none","kid":"`+b.key.ID+`"}`), payload, ""), token.ErrSignature},
		{"HMAC with the public key", hmac(t, b, claims), token.ErrSignature},
		{"no kid", join(encode(`{"alg":"ES256"}`), payload, signature), token.ErrSignature},
		{"kid is a number", join(encode(`{"alg":"ES256","kid":1}`), payload, signature), token.ErrSignature},
		{"another key", foreign, token.ErrSignature},
		{"another issuer", otherIssuer, token.ErrSignature},
		{"another audience", otherAudience, token.ErrSignature},
		{"not recorded", unrecorded, token.ErrUnknown},
		{"replaced", raw, token.ErrRevoked},
	} {
		said := token.Claims{}
		if tc.want == token.ErrRevoked { // it is ours
			said = claims
		}
		if c, err := b.Verify(t.Context(), tc.raw); !errors.Is(err, tc.want) || c != said {
			t.Errorf("%s: %+v, %v; want %v", tc.name, c, err, tc.want)
		}
	}
	if _, err := b.Verify(t.Context(), current); err != nil {
		t.Errorf("the current token: %v", err)
	}
	b.advance(24 * time.Hour)
	if _, err := b.Verify(t.Context(), otherIssuer); !errors.Is(err, token.ErrSignature) {
		t.Errorf("a foreign token that has expired: %v, want ErrSignature", err)
	}
}

func TestExpiry(t *testing.T) {
	b := newBench(t)
	fresh := b.with(t, func(*token.Config) {})
	raw, _ := issue(t, b.Authority, grant)
	mustVerify(t, b.Authority, raw)
	b.advance(lifetime + leeway - time.Second)
	mustVerify(t, b.Authority, raw)
	b.advance(time.Second)
	for how, a := range map[string]*token.Authority{"remembered": b.Authority, "looked up": fresh} {
		if _, err := a.Verify(t.Context(), raw); !errors.Is(err, token.ErrExpired) {
			t.Errorf("%s: %v, want ErrExpired", how, err)
		}
	}
}

func TestRevoke(t *testing.T) {
	b := newBench(t)
	raw, _ := issue(t, b.Authority, grant)
	neighbour := grant
	neighbour.Flow.Context = "other"
	other, _ := issue(t, b.Authority, neighbour)
	mustVerify(t, b.Authority, raw)
	mustVerify(t, b.Authority, other)
	for range 2 {
		if err := b.Revoke(t.Context(), grant.Flow); err != nil {
			t.Fatal(err)
		}
		if _, err := b.Verify(t.Context(), raw); !errors.Is(err, token.ErrRevoked) {
			t.Errorf("after Revoke: %v, want ErrRevoked", err)
		}
	}
	mustVerify(t, b.Authority, other)
	again, _ := issue(t, b.Authority, grant)
	mustVerify(t, b.Authority, again)
	if _, err := b.Verify(t.Context(), raw); !errors.Is(err, token.ErrRevoked) {
		t.Errorf("the old token after a new one: %v, want ErrRevoked", err)
	}
}

func TestTokensOutliveTheAuthority(t *testing.T) {
	b := newBench(t)
	raw, _ := issue(t, b.Authority, grant)
	mustVerify(t, b.with(t, func(*token.Config) {}), raw)
}

func TestFailingStore(t *testing.T) {
	b := newBench(t)
	unused, _ := issue(t, b.Authority, grant)
	boom := errors.New("boom")
	b.store.Break(boom)
	_, issueErr := b.Issue(t.Context(), grant)
	_, verifyErr := b.Verify(t.Context(), unused)
	for call, err := range map[string]error{
		"Issue": issueErr, "Verify": verifyErr, "Revoke": b.Revoke(t.Context(), grant.Flow), "Purge": b.Purge(t.Context()),
	} {
		if !errors.Is(err, boom) || errors.Is(err, token.ErrUnknown) {
			t.Errorf("%s: %v, want the store's error", call, err)
		}
	}
	b.store.Break(nil)
	mustVerify(t, b.Authority, unused)
}

func TestPurge(t *testing.T) {
	b := newBench(t)
	raw, claims := issue(t, b.Authority, grant)
	mustVerify(t, b.Authority, raw)
	check := func(want error) {
		t.Helper()
		if err := b.Purge(t.Context()); err != nil {
			t.Fatal(err)
		}
		if _, err := b.store.Token(t.Context(), claims.ID); !errors.Is(err, want) {
			t.Errorf("after %v the record: %v, want %v", b.clock().Sub(claims.Issued), err, want)
		}
	}
	check(nil)
	mustVerify(t, b.Authority, raw)
	b.advance(lifetime + time.Hour)
	check(nil)
	b.advance(48 * time.Hour)
	check(token.ErrUnknown)
	if _, err := b.Verify(t.Context(), raw); !errors.Is(err, token.ErrExpired) {
		t.Errorf("Verify after the purge: %v, want ErrExpired", err)
	}
}

func TestIssueRefusesAnIncompleteGrant(t *testing.T) {
	b := newBench(t)
	for name, change := range map[string]func(*token.Grant){
		"flow":    func(g *token.Grant) { g.Flow.ID = "" },
		"subject": func(g *token.Grant) { g.Subject = "" },
		"access":  func(g *token.Grant) { g.Access = "delete" },
	} {
		g := grant
		change(&g)
		if issued, err := b.Issue(t.Context(), g); err == nil || issued != (token.Issued{}) {
			t.Errorf("%s: %+v, %v; want an error", name, issued, err)
		}
	}
}

func TestNewRefuses(t *testing.T) {
	b := newBench(t)
	for name, change := range map[string]func(*token.Config){
		"no issuer":         func(c *token.Config) { c.Issuer = "" },
		"no audience":       func(c *token.Config) { c.Audience = "" },
		"no lifetime":       func(c *token.Config) { c.Lifetime = 0 },
		"shortest lifetime": func(c *token.Config) { c.Lifetime = time.Second - 1 },
		"negative leeway":   func(c *token.Config) { c.Leeway = -1 },
		"negative refresh":  func(c *token.Config) { c.RefreshLifetime = -1 },
		"shorter refresh":   func(c *token.Config) { c.RefreshLifetime = lifetime - 1 },
		"negative grace":    func(c *token.Config) { c.Grace = -1 },
		"no key":            func(c *token.Config) { c.Key = nil },
		"no store":          func(c *token.Config) { c.Store = nil },
	} {
		cfg := b.cfg
		change(&cfg)
		if _, err := token.New(cfg); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}

// Tokens are issued, renewed, revoked and verified at once. Whatever the order, a token that was refused is never good again, and none is
// good after the last revocation.
func TestRevocationIsNeverUndone(t *testing.T) {
	b := newBench(t)
	for round := range 50 {
		g := grant
		g.Flow.ID = fmt.Sprint(round)
		raw, _ := issue(t, b.Authority, g)
		revoked := make(chan struct{})
		var wg sync.WaitGroup
		for range 4 {
			wg.Go(func() {
				refused := false
				for range 200 {
					var after bool
					select {
					case <-revoked:
						after = true
					default:
					}
					_, err := b.Verify(context.Background(), raw)
					if err == nil && (refused || after) {
						t.Errorf("good although refused %v, revoked %v", refused, after)
						return
					}
					refused = refused || err != nil
				}
			})
		}
		wg.Go(func() {
			if _, err := b.Issue(context.Background(), g); err != nil {
				t.Error(err)
			}
		})
		wg.Go(func() {
			if err := b.Revoke(context.Background(), g.Flow); err != nil {
				t.Error(err)
			}
			close(revoked)
		})
		wg.Wait()
	}
}

func FuzzVerify(f *testing.F) {
	b := newBench(f)
	raw, claims := issue(f, b.Authority, grant)
	for _, seed := range []string{raw, "", "..", "a.b.c", raw + "=", strings.ToUpper(raw)} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, s string) {
		got, err := b.Verify(t.Context(), s)
		if err == nil && got != claims {
			t.Errorf("%q is good and says %+v", s, got)
		}
		if err != nil && !errors.Is(err, token.ErrMalformed) && !errors.Is(err, token.ErrSignature) {
			t.Errorf("%q: %v", s, err)
		}
	})
}

func loadKey(t testing.TB, path string) *token.Key {
	t.Helper()
	key, err := token.LoadKey(path)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func issue(t testing.TB, a *token.Authority, g token.Grant) (string, token.Claims) {
	t.Helper()
	issued, err := a.Issue(t.Context(), g)
	if err != nil {
		t.Fatal(err)
	}
	return issued.Access, issued.Claims
}

func mustVerify(t *testing.T, a *token.Authority, raw string) {
	t.Helper()
	if _, err := a.Verify(t.Context(), raw); err != nil {
		t.Errorf("Verify: %v", err)
	}
}

// hmac signs the claims of a token with the published key as secret.
func hmac(t *testing.T, b *bench, c token.Claims) string {
	t.Helper()
	forged := jwt.NewWithClaims(jwt.SigningMethodHS256, jwt.MapClaims{"jti": c.ID, "iss": issuer, "aud": audience, "exp": c.Expires.Unix()})
	forged.Header["kid"] = b.key.ID
	raw, err := forged.SignedString(b.JWKS())
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

func split(raw string) (header, payload, signature string) {
	s := strings.Split(raw, ".")
	return s[0], s[1], s[2]
}

func join(segments ...string) string { return strings.Join(segments, ".") }

func encode(s string) string { return base64.RawURLEncoding.EncodeToString([]byte(s)) }

func decode(t *testing.T, segment string, into any) {
	t.Helper()
	content, err := base64.RawURLEncoding.DecodeString(segment)
	if err == nil {
		err = json.Unmarshal(content, into)
	}
	if err != nil {
		t.Fatal(err)
	}
}
