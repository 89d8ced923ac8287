// Package token issues, renews, verifies and revokes the access tokens with which a counterparty reaches a data flow.
//
// A token is a JWT that this data plane signs and that only this data plane accepts. It is recorded when it is issued, so that it
// can be refused from one moment to the next, whatever its expiry says. With it there may be a refresh token, for which the counterparty
// gets the next pair; see Authority.Renew. The package knows nothing of HTTP, of SQL, of how a counterparty proves who it is, or of
// what a flow is beyond its id.
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

// Reasons for which Renew refuses. The texts of errors that wrap them are for the client too.
var (
	// ErrInvalidGrant says that the refresh token is none, was issued to somebody else, has expired or was revoked, or that the access
	// token does not belong to it.
	ErrInvalidGrant = errors.New("the refresh token cannot be redeemed")
	// ErrReused says that the refresh token was redeemed before. All tokens of its flow and access have been revoked.
	ErrReused = errors.New("the refresh token was used before")
	// ErrTooOften says that the flow's tokens are renewed faster than anybody needs.
	ErrTooOften = errors.New("the tokens are renewed too often")
)

// ErrStale says that a family is not in the generation that it was believed to be in.
var ErrStale = errors.New("the tokens were renewed or revoked in the meantime")

// Flow identifies the data flow that a token is for.
type Flow struct {
	Context string // participant context
	ID      string
}

// Access is what the bearer of a token may do.
type Access string

// The kinds of access.
const (
	Read    Access = "read"    // pull: read the flow's parts
	Write   Access = "write"   // push: ingest parts
	Respond Access = "respond" // send messages on the flow's response channel
)

func (a Access) known() bool { return a == Read || a == Write || a == Respond }

// Grant is what a token is to be issued for.
type Grant struct {
	Flow    Flow
	Subject string // the counterparty's id
	Access  Access
	// Renewable asks for a refresh token too. Nobody but Subject can redeem it, so that Subject has to be an id that can be proved. It
	// is nothing that a token says: Claims do not have it.
	Renewable bool
	// Lifetime of the token, in place of Config's; 0: that. Forever: until it is revoked, unless it can be renewed. It is nothing that a
	// token says, either.
	Lifetime time.Duration
}

// Forever is the Lifetime of a token that is good until it is revoked. It has no exp.
const Forever time.Duration = -1

// Never is when such a token expires.
var Never = time.Date(9999, 12, 31, 0, 0, 0, 0, time.UTC)

// Issued is what a counterparty is given.
type Issued struct {
	Access string
	Claims Claims // of Access
	// Refresh is "" if the tokens cannot be renewed.
	Refresh        string
	RefreshExpires time.Time
	// Repeated says that the same tokens were issued before, in an answer that was lost.
	Repeated bool
}

// RenewRequest is what a client brings to have its tokens renewed.
type RenewRequest struct {
	Refresh string
	// Client is who asks, as it has proved: what Grant.Subject was.
	Client string
	// Access is the access token that the client has.
	Access string
	// Patient says that the client may come back for an answer that was lost after any time, as long as nobody has used what it said.
	Patient bool
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
	// Unused says that the token came from a renewal and that UseToken was not called for it.
	Unused bool
}

// Family is what is kept of the refresh tokens of a flow for one kind of access: those that come from one Issue. Nothing of the tokens themselves is kept.
type Family struct {
	ID string // random, 128 bits
	// Generation counts renewals.
	Generation uint32
	// Current is the record of the access token of this generation, and Issued when it was issued.
	Current Record
	Issued  time.Time
	// Previous is the id of the access token of the generation before. "": there was none.
	Previous string
	// Expires is when the refresh token of this generation does.
	Expires time.Time
	// Started is when the first generation was issued.
	Started time.Time
}

// Store keeps records of tokens. All methods may be called concurrently. What a method changed is durable when it returns nil, and
// visible to every call that begins after. For each kind of access, a flow has one family, or none: what happens to the tokens of one
// does not touch those of another, but for RevokeTokens.
type Store interface {
	// ReplaceTokens revokes all tokens of the flow and the access of f.Current and drops their family, and then records f.Current, and f
	// itself if it has an id; all of it or nothing.
	ReplaceTokens(ctx context.Context, f Family) error
	// RenewTokens records f.Current, revokes all other tokens of its flow and access but f.Previous, and lets f take the place of the family
	// with its id; all of it or nothing. The error wraps ErrStale if there is no such family in the generation before f's.
	RenewTokens(ctx context.Context, f Family) error
	// UseToken says that a token was used: it is no longer Unused, neither as a record nor in its family. It does nothing if the token
	// is not the current one of a family.
	UseToken(ctx context.Context, f Flow, id string) error
	// RevokeTokens revokes all tokens of a flow, whatever their access, and drops its families. It is idempotent, also for a flow that never
	// had one.
	RevokeTokens(ctx context.Context, f Flow) error
	// RevokeFamily does the same for the flow and the access of a family, if there still is that family.
	RevokeFamily(ctx context.Context, id string) error
	// Token returns a record, or ErrUnknown.
	Token(ctx context.Context, id string) (Record, error)
	// Family returns a family, or ErrUnknown.
	Family(ctx context.Context, id string) (Family, error)
	// PurgeTokens removes the records of tokens that expired before a time, those of revoked tokens that never would (Never), and the
	// families whose refresh token expired.
	PurgeTokens(ctx context.Context, before time.Time) error
}
