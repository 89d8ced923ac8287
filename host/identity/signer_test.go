package identity

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// writeKey puts a private key into a file.
func writeKey(t testing.TB, key any) string {
	t.Helper()
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return writeFile(t, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), 0o600)
}

func writeFile(t testing.TB, content []byte, mode fs.FileMode) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "key.pem")
	if err := errors.Join(os.WriteFile(path, content, 0o600), os.Chmod(path, mode)); err != nil {
		t.Fatal(err)
	}
	return path
}

// What one side signs, the other verifies with nothing but the DID.
func TestSignerAndResolver(t *testing.T) {
	s := &site{}
	r := NewResolver(ResolverOptions{HTTP: s.client()})
	defer r.Close()
	for kind, alg := range map[string]string{"P-256": "ES256", "P-384": "ES384", "Ed25519": "EdDSA", "RSA": "RS256"} {
		key := pairs()[kind]
		path := writeKey(t, key)
		multibase := multikeyOf(t, key.Public())
		didJWK := "did:jwk:" + base64.RawURLEncoding.EncodeToString(jwk(t, key.Public(), nil))
		for _, tc := range []struct{ did, keyID, want string }{
			{"did:web:" + strings.ToLower(kind), "", "#key-1"},
			{"did:web:us:" + kind, "#k", "#k"},
			{"did:web:us:" + kind + ":2", "k", "#k"},
			{"did:web:us:" + kind + ":3", "did:web:us:" + kind + ":3#k", "#k"},
			{"did:key:" + multibase, "", "#" + multibase},
			{"did:key:" + multibase, multibase, "#" + multibase},
			{didJWK, "", "#0"},
			{didJWK, "#0", "#0"},
		} {
			signer, err := LoadSigner(path, tc.did, tc.keyID)
			if err != nil {
				t.Errorf("%s, %s: %v", kind, tc.did, err)
				continue
			}
			if signer.DID() != tc.did || signer.KeyID() != tc.did+tc.want {
				t.Errorf("%s: %s, %s", tc.did, signer.DID(), signer.KeyID())
			}
			raw, err := signer.Sign(map[string]any{"iss": tc.did, "sub": tc.did, "exp": start.Unix() + 60, "token": "t"})
			if err != nil {
				t.Errorf("%s: %v", tc.did, err)
			}
			header, err := base64.RawURLEncoding.DecodeString(raw[:strings.Index(raw, ".")])
			if !strings.Contains(string(header), `"alg":"`+alg+`"`) || err != nil {
				t.Errorf("%s: header %s", kind, header)
			}
			s.serve(signer.Document())
			c, err := Verify(t.Context(), raw, r.Keys(tc.did), Rules{Issuer: tc.did, Clock: rules().Clock})
			if err != nil || c.KeyID != signer.KeyID() || c.Extra["token"] != "t" {
				t.Errorf("%s: %+v, %v", tc.did, c, err)
			}
		}
	}
}

func TestDocument(t *testing.T) {
	const did = "did:web:us"
	signer, err := LoadSigner(writeKey(t, pairs()["P-256"]), did, "")
	if err != nil {
		t.Fatal(err)
	}
	want := marshal(t, map[string]any{
		"@context": []string{"https://www.w3.org/ns/did/v1", "https://w3id.org/security/suites/jws-2020/v1"},
		"id":       did,
		"verificationMethod": []any{map[string]any{
			"id": did + "#key-1", "type": "JsonWebKey2020", "controller": did,
			"publicKeyJwk": jwk(t, pairs()["P-256"].Public(), map[string]any{"alg": "ES256", "use": "sig"}),
		}},
		"authentication":  []string{did + "#key-1"},
		"assertionMethod": []string{did + "#key-1"},
	})
	if diff := cmp.Diff(decoded(t, want), decoded(t, signer.Document())); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if bytes.Contains(signer.Document(), []byte(`"d"`)) {
		t.Error("the document has the private key")
	}
}

func decoded(t testing.TB, raw []byte) (v any) {
	t.Helper()
	if err := json.Unmarshal(raw, &v); err != nil {
		t.Fatal(err)
	}
	return v
}

func TestSignerShowsNoKey(t *testing.T) {
	signer, err := LoadSigner(writeKey(t, pairs()["P-256"]), "did:web:us", "")
	if err != nil {
		t.Fatal(err)
	}
	for _, format := range []string{"%v", "%+v", "%s"} {
		if got := fmt.Sprintf(format, signer); got != "did:web:us#key-1" {
			t.Errorf("%s: %s", format, got)
		}
	}
}

func TestSignerMakesAKey(t *testing.T) {
	path := filepath.Join(t.TempDir(), "keys", "alice.pem")
	documents := make([]string, 8)
	var wg sync.WaitGroup
	for i := range documents {
		wg.Go(func() {
			signer, err := LoadSigner(path, "did:web:alice", "")
			if err != nil {
				t.Error(err)
				return
			}
			documents[i] = string(signer.Document())
		})
	}
	wg.Wait()
	for _, d := range documents {
		if d != documents[0] || !strings.Contains(d, `"crv":"P-256"`) {
			t.Errorf("%s is another key than %s", d, documents[0])
		}
	}
	info, err := os.Stat(path)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, %v; want 0600", info.Mode(), err)
	}
	entries, err := os.ReadDir(filepath.Dir(path))
	if err != nil || len(entries) != 1 {
		t.Errorf("left beside the key: %v, %v", entries, err)
	}
}

func TestLoadSignerRefuses(t *testing.T) {
	const did = "did:web:us"
	p := pairs()
	key := writeKey(t, p["P-256"])
	content, err := os.ReadFile(key)
	if err != nil {
		t.Fatal(err)
	}
	weak, err := rsa.GenerateKey(rand.Reader, 1024)
	if err != nil {
		t.Fatal(err)
	}
	ec, err := x509.MarshalECPrivateKey(p["P-256"].(*ecdsa.PrivateKey))
	if err != nil {
		t.Fatal(err)
	}
	agreement, err := p["P-256"].(*ecdsa.PrivateKey).ECDH()
	if err != nil {
		t.Fatal(err)
	}
	other, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	missing := filepath.Join(t.TempDir(), "none.pem")
	own := "did:key:" + multikeyOf(t, other.Public())
	for _, tc := range []struct{ name, path, did, keyID, want string }{
		{"readable by the group", writeFile(t, content, 0o640), did, "", "0640"},
		{"readable by all", writeFile(t, content, 0o604), did, "", "0604"},
		{"writable by all", writeFile(t, content, 0o602), did, "", "0602"},
		{"a directory", t.TempDir(), did, "", "regular file"},
		{"empty", writeFile(t, nil, 0o600), did, "", "one PEM block"},
		{"no PEM", writeFile(t, []byte("secret words"), 0o600), did, "", "one PEM block"},
		{"two keys", writeFile(t, append(bytes.Clone(content), content...), 0o600), did, "", "one PEM block"},
		{"SEC 1", writeFile(t, pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: ec}), 0o600), did, "", "one PEM block"},
		{"no PKCS #8", writeFile(t, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: []byte("secret")}), 0o600), did, "", "PKCS #8"},
		{"P-521", writeKey(t, p["P-521"]), did, "", "want P-256"},
		{"P-224", writeKey(t, p["P-224"]), did, "", "want P-256"},
		{"weak RSA", writeKey(t, weak), did, "", "want P-256"},
		{"X25519 or the like", writeKey(t, agreement), did, "", ""}, // PKCS #8 does not tell it from an ECDSA key
		{"no DID", key, "us", "", `our own DID "us"`},
		{"unknown method", key, "did:ethr:0x1", "", "method"},
		{"with a fragment", key, did + "#key-1", "", "no DID"},
		{"key of another DID", key, did, "did:web:them#k", "not one of did:web:us"},
		{"no name of a key", key, did, "#", "not one of"},
		{"two fragments", key, did, "#a#b", "not one of"},
		{"not the DID's key", key, own, "", "not the one that did:key"},
		{"not the DID's key id", key, "did:key:" + multikeyOf(t, p["P-256"].Public()), "#0", "is not that of"},
		{"missing, and the DID says which it is", missing, own, "", "no such file"},
	} {
		_, err := LoadSigner(tc.path, tc.did, tc.keyID)
		switch {
		case tc.want == "" && err != nil, tc.want != "" && (err == nil || !strings.Contains(err.Error(), tc.want)):
			t.Errorf("%s: %v, want %q", tc.name, err, tc.want)
		case err != nil && strings.Contains(err.Error(), "secret"):
			t.Errorf("%s: %v shows what is in the file", tc.name, err)
		}
	}
	if _, err := os.Stat(missing); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a key was made: %v", err)
	}
}
