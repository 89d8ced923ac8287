package main

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// plane is a data plane that writes down what it is told.
type plane struct {
	*httptest.Server
	paths  []string
	bodies []map[string]any
	answer string
	code   int
}

func newPlane(t *testing.T) *plane {
	p := &plane{code: http.StatusOK, answer: `{}`}
	p.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body := map[string]any{}
		if err := json.NewDecoder(r.Body).Decode(&body); err != nil {
			t.Error(err)
		}
		p.paths, p.bodies = append(p.paths, r.Method+" "+r.URL.EscapedPath()), append(p.bodies, body)
		w.WriteHeader(p.code)
		io.WriteString(w, p.answer)
	}))
	t.Cleanup(p.Close)
	return p
}

func newTestControlPlane(t *testing.T, signaling string) *controlPlane {
	t.Helper()
	c, err := newControlPlane(provider, consumer, signaling)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.close() })
	return c
}

func TestSignals(t *testing.T) {
	p := newPlane(t)
	p.answer = `{"messageId":"m","dataFlowId":"a/b","state":"STARTED","dataAddress":{"@type":"DataAddress","endpointType":"HttpData",
		"endpoint":"http://127.0.0.1/flows/f","endpointProperties":[{"@type":"EndpointProperty","name":"authorization","value":"v"}]}}`
	c, ctx := newTestControlPlane(t, p.URL), t.Context()
	a, err := c.start(ctx, "a/b", pullProfile, nil)
	if err != nil {
		t.Fatal(err)
	}
	want := &dataAddress{Kind: "DataAddress", EndpointType: "HttpData", Endpoint: "http://127.0.0.1/flows/f",
		Properties: []endpointProperty{{"EndpointProperty", "authorization", "v"}}}
	if diff := cmp.Diff(want, a); diff != "" {
		t.Error(diff)
	}
	_, err = c.resume(ctx, "a/b", a)
	if err = errors.Join(err, c.started(ctx, "a/b", a), c.suspend(ctx, "a/b"), c.terminate(ctx, "a/b"), c.completed(ctx, "a/b")); err != nil {
		t.Fatal(err)
	}
	paths := []string{"start", "a%2Fb/resume", "a%2Fb/started", "a%2Fb/suspend", "a%2Fb/terminate", "a%2Fb/completed"}
	for i := range paths {
		paths[i] = "POST /dataflows/" + paths[i]
	}
	if diff := cmp.Diff(paths, p.paths); diff != "" {
		t.Error(diff)
	}
	ids := map[any]bool{}
	for _, body := range p.bodies {
		ids[body["messageId"]] = true
	}
	if len(ids) != len(p.bodies) || ids[nil] || ids[""] {
		t.Errorf("message ids %v: each message has its own", ids)
	}
	start := p.bodies[0]
	delete(start, "messageId")
	if diff := cmp.Diff(map[string]any{"participantId": provider, "counterPartyId": consumer, "dataspaceContext": "demo", "dataFlowId": "a/b",
		"agreementId": "agreement-a/b", "datasetId": datasetID, "profile": pullProfile, "claims": map[string]any{}}, start); diff != "" {
		t.Error(diff)
	}
}

func TestSignalIsRefused(t *testing.T) {
	p := newPlane(t)
	c := newTestControlPlane(t, p.URL)
	for _, answer := range []struct {
		code       int
		body, want string
	}{
		{http.StatusConflict, `{"title":"Wrong state","detail":"flow f is TERMINATED"}`, "flow f is TERMINATED"},
		{http.StatusBadGateway, "<html>", "502 Bad Gateway"},
		{http.StatusOK, "<html>", "not a DataFlowStatusMessage"},
		{http.StatusOK, strings.Repeat(" ", 1<<20) + "{}", "longer"},
	} {
		p.code, p.answer = answer.code, answer.body
		if err := c.suspend(t.Context(), "f"); err == nil || !strings.Contains(err.Error(), answer.want) {
			t.Errorf("%d %.20q: got %v", answer.code, answer.body, err)
		}
	}
}

func call(t *testing.T, c *controlPlane, path, body string) int {
	t.Helper()
	resp, err := http.Post(c.url+path, "application/json", strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	return resp.StatusCode
}

func TestCallbacks(t *testing.T) {
	c := newTestControlPlane(t, "http://127.0.0.1:0")
	for _, bad := range []struct{ path, body string }{
		{"/transfers/f/dataflow/terminated", `{"dataFlowId":"f"}`},
		{"/transfers/f/dataflow/completed", `{"dataFlowId":"g"}`},
		{"/transfers/f/dataflow/completed", `completed`},
		{"/transfers/f/dataflow/completed", ``},
	} {
		if code := call(t, c, bad.path, bad.body); code/100 != 4 {
			t.Errorf("%v is answered with %d", bad, code)
		}
	}
	if completed, err := c.outcome("f"); completed || err != nil {
		t.Errorf("got %v, %v before any callback", completed, err)
	}
	done := make(chan error)
	go func() { done <- c.awaitCompleted(t.Context(), "f") }()
	for range 2 { // callbacks are delivered at least once
		if code := call(t, c, "/transfers/f/dataflow/completed", `{"messageId":"m","dataFlowId":"f","state":"COMPLETED"}`); code != http.StatusOK {
			t.Errorf("completed is answered with %d", code)
		}
	}
	if err := <-done; err != nil {
		t.Error(err)
	}
}

func TestErroredEndsTheWait(t *testing.T) {
	c := newTestControlPlane(t, "http://127.0.0.1:0")
	call(t, c, "/transfers/f/dataflow/errored", `{"dataFlowId":"f","state":"STARTED","error":"the disk is full"}`)
	if err := c.awaitCompleted(t.Context(), "f"); err == nil || !strings.Contains(err.Error(), "the disk is full") {
		t.Errorf("got %v", err)
	}
}

func TestWaitEndsWithItsReason(t *testing.T) {
	c := newTestControlPlane(t, "http://127.0.0.1:0")
	ctx, cancel := context.WithCancelCause(t.Context())
	reason := errors.New("the host has ended")
	cancel(reason)
	if err := c.awaitCompleted(ctx, "f"); !errors.Is(err, reason) {
		t.Errorf("got %v", err)
	}
	if err := c.suspend(ctx, "f"); !errors.Is(err, reason) {
		t.Errorf("got %v", err)
	}
}
