package edc

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/towpath-dataplane/towpath/host/flow"
	"github.com/towpath-dataplane/towpath/sdk"
)

// pullOf starts a pull of a source of some type.
func pullOf(id, sourceType string) string {
	return fmt.Sprintf(`{"@type":"DataFlowStartMessage","processId":%q,"datasetId":"d","transferType":"HttpData-PULL",
		"sourceDataAddress":{"type":%q,"authCode":"planted-secret"}}`, id, sourceType)
}

func wantDetail(t *testing.T, body []byte, typ, path, message string) {
	t.Helper()
	var all []struct {
		Message, Type string
		Path          *string
		InvalidValue  any
	}
	if err := json.Unmarshal(body, &all); err != nil || len(all) != 1 {
		t.Fatalf("%s is no ApiErrorDetail: %v", body, err)
	}
	got := ""
	if all[0].Path != nil {
		got = *all[0].Path
	}
	if all[0].Type != typ || got != path || !strings.Contains(all[0].Message, message) || all[0].InvalidValue != nil {
		t.Errorf("%s", body)
	}
}

func TestWhatIsRefusedBeforeAnythingIsRead(t *testing.T) {
	w := newWorld(t, func(o *Options) { o.MaxBody = 1000 })
	tests := []struct {
		name, method, path, body string
		headers                  []string
		status                   int
		typ                      string
	}{
		{"another path", "POST", "/f/resume", "{}", nil, 404, "ObjectNotFound"},
		{"a longer path", "POST", "/f/suspend/x", "{}", nil, 404, "ObjectNotFound"},
		{"a path that begins alike", "POST", "x", "{}", nil, 404, "ObjectNotFound"},
		{"an id that is none", "POST", "/%2e%2e/suspend", "{}", nil, 400, "InvalidRequest"},
		{"no id", "POST", "//suspend", "{}", nil, 400, "InvalidRequest"},
		{"GET of a start", "GET", "/start", "", nil, 405, "InvalidRequest"},
		{"POST of a state", "POST", "/f/state", "{}", nil, 405, "InvalidRequest"},
		{"PUT", "PUT", "", "{}", nil, 405, "InvalidRequest"},
		{"text", "POST", "", "hello", []string{"Content-Type", "text/plain"}, 415, "InvalidRequest"},
		{"compressed", "POST", "", "hello", []string{"Content-Encoding", "gzip"}, 415, "InvalidRequest"},
		{"too long", "POST", "", `{"a":"` + strings.Repeat("x", 1000) + `"}`, nil, 413, "InvalidRequest"},
		{"empty start", "POST", "/start", "", nil, 400, "InvalidRequest"},
		{"no type", "POST", "", "{}", nil, 400, "ValidationFailure"},
		{"no type at start", "POST", "/start", "{}", nil, 400, "ValidationFailure"},
		{"suspend without an id", "POST", "", `{"@type":"DataFlowSuspendMessage"}`, nil, 400, "ValidationFailure"},
		{"a start to prepare", "POST", "/prepare", start(""), nil, 400, "ValidationFailure"},
		{"a start to suspend", "POST", "/f/suspend", start(""), nil, 400, "ValidationFailure"},
		{"another's start", "POST", "/g/start", start(""), nil, 400, "ValidationFailure"},
		{"a start of what is not there", "POST", "/g/start", "", nil, 404, "ObjectNotFound"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			a := w.send(tt.method, tt.path, tt.body, tt.headers...)
			var all []detail
			if err := json.Unmarshal(a.Body.Bytes(), &all); err != nil || a.Code != tt.status || len(all) != 1 || all[0].Type != tt.typ {
				t.Errorf("%d %s", a.Code, a.Body)
			}
		})
	}
}

func TestContentTypesThatAreRead(t *testing.T) {
	w := newWorld(t, nil)
	for i, media := range []string{"", "application/json", "application/ld+json; charset=utf-8", "application/json; charset=\"", "text/json"} {
		if a := w.send("POST", "", pullOf(fmt.Sprint("f", i), "File"), "Content-Type", media); a.Code != 200 {
			t.Errorf("%q: %d %s", media, a.Code, a.Body)
		}
	}
	if a := w.send("OPTIONS", "/f0/state", ""); a.Code != 204 || a.Header().Get("Allow") != "GET, HEAD, OPTIONS" {
		t.Errorf("OPTIONS: %d %v", a.Code, a.Header())
	}
}

func TestWhoMayCall(t *testing.T) {
	status, why := 0, ""
	w := newWorld(t, func(o *Options) { o.Authorize = func(*http.Request) (int, string) { return status, why } })
	w.want(200, "", pullOf("f", "File"))
	for _, tt := range []struct {
		status int
		typ    string
	}{{401, "AuthenticationFailed"}, {403, "NotAuthorized"}} {
		status, why = tt.status, "because"
		for _, path := range []string{"", "/f/suspend"} {
			wantDetail(t, w.want(tt.status, path, start("")).Body.Bytes(), tt.typ, "", "because")
		}
		if a := w.send("GET", "/f/state", ""); a.Code != tt.status {
			t.Errorf("state: %d", a.Code)
		}
		if a := w.send("GET", "/check", ""); a.Code != 204 || a.Body.Len() > 0 {
			t.Errorf("a heartbeat: %d %s", a.Code, a.Body)
		}
	}
}

// A flow is the control plane's that started it.
func TestFlowsOfAnotherControlPlane(t *testing.T) {
	w := newWorld(t, nil)
	w.want(200, "", pullOf("f", "File"))
	w.ControlPlane = "other"
	wantDetail(t, w.want(409, "", pullOf("f", "File")).Body.Bytes(), "ObjectConflict", "processId", "another control plane's")
	w.want(404, "/f/suspend", "")
	w.want(404, "/f/start", "")
	w.want(404, "/f/terminate", "")
	if a := w.send("GET", "/f/state", ""); a.Code != 404 {
		t.Errorf("state: %d", a.Code)
	}
}

func TestFailuresBehindTheHandler(t *testing.T) {
	w := newWorld(t, nil)
	wantDetail(t, w.want(400, "", pullOf("f", "Bad")).Body.Bytes(), "ValidationFailure", "datasetId", "it is bad")
	w.endpoint.fail = sdk.Retryf(sdk.Unavailable, "planted-cause")
	a := w.want(503, "", pullOf("f", "File"))
	if wantDetail(t, a.Body.Bytes(), "ServiceUnavailable", "", "try again"); a.Header().Get("Retry-After") == "" {
		t.Error("503 without Retry-After")
	}
	w.endpoint.fail = errors.Join(sdk.Errorf(sdk.Internal, "planted-cause"))
	wantDetail(t, w.want(500, "", pullOf("f", "File")).Body.Bytes(), "ServerError", "", "log")
	w.endpoint.fail = nil
	w.want(200, "", pullOf("f", "File"))
	if log := w.log.String(); strings.Count(log, "planted-cause") != 2 || strings.Contains(log, "planted-secret") || strings.Contains(log, "token-") {
		t.Errorf("the log: %s", log)
	}
	if err := w.engine.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	w.want(503, "/f/suspend", "")
}

func TestTransferTypes(t *testing.T) {
	const src, dst = `,"sourceDataAddress":{"type":"File"}`, `,"destinationDataAddress":{"type":"File"}`
	tests := []struct{ name, members, want, path string }{
		{"its name", `"transferType":"File-PULL"`, "File-PULL", ""},
		{"its name before its parts", `"transferType":"File-PULL","transferTypeDestination":"HttpData","flowType":"PULL"`, "File-PULL", ""},
		{"its parts", `"transferTypeDestination":"File","flowType":"PULL"`, "File-PULL", ""},
		{"its parts in small letters", `"transferTypeDestination":"File","flowType":"pull"`, "File-PULL", ""},
		{"with a response", `"transferTypeDestination":"File","flowType":"PULL","responseChannel":"HttpData"`, "File-PULL-HttpData", ""},
		{"its name with a response", `"transferType":"File-PUSH-HttpData"` + dst, "File-PUSH-HttpData", ""},
		{"pull of a source with a profile", `"flowType":"PULL"` + src, "File-PULL", ""},
		{"pull of another source", `"flowType":"PULL","sourceDataAddress":{"type":"AmazonS3"}`, "HttpData-PULL", ""},
		{"pull of no source", `"flowType":"PULL"`, "HttpData-PULL", ""},
		{"push", `"flowType":"PUSH"` + dst, "File-PUSH", ""},
		{"push of EDC 0.6 without a destination", `"flowType":"PUSH"`, "", "destinationDataAddress"},
		{"nothing", `"x":"y"`, "", "flowType"},
		{"another flow type", `"flowType":"SIDEWAYS"`, "", "flowType"},
		{"two flow types", `"transferType":"File-PULL","flowType":"PUSH"`, "", "flowType"},
		{"not declared", `"transferType":"Kafka-PULL"`, "", "transferType"},
		{"of another form", `"transferType":"HttpData"`, "", "transferType"},
	}
	w := newWorld(t, nil)
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			m, err := decode([]byte(`{"@type":"DataFlowStartMessage","processId":"f","datasetId":"d",` + tt.members + `}`))
			if err != nil {
				t.Fatal(err)
			}
			got, err := w.transferType(m)
			var p *problem
			if errors.As(err, &p) && p.path != tt.path || got != tt.want || (err == nil) != (tt.path == "") {
				t.Errorf("got %q, %v", got, err)
			}
		})
	}
}

// What EDC's data planes record of a flow is there for whoever decides about its requests.
func TestWhatIsKeptOfAMessage(t *testing.T) {
	w := newWorld(t, nil)
	w.want(200, "", `{"@context":{"edc":"`+namespace+`"},"@type":"DataFlowStartMessage","processId":"f","datasetId":"asset","agreementId":"agreement",
		"participantId":"them","transferType":"File-PUSH","callbackAddress":"http://cp-7/api","properties":{"a":"b","x:y":"z"},
		"sourceDataAddress":{"type":"File","path":"in"},"destinationDataAddress":{"type":"File","path":"out"}}`)
	got := w.flow("f")
	want := &flow.Flow{Key: got.Key, Role: flow.Provider, Direction: flow.Push, State: flow.Started, Profile: "File-PUSH", DatasetID: "asset",
		AgreementID: "agreement", ParticipantID: "did:web:us", CounterPartyID: "them", ControlPlane: "cp", Callback: "http://cp-7/api",
		Metadata: json.RawMessage(`{"a":"b","x:y":"z"}`), Local: sdk.DataAddress{Type: "File", Properties: map[string]string{"path": "in"}},
		Remote: &sdk.DataAddress{Type: "File", Properties: map[string]string{"path": "out"}}, RemoteSince: got.RemoteSince,
		Created: got.Created, Updated: got.Updated}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// The token of a start that was answered is dead when the answer to the next has left, and all are when the flow is suspended or ends.
func TestOneTokenAtATime(t *testing.T) {
	w := newWorld(t, nil)
	body := pullOf("f", "File")
	for want := 1; want <= 3; want++ {
		w.want(200, "", body)
		if diff := cmp.Diff([]string{fmt.Sprint("token-", want)}, w.endpoint.working("f")); diff != "" {
			t.Errorf("(-want +got):\n%s", diff)
		}
	}
	w.want(204, "/f/suspend", "")
	w.want(204, "/f/suspend", "")
	if got := w.endpoint.working("f"); got != nil {
		t.Errorf("after suspend, %v work", got)
	}
	w.want(200, "/f/start", "")
	w.want(200, "/f/start", body)
	if got := w.endpoint.working("f"); len(got) != 1 || got[0] != "token-5" {
		t.Errorf("after a start, %v work", got)
	}
	w.want(204, "/f/terminate", `{"@type":"DataFlowTerminateMessage","reason":"enough"}`)
	if got := w.endpoint.working("f"); got != nil || w.flow("f").Reason != "enough" {
		t.Errorf("after terminate, %v work", got)
	}
}

// EDC says terminate for completed, and that of a flow which has completed by itself.
func TestTerminateOfWhatHasCompleted(t *testing.T) {
	w := newWorld(t, nil)
	w.want(200, "", pullOf("f", "File"))
	if _, err := w.engine.Completed(t.Context(), flow.Message{Key: w.flow("f").Key, ControlPlane: "cp"}); err != nil {
		t.Fatal(err)
	}
	w.want(204, "/f/terminate", "")
	w.want(409, "/f/suspend", "")
	w.want(409, "/f/start", "")
	if got := w.flow("f").State; got != flow.Completed {
		t.Errorf("it is %s", got)
	}
}

// Addresses that a plugin or an operator has given a type keep it.
func TestTypesOfIssuedAddresses(t *testing.T) {
	profile := catalog{}.Profile
	tests := []struct{ name, issued, want string }{
		{"pull", "HttpData-PULL", httpEndpoint},
		{"pull with a response", "HttpData-PULL-HttpData", httpEndpoint},
		{"pull of another type", "File-PULL", httpEndpoint},
		{"push", "HttpData-PUSH", httpData},
		{"push of another type", "File-PUSH", "File"},
		{"the operator's", "https://own.example/type", "https://own.example/type"},
	}
	for _, tt := range tests {
		a := issued(profile, &sdk.DataAddress{Type: tt.issued, Endpoint: "https://x", Properties: map[string]string{"authorization": "t"}})
		if a.Type != tt.want {
			t.Errorf("%s: %s, want %s", tt.name, a.Type, tt.want)
		}
	}
	if a := issued(profile, &sdk.DataAddress{Type: "HttpData-PULL"}); a.Type != "HttpData-PULL" || issued(profile, nil) != nil {
		t.Error("an address without an endpoint is changed")
	}
}

func TestMetricsAreThoseOfAllSignals(t *testing.T) {
	r := prometheus.NewRegistry()
	w := newWorld(t, func(o *Options) { o.Registerer = r })
	NewHandler(Options{Engine: w.engine, Profile: catalog{}.Profile, Registerer: r}) // another control plane's
	w.want(200, "", pullOf("f", "File"))
	w.want(400, "", "{}")
	w.want(404, "/x/y/z", "")
	want := `
# HELP towpath_signals_rejected_total Signals that were answered with a problem.
# TYPE towpath_signals_rejected_total counter
towpath_signals_rejected_total{operation="message",problem="invalid-message"} 1
towpath_signals_rejected_total{operation="unknown",problem="no-such-endpoint"} 1
`
	if err := testutil.GatherAndCompare(r, strings.NewReader(want), "towpath_signals_rejected_total"); err != nil {
		t.Error(err)
	}
	if n, err := testutil.GatherAndCount(r, "towpath_signal_seconds"); n != 3 || err != nil {
		t.Errorf("%d, %v", n, err)
	}
	for _, line := range []string{"operation=start control_plane=cp flow=f status=200", "problem=invalid-message"} {
		if !strings.Contains(w.log.String(), line) {
			t.Errorf("the log lacks %q: %s", line, w.log.String())
		}
	}
}
