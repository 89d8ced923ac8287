package admin_test

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/towpath-dataplane/towpath/host/admin"
	"github.com/towpath-dataplane/towpath/host/flow"
	"github.com/towpath-dataplane/towpath/host/limit"
)

func number(n int64) *int64 { return &n }

// withLimits adds limits of a configuration, and those that documents keep.
func withLimits(t *testing.T, kept *documents) func(*admin.Options) {
	set, _ := withTheirEnd(t, kept)
	return set
}

// withTheirEnd also returns what is to be told of the end of flows. The flows are those of the world that is made with it.
func withTheirEnd(t *testing.T, kept *documents) (set func(*admin.Options), ended func(context.Context, flow.Key) error) {
	limiter := limit.New(map[limit.Scope]limit.Limit{
		{Kind: limit.Host}: {Bytes: number(1000), Transfers: number(4)},
		{Kind: limit.Flow}: {Records: number(7)},
		{Kind: limit.Dataset, Context: "alice", ID: "d"}: {Weight: number(3)},
	})
	var flows struct{ flow.Store }
	limits, err := admin.LoadLimits(t.Context(), admin.LimitOptions{Limiter: limiter, Contexts: []string{"alice"}, Documents: kept,
		Flows: &flows, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	return func(o *admin.Options) { o.Limits, flows.Store = limits, o.Store }, limits.Ended
}

// inForce returns what holds, as JSON.
func inForce(t *testing.T, w *world, path string) string {
	t.Helper()
	status, body := w.get("/api/v1/limits/" + path)
	text, err := json.Marshal(decode[admin.Limit](t, status, body).InForce)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// Limits are set, shown and cleared, for everything that can have some, and outlive the process.
func TestLimits(t *testing.T) {
	kept := newDocuments()
	w := newWorld(t, withLimits(t, kept))
	for _, s := range []struct {
		method, path, body string
		status             int
		want               string // of it, or what is in force if that begins with {
	}{
		{"GET", "host", "", 200, `{"bytesPerSecond":1000,"transfers":4}`},
		{"PUT", "host", `{"bytesPerSecond": 5}`, 200, `{"bytesPerSecond":5,"transfers":4}`},
		{"PUT", "host", `{"transfers": 0}`, 200, `{"bytesPerSecond":1000,"transfers":0}`},
		{"DELETE", "host", "", 200, `{"bytesPerSecond":1000,"transfers":4}`},
		{"DELETE", "host", "", 404, "no limit is set for the host"},
		{"PUT", "host", `{"weight": 2}`, 400, "weight: is not known"},
		{"PUT", "host", `{}`, 400, "needs at least one of bytesPerSecond, recordsPerSecond, transfers"},
		{"PUT", "host", `{"bytesPerSecond": -1, "recordsPerSecond": 1.5}`, 400, "bytesPerSecond: has to be a whole number from 0 to 9007199254740992; recordsPerSecond"},
		{"PUT", "host", `[]`, 400, "has to be an object"},
		{"PUT", "host", `{"transfers": "2"}`, 400, "transfers: has to be a whole number"},
		{"PUT", "host/x", `{"transfers": 2}`, 404, "there is nothing at"},
		{"PUT", "host?context=alice", `{"transfers": 2}`, 400, "context"},
		{"PUT", "planets", `{"transfers": 2}`, 404, "nothing at"},
		{"POST", "host", `{"transfers": 2}`, 405, "is not for"},
		{"PUT", "flows", `{"bytesPerSecond": 9}`, 200, `{"bytesPerSecond":9,"recordsPerSecond":7}`},
		{"PUT", "flows", `{"weight": 9}`, 400, "weight: is not known"},
		{"PUT", "flows/a%2Fb", `{"weight": 9, "recordsPerSecond": 0}`, 200, `{"bytesPerSecond":9,"recordsPerSecond":0,"weight":9}`},
		{"PUT", "flows/a%2Fb", `{"weight": 1001}`, 400, "from 1 to 1000"},
		{"PUT", "flows/a%2Fb", `{"transfers": 1}`, 400, "transfers: is not known"},
		{"GET", "flows/other?context=alice", "", 200, `{"bytesPerSecond":9,"recordsPerSecond":7}`},
		{"GET", "flows/other?context=bob", "", 404, "no participant context"},
		{"PUT", "counterparties", `{"bytesPerSecond": 100}`, 200, `{"bytesPerSecond":100}`},
		{"PUT", "counterparties/did:web:them.example%3A8443?context=alice", `{"weight": 2}`, 200, `{"bytesPerSecond":100,"weight":2}`},
		{"PUT", "datasets/d?context=alice", `{"transfers": 2}`, 200, `{"transfers":2,"weight":3}`},
		{"PUT", "datasets", `{"weight": 2}`, 400, "weight: is not known"},
		{"PUT", "profiles/http-pull", `{"weight": 5}`, 200, `{"weight":5}`},
		{"PUT", "profiles/http-pull", `{"transfers": 5}`, 400, "transfers: is not known"},
		{"PUT", "profiles", `{"weight": 5}`, 404, "nothing at"},
		{"PUT", "contexts/alice", `{"weight": 5}`, 200, `{"weight":5}`},
		{"PUT", "contexts/alice?context=default", `{"weight": 5}`, 400, "context"},
		{"PUT", "contexts/bob", `{"weight": 5}`, 404, "no participant context"},
	} {
		status, body := w.do(s.method, "/api/v1/limits/"+s.path, s.body)
		got := body
		if status == http.StatusOK {
			got = inForce(t, w, s.path)
		}
		if status != s.status || !strings.Contains(got, s.want) {
			t.Errorf("%s %s %s: %d %s", s.method, s.path, s.body, status, body)
		}
	}

	again := newWorld(t, withLimits(t, kept))
	for _, w := range []*world{w, again} {
		status, body := w.get("/api/v1/limits")
		list := decode[admin.LimitList](t, status, body)
		var names []string
		for _, l := range list.Limits {
			names = append(names, strings.Join([]string{l.Scope, l.Context, l.ID}, " "))
		}
		want := "host  ,context alice alice,counterparty  ,counterparty alice did:web:them.example:8443,dataset alice d,profile  http-pull,flow  ,flow default a/b"
		if got := strings.Join(names, ","); got != want {
			t.Errorf("limits of %s\nwant %s", got, want)
		}
		if d := list.Limits[4]; *d.Configured.Weight != 3 || *d.Set.Transfers != 2 || d.Set.Weight != nil {
			t.Errorf("the dataset's: %s", body)
		}
	}
	if status, body := again.get("/api/v1/limits?context=default"); len(decode[admin.LimitList](t, status, body).Limits) != 1 {
		t.Errorf("limits of a participant context: %s", body)
	}
}

// A limit that is not stored does not hold, and one that cannot be read does no harm.
func TestLimitsAndTheirStore(t *testing.T) {
	kept := newDocuments()
	for id, content := range map[string]string{"host/": "{", "flow/f": `{"weight":0}`, "planet/x": `{"weight":1}`, "flow/g": `{"weight":2}`} {
		if err := kept.PutDocument(t.Context(), flow.Document{Kind: "limit", Context: "default", ID: id, Content: []byte(content)}); err != nil {
			t.Fatal(err)
		}
	}
	w := newWorld(t, withLimits(t, kept))
	if got := inForce(t, w, "host") + inForce(t, w, "flows/f") + inForce(t, w, "flows/g"); got !=
		`{"bytesPerSecond":1000,"transfers":4}{"recordsPerSecond":7}{"recordsPerSecond":7,"weight":2}` {
		t.Errorf("in force: %s", got)
	}
	kept.broken = errors.New("disk full")
	for _, method := range []string{"PUT", "DELETE"} {
		if status, _ := w.do(method, "/api/v1/limits/flows/g", `{"weight":9}`); status != http.StatusInternalServerError {
			t.Errorf("%s: %d", method, status)
		}
	}
	if got := inForce(t, w, "flows/g"); got != `{"recordsPerSecond":7,"weight":2}` {
		t.Errorf("in force: %s", got)
	}
}

// What was set for a flow goes when that has ended for good, also past a restart, and comes for no flow that has.
func TestLimitsOfAFlowThatEnds(t *testing.T) {
	kept := newDocuments()
	set, ended := withTheirEnd(t, kept)
	w := newWorld(t, set)
	w.put(sample("f", flow.Started))
	w.put(sample("other", flow.Suspended))
	for _, path := range []string{"flows/f", "flows/other", "flows/f?context=alice", "flows/to-come", "datasets/f"} {
		if status, body := w.do("PUT", "/api/v1/limits/"+path, `{"bytesPerSecond": 3}`); status != http.StatusOK {
			t.Errorf("%s: %d %s", path, status, body)
		}
	}
	kept.broken = errors.New("disk full")
	if err := ended(t.Context(), sample("f", "").Key); err == nil {
		t.Error("it is taken back from memory alone")
	}
	kept.broken = nil
	w.put(sample("f", flow.Completed))
	for range 2 {
		if err := ended(t.Context(), sample("f", "").Key); err != nil {
			t.Error(err)
		}
	}
	if status, body := w.do("PUT", "/api/v1/limits/flows/f", `{"bytesPerSecond": 3}`); status != http.StatusConflict || !strings.Contains(body, "COMPLETED") {
		t.Errorf("for one that has ended: %d %s", status, body)
	}
	if status, body := w.do("DELETE", "/api/v1/limits/flows/f", ""); status != http.StatusNotFound {
		t.Errorf("taken back again: %d %s", status, body)
	}
	for _, w := range []*world{w, newWorld(t, withLimits(t, kept))} {
		got := ""
		status, body := w.get("/api/v1/limits")
		for _, l := range decode[admin.LimitList](t, status, body).Limits {
			if l.Set != nil {
				got += strings.Join([]string{l.Scope, l.Context, l.ID, ""}, " ")
			}
		}
		if want := "dataset default f flow alice f flow default other flow default to-come "; got != want {
			t.Errorf("limits of %s\nwant      %s", got, want)
		}
	}
}

func TestMovement(t *testing.T) {
	w := newWorld(t, func(o *admin.Options) {
		o.Movement = func(k flow.Key) (flow.Movement, bool) {
			return flow.Movement{Waits: flow.Waits{Condition: "blocked", For: "limit", Limit: "the host",
				Waited: map[string]time.Duration{"limit": 2 * time.Second}}}, k.ID == "f"
		}
	})
	w.put(sample("f", flow.Started))
	w.put(sample("g", flow.Started))
	for path, want := range map[string]bool{"/api/v1/flows/f": true, "/api/v1/flows/g": false, "/api/v1/flows": true} {
		if _, body := w.get(path); strings.Contains(body, `"blockedSeconds"`) != want {
			t.Errorf("%s: %s", path, body)
		}
	}
}
