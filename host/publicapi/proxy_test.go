package publicapi

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/towpath-dataplane/towpath/host/flow"
	"github.com/towpath-dataplane/towpath/sdk"
	"github.com/towpath-dataplane/towpath/sdk/sdktest"
)

// useProxy gives a world a source that hands requests on.
func useProxy(w *world, o *Options) {
	w.source = sdk.NewDataSource(sdktest.ProxySource())
	o.Proxy = ProxyOptions{Proxies: func(typ string) bool { return typ == sdktest.ProxyType }, Headers: []string{"X-App-*", "Set-Cookie"}}
}

// proxied adds a flow that is proxied to a server, and returns its address.
func (w *world) proxied(h http.HandlerFunc, properties ...string) sdk.DataAddress {
	w.t.Helper()
	backend := httptest.NewServer(h)
	w.t.Cleanup(backend.Close)
	return w.add(flow.Flow{Key: key("f"), Role: flow.Provider, Direction: flow.Pull, Local: sdktest.ProxyAddress(backend.URL, properties...)})
}

func TestProxiedRequests(t *testing.T) {
	protocols(t, func(t *testing.T, start func(func(*world, *Options)) *world) {
		w := start(useProxy)
		var got string
		a := w.proxied(func(_ http.ResponseWriter, r *http.Request) {
			body, err := io.ReadAll(r.Body)
			got = fmt.Sprintf("%s %s %d %q %v", r.Method, r.RequestURI, r.ContentLength, body, err)
			for _, name := range []string{"Accept", "Authorization", "Content-Type", "Cookie", "If-None-Match", "Range", "Te", "X-App-Id", "X-Other"} {
				if values := r.Header[name]; values != nil {
					got += fmt.Sprintf(" %s=%q", name, values)
				}
			}
		})
		binary := "\x00\r\n\xff\n"
		for _, tt := range []struct {
			path    string
			request request
			want    string
		}{
			{"", request{}, `GET / 0 "" <nil>`},
			{"/", request{method: "HEAD"}, `HEAD / 0 "" <nil>`},
			{"/a%2Fb//c%20d/%C3%BC/.../x;v=1/", request{method: "DELETE"}, `DELETE /a%2Fb//c%20d/%C3%BC/.../x;v=1/ 0 "" <nil>`},
			{"/parts/x?a=%2F&&b=c+d&%zz", request{method: "OPTIONS"}, `OPTIONS /parts/x?a=%2F&&b=c+d&%zz 0 "" <nil>`},
			{"/x", request{method: "POST", body: strings.NewReader(binary), header: h("Content-Type", "x/y", "Cookie", "a=b", "X-App-Id", "7", "X-Other", "8")},
				`POST /x 5 "\x00\r\n\xff\n" <nil> Content-Type=["x/y"] X-App-Id=["7"]`},
			{"/x", request{method: "PUT", body: io.MultiReader(strings.NewReader(binary), strings.NewReader("!"))}, `PUT /x -1 "\x00\r\n\xff\n!" <nil>`},
			{"/x", request{method: "PATCH", header: h("Content-Type", "x/y", "Accept", "a/b", "If-None-Match", `"1"`, "Range", "bytes=1-2", "Te", "trailers")},
				`PATCH /x 0 "" <nil> Accept=["a/b"] If-None-Match=["\"1\""] Range=["bytes=1-2"]`},
		} {
			res := w.do(a, a.Endpoint+tt.path, tt.request)
			res.wantStatus(t, http.StatusOK)
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("what the server is asked (-want +got):\n%s", diff)
			}
		}
		w.eventually("no request is left inside", func() bool { return w.flows.visiting(key("f")) == 0 })
	})
}

func TestProxiedAnswers(t *testing.T) {
	protocols(t, func(t *testing.T, start func(func(*world, *Options)) *world) {
		w := start(useProxy)
		const content = "<html>\x00"
		a := w.proxied(func(rw http.ResponseWriter, r *http.Request) {
			var status int
			fmt.Sscanf(r.URL.Path, "/%d", &status)
			hd := rw.Header()
			hd["X-Twice"], hd["Content-Type"], hd["Date"] = []string{"a", "b"}, nil, []string{"Thu, 01 Jan 1970 00:00:00 GMT"}
			for name, value := range h("Etag", `W/"x"`, "Location", "../y", "Content-Encoding", "br", "Cache-Control", "max-age=5", "Set-Cookie", "c=d",
				"Keep-Alive", "timeout=5", "Alt-Svc", "h2=\"internal:1\"", "Www-Authenticate", "Basic") {
				hd.Set(name, value)
			}
			if r.URL.RawQuery == "sized" {
				hd.Set("Content-Length", fmt.Sprint(len(content)))
			}
			rw.WriteHeader(status)
			io.WriteString(rw, content)
			if r.URL.RawQuery != "sized" {
				http.NewResponseController(rw).Flush()
				hd.Set(http.TrailerPrefix+"X-Sum", "7")
			}
		})
		for _, status := range []int{200, 201, 204, 206, 301, 302, 304, 400, 401, 403, 404, 405, 409, 416, 429, 500, 502, 503} {
			for _, method := range []string{"GET", "HEAD", "POST"} {
				for _, query := range []string{"sized", ""} {
					w.client.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
					res := w.do(a, fmt.Sprintf("%s/%d?%s", a.Endpoint, status, query), request{method: method})
					want, trailer := content, ""
					bare := method == "HEAD" || status == 204 || status == 304
					if bare {
						want = ""
					} else if query == "" {
						trailer = "7"
					}
					if res.StatusCode != status || string(res.body) != want || res.err != nil {
						t.Errorf("%s %d %s: %d %q %v", method, status, query, res.StatusCode, res.body, res.err)
					}
					if got := res.Trailer.Get("X-Sum"); got != trailer {
						t.Errorf("%s %d %s: trailer %q", method, status, query, got)
					}
					got := res.Header
					if !bare && query == "sized" && got.Get("Content-Length") != fmt.Sprint(len(content)) {
						t.Errorf("%s %d: Content-Length %q", method, status, got["Content-Length"])
					}
					for _, name := range []string{"Content-Length", "X-Content-Type-Options", "Connection"} {
						got.Del(name)
					}
					wanted := http.Header{"X-Twice": {"a", "b"}, "Date": {"Thu, 01 Jan 1970 00:00:00 GMT"}, "Etag": {`W/"x"`}, "Location": {"../y"},
						"Content-Encoding": {"br"}, "Cache-Control": {"max-age=5"}, "Set-Cookie": {"c=d"}, "Www-Authenticate": {"Basic"}}
					if diff := cmp.Diff(wanted, got); diff != "" {
						t.Errorf("%s %d %s, header (-want +got):\n%s", method, status, query, diff)
					}
				}
			}
		}
	})
}

// What an address does not let through is not handed on, and nothing is answered that was not asked for.
func TestProxyFlags(t *testing.T) {
	w := newWorld(t, useProxy)
	for _, tt := range []struct {
		flags        []string
		method, path string
		body         string
		want         string // that the server is asked; "" for a refusal
		status       int
	}{
		{[]string{"proxyPath", "true"}, "GET", "/x?q=1", "", "GET /x", 200},
		{[]string{"proxyPath", "true"}, "HEAD", "/x", "", "HEAD /x", 200},
		{[]string{"proxyPath", "true"}, "POST", "/x", "", "", 405},
		{[]string{"proxyPath", "true", "method", "POST"}, "HEAD", "/x", "", "", 405},
		{[]string{"proxyPath", "true", "method", "POST"}, "POST", "/x", "", "POST /x", 200},
		{[]string{"proxyPath", "true"}, "GET", "/../x", "", "", 400},
		{[]string{"proxyPath", "true"}, "GET", "/a/%2e%2E/x", "", "", 400},
		{[]string{"proxyPath", "true"}, "GET", "/a%2f..%5cx", "", "", 400},
		{[]string{"proxyPath", "true"}, "GET", "/a/..;a=b/x", "", "", 400},
		{[]string{"proxyPath", "true"}, "GET", "/./x", "", "", 400},
		{[]string{"proxyPath", "true"}, "GET", "/a..b/...", "", "GET /a..b/...", 200},
		{[]string{"proxyMethod", "true"}, "DELETE", "", "", "DELETE /", 200},
		{[]string{"proxyMethod", "true"}, "PUT", "/", "", "PUT /", 200},
		{[]string{"proxyMethod", "true"}, "PUT", "", "x", "", 400},
		{[]string{"proxyMethod", "true"}, "PUT", "/x", "", "", 404},
		{[]string{"proxyMethod", "true"}, "GET", "/parts/x", "", "", 404},
		{[]string{"proxyQueryParams", "True"}, "GET", "?q=%2F", "", "GET /?q=%2F", 200},
		{[]string{"proxyBody", "true", "method", "POST"}, "POST", "?q=%2F", "x", "POST /", 200},
		{[]string{"proxyBody", "1", "method", "POST"}, "PUT", "", "x", "", 405},
	} {
		got := ""
		a := w.proxied(func(_ http.ResponseWriter, r *http.Request) { got = r.Method + " " + r.RequestURI }, tt.flags...)
		var body io.Reader
		if tt.body != "" {
			body = strings.NewReader(tt.body)
		}
		res := w.do(a, a.Endpoint+tt.path, request{method: tt.method, body: body})
		res.wantStatus(t, tt.status)
		if got != tt.want {
			t.Errorf("%v, %s %s: the server is asked %q, want %q", tt.flags, tt.method, tt.path, got, tt.want)
		}
	}
	// Without flags, and for a source that does not hand requests on, it is a pull.
	for _, properties := range [][]string{{"proxyPath", "false"}, {"proxyPath", "true"}} {
		w := newWorld(t, func(w *world, o *Options) {
			useProxy(w, o)
			if properties[1] == "true" {
				o.Proxy.Proxies = func(string) bool { return false }
			}
			pulled := w.memory.Plugin().Sources[0]
			pulled.Address = sdk.Schema{Open: true}
			w.source = sdk.NewDataSource(pulled)
		})
		w.memory.Put("d", []byte("content"))
		local := w.memory.Address("")
		local.Properties = map[string]string{properties[0]: properties[1]}
		a := w.add(flow.Flow{Key: key("f"), Role: flow.Provider, Direction: flow.Pull, Local: local})
		w.get(a, nil).wantBody(t, http.StatusOK, "content")
		w.do(a, a.Endpoint+"/x", request{}).wantStatus(t, http.StatusNotFound)
		w.do(a, a.Endpoint, request{method: http.MethodPost}).wantStatus(t, http.StatusMethodNotAllowed)
	}
}

// echoes is a server that sends back what comes, as it comes.
func echoes(rw http.ResponseWriter, r *http.Request) {
	c := http.NewResponseController(rw)
	c.EnableFullDuplex()
	rw.WriteHeader(http.StatusOK)
	c.Flush()
	piece := make([]byte, 1000)
	for {
		n, err := r.Body.Read(piece)
		rw.Write(piece[:n])
		c.Flush()
		if err != nil {
			return
		}
	}
}

// converse sends a request whose body it writes, and returns the answer with what writes.
func (w *world) converse(a sdk.DataAddress) (*http.Response, *io.PipeWriter) {
	w.t.Helper()
	body, writer := io.Pipe()
	res, err := w.send(a, a.Endpoint+"/echo", request{method: http.MethodPost, body: body})
	if err != nil {
		w.t.Fatal(err)
	}
	for _, said := range []string{"one", "two", strings.Repeat("three", 30_000)} {
		go io.WriteString(writer, said)
		got := make([]byte, len(said))
		if _, err := io.ReadFull(res.Body, got); err != nil || string(got) != said {
			w.t.Fatalf("%.100q, %v", got, err)
		}
	}
	return res, writer
}

func TestProxyStreamsBothWays(t *testing.T) {
	protocols(t, func(t *testing.T, start func(func(*world, *Options)) *world) {
		w := start(useProxy)
		res, writer := w.converse(w.proxied(echoes))
		writer.Close()
		if rest, err := io.ReadAll(res.Body); err != nil || len(rest) > 0 {
			t.Errorf("%q, %v", rest, err)
		}
		res.Body.Close()
		w.eventually("the request has left", func() bool { return w.flows.visiting(key("f")) == 0 })
		for _, direction := range []string{"in", "out"} {
			if n := w.metric("towpath_public_bytes_total", map[string]string{"direction": direction}); n != 150_006 {
				t.Errorf("%v bytes %s", n, direction)
			}
		}
	})
}

// A suspend ends a conversation, and returns when it has ended.
func TestSuspendCutsProxy(t *testing.T) {
	protocols(t, func(t *testing.T, start func(func(*world, *Options)) *world) {
		w := start(useProxy)
		broken := make(chan error, 1)
		a := w.proxied(func(rw http.ResponseWriter, r *http.Request) {
			echoes(rw, r)
			broken <- r.Context().Err()
		})
		res, writer := w.converse(a)
		w.flows.stop(key("f"), flow.Suspended)
		if n := w.flows.visiting(key("f")); n != 0 {
			t.Errorf("%d requests are inside a suspended flow", n)
		}
		if _, err := io.ReadAll(res.Body); err == nil {
			t.Error("the client took half for whole")
		}
		writer.Close()
		res.Body.Close()
		<-broken
		w.do(a, a.Endpoint+"/x", request{method: http.MethodPut}).wantStatus(t, http.StatusForbidden)
	})
}

// A server that dies in the middle of its answer breaks it off.
func TestProxiedServerDies(t *testing.T) {
	protocols(t, func(t *testing.T, start func(func(*world, *Options)) *world) {
		w := start(useProxy)
		a := w.proxied(func(rw http.ResponseWriter, r *http.Request) {
			if r.URL.Path == "/sized" {
				rw.Header().Set("Content-Length", "9")
			}
			io.WriteString(rw, "half")
			http.NewResponseController(rw).Flush()
			panic(http.ErrAbortHandler)
		})
		for _, path := range []string{"/sized", "/chunked"} {
			if res := w.do(a, a.Endpoint+path, request{}); res.err == nil || string(res.body) != "half" {
				t.Errorf("%s: %q, %v", path, res.body, res.err)
			}
		}
	})
}

// A client that goes away in the middle of its body is not taken for one that has sent all.
func TestProxyClientGoes(t *testing.T) {
	protocols(t, func(t *testing.T, start func(func(*world, *Options)) *world) {
		w := start(useProxy)
		began, ended := make(chan struct{}), make(chan error, 1)
		a := w.proxied(func(rw http.ResponseWriter, r *http.Request) {
			io.CopyN(io.Discard, r.Body, 4)
			close(began)
			_, err := io.ReadAll(r.Body)
			ended <- err
		})
		body, writer := io.Pipe()
		go func() {
			io.WriteString(writer, "half")
			<-began
			writer.CloseWithError(io.ErrUnexpectedEOF)
		}()
		if res, err := w.send(a, a.Endpoint, request{method: http.MethodPut, body: body}); err == nil {
			t.Errorf("an answer came: %d", res.StatusCode)
			res.Body.Close()
		}
		if err := <-ended; err == nil {
			t.Error("the server took half for whole")
		}
	})
}

// An answer that comes before the body is whole reaches a client that still sends.
func TestProxyAnswersEarly(t *testing.T) {
	protocols(t, func(t *testing.T, start func(func(*world, *Options)) *world) {
		w := start(useProxy)
		for _, sized := range []bool{true, false} {
			a := w.proxied(func(rw http.ResponseWriter, r *http.Request) {
				rw.Header().Set("Connection", "close")
				if sized {
					rw.Header().Set("Content-Length", "3")
				}
				rw.WriteHeader(http.StatusRequestEntityTooLarge)
				http.NewResponseController(rw).Flush()
				io.WriteString(rw, "no\n")
			})
			body, writer := io.Pipe()
			go io.WriteString(writer, "some")
			res := w.do(a, a.Endpoint, request{method: http.MethodPost, body: body})
			if res.StatusCode != http.StatusRequestEntityTooLarge || string(res.body) != "no\n" || res.err != nil {
				t.Errorf("%d %q %v", res.StatusCode, res.body, res.err)
			}
			writer.Close()
		}
	})
}

// Whoever decides about requests knows those that are handed on, and sees the path that is.
func TestProxyAccess(t *testing.T) {
	var asked AccessRequest
	w := newWorld(t, func(w *world, o *Options) {
		useProxy(w, o)
		o.Access = func(_ context.Context, r AccessRequest) error {
			asked = r
			return &AccessDenied{"not today"}
		}
	})
	a := w.proxied(func(http.ResponseWriter, *http.Request) { t.Error("the server was reached") })
	w.do(a, a.Endpoint+"/parts/a%2Fb?x=%20", request{method: "PUT"}).wantStatus(t, http.StatusForbidden)
	if got := [...]string{asked.Operation, asked.Method, asked.Path, asked.Query, asked.Part}; got != [...]string{"proxy", "PUT", "/flows/f/parts/a%2Fb", "x=%20", ""} {
		t.Errorf("asked about %q", got)
	}
}

func TestProxyExpectsContinue(t *testing.T) {
	w := newWorld(t, useProxy)
	a := w.proxied(echoes)
	conn, err := net.Dial("tcp", w.server.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	fmt.Fprintf(conn, "POST /flows/f/x HTTP/1.1\r\nHost: x\r\nAuthorization: %s\r\nExpect: 100-continue\r\nContent-Length: 4\r\n\r\n", a.Get("authorization"))
	r := bufio.NewReader(conn)
	res, err := http.ReadResponse(r, nil)
	if err != nil || res.StatusCode != http.StatusContinue {
		t.Fatalf("%v, %v", res, err)
	}
	io.WriteString(conn, "body")
	if res, err = http.ReadResponse(r, nil); err == nil && res.StatusCode == http.StatusContinue {
		t.Fatal("twice 100")
	}
	if err != nil {
		t.Fatal(err)
	}
	if body, err := io.ReadAll(res.Body); err != nil || string(body) != "body" {
		t.Errorf("%q, %v", body, err)
	}
}

func TestProxyFailures(t *testing.T) {
	release := make(chan struct{})
	w := newWorld(t, func(w *world, o *Options) {
		useProxy(w, o)
		o.Limits.IdleTimeout = 100 * time.Millisecond
	})
	slow := w.proxied(func(_ http.ResponseWriter, r *http.Request) { <-release })
	w.get(slow, nil).wantStatus(t, http.StatusGatewayTimeout)
	w.do(slow, slow.Endpoint, request{method: "POST", body: strings.NewReader("x")}).wantStatus(t, http.StatusGatewayTimeout)
	close(release)
	w = newWorld(t, useProxy)
	nobody := w.add(flow.Flow{Key: key("g"), Role: flow.Provider, Direction: flow.Pull, Local: sdktest.ProxyAddress("http://127.0.0.1:1")})
	w.get(nobody, nil).wantStatus(t, http.StatusBadGateway)
	w.source = scripted(func(sdk.ReadOpen) ([]sdk.Frame, error) {
		return []sdk.Frame{&sdk.PartBegin{PartInfo: sdk.PartInfo{Name: "d"}}, &sdk.PartEnd{}, &sdk.End{}}, nil
	})
	w.get(nobody, nil).wantStatus(t, http.StatusBadGateway) // a part without a response
}

// deadlines is a connection that keeps the deadline of reads.
type deadlines struct {
	http.ResponseWriter
	read time.Time
}

func (d *deadlines) SetReadDeadline(at time.Time) error {
	d.read = at
	return nil
}

func (d *deadlines) SetWriteDeadline(time.Time) error { return nil }

// A client has the idle timeout for each piece of its body, and all the time it wants once it is answered.
func TestProxyIsUnhurried(t *testing.T) {
	d := &deadlines{ResponseWriter: httptest.NewRecorder()}
	m, err := newMetrics(nil)
	if err != nil {
		t.Fatal(err)
	}
	var during time.Time
	body := readFunc(func(p []byte) (int, error) {
		during = d.read
		return 1, nil
	})
	x := newExchange(d, httptest.NewRequest("POST", "/", body), time.Minute, m)
	piece := make([]byte, 8)
	if _, err := x.readPiece(piece); err != nil || during.IsZero() {
		t.Errorf("%v, deadline %v", err, during)
	}
	x.unhurry()
	if _, err := x.readPiece(piece); err != nil || !during.IsZero() {
		t.Errorf("%v, deadline %v", err, during)
	}
	x.stopReading()
	if d.read != past {
		t.Errorf("deadline %v of a body that is not wanted", d.read)
	}
}

type readFunc func([]byte) (int, error)

func (f readFunc) Read(p []byte) (int, error) { return f(p) }

func TestProxyLimits(t *testing.T) {
	w := newWorld(t, func(w *world, o *Options) {
		useProxy(w, o)
		o.Limits.MaxBytesPerToken = 10
	})
	sent := make(chan string, 4)
	a := w.proxied(func(rw http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		sent <- string(body)
		io.WriteString(rw, "12345")
	})
	w.do(a, a.Endpoint, request{method: "POST", body: strings.NewReader("12345678901")}).wantStatus(t, http.StatusForbidden)
	w.do(a, a.Endpoint, request{method: "POST", body: strings.NewReader("123")}).wantBody(t, http.StatusOK, "12345")
	w.do(a, a.Endpoint, request{}).wantStatus(t, http.StatusForbidden) // 3 + 5 + 5
	if got := <-sent + <-sent; got != "123" {
		t.Errorf("the server got %q", got)
	}
}

func TestProxyOldHTTP(t *testing.T) {
	w := newWorld(t, useProxy)
	a := w.proxied(func(rw http.ResponseWriter, r *http.Request) {
		io.WriteString(rw, "x")
		if r.URL.Path == "/flushed" {
			http.NewResponseController(rw).Flush()
		}
	})
	for path, status := range map[string]int{"/flushed": http.StatusHTTPVersionNotSupported, "/sized": http.StatusOK} {
		conn, err := net.Dial("tcp", w.server.Listener.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(conn, "GET /flows/f%s HTTP/1.0\r\nAuthorization: Bearer %s\r\n\r\n", path, a.Get("authorization"))
		res, err := http.ReadResponse(bufio.NewReader(conn), nil)
		conn.Close()
		if err != nil || res.StatusCode != status {
			t.Errorf("%s: %v, %v", path, res, err)
		}
	}
}

// A path is what came, to the byte, also where it has bytes that should have been escaped.
func TestEscapedPath(t *testing.T) {
	h := &Handler{path: "/base"}
	for uri, want := range map[string]string{
		"/flows/f/a%2Fb":                 "/flows/f/a%2Fb",
		"/base/flows/f/a%2Fb?x=/":        "/flows/f/a%2Fb",
		"/base/flows/f/a%2Fb|c":          "/flows/f/a%2Fb|c",
		"/base/flows/f/ü%2F":             "/flows/f/ü%2F",
		"/base/flows/f//base/":           "/flows/f//base/",
		"http://h:1/base/flows/f/a%2Fb|": "/flows/f/a%2Fb|",
		"/flows/f/http://x%2F":           "/flows/f/http://x%2F",
	} {
		r, err := http.ReadRequest(bufio.NewReader(strings.NewReader("GET " + uri + " HTTP/1.1\r\nHost: h\r\n\r\n")))
		if err != nil {
			t.Fatal(uri, err)
		}
		http.StripPrefix(map[bool]string{true: "/base"}[strings.HasPrefix(r.URL.Path, "/base")], http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
			if got := h.escapedPath(r); got != want {
				t.Errorf("%s: %s, want %s", uri, got, want)
			}
		})).ServeHTTP(nil, r)
	}
	for path, want := range map[string]string{"/flows/f": "", "/flows/f/": "/", "/contexts/c/flows/f//x": "//x", "/%63ontexts/c/flows/f/x": "/x"} {
		to, ok := parseRoute(path)
		if got := behind(path, to.depth); !ok || got != want {
			t.Errorf("%s: %q %t, want %q", path, got, ok, want)
		}
	}
}

func TestForwardedFields(t *testing.T) {
	handler := &Handler{Options: Options{Proxy: ProxyOptions{Headers: []string{"X-App-*", "Forwarded"}}}}
	in := http.Header{}
	for _, name := range []string{"Accept", "Accept-Language", "Authorization", "Connection", "Content-Length", "Content-Md5", "Cookie", "Expect", "Forwarded",
		"Host", "If-Range", "Proxy-Authorization", "Te", "Traceparent", "Transfer-Encoding", "Upgrade", "X-App-A", "X-App-B", "X-Forwarded-For"} {
		in[name] = []string{"x"}
	}
	in["Connection"] = []string{"keep-alive, x-app-b"}
	var got []string
	for _, f := range handler.forwarded(in, true) {
		got = append(got, f.Name)
	}
	if diff := cmp.Diff([]string{"Accept", "Accept-Language", "Content-Md5", "Forwarded", "If-Range", "Traceparent", "X-App-A"}, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	back := handler.back([]sdk.HeaderField{{Name: "Connection", Value: "x-hop"}, {Name: "X-Hop", Value: "1"}, {Name: "x-end", Value: "1"},
		{Name: "X-End", Value: "2"}, {Name: "Set-Cookie", Value: "a=b"}, {Name: "X Bad", Value: "1"}, {Name: "X-Bad", Value: "1\r\nX: 2"}})
	if diff := cmp.Diff(http.Header{"X-End": {"1", "2"}}, back); diff != "" {
		t.Errorf("back (-want +got):\n%s", diff)
	}
	if slices.ContainsFunc(handler.forwarded(in, false), func(f sdk.HeaderField) bool { return f.Name == "Content-Md5" }) {
		t.Error("a field of content goes without content")
	}
}
