//go:build linux

package e2e_test

import (
	"encoding/json"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
)

// registrationRules are about how the two sides are made known to each other.
func registrationRules() []rule {
	return []rule{
		{"R1", "1.3 PUT dataplanes, 1.4 DataPlaneRegistrationMessage, 1.8 profiles, 4.8.3, 1.9 transferTypes, trap 29, trap 59, 1.6 both ways",
			"a data plane registers what it supports, until that is taken", checkRegistration},
		{"R2", "edc 3.5 management API, 1.4 AuthorizationEntry, 4.8.1, trap 29",
			"it registers in a management API, with how it is to be called", checkManagementAPI},
		{"R3", "1.3 DELETE dataplanes, 4.8.3, 1.6 replace", "a registration is taken back and made again", checkDeregistration},
		{"R4", "1.6 protected, trap 31", "a control plane needs a key to register", checkRegistrationKey},
		{"R5", "1.2 PUT controlplanes, 1.4 ControlPlaneRegistrationMessage, edc 3.5 operator, 1.6 both ways",
			"a control plane that has registered is served and called", checkRegistered},
		{"R6", "1.2 DELETE controlplanes, trap 30", "a registration is deleted below its id", checkUnregistered},
		{"R7", "1.6 replace", "registering again replaces endpoint and keys", checkReregistered},
		{"R8", "trap 22, 1.4 ControlPlaneRegistrationMessage, 1.4 AuthorizationEntry",
			"a registration that cannot be used is refused by name", checkBadRegistration},
		{"R9", "trap 2, 1.6 protected", "a registration belongs to its participant", checkRegistrationOfOthers},
		{"R10", "trap 31, 1.6 both ways",
			"registrations outlive the process, and their secrets are not to be found", checkRegistrationKept},
		{"R11", "1.2 PUT controlplanes", "without a key there is no registration of control planes", checkNoRegistration},
		{"R12", "trap 29",
			"a registration without authorization is refused, since nobody could tell who calls", checkRegistrationWithoutAuthorization},
		{"R13", "1.3 agreement", "the agreement of a flow is fetched from its control plane", checkAgreement},
	}
}

// registrationMessage is what a data plane says of itself.
type registrationMessage struct {
	DataplaneID   string            `json:"dataplaneId"`
	Endpoint      string            `json:"endpoint"`
	Profiles      []string          `json:"profiles"`
	TransferTypes []string          `json:"transferTypes"`
	Labels        []string          `json:"labels"`
	Authorization map[string]string `json:"authorization"`
}

// registered waits for a registration that was taken.
func (o *office) registered(t testing.TB) (m registrationMessage, c call) {
	t.Helper()
	soon(t, "a registration", func() bool {
		all := o.those(func(c call) bool { return c.kind == "register" && c.code/100 == 2 })
		if len(all) > 0 {
			c = all[len(all)-1]
		}
		return len(all) > 0
	})
	if err := json.Unmarshal([]byte(c.body), &m); err != nil {
		t.Fatal(err)
	}
	return m, c
}

func checkRegistration(t *testing.T, w *world) {
	c := w.open(t)
	m, said := c.office.registered(t)
	if m.DataplaneID != "e2e" || m.Endpoint != "http://dataplane.example/dataflows" || !slices.Equal(m.Labels, []string{"conformance"}) {
		t.Errorf("%s", said.body)
	}
	want := []string{
		"http-pull", "http-push", "inline-pull", "HttpData-PULL", "HttpData-PUSH", "HttpData-PULL-HttpData",
		"async-pull", "async-push", "gate-pull",
	}
	slices.Sort(want)
	for name, got := range map[string][]string{"profiles": m.Profiles, "transferTypes": m.TransferTypes} {
		slices.Sort(got)
		if !slices.Equal(got, want) {
			t.Errorf("%s are %v", name, got)
		}
	}
	var members map[string]json.RawMessage // whose names are to be these to the letter
	if err := json.Unmarshal([]byte(said.body), &members); err != nil {
		t.Fatal(err)
	}
	names := slices.Sorted(maps.Keys(members))
	if !slices.Equal(names, []string{"dataplaneId", "endpoint", "labels", "profiles", "transferTypes"}) || strings.Contains(said.body, "null") {
		t.Errorf("%s", said.body)
	}
	if said.path != "/dataplanes" {
		t.Errorf("it was sent to %s", said.path)
	}
	if attempts := c.office.those(func(c call) bool { return c.kind == "register" }); attempts[0].code != http.StatusServiceUnavailable {
		t.Errorf("the first attempt was answered %d", attempts[0].code)
	}
}

func checkManagementAPI(t *testing.T, w *world) {
	c := w.secured(t)
	management := w.securedSite.offices["management"]
	m, said := management.registered(t) // the office checks the key
	if said.path != "/management/v4/dataplanes" {
		t.Errorf("it was sent to %s", said.path)
	}
	if m.Endpoint != c.host.signaling+"/api/v1/dataflows" {
		t.Errorf("the endpoint is %s", m.Endpoint)
	}
	i := w.issuer(t)
	want := map[string]string{
		"type": "oauth2_client_credentials", "tokenEndpoint": i.tokenEndpoint(), "clientId": "connector-calls",
		"clientSecret": w.known("what the control plane is to call with"), "jwksUri": i.jwksURI(),
	}
	for name, value := range want {
		if m.Authorization[name] != value {
			t.Errorf("authorization.%s is %q, not %q", name, m.Authorization[name], value)
		}
	}
	if token := said.header.Get("Authorization"); token != "" {
		t.Errorf("the management API, which has its own key, got a token: %.10s…", token)
	}
	// What it was told works: EDC appends to the endpoint.
	f := c.newFlow("http-pull", "small", nil)
	req := newRequest(t, http.MethodPost, m.Endpoint+"/start", f.create)
	if r := c.do(req); r.code != http.StatusOK {
		t.Errorf("%d %s", r.code, r.text)
	}
}

func checkDeregistration(t *testing.T, w *world) {
	c := w.open(t)
	c.office.registered(t)
	c.office.answer("deregister", "e2e", http.StatusOK) // as EDC does
	c.ask(http.MethodPost, "/api/v1/controlplanes/connector/deregister", nil, &struct{}{})
	said := c.office.awaitAttempts(t, "deregister", "e2e", 1)[0]
	if said.path != "/dataplanes/e2e" || said.body != "" {
		t.Errorf("%s %q", said.path, said.body)
	}
	before := len(c.office.those(func(c call) bool { return c.kind == "register" }))
	c.ask(http.MethodPost, "/api/v1/controlplanes/connector/register", nil, &struct{}{})
	if after := len(c.office.those(func(c call) bool { return c.kind == "register" })); after == before {
		t.Error("it was not registered again")
	}
}

// registrant is a control plane that registers itself.
type registrant struct {
	*caller
	id      string
	message message
}

// newRegistrant makes one up. It signs its own tokens; the data plane gets its from the OAuth2 server.
func (w *world) newRegistrant(t testing.TB, at *caller) *registrant {
	t.Helper()
	i := w.issuer(t)
	r := &registrant{caller: &caller{t: t, host: at.host, base: at.base}, id: "connector-" + strings.ToLower(newID()[:8])}
	secret := w.newSecret("client secret of a registration")
	i.admit(oauthClient{id: "for-" + r.id, secret: secret, subject: "e2e", audience: []string{r.id}})
	r.office = newOffice(t, nil, i.demand(map[string]string{"sub": "e2e", "aud": r.id}))
	office := r.office
	t.Cleanup(func() { office.expectNoViolations(t) })
	r.message = message{"controlplaneId": r.id, "endpoint": r.office.url, "authorization": message{
		"type": "oauth2_client_credentials", "tokenEndpoint": i.tokenEndpoint(), "clientId": "for-" + r.id, "clientSecret": secret}}
	r.rotate(t)
	return r
}

// rotate gives the control plane a new key, which the data plane knows once it is registered again.
func (r *registrant) rotate(t testing.TB) {
	t.Helper()
	key := newKey(t)
	kid := "key-" + newID()[:6]
	public := jose.JSONWebKey{Key: key.Public(), KeyID: kid, Algorithm: "ES256", Use: "sig"}
	r.message["authorization"].(message)["jwks"] = jose.JSONWebKeySet{Keys: []jose.JSONWebKey{public}}
	r.authorize = bearer(func() string {
		return signJWT(t, jose.ES256, key, kid, map[string]any{
			"iss": r.id, "sub": r.id, "aud": "e2e", "iat": time.Now().Unix(), "exp": time.Now().Add(time.Minute).Unix(), "jti": newID()})
	})
}

// register registers it with the credentials of at.
func (r *registrant) register(at *caller) reply {
	r.t.Helper()
	return at.send(http.MethodPut, "/controlplanes", r.message)
}

func (r *registrant) mustRegister(at *caller) {
	r.t.Helper()
	if got := r.register(at); got.code != http.StatusOK {
		r.t.Fatalf("PUT /controlplanes: %d %s", got.code, got.text)
	}
}

func checkRegistrationKey(t *testing.T, w *world) {
	at := w.dynamic(t)
	r := w.newRegistrant(t, at)
	for what, authorize := range map[string]func(*http.Request){
		"no key": func(*http.Request) {}, "wrong key": header("X-Api-Key", "wrong"), "wrong token": header("Authorization", "Bearer wrong"),
		"key elsewhere": header("X-Other", w.known("registration key")),
	} {
		at.authorize = authorize
		if got := r.register(at); got.code != http.StatusUnauthorized {
			t.Errorf("%s: %d %s", what, got.code, got.text)
		}
		if got := at.send(http.MethodDelete, "/controlplanes/"+r.id, nil); got.code != http.StatusUnauthorized {
			t.Errorf("DELETE, %s: %d %s", what, got.code, got.text)
		}
	}
	at.authorize = bearer(func() string { return w.known("registration key") })
	r.mustRegister(at)
}

func checkRegistered(t *testing.T, w *world) {
	at := w.dynamic(t)
	r := w.newRegistrant(t, at)
	f := r.newFlow("async-like-pull", "small", nil)
	if got := r.post("start", f.create); got.code != http.StatusUnauthorized {
		t.Errorf("before it has registered: %d %s", got.code, got.text)
	}
	r.mustRegister(at)
	receiver := newReceiver(t)
	g := r.newFlow("http-push", "small", newAddress(receiver.url+"/x")).start()
	r.office.expect(t, g.id, "completed") // the office checks the token
	g.expect("COMPLETED")
	if got := at.post("start", r.newFlow("http-pull", "small", nil).create); got.code != http.StatusUnauthorized {
		t.Errorf("with the registration key: %d %s", got.code, got.text)
	}
}

func checkUnregistered(t *testing.T, w *world) {
	at := w.dynamic(t)
	r := w.newRegistrant(t, at)
	r.mustRegister(at)
	f := r.newFlow("http-pull", "small", nil).start()
	if got := at.send(http.MethodDelete, "/controlplanes/"+url.PathEscape(r.id), nil); got.code != http.StatusNoContent || got.text != "" {
		t.Errorf("%d %s", got.code, got.text)
	}
	if got := r.status(f.id); got.code != http.StatusUnauthorized {
		t.Errorf("afterwards: %d %s", got.code, got.text)
	}
	if got := at.send(http.MethodDelete, "/controlplanes/"+r.id, nil); got.code != http.StatusNotFound {
		t.Errorf("again: %d %s", got.code, got.text)
	}
	r.mustRegister(at)
	f.expectState(f.id, "STARTED") // it is its flow still
}

func checkReregistered(t *testing.T, w *world) {
	at := w.dynamic(t)
	r := w.newRegistrant(t, at)
	r.mustRegister(at)
	before, old := r.office, r.authorize
	f := r.newFlow("http-pull", "small", nil).start()
	r.office = newOffice(t, nil, nil)
	r.message["endpoint"] = r.office.url + "/base"
	r.rotate(t)
	r.mustRegister(at)
	f.expect("STARTED")
	g := r.newFlow("http-push", "small", newAddress(newReceiver(t).url+"/x")).start()
	if said := r.office.expect(t, g.id, "completed")[0]; !strings.HasPrefix(said.path, "/base/transfers/") {
		t.Errorf("path %s", said.path)
	}
	if calls := before.about(g.id); len(calls) > 0 {
		t.Errorf("the former endpoint was called: %v", kindsOf(calls))
	}
	r.authorize = old
	if got := r.status(f.id); got.code != http.StatusUnauthorized {
		t.Errorf("with the former key: %d %s", got.code, got.text)
	}
}

func checkBadRegistration(t *testing.T, w *world) {
	at := w.dynamic(t)
	good := w.newRegistrant(t, at).message
	secret := good["authorization"].(message)["clientSecret"].(string)
	entry := func(changes message) message {
		return message{"authorization": good["authorization"].(message).with(changes)}
	}
	exchange := func(changes message) message {
		return message{"authorization": message{"type": "oauth2_token_exchange"}.with(changes)}
	}
	for what, c := range map[string]struct {
		changes message
		field   string
	}{
		"no id":                       {message{"controlplaneId": nil}, "controlplaneId"},
		"id too long":                 {message{"controlplaneId": strings.Repeat("x", 257)}, "controlplaneId"},
		"no endpoint":                 {message{"endpoint": nil}, "endpoint"},
		"endpoint is no URL":          {message{"endpoint": "connector"}, "endpoint"},
		"endpoint with a password":    {message{"endpoint": "https://a:" + secret + "@x.example"}, "endpoint"},
		"endpoint in a network":       {message{"endpoint": "https://10.0.0.1/"}, "endpoint"},
		"metadata service":            {message{"endpoint": "http://169.254.169.254/"}, "endpoint"},
		"other scheme":                {message{"endpoint": "file:///etc/passwd"}, "endpoint"},
		"plain HTTP to another host":  {message{"endpoint": "http://connector.example/"}, "endpoint"},
		"unknown authorization":       {entry(message{"type": "psychic"}), "authorization.type"},
		"no type":                     {entry(message{"type": nil}), "authorization.type"},
		"no token endpoint":           {entry(message{"tokenEndpoint": nil}), "authorization.tokenEndpoint"},
		"no client":                   {entry(message{"clientId": nil}), "authorization.clientId"},
		"no secret":                   {entry(message{"clientSecret": nil}), "authorization.clientSecret"},
		"token endpoint in a network": {entry(message{"tokenEndpoint": "https://192.168.1.1/token"}), "authorization.tokenEndpoint"},
		"keys in a network":           {entry(message{"jwks": nil, "jwksUri": "https://[fd00::1]/jwks"}), "authorization.jwksUri"},
		"two kinds of keys":           {entry(message{"jwksUri": "https://keys.example/jwks"}), "authorization.jwks"},
		"no keys":                     {entry(message{"jwks": nil}), "authorization.jwksUri"},
		"exchange with somebody else": {exchange(message{"tokenExchangeEndpoint": "https://evil.example/token",
			"issuer": "https://evil.example", "jwksUri": "https://evil.example/jwks"}), "authorization.tokenExchangeEndpoint"},
		"exchange without an endpoint": {exchange(nil), "authorization.tokenExchangeEndpoint"},
	} {
		r := at.send(http.MethodPut, "/controlplanes", good.with(c.changes))
		if r.code != http.StatusBadRequest || r.Field != c.field {
			t.Errorf("%s: %d %s", what, r.code, r.text)
		}
		if strings.Contains(r.text, secret) {
			t.Errorf("%s: the answer repeats the secret: %s", what, r.text)
		}
	}
	for what, body := range map[string]string{"no JSON": "{", "twice": `{"controlplaneId":"a","controlplaneId":"b"}`, "list": "[]"} {
		if r := at.send(http.MethodPut, "/controlplanes", body); r.code != http.StatusBadRequest {
			t.Errorf("%s: %d %s", what, r.code, r.text)
		}
	}
}

func checkRegistrationOfOthers(t *testing.T, w *world) {
	at := w.dynamic(t)
	tenant := *at
	tenant.authorize = header("X-Api-Key", w.known("registration key of the tenant"))
	r, other := w.newRegistrant(t, at), w.newRegistrant(t, at)
	r.mustRegister(at)
	other.mustRegister(&tenant)
	if got := tenant.send(http.MethodDelete, "/controlplanes/"+r.id, nil); got.code != http.StatusNotFound {
		t.Errorf("the tenant deletes what is not its own: %d %s", got.code, got.text)
	}
	taken := w.newRegistrant(t, at)
	taken.message["controlplaneId"] = r.id
	if got := taken.register(&tenant); got.code != http.StatusConflict {
		t.Errorf("the tenant takes an id that is in use: %d %s", got.code, got.text)
	}
	// Each has its own flows, also under one id.
	f := r.newFlow("http-pull", "small", nil).start()
	if got := other.status(f.id); got.code != http.StatusNotFound {
		t.Errorf("the flow of another participant: %d %s", got.code, got.text)
	}
	g := other.newFlow("http-pull", "small", nil)
	g.create["dataFlowId"] = f.id
	if got := other.signal("start", g.create); got.DataAddress.Endpoint == f.reply.DataAddress.Endpoint {
		t.Errorf("two flows have one address: %s", got.text)
	}
	other.signal(f.id+"/terminate", nil)
	f.expect("STARTED")
}

func checkRegistrationKept(t *testing.T, w *world) {
	var s site
	s.settle(t, "keeper", "/signaling", listeners("  base_path = \"/signaling\"\n", "")+overHTTP+datasets+dynamicConfiguration)
	s.writeSecrets(t, map[string]string{"registration": w.newSecret("key of the keeper"), "tenant": "other-" + newID()})
	s.host.start()
	at := s.caller(t, "")
	at.authorize = header("X-Api-Key", w.known("key of the keeper"))
	r := w.newRegistrant(t, at)
	r.mustRegister(at)
	f := r.newFlow("http-pull", "small", nil).start()
	s.host.stop()
	secret := r.message["authorization"].(message)["clientSecret"].(string)
	expectNowhere(t, s.host.data, map[string]string{secret: "client secret of a registration"})
	s.host.start()
	f.expect("STARTED")
	g := r.newFlow("http-push", "small", newAddress(newReceiver(t).url+"/x")).start()
	r.office.expect(t, g.id, "completed")
	s.host.stop()
}

func checkNoRegistration(t *testing.T, w *world) {
	c := w.open(t)
	for _, method := range []string{http.MethodPut, http.MethodGet, http.MethodPost} {
		if r := c.send(method, "/controlplanes", message{}); r.code != http.StatusNotFound {
			t.Errorf("%s: %d %s", method, r.code, r.text)
		}
	}
	if r := c.send(http.MethodDelete, "/controlplanes/connector", nil); r.code/100 == 2 {
		t.Errorf("DELETE: %d %s", r.code, r.text)
	}
}

func checkRegistrationWithoutAuthorization(t *testing.T, w *world) {
	at := w.dynamic(t)
	r := w.newRegistrant(t, at)
	for what, value := range map[string]string{"missing": "", "null": `,"authorization":null`, "empty": `,"authorization":{}`} {
		body := `{"controlplaneId":"` + r.id + `","endpoint":"` + r.office.url + `"` + value + `}`
		got := at.send(http.MethodPut, "/controlplanes", body)
		if got.code != http.StatusBadRequest || !strings.HasPrefix(got.Field, "authorization") {
			t.Errorf("%s: %d %s", what, got.code, got.text)
		}
	}
}

func checkAgreement(t *testing.T, w *world) {
	c := w.secured(t)
	f := c.newFlow("http-pull", "small", nil).start()
	c.office.agree(f.id, `{"@context":["https://w3id.org/dspace/2025/1/context.jsonld"],"@id":"agreement-1","@type":"Agreement",
		"target":"small","assigner":"did:web:us.example","assignee":"did:web:them.example","timestamp":"2026-01-02T03:04:05Z",
		"permission":[{"action":"use"}]}`)
	var agreement struct {
		ID string `json:"@id"`
	}
	c.ask(http.MethodGet, "/api/v1/flows/"+f.id+"/agreement", nil, &agreement)
	if agreement.ID != "agreement-1" {
		t.Errorf("%+v", agreement)
	}
	for what, wrong := range map[string]string{"no JSON": "<html>", "no agreement": "{}", "a list": "[]"} {
		c.office.agree(f.id, wrong)
		r := c.ask(http.MethodGet, "/api/v1/flows/"+f.id+"/agreement", nil, nil)
		if r.code != http.StatusBadGateway && r.code != http.StatusServiceUnavailable {
			t.Errorf("%s: %d %s", what, r.code, r.text)
		}
	}
	said := c.office.awaitAttempts(t, "agreement", f.id, 1)[0] // the office checks the token
	if said.path != "/transfers/"+f.id+"/agreement" {
		t.Errorf("path %s", said.path)
	}
}
