package signaling

import (
	"bytes"
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"

	"github.com/towpath-dataplane/towpath/host/flow"
)

// front is a plane at which control planes can register.
type front struct {
	plane
	documents *shelf
	broker    string // the token exchange endpoint that the operator uses
}

func newFront(t *testing.T) front {
	documents, broker := newShelf(), "https://broker.example/exchange"
	own := ControlPlane{ID: "own", Context: "alice", Endpoint: "https://own.example",
		Inbound: Inbound{Type: AuthClientCredentials, Subject: "own-subject", JWKS: newSigningKey(t, "").jwks()},
		Outbound: Outbound{Type: AuthTokenExchange, TokenExchangeEndpoint: broker, Audience: "edcv",
			SubjectTokenFile: filepath.Join(t.TempDir(), "subject")}}
	return front{planeFor(t, Options{BasePath: "/api"}, DirectoryOptions{Documents: documents, Outbound: loopbackPolicy(t),
		RegistrationKeys: map[string]string{"alice": "alice-key", "bob": "bob-key"}, ControlPlanes: []ControlPlane{own}}), documents, broker}
}

// as makes a request with a registration key.
func (f front) as(key, method, path, body string) *httptest.ResponseRecorder {
	r := httptest.NewRequest(method, "/api"+path, strings.NewReader(body))
	if key != "" {
		r.Header.Set("X-Api-Key", key)
	}
	w := httptest.NewRecorder()
	f.ServeHTTP(w, r)
	return w
}

func (f front) put(key, body string) *httptest.ResponseRecorder {
	return f.as(key, "PUT", "/controlplanes", body)
}

const jwksText = `{"keys":[{"kty":"EC","crv":"P-256","kid":"k","x":"f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU","y":"x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0"}]}`

// registrationMessage is a message in which pairs of member and JSON replace or add; "" leaves out. Those of authorization are written
// with a dot in front.
func registrationMessage(pairs ...string) string {
	top := map[string]string{"controlplaneId": `"cp-1"`, "endpoint": `"https://cp.example/signaling"`}
	auth := map[string]string{"type": `"oauth2_client_credentials"`, "tokenEndpoint": `"https://idp.example/token"`, "clientId": `"dp"`,
		"clientSecret": `"hunter2"`, "jwks": jwksText}
	for i := 0; i < len(pairs); i += 2 {
		if name, ok := strings.CutPrefix(pairs[i], "."); ok {
			auth[name] = pairs[i+1]
		} else {
			top[pairs[i]] = pairs[i+1]
		}
	}
	if _, ok := top["authorization"]; !ok {
		top["authorization"] = object(auth)
	}
	return object(top)
}

func object(members map[string]string) string {
	raw := map[string]json.RawMessage{}
	for name, value := range members {
		if value != "" {
			raw[name] = json.RawMessage(value)
		}
	}
	return string(encode(raw))
}

func TestRegisterControlPlane(t *testing.T) {
	f := newFront(t)
	exchange := []string{".type", `"oauth2_token_exchange"`, ".tokenExchangeEndpoint", `"` + f.broker + `"`, ".issuer", `"https://broker"`,
		".jwksUri", `"https://broker.example/jwks"`, ".tokenEndpoint", "", ".clientId", "", ".clientSecret", "", ".jwks", ""}
	with := func(pairs ...string) string {
		return registrationMessage(append(append([]string{}, exchange...), pairs...)...)
	}
	tests := []struct {
		name, body string
		field      string // "" if it is taken
		detail     string
	}{
		{name: "client credentials", body: registrationMessage()},
		{name: "keys by URL", body: registrationMessage(".jwks", "", ".jwksUri", `"https://cp.example/jwks"`)},
		{name: "unknown members", body: registrationMessage("profiles", `[]`, ".x", `{"y":1}`)},
		{name: "loopback that is allowed", body: registrationMessage("endpoint", `"http://127.0.0.1:9/x"`)},
		{name: "token exchange", body: with()},
		{name: "token exchange with all", body: with(".resource", `"https://cp.example"`, ".audience", `"https://cp.example/x"`, ".scope", `"dps"`)},
		{name: "audience is its id", body: with(".audience", `"cp-1"`)},

		{name: "nothing", body: ``, detail: "not JSON"},
		{name: "no object", body: `[]`, detail: "an array"},
		{name: "no id", body: registrationMessage("controlplaneId", ""), field: "controlplaneId", detail: "is required"},
		{name: "id is a number", body: registrationMessage("controlplaneId", "7"), field: "controlplaneId", detail: "a string belongs"},
		{name: "id is no segment", body: registrationMessage("controlplaneId", `".."`), field: "controlplaneId", detail: "must not be"},
		{name: "long id", body: registrationMessage("controlplaneId", `"`+strings.Repeat("x", 257)+`"`), field: "controlplaneId", detail: "longer"},
		{name: "twice", body: `{"controlplaneId":"a","controlplaneId":"b"}`, field: "controlplaneId", detail: "twice"},
		{name: "no endpoint", body: registrationMessage("endpoint", ""), field: "endpoint", detail: "is required"},
		{name: "relative", body: registrationMessage("endpoint", `"/x"`), field: "endpoint", detail: "not an absolute HTTP URL"},
		{name: "with query", body: registrationMessage("endpoint", `"https://cp.example?x=hunter2"`), field: "endpoint", detail: "query"},
		{name: "with password", body: registrationMessage("endpoint", `"https://u:hunter2@cp.example"`), field: "endpoint", detail: "credentials"},
		{name: "plain HTTP", body: registrationMessage("endpoint", `"http://cp.example"`), field: "endpoint", detail: "plain HTTP to cp.example is not allowed"},
		{name: "private", body: registrationMessage("endpoint", `"https://10.1.2.3"`), field: "endpoint", detail: "a private address"},
		{name: "metadata", body: registrationMessage("endpoint", `"https://169.254.169.254"`), field: "endpoint", detail: "metadata"},
		{name: "no authorization", body: registrationMessage("authorization", ""), field: "authorization", detail: "cannot tell who calls"},
		{name: "authorization is null", body: registrationMessage("authorization", "null"), field: "authorization", detail: "cannot tell who calls"},
		{name: "authorization is text", body: registrationMessage("authorization", `"x"`), field: "authorization", detail: "an object belongs"},
		{name: "authorization is empty", body: registrationMessage("authorization", `{}`), field: "authorization.type", detail: "is required"},
		{name: "type none", body: registrationMessage("authorization", `{"type":"none"}`), field: "authorization.type", detail: `"none" is not supported; the types are oauth2_client_credentials`},
		{name: "type static", body: registrationMessage(".type", `"static"`), field: "authorization.type", detail: "not supported"},
		{name: "no token endpoint", body: registrationMessage(".tokenEndpoint", ""), field: "authorization.tokenEndpoint", detail: "is required"},
		{name: "no client", body: registrationMessage(".clientId", ""), field: "authorization.clientId", detail: "is required"},
		{name: "no secret", body: registrationMessage(".clientSecret", ""), field: "authorization.clientSecret", detail: "is required"},
		{name: "secret is a number", body: registrationMessage(".clientSecret", "1"), field: "authorization.clientSecret", detail: "a string belongs"},
		{name: "private token endpoint", body: registrationMessage(".tokenEndpoint", `"https://10.0.0.1/"`), field: "authorization.tokenEndpoint", detail: "private"},
		{name: "no keys", body: registrationMessage(".jwks", ""), field: "authorization.jwksUri", detail: "cannot tell who calls"},
		{name: "keys twice", body: registrationMessage(".jwksUri", `"https://cp.example/jwks"`), field: "authorization.jwks", detail: "together"},
		{name: "private URL of keys", body: registrationMessage(".jwks", "", ".jwksUri", `"https://10.0.0.1/"`), field: "authorization.jwksUri", detail: "private"},
		{name: "empty keys", body: registrationMessage(".jwks", `{"keys":[]}`), field: "authorization.jwks"},
		{name: "secret key", body: registrationMessage(".jwks", `{"keys":[{"kty":"oct","k":"aHVudGVyMg"}]}`), field: "authorization.jwks"},
		{name: "exchange without issuer", body: with(".issuer", ""), field: "authorization.issuer", detail: "is required"},
		{name: "exchange without keys", body: with(".jwksUri", ""), field: "authorization.jwksUri", detail: "is required"},
		{name: "exchange with inline keys", body: with(".jwks", jwksText), field: "authorization.jwks", detail: "is not for"},
		{name: "exchange elsewhere", body: with(".tokenExchangeEndpoint", `"https://thief.example"`), field: "authorization.tokenExchangeEndpoint", detail: "has configured"},
		{name: "for another resource", body: with(".resource", `"https://own.example"`), field: "authorization.resource", detail: "another host"},
		{name: "for another audience", body: with(".audience", `"own"`), field: "authorization.audience", detail: "not the control plane's id"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			w := f.put("alice-key", tt.body)
			taken := tt.field == "" && tt.detail == ""
			if strings.Contains(w.Body.String()+f.log.String(), "hunter2") || strings.Contains(f.log.String(), "alice-key") {
				t.Errorf("a secret shows: %s\n%s", w.Body, f.log)
			}
			schema := schemaError(t, "ControlPlaneRegistrationMessage", []byte(first(tt.body, "null")))
			if taken {
				if w.Code != http.StatusOK || w.Body.Len() != 0 || w.Header().Get("Cache-Control") != "no-store" {
					t.Errorf("%d %s %v", w.Code, w.Body, w.Header())
				}
				if schema != nil {
					t.Errorf("the schema refuses it: %v", schema)
				}
				return
			}
			conforms(t, "Problem", w.Body.Bytes())
			if p := problemIn(t, w); w.Code != http.StatusBadRequest || p.Field != tt.field || !strings.Contains(p.Detail, tt.detail) {
				t.Errorf("%d %s", w.Code, w.Body)
			}
		})
	}
}

// TestRegistrationsOfOthers: a key is for one participant context, and an id for one control plane.
func TestRegistrationsOfOthers(t *testing.T) {
	f := newFront(t)
	message := func(id string) string { return registrationMessage("controlplaneId", `"`+id+`"`) }
	for _, step := range []struct {
		what                    string
		key, method, path, body string
		code                    int
	}{
		{"no key", "", "PUT", "/controlplanes", message("cp-1"), 401},
		{"wrong key", "alice", "PUT", "/controlplanes", message("cp-1"), 401},
		{"a key of a control plane is none for this", "own", "PUT", "/controlplanes", message("cp-1"), 401},
		{"register", "alice-key", "PUT", "/controlplanes", message("cp-1"), 200},
		{"again", "alice-key", "PUT", "/controlplanes", message("cp-1"), 200},
		{"another's", "bob-key", "PUT", "/controlplanes", message("cp-1"), 409},
		{"the operator's", "alice-key", "PUT", "/controlplanes", message("own"), 409},
		{"the operator's, by what its tokens name", "bob-key", "PUT", "/controlplanes", message("own-subject"), 409},
		{"another's removed", "bob-key", "DELETE", "/controlplanes/cp-1", "", 404},
		{"the operator's removed", "alice-key", "DELETE", "/controlplanes/own", "", 404},
		{"unknown removed", "alice-key", "DELETE", "/controlplanes/x", "", 404},
		{"removed without a key", "", "DELETE", "/controlplanes/cp-1", "", 401},
		{"removed", "alice-key", "DELETE", "/controlplanes/cp-1", "", 204},
		{"removed again", "alice-key", "DELETE", "/controlplanes/cp-1", "", 404},
		{"now another's", "bob-key", "PUT", "/controlplanes", message("cp-1"), 200},
		{"an id with a slash", "bob-key", "PUT", "/controlplanes", message("urn:a/b"), 200},
		{"removed with a slash", "bob-key", "DELETE", "/controlplanes/urn:a%2Fb", "", 204},
		{"an id that looks like an operation", "bob-key", "PUT", "/controlplanes", message("status"), 200},
		{"removed", "bob-key", "DELETE", "/controlplanes/status", "", 204},
		{"post", "bob-key", "POST", "/controlplanes", message("x"), 405},
		{"get", "bob-key", "GET", "/controlplanes/cp-1", "", 405},
		{"no such path", "bob-key", "DELETE", "/controlplanes/a/b", "", 404},
		{"no id", "bob-key", "DELETE", "/controlplanes/", "", 400},
		{"too long", "bob-key", "PUT", "/controlplanes", registrationMessage("x", `"`+strings.Repeat("x", DefaultMaxBody)+`"`), 413},
	} {
		w := f.as(step.key, step.method, step.path, step.body)
		if w.Code != step.code {
			t.Errorf("%s: %d %s", step.what, w.Code, w.Body)
		}
		if w.Code >= 400 {
			conforms(t, "Problem", w.Body.Bytes())
		}
		if w.Code == 401 && w.Header().Get("WWW-Authenticate") == "" {
			t.Errorf("%s: %v", step.what, w.Header())
		}
	}
	if w := f.as("bob-key", "OPTIONS", "/controlplanes", ""); w.Header().Get("Allow") != "PUT, OPTIONS" {
		t.Errorf("OPTIONS: %v", w.Header())
	}
	f.documents.broken = errors.New("disk on fire")
	if w := f.put("bob-key", message("y")); w.Code != 500 || strings.Contains(w.Body.String(), "fire") {
		t.Errorf("%d %s", w.Code, w.Body)
	}
}

func TestRegistrationByBearer(t *testing.T) {
	f := newFront(t)
	for _, tt := range []struct {
		header http.Header
		code   int
	}{
		{http.Header{"Authorization": {"Bearer bob-key"}}, 200},
		{http.Header{"Authorization": {"Basic bob-key"}}, 401},
		{http.Header{"Authorization": {"Basic bob-key"}, "X-Api-Key": {"bob-key"}}, 401},
		{http.Header{"X-Api-Key": {"bob-key", "bob-key"}}, 401},
		{http.Header{"X-Api-Key": {""}}, 401},
	} {
		r := httptest.NewRequest("PUT", "/api/controlplanes", strings.NewReader(registrationMessage()))
		r.Header = tt.header
		w := httptest.NewRecorder()
		f.ServeHTTP(w, r)
		if w.Code != tt.code {
			t.Errorf("%v: %d %s", tt.header, w.Code, w.Body)
		}
	}
}

func TestNoRegistrationsWithoutAKey(t *testing.T) {
	p := newPlane(t, Options{})
	for method, path := range map[string]string{"PUT": "/controlplanes", "DELETE": "/controlplanes/x", "OPTIONS": "/controlplanes", "GET": "/controlplanes/status"} {
		if w := p.send(method, path, registrationMessage()); w.Code != http.StatusNotFound || problemIn(t, w).slug() != "no-such-endpoint" {
			t.Errorf("%s: %d %s", method, w.Code, w.Body)
		}
	}
}

// A control plane that registered calls, hears callbacks, and is unknown when it is gone.
func TestLifeOfARegistration(t *testing.T) {
	idp := newAuthority(t)
	f := newFront(t)
	message := registrationMessage("endpoint", `"`+idp.URL+`"`, ".jwks", "", ".jwksUri", `"`+idp.URL+`/jwks"`, ".tokenEndpoint", `"`+idp.URL+`/token"`,
		".clientId", `"`+clientID+`"`, ".clientSecret", `"`+clientSecret+`"`)
	if w := f.put("bob-key", message); w.Code != http.StatusOK {
		t.Fatal(w.Body)
	}
	start := func() *httptest.ResponseRecorder {
		r := httptest.NewRequest("POST", "/api/dataflows/start", strings.NewReader(flowMessage("1", "f", "x-pull")))
		r.Header.Set("Authorization", "Bearer "+idp.key.sign(map[string]any{"sub": "cp-1"}))
		w := httptest.NewRecorder()
		f.ServeHTTP(w, r)
		return w
	}
	if w := start(); w.Code != http.StatusOK {
		t.Fatalf("%d %s", w.Code, w.Body)
	}
	if c, _ := f.last(); c.Message.ControlPlane != "cp-1" || c.Message.Key != (flow.Key{Context: "bob", ID: "f"}) {
		t.Errorf("%+v", c.Message)
	}
	directory := f.Handler.(*Handler).controlPlanes
	m, ok := directory.member("bob", "cp-1")
	if !ok {
		t.Fatal("it is not in the directory")
	}
	if got := grantedBy(t, m.peer.auth); len(strings.Split(got, ".")) != 3 {
		t.Error(got)
	}
	if _, ok := directory.member("alice", "cp-1"); ok {
		t.Error("it is in another participant context too")
	}
	if w := f.as("bob-key", "DELETE", "/controlplanes/cp-1", ""); w.Code != http.StatusNoContent {
		t.Fatal(w.Body)
	}
	if w := start(); w.Code != http.StatusUnauthorized {
		t.Errorf("afterwards: %d %s", w.Code, w.Body)
	}
}

// What is kept of a registration can be read again, and nothing else of it is kept.
func FuzzDecodeRegistration(f *testing.F) {
	f.Add([]byte(registrationMessage()))
	f.Add([]byte(registrationMessage(".jwks", "", ".jwksUri", `"https://cp.example/jwks"`, "x", "[1]")))
	f.Add([]byte(registrationMessage("authorization", `{"type":"none"}`)))
	f.Add([]byte(`{"controlplaneId":"a","endpoint":"b","authorization":null}`))
	f.Add([]byte(`{"controlplaneId":7}`))
	f.Fuzz(func(t *testing.T, body []byte) {
		r, err := decodeRegistration(body)
		var refused *flow.RequestError
		if err != nil {
			if !errors.As(err, &refused) {
				t.Errorf("%v is no refusal", err)
			}
			return
		}
		if r.ID == "" || r.Endpoint == "" || r.Authorization != nil && r.Authorization.Type == "" {
			t.Errorf("%+v of %q", r, body)
		}
		again, err := decodeRegistration(encode(r))
		if err != nil || !bytes.Equal(encode(again), encode(r)) {
			t.Errorf("%v: %s", err, encode(r))
		}
	})
}
