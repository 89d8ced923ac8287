package identity

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"encoding/base64"
	"encoding/json"
	"errors"
	"io"
	"maps"
	"net/http"
	"sync"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/golang-jwt/jwt/v5"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// start is when the clock of tests begins.
var start = time.Date(2026, 3, 4, 5, 6, 7, 0, time.UTC)

// pairs are private keys of every kind, made once.
var pairs = sync.OnceValue(func() map[string]crypto.Signer {
	must := func(key crypto.Signer, err error) crypto.Signer {
		if err != nil {
			panic(err)
		}
		return key
	}
	ec := func(curve elliptic.Curve) crypto.Signer { return must(ecdsa.GenerateKey(curve, rand.Reader)) }
	_, ed, err := ed25519.GenerateKey(rand.Reader)
	return map[string]crypto.Signer{
		"P-256": ec(elliptic.P256()), "P-384": ec(elliptic.P384()), "P-521": ec(elliptic.P521()), "P-224": ec(elliptic.P224()),
		"other P-256": ec(elliptic.P256()), "Ed25519": must(ed, err),
		"RSA": must(rsa.GenerateKey(rand.Reader, 2048)),
	}
})

// sign returns a token. A nil header is that of a token without kid.
func sign(t testing.TB, alg string, key any, header map[string]any, claims map[string]any) string {
	t.Helper()
	token := jwt.NewWithClaims(jwt.GetSigningMethod(alg), jwt.MapClaims(claims))
	maps.Copy(token.Header, header)
	raw, err := token.SignedString(key)
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

// jwk returns a key as JSON, with some members set or, if nil, taken away.
func jwk(t testing.TB, key any, change map[string]any) json.RawMessage {
	t.Helper()
	raw, err := jose.JSONWebKey{Key: key}.MarshalJSON()
	if err != nil {
		t.Fatal(err)
	}
	var members map[string]any
	if err := json.Unmarshal(raw, &members); err != nil {
		t.Fatal(err)
	}
	for name, value := range change {
		if members[name] = value; value == nil {
			delete(members, name)
		}
	}
	return marshal(t, members)
}

func jwks(t testing.TB, keys ...json.RawMessage) []byte {
	t.Helper()
	return marshal(t, map[string]any{"keys": keys})
}

func marshal(t testing.TB, v any) []byte {
	t.Helper()
	raw, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

func mustParse(t testing.TB, raw []byte) StaticKeys {
	t.Helper()
	keys, err := ParseJWKS(raw)
	if err != nil {
		t.Fatal(err)
	}
	return keys
}

// site is what is served somewhere, without a network.
type site struct {
	mu     sync.Mutex // guards what follows
	body   []byte
	status int
	header http.Header
	err    error
	delay  time.Duration
	gets   []string // what was asked for
}

func (s *site) client() *http.Client { return &http.Client{Transport: s} }

func (s *site) RoundTrip(r *http.Request) (*http.Response, error) {
	s.mu.Lock()
	s.gets = append(s.gets, r.URL.String())
	body, status, header, err, delay := s.body, s.status, s.header, s.err, s.delay
	s.mu.Unlock()
	if pause(r.Context(), delay); r.Context().Err() != nil {
		return nil, r.Context().Err()
	}
	if err != nil {
		return nil, err
	}
	return &http.Response{StatusCode: status, Header: header, Body: io.NopCloser(bytes.NewReader(body)), Request: r}, nil
}

// serve changes what is served.
func (s *site) serve(body []byte) {
	s.change(func() { s.body, s.status, s.err = body, http.StatusOK, nil })
}

func (s *site) change(f func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	f()
}

// asked returns how often something was asked for since the last call.
func (s *site) asked() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := len(s.gets)
	s.gets = nil
	return n
}

// outcome says in a word how a lookup ended.
func outcome(keys []crypto.PublicKey, err error) string {
	switch {
	case err == nil && len(keys) > 0:
		return "found"
	case len(keys) > 0:
		return "keys and an error"
	case errors.Is(err, ErrNoKey) && !errors.Is(err, ErrKeys):
		return "no key"
	case errors.Is(err, ErrKeys) && !errors.Is(err, ErrNoKey):
		return "unavailable"
	}
	return "odd"
}

func lookup(k Keys, kid string) string { return outcome(k.Keys(context.Background(), kid)) }

// mustHeader returns a token of an algorithm, without claims and with an empty signature.
func mustHeader(alg string) string {
	return base64.RawURLEncoding.EncodeToString([]byte(`{"alg":"`+alg+`"}`)) + ".e30."
}
