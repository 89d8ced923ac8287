package signaling

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/towpath-dataplane/towpath/host/flow"
)

// plane is a Handler on a fake engine, with its log.
type plane struct {
	*engine
	http.Handler
	log *syncBuffer
}

// newPlane has the control plane cp-1, which needs no credential.
func newPlane(t *testing.T, o Options) plane {
	return planeFor(t, o, DirectoryOptions{ControlPlanes: []ControlPlane{{ID: "cp-1", Endpoint: "https://cp.example"}}})
}

// planeFor has the control planes of a directory.
func planeFor(t *testing.T, o Options, directory DirectoryOptions) plane {
	t.Helper()
	e, log := newEngine(), &syncBuffer{}
	o.Engine, o.Logger = e, slog.New(slog.NewJSONHandler(log, nil))
	directory.DataPlane, directory.Logger = "dp", o.Logger
	var err error
	if o.ControlPlanes, err = NewDirectory(t.Context(), directory); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(o.ControlPlanes.Close)
	return plane{e, NewHandler(o), log}
}

// send makes a request; a body makes it a POST of JSON.
func (p plane) send(method, path, body string) *httptest.ResponseRecorder {
	r := httptest.NewRequest(method, path, strings.NewReader(body))
	if body != "" {
		r.Header.Set("Content-Type", "application/json")
	}
	w := httptest.NewRecorder()
	p.ServeHTTP(w, r)
	return w
}

func (p plane) post(path, body string) *httptest.ResponseRecorder { return p.send("POST", path, body) }

// flowMessage is a message that creates a flow.
func flowMessage(messageID, id, profile string) string {
	address := ""
	if strings.HasSuffix(profile, "push") {
		address = `,"dataAddress":{"endpointType":"` + profile + `","endpoint":"https://consumer.example/in"}`
	}
	return fmt.Sprintf(`{"messageId":%q,"participantId":"did:web:p","counterPartyId":"did:web:c","dataspaceContext":"s","dataFlowId":%q,
		"agreementId":"a","datasetId":"d","profile":%q,"claims":{}%s}`, messageID, id, profile, address)
}

func TestLifeOfFlows(t *testing.T) {
	p := newPlane(t, Options{BasePath: "/api/v1/"})
	steps := []struct {
		path, body string
		state      flow.State
		address    bool
	}{
		{"/dataflows/start", flowMessage("1", "pull", "x-pull"), flow.Started, true},
		{"/dataflows/pull/suspend", `{"messageId":"2","reason":"r"}`, flow.Suspended, false},
		{"/dataflows/pull/resume", `{"messageId":"3"}`, flow.Started, true},
		{"/dataflows/pull/completed", ``, flow.Completed, false},
		{"/dataflows/prepare", flowMessage("1", "urn:uuid:7/a b", "x-push"), flow.Prepared, true},
		{"/dataflows/urn:uuid:7%2Fa%20b/started", `{"messageId":"2"}`, flow.Started, true},
		{"/dataflows/urn:uuid:7%2Fa%20b/terminate", `{"messageId":"3","reason":"r"}`, flow.Terminated, false},
		{"/dataflows/start", flowMessage("1", "push", "x-push"), flow.Started, false},
		{"/dataflows/push/completed", `{"anything":"goes"`, flow.Completed, false},
	}
	for _, step := range steps {
		w := p.post("/api/v1"+step.path, step.body)
		if w.Code != http.StatusOK {
			t.Fatalf("%s: %d %s", step.path, w.Code, w.Body)
		}
		conforms(t, "DataFlowStatusMessage", w.Body.Bytes())
		var m statusMessage
		if err := json.Unmarshal(w.Body.Bytes(), &m); err != nil {
			t.Fatal(err)
		}
		if m.State != step.state || (m.DataAddress != nil) != step.address {
			t.Errorf("%s: %s", step.path, w.Body)
		}
		if got := w.Header().Get("Content-Type") + " " + w.Header().Get("Cache-Control"); got != "application/json no-store" {
			t.Errorf("%s: headers %s", step.path, got)
		}
	}
	w := p.send("GET", "/api/v1/dataflows/urn:uuid:7%2Fa%20b/status", "")
	conforms(t, "DataFlowStatusResponseMessage", w.Body.Bytes())
	if want := `{"dataFlowId":"urn:uuid:7/a b","state":"TERMINATED"}` + "\n"; w.Body.String() != want {
		t.Errorf("status: %s", w.Body)
	}
}

func TestCallOfTheEngine(t *testing.T) {
	p := planeFor(t, Options{}, DirectoryOptions{
		ControlPlanes: []ControlPlane{{ID: "cp-1", Context: "participant-7", Endpoint: "https://cp.example"}}})
	p.post("/dataflows/start", flowMessage("1", "f", "x-push"))
	got, _ := p.last()
	key := flow.Key{Context: "participant-7", ID: "f"}
	if got.Create == nil || got.Create.Key != key || got.Create.DataAddress == nil || got.Create.Message.MessageID != "1" {
		t.Errorf("start: %+v", got)
	}
	p.post("/dataflows/f/resume", `{"messageId":"2","dataAddress":{"endpointType":"y"}}`)
	got, _ = p.last()
	if len(got.Message.Body) == 0 {
		t.Error("no digest")
	}
	got.Message.Body, got.Message.Answered = nil, nil
	want := call{Signal: flow.SignalResume, Message: flow.Message{Key: key, ControlPlane: "cp-1", MessageID: "2"}, Address: got.Address}
	if diff := cmp.Diff(want, got); diff != "" || got.Address == nil || got.Address.Type != "y" {
		t.Errorf("resume (-want +got):\n%s", diff)
	}
}

func TestRepeatedMessage(t *testing.T) {
	p := newPlane(t, Options{})
	const start = "/dataflows/start"
	first := p.post(start, flowMessage("1", "f", "x-pull"))
	p.post("/dataflows/f/suspend", `{"messageId":"2"}`)
	again := p.post(start, flowMessage("1", "f", "x-pull"))
	if first.Code != 200 || again.Code != 200 || !bytes.Equal(first.Body.Bytes(), again.Body.Bytes()) {
		t.Errorf("first %s\nagain %s", first.Body, again.Body)
	}
	var m statusMessage
	if err := json.Unmarshal(first.Body.Bytes(), &m); err != nil {
		t.Fatal(err)
	}
	if id, err := uuid.Parse(m.MessageID); err != nil || id.Version() != 5 {
		t.Errorf("messageId %q", m.MessageID)
	}
	for name, body := range map[string]string{
		"other content": flowMessage("1", "f", "y-pull"),
		"other message": flowMessage("9", "f", "x-pull"),
	} {
		if w := p.post(start, body); w.Code != http.StatusConflict {
			t.Errorf("%s: %d %s", name, w.Code, w.Body)
		}
	}
	if w := p.post("/dataflows/f/terminate", `{"messageId":"2"}`); w.Code != http.StatusConflict {
		t.Errorf("other operation: %d %s", w.Code, w.Body)
	}
}

func TestAnswerID(t *testing.T) {
	seen := map[string]string{}
	for _, id := range []struct {
		key       flow.Key
		messageID string
	}{
		{flow.Key{Context: "c", ID: "f"}, "m"},
		{flow.Key{Context: "c", ID: "f"}, "n"},
		{flow.Key{Context: "c", ID: "g"}, "m"},
		{flow.Key{Context: "d", ID: "f"}, "m"},
		{flow.Key{Context: "cf", ID: ""}, "m"},
		{flow.Key{Context: "c", ID: "fm"}, "x"},
	} {
		got, name := answerID(id.key, id.messageID), fmt.Sprint(id)
		if before, ok := seen[got]; ok {
			t.Errorf("%s and %s have the same id", name, before)
		}
		if seen[got] = name; answerID(id.key, id.messageID) != got {
			t.Errorf("%s has no stable id", name)
		}
	}
	key := flow.Key{ID: "f"}
	if first, second := answerID(key, ""), answerID(key, ""); first == second {
		t.Error("answers to messages without an id share one")
	}
}

// TestProblems has a golden file for each kind of refusal.
func TestProblems(t *testing.T) {
	p := newPlane(t, Options{MaxBody: 4096})
	p.post("/dataflows/start", flowMessage("m", "f", "x-pull"))
	const secret = "dial 10.0.0.7: password hunter2"
	tests := []struct {
		name, method, path, body string
		contentType              string
		fail                     error
		code                     int
		header                   string // expected, as "Name: value"
	}{
		{name: "not-json", path: "/dataflows/start", body: `{"a":1]`, code: 400},
		{name: "missing-member", path: "/dataflows/start", body: `{"messageId":"x"}`, code: 400},
		{name: "engine-refuses-content", path: "/dataflows/start", body: strings.Replace(flowMessage("n", "g", "x-push"), `,"dataAddress"`, `,"x"`, 1), code: 400},
		{name: "bad-id", path: "/dataflows/%2e%2e/terminate", body: `{}`, code: 400},
		{name: "no-endpoint", path: "/transfers/f", body: `{}`, code: 404},
		{name: "no-flow", path: "/dataflows/h/terminate", body: `{"messageId":"x"}`, code: 404},
		{name: "no-flow-status", method: "GET", path: "/dataflows/h/status", code: 404},
		{name: "method-post", method: "GET", path: "/dataflows/f/suspend", code: 405, header: "Allow: POST, OPTIONS"},
		{name: "method-get", path: "/dataflows/f/status", body: `{}`, code: 405, header: "Allow: GET, HEAD, OPTIONS"},
		{name: "wrong-state", path: "/dataflows/f/started", body: `{"messageId":"x"}`, code: 409},
		{name: "exists", path: "/dataflows/start", body: flowMessage("o", "f", "x-pull"), code: 409},
		{name: "reused", path: "/dataflows/f/terminate", body: `{"messageId":"m"}`, code: 409},
		{name: "too-large", path: "/dataflows/f/suspend", body: `{"reason":"` + strings.Repeat("x", 4096) + `"}`, code: 413},
		{name: "form", path: "/dataflows/f/suspend", body: `a=b`, contentType: "application/x-www-form-urlencoded", code: 415, header: "Accept: application/json"},
		{name: "closed", path: "/dataflows/f/suspend", body: `{}`, fail: fmt.Errorf("suspend: %w", flow.ErrClosed), code: 503, header: "Retry-After: 5"},
		{name: "storage", path: "/dataflows/f/suspend", body: `{}`, fail: fmt.Errorf("%s: %w", secret, flow.ErrStorage), code: 503, header: "Retry-After: 5"},
		{name: "internal", path: "/dataflows/f/suspend", body: `{}`, fail: errors.New(secret), code: 500},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			p.hook = func(context.Context) error { return tt.fail }
			r := httptest.NewRequest(first(tt.method, "POST"), tt.path, strings.NewReader(tt.body))
			r.Header.Set("Content-Type", first(tt.contentType, "application/json"))
			w := httptest.NewRecorder()
			p.ServeHTTP(w, r)
			if w.Code != tt.code || w.Header().Get("Content-Type") != "application/problem+json" {
				t.Errorf("%d %v", w.Code, w.Header())
			}
			if name, value, _ := strings.Cut(tt.header, ": "); name != "" && w.Header().Get(name) != value {
				t.Errorf("%s: %q", name, w.Header().Get(name))
			}
			if strings.Contains(w.Body.String(), "hunter2") {
				t.Errorf("internal text shows: %s", w.Body)
			}
			conforms(t, "Problem", w.Body.Bytes())
			golden(t, "problems/"+tt.name+".json", indent(t, withoutInstance(t, w.Body.Bytes())))
		})
	}
}

func first(values ...string) string {
	for _, v := range values {
		if v != "" {
			return v
		}
	}
	return ""
}

func problemIn(t *testing.T, w *httptest.ResponseRecorder) *problem {
	t.Helper()
	p := &problem{}
	if err := json.Unmarshal(w.Body.Bytes(), p); err != nil {
		t.Fatalf("%v in %q", err, w.Body)
	}
	return p
}

// withoutInstance replaces a random id.
func withoutInstance(t *testing.T, body []byte) []byte {
	t.Helper()
	var p problem
	if err := json.Unmarshal(body, &p); err != nil {
		t.Fatal(err)
	}
	if p.Instance == "" {
		return body
	}
	return bytes.ReplaceAll(body, []byte(p.Instance), []byte("urn:uuid:…"))
}

func TestFaultIsFoundInTheLogByItsInstance(t *testing.T) {
	p := newPlane(t, Options{})
	p.hook = func(context.Context) error { return errors.New("the disk is full") }
	w := p.post("/dataflows/f/suspend", `{"messageId":"m"}`)
	var body problem
	if err := json.Unmarshal(w.Body.Bytes(), &body); err != nil || body.Instance == "" {
		t.Fatalf("%v in %s", err, w.Body)
	}
	for line := range strings.Lines(p.log.String()) {
		if strings.Contains(line, body.Instance) && strings.Contains(line, "the disk is full") {
			return
		}
	}
	t.Errorf("no line with %s: %s", body.Instance, p.log)
}

func TestPanicCostsOneRequest(t *testing.T) {
	p := newPlane(t, Options{})
	p.hook = func(context.Context) error { panic("kaboom") }
	w := p.post("/dataflows/f/suspend", `{"messageId":"m"}`)
	if w.Code != http.StatusInternalServerError || strings.Contains(w.Body.String(), "kaboom") {
		t.Errorf("%d %s", w.Code, w.Body)
	}
	if !strings.Contains(p.log.String(), "kaboom") || !strings.Contains(p.log.String(), "handler_test.go") {
		t.Errorf("no stack in %s", p.log)
	}
	p.hook = nil
	if w := p.post("/dataflows/start", flowMessage("1", "f", "x-pull")); w.Code != http.StatusOK {
		t.Errorf("afterwards: %d %s", w.Code, w.Body)
	}
}

func TestOptionsAndHead(t *testing.T) {
	p := newPlane(t, Options{})
	for path, allow := range map[string]string{
		"/dataflows/start":    "POST, OPTIONS",
		"/dataflows/f/status": "GET, HEAD, OPTIONS",
	} {
		if w := p.send("OPTIONS", path, ""); w.Code != http.StatusNoContent || w.Header().Get("Allow") != allow {
			t.Errorf("OPTIONS %s: %d %v", path, w.Code, w.Header())
		}
	}
	if w := p.send("OPTIONS", "/nothing", ""); w.Code != http.StatusNotFound {
		t.Errorf("OPTIONS /nothing: %d", w.Code)
	}
	p.post("/dataflows/start", flowMessage("1", "f", "x-pull"))
	if w := p.send("HEAD", "/dataflows/f/status", ""); w.Code != http.StatusOK {
		t.Errorf("HEAD: %d", w.Code)
	}
	if w := p.send("HEAD", "/dataflows/f/suspend", ""); w.Code != http.StatusMethodNotAllowed {
		t.Errorf("HEAD of suspend: %d", w.Code)
	}
}

func TestLogHasALinePerRequestWithoutSecrets(t *testing.T) {
	p := newPlane(t, Options{})
	p.post("/dataflows/start", strings.Replace(flowMessage("1", "f", "x-push"), `"endpoint":`,
		`"endpointProperties":[{"name":"authorization","value":"sesame"}],"endpoint":`, 1))
	p.post("/dataflows/start", flowMessage("1", "g", "x-pull"))
	p.post("/dataflows/h/suspend", `{}`)
	lines := strings.Split(strings.TrimSpace(p.log.String()), "\n")
	want := []map[string]any{
		{"operation": "start", "control_plane": "cp-1", "flow": "f", "status": 200.0},
		{"operation": "start", "control_plane": "cp-1", "flow": "g", "status": 200.0},
		{"operation": "suspend", "control_plane": "cp-1", "flow": "h", "status": 404.0, "problem": "no-such-flow", "field": ""},
	}
	if len(lines) != len(want) {
		t.Fatalf("%d lines:\n%s", len(lines), p.log)
	}
	for i, line := range lines {
		var got map[string]any
		if err := json.Unmarshal([]byte(line), &got); err != nil {
			t.Fatal(err)
		}
		if _, ok := got["duration"]; !ok || got["level"] != "INFO" {
			t.Errorf("line %s", line)
		}
		for _, name := range []string{"time", "level", "msg", "duration"} {
			delete(got, name)
		}
		if diff := cmp.Diff(want[i], got); diff != "" {
			t.Errorf("(-want +got):\n%s", diff)
		}
	}
	for _, secret := range []string{"sesame", "consumer.example", "token-"} {
		if strings.Contains(p.log.String(), secret) {
			t.Errorf("%q is in the log", secret)
		}
	}
}

func TestSignalMetrics(t *testing.T) {
	registry := prometheus.NewPedanticRegistry()
	p := newPlane(t, Options{Registerer: registry})
	second := newPlane(t, Options{Registerer: registry})
	p.post("/dataflows/start", flowMessage("1", "f", "x-pull"))
	second.post("/dataflows/start", flowMessage("1", "f", "x-pull"))
	p.post("/dataflows/f/started", `{}`)
	p.post("/elsewhere", `{}`)
	want := `
# HELP towpath_signals_rejected_total Signals that were answered with a problem.
# TYPE towpath_signals_rejected_total counter
towpath_signals_rejected_total{operation="started",problem="wrong-state"} 1
towpath_signals_rejected_total{operation="unknown",problem="no-such-endpoint"} 1
`
	if err := testutil.GatherAndCompare(registry, strings.NewReader(want), "towpath_signals_rejected_total"); err != nil {
		t.Error(err)
	}
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	counts := map[string]uint64{}
	for _, family := range families {
		if family.GetName() == "towpath_signal_seconds" {
			for _, m := range family.GetMetric() {
				counts[m.GetLabel()[1].GetValue()+" "+m.GetLabel()[0].GetValue()] = m.GetHistogram().GetSampleCount()
			}
		}
	}
	if diff := cmp.Diff(map[string]uint64{"start 200": 2, "started 409": 1, "unknown 404": 1}, counts); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// A sender that goes away does not undo its signal.
func TestSignalOutlivesItsSender(t *testing.T) {
	p := newPlane(t, Options{})
	ctx, leave := context.WithCancel(t.Context())
	p.hook = func(ctx context.Context) error {
		leave()
		return ctx.Err()
	}
	r := httptest.NewRequestWithContext(ctx, "POST", "/dataflows/start", strings.NewReader(flowMessage("1", "f", "x-pull")))
	w := httptest.NewRecorder()
	p.ServeHTTP(w, r)
	if w.Code != http.StatusOK {
		t.Errorf("%d %s", w.Code, w.Body)
	}
}

func TestOverASocket(t *testing.T) {
	p := newPlane(t, Options{BasePath: "/api"})
	server := httptest.NewServer(p)
	defer server.Close()

	t.Run("escaped id", func(t *testing.T) {
		for _, step := range []struct{ path, body string }{
			{"/api/dataflows/start", flowMessage("1", "a/../b%", "x-pull")},
			{"/api/dataflows/a%2F..%2Fb%25/suspend", `{"messageId":"2"}`},
		} {
			r, err := http.Post(server.URL+step.path, "application/json", strings.NewReader(step.body))
			if err != nil {
				t.Fatal(err)
			}
			body, _ := io.ReadAll(r.Body)
			r.Body.Close()
			if r.StatusCode != http.StatusOK {
				t.Errorf("%s: %d %s", step.path, r.StatusCode, body)
			}
		}
	})
	t.Run("body shorter than announced", func(t *testing.T) {
		conn, err := net.Dial("tcp", server.Listener.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		fmt.Fprint(conn, "POST /api/dataflows/f/suspend HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n{}")
		if err := conn.(*net.TCPConn).CloseWrite(); err != nil {
			t.Fatal(err)
		}
		answer, _ := io.ReadAll(conn)
		if !bytes.HasPrefix(answer, []byte("HTTP/1.1 400 ")) {
			t.Errorf("answer %q", answer)
		}
	})
	t.Run("concurrent", func(t *testing.T) {
		var wg sync.WaitGroup
		for i := range 32 {
			wg.Go(func() {
				id := fmt.Sprint("c-", i/2) // two senders for each
				r, err := http.Post(server.URL+"/api/dataflows/start", "", strings.NewReader(flowMessage("1", id, "x-pull")))
				if err != nil {
					t.Error(err)
					return
				}
				r.Body.Close()
				if r.StatusCode != http.StatusOK {
					t.Errorf("%s: %d", id, r.StatusCode)
				}
			})
		}
		wg.Wait()
	})
}

// syncBuffer is a buffer for loggers of several goroutines.
type syncBuffer struct {
	mu sync.Mutex // guards b
	b  bytes.Buffer
}

func (s *syncBuffer) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(p)
}

func (s *syncBuffer) reset() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.b.Reset()
}

func (s *syncBuffer) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.String()
}
