package identity

import (
	"cmp"
	"context"
	"crypto"
	"errors"
	"fmt"
	"net/http"
	"sync"
	"time"
)

// maxDocuments is the number of DID documents that are remembered.
const maxDocuments = 500

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
type Resolver struct {
	options ResolverOptions
	crew    *crew

	mu        sync.Mutex // guards what follows
	documents map[string]*document
	uses      int // of documents
}

// document is what was last seen of a DID document.
type document struct {
	source
	used int // the value of Resolver.uses when it was used last
}

// NewResolver returns a Resolver.
func NewResolver(o ResolverOptions) *Resolver {
	if o.AllowHTTP == nil {
		o.AllowHTTP = func(string) bool { return false }
	}
	o.Clock = orNow(o.Clock)
	o.MaxAge = cmp.Or(o.MaxAge, 5*time.Minute)
	o.MinGap = cmp.Or(o.MinGap, time.Second)
	return &Resolver{options: o, crew: newCrew(), documents: map[string]*document{}}
}

// Keys returns the keys of a DID: the verification methods that it controls itself. Their ids may be given whole or from the '#' on.
// For a DID that CheckDID refuses there is no key.
func (r *Resolver) Keys(did string) Keys { return didKeys{r, did} }

// Close ends the fetches that are in progress and waits for them. Nothing is fetched afterwards.
func (r *Resolver) Close() { r.crew.close() }

type didKeys struct {
	resolver *Resolver
	did      string
}

var _ refresher = didKeys{}

func (k didKeys) Keys(ctx context.Context, kid string) ([]crypto.PublicKey, error) {
	return k.lookup(ctx, kid, false)
}

func (k didKeys) refresh(ctx context.Context, kid string) ([]crypto.PublicKey, error) {
	return k.lookup(ctx, kid, true)
}

func (k didKeys) lookup(ctx context.Context, kid string, renew bool) ([]crypto.PublicKey, error) {
	if err := CheckDID(k.did); err != nil {
		return nil, fmt.Errorf("%w: the DID cannot be resolved: %w", ErrNoKey, err)
	}
	kid = wholeID(k.did, kid)
	if method(k.did) != "web" {
		keys, err := ownKeys(k.did)
		if err != nil {
			return nil, fmt.Errorf("%w: the DID cannot be resolved: %w", ErrNoKey, err)
		}
		return keys.Keys(ctx, kid)
	}
	return k.resolver.document(k.did).lookup(ctx, kid, renew)
}

// document returns what is known of the document of a did:web.
func (r *Resolver) document(did string) *document {
	r.mu.Lock()
	defer r.mu.Unlock()
	d := r.documents[did]
	if d == nil {
		d = &document{source: source{minGap: r.options.MinGap, clock: r.options.Clock, crew: r.crew}}
		d.fetch = func(ctx context.Context) (StaticKeys, time.Duration, error) { return r.fetch(ctx, did) }
		r.forgetOne()
		r.documents[did] = d
	}
	r.uses++
	d.used = r.uses
	return d
}

// forgetOne makes room for a document where the one is that was not used for the longest time.
func (r *Resolver) forgetOne() {
	if len(r.documents) < maxDocuments {
		return
	}
	oldest := ""
	for did, d := range r.documents {
		if oldest == "" || d.used < r.documents[oldest].used {
			oldest = did
		}
	}
	delete(r.documents, oldest)
}

// fetch returns the keys in the document of a did:web.
func (r *Resolver) fetch(ctx context.Context, did string) (StaticKeys, time.Duration, error) {
	address, err := webAddress(did)
	if err != nil {
		return nil, 0, err
	}
	body, age, err := r.get(ctx, "https://"+address.Host+address.EscapedPath())
	if errors.Is(err, errNoAnswer) && r.options.AllowHTTP(address.Host) {
		body, age, err = r.get(ctx, "http://"+address.Host+address.EscapedPath())
	}
	if err != nil {
		return nil, 0, err
	}
	keys, err := parseDocument(did, body)
	return keys, age, err
}

func (r *Resolver) get(ctx context.Context, address string) ([]byte, time.Duration, error) {
	// Half of the time remains for the second of two attempts.
	ctx, cancel := context.WithTimeout(ctx, fetchTimeout/2)
	defer cancel()
	return get(ctx, r.options.HTTP, address, "application/did+json, application/did+ld+json, application/json", r.options.MaxAge)
}
