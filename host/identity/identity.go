// Package identity tells who somebody is by what they signed: it reads JSON Web Key Sets and DID documents, verifies JSON Web Tokens
// against their keys, and signs with the keys of our own DIDs.
//
// It knows nothing of data flows, of control planes, or of what somebody may do.
package identity

import (
	"context"
	"crypto"
	"errors"
	"time"
)

// Keys finds public keys that tokens are signed with. It is safe for concurrent use.
type Keys interface {
	// Keys returns the keys with the given id, or all of them for "". The error wraps ErrNoKey if there is none, and ErrKeys if that
	// could not be found out.
	Keys(ctx context.Context, kid string) ([]crypto.PublicKey, error)
}

// What is wrong with a token. The texts of errors that wrap one of them name claims, but never hold what a token says.
var (
	ErrMalformed = errors.New("the token is malformed")
	ErrSignature = errors.New("the token's signature does not verify")
	ErrExpired   = errors.New("the token has expired")
	ErrClaims    = errors.New("the token's claims are not acceptable")
	ErrReplay    = errors.New("the token was used before")
	// ErrKeys says nothing about the token: the keys could not be had, which can pass by itself.
	ErrKeys = errors.New("the keys to verify the token with are not available")
)

// ErrNoKey says that a set of keys has no key with the id that was asked for.
var ErrNoKey = errors.New("there is no such key")

func orNow(clock func() time.Time) func() time.Time {
	if clock == nil {
		return time.Now
	}
	return clock
}
