package token

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// The key and its thumbprint are those of RFC 9449, sections 4.1 and 6.1.
func TestThumbprint(t *testing.T) {
	key := jwk{
		Curve: "P-256", Type: "EC",
		X: "l8tFrhx-34tV3hRICRDY9zCkDlpBhF42UQUfWVAWBFs", Y: "9VE4jf_Ok_o64zbTTlcuNJajHmt6v9TDVrU0CdvGRDA",
	}
	if got, want := key.thumbprint(), "0ZcOCORZNYy-DWpqq30jZyJGHTN0d2HglBV3uiguA4I"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

func TestJWKS(t *testing.T) {
	key, err := LoadKey(filepath.Join(t.TempDir(), "key.pem"))
	if err != nil {
		t.Fatal(err)
	}
	var got map[string][]map[string]string
	if err := json.Unmarshal(key.jwks(), &got); err != nil {
		t.Fatal(err)
	}
	if len(got["keys"]) != 1 {
		t.Fatalf("got %v, want one key", got)
	}
	published := got["keys"][0]
	point := []byte{4}
	for _, name := range []string{"x", "y"} {
		coordinate, err := base64.RawURLEncoding.DecodeString(published[name])
		if err != nil || len(coordinate) != 32 {
			t.Errorf("%s is %q: %v", name, published[name], err)
		}
		point = append(point, coordinate...)
		delete(published, name)
	}
	public, err := ecdsa.ParseUncompressedPublicKey(elliptic.P256(), point)
	if err != nil || !public.Equal(&key.private.PublicKey) {
		t.Errorf("another key was published: %v", err)
	}
	want := map[string]string{"kty": "EC", "crv": "P-256", "use": "sig", "alg": "ES256", "kid": key.ID}
	if diff := cmp.Diff(want, published); diff != "" {
		t.Error("(-want +got):\n", diff)
	}
}

func TestLoadKeyKeepsTheKey(t *testing.T) {
	path := filepath.Join(t.TempDir(), "state", "key.pem")
	first, err := LoadKey(path)
	if err != nil {
		t.Fatal(err)
	}
	second, err := LoadKey(path)
	if err != nil || !first.private.Equal(second.private) || first.ID != second.ID {
		t.Errorf("the second time: %v, key %s instead of %s", err, second.ID, first.ID)
	}
	info, err := os.Stat(path)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, %v; want 0600", info.Mode(), err)
	}
	entries, err := os.ReadDir(filepath.Dir(path))
	if err != nil || len(entries) != 1 {
		t.Errorf("beside the key there is something else: %v, %v", entries, err)
	}
}

func TestLoadKeyRefuses(t *testing.T) {
	good, err := generateKey()
	if err != nil {
		t.Fatal(err)
	}
	p384, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(p384)
	if err != nil {
		t.Fatal(err)
	}
	block := func(typ string, der []byte) []byte { return pem.EncodeToMemory(&pem.Block{Type: typ, Bytes: der}) }

	for name, content := range map[string][]byte{
		"empty":       nil,
		"no PEM":      []byte("key"),
		"truncated":   good[:len(good)/2],
		"two blocks":  bytes.Repeat(good, 2),
		"another tag": block("PUBLIC KEY", der),
		"no PKCS #8":  block("PRIVATE KEY", []byte("key")),
		"P-384":       block("PRIVATE KEY", der),
	} {
		path := filepath.Join(t.TempDir(), "key.pem")
		if err := os.WriteFile(path, content, 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := LoadKey(path); err == nil {
			t.Errorf("%s: no error", name)
		}
		if now, err := os.ReadFile(path); err != nil || !bytes.Equal(now, content) {
			t.Errorf("%s: the file was changed", name)
		}
	}
}

// The key, the message and the signature are those of RFC 6979, section A.2.5.
func TestSignatureIsDeterministic(t *testing.T) {
	number := func(s string) []byte {
		b, err := hex.DecodeString(s)
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	private, err := ecdsa.ParseRawPrivateKey(elliptic.P256(), number("C9AFA9D845BA75166B5C215767B1D6934E50C3DB36E89B127B8A622B120F6721"))
	if err != nil {
		t.Fatal(err)
	}
	key := Key{private: private}
	got, err := key.sign("sample")
	if err != nil {
		t.Fatal(err)
	}
	want := append(number("EFD48B2AACB6A8FD1140DD9CD45E81D69D2C877B56AAF991C34D0EA84EAF3716"),
		number("F7CB1C942D657C41D436C7A1B6E29F65F3E900DBB9AFF4064DC4AB2F843ACDA8")...)
	if !bytes.Equal(got, want) {
		t.Errorf("got %x, want %x", got, want)
	}
}

// What was issued with a key is good with it for ever: neither the derivation nor the form of refresh tokens may change.
func TestRefreshTokenOfAKey(t *testing.T) {
	private, err := ecdsa.ParseRawPrivateKey(elliptic.P256(), append(make([]byte, 31), 7))
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	key, err := parseKey(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}))
	if err != nil {
		t.Fatal(err)
	}
	const family, client = "AAECAwQFBgcICQoLDA0ODw", "did:web:them"
	const want = "AAECAwQFBgcICQoLDA0ODwAAAQJsUDDkfEWXbkQxpRAIBWoajJwK0-4_vVypAuocspVh4Q"
	if got := key.refreshToken(family, 258, client); got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	if f, n, ok := key.openRefresh(want, client); f != family || n != 258 || !ok {
		t.Errorf("opened %s, %d, %v", f, n, ok)
	}
}
