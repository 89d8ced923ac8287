package identity

import (
	"context"
	"crypto"
	"errors"
	"fmt"
	"sync"
	"time"
)

const (
	// fetchTimeout bounds a fetch.
	fetchTimeout = 10 * time.Second
	// maxStale is how long keys are used when they cannot be fetched again.
	maxStale = 24 * time.Hour
	// patience is how long somebody is kept waiting for a fetch that is not due yet, or whose result could be done without.
	patience = 2 * time.Second
)

// fetcher gets keys from somewhere else, and says how long they may be used.
type fetcher func(ctx context.Context) (keys StaticKeys, maxAge time.Duration, err error)

// source is a set of keys somewhere else and what was last seen of it.
type source struct {
	fetch  fetcher
	minGap time.Duration
	clock  func() time.Time
	crew   *crew

	mu      sync.Mutex // guards what follows
	keys    StaticKeys
	fetched time.Time     // when the keys were; zero: never
	fresh   time.Time     // until when they need not be fetched again
	flight  chan struct{} // closed when the fetch that waits for its time or is in progress has ended; nil if there is none
	begun   int           // fetches
	done    int           // fetches that have ended
	ended   time.Time     // when the last one did
	err     error         // what it failed with
}

// lookup returns the keys with an id, or all of them for "". With renew it does not trust those at hand, if newer ones can be had.
func (s *source) lookup(ctx context.Context, kid string, renew bool) ([]crypto.PublicKey, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	// A fetch that has begun already may have missed what we are asked for.
	begun, waited := s.begun, false
	for {
		found := s.find(kid)
		asked := s.done > begun || waited && s.err != nil
		if asked || found != nil && !renew && s.clock().Before(s.fresh) {
			return s.instead(found)
		}
		if s.flight == nil {
			due := s.due()
			if due > patience || due > 0 && found != nil && !renew || !s.launch(due) {
				return s.instead(found)
			}
		}
		if err := s.await(ctx, found != nil); err != nil {
			if found != nil {
				return found, nil
			}
			return nil, fmt.Errorf("%w: %w", ErrKeys, err)
		}
		waited = true
	}
}

// find returns the keys at hand with an id, nil if there is none.
func (s *source) find(kid string) []crypto.PublicKey {
	if s.fetched.IsZero() || s.clock().Sub(s.fetched) > maxStale {
		return nil
	}
	return s.keys.find(kid)
}

// instead returns the keys at hand, or why there are none.
func (s *source) instead(found []crypto.PublicKey) ([]crypto.PublicKey, error) {
	switch {
	case found != nil:
		return found, nil
	case s.err != nil:
		return nil, fmt.Errorf("%w: %w", ErrKeys, s.err)
	}
	return nil, ErrNoKey
}

// due returns how long it is until the next fetch may begin.
func (s *source) due() time.Duration {
	if s.done == 0 {
		return 0
	}
	return max(0, s.minGap-s.clock().Sub(s.ended))
}

// launch begins a fetch that is due in a while. It returns false if there are to be no more of them.
func (s *source) launch(due time.Duration) bool {
	flight := make(chan struct{})
	if !s.crew.start(func(ctx context.Context) { s.fly(ctx, due, flight) }) {
		s.err = errClosed
		return false
	}
	s.flight = flight
	return true
}

func (s *source) fly(ctx context.Context, due time.Duration, flight chan<- struct{}) {
	pause(ctx, due)
	s.mu.Lock()
	s.begun++
	s.mu.Unlock()

	ctx, cancel := context.WithTimeout(ctx, fetchTimeout)
	defer cancel()
	keys, maxAge, err := s.fetch(ctx)

	s.mu.Lock()
	defer s.mu.Unlock()
	now := s.clock()
	if err == nil {
		s.keys, s.fetched, s.fresh = keys, now, now.Add(max(maxAge, s.minGap))
	}
	s.flight, s.done, s.ended, s.err = nil, s.begun, now, err
	close(flight)
}

// await waits for the flight, but not for long if its result could be done without. It gives the lock away meanwhile.
func (s *source) await(ctx context.Context, impatient bool) error {
	flight := s.flight
	s.mu.Unlock()
	defer s.mu.Lock()
	if impatient {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, patience)
		defer cancel()
	}
	select {
	case <-flight:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

func pause(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}

// errClosed says that nothing is fetched any more.
var errClosed = errors.New("they are not fetched any more")

// crew is a set of goroutines that are ended together.
type crew struct {
	ctx    context.Context // their lifetime
	cancel context.CancelFunc

	mu     sync.Mutex // guards closed, and members against a wait that has begun
	closed bool
	member sync.WaitGroup
}

func newCrew() *crew {
	ctx, cancel := context.WithCancel(context.Background())
	return &crew{ctx: ctx, cancel: cancel}
}

// start runs f in a goroutine, unless the crew is closed.
func (c *crew) start(f func(context.Context)) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return false
	}
	c.member.Go(func() { f(c.ctx) })
	return true
}

func (c *crew) close() {
	c.mu.Lock()
	c.closed = true
	c.mu.Unlock()
	c.cancel()
	c.member.Wait()
}
