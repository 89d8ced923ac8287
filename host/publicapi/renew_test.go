package publicapi

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/golang-jwt/jwt/v5"
	"github.com/google/go-cmp/cmp"

	"github.com/towpath-dataplane/towpath/host/flow"
	"github.com/towpath-dataplane/towpath/host/identity"
	"github.com/towpath-dataplane/towpath/host/token"
	"github.com/towpath-dataplane/towpath/host/token/tokentest"
	"github.com/towpath-dataplane/towpath/sdk"
)

const us, them = "did:web:us.example", "did:web:them.example"

// wallet has the keys of DIDs, as a resolver would find them.
type wallet struct {
	mu       sync.Mutex // guards what follows
	keys     map[string]crypto.PublicKey
	resolved []string // the DIDs that were asked for
	broken   error
	hook     func(did string) // is called at each look-up
}

func (w *wallet) Keys(did string) identity.Keys { return walletKeys{w, did} }

func (w *wallet) resolutions() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return len(w.resolved)
}

type walletKeys struct {
	wallet *wallet
	did    string
}

func (k walletKeys) Keys(_ context.Context, kid string) ([]crypto.PublicKey, error) {
	k.wallet.mu.Lock()
	k.wallet.resolved = append(k.wallet.resolved, k.did)
	key, known := k.wallet.keys[k.did]
	hook, err := k.wallet.hook, k.wallet.broken
	k.wallet.mu.Unlock()
	if hook != nil {
		hook(k.did)
	}
	switch {
	case err != nil:
		return nil, err
	case !known, kid != "" && kid != "#key-1" && kid != k.did+"#key-1":
		return nil, identity.ErrNoKey
	}
	return []crypto.PublicKey{key}, nil
}

// party is a counterparty with a key.
type party struct {
	t   testing.TB
	did string
	key *ecdsa.PrivateKey
}

// newParty makes a counterparty whose key can be found.
func (w *world) newParty(did string) *party {
	w.t.Helper()
	p := &party{t: w.t, did: did, key: newECDSA(w.t)}
	w.wallet.mu.Lock()
	defer w.wallet.mu.Unlock()
	w.wallet.keys[did] = p.key.Public()
	return p
}

func newECDSA(t testing.TB) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// sign signs what shows who the party is; change, if not nil, sees header and claims first.
func (p *party) sign(access string, change func(header, claims map[string]any)) string {
	p.t.Helper()
	claims := jwt.MapClaims{"iss": p.did, "sub": p.did, "aud": us, "token": access}
	j := jwt.NewWithClaims(jwt.SigningMethodES256, claims)
	j.Header["kid"] = p.did + "#key-1"
	if change != nil {
		change(j.Header, claims)
	}
	raw, err := j.SignedString(p.key)
	if err != nil {
		p.t.Fatal(err)
	}
	return raw
}

// newRenewing makes a world in which tokens can be renewed.
func newRenewing(t testing.TB, change func(*world, *Options)) *world {
	t.Helper()
	return newWorld(t, func(w *world, o *Options) {
		o.Renewal = RenewalOptions{Tokens: w.tokens, Keys: w.wallet.Keys, Clock: w.clock.Now}
		if change != nil {
			change(w, o)
		}
	})
}

// offer adds a STARTED flow of a provider for a counterparty and returns its address.
func (w *world) offer(id, counterparty string) sdk.DataAddress {
	w.t.Helper()
	return w.add(flow.Flow{Key: key(id), Role: flow.Provider, Direction: flow.Pull, CounterPartyID: counterparty})
}

// grant is the form of a renewal.
func grant(refresh string) string {
	return url.Values{"grant_type": {"refresh_token"}, "refresh_token": {refresh}}.Encode()
}

// post sends a form to the token endpoint with something signed; "" for nothing.
func (w *world) post(form, signed string) response {
	w.t.Helper()
	header := map[string]string{"Content-Type": formType}
	if signed != "" {
		header["Authorization"] = "Bearer " + signed
	}
	return w.do(sdk.DataAddress{}, w.server.URL+renewalPath, request{method: http.MethodPost, body: strings.NewReader(form), header: header})
}

// renew renews the tokens of an address.
func (w *world) renew(p *party, a sdk.DataAddress) response {
	w.t.Helper()
	return w.post(grant(a.Get("refreshToken")), p.sign(a.Get("authorization"), nil))
}

// wantTokens checks an answer with tokens, and returns an address that has them.
func (r response) wantTokens(t *testing.T, a sdk.DataAddress) sdk.DataAddress {
	t.Helper()
	if r.StatusCode != http.StatusOK {
		t.Fatalf("status %d: %s", r.StatusCode, r.body)
	}
	var got struct {
		Access  string      `json:"access_token"`
		Type    string      `json:"token_type"`
		Expires json.Number `json:"expires_in"`
		Refresh string      `json:"refresh_token"`
	}
	d := json.NewDecoder(bytes.NewReader(r.body))
	d.DisallowUnknownFields()
	if err := d.Decode(&got); err != nil || got.Access == "" || got.Refresh == "" || got.Type != "Bearer" {
		t.Fatalf("answer %s: %v", r.body, err)
	}
	for name, want := range map[string]string{
		"Cache-Control": "no-store", "Pragma": "no-cache", "Content-Type": "application/json", "X-Content-Type-Options": "nosniff",
	} {
		if r.Header.Get(name) != want {
			t.Errorf("%s: %q", name, r.Header.Get(name))
		}
	}
	b := a.Clone()
	b.Properties["authorization"], b.Properties["refreshToken"], b.Properties["expiresIn"] = got.Access, got.Refresh, got.Expires.String()
	return b
}

// wantRefusal checks an answer without tokens and returns its description.
func (r response) wantRefusal(t *testing.T, what string, status int, code string) string {
	t.Helper()
	var got map[string]string
	if err := json.Unmarshal(r.body, &got); err != nil || r.StatusCode != status || got["error"] != code || got["error_description"] == "" || len(got) != 2 {
		t.Errorf("%s: %d %s (%v), want %d %s", what, r.StatusCode, r.body, err, status, code)
	}
	challenged := ""
	if status == http.StatusUnauthorized {
		challenged = challenge
	}
	for name, want := range map[string]string{
		"Cache-Control": "no-store", "Pragma": "no-cache", "Content-Type": "application/json", "WWW-Authenticate": challenged,
	} {
		if r.Header.Get(name) != want {
			t.Errorf("%s: %s is %q", what, name, r.Header.Get(name))
		}
	}
	return got["error_description"]
}

// wantRenewals checks how many renewals ended in what way.
func (w *world) wantRenewals(t *testing.T, want map[string]float64) {
	t.Helper()
	for outcome, n := range want {
		if got := w.metric("towpath_public_renewals_total", map[string]string{"outcome": outcome}); got != n {
			t.Errorf("%v renewals are %s, want %v", got, outcome, n)
		}
	}
}

func TestRenewal(t *testing.T) {
	w := newRenewing(t, nil)
	w.memory.Put("d", []byte("x"))
	p := w.newParty(them)
	first := w.offer("f", them)
	if first.Get("expiresIn") != "3600" || first.Get("refreshEndpoint") != w.server.URL+"/token" {
		t.Errorf("address %v", first.Properties)
	}
	second := w.renew(p, first).wantTokens(t, first)
	if second.Get("expiresIn") != "3600" || second.Get("authorization") == first.Get("authorization") || second.Get("refreshToken") == first.Get("refreshToken") {
		t.Errorf("renewed %v", second.Properties)
	}
	// Requests that were on their way have the old token.
	for _, a := range []sdk.DataAddress{first, second, first} {
		w.get(a, nil).wantBody(t, http.StatusOK, "x")
	}
	third := w.renew(p, second).wantTokens(t, second)
	w.get(third, nil).wantBody(t, http.StatusOK, "x")
	w.get(first, nil).wantStatus(t, http.StatusForbidden)
	w.wantRenewals(t, map[string]float64{"renewed": 2, "repeated": 0, "reused": 0})
	if n := w.metric("towpath_public_requests_total", map[string]string{"operation": "renew", "code": "200"}); n != 2 {
		t.Errorf("%v answers counted", n)
	}
}

func TestRenewalOfAPush(t *testing.T) {
	w := newRenewing(t, nil)
	p := w.newParty(them)
	for _, state := range []flow.State{flow.Prepared, flow.Started} {
		a := w.add(flow.Flow{Key: flow.Key{Context: "c", ID: string(state)}, Role: flow.Consumer, Direction: flow.Push, State: state, CounterPartyID: them})
		b := w.renew(p, a).wantTokens(t, a)
		w.put(b, string(state), "x", nil).wantStatus(t, http.StatusCreated)
	}
}

// What a client signs, and whether a token of ours makes it worth resolving its DID.
func TestProofs(t *testing.T) {
	w := newRenewing(t, func(_ *world, o *Options) { o.Renewal.Audiences = []string{"urn:dp"} })
	p := w.newParty(them)
	now := w.clock.Now()
	set := func(name string, value any) func(header, claims map[string]any) {
		return func(_, claims map[string]any) {
			if claims[name] = value; value == nil {
				delete(claims, name)
			}
		}
	}
	for name, change := range map[string]func(header, claims map[string]any){
		"nothing more":      nil,
		"relative kid":      func(header, _ map[string]any) { header["kid"] = "#key-1" },
		"no kid":            func(header, _ map[string]any) { delete(header, "kid") },
		"several audiences": set("aud", []string{"x", us}),
		"our own audience":  set("aud", "urn:dp"),
		"exp to come":       set("exp", now.Add(time.Second).Unix()),
		"clocks differ":     set("iat", now.Add(20*time.Second).Unix()),
		"iat minutes ago":   set("iat", now.Add(-5*time.Minute).Unix()),
		"jti":               set("jti", "1"),
		"unknown claim":     set("x", map[string]any{"y": 1}),
	} {
		a := w.offer(name, them)
		before := w.wallet.resolutions()
		w.post(grant(a.Get("refreshToken")), p.sign(a.Get("authorization"), change)).wantTokens(t, a)
		if n := w.wallet.resolutions() - before; n != 1 {
			t.Errorf("%s: %d resolutions", name, n)
		}
	}

	a, stranger := w.offer("f", them), w.newParty("did:web:stranger.example")
	theirs := w.offer("g", stranger.did)
	thief := &party{t: t, did: them, key: newECDSA(t)}
	proof := func(change func(header, claims map[string]any)) string { return p.sign(a.Get("authorization"), change) }
	hmac := jwt.NewWithClaims(jwt.SigningMethodHS256, jwt.MapClaims{"iss": them, "sub": them, "aud": us, "token": a.Get("authorization")})
	symmetric, err := hmac.SignedString([]byte("secret"))
	if err != nil {
		t.Fatal(err)
	}
	unsigned, err := jwt.NewWithClaims(jwt.SigningMethodNone, hmac.Claims).SignedString(jwt.UnsafeAllowNoneSignatureType)
	if err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct {
		name, signed string
		resolutions  int
		description  string
	}{
		{"nothing", "", 0, "the Authorization field has no bearer token"},
		{"no JWT", "abc", 0, "the bearer token is no JWT that can be read"},
		{"long", strings.Repeat("a.", 30000), 0, "the bearer token is no JWT that can be read"},
		{"the access token itself", a.Get("authorization"), 0, "iss of the JWT is no DID that can be resolved"},
		{"no iss", proof(set("iss", nil)), 0, "iss of the JWT is no DID that can be resolved"},
		{"iss is no DID", proof(set("iss", "them")), 0, "iss of the JWT is no DID that can be resolved"},
		{"iss is a DID of another method", proof(set("iss", "did:example:them")), 0, "iss of the JWT is no DID that can be resolved"},
		{"iss with a path", proof(set("iss", them+"/x")), 0, "iss of the JWT is no DID that can be resolved"},
		{"no sub", proof(set("sub", nil)), 0, "sub of the JWT is not its iss"},
		{"another sub", proof(set("sub", stranger.did)), 0, "sub of the JWT is not its iss"},
		{"no token", proof(set("token", nil)), 0, "the JWT has no claim token, which is to be the access token"},
		{"token is no string", proof(set("token", 7)), 0, "the JWT has no claim token, which is to be the access token"},

		{"a stranger", stranger.sign("x", nil), 0, unprovenText},
		{"a stranger with the access token", stranger.sign(a.Get("authorization"), nil), 0, unprovenText},
		{"a thief", thief.sign(a.Get("authorization"), nil), 1, unprovenText},
		{"another key", proof(func(header, _ map[string]any) { header["kid"] = them + "#key-2" }), 1, unprovenText},
		{"a key of another DID", proof(func(header, _ map[string]any) { header["kid"] = stranger.did + "#key-1" }), 1, unprovenText},
		{"symmetric", symmetric, 0, unprovenText},
		{"unsigned", unsigned, 0, unprovenText},

		{"no aud", proof(set("aud", nil)), 1, "the JWT is for somebody else: aud is not this participant"},
		{"another aud", proof(set("aud", them)), 1, "the JWT is for somebody else: aud is not this participant"},
		{"exp is over", proof(set("exp", now.Add(-31*time.Second).Unix())), 1, "the token has expired"},
		{"exp and aud are bad", proof(func(_, c map[string]any) { c["exp"], c["aud"] = 1, "x" }), 1, "the token has expired"},
		{"old", proof(set("iat", now.Add(-6*time.Minute).Unix())), 1, "the token has expired: iat is too long ago"},
		{"from the future", proof(set("iat", now.Add(time.Minute).Unix())), 1, "the token's claims are not acceptable: iat is in the future"},
	} {
		before := w.wallet.resolutions()
		res := w.post(grant(a.Get("refreshToken")), tc.signed)
		if got := res.wantRefusal(t, tc.name, http.StatusUnauthorized, "invalid_client"); got != tc.description {
			t.Errorf("%s: %q, want %q", tc.name, got, tc.description)
		}
		if n := w.wallet.resolutions() - before; n != tc.resolutions {
			t.Errorf("%s: %d resolutions, want %d", tc.name, n, tc.resolutions)
		}
	}
	if strings.Contains(strings.Join(w.wallet.resolved, " "), stranger.did) {
		t.Error("the DID of a stranger was resolved")
	}
	w.renew(stranger, theirs).wantTokens(t, theirs)
	w.renew(p, a).wantTokens(t, a)
}

// Flows whose own participant is not known by a DID can be addressed by what the operator says, and only so.
func TestAudienceThatIsNoDID(t *testing.T) {
	for _, accepted := range [][]string{nil, {"BPNL1"}} {
		w := newRenewing(t, func(_ *world, o *Options) { o.Renewal.Audiences = accepted })
		p := w.newParty(them)
		a := w.offer("f", them)
		w.flows.flows[key("f")].ParticipantID = "BPNL1"
		signed := p.sign(a.Get("authorization"), func(_, claims map[string]any) { claims["aud"] = "BPNL1" })
		res := w.post(grant(a.Get("refreshToken")), signed)
		if accepted == nil {
			res.wantRefusal(t, "not configured", http.StatusUnauthorized, "invalid_client")
		} else {
			res.wantTokens(t, a)
		}
	}
}

func TestGrantsThatAreRefused(t *testing.T) {
	w := newRenewing(t, nil)
	p, other := w.newParty(them), w.newParty("did:web:other.example")
	a, g, theirs := w.offer("f", them), w.offer("g", them), w.offer("h", other.did)
	stranger, err := newAuthority(t, w.clock.Now).Issue(t.Context(),
		token.Grant{Flow: tokenFlow(key("f")), Subject: them, Access: token.Read, Renewable: true})
	if err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct {
		name            string
		refresh, access string
		description     string
	}{
		{"unknown", "abc", a.Get("authorization"), "it was not issued to this client"},
		{"issued elsewhere", stranger.Refresh, a.Get("authorization"), "it was not issued to this client"},
		{"of another client", theirs.Get("refreshToken"), a.Get("authorization"), "it was not issued to this client"},
		{"an access token", a.Get("authorization"), a.Get("authorization"), "it was not issued to this client"},
		{"of another flow", g.Get("refreshToken"), a.Get("authorization"), "the access token does not belong to it"},
		{"no access token", a.Get("refreshToken"), "x", "the access token does not belong to it"},
		{"access token of another flow", a.Get("refreshToken"), g.Get("authorization"), "the access token does not belong to it"},
		{"access token issued elsewhere", a.Get("refreshToken"), stranger.Access, "the access token does not belong to it"},
	} {
		res := w.post(grant(tc.refresh), p.sign(tc.access, nil))
		if got := res.wantRefusal(t, tc.name, http.StatusBadRequest, "invalid_grant"); got != "the refresh token cannot be redeemed: "+tc.description {
			t.Errorf("%s: %q", tc.name, got)
		}
	}
	// Who brings nothing of his own cannot have a DID resolved.
	before := w.wallet.resolutions()
	res := w.post(grant(theirs.Get("refreshToken")), p.sign(theirs.Get("authorization"), nil))
	res.wantRefusal(t, "stolen pair", http.StatusUnauthorized, "invalid_client")
	res = w.post(grant(stranger.Refresh), p.sign(stranger.Access, nil))
	res.wantRefusal(t, "pair issued elsewhere", http.StatusUnauthorized, "invalid_client")
	if n := w.wallet.resolutions() - before; n != 0 {
		t.Errorf("%d resolutions", n)
	}

	w.clock.advance(10 * time.Hour)
	w.renew(p, a).wantRefusal(t, "expired", http.StatusBadRequest, "invalid_grant")
	w.wantRenewals(t, map[string]float64{"invalid_grant": 9, "invalid_client": 2, "renewed": 0})
}

// Of those who cannot prove who they are, all get the same answer to the byte, whatever they have found.
func TestNobodyLearnsWhatATokenIsWorth(t *testing.T) {
	w := newRenewing(t, nil)
	w.newParty(them)
	a, stopped := w.offer("f", them), w.offer("g", them)
	w.flows.stop(key("g"), flow.Suspended)
	if err := w.endpoint.Revoke(t.Context(), key("g")); err != nil {
		t.Fatal(err)
	}
	thief := &party{t: t, did: them, key: newECDSA(t)}
	var want []byte
	for name, pair := range map[string][2]string{
		"good": {a.Get("refreshToken"), a.Get("authorization")}, "refresh token": {a.Get("refreshToken"), "x"},
		"access token": {"x", a.Get("authorization")}, "neither": {"x", "x"},
		"of a flow that has stopped": {stopped.Get("refreshToken"), stopped.Get("authorization")},
	} {
		res := w.post(grant(pair[0]), thief.sign(pair[1], nil))
		res.wantRefusal(t, name, http.StatusUnauthorized, "invalid_client")
		got := fmt.Appendf(nil, "%s\n", res.body)
		h := res.Header.Clone()
		h.Del("Date")
		if err := h.Write(io.Writer((*writer)(&got))); err != nil {
			t.Fatal(err)
		}
		if want == nil {
			want = got
		}
		if diff := cmp.Diff(string(want), string(got)); diff != "" {
			t.Errorf("%s:\n%s", name, diff)
		}
	}
}

type writer []byte

func (w *writer) Write(b []byte) (int, error) {
	*w = append(*w, b...)
	return len(b), nil
}

func TestFormsOfTheRequest(t *testing.T) {
	w := newRenewing(t, nil)
	p := w.newParty(them)
	a := w.offer("f", them)
	good := grant(a.Get("refreshToken"))
	long := "&x=" + strings.Repeat("x", maxGrant)
	signed := p.sign(a.Get("authorization"), nil)
	type header = map[string]string
	for _, tc := range []struct {
		name, method, query, body string
		header                    header
		status                    int
		code                      string
	}{
		{"GET", "GET", good, "", nil, 405, "invalid_request"},
		{"PUT", "PUT", "", good, header{"Content-Type": formType}, 405, "invalid_request"},
		{"DELETE", "DELETE", good, "", nil, 405, "invalid_request"},
		{"OPTIONS", "OPTIONS", good, "", nil, 405, "invalid_request"},
		{"JSON", "POST", "", `{"grant_type":"refresh_token"}`, header{"Content-Type": "application/json"}, 415, "invalid_request"},
		{"multipart", "POST", "", good, header{"Content-Type": "multipart/form-data; boundary=x"}, 415, "invalid_request"},
		{"malformed type", "POST", "", good, header{"Content-Type": "/;;"}, 415, "invalid_request"},
		{"compressed", "POST", "", good, header{"Content-Type": formType, "Content-Encoding": "gzip"}, 415, "invalid_request"},
		{"long", "POST", "", good + long, header{"Content-Type": formType}, 413, "invalid_request"},
		{"nothing", "POST", "", "", nil, 400, "invalid_request"},
		{"another grant", "POST", "", "grant_type=password&refresh_token=x", nil, 400, "unsupported_grant_type"},
		{"contradiction", "POST", "refresh_token=x", good, nil, 400, "invalid_request"},
		{"malformed", "POST", "", "grant_type=%zz", nil, 400, "invalid_request"},
	} {
		h := maps.Clone(tc.header)
		if h == nil {
			h = header{}
		}
		h["Authorization"] = "Bearer " + signed
		for _, length := range []string{"known", "unknown"} {
			var body io.Reader
			if tc.body != "" {
				body = strings.NewReader(tc.body)
				if length == "unknown" {
					body = struct{ io.Reader }{body}
				}
			}
			res := w.do(sdk.DataAddress{}, w.server.URL+"/token?"+tc.query, request{method: tc.method, body: body, header: h})
			res.wantRefusal(t, tc.name, tc.status, tc.code)
			if allow := res.Header.Get("Allow"); (allow == "POST") != (tc.status == 405) {
				t.Errorf("%s: Allow %q", tc.name, allow)
			}
		}
	}
	if n := w.wallet.resolutions(); n != 0 {
		t.Errorf("%d resolutions", n)
	}
	head := w.do(sdk.DataAddress{}, w.server.URL+"/token", request{method: http.MethodHead})
	if head.StatusCode != http.StatusMethodNotAllowed {
		t.Errorf("HEAD: %d", head.StatusCode)
	}

	// As in the specification's example, with a body of some type that is empty, as RFC 6749 has it, as both, and without a type.
	for _, send := range []func(refresh, signed string) response{
		func(refresh, signed string) response {
			return w.do(sdk.DataAddress{}, w.server.URL+"/token?"+grant(refresh), request{method: http.MethodPost, header: header{"Authorization": "Bearer " + signed}})
		},
		func(refresh, signed string) response {
			return w.do(sdk.DataAddress{}, w.server.URL+"/token?"+grant(refresh), request{method: http.MethodPost,
				header: header{"Authorization": "bearer " + signed, "Content-Type": "application/json"}})
		},
		func(refresh, signed string) response { return w.post(grant(refresh)+"&scope=x&client_id=y", signed) },
		func(refresh, signed string) response {
			return w.do(sdk.DataAddress{}, w.server.URL+"/token?"+grant(refresh), request{method: http.MethodPost,
				body: strings.NewReader(grant(refresh)), header: header{"Authorization": "Bearer " + signed, "Content-Type": formType + "; charset=UTF-8"}})
		},
		func(refresh, signed string) response {
			return w.do(sdk.DataAddress{}, w.server.URL+"/token", request{method: http.MethodPost, body: strings.NewReader(grant(refresh)),
				header: header{"Authorization": "Bearer " + signed}})
		},
	} {
		a = send(a.Get("refreshToken"), p.sign(a.Get("authorization"), nil)).wantTokens(t, a)
	}
}

// drip is a body that never ends and never stalls for long, on a connection whose deadlines are heeded.
type drip struct {
	http.ResponseWriter
	stopped chan struct{}
}

func (d drip) SetReadDeadline(at time.Time) error {
	if !at.IsZero() && at.Before(time.Now()) {
		close(d.stopped)
	}
	return nil
}

func (d drip) SetWriteDeadline(time.Time) error { return nil }
func (d drip) Close() error                     { return nil }

func (d drip) Read(b []byte) (int, error) {
	select {
	case <-time.After(time.Second):
		return copy(b, "x"), nil
	case <-d.stopped:
		return 0, os.ErrDeadlineExceeded
	}
}

func TestBodyThatTakesTooLong(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m, err := newMetrics(nil)
		if err != nil {
			t.Fatal(err)
		}
		d := drip{httptest.NewRecorder(), make(chan struct{})}
		r := httptest.NewRequest(http.MethodPost, renewalPath, d)
		start := time.Now()
		_, err = readRefreshToken(newExchange(d, r, time.Minute, m))
		if r := refusalOf(err); r.status != http.StatusRequestTimeout || r.code != "invalid_request" {
			t.Errorf("refused with %d %s: %v", r.status, r.code, err)
		}
		if took := time.Since(start); took != grantTime {
			t.Errorf("it took %v", took)
		}
	})
}

func TestLostAnswerOfARenewal(t *testing.T) {
	w := newRenewing(t, nil)
	w.memory.Put("d", []byte("x"))
	p := w.newParty(them)
	first := w.offer("f", them)
	second := w.renew(p, first).wantTokens(t, first)
	w.clock.advance(5 * time.Minute)
	again := w.renew(p, first).wantTokens(t, first)
	if again.Get("expiresIn") != "3300" {
		t.Errorf("expires in %s", again.Get("expiresIn"))
	}
	again.Properties["expiresIn"] = second.Get("expiresIn")
	if diff := cmp.Diff(second, again); diff != "" {
		t.Errorf("the second answer has other tokens:\n%s", diff)
	}
	w.get(second, nil).wantBody(t, http.StatusOK, "x")
	description := w.renew(p, first).wantRefusal(t, "after the use", http.StatusBadRequest, "invalid_grant")
	if description != "the refresh token was used before" {
		t.Errorf("description %q", description)
	}
	for _, a := range []sdk.DataAddress{first, second} {
		w.get(a, nil).wantStatus(t, http.StatusForbidden)
		w.renew(p, a).wantRefusal(t, "after the reuse", http.StatusBadRequest, "invalid_grant")
	}
	w.wantRenewals(t, map[string]float64{"renewed": 1, "repeated": 1, "reused": 1, "invalid_grant": 2})
	if !strings.Contains(w.log.String(), "level=WARN") {
		t.Error("the reuse is not in the log")
	}
	if got := w.flows.reported(key("f")); len(got) != 1 || !strings.Contains(got[0], "used twice") {
		t.Errorf("reported %q", got)
	}
	// A resume makes good again.
	resumed := w.offer("f", them)
	w.renew(p, resumed).wantTokens(t, resumed)
}

func TestGraceOfARenewal(t *testing.T) {
	w := newRenewing(t, nil)
	p := w.newParty(them)
	first := w.offer("f", them)
	w.renew(p, first).wantTokens(t, first)
	w.clock.advance(10*time.Minute - 2*time.Second)
	w.renew(p, first).wantTokens(t, first)
	w.clock.advance(2 * time.Second)
	w.renew(p, first).wantRefusal(t, "after the grace", http.StatusBadRequest, "invalid_grant")
	w.wantRenewals(t, map[string]float64{"renewed": 1, "repeated": 1, "reused": 1})
}

// A client that has gone before its tokens were renewed gets them when it comes again.
func TestClientThatDoesNotWait(t *testing.T) {
	w := newRenewing(t, nil)
	p := w.newParty(them)
	first := w.offer("f", them)
	body := grant(first.Get("refreshToken"))
	answered := make(chan struct{})
	w.server.Config.Handler = closing{w.server.Config.Handler, answered}
	conn, err := net.Dial("tcp", w.server.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	fmt.Fprintf(conn, "POST /token HTTP/1.1\r\nHost: x\r\nContent-Type: %s\r\nContent-Length: %d\r\nAuthorization: Bearer %s\r\n\r\n%s",
		formType, len(body), p.sign(first.Get("authorization"), nil), body)
	conn.Close()
	<-answered
	second := w.renew(p, first).wantTokens(t, first)
	w.renew(p, second).wantTokens(t, second)
}

// closing tells when its first request was served.
type closing struct {
	http.Handler
	done chan struct{}
}

func (c closing) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	defer func() {
		select {
		case <-c.done:
		default:
			close(c.done)
		}
	}()
	c.Handler.ServeHTTP(w, r)
}

func TestRenewalsAtOnce(t *testing.T) {
	w := newRenewing(t, nil)
	p := w.newParty(them)
	a := w.offer("f", them)
	bodies := make([]response, 4)
	var wg sync.WaitGroup
	for i := range bodies {
		wg.Go(func() { bodies[i] = w.renew(p, a) })
	}
	wg.Wait()
	first := bodies[0].wantTokens(t, a)
	for _, res := range bodies {
		if diff := cmp.Diff(first, res.wantTokens(t, a)); diff != "" {
			t.Error(diff)
		}
	}
	w.wantRenewals(t, map[string]float64{"renewed": 1, "repeated": 3})
}

// The next process, with the same key and store, goes on where the last one was.
func TestRenewalAfterARestart(t *testing.T) {
	dir, store := t.TempDir(), tokentest.NewMemory()
	open := func() (*world, *party) {
		w := newRenewing(t, func(w *world, o *Options) {
			w.tokens = openAuthority(t, dir, store, w.clock.Now)
			o.Tokens, o.Renewal.Tokens = w.tokens, w.tokens
		})
		w.memory.Put("d", []byte("x"))
		return w, w.newParty(them)
	}
	before, p := open()
	first := before.offer("f", them)
	second := before.renew(p, first).wantTokens(t, first)

	after, p := open()
	after.flows.put(before.flows.flows[key("f")])
	first.Endpoint = after.server.URL + "/flows/f"
	again := after.renew(p, first).wantTokens(t, first)
	if again.Get("authorization") != second.Get("authorization") || again.Get("refreshToken") != second.Get("refreshToken") {
		t.Error("the next process has other tokens")
	}
	after.get(again, nil).wantBody(t, http.StatusOK, "x")
	after.renew(p, again).wantTokens(t, again)
}

func TestStatesInWhichTokensAreNotRenewed(t *testing.T) {
	w := newRenewing(t, nil)
	p := w.newParty(them)
	for _, state := range []flow.State{flow.Preparing, flow.Prepared, flow.Starting, flow.Suspended, flow.Completed, flow.Terminated} {
		a := w.offer("f", them)
		w.flows.stop(key("f"), state) // and nothing is revoked yet
		description := w.renew(p, a).wantRefusal(t, string(state), http.StatusBadRequest, "invalid_grant")
		if description != "the data flow is "+string(state) {
			t.Errorf("%s: %q", state, description)
		}
	}
	a := w.offer("gone", them)
	delete(w.flows.flows, key("gone"))
	w.renew(p, a).wantRefusal(t, "gone", http.StatusBadRequest, "invalid_grant")
	if n := w.flows.visiting(key("f")); n != 0 {
		t.Errorf("%d renewals are left inside", n)
	}
}

// A flow that stops while the client's DID is resolved has no more tokens.
func TestStopWhileADIDIsResolved(t *testing.T) {
	w := newRenewing(t, nil)
	w.memory.Put("d", []byte("x"))
	p := w.newParty(them)
	for name, stop := range map[string]func(){
		"suspended": func() {
			w.flows.stop(key("f"), flow.Suspended)
			if err := w.endpoint.Revoke(t.Context(), key("f")); err != nil {
				t.Error(err)
			}
		},
		"suspended and resumed": func() { w.offer("f", them) },
	} {
		a := w.offer("f", them)
		w.wallet.hook = func(string) { stop() }
		w.renew(p, a).wantRefusal(t, name, http.StatusBadRequest, "invalid_grant")
		w.wallet.hook = nil
		w.get(a, nil).wantStatus(t, http.StatusForbidden)
	}
}

func TestFailuresOfARenewal(t *testing.T) {
	store := tokentest.NewMemory()
	service := &late{}
	w := newRenewing(t, func(w *world, o *Options) {
		w.tokens = openAuthority(t, t.TempDir(), store, w.clock.Now)
		o.Tokens, o.Renewal.Tokens, o.Flows = w.tokens, w.tokens, service
	})
	service.Service = w.flows
	p := w.newParty(them)
	a := w.offer("f", them)

	w.wallet.broken = fmt.Errorf("%w: connection refused", identity.ErrKeys)
	res := w.renew(p, a)
	res.wantRefusal(t, "no keys", http.StatusServiceUnavailable, "temporarily_unavailable")
	if res.Header.Get("Retry-After") != "5" {
		t.Errorf("Retry-After %q", res.Header.Get("Retry-After"))
	}
	w.wallet.broken = fmt.Errorf("%w: %w", identity.ErrKeys, sdk.Errorf(sdk.Denied, "connections to 10.1.2.3 are not allowed"))
	if description := w.renew(p, a).wantRefusal(t, "keys out of reach", http.StatusUnauthorized, "invalid_client"); strings.Contains(description, "10.1") {
		t.Errorf("the client is told %q", description)
	}
	w.wallet.broken = nil

	store.Break(errors.New("disk on fire"))
	description := w.renew(p, a).wantRefusal(t, "broken store", http.StatusInternalServerError, "server_error")
	store.Break(nil)
	_, instance, _ := strings.Cut(description, ", as ")
	if !strings.HasPrefix(instance, "urn:uuid:") || !strings.Contains(w.log.String(), instance) || !strings.Contains(w.log.String(), "disk on fire") {
		t.Errorf("%q is not in the log", instance)
	}
	if strings.Contains(description, "fire") {
		t.Errorf("the client is told %q", description)
	}

	service.Service = closed{w.flows}
	res = w.renew(p, a)
	res.wantRefusal(t, "shutdown", http.StatusServiceUnavailable, "temporarily_unavailable")
	if res.Header.Get("Retry-After") == "" {
		t.Error("no Retry-After at shutdown")
	}
	service.Service = w.flows
	w.renew(p, a).wantTokens(t, a)
	w.wantRenewals(t, map[string]float64{"temporarily_unavailable": 2, "invalid_client": 1, "server_error": 1, "renewed": 1})
	log := w.log.String()
	for name, secret := range map[string]string{"access": a.Get("authorization"), "refresh": a.Get("refreshToken")} {
		if strings.Contains(log, secret) {
			t.Errorf("the %s token is in the log", name)
		}
	}
}

// closed is a flow service of an engine that shuts down.
type closed struct{ *flows }

func (closed) Join(context.Context, flow.Key) (*flow.Joined, error) { return nil, flow.ErrClosed }

func TestRenewalsThatAreTooMany(t *testing.T) {
	w := newRenewing(t, nil)
	p, other := w.newParty(them), w.newParty("did:web:other.example")
	a, theirs := w.offer("f", them), w.offer("g", other.did)
	entered, release := make(chan struct{}, maxRenewalsPerClient), make(chan struct{})
	w.wallet.hook = func(did string) {
		if did == them {
			entered <- struct{}{}
			<-release
		}
	}
	answers := make(chan response, maxRenewalsPerClient)
	for range maxRenewalsPerClient {
		go func() { answers <- w.renew(p, a) }()
	}
	for range maxRenewalsPerClient {
		<-entered
	}
	res := w.renew(p, a)
	res.wantRefusal(t, "one more", http.StatusServiceUnavailable, "temporarily_unavailable")
	if res.Header.Get("Retry-After") != "1" {
		t.Errorf("Retry-After %q", res.Header.Get("Retry-After"))
	}
	w.renew(other, theirs).wantTokens(t, theirs)
	close(release)
	for range maxRenewalsPerClient {
		(<-answers).wantTokens(t, a)
	}
	w.wallet.hook = nil

	leave := func() {}
	r := &renewing{clients: map[string]int{}}
	for i := range maxRenewals {
		var err error
		if leave, err = r.enter(fmt.Sprint(i)); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := r.enter("x"); err == nil {
		t.Error("there is no limit for all clients")
	}
	leave()
	if _, err := r.enter("x"); err != nil {
		t.Error(err)
	}

	b := w.offer("h", them)
	for range 100 {
		b = w.renew(p, b).wantTokens(t, b)
	}
	res = w.renew(p, b)
	res.wantRefusal(t, "a renewal without need", http.StatusTooManyRequests, "temporarily_unavailable")
	if res.Header.Get("Retry-After") != "60" {
		t.Errorf("Retry-After %q", res.Header.Get("Retry-After"))
	}
}

// With a resolver that looks in the network, and a document that is served there.
func TestRenewalWithAResolvedDID(t *testing.T) {
	document := make(chan []byte, 1)
	fetched := 0
	did := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		content := <-document
		document <- content
		fetched++
		w.Write(content)
	}))
	defer did.Close()
	resolver := identity.NewResolver(identity.ResolverOptions{HTTP: did.Client(), AllowHTTP: func(string) bool { return true }})
	defer resolver.Close()
	w := newRenewing(t, func(_ *world, o *Options) { o.Renewal.Keys = resolver.Keys })
	client := "did:web:" + strings.ReplaceAll(did.Listener.Addr().String(), ":", "%3A")
	signer, err := identity.LoadSigner(filepath.Join(t.TempDir(), "client.pem"), client, "")
	if err != nil {
		t.Fatal(err)
	}
	document <- signer.Document()
	a := w.offer("f", client)
	sign := func(a sdk.DataAddress) string {
		raw, err := signer.Sign(map[string]any{"iss": client, "sub": client, "aud": us, "token": a.Get("authorization"),
			"iat": time.Now().Unix(), "exp": time.Now().Add(time.Minute).Unix(), "jti": "1"})
		if err != nil {
			t.Fatal(err)
		}
		return raw
	}
	for range 3 {
		a = w.post(grant(a.Get("refreshToken")), sign(a)).wantTokens(t, a)
	}
	if fetched != 1 {
		t.Errorf("the document was fetched %d times", fetched)
	}
	thief := &party{t: t, did: client, key: newECDSA(t)}
	w.renew(thief, a).wantRefusal(t, "a thief", http.StatusUnauthorized, "invalid_client")
}

func TestRenewalStory(t *testing.T) {
	p := newPlane(t, nil)
	client := p.newParty("did:web:them")
	p.memory.Put("d", []byte("x"))
	ctx := t.Context()
	started, err := p.engine.Start(ctx, create("f", "http-pull"))
	if err != nil {
		t.Fatal(err)
	}
	ours := func(a sdk.DataAddress) response {
		return p.post(grant(a.Get("refreshToken")), client.sign(a.Get("authorization"), func(_, claims map[string]any) { claims["aud"] = "did:web:us" }))
	}
	first := *started.DataAddress
	second := ours(first).wantTokens(t, first)
	p.get(second, nil).wantBody(t, http.StatusOK, "x")
	if _, err := p.engine.Suspend(ctx, message("f"), ""); err != nil {
		t.Fatal(err)
	}
	for _, a := range []sdk.DataAddress{first, second} {
		p.get(a, nil).wantStatus(t, http.StatusForbidden)
		ours(a).wantRefusal(t, "suspended", http.StatusBadRequest, "invalid_grant")
	}
	resumed, err := p.engine.Resume(ctx, message("f"), nil)
	if err != nil {
		t.Fatal(err)
	}
	ours(second).wantRefusal(t, "with the tokens from before", http.StatusBadRequest, "invalid_grant")
	third := ours(*resumed.DataAddress).wantTokens(t, *resumed.DataAddress)
	p.get(third, nil).wantBody(t, http.StatusOK, "x")
	if _, err := p.engine.Terminate(ctx, message("f"), ""); err != nil {
		t.Fatal(err)
	}
	ours(third).wantRefusal(t, "terminated", http.StatusBadRequest, "invalid_grant")
	p.get(third, nil).wantStatus(t, http.StatusForbidden)
}

func TestParseGrant(t *testing.T) {
	for _, tc := range []struct{ name, query, form, want, code string }{
		{"form", "", "grant_type=refresh_token&refresh_token=a", "a", ""},
		{"query", "grant_type=refresh_token&refresh_token=a", "", "a", ""},
		{"one each", "grant_type=refresh_token", "refresh_token=a%2Bb", "a+b", ""},
		{"both agree", "grant_type=refresh_token&refresh_token=a", "grant_type=refresh_token&refresh_token=a", "a", ""},
		{"others are ignored", "x=1&x=2", "grant_type=refresh_token&refresh_token=a&scope=b&scope=c", "a", ""},
		{"empty beside another", "refresh_token=&refresh_token=a", "grant_type=refresh_token", "", "invalid_request"},
		{"empty in the query", "refresh_token=", "grant_type=refresh_token&refresh_token=a", "a", ""},
		{"empty in the form", "refresh_token=a", "grant_type=refresh_token&refresh_token=", "a", ""},
		{"nothing", "", "", "", "invalid_request"},
		{"no grant", "", "refresh_token=a", "", "invalid_request"},
		{"empty grant", "", "grant_type=&refresh_token=a", "", "invalid_request"},
		{"no token", "", "grant_type=refresh_token", "", "invalid_request"},
		{"empty token", "", "grant_type=refresh_token&refresh_token=", "", "invalid_request"},
		{"other grant", "", "grant_type=client_credentials", "", "unsupported_grant_type"},
		{"other case", "", "grant_type=REFRESH_TOKEN&refresh_token=a", "", "unsupported_grant_type"},
		{"contradiction", "refresh_token=b", "grant_type=refresh_token&refresh_token=a", "", "invalid_request"},
		{"contradiction of grants", "grant_type=password", "grant_type=refresh_token&refresh_token=a", "", "invalid_request"},
		{"twice in the form", "", "grant_type=refresh_token&refresh_token=a&refresh_token=a", "", "invalid_request"},
		{"twice in the query", "grant_type=refresh_token&grant_type=refresh_token", "refresh_token=a", "", "invalid_request"},
		{"malformed query", "a=%zz", "grant_type=refresh_token&refresh_token=a", "", "invalid_request"},
		{"malformed form", "", "grant_type=refresh_token&refresh_token=%", "", "invalid_request"},
		{"semicolon", "", "grant_type=refresh_token;refresh_token=a", "", "invalid_request"},
	} {
		got, err := parseGrant(tc.query, tc.form)
		var r *refusal
		code := ""
		if errors.As(err, &r) {
			code = r.code
		}
		if got != tc.want || code != tc.code {
			t.Errorf("%s: %q, %v; want %q, %q", tc.name, got, err, tc.want, tc.code)
		}
	}
}

func FuzzGrant(f *testing.F) {
	for _, s := range [][2]string{
		{"", "grant_type=refresh_token&refresh_token=a"}, {"grant_type=refresh_token", "refresh_token=%41"}, {"refresh_token=a", "refresh_token=b"},
		{"a=%zz", ";"}, {"grant_type=x", "&&&==="},
	} {
		f.Add(s[0], s[1])
	}
	f.Fuzz(func(t *testing.T, query, form string) {
		got, err := parseGrant(query, form)
		if err != nil {
			var r *refusal
			if !errors.As(err, &r) || r.status != http.StatusBadRequest || got != "" {
				t.Errorf("%q and %q: %q, %v", query, form, got, err)
			}
			return
		}
		// Whoever reads the request in another way that is right finds the same.
		for _, raw := range []string{query, form} {
			v, err := url.ParseQuery(raw)
			if err != nil || v.Has("refresh_token") && v.Get("refresh_token") != got && v.Get("refresh_token") != "" ||
				v.Get("grant_type") != "" && v.Get("grant_type") != "refresh_token" {
				t.Errorf("%q of %q and %q, %v", got, query, form, err)
			}
		}
		if got == "" {
			t.Errorf("%q and %q have no refresh token", query, form)
		}
	})
}

func FuzzProof(f *testing.F) {
	w := &world{t: f, wallet: &wallet{keys: map[string]crypto.PublicKey{}}}
	p := w.newParty(them)
	f.Add("Bearer " + p.sign("x", nil))
	f.Add(p.sign("x", func(_, claims map[string]any) { claims["iss"] = 7 }))
	f.Add("Bearer a.b.c")
	f.Add("Basic x")
	f.Fuzz(func(t *testing.T, field string) {
		got, err := readProof(http.Header{"Authorization": {field}})
		if err != nil {
			var r *refusal
			if !errors.As(err, &r) || r.status != http.StatusUnauthorized || r.code != "invalid_client" {
				t.Errorf("%q: %v", field, err)
			}
			return
		}
		if identity.CheckDID(got.Issuer) != nil || got.Subject != got.Issuer || got.access == "" {
			t.Errorf("%q says %+v", field, got)
		}
	})
}

func TestDescribe(t *testing.T) {
	if got, want := describe("a \"b\" \\ c\nü~"), "a 'b' ' c??~"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
}
