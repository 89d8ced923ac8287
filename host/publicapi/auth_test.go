package publicapi

import (
	"context"
	"errors"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/towpath-dataplane/towpath/host/flow"
	"github.com/towpath-dataplane/towpath/host/token"
	"github.com/towpath-dataplane/towpath/sdk"
	"github.com/towpath-dataplane/towpath/sdk/sdktest"
)

// authorization asks for a URL with an Authorization field as given; "" for none.
func (w *world) authorization(method, url, field string) response {
	w.t.Helper()
	header := map[string]string{}
	if field != "" {
		header["Authorization"] = field
	}
	return w.do(sdk.DataAddress{}, url, request{method: method, header: header})
}

func TestAuthorization(t *testing.T) {
	w := newWorld(t, nil)
	w.memory.Put("d", []byte("x"))
	a, other, push := w.pull("f"), w.pull("g"), w.push("p")
	stranger, err := newAuthority(t, time.Now).Issue(t.Context(),
		token.Grant{Flow: tokenFlow(key("f")), Subject: "x", Access: token.Read})
	if err != nil {
		t.Fatal(err)
	}
	foreign := stranger.Access
	good := a.Get("authorization")
	missing := w.server.URL + "/flows/missing"
	for _, tc := range []struct {
		name, url, field string
		status           int
		challenge        string
	}{
		{"bearer", a.Endpoint, "Bearer " + good, 200, ""},
		{"lower case", a.Endpoint, "bearer  " + good, 200, ""},
		{"token alone", a.Endpoint, good, 200, ""},
		{"none", a.Endpoint, "", 401, challenge},
		{"none, and no such flow", missing, "", 401, challenge},
		{"none, and nothing to seal", w.server.URL + "/flows/missing/parts/x", "", 401, challenge},
		{"another scheme", a.Endpoint, "Basic " + good, 401, challenge},
		{"scheme alone", a.Endpoint, "Bearer ", 401, challenge + `, error="invalid_token", error_description="the token is malformed"`},
		{"malformed", a.Endpoint, "Bearer abc", 401, challenge + `, error="invalid_token", error_description="the token is malformed"`},
		{"malformed, and no such flow", missing, "Bearer abc", 401, challenge + `, error="invalid_token", error_description="the token is malformed"`},
		{"long", a.Endpoint, "Bearer " + strings.Repeat("a", 20000), 401, challenge + `, error="invalid_token", error_description="the token is malformed"`},
		{"foreign", a.Endpoint, "Bearer " + foreign, 401, challenge + `, error="invalid_token", error_description="the token was not issued here"`},
		{"changed", a.Endpoint, "Bearer " + good[:len(good)-4] + "AAAA", 401, challenge + `, error="invalid_token", error_description="the token was not issued here"`},
		{"of another flow", a.Endpoint, "Bearer " + other.Get("authorization"), 403, ""},
		{"of another flow, and no such flow", missing, "Bearer " + good, 403, ""},
		{"for writing", w.server.URL + "/flows/p", "Bearer " + push.Get("authorization"), 403, ""},
	} {
		res := w.authorization(http.MethodGet, tc.url, tc.field)
		if res.StatusCode != tc.status || res.Header.Get("WWW-Authenticate") != tc.challenge {
			t.Errorf("%s: %d, %q", tc.name, res.StatusCode, res.Header.Get("WWW-Authenticate"))
		}
	}
	res := w.authorization(http.MethodPost, w.server.URL+"/ingest/f", "Bearer "+good)
	res.wantStatus(t, http.StatusForbidden)
	w.clock.advance(2 * time.Hour)
	res = w.authorization(http.MethodGet, a.Endpoint, "Bearer "+good)
	res.wantStatus(t, http.StatusUnauthorized)
	if got := res.Header.Get("WWW-Authenticate"); !strings.Contains(got, "expired") {
		t.Errorf("WWW-Authenticate %q", got)
	}
	if log := w.log.String(); strings.Contains(log, good) {
		t.Error("a token is in the log")
	}
}

func TestIssueKillsOlderTokens(t *testing.T) {
	w := newWorld(t, nil)
	w.memory.Put("d", []byte("x"))
	old := w.pull("f")
	fresh := w.pull("f")
	w.get(old, nil).wantStatus(t, http.StatusForbidden)
	w.get(fresh, nil).wantBody(t, http.StatusOK, "x")
	if err := w.endpoint.Revoke(t.Context(), key("f")); err != nil {
		t.Fatal(err)
	}
	w.get(fresh, nil).wantStatus(t, http.StatusForbidden)
}

func TestStatesThatTakeNoRequest(t *testing.T) {
	w := newWorld(t, nil)
	for state, status := range map[flow.State]int{
		flow.Preparing: 409, flow.Starting: 409, flow.Suspended: 403, flow.Completed: 403, flow.Terminated: 403,
	} {
		a := w.add(flow.Flow{Key: key("f"), Role: flow.Provider, Direction: flow.Pull, State: state})
		res := w.get(a, nil)
		if p := res.wantStatus(t, status); p.State != state {
			t.Errorf("%s: %+v", state, p)
		}
		if (res.Header.Get("Retry-After") != "") != (status == 409) {
			t.Errorf("%s: Retry-After %q", state, res.Header.Get("Retry-After"))
		}
	}
	a := w.pull("gone")
	delete(w.flows.flows, key("gone"))
	w.get(a, nil).wantStatus(t, http.StatusNotFound)
}

// swapped is a flow service on which every flow is suspended and resumed just before it is joined.
type swapped struct {
	*flows
	endpoint *Endpoint
}

func (s swapped) Join(ctx context.Context, key flow.Key) (*flow.Joined, error) {
	if _, err := s.endpoint.Issue(ctx, &flow.Flow{Key: key, Role: flow.Provider, Direction: flow.Pull, CounterPartyID: "x"}); err != nil {
		return nil, err
	}
	return s.flows.Join(ctx, key)
}

// A token that dies between its check and the flow's does not get in.
func TestTokenThatDiesOnItsWayIn(t *testing.T) {
	w := newWorld(t, func(w *world, o *Options) {
		e, err := NewEndpoint(EndpointOptions{PublicURL: "http://x", Tokens: w.tokens, EndpointType: func(p string) string { return p }})
		if err != nil {
			t.Fatal(err)
		}
		o.Flows = swapped{w.flows, e}
	})
	w.memory.Put("d", []byte("x"))
	a := w.pull("f")
	w.get(a, nil).wantStatus(t, http.StatusForbidden)
	if n := w.flows.visiting(key("f")); n != 0 {
		t.Errorf("%d requests are left inside", n)
	}
}

func TestPathsAndMethods(t *testing.T) {
	w := newWorld(t, nil)
	res := w.authorization(http.MethodTrace, w.server.URL+"/ingest/f/a", "")
	res.wantStatus(t, http.StatusMethodNotAllowed)
	if got := res.Header.Get("Allow"); got != "PUT, POST, OPTIONS, HEAD, GET, PATCH, DELETE" {
		t.Errorf("/ingest/f/a: Allow %q", got)
	}
	// What is asked of a flow depends on the flow, about which nobody learns anything without a token.
	w.authorization(http.MethodTrace, w.server.URL+"/flows/f", "").wantStatus(t, http.StatusMethodNotAllowed)
	w.authorization(http.MethodPut, w.server.URL+"/flows/f", "").wantStatus(t, http.StatusUnauthorized)
	w.memory.Put("d", []byte("x"))
	a := w.pull("f")
	for path, status := range map[string]int{"": http.StatusMethodNotAllowed, "/parts/d": http.StatusMethodNotAllowed, "/": http.StatusNotFound} {
		res := w.do(a, a.Endpoint+path, request{method: http.MethodPut})
		res.wantStatus(t, status)
		if got := res.Header.Get("Allow"); status == http.StatusMethodNotAllowed && got != "GET, HEAD" {
			t.Errorf("%s: Allow %q", path, got)
		}
	}
	for path, allow := range map[string]string{
		"/ingest/f":    "POST, OPTIONS",
		"/manifests/f": "POST", "/.well-known/jwks.json": "GET, HEAD",
	} {
		for _, method := range []string{http.MethodDelete, http.MethodOptions, http.MethodPatch} {
			if method == http.MethodOptions && strings.Contains(allow, method) {
				continue
			}
			res := w.authorization(method, w.server.URL+path, "")
			res.wantStatus(t, http.StatusMethodNotAllowed)
			if got := res.Header.Get("Allow"); got != allow {
				t.Errorf("%s: Allow %q", path, got)
			}
			if res.Header.Get("Access-Control-Allow-Origin") != "" {
				t.Errorf("%s: CORS", path)
			}
		}
	}
	for _, path := range []string{"/", "/flows", "/flows/", "/flows//parts/a", "/contexts//flows/f",
		"/contexts/c/flows", "/other/f", "/manifests/f/a", "//flows/f", "/.well-known/jwks.json/"} {
		w.authorization(http.MethodGet, w.server.URL+path, "").wantStatus(t, http.StatusNotFound)
	}
	for _, path := range []string{"/flows/f/", "/flows/f/parts", "/flows/f/../g"} { // a proxy could have these
		w.authorization(http.MethodGet, w.server.URL+path, "").wantStatus(t, http.StatusUnauthorized)
	}
	// Without RenewalOptions there is no /token.
	w.authorization(http.MethodPost, w.server.URL+renewalPath, "").wantStatus(t, http.StatusNotFound)
	res = w.authorization(http.MethodGet, w.server.URL+"/.well-known/jwks.json", "")
	res.wantBody(t, http.StatusOK, string(w.tokens.JWKS()))
	if got := res.Header.Get("Content-Type"); got != "application/jwk-set+json" {
		t.Errorf("Content-Type %q", got)
	}
}

func TestConcurrencyPerToken(t *testing.T) {
	gate := sdktest.NewGate(0)
	entered := make(chan struct{}, 10)
	w := newWorld(t, func(w *world, o *Options) {
		o.Limits.MaxConcurrentPerToken = 2
		w.memory.Reading = func(ctx context.Context, at sdktest.Point) error {
			entered <- struct{}{}
			return gate.Hook(ctx, at)
		}
	})
	w.memory.Put("d", []byte("x"))
	a, b := w.pull("f"), w.pull("g")
	results := make(chan response)
	for range 2 {
		go func() { results <- w.get(a, nil) }()
	}
	<-entered
	<-entered
	res := w.get(a, nil)
	res.wantStatus(t, http.StatusTooManyRequests)
	if res.Header.Get("Retry-After") == "" {
		t.Error("no Retry-After")
	}
	gate.Open()
	w.get(b, nil).wantBody(t, http.StatusOK, "x")
	for range 2 {
		(<-results).wantBody(t, http.StatusOK, "x")
	}
	w.get(a, nil).wantBody(t, http.StatusOK, "x")
	if got := w.metric("towpath_public_requests_total", map[string]string{"operation": "pull", "code": "429"}); got != 1 {
		t.Errorf("%v refusals counted", got)
	}
	w.server.Close()
	if got := w.metric("towpath_public_requests_in_flight", map[string]string{}); got != 0 {
		t.Errorf("%v requests in flight", got)
	}
}

func TestBytesPerToken(t *testing.T) {
	w := newWorld(t, func(_ *world, o *Options) { o.Limits.MaxBytesPerToken = 15 })
	w.memory.Put("d", []byte("0123456789"))
	a := w.pull("f")
	w.get(a, nil).wantBody(t, http.StatusOK, "0123456789")
	w.get(a, nil).wantStatus(t, http.StatusForbidden)
	w.get(a, h("Range", "bytes=5-")).wantBody(t, http.StatusPartialContent, "56789")
	w.get(a, h("Range", "bytes=0-0")).wantStatus(t, http.StatusForbidden)
	w.do(a, a.Endpoint, request{method: http.MethodHead}).wantStatus(t, http.StatusOK)
	w.get(w.pull("f"), nil).wantBody(t, http.StatusOK, "0123456789") // a new token counts anew

	b := w.push("g")
	w.put(b, "a", "0123456789", nil).wantStatus(t, http.StatusCreated)
	w.put(b, "b", "0123456789", nil).wantStatus(t, http.StatusForbidden)
	if _, err := w.memory.Content("b"); err == nil {
		t.Error("the part is there")
	}
	// What is not known beforehand is cut.
	w.source = scripted(func(sdk.ReadOpen) ([]sdk.Frame, error) {
		return []sdk.Frame{&sdk.PartBegin{PartInfo: sdk.PartInfo{Name: "d", Size: -1, TotalParts: 1}}, buffered(t, "0123456789"),
			buffered(t, "0123456789"), &sdk.PartEnd{Size: 20}, &sdk.End{}}, errors.New("not reached")
	})
	if res := w.get(w.pull("h"), nil); res.err == nil {
		t.Error("the client took half for whole")
	}
}

func TestUsageForgetsExpiredTokens(t *testing.T) {
	u := newUsage(Limits{})
	for i := range 10 * minSweep {
		a, err := u.enter(strconv.Itoa(i), time.Now().Add(-time.Hour), true)
		if err != nil {
			t.Fatal(err)
		}
		a.leave()
	}
	if n := len(u.tokens); n > 2*minSweep {
		t.Errorf("%d tokens are kept", n)
	}
}
