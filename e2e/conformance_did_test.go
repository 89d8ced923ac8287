//go:build linux

package e2e_test

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/tls"
	"encoding/base64"
	"encoding/json"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
)

// didHost publishes the DID documents of parties, by did:web.
type didHost struct {
	authority string // host and port as a DID has them

	mu        sync.Mutex
	documents map[string]string // by path
	fetched   map[string]int
}

// newDIDHost returns one that listens on the loopback interface, with TLS if config is not nil.
func newDIDHost(t testing.TB, config *tls.Config) *didHost {
	t.Helper()
	h := &didHost{documents: map[string]string{}, fetched: map[string]int{}}
	address := freeAddress(t)
	h.authority = strings.Replace(address, "127.0.0.1:", "localhost%3A", 1)
	listen(t, address, config, h)
	return h
}

func (h *didHost) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.fetched[r.URL.Path]++
	document, ok := h.documents[r.URL.Path]
	if !ok {
		http.NotFound(w, r)
		return
	}
	w.Header().Set("Content-Type", "application/did+json")
	w.Write([]byte(document))
}

func (h *didHost) publish(path, document string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.documents[path] = document
}

// party is a participant of a dataspace: a DID with a key.
type party struct {
	did  string
	key  *ecdsa.PrivateKey
	kid  string // absolute
	host *didHost
	path string
}

// newParty returns a participant whose document is published.
func (h *didHost) newParty(t testing.TB, name string) *party {
	t.Helper()
	p := &party{did: "did:web:" + h.authority + ":" + name, host: h, path: "/" + name + "/did.json"}
	p.rotate(t)
	return p
}

// rotate gives the participant a new key in place of the old one, under the same DID.
func (p *party) rotate(t testing.TB) {
	t.Helper()
	p.key, p.kid = newKey(t), p.did+"#"+newID()[:8]
	p.publish(t, p.kid)
}

// publish publishes a document with the key under a name, which may be relative.
func (p *party) publish(t testing.TB, kid string) {
	t.Helper()
	document := map[string]any{
		"@context": []string{"https://www.w3.org/ns/did/v1"},
		"id":       p.did,
		"verificationMethod": []any{map[string]any{
			"id": kid, "type": "JsonWebKey2020", "controller": p.did, "publicKeyJwk": jose.JSONWebKey{Key: p.key.Public()},
		}},
		"authentication": []string{kid}, "assertionMethod": []string{kid},
	}
	p.host.publish(p.path, encode(t, document))
}

// assertion returns the JWT with which the participant asks another one to renew a token.
func (p *party) assertion(t testing.TB, audience, accessToken string, changes map[string]any) string {
	t.Helper()
	return signJWT(t, jose.ES256, p.key, p.kid, merged(map[string]any{
		"iss": p.did, "sub": p.did, "aud": audience, "token": accessToken,
		"iat": time.Now().Unix(), "exp": time.Now().Add(time.Minute).Unix(), "jti": newID(),
	}, changes))
}

// didJWK returns the DID that a public key is by itself, and the name of the key.
func didJWK(t testing.TB, key crypto.PublicKey) (did, kid string) {
	t.Helper()
	text, err := json.Marshal(jose.JSONWebKey{Key: key})
	if err != nil {
		t.Fatal(err)
	}
	did = "did:jwk:" + base64.RawURLEncoding.EncodeToString(text)
	return did, did + "#0"
}

// refreshForm is the body of a request for renewal.
func refreshForm(refreshToken string) url.Values {
	return url.Values{"grant_type": {"refresh_token"}, "refresh_token": {refreshToken}}
}
