//go:build linux

package e2e_test

import (
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
)

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
