package publicapi

import (
	"bufio"
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime/multipart"
	"net"
	"net/http"
	"net/textproto"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/towpath-dataplane/towpath/host/flow"
	"github.com/towpath-dataplane/towpath/sdk"
	"github.com/towpath-dataplane/towpath/sdk/sdktest"
)

func digestsOf(content string, algorithms ...sdk.Algorithm) sdk.Digests {
	d := sdk.NewDigester(algorithms...)
	io.WriteString(d, content)
	return d.Sum()
}

// wantPart checks the answer to an upload.
func (r response) wantPart(t *testing.T, status int, name, content string) {
	t.Helper()
	r.wantStatus(t, status)
	var got storedPart
	if err := json.Unmarshal(r.body, &got); err != nil {
		t.Fatalf("%s: %v", r.body, err)
	}
	want := storedPart{name, int64(len(content)), hexDigests(digestsOf(content, sdk.CRC32C))}
	if got.Digests["sha256"] != "" {
		want.Digests = hexDigests(digestsOf(content, sdk.CRC32C, sdk.SHA256))
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

// wantContent checks what the sink has.
func (w *world) wantContent(want map[string]string) {
	w.t.Helper()
	got := map[string]string{}
	for _, name := range w.memory.Names() {
		content, err := w.memory.Content(name)
		if err != nil {
			w.t.Fatal(err)
		}
		got[name] = string(content)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		w.t.Errorf("sink: %.500s", diff)
	}
}

func TestIngest(t *testing.T) {
	protocols(t, func(t *testing.T, start func(func(*world, *Options)) *world) {
		w := start(func(_ *world, o *Options) { o.Digests = []sdk.Algorithm{sdk.SHA256} })
		a := w.push("f")
		big := string(noise(3<<20+1, 1))
		res := w.put(a, "a/big%20one.bin", big, h("Content-Type", "text/plain", "Last-Modified", "Fri, 02 Jan 2026 03:04:05 GMT"))
		res.wantPart(t, http.StatusCreated, "a/big one.bin", big)
		if got := res.Header.Get("Location"); !strings.HasSuffix(got, "/ingest/f/a/big%20one.bin") {
			t.Errorf("Location %q", got)
		}
		info, err := w.memory.Info("a/big one.bin")
		if err != nil || info.MediaType != "text/plain" || info.Modified.Format(http.TimeFormat) != "Fri, 02 Jan 2026 03:04:05 GMT" {
			t.Errorf("%+v, %v", info, err)
		}
		post := func(content string, header map[string]string) response {
			return w.do(a, a.Endpoint, request{method: http.MethodPost, body: strings.NewReader(content), header: header})
		}
		post("second", h("Content-Disposition", `attachment; filename="b/c.txt"`)).wantPart(t, 201, "b/c.txt", "second")
		post("third", h("Content-Disposition", `attachment; filename=x; filename*=UTF-8''%C3%BC.txt`)).wantPart(t, 201, "ü.txt", "third")
		post("", nil).wantPart(t, 201, "part-3", "")
		w.wantContent(map[string]string{"a/big one.bin": big, "b/c.txt": "second", "ü.txt": "third", "part-3": ""})
		var names []string
		for i, p := range w.flows.recorded(key("f")) {
			if p.Index != uint64(i) || p.Digests[sdk.SHA256] == nil || p.Location == "" || p.Finished.IsZero() {
				t.Errorf("recorded %+v", p)
			}
			names = append(names, p.Name)
		}
		if diff := cmp.Diff([]string{"a/big one.bin", "b/c.txt", "ü.txt", "part-3"}, names); diff != "" {
			t.Error(diff)
		}
	})
}

// A flow takes data from the moment its address is out, which is before STARTED.
func TestIngestWhilePrepared(t *testing.T) {
	w := newWorld(t, nil)
	a := w.add(flow.Flow{Key: key("f"), Role: flow.Consumer, Direction: flow.Push, State: flow.Prepared})
	w.put(a, "a", "x", nil).wantStatus(t, http.StatusCreated)
}

func TestSendingAgain(t *testing.T) {
	w := newWorld(t, nil)
	a := w.push("f")
	w.put(a, "a", "content", nil).wantPart(t, http.StatusCreated, "a", "content")
	w.put(a, "a", "content", nil).wantPart(t, http.StatusOK, "a", "content")
	w.put(a, "a", "another", nil).wantStatus(t, http.StatusConflict)
	w.wantContent(map[string]string{"a": "content"})
	if got := w.flows.recorded(key("f")); len(got) != 1 || got[0].Index != 0 {
		t.Errorf("recorded %+v", got)
	}
	// Durable in the sink, but not recorded: the process was killed in between. The sender tries again.
	w.memory.Put("b", []byte("second"))
	w.put(a, "b", "second", nil).wantPart(t, http.StatusCreated, "b", "second")
}

func TestUploadsThatAreRefused(t *testing.T) {
	w := newWorld(t, func(_ *world, o *Options) { o.Limits.MaxPartSize, o.Limits.MaxParts = 10, 2 })
	a := w.push("f")
	digest := func(name, content string) string {
		d := digestsOf(content, sdk.CRC32C, sdk.SHA256)
		return name + "=:" + base64.StdEncoding.EncodeToString(d[map[string]sdk.Algorithm{"sha-256": sdk.SHA256, "crc32c": sdk.CRC32C}[name]]) + ":"
	}
	for _, tc := range []struct {
		name   string
		path   string
		header map[string]string
		body   string
		status int
	}{
		{"no name", "/", nil, "x", 400},
		{"name that climbs", "/..%2Fx", nil, "x", 400},
		{"name that climbs in the middle", "/a/..%2F..%2Fx", nil, "x", 400},
		{"absolute name", "/%2Fetc", nil, "x", 400},
		{"empty element", "/a//b", nil, "x", 400},
		{"backslash", "/a%5Cb", nil, "x", 400},
		{"control character", "/a%0Ab", nil, "x", 400},
		{"not UTF-8", "/a%FF", nil, "x", 400},
		{"long name", "/" + strings.Repeat("a", 1025), nil, "x", 400},
		{"encoded", "/a", h("Content-Encoding", "gzip"), "x", 415},
		{"piece", "/a", h("Content-Range", "bytes 0-0/2"), "x", 400},
		{"date", "/a", h("Last-Modified", "yesterday"), "x", 400},
		{"media type", "/a", h("Content-Type", "text"), "x", 0},
		{"broken media type", "/a", h("Content-Type", "text/plain; charset"), "x", 400},
		{"broken disposition", "/a", h("Content-Disposition", "attachment; filename=\"x"), "x", 400},
		{"wrong sha-256", "/a", h("Content-Digest", digest("sha-256", "y")), "x", 400},
		{"wrong crc32c", "/a", h("Repr-Digest", digest("crc32c", "y")), "x", 400},
		{"right and wrong", "/a", h("Content-Digest", digest("crc32c", "x")+", "+digest("sha-256", "y")), "x", 400},
		{"digests that contradict each other", "/a", h("Content-Digest", digest("crc32c", "x"), "Repr-Digest", digest("crc32c", "y")), "x", 400},
		{"digest that is none", "/a", h("Content-Digest", "sha-256=abc"), "x", 400},
		{"short digest", "/a", h("Content-Digest", "sha-256=:YWJj:"), "x", 400},
		{"too large", "/a", nil, strings.Repeat("x", 11), 413},
	} {
		t.Run(tc.name, func(t *testing.T) {
			res := w.do(a, a.Endpoint+tc.path, request{method: http.MethodPut, body: strings.NewReader(tc.body), header: tc.header})
			if tc.status == 0 {
				return
			}
			res.wantStatus(t, tc.status)
			// The same with a body of unknown length.
			body := io.MultiReader(strings.NewReader(tc.body))
			w.do(a, a.Endpoint+tc.path, request{method: http.MethodPut, body: body, header: tc.header}).wantStatus(t, tc.status)
		})
	}
	if strings.Contains(w.log.String(), "level=ERROR") {
		t.Errorf("mistakes of clients are logged as ours: %s", w.log)
	}
	if names := w.memory.Names(); len(names) > 1 {
		t.Errorf("the sink has %v", names)
	}
}

func TestDigestsThatAreRight(t *testing.T) {
	w := newWorld(t, nil)
	a := w.push("f")
	sum := func(content string, algorithm sdk.Algorithm) string {
		return base64.StdEncoding.EncodeToString(digestsOf(content, algorithm)[algorithm])
	}
	field := "unixsum=:AAA=:, crc32c=:" + sum("x", sdk.CRC32C) + ":;q=1,sha-256=:" + sum("x", sdk.SHA256) + ":"
	w.put(a, "a", "x", h("Content-Digest", field, "Repr-Digest", field)).wantStatus(t, http.StatusCreated)
	if got := w.flows.recorded(key("f")); len(got) != 1 || got[0].Digests[sdk.SHA256] == nil {
		t.Errorf("recorded %+v", got)
	}
	for content, status := range map[string]int{"right": http.StatusCreated, "wrong": http.StatusBadRequest} {
		r, err := http.NewRequest(http.MethodPut, a.Endpoint+"/trailer-"+content, io.MultiReader(strings.NewReader(content)))
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("Authorization", "Bearer "+a.Get("authorization"))
		r.Trailer = http.Header{"Content-Digest": {"sha-256=:" + sum("right", sdk.SHA256) + ":"}}
		res, err := w.client.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		res.Body.Close()
		if res.StatusCode != status {
			t.Errorf("%s digest in the trailer: %d", content, res.StatusCode)
		}
	}
}

func TestMaxParts(t *testing.T) {
	w := newWorld(t, func(_ *world, o *Options) { o.Limits.MaxParts = 2 })
	a := w.push("f")
	w.put(a, "a", "x", nil).wantStatus(t, 201)
	w.put(a, "b", "x", nil).wantStatus(t, 201)
	w.put(a, "c", "x", nil).wantStatus(t, 413)
	w.put(a, "a", "x", nil).wantStatus(t, 200)
	b := w.push("g")
	res := w.postMultipart(b, "form-data", []bodyPart{{`form-data; name=x; filename=g1`, "1", nil}, {`form-data; name=x; filename=g2`, "2", nil}, {`form-data; name=x; filename=g3`, "3", nil}})
	p := res.wantStatus(t, 413)
	if len(p.Stored) != 2 {
		t.Errorf("problem %s", res.body)
	}
}

// raw sends bytes as they are and returns the answer, nil if there is none.
func (w *world) raw(text string, then func(net.Conn)) *http.Response {
	w.t.Helper()
	c, err := net.Dial("tcp", w.server.Listener.Addr().String())
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() { c.Close() })
	if _, err := io.WriteString(c, text); err != nil {
		w.t.Fatal(err)
	}
	if then != nil {
		then(c)
	}
	res, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		return nil
	}
	return res
}

func putHeader(a sdk.DataAddress, name, more string) string {
	return fmt.Sprintf("PUT /ingest/f/%s HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer %s\r\n%s\r\n", name, a.Get("authorization"), more)
}

// An upload that breaks off leaves nothing that can be seen.
func TestUploadCutInTheMiddle(t *testing.T) {
	w := newWorld(t, nil)
	a := w.push("f")
	closeWrite := func(c net.Conn) { c.(*net.TCPConn).CloseWrite() }
	for name, text := range map[string]string{
		"length":    putHeader(a, "length", "Content-Length: 10\r\n") + "12345",
		"chunks":    putHeader(a, "chunks", "Transfer-Encoding: chunked\r\n") + "5\r\n12345\r\n",
		"chunk":     putHeader(a, "chunk", "Transfer-Encoding: chunked\r\n") + "5\r\n123",
		"malformed": putHeader(a, "malformed", "Transfer-Encoding: chunked\r\n") + "5\r\n12345\r\nzz\r\n",
	} {
		res := w.raw(text, closeWrite)
		if res == nil || res.StatusCode != http.StatusBadRequest || !res.Close {
			t.Errorf("%s: %+v", name, res)
			continue
		}
		if again := res.Header.Get("Retry-After"); (again == "") != (name == "malformed") {
			t.Errorf("%s: Retry-After %q", name, again)
		}
	}
	reset := w.raw(putHeader(a, "reset", "Content-Length: 10\r\n")+"12345", func(c net.Conn) {
		c.(*net.TCPConn).SetLinger(0)
		c.Close()
	})
	if reset != nil {
		t.Errorf("reset: %+v", reset)
	}
	w.server.Close() // waits for the requests
	w.wantContent(map[string]string{})
	if got := w.flows.recorded(key("f")); len(got) > 0 {
		t.Errorf("recorded %+v", got)
	}
	if strings.Contains(w.log.String(), "level=ERROR") {
		t.Errorf("logged %s", w.log)
	}
}

func TestUploadThatStalls(t *testing.T) {
	w := newWorld(t, func(_ *world, o *Options) { o.Limits.IdleTimeout = 20 * time.Millisecond })
	a := w.push("f")
	res := w.raw(putHeader(a, "a", "Content-Length: 10\r\n")+"12345", nil)
	if res == nil || res.StatusCode != http.StatusRequestTimeout || !res.Close {
		t.Errorf("%+v", res)
	}
}

func TestContinueComesAfterTheChecks(t *testing.T) {
	w := newWorld(t, func(_ *world, o *Options) { o.Limits.MaxPartSize = 10 })
	a := w.push("f")
	expect := "Expect: 100-continue\r\n"
	if res := w.raw(putHeader(a, "a", "Content-Length: 11\r\n"+expect), nil); res == nil || res.StatusCode != 413 {
		t.Errorf("too large: %+v", res)
	}
	if res := w.raw(putHeader(a, "..%2Fa", "Content-Length: 1\r\n"+expect), nil); res == nil || res.StatusCode != 400 {
		t.Errorf("name: %+v", res)
	}
	if res := w.raw(putHeader(sdk.DataAddress{}, "a", "Content-Length: 1\r\n"+expect), nil); res == nil || res.StatusCode != 401 {
		t.Errorf("token: %+v", res)
	}
	if res := w.raw(putHeader(a, "a", "Content-Length: 1\r\n"+expect), nil); res == nil || res.StatusCode != 100 {
		t.Errorf("good: %+v", res)
	}
}

// A sink that fails while the client is still sending is told to the client at once.
func TestSinkFailures(t *testing.T) {
	for _, tc := range []struct {
		err    error
		status int
	}{
		{sdk.Errorf(sdk.Exhausted, "inside"), http.StatusInsufficientStorage},
		{sdk.Errorf(sdk.Conflict, "inside"), http.StatusConflict},
		{sdk.Retryf(sdk.Unavailable, "inside"), http.StatusServiceUnavailable},
		{sdk.Errorf(sdk.Denied, "inside"), http.StatusBadGateway},
		{sdk.Errorf(sdk.Corrupt, "inside"), http.StatusBadGateway},
		{errors.New("inside"), http.StatusBadGateway},
	} {
		w := newWorld(t, func(w *world, _ *Options) { w.memory.Writing = sdktest.FailAfter(1, tc.err) })
		a := w.push("f")
		body, pipe := io.Pipe() // is never closed: the server has to end this
		go pipe.Write(noise(sdk.BufferSize, 1))
		res := w.do(a, a.Endpoint+"/a", request{method: http.MethodPut, body: body})
		pipe.Close()
		res.wantStatus(t, tc.status)
		if strings.Contains(string(res.body), "inside") {
			t.Errorf("the body has internal text: %s", res.body)
		}
		w.wantContent(map[string]string{})
	}
}

func TestSuspendCutsIngest(t *testing.T) {
	w := newWorld(t, nil)
	a := w.push("f")
	body, pipe := io.Pipe()
	defer pipe.Close()
	go func() {
		pipe.Write(noise(2<<20, 1))
		w.flows.stop(key("f"), flow.Suspended)
	}()
	res := w.do(a, a.Endpoint+"/a", request{method: http.MethodPut, body: body})
	res.wantStatus(t, http.StatusForbidden)
	if !res.Close {
		t.Error("the connection stays open")
	}
	w.wantContent(map[string]string{})
	if got := w.flows.recorded(key("f")); len(got) > 0 {
		t.Errorf("recorded %+v", got)
	}
}

// A suspend ends a request that waits for a sink that does not move.
func TestSuspendCutsIngestBeforeStuckSink(t *testing.T) {
	gate := sdktest.NewGate(1)
	w := newWorld(t, func(w *world, _ *Options) { w.memory.Writing = gate.Hook })
	a := w.push("f")
	go func() {
		<-gate.Reached()
		w.flows.stop(key("f"), flow.Terminated)
	}()
	w.put(a, "a", string(noise(4<<20, 1)), nil).wantStatus(t, http.StatusForbidden)
}

func TestOneUploadOfAPartAtATime(t *testing.T) {
	gate := sdktest.NewGate(1)
	w := newWorld(t, func(w *world, _ *Options) { w.memory.Writing = gate.Hook })
	a := w.push("f")
	first := make(chan response)
	go func() { first <- w.put(a, "a", "content", nil) }()
	<-gate.Reached()
	res := w.put(a, "a", "content", nil)
	res.wantStatus(t, http.StatusConflict)
	if res.Header.Get("Retry-After") == "" {
		t.Error("no Retry-After")
	}
	w.manifest(a, `{"parts":[]}`).wantStatus(t, http.StatusConflict)
	gate.Open()
	(<-first).wantStatus(t, http.StatusCreated)
	w.put(a, "a", "content", nil).wantStatus(t, http.StatusOK)
}

// bodyPart is a part of a multipart body.
type bodyPart struct {
	disposition, content string
	header               map[string]string
}

func (w *world) postMultipart(a sdk.DataAddress, subtype string, parts []bodyPart) response {
	w.t.Helper()
	var body bytes.Buffer
	mw := multipart.NewWriter(&body)
	for _, p := range parts {
		header := textproto.MIMEHeader{}
		if p.disposition != "" {
			header.Set("Content-Disposition", p.disposition)
		}
		for name, value := range p.header {
			header.Set(name, value)
		}
		part, err := mw.CreatePart(header)
		if err != nil {
			w.t.Fatal(err)
		}
		io.WriteString(part, p.content)
	}
	mw.Close()
	return w.do(a, a.Endpoint, request{method: http.MethodPost, body: &body,
		header: h("Content-Type", "multipart/"+subtype+"; boundary="+mw.Boundary())})
}

func TestMultipartIngest(t *testing.T) {
	w := newWorld(t, nil)
	a := w.push("f")
	big := string(noise(1<<20, 1))
	parts := []bodyPart{
		{`form-data; name="x"; filename="dir/a"`, big, h("Content-Type", "text/plain", "Content-Length", "1048576")},
		{`form-data; name="field"`, "value", nil},
		{``, "", nil},
		{`attachment; filename=q`, "=41=\r\n--\r\n", h("Content-Transfer-Encoding", "8bit")},
	}
	res := w.postMultipart(a, "form-data", parts)
	res.wantStatus(t, http.StatusCreated)
	w.wantContent(map[string]string{"dir/a": big, "field": "value", "part-2": "", "q": "=41=\r\n--\r\n"})
	var got struct{ Parts []storedPart }
	if err := json.Unmarshal(res.body, &got); err != nil || len(got.Parts) != 4 {
		t.Errorf("%s, %v", res.body, err)
	}
	w.postMultipart(a, "mixed", parts[:2]).wantStatus(t, http.StatusOK)
}

func TestMultipartThatIsRefused(t *testing.T) {
	for _, tc := range []struct {
		name   string
		parts  []bodyPart
		status int
		stored int
	}{
		{"nothing", nil, 400, 0},
		{"encoded part", []bodyPart{{"attachment; filename=a", "x", nil}, {"attachment; filename=b", "eA==", h("Content-Transfer-Encoding", "base64")}}, 415, 1},
		{"shorter than announced", []bodyPart{{"attachment; filename=a", "x", h("Content-Length", "2")}}, 400, 0},
		{"longer than announced", []bodyPart{{"attachment; filename=a", "xyz", h("Content-Length", "2")}}, 400, 0},
		{"length that is none", []bodyPart{{"attachment; filename=a", "xyz", h("Content-Length", "-3")}}, 400, 0},
		{"wrong digest", []bodyPart{{"attachment; filename=a", "x", h("Content-Digest", "crc32c=:AAAAAA==:")}}, 400, 0},
		{"name that climbs", []bodyPart{{"attachment; filename=a", "x", nil}, {`attachment; filename="../b"`, "x", nil}}, 400, 1},
	} {
		t.Run(tc.name, func(t *testing.T) {
			w := newWorld(t, nil)
			a := w.push("f")
			res := w.postMultipart(a, "mixed", tc.parts)
			if p := res.wantStatus(t, tc.status); len(p.Stored) != tc.stored {
				t.Errorf("%s", res.body)
			}
			if n := len(w.memory.Names()); n != tc.stored {
				t.Errorf("%d parts in the sink", n)
			}
		})
	}
	w := newWorld(t, nil)
	a := w.push("f")
	post := func(body string, header map[string]string) response {
		return w.do(a, a.Endpoint, request{method: http.MethodPost, body: strings.NewReader(body), header: header})
	}
	post("--b\r\n\r\nwhole\r\n--b\r\n\r\nhalf", h("Content-Type", "multipart/mixed; boundary=b")).wantStatus(t, http.StatusBadRequest)
	w.wantContent(map[string]string{"part-0": "whole"})
	post("--b\r\n\r\nx\r\n--b--", h("Content-Type", "multipart/mixed; boundary=b", "Content-Digest", "crc32c=:AAAAAA==:")).wantStatus(t, 400)
	post("--b\r\n\r\nx\r\n--b--", h("Content-Type", "multipart/mixed; boundary=b", "Content-Encoding", "gzip")).wantStatus(t, 415)
}

func TestFlowServiceFails(t *testing.T) {
	w := newWorld(t, nil)
	a := w.push("f")
	w.flows.breakDown(errors.New("disk full"))
	p := w.put(a, "a", "x", nil).wantStatus(t, http.StatusInternalServerError)
	if !strings.HasPrefix(p.Instance, "urn:uuid:") || !strings.Contains(w.log.String(), p.Instance) {
		t.Errorf("problem %+v, log %s", p, w.log)
	}
	w.manifest(a, `{"parts":[]}`).wantStatus(t, http.StatusInternalServerError)

	w.flows.breakDown(fmt.Errorf("disk full: %w", flow.ErrStorage))
	res := w.put(a, "b", "x", nil)
	if p := res.wantStatus(t, http.StatusServiceUnavailable); res.Header.Get("Retry-After") == "" || !strings.Contains(w.log.String(), p.Instance) {
		t.Errorf("problem %+v, header %v", p, res.Header)
	}
}
