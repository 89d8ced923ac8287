package identity

import (
	"net/http"
	"time"
)

// ResolverOptions say how DID documents are fetched.
type ResolverOptions struct {
	HTTP *http.Client // required; decides which addresses may be reached
	// AllowHTTP says whether a document may come over plain HTTP when HTTPS does not work, by the host (with its port if it has one).
	// nil: never.
	AllowHTTP func(host string) bool
	Clock     func() time.Time // nil: time.Now
	MaxAge    time.Duration    // how long a document is used before it is fetched again; 0: 5 minutes
	MinGap    time.Duration    // the least time between two fetches of a document; 0: 1 second
}

// Resolver finds the keys of DIDs: did:web, whose documents it fetches and keeps as RemoteKeys does, and did:jwk and did:key, which
// are their own documents. It is safe for concurrent use.
type Resolver struct{}

// NewResolver returns a Resolver.
func NewResolver(o ResolverOptions) *Resolver { panic("not there yet") }

// Keys returns the keys of a DID: the verification methods that it controls itself. Their ids may be given whole or from the '#' on.
// For a DID that CheckDID refuses the Keys know no key.
func (r *Resolver) Keys(did string) Keys { panic("not there yet") }

// Close ends the fetches that are in progress and waits for them. Nothing is fetched afterwards.
func (r *Resolver) Close() { panic("not there yet") }
