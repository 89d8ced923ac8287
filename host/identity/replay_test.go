package identity

import (
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

func TestReplay(t *testing.T) {
	now := start
	clock := func() time.Time { return now }
	key := pairs()["Ed25519"]
	replay := NewReplay(3, clock)
	verify := func(r Rules, claims map[string]any) error {
		r.Replay, r.Clock = replay, clock
		_, err := Verify(t.Context(), sign(t, "EdDSA", key, nil, claims), StaticKeys{{"", key.Public()}}, r)
		return err
	}
	claims := func(iss, jti any, life time.Duration) map[string]any {
		return good(map[string]any{"iss": iss, "jti": jti, "exp": float64(start.Add(life).Unix())})
	}
	for i, tc := range []struct {
		after  time.Duration // since the start
		claims map[string]any
		want   error
		text   string
	}{
		{0, claims("a", "1", time.Minute), nil, ""},
		{0, claims("a", "1", time.Minute), ErrReplay, "before"},
		{0, claims("a", "1", time.Hour), ErrReplay, "before"},
		{0, claims("b", "1", 2*time.Minute), nil, ""},
		{0, claims("b1", "", time.Minute), ErrClaims, "jti"},
		{0, claims("b", nil, time.Minute), ErrClaims, "jti"},
		{0, claims("a", "2", 3*time.Minute), nil, ""},
		{0, claims("a", "3", time.Minute), ErrReplay, "perhaps"},                  // full
		{time.Minute + 4*time.Second, claims("a", "3", time.Hour), ErrReplay, ""}, // leeway
		{time.Minute + 5*time.Second, claims("a", "3", 4*time.Minute), nil, ""},
		{time.Minute + 5*time.Second, claims("a", "1", 4*time.Minute), ErrReplay, "perhaps"},
		{2*time.Minute + 5*time.Second, claims("a", "1", 4*time.Minute), nil, ""},
		{2*time.Minute + 5*time.Second, claims("a", "2", 4*time.Minute), ErrReplay, "before"},
	} {
		now = start.Add(tc.after)
		if err := verify(Rules{Leeway: 5 * time.Second}, tc.claims); !errors.Is(err, tc.want) || err != nil && !strings.Contains(err.Error(), tc.text) {
			t.Errorf("step %d: %v, want %v about %q", i+1, err, tc.want, tc.text)
		}
	}
	now = start
	replay = NewReplay(3, clock)
	endless := good(map[string]any{"exp": nil})
	if err := verify(Rules{ExpiryOptional: true}, endless); !errors.Is(err, ErrClaims) {
		t.Errorf("a token that is good for ever: %v, want ErrClaims", err)
	}
	aged := Rules{ExpiryOptional: true, MaxAge: time.Minute}
	if first, second := verify(aged, endless), verify(aged, endless); first != nil || !errors.Is(second, ErrReplay) {
		t.Errorf("a token that ends by its age: %v, then %v", first, second)
	}
}

// A token that is refused for another reason is not used up.
func TestReplayCountsAcceptedTokensOnly(t *testing.T) {
	key := pairs()["Ed25519"]
	r := rules()
	r.Replay = NewReplay(10, r.Clock)
	raw := sign(t, "EdDSA", key, nil, good(nil))
	wrong := r
	wrong.Audiences = []string{"dp-9"}
	for _, tc := range []struct {
		keys  Keys
		rules Rules
		want  error
	}{
		{StaticKeys{{"", pairs()["P-256"].Public()}}, r, ErrSignature},
		{StaticKeys{{"", key.Public()}}, wrong, ErrClaims},
		{StaticKeys{{"", key.Public()}}, r, nil},
		{StaticKeys{{"", key.Public()}}, r, ErrReplay},
	} {
		if _, err := Verify(t.Context(), raw, tc.keys, tc.rules); !errors.Is(err, tc.want) {
			t.Errorf("%v, want %v", err, tc.want)
		}
	}
}

func TestReplayAtOnce(t *testing.T) {
	replay := NewReplay(1000, nil)
	var accepted atomic.Int64
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for i := range 100 {
				if replay.use("iss", fmt.Sprint(i), time.Now().Add(time.Hour)) == nil {
					accepted.Add(1)
				}
			}
		})
	}
	wg.Wait()
	if accepted.Load() != 100 {
		t.Errorf("100 ids were accepted %d times", accepted.Load())
	}
}
