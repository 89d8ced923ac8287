package signaling

import (
	"encoding/base64"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/towpath-dataplane/towpath/host/flow"
)

// Who may register takes over nothing of the operator's control planes by registering what their tokens say besides.
func TestRegistrationCapturesNoTokens(t *testing.T) {
	broker := newAuthority(t)
	exchange := func(subject string) Inbound {
		return Inbound{Type: AuthTokenExchange, Issuer: "https://broker", JWKSURI: broker.URL + "/jwks", Subject: subject}
	}
	p := planeFor(t, Options{}, DirectoryOptions{Documents: newShelf(), Outbound: loopbackPolicy(t),
		RegistrationKeys: map[string]string{"alice": "alice-key", "bob": "bob-key"}, ControlPlanes: []ControlPlane{
			{ID: "by-context", Context: "alice", Endpoint: "https://a.example", Inbound: exchange("")},
			{ID: "by-client", Context: "carol", Endpoint: "https://c.example", Inbound: exchange("client")},
		}})
	for key, id := range map[string]string{"alice-key": "service", "bob-key": "person"} {
		r := httptest.NewRequest("PUT", "/controlplanes", strings.NewReader(registrationMessage("controlplaneId", `"`+id+`"`, ".jwks", "",
			".jwksUri", `"`+broker.URL+`/jwks"`)))
		r.Header.Set("X-Api-Key", key)
		w := httptest.NewRecorder()
		if p.ServeHTTP(w, r); w.Code != http.StatusOK {
			t.Fatal(w.Body)
		}
	}
	for _, tt := range []struct {
		claims map[string]any
		want   string
	}{
		{map[string]any{"sub": "service", "participant_context": "alice"}, "by-context alice"},
		{map[string]any{"sub": "person", "participant_context": "alice"}, "by-context alice"},
		{map[string]any{"sub": "person", "client_id": "client", "participant_context": "carol"}, "by-client carol"},
		{map[string]any{"sub": "person", "client_id": "client"}, "by-client carol"},
		{map[string]any{"sub": "person"}, "person bob"},
	} {
		tt.claims["iss"] = "https://broker"
		r := httptest.NewRequest("POST", "/dataflows/f/terminate", strings.NewReader(`{"messageId":"m"}`))
		r.Header.Set("Authorization", "Bearer "+broker.key.sign(tt.claims))
		w := httptest.NewRecorder()
		p.ServeHTTP(w, r)
		if got := whoCalled(t, p, w); got != tt.want {
			t.Errorf("%v: %s, want %s", tt.claims, got, tt.want)
		}
	}
}

// Nor does one registration of another.
func TestRegistrationCapturesNoTokensOfOthers(t *testing.T) {
	idp := newAuthority(t)
	f := newFront(t)
	for key, id := range map[string]string{"alice-key": "service", "bob-key": "person"} {
		exchange := []string{"controlplaneId", `"` + id + `"`, ".jwks", "", ".jwksUri", `"` + idp.URL + `/jwks"`}
		if id == "service" {
			exchange = append(exchange, ".type", `"oauth2_token_exchange"`, ".tokenExchangeEndpoint", `"`+f.broker+`"`, ".issuer", `"https://idp.example"`,
				".tokenEndpoint", "", ".clientId", "", ".clientSecret", "")
		}
		if w := f.put(key, registrationMessage(exchange...)); w.Code != http.StatusOK {
			t.Fatal(w.Body)
		}
	}
	for context, want := range map[string]string{
		"alice": "service alice",
		"":      "401 the token is not one of a control plane that is known here", // it could be either's
	} {
		claims := map[string]any{"sub": "person", "client_id": "service"}
		if context != "" {
			claims["participant_context"] = context
		}
		r := httptest.NewRequest("POST", "/api/dataflows/f/terminate", strings.NewReader(`{"messageId":"m"}`))
		r.Header.Set("Authorization", "Bearer "+idp.key.sign(claims))
		w := httptest.NewRecorder()
		f.ServeHTTP(w, r)
		if got := whoCalled(t, f.plane, w); got != want {
			t.Errorf("in context %q: %s, want %s", context, got, want)
		}
	}
}

// The operator may name a control plane by its context. Then no other one can be told from it.
func TestRegistrationThatCannotBeToldApart(t *testing.T) {
	inbound := Inbound{Type: AuthTokenExchange, Issuer: "https://broker", JWKSURI: "https://broker.example/jwks"}
	outbound := Outbound{Type: AuthTokenExchange, TokenExchangeEndpoint: "https://broker.example/exchange", SubjectTokenFile: "token"}
	p := planeFor(t, Options{}, DirectoryOptions{Documents: newShelf(), RegistrationKeys: map[string]string{"alice": "alice-key"},
		ControlPlanes: []ControlPlane{{ID: "own", Context: "alice", Endpoint: "https://own.example", Inbound: inbound, Outbound: outbound}}})
	for issuer, code := range map[string]int{"https://broker": http.StatusConflict, "https://other": http.StatusOK} {
		r := httptest.NewRequest("PUT", "/controlplanes", strings.NewReader(registrationMessage(".type", `"oauth2_token_exchange"`,
			".tokenExchangeEndpoint", `"https://broker.example/exchange"`, ".issuer", `"`+issuer+`"`, ".jwksUri", `"https://broker.example/jwks"`,
			".tokenEndpoint", "", ".clientId", "", ".clientSecret", "", ".jwks", "")))
		r.Header.Set("X-Api-Key", "alice-key")
		w := httptest.NewRecorder()
		if p.ServeHTTP(w, r); w.Code != code {
			t.Errorf("%s: %d %s", issuer, w.Code, w.Body)
		}
	}
}

// A registration for token exchange makes this workload ask for no token that is good at somebody else's.
func TestRegistrationGetsNoTokenForOthers(t *testing.T) {
	broker := "https://broker.example/exchange"
	own := func(id, context, endpoint, audience, resource string) ControlPlane {
		return ControlPlane{ID: id, Context: context, Endpoint: endpoint, Inbound: Inbound{Type: AuthStatic, Secret: "secret of " + id},
			Outbound: Outbound{Type: AuthTokenExchange, TokenExchangeEndpoint: broker, Audience: audience, Resource: resource,
				SubjectTokenFile: filepath.Join(t.TempDir(), "subject")}}
	}
	p := planeFor(t, Options{}, DirectoryOptions{Documents: newShelf(), Outbound: loopbackPolicy(t),
		RegistrationKeys: map[string]string{"alice": "alice-key", "bob": "bob-key"}, ControlPlanes: []ControlPlane{
			own("own", "alice", "https://own.example", "edcv", "https://resource.example"),
			own("third", "carol", "https://third.example", "", ""),
		}})
	put := func(key string, pairs ...string) *httptest.ResponseRecorder {
		exchange := []string{"endpoint", `"https://cp.example/signaling"`, ".type", `"oauth2_token_exchange"`, ".tokenExchangeEndpoint", `"` + broker + `"`,
			".issuer", `"https://broker"`, ".jwksUri", `"https://broker.example/jwks"`, ".tokenEndpoint", "", ".clientId", "", ".clientSecret", "", ".jwks", ""}
		r := httptest.NewRequest("PUT", "/controlplanes", strings.NewReader(registrationMessage(append(exchange, pairs...)...)))
		r.Header.Set("X-Api-Key", key)
		w := httptest.NewRecorder()
		p.ServeHTTP(w, r)
		return w
	}
	for _, tt := range []struct {
		what, key string
		pairs     []string
		field     string // "" if it is taken
	}{
		{"for itself", "alice-key", nil, ""},
		{"its id is its URL", "alice-key", []string{"controlplaneId", `"https://cp.example/id"`}, ""},
		{"the operator's audience, at the operator's host", "alice-key", []string{"endpoint", `"https://own.example/second"`, ".audience", `"edcv"`}, ""},
		{"the operator's audience", "alice-key", []string{".audience", `"edcv"`}, "authorization.audience"},
		{"the operator's audience as its id", "alice-key", []string{"controlplaneId", `"edcv"`}, "authorization.audience"},
		{"the operator's audience as its id and audience", "alice-key", []string{"controlplaneId", `"edcv"`, ".audience", `"edcv"`}, "authorization.audience"},
		{"the operator's resource as its id", "alice-key", []string{"controlplaneId", `"https://resource.example"`}, "authorization.audience"},
		{"the operator's endpoint as its id", "alice-key", []string{"controlplaneId", `"https://third.example"`}, "authorization.audience"},
		{"any service as its id", "alice-key", []string{"controlplaneId", `"https://vault.example"`}, "authorization.audience"},
		{"the credential of another participant context", "bob-key", nil, "authorization.tokenExchangeEndpoint"},
	} {
		w := put(tt.key, tt.pairs...)
		switch {
		case tt.field == "":
			if w.Code != http.StatusOK {
				t.Errorf("%s: %d %s", tt.what, w.Code, w.Body)
			}
		case w.Code != http.StatusBadRequest || problemIn(t, w).Field != tt.field:
			t.Errorf("%s: %d %s", tt.what, w.Code, w.Body)
		}
	}
}

// A registration key is no key to all of the memory.
func TestRegistrationsAreBounded(t *testing.T) {
	f := newFront(t)
	message := func(i int) string { return registrationMessage("controlplaneId", fmt.Sprintf(`"cp-%d"`, i)) }
	for i := range maxRegistered {
		if w := f.put("alice-key", message(i)); w.Code != http.StatusOK {
			t.Fatal(i, w.Body)
		}
	}
	w := f.put("alice-key", message(maxRegistered))
	if conforms(t, "Problem", w.Body.Bytes()); w.Code != http.StatusConflict || problemIn(t, w).slug() != "too-many-control-planes" {
		t.Errorf("one more: %d %s", w.Code, w.Body)
	}
	if w := f.put("alice-key", message(0)); w.Code != http.StatusOK {
		t.Errorf("one of them again: %d %s", w.Code, w.Body)
	}
	if w := f.put("bob-key", message(maxRegistered)); w.Code != http.StatusOK {
		t.Errorf("in another context: %d %s", w.Code, w.Body)
	}
}

// A control plane that repeats what it was sent does not get our credentials into logs and admin views.
func TestEchoedCredentials(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := newOffice(t)
		echo := func(r *http.Request) (*http.Response, error) {
			response, err := status(http.StatusBadRequest)(r)
			response.Body = io.NopCloser(strings.NewReader(fmt.Sprintf("cannot take %v", r.Header)))
			return response, err
		}
		o.net.answers["a.example"], o.net.answers["b.example"] = echo, echo
		o.planes["a"] = ControlPlane{Endpoint: "https://a.example", Outbound: Outbound{Type: AuthStatic, Secret: "hunter2"}}
		o.planes["b"] = ControlPlane{Endpoint: "https://b.example", Outbound: Outbound{Type: AuthStatic, Header: "X-Api-Key", Secret: "hunter2"}}
		o.enqueue("f", "a", completed("m"))
		o.enqueue("g", "b", completed("m"))
		o.open()
		defer o.stop()
		synctest.Wait()
		for _, id := range []string{"f", "g"} {
			if c := o.stored(id)[0]; c.Status != flow.CallbackFailed || strings.Contains(c.LastErr, "hunter2") {
				t.Errorf("%s: %s, %q", id, c.Status, c.LastErr)
			}
		}
	})
}

// So does an authorization server.
func TestEchoedClientSecret(t *testing.T) {
	a := newAuthority(t)
	a.refuse = func(w http.ResponseWriter, r *http.Request) bool {
		w.WriteHeader(http.StatusBadRequest)
		w.Write(encode(map[string]string{"error": "invalid_scope", "error_description": "not for " + r.Header.Get("Authorization")}))
		return true
	}
	got := granted(t, a.outbound())
	if secret := base64.StdEncoding.EncodeToString([]byte("dp%3A1:s%26cret+%2F%2B")); strings.Contains(got, secret) || !strings.Contains(got, "not for Basic …") {
		t.Error(got)
	}
}

// Without a credential to ask for, a page of the web could have a browser on this machine give orders.
func TestBrowserGivesNoOrders(t *testing.T) {
	p := newPlane(t, Options{})
	for _, header := range []http.Header{{"Origin": {"https://page.example"}}, {"Origin": {"null"}}, {"Sec-Fetch-Site": {"cross-site"}}} {
		r := httptest.NewRequest("POST", "/dataflows/start", strings.NewReader(flowMessage("1", "f", "x-push")))
		r.Header = header
		w := httptest.NewRecorder()
		if p.ServeHTTP(w, r); w.Code != http.StatusForbidden {
			t.Errorf("%v: %d %s", header, w.Code, w.Body)
		}
		conforms(t, "Problem", w.Body.Bytes())
	}
	if _, ok := p.last(); ok {
		t.Error("the engine was asked")
	}
}
