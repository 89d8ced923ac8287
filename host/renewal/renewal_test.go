package renewal

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"

	"github.com/towpath-dataplane/towpath/host/flow"
	"github.com/towpath-dataplane/towpath/host/identity"
	"github.com/towpath-dataplane/towpath/sdk"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	access   = "the-old-access-token"
	refresh  = "the-old-refresh-token"
	provider = "did:web:provider.example"
)

// now is when the tests take place.
var now = time.Date(2026, 3, 4, 5, 6, 7, 0, time.UTC)

func clock() time.Time { return now }

// counterparty is a provider that answers renewals, and the DID document of the consumer.
type counterparty struct {
	*httptest.Server
	resolver *identity.Resolver
	signer   *identity.Signer

	mu       sync.Mutex // guards what follows
	answer   http.HandlerFunc
	requests []request
}

// request is what a provider sees of a renewal.
type request struct {
	method, url string
	form        url.Values
	header      http.Header
	claims      *identity.Claims // of the proof
	err         error            // of the proof
}

func newCounterparty(t testing.TB) *counterparty {
	c := &counterparty{}
	c.reply(http.StatusOK, `{"access_token":"new-access","token_type":"Bearer","expires_in":120,"refresh_token":"new-refresh"}`)
	c.Server = httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/.well-known/did.json" {
			w.Write(c.signer.Document())
			return
		}
		c.take(w, r)
	}))
	t.Cleanup(c.Close)
	c.resolver = identity.NewResolver(identity.ResolverOptions{HTTP: c.Client()})
	t.Cleanup(c.resolver.Close)
	did := "did:web:" + strings.ReplaceAll(c.Listener.Addr().String(), ":", "%3A")
	var err error
	if c.signer, err = identity.LoadSigner(filepath.Join(t.TempDir(), "key.pem"), did, ""); err != nil {
		t.Fatal(err)
	}
	return c
}

func (c *counterparty) take(w http.ResponseWriter, r *http.Request) {
	seen := request{method: r.Method, url: r.URL.String(), header: r.Header.Clone()}
	body, _ := io.ReadAll(r.Body)
	seen.form, _ = url.ParseQuery(string(body))
	proof := strings.TrimPrefix(r.Header.Get("Authorization"), "Bearer ")
	var who string
	if claims, err := identity.Peek(proof); err == nil {
		who = claims.Issuer
	}
	seen.claims, seen.err = identity.Verify(r.Context(), proof, c.resolver.Keys(who), identity.Rules{
		Issuer: who, Subject: who, Audiences: []string{provider}, MaxAge: time.Minute, Require: []string{"token", "jti", "iat"}, Clock: clock,
	})
	c.mu.Lock()
	c.requests = append(c.requests, seen)
	answer := c.answer
	c.mu.Unlock()
	answer(w, r)
}

func (c *counterparty) reply(status int, body string, header ...string) {
	c.answers(func(w http.ResponseWriter, _ *http.Request) {
		for i := 0; i < len(header); i += 2 {
			w.Header().Set(header[i], header[i+1])
		}
		w.WriteHeader(status)
		io.WriteString(w, body)
	})
}

func (c *counterparty) answers(h http.HandlerFunc) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.answer = h
}

// seen returns the requests since the last call.
func (c *counterparty) seen() []request {
	c.mu.Lock()
	defer c.mu.Unlock()
	seen := c.requests
	c.requests = nil
	return seen
}

// consumer returns a Client that has the signer in participant context alice.
func (c *counterparty) consumer(change func(*Options)) *Client {
	o := Options{HTTP: c.Client(), Clock: clock, Signer: func(context string) *identity.Signer {
		if context == "alice" {
			return c.signer
		}
		return nil
	}}
	change(&o)
	return New(o)
}

func asIs(*Options) {}

// flowOf returns a flow of alice.
func (c *counterparty) flow() *flow.Flow {
	return &flow.Flow{
		Key: flow.Key{Context: "alice", ID: "f"}, Role: flow.Consumer, Direction: flow.Pull,
		ParticipantID: c.signer.DID(), CounterPartyID: provider,
	}
}

// address returns a renewable address with changes; "" takes a property away.
func (c *counterparty) address(change map[string]string) sdk.DataAddress {
	a := sdk.DataAddress{Type: "http-pull", Endpoint: "https://data.example", Properties: map[string]string{
		"authorization": access, "authType": "bearer", "refreshToken": refresh, "expiresIn": "300", "refreshEndpoint": c.URL + "/token",
	}}
	for name, v := range change {
		if a.Properties[name] = v; v == "" {
			delete(a.Properties, name)
		}
	}
	return a
}

func TestRenew(t *testing.T) {
	c := newCounterparty(t)
	var log bytes.Buffer
	client := c.consumer(func(o *Options) {
		o.Logger = slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug}))
	})
	old := c.address(nil)
	got, err := client.Renew(t.Context(), c.flow(), old)
	want := c.address(map[string]string{"authorization": "new-access", "refreshToken": "new-refresh", "expiresIn": "120"})
	if diff := cmp.Diff(want, got); diff != "" || err != nil {
		t.Errorf("%v (-want +got):\n%s", err, diff)
	}
	if diff := cmp.Diff(c.address(nil), old); diff != "" {
		t.Errorf("the old address was changed:\n%s", diff)
	}
	seen := c.seen()
	if len(seen) != 1 {
		t.Fatalf("%d requests", len(seen))
	}
	r := seen[0]
	if diff := cmp.Diff(url.Values{"grant_type": {"refresh_token"}, "refresh_token": {refresh}}, r.form); diff != "" {
		t.Errorf("form (-want +got):\n%s", diff)
	}
	if r.method != http.MethodPost || r.url != "/token" || r.header.Get("Content-Type") != "application/x-www-form-urlencoded" {
		t.Errorf("%s %s, %v", r.method, r.url, r.header)
	}
	if r.err != nil {
		t.Fatalf("the proof: %v", r.err)
	}
	did := c.signer.DID()
	if p := r.claims; p.Issuer != did || p.Subject != did || p.KeyID != did+"#key-1" || p.Extra["token"] != access ||
		p.Expires.Sub(now) != time.Minute || p.ID == "" {
		t.Errorf("the proof says %+v", p)
	}
	if _, err := client.Renew(t.Context(), c.flow(), got); err != nil {
		t.Error(err)
	}
	again := c.seen()[0]
	if again.form.Get("refresh_token") != "new-refresh" || again.claims.Extra["token"] != "new-access" || again.claims.ID == r.claims.ID {
		t.Errorf("the second time: %v, %+v", again.form, again.claims)
	}
	for _, secret := range []string{access, refresh, "new-"} {
		if strings.Contains(log.String(), secret) {
			t.Errorf("the log has %q: %s", secret, log.String())
		}
	}
}

func TestNamesOfProperties(t *testing.T) {
	c := newCounterparty(t)
	client := c.consumer(asIs)
	const edc, tx, other = "https://w3id.org/edc/v0.0.1/ns/", tractusX, "https://other.example/ns#"
	property := func(kv ...string) map[string]string {
		m := map[string]string{}
		for i := 0; i < len(kv); i += 2 {
			m[kv[i]] = kv[i+1]
		}
		return m
	}
	for _, tc := range []struct {
		name      string
		endpoint  string
		have      map[string]string
		asked     string
		want      map[string]string
		unchanged []string
	}{
		{
			"Tractus-X", "https://data.example",
			property(edc+"authorization", access, tx+"refreshToken", refresh, tx+"expiresIn", "300", tx+"refreshEndpoint", c.URL+"/api/",
				tx+"refreshAudience", "did:web:somebody.else"),
			"/api/token",
			property(edc+"authorization", "new-access", tx+"refreshToken", "new-refresh", tx+"expiresIn", "120"),
			[]string{tx + "refreshAudience", tx + "refreshEndpoint"},
		},
		{
			"Tractus-X with the whole path", "",
			property(edc+"authorization", access, tx+"refreshToken", refresh, tx+"refreshEndpoint", c.URL+"/api/token"),
			"/api/token",
			property(edc+"authorization", "new-access", tx+"refreshToken", "new-refresh", tx+"expiresIn", "120"),
			[]string{tx + "refreshEndpoint"},
		},
		{
			"the endpoint by default", c.URL + "/data?x=1#part",
			property("authorization", access, "refreshToken", refresh),
			"/data?x=1",
			property("authorization", "new-access", "refreshToken", "new-refresh", "expiresIn", "120"),
			nil,
		},
		{
			"EDC's endpoint", "",
			property("authorization", access, "refreshToken", refresh, edc+"endpoint", c.URL+"/edc"),
			"/edc",
			property("authorization", "new-access", "refreshToken", "new-refresh", "expiresIn", "120"),
			[]string{edc + "endpoint"},
		},
		{
			"a value under two names", "",
			property("authorization", access, edc+"authorization", access, other+"authorization", "something else",
				"refreshToken", refresh, "expiresIn", "300", other+"expiresIn", "300", "refreshEndpoint", c.URL),
			"/",
			property("authorization", "new-access", edc+"authorization", "new-access", "refreshToken", "new-refresh",
				"expiresIn", "120", other+"expiresIn", "120"),
			[]string{other + "authorization", "refreshEndpoint"},
		},
	} {
		got, err := client.Renew(t.Context(), c.flow(), sdk.DataAddress{Type: "t", Endpoint: tc.endpoint, Properties: tc.have})
		want := sdk.DataAddress{Type: "t", Endpoint: tc.endpoint, Properties: tc.want}
		for _, name := range tc.unchanged {
			want.Properties[name] = tc.have[name]
		}
		if diff := cmp.Diff(want, got); diff != "" || err != nil {
			t.Errorf("%s: %v (-want +got):\n%s", tc.name, err, diff)
		}
		if seen := c.seen(); len(seen) != 1 || seen[0].url != tc.asked || seen[0].err != nil {
			t.Errorf("%s: %+v", tc.name, seen)
		}
	}
}

func TestRenewable(t *testing.T) {
	c := newCounterparty(t)
	client := c.consumer(asIs)
	for _, tc := range []struct {
		change  map[string]string
		expires time.Duration
		ok      bool
	}{
		{nil, 5 * time.Minute, true},
		{map[string]string{"expiresIn": ""}, 0, true},
		{map[string]string{"expiresIn": "soon"}, 0, true},
		{map[string]string{"expiresIn": "NaN"}, 0, true},
		{map[string]string{"expiresIn": " 60.9 "}, time.Minute, true},
		{map[string]string{"expiresIn": "0"}, time.Second, true},
		{map[string]string{"expiresIn": "-1e300"}, time.Second, true},
		{map[string]string{"expiresIn": "99999999999999999999"}, maxLife, true},
		{map[string]string{"expiresIn": "", tractusX + "expiresIn": "60"}, time.Minute, true},
		{map[string]string{"refreshEndpoint": ""}, 5 * time.Minute, true},
		{map[string]string{"refreshToken": ""}, 0, false},
		{map[string]string{"authorization": ""}, 0, false},
	} {
		if expires, ok := client.Renewable(c.flow(), c.address(tc.change)); expires != tc.expires || ok != tc.ok {
			t.Errorf("%v: %v, %v", tc.change, expires, ok)
		}
	}
	nowhere := c.address(map[string]string{"refreshEndpoint": ""})
	nowhere.Endpoint = ""
	for _, a := range []sdk.DataAddress{{}, nowhere} {
		if _, ok := client.Renewable(c.flow(), a); ok {
			t.Errorf("%+v is renewable", a)
		}
		if _, err := client.Renew(t.Context(), c.flow(), a); sdk.AsError(err).Code != sdk.Denied {
			t.Errorf("%+v: %v", a, err)
		}
	}
}

func TestAnswers(t *testing.T) {
	c := newCounterparty(t)
	client := c.consumer(asIs)
	const final, later = "final", "later"
	for _, tc := range []struct {
		name   string
		status int
		body   string
		want   string // final, later, or the access token, refresh token and expiresIn
		text   string
	}{
		{"all of it", 200, `{"access_token":"a","token_type":"bearer","expires_in":60,"refresh_token":"r","scope":"x"}`, "a r 60", ""},
		{"no refresh token", 200, `{"access_token":"a","token_type":"BEARER","expires_in":60}`, "a " + refresh + " 60", ""},
		{"null", 200, `{"access_token":"a","token_type":null,"expires_in":null,"refresh_token":null}`, "a " + refresh + " 300", ""},
		{"no type, no expiry", 200, `{"access_token":"a"}`, "a " + refresh + " 300", ""},
		{"expiry as a string", 200, `{"access_token":"a","expires_in":"60"}`, "a " + refresh + " 60", ""},
		{"fraction", 200, `{"access_token":"a","expires_in":1.9}`, "a " + refresh + " 1", ""},
		{"expired", 200, `{"access_token":"a","expires_in":0}`, "a " + refresh + " 1", ""},
		{"before all time", 200, `{"access_token":"a","expires_in":-1e300}`, "a " + refresh + " 1", ""},
		{"for ever", 200, `{"access_token":"a","expires_in":1e300}`, "a " + refresh + " 2592000", ""},
		{"expiry no number", 200, `{"access_token":"a","expires_in":{}}`, "a " + refresh + " 300", ""},

		{"empty", 200, ``, later, "RFC 6749"},
		{"HTML", 200, `<html>`, later, "RFC 6749"},
		{"list", 200, `[]`, later, "RFC 6749"},
		{"garbage after it", 200, `{"access_token":"a"}}`, later, "RFC 6749"},
		{"no access token", 200, `{"refresh_token":"r"}`, later, "no access_token"},
		{"access token no string", 200, `{"access_token":1}`, later, "RFC 6749"},
		{"line break in a token", 200, `{"access_token":"a\r\nX: y"}`, later, "characters"},
		{"line break in the other", 200, `{"access_token":"a","refresh_token":"r\u0000"}`, later, "characters"},
		{"too large", 200, `{"access_token":"a"}` + strings.Repeat(" ", maxAnswer), later, "65536"},
		{"another type", 200, `{"access_token":"a","token_type":"DPoP"}`, final, "bearer"},
		{"an error with 200", 200, `{"error":"invalid_grant"}`, later, "no access_token"},

		{"bad grant", 400, `{"error":"invalid_grant","error_description":"` + refresh + `"}`, final, "answered 400 (invalid_grant)"},
		{"bad request", 400, ``, final, "answered 400"},
		{"an error that is none", 400, `{"error":"` + refresh + `"}`, final, "answered 400"},
		{"bad client", 401, `{"error":"invalid_client"}`, final, "401 (invalid_client)"},
		{"forbidden", 403, ``, final, "403"},
		{"redirect", 302, ``, final, "302"},
		{"permanent redirect", 308, ``, final, "308"},
		{"gone", 410, ``, final, "410"},
		{"not found", 404, ``, later, "404"},
		{"too many", 429, ``, later, "429"},
		{"broken", 500, `{"error":"server_error"}`, later, "500 (server_error)"},
		{"busy", 503, strings.Repeat("x", maxAnswer+1), later, "503"},
		{"no content", 204, ``, later, "204"},
	} {
		c.reply(tc.status, tc.body, "Location", c.URL+"/other")
		a, err := client.Renew(t.Context(), c.flow(), c.address(nil))
		got := fmt.Sprint(a.Get(authorization), " ", a.Get(refreshToken), " ", a.Get(expiresIn))
		if err != nil {
			e := sdk.AsError(err)
			switch {
			case e.Code == sdk.Denied && !e.Retryable:
				got = final
			case e.Code == sdk.Unavailable && e.Retryable:
				got = later
			default:
				got = fmt.Sprintf("%s, retryable %v", e.Code, e.Retryable)
			}
			if !strings.Contains(err.Error(), tc.text) || strings.Contains(err.Error(), refresh) || !a.IsZero() {
				t.Errorf("%s: %q should have %q and no token", tc.name, err, tc.text)
			}
		}
		if got != tc.want {
			t.Errorf("%s: %s, want %s", tc.name, got, tc.want)
		}
		if n := len(c.seen()); n != 1 {
			t.Errorf("%s: %d requests", tc.name, n)
		}
	}
}

func TestRetryAfter(t *testing.T) {
	c := newCounterparty(t)
	for header, want := range map[string]time.Duration{
		"7": 7 * time.Second, "": 0, "0": 0, "-1": 0, "99999": maxRetryAfter, "99999999999999999999": 0, "Fri, 31 Dec 1999 23:59:59 GMT": 0,
	} {
		c.reply(http.StatusServiceUnavailable, "", "Retry-After", header)
		_, err := c.consumer(asIs).Renew(t.Context(), c.flow(), c.address(nil))
		if got := sdk.AsError(err).RetryAfter; got != want {
			t.Errorf("%q: %v, want %v", header, got, want)
		}
	}
}

// What cannot succeed is not even sent.
func TestRenewRefuses(t *testing.T) {
	c := newCounterparty(t)
	plain := httptest.NewServer(http.HandlerFunc(c.take))
	defer plain.Close()
	host := strings.TrimPrefix(plain.URL, "http://")
	to := func(endpoint string) map[string]string { return map[string]string{"refreshEndpoint": endpoint} }
	for _, tc := range []struct {
		name   string
		change map[string]string
		flow   func(*flow.Flow)
		want   string
	}{
		{"no key", nil, func(f *flow.Flow) { f.Context = "bob" }, `participant context "bob" has no DID`},
		{"another's flow", nil, func(f *flow.Flow) { f.ParticipantID = "did:web:bob" }, "the flow's participant is did:web:bob"},
		{"nobody's flow", nil, func(f *flow.Flow) { f.CounterPartyID = "" }, "no counterparty"},
		{"plain HTTP", to(plain.URL), nil, "plain HTTP to " + host + " is not allowed"},
		{"another scheme", to("ftp://x.example/token"), nil, "absolute https URL"},
		{"relative", to("/token"), nil, "absolute https URL"},
		{"no host", to("https:///token"), nil, "absolute https URL"},
		{"user", to("https://user:" + refresh + "@x.example/token"), nil, "absolute https URL"},
		{"no URL", to("https://x.example:" + refresh), nil, "absolute https URL"},
	} {
		f := c.flow()
		if tc.flow != nil {
			tc.flow(f)
		}
		_, err := c.consumer(asIs).Renew(t.Context(), f, c.address(tc.change))
		e := sdk.AsError(err)
		if e == nil || e.Code != sdk.Denied || e.Retryable || !strings.Contains(err.Error(), tc.want) || strings.Contains(err.Error(), refresh) {
			t.Errorf("%s: %v, want %q", tc.name, err, tc.want)
		}
		if n := len(c.seen()); n != 0 {
			t.Errorf("%s: %d requests", tc.name, n)
		}
	}
	allowing := c.consumer(func(o *Options) { o.AllowHTTP = func(h string) bool { return h == host } })
	if _, err := allowing.Renew(t.Context(), c.flow(), c.address(to(plain.URL))); err != nil {
		t.Errorf("plain HTTP that is allowed: %v", err)
	}
	f := c.flow()
	f.ParticipantID = "BPNL00000000001A"
	if _, err := allowing.Renew(t.Context(), f, c.address(nil)); err != nil {
		t.Errorf("a participant that is no DID: %v", err)
	}
}

type roundTrip func(*http.Request) (*http.Response, error)

func (f roundTrip) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

func TestNoAnswer(t *testing.T) {
	c := newCounterparty(t)
	address := c.address(map[string]string{"refreshEndpoint": "https://provider.example/token?key=secret"})
	fail := func(err error) *Client {
		return c.consumer(func(o *Options) {
			o.HTTP = &http.Client{Transport: roundTrip(func(*http.Request) (*http.Response, error) { return nil, err })}
		})
	}
	for _, tc := range []struct {
		err       error
		code      sdk.Code
		retryable bool
	}{
		{errors.New("connection refused"), sdk.Unavailable, true},
		{sdk.Errorf(sdk.Denied, "connections to 10.0.0.1 are not allowed"), sdk.Denied, false},
		{sdk.Errorf(sdk.Invalid, "has a host that is no name"), sdk.Denied, false},
		{fmt.Errorf("dial: %w", sdk.Errorf(sdk.Denied, "not allowed")), sdk.Denied, false},
		{context.DeadlineExceeded, sdk.Unavailable, true},
	} {
		_, err := fail(tc.err).Renew(t.Context(), c.flow(), address)
		e := sdk.AsError(err)
		if e == nil || e.Code != tc.code || e.Retryable != tc.retryable || !errors.Is(err, tc.err) || strings.Contains(err.Error(), "secret") {
			t.Errorf("%v: %v", tc.err, err)
		}
	}
	cut := func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Length", "1000")
		io.WriteString(w, `{"access_token":"a"}`)
		panic(http.ErrAbortHandler)
	}
	c.answers(cut)
	if _, err := c.consumer(asIs).Renew(t.Context(), c.flow(), c.address(nil)); sdk.AsError(err).Code != sdk.Unavailable {
		t.Errorf("an answer that was cut: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	c.answers(func(_ http.ResponseWriter, r *http.Request) {
		cancel()
		<-r.Context().Done()
	})
	if _, err := c.consumer(asIs).Renew(ctx, c.flow(), c.address(nil)); !errors.Is(err, context.Canceled) || !sdk.AsError(err).Retryable {
		t.Errorf("cancelled: %v", err)
	}
}

// FuzzAnswer looks for answers that end the process, or that bring a token which would break a header.
func FuzzAnswer(f *testing.F) {
	for _, body := range []string{
		`{"access_token":"a","token_type":"Bearer","expires_in":120,"refresh_token":"r"}`, `{"access_token":"a","expires_in":"1e9"}`,
		`{"error":"invalid_grant"}`, `{"access_token":"a\n"}`, `{"access_token":"a","token_type":"mac"}`, `[]`, ``,
	} {
		f.Add([]byte(body), 200)
		f.Add([]byte(body), 400)
	}
	f.Fuzz(func(t *testing.T, body []byte, status int) {
		if code := errorCode(body); code != "" && !json.Valid(body) {
			t.Errorf("error %q of no JSON", code)
		}
		if e := sdk.AsError(refusal("h", &http.Response{StatusCode: status}, body)); e.Code != sdk.Denied && e.Code != sdk.Unavailable {
			t.Errorf("%d: %v", status, e)
		}
		got, err := parseAnswer("h", body)
		if err != nil {
			if e := sdk.AsError(err); e.Code != sdk.Denied && e.Code != sdk.Unavailable || got != (tokens{}) {
				t.Errorf("%+v, %v", got, err)
			}
			return
		}
		request, err := http.NewRequest(http.MethodGet, "https://x.example", nil)
		if err != nil {
			t.Fatal(err)
		}
		request.Header.Set("Authorization", "Bearer "+got.access)
		if err := request.Write(io.Discard); err != nil || got.access == "" {
			t.Errorf("access token %q: %v", got.access, err)
		}
		if got.expires != 0 && (got.expires < minLife || got.expires > maxLife) {
			t.Errorf("expires %v", got.expires)
		}
		old := sdk.DataAddress{Properties: map[string]string{authorization: access, tractusX + refreshToken: refresh}}
		renewed := got.writtenTo(old)
		if renewed.Get(authorization) != got.access || got.refresh != "" && renewed.Get(refreshToken) != got.refresh {
			t.Errorf("%+v became %+v", got, renewed.Properties)
		}
	})
}

// FuzzAddress reads addresses that counterparties made: no life is longer than the longest, and nothing but HTTP is called.
func FuzzAddress(f *testing.F) {
	f.Add("https://dp.example/x", "https://dp.example/token", "300", "r", "a")
	f.Add("", "http://10.0.0.1", "1e99", "r", "a")
	f.Add("https://u:p@x", "", "-1", "r", "a")
	f.Add("x", "file:///etc/passwd#x", "", "", "")
	c := New(Options{HTTP: http.DefaultClient, AllowHTTP: func(string) bool { return false }})
	f.Fuzz(func(t *testing.T, endpoint, refreshAt, expires, refreshing, accessing string) {
		a := sdk.DataAddress{Endpoint: endpoint, Properties: map[string]string{
			refreshEndpoint: refreshAt, expiresIn: expires, refreshToken: refreshing, authorization: accessing}}
		life, ok := c.Renewable(&flow.Flow{}, a)
		if life < 0 || life > maxLife || ok && (refreshing == "" || accessing == "") {
			t.Errorf("%v, %t", life, ok)
		}
		u, err := c.checkEndpoint(refreshAddress(a))
		switch {
		case err != nil && sdk.AsError(err).Code != sdk.Denied:
			t.Error(err)
		case err == nil && (u.Scheme != "https" || u.Host == "" || u.User != nil || u.Fragment != ""):
			t.Errorf("%s would be called", u)
		}
	})
}
