package identity

import (
	"context"
	"time"
)

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

// Claims are what a token says.
type Claims struct {
	Issuer             string
	Subject            string
	Audience           []string
	ID                 string         // jti
	Expires            time.Time      // exp; zero if there is none
	IssuedAt           time.Time      // iat; zero if there is none
	Scope              string         // separated by blanks
	ClientID           string         // client_id
	ParticipantContext string         // participant_context
	Extra              map[string]any // all other claims, as encoding/json decodes them
	KeyID              string         // kid, from the header
}

// Verify returns what a token says if it is signed with one of the keys and follows the rules. A token that names a key is verified
// with the keys of that id only; for one that does not, each key is tried. Algorithms are RS, PS and ES with 256, 384 and 512, and
// EdDSA, each with its own type of key and curve.
//
// The error wraps ErrMalformed, ErrSignature, ErrClaims, ErrExpired, ErrReplay or ErrKeys, looked for in this order.
func Verify(ctx context.Context, raw string, keys Keys, r Rules) (*Claims, error) {
	panic("not there yet")
}

// Peek returns what a token says without verifying anything, to find out whose keys it is to be verified with. The error wraps
// ErrMalformed.
func Peek(raw string) (*Claims, error) { panic("not there yet") }
