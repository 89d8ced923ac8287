package identity

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

const keysURL = "https://idp.example/jwks?secret=1"

// remote returns keys that are kept for an hour and fetched once in 10 seconds, and where they come from.
func remote(t testing.TB, ids ...string) (*RemoteKeys, *site) {
	s := &site{}
	s.serve(setOf(t, ids...))
	r := NewRemoteKeys(keysURL, RemoteOptions{HTTP: s.client(), MaxAge: time.Hour, MinGap: 10 * time.Second})
	t.Cleanup(r.Close)
	return r, s
}

// setOf returns a key set with the given ids.
func setOf(t testing.TB, ids ...string) []byte {
	keys := make([]any, len(ids))
	for i, id := range ids {
		keys[i] = jwk(t, pairs()["P-256"].Public(), map[string]any{"kid": id})
	}
	return marshal(t, map[string]any{"keys": keys})
}

func TestRemoteKeys(t *testing.T) {
	type step struct {
		wait time.Duration
		do   func(*site)
		kid  string
		want string
		asks int           // fetches that it takes
		cost time.Duration // how long it takes
	}
	serve := func(ids ...string) func(*site) { return func(s *site) { s.serve(setOf(t, ids...)) } }
	broken := func(s *site) { s.change(func() { s.status = http.StatusInternalServerError }) }
	down := func(s *site) { s.change(func() { s.err = errors.New("connection refused") }) }
	slow := func(s *site) { s.change(func() { s.delay = time.Hour }) }
	age := func(v string) func(*site) {
		return func(s *site) { s.change(func() { s.header = http.Header{"Cache-Control": {v}} }) }
	}
	for name, steps := range map[string][]step{
		"are fetched once": {
			{kid: "a", want: "found", asks: 1},
			{kid: "a", want: "found"},
			{kid: "", want: "found"},
			{wait: 59 * time.Minute, kid: "a", want: "found"},
		},
		"are fetched again when they are old": {
			{kid: "a", want: "found", asks: 1},
			{wait: time.Hour, do: serve("b"), kid: "a", want: "no key", asks: 1},
			{kid: "b", want: "found"},
		},
		"are fetched again for an unknown id": {
			{kid: "a", want: "found", asks: 1},
			{wait: time.Minute, do: serve("a", "b"), kid: "b", want: "found", asks: 1},
		},
		"are not fetched again and again for an unknown id": {
			{kid: "a", want: "found", asks: 1},
			{wait: 10 * time.Second, kid: "x", want: "no key", asks: 1},
			{kid: "x", want: "no key"},
			{wait: 7 * time.Second, kid: "y", want: "no key"},
			{do: serve("a", "y"), wait: time.Second, kid: "y", want: "found", asks: 1, cost: 2 * time.Second}, // it is worth waiting
		},
		"are honoured as long as the answer says": {
			{do: age("public, max-age=60"), kid: "a", want: "found", asks: 1},
			{wait: 59 * time.Second, kid: "a", want: "found"},
			{wait: time.Second, kid: "a", want: "found", asks: 1},
		},
		"are not honoured longer than that": {
			{do: age(`Max-Age="99999999"`), kid: "a", want: "found", asks: 1},
			{wait: time.Hour, kid: "a", want: "found", asks: 1},
		},
		"are honoured at least for the gap": {
			{do: age("max-age=0"), kid: "a", want: "found", asks: 1},
			{wait: 9 * time.Second, kid: "a", want: "found"},
			{wait: time.Second, kid: "a", want: "found", asks: 1},
		},
		"of a nonsensical age": {
			{do: age("max-age=-1, max-age"), kid: "a", want: "found", asks: 1},
			{wait: 59 * time.Minute, kid: "a", want: "found"},
		},
		"are used when they cannot be fetched again": {
			{kid: "a", want: "found", asks: 1},
			{wait: 2 * time.Hour, do: down, kid: "a", want: "found", asks: 1},
			{kid: "a", want: "found"},
			{kid: "b", want: "unavailable"},
			{wait: 9 * time.Second, kid: "a", want: "found"},
			{wait: time.Second, do: broken, kid: "a", want: "found", asks: 1},
			{wait: 21*time.Hour + 58*time.Minute, kid: "a", want: "found", asks: 1},
			{wait: 2 * time.Minute, kid: "a", want: "unavailable", asks: 1},
			{wait: time.Minute, do: serve("a"), kid: "a", want: "found", asks: 1},
		},
		"are not asked for in a hurry when that fails": {
			{do: down, kid: "a", want: "unavailable", asks: 1},
			{kid: "a", want: "unavailable"},
			{wait: 7 * time.Second, do: serve("a"), kid: "a", want: "unavailable"},
			{wait: time.Second, kid: "a", want: "found", asks: 1, cost: 2 * time.Second},
		},
		"are done without when they are slow to come again": {
			{kid: "a", want: "found", asks: 1},
			{wait: time.Hour, do: slow, kid: "a", want: "found", asks: 1, cost: patience},
			{kid: "a", want: "found", cost: patience},
			{kid: "b", want: "unavailable", cost: 6 * time.Second}, // the fetch has an end
			{kid: "a", want: "found"},
		},
		"are not those of some other answer": {
			{do: func(s *site) { s.serve([]byte(`{"keys":[{"kty":"oct","k":"AA"}]}`)) }, kid: "a", want: "unavailable", asks: 1},
			{wait: time.Minute, do: func(s *site) { s.change(func() { s.status = http.StatusAccepted }) }, kid: "a", want: "unavailable", asks: 1},
			{wait: time.Minute, do: func(s *site) { s.serve([]byte(strings.Repeat(" ", maxAnswer+1))) }, kid: "a", want: "unavailable", asks: 1},
			{wait: time.Minute, do: func(s *site) { s.serve(append(setOf(t, "a"), make([]byte, maxAnswer)...)) }, kid: "a", want: "unavailable", asks: 1},
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r, s := remote(t, "a")
				for i, step := range steps {
					time.Sleep(step.wait)
					if step.do != nil {
						step.do(s)
					}
					before := time.Now()
					got := lookup(r, step.kid)
					if cost, asks := time.Since(before), s.asked(); got != step.want || asks != step.asks || cost != step.cost {
						t.Errorf("step %d: %s after %d fetches in %v; want %s after %d in %v",
							i+1, got, asks, cost, step.want, step.asks, step.cost)
					}
				}
			})
		})
	}
}

func TestRemoteKeysFlyOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, s := remote(t, "a")
		s.change(func() { s.delay = time.Second })
		var wg sync.WaitGroup
		for range 100 {
			wg.Go(func() {
				if got := lookup(r, "a"); got != "found" {
					t.Error(got)
				}
			})
		}
		wg.Wait()
		if n := s.asked(); n != 1 {
			t.Errorf("%d fetches for 100 who asked at once", n)
		}
		time.Sleep(time.Minute)
		for range 100 {
			wg.Go(func() {
				if got := lookup(r, "x"); got != "no key" {
					t.Error(got)
				}
			})
		}
		wg.Wait()
		if n := s.asked(); n != 1 {
			t.Errorf("%d fetches for 100 who asked for an unknown key at once", n)
		}
	})
}

// Who asks while a fetch is in progress that began before a key was there gets the key nevertheless.
func TestKeyThatAFetchMissed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &site{delay: time.Second}
		s.serve(setOf(t, "a"))
		r := NewRemoteKeys(keysURL, RemoteOptions{HTTP: s.client(), MinGap: time.Second})
		defer r.Close()
		var wg sync.WaitGroup
		wg.Go(func() {
			if got := lookup(r, "a"); got != "found" {
				t.Error(got)
			}
		})
		time.Sleep(time.Second / 2) // the answer has been made
		s.serve(setOf(t, "a", "b"))
		if got := lookup(r, "b"); got != "found" {
			t.Error(got)
		}
		wg.Wait()
		if n := s.asked(); n != 2 {
			t.Errorf("%d fetches, want 2", n)
		}
	})
}

// A fetch goes on when who asked for it leaves, and serves the next one.
func TestFetchOutlivesItsCaller(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, s := remote(t, "a")
		s.change(func() { s.delay = 5 * time.Second })
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		keys, err := r.Keys(ctx, "a")
		if got := outcome(keys, err); got != "unavailable" || !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("%s: %v", got, err)
		}
		time.Sleep(4 * time.Second)
		if got, n := lookup(r, "a"), s.asked(); got != "found" || n != 1 {
			t.Errorf("%s after %d fetches", got, n)
		}
	})
}

func TestCloseEndsAFetch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, s := remote(t, "a")
		s.change(func() { s.delay = time.Hour })
		var wg sync.WaitGroup
		wg.Go(func() {
			if got := lookup(r, "a"); got != "unavailable" {
				t.Error(got)
			}
		})
		synctest.Wait()
		before := time.Now()
		r.Close()
		wg.Wait()
		time.Sleep(time.Minute)
		s.serve(setOf(t, "a"))
		if got, n := lookup(r, "a"), s.asked(); got != "unavailable" || n != 1 || time.Since(before) != time.Minute {
			t.Errorf("%s after %d fetches and %v", got, n, time.Since(before))
		}
	})
}

// A key that was replaced under its id, or in a set without ids, is found by its signature.
func TestReplacedKeyIsFound(t *testing.T) {
	for _, kid := range []string{"k", ""} {
		synctest.Test(t, func(t *testing.T) {
			set := func(name string) []byte { return jwks(t, jwk(t, pairs()[name].Public(), map[string]any{"kid": kid})) }
			r, s := remote(t)
			verify := func(name string) error {
				raw := sign(t, "ES256", pairs()[name], map[string]any{"kid": kid}, good(nil))
				_, err := Verify(t.Context(), raw, r, rules())
				return err
			}
			s.serve(set("P-256"))
			if err := verify("P-256"); err != nil {
				t.Fatal(err)
			}
			time.Sleep(time.Minute)
			s.serve(set("other P-256"))
			if err := verify("other P-256"); err != nil {
				t.Errorf("the new key: %v", err)
			}
			s.asked()
			for range 10 {
				if err := verify("P-256"); !errors.Is(err, ErrSignature) || errors.Is(err, ErrKeys) {
					t.Errorf("the old key: %v, want ErrSignature", err)
				}
			}
			if n := s.asked(); n != 0 {
				t.Errorf("%d fetches within the gap", n)
			}
			time.Sleep(time.Minute)
			s.change(func() { s.err = errors.New("connection refused") })
			for range 10 {
				if err := verify("P-256"); !errors.Is(err, ErrSignature) || errors.Is(err, ErrKeys) {
					t.Errorf("the old key while the set cannot be fetched: %v, want ErrSignature", err)
				}
			}
			if n := s.asked(); n != 1 {
				t.Errorf("%d fetches, want 1", n)
			}
		})
	}
}

func TestErrorsOfAFetchHideTheAddress(t *testing.T) {
	boom := errors.New("connection refused")
	for want, change := range map[string]func(*site){
		"no answer from idp.example: connection refused": func(s *site) { s.err = boom },
		"idp.example answered 404 instead of 200":        func(s *site) { s.status = http.StatusNotFound },
	} {
		r, s := remote(t, "a")
		s.change(func() { change(s) })
		_, err := r.Keys(t.Context(), "a")
		if err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "secret") {
			t.Errorf("%v, want %q", err, want)
		}
	}
	r := NewRemoteKeys("https://idp.example:secret", RemoteOptions{HTTP: (&site{}).client()})
	defer r.Close()
	if _, err := r.Keys(t.Context(), ""); !errors.Is(err, ErrKeys) || strings.Contains(err.Error(), "secret") {
		t.Errorf("a malformed address: %v", err)
	}
}

// The same over a real connection.
func TestRemoteKeysOverHTTP(t *testing.T) {
	var asked http.Header
	server := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked = r.Header.Clone()
		w.Write(setOf(t, "a"))
	}))
	defer server.Close()
	r := NewRemoteKeys(server.URL+"/jwks", RemoteOptions{HTTP: server.Client()})
	defer r.Close()
	if got := lookup(r, "a"); got != "found" {
		t.Error(got)
	}
	if !strings.Contains(asked.Get("Accept"), "application/json") {
		t.Errorf("asked with %v", asked)
	}
}
