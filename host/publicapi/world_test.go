package publicapi

import (
	"bytes"
	"context"
	"crypto"
	"crypto/tls"
	"encoding/json"
	"io"
	"log/slog"
	"maps"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/goleak"

	"github.com/towpath-dataplane/towpath/host/flow"
	"github.com/towpath-dataplane/towpath/host/token"
	"github.com/towpath-dataplane/towpath/host/token/tokentest"
	"github.com/towpath-dataplane/towpath/sdk"
	"github.com/towpath-dataplane/towpath/sdk/sdktest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// world is a public API on a real socket, with everything behind it in memory.
type world struct {
	t        testing.TB
	server   *httptest.Server
	handler  *Handler
	client   *http.Client
	flows    *flows
	tokens   *token.Authority
	endpoint *Endpoint
	wallet   *wallet         // keys of counterparties
	memory   *sdktest.Memory // what flows read and write
	source   sdk.DataSource  // if not nil, in place of memory
	sink     sdk.DataSink    // if not nil, in place of memory
	registry *prometheus.Registry
	log      *logBuffer
	clock    *clock
}

// newWorld starts a world; change, if not nil, sees the options first.
func newWorld(t testing.TB, change func(*world, *Options)) *world {
	t.Helper()
	before := sdk.OutstandingBuffers()
	w := &world{t: t, flows: newFlows(), memory: &sdktest.Memory{}, registry: prometheus.NewRegistry(),
		wallet: &wallet{keys: map[string]crypto.PublicKey{}}, log: &logBuffer{}, clock: &clock{now: time.Now()}}
	w.tokens = newAuthority(t, w.clock.Now)
	w.server = httptest.NewUnstartedServer(nil)
	url := "http://" + w.server.Listener.Addr().String()
	o := Options{
		Flows: w.flows, Tokens: w.tokens, JWKS: w.tokens.JWKS(), PublicURL: url, Registerer: w.registry,
		Logger: slog.New(slog.NewTextHandler(w.log, &slog.HandlerOptions{Level: slog.LevelDebug})),
		Source: w.findSource, Sink: w.findSink,
	}
	if change != nil {
		change(w, &o)
	}
	handler, err := NewHandler(o)
	if err != nil {
		t.Fatal(err)
	}
	w.endpoint, err = NewEndpoint(EndpointOptions{
		PublicURL: url, Tokens: w.tokens, Digests: o.Digests, EndpointType: func(profile string) string { return profile + "-type" },
		Renewable: func(*flow.Flow) bool { return true },
	})
	if err != nil {
		t.Fatal(err)
	}
	w.server.Config.Handler, w.handler = handler, handler
	w.server.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelError)
	w.server.Start()
	w.client = w.server.Client()
	t.Cleanup(func() {
		w.client.CloseIdleConnections()
		w.server.Close()
		// Fewer, if another world had some when this one began.
		w.eventually("all buffers are released", func() bool { return sdk.OutstandingBuffers() <= before })
	})
	return w
}

// eventually waits until something is true that has to come true. If it does not, the test fails and shows the log.
func (w *world) eventually(what string, condition func() bool) {
	w.t.Helper()
	for deadline := time.Now().Add(20 * time.Second); !condition(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			w.t.Fatalf("still not true: %s\n%s", what, w.log)
		}
	}
}

func newAuthority(t testing.TB, now func() time.Time) *token.Authority {
	t.Helper()
	return openAuthority(t, t.TempDir(), tokentest.NewMemory(), now)
}

// openAuthority returns an authority with the key in a folder, which it makes if there is none.
func openAuthority(t testing.TB, dir string, store token.Store, now func() time.Time) *token.Authority {
	t.Helper()
	key, err := token.LoadKey(filepath.Join(dir, "key.pem"))
	if err != nil {
		t.Fatal(err)
	}
	a, err := token.New(token.Config{
		Issuer: "plane", Audience: "plane", Lifetime: time.Hour, RefreshLifetime: 10 * time.Hour, Grace: 10 * time.Minute,
		Key: key, Store: store, Clock: now,
	})
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func (w *world) findSource(typ string) (sdk.DataSource, error) {
	if w.source != nil {
		return w.source, nil
	}
	if typ != sdktest.MemoryType {
		return nil, sdk.Errorf(sdk.Unsupported, "no plugin reads %q", typ)
	}
	return w.memory.DataSource(), nil
}

func (w *world) findSink(typ string) (sdk.DataSink, error) {
	if w.sink != nil {
		return w.sink, nil
	}
	if typ != sdktest.MemoryType {
		return nil, sdk.Errorf(sdk.Unsupported, "no plugin writes %q", typ)
	}
	return w.memory.DataSink(), nil
}

// pull adds a STARTED flow of a provider and returns its address.
func (w *world) pull(id string) sdk.DataAddress {
	return w.add(flow.Flow{Key: flow.Key{Context: flow.DefaultContext, ID: id}, Role: flow.Provider, Direction: flow.Pull})
}

// push adds a STARTED flow of a consumer and returns its address.
func (w *world) push(id string) sdk.DataAddress {
	return w.add(flow.Flow{Key: flow.Key{Context: flow.DefaultContext, ID: id}, Role: flow.Consumer, Direction: flow.Push})
}

func (w *world) add(f flow.Flow) sdk.DataAddress {
	w.t.Helper()
	if f.State == "" {
		f.State = flow.Started
	}
	f.ParticipantID, f.Profile = us, "http"
	if f.CounterPartyID == "" {
		f.CounterPartyID = "did:web:other"
	}
	if f.Local.IsZero() {
		f.Local = w.memory.Address("")
	}
	a, err := w.endpoint.Issue(context.Background(), &f)
	if err != nil {
		w.t.Fatal(err)
	}
	w.flows.put(&f)
	return a
}

// response is an answer that was read to its end.
type response struct {
	*http.Response
	body []byte
	err  error // of reading the body
}

// request is how a client asks. The zero value is a GET.
type request struct {
	method string
	header map[string]string
	body   io.Reader
}

// do sends a request with the token of an address to a URL.
func (w *world) do(a sdk.DataAddress, url string, q request) response {
	w.t.Helper()
	res, err := w.send(a, url, q)
	if err != nil {
		w.t.Fatal(err)
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	return response{res, body, err}
}

func (w *world) send(a sdk.DataAddress, url string, q request) (*http.Response, error) {
	w.t.Helper()
	method := q.method
	if method == "" {
		method = http.MethodGet
	}
	r, err := http.NewRequest(method, url, q.body)
	if err != nil {
		w.t.Fatal(err)
	}
	if t := a.Get("authorization"); t != "" {
		r.Header.Set("Authorization", "Bearer "+t)
	}
	for name, value := range q.header {
		if name == "Content-Length" {
			continue
		}
		r.Header.Set(name, value)
	}
	return w.client.Do(r)
}

// get sends a GET to the address itself.
func (w *world) get(a sdk.DataAddress, header map[string]string) response {
	w.t.Helper()
	return w.do(a, a.Endpoint, request{header: header})
}

// put uploads content under a name.
func (w *world) put(a sdk.DataAddress, name, content string, header map[string]string) response {
	w.t.Helper()
	return w.do(a, a.Endpoint+"/"+name, request{method: http.MethodPut, body: strings.NewReader(content), header: header})
}

// manifest posts a manifest.
func (w *world) manifest(a sdk.DataAddress, body string) response {
	w.t.Helper()
	return w.do(a, a.Get("manifestUrl"), request{method: http.MethodPost, body: strings.NewReader(body),
		header: map[string]string{"Content-Type": manifestType}})
}

// wantStatus checks the status, and that an error is a problem of that status.
func (r response) wantStatus(t *testing.T, status int) problem {
	t.Helper()
	if r.StatusCode != status {
		t.Fatalf("status %d, want %d; body %s", r.StatusCode, status, r.body)
	}
	var p problem
	if status < 400 || r.Request.Method == http.MethodHead {
		return p
	}
	if got := r.Header.Get("Content-Type"); got != "application/problem+json" {
		t.Errorf("Content-Type of a problem is %q", got)
	}
	if err := json.Unmarshal(r.body, &p); err != nil || p.Status != status || p.Title == "" || p.Type == "" {
		t.Errorf("problem %s: %v", r.body, err)
	}
	return p
}

// wantBody checks status and body of an answer that has to end well.
func (r response) wantBody(t *testing.T, status int, body string) {
	t.Helper()
	r.wantStatus(t, status)
	if r.err != nil {
		t.Fatalf("body: %v", r.err)
	}
	if string(r.body) != body {
		t.Errorf("body is %.200q, want %.200q", r.body, body)
	}
}

func key(id string) flow.Key { return flow.Key{Context: flow.DefaultContext, ID: id} }

// metric returns the value of a counter or gauge with some labels, summed over the others.
func (w *world) metric(name string, labels map[string]string) float64 {
	w.t.Helper()
	families, err := w.registry.Gather()
	if err != nil {
		w.t.Fatal(err)
	}
	sum := 0.0
	for _, f := range families {
		if f.GetName() != name {
			continue
		}
		for _, m := range f.GetMetric() {
			have := map[string]string{}
			for _, l := range m.GetLabel() {
				if _, wanted := labels[l.GetName()]; wanted {
					have[l.GetName()] = l.GetValue()
				}
			}
			if maps.Equal(have, labels) {
				sum += m.GetCounter().GetValue() + m.GetGauge().GetValue()
			}
		}
	}
	return sum
}

// useHTTP2 starts the server again with TLS and HTTP/2.
func useHTTP2(t testing.TB, w *world) {
	t.Helper()
	s := httptest.NewUnstartedServer(w.server.Config.Handler)
	s.EnableHTTP2 = true
	s.Config.ErrorLog = w.server.Config.ErrorLog
	s.StartTLS()
	client := s.Client()
	client.Transport.(*http.Transport).TLSClientConfig.ServerName = "example.com"
	client.Transport.(*http.Transport).TLSClientConfig.MinVersion = tls.VersionTLS12
	w.server.Close()
	w.server, w.client, w.endpoint.base = s, client, s.URL
}

// logBuffer is a log that tests can read.
type logBuffer struct {
	mu  sync.Mutex // guards buf
	buf bytes.Buffer
}

func (l *logBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.Write(p)
}

func (l *logBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.String()
}

// clock is a clock that tests move.
type clock struct {
	mu  sync.Mutex // guards now
	now time.Time
}

func (c *clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

func (c *clock) advance(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(d)
}
