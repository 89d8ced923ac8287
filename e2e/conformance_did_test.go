//go:build linux

package e2e_test

import (
	"crypto"
	"crypto/ed25519"
	"crypto/rsa"
	"crypto/tls"
	"encoding/base64"
	"encoding/json"
	"math/big"
	"net/http"
	"net/url"
	"slices"
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
	key  crypto.Signer
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
	return signJWT(t, p.algorithm(), p.key, p.kid, merged(map[string]any{
		"iss": p.did, "sub": p.did, "aud": audience, "token": accessToken,
		"iat": time.Now().Unix(), "exp": time.Now().Add(time.Minute).Unix(), "jti": newID(),
	}, changes))
}

// algorithm is what the participant signs with.
func (p *party) algorithm() jose.SignatureAlgorithm {
	switch p.key.(type) {
	case ed25519.PrivateKey:
		return jose.EdDSA
	case *rsa.PrivateKey:
		return jose.RS256
	}
	return jose.ES256
}

// didKey returns the DID that an Ed25519 key is by its bytes, and the name of the key.
func didKey(key ed25519.PublicKey) (did, kid string) {
	const alphabet = "123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz"
	n, digit := new(big.Int).SetBytes(append([]byte{0xed, 0x01}, key...)), new(big.Int)
	var text []byte
	for n.Sign() > 0 {
		n.DivMod(n, big.NewInt(int64(len(alphabet))), digit)
		text = append(text, alphabet[digit.Int64()])
	}
	slices.Reverse(text)
	did = "did:key:z" + string(text)
	return did, did + "#z" + string(text)
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
