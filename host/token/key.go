package token

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/asn1"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"

	"github.com/towpath-dataplane/towpath/host/keyfile"
)

// Key signs access tokens and makes refresh tokens.
type Key struct {
	ID      string // kid: the thumbprint of the public key (RFC 7638)
	private *ecdsa.PrivateKey
	public  jwk
	refresh []byte // the secret of refresh tokens, derived from private
}

// LoadKey returns the P-256 key in the file at path (PKCS #8, PEM). It makes key and file if there is no file, and refuses one that
// others than its owner can read or write.
func LoadKey(path string) (*Key, error) {
	content, err := keyfile.Load(path, generateKey)
	if err != nil {
		return nil, fmt.Errorf("load token key: %w", err)
	}
	key, err := parseKey(content)
	if err != nil {
		return nil, fmt.Errorf("load token key %s: %w", path, err)
	}
	return key, nil
}

func generateKey() ([]byte, error) {
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	der, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		return nil, err
	}
	return pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), nil
}

func parseKey(content []byte) (*Key, error) {
	block, rest := pem.Decode(content)
	if block == nil || block.Type != "PRIVATE KEY" || len(rest) > 0 {
		return nil, errors.New("want one PEM block of type PRIVATE KEY and nothing else")
	}
	parsed, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		return nil, fmt.Errorf("PKCS #8: %w", err)
	}
	private, ok := parsed.(*ecdsa.PrivateKey)
	if !ok || private.Curve != elliptic.P256() {
		return nil, errors.New("want an elliptic curve key on P-256")
	}
	point, err := private.PublicKey.Bytes() // 4, x, y
	if err != nil {
		return nil, err
	}
	public := jwk{Curve: "P-256", Type: "EC", X: base64url(point[1:33]), Y: base64url(point[33:])}
	scalar, err := private.Bytes()
	if err != nil {
		return nil, err
	}
	refresh, err := hkdf.Key(sha256.New, scalar, nil, "towpath refresh tokens", sha256.Size)
	if err != nil {
		return nil, err
	}
	return &Key{ID: public.thumbprint(), private: private, public: public, refresh: refresh}, nil
}

// sign returns the ES256 signature (RFC 7518) of some content. It is the same every time (RFC 6979).
func (k *Key) sign(content string) ([]byte, error) {
	sum := sha256.Sum256([]byte(content))
	der, err := k.private.Sign(nil, sum[:], crypto.SHA256)
	if err != nil {
		return nil, err
	}
	var pair struct{ R, S *big.Int }
	if _, err := asn1.Unmarshal(der, &pair); err != nil {
		return nil, err
	}
	signature := make([]byte, 64)
	pair.R.FillBytes(signature[:32])
	pair.S.FillBytes(signature[32:])
	return signature, nil
}

// jwk is a public key as a JSON Web Key. Its members are in the order in which RFC 7638 hashes them.
type jwk struct {
	Curve string `json:"crv"`
	Type  string `json:"kty"`
	X     string `json:"x"`
	Y     string `json:"y"`
}

func (k jwk) thumbprint() string {
	sum := sha256.Sum256(mustJSON(k))
	return base64url(sum[:])
}

func (k *Key) jwks() []byte {
	type entry struct {
		jwk
		ID        string `json:"kid"`
		Use       string `json:"use"`
		Algorithm string `json:"alg"`
	}
	return mustJSON(map[string][]entry{"keys": {{k.public, k.ID, "sig", "ES256"}}})
}

func base64url(b []byte) string { return base64.RawURLEncoding.EncodeToString(b) }

// mustJSON is for values of strings, which cannot fail.
func mustJSON(v any) []byte {
	b, err := json.Marshal(v)
	if err != nil {
		panic(err)
	}
	return b
}
