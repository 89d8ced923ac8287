// Package token issues, verifies and revokes the access tokens with which a counterparty reaches a data flow.
//
// A token is a JWT that this data plane signs and that only this data plane accepts. It is recorded when it is issued, so that it
// can be refused from one moment to the next, whatever its expiry says. The package knows nothing of HTTP, of SQL or of what a flow
// is beyond its id.
package token

import (
	"context"
	"errors"
	"time"
)

// Reasons for which Verify refuses a token.
var (
	// ErrMalformed says that it is no JWT with the claims of an access token.
	ErrMalformed = errors.New("token is malformed")
	// ErrSignature says that it was not issued by us for us: other key, algorithm, issuer or audience.
	ErrSignature = errors.New("token was not issued by this data plane")
	// ErrExpired says that it was ours, and its time is over.
	ErrExpired = errors.New("token has expired")
	// ErrRevoked says that it was ours, and the flow has stopped or has a newer token.
	ErrRevoked = errors.New("token was revoked")
	// ErrUnknown says that there is no record of it.
	ErrUnknown = errors.New("token is not known")
)

// Flow identifies the data flow that a token is for.
type Flow struct {
	Context string // participant context
	ID      string
}

// Access is what the bearer of a token may do.
type Access string

// The kinds of access.
const (
	Read  Access = "read"  // pull: read the flow's parts
	Write Access = "write" // push: ingest parts
)

// Grant is what a token is to be issued for.
type Grant struct {
	Flow    Flow
	Subject string // the counterparty's id
	Access  Access
}

// Claims are what a token says.
type Claims struct {
	Grant
	ID      string // random, 128 bits
	Issued  time.Time
	Expires time.Time
}

// Record is what is kept of a token that was issued.
type Record struct {
	ID      string
	Flow    Flow
	Access  Access
	Expires time.Time
	Revoked bool
}

// Store keeps records of tokens. All methods may be called concurrently. What a method changed is durable when it returns nil, and
// visible to every call that begins after.
type Store interface {
	// ReplaceTokens revokes all tokens of r.Flow and records r, both or neither.
	ReplaceTokens(ctx context.Context, r Record) error
	// RevokeTokens revokes all tokens of a flow. It is idempotent, also for a flow that never had one.
	RevokeTokens(ctx context.Context, f Flow) error
	// Token returns a record, or ErrUnknown.
	Token(ctx context.Context, id string) (Record, error)
	// PurgeTokens removes the records of tokens that expired before a time.
	PurgeTokens(ctx context.Context, before time.Time) error
}
