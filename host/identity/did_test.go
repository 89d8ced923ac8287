package identity

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"testing"
)

func TestIsDID(t *testing.T) {
	for s, want := range map[string]bool{
		"did:web:example.com": true, "did:example:123456789abcdefghi": true, "did:a1:x": true,
		"did:web:localhost%3A8080:a": true, "did:x::y": true,
		"": false, "did": false, "did:": false, "did:web": false, "did:web:": false, "did:web:a:": false, "DID:web:a": false,
		"did:Web:a": false, "did::a": false, "did:web:a b": false, "did:web:a%": false, "did:web:a%4": false, "did:web:a%zz": false,
		"did:web:a/b": false, "did:web:a?b": false, "did:web:a#b": false, "did:web:ä": false, "did:web:a\n": false, " did:web:a": false,
		"https://example.com": false, "BPNL00000000001A": false,
		"did:x:" + strings.Repeat("a", maxDID): false,
	} {
		if got := IsDID(s); got != want {
			t.Errorf("%.50q: %v", s, got)
		}
	}
}

func TestAddressOfDIDWeb(t *testing.T) {
	for did, want := range map[string]string{
		"did:web:w3c-ccg.github.io":                   "w3c-ccg.github.io/.well-known/did.json",
		"did:web:w3c-ccg.github.io:user:alice":        "w3c-ccg.github.io/user/alice/did.json",
		"did:web:example.com%3A3000":                  "example.com:3000/.well-known/did.json",
		"did:web:example.com%3a3000:user:alice":       "example.com:3000/user/alice/did.json",
		"did:web:localhost%3A65535":                   "localhost:65535/.well-known/did.json",
		"did:web:127.0.0.1%3A80:a":                    "127.0.0.1:80/a/did.json",
		"did:web:control_plane:a-b_c.d":               "control_plane/a-b_c.d/did.json",
		"did:web:example.com:BPNL000%20":              "its path",
		"did:web:example.com:..":                      "its path",
		"did:web:example.com:.":                       "its path",
		"did:web:example.com:a:%2e%2E:b":              "its path",
		"did:web:example.com:a%2Fb":                   "its path",
		"did:web:example.com:a%5Cb":                   "its path",
		"did:web:example.com:a%3Fb":                   "its path",
		"did:web:example.com:a%23b":                   "its path",
		"did:web:example.com:a%3Bb":                   "its path",
		"did:web:example.com:a%252e":                  "its path",
		"did:web:example.com:a%00b":                   "its path",
		"did:web:example.com:a%C3%A4":                 "its path",
		"did:web:example.com::a":                      "its path",
		"did:web:example.com%2Fa":                     "its host",
		"did:web:user%40example.com":                  "its host",
		"did:web:user%3Apassword%40example.com":       "its host",
		"did:web:example.com%3Fa":                     "its host",
		"did:web:example.com%23a":                     "its host",
		"did:web:example.com%20":                      "its host",
		"did:web:%5B%3A%3A1%5D":                       "its host",
		"did:web:%5B%3A%3A1%5D%3A80":                  "its host",
		"did:web:..":                                  "its host",
		"did:web:.example.com":                        "its host",
		"did:web:example.com.":                        "its host",
		"did:web:example..com":                        "its host",
		"did:web:%3A80":                               "its host",
		"did:web:example.com%3A":                      "its host",
		"did:web:example.com%3Ahttp":                  "its host",
		"did:web:example.com%3A80%3A80":               "its host",
		"did:web:example.com%3A0":                     "its port",
		"did:web:example.com%3A65536":                 "its port",
		"did:web:example.com%3A99999999999999999999":  "its port",
		"did:web:example.com#key-1":                   "no DID",
		"did:web:example.com?versionId=1":             "no DID",
		"did:web:example.com/path":                    "no DID",
		"did:web:":                                    "no DID",
		"did:web":                                     "no DID",
		"did:ethr:0xb9c5714089478a327f09197987f16f9e": "its method",
		"did:webs:example.com":                        "its method",
		"did:jwk:e30":                                 "no kty",
		"did:jwk:e30=":                                "no DID",
		"did:jwk:e3-_.":                               "not base64url",
		"did:jwk:bm90aGluZw":                          "no JSON Web Key",
		"did:key:x":                                   "base58btc",
		"did:key:z":                                   "multicodec",
		"did:key:z0":                                  "base58",
	} {
		err := CheckDID(did)
		if err != nil {
			if !strings.Contains(err.Error(), want) || strings.Contains(want, "/") {
				t.Errorf("%s: %v, want %s", did, err, want)
			}
			continue
		}
		address, err := webAddress(did)
		if err != nil || address.Host+address.EscapedPath() != want {
			t.Errorf("%s: %v, %v; want %s", did, address, err, want)
		}
	}
}

// The vectors are those of the did:key specification.
func TestDIDKey(t *testing.T) {
	ec := func(curve, x, y string) string {
		return `{"kty":"EC","crv":"` + curve + `","x":"` + x + `","y":"` + y + `"}`
	}
	for did, key := range map[string]string{
		"did:key:z6MkiTBz1ymuepAQ4HEHYSF1H8quG5GLVVQR3djdX3mDooWp": `{"kty":"OKP","crv":"Ed25519",` +
			`"x":"O2onvM62pC1io6jQKm8Nc2UyFXcd4kOmOsBIoYtZ2ik"}`,
		"did:key:zDnaerDaTF5BXEavCrfRZEk316dpbLsfPDZ3WJ5hRTPFU2169": ec("P-256",
			"fyNYMN0976ci7xqiSdag3buk-ZCwgXU4kz9XNkBlNUI", "hW2ojTNfH7Jbi8--CJUo3OCbH3y5n91g-IMA9MLMbTU"),
		"did:key:z82Lm1MpAkeJcix9K8TMiLd5NMAhnwkjjCBeWHXyu3U4oT2MVJJKXkcVBgjGhnLBn2Kaau9": ec("P-384",
			"lInTxl8fjLKp_UCrxI0WDklahi-7-_6JbtiHjiRvMvhedhKVdHBfi2HCY8t_QJyc", "y6N1IC-2mXxHreETBW7K3mBcw0qGr3CWHCs-yl09yCQRLcyfGv7XhqAngHOu51Zv"),
	} {
		keys, err := ownKeys(did)
		if err != nil {
			t.Errorf("%s: %v", did, err)
			continue
		}
		want := mustParse(t, jwks(t, json.RawMessage(key)))
		if !samePublic(keys[0].key, want[0].key) || keys[0].id != did+"#"+did[len("did:key:"):] {
			t.Errorf("%s: another key", did)
		}
		jwkDID := "did:jwk:" + base64.RawURLEncoding.EncodeToString([]byte(key))
		if keys, err = ownKeys(jwkDID); err != nil || !samePublic(keys[0].key, want[0].key) || keys[0].id != jwkDID+"#0" {
			t.Errorf("%s: %v", jwkDID, err)
		}
	}
}

// The vectors are those of draft-msporny-base58.
func TestBase58(t *testing.T) {
	for in, want := range map[string]string{
		"":                  "",
		"1":                 "00",
		"11233QC4":          "0000287fb4cd",
		"2NEpo7TZRRrLZSi2U": hex.EncodeToString([]byte("Hello World!")),
		"USm3fpXnKG5EUBx2ndxBDMPVciP5hGey2Jh4NDv6gmeo1LkMeiKrLJUUBk6Z": hex.EncodeToString([]byte("The quick brown fox jumps over the lazy dog.")),
		"0": "error", "O": "error", "l": "error", "I": "error", "a a": "error", "é": "error",
	} {
		got, err := decodeBase58(in)
		if (err != nil) != (want == "error") || err == nil && hex.EncodeToString(got) != want {
			t.Errorf("%q: %x, %v; want %s", in, got, err, want)
		}
	}
}

// encodeBase58 divides byte by byte, unlike the code under test.
func encodeBase58(raw []byte) string {
	digits := []byte{}
	for _, b := range raw {
		carry := int(b)
		for i := range digits {
			carry += int(digits[i]) << 8
			digits[i] = byte(carry % 58)
			carry /= 58
		}
		for ; carry > 0; carry /= 58 {
			digits = append(digits, byte(carry%58))
		}
	}
	for i := 0; i < len(raw) && raw[i] == 0; i++ {
		digits = append(digits, 0)
	}
	slices.Reverse(digits)
	for i, d := range digits {
		digits[i] = base58[d]
	}
	return string(digits)
}

func multikey(codec uint64, raw []byte) string {
	return "z" + encodeBase58(append(binary.AppendUvarint(nil, codec), raw...))
}

// multikeyOf writes a public key in multibase.
func multikeyOf(t testing.TB, public crypto.PublicKey) string {
	t.Helper()
	codecs := map[elliptic.Curve]uint64{elliptic.P256(): codecP256, elliptic.P384(): codecP384, elliptic.P521(): codecP521}
	switch k := public.(type) {
	case ed25519.PublicKey:
		return multikey(codecEd25519, k)
	case *rsa.PublicKey:
		return multikey(codecRSA, x509.MarshalPKCS1PublicKey(k))
	case *ecdsa.PublicKey:
		point, err := k.Bytes()
		if err != nil {
			t.Fatal(err)
		}
		size := len(point) / 2
		return multikey(codecs[k.Curve], append([]byte{2 + point[len(point)-1]&1}, point[1:1+size]...))
	}
	t.Fatalf("%T", public)
	return ""
}

func TestMultikey(t *testing.T) {
	p := pairs()
	for _, kind := range []string{"P-256", "P-384", "P-521", "Ed25519", "RSA"} {
		key, err := parseMultikey(multikeyOf(t, p[kind].Public()))
		if err != nil || !samePublic(key, p[kind].Public()) {
			t.Errorf("%s: %v", kind, err)
		}
	}
	weak, err := rsa.GenerateKey(rand.Reader, 1024)
	if err != nil {
		t.Fatal(err)
	}
	for name, tc := range map[string]struct{ in, want string }{
		"nothing":         {"", "multibase"},
		"another base":    {"uAAAA", "multibase"},
		"too long":        {"z" + strings.Repeat("a", maxMultibase), "multibase"},
		"no codec":        {"z" + encodeBase58([]byte{0x80}), "multicodec"},
		"endless codec":   {"z" + encodeBase58(slices.Repeat([]byte{0xff}, 20)), "multicodec"},
		"secp256k1":       {multikey(0xe7, make([]byte, 33)), "cannot be used"},
		"X25519":          {multikey(0xec, make([]byte, 32)), "cannot be used"},
		"short Ed25519":   {multikey(codecEd25519, make([]byte, 31)), "31"},
		"short point":     {multikey(codecP256, append([]byte{2}, make([]byte, 31)...)), "point"},
		"no compressed":   {multikey(codecP256, append([]byte{4}, make([]byte, 64)...)), "point"},
		"not on curve":    {multikey(codecP256, append([]byte{2}, slices.Repeat([]byte{1}, 32)...)), "point"},
		"too large":       {multikey(codecP256, append([]byte{2}, slices.Repeat([]byte{0xff}, 32)...)), "point"},
		"infinity":        {multikey(codecP256, []byte{0}), "point"},
		"weak RSA":        {multikey(codecRSA, x509.MarshalPKCS1PublicKey(&weak.PublicKey)), "1024 bits"},
		"RSA, not a key":  {multikey(codecRSA, []byte{1}), "PKCS #1"},
		"RSA and garbage": {multikey(codecRSA, append(x509.MarshalPKCS1PublicKey(&weak.PublicKey), 1)), "PKCS #1"},
	} {
		if key, err := parseMultikey(tc.in); err == nil || !strings.Contains(err.Error(), tc.want) || key != nil && err == nil {
			t.Errorf("%s: %v, want %q", name, err, tc.want)
		}
	}
	weakJWK := base64.RawURLEncoding.EncodeToString(jwk(t, weak.Public(), nil))
	private := base64.RawURLEncoding.EncodeToString(jwk(t, p["Ed25519"], nil))
	for did, want := range map[string]string{"did:jwk:" + weakJWK: "1024 bits", "did:jwk:" + private: "private"} {
		if err := CheckDID(did); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", did, err, want)
		}
	}
}

func TestParseDocument(t *testing.T) {
	const did = "did:web:them"
	p := pairs()
	key := func(kind string) json.RawMessage { return jwk(t, p[kind].Public(), nil) }
	method := func(id, controller string, material map[string]any) map[string]any {
		m := map[string]any{"id": id, "type": "JsonWebKey2020", "controller": controller}
		for name, v := range material {
			m[name] = v
		}
		return m
	}
	web := func(kind string) map[string]any { return map[string]any{"publicKeyJwk": key(kind)} }
	multi := func(kind string) map[string]any {
		return map[string]any{"type": "Multikey", "publicKeyMultibase": multikeyOf(t, p[kind].Public())}
	}
	document := func(methods ...any) map[string]any { return map[string]any{"id": did, "verificationMethod": methods} }
	good := method(did+"#good", did, web("P-256"))
	for _, tc := range []struct {
		name string
		doc  any
		want string // ids, or what the error has
	}{
		{"JWK", document(good), "good"},
		{"multibase", document(method(did+"#m", did, multi("RSA"))), "m"},
		{"relative id", document(method("#rel", did, web("RSA"))), "rel"},
		{"bare id", document(method("bare", did, web("RSA"))), "bare"},
		{"no controller", document(method(did+"#k", "", multi("Ed25519"))), "k"},
		{"several", document(good, method("#2", did, multi("P-384")), method("#3", did, web("P-521"))), "good 2 3"},
		{"embedded", map[string]any{
			"id": did, "verificationMethod": []any{good}, "authentication": []any{did + "#good", method("#a", did, web("RSA"))},
			"assertionMethod": []any{"#good", method("#b", did, web("RSA"))}, "keyAgreement": []any{method("#c", did, web("RSA"))},
		}, "good a b"},
		{"more than we know", map[string]any{
			"@context": "https://www.w3.org/ns/did/v1", "id": did, "service": []any{1}, "verificationMethod": []any{good},
		}, "good"},
		{"no methods", map[string]any{"id": did}, ""},
		{"another's method", document(good, method("did:web:other#k", did, web("RSA"))), "good"},
		{"a longer DID's method", document(good, method(did+"2#k", did, web("RSA"))), "good"},
		{"another's control", document(good, method("#k", "did:web:other", web("RSA"))), "good"},
		{"no id", document(good, method("", did, web("RSA"))), "good"},
		{"no key", document(good, method("#k", did, nil)), "good"},
		{"two keys", document(good, method("#k", did, map[string]any{
			"publicKeyJwk": key("RSA"), "publicKeyMultibase": multikeyOf(t, p["RSA"].Public()),
		})), "good"},
		{"private key", document(good, method("#k", did, map[string]any{"publicKeyJwk": jwk(t, p["RSA"], nil)})), "good"},
		{"key for encryption", document(good, method("#k", did, map[string]any{
			"publicKeyJwk": jwk(t, p["RSA"].Public(), map[string]any{"use": "enc"}),
		})), "good"},
		{"no method at all", document(1, nil, []any{}, "x", good), "good"},
		{"no string", document(map[string]any{"id": 1}, good), "good"},
		{"another DID", map[string]any{"id": "did:web:other", "verificationMethod": []any{good}}, "another DID"},
		{"another case", map[string]any{"id": "did:web:Them", "verificationMethod": []any{good}}, "another DID"},
		{"no DID", map[string]any{"verificationMethod": []any{good}}, "another DID"},
		{"no document", []any{}, "no DID document"},
		{"methods of no list", map[string]any{"id": did, "verificationMethod": good}, "no DID document"},
		{"too many", document(slices.Repeat([]any{good}, maxKeys+1)...), "101 keys"},
	} {
		keys, err := parseDocument(did, marshal(t, tc.doc))
		if err != nil {
			if tc.want == "" || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("%s: %v, want %q", tc.name, err, tc.want)
			}
			continue
		}
		var ids []string
		for _, k := range keys {
			ids = append(ids, strings.TrimPrefix(k.id, did+"#"))
		}
		if got := strings.Join(ids, " "); got != tc.want {
			t.Errorf("%s: keys %q, want %q", tc.name, got, tc.want)
		}
	}
	if _, err := parseDocument(did, []byte("<html>")); err == nil {
		t.Error("HTML is taken for a document")
	}
}

func TestDIDsThatAreTheirOwnDocuments(t *testing.T) {
	r := NewResolver(ResolverOptions{HTTP: (&site{err: errors.New("asked")}).client()})
	defer r.Close()
	key := pairs()["Ed25519"]
	didKey := "did:key:" + multikeyOf(t, key.Public())
	didJWK := "did:jwk:" + base64.RawURLEncoding.EncodeToString(jwk(t, key.Public(), nil))
	for _, tc := range []struct{ did, kid, want string }{
		{didKey, "", "found"}, {didKey, didKey + didKey[len("did:key"):], "no key"},
		{didKey, didKey + "#" + didKey[len("did:key:"):], "found"}, {didKey, "#" + didKey[len("did:key:"):], "found"},
		{didKey, "#0", "no key"},
		{didJWK, "", "found"}, {didJWK, didJWK + "#0", "found"}, {didJWK, "#0", "found"}, {didJWK, "0", "found"},
		{didJWK, "#1", "no key"}, {didJWK, didJWK, "no key"}, {didJWK, didKey + "#0", "no key"},
		{"did:key:z6Mk", "", "no key"}, {"did:ethr:0x1", "", "no key"}, {"nobody", "", "no key"},
	} {
		if got := lookup(r.Keys(tc.did), tc.kid); got != tc.want {
			t.Errorf("%.20s with kid %q: %s, want %s", tc.did, tc.kid, got, tc.want)
		}
	}
	raw := sign(t, "EdDSA", key, map[string]any{"kid": "#0"}, good(map[string]any{"iss": didJWK}))
	r1 := rules()
	r1.Issuer = didJWK
	if _, err := Verify(t.Context(), raw, r.Keys(didJWK), r1); err != nil {
		t.Error(err)
	}
}
