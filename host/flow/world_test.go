package flow_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/towpath-dataplane/towpath/host/flow"
	"github.com/towpath-dataplane/towpath/host/store/storetest"
	"github.com/towpath-dataplane/towpath/sdk"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// world is an engine with fakes around it.
type world struct {
	*flow.Engine
	t         *testing.T
	store     *storetest.Memory
	endpoint  *endpoint
	transfers *transfers
	sinks     *sinks
	checker   *checker
	renewer   *renewer
	change    func(*flow.Options) // if not nil, of engines to come
}

func newWorld(t *testing.T) *world {
	w := &world{t: t, store: storetest.NewMemory(), endpoint: &endpoint{live: map[string]flow.Key{}},
		transfers: newTransfers(), sinks: &sinks{}, checker: &checker{}, renewer: &renewer{}}
	w.Engine = w.engine()
	t.Cleanup(func() { w.close() })
	return w
}

// engine returns a new engine on the same store, as after a restart.
func (w *world) engine() *flow.Engine {
	o := flow.Options{
		Store: w.store, Catalog: catalog{}, Checker: w.checker, Endpoint: w.endpoint, Transfer: w.transfers.run, Sinks: w.sinks,
		Renewer: w.renewer, Logger: slog.New(slog.DiscardHandler), StopTimeout: 5 * time.Second,
	}
	if w.change != nil {
		w.change(&o)
	}
	return flow.New(o)
}

// restart closes the engine, and lets another with other options go on.
func (w *world) restart(change func(*flow.Options)) {
	w.t.Helper()
	w.close()
	w.change = change
	w.Engine = w.engine()
	if err := w.Revive(bg); err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) close() {
	w.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	if err := w.Close(ctx); err != nil {
		w.t.Error(err)
	}
}

var messages int

// message returns a new message for a flow.
func message(id string) flow.Message {
	messages++
	return flow.Message{Key: key(id), ControlPlane: "cp", MessageID: fmt.Sprint("m", messages), Body: []byte(id)}
}

func key(id string) flow.Key { return flow.Key{Context: flow.DefaultContext, ID: id} }

func create(id, profile string) flow.Create {
	c := flow.Create{Message: message(id), Profile: profile, DatasetID: "data", CounterPartyID: "them"}
	if strings.HasSuffix(profile, "push") {
		c.DataAddress = &sdk.DataAddress{Type: "push", Endpoint: "https://there/in"}
	}
	return c
}

func (w *world) flow(id string) *flow.Flow {
	w.t.Helper()
	f, err := w.store.Flow(context.Background(), key(id))
	if err != nil {
		w.t.Fatal(err)
	}
	return f
}

func (w *world) wantState(id string, want flow.State) {
	w.t.Helper()
	if got := w.flow(id).State; got != want {
		w.t.Errorf("flow %s is %s, want %s", id, got, want)
	}
}

// eventually waits for something that another goroutine does.
func (w *world) eventually(what string, done func() bool) {
	w.t.Helper()
	deadline := time.After(10 * time.Second)
	for !done() {
		select {
		case <-deadline:
			w.t.Fatal("never: " + what)
		case <-time.After(time.Millisecond):
		}
	}
}

func (w *world) callbacks(id string) (kinds []string) {
	w.t.Helper()
	all, err := w.store.Callbacks(context.Background(), key(id))
	if err != nil {
		w.t.Fatal(err)
	}
	for _, c := range all {
		kinds = append(kinds, fmt.Sprintf("%s %s %s", c.Kind, c.State, c.Status))
	}
	return kinds
}

type catalog struct{}

func (catalog) Profile(name string) (flow.Profile, bool) {
	p := flow.Profile{Name: name, Direction: flow.Pull, Type: "There"}
	kind, direction, found := strings.Cut(name, "/")
	if !found {
		direction = name
	}
	p.Direction = flow.Direction(direction)
	switch kind {
	case "strict":
		p.Strict = true
	case "renewed":
		p.Renewal = flow.RenewalRequire
	case "provisioned":
		p.Provision = "Queue"
	case "response":
		p.Response = &flow.ResponseProfile{}
	case "carried":
		p.Response = &flow.ResponseProfile{Provision: "Queue"}
	case "twice":
		p.Provision, p.Response = "Queue", &flow.ResponseProfile{Provision: "Queue", EndpointType: "Answers"}
	case "lingering":
		p.Response = &flow.ResponseProfile{Linger: time.Minute}
	case "auto", "sync", "async":
		p.Mode = flow.Mode(kind)
	}
	return p, p.Direction == flow.Push || p.Direction == flow.Pull
}

func (catalog) Dataset(_, id string) (flow.Dataset, bool) {
	d := flow.Dataset{ID: id, Source: sdk.DataAddress{Type: "Here"}, Sink: sdk.DataAddress{Type: "Here"}, Response: sdk.DataAddress{Type: "Box"}}
	switch id {
	case "answerless":
		d.Response = sdk.DataAddress{}
	case "badly answered":
		d.Response.Endpoint = "bad"
	case "sinkless":
		d.Sink = sdk.DataAddress{}
	case "sourceless":
		d.Source = sdk.DataAddress{}
	case "async":
		d.Mode = flow.ModeAsync
	case "unknown":
		return flow.Dataset{}, false
	}
	return d, true
}

// checker refuses addresses whose endpoint contains "bad". It can be slow, and it can fail.
type checker struct {
	mu    sync.Mutex
	calls int
	slow  chan struct{} // if set, every call waits until it is closed
	fail  error         // if set, every call returns it
}

func (c *checker) CheckSource(ctx context.Context, a sdk.DataAddress) error { return c.check(ctx, a) }
func (c *checker) CheckSink(ctx context.Context, a sdk.DataAddress) error   { return c.check(ctx, a) }

func (c *checker) check(ctx context.Context, a sdk.DataAddress) error {
	c.mu.Lock()
	c.calls++
	slow, fail := c.slow, c.fail
	c.mu.Unlock()
	if slow != nil {
		select {
		case <-slow:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	if strings.Contains(a.Endpoint, "bad") {
		return sdk.InvalidFields([]sdk.FieldError{{Field: "endpoint", Message: "is bad"}})
	}
	return fail
}

// setSlow lets every call wait until release.
func (c *checker) setSlow(slow chan struct{}) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.slow = slow
}

func (c *checker) release() {
	c.mu.Lock()
	defer c.mu.Unlock()
	close(c.slow)
	c.slow = nil
}

func (c *checker) count() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.calls
}

func (c *checker) failWith(err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.fail = err
}

// renewer renews addresses that have a refreshToken, by counting it up. It is refused if the token is "revoked".
type renewer struct {
	mu    sync.Mutex
	calls int
	fail  error
	slow  time.Duration
}

func (r *renewer) Renewable(_ *flow.Flow, a sdk.DataAddress) (time.Duration, bool) {
	return 100 * time.Second, a.Get("refreshToken") != ""
}

func (r *renewer) Renew(ctx context.Context, _ *flow.Flow, a sdk.DataAddress) (sdk.DataAddress, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.calls++
	if r.fail != nil {
		return sdk.DataAddress{}, r.fail
	}
	select {
	case <-time.After(r.slow):
	case <-ctx.Done():
		return sdk.DataAddress{}, sdk.AsError(ctx.Err())
	}
	a = a.Clone()
	a.Properties["authorization"] += "+"
	a.Properties["refreshToken"] += "+"
	return a, nil
}

func (r *renewer) count() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.calls
}

func (r *renewer) failWith(err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.fail = err
}

// endpoint issues tokens and knows which of them work.
type endpoint struct {
	mu     sync.Mutex
	issued int
	live   map[string]flow.Key
	broken error
}

func (e *endpoint) breakWith(err error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.broken = err
}

func (e *endpoint) Issue(_ context.Context, f *flow.Flow) (sdk.DataAddress, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.broken != nil {
		return sdk.DataAddress{}, e.broken
	}
	e.revokeSome(f.Key, false)
	e.issued++
	token := fmt.Sprint("token", e.issued)
	e.live[token] = f.Key
	return sdk.DataAddress{Type: "pull", Endpoint: "https://here/" + f.ID, Properties: map[string]string{"authorization": token}}, nil
}

func (e *endpoint) IssueResponse(_ context.Context, f *flow.Flow) (sdk.DataAddress, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.broken != nil {
		return sdk.DataAddress{}, e.broken
	}
	e.revokeSome(f.Key, true)
	e.issued++
	token := fmt.Sprint("response", e.issued)
	e.live[token] = f.Key
	return sdk.DataAddress{Type: "back", Endpoint: "https://here/responses/" + f.ID, Properties: map[string]string{"authorization": token}}, nil
}

func (e *endpoint) Revoke(_ context.Context, key flow.Key) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.revoke(key)
	return nil
}

func (e *endpoint) revoke(key flow.Key) {
	e.revokeSome(key, false)
	e.revokeSome(key, true)
}

// revokeSome revokes the tokens of a flow's data, or those of its response channel.
func (e *endpoint) revokeSome(key flow.Key, response bool) {
	for token, k := range e.live {
		if k == key && strings.HasPrefix(token, "response") == response {
			delete(e.live, token)
		}
	}
}

func (e *endpoint) works(a *sdk.DataAddress) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	_, ok := e.live[a.Properties["authorization"]]
	return ok
}

// transfers plays the pipeline: a transfer runs until the test ends it, or until it is cut.
type transfers struct {
	mu      sync.Mutex
	running map[string]*transfer
	started map[string]int
}

type transfer struct {
	flow     *flow.Flow
	progress flow.Progress
	end      chan error
	cut      chan error // what ended it
}

func newTransfers() *transfers {
	return &transfers{running: map[string]*transfer{}, started: map[string]int{}}
}

func (t *transfers) run(ctx context.Context, f *flow.Flow, p flow.Progress) error {
	r := &transfer{flow: f, progress: p, end: make(chan error), cut: make(chan error, 1)}
	t.mu.Lock()
	if t.running[f.ID] != nil {
		panic("two transfers of one flow at a time")
	}
	t.running[f.ID] = r
	t.started[f.ID]++
	t.mu.Unlock()
	defer func() {
		t.mu.Lock()
		delete(t.running, f.ID)
		t.mu.Unlock()
	}()
	select {
	case err := <-r.end:
		return err
	case <-ctx.Done():
		r.cut <- context.Cause(ctx)
		return context.Cause(ctx)
	}
}

func (t *transfers) get(id string) *transfer {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.running[id]
}

func (t *transfers) starts(id string) int {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.started[id]
}

// transfer waits until a flow's transfer runs.
func (w *world) transfer(id string) *transfer {
	w.t.Helper()
	w.eventually("a transfer of "+id, func() bool { return w.transfers.get(id) != nil })
	return w.transfers.get(id)
}

// sinks plays the plugins: it counts who was released, and can be out of order.
type sinks struct {
	mu       sync.Mutex
	released []string
	failures int // calls that fail before one succeeds
}

func (s *sinks) Sink(typ string) (sdk.DataSink, error) { return sink{s, typ}, nil }

func (s *sinks) all() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return strings.Join(s.released, " ")
}

type sink struct {
	*sinks
	typ string
}

func (s sink) Store(context.Context, sdk.DataAddress) (string, error) { return "", nil }

func (s sink) Deprovision(_ context.Context, f sdk.FlowContext, a sdk.DataAddress) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.failures > 0 {
		s.failures--
		return sdk.Retryf(sdk.Unavailable, "not now")
	}
	s.released = append(s.released, s.typ+":"+f.ID)
	return nil
}

var errUnused = errors.New("not used by the engine")

func (sink) Validate(context.Context, sdk.DataAddress) error { return errUnused }
func (s sink) Provision(_ context.Context, f sdk.FlowContext, a sdk.DataAddress) (sdk.DataAddress, error) {
	if a.Type != "Queue" {
		return sdk.DataAddress{}, sdk.Errorf(sdk.Unsupported, "no")
	}
	return sdk.DataAddress{Type: "queue", Endpoint: "amqps://here/" + f.ID}, nil
}
func (sink) Write(context.Context, sdk.WriteOpen) (sdk.WriteStream, error) { return nil, errUnused }
