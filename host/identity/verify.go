package identity

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rsa"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/golang-jwt/jwt/v5"
)

// maxToken is the most bytes of a token.
const maxToken = 32 << 10

// algorithms are those that tokens may be signed with. None is symmetric.
var algorithms = []string{"RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA"}

// fits reports whether a key is one for an algorithm.
func fits(alg string, key crypto.PublicKey) bool {
	switch k := key.(type) {
	case *rsa.PublicKey:
		return alg[:2] == "RS" || alg[:2] == "PS"
	case *ecdsa.PublicKey:
		switch alg {
		case "ES256":
			return k.Curve == elliptic.P256()
		case "ES384":
			return k.Curve == elliptic.P384()
		case "ES512":
			return k.Curve == elliptic.P521()
		}
	case ed25519.PublicKey:
		return alg == "EdDSA"
	}
	return false
}

// Rules are what Verify demands of a token, apart from its signature. The zero value demands that it has not expired.
type Rules struct {
	Issuer    string   // iss; "": any
	Subject   string   // sub; "": any
	Audiences []string // aud names one of them; none: any
	// Require lists further claims that must be there and not be empty.
	Require []string
	// Leeway is how far clocks may be apart.
	Leeway time.Duration
	// MaxAge is how old a token may be by its iat, which must be there then. 0: any age.
	MaxAge time.Duration
	// ExpiryOptional accepts a token without exp. One that is there counts.
	ExpiryOptional bool
	// SkipSignature takes anybody's word for everything.
	SkipSignature bool
	// Replay, if not nil, makes the token good for one use: it must have a jti, and an end by exp or MaxAge.
	Replay *Replay
	Clock  func() time.Time // nil: time.Now
}

// Verify returns what a token says if it is signed with one of the keys and follows the rules. A token that names a key is verified
// with the keys of that id only; for one that does not, each key is tried. Algorithms are RS, PS and ES with 256, 384 and 512, and
// EdDSA, each with its own type of key and curve.
//
// The error wraps ErrMalformed, ErrKeys, ErrSignature, ErrClaims, ErrExpired or ErrReplay. Of a token that is not signed it does not
// say whether its claims would do.
func Verify(ctx context.Context, raw string, keys Keys, r Rules) (*Claims, error) {
	t, err := parse(raw)
	if err != nil {
		return nil, err
	}
	c, err := readClaims(t)
	if err != nil {
		return nil, err
	}
	if !r.SkipSignature {
		if err := t.verify(ctx, keys, c.KeyID); err != nil {
			return nil, err
		}
	}
	if err := r.check(c); err != nil {
		return nil, err
	}
	return c, nil
}

// Peek returns what a token says without verifying anything, to find out whose keys it is to be verified with. The error wraps
// ErrMalformed.
func Peek(raw string) (*Claims, error) {
	t, err := parse(raw)
	if err != nil {
		return nil, err
	}
	return readClaims(t)
}

// unverified is a token that is well-formed.
type unverified struct {
	*jwt.Token
	signed string // the part that the signature is for
}

func parse(raw string) (unverified, error) {
	if len(raw) > maxToken {
		return unverified{}, fmt.Errorf("%w: it has %d bytes", ErrMalformed, len(raw))
	}
	t, parts, err := jwt.NewParser(jwt.WithStrictDecoding()).ParseUnverified(raw, jwt.MapClaims{})
	switch {
	case errors.Is(err, jwt.ErrTokenUnverifiable):
		return unverified{}, fmt.Errorf("%w: its algorithm is unknown", ErrMalformed)
	case err != nil:
		return unverified{}, ErrMalformed // the parser's errors quote the token
	}
	if _, ok := t.Header["crit"]; ok {
		return unverified{}, fmt.Errorf("%w: its header has critical extensions", ErrMalformed)
	}
	return unverified{Token: t, signed: parts[0] + "." + parts[1]}, nil
}

// refresher is implemented by Keys that can look again for a key that has been replaced under the same id.
type refresher interface {
	refresh(ctx context.Context, kid string) ([]crypto.PublicKey, error)
}

func (t unverified) verify(ctx context.Context, keys Keys, kid string) error {
	if !slices.Contains(algorithms, t.Method.Alg()) {
		return fmt.Errorf("%w: its algorithm is not accepted", ErrSignature)
	}
	if keys == nil {
		return fmt.Errorf("%w: there are none", ErrKeys)
	}
	err := t.try(keys.Keys(ctx, kid))
	if r, ok := keys.(refresher); ok && errors.Is(err, ErrSignature) && !errors.Is(err, ErrNoKey) {
		return t.try(r.refresh(ctx, kid))
	}
	return err
}

func (t unverified) try(keys []crypto.PublicKey, err error) error {
	switch {
	case errors.Is(err, ErrNoKey):
		return fmt.Errorf("%w: %w", ErrSignature, err)
	case errors.Is(err, ErrKeys):
		return err
	case err != nil:
		return fmt.Errorf("%w: %w", ErrKeys, err)
	}
	for _, key := range keys {
		if fits(t.Method.Alg(), key) && t.Method.Verify(t.signed, t.Signature, key) == nil {
			return nil
		}
	}
	return ErrSignature
}
