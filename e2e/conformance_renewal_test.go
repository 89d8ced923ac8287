//go:build linux

package e2e_test

import (
	"crypto/ed25519"
	"crypto/rand"
	"crypto/rsa"
	"encoding/json"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
)

// renewalRules are about renewing the tokens that a data plane issues.
func renewalRules() []rule {
	return []rule{
		{"T1", "2.2 properties", "an address has what a renewal needs", checkRenewalProperties},
		{"T2", "trap 38, 2.2 properties", "only a participant that is a DID can renew", checkRenewalForDIDs},
		{"T3", "2.2 request, 2.2 answer, trap 48, trap 51",
			"a token is renewed by a form in the body, and the answer is not to be stored", checkRenew},
		{"T4", "2.2 request, trap 48", "the form can be in the query; two that contradict each other are refused", checkRenewByQuery},
		{"T5", "trap 48, 2.2 errors", "what is no refresh grant is refused as RFC 6749 says", checkRenewRequests},
		{"T6", "2.2 client, trap 49, 2.2 errors", "a client that does not prove who it is gets 401 invalid_client", checkRenewClients},
		{"T7", "trap 49, 2.2 errors, 2.2 client", "a grant that is not good gets 400 invalid_grant", checkRenewGrants},
		{"T8", "trap 50", "an answer that was lost is given again, until the new token is used", checkRenewLost},
		{"T9", "trap 50, 1.3 errored", "a refresh token that is used again after that ends all tokens of the flow", checkRenewReuse},
		{"T10", "trap 52, 2.2 client", "a client's keys can change, and be named in more than one way", checkRenewKeys},
		{"T11", "trap 52", "keys can be of three kinds, and be in the DID itself", checkRenewDIDs},
		{"T12", "trap 50", "two renewals at once have one answer", checkRenewAtOnce},
		{"T13", "trap 55, trap 49", "nothing is renewed while a flow is SUSPENDED, and resume issues anew", checkRenewSuspended},
		{"T14", "trap 50, trap 49", "the access token before the present one proves a client too", checkRenewPrevious},
		{"T15", "trap 22, trap 52", "no DID leads into a private network", checkRenewDIDGuarded},
	}
}

// renewable is a pull of a participant that can renew its token.
type renewable struct {
	*flowOf
	party   *party
	access  string
	refresh string
	at      string // refreshEndpoint
}

// newRenewable starts one, with a participant of its own.
func (w *world) newRenewable(t testing.TB) *renewable {
	t.Helper()
	return w.newRenewableOf(t, w.dids.newParty(t, strings.ToLower(newID()[:10])))
}

func (w *world) newRenewableOf(t testing.TB, p *party) *renewable {
	t.Helper()
	c := w.strict(t)
	f := &renewable{flowOf: c.newFlow(httpPull, "small", nil), party: p}
	f.create = f.create.with(message{"participantId": ourDID, "counterPartyId": p.did})
	f.start()
	f.learn(w, f.reply.DataAddress)
	return f
}

// learn takes over the tokens of an address.
func (f *renewable) learn(w *world, a *dataAddress) {
	f.t.Helper()
	f.access = a.token()
	f.refresh, _ = a.lookup("refreshToken")
	f.at, _ = a.lookup("refreshEndpoint")
	if f.refresh == "" || f.at == "" {
		f.t.Fatalf("this cannot be renewed: %s", encode(f.t, a))
	}
	w.keep("refresh token", f.refresh)
}

// tokens is what a renewal is answered with.
type tokens struct {
	reply
	AccessToken  string          `json:"access_token"`
	TokenType    string          `json:"token_type"`
	ExpiresIn    json.RawMessage `json:"expires_in"`
	RefreshToken string          `json:"refresh_token"`
	Code         string          `json:"error"`
}

// ask sends a request for renewal and checks the form of its answer.
func (f *renewable) ask(form, query url.Values, assertion string) tokens {
	f.t.Helper()
	at := f.at
	if query != nil {
		at += "?" + query.Encode()
	}
	req := newRequest(f.t, http.MethodPost, at, nil)
	if form != nil {
		req = newRequest(f.t, http.MethodPost, at, form.Encode())
		req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	}
	if assertion != "" {
		req.Header.Set("Authorization", "Bearer "+assertion)
	}
	return f.send(req)
}

func (f *renewable) send(req *http.Request) tokens {
	f.t.Helper()
	resp, err := f.http.Do(req)
	if err != nil {
		f.t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		f.t.Fatal(err)
	}
	got := tokens{reply: reply{code: resp.StatusCode, header: resp.Header, text: string(text)}}
	documents(f.t).public.check(f.t, f.host.variable("E2E_PUBLIC_URL"), req, got.reply)
	if strings.Contains(resp.Header.Get("Content-Type"), "json") {
		if err := json.Unmarshal(text, &got); err != nil {
			f.t.Errorf("%v: %s", err, text)
		}
	}
	if got.code != http.StatusMethodNotAllowed && resp.Header.Get("Cache-Control") != "no-store" {
		f.t.Errorf("Cache-Control is %q", resp.Header.Get("Cache-Control"))
	}
	return got
}

// renew renews the tokens, which has to succeed.
func (f *renewable) renew(w *world) tokens {
	f.t.Helper()
	got := f.try()
	if got.code != http.StatusOK {
		f.t.Fatalf("%d %s", got.code, got.text)
	}
	checkSchema(f.t, "TokenResponse", got.text)
	w.keep("refresh token", got.RefreshToken)
	return got
}

// try asks for a renewal by the book.
func (f *renewable) try() tokens {
	f.t.Helper()
	return f.ask(refreshForm(f.refresh), nil, f.party.assertion(f.t, ourDID, f.access, nil))
}

// adopt takes over what a renewal was answered with.
func (f *renewable) adopt(got tokens) { f.access, f.refresh = got.AccessToken, got.RefreshToken }

// expectError checks that a renewal was refused with a code of RFC 6749.
func (f *renewable) expectError(what string, got tokens, status int, code string) {
	f.t.Helper()
	if got.code != status || got.Code != code {
		f.t.Errorf("%s: %d %s, not %d %s", what, got.code, got.text, status, code)
		return
	}
	checkSchema(f.t, "TokenError", got.text)
	if status == http.StatusUnauthorized && got.header.Get("WWW-Authenticate") == "" {
		f.t.Errorf("%s: there is no WWW-Authenticate", what)
	}
	for _, secret := range []string{f.access, f.refresh} {
		if strings.Contains(got.text, secret) {
			f.t.Errorf("%s: the answer repeats a token: %s", what, got.text)
		}
	}
}

// expectAccess checks what an access token is worth.
func (f *renewable) expectAccess(token string, want ...int) {
	f.t.Helper()
	a := *f.reply.DataAddress
	a.EndpointProperties = []endpointProperty{{"EndpointProperty", "authorization", token}}
	f.expectReads(&a, want...)
}

func checkRenewalProperties(t *testing.T, w *world) {
	f := w.newRenewable(t)
	a := f.reply.DataAddress
	expires, _ := a.lookup("expiresIn")
	if n, err := strconv.Atoi(expires); err != nil || n < 1 || n > 3600 {
		t.Errorf("expiresIn is %q", expires)
	}
	if want := f.host.variable("E2E_PUBLIC_URL") + "/token"; f.at != want {
		t.Errorf("refreshEndpoint is %s, not %s", f.at, want)
	}
	if strings.Count(f.refresh, ".") == 2 {
		t.Error("the refresh token looks like a JWT, which is not opaque")
	}
}

func checkRenewalForDIDs(t *testing.T, w *world) {
	c := w.strict(t)
	for _, counterparty := range []string{"BPNL00000001", "https://consumer.example", "did:", "did:unknown:x"} {
		f := c.newFlow(httpPull, "small", nil)
		f.create["counterPartyId"] = counterparty
		f.start()
		if _, ok := f.reply.DataAddress.lookup("refreshToken"); ok && counterparty != "did:unknown:x" {
			t.Errorf("%s: %s", counterparty, f.reply.text)
		}
	}
	off := c.newFlow("off-pull", "small", nil)
	off.create["counterPartyId"] = w.dids.newParty(t, "off-"+strings.ToLower(newID()[:6])).did
	off.start()
	for _, name := range []string{"refreshToken", "refreshEndpoint"} {
		if _, ok := off.reply.DataAddress.lookup(name); ok {
			t.Errorf("a profile without renewal has %s: %s", name, off.reply.text)
		}
	}
}

func checkRenew(t *testing.T, w *world) {
	f := w.newRenewable(t)
	got := f.renew(w)
	if got.AccessToken == f.access || got.RefreshToken == "" || got.RefreshToken == f.refresh {
		t.Errorf("%s", got.text)
	}
	f.expectAccess(got.AccessToken, http.StatusOK)
	f.adopt(got)
	second := f.renew(w)
	f.expectAccess(second.AccessToken, http.StatusOK)
}

func checkRenewByQuery(t *testing.T, w *world) {
	f := w.newRenewable(t)
	assertion := func() string { return f.party.assertion(t, ourDID, f.access, nil) }
	got := f.ask(nil, refreshForm(f.refresh), assertion())
	if got.code != http.StatusOK {
		t.Fatalf("by query: %d %s", got.code, got.text)
	}
	f.expectAccess(got.AccessToken, http.StatusOK)
	f.adopt(got)
	if got = f.ask(refreshForm(f.refresh), refreshForm(f.refresh), assertion()); got.code != http.StatusOK {
		t.Fatalf("by both: %d %s", got.code, got.text)
	}
	f.expectAccess(got.AccessToken, http.StatusOK)
	f.adopt(got)
	f.expectError("contradiction", f.ask(refreshForm(f.refresh), refreshForm("other"), assertion()), 400, "invalid_request")
	twice := url.Values{"grant_type": {"refresh_token", "refresh_token"}, "refresh_token": {f.refresh}}
	f.expectError("twice", f.ask(twice, nil, assertion()), 400, "invalid_request")
}

func checkRenewRequests(t *testing.T, w *world) {
	f := w.newRenewable(t)
	assertion := func() string { return f.party.assertion(t, ourDID, f.access, nil) }
	for what, c := range map[string]struct {
		form url.Values
		code string
	}{
		"no grant":      {url.Values{"refresh_token": {f.refresh}}, "invalid_request"},
		"no token":      {url.Values{"grant_type": {"refresh_token"}}, "invalid_request"},
		"empty token":   {url.Values{"grant_type": {"refresh_token"}, "refresh_token": {""}}, "invalid_request"},
		"nothing":       {url.Values{}, "invalid_request"},
		"another grant": {url.Values{"grant_type": {"client_credentials"}, "refresh_token": {f.refresh}}, "unsupported_grant_type"},
	} {
		f.expectError(what, f.ask(c.form, nil, assertion()), 400, c.code)
	}
	for _, method := range []string{http.MethodGet, http.MethodPut, http.MethodDelete} {
		req := newRequest(t, method, f.at+"?"+refreshForm(f.refresh).Encode(), nil)
		req.Header.Set("Authorization", "Bearer "+assertion())
		if got := f.send(req); got.code != http.StatusMethodNotAllowed || got.header.Get("Allow") != http.MethodPost {
			t.Errorf("%s: %d %s, Allow %q", method, got.code, got.text, got.header.Get("Allow"))
		}
	}
	for what, media := range map[string]string{"JSON": "application/json", "XML": "text/xml"} {
		req := newRequest(t, http.MethodPost, f.at, `{"grant_type":"refresh_token","refresh_token":"`+f.refresh+`"}`)
		req.Header.Set("Content-Type", media)
		req.Header.Set("Authorization", "Bearer "+assertion())
		if got := f.send(req); got.code/100 != 4 {
			t.Errorf("%s: %d %s", what, got.code, got.text)
		}
	}
	long := refreshForm(f.refresh)
	long.Set("scope", strings.Repeat("x", 200<<10))
	req := newRequest(t, http.MethodPost, f.at, long.Encode())
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	req.Header.Set("Authorization", "Bearer "+assertion())
	if resp, err := f.http.Do(req); err == nil { // it need not be read to its end
		resp.Body.Close()
		if resp.StatusCode != http.StatusRequestEntityTooLarge {
			t.Errorf("a long request: %d", resp.StatusCode)
		}
	}
	f.renew(w) // it has lost nothing by all that
}

func checkRenewClients(t *testing.T, w *world) {
	f := w.newRenewable(t)
	in := func(d time.Duration) int64 { return time.Now().Add(d).Unix() }
	stranger := w.dids.newParty(t, "stranger-"+strings.ToLower(newID()[:6]))
	for what, changes := range map[string]map[string]any{
		"no iss": {"iss": nil}, "no sub": {"sub": nil}, "sub is another": {"sub": stranger.did}, "iss is another": {"iss": stranger.did},
		"both are another": {"iss": stranger.did, "sub": stranger.did}, "no aud": {"aud": nil}, "aud is another": {"aud": stranger.did},
		"aud is a prefix": {"aud": ourDID + ":x"}, "expired": {"exp": in(-10 * time.Minute)}, "not yet": {"nbf": in(time.Hour)},
		"iss is no DID":    {"iss": "https://x.example", "sub": "https://x.example"},
		"no such document": {"iss": stranger.did + "x", "sub": stranger.did + "x"},
	} {
		f.expectError(what, f.ask(refreshForm(f.refresh), nil, f.party.assertion(t, ourDID, f.access, changes)), 401, "invalid_client")
	}
	good := map[string]any{"iss": f.party.did, "sub": f.party.did, "aud": ourDID, "token": f.access, "exp": in(time.Minute), "iat": in(0)}
	for what, assertion := range map[string]string{
		"none": "", "garbage": "garbage", "an access token": f.access,
		"another key":      signJWT(t, jose.ES256, newKey(t), f.party.kid, good),
		"unknown kid":      signJWT(t, jose.ES256, f.party.key, f.party.did+"#other", good),
		"kid of another":   signJWT(t, jose.ES256, stranger.key, stranger.kid, good),
		"key of the other": signJWT(t, jose.ES256, stranger.key, f.party.kid, good),
		"HMAC":             signJWT(t, jose.HS256, []byte(strings.Repeat("k", 32)), f.party.kid, good),
	} {
		f.expectError(what, f.ask(refreshForm(f.refresh), nil, assertion), 401, "invalid_client")
	}
	f.renew(w)
}

func checkRenewGrants(t *testing.T, w *world) {
	f, other := w.newRenewable(t), w.newRenewable(t)
	for what, got := range map[string]tokens{
		"unknown token":    f.ask(refreshForm("unknown"), nil, f.party.assertion(t, ourDID, f.access, nil)),
		"of another":       f.ask(refreshForm(other.refresh), nil, f.party.assertion(t, ourDID, f.access, nil)),
		"access token":     f.ask(refreshForm(f.access), nil, f.party.assertion(t, ourDID, f.access, nil)),
		"another's access": f.ask(refreshForm(f.refresh), nil, f.party.assertion(t, ourDID, other.access, nil)),
		"no access":        f.ask(refreshForm(f.refresh), nil, f.party.assertion(t, ourDID, "x", nil)),
	} {
		f.expectError(what, got, 400, "invalid_grant")
	}
	without := f.party.assertion(t, ourDID, f.access, map[string]any{"token": nil})
	if got := f.ask(refreshForm(f.refresh), nil, without); got.code != 400 && got.code != 401 {
		t.Errorf("no token claim: %d %s", got.code, got.text)
	}
	if got := f.ask(refreshForm(f.refresh), nil, other.party.assertion(t, ourDID, f.access, nil)); got.code != 400 && got.code != 401 {
		t.Errorf("another participant with our tokens: %d %s", got.code, got.text)
	}
	f.renew(w)
	for _, end := range []string{"terminate", "completed"} {
		g := w.newRenewable(t)
		g.tell(end, nil)
		g.expectError(end, g.try(), 400, "invalid_grant")
	}
}

func checkRenewLost(t *testing.T, w *world) {
	f := w.newRenewable(t)
	first := f.renew(w)
	for range 2 {
		if again := f.renew(w); again.AccessToken != first.AccessToken || again.RefreshToken != first.RefreshToken {
			t.Errorf("another pair: %s", again.text)
		}
	}
	f.expectAccess(f.access, http.StatusOK, http.StatusUnauthorized, http.StatusForbidden)
	f.expectAccess(first.AccessToken, http.StatusOK)
}

func checkRenewReuse(t *testing.T, w *world) {
	f := w.newRenewable(t)
	first := f.renew(w)
	f.expectAccess(first.AccessToken, http.StatusOK) // so its receiver has it
	f.expectError("reuse", f.try(), 400, "invalid_grant")
	f.expectAccess(first.AccessToken, http.StatusUnauthorized, http.StatusForbidden)
	f.adopt(first)
	f.expectError("after a reuse", f.try(), 400, "invalid_grant")
	// Only the control plane can give the counterparty new tokens, so it has to know.
	f.expect("STARTED")
	if said := f.office.expect(t, f.id, "errored")[0]; !strings.Contains(said.Error, "refresh token") {
		t.Errorf("errored says %s", said.body)
	}
	if d := f.detail(); !strings.Contains(d.Fault, "refresh token") {
		t.Errorf("the operator sees the fault %q", d.Fault)
	}
	f.tell("suspend", nil)
	f.learn(w, f.tell("resume", nil).DataAddress)
	f.renew(w)
	if d := f.detail(); d.Fault != "" {
		t.Errorf("after resume: %q", d.Fault)
	}
}

func checkRenewKeys(t *testing.T, w *world) {
	f := w.newRenewable(t)
	step := func(what string) {
		t.Helper()
		var got tokens
		soon(t, what, func() bool { got = f.try(); return got.code == http.StatusOK })
		f.expectAccess(got.AccessToken, http.StatusOK)
		f.adopt(got)
	}
	step("the first key")
	old := *f.party
	f.party.rotate(t)
	step("another key under the same DID")
	soon(t, "the former key is not good any more", func() bool {
		return f.ask(refreshForm(f.refresh), nil, old.assertion(t, ourDID, f.access, nil)).code == http.StatusUnauthorized
	})
	_, fragment, _ := strings.Cut(f.party.kid, "#")
	f.party.kid = "#" + fragment
	step("a relative kid")
	f.party.publish(t, "#"+fragment)
	step("a relative id in the document")
}

func checkRenewDIDs(t *testing.T, w *world) {
	_, edwards, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	large, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	published := w.dids.newParty(t, strings.ToLower(newID()[:10]))
	published.key = large
	published.publish(t, published.kid)
	parties := []*party{published, {key: newKey(t)}, {key: large}, {key: edwards}, {key: edwards}}
	for _, p := range parties[1:] {
		p.did, p.kid = didJWK(t, p.key.Public())
	}
	parties[4].did, parties[4].kid = didKey(edwards.Public().(ed25519.PublicKey))
	for _, p := range parties {
		f := w.newRenewableOf(t, p)
		f.adopt(f.renew(w))
		f.renew(w)
	}
}

func checkRenewDIDGuarded(t *testing.T, w *world) {
	for _, host := range []string{"10.1.2.3", "169.254.169.254"} {
		did := "did:web:" + host
		f := w.newRenewableOf(t, &party{did: did, kid: did + "#key-1", key: newKey(t)})
		f.expectError(did, f.try(), 401, "invalid_client")
		eventually(t, "the log says that "+host+" is not called", func() bool { // it comes through a pipe
			return strings.Contains(f.host.process.stderr.String(), "connections to "+host)
		})
	}
}

func checkRenewAtOnce(t *testing.T, w *world) {
	f := w.newRenewable(t)
	answers := make([]tokens, 4)
	var all sync.WaitGroup
	for i := range answers {
		all.Go(func() { answers[i] = f.try() })
	}
	all.Wait()
	for _, got := range answers {
		if got.code != http.StatusOK || got.AccessToken != answers[0].AccessToken || got.RefreshToken != answers[0].RefreshToken {
			t.Errorf("%d %s, first %s", got.code, got.text, answers[0].text)
		}
	}
	f.expectAccess(answers[0].AccessToken, http.StatusOK)
}

func checkRenewSuspended(t *testing.T, w *world) {
	f := w.newRenewable(t)
	f.tell("suspend", nil)
	f.expectError("while SUSPENDED", f.try(), 400, "invalid_grant")
	before := *f
	f.learn(w, f.tell("resume", nil).DataAddress)
	before.expectError("of before", before.try(), 400, "invalid_grant")
	got := f.renew(w)
	f.expectAccess(got.AccessToken, http.StatusOK)
}

func checkRenewPrevious(t *testing.T, w *world) {
	f := w.newRenewable(t)
	original := f.access
	got := f.renew(w)
	f.adopt(got)
	previous := f.ask(refreshForm(f.refresh), nil, f.party.assertion(t, ourDID, original, nil))
	if previous.code != http.StatusOK {
		t.Fatalf("with the access token before: %d %s", previous.code, previous.text)
	}
	f.adopt(previous)
	earlier := f.ask(refreshForm(f.refresh), nil, f.party.assertion(t, ourDID, original, nil))
	f.expectError("with the one before that", earlier, 400, "invalid_grant")
}
