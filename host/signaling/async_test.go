package signaling

import (
	"context"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/towpath-dataplane/towpath/host/flow"
)

func TestAccepted(t *testing.T) {
	p := newPlane(t, Options{BasePath: "/api/v1"})
	p.async = true
	for path, state := range map[string]flow.State{"/api/v1/dataflows/prepare": flow.Preparing, "/api/v1/dataflows/dataflows/start": flow.Starting} {
		message := flowMessage("m", "urn:uuid:"+string(state)+"/a b", "x-pull")
		w := p.post(path, message)
		conforms(t, "DataFlowStatusMessage", w.Body.Bytes())
		want := "/api/v1/dataflows/urn:uuid:" + string(state) + "%2Fa%20b/status"
		if got := w.Header().Get("Location"); w.Code != http.StatusAccepted || got != want {
			t.Errorf("%s: %d %s, %s", path, w.Code, got, w.Body)
		}
		if status := p.send("GET", w.Header().Get("Location"), ""); status.Code != http.StatusOK || !strings.Contains(status.Body.String(), string(state)) {
			t.Errorf("status: %d %s", status.Code, status.Body)
		}
		p.flows[flow.Key{Context: flow.DefaultContext, ID: "urn:uuid:" + string(state) + "/a b"}].State = flow.Started // in the meantime
		again := p.post(path, message)
		if again.Code != w.Code || again.Header().Get("Location") != want || again.Body.String() != w.Body.String() {
			t.Errorf("again: %d %v %s", again.Code, again.Header(), again.Body)
		}
	}
	p.async = false
	if w := p.post("/api/v1/dataflows/start", flowMessage("m", "now", "x-pull")); w.Code != http.StatusOK || w.Header().Get("Location") != "" {
		t.Errorf("%d %v", w.Code, w.Header())
	}
}

func TestLocationWithoutBasePath(t *testing.T) {
	p := newPlane(t, Options{})
	p.async = true
	if got := p.post("/start", flowMessage("m", "f", "x-pull")).Header().Get("Location"); got != "/dataflows/f/status" {
		t.Error(got)
	}
}

func TestStatusTellsTheFault(t *testing.T) {
	p := newPlane(t, Options{})
	p.post("/dataflows/start", flowMessage("1", "f", "x-pull"))
	p.flows[flow.Key{Context: flow.DefaultContext, ID: "f"}].Fault = "the source is gone"
	w := p.send("GET", "/dataflows/f/status", "")
	conforms(t, "DataFlowStatusResponseMessage", w.Body.Bytes())
	if want := `{"dataFlowId":"f","state":"STARTED","error":"the source is gone"}` + "\n"; w.Body.String() != want {
		t.Error(w.Body)
	}
}

func TestStatusTellsWhatAFlowWaitsFor(t *testing.T) {
	p := newPlane(t, Options{})
	p.post("/dataflows/start", flowMessage("1", "f", "x-pull"))
	p.waiting = "queued, place 2 of 7"
	w := p.send("GET", "/dataflows/f/status", "")
	conforms(t, "DataFlowStatusResponseMessage", w.Body.Bytes())
	if want := `{"dataFlowId":"f","state":"STARTED","reason":"queued, place 2 of 7"}` + "\n"; w.Body.String() != want {
		t.Error(w.Body)
	}
}

// What follows an answer begins when the client has it, and also if there is none to have it.
func TestAnswered(t *testing.T) {
	p := newPlane(t, Options{})
	p.async = true
	server := httptest.NewServer(p)
	defer server.Close()
	arrived := make(chan (<-chan struct{}), 1)
	send := func(id string) {
		t.Helper()
		r, err := http.Post(server.URL+"/dataflows/start", "application/json", strings.NewReader(flowMessage("m", id, "x-pull")))
		if err != nil {
			t.Fatal(err)
		}
		defer r.Body.Close()
		body, err := io.ReadAll(r.Body)
		if err != nil || !json.Valid(body) {
			t.Errorf("%q, %v", body, err)
		}
		c, _ := p.last()
		arrived <- c.Message.Answered
	}
	send("f")
	<-<-arrived
	p.async = false
	send("g")
	<-<-arrived

	p.hook = func(context.Context) error {
		p.hook = nil
		panic("kaboom")
	}
	send("h")
	<-<-arrived

	w := &brokenWriter{header: http.Header{}}
	func() {
		defer func() { recover() }()
		p.ServeHTTP(w, httptest.NewRequest("POST", "/dataflows/start", strings.NewReader(flowMessage("m", "i", "x-pull"))))
	}()
	c, _ := p.last()
	if !w.asked || c.Message.Key.ID != "i" {
		t.Fatal("nothing was written")
	}
	<-c.Message.Answered
}

// The channel stays open until the answer is out.
func TestAnsweredIsNotEarly(t *testing.T) {
	p := newPlane(t, Options{})
	w := &watchingWriter{ResponseRecorder: httptest.NewRecorder(), open: func() bool {
		c, _ := p.last()
		select {
		case <-c.Message.Answered:
			return false
		default:
			return true
		}
	}}
	p.ServeHTTP(w, httptest.NewRequest("POST", "/dataflows/start", strings.NewReader(flowMessage("m", "f", "x-pull"))))
	if w.steps != "write flush " {
		t.Errorf("steps %q", w.steps)
	}
	c, _ := p.last()
	select {
	case <-c.Message.Answered:
	case <-time.After(time.Minute):
		t.Error("never answered")
	}
}

// watchingWriter notes what it is asked for while a channel is open.
type watchingWriter struct {
	*httptest.ResponseRecorder
	open  func() bool
	steps string
}

func (w *watchingWriter) Write(b []byte) (int, error) {
	if w.open() {
		w.steps += "write "
	}
	return w.ResponseRecorder.Write(b)
}

func (w *watchingWriter) Flush() {
	if w.open() {
		w.steps += "flush "
	}
	w.ResponseRecorder.Flush()
}

// brokenWriter panics as some do whose client is gone.
type brokenWriter struct {
	header http.Header
	asked  bool
}

func (w *brokenWriter) Header() http.Header { return w.header }
func (w *brokenWriter) WriteHeader(int)     {}
func (w *brokenWriter) Write([]byte) (int, error) {
	w.asked = true
	panic(http.ErrAbortHandler)
}
