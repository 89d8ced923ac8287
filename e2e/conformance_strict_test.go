//go:build linux

package e2e_test

import (
	"path/filepath"
	"strings"
	"testing"
)

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
