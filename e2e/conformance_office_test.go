//go:build linux

package e2e_test

import (
	"crypto/tls"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// office is the side of a control plane that data planes call. It takes everything and remembers it, unless it is told to answer
// otherwise.
type office struct {
	url string
	// guard, if not nil, refuses a request with 401 by an error. It is set before the first request.
	guard func(*http.Request) error

	mu         sync.Mutex
	calls      []call
	scripts    map[string][]script // by kind and flow
	agreements map[string]string   // by flow
	violations []string
}

// call is a request of a data plane.
type call struct {
	kind   string // of a callback; register, deregister, agreement
	flow   string
	path   string // escaped
	header http.Header
	body   string
	code   int // that it was answered with
	at     time.Time

	MessageID   string       `json:"messageId"`
	DataFlowID  string       `json:"dataFlowId"`
	State       string       `json:"state"`
	Error       string       `json:"error"`
	DataAddress *dataAddress `json:"dataAddress"`
}

// script is an answer. 0 is a connection that breaks.
type script struct {
	code   int
	header http.Header
	body   string
}

// newOffice returns one that listens, with TLS if config is not nil.
func newOffice(t testing.TB, config *tls.Config, guard func(*http.Request) error) *office {
	t.Helper()
	o := &office{guard: guard, scripts: map[string][]script{}, agreements: map[string]string{}}
	o.url = listen(t, freeAddress(t), config, o)
	return o
}

// listen serves at an address until the test ends, and returns the URL.
func listen(t testing.TB, address string, config *tls.Config, h http.Handler) string {
	t.Helper()
	l, err := net.Listen("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	scheme := "http://"
	if config != nil {
		scheme, l = "https://", tls.NewListener(l, config)
	}
	server := &http.Server{Handler: h}
	var serving sync.WaitGroup
	serving.Go(func() { server.Serve(l) })
	t.Cleanup(func() {
		server.Close()
		serving.Wait()
	})
	return scheme + address
}

func (o *office) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	c := call{path: r.URL.EscapedPath(), header: r.Header, body: string(body), at: time.Now()}
	c.kind, c.flow = purpose(r)
	s := o.answerTo(r, &c)
	for name, values := range s.header {
		w.Header()[name] = values
	}
	if s.code == 0 {
		panic(http.ErrAbortHandler)
	}
	w.WriteHeader(s.code)
	io.WriteString(w, s.body)
}

// purpose says what a request is about: "" if a control plane has nothing of the kind.
func purpose(r *http.Request) (kind, flow string) {
	segments := strings.Split(strings.TrimPrefix(r.URL.EscapedPath(), "/"), "/")
	for i := range segments {
		segments[i], _ = url.PathUnescape(segments[i])
	}
	tail := segments[max(0, len(segments)-4):]
	switch {
	case r.Method == http.MethodPost && len(tail) == 4 && tail[0] == "transfers" && tail[2] == "dataflow":
		return tail[3], tail[1]
	case r.Method == http.MethodGet && len(tail) > 2 && tail[len(tail)-3] == "transfers" && tail[len(tail)-1] == "agreement":
		return "agreement", tail[len(tail)-2]
	case r.Method == http.MethodPut && tail[len(tail)-1] == "dataplanes":
		return "register", ""
	case r.Method == http.MethodDelete && len(tail) > 1 && tail[len(tail)-2] == "dataplanes":
		return "deregister", tail[len(tail)-1]
	}
	return "", ""
}

// answerTo records a request and decides on the answer.
func (o *office) answerTo(r *http.Request, c *call) script {
	o.mu.Lock()
	defer o.mu.Unlock()
	s := script{code: http.StatusOK}
	key := c.kind + " " + c.flow
	switch {
	case c.kind == "":
		o.violation(c, r.Method+": a control plane has nothing there")
		s.code = http.StatusNotFound
	case o.guard != nil && o.guard(r) != nil:
		s = script{code: http.StatusUnauthorized, body: o.guard(r).Error()}
	case len(o.scripts[key]) > 0:
		s, o.scripts[key] = o.scripts[key][0], o.scripts[key][1:]
	case c.kind == "deregister":
		s.code = http.StatusNoContent
	case c.kind == "agreement":
		if s.body = o.agreements[c.flow]; s.body == "" {
			s.code = http.StatusNotFound
		}
	}
	o.check(c)
	c.code = s.code
	o.calls = append(o.calls, *c)
	return s
}

// check notes what is wrong with a message.
func (o *office) check(c *call) {
	schema := map[string]string{
		"prepared": "DataFlowStatusMessage", "started": "DataFlowStatusMessage", "completed": "DataFlowStatusMessage",
		"errored": "DataFlowStatusMessage", "register": "DataPlaneRegistrationMessage",
	}[c.kind]
	if schema == "" {
		if c.kind != "agreement" && c.kind != "deregister" && c.kind != "" {
			o.violation(c, "there is no such callback")
		}
		return
	}
	if err := schemaError(schema, c.body); err != nil {
		o.violation(c, err.Error())
		return
	}
	if got := c.header.Get("Content-Type"); got != "application/json" {
		o.violation(c, "content type "+got)
	}
	if err := json.Unmarshal([]byte(c.body), c); err != nil {
		o.violation(c, err.Error())
	}
	if schema == "DataFlowStatusMessage" && (c.DataFlowID != c.flow || c.State == "INITIALIZED") {
		o.violation(c, "path and message do not fit")
	}
}

func (o *office) violation(c *call, text string) {
	o.violations = append(o.violations, c.kind+" "+c.path+": "+text+"\n"+c.body)
}

// expectNoViolations checks that all messages so far were valid.
func (o *office) expectNoViolations(t testing.TB) {
	t.Helper()
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, v := range o.violations {
		t.Error(v)
	}
}

// answer says how the next requests of a kind about a flow are answered. Those after them are taken.
func (o *office) answer(kind, flow string, codes ...int) {
	all := make([]script, len(codes))
	for i, code := range codes {
		all[i].code = code
	}
	o.script(kind, flow, all...)
}

func (o *office) script(kind, flow string, all ...script) {
	o.mu.Lock()
	defer o.mu.Unlock()
	key := kind + " " + flow
	o.scripts[key] = append(o.scripts[key], all...)
}

// agree says what the agreement of a flow is.
func (o *office) agree(flow, agreement string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.agreements[flow] = agreement
}

// about returns the requests about a flow, in the order in which they came.
func (o *office) about(flow string) []call {
	return o.those(func(c call) bool { return c.flow == flow })
}

// accepted returns the callbacks about a flow that were taken, in the order in which they came.
func (o *office) accepted(flow string) []call {
	return o.those(func(c call) bool { return c.flow == flow && c.code/100 == 2 && c.kind != "agreement" })
}

func (o *office) those(wanted func(call) bool) []call {
	o.mu.Lock()
	defer o.mu.Unlock()
	var found []call
	for _, c := range o.calls {
		if wanted(c) {
			found = append(found, c)
		}
	}
	return found
}

// expect waits until callbacks of these kinds about a flow were taken, and returns them. There must be no others.
func (o *office) expect(t testing.TB, flow string, kinds ...string) []call {
	t.Helper()
	var all []call
	soon(t, "callbacks about "+flow+": "+strings.Join(kinds, ", "), func() bool {
		all = o.accepted(flow)
		return len(all) >= len(kinds)
	})
	if got := kindsOf(all); !slices.Equal(got, kinds) {
		t.Fatalf("callbacks about %s are %v, not %v", flow, got, kinds)
	}
	return all
}

// awaitAttempts waits until there were so many requests of a kind about a flow, however they were answered, and returns them.
func (o *office) awaitAttempts(t testing.TB, kind, flow string, count int) []call {
	t.Helper()
	var all []call
	soon(t, kind+" about "+flow, func() bool {
		all = o.those(func(c call) bool { return c.kind == kind && c.flow == flow })
		return len(all) >= count
	})
	return all
}

func kindsOf(calls []call) []string {
	var kinds []string
	for _, c := range calls {
		kinds = append(kinds, c.kind)
	}
	return kinds
}
