//go:build linux

package e2e_test

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"
)

// proxyWorld is a provider's host with an HTTP server behind it, and flows at each of its datasets: the host's own, and those that are
// proxied as far as their names say.
type proxyWorld struct {
	t       *testing.T
	host    *host
	backend *backend
}

func newProxyWorld(t *testing.T) *proxyWorld {
	w := &proxyWorld{t: t, backend: &backend{held: make(chan struct{})}}
	url := serve(t, w.backend.ServeHTTP)
	var blocks strings.Builder
	for name, properties := range map[string]string{
		"plain":  "",
		"all":    "proxyMethod = true\nproxyPath = true\nproxyQueryParams = true\nproxyBody = true",
		"path":   "proxyPath = true",
		"query":  "proxyQueryParams = true\nqueryParams = \"own=1\"",
		"method": "proxyMethod = true",
	} {
		fmt.Fprintf(&blocks, "dataset %q {\n  source \"HttpData\" {\n    baseUrl = \"%s/base\"\n    authKey = \"Authorization\"\n    authCode = \"of the backend\"\n%s\n  }\n}\n",
			name, url, properties)
	}
	blocks.WriteString("dataset \"nobody\" {\n  source \"HttpData\" {\n    baseUrl = \"http://" + freeAddress(t) + "\"\n  }\n}\n")
	for status := range map[int]bool{401: true, 403: true, 404: true, 429: true, 500: true, 503: true} {
		fmt.Fprintf(&blocks, "dataset \"plain-%d\" {\n  source \"HttpData\" {\n    baseUrl = \"%s/base/status/%d\"\n  }\n}\n", status, url, status)
	}
	w.host = newHost(t, "provider", blocks.String())
	w.host.start()
	return w
}

// pull starts a flow and returns its address.
func (w *proxyWorld) pull(id, dataset string) *dataAddress {
	w.t.Helper()
	return w.host.signal("start", creation(id, "http-pull", dataset, nil)).DataAddress
}

// said is an answer that was read to its end.
type said struct {
	*http.Response
	body []byte
	err  error
}

// ask sends a request with the token of an address. Header fields are given by name and value.
func (w *proxyWorld) ask(a *dataAddress, method, path string, body io.Reader, header ...string) said {
	w.t.Helper()
	r := w.request(a, method, path, body, header...)
	res, err := client.Transport.RoundTrip(r)
	if err != nil {
		w.t.Fatalf("%s %s: %v", method, path, err)
	}
	defer res.Body.Close()
	content, err := io.ReadAll(res.Body)
	return said{res, content, err}
}

func (w *proxyWorld) request(a *dataAddress, method, path string, body io.Reader, header ...string) *http.Request {
	w.t.Helper()
	ctx, cancel := context.WithTimeout(w.t.Context(), patience)
	w.t.Cleanup(cancel)
	r, err := http.NewRequestWithContext(ctx, method, a.Endpoint+path, body)
	if err != nil {
		w.t.Fatal(err)
	}
	r.Header.Set("Authorization", "Bearer "+a.token())
	for i := 0; i < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	return r
}

func (s said) want(t *testing.T, status int, body string) {
	t.Helper()
	if s.StatusCode != status || s.err != nil || body != "" && string(s.body) != body {
		t.Errorf("%d %.200q, %v; want %d %.200q", s.StatusCode, s.body, s.err, status, body)
	}
}

// backend is the HTTP server of an asset. Below /base it has
//
//	/status/{code}  that answer
//	/file           content with a validator, and ranges
//	/events         server-sent events: one, and another when held is closed
//	/echo           what comes, as it comes
//	/sum            the digest of what comes
//	/half           half an answer
//	any other       what it was asked
type backend struct {
	held chan struct{}

	mu   sync.Mutex // guards seen
	seen []string   // requests
}

const fileContent = "0123456789"

func (b *backend) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	b.mu.Lock()
	b.seen = append(b.seen, r.Method+" "+r.RequestURI)
	b.mu.Unlock()
	flush := http.NewResponseController(w)
	flush.EnableFullDuplex()
	path, _ := strings.CutPrefix(r.URL.Path, "/base")
	switch {
	case strings.HasPrefix(path, "/status/"):
		var status int
		fmt.Sscanf(path, "/status/%d", &status)
		w.Header().Set("X-Reason", "because")
		w.Header().Set("Location", "/base/elsewhere")
		w.Header().Set("Retry-After", "7")
		w.WriteHeader(status)
		fmt.Fprintf(w, "the backend says %d", status)
	case path == "/file":
		w.Header().Set("Etag", `"v1"`)
		http.ServeContent(w, r, "", time.Time{}, strings.NewReader(fileContent))
	case path == "/events":
		w.Header().Set("Content-Type", "text/event-stream")
		io.WriteString(w, "data: 1\n\n")
		flush.Flush()
		<-b.held
		io.WriteString(w, "data: 2\n\n")
	case path == "/echo":
		flush.Flush()
		io.Copy(flushing{w, flush}, r.Body)
	case path == "/sum":
		sum := sha256.New()
		n, err := io.Copy(sum, r.Body)
		fmt.Fprintf(w, "%d %x %v %s", n, sum.Sum(nil), err, r.Header.Get("Content-Type"))
	case path == "/half":
		w.Header().Set("Content-Length", "100")
		io.WriteString(w, "half")
		flush.Flush()
		panic(http.ErrAbortHandler)
	default:
		body, _ := io.ReadAll(r.Body)
		w.Header().Set("X-Accept", r.Header.Get("Accept"))
		w.Header().Set("X-Credentials", r.Header.Get("Authorization")+r.Header.Get("Cookie"))
		fmt.Fprintf(w, "%s %s %q", r.Method, r.RequestURI, body)
	}
}

func (b *backend) requests() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return strings.Join(b.seen, "\n")
}

type flushing struct {
	io.Writer
	*http.ResponseController
}

func (f flushing) Write(p []byte) (int, error) {
	n, err := f.Writer.Write(p)
	f.Flush()
	return n, err
}

// What users of EDC's data plane complain about does not happen here. Each test is named after what should be, with the issue that asks
// for it.
func TestProxy(t *testing.T) {
	t.Parallel()
	w := newProxyWorld(t)
	all := w.pull("all", "all")
	for name, test := range map[string]func(*testing.T, *proxyWorld, *dataAddress){
		"BackendNotFoundIsNotAnInternalError": backendNotFoundIsNotAnInternalError,
		"StatusAndHeadersComeBack":            statusAndHeadersComeBack,
		"HTTPIsProxied":                       httpIsProxied,
		"RequestHeadersAreForwarded":          requestHeadersAreForwarded,
		"EscapedSlashStaysEscaped":            escapedSlashStaysEscaped,
		"NothingLeaksIntoThePath":             nothingLeaksIntoThePath,
		"PathIsPassed":                        pathIsPassed,
		"MethodIsPassed":                      methodIsPassed,
		"QueryStaysEncoded":                   queryStaysEncoded,
		"BinaryBodiesStayWhole":               binaryBodiesStayWhole,
		"RangesAndConditionsReachTheBackend":  rangesAndConditionsReachTheBackend,
		"LargeBodiesAreNotHeldInMemory":       largeBodiesAreNotHeldInMemory,
		"EventsComeAsTheyHappen":              eventsComeAsTheyHappen,
		"HalfIsNotTakenForWhole":              halfIsNotTakenForWhole,
		"RawTokenIsTaken":                     rawTokenIsTaken,
		"StreamsBothWaysOverHTTP2":            streamsBothWaysOverHTTP2,
		"PullResumes":                         pullResumes,
		"TokenDiesWithTheFlow":                tokenDiesWithTheFlow,
	} {
		t.Run(name, func(t *testing.T) { test(t, &proxyWorld{t, w.host, w.backend}, all) })
	}
}

// eclipse-edc/Connector#2599: a 4xx of the backend became a 500. Without proxy flags, the client is told what is wrong, with what it may
// know of it; with them, the answer is the backend's.
func backendNotFoundIsNotAnInternalError(t *testing.T, w *proxyWorld, all *dataAddress) {
	for status, want := range map[int]int{404: 404, 401: 502, 403: 502, 500: 503, 503: 503, 429: 503} {
		a := w.pull(fmt.Sprint("plain-", status), fmt.Sprint("plain-", status))
		got := w.ask(a, "GET", "", nil)
		got.want(t, want, "")
		if want == 503 && got.Header.Get("Retry-After") != "7" {
			t.Errorf("%d: Retry-After %q", status, got.Header.Get("Retry-After"))
		}
		w.ask(all, "GET", fmt.Sprint("/status/", status), nil).want(t, status, fmt.Sprint("the backend says ", status))
	}
	w.ask(w.pull("nobody", "nobody"), "GET", "", nil).want(t, 503, "")
}

// eclipse-tractusx/tractusx-edc#1850, #1780: no status and no header of the backend came back.
func statusAndHeadersComeBack(t *testing.T, w *proxyWorld, all *dataAddress) {
	for _, status := range []int{200, 201, 202, 204, 301, 307, 304, 409, 418, 422, 501} {
		got := w.ask(all, "GET", fmt.Sprint("/status/", status), nil)
		if got.StatusCode != status || got.Header.Get("X-Reason") != "because" || got.Header.Get("Location") != "/base/elsewhere" {
			t.Errorf("%d: %d %v", status, got.StatusCode, got.Header)
		}
	}
	if requests := w.backend.requests(); strings.Contains(requests, "elsewhere") {
		t.Error("a redirect was followed")
	}
}

// eclipse-edc/Connector#4791, #4805, #4823: HTTP proxying is out of scope there.
func httpIsProxied(t *testing.T, w *proxyWorld, all *dataAddress) {
	for _, method := range []string{"GET", "POST", "PUT", "DELETE", "PATCH", "OPTIONS"} {
		w.ask(all, method, "/api/items/7?x=1", strings.NewReader("content")).want(t, 200, method+` /base/api/items/7?x=1 "content"`)
	}
	if got := w.ask(all, "HEAD", "/file", nil); got.StatusCode != 200 || got.ContentLength != int64(len(fileContent)) || got.Header.Get("Etag") == "" {
		t.Errorf("HEAD: %d %v", got.StatusCode, got.Header)
	}
}

// eclipse-edc/Connector#3413: forwarding request headers was refused. Those of content and negotiation go on, credentials never.
func requestHeadersAreForwarded(t *testing.T, w *proxyWorld, all *dataAddress) {
	got := w.ask(all, "GET", "/x", nil, "Accept", "text/turtle", "Cookie", "a=b")
	if got.Header.Get("X-Accept") != "text/turtle" || got.Header.Get("X-Credentials") != "of the backend" {
		t.Errorf("%v", got.Header)
	}
}

// eclipse-edc/Connector#3862: %2F in a path was decoded.
func escapedSlashStaysEscaped(t *testing.T, w *proxyWorld, all *dataAddress) {
	for _, path := range []string{"/a%2Fb", "/a%2fb//c", "/%20/%C3%BC/%25", "/x;y=1/@:!$&'()*+,=", "/a/", "//"} {
		w.ask(all, "GET", path, nil).want(t, 200, "GET /base"+path+` ""`)
	}
	conn, err := net.Dial("tcp", strings.TrimPrefix(w.host.public, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	fmt.Fprintf(conn, "GET /flows/all/a%%2Fb|ü HTTP/1.1\r\nHost: x\r\nConnection: close\r\nAuthorization: %s\r\n\r\n", all.token())
	res, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		t.Fatal(err)
	}
	if body, _ := io.ReadAll(res.Body); string(body) != `GET /base/a%2Fb%7C%C3%BC ""` {
		t.Errorf("%s", body)
	}
}

// eclipse-edc/Connector#4072: "v2" of the API's own path reached the backend.
func nothingLeaksIntoThePath(t *testing.T, w *proxyWorld, all *dataAddress) {
	w.ask(all, "GET", "", nil).want(t, 200, `GET /base ""`)
	w.ask(all, "GET", "/parts/x", nil).want(t, 200, `GET /base/parts/x ""`)
	for _, path := range []string{"/../x", "/a/%2e%2e/x", "/..;/x", "/a%5c..%5cx"} {
		w.ask(all, "GET", path, nil).want(t, 400, "")
	}
}

// eclipse-edc/Connector#881: the path was not passed at all. Where the address does not let one through, it is not taken for another.
func pathIsPassed(t *testing.T, w *proxyWorld, _ *dataAddress) {
	a := w.pull("path", "path")
	w.ask(a, "GET", "/a/b?q=1", nil).want(t, 200, `GET /base/a/b ""`)
	w.ask(a, "PUT", "/a/b", nil).want(t, 405, "")
	w.ask(a, "GET", "/a/b", strings.NewReader("x")).want(t, 400, "")
	w.ask(w.pull("plain", "plain"), "GET", "/a/b", nil).want(t, 404, "")
}

// eclipse-edc/Connector#4070: proxyMethod was ignored.
func methodIsPassed(t *testing.T, w *proxyWorld, _ *dataAddress) {
	a := w.pull("method", "method")
	w.ask(a, "DELETE", "?q=1", nil).want(t, 200, `DELETE /base ""`)
	w.ask(a, "DELETE", "/a", nil).want(t, 404, "")
	w.ask(w.pull("plain-method", "plain"), "DELETE", "", nil).want(t, 405, "")
}

// EDC joins the values of a query anew, decoded.
func queryStaysEncoded(t *testing.T, w *proxyWorld, all *dataAddress) {
	const query = "?a=%2F%26&a=b+c&&=&%zz&d"
	w.ask(all, "GET", "/x"+query, nil).want(t, 200, "GET /base/x"+query+` ""`)
	w.ask(w.pull("query", "query"), "GET", query, nil).want(t, 200, "GET /base?own=1&"+query[1:]+` ""`)
}

// EDC reads a body as lines of text.
func binaryBodiesStayWhole(t *testing.T, w *proxyWorld, all *dataAddress) {
	content := bytes.Repeat([]byte("\x00\r\n\xff\xfe\n\r"), 50_000)
	sum := sha256.Sum256(content)
	want := fmt.Sprintf("%d %s <nil> application/x", len(content), hex.EncodeToString(sum[:]))
	w.ask(all, "POST", "/sum", bytes.NewReader(content), "Content-Type", "application/x").want(t, 200, want)
	w.ask(all, "POST", "/sum", bytes.NewReader(content), "Content-Type", "application/x", "Expect", "100-continue").want(t, 200, want)
	w.ask(all, "PUT", "/sum", io.MultiReader(bytes.NewReader(content)), "Content-Type", "application/x").want(t, 200, want) // chunked
}

// EDC has neither ranges nor conditional requests.
func rangesAndConditionsReachTheBackend(t *testing.T, w *proxyWorld, all *dataAddress) {
	got := w.ask(all, "GET", "/file", nil, "Range", "bytes=2-4")
	got.want(t, 206, "234")
	if got.Header.Get("Content-Range") != "bytes 2-4/10" {
		t.Errorf("%v", got.Header)
	}
	w.ask(all, "GET", "/file", nil, "Range", "bytes=2-4", "If-Range", `"v0"`).want(t, 200, fileContent)
	w.ask(all, "GET", "/file", nil, "Range", "bytes=90-").want(t, 416, "")
	w.ask(all, "GET", "/file", nil, "If-None-Match", `"v1"`).want(t, 304, "")
	w.ask(all, "GET", "/file", nil, "If-Match", `"v0"`).want(t, 412, "")
}

// eclipse-tractusx/tractusx-edc#2031, eclipse-edc/Connector#1875: large transfers were held in memory. A conversation of 64 MiB each way, of
// which at no time more than some is on its way.
func largeBodiesAreNotHeldInMemory(t *testing.T, w *proxyWorld, all *dataAddress) {
	const size, most = 64 << 20, 48 << 20
	var sent, came, ahead int64
	var mu sync.Mutex
	count := func(to *int64) func(int) {
		return func(n int) {
			mu.Lock()
			defer mu.Unlock()
			*to += int64(n)
			ahead = max(ahead, sent-came)
		}
	}
	body := &counting{io.LimitReader(zeros{}, size), count(&sent)}
	res, err := client.Transport.RoundTrip(w.request(all, "POST", "/echo", body))
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	if n, err := io.Copy(io.Discard, &counting{res.Body, count(&came)}); n != size || err != nil {
		t.Errorf("%d bytes, %v", n, err)
	}
	if ahead > most {
		t.Errorf("%d bytes were on their way", ahead)
	}
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) {
	clear(p)
	return len(p), nil
}

type counting struct {
	io.Reader
	moved func(int)
}

func (c *counting) Read(p []byte) (int, error) {
	n, err := c.Reader.Read(p)
	c.moved(n)
	return n, err
}

// Server-sent events are there when they are sent.
func eventsComeAsTheyHappen(t *testing.T, w *proxyWorld, all *dataAddress) {
	res, err := client.Transport.RoundTrip(w.request(all, "GET", "/events", nil))
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	first := make([]byte, len("data: 1\n\n"))
	if _, err := io.ReadFull(res.Body, first); err != nil || string(first) != "data: 1\n\n" {
		t.Errorf("%q, %v", first, err)
	}
	close(w.backend.held)
	if rest, err := io.ReadAll(res.Body); err != nil || string(rest) != "data: 2\n\n" {
		t.Errorf("%q, %v", rest, err)
	}
}

func halfIsNotTakenForWhole(t *testing.T, w *proxyWorld, all *dataAddress) {
	if got := w.ask(all, "GET", "/half", nil); got.err == nil || string(got.body) != "half" {
		t.Errorf("%q, %v", got.body, got.err)
	}
}

// EDC's clients send the token as it is, without "Bearer".
func rawTokenIsTaken(t *testing.T, w *proxyWorld, all *dataAddress) {
	w.ask(all, "GET", "/x", nil, "Authorization", all.token()).want(t, 200, `GET /base/x ""`)
	w.ask(all, "GET", "/x", nil, "Authorization", "Bearer x").want(t, 401, "")
}

func streamsBothWaysOverHTTP2(t *testing.T, w *proxyWorld, all *dataAddress) {
	transport := &http.Transport{Protocols: new(http.Protocols)}
	transport.Protocols.SetUnencryptedHTTP2(true)
	defer transport.CloseIdleConnections()
	body, writer := io.Pipe()
	res, err := transport.RoundTrip(w.request(all, "POST", "/echo", body))
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	for i := range 3 {
		said := fmt.Sprint("message ", i)
		go io.WriteString(writer, said)
		got := make([]byte, len(said))
		if _, err := io.ReadFull(res.Body, got); err != nil || string(got) != said {
			t.Fatalf("%q, %v", got, err)
		}
	}
	writer.Close()
	if rest, err := io.ReadAll(res.Body); res.ProtoMajor != 2 || len(rest) > 0 || err != nil {
		t.Errorf("%s: %q, %v", res.Proto, rest, err)
	}
}

// eclipse-edc/Connector#4591: a pull could not be resumed.
func pullResumes(t *testing.T, w *proxyWorld, _ *dataAddress) {
	a := w.pull("resumed", "all")
	w.ask(a, "GET", "/x", nil).want(t, 200, "")
	w.host.signal("resumed/suspend", nil)
	w.ask(a, "GET", "/x", nil).want(t, 403, "")
	b := w.host.signal("resumed/resume", nil).DataAddress
	w.ask(a, "GET", "/x", nil).want(t, 403, "")
	w.ask(b, "GET", "/x", nil).want(t, 200, `GET /base/x ""`)
}

// eclipse-edc/Connector#4592: the provider's token was good after the end. A conversation that runs is cut.
func tokenDiesWithTheFlow(t *testing.T, w *proxyWorld, _ *dataAddress) {
	a := w.pull("ended", "all")
	body, writer := io.Pipe()
	defer writer.Close()
	res, err := client.Transport.RoundTrip(w.request(a, "POST", "/echo", body))
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	w.host.signal("ended/terminate", nil)
	if _, err := io.ReadAll(res.Body); err == nil {
		t.Error("the client took half for whole")
	}
	w.ask(a, "GET", "/x", nil).want(t, 403, "")
	w.host.expectNothingLeft("ended")
}
