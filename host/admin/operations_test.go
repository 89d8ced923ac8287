package admin_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/towpath-dataplane/towpath/host/admin"
	"github.com/towpath-dataplane/towpath/host/flow"
	"github.com/towpath-dataplane/towpath/host/store/storetest"
	"github.com/towpath-dataplane/towpath/sdk"
)

// operations are those of an engine whose flows all rest with a fault and have an address.
type operations struct {
	store *storetest.Memory
	fails error
}

func (o *operations) Retry(ctx context.Context, key flow.Key) error {
	return o.store.Update(ctx, key, func(tx flow.Tx) error {
		f, err := tx.Flow()
		if err != nil {
			return err
		}
		if f.Fault == "" {
			return &flow.StateError{Key: key, State: f.State, Signal: "retry", Why: "nothing has failed"}
		}
		f.Fault = ""
		return tx.Put(f)
	})
}

func (o *operations) Skip(ctx context.Context, key flow.Key, part string) error {
	return o.change(ctx, key, "skip", part != "other", func(f *flow.Flow) {
		f.Skipped = append(f.Skipped, flow.Skipped{Part: part, Reason: f.Fault})
		f.Fault = ""
	})
}

func (o *operations) Resend(ctx context.Context, key flow.Key) error {
	return o.change(ctx, key, "resend", true, func(f *flow.Flow) { f.Totals = sdk.Totals{} })
}

func (o *operations) Abort(ctx context.Context, key flow.Key, reason string) error {
	return o.change(ctx, key, flow.SignalAbort, true, func(f *flow.Flow) { f.State, f.Reason = flow.Terminated, reason })
}

func (o *operations) change(ctx context.Context, key flow.Key, signal flow.Signal, ok bool, change func(*flow.Flow)) error {
	return o.store.Update(ctx, key, func(tx flow.Tx) error {
		f, err := tx.Flow()
		if err != nil {
			return err
		}
		if f.State != flow.Started || !ok {
			return &flow.StateError{Key: key, State: f.State, Signal: signal}
		}
		change(f)
		return tx.Put(f)
	})
}

func (o *operations) Address(ctx context.Context, key flow.Key) (sdk.DataAddress, error) {
	f, err := o.store.Flow(ctx, key)
	switch {
	case err != nil:
		return sdk.DataAddress{}, err
	case o.fails != nil:
		return sdk.DataAddress{}, o.fails
	case f.State != flow.Started:
		return sdk.DataAddress{}, &flow.StateError{Key: key, State: f.State, Signal: "address"}
	}
	return sdk.DataAddress{Type: "HttpData", Endpoint: "https://there/out?x=1", Properties: map[string]string{"authorization": "the-token"}}, nil
}

func (o *operations) Visit(context.Context, flow.Key) (*flow.Joined, error) {
	return nil, errors.New("the API reads through Options.Read")
}

// newFullWorld is a host with everything, and the flow f.
func newFullWorld(t *testing.T, more ...func(*admin.Options)) *world {
	all := func(o *admin.Options) {
		o.Operations = &operations{store: o.Store.(*storetest.Memory)}
		o.Read = func(key flow.Key, part string) http.Handler {
			return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				fmt.Fprintf(w, "%s %s|%s|%s|%s", r.Method, key.Context, key.ID, part, r.Header.Get("Range")+r.Header.Get("Authorization"))
			})
		}
		o.Agreement = func(_ context.Context, f *flow.Flow) (json.RawMessage, error) {
			return json.RawMessage(`{"@id": "` + f.AgreementID + `", "n": 1.0}`), nil
		}
		o.Datasets = loadDatasets(t, newDocuments())
		o.ControlPlanes = newRegistrar()
	}
	w := newWorld(t, append([]func(*admin.Options){all}, more...)...)
	w.put(sample("f", flow.Started))
	return w
}

func TestRetry(t *testing.T) {
	w := newFullWorld(t)
	f := sample("a/b?c%", flow.Started)
	f.Context = "alice"
	w.put(f)
	for _, path := range []string{"/api/v1/flows/f/retry", "/api/v1/flows/a%2Fb%3Fc%25/retry?context=alice"} {
		status, body := w.do("POST", path, "")
		if got := decode[admin.Flow](t, status, body); got.Fault != "" {
			t.Errorf("%s: %+v", path, got)
		}
		if status, body := w.do("POST", path, ""); status != 409 || !strings.Contains(body, `"state":"STARTED"`) {
			t.Errorf("the second time, %s: %d %s", path, status, body)
		}
	}
	if status, _ := w.do("POST", "/api/v1/flows/none/retry", ""); status != 404 {
		t.Error(status)
	}
	if status, _ := w.get("/api/v1/flows/f/retry"); status != 405 {
		t.Error(status)
	}
}

func TestOperations(t *testing.T) {
	w := newFullWorld(t)
	for _, tt := range []struct {
		path   string
		status int
		want   string
	}{
		{"f/skip?part=other", 409, "cannot take skip"},
		{"f/skip?part=a", 200, `"state": "STARTED"`},
		{"f/resend", 200, `"bytes": 0`},
		{"f/abort?reason=a+b", 200, `"reason": "a b"`},
		{"f/resend", 409, "cannot take resend"},
		{"none/skip", 404, "no flow none"},
		{"none/resend", 404, "no flow none"},
		{"none/abort", 404, "no flow none"},
	} {
		if status, body := w.do("POST", "/api/v1/flows/"+tt.path, ""); status != tt.status || !strings.Contains(body, tt.want) {
			t.Errorf("%s: %d %s", tt.path, status, body)
		}
	}
	status, body := w.get("/api/v1/flows/f")
	if f := decode[admin.FlowDetail](t, status, body); len(f.Skipped) != 1 || f.Skipped[0].Part != "a" || f.Skipped[0].Reason == "" {
		t.Errorf("skipped %+v", f.Skipped)
	}
}

func TestAddress(t *testing.T) {
	w := newFullWorld(t)
	resp := w.ask(httptest.NewRequest("GET", "http://127.0.0.1/api/v1/flows/f/address", nil))
	var a sdk.DataAddress
	if err := json.NewDecoder(resp.Body).Decode(&a); err != nil || resp.Header.Get("Cache-Control") != "no-store" {
		t.Error(err, resp.Header)
	}
	if a.Type != "HttpData" || a.Endpoint != "https://there/out?x=1" || a.Get("authorization") != "the-token" {
		t.Errorf("got %s, %s", a, a.Endpoint)
	}
}

func TestFailuresOfOperations(t *testing.T) {
	for _, c := range []struct {
		err    error
		status int
		detail string
	}{
		{&flow.StateError{State: flow.Prepared, Signal: "address"}, 409, "PREPARED"},
		{flow.ErrClosed, 503, "shutting down"},
		{sdk.Retryf(sdk.Unavailable, "the counterparty does not answer"), 503, "does not answer"},
		{sdk.Errorf(sdk.Denied, "the counterparty renews no more"), 502, "renews no more"},
		{sdk.Errorf(sdk.NotFound, "there is no agreement"), 404, "no agreement"},
		{sdk.Errorf(sdk.Unsupported, "the protocol has none"), 409, "has none"},
		{fmt.Errorf("wrapped: %w", sdk.Errorf(sdk.Corrupt, "garbage came")), 502, "garbage came"},
		{errors.New("planted-secret"), 500, "log"},
	} {
		w := newFullWorld(t, func(o *admin.Options) {
			o.Operations = &operations{store: o.Store.(*storetest.Memory), fails: c.err}
			o.Agreement = func(context.Context, *flow.Flow) (json.RawMessage, error) { return nil, c.err }
		})
		for _, what := range []string{"address", "agreement"} {
			status, body := w.get("/api/v1/flows/f/" + what)
			if status != c.status || !strings.Contains(body, c.detail) || strings.Contains(body, "planted-secret") {
				t.Errorf("%s with %v: %d %s", what, c.err, status, body)
			}
		}
	}
}

func TestData(t *testing.T) {
	w := newFullWorld(t)
	for _, c := range []struct{ method, path, want string }{
		{"GET", "/api/v1/flows/f/data", "GET default|f||bytes=0-1"},
		{"HEAD", "/api/v1/flows/f/data", "HEAD default|f||bytes=0-1"},
		{"GET", "/api/v1/flows/f/data?context=bob", "GET bob|f||bytes=0-1"},
		{"GET", "/api/v1/flows/a%2Fb/data/parts/one", "GET default|a/b|one|bytes=0-1"},
		{"GET", "/api/v1/flows/f/data/parts/one/two%20three%2Ffour", "GET default|f|one/two three/four|bytes=0-1"},
	} {
		r := httptest.NewRequest(c.method, "http://127.0.0.1"+c.path, nil)
		r.Header.Set("Range", "bytes=0-1")
		r.Header.Set("Authorization", "Bearer for-this-api")
		recorder := httptest.NewRecorder()
		w.api.ServeHTTP(recorder, r)
		if recorder.Body.String() != c.want || recorder.Header().Get("Cache-Control") != "no-store" {
			t.Errorf("%s %s: %d %s", c.method, c.path, recorder.Code, recorder.Body)
		}
		if r.Header.Get("Authorization") == "" {
			t.Error("the server's request was changed")
		}
	}
	for path, want := range map[string]int{"/api/v1/flows/f/data/parts/": 404, "/api/v1/flows/f/data/part": 404} {
		if status, body := w.get(path); status != want {
			t.Errorf("%s: %d %s", path, status, body)
		}
	}
	if status, _ := w.do("POST", "/api/v1/flows/f/data", ""); status != 405 {
		t.Error(status)
	}
}

func TestAgreement(t *testing.T) {
	w := newFullWorld(t)
	f := sample("g", flow.Started)
	f.AgreementID = "agreed"
	w.put(f)
	if status, body := w.get("/api/v1/flows/g/agreement"); status != 200 || body != "{\n  \"@id\": \"agreed\",\n  \"n\": 1.0\n}\n" {
		t.Error(status, body)
	}
	if status, _ := w.get("/api/v1/flows/none/agreement"); status != 404 {
		t.Error(status)
	}
	w = newFullWorld(t, func(o *admin.Options) {
		o.Agreement = func(context.Context, *flow.Flow) (json.RawMessage, error) { return json.RawMessage("<html>"), nil }
	})
	if status, _ := w.get("/api/v1/flows/f/agreement"); status != 502 {
		t.Error(status)
	}
}
