package edc

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
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

const base = "/api/v1/edc/cp/v1/dataflows"

// world is a Handler before a real engine, with fakes behind that.
type world struct {
	*Handler
	t        *testing.T
	engine   *flow.Engine
	store    *storetest.Memory
	endpoint *tokens
	log      strings.Builder // read when nothing is on its way
}

func newWorld(t *testing.T, change func(*Options)) *world {
	w := &world{t: t, store: storetest.NewMemory(), endpoint: &tokens{live: map[string]flow.Key{}}}
	w.engine = flow.New(flow.Options{Store: w.store, Catalog: catalog{}, Checker: slowly{}, Endpoint: w.endpoint, Sinks: sinks{},
		Transfer: func(ctx context.Context, _ *flow.Flow, _ flow.Progress) error {
			<-ctx.Done() // what moves is never done
			return context.Cause(ctx)
		}, Logger: slog.New(slog.DiscardHandler), StopTimeout: 5 * time.Second})
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		if err := w.engine.Close(ctx); err != nil {
			t.Error(err)
		}
	})
	o := Options{Engine: w.engine, ControlPlane: "cp", Participant: "did:web:us", BasePath: base, Profile: catalog{}.Profile,
		Logger: slog.New(slog.NewTextHandler(&w.log, &slog.HandlerOptions{Level: slog.LevelDebug}))}
	if change != nil {
		change(&o)
	}
	w.Handler = NewHandler(o)
	return w
}

// send sends a request below the base.
func (w *world) send(method, path, body string, headers ...string) *httptest.ResponseRecorder {
	r := httptest.NewRequest(method, base+path, strings.NewReader(body))
	if body != "" {
		r.Header.Set("Content-Type", "application/json")
	}
	for i := 0; i < len(headers); i += 2 {
		r.Header.Set(headers[i], headers[i+1])
	}
	recorder := httptest.NewRecorder()
	w.ServeHTTP(recorder, r)
	return recorder
}

// want sends a message and checks the status of the answer, which it returns.
func (w *world) want(status int, path, body string) *httptest.ResponseRecorder {
	w.t.Helper()
	a := w.send(http.MethodPost, path, body)
	if a.Code != status {
		w.t.Fatalf("POST %s: %d %s, want %d", path, a.Code, a.Body, status)
	}
	return a
}

func (w *world) flow(id string) *flow.Flow {
	w.t.Helper()
	f, err := w.store.Flow(context.Background(), flow.Key{Context: flow.DefaultContext, ID: id})
	if err != nil {
		w.t.Fatal(err)
	}
	return f
}

// catalog has the profiles of HttpData and File, and three datasets: slow ones take their time.
type catalog struct{}

func (catalog) Profile(name string) (flow.Profile, bool) {
	dest, flowType, _ := split(name)
	p := flow.Profile{Name: name, Direction: flow.Direction(strings.ToLower(flowType)), Type: dest}
	return p, flowType != "" && (dest == httpData || dest == "File")
}

func (catalog) Dataset(_, id string) (flow.Dataset, bool) {
	switch id {
	case "declared":
		here := sdk.DataAddress{Type: "Here"}
		return flow.Dataset{ID: id, Source: here, Sink: here}, true
	case "slow":
		slow := sdk.DataAddress{Type: "Slow"}
		return flow.Dataset{ID: id, Source: slow, Sink: slow, Mode: flow.ModeAsync}, true
	}
	return flow.Dataset{}, false
}

// slowly checks addresses of the type Slow until nobody waits any more, and refuses those of the type Bad.
type slowly struct{}

func (s slowly) CheckSource(ctx context.Context, a sdk.DataAddress) error { return s.check(ctx, a) }
func (s slowly) CheckSink(ctx context.Context, a sdk.DataAddress) error   { return s.check(ctx, a) }

func (slowly) check(ctx context.Context, a sdk.DataAddress) error {
	switch a.Type {
	case "Slow":
		<-ctx.Done()
		return ctx.Err()
	case "Bad":
		return sdk.Errorf(sdk.Invalid, "it is bad")
	case "Absent":
		return sdk.Retryf(sdk.Unavailable, "it is not there")
	}
	return nil
}

// tokens issues addresses with tokens, and knows which of them work.
type tokens struct {
	mu     sync.Mutex
	issued int
	live   map[string]flow.Key
	fail   error
}

func (e *tokens) Issue(_ context.Context, f *flow.Flow) (sdk.DataAddress, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.fail != nil {
		return sdk.DataAddress{}, e.fail
	}
	e.revoke(f.Key)
	e.issued++
	token := fmt.Sprint("token-", e.issued)
	e.live[token] = f.Key
	where := "https://dp.example/flows/"
	if f.Direction == flow.Push {
		where = "https://dp.example/ingest/"
	}
	return sdk.DataAddress{Type: f.Profile, Endpoint: where + f.ID,
		Properties: map[string]string{"authorization": token, "authType": "bearer"}}, nil
}

// IssueResponse is what Issue is, for the response channel; its token is one more.
func (e *tokens) IssueResponse(_ context.Context, f *flow.Flow) (sdk.DataAddress, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.issued++
	token := fmt.Sprint("token-", e.issued)
	e.live[token] = f.Key
	return sdk.DataAddress{Type: "HttpData", Endpoint: "https://dp.example/responses/" + f.ID,
		Properties: map[string]string{"authorization": token, "authType": "bearer"}}, nil
}

func (e *tokens) Revoke(_ context.Context, key flow.Key) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.revoke(key)
	return nil
}

func (e *tokens) revoke(key flow.Key) {
	for token, k := range e.live {
		if k == key {
			delete(e.live, token)
		}
	}
}

// working are the tokens of a flow that work.
func (e *tokens) working(id string) (all []string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	for token, k := range e.live {
		if k.ID == id {
			all = append(all, token)
		}
	}
	return all
}

// sinks have nothing to let go of.
type sinks struct{ sdk.DataSink }

func (s sinks) Sink(string) (sdk.DataSink, error) { return s, nil }

func (sinks) Deprovision(context.Context, sdk.FlowContext, sdk.DataAddress) error { return nil }
