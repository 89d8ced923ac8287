package signaling

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"
)

// TestWhoCalls: which credential is whose, and what others are answered.
func TestWhoCalls(t *testing.T) {
	idp, broker := newAuthority(t), newAuthority(t)
	own, stranger := newSigningKey(t, ""), newSigningKey(t, "k1")
	gone := httptest.NewServer(http.NotFoundHandler())
	gone.Close()
	cp := func(id, context string, in Inbound) ControlPlane {
		return ControlPlane{ID: id, Context: context, Endpoint: "https://" + id + ".example", Inbound: in}
	}
	cc := func(in Inbound) Inbound { in.Type = AuthClientCredentials; return in }
	exchange := func(in Inbound) Inbound {
		in.Type, in.Issuer, in.JWKSURI = AuthTokenExchange, "https://broker", broker.URL+"/jwks"
		return in
	}
	p := planeFor(t, Options{}, DirectoryOptions{ControlPlanes: []ControlPlane{
		cp("static", "", Inbound{Type: AuthStatic, Secret: "s3cret"}),
		cp("apikey", "alice", Inbound{Type: AuthStatic, Header: "X-Api-Key", Secret: "k3y"}),
		cp("uri", "alice", cc(Inbound{JWKSURI: idp.URL + "/jwks"})),
		cp("inline", "bob", cc(Inbound{JWKS: own.jwks(), Issuer: "https://idp.example", Subject: "in", Audiences: []string{"x", "y"}, RequiredScope: "dps"})),
		cp("once", "bob", cc(Inbound{JWKSURI: idp.URL + "/jwks", SingleUse: true})),
		cp("trusted", "bob", cc(Inbound{InsecureSkipSignature: true})),
		cp("gone", "bob", cc(Inbound{JWKSURI: gone.URL})),
		cp("carol", "carol", exchange(Inbound{})),
		cp("dave-1", "dave", exchange(Inbound{Subject: "svc"})),
		cp("dave-2", "dave", exchange(Inbound{RequiredScope: "dps"})),
		cp("erin-1", "erin", exchange(Inbound{})),
		cp("erin-2", "erin", exchange(Inbound{})),
	}})
	type claims = map[string]any
	viaBroker := func(c claims) string { c["iss"] = "https://broker"; return broker.key.sign(c) }
	once := idp.key.sign(claims{"sub": "once", "jti": "1"})
	none := "the request has no credential of a control plane"
	unknown := "the token is not one of a control plane that is known here"
	tests := []struct {
		name, header, value string // header "": Authorization
		want                string // "id context", or the code and the detail
	}{
		{"static", "", "Bearer s3cret", "static default"},
		{"static, other case", "", "bearer s3cret", "static default"},
		{"static, wrong", "", "Bearer s3cre", "401 " + unknown},
		{"static, as it is", "", "s3cret", "401 " + none},
		{"static, as basic", "", "Basic s3cret", "401 " + none},
		{"static, in the wrong field", "X-Api-Key", "s3cret", "401 " + none},
		{"api key", "X-Api-Key", "k3y", "apikey alice"},
		{"api key, wrong", "X-Api-Key", "k3", "401 " + none},
		{"api key, empty", "X-Api-Key", "", "401 " + none},
		{"api key in the wrong field", "", "Bearer k3y", "401 " + unknown},
		{"none", "", "", "401 " + none},
		{"no token", "", "Bearer ", "401 " + none},

		{"by URL", "", "Bearer " + idp.key.sign(claims{"sub": "uri"}), "uri alice"},
		{"any issuer", "", "Bearer " + idp.key.sign(claims{"sub": "uri", "iss": "https://any"}), "uri alice"},
		{"aud is a list", "", "Bearer " + idp.key.sign(claims{"sub": "uri", "aud": []string{"x", "dp"}}), "uri alice"},
		{"clocks apart", "", "Bearer " + idp.key.sign(claims{"sub": "uri", "exp": time.Now().Add(-30 * time.Second).Unix()}), "uri alice"},
		{"expired", "", "Bearer " + idp.key.sign(claims{"sub": "uri", "exp": time.Now().Add(-2 * time.Minute).Unix()}), "401 the token has expired"},
		{"not issued yet", "", "Bearer " + idp.key.sign(claims{"sub": "uri", "iat": time.Now().Add(2 * time.Minute).Unix()}), "401 …iat"},
		{"never expires", "", "Bearer " + idp.key.sign(claims{"sub": "uri", "exp": nil}), "401 …exp"},
		{"without iat", "", "Bearer " + idp.key.sign(claims{"sub": "uri", "iat": nil}), "401 …iat"},
		{"for someone else", "", "Bearer " + idp.key.sign(claims{"sub": "uri", "aud": "other"}), "401 …aud"},
		{"for nobody", "", "Bearer " + idp.key.sign(claims{"sub": "uri", "aud": nil}), "401 …aud"},
		{"unknown subject", "", "Bearer " + idp.key.sign(claims{"sub": "nobody"}), "401 " + unknown},
		{"no subject", "", "Bearer " + idp.key.sign(claims{}), "401 " + unknown},
		{"foreign key", "", "Bearer " + stranger.sign(claims{"sub": "uri"}), "401 " + unknown},
		{"foreign key, and expired", "", "Bearer " + stranger.sign(claims{"sub": "uri", "exp": 1}), "401 " + unknown},
		{"unsigned", "", "Bearer " + unsigned(claims{"sub": "uri", "aud": "dp"}), "401 " + unknown},

		{"inline", "", "Bearer " + own.sign(claims{"sub": "in", "aud": "y", "scope": "a dps"}), "inline bob"},
		{"its id is not its subject", "", "Bearer " + own.sign(claims{"sub": "inline", "aud": "y", "scope": "dps"}), "401 " + unknown},
		{"other issuer", "", "Bearer " + own.sign(claims{"sub": "in", "aud": "y", "scope": "dps", "iss": "https://x"}), "401 " + unknown},
		{"default audience", "", "Bearer " + own.sign(claims{"sub": "in", "scope": "dps"}), "401 …aud"},
		{"no scope", "", "Bearer " + own.sign(claims{"sub": "in", "aud": "y", "scope": "dpsx x"}), "401 …scope"},
		{"once", "", "Bearer " + once, "once bob"},
		{"twice", "", "Bearer " + once, "401 the token was used before"},
		{"once, without an id", "", "Bearer " + idp.key.sign(claims{"sub": "once"}), "401 …jti"},
		{"anyone's word", "", "Bearer " + stranger.sign(claims{"sub": "trusted"}), "trusted bob"},
		{"not anyone's audience", "", "Bearer " + stranger.sign(claims{"sub": "trusted", "aud": "x"}), "401 …aud"},
		{"no keys", "", "Bearer " + idp.key.sign(claims{"sub": "gone"}), "503 the keys to verify the token with cannot be fetched at present"},

		{"by context", "", "Bearer " + viaBroker(claims{"sub": "x", "participant_context": "carol"}), "carol carol"},
		{"by client id", "", "Bearer " + viaBroker(claims{"sub": "x", "client_id": "carol"}), "carol carol"},
		{"by subject", "", "Bearer " + viaBroker(claims{"sub": "carol"}), "carol carol"},
		{"client id before subject", "", "Bearer " + viaBroker(claims{"sub": "carol", "client_id": "x"}), "401 " + unknown},
		{"in another context", "", "Bearer " + viaBroker(claims{"sub": "carol", "participant_context": "dave"}), "401 …scope"},
		{"of another issuer", "", "Bearer " + broker.key.sign(claims{"sub": "carol"}), "401 " + unknown},
		{"unsigned by the broker", "", "Bearer " + idp.key.sign(claims{"sub": "carol", "iss": "https://broker"}), "401 " + unknown},
		{"by its subject", "", "Bearer " + viaBroker(claims{"sub": "x", "client_id": "svc", "participant_context": "dave"}), "dave-1 dave"},
		{"by context with scope", "", "Bearer " + viaBroker(claims{"sub": "x", "participant_context": "dave", "scope": "dps"}), "dave-2 dave"},
		{"one of two", "", "Bearer " + viaBroker(claims{"sub": "erin-2", "participant_context": "erin"}), "erin-2 erin"},
		{"either of two", "", "Bearer " + viaBroker(claims{"sub": "x", "participant_context": "erin"}), "401 " + unknown},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			p.log.reset()
			r := httptest.NewRequest("POST", "/dataflows/f/terminate", strings.NewReader(`{"messageId":"m"}`))
			if tt.header != "" || tt.value != "" {
				r.Header.Set(first(tt.header, "Authorization"), tt.value)
			}
			w := httptest.NewRecorder()
			before, _ := p.last()
			p.ServeHTTP(w, r)
			got := whoCalled(t, p, w)
			code, claim, partly := strings.Cut(tt.want, "…")
			if partly && (!strings.HasPrefix(got, code) || !strings.Contains(got, claim)) || !partly && got != tt.want {
				t.Errorf("%s", got)
			}
			if after, _ := p.last(); w.Code != http.StatusNotFound && after.Message.Key != before.Message.Key {
				t.Error("the engine was asked")
			}
			if secret := strings.TrimPrefix(tt.value, "Bearer "); len(secret) > 6 && strings.Contains(p.log.String()+w.Body.String(), secret) {
				t.Error("the credential shows")
			}
		})
	}
	if n := idp.fetches(); n > 2 {
		t.Errorf("the keys were fetched %d times", n)
	}
}

// whoCalled says whom the engine was told of, or what was answered instead. The engine knows no flow.
func whoCalled(t *testing.T, p plane, w *httptest.ResponseRecorder) string {
	t.Helper()
	if w.Code == http.StatusNotFound {
		c, _ := p.last()
		return c.Message.ControlPlane + " " + c.Message.Key.Context
	}
	conforms(t, "Problem", w.Body.Bytes())
	switch {
	case w.Code == http.StatusUnauthorized && !strings.HasPrefix(w.Header().Get("WWW-Authenticate"), "Bearer"):
		t.Errorf("header %v", w.Header())
	case w.Code == http.StatusServiceUnavailable && w.Header().Get("Retry-After") == "":
		t.Errorf("header %v", w.Header())
	}
	return fmt.Sprint(w.Code, " ", problemIn(t, w).Detail)
}

// Two header fields could be read differently by others on the way.
func TestTwoCredentials(t *testing.T) {
	p := planeFor(t, Options{}, DirectoryOptions{ControlPlanes: []ControlPlane{
		{ID: "a", Endpoint: "https://a.example", Inbound: Inbound{Type: AuthStatic, Secret: "s"}},
		{ID: "b", Endpoint: "https://b.example", Inbound: Inbound{Type: AuthStatic, Header: "X-Key", Secret: "k"}},
	}})
	for _, header := range []http.Header{{"Authorization": {"Bearer s", "Bearer x"}}, {"X-Key": {"k", "x"}}, {"X-Key": {"x", "k"}}} {
		r := httptest.NewRequest("GET", "/dataflows/f/status", nil)
		r.Header = header
		w := httptest.NewRecorder()
		p.ServeHTTP(w, r)
		if w.Code != http.StatusUnauthorized {
			t.Errorf("%v: %d", header, w.Code)
		}
	}
}

// Every operation asks who calls, and a flow is that of one control plane.
func TestEveryOperationIsGuarded(t *testing.T) {
	p := planeFor(t, Options{}, DirectoryOptions{ControlPlanes: []ControlPlane{
		{ID: "a", Endpoint: "https://a.example", Inbound: Inbound{Type: AuthStatic, Secret: "sa"}},
		{ID: "b", Endpoint: "https://b.example", Inbound: Inbound{Type: AuthStatic, Secret: "sb"}},
		{ID: "c", Context: "c", Endpoint: "https://c.example", Inbound: Inbound{Type: AuthStatic, Secret: "sc"}},
	}})
	as := func(secret, method, path, body string) *httptest.ResponseRecorder {
		r := httptest.NewRequest(method, path, strings.NewReader(body))
		if secret != "" {
			r.Header.Set("Authorization", "Bearer "+secret)
		}
		w := httptest.NewRecorder()
		p.ServeHTTP(w, r)
		return w
	}
	if w := as("sa", "POST", "/dataflows/start", flowMessage("1", "f", "x-pull")); w.Code != http.StatusOK {
		t.Fatal(w.Body)
	}
	for _, to := range []struct{ method, path, body string }{
		{"POST", "/dataflows/prepare", flowMessage("2", "g", "x-pull")},
		{"POST", "/dataflows/start", flowMessage("2", "g", "x-pull")},
		{"POST", "/dataflows/f/started", `{}`},
		{"POST", "/dataflows/f/suspend", `{}`},
		{"POST", "/dataflows/f/resume", `{}`},
		{"POST", "/dataflows/f/terminate", `{}`},
		{"POST", "/dataflows/f/completed", ``},
		{"GET", "/dataflows/f/status", ``},
		{"HEAD", "/dataflows/f/status", ``},
		{"GET", "/dataflows/f", ``},
		{"POST", "/dataflows/dataflows/f/start", `{}`},
		{"PUT", "/dataflows/f/status", `{}`},
	} {
		for _, secret := range []string{"", "wrong"} {
			if w := as(secret, to.method, to.path, to.body); w.Code != http.StatusUnauthorized || w.Header().Get("WWW-Authenticate") == "" {
				t.Errorf("%s %s with %q: %d", to.method, to.path, secret, w.Code)
			}
		}
		if strings.Contains(to.path, "/f") && to.method != "PUT" {
			for _, secret := range []string{"sb", "sc"} {
				if w := as(secret, to.method, to.path, to.body); w.Code != http.StatusNotFound {
					t.Errorf("%s %s with %q: %d", to.method, to.path, secret, w.Code)
				}
			}
		}
	}
	if w := as("sc", "POST", "/dataflows/start", flowMessage("1", "f", "x-pull")); w.Code != http.StatusOK {
		t.Errorf("the same id in another participant context: %s", w.Body)
	}
}
