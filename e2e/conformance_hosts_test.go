//go:build linux

package e2e_test

import (
	"errors"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
)

// groundwork is what all hosts of the rules have in common.
const groundwork = `
dataplane "e2e" {
  data_dir = env("E2E_DATA")
}

plugins {
  directory = env("E2E_PLUGINS")
  trust     = "directory"
}

plugin "file" {
  config {
    root = env("E2E_FILES")
  }
}

plugin "synthetic" {}

outbound {
  allow = ["loopback"]
}

transfer {
  retry {
    first         = "100ms"
    max           = "300ms"
    give_up_after = "1s"
  }
}
`

// datasets are those of the default participant context.
const datasets = `
dataset "small" {
  source "Generate" {
    size = "1KiB"
  }
  sink "Discard" {}
}

# That of the examples in the OpenAPI documents.
dataset "hello" {
  source "Generate" {
    size = "1KiB"
  }
  sink "Discard" {}
}

dataset "endless" {
  source "Generate" {
    rate = "64KiB"
  }
  sink "Discard" {}
}

# A local application reads it: there is no sink.
dataset "application" {
  source "Generate" {
    size = "1KiB"
  }
}
`

// listeners are three without TLS. signaling and admin are further attributes of two of them.
func listeners(signaling, admin string) string {
	return `
listen "signaling" {
  address = env("E2E_SIGNALING")
` + signaling + `}

listen "public" {
  address = env("E2E_PUBLIC")
  url     = env("E2E_PUBLIC_URL")
}

listen "admin" {
  address = env("E2E_ADMIN")
` + admin + `}
`
}

// overHTTP are profiles over HTTP. They are answered when the work is done, however long that takes on a busy machine.
const overHTTP = `
plugin "http" {
  config {
    allow = ["loopback"]
  }
}

profile "http-pull" {
  type       = "HttpData"
  allow_http = true
  mode       = "sync"
}

profile "http-push" {
  type       = "HttpData"
  allow_http = true
  mode       = "sync"
}
`

// open has one control plane, which does not say who it is, and profiles of all kinds. It is reached at the root.
func (w *world) open(t testing.TB) *caller {
	t.Helper()
	return w.enter(t, &w.openSite, func(t testing.TB, s *site) {
		o := newOffice(t, nil, nil)
		o.answer("register", "", http.StatusServiceUnavailable) // it is about to come up
		s.settleOpen(t, "open", o)
	}).caller(t, "connector")
}

// settleOpen makes the place for a host that is configured like open.
func (s *site) settleOpen(t testing.TB, name string, o *office) {
	t.Helper()
	s.offices = map[string]*office{"connector": o}
	plugins := t.TempDir()
	s.settle(t, name, "", listeners("", "")+overHTTP+datasets+openConfiguration,
		"E2E_OFFICE="+o.url, "E2E_GATES="+t.TempDir(), "E2E_PLUGINS="+plugins)
	assemble(t, plugins)
	writeFile(t, s.host.outbox()+"/file.txt", "content")
}

const openConfiguration = `
control_plane "connector" {
  endpoint = env("E2E_OFFICE")
  timeout  = "5s"

  registration {
    labels             = ["conformance"]
    dataplane_endpoint = "http://dataplane.example/dataflows"
    deregister_on_stop = true
  }
}

signaling {
  answer_within = "1s"
}

# A plugin that takes as long as a test wants.
plugin "gate" {
  environment = {
    MISBEHAVE_GATES = env("E2E_GATES")
  }
}

profile "HttpData-PULL" {
  type       = "HttpData"
  allow_http = true
  mode       = "sync"
}

profile "HttpData-PUSH" {
  type       = "HttpData"
  allow_http = true
  mode       = "sync"
}

profile "HttpData-PULL-HttpData" {
  type       = "HttpData"
  allow_http = true
  mode       = "sync"
}

profile "inline-pull" {
  type               = "HttpData"
  allow_http         = true
  mode               = "sync"
  dataset_in_message = true
}

profile "async-pull" {
  type       = "HttpData"
  allow_http = true
  mode       = "async"
}

profile "async-push" {
  type       = "HttpData"
  allow_http = true
  mode       = "async"
}

# Addresses are made by a plugin, and be it late.
profile "gate-pull" {
  provision  = "Gate"
  allow_http = true
}

dataset "gated" {
  source "Generate" {
    rate = "64KiB"
  }
}

dataset "tree" {
  source "File" {
    path = "outbox"
  }
  sink "File" {
    path = "inbox"
  }
}

dataset "always async" {
  mode = "async"
  source "Generate" {
    size = "1KiB"
  }
}
`

// assemble puts the plugins and the one that misbehaves into a folder.
func assemble(t testing.TB, folder string) {
	t.Helper()
	if err := os.Chmod(folder, 0o700); err != nil {
		t.Fatal(err)
	}
	for _, name := range pluginNames {
		file := "towpath-plugin-" + name
		if err := os.Link(filepath.Join(binaries.plugins, file), filepath.Join(folder, file)); err != nil {
			t.Fatal(err)
		}
	}
	if err := goBuild(filepath.Join(folder, "towpath-plugin-gate"), "./misbehave"); err != nil {
		t.Fatal(err)
	}
}

// openGate lets the plugin Gate go on with a flow. what is what it then does: "" for its work, else the error that it fails with.
func (f *flowOf) openGate(what string) {
	f.t.Helper()
	writeFile(f.t, f.gate()+".new", what)
	if err := os.Rename(f.gate()+".new", f.gate()); err != nil {
		f.t.Fatal(err)
	}
}

// gate is the file that the plugin waits for.
func (f *flowOf) gate() string { return filepath.Join(f.host.variable("E2E_GATES"), f.id) }

// newHeldPrepare returns a consumer's flow whose prepare is not done until its gate opens. Its dataset is its own.
func (c *caller) newHeldPrepare() *flowOf {
	c.t.Helper()
	f := c.newFlow("http-push", "", nil)
	f.create["datasetId"] = f.id
	f.openGate("") // for the check of the dataset
	dataset := message{"mode": "auto", "sink": message{"type": "Gate", "properties": message{"gate": f.id}}}
	c.ask(http.MethodPut, "/api/v1/datasets/"+f.id, dataset, &struct{}{})
	if err := os.Remove(f.gate()); err != nil {
		c.t.Fatal(err)
	}
	return f
}

// newHeldStart returns a provider's flow whose start is not done until its gate opens.
func (c *caller) newHeldStart() *flowOf { return c.newFlow("gate-pull", "gated", nil) }

// newHeld returns both of them, begun, by their states.
func (c *caller) newHeld() map[string]*flowOf {
	c.t.Helper()
	return map[string]*flowOf{"PREPARING": c.newHeldPrepare().prepare(), "STARTING": c.newHeldStart().start()}
}

// variable returns what the environment of the host says.
func (h *host) variable(name string) (value string) {
	for _, v := range h.env { // the last one counts
		if after, ok := strings.CutPrefix(v, name+"="); ok {
			value = after
		}
	}
	return value
}

// secured has one control plane, with client credentials, and lies below a path. Its admin API wants a token, and it is registered in
// a management API that is not where the callbacks go.
func (w *world) secured(t testing.TB) *caller {
	t.Helper()
	i := w.issuer(t)
	s := w.enter(t, &w.securedSite, func(t testing.TB, s *site) {
		i.admit(oauthClient{id: "connector", secret: w.newSecret("secret of the connector"), audience: []string{"e2e"}})
		us := i.admit(oauthClient{id: "our-client", secret: w.newSecret("our secret"), subject: "e2e", audience: []string{"connector"}})
		s.offices["connector"] = newOffice(t, nil, i.demand(map[string]string{"sub": "e2e", "aud": "connector", "scope": "dps"}))
		key := w.newSecret("key of the management API")
		s.offices["management"] = newOffice(t, nil, demandHeader("X-Api-Key", key))
		s.admin = w.newSecret("admin token")
		s.settle(t, "secured", "/api/v1",
			listeners("  base_path = \"/api/v1\"\n", "  token = secret(\"admin.secret\")\n")+overHTTP+datasets+securedConfiguration,
			"E2E_OFFICE="+s.offices["connector"].url, "E2E_MANAGEMENT="+s.offices["management"].url+"/management/v4/",
			"E2E_ISSUER="+i.url, "E2E_TOKENS="+i.tokenEndpoint(), "E2E_JWKS="+i.jwksURI())
		s.writeSecrets(t, map[string]string{"client": us.secret, "management": key, "admin": s.admin,
			"callback": w.newSecret("what the control plane is to call with")})
	})
	c := s.caller(t, "connector")
	c.authorize = bearer(func() string { return i.token(t, "connector") })
	return c
}

const securedConfiguration = `
control_plane "connector" {
  endpoint = env("E2E_OFFICE")

  authorization "oauth2_client_credentials" {
    issuer         = env("E2E_ISSUER")
    jwks_uri       = env("E2E_JWKS")
    token_endpoint = env("E2E_TOKENS")
    client_id      = "our-client"
    client_secret  = secret("client.secret")
    scope          = "dps"
  }

  registration {
    endpoint = env("E2E_MANAGEMENT")
    headers = {
      "X-Api-Key" = secret("management.secret")
    }

    authorization "oauth2_client_credentials" {
      token_endpoint = env("E2E_TOKENS")
      client_id      = "connector-calls"
      client_secret  = secret("callback.secret")
      jwks_uri       = env("E2E_JWKS")
    }
  }
}

dataset "always async" {
  mode = "async"
  source "Generate" {
    size = "1KiB"
  }
}
`

// bearer returns what adds a token to a request.
func bearer(token func() string) func(*http.Request) {
	return func(r *http.Request) { r.Header.Set("Authorization", "Bearer "+token()) }
}

func header(name, value string) func(*http.Request) {
	return func(r *http.Request) { r.Header.Set(name, value) }
}

// demandHeader returns a guard for an office.
func demandHeader(name, value string) func(*http.Request) error {
	return func(r *http.Request) error {
		if r.Header.Get(name) != value {
			return errors.New(name + " is not as it should be")
		}
		return nil
	}
}

// writeSecrets writes files that only their owner may read, for the function secret.
func (s *site) writeSecrets(t testing.TB, all map[string]string) {
	t.Helper()
	for name, value := range all {
		writeFile(t, filepath.Join(s.host.config, name+".secret"), value)
	}
}

// contexts has two participants: alice with two control planes, bob with two more. Each is recognised in another way.
func (w *world) contexts(t testing.TB, id string) *caller {
	t.Helper()
	i := w.issuer(t)
	s := w.enter(t, &w.contextsSite, func(t testing.TB, s *site) { w.setUpContexts(t, s, i) })
	c := s.caller(t, id)
	switch id {
	case "alice-1":
		c.authorize = bearer(func() string { return i.forge(t, w.exchangedClaims(nil)) })
	case "alice-2":
		c.authorize = bearer(func() string { return w.alice2Token(t, nil) })
	case "bob-1":
		c.authorize = header("X-Api-Key", w.known("inbound key of bob-1"))
	case "bob-2":
		c.authorize = bearer(func() string { return w.known("inbound token of bob-2") })
	}
	return c
}

// exchangedClaims are those of a token that the control plane alice-1 has exchanged its own for.
func (w *world) exchangedClaims(changes map[string]any) map[string]any {
	return merged(map[string]any{
		"sub": "spiffe://cluster/ns/alice", "client_id": "alice-1", "aud": "https://dataplane.example", "scope": "other dps",
		"participant_context": "alice",
	}, changes)
}

// alice2Token is a token that the control plane alice-2 has signed itself.
func (w *world) alice2Token(t testing.TB, changes map[string]any) string {
	return signJWT(t, jose.ES256, w.alice2Key, "alice-2-key", merged(map[string]any{
		"iss": "alice-2", "sub": "alice-2", "aud": []string{"someone else", "plane"}, "iat": time.Now().Unix(),
		"exp": time.Now().Add(time.Minute).Unix(), "jti": newID(),
	}, changes))
}

// known returns a secret by what it is.
func (w *world) known(what string) string {
	w.mu.Lock()
	defer w.mu.Unlock()
	for value, name := range w.secrets {
		if name == what {
			return value
		}
	}
	panic("there is no " + what)
}

func (w *world) setUpContexts(t testing.TB, s *site, i *issuer) {
	w.alice2Key = newKey(t)
	guards := map[string]func(*http.Request) error{
		"alice-1": i.demand(map[string]string{"aud": "https://alice-1.example", "scope": "dps", "sub": "spiffe://cluster/ns/e2e"}),
		"alice-2": nil,
		"bob-1":   demandHeader("X-Api-Key", w.newSecret("outbound key of bob-1")),
		"bob-2":   demandHeader("Authorization", "Bearer "+w.newSecret("outbound token of bob-2")),
	}
	var env []string
	for id, guard := range guards {
		s.offices[id] = newOffice(t, nil, guard)
		env = append(env, "E2E_"+strings.ToUpper(strings.Replace(id, "-", "_", 1))+"="+s.offices[id].url)
	}
	subjectToken := filepath.Join(t.TempDir(), "subject-token")
	s.settle(t, "contexts", "", listeners("", "")+overHTTP+contextsConfiguration, append(env,
		"E2E_ISSUER="+i.url, "E2E_TOKENS="+i.tokenEndpoint(), "E2E_JWKS="+i.jwksURI(), "E2E_SUBJECT_TOKEN="+subjectToken)...)
	w.writeSubjectToken(t, s.host, i)
	s.writeSecrets(t, map[string]string{
		"alice":    w.newSecret("registration key of alice"),
		"bob-1-in": w.newSecret("inbound key of bob-1"), "bob-1-out": w.known("outbound key of bob-1"),
		"bob-2-in": w.newSecret("inbound token of bob-2"), "bob-2-out": w.known("outbound token of bob-2"),
	})
	keys := jose.JSONWebKeySet{Keys: []jose.JSONWebKey{{Key: w.alice2Key.Public(), KeyID: "alice-2-key", Algorithm: "ES256", Use: "sig"}}}
	writeFile(t, filepath.Join(s.host.config, "alice-2.jwks"), encode(t, keys))
}

// writeSubjectToken gives the host a new token of its own workload, in place of the one that it had.
func (w *world) writeSubjectToken(t testing.TB, h *host, i *issuer) string {
	t.Helper()
	file := h.variable("E2E_SUBJECT_TOKEN")
	if former, err := os.ReadFile(file); err == nil {
		i.distrust(string(former))
	}
	raw := i.forge(t, map[string]any{"sub": "spiffe://cluster/ns/e2e", "aud": "broker"})
	w.keep("subject token", raw)
	i.trust(raw, exchanged{subject: "spiffe://cluster/ns/e2e", claims: map[string]any{"client_id": "e2e"}})
	writeFile(t, file+".new", raw)
	if err := os.Rename(file+".new", file); err != nil {
		t.Fatal(err)
	}
	return raw
}

const contextsConfiguration = `
participant_context "alice" {
  registration_key = secret("alice.secret")
}

participant_context "bob" {}

control_plane "alice-1" {
  participant_context = "alice"
  endpoint            = env("E2E_ALICE_1")

  authorization "oauth2_token_exchange" {
    issuer                  = env("E2E_ISSUER")
    jwks_uri                = env("E2E_JWKS")
    audiences               = ["https://dataplane.example"]
    required_scope          = "dps"
    token_exchange_endpoint = env("E2E_TOKENS")
    subject_token           = env("E2E_SUBJECT_TOKEN")
    audience                = "https://alice-1.example"
    resource                = "https://alice-1.example/dps"
    scope                   = "dps"
  }
}

control_plane "alice-2" {
  participant_context = "alice"
  endpoint            = env("E2E_ALICE_2")

  authorization "oauth2_client_credentials" {
    issuer     = "alice-2"
    audiences  = ["e2e", "plane"]
    jwks       = file("alice-2.jwks")
    single_use = true
  }
}

control_plane "bob-1" {
  participant_context = "bob"
  endpoint            = env("E2E_BOB_1")

  authorization "static" {
    header   = "X-Api-Key"
    inbound  = secret("bob-1-in.secret")
    outbound = secret("bob-1-out.secret")
  }
}

control_plane "bob-2" {
  participant_context = "bob"
  endpoint            = env("E2E_BOB_2")

  authorization "static" {
    header   = "Authorization"
    inbound  = secret("bob-2-in.secret")
    outbound = secret("bob-2-out.secret")
  }
}

dataset "small" {
  participant_context = "alice"
  source "Generate" {
    size = "1KiB"
  }
  sink "Discard" {}
}

dataset "small" {
  participant_context = "bob"
  source "Generate" {
    size = "1KiB"
  }
  sink "Discard" {}
}

dataset "of bob" {
  participant_context = "bob"
  source "Generate" {
    size = "1KiB"
  }
}
`

// dynamic has no control plane but those that register. The key of its other context is another one.
func (w *world) dynamic(t testing.TB) *caller {
	t.Helper()
	s := w.enter(t, &w.dynamicSite, func(t testing.TB, s *site) {
		s.settle(t, "dynamic", "/signaling", listeners("  base_path = \"/signaling\"\n", "")+overHTTP+datasets+dynamicConfiguration)
		s.writeSecrets(t, map[string]string{
			"registration": w.newSecret("registration key"), "tenant": w.newSecret("registration key of the tenant")})
	})
	c := s.caller(t, "")
	c.authorize = header("X-Api-Key", w.known("registration key"))
	return c
}

const dynamicConfiguration = `
participant_context "default" {
  registration_key = secret("registration.secret")
}

participant_context "tenant" {
  registration_key = secret("tenant.secret")
}

dataset "small" {
  participant_context = "tenant"
  source "Generate" {
    size = "1KiB"
  }
  sink "Discard" {}
}
`

// The profiles of the HTTP profile.
const (
	httpPull = "https://w3id.org/dspace-sig/profile/http-pull"
	httpPush = "https://w3id.org/dspace-sig/profile/http-push"
)

// ourDID is who the host strict is towards counterparties.
const ourDID = "did:web:dataplane.example"

// strict obeys the HTTP profile to the letter: TLS everywhere, and for signaling in both directions with certificates of both sides.
// It renews tokens, its own and those of others.
func (w *world) strict(t testing.TB) *caller {
	t.Helper()
	return w.enter(t, &w.strictSite, func(t testing.TB, s *site) {
		s.http = w.ca.client(t, "connector")
		s.offices["connector"] = newOffice(t, w.ca.server(t, true), nil)
		s.settle(t, "strict", "", datasets+strictConfiguration, "E2E_OFFICE="+s.offices["connector"].url)
		s.host.env = append(s.host.env, "E2E_PUBLIC_URL=https://"+s.host.network.address, "SSL_CERT_FILE="+s.host.config+"/ca.pem")
		s.host.signaling = strings.Replace(s.host.signaling, "http://", "https://", 1)
		s.host.public = strings.Replace(s.host.public, "http://", "https://", 1)
		s.base = s.host.signaling
		w.ca.write(t, s.host.config)
		w.ourKey = newKey(t)
		writeFile(t, filepath.Join(s.host.config, "did.pem"), pemOf(t, w.ourKey))
	}).caller(t, "connector")
}

const strictConfiguration = `
listen "signaling" {
  address = env("E2E_SIGNALING")
  tls {
    certificate = "server.pem"
    key         = "server.key"
    client_ca   = "ca.pem"
  }
}

listen "public" {
  address = env("E2E_PUBLIC")
  url     = env("E2E_PUBLIC_URL")
  tls {
    certificate = "server.pem"
    key         = "server.key"
  }
}

listen "admin" {
  address = env("E2E_ADMIN")
}

participant_context "default" {
  did    = "did:web:dataplane.example"
  key    = "did.pem"
  key_id = "did:web:dataplane.example#key-1"
}

control_plane "connector" {
  endpoint = env("E2E_OFFICE")
  tls {
    ca          = "ca.pem"
    certificate = "client.pem"
    key         = "client.key"
  }
}

plugin "http" {
  config {
    allow   = ["loopback"]
    ca_file = path("ca.pem")
  }
}

profile "https://w3id.org/dspace-sig/profile/http-pull" {
  mode = "sync"
}

profile "https://w3id.org/dspace-sig/profile/http-push" {
  mode = "sync"
}

profile "demanding-pull" {
  type    = "HttpData"
  renewal = "require"
}

profile "off-pull" {
  type    = "HttpData"
  renewal = "off"
}
`
