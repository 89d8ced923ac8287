package signaling

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// mint is where a tokenSource gets its tokens: t1, t2, …
type mint struct {
	mu       sync.Mutex // guards what follows
	made     int
	lifetime time.Duration
	takes    time.Duration
	fail     error
}

func (m *mint) fetch(ctx context.Context) (grant, error) {
	m.mu.Lock()
	m.made++
	n, takes, fail, lifetime := m.made, m.takes, m.fail, m.lifetime
	m.mu.Unlock()
	select {
	case <-time.After(takes):
	case <-ctx.Done():
		return grant{}, ctx.Err()
	}
	return grant{fmt.Sprint("t", n), time.Now().Add(lifetime)}, fail
}

func (m *mint) failWith(err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.fail = err
}

func (m *mint) count() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.made
}

func newSource(m *mint) *tokenSource { return &tokenSource{fetch: m.fetch, clock: time.Now} }

// used returns the token that a request gets.
func used(t *testing.T, s *tokenSource) (*http.Request, string) {
	t.Helper()
	r, err := newRequest(t.Context(), "GET", "https://cp.example", nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.authorize(t.Context(), r); err != nil {
		return r, err.Error()
	}
	token, _ := bearer(r.Header)
	return r, token
}

func TestTokenIsUsedUntilItsTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := &mint{lifetime: time.Minute}
		s := newSource(m)
		for _, step := range []struct {
			after time.Duration
			want  string
		}{{0, "t1"}, {59 * time.Second, "t1"}, {time.Second, "t2"}, {time.Hour, "t3"}} {
			time.Sleep(step.after)
			if _, got := used(t, s); got != step.want {
				t.Errorf("after another %v: %s", step.after, got)
			}
		}
	})
}

func TestTokenThatIsGoodForNothingIsUsedOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSource(&mint{})
		_, first := used(t, s)
		if _, second := used(t, s); first != "t1" || second != "t2" {
			t.Errorf("%s, %s", first, second)
		}
	})
}

func TestThoseWhoWaitShareAFetch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := &mint{lifetime: time.Minute, takes: time.Second}
		s := newSource(m)
		var wg sync.WaitGroup
		for range 20 {
			wg.Go(func() {
				if _, got := used(t, s); got != "t1" {
					t.Error(got)
				}
			})
		}
		wg.Wait()
		if n := m.count(); n != 1 {
			t.Errorf("%d fetches", n)
		}
	})
}

func TestFailureIsSharedAndNotRepeatedAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := &mint{takes: time.Second, fail: errors.New("no")}
		s := newSource(m)
		var wg sync.WaitGroup
		for range 20 {
			wg.Go(func() {
				if _, got := used(t, s); got != "no" {
					t.Error(got)
				}
			})
		}
		wg.Wait()
		if _, got := used(t, s); got != "no" || m.count() != 1 {
			t.Errorf("%s after %d fetches", got, m.count())
		}
		time.Sleep(fetchGap)
		m.failWith(&delayError{text: "busy", after: 3 * time.Minute})
		used(t, s)
		time.Sleep(2 * time.Minute)
		if _, got := used(t, s); got != "busy" || m.count() != 2 {
			t.Errorf("%s after %d fetches", got, m.count())
		}
		time.Sleep(time.Minute)
		m.failWith(nil)
		if _, got := used(t, s); got != "t3" {
			t.Error(got)
		}
	})
}

// Who leaves while fetching for others too leaves the fetching to one of them.
func TestFetchThatIsAbandoned(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := &mint{lifetime: time.Minute, takes: time.Second}
		s := newSource(m)
		ctx, leave := context.WithCancel(t.Context())
		var wg sync.WaitGroup
		wg.Go(func() {
			if _, err := s.token(ctx); !errors.Is(err, context.Canceled) {
				t.Error(err)
			}
		})
		synctest.Wait()
		for range 5 {
			wg.Go(func() {
				if _, got := used(t, s); got != "t2" {
					t.Error(got)
				}
			})
		}
		impatient, stop := context.WithTimeout(t.Context(), time.Millisecond)
		defer stop()
		if _, err := s.token(impatient); !errors.Is(err, context.DeadlineExceeded) {
			t.Error(err)
		}
		leave()
		wg.Wait()
		if n := m.count(); n != 2 {
			t.Errorf("%d fetches", n)
		}
	})
}

func TestRefusedTokenIsReplaced(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := &mint{lifetime: time.Hour}
		s := newSource(m)
		r1, _ := used(t, s)
		also, _ := used(t, s)
		if !s.refused(r1) {
			t.Error("the first refusal changes nothing")
		}
		r2, got := used(t, s)
		if got != "t2" {
			t.Error(got)
		}
		if !s.refused(also) { // with the token that is replaced already
			t.Error("there is nothing to try")
		}
		if s.refused(r2) {
			t.Error("a token is replaced right after another one")
		}
		time.Sleep(replaceGap)
		if !s.refused(r2) {
			t.Error("a refusal changes nothing any more")
		}
		if _, got := used(t, s); got != "t3" {
			t.Error(got)
		}
	})
}

func TestTokensForSingleUse(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := &mint{lifetime: time.Hour}
		s := newSource(m)
		s.singleUse = true
		var wg sync.WaitGroup
		var seen sync.Map
		for range 10 {
			wg.Go(func() {
				if _, got := used(t, s); !strings.HasPrefix(got, "t") {
					t.Error(got)
				} else if _, twice := seen.LoadOrStore(got, true); twice {
					t.Errorf("%s is used twice", got)
				}
			})
		}
		wg.Wait()
		r, _ := used(t, s)
		if !s.refused(r) {
			t.Error("there is nothing to try")
		}
	})
}
