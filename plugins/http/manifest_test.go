package main

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/towpath-dataplane/towpath/sdk"
)

// ingest takes parts, and answers manifests with a status.
type ingest struct {
	manifests []manifestDocument
	status    int
}

func (i *ingest) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	if req.URL.Path != "/manifest" {
		io.Copy(io.Discard, req.Body)
		return
	}
	var m manifestDocument
	if err := json.NewDecoder(req.Body).Decode(&m); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	i.manifests = append(i.manifests, m)
	w.Header().Set("Content-Type", "text/plain")
	w.WriteHeader(i.status)
	fmt.Fprint(w, "what the ingest says")
}

func names(m manifestDocument) []string {
	out := []string{}
	for i, p := range m.Parts {
		out = append(out, fmt.Sprintf("%d %s %d", p.Index, p.Name, p.Size))
		if p.Index != uint64(i) {
			out = append(out, "out of order")
		}
	}
	return out
}

func TestManifestRefused(t *testing.T) {
	for _, tt := range []struct {
		status    int
		code      sdk.Code
		retryable bool
	}{
		{400, sdk.Corrupt, false}, {409, sdk.Corrupt, false}, {422, sdk.Corrupt, false}, {302, sdk.Corrupt, false},
		{401, sdk.Denied, false}, {404, sdk.NotFound, false}, {413, sdk.Exhausted, false}, {429, sdk.Unavailable, true}, {503, sdk.Unavailable, true},
	} {
		i := &ingest{status: tt.status}
		server := newServer(t, i.ServeHTTP)
		a := dps(server.URL+"/in", "manifestUrl", server.URL+"/manifest?secret")
		_, err := write(t, newTestPlugin(t, loopback()), a, text("a", "a"))
		wantError(t, err, tt.code, tt.retryable, "manifest: POST "+server.URL+"/manifest: ", "what the ingest says")
		if len(i.manifests) != 1 {
			t.Errorf("%d manifests", len(i.manifests))
		}
	}
}

// A flow that goes on after a pause lists all its parts, also those of earlier runs.
func TestManifestOfAFlowThatGoesOn(t *testing.T) {
	i := &ingest{status: http.StatusOK}
	server := newServer(t, i.ServeHTTP)
	p := newTestPlugin(t, loopback())
	open := sdk.WriteOpen{
		Flow:    sdk.FlowContext{ParticipantContext: "p", ID: "1"},
		Address: dps(server.URL+"/in", "manifestUrl", server.URL+"/manifest"), Redelivery: true,
	}
	run := func(first int64, parts ...outgoing) {
		t.Helper()
		resume := open
		if first > 0 {
			// What was sent before is counted in the sink's token.
			resume.ResumeToken = fmt.Appendf(nil, `{"index":%d,"digest":{"size":0},"totals":{"parts":0,"bytes":0,"records":0}}`, first)
		}
		if _, err := writeFlow(t, p, resume, first, parts...); err != nil {
			t.Fatal(err)
		}
	}
	expect := func(want ...[]string) {
		t.Helper()
		got := [][]string{}
		for _, m := range i.manifests {
			got = append(got, names(m))
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("manifests (-want +got):\n%s", diff)
		}
		i.manifests = nil
	}

	run(0, text("a", "1"), text("b", "22"))
	expect([]string{"0 a 1", "1 b 2"})
	run(1, text("b", "22"), text("c", "333"))
	expect([]string{"0 a 1", "1 b 2", "2 c 3"})
	run(3)
	expect([]string{"0 a 1", "1 b 2", "2 c 3"})

	// Another flow has nothing of the first.
	first := open.Flow
	open.Flow.ID = "2"
	run(0, text("x", "1"))
	expect([]string{"0 x 1"})

	// After Deprovision, or in another process, the parts before are not known: there is no manifest rather than a wrong one.
	open.Flow = first
	if err := sdk.NewDataSink(p.Sinks[0]).Deprovision(t.Context(), first, open.Address); err != nil {
		t.Fatal(err)
	}
	run(2, text("c", "333"))
	run(3)
	if len(i.manifests) > 0 {
		t.Errorf("manifests %v", i.manifests)
	}
	for range 2 {
		if err := sdk.NewDataSink(p.Sinks[0]).Deprovision(t.Context(), first, open.Address); err != nil {
			t.Error(err)
		}
	}
	if held := len(p.Sinks[0].Sink.(*sink).manifests); held != 1 {
		t.Errorf("%d manifests are held, want 1", held)
	}
}
