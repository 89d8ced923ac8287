package config

import (
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestSigningKeys(t *testing.T) {
	weak, err := rsa.GenerateKey(rand.Reader, 1024)
	if err != nil {
		t.Fatal(err)
	}
	strong, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	_, edwards, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		key  any
		want string
	}{
		"P-256":    {curve(t, elliptic.P256()), ""},
		"P-384":    {curve(t, elliptic.P384()), ""},
		"P-521":    {curve(t, elliptic.P521()), "its key is not of"},
		"Ed25519":  {edwards, ""},
		"RSA 2048": {strong, ""},
		"RSA 1024": {weak, "its key is not of"},
	} {
		t.Run(name, func(t *testing.T) {
			der, err := x509.MarshalPKCS8PrivateKey(c.key)
			if err != nil {
				t.Fatal(err)
			}
			wantKeyError(t, &pem.Block{Type: "PRIVATE KEY", Bytes: der}, c.want)
		})
	}
	der, err := x509.MarshalECPrivateKey(curve(t, elliptic.P256()))
	if err != nil {
		t.Fatal(err)
	}
	wantKeyError(t, &pem.Block{Type: "EC PRIVATE KEY", Bytes: der}, "PKCS #8")
	wantKeyError(t, &pem.Block{Type: "PRIVATE KEY", Bytes: []byte("x")}, "cannot be read")
}

func curve(t *testing.T, c elliptic.Curve) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(c, rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// wantKeyError configures a participant with a key, and wants an error that contains want; none if want is "".
func wantKeyError(t *testing.T, key *pem.Block, want string) {
	t.Helper()
	name := filepath.Join(t.TempDir(), "key.pem")
	if err := os.WriteFile(name, pem.EncodeToMemory(key), 0o600); err != nil {
		t.Fatal(err)
	}
	text := minimal + fmt.Sprintf("participant_context \"a\" {\n  did = \"did:web:a.example\"\n  key = %q\n}\n", name)
	if want != "" {
		wantError(t, text, ":12:9: Unsuitable key; ", want)
		return
	}
	if _, err := Load(write(t, text)); err != nil {
		t.Error(err)
	}
}

// The default place of a key is found, and its name cannot lead elsewhere.
func TestSigningKeyInDataDir(t *testing.T) {
	const text = "participant_context \"../a b\" {\n  did = \"did:web:a.example\"\n}\n"
	name := write(t, minimal+text)
	c, err := Load(name)
	if err != nil {
		t.Fatal(err)
	}
	want := filepath.Join(filepath.Dir(name), "state", "keys", "..%2Fa%20b.pem")
	if got := c.ParticipantContexts[1].Key; got != want {
		t.Fatalf("key is %s, want %s", got, want)
	}
	if err := os.MkdirAll(filepath.Dir(want), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(want, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Load(name); err == nil || !strings.Contains(err.Error(), ":11:9: Unsuitable key; ") {
		t.Errorf("an empty key: %v", err)
	}
}
