package signaling

import (
	"context"
	"errors"
	"net/http"
	"sync"
	"time"
)

// grant is an access token with the time until which it is used.
type grant struct {
	token string
	until time.Time
}

// tokenSource authorizes requests with a token that it fetches when it has none that is still good. Those who need one at the same
// time share a fetch.
type tokenSource struct {
	fetch     func(ctx context.Context) (grant, error)
	singleUse bool // a new token for each request
	clock     func() time.Time

	mu       sync.Mutex // guards what follows
	current  grant
	flight   *flight   // the fetch that is going on
	failure  error     // of the last fetch
	retry    time.Time // until then, failure is the answer
	replaced time.Time // when a token was last replaced because it was refused
}

// flight is one fetch. The fields are set before done is closed.
type flight struct {
	done      chan struct{}
	grant     grant
	err       error
	abandoned bool // by the one who fetched, which says nothing about the next try
}

const (
	// fetchGap is the least time between a failed fetch and the next one.
	fetchGap = time.Second
	// maxFetchGap bounds what an authorization server can ask for.
	maxFetchGap = 5 * time.Minute
	// replaceGap is the least time between two tokens that are fetched because one was refused: who refuses everything does not keep the
	// authorization server busy.
	replaceGap = time.Second
)

func (s *tokenSource) authorize(ctx context.Context, r *http.Request) error {
	token, err := s.token(ctx)
	if err != nil {
		return err
	}
	r.Header.Set(authorization, "Bearer "+token)
	return nil
}

// refused forgets the token that a request had, unless that happened only just now.
func (s *tokenSource) refused(r *http.Request) bool {
	token, _ := bearer(r.Header)
	s.mu.Lock()
	defer s.mu.Unlock()
	now := s.clock()
	switch {
	case s.current.token != token && !s.singleUse: // someone else has replaced it
		return true
	case now.Sub(s.replaced) < replaceGap:
		return false
	}
	s.current, s.replaced = grant{}, now
	return true
}

func (s *tokenSource) token(ctx context.Context) (string, error) {
	for {
		f, leads, err := s.join()
		switch {
		case err != nil:
			return "", err
		case leads:
			s.lead(ctx, f)
		default:
			select {
			case <-f.done:
			case <-ctx.Done():
				return "", ctx.Err()
			}
		}
		if !f.abandoned || leads {
			return f.grant.token, f.err
		}
	}
}

// join returns the fetch to wait for, and whether the caller is the one to carry it out. What is at hand is a fetch that is over.
func (s *tokenSource) join() (f *flight, leads bool, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := s.clock()
	f = &flight{done: make(chan struct{})}
	switch {
	case s.failure != nil && now.Before(s.retry):
		return nil, false, s.failure
	case s.singleUse: // fetched by and for each one
		return f, true, nil
	case now.Before(s.current.until):
		f.grant = s.current
		close(f.done)
		return f, false, nil
	case s.flight != nil:
		return s.flight, false, nil
	}
	s.flight = f
	return f, true, nil
}

func (s *tokenSource) lead(ctx context.Context, f *flight) {
	f.abandoned = true // should fetch panic
	defer func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.finish(f)
		close(f.done)
	}()
	f.grant, f.err = s.fetch(ctx)
	f.abandoned = f.err != nil && errors.Is(ctx.Err(), context.Canceled)
}

// finish is called with mu held.
func (s *tokenSource) finish(f *flight) {
	if s.flight == f {
		s.flight = nil
	}
	if f.abandoned {
		return
	}
	s.current, s.failure = f.grant, f.err
	if f.err == nil {
		return
	}
	gap := fetchGap
	var asked *delayError
	if errors.As(f.err, &asked) {
		gap = min(max(gap, asked.after), maxFetchGap)
	}
	s.retry = s.clock().Add(gap)
}

// delayError is a failure that comes with the time to wait.
type delayError struct {
	text  string
	after time.Duration
}

func (e *delayError) Error() string { return e.text }
