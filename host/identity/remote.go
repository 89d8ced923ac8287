package identity

import (
	"cmp"
	"context"
	"crypto"
	"net/http"
	"time"
)

// RemoteOptions say how a JSON Web Key Set is fetched.
type RemoteOptions struct {
	HTTP  *http.Client     // required; decides which addresses may be reached
	Clock func() time.Time // nil: time.Now
	// MaxAge is how long a set is used before it is fetched again. A shorter max-age of the answer is honoured. 0: 10 minutes.
	MaxAge time.Duration
	// MinGap is the least time between two fetches, whatever they are for and however they ended. 0: 10 seconds.
	MinGap time.Duration
}

// RemoteKeys are the keys of a JSON Web Key Set at a URL. They are fetched when they are needed: first, after MaxAge, for a key id
// that is not among them, and for a signature that does not verify with them. There is one fetch at a time, which goes on when those
// who wait for it leave. When a fetch fails, the keys at hand are used, for up to a day.
//
// Somebody who needs a fetch that MinGap forbids waits for it, if that is a matter of 2 seconds.
type RemoteKeys struct {
	source source
}

var (
	_ Keys      = (*RemoteKeys)(nil)
	_ refresher = (*RemoteKeys)(nil)
)

// NewRemoteKeys returns the keys at url. It fetches nothing yet.
func NewRemoteKeys(url string, o RemoteOptions) *RemoteKeys {
	most := cmp.Or(o.MaxAge, 10*time.Minute)
	fetch := func(ctx context.Context) (StaticKeys, time.Duration, error) {
		body, age, err := get(ctx, o.HTTP, url, "application/jwk-set+json, application/json", most)
		if err != nil {
			return nil, 0, err
		}
		keys, err := ParseJWKS(body)
		return keys, age, err
	}
	return &RemoteKeys{source{fetch: fetch, minGap: cmp.Or(o.MinGap, 10*time.Second), clock: orNow(o.Clock), crew: newCrew()}}
}

// Keys returns the keys with the given id, or all of them for "".
func (r *RemoteKeys) Keys(ctx context.Context, kid string) ([]crypto.PublicKey, error) {
	return r.source.lookup(ctx, kid, false)
}

func (r *RemoteKeys) refresh(ctx context.Context, kid string) ([]crypto.PublicKey, error) {
	return r.source.lookup(ctx, kid, true)
}

// Close ends a fetch that is in progress and waits for it. Nothing is fetched afterwards.
func (r *RemoteKeys) Close() { r.source.crew.close() }
