package admin_test

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/towpath-dataplane/towpath/host/admin"
	"github.com/towpath-dataplane/towpath/host/flow"
	"github.com/towpath-dataplane/towpath/host/store/storetest"
	"github.com/towpath-dataplane/towpath/sdk"
)

// world is the API over a store in memory.
type world struct {
	t     *testing.T
	store *storetest.Memory
	ready error
	api   http.Handler
}

func newWorld(t *testing.T, more ...func(*admin.Options)) *world {
	w := &world{t: t, store: storetest.NewMemory()}
	o := admin.Options{
		Store: w.store, Metrics: prometheus.NewRegistry(), Logger: slog.New(slog.DiscardHandler),
		Waiting: func(k flow.Key) string { return map[string]string{"f": "tries again soon"}[k.ID] },
		Ready:   func() error { return w.ready },
		Plugins: func() []admin.Plugin {
			return []admin.Plugin{{Name: "file", State: "ready", Description: &sdk.Description{Name: "file"}}}
		},
	}
	for _, m := range more {
		m(&o)
	}
	w.api = admin.NewHandler(o)
	return w
}

func (w *world) put(f *flow.Flow, more ...func(flow.Tx) error) {
	w.t.Helper()
	err := w.store.Update(context.Background(), f.Key, func(tx flow.Tx) error {
		if err := tx.Put(f); err != nil {
			return err
		}
		for _, m := range more {
			if err := m(tx); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) get(path string) (int, string) {
	w.t.Helper()
	return w.do(http.MethodGet, path, "")
}

func (w *world) do(method, path, body string) (int, string) {
	w.t.Helper()
	r := httptest.NewRequest(method, "http://127.0.0.1"+path, strings.NewReader(body))
	resp := w.ask(r)
	answer, err := io.ReadAll(resp.Body)
	if err != nil {
		w.t.Fatal(err)
	}
	return resp.StatusCode, string(answer)
}

// ask sends a request. Every refusal is a problem.
func (w *world) ask(r *http.Request) *http.Response {
	w.t.Helper()
	recorder := httptest.NewRecorder()
	w.api.ServeHTTP(recorder, r)
	if media := recorder.Header().Get("Content-Type"); recorder.Code >= 400 && r.URL.Path != "/readyz" && media != "application/problem+json" {
		w.t.Errorf("%s %s: a refusal of type %q", r.Method, r.URL, media)
	}
	return recorder.Result()
}

// decode decodes an answer, which has to be there.
func decode[T any](t *testing.T, status int, body string) (v T) {
	t.Helper()
	if err := json.Unmarshal([]byte(body), &v); err != nil || status >= 300 {
		t.Fatal(status, body, err)
	}
	return v
}

func sample(id string, state flow.State) *flow.Flow {
	return &flow.Flow{Key: flow.Key{Context: flow.DefaultContext, ID: id}, Role: flow.Provider, Direction: flow.Push, State: state,
		Profile: "http-push", DatasetID: "data", ControlPlane: "cp", Fault: "the receiver says no",
		Local: sdk.DataAddress{Type: "File", Properties: map[string]string{"path": "x", "password": "planted-secret"}},
		Remote: &sdk.DataAddress{Type: "HttpData", Endpoint: "https://user:planted-secret@there/in?sig=planted-secret#planted-secret",
			Properties: map[string]string{"authorization": "planted-secret"}},
		RemoteSince: time.Date(2026, 2, 3, 4, 5, 6, 0, time.UTC), RenewalFault: "the counterparty knows no such token",
		Claims: json.RawMessage(`{"a":"planted-secret"}`), Totals: sdk.Totals{Parts: 1, Bytes: 3}}
}

// What came on a response channel is shown apart from the data, without a secret.
func TestResponseChannel(t *testing.T) {
	w := newWorld(t, func(o *admin.Options) {
		o.ResponseWaiting = func(flow.Key) string { return "the queue is starting" }
		o.ResponseMovement = func(flow.Key) (flow.Movement, bool) { return flow.Movement{Requests: 2, Rate: 10}, true }
	})
	f := sample("f", flow.Started)
	f.Response = &flow.Response{Local: sdk.DataAddress{Type: "Box", Properties: map[string]string{"key": "planted-secret"}},
		Issued: &sdk.DataAddress{Type: "HttpData", Endpoint: "https://here/responses/f", Properties: map[string]string{"authorization": "planted-secret"}},
		Totals: sdk.Totals{Parts: 2, Bytes: 7, Records: 1}, Fault: "response channel: the queue is gone"}
	consumer := sample("c", flow.Started)
	consumer.Role = flow.Consumer
	consumer.Response = &flow.Response{Remote: &sdk.DataAddress{Type: "HttpData", Endpoint: "https://there/responses/c",
		Properties: map[string]string{"responseChannel-authorization": "planted-secret"}}}
	w.put(consumer)
	w.put(f, func(tx flow.Tx) error {
		_, err := tx.AddPart(flow.Part{Response: true, Name: "m", Size: 7})
		return err
	})
	for id, want := range map[string]string{"f": "https://here/responses/f", "c": "https://there/responses/c"} {
		status, body := w.get("/api/v1/flows/" + id)
		shown := decode[admin.FlowDetail](t, status, body)
		if strings.Contains(body, "planted-secret") || shown.ResponseChannel == nil || shown.ResponseChannel.Endpoint != want {
			t.Errorf("%s: %s", id, body)
		}
		if id == "c" {
			if shown.Response != nil {
				t.Errorf("what the counterparty counts: %s", body)
			}
			continue
		}
		r := shown.Response
		if r == nil || r.Parts != 2 || r.Bytes != 7 || r.Records != 1 || r.Waiting == "" || r.Fault == "" || r.Movement == nil || r.Movement.Requests != 2 {
			t.Errorf("response channel: %s", body)
		}
		if shown.ResponseSink.Type != "Box" || len(shown.ResponseList) != 1 || len(shown.PartList) != 0 || shown.Bytes != 3 {
			t.Errorf("parts: %s", body)
		}
	}
}

func TestFlow(t *testing.T) {
	w := newWorld(t)
	w.put(sample("f", flow.Started),
		func(tx flow.Tx) error {
			_, err := tx.AddPart(flow.Part{Name: "a/b", Size: 3, Digests: sdk.Digests{sdk.CRC32C: {0xab, 0xcd, 0, 1}}, Location: "there"})
			return err
		},
		func(tx flow.Tx) error {
			return tx.Enqueue(flow.Callback{Kind: flow.CallbackErrored, ControlPlane: "cp", State: flow.Started, Status: flow.CallbackPending,
				Next: tx.Now(), Created: tx.Now(), DataAddress: &sdk.DataAddress{Type: "x", Endpoint: "planted-secret"}})
		})
	status, body := w.get("/api/v1/flows/f")
	if status != http.StatusOK {
		t.Fatal(status, body)
	}
	if strings.Contains(body, "planted-secret") {
		t.Errorf("a secret is shown: %s", body)
	}
	var f admin.FlowDetail
	if err := json.Unmarshal([]byte(body), &f); err != nil {
		t.Fatal(err)
	}
	if f.RemoteSince == nil || !f.RemoteSince.Equal(time.Date(2026, 2, 3, 4, 5, 6, 0, time.UTC)) || f.RenewalFault == "" {
		t.Errorf("of the token: since %v, fault %q", f.RemoteSince, f.RenewalFault)
	}
	if f.Waiting != "tries again soon" || f.Fault == "" || f.Remote.Endpoint != "https://there/in" ||
		len(f.PartList) != 1 || f.PartList[0].CRC32C != "abcd0001" || len(f.Callbacks) != 1 || f.Callbacks[0].Next == nil {
		t.Errorf("got %+v", f)
	}
}

func TestFlowsAreFilteredAndPaged(t *testing.T) {
	w := newWorld(t)
	for _, id := range []string{"a", "b", "c", "d"} {
		w.put(sample(id, flow.Started))
	}
	w.put(sample("e", flow.Suspended))
	list := func(query string) (ids string, last admin.Flow) {
		t.Helper()
		status, body := w.get("/api/v1/flows" + query)
		var l admin.FlowList
		if err := json.Unmarshal([]byte(body), &l); status != http.StatusOK || err != nil {
			t.Fatal(status, body)
		}
		for _, f := range l.Flows {
			ids, last = ids+f.ID, f
		}
		return ids, last
	}
	if ids, _ := list(""); ids != "edcba" {
		t.Error(ids)
	}
	if ids, _ := list("?state=suspended"); ids != "e" {
		t.Error(ids)
	}
	ids, last := list("?limit=2&state=STARTED")
	if ids != "dc" {
		t.Error(ids)
	}
	if ids, _ := list("?before=" + last.Created.Format("2006-01-02T15:04:05.999999999Z07:00")); ids != "ba" {
		t.Error(ids)
	}
}

func TestWrongRequests(t *testing.T) {
	w := newWorld(t)
	for path, want := range map[string]int{
		"/api/v1/flows?state=BUSY":     400,
		"/api/v1/flows?limit=0":        400,
		"/api/v1/flows?limit=x":        400,
		"/api/v1/flows?before=tuesday": 400,
		"/api/v1/flows/none":           404,
		"/api/v1/flows/a%2Fb":          404,
		"/api/v1/plugins/none":         404,
		"/api/v1/nothing":              404,
		"/api//v1/nothing":             404,
		"/":                            404,
		"/api/v1/datasets":             404, // not in this host
		"/api/v1/flows/none/address":   404,
	} {
		if status, body := w.get(path); status != want {
			t.Errorf("%s: %d %s", path, status, body)
		}
	}
	w.store.Break(errors.New("planted-secret"))
	if status, body := w.get("/api/v1/flows"); status != 500 || strings.Contains(body, "planted-secret") {
		t.Errorf("with a broken store: %d %s", status, body)
	}
}

func TestHealthAndMetrics(t *testing.T) {
	w := newWorld(t)
	w.put(sample("f", flow.Started))
	if status, _ := w.get("/healthz"); status != 200 {
		t.Error(status)
	}
	if status, _ := w.get("/readyz"); status != 200 {
		t.Error(status)
	}
	w.ready = errors.New("plugin file is not ready")
	if status, body := w.get("/readyz"); status != 503 || !strings.Contains(body, "plugin file") {
		t.Error(status, body)
	}
	if _, body := w.get("/metrics"); !strings.Contains(body, `towpath_flows{state="STARTED"} 1`) || !strings.Contains(body, `towpath_flows{state="PREPARED"} 0`) {
		t.Error(body)
	}
}

func TestPlugins(t *testing.T) {
	w := newWorld(t)
	if _, body := w.get("/api/v1/plugins"); !strings.Contains(body, `"file"`) || strings.Contains(body, "description") {
		t.Error(body)
	}
	if _, body := w.get("/api/v1/plugins/file"); !strings.Contains(body, "description") {
		t.Error(body)
	}
}
