package publicapi

import (
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"
	"github.com/google/go-cmp/cmp"

	"github.com/towpath-dataplane/towpath/host/flow"
	"github.com/towpath-dataplane/towpath/host/token"
	"github.com/towpath-dataplane/towpath/sdk"
)

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
