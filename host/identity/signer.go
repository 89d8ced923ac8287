package identity

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"strings"

	"github.com/go-jose/go-jose/v4"
	"github.com/golang-jwt/jwt/v5"

	"github.com/towpath-dataplane/towpath/host/keyfile"
)

// Signer signs tokens with a key of one of our own DIDs. It is safe for concurrent use.
type Signer struct {
	did      string
	keyID    string
	private  crypto.Signer
	method   jwt.SigningMethod
	document []byte
}

// LoadSigner returns a Signer with the private key in the file at path (PKCS #8, PEM): P-256, P-384, Ed25519, or RSA of 2048 bits and
// more. It refuses a file that others than its owner can read or write. For a did:web it makes a P-256 key if there is no file.
//
// keyID is the id of the key in the DID's document, whole or from the '#' on. "": #key-1 for a did:web, otherwise the one that the
// DID implies.
func LoadSigner(path, did, keyID string) (*Signer, error) {
	if err := CheckDID(did); err != nil {
		return nil, fmt.Errorf("our own DID %q: %w", did, err)
	}
	generate := generateKey
	if method(did) != "web" {
		generate = nil // the DID says which key it is
	}
	content, err := keyfile.Load(path, generate)
	if err != nil {
		return nil, fmt.Errorf("load the key of %s: %w", did, err)
	}
	private, err := parsePrivateKey(content)
	if err != nil {
		return nil, fmt.Errorf("load the key of %s from %s: %w", did, path, err)
	}
	s := &Signer{did: did, private: private, method: signingMethod(private.Public())}
	if s.method == nil {
		return nil, fmt.Errorf("load the key of %s from %s: want P-256, P-384, Ed25519 or RSA of %d to %d bits",
			did, path, minRSABits, maxRSABits)
	}
	if s.keyID, err = ownKeyID(did, keyID, private.Public()); err != nil {
		return nil, err
	}
	if s.document, err = s.describe(); err != nil {
		return nil, fmt.Errorf("describe the key of %s: %w", did, err)
	}
	return s, nil
}

// DID is whose key it is.
func (s *Signer) DID() string { return s.did }

// KeyID is the whole id of the key: the DID, '#' and a name.
func (s *Signer) KeyID() string { return s.keyID }

// String returns the key's id.
func (s *Signer) String() string { return s.keyID }

// Sign returns a token with these claims and no others.
func (s *Signer) Sign(claims map[string]any) (string, error) {
	t := jwt.NewWithClaims(s.method, jwt.MapClaims(claims))
	t.Header["kid"] = s.keyID
	raw, err := t.SignedString(s.private)
	if err != nil {
		return "", fmt.Errorf("sign a token with %s: %w", s.keyID, err)
	}
	return raw, nil
}

// Document returns a DID document with the key, to be served as a did:web demands.
func (s *Signer) Document() []byte { return s.document }

func (s *Signer) describe() ([]byte, error) {
	key, err := jose.JSONWebKey{Key: s.private.Public(), Algorithm: s.method.Alg(), Use: "sig"}.MarshalJSON()
	if err != nil {
		return nil, err
	}
	return json.Marshal(struct {
		Context            []string             `json:"@context"`
		ID                 string               `json:"id"`
		VerificationMethod []verificationMethod `json:"verificationMethod"`
		Authentication     []string             `json:"authentication"`
		AssertionMethod    []string             `json:"assertionMethod"`
	}{
		Context:            []string{"https://www.w3.org/ns/did/v1", "https://w3id.org/security/suites/jws-2020/v1"},
		ID:                 s.did,
		VerificationMethod: []verificationMethod{{ID: s.keyID, Type: "JsonWebKey2020", Controller: s.did, JWK: key}},
		Authentication:     []string{s.keyID},
		AssertionMethod:    []string{s.keyID},
	})
}

// ownKeyID returns the whole id of our key.
func ownKeyID(did, keyID string, public crypto.PublicKey) (string, error) {
	id := wholeID(did, keyID)
	if method(did) == "web" {
		if id == "" {
			id = did + "#key-1"
		}
		if name, ok := strings.CutPrefix(id, did+"#"); !ok || name == "" || strings.ContainsAny(name, "# ") {
			return "", fmt.Errorf("the key id %q is not one of %s", keyID, did)
		}
		return id, nil
	}
	keys, err := ownKeys(did)
	if err != nil {
		return "", err
	}
	if k, ok := public.(interface{ Equal(crypto.PublicKey) bool }); !ok || !k.Equal(keys[0].key) {
		return "", fmt.Errorf("the key is not the one that %s is made of", did)
	}
	if id != "" && id != keys[0].id {
		return "", fmt.Errorf("the key id %q is not that of %s, which is %s", keyID, did, keys[0].id)
	}
	return keys[0].id, nil
}

// signingMethod returns how is signed with the private key of a public one, nil for a kind of key that is not accepted.
func signingMethod(public crypto.PublicKey) jwt.SigningMethod {
	switch k := public.(type) {
	case *ecdsa.PublicKey:
		switch k.Curve {
		case elliptic.P256():
			return jwt.SigningMethodES256
		case elliptic.P384():
			return jwt.SigningMethodES384
		}
	case ed25519.PublicKey:
		return jwt.SigningMethodEdDSA
	case *rsa.PublicKey:
		if checkKey(k) == nil {
			return jwt.SigningMethodRS256
		}
	}
	return nil
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

func parsePrivateKey(content []byte) (crypto.Signer, error) {
	block, rest := pem.Decode(content)
	if block == nil || block.Type != "PRIVATE KEY" || len(rest) > 0 {
		return nil, errors.New("want one PEM block of type PRIVATE KEY and nothing else")
	}
	parsed, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		return nil, fmt.Errorf("PKCS #8: %w", err)
	}
	private, ok := parsed.(crypto.Signer)
	if !ok {
		return nil, errors.New("want a key that can sign")
	}
	return private, nil
}
