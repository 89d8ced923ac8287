//go:build linux

package e2e_test

import (
	"crypto/ecdsa"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"
)

// clientRules are about renewing the tokens that a counterparty has issued.
func clientRules() []rule {
	return []rule{
		{"K1", "2.2 consumer, 2.2 request, 2.2 client, trap 53", "a token is renewed before it expires, by the book", checkRenewsInTime},
		{"K2", "2.2 properties", "without a refreshEndpoint, the endpoint is it", checkDefaultRefreshEndpoint},
		{"K3", "2.2 consumer, trap 51", "the refresh token that came last is used", checkRotation},
		{"K4", "2.2 errors", "a renewal that is refused is not tried again, and shown", checkRenewalRefused},
		{"K5", "2.2 errors", "a renewal that fails is tried again", checkRenewalFails},
		{"K6", "2.2 names", "Tractus-X's names are understood and kept", checkTractusNames},
		{"K7", "trap 54", "where renewal is demanded, an address without it is refused", checkRenewalDemanded},
		{"K8", "2.2 consumer, trap 53", "a transfer that is refused for its token renews that", checkRenewsOnRefusal},
		{"K9", "trap 53, 2.2 consumer", "whoever needs a token at the same time shares one renewal", checkOneRenewal},
		{"K11", "trap 52, 2.2 client", "the DID document to publish has the key that we sign with", checkOurDocument},
		{"K10", "trap 22", "a refreshEndpoint is not called where it must not lead", checkRefreshEndpointGuarded},
	}
}

// lender is a provider that issues tokens and renews them. It gives out data to who has the present one.
type lender struct {
	t     testing.TB
	party *party
	url   string
	ours  any // public key of the data plane

	mu       sync.Mutex
	access   string
	refresh  string
	revoked  string // an access token that opens nothing
	renewals []renewal
	scripts  []script      // instead of the next renewals
	lifetime json.Number   // of the tokens from renewals, in seconds
	keep     bool          // renewals come without a new refresh token
	delay    chan struct{} // if not nil, renewals wait until it is closed
}

// renewal is a request that was made for one.
type renewal struct {
	path, refresh string
	err           error // what is wrong with it
}

func (w *world) newLender(t testing.TB) *lender {
	t.Helper()
	w.strict(t)
	l := &lender{t: t, party: w.dids.newParty(t, "lender-"+strings.ToLower(newID()[:8])), ours: w.ourKey.Public(),
		access: "access-" + newID(), refresh: "refresh-" + newID(), lifetime: "3600"}
	l.url = w.secureServer(t, l.serve)
	w.keep("refresh token of a provider", l.refresh)
	return l
}

func (l *lender) serve(w http.ResponseWriter, r *http.Request) {
	if r.Method == http.MethodPost {
		l.renew(w, r)
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if r.Header.Get("Authorization") != "Bearer "+l.access || l.access == l.revoked {
		w.Header().Set("WWW-Authenticate", `Bearer error="invalid_token"`)
		w.WriteHeader(http.StatusUnauthorized)
		return
	}
	io.WriteString(w, "content")
}

func (l *lender) renew(w http.ResponseWriter, r *http.Request) {
	if l.delay != nil {
		<-l.delay
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	got := renewal{path: r.URL.Path, err: l.check(r)}
	got.refresh = r.PostForm.Get("refresh_token")
	l.renewals = append(l.renewals, got)
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	if len(l.scripts) > 0 {
		s := l.scripts[0]
		l.scripts = l.scripts[1:]
		w.WriteHeader(s.code)
		io.WriteString(w, s.body)
		return
	}
	if got.err != nil || got.refresh != l.refresh {
		w.WriteHeader(http.StatusBadRequest)
		io.WriteString(w, `{"error":"invalid_grant"}`)
		return
	}
	l.access = "access-" + newID()
	answer := map[string]any{"access_token": l.access, "token_type": "Bearer", "expires_in": l.lifetime}
	if !l.keep {
		l.refresh = "refresh-" + newID()
		answer["refresh_token"] = l.refresh
	}
	json.NewEncoder(w).Encode(answer)
}

// check says what is wrong with a request for renewal.
func (l *lender) check(r *http.Request) error {
	if err := r.ParseForm(); err != nil {
		return err
	}
	media := r.Header.Get("Content-Type")
	if r.PostForm.Get("grant_type") != "refresh_token" || media != "application/x-www-form-urlencoded" || r.URL.RawQuery != "" {
		return errors.New("the form is not as it should be")
	}
	raw, ok := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
	token, err := jwt.ParseSigned(raw, []jose.SignatureAlgorithm{jose.ES256})
	if !ok || err != nil {
		return errors.New("there is no client JWT")
	}
	var claims struct {
		jwt.Claims
		Token string `json:"token"`
	}
	if err := token.Claims(l.ours, &claims); err != nil {
		return err
	}
	now := time.Now()
	switch {
	case token.Headers[0].KeyID != ourDID+"#key-1":
		return errors.New("kid is " + token.Headers[0].KeyID)
	case claims.Issuer != ourDID || claims.Subject != ourDID:
		return errors.New("iss is " + claims.Issuer + ", sub is " + claims.Subject)
	case len(claims.Audience) != 1 || claims.Audience[0] != l.party.did:
		return errors.New("aud is " + strings.Join(claims.Audience, " "))
	case claims.Token != l.access:
		return errors.New("token is not the access token")
	case claims.Expiry == nil || claims.Expiry.Time().Before(now) || claims.Expiry.Time().After(now.Add(time.Hour)):
		return errors.New("exp is not short")
	case claims.IssuedAt == nil || claims.ID == "":
		return errors.New("there is no iat or jti")
	}
	return nil
}

// address returns the address that the lender offers, with the present tokens.
func (l *lender) address(expiresIn string) *dataAddress {
	l.mu.Lock()
	defer l.mu.Unlock()
	return addressOf(httpPull, l.url+"/data", "authorization", l.access, "authType", "bearer",
		"refreshToken", l.refresh, "expiresIn", expiresIn, "refreshEndpoint", l.url+"/refresh")
}

// present returns the token that is good now, and what was asked so far.
func (l *lender) present() (access string, renewals []renewal) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.access, l.renewals
}

// awaitRenewals waits for so many renewals, and checks that they were asked for by the book.
func (l *lender) awaitRenewals(t testing.TB, count int) []renewal {
	t.Helper()
	var all []renewal
	soon(t, "renewals", func() bool { _, all = l.present(); return len(all) >= count })
	for _, r := range all {
		if r.err != nil {
			t.Errorf("a renewal is not asked for as it should be: %v", r.err)
		}
	}
	return all
}

// borrow starts a flow whose address is kept for a local application.
func (l *lender) borrow(w *world, a *dataAddress) *flowOf {
	l.t.Helper()
	f := l.flow(w, "application")
	f.tell("started", message{"dataAddress": a})
	return f
}

func (l *lender) flow(w *world, dataset string) *flowOf {
	l.t.Helper()
	f := w.strict(l.t).newFlow(httpPull, dataset, nil)
	f.create = f.create.with(message{"participantId": ourDID, "counterPartyId": l.party.did})
	return f.prepare()
}

// heldAddress is the address that an application gets.
type heldAddress struct {
	Type, Endpoint string
	Properties     map[string]string
}

func (f *flowOf) held() (a heldAddress) {
	f.t.Helper()
	f.ask(http.MethodGet, "/api/v1/flows/"+url.PathEscape(f.id)+"/address", nil, &a)
	return a
}

// renewalFault is why a token could not be renewed, as an operator sees it.
func (f *flowOf) renewalFault() string {
	f.t.Helper()
	var d struct{ RenewalFault string }
	f.ask(http.MethodGet, "/api/v1/flows/"+url.PathEscape(f.id), nil, &d)
	return d.RenewalFault
}

func checkRenewsInTime(t *testing.T, w *world) {
	l := w.newLender(t)
	f := l.borrow(w, l.address("1"))
	l.awaitRenewals(t, 1)
	soon(t, "an application gets the new token", func() bool {
		access, _ := l.present()
		return f.held().Properties["authorization"] == access
	})
	if r := f.ask(http.MethodGet, "/api/v1/flows/"+f.id+"/data", nil, nil); r.code != http.StatusOK || r.text != "content" {
		t.Errorf("through the host: %d %s", r.code, r.text)
	}
	f.tell("terminate", nil)
	if r := f.ask(http.MethodGet, "/api/v1/flows/"+f.id+"/address", nil, nil); r.code != http.StatusConflict {
		t.Errorf("the address of a flow that has ended: %d", r.code)
	}
}

func checkDefaultRefreshEndpoint(t *testing.T, w *world) {
	l := w.newLender(t)
	a := l.address("1")
	a.EndpointProperties = a.EndpointProperties[:len(a.EndpointProperties)-1]
	f := l.borrow(w, a)
	if all := l.awaitRenewals(t, 1); all[0].path != "/data" {
		t.Errorf("it was asked for at %s", all[0].path)
	}
	f.tell("terminate", nil)
}

func checkRotation(t *testing.T, w *world) {
	l := w.newLender(t)
	l.lifetime = "1"
	first := l.refresh
	f := l.borrow(w, l.address("1"))
	all := l.awaitRenewals(t, 2)
	if all[0].refresh != first || all[1].refresh == first {
		t.Errorf("%+v", all)
	}
	l.mu.Lock()
	l.keep = true
	l.mu.Unlock()
	all = l.awaitRenewals(t, len(all)+3)
	if last := len(all) - 1; all[last].refresh != all[last-1].refresh {
		t.Errorf("%+v", all)
	}
	f.tell("terminate", nil)
}

func checkRenewalRefused(t *testing.T, w *world) {
	for _, refusal := range []script{
		{code: 400, body: `{"error":"invalid_grant","error_description":"too late"}`}, {code: 401, body: `{"error":"invalid_client"}`},
	} {
		l := w.newLender(t)
		l.scripts = []script{refusal}
		f := l.borrow(w, l.address("1"))
		l.awaitRenewals(t, 1)
		soon(t, "an operator sees why", func() bool { return f.renewalFault() != "" })
		if fault := f.renewalFault(); strings.Contains(fault, l.refresh) || strings.Contains(fault, l.access) {
			t.Errorf("%s", fault)
		}
		f.expect("STARTED")
		f.ask(http.MethodGet, "/api/v1/flows/"+f.id+"/address", nil, nil)
		if _, all := l.present(); len(all) != 1 {
			t.Errorf("%d attempts", len(all))
		}
		f.tell("terminate", nil)
	}
}

func checkRenewalFails(t *testing.T, w *world) {
	l := w.newLender(t)
	l.scripts = []script{{code: 503}, {code: 500, body: "<html>"}}
	f := l.borrow(w, l.address("1"))
	l.awaitRenewals(t, 3)
	soon(t, "an application gets the new token", func() bool {
		access, _ := l.present()
		r := f.ask(http.MethodGet, "/api/v1/flows/"+f.id+"/address", nil, nil)
		return r.code == http.StatusOK && strings.Contains(r.text, access)
	})
	f.tell("terminate", nil)
}

func checkTractusNames(t *testing.T, w *world) {
	l := w.newLender(t)
	const tx, edc = "https://w3id.org/tractusx/auth/", "https://w3id.org/edc/v0.0.1/ns/"
	a := addressOf(httpPull, l.url+"/data", edc+"authorization", l.access, edc+"authType", "bearer", tx+"refreshToken", l.refresh,
		tx+"expiresIn", "1", tx+"refreshEndpoint", l.url+"/refresh", tx+"refreshAudience", l.party.did)
	f := l.borrow(w, a)
	l.awaitRenewals(t, 1)
	soon(t, "the new token is where the old one was", func() bool {
		access, _ := l.present()
		return f.held().Properties[edc+"authorization"] == access
	})
	if _, ok := f.held().Properties["authorization"]; ok {
		t.Errorf("there are two names for the token")
	}
	f.tell("terminate", nil)
}

func checkRenewalDemanded(t *testing.T, w *world) {
	l := w.newLender(t)
	c := w.strict(t)
	for what, a := range map[string]*dataAddress{
		"nothing":         addressOf("HttpData", l.url+"/data", "authorization", l.access, "authType", "bearer"),
		"no access token": addressOf("HttpData", l.url+"/data", "refreshToken", l.refresh, "expiresIn", "300"),
	} {
		f := c.newFlow("demanding-pull", "small", nil)
		f.create["counterPartyId"] = l.party.did
		f.prepare()
		r := c.post(f.id+"/started", message{"messageId": newID(), "dataAddress": a})
		if r.code != http.StatusBadRequest || !strings.HasPrefix(r.Field, "dataAddress") {
			t.Errorf("%s: %d %s", what, r.code, r.text)
		}
		f.expect("PREPARED")
	}
	f := c.newFlow("demanding-pull", "small", nil)
	f.create = f.create.with(message{"participantId": ourDID, "counterPartyId": l.party.did})
	f.prepare()
	f.tell("started", message{"dataAddress": l.address("3600")})
	c.office.expect(t, f.id, "completed")
	// The HTTP profile itself leaves it open.
	g := c.newFlow(httpPull, "small", nil).prepare()
	g.tell("started", message{"dataAddress": addressOf(httpPull, l.url+"/data", "authorization", l.access, "authType", "bearer")})
	c.office.expect(t, g.id, "completed")
}

func checkRenewsOnRefusal(t *testing.T, w *world) {
	l := w.newLender(t)
	a := l.address("3600")
	f := l.flow(w, "small")
	former, _ := l.present()
	l.revoke() // although it should be good for an hour
	f.tell("started", message{"dataAddress": a})
	f.office.expect(t, f.id, "completed")
	if access, all := l.present(); len(all) != 1 || access == former {
		t.Errorf("%+v", all)
	}
}

// revoke makes the present token useless for data. It still proves who asks for the next one.
func (l *lender) revoke() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.revoked = l.access
}

func checkOneRenewal(t *testing.T, w *world) {
	l := w.newLender(t)
	l.delay = make(chan struct{})
	f := l.borrow(w, l.address("1"))
	answers := make([]reply, 6)
	var all sync.WaitGroup
	for i := range answers {
		all.Go(func() { answers[i] = f.ask(http.MethodGet, "/api/v1/flows/"+f.id+"/address", nil, nil) })
	}
	close(l.delay)
	all.Wait()
	l.awaitRenewals(t, 1)
	seen := map[string]bool{}
	_, renewals := l.present()
	for _, r := range renewals {
		if seen[r.refresh] {
			t.Errorf("a refresh token was used twice: %+v", renewals)
		}
		seen[r.refresh] = true
	}
	for _, r := range answers {
		if r.code != http.StatusOK {
			t.Errorf("%d %s", r.code, r.text)
		}
	}
	f.tell("terminate", nil)
}

func checkRefreshEndpointGuarded(t *testing.T, w *world) {
	l := w.newLender(t)
	for _, endpoint := range []string{
		"https://10.1.2.3/token", "https://169.254.169.254/token", "http://provider.example/token", "file:///etc/passwd", "x",
	} {
		a := l.address("1")
		a.EndpointProperties[len(a.EndpointProperties)-1].Value = endpoint
		f := l.flow(w, "application")
		r := f.post(f.id+"/started", message{"messageId": newID(), "dataAddress": a})
		switch r.code {
		case http.StatusBadRequest:
		case http.StatusOK:
			soon(t, "an operator sees that "+endpoint+" is not called", func() bool { return f.renewalFault() != "" })
		default:
			t.Errorf("%s: %d %s", endpoint, r.code, r.text)
		}
		f.tell("terminate", nil)
	}
}

func checkOurDocument(t *testing.T, w *world) {
	h := w.strict(t).host
	code, stdout, stderr := towpath(t, h.env, "participants", "document", "-config", h.config, "default")
	var document struct {
		ID                 string `json:"id"`
		VerificationMethod []struct {
			ID, Controller string
			PublicKeyJwk   jose.JSONWebKey
		} `json:"verificationMethod"`
	}
	if err := json.Unmarshal([]byte(stdout), &document); err != nil || code != 0 {
		t.Fatalf("exit code %d, %v: %s%s", code, err, stdout, stderr)
	}
	if document.ID != ourDID || len(document.VerificationMethod) != 1 {
		t.Fatalf("%s", stdout)
	}
	method := document.VerificationMethod[0]
	key, ok := method.PublicKeyJwk.Key.(*ecdsa.PublicKey)
	if !ok || !key.Equal(w.ourKey.Public()) || method.ID != ourDID+"#key-1" || method.Controller != ourDID {
		t.Errorf("%s", stdout)
	}
}
