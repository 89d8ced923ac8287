package access

import (
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// newPoint returns a decision point whose server answers as it is told.
func newPoint(t *testing.T, onFailure Effect, answer http.HandlerFunc) *Point {
	t.Helper()
	server := httptest.NewServer(answer)
	client := &http.Client{Transport: &http.Transport{}, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	t.Cleanup(func() {
		client.CloseIdleConnections()
		server.Close()
	})
	return NewPoint(PointOptions{URL: server.URL + "/decide?key=in-the-url", OnFailure: onFailure, Client: client,
		Timeout: 20 * time.Second, Header: http.Header{"X-Api-Key": {"s3cret-key"}}})
}

func reply(status int, body string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(status)
		io.WriteString(w, body)
	}
}

func TestPointDecides(t *testing.T) {
	for name, c := range map[string]struct {
		answer    http.HandlerFunc
		onFailure Effect
		want      string // "" if allowed
	}{
		"yes":               {reply(200, `{"allow":true,"reason":"fine"}`), Deny, ""},
		"no":                {reply(200, `{"allow":false,"reason":"not today,\nsorry"}`), Allow, "denied by the decision point: not today, sorry"},
		"no, for no reason": {reply(200, `{"allow":false}`), Allow, "denied by the decision point"},
		"neither":           {reply(200, `{}`), Deny, "denied by the decision point: it could not decide"},
		"not JSON":          {reply(200, `yes`), Deny, "denied by the decision point: it could not decide"},
		"a word for it":     {reply(200, `{"allow":"true"}`), Deny, "denied by the decision point: it could not decide"},
		"another status":    {reply(201, `{"allow":true}`), Deny, "denied by the decision point: it could not decide"},
		"an error":          {reply(500, `{"allow":true}`), Deny, "denied by the decision point: it could not decide"},
		"redirected": {func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, "/elsewhere", http.StatusTemporaryRedirect)
		}, Deny, "denied by the decision point: it could not decide"},
		"a novel": {reply(200, `{"allow":true,"reason":"`+strings.Repeat("x", maxVerdict)+`"}`), Deny,
			"denied by the decision point: it could not decide"},
		"hangs up": {func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }, Deny,
			"denied by the decision point: it could not decide"},
		"an error, allow": {reply(500, ``), Allow, ""},
	} {
		t.Run(name, func(t *testing.T) {
			p := newPoint(t, c.onFailure, c.answer)
			err := control(t, Options{Point: p, Default: c.onFailure}).Decide(t.Context(), sample())
			if c.want == "" && err != nil || c.want != "" && (err == nil || err.Error() != c.want) {
				t.Errorf("%v, want %q", err, c.want)
			}
			request := sample()
			if d := p.ask(t.Context(), &request); d.failed != nil && strings.Contains(d.failed.Error(), "in-the-url") {
				t.Errorf("the URL is in the error: %v", d.failed)
			}
		})
	}
}

func TestPointIsToldTheRequest(t *testing.T) {
	var mu sync.Mutex
	var got map[string]any
	var key, typ string
	p := newPoint(t, Deny, func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		key, typ = r.Header.Get("X-Api-Key"), r.Header.Get("Content-Type")
		if err := json.NewDecoder(r.Body).Decode(&got); err != nil || r.Method != http.MethodPost {
			http.Error(w, "no", http.StatusBadRequest)
			return
		}
		io.WriteString(w, `{"allow":true}`)
	})
	if err := control(t, Options{Point: p, Default: Deny}).Decide(t.Context(), sample()); err != nil {
		t.Fatal(err)
	}
	mu.Lock()
	defer mu.Unlock()
	want := map[string]any{
		"participant_context": "default", "participant": "did:web:us.example", "counterparty": "did:web:them.example", "agreement": "agreement-1",
		"dataset": "tree", "flow": "flow-1", "role": "provider", "direction": "pull", "profile": "HttpData-PULL", "control_plane": "cp-1",
		"labels": []any{"gold", "eu"}, "claims": map[string]any{"tier": "gold", "level": 3.0, "groups": []any{"a", "b"}, "gone": nil},
		"metadata": map[string]any{"purpose": "research"}, "method": "GET", "path": "/flows/flow-1/a%2Fb",
		"query": map[string]any{"x": []any{"1", "2"}, "y": []any{""}}, "headers": map[string]any{"x-purpose": "research, more"},
		"operation": "pull", "part": "a.csv", "remote_address": "192.0.2.7",
		"time": map[string]any{"rfc3339": "2026-03-04T08:30:00Z", "unix": 1772613000.0, "weekday": "wednesday", "hour": 8.0, "minute": 30.0},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("the document (-want +got):\n%s", diff)
	}
	if key != "s3cret-key" || typ != "application/json" {
		t.Errorf("X-Api-Key %q, Content-Type %q", key, typ)
	}
}

// A rule that matches spares the decision point.
func TestRulesGoBeforeThePoint(t *testing.T) {
	var asked atomic.Int64
	p := newPoint(t, Deny, func(w http.ResponseWriter, _ *http.Request) {
		asked.Add(1)
		io.WriteString(w, `{"allow":false}`)
	})
	k := control(t, Options{Point: p, Default: Allow, Rules: []Rule{rule(t, "yes", Allow, `dataset == "tree"`)}})
	if err := k.Decide(t.Context(), sample()); err != nil || asked.Load() != 0 {
		t.Errorf("%v, asked %d times", err, asked.Load())
	}
	other := sample()
	other.Dataset = "other"
	if err := k.Decide(t.Context(), other); err == nil || asked.Load() != 1 {
		t.Errorf("%v, asked %d times", err, asked.Load())
	}
}

// A decision point that does not answer holds up no more than its timeout, and no more requests than it may.
func TestPointIsSilent(t *testing.T) {
	var at, most atomic.Int64
	p := newPoint(t, Deny, func(_ http.ResponseWriter, r *http.Request) {
		io.Copy(io.Discard, r.Body)
		n := at.Add(1)
		defer at.Add(-1)
		for m := most.Load(); n > m && !most.CompareAndSwap(m, n); m = most.Load() {
		}
		<-r.Context().Done()
	})
	p.Timeout = 300 * time.Millisecond
	k := control(t, Options{Point: p, Default: Allow})
	var all sync.WaitGroup
	var allowed atomic.Int64
	for range 2 * maxAsked {
		all.Go(func() {
			var denied *Denied
			if err := k.Decide(t.Context(), sample()); !errors.As(err, &denied) {
				allowed.Add(1)
			}
		})
	}
	all.Wait()
	if allowed.Load() != 0 || most.Load() > maxAsked {
		t.Errorf("%d were not denied, %d were asked at once", allowed.Load(), most.Load())
	}
}
