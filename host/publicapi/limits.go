package publicapi

import (
	"context"
	"sync"
	"time"
)

// Limits bound what the bearer of one token can do. 0 means no limit.
type Limits struct {
	// MaxConcurrentPerToken is the number of requests at a time: 429.
	MaxConcurrentPerToken int
	// MaxBytesPerToken counts the bytes of all bodies, both ways, since this process first saw the token: 403. A new token counts
	// anew.
	MaxBytesPerToken int64
	// MaxPartSize is the size of a part of an ingest: 413.
	MaxPartSize int64
	// MaxParts is the number of parts of an ingest: 413.
	MaxParts int64
	// MaxDuration is how long a request may take: 504 for a pull whose answer has not begun, 408 for an ingest. A pull that is
	// longer is cut, and can be resumed with a range.
	MaxDuration time.Duration
	// IdleTimeout is how long a client may take for its next bytes, and a source for its first. 0: a minute.
	IdleTimeout time.Duration
}

// Meter holds one request to the limits of its flow, which are shared with the flow's other requests and with other flows, and keeps
// account of whom it waits for. One goroutine uses it.
type Meter interface {
	// Wait returns when so many bytes and records may move next, or with the cause for which ctx ended.
	Wait(ctx context.Context, bytes, records int64) error
	// Source, Host and Sink say whom the request waits for from now on, at first the host. In a pull the client is the sink, in an ingest
	// the source.
	Source()
	Host()
	Sink()
	// Close is the end of the request.
	Close()
}

// usage counts what each token moves.
type usage struct {
	limits Limits

	mu     sync.Mutex // guards what follows
	tokens map[string]*allowance
	sweep  int // number of tokens at which those that have expired are dropped
}

// minSweep keeps small maps from being swept often.
const minSweep = 1024

func newUsage(l Limits) *usage {
	return &usage{limits: l, tokens: map[string]*allowance{}, sweep: minSweep}
}

// allowance is what one token may still do. A nil allowance has no limit.
type allowance struct {
	usage   *usage
	expires time.Time

	// usage.mu guards what follows.
	active int
	moved  int64
}

// enter begins a request with the token of that id; leave ends it. One that brings nothing and takes nothing finds a place in any case:
// it may be there to end another.
func (u *usage) enter(id string, expires time.Time, limited bool) (*allowance, error) {
	u.mu.Lock()
	defer u.mu.Unlock()
	a, ok := u.tokens[id]
	if !ok {
		u.dropExpired()
		a = &allowance{usage: u, expires: expires}
		u.tokens[id] = a
	}
	if limit := u.limits.MaxConcurrentPerToken; limited && limit > 0 && a.active >= limit {
		return nil, tooMany.because("%d requests are running with this token", a.active).retryAfter(time.Second)
	}
	a.active++
	return a, nil
}

func (u *usage) dropExpired() {
	if len(u.tokens) < u.sweep {
		return
	}
	now := time.Now()
	for id, a := range u.tokens {
		if a.active == 0 && (u.limits.MaxBytesPerToken == 0 || a.expires.Before(now)) {
			delete(u.tokens, id)
		}
	}
	u.sweep = max(minSweep, 2*len(u.tokens))
}

func (a *allowance) leave() {
	a.usage.mu.Lock()
	defer a.usage.mu.Unlock()
	a.active--
}

// take counts n bytes, or says that they are too many.
func (a *allowance) take(n int) error {
	if a == nil {
		return nil
	}
	a.usage.mu.Lock()
	defer a.usage.mu.Unlock()
	if err := a.checkLocked(int64(n)); err != nil {
		return err
	}
	a.moved += int64(n)
	return nil
}

// check says whether n more bytes would be too many.
func (a *allowance) check(n int64) error {
	if a == nil {
		return nil
	}
	a.usage.mu.Lock()
	defer a.usage.mu.Unlock()
	return a.checkLocked(n)
}

func (a *allowance) checkLocked(n int64) error {
	limit := a.usage.limits.MaxBytesPerToken
	if limit > 0 && n > limit-a.moved {
		return exhaustedToken.because("the token may move %d bytes in all", limit)
	}
	return nil
}

// renewing counts the renewals that run, by client.
type renewing struct {
	mu      sync.Mutex // guards what follows
	all     int
	clients map[string]int
}

// enter begins a renewal of a client. The first that is too many is told to come again, so that no client takes the places of others.
func (r *renewing) enter(client string) (leave func(), err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.all >= maxRenewals || r.clients[client] >= maxRenewalsPerClient {
		return nil, later.refuse("too many renewals are running").retryAfter(time.Second)
	}
	r.all++
	r.clients[client]++
	return func() {
		r.mu.Lock()
		defer r.mu.Unlock()
		r.all--
		if r.clients[client]--; r.clients[client] == 0 {
			delete(r.clients, client)
		}
	}, nil
}
