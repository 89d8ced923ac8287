//go:build linux

package e2e_test

import (
	"bytes"
	"cmp"
	"encoding/json"
	"io"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"
)

// caller is a control plane that calls a data plane, on behalf of one rule. Whatever it is answered has to be a valid message.
type caller struct {
	t    testing.TB
	host *host
	base string // URL before /dataflows
	http *http.Client
	// office is where this control plane is called.
	office     *office
	adminToken string
	// authorize adds credentials to a request. nil: none.
	authorize func(*http.Request)
}

// reply is what was answered to a request.
type reply struct {
	code   int
	header http.Header
	text   string

	// Of a status message:
	MessageID   string       `json:"messageId"`
	DataFlowID  string       `json:"dataFlowId"`
	State       string       `json:"state"`
	DataAddress *dataAddress `json:"dataAddress"`
	Error       string       `json:"error"`
	// Of a problem:
	Type   string `json:"type"`
	Detail string `json:"detail"`
	Field  string `json:"field"`
}

// do sends a request that is given whole, and returns the answer unchecked.
func (c *caller) do(req *http.Request) reply {
	c.t.Helper()
	if c.authorize != nil {
		c.authorize(req)
	}
	resp, err := cmp.Or(c.http, client).Do(req)
	if err != nil {
		c.t.Fatalf("%s %s: %v", req.Method, req.URL, err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		c.t.Fatalf("%s %s: %v", req.Method, req.URL, err)
	}
	r := reply{code: resp.StatusCode, header: resp.Header, text: string(text)}
	if strings.Contains(r.header.Get("Content-Type"), "json") && req.Method != http.MethodHead {
		if err := json.Unmarshal(text, &r); err != nil {
			c.t.Errorf("%s %s: the answer is not JSON: %v: %s", req.Method, req.URL, err, text)
		}
	}
	return r
}

// send sends a request to the signaling API and checks the answer against its OpenAPI document and the schemas. body is a string,
// which is sent as it is, or something that is sent as JSON; nil is no body.
func (c *caller) send(method, path string, body any) reply {
	c.t.Helper()
	return c.sendAs(method, path, body, "application/json")
}

func (c *caller) sendAs(method, path string, body any, contentType string) reply {
	c.t.Helper()
	req := newRequest(c.t, method, c.base+path, body)
	if contentType != "" && body != nil {
		req.Header.Set("Content-Type", contentType)
	}
	r := c.do(req)
	documents(c.t).signaling.check(c.t, c.base, req, r)
	c.checkMessage(method, path, r)
	return r
}

func newRequest(t testing.TB, method, url string, body any) *http.Request {
	t.Helper()
	var content io.Reader
	switch body := body.(type) {
	case nil:
	case string:
		content = strings.NewReader(body)
	default:
		text, err := json.Marshal(body)
		if err != nil {
			t.Fatal(err)
		}
		content = bytes.NewReader(text)
	}
	req, err := http.NewRequest(method, url, content)
	if err != nil {
		t.Fatal(err)
	}
	return req
}

// checkMessage checks the body of an answer by what kind of answer it is.
func (c *caller) checkMessage(method, path string, r reply) {
	c.t.Helper()
	about := strings.Contains(path, "/dataflows")
	switch {
	case r.code >= 500:
		c.t.Errorf("%s %s: %d %s", method, path, r.code, r.text)
	case r.code >= 400:
		if got := r.header.Get("Content-Type"); got != "application/problem+json" {
			c.t.Errorf("%s %s: %d with content type %q", method, path, r.code, got)
		}
		if method != http.MethodHead {
			checkSchema(c.t, "Problem", r.text)
		}
	case r.State == "INITIALIZED":
		c.t.Errorf("%s %s: %s", method, path, r.text)
	case about && method == http.MethodGet:
		checkSchema(c.t, "DataFlowStatusResponseMessage", r.text)
	case about && method == http.MethodPost:
		checkSchema(c.t, "DataFlowStatusMessage", r.text)
		c.checkLocation(path, r)
	}
}

// checkLocation checks that 202 goes with a state that is passing and the place where to ask again, and 200 with neither.
func (c *caller) checkLocation(path string, r reply) {
	c.t.Helper()
	passing := strings.HasSuffix(r.State, "ING")
	if passing != (r.code == http.StatusAccepted) || passing != (r.header.Get("Location") != "") {
		c.t.Errorf("%s: %d, state %s, Location %q", path, r.code, r.State, r.header.Get("Location"))
	}
}

// signal sends a signal that has to be taken. m is nil for a message with nothing but its id.
func (c *caller) signal(path string, m any) reply {
	c.t.Helper()
	r := c.post(path, m)
	if r.code != http.StatusOK && r.code != http.StatusAccepted {
		c.t.Fatalf("%s: %d %s", path, r.code, r.text)
	}
	return r
}

// post sends a signal, whatever comes of it.
func (c *caller) post(path string, m any) reply {
	c.t.Helper()
	if m == nil {
		m = message{"messageId": newID()}
	}
	return c.send(http.MethodPost, "/dataflows/"+path, m)
}

// refuse sends a signal that has to be refused with a code.
func (c *caller) refuse(code int, path string, m any) reply {
	c.t.Helper()
	r := c.post(path, m)
	if r.code != code {
		c.t.Errorf("%s: %d %s, not %d", path, r.code, r.text, code)
	}
	return r
}

// status asks for the state of a flow.
func (c *caller) status(id string) reply {
	c.t.Helper()
	return c.send(http.MethodGet, "/dataflows/"+url.PathEscape(id)+"/status", nil)
}

func (c *caller) expectState(id, want string) {
	c.t.Helper()
	if r := c.status(id); r.State != want || r.DataFlowID != id {
		c.t.Errorf("flow %s is not %s: %d %s", id, want, r.code, r.text)
	}
}

func (c *caller) awaitState(id, want string) {
	c.t.Helper()
	soon(c.t, "flow "+id+" is "+want, func() bool { return c.status(id).State == want })
}

// with returns a message with other members. A nil value removes one.
func (m message) with(changes message) message {
	n := maps.Clone(m)
	for name, value := range changes {
		if value == nil {
			delete(n, name)
		} else {
			n[name] = value
		}
	}
	return n
}

// again returns the same message with an id of its own.
func (m message) again() message { return m.with(message{"messageId": newID()}) }

// flow names a flow for a rule, and creates it.
type flowOf struct {
	*caller
	id     string
	create message
	reply  reply
}

// newFlow returns a flow that does not exist yet.
func (c *caller) newFlow(profile, dataset string, address *dataAddress) *flowOf {
	id := "flow-" + strings.ToLower(newID()[:12])
	return &flowOf{caller: c, id: id, create: creation(id, profile, dataset, address)}
}

// prepare and start create the flow.
func (f *flowOf) prepare() *flowOf { return f.begin("prepare") }
func (f *flowOf) start() *flowOf   { return f.begin("start") }

func (f *flowOf) begin(op string) *flowOf {
	f.t.Helper()
	f.reply = f.signal(op, f.create)
	if f.reply.DataFlowID != f.id {
		f.t.Errorf("%s of %s is answered for %q", op, f.id, f.reply.DataFlowID)
	}
	return f
}

// tell sends the flow a signal, which has to be taken; changes are members of its message.
func (f *flowOf) tell(op string, changes message) reply {
	f.t.Helper()
	f.reply = f.signal(f.id+"/"+op, message{"messageId": newID()}.with(changes))
	return f.reply
}

func (f *flowOf) expect(state string) { f.t.Helper(); f.expectState(f.id, state) }
func (f *flowOf) await(state string)  { f.t.Helper(); f.awaitState(f.id, state) }

// request makes a request with a token, and returns the answer whole.
func (c *caller) request(method, url, token, content string) reply {
	c.t.Helper()
	req := newRequest(c.t, method, url, nil)
	if content != "" {
		req = newRequest(c.t, method, url, content)
	}
	if token != "" {
		req.Header.Set("Authorization", "Bearer "+token)
	}
	resp, err := cmp.Or(c.http, client).Do(req)
	if err != nil {
		c.t.Fatalf("%s %s: %v", method, url, err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		c.t.Fatalf("%s %s: %v", method, url, err)
	}
	r := reply{code: resp.StatusCode, header: resp.Header, text: string(text)}
	if public := c.host.variable("E2E_PUBLIC_URL"); strings.HasPrefix(url, public+"/") {
		documents(c.t).public.check(c.t, public, req, r)
	}
	return r
}

// expectReads checks what a counterparty gets that reads from an address.
func (c *caller) expectReads(a *dataAddress, want ...int) {
	c.t.Helper()
	if a == nil {
		c.t.Fatal("there is no address")
	}
	r := c.request(http.MethodHead, a.Endpoint, a.token(), "")
	if !slices.Contains(want, r.code) {
		c.t.Errorf("HEAD %s: %d, not %v", a.Endpoint, r.code, want)
	}
}

// lookup returns a property of an address, and whether it is there.
func (a *dataAddress) lookup(name string) (string, bool) {
	if a == nil {
		return "", false
	}
	for _, p := range a.EndpointProperties {
		if p.Name == name {
			return p.Value, true
		}
	}
	return "", false
}

// withProperties returns the address with properties.
func (a *dataAddress) withProperties(pairs ...string) *dataAddress {
	b := *a
	b.EndpointProperties = slices.Clone(a.EndpointProperties)
	for i := 0; i < len(pairs); i += 2 {
		b.EndpointProperties = append(b.EndpointProperties, endpointProperty{"EndpointProperty", pairs[i], pairs[i+1]})
	}
	return &b
}

// within is how long the tests of rules wait for what a data plane does by itself.
const within = time.Minute

// soon waits until done returns true. It is eventually with less patience: rules are many.
func soon(t testing.TB, what string, done func() bool) {
	t.Helper()
	deadline := time.Now().Add(within)
	for !done() {
		if time.Now().After(deadline) {
			t.Fatalf("did not happen within %v: %s", within, what)
		}
		time.Sleep(10 * time.Millisecond)
	}
}
