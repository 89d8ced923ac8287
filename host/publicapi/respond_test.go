package publicapi

import (
	"context"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/towpath-dataplane/towpath/host/flow"
	"github.com/towpath-dataplane/towpath/sdk"
	"github.com/towpath-dataplane/towpath/sdk/sdktest"
)

// newResponding makes a world in which flows have response channels.
func newResponding(t testing.TB, change func(*world, *Options)) (*world, *flows) {
	t.Helper()
	back := newFlows()
	w := newRenewing(t, func(w *world, o *Options) {
		o.Responses = back
		if change != nil {
			change(w, o)
		}
	})
	return w, back
}

// respond adds a provider's push with a response channel in a state, and returns the channel's address.
func (w *world) respond(back *flows, id string, state flow.State) sdk.DataAddress {
	w.t.Helper()
	f := flow.Flow{Key: key(id), Role: flow.Provider, Direction: flow.Push, State: state, ParticipantID: us, CounterPartyID: them,
		Local: w.memory.Address("")}
	a, err := w.endpoint.IssueResponse(context.Background(), &f)
	if err != nil {
		w.t.Fatal(err)
	}
	back.put(&f)
	return a
}

func (w *world) postTo(a sdk.DataAddress, content string, header map[string]string) response {
	w.t.Helper()
	return w.do(a, a.Endpoint, request{method: http.MethodPost, body: strings.NewReader(content), header: header})
}

func TestMessages(t *testing.T) {
	protocols(t, func(t *testing.T, _ func(func(*world, *Options)) *world) {
		w, back := newResponding(t, nil)
		if strings.HasSuffix(t.Name(), "http2") {
			useHTTP2(t, w)
		}
		a := w.respond(back, "f", flow.Started)
		if a.Type != "HttpData" || a.Endpoint != w.endpoint.base+"/responses/f" || a.Get("authType") != "bearer" {
			t.Errorf("address %s %s %v", a.Type, a.Endpoint, a.Properties)
		}
		w.postTo(a, "lost 3", nil).wantPart(t, http.StatusCreated, "part-0", "lost 3")
		res := w.put(a, "2026/late.json", `{"late":2}`, h("Content-Type", "application/json"))
		res.wantPart(t, http.StatusCreated, "2026/late.json", `{"late":2}`)
		if got := res.Header.Get("Location"); !strings.HasSuffix(got, "/responses/f/2026/late.json") {
			t.Errorf("Location %q", got)
		}
		w.put(a, "2026/late.json", `{"late":2}`, nil).wantPart(t, http.StatusOK, "2026/late.json", `{"late":2}`)
		w.put(a, "2026/late.json", `{"late":3}`, nil).wantStatus(t, http.StatusConflict)
		const two = "--b\r\nContent-Disposition: attachment; filename=\"x\"\r\n\r\n1\r\n--b\r\n\r\n2\r\n--b--\r\n"
		w.postTo(a, two, h("Content-Type", "multipart/mixed; boundary=b")).wantStatus(t, http.StatusCreated)
		w.wantContent(map[string]string{"part-0": "lost 3", "2026/late.json": `{"late":2}`, "x": "1", "part-3": "2"})
		if n := len(back.recorded(key("f"))); n != 4 || len(w.flows.recorded(key("f"))) != 0 {
			t.Errorf("%d responses recorded", n)
		}
		if n := w.metric("towpath_public_bytes_total", map[string]string{"direction": "in"}); n != 0 {
			t.Errorf("%v bytes are counted as data", n)
		}
		if n := w.metric("towpath_public_bytes_total", map[string]string{"direction": "response"}); n == 0 {
			t.Error("no bytes are counted")
		}
		for _, operation := range []string{"respond", "respond-part"} {
			if n := w.metric("towpath_public_requests_total", map[string]string{"operation": operation, "code": "201"}); n == 0 {
				t.Errorf("no %s is counted", operation)
			}
		}
		w.do(a, a.Endpoint, request{}).wantStatus(t, http.StatusMethodNotAllowed)
	})
}

// Rules are asked about the flow that a message belongs to.
func TestAccessToResponses(t *testing.T) {
	g := &gate{closed: map[string]bool{"respond": true}}
	w, back := newResponding(t, func(_ *world, o *Options) { o.Access = g.ask })
	a := w.respond(back, "f", flow.Started)
	w.postTo(a, "no", nil).wantStatus(t, http.StatusForbidden)
	if n, got := g.last(); n != 1 || got.Operation != "respond" || got.Path != "/responses/f" || got.Flow.ID != "f" {
		t.Errorf("asked %d times, about %+v", n, got)
	}
}

// A message of one MiB and more comes in one request, whatever its client can do.
func TestMessagesAreNotResumed(t *testing.T) {
	w, back := newResponding(t, nil)
	a := w.respond(back, "f", flow.Started)
	header := h("Upload-Complete", "?1", "Upload-Draft-Interop-Version", "8")
	w.put(a, "m", "whole", header).wantPart(t, http.StatusCreated, "m", "whole")
	header["Upload-Complete"] = "?0"
	p := w.put(a, "n", "half", header).wantStatus(t, http.StatusBadRequest)
	if p.Retry == nil || *p.Retry {
		t.Errorf("problem %+v", p)
	}
}

// Several messages are on their way at once, and each is answered when it is durable.
func TestSeveralMessagesAtOnce(t *testing.T) {
	gate := sdktest.NewGate(0)
	w, back := newResponding(t, func(w *world, _ *Options) { w.memory.Writing = gate.Hook })
	a := w.respond(back, "f", flow.Started)
	const n = 8
	var wg sync.WaitGroup
	for i := range n {
		wg.Go(func() {
			if res := w.put(a, string(rune('a'+i)), "x", nil); res.StatusCode != http.StatusCreated {
				t.Errorf("status %d: %s", res.StatusCode, res.body)
			}
		})
	}
	w.eventually("all are inside", func() bool { return back.visiting(key("f")) == n })
	if got := w.memory.Names(); len(got) != 0 {
		t.Errorf("visible before they are whole: %v", got)
	}
	gate.Open()
	wg.Wait()
	if got := len(w.memory.Names()); got != n {
		t.Errorf("%d messages", got)
	}
}

// What a message meets depends on the flow's state, and says whether to send it again: with a token that is good, and with one that
// died with the flow's stay in STARTED.
func TestUntimelyMessages(t *testing.T) {
	for _, tc := range []struct {
		state       flow.State
		revoked     bool
		status      int
		retry, soon bool
	}{
		{flow.Preparing, false, 409, true, true},
		{flow.Starting, false, 409, true, true},
		{flow.Starting, true, 409, true, true},
		{flow.Started, true, 403, false, false}, // there is a newer token
		{flow.Suspended, false, 503, true, true},
		{flow.Suspended, true, 503, true, true},
		{flow.Completed, false, 410, false, false},
		{flow.Completed, true, 410, false, false},
		{flow.Terminated, true, 410, false, false},
	} {
		w, back := newResponding(t, nil)
		a := w.respond(back, "f", tc.state)
		if tc.revoked {
			if err := w.tokens.Revoke(t.Context(), tokenFlow(key("f"))); err != nil {
				t.Fatal(err)
			}
		}
		res := w.postTo(a, "x", nil)
		p := res.wantStatus(t, tc.status)
		if p.Retry == nil || *p.Retry != tc.retry || (res.Header.Get("Retry-After") != "") != tc.soon {
			t.Errorf("%+v: problem %s, Retry-After %q", tc, res.body, res.Header.Get("Retry-After"))
		}
		if tc.status != 403 && p.State != tc.state {
			t.Errorf("%+v: problem %s", tc, res.body)
		}
	}
}

// Only a token of this channel is told the state of its flow.
func TestUntimelyMessagesOfOthers(t *testing.T) {
	w, back := newResponding(t, nil)
	a := w.respond(back, "f", flow.Terminated)
	other := w.respond(back, "g", flow.Started)
	data := w.pull("f")
	with := func(from sdk.DataAddress) sdk.DataAddress {
		b := a.Clone()
		b.Properties["authorization"] = from.Get("authorization")
		return b
	}
	forged := a.Clone()
	forged.Properties["authorization"] = a.Get("authorization")[:len(a.Get("authorization"))-4] + "AAAA"
	for _, key := range []flow.Key{key("f"), key("g")} {
		if err := w.tokens.Revoke(t.Context(), tokenFlow(key)); err != nil {
			t.Fatal(err)
		}
	}
	foreign := sdk.DataAddress{Properties: map[string]string{"authorization": openForeign(t)}}
	for name, tc := range map[string]struct {
		a      sdk.DataAddress
		status int
	}{
		"forged":                      {forged, 401},
		"none":                        {sdk.DataAddress{Endpoint: a.Endpoint}, 401},
		"of another data plane":       {with(foreign), 401},
		"of another flow, dead":       {with(other), 403},
		"of the same flow's data too": {with(data), 403},
	} {
		p := w.postTo(tc.a, "x", nil).wantStatus(t, tc.status)
		if p.State != "" || p.Retry == nil || *p.Retry {
			t.Errorf("%s: problem %+v", name, p)
		}
	}
	live := w.respond(back, "h", flow.Started)
	w.pull("h")
	w.get(sdk.DataAddress{Endpoint: w.endpoint.base + "/flows/h", Properties: live.Properties}, nil).wantStatus(t, http.StatusForbidden)
	w.put(sdk.DataAddress{Endpoint: w.endpoint.base + "/ingest/h", Properties: live.Properties}, "x", "x", nil).wantStatus(t, http.StatusForbidden)
	w.postTo(live, "x", nil).wantStatus(t, http.StatusCreated) // issuing one for its data has not ended it
}

// openForeign returns a token that another data plane has issued for the channel of f.
func openForeign(t *testing.T) string {
	t.Helper()
	w, back := newResponding(t, nil)
	return w.respond(back, "f", flow.Started).Get("authorization")
}

// A message on its way when its flow stops leaves nothing behind, and its sender hears whether to try again.
func TestMessagesAreCut(t *testing.T) {
	protocols(t, func(t *testing.T, _ func(func(*world, *Options)) *world) {
		for state, want := range map[flow.State]struct {
			status int
			retry  bool
		}{flow.Suspended: {503, true}, flow.Completed: {410, false}, flow.Terminated: {410, false}} {
			w, back := newResponding(t, nil)
			if strings.Contains(t.Name(), "http2") {
				useHTTP2(t, w)
			}
			back.cause = func(k flow.Key, s flow.State) error { return &flow.StateError{Key: k, State: s, Signal: "data"} }
			a := w.respond(back, "f", flow.Started)
			body, sender := io.Pipe()
			go func() {
				io.WriteString(sender, "half")
				w.eventually("it is inside", func() bool { return back.visiting(key("f")) == 1 })
				back.stop(key("f"), state)
			}()
			p := w.do(a, a.Endpoint+"/m", request{method: http.MethodPut, body: body}).wantStatus(t, want.status)
			if p.State != state || p.Retry == nil || *p.Retry != want.retry {
				t.Errorf("%s: problem %+v", state, p)
			}
			sender.Close()
			if got := w.memory.Names(); len(got) != 0 || len(back.recorded(key("f"))) != 0 {
				t.Errorf("%s: left behind: %v", state, got)
			}
		}
	})
}

func TestLimitsOfMessages(t *testing.T) {
	gate := sdktest.NewGate(0)
	w, back := newResponding(t, func(w *world, o *Options) {
		o.Limits = Limits{MaxPartSize: 10, MaxConcurrentPerToken: 1, MaxParts: 2}
		w.memory.Writing = gate.Hook
	})
	a := w.respond(back, "f", flow.Started)
	done := make(chan struct{})
	go func() {
		defer close(done)
		if res := w.put(a, "a", "x", nil); res.StatusCode != http.StatusCreated {
			t.Errorf("status %d: %s", res.StatusCode, res.body)
		}
	}()
	<-gate.Reached()
	if p := w.put(a, "b", "x", nil).wantStatus(t, http.StatusTooManyRequests); p.Retry == nil || !*p.Retry {
		t.Errorf("problem %+v", p)
	}
	gate.Open()
	<-done
	if p := w.put(a, "b", "longer than that", nil).wantStatus(t, http.StatusRequestEntityTooLarge); p.Retry == nil || *p.Retry {
		t.Errorf("problem %+v", p)
	}
	w.put(a, "b", "x", nil).wantStatus(t, http.StatusCreated)
	w.put(a, "c", "x", nil).wantStatus(t, http.StatusRequestEntityTooLarge)
}

// The tokens of a channel are renewed by themselves, and those of the flow's data are not touched.
func TestRenewalOfAChannel(t *testing.T) {
	w, back := newResponding(t, nil)
	p := w.newParty(them)
	w.memory.Put("d", []byte("x"))
	data, first := w.offer("f", them), w.respond(back, "f", flow.Started)
	second := w.renew(p, first).wantTokens(t, first)
	third := w.renew(p, second).wantTokens(t, second)
	w.postTo(third, "m", nil).wantStatus(t, http.StatusCreated)
	w.postTo(first, "m", nil).wantStatus(t, http.StatusForbidden)
	w.get(sdk.DataAddress{Endpoint: data.Endpoint + "/parts/d", Properties: data.Properties}, nil).wantBody(t, http.StatusOK, "x")
	push := w.respond(back, "g", flow.Started) // there is nothing else to serve
	w.renew(p, push).wantTokens(t, push)
	w.respond(back, "h", flow.Started)
	ended := w.respond(back, "h", flow.Suspended)
	w.renew(p, ended).wantRefusal(t, "a suspended flow", http.StatusBadRequest, "invalid_grant")
}

func TestNoResponseChannels(t *testing.T) {
	w := newWorld(t, nil)
	a := w.pull("f")
	w.do(a, w.server.URL+"/responses/f", request{method: http.MethodPost}).wantStatus(t, http.StatusNotFound)
}

func TestIssueResponse(t *testing.T) {
	e, err := NewEndpoint(EndpointOptions{PublicURL: "https://dp.example/data/", Tokens: issuer{}, EndpointType: func(string) string { return "" },
		ResponseType: func(profile string) string { return "answers of " + profile }, Renewable: func(*flow.Flow) bool { return true }})
	if err != nil {
		t.Fatal(err)
	}
	f := flow.Flow{Key: flow.Key{Context: "c", ID: "f 1"}, Role: flow.Provider, Direction: flow.Push, Profile: "p", CounterPartyID: "did:web:them.example"}
	want := sdk.DataAddress{Type: "answers of p", Endpoint: "https://dp.example/data/contexts/c/responses/f%201", Properties: map[string]string{
		"authorization": "respond c f 1 did:web:them.example", "authType": "bearer", "refreshToken": "refresh for did:web:them.example",
		"expiresIn": "300", "refreshEndpoint": "https://dp.example/data/token"}}
	got, err := e.IssueResponse(t.Context(), &f)
	if diff := cmp.Diff(want, got); diff != "" || err != nil {
		t.Errorf("%v (-want +got):\n%s", err, diff)
	}
}
