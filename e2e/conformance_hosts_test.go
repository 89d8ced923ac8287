//go:build linux

package e2e_test

import (
	"errors"
	"net/http"
	"path/filepath"
	"testing"
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
  response "Discard" {}
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
