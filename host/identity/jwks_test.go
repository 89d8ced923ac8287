package identity

import (
	"crypto"
	"crypto/rsa"
	"encoding/json"
	"errors"
	"math/big"
	"slices"
	"strings"
	"testing"
)

func TestParseJWKS(t *testing.T) {
	p := pairs()
	public := func(kind string, change map[string]any) json.RawMessage { return jwk(t, p[kind].Public(), change) }
	x := func(size int) map[string]any { return map[string]any{"x": strings.Repeat("A", size)} }
	good := public("P-256", map[string]any{"kid": "good"})
	several := func(n int) []json.RawMessage { return slices.Repeat([]json.RawMessage{good}, n) }
	modulus := func(bits int) json.RawMessage {
		n := new(big.Int).Lsh(big.NewInt(1), uint(bits-1))
		return jwk(t, &rsa.PublicKey{N: n.Add(n, big.NewInt(1)), E: 65537}, nil)
	}
	weak := modulus(2047)
	for _, tc := range []struct {
		name string
		raw  []byte
		want string // number of keys and their ids, or what the error has
	}{
		{"none of them", []byte(`{"keys":[]}`), "no key"},
		{"no list", []byte(`{}`), "no key"},
		{"no object", []byte(`[]`), "is none"},
		{"no JSON", []byte(`{`), "is none"},
		{"more after it", append(jwks(t, good), '{'), "is none"},
		{"no keys in it", []byte(`{"keys":[1]}`), "key 1 of the key set: it is no JSON Web Key"},
		{"one", jwks(t, good), "good"},
		{"all kinds", jwks(t, good, public("P-384", nil), public("P-521", nil), public("Ed25519", nil), public("RSA", nil)), "good,,,,"},
		{"duplicates of an id", jwks(t, good, public("RSA", map[string]any{"kid": "good"})), "good,good"},
		{"as many as may be", jwks(t, several(maxKeys)...), strings.Repeat("good,", maxKeys-1) + "good"},
		{"too many", jwks(t, several(maxKeys+1)...), "at most 100"},
		{"for signatures", jwks(t, public("RSA", map[string]any{"use": "sig", "alg": "PS256", "kid": "s"})), "s"},
		{"a broken certificate", jwks(t, public("RSA", map[string]any{"x5c": []string{"?"}, "x5t": "?", "x5u": ":", "kid": "s"})), "s"},
		{"for encryption", jwks(t, public("RSA", map[string]any{"use": "enc"}), good), "good"},
		{"for key transport", jwks(t, public("RSA", map[string]any{"alg": "RSA-OAEP"}), good), "good"},
		{"unknown type", jwks(t, json.RawMessage(`{"kty":"AKP","pub":"AA"}`), good), "good"},
		{"unknown curve", jwks(t, json.RawMessage(`{"kty":"EC","crv":"secp256k1","x":"AA","y":"AA"}`), good), "good"},
		{"curve for agreement", jwks(t, json.RawMessage(`{"kty":"OKP","crv":"X25519","x":"AA"}`), good), "good"},
		{"nothing else", jwks(t, json.RawMessage(`{"kty":"EC","crv":"secp256k1","x":"AA","y":"AA"}`)), "no key"},
		{"no type", jwks(t, public("P-256", map[string]any{"kty": nil})), "no kty"},
		{"symmetric", jwks(t, good, json.RawMessage(`{"kty":"oct","k":"c2VjcmV0"}`)), "key 2 of the key set: it is a symmetric key"},
		{"symmetric under another name", jwks(t, public("P-256", map[string]any{"k": "c2VjcmV0"})), "symmetric"},
		{"private EC", jwks(t, jwk(t, p["P-256"], nil)), "private key"},
		{"private Ed25519", jwks(t, good, jwk(t, p["Ed25519"], nil)), "private key"},
		{"private RSA", jwks(t, jwk(t, p["RSA"], nil)), "private key"},
		{"private for encryption", jwks(t, good, jwk(t, p["RSA"], map[string]any{"use": "enc"})), "private key"},
		{"weak RSA", jwks(t, weak, good), "2047 bits"},
		{"enormous RSA", jwks(t, modulus(maxRSABits+1), good), "good"},
		{"RSA with exponent 1", jwks(t, public("RSA", map[string]any{"e": "AQ"})), "malformed"},
		{"not on the curve", jwks(t, public("P-256", x(43))), "malformed"},
		{"short coordinate", jwks(t, public("P-256", x(42))), "malformed"},
		{"short Ed25519", jwks(t, public("Ed25519", x(42))), "malformed"},
		{"no coordinate", jwks(t, public("P-256", map[string]any{"x": nil})), "malformed"},
		{"coordinate no string", jwks(t, public("P-256", map[string]any{"x": 1})), "no JSON Web Key"},
	} {
		keys, err := ParseJWKS(tc.raw)
		if err != nil {
			if !strings.Contains(err.Error(), tc.want) || keys != nil {
				t.Errorf("%s: %v, want %q", tc.name, err, tc.want)
			}
			continue
		}
		ids := make([]string, len(keys))
		for i, k := range keys {
			ids[i] = k.id
		}
		if got := strings.Join(ids, ","); got != tc.want {
			t.Errorf("%s: keys %q, want %q", tc.name, got, tc.want)
		}
	}
}

func TestStaticKeys(t *testing.T) {
	p := pairs()
	keys := mustParse(t, jwks(t, jwk(t, p["P-256"].Public(), map[string]any{"kid": "a"}), jwk(t, p["RSA"].Public(), nil)))
	for kid, want := range map[string][]crypto.PublicKey{
		"":  {p["P-256"].Public(), p["RSA"].Public()},
		"a": {p["P-256"].Public()},
		"A": nil,
	} {
		got, err := keys.Keys(t.Context(), kid)
		if !slices.EqualFunc(got, want, samePublic) || (err != nil) != (want == nil) || err != nil && !errors.Is(err, ErrNoKey) {
			t.Errorf("kid %q: %v, %v", kid, got, err)
		}
	}
}

func samePublic(a, b crypto.PublicKey) bool {
	return a.(interface{ Equal(crypto.PublicKey) bool }).Equal(b)
}
