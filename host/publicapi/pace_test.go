package publicapi

import (
	"context"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"

	"github.com/towpath-dataplane/towpath/host/flow"
	"github.com/towpath-dataplane/towpath/sdk"
)

// meters count what requests ask for, and let a number of bytes pass.
type meters struct {
	mu             sync.Mutex // guards what follows
	bytes, records int64
	most           int64 // 0: all
	open           int
	waits          chan struct{} // closed when somebody waits
}

func (m *meters) Open(*flow.Flow) Meter {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.open++
	return m
}

func (m *meters) Wait(ctx context.Context, bytes, records int64) error {
	m.mu.Lock()
	m.bytes += bytes
	m.records += records
	stop := m.most > 0 && m.bytes > m.most
	m.mu.Unlock()
	if stop {
		close(m.waits)
		<-ctx.Done()
		return context.Cause(ctx)
	}
	return nil
}

func (m *meters) Source() {}
func (m *meters) Host()   {}
func (m *meters) Sink()   {}

func (m *meters) Close() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.open--
}

// moved returns what has passed, when no request is inside a flow any more.
func (m *meters) moved(w *world) (bytes, records int64) {
	w.eventually("all meters are closed", func() bool {
		m.mu.Lock()
		defer m.mu.Unlock()
		return m.open == 0
	})
	return m.bytes, m.records
}

func metered(t *testing.T, m *meters) *world {
	m.waits = make(chan struct{})
	return newWorld(t, func(_ *world, o *Options) { o.Meter = m.Open })
}

// Whatever of a body moves is asked for first, in both directions.
func TestPace(t *testing.T) {
	content := noise(300_000, 1)
	records := []sdk.Record{{Value: []byte("a")}, {Value: []byte("b")}, {Value: []byte("c")}}
	for name, tc := range map[string]struct {
		put      func(w *world)
		ask      func(w *world) response
		status   int
		bytes    int64 // 0: as many as the answer has
		nRecords int64
	}{
		"pull": {func(w *world) { w.memory.Put("d", content) }, func(w *world) response {
			a := w.pull("f")
			return w.do(a, a.Endpoint, request{})
		}, http.StatusOK, 300_000, 0},
		"range": {func(w *world) { w.memory.Put("d", content) }, func(w *world) response {
			a := w.pull("f")
			return w.do(a, a.Endpoint, request{header: map[string]string{"Range": "bytes=10-99"}})
		}, http.StatusPartialContent, 90, 0},
		"head": {func(w *world) { w.memory.Put("d", content) }, func(w *world) response {
			a := w.pull("f")
			return w.do(a, a.Endpoint, request{method: http.MethodHead})
		}, http.StatusOK, 0, 0},
		"records": {func(w *world) { w.memory.PutRecords("d", records) }, func(w *world) response {
			a := w.pull("f")
			return w.do(a, a.Endpoint, request{})
		}, http.StatusOK, 0, 3},
		"ingest": {func(*world) {}, func(w *world) response {
			a := w.push("f")
			return w.do(a, a.Endpoint+"/d", request{method: http.MethodPut, body: strings.NewReader(string(content))})
		}, http.StatusCreated, 300_000, 0},
	} {
		t.Run(name, func(t *testing.T) {
			m := &meters{}
			w := metered(t, m)
			tc.put(w)
			r := tc.ask(w)
			if r.StatusCode != tc.status || r.err != nil {
				t.Fatal(r.Status, r.err, string(r.body))
			}
			bytes, records := m.moved(w)
			if tc.bytes == 0 {
				tc.bytes = int64(len(r.body))
			}
			if bytes != tc.bytes || records != tc.nRecords {
				t.Errorf("%d bytes and %d records were asked for, not %d and %d", bytes, records, tc.bytes, tc.nRecords)
			}
		})
	}
}

// A request that waits for its turn does not hold up a suspend.
func TestPaceEndsWithTheFlow(t *testing.T) {
	content := noise(3<<20, 1)
	for _, direction := range []string{"pull", "push"} {
		t.Run(direction, func(t *testing.T) {
			m := &meters{most: 1 << 20}
			w := metered(t, m)
			w.memory.Put("d", content)
			answered := make(chan error, 1)
			go func() {
				a := w.pull("f")
				q, url := request{}, a.Endpoint
				if direction == "push" {
					a = w.push("f")
					q, url = request{method: http.MethodPut, body: strings.NewReader(string(content))}, a.Endpoint+"/e"
				}
				res, err := w.send(a, url, q)
				if err == nil {
					_, err = io.Copy(io.Discard, res.Body)
					res.Body.Close()
					if direction == "push" && res.StatusCode/100 == 2 {
						t.Errorf("answered with %s", res.Status)
					}
				}
				answered <- err
			}()
			<-m.waits
			w.flows.stop(flow.Key{Context: flow.DefaultContext, ID: "f"}, flow.Suspended)
			if err := <-answered; direction == "pull" && err == nil {
				t.Error("the answer was whole")
			}
			m.moved(w)
			if _, err := w.memory.Content("e"); err == nil {
				t.Error("a part that is not whole is visible")
			}
		})
	}
}
