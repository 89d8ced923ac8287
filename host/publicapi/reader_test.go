package publicapi

import (
	"context"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"sync/atomic"
	"testing"

	"github.com/towpath-dataplane/towpath/host/flow"
	"github.com/towpath-dataplane/towpath/sdk"
	"github.com/towpath-dataplane/towpath/sdk/sdktest"
)

// localReader serves a Reader as the admin API does, for a flow that the counterparty serves: memory stands for it.
func localReader(t *testing.T, memory *sdktest.Memory, visit func(context.Context, flow.Key) (*flow.Joined, error)) (url string, recorded chan int64) {
	t.Helper()
	recorded = make(chan int64, 10)
	rd, err := NewReader(ReaderOptions{
		Visit:  visit,
		Record: func(_ context.Context, _ flow.Key, parts ...flow.Part) error { recorded <- parts[0].Size; return nil },
		Source: func(string) (sdk.DataSource, error) { return memory.DataSource(), nil },
	})
	if err != nil {
		t.Fatal(err)
	}
	mux := http.NewServeMux()
	mux.HandleFunc("/local/{id}/data", func(w http.ResponseWriter, r *http.Request) {
		rd.Data(flow.Key{Context: flow.DefaultContext, ID: r.PathValue("id")}, "").ServeHTTP(w, r)
	})
	mux.HandleFunc("/local/{id}/data/parts/{name...}", func(w http.ResponseWriter, r *http.Request) {
		rd.Data(flow.Key{Context: flow.DefaultContext, ID: r.PathValue("id")}, r.PathValue("name")).ServeHTTP(w, r)
	})
	server := httptest.NewServer(mux)
	t.Cleanup(server.Close)
	return server.URL + "/local/urn:f/data", recorded
}

func read(t *testing.T, method, url, byteRange string) (code int, header http.Header, body string) {
	t.Helper()
	req, err := http.NewRequest(method, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	if byteRange != "" {
		req.Header.Set("Range", byteRange)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, resp.Header, string(text)
}

func TestReader(t *testing.T) {
	defer http.DefaultClient.CloseIdleConnections()
	memory := &sdktest.Memory{}
	memory.Put("a b", []byte("hello"))
	var left atomic.Int64
	visit := func(ctx context.Context, key flow.Key) (*flow.Joined, error) {
		f := &flow.Flow{Key: key, Role: flow.Consumer, Direction: flow.Pull, State: flow.Started, Local: memory.Address("")}
		return &flow.Joined{Context: ctx, Flow: f, Leave: func() { left.Add(1) }}, nil
	}
	url, recorded := localReader(t, memory, visit)
	if code, header, body := read(t, http.MethodGet, url, ""); code != http.StatusOK || body != "hello" || header.Get("Content-Length") != "5" {
		t.Errorf("GET: %d %v %q", code, header, body)
	}
	if n := <-recorded; n != 5 {
		t.Errorf("%d bytes were recorded", n)
	}
	if code, _, body := read(t, http.MethodGet, url, "bytes=1-2"); code != http.StatusPartialContent || body != "el" {
		t.Errorf("a range: %d %q", code, body)
	}
	if code, _, _ := read(t, http.MethodHead, url, ""); code != http.StatusOK {
		t.Errorf("HEAD: %d", code)
	}
	if code, header, _ := read(t, http.MethodPost, url, ""); code != http.StatusMethodNotAllowed || header.Get("Allow") != "GET, HEAD" {
		t.Errorf("POST: %d %v", code, header)
	}

	memory.Put("c/d", []byte("more"))
	_, _, body := read(t, http.MethodGet, url, "")
	var list struct{ Parts []struct{ Name, Href string } }
	if err := json.Unmarshal([]byte(body), &list); err != nil || len(list.Parts) != 2 || list.Parts[1].Href != "./data/parts/c/d" {
		t.Fatalf("several parts: %v %s", err, body)
	}
	if code, _, body := read(t, http.MethodGet, url+"/parts/c/d", ""); code != http.StatusOK || body != "more" {
		t.Errorf("a part: %d %q", code, body)
	}
	if code, _, _ := read(t, http.MethodGet, url+"/parts/none", ""); code != http.StatusNotFound {
		t.Errorf("a part that is not there: %d", code)
	}
	if n := left.Load(); n < 5 {
		t.Errorf("%d visits were left", n)
	}
}

func TestReaderIsKeptOut(t *testing.T) {
	defer http.DefaultClient.CloseIdleConnections()
	for name, tc := range map[string]struct {
		err  error
		want int
	}{
		"no such flow":      {flow.ErrNotFound, http.StatusNotFound},
		"the flow suspends": {&flow.StateError{State: flow.Suspended}, http.StatusForbidden},
		"no address yet":    {&flow.StateError{State: flow.Started, Why: "no address"}, http.StatusConflict},
		"the host stops":    {flow.ErrClosed, http.StatusServiceUnavailable},
	} {
		url, _ := localReader(t, &sdktest.Memory{}, func(context.Context, flow.Key) (*flow.Joined, error) { return nil, tc.err })
		if code, _, body := read(t, http.MethodGet, url, ""); code != tc.want {
			t.Errorf("%s: %d %s, want %d", name, code, body, tc.want)
		}
	}
}
