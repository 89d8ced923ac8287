package identity

import (
	"context"
	"crypto"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"fmt"
	"maps"
	"strings"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"
	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

// good returns claims that rules accepts, with changes; nil takes a claim away.
func good(change map[string]any) map[string]any {
	claims := map[string]any{
		"iss": "did:web:them", "sub": "cp-1", "aud": []string{"dp-0", "dp-1"}, "jti": "1",
		"iat": float64(start.Unix()), "exp": float64(start.Unix() + 60),
	}
	maps.Copy(claims, change)
	maps.DeleteFunc(claims, func(_ string, v any) bool { return v == nil })
	return claims
}

func rules() Rules {
	return Rules{
		Issuer: "did:web:them", Subject: "cp-1", Audiences: []string{"dp-1", "dp-2"}, Leeway: 5 * time.Second,
		Clock: func() time.Time { return start },
	}
}

func TestEachAlgorithmHasItsKeys(t *testing.T) {
	curve := map[string]string{"ES256": "P-256", "ES384": "P-384", "ES512": "P-521", "EdDSA": "Ed25519"}
	var all StaticKeys
	for name, pair := range pairs() {
		all = append(all, publicKey{name, pair.Public()})
	}
	for _, alg := range algorithms {
		kind := curve[alg]
		if kind == "" {
			kind = "RSA"
		}
		raw := sign(t, alg, pairs()[kind], nil, good(nil))
		for name, keys := range map[string]StaticKeys{"only": {{"", pairs()[kind].Public()}}, "among all": all} {
			if _, err := Verify(t.Context(), raw, keys, rules()); err != nil {
				t.Errorf("%s, %s: %v", alg, name, err)
			}
		}
		for other, pair := range pairs() {
			if other == kind {
				continue
			}
			if c, err := Verify(t.Context(), raw, StaticKeys{{"", pair.Public()}}, rules()); !errors.Is(err, ErrSignature) || c != nil {
				t.Errorf("%s with a key of %s: %v, %v; want ErrSignature", alg, other, c, err)
			}
		}
	}
}

// A curve that is not the algorithm's is refused even if the signature is right.
func TestAlgorithmIsBoundToTheCurve(t *testing.T) {
	key := pairs()["P-224"]
	if fits("ES256", key.Public()) || fits("EdDSA", key.Public()) || fits("RS256", key.Public()) {
		t.Error("P-224 fits an algorithm")
	}
	for _, alg := range algorithms {
		if fits(alg, []byte("a secret")) {
			t.Errorf("a symmetric key fits %s", alg)
		}
	}
}

func TestVerifyRefuses(t *testing.T) {
	key, other := pairs()["P-256"], pairs()["other P-256"]
	keys := StaticKeys{{"k", key.Public()}, {"k", pairs()["RSA"].Public()}, {"other", other.Public()}}
	k := map[string]any{"kid": "k"}
	ok := sign(t, "ES256", key, k, good(nil))
	part := strings.Split(ok, ".")
	seg := func(s string) string { return base64.RawURLEncoding.EncodeToString([]byte(s)) }
	claims := func(change map[string]any) string { return sign(t, "ES256", key, k, good(change)) }
	header := func(h map[string]any) string { return sign(t, "ES256", key, h, good(nil)) }
	der, err := x509.MarshalPKIXPublicKey(key.Public())
	if err != nil {
		t.Fatal(err)
	}
	public := pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der})
	seconds := func(d time.Duration) float64 { return float64(start.Add(d).Unix()) }

	for _, tc := range []struct {
		name, raw string
		want      error // nil: accepted
		text      string
	}{
		{"good", ok, nil, ""},
		{"no kid", header(nil), nil, ""},
		{"empty kid", header(map[string]any{"kid": ""}), nil, ""},
		{"no kid, second key", sign(t, "ES256", other, nil, good(nil)), nil, ""},
		{"second key of that kid", sign(t, "RS256", pairs()["RSA"], k, good(nil)), nil, ""},
		{"one audience", claims(map[string]any{"aud": "dp-2"}), nil, ""},
		{"expired within leeway", claims(map[string]any{"exp": seconds(-4 * time.Second)}), nil, ""},
		{"nbf within leeway", claims(map[string]any{"nbf": seconds(5 * time.Second)}), nil, ""},
		{"iat within leeway", claims(map[string]any{"iat": seconds(5 * time.Second)}), nil, ""},
		{"iat unknown", claims(map[string]any{"iat": nil}), nil, ""},
		{"a fraction of a second", claims(map[string]any{"exp": 1772600768.5}), nil, ""},

		{"empty", "", ErrMalformed, ""},
		{"words", "not a token", ErrMalformed, ""},
		{"four segments", ok + ".x", ErrMalformed, ""},
		{"padding", ok + "=", ErrMalformed, ""},
		{"too long", ok + strings.Repeat("A", maxToken), ErrMalformed, "bytes"},
		{"no JSON", part[0] + "." + seg("{") + "." + part[2], ErrMalformed, ""},
		{"no object", part[0] + "." + seg("[]") + "." + part[2], ErrMalformed, ""},
		{"header no object", seg("1") + "." + part[1] + "." + part[2], ErrMalformed, ""},
		{"no algorithm", seg("{}") + "." + part[1] + "." + part[2], ErrMalformed, ""},
		{"unknown algorithm", seg(`{"alg":"ES999"}`) + "." + part[1] + "." + part[2], ErrMalformed, "algorithm"},
		{"critical extension", header(map[string]any{"kid": "k", "crit": []string{"b64"}, "b64": true}), ErrMalformed, "critical"},
		{"kid no string", header(map[string]any{"kid": 1}), ErrMalformed, "kid"},
		{"iss no string", claims(map[string]any{"iss": 1}), ErrMalformed, "iss"},
		{"aud no strings", claims(map[string]any{"aud": []any{"dp-1", 1}}), ErrMalformed, "aud"},
		{"exp no number", claims(map[string]any{"exp": "1772600827"}), ErrMalformed, "exp"},
		{"exp beyond all time", claims(map[string]any{"exp": 1e300}), ErrMalformed, "exp"},
		{"nbf before all time", claims(map[string]any{"nbf": -1e300}), ErrMalformed, "nbf"},

		{"algorithm none", seg(`{"alg":"none","kid":"k"}`) + "." + part[1] + ".", ErrSignature, "algorithm"},
		{"none, signed", sign(t, "none", jwt.UnsafeAllowNoneSignatureType, k, good(nil)), ErrSignature, "algorithm"},
		{"HMAC with the public key", sign(t, "HS256", public, k, good(nil)), ErrSignature, "algorithm"},
		{"no signature", part[0] + "." + part[1] + ".", ErrSignature, ""},
		{"zero signature", part[0] + "." + part[1] + "." + seg(strings.Repeat("\x00", 64)), ErrSignature, ""},
		{"other payload", part[0] + "." + seg(`{"exp":99999999999}`) + "." + part[2], ErrSignature, ""},
		{"another's signature", sign(t, "ES256", other, k, good(nil)), ErrSignature, ""},
		{"kid of another key", header(map[string]any{"kid": "other"}), ErrSignature, ""},
		{"unknown kid", header(map[string]any{"kid": "K"}), ErrSignature, "no such key"},
		{"unsigned and expired", part[0] + "." + seg(`{"exp":1}`) + "." + part[2], ErrSignature, ""},

		{"another issuer", claims(map[string]any{"iss": "did:web:themselves"}), ErrClaims, "iss"},
		{"no issuer", claims(map[string]any{"iss": nil}), ErrClaims, "iss"},
		{"another subject", claims(map[string]any{"sub": "cp-2"}), ErrClaims, "sub"},
		{"no subject", claims(map[string]any{"sub": nil}), ErrClaims, "sub"},
		{"another audience", claims(map[string]any{"aud": "dp-3"}), ErrClaims, "aud"},
		{"no audience", claims(map[string]any{"aud": nil}), ErrClaims, "aud"},
		{"empty audience", claims(map[string]any{"aud": []string{}}), ErrClaims, "aud"},
		{"no expiry", claims(map[string]any{"exp": nil}), ErrClaims, "exp"},
		{"not yet", claims(map[string]any{"nbf": seconds(6 * time.Second)}), ErrClaims, "nbf"},
		{"issued in the future", claims(map[string]any{"iat": seconds(6 * time.Second)}), ErrClaims, "iat"},
		{"expired", claims(map[string]any{"exp": seconds(-5 * time.Second)}), ErrExpired, ""},
		{"expired for ever", claims(map[string]any{"exp": 0}), ErrExpired, ""},
		{"another issuer, expired", claims(map[string]any{"iss": "x", "exp": 1}), ErrClaims, "iss"},
	} {
		c, err := Verify(t.Context(), tc.raw, keys, rules())
		switch {
		case !errors.Is(err, tc.want) || (c == nil) != (tc.want != nil):
			t.Errorf("%s: %v, %v; want %v", tc.name, c, err, tc.want)
		case err != nil && (!strings.Contains(err.Error(), tc.text) || strings.Contains(err.Error(), "cp-")):
			t.Errorf("%s: %q should have %q and no claim's value", tc.name, err, tc.text)
		}
	}
}

func TestRules(t *testing.T) {
	key := pairs()["Ed25519"]
	ago := func(d time.Duration) float64 { return float64(start.Add(-d).Unix()) }
	for _, tc := range []struct {
		name   string
		rules  Rules
		change map[string]any
		want   error
		text   string
	}{
		{"none", Rules{}, nil, nil, ""},
		{"none, no claims but exp", Rules{}, map[string]any{"iss": nil, "sub": nil, "aud": nil, "iat": nil, "jti": nil}, nil, ""},
		{"required", Rules{Require: []string{"jti", "iat", "scope", "flag"}}, map[string]any{"scope": "a", "flag": false}, nil, ""},
		{"required, missing", Rules{Require: []string{"jti"}}, map[string]any{"jti": nil}, ErrClaims, "jti"},
		{"required, empty", Rules{Require: []string{"scope"}}, map[string]any{"scope": ""}, ErrClaims, "scope"},
		{"required, empty list", Rules{Require: []string{"aud"}}, map[string]any{"aud": []string{}}, ErrClaims, "aud"},
		{"required, empty object", Rules{Require: []string{"act"}}, map[string]any{"act": map[string]any{}}, ErrClaims, "act"},
		{"expiry optional", Rules{ExpiryOptional: true}, map[string]any{"exp": nil}, nil, ""},
		{"expiry optional, expired", Rules{ExpiryOptional: true}, map[string]any{"exp": 1}, ErrExpired, ""},
		{"young", Rules{MaxAge: time.Minute}, map[string]any{"iat": ago(time.Minute)}, nil, ""},
		{"old", Rules{MaxAge: time.Minute}, map[string]any{"iat": ago(time.Minute + time.Second)}, ErrExpired, "iat"},
		{"of unknown age", Rules{MaxAge: time.Minute}, map[string]any{"iat": nil}, ErrClaims, "iat"},
	} {
		tc.rules.Clock = func() time.Time { return start }
		raw := sign(t, "EdDSA", key, nil, good(tc.change))
		_, err := Verify(t.Context(), raw, StaticKeys{{"", key.Public()}}, tc.rules)
		if !errors.Is(err, tc.want) || err != nil && !strings.Contains(err.Error(), tc.text) {
			t.Errorf("%s: %v, want %v about %q", tc.name, err, tc.want, tc.text)
		}
	}
}

func TestClaims(t *testing.T) {
	key := pairs()["RSA"]
	raw := sign(t, "PS256", key, map[string]any{"kid": "k"}, map[string]any{
		"iss": "i", "sub": "s", "aud": "a", "jti": "j", "exp": start.Unix() + 60, "iat": start.Unix(), "nbf": start.Unix(),
		"scope": "read write", "client_id": "c", "participant_context": "p", "token": "t", "n": 1, "azp": nil,
	})
	want := &Claims{
		Issuer: "i", Subject: "s", Audience: []string{"a"}, ID: "j", Expires: start.Add(time.Minute), IssuedAt: start,
		Scope: "read write", ClientID: "c", ParticipantContext: "p", KeyID: "k",
		Extra: map[string]any{"nbf": float64(start.Unix()), "token": "t", "n": 1.0, "azp": nil},
	}
	verified, err := Verify(t.Context(), raw, StaticKeys{{"k", key.Public()}}, Rules{Clock: func() time.Time { return start }})
	if diff := cmp.Diff(want, verified, cmpopts.IgnoreUnexported(Claims{})); diff != "" || err != nil {
		t.Errorf("verified: %v (-want +got):\n%s", err, diff)
	}
	peeked, err := Peek(raw)
	if diff := cmp.Diff(want, peeked, cmpopts.IgnoreUnexported(Claims{})); diff != "" || err != nil {
		t.Errorf("peeked: %v (-want +got):\n%s", err, diff)
	}
	list, err := Peek(sign(t, "PS256", key, nil, map[string]any{"scope": []string{"read", "write"}}))
	if err != nil || list.Scope != "read write" {
		t.Errorf("scope as a list: %+v, %v", list, err)
	}
	if c, err := Peek("a.b.c"); !errors.Is(err, ErrMalformed) || c != nil {
		t.Errorf("Peek of no token: %+v, %v", c, err)
	}
}

func TestSkipSignature(t *testing.T) {
	raw := sign(t, "HS256", []byte("a secret"), nil, good(nil))
	r := rules()
	r.SkipSignature = true
	if _, err := Verify(t.Context(), raw, nil, r); err != nil {
		t.Error(err)
	}
	r.Subject = "somebody else"
	if _, err := Verify(t.Context(), raw, nil, r); !errors.Is(err, ErrClaims) {
		t.Errorf("%v, want ErrClaims", err)
	}
	r.SkipSignature = false
	if _, err := Verify(t.Context(), sign(t, "EdDSA", pairs()["Ed25519"], nil, good(nil)), nil, r); !errors.Is(err, ErrKeys) {
		t.Errorf("without keys: %v, want ErrKeys", err)
	}
}

type keysFunc func(kid string) ([]crypto.PublicKey, error)

func (f keysFunc) Keys(_ context.Context, kid string) ([]crypto.PublicKey, error) { return f(kid) }

func TestKeysThatFail(t *testing.T) {
	raw := sign(t, "EdDSA", pairs()["Ed25519"], map[string]any{"kid": "k"}, good(nil))
	boom := errors.New("boom")
	for _, tc := range []struct{ give, want, not error }{
		{boom, ErrKeys, ErrSignature},
		{fmt.Errorf("%w: %w", ErrKeys, boom), ErrKeys, ErrSignature},
		{fmt.Errorf("%w: gone", ErrNoKey), ErrSignature, ErrKeys},
	} {
		_, err := Verify(t.Context(), raw, keysFunc(func(string) ([]crypto.PublicKey, error) { return nil, tc.give }), rules())
		if !errors.Is(err, tc.want) || !errors.Is(err, tc.give) || errors.Is(err, tc.not) {
			t.Errorf("keys fail with %v: %v", tc.give, err)
		}
	}
}
