package identity

import (
	"bytes"
	"context"
	"crypto"
	"errors"
	"net/url"
	"path"
	"reflect"
	"strings"
	"testing"
	"time"
)

// FuzzJWKS looks for key sets that end the process, and for keys that no algorithm works with.
func FuzzJWKS(f *testing.F) {
	p := pairs()
	f.Add(jwks(f, jwk(f, p["P-256"].Public(), map[string]any{"kid": "a", "use": "sig"}), jwk(f, p["RSA"].Public(), nil)))
	f.Add(jwks(f, jwk(f, p["Ed25519"], nil)))
	f.Add([]byte(`{"keys":[{"kty":"oct","k":"AA"},{"kty":"EC","crv":"P-256","x":"AA"},{"kty":"OKP","crv":"Ed25519"},null,1]}`))
	f.Fuzz(func(t *testing.T, raw []byte) {
		keys, err := ParseJWKS(raw)
		if (len(keys) > 0) == (err != nil) {
			t.Errorf("%d keys, %v", len(keys), err)
		}
		checkUsable(t, keys)
	})
}

// checkUsable fails if a key fits no algorithm, or if verifying with it ends the process.
func checkUsable(t *testing.T, keys StaticKeys) {
	token := unverified{signed: "a.b"}
	for _, k := range keys {
		used := false
		for _, alg := range algorithms {
			if !fits(alg, k.key) {
				continue
			}
			used = true
			raw, err := parse(mustHeader(alg))
			if err != nil {
				t.Fatal(err)
			}
			token.Token = raw.Token
			if err := token.try([]crypto.PublicKey{k.key}, nil); !errors.Is(err, ErrSignature) {
				t.Errorf("%s with %T: %v", alg, k.key, err)
			}
		}
		if !used {
			t.Errorf("no algorithm for %T", k.key)
		}
	}
}

// FuzzDocument looks for DID documents that end the process, and for keys that do not belong to the DID.
func FuzzDocument(f *testing.F) {
	const did = "did:web:them"
	f.Add(documentOf(f, did, "a", "b"))
	f.Add(documentOf(f, "did:web:other", "a"))
	f.Add([]byte(`{"id":"did:web:them","verificationMethod":[{"id":"#k","publicKeyMultibase":"` +
		multikeyOf(f, pairs()["RSA"].Public()) + `"}],"authentication":["#k",{"id":"k","publicKeyJwk":{}}],"assertionMethod":[null]}`))
	f.Fuzz(func(t *testing.T, raw []byte) {
		keys, err := parseDocument(did, raw)
		if err != nil && keys != nil {
			t.Errorf("keys and %v", err)
		}
		for _, k := range keys {
			if !strings.HasPrefix(k.id, did+"#") || len(k.id) == len(did)+1 && !bytes.Contains(raw, []byte(`#"`)) {
				t.Errorf("key %q", k.id)
			}
		}
		checkUsable(t, keys)
	})
}

// FuzzDID looks for DIDs that end the process or lead elsewhere than to the document of a host.
func FuzzDID(f *testing.F) {
	for _, did := range []string{
		"did:web:example.com", "did:web:example.com%3A3000:user:alice", "did:web:example.com:..:%2e%2e", "did:web:a%40b%2Fc",
		"did:key:z6MkiTBz1ymuepAQ4HEHYSF1H8quG5GLVVQR3djdX3mDooWp", "did:jwk:e30", "did:x:y", "did:web:%5B%3A%3A1%5D", "did:web:a:%7B",
	} {
		f.Add(did)
	}
	f.Fuzz(func(t *testing.T, did string) {
		if CheckDID(did) != nil {
			return
		}
		if !IsDID(did) {
			t.Errorf("%q can be resolved and is no DID", did)
		}
		switch method(did) {
		case "web":
			address, err := webAddress(did)
			if err != nil {
				t.Fatal(err)
			}
			whole, err := url.Parse("https://" + address.Host + address.EscapedPath())
			if err != nil || whole.Host != address.Host || whole.User != nil || path.Clean(whole.Path) != whole.Path ||
				strings.ContainsAny(whole.Path, `\?#;% `) || path.Base(whole.Path) != "did.json" {
				t.Errorf("%q is at %v, %v", did, address, err)
			}
		default:
			keys, err := ownKeys(did)
			if err != nil {
				t.Fatal(err)
			}
			checkUsable(t, keys)
		}
	})
}

// FuzzMultikey looks for multibase that ends the process, and compares base58 with another way to compute it.
func FuzzMultikey(f *testing.F) {
	for _, kind := range []string{"P-256", "P-384", "P-521", "Ed25519", "RSA"} {
		f.Add(multikeyOf(f, pairs()[kind].Public()))
	}
	f.Add("z111")
	f.Add("z" + strings.Repeat("z", 100))
	f.Fuzz(func(t *testing.T, s string) {
		if key, err := parseMultikey(s); err == nil {
			checkUsable(t, StaticKeys{{"", key}})
		}
		if len(s) > maxMultibase {
			return
		}
		if raw, err := decodeBase58(s); err == nil && encodeBase58(raw) != s {
			t.Errorf("%q is %x, which is %q", s, raw, encodeBase58(raw))
		}
	})
}

// FuzzVerify looks for tokens that end the process, or that are accepted though nobody signed them.
func FuzzVerify(f *testing.F) {
	p := pairs()
	signed := map[string]bool{}
	for _, raw := range []string{
		sign(f, "ES256", p["P-256"], map[string]any{"kid": "k"}, good(nil)),
		sign(f, "RS256", p["RSA"], nil, good(map[string]any{"nbf": 1})),
		sign(f, "EdDSA", p["Ed25519"], nil, good(map[string]any{"exp": 1})),
	} {
		f.Add(raw)
		signed[raw] = true
	}
	f.Add(mustHeader("none"))
	f.Add("..")
	keys := StaticKeys{{"k", p["P-256"].Public()}, {"r", p["RSA"].Public()}, {"e", p["Ed25519"].Public()}}
	r := rules()
	f.Fuzz(func(t *testing.T, raw string) {
		c, err := Verify(context.Background(), raw, keys, r)
		if (err == nil) != (c != nil) || err == nil && !signed[raw] {
			t.Errorf("%+v, %v", c, err)
		}
		skipping := r
		skipping.SkipSignature = true
		c, err = Verify(context.Background(), raw, nil, skipping)
		if err == nil && (c.Issuer != r.Issuer || !c.Expires.After(start.Add(-time.Minute))) {
			t.Errorf("accepted %+v", c)
		}
		for _, want := range []error{nil, ErrMalformed, ErrClaims, ErrExpired} {
			if errors.Is(err, want) {
				return
			}
		}
		t.Errorf("an error that nobody knows: %v", err)
	})
}

// FuzzPeek reads tokens that nobody has vouched for. What it says of one is what Verify would say if the signature were good.
func FuzzPeek(f *testing.F) {
	p := pairs()
	for _, claims := range []map[string]any{good(nil), good(map[string]any{"aud": []any{"a", 1}}), good(map[string]any{"exp": "soon"}), {}, {"scope": []any{"a", "b"}, "x": nil}} {
		f.Add(sign(f, "ES256", p["P-256"], map[string]any{"kid": "k"}, claims))
	}
	f.Add(sign(f, "EdDSA", p["Ed25519"], map[string]any{"kid": 7}, good(nil)))
	f.Add("a.b.c")
	f.Add("")
	f.Fuzz(func(t *testing.T, raw string) {
		c, err := Peek(raw)
		if err != nil {
			if c != nil || !errors.Is(err, ErrMalformed) {
				t.Errorf("%+v, %v", c, err)
			}
			return
		}
		for _, name := range []string{"iss", "sub", "aud", "jti", "exp", "iat", "scope", "client_id", "participant_context"} {
			if _, ok := c.Extra[name]; ok {
				t.Errorf("%s is among the other claims", name)
			}
		}
		r := Rules{SkipSignature: true, ExpiryOptional: true, Clock: func() time.Time { return start }}
		if v, err := Verify(context.Background(), raw, nil, r); err == nil && !reflect.DeepEqual(v, c) {
			t.Errorf("at a glance %+v, at a second one %+v", c, v)
		}
	})
}
