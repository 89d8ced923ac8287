//go:build linux

package e2e_test

import (
	"net/http"
	"strings"
	"testing"
)

// exchangeRules are about tokens that are exchanged for others (RFC 8693).
func exchangeRules() []rule {
	return []rule{
		{"X1", "1.7 token exchange, 4.8.11",
			"our own credential is exchanged as the profile says, and the token used until it expires", checkExchange},
		{"X2", "1.7 token exchange, 4.8.11, trap 45",
			"a caller is client_id or else sub, in its participant context", checkExchangedCaller},
		{"X3", "1.7 token exchange, trap 44, trap 43", "iss, aud, scope and exp are looked at", checkExchangedClaims},
		{"X4", "1.7 token exchange", "an exchange that is refused is tried again", checkExchangeRefused},
		{"X5", "trap 46, trap 22", "a registration can name the metadata of its authorization server", checkExchangeMetadata},
	}
}

const exchangeGrant = "urn:ietf:params:oauth:grant-type:token-exchange"

func checkExchange(t *testing.T, w *world) {
	w.exchange.Lock()
	defer w.exchange.Unlock()
	c := w.contexts(t, "alice-1")
	f := c.newFlow("http-push", "small", newAddress(newReceiver(t).url+"/x")).start()
	first := c.office.expect(t, f.id, "completed")[0] // the office checks the token
	all := w.issuer(t).asked(exchangeGrant)
	if len(all) == 0 {
		t.Fatal("nothing was exchanged")
	}
	for name, want := range map[string]string{
		"subject_token_type": "urn:ietf:params:oauth:token-type:jwt", "resource": "https://alice-1.example/dps",
		"audience": "https://alice-1.example", "scope": "dps", "client_id": "", "client_secret": "",
	} {
		if got := all[0].form.Get(name); got != want {
			t.Errorf("%s is %q, not %q", name, got, want)
		}
	}
	if all[0].basic || all[0].form.Get("subject_token") == "" {
		t.Errorf("the request is %v", all[0].form)
	}
	g := c.newFlow("http-push", "small", newAddress(newReceiver(t).url+"/x")).start()
	if second := c.office.expect(t, g.id, "completed")[0]; second.header.Get("Authorization") != first.header.Get("Authorization") {
		t.Error("a token that is good was not used again")
	}
}

// expectExchanged checks what a token with changed claims is worth.
func expectExchanged(t *testing.T, w *world, code int, changes map[string]any) {
	t.Helper()
	c := w.contexts(t, "alice-1")
	f := c.newFlow("http-pull", "small", nil).start()
	c.authorize = bearer(func() string { return w.issuer(t).forge(t, w.exchangedClaims(changes)) })
	if r := c.status(f.id); r.code != code {
		t.Errorf("claims %v: %d %s, not %d", changes, r.code, r.text, code)
	}
}

func checkExchangedCaller(t *testing.T, w *world) {
	expectExchanged(t, w, http.StatusOK, nil)
	expectExchanged(t, w, http.StatusOK, map[string]any{"client_id": nil, "sub": "alice-1"})
	expectExchanged(t, w, http.StatusUnauthorized, map[string]any{"client_id": "alice-2", "participant_context": "bob"})
	expectExchanged(t, w, http.StatusUnauthorized, map[string]any{"participant_context": "bob"})
	expectExchanged(t, w, http.StatusUnauthorized, map[string]any{"client_id": "mallory", "participant_context": nil})
}

func checkExchangedClaims(t *testing.T, w *world) {
	for _, changes := range []map[string]any{
		{"iss": "https://evil.example"}, {"iss": nil}, {"aud": "e2e"}, {"aud": nil}, {"scope": "other"}, {"scope": nil}, {"scope": "dpsx"},
		{"exp": nil}, {"exp": 1}, {"iat": nil},
	} {
		expectExchanged(t, w, http.StatusUnauthorized, changes)
	}
	several := []string{"x", "https://dataplane.example"}
	expectExchanged(t, w, http.StatusOK, map[string]any{"aud": several, "act": map[string]any{"sub": "x"}})
}

func checkExchangeRefused(t *testing.T, w *world) {
	w.exchange.Lock()
	defer w.exchange.Unlock()
	c := w.contexts(t, "alice-1")
	i := w.issuer(t)
	h := c.host
	f := c.newFlow("http-push", "small", newAddress(newReceiver(t).url+"/x"))
	c.office.answer("completed", f.id, http.StatusUnauthorized, http.StatusUnauthorized) // so that new tokens are needed
	before := len(i.asked(exchangeGrant))
	raw := w.writeSubjectToken(t, h, i)
	f.start()
	c.office.expect(t, f.id, "completed")
	all := i.asked(exchangeGrant)
	if len(all) == before {
		t.Fatal("nothing was exchanged")
	}
	if got := all[len(all)-1].form.Get("subject_token"); got != raw {
		t.Error("the credential was not read again")
	}
	// The credential is withdrawn for a while.
	g := c.newFlow("http-push", "small", newAddress(newReceiver(t).url+"/x"))
	c.office.answer("completed", g.id, http.StatusUnauthorized)
	i.distrust(raw)
	g.start()
	soon(t, "the callback fails for want of a token", func() bool {
		var d flowDetail
		g.ask(http.MethodGet, "/api/v1/flows/"+g.id+"?context=alice", nil, &d)
		return len(d.Callbacks) == 1 && d.Callbacks[0].LastError != ""
	})
	w.writeSubjectToken(t, h, i)
	c.office.expect(t, g.id, "completed")
}

func checkExchangeMetadata(t *testing.T, w *world) {
	at := w.contexts(t, "alice-1")
	at.authorize = header("X-Api-Key", w.known("registration key of alice"))
	i := w.issuer(t)
	register := func(from string, changes message) reply {
		return at.send(http.MethodPut, "/controlplanes", message{"controlplaneId": "alice-" + newID()[:8], "endpoint": "http://127.0.0.1:1/x",
			"authorization": message{"type": "oauth2_token_exchange", "metadataEndpoint": from}.with(changes)})
	}
	// All that is wrong with it is what only the metadata can say: who the issuer is. That one's tokens name alice-1.
	if r := register(i.url+"/.well-known/openid-configuration", nil); r.code != http.StatusConflict || !strings.Contains(r.Detail, "issuer") {
		t.Errorf("metadata: %d %s", r.code, r.text)
	}
	for what, c := range map[string]struct {
		from    string
		changes message
		field   string
	}{
		"another issuer": {i.url + "/.well-known/openid-configuration", message{"issuer": "https://other.example"}, "authorization.issuer"},
		"not there":      {i.url + "/nowhere", nil, "authorization.metadataEndpoint"},
		"in a network":   {"https://10.0.0.1/metadata", nil, "authorization.metadataEndpoint"},
		"no URL":         {"metadata", nil, "authorization.metadataEndpoint"},
	} {
		if r := register(c.from, c.changes); r.code != http.StatusBadRequest || r.Field != c.field {
			t.Errorf("%s: %d %s", what, r.code, r.text)
		}
	}
}
