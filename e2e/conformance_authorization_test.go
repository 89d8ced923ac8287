//go:build linux

package e2e_test

import (
	"crypto/rand"
	"crypto/rsa"
	"encoding/base64"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
)

// authorizationRules are about who may call, and how we call.
func authorizationRules() []rule {
	return []rule{
		{"Z1", "trap 47, 1.7 client credentials", "no operation goes without authorization", checkNoToken},
		{"Z2", "trap 42, 1.7 client credentials", "a token is good until it expires, also if it has a jti", checkTokenTwice},
		{"Z3", "trap 45, 1.7 client credentials", "sub is the control plane", checkSubject},
		{"Z4", "trap 44, 1.7 client credentials", "aud is this data plane", checkAudience},
		{"Z5", "1.7 client credentials", "iss is the issuer that was configured", checkIssuer},
		{"Z6", "1.7 client credentials, trap 43", "exp has to be there and not past, give or take a minute", checkExpiry},
		{"Z7", "trap 43, 1.7 client credentials",
			"only what the issuer's keys have signed is good, and only by algorithms for that", checkSignature},
		{"Z8", "trap 43, 1.6 replace", "keys that are replaced at their URL are replaced here", checkKeyRotation},
		{"Z9", "1.7 client credentials, trap 24, 4.8.11",
			"callbacks carry a token that names us, which is fetched again when it is refused", checkOutboundToken},
		{"Z10", "trap 43", "to trust tokens without keys has to be said", checkUnsafeConfiguration},
		{"Z11", "trap 2, trap 45", "a control plane has no access to the flows of another one", checkOtherControlPlane},
		{"Z12", "trap 2", "an id in one participant context is not that in another", checkOtherContext},
		{"Z13", "trap 2", "a participant has its own datasets", checkDatasetsOfContexts},
		{"Z14", "trap 42", "where it is wanted, a token is good once", checkSingleUse},
		{"Z15", "trap 47", "a secret in a header works for who has it", checkStatic},
		{"Z16", "trap 44", "aud can be one of several", checkAudiences},
		{"Z17", "trap 47", "the admin API wants its token, but for health", checkAdminToken},
		{"Z18", "trap 41, 1.2 start", "Location has the path that the API lies below", checkLocationBelowPath},
		{"Z19", "trap 47, 2.1 https", "mutual TLS lets nobody in without a certificate", checkMutualTLS},
		{"Z20", "trap 47",
			"without an authorization for each of several control planes, a host does not start", checkAmbiguousConfiguration},
	}
}

// operations are all that a control plane can do, about a flow with an id.
func operations(id string) []struct{ method, path string } {
	all := []struct{ method, path string }{
		{http.MethodPost, "/dataflows/prepare"}, {http.MethodPost, "/dataflows/start"},
		{http.MethodGet, "/dataflows/" + id + "/status"}, {http.MethodGet, "/dataflows/" + id},
		{http.MethodPost, "/dataflows/" + id + "/start"}, {http.MethodPost, "/dataflows/" + id + "/complete"},
	}
	for _, op := range []string{"started", "suspend", "resume", "terminate", "completed"} {
		all = append(all, struct{ method, path string }{http.MethodPost, "/dataflows/" + id + "/" + op})
	}
	return all
}

// expectUnauthorized checks that a caller can do nothing.
func (f *flowOf) expectUnauthorized(what string, authorize func(*http.Request)) {
	f.t.Helper()
	stranger := *f.caller
	stranger.authorize = authorize
	for _, op := range operations(f.id) {
		body := any(f.create.again())
		if op.method == http.MethodGet {
			body = nil
		}
		r := stranger.send(op.method, op.path, body)
		if r.code != http.StatusUnauthorized || r.header.Get("WWW-Authenticate") == "" || r.State != "" {
			f.t.Errorf("%s: %s %s: %d %s", what, op.method, op.path, r.code, r.text)
		}
	}
	f.expect("STARTED")
}

func checkNoToken(t *testing.T, w *world) {
	c := w.secured(t)
	f := c.newFlow("http-pull", "small", nil).start()
	for what, authorize := range map[string]func(*http.Request){
		"nothing": nil, "empty": header("Authorization", ""), "garbage": header("Authorization", "Bearer garbage"),
		"other scheme": header("Authorization", "Basic Y29ubmVjdG9yOng="), "no scheme": func(r *http.Request) { c.authorize(r); trim(r) },
		"access token of the flow": bearer(func() string { return f.reply.DataAddress.token() }),
	} {
		f.expectUnauthorized(what, authorize)
	}
	alice := w.contexts(t, "alice-1")
	alice.newFlow("http-pull", "small", nil).start().expectUnauthorized("nothing", nil)
}

// trim takes the scheme from a token.
func trim(r *http.Request) {
	r.Header.Set("Authorization", strings.TrimPrefix(r.Header.Get("Authorization"), "Bearer "))
}

func checkTokenTwice(t *testing.T, w *world) {
	c := w.secured(t)
	raw := w.issuer(t).token(t, "connector")
	c.authorize = bearer(func() string { return raw })
	f := c.newFlow("http-pull", "small", nil).start()
	f.tell("suspend", nil)
	f.tell("resume", nil)
	f.expect("STARTED")
}

// connectorClaims are those of a good token, but for what the issuer adds.
func connectorClaims(changes map[string]any) map[string]any {
	return merged(map[string]any{"sub": "connector", "aud": "e2e"}, changes)
}

// expectClaims checks what a token with changed claims is worth at the host secured.
func expectClaims(t *testing.T, w *world, good bool, changes map[string]any) {
	t.Helper()
	c := w.secured(t)
	f := c.newFlow("http-pull", "small", nil).start()
	raw := w.issuer(t).forge(t, connectorClaims(changes))
	c.authorize = bearer(func() string { return raw })
	r := c.status(f.id)
	if want := map[bool]int{true: http.StatusOK, false: http.StatusUnauthorized}[good]; r.code != want {
		t.Errorf("claims %v: %d %s, not %d", changes, r.code, r.text, want)
	}
	if strings.Contains(r.text, raw) || strings.Contains(r.header.Get("WWW-Authenticate"), raw) {
		t.Errorf("the answer repeats the token: %s", r.text)
	}
}

func checkSubject(t *testing.T, w *world) {
	expectClaims(t, w, true, nil)
	for _, sub := range []any{nil, "", "e2e", "connector2", "Connector", 7} {
		expectClaims(t, w, false, map[string]any{"sub": sub})
	}
}

func checkAudience(t *testing.T, w *world) {
	expectClaims(t, w, true, map[string]any{"aud": []string{"other", "e2e"}})
	for _, aud := range []any{nil, "", "connector", []string{}, []string{"other"}, 7} {
		expectClaims(t, w, false, map[string]any{"aud": aud})
	}
}

func checkIssuer(t *testing.T, w *world) {
	for _, iss := range []any{nil, "", "https://evil.example", w.issuer(t).url + "/"} {
		expectClaims(t, w, false, map[string]any{"iss": iss})
	}
}

func checkExpiry(t *testing.T, w *world) {
	in := func(d time.Duration) int64 { return time.Now().Add(d).Unix() }
	for _, good := range []map[string]any{
		{"exp": in(time.Minute)}, {"exp": in(-10 * time.Second)}, {"iat": in(10 * time.Second)}, {"nbf": in(10 * time.Second)}, {"jti": nil},
	} {
		expectClaims(t, w, true, good)
	}
	for _, bad := range []map[string]any{
		{"exp": nil}, {"exp": in(-5 * time.Minute)}, {"exp": "tomorrow"}, {"nbf": in(10 * time.Minute)},
		{"iat": in(10 * time.Minute)}, {"iat": nil},
	} {
		expectClaims(t, w, false, bad)
	}
}

func checkSignature(t *testing.T, w *world) {
	c := w.secured(t)
	i := w.issuer(t)
	f := c.newFlow("http-pull", "small", nil).start()
	now := time.Now()
	claims := connectorClaims(map[string]any{"iss": i.url, "iat": now.Unix(), "exp": now.Add(time.Hour).Unix()})
	i.mu.Lock()
	key := i.keys[len(i.keys)-1]
	i.mu.Unlock()
	good := signJWT(t, jose.ES256, key.key, key.id, claims)
	parts := strings.Split(good, ".")
	encoded := func(header string) string { return base64.RawURLEncoding.EncodeToString([]byte(header)) }
	public, err := key.key.PublicKey.ECDH()
	if err != nil {
		t.Fatal(err)
	}
	foreign, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	tokens := map[string]string{
		"alg none":           encoded(`{"alg":"none"}`) + "." + parts[1] + ".",
		"alg none, signed":   encoded(`{"alg":"none","kid":"`+key.id+`"}`) + "." + parts[1] + "." + parts[2],
		"HMAC by public key": signJWT(t, jose.HS256, public.Bytes(), key.id, claims),
		"other key":          signJWT(t, jose.ES256, newKey(t), key.id, claims),
		"unknown key":        signJWT(t, jose.ES256, newKey(t), "unknown", claims),
		"other algorithm":    signJWT(t, jose.RS256, foreign, key.id, claims),
		"no signature":       parts[0] + "." + parts[1] + ".",
		"changed":            parts[0] + "." + encoded(`{"sub":"connector"}`) + "." + parts[2],
		"two parts":          parts[0] + "." + parts[1],
		"key in the header": encoded(`{"alg":"ES256","jwk":{"kty":"EC","crv":"P-256","x":"AA","y":"AA"},"jku":"http://127.0.0.1:1/"}`) + "." +
			parts[1] + "." + parts[2],
	}
	for what, raw := range tokens {
		c.authorize = bearer(func() string { return raw })
		if r := c.status(f.id); r.code != http.StatusUnauthorized {
			t.Errorf("%s: %d %s", what, r.code, r.text)
		}
	}
	for what, kid := range map[string]string{"kid": key.id, "no kid": ""} {
		c.authorize = bearer(func() string { return signJWT(t, jose.ES256, key.key, kid, claims) })
		if r := c.status(f.id); r.code != http.StatusOK {
			t.Errorf("%s: %d %s", what, r.code, r.text)
		}
	}
}

func checkKeyRotation(t *testing.T, w *world) {
	at := w.dynamic(t)
	r := w.newRegistrant(t, at)
	own := newIssuer(t)
	entry := r.message["authorization"].(message)
	delete(entry, "jwks")
	entry["jwksUri"] = own.jwksURI()
	r.mustRegister(at)
	claims := func() map[string]any { return map[string]any{"sub": r.id, "aud": "e2e"} }
	old := own.forge(t, claims())
	r.authorize = bearer(func() string { return old })
	f := r.newFlow("http-pull", "small", nil).start()
	own.rotate(t)
	fresh := own.forge(t, claims())
	r.authorize = bearer(func() string { return fresh })
	soon(t, "a token by the new key is taken", func() bool { return r.status(f.id).code == http.StatusOK })
	r.authorize = bearer(func() string { return old })
	if got := r.status(f.id); got.code != http.StatusUnauthorized {
		t.Errorf("a token by a key that was withdrawn: %d %s", got.code, got.text)
	}
}

func checkOutboundToken(t *testing.T, w *world) {
	c := w.secured(t)
	f := c.newFlow("http-pull", "always async", nil)
	c.office.answer("started", f.id, http.StatusUnauthorized)
	f.start()
	c.office.expect(t, f.id, "started") // the office checks the token with the issuer's keys
	calls := c.office.about(f.id)
	if calls[0].header.Get("Authorization") == calls[1].header.Get("Authorization") {
		t.Error("after a refusal the same token was sent again")
	}
	for range 3 {
		g := c.newFlow("http-pull", "always async", nil).start()
		said := c.office.expect(t, g.id, "started")[0]
		if said.header.Get("Authorization") != calls[1].header.Get("Authorization") {
			t.Error("a token that is good was not used again")
		}
	}
}

func checkUnsafeConfiguration(t *testing.T, w *world) {
	for what, c := range map[string]struct{ authorization, want string }{
		"no keys": {`issuer = "https://x.example"`, "jwks"},
		"two kinds": {`
    jwks_uri                = "https://x.example/jwks"
    insecure_skip_signature = true`, "insecure_skip_signature"},
		"secret in clear": {`
    jwks_uri       = "https://x.example/jwks"
    token_endpoint = "https://x.example/token"
    client_id      = "x"
    client_secret  = "s"`, "secret"},
	} {
		h := newHost(t, "unsafe", "")
		writeFile(t, h.config+"/common.hcl", groundwork)
		writeFile(t, h.config+"/story.hcl", listeners("", "")+overHTTP+`
control_plane "connector" {
  endpoint = "https://x.example"
  authorization "oauth2_client_credentials" {
    `+c.authorization+`
  }
}
`)
		code, _, stderr := towpath(t, h.env, "validate", "-config", h.config)
		if code != 3 || !strings.Contains(stderr, c.want) {
			t.Errorf("%s: exit code %d\n%s", what, code, stderr)
		}
	}
}

func checkAmbiguousConfiguration(t *testing.T, w *world) {
	h := newHost(t, "ambiguous", "")
	writeFile(t, h.config+"/common.hcl", groundwork)
	writeFile(t, h.config+"/story.hcl", listeners("", "")+overHTTP+`
control_plane "one" {
  endpoint = "https://one.example"
}

control_plane "two" {
  endpoint = "https://two.example"
}
`)
	code, _, stderr := towpath(t, h.env, "validate", "-config", h.config)
	if code != 3 || !strings.Contains(stderr, "authorization") {
		t.Errorf("exit code %d\n%s", code, stderr)
	}
}

// expectStranger checks that a control plane cannot tell a flow of another one from one that does not exist.
func (f *flowOf) expectStranger(other *caller) {
	f.t.Helper()
	for _, op := range operations(f.id)[2:] {
		body := any(message{"messageId": newID()})
		if op.method == http.MethodGet {
			body = nil
		}
		if r := other.send(op.method, op.path, body); r.code != http.StatusNotFound || r.State != "" {
			f.t.Errorf("%s %s by another control plane: %d %s", op.method, op.path, r.code, r.text)
		}
	}
	f.expect("STARTED")
}

func checkOtherControlPlane(t *testing.T, w *world) {
	f := w.contexts(t, "alice-1").newFlow("http-pull", "small", nil).start()
	f.expectStranger(w.contexts(t, "alice-2"))
	f.expectStranger(w.contexts(t, "bob-1"))
	// The id is taken in alice's context, whoever has it.
	other := w.contexts(t, "alice-2")
	if r := other.post("start", f.create.again()); r.code/100 != 4 {
		t.Errorf("start with the id of another control plane's flow: %d %s", r.code, r.text)
	}
	if r := other.post("start", f.create); r.code/100 != 4 {
		t.Errorf("with its messageId too: %d %s", r.code, r.text)
	}
	f.expect("STARTED")
}

func checkOtherContext(t *testing.T, w *world) {
	alice := w.contexts(t, "alice-1").newFlow("http-pull", "small", nil).start()
	bob := w.contexts(t, "bob-1").newFlow("http-pull", "small", nil)
	bob.id = alice.id
	bob.create["dataFlowId"] = alice.id
	bob.start()
	if bob.reply.DataAddress.Endpoint == alice.reply.DataAddress.Endpoint {
		t.Errorf("two flows have one address: %s", bob.reply.DataAddress.Endpoint)
	}
	crossed := *bob.reply.DataAddress
	crossed.Endpoint = alice.reply.DataAddress.Endpoint
	alice.expectReads(&crossed, http.StatusForbidden)
	bob.tell("terminate", nil)
	alice.expect("STARTED")
	alice.expectReads(alice.reply.DataAddress, http.StatusOK)
}

func checkDatasetsOfContexts(t *testing.T, w *world) {
	bob, alice := w.contexts(t, "bob-1"), w.contexts(t, "alice-1")
	bob.newFlow("http-pull", "of bob", nil).start()
	if r := alice.refuse(http.StatusBadRequest, "start", alice.newFlow("http-pull", "of bob", nil).create); r.Field != "datasetId" {
		t.Errorf("%s", r.text)
	}
	alice.refuse(http.StatusBadRequest, "start", alice.newFlow("http-pull", "endless", nil).create) // of the default context
}

func checkSingleUse(t *testing.T, w *world) {
	c := w.contexts(t, "alice-2")
	f := c.newFlow("http-pull", "small", nil).start() // with a new token for each request
	f.expect("STARTED")
	raw := w.alice2Token(t, nil)
	c.authorize = bearer(func() string { return raw })
	if r := c.status(f.id); r.code != http.StatusOK {
		t.Errorf("the first time: %d %s", r.code, r.text)
	}
	if r := c.status(f.id); r.code != http.StatusUnauthorized {
		t.Errorf("the second time: %d %s", r.code, r.text)
	}
	without := w.alice2Token(t, map[string]any{"jti": nil})
	c.authorize = bearer(func() string { return without })
	if r := c.status(f.id); r.code != http.StatusUnauthorized {
		t.Errorf("without jti: %d %s", r.code, r.text)
	}
}

func checkStatic(t *testing.T, w *world) {
	for id, wrong := range map[string]func(*http.Request){
		"bob-1": header("X-Api-Key", "secret-WRONG"), "bob-2": header("Authorization", "Bearer secret-WRONG"),
	} {
		c := w.contexts(t, id)
		f := c.newFlow("http-push", "small", newAddress(newReceiver(t).url+"/x"))
		g := c.newFlow("http-pull", "small", nil).start()
		f.start()
		c.office.expect(t, f.id, "completed") // the office checks the secret
		g.expectUnauthorized(id, wrong)
		g.expectUnauthorized(id, nil)
	}
	// A secret for calling is none for being called.
	c := w.contexts(t, "bob-1")
	c.newFlow("http-pull", "small", nil).start().expectUnauthorized("outbound", header("X-Api-Key", w.known("outbound key of bob-1")))
}

func checkAudiences(t *testing.T, w *world) {
	c := w.contexts(t, "alice-2")
	for aud, want := range map[string]int{"e2e": 200, "plane": 200, "alice-2": 401, "https://dataplane.example": 401} {
		c.authorize = bearer(func() string { return w.alice2Token(t, map[string]any{"aud": aud}) })
		if r := c.post("start", c.newFlow("http-pull", "small", nil).create); r.code != want {
			t.Errorf("aud %s: %d %s, not %d", aud, r.code, r.text, want)
		}
	}
}

func checkAdminToken(t *testing.T, w *world) {
	c := w.secured(t)
	token := c.adminToken
	for _, path := range []string{"/api/v1/flows", "/api/v1/plugins", "/api/v1/datasets", "/api/v1/controlplanes", "/metrics"} {
		for _, given := range []string{"", "wrong", token} {
			want := map[bool]int{true: 200, false: 401}[given == token]
			c.adminToken = given
			if r := c.ask(http.MethodGet, path, nil, nil); r.code != want {
				t.Errorf("%s with the token %q: %d %s", path, given, r.code, r.text)
			}
		}
	}
	c.adminToken = ""
	for _, path := range []string{"/healthz", "/readyz"} {
		if r := c.ask(http.MethodGet, path, nil, nil); r.code != http.StatusOK {
			t.Errorf("%s: %d %s", path, r.code, r.text)
		}
	}
}

func checkLocationBelowPath(t *testing.T, w *world) {
	c := w.secured(t)
	f := c.newFlow("http-pull", "always async", nil).start()
	if want := "/api/v1/dataflows/" + f.id + "/status"; f.reply.header.Get("Location") != want {
		t.Errorf("Location is %q, not %q", f.reply.header.Get("Location"), want)
	}
	c.office.expect(t, f.id, "started")
}

func checkMutualTLS(t *testing.T, w *world) {
	c := w.strict(t)
	for what, stranger := range map[string]*http.Client{
		"no certificate": w.ca.client(t, ""), "of another authority": w.strangerClient(t),
	} {
		resp, err := stranger.Get(c.base + "/dataflows/x/status")
		if err == nil {
			resp.Body.Close()
			t.Errorf("%s: %d", what, resp.StatusCode)
		}
	}
	c.newFlow(httpPull, "small", nil).start()
}

// strangerClient trusts the world's authority, but has a certificate of another one.
func (w *world) strangerClient(t testing.TB) *http.Client {
	other := newAuthority(t).client(t, "stranger")
	other.Transport.(*http.Transport).TLSClientConfig.RootCAs = w.ca.roots
	return other
}
