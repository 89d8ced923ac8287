package identity

import (
	"context"
	"crypto"
	"crypto/rsa"
	"encoding/json"
	"errors"
	"fmt"
	"slices"

	"github.com/go-jose/go-jose/v4"
)

const (
	// maxKeys bounds what it costs to try each key.
	maxKeys    = 100
	minRSABits = 2048
	maxRSABits = 8192
)

// StaticKeys are the keys of a JSON Web Key Set that does not change.
type StaticKeys []publicKey

type publicKey struct {
	id  string
	key crypto.PublicKey
}

var _ Keys = StaticKeys(nil)

// ParseJWKS reads a JSON Web Key Set (RFC 7517). Keys of unknown types and curves and those that are not for signatures are left
// out. A set with a symmetric or private key, with an RSA key of less than 2048 bits, or without any key that is of use, is refused.
// Several keys may have the same id.
func ParseJWKS(raw []byte) (StaticKeys, error) {
	var set struct {
		Keys []json.RawMessage `json:"keys"`
	}
	if err := json.Unmarshal(raw, &set); err != nil {
		return nil, errors.New("a JSON Web Key Set is an object with a list of keys, and this is none")
	}
	if len(set.Keys) > maxKeys {
		return nil, fmt.Errorf("the key set has %d keys; at most %d are read", len(set.Keys), maxKeys)
	}
	var keys StaticKeys
	for i, member := range set.Keys {
		key, err := parseJWK(member)
		if errors.Is(err, errUnusable) {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("key %d of the key set: %w", i+1, err)
		}
		keys = append(keys, key)
	}
	if len(keys) == 0 {
		return nil, errors.New("the key set has no key that signatures can be verified with")
	}
	return keys, nil
}

// Keys returns the keys with the given id, or all of them for "".
func (s StaticKeys) Keys(_ context.Context, kid string) ([]crypto.PublicKey, error) {
	found := s.find(kid)
	if found == nil {
		return nil, ErrNoKey
	}
	return found, nil
}

func (s StaticKeys) find(kid string) []crypto.PublicKey {
	var found []crypto.PublicKey
	for _, k := range s {
		if kid == "" || k.id == kid {
			found = append(found, k.key)
		}
	}
	return found
}

// errUnusable says that nothing is wrong with a key but that it is not one for us.
var errUnusable = errors.New("the key cannot be used to verify signatures")

// webKey has what we read of a JSON Web Key. Certificates play no part.
type webKey struct {
	Type      string `json:"kty,omitempty"`
	ID        string `json:"kid,omitempty"`
	Use       string `json:"use,omitempty"`
	Algorithm string `json:"alg,omitempty"`
	Curve     string `json:"crv,omitempty"`
	X         string `json:"x,omitempty"`
	Y         string `json:"y,omitempty"`
	N         string `json:"n,omitempty"`
	E         string `json:"e,omitempty"`

	// What a public key does not have.
	D json.RawMessage `json:"d,omitempty"`
	P json.RawMessage `json:"p,omitempty"`
	Q json.RawMessage `json:"q,omitempty"`
	K json.RawMessage `json:"k,omitempty"`
}

// parseJWK reads a JSON Web Key. The error is errUnusable if the key is to be left out.
func parseJWK(raw []byte) (publicKey, error) {
	var w webKey
	if err := json.Unmarshal(raw, &w); err != nil {
		return publicKey{}, errors.New("it is no JSON Web Key")
	}
	switch {
	case w.Type == "oct" || w.K != nil:
		return publicKey{}, errors.New("it is a symmetric key: who can verify with it can sign with it")
	case w.D != nil || w.P != nil || w.Q != nil:
		return publicKey{}, errors.New("it is a private key, which must not be published")
	case w.Type == "":
		return publicKey{}, errors.New("it has no kty")
	case w.Use != "" && w.Use != "sig", w.Algorithm != "" && !slices.Contains(algorithms, w.Algorithm):
		return publicKey{}, errUnusable
	}
	public, err := json.Marshal(webKey{Type: w.Type, Curve: w.Curve, X: w.X, Y: w.Y, N: w.N, E: w.E})
	if err != nil {
		return publicKey{}, err
	}
	var decoded jose.JSONWebKey
	switch err := decoded.UnmarshalJSON(public); {
	case errors.Is(err, jose.ErrUnsupportedKeyType):
		return publicKey{}, errUnusable
	case err != nil:
		return publicKey{}, fmt.Errorf("it is malformed: %w", err)
	}
	return publicKey{id: w.ID, key: decoded.Key}, checkKey(decoded.Key)
}

// checkKey returns errUnusable if no algorithm works with a key.
func checkKey(key crypto.PublicKey) error {
	if k, ok := key.(*rsa.PublicKey); ok {
		if bits := k.N.BitLen(); bits < minRSABits || bits > maxRSABits {
			return fmt.Errorf("it is an RSA key of %d bits; %d to %d are accepted", bits, minRSABits, maxRSABits)
		}
		return nil
	}
	if !slices.ContainsFunc(algorithms, func(alg string) bool { return fits(alg, key) }) {
		return errUnusable
	}
	return nil
}
