package sdktest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/towpath-dataplane/towpath/sdk"
)

// ProxyCase is what TestProxy has to know about a source that hands requests on over HTTP.
type ProxyCase struct {
	// New returns the source, as in SourceCase.
	New func(t *testing.T) sdk.DataSource
	// Address names the HTTP server at a URL, and lets everything through.
	Address func(url string) sdk.DataAddress
}

// TestProxy runs the suite that every source has to pass whose type says that it proxies.
func TestProxy(t *testing.T, c ProxyCase) {
	for _, test := range []struct {
		name string
		run  func(*testing.T, *proxying)
	}{
		{"requests", proxyHandsOn},
		{"answers", proxyGivesBack},
		{"trailer", proxyGivesTrailer},
		{"both ways", proxyStreamsBothWays},
		{"backpressure", proxyHoldsBack},
		{"answer before the body", proxyAnswersEarly},
		{"answer that breaks", proxyBreaks},
		{"body that breaks", proxyBreaksOff},
		{"cancel", proxyIsCancelled},
		{"unreachable", proxyFindsNobody},
	} {
		t.Run(test.name, func(t *testing.T) {
			source := c.New(t)
			checkLeaks(t)
			test.run(t, &proxying{c, source, nil})
		})
	}
}

// proxying is a source with a server behind it.
type proxying struct {
	ProxyCase
	source sdk.DataSource
	server *httptest.Server
}

// serve starts the server. It lets go of connections when the test ends.
func (p *proxying) serve(t *testing.T, h http.HandlerFunc) {
	p.server = httptest.NewServer(h)
	t.Cleanup(p.server.Close)
}

func (p *proxying) open(r *sdk.ProxyRequest) sdk.ReadOpen {
	return sdk.ReadOpen{Flow: flow("flow-1"), Address: p.Address(p.server.URL), Request: r, Once: true}
}

// ask sends a request and returns the whole answer.
func (p *proxying) ask(t *testing.T, r *sdk.ProxyRequest) *readPart {
	t.Helper()
	got, err := readAll(t.Context(), p.source, p.open(r))
	if err != nil {
		t.Fatalf("%s %s: %v", r.Method, r.Path, err)
	}
	if len(got.parts) != 1 || got.parts[0].begin.Response == nil {
		t.Fatalf("%s %s: %d parts came, want one with a response", r.Method, r.Path, len(got.parts))
	}
	return got.parts[0]
}

// values returns a field of a header.
func values(fields []sdk.HeaderField, name string) (all []string) {
	for _, f := range fields {
		if strings.EqualFold(f.Name, name) {
			all = append(all, f.Value)
		}
	}
	return all
}

func bodyOf(content []byte) io.ReadCloser { return io.NopCloser(bytes.NewReader(content)) }

func proxyHandsOn(t *testing.T, p *proxying) {
	content := Pattern(1, 300_000)
	got := make(chan string, 1)
	p.serve(t, func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if diff := differ(body, content); err == nil && len(body) > 0 && diff != "" {
			err = errors.New(diff)
		}
		got <- fmt.Sprintf("%s %s %q %d %d %v", r.Method, r.RequestURI, r.Header["X-Raw"], r.ContentLength, len(body), err)
	})
	for _, tt := range []struct {
		request sdk.ProxyRequest
		want    string
	}{
		{sdk.ProxyRequest{Method: "GET"}, `GET / [] 0 0 <nil>`},
		{sdk.ProxyRequest{Method: "DELETE", Path: "/a%2Fb//c%20d/%C3%BC;v=1,2/", Query: "q=%2F&q=a+b&&x"},
			`DELETE /a%2Fb//c%20d/%C3%BC;v=1,2/?q=%2F&q=a+b&&x [] 0 0 <nil>`},
		{sdk.ProxyRequest{Method: "OPTIONS", Path: "/"}, `OPTIONS / [] 0 0 <nil>`},
		{sdk.ProxyRequest{Method: "PUT", Path: "/x", Body: bodyOf(content), Size: int64(len(content)),
			Header: []sdk.HeaderField{{Name: "X-Raw", Value: "a, b"}, {Name: "X-Raw", Value: "\xfc"}, {Name: "Content-Type", Value: "x/y"}}},
			`PUT /x ["a, b" "\xfc"] 300000 300000 <nil>`},
		{sdk.ProxyRequest{Method: "PATCH", Path: "/x", Body: bodyOf(content), Size: sdk.SizeUnknown}, `PATCH /x [] -1 300000 <nil>`},
	} {
		if part := p.ask(t, &tt.request); part.begin.Response.Status != http.StatusOK {
			t.Errorf("status %d", part.begin.Response.Status)
		}
		if diff := cmp.Diff(tt.want, <-got); diff != "" {
			t.Errorf("what the server was asked (-want +got):\n%s", diff)
		}
	}
}

func proxyGivesBack(t *testing.T, p *proxying) {
	content := Pattern(2, 200_001)
	p.serve(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header()["X-Raw"] = []string{"one", "\xfc two"}
		w.Header().Set("Connection", "x-hop")
		w.Header().Set("X-Hop", "stays")
		w.Header().Set("Content-Encoding", "gzip") // it is not
		w.Header().Set("Location", "/elsewhere")
		var status int
		fmt.Sscanf(r.URL.Path, "/%d", &status)
		w.WriteHeader(status)
		w.Write(content) // where there can be a body
	})
	for _, status := range []int{200, 201, 204, 206, 302, 304, 307, 401, 404, 416, 429, 500, 503} {
		for _, method := range []string{http.MethodGet, http.MethodHead} {
			part := p.ask(t, &sdk.ProxyRequest{Method: method, Path: fmt.Sprintf("/%d", status)})
			head := part.begin.Response
			if head.Status != status || !slices.Equal(values(head.Header, "X-Raw"), []string{"one", "\xfc two"}) ||
				!slices.Equal(values(head.Header, "Content-Encoding"), []string{"gzip"}) {
				t.Errorf("%s: head of the answer %d is %+v", method, status, head)
			}
			want := content
			if method == http.MethodHead || status == 204 || status == 304 {
				want = nil
			}
			if diff := differ(part.bytes, want); diff != "" {
				t.Errorf("%s: body of the answer %d: %s", method, status, diff)
			}
			if size := part.begin.Size; size >= 0 && size != int64(len(want)) {
				t.Errorf("%s: the answer %d announces %d bytes, want %d", method, status, size, len(want))
			}
		}
	}
}

func proxyGivesTrailer(t *testing.T, p *proxying) {
	p.serve(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Trailer", "X-Sum")
		io.WriteString(w, "body")
		http.NewResponseController(w).Flush()
		w.Header().Set("X-Sum", "4")
	})
	part := p.ask(t, &sdk.ProxyRequest{Method: http.MethodGet})
	if string(part.bytes) != "body" || !slices.Equal(values(part.end.Trailer, "X-Sum"), []string{"4"}) {
		t.Errorf("%q, trailer %v", part.bytes, part.end.Trailer)
	}
}

// echo answers with what comes, as it comes.
func echo(w http.ResponseWriter, r *http.Request) {
	c := http.NewResponseController(w)
	c.EnableFullDuplex()
	w.WriteHeader(http.StatusOK)
	c.Flush()
	piece := make([]byte, 1<<10)
	for {
		n, err := r.Body.Read(piece)
		w.Write(piece[:n])
		c.Flush()
		if err == io.EOF {
			return
		}
		if err != nil {
			panic(http.ErrAbortHandler)
		}
	}
}

// proxyStreamsBothWays sends each piece when the one before has come back.
func proxyStreamsBothWays(t *testing.T, p *proxying) {
	p.serve(t, echo)
	body, client := io.Pipe()
	s, err := p.source.Read(t.Context(), p.open(&sdk.ProxyRequest{Method: http.MethodPost, Body: body, Size: sdk.SizeUnknown}))
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	got := &reading{}
	next := func() sdk.Frame {
		f, err := s.Recv()
		if err == nil {
			err = got.add(f)
			sdk.Release(f)
		}
		if err != nil {
			t.Fatal(err)
		}
		return f
	}
	within(t, "a conversation", func() {
		next()
		for i := range 5 {
			said := Pattern(i, 700)
			client.Write(said)
			for before := i * len(said); len(got.parts[0].bytes) < before+len(said); {
				next()
			}
		}
		client.Close()
		for got.end == nil {
			next()
		}
		if _, err := s.Recv(); err != io.EOF {
			t.Errorf("behind the end: %v", err)
		}
	})
}

// most is how much of a body may be on its way: what the buffers of connections hold, twice, and some.
const most = 24 << 20

// counted counts what is read of a body of size bytes.
type counted struct {
	size, n atomic.Int64
	sent    func()
}

func (c *counted) Read(p []byte) (int, error) {
	left := c.size.Load() - c.n.Load()
	if left == 0 {
		return 0, io.EOF
	}
	c.sent()
	n := min(int64(len(p)), left)
	c.n.Add(n)
	return int(n), nil
}

func (c *counted) Close() error { return nil }

func proxyHoldsBack(t *testing.T, p *proxying) {
	var taken, ahead atomic.Int64
	body := &counted{}
	body.size.Store(2 * most)
	body.sent = func() { ahead.Store(max(ahead.Load(), body.n.Load()-taken.Load())) }
	p.serve(t, func(w http.ResponseWriter, r *http.Request) {
		piece := make([]byte, 16<<10)
		for {
			n, err := io.ReadFull(r.Body, piece)
			taken.Add(int64(n))
			if err != nil {
				return
			}
		}
	})
	p.ask(t, &sdk.ProxyRequest{Method: http.MethodPost, Body: body, Size: 2 * most})
	if taken.Load() != 2*most {
		t.Errorf("%d bytes came, want %d", taken.Load(), 2*most)
	}
	if ahead.Load() > most {
		t.Errorf("%d bytes were taken before the server wanted them", ahead.Load())
	}
}

// waiting is a body of which no more comes, until it is closed.
func waiting(content string) (io.ReadCloser, *io.PipeWriter) {
	body, client := io.Pipe()
	return struct {
		io.Reader
		io.Closer
	}{io.MultiReader(strings.NewReader(content), body), body}, client
}

func proxyAnswersEarly(t *testing.T, p *proxying) {
	p.serve(t, func(w http.ResponseWriter, r *http.Request) {
		http.NewResponseController(w).EnableFullDuplex()
		w.Header().Set("Connection", "close")
		http.Error(w, "no", http.StatusRequestEntityTooLarge)
		http.NewResponseController(w).Flush()
	})
	body, client := waiting("x")
	within(t, "an early answer", func() {
		part := p.ask(t, &sdk.ProxyRequest{Method: http.MethodPost, Body: body, Size: 1000})
		if part.begin.Response.Status != http.StatusRequestEntityTooLarge || string(part.bytes) != "no\n" {
			t.Errorf("%+v %q", part.begin.Response, part.bytes)
		}
		if _, err := client.Write([]byte("x")); err == nil {
			t.Error("the body is not closed")
		}
	})
}

func proxyBreaks(t *testing.T, p *proxying) {
	p.serve(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/sized" {
			w.Header().Set("Content-Length", "1000")
		}
		io.WriteString(w, "half")
		http.NewResponseController(w).Flush()
		panic(http.ErrAbortHandler)
	})
	for _, path := range []string{"/sized", "/chunked"} {
		got, err := readAll(t.Context(), p.source, p.open(&sdk.ProxyRequest{Method: http.MethodGet, Path: path}))
		wantCode(t, path, err, sdk.Unavailable)
		if len(got.parts) != 1 || got.parts[0].end != nil || string(got.parts[0].bytes) != "half" {
			t.Errorf("%s: %+v", path, got)
		}
	}
}

// A body that does not become whole does not look as if it were.
func proxyBreaksOff(t *testing.T, p *proxying) {
	ended := make(chan error, 1)
	body, client := waiting("half")
	p.serve(t, func(w http.ResponseWriter, r *http.Request) {
		if _, err := io.CopyN(io.Discard, r.Body, 4); err != nil {
			t.Error(err)
		}
		client.CloseWithError(errors.New("the client has gone"))
		_, err := io.Copy(io.Discard, r.Body)
		ended <- err
	})
	_, err := readAll(t.Context(), p.source, p.open(&sdk.ProxyRequest{Method: http.MethodPost, Body: body, Size: sdk.SizeUnknown}))
	if err == nil {
		t.Error("no error")
	}
	if err := <-ended; err == nil {
		t.Error("the server took the body for whole")
	}
}

func proxyIsCancelled(t *testing.T, p *proxying) {
	reached, left := make(chan struct{}), make(chan struct{})
	p.serve(t, func(w http.ResponseWriter, r *http.Request) {
		http.NewResponseController(w).EnableFullDuplex()
		http.NewResponseController(w).Flush()
		close(reached)
		io.Copy(io.Discard, r.Body)
		close(left)
	})
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	go func() {
		<-reached
		cancel()
	}()
	body, _ := waiting("x")
	within(t, "a request that was cancelled", func() {
		_, err := readAll(ctx, p.source, p.open(&sdk.ProxyRequest{Method: http.MethodPost, Body: body, Size: sdk.SizeUnknown}))
		if err == nil {
			t.Error("no error")
		}
		<-left
	})
}

func proxyFindsNobody(t *testing.T, p *proxying) {
	p.serve(t, nil)
	p.server.Close()
	_, err := readAll(t.Context(), p.source, p.open(&sdk.ProxyRequest{Method: http.MethodGet}))
	wantCode(t, "nobody there", err, sdk.Unavailable)
	if !sdk.AsError(err).Retryable {
		t.Errorf("%v is not retryable", err)
	}
}
