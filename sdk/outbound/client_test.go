package outbound_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/towpath-dataplane/towpath/sdk"
	"github.com/towpath-dataplane/towpath/sdk/outbound"
)

// newServer serves on loopback until the test ends.
func newServer(t *testing.T, h http.HandlerFunc) *httptest.Server {
	t.Helper()
	server := httptest.NewServer(h)
	t.Cleanup(server.Close)
	return server
}

// unreached is a server that nobody should get to.
func unreached(t *testing.T) *httptest.Server {
	t.Helper()
	return newServer(t, func(http.ResponseWriter, *http.Request) { t.Error("the server was reached") })
}

// newClient returns a client whose connections end with the test.
func newClient(t *testing.T, p *outbound.Policy, l outbound.Limits) *http.Client {
	t.Helper()
	c := p.Client(l)
	t.Cleanup(c.CloseIdleConnections)
	return c
}

// get returns an answer and its body.
func get(t *testing.T, c *http.Client, rawURL string) (*http.Response, string, error) {
	t.Helper()
	resp, err := c.Get(rawURL)
	if err != nil {
		return nil, "", err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	return resp, string(body), err
}

func portOf(t *testing.T, server *httptest.Server) string {
	t.Helper()
	return parseURL(t, server.URL).Port()
}

func TestClientStaysInPolicy(t *testing.T) {
	server := unreached(t)
	for _, tt := range []struct {
		url  string
		code sdk.Code
		says string
	}{
		{server.URL, sdk.Denied, "a loopback address"},
		{"http://localhost:" + portOf(t, server), sdk.Denied, "a loopback address"},
		{"http://a.example/", sdk.Denied, "plain HTTP to a.example is not allowed"},
		{"https://10.0.0.1/", sdk.Denied, "a private address"},
		{"https://169.254.169.254/", sdk.Denied, "metadata"},
		{"ftp://a.example/", sdk.Invalid, "is not an absolute http or https URL"},
		{"https://user:pw@a.example/", sdk.Invalid, "user name"},
	} {
		_, _, err := get(t, newClient(t, newPolicy(t, false), outbound.Limits{}), tt.url)
		wantError(t, err, tt.code, tt.says)
	}
}

// closing tells whether it was closed.
type closing struct {
	io.Reader
	closed bool
}

func (c *closing) Close() error {
	c.closed = true
	return nil
}

func TestClientClosesTheBodyOfARefusedRequest(t *testing.T) {
	sent := &closing{Reader: strings.NewReader("x")}
	_, err := newClient(t, newPolicy(t, false), outbound.Limits{}).Post("http://10.0.0.1/", "text/plain", sent)
	wantError(t, err, sdk.Denied)
	if !sent.closed {
		t.Error("the body is open")
	}
}

func TestClientUsesNoProxy(t *testing.T) {
	proxy := unreached(t)
	for _, name := range []string{"HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "https_proxy", "ALL_PROXY"} {
		t.Setenv(name, proxy.URL)
	}
	t.Setenv("NO_PROXY", "")
	t.Setenv("no_proxy", "")
	resolve(t, map[string][]string{"peer.example": {"127.0.0.1"}})
	server := newServer(t, func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "direct") })
	c := newClient(t, newPolicy(t, true, "peer.example"), outbound.Limits{})
	if _, body, err := get(t, c, "http://peer.example:"+portOf(t, server)); err != nil || body != "direct" {
		t.Errorf("%q, %v", body, err)
	}
}

func TestClientTrusts(t *testing.T) {
	server := newServer(t, func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "here") })
	other := unreached(t)
	p := newPolicy(t, false)
	if err := p.Trust(server.URL + "/base"); err != nil {
		t.Fatal(err)
	}
	c := newClient(t, p, outbound.Limits{})
	if _, body, err := get(t, c, server.URL+"/base/x"); err != nil || body != "here" {
		t.Errorf("%q, %v", body, err)
	}
	_, _, err := get(t, c, other.URL)
	wantError(t, err, sdk.Denied, "a loopback address")
}

func TestClientKeepsConnections(t *testing.T) {
	var connections atomic.Int32
	server := httptest.NewUnstartedServer(http.NotFoundHandler())
	server.Config.ConnState = func(_ net.Conn, s http.ConnState) {
		if s == http.StateNew {
			connections.Add(1)
		}
	}
	server.Start()
	defer server.Close()
	c := newClient(t, newPolicy(t, false, "loopback"), outbound.Limits{})
	for range 3 {
		if _, _, err := get(t, c, server.URL); err != nil {
			t.Fatal(err)
		}
	}
	if n := connections.Load(); n != 1 {
		t.Errorf("%d connections, want 1", n)
	}
}

func TestClientRedirects(t *testing.T) {
	other := unreached(t)
	server := newServer(t, func(w http.ResponseWriter, req *http.Request) {
		step, more := strings.CutPrefix(req.URL.Path, "/loop")
		switch {
		case more:
			http.Redirect(w, req, "/loop"+step+"x", http.StatusFound)
		case req.URL.Path == "/target":
			body, _ := io.ReadAll(req.Body)
			fmt.Fprintf(w, "%s %s %q %q", req.Method, body, req.Header.Get("Authorization"), req.Header.Get("Referer"))
		case req.URL.Path == "/to":
			status := http.StatusFound
			fmt.Sscan(req.URL.Query().Get("status"), &status)
			http.Redirect(w, req, req.URL.Query().Get("url"), status)
		}
	})
	// Another host that leads to the same server.
	localhost := "http://localhost:" + portOf(t, server)
	for _, tt := range []struct {
		name, method, path string
		most               int
		want               string
		code               sdk.Code // "" for no error
		says               string
	}{
		{"followed", "GET", "/to?url=/target", 1, `GET  "Bearer x" ""`, "", ""},
		{"absolute", "GET", "/to?url=" + url.QueryEscape(server.URL+"/target"), 1, `GET  "Bearer x" ""`, "", ""},
		{"body again", "POST", "/to?status=307&url=/target", 1, `POST body "Bearer x" ""`, "", ""},
		{"body lost", "POST", "/to?status=302&url=/target", 1, "", sdk.Denied, "POST would become GET"},
		{"too many", "GET", "/loop", 3, "", sdk.Invalid, "redirected more than 3 times"},
		{"other port", "GET", "/to?url=" + other.URL + "/?secret", 1, "", sdk.Denied, "redirected to " + other.URL + ": redirects to another host"},
		{"other host", "GET", "/to?url=" + localhost + "/target", 1, "", sdk.Denied, "another host"},
		{"other scheme", "GET", "/to?url=" + strings.Replace(server.URL, "http:", "https:", 1), 1, "", sdk.Denied, "another host"},
		{"private", "GET", "/to?url=http://10.0.0.1/", 1, "", sdk.Denied, "another host"},
		{"file", "GET", "/to?url=file:///etc/passwd", 1, "", sdk.Denied, "another host"},
		{"user", "GET", "/to?url=" + strings.Replace(server.URL, "//", "//u:p@", 1) + "/target", 1, "", sdk.Invalid, "user name"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c := newClient(t, newPolicy(t, true, "loopback"), outbound.Limits{MaxRedirects: tt.most})
			var body io.Reader
			if tt.method == "POST" {
				body = strings.NewReader("body")
			}
			req, err := http.NewRequestWithContext(t.Context(), tt.method, server.URL+tt.path, body)
			if err != nil {
				t.Fatal(err)
			}
			req.Header.Set("Authorization", "Bearer x")
			resp, err := c.Do(req)
			if tt.code != "" {
				var refused *sdk.Error
				if !errors.As(err, &refused) {
					t.Fatalf("got %v", err)
				}
				wantError(t, refused, tt.code, tt.says)
				if strings.Contains(refused.Message, "secret") {
					t.Errorf("the error repeats a query: %v", refused)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			defer resp.Body.Close()
			if got, err := io.ReadAll(resp.Body); err != nil || string(got) != tt.want {
				t.Errorf("%s, %v; want %s", got, err, tt.want)
			}
		})
	}
}

func TestClientReturnsTheRedirect(t *testing.T) {
	other := unreached(t)
	server := newServer(t, func(w http.ResponseWriter, req *http.Request) { http.Redirect(w, req, other.URL, http.StatusFound) })
	resp, body, err := get(t, newClient(t, newPolicy(t, false, "loopback"), outbound.Limits{}), server.URL)
	if err != nil || resp.StatusCode != http.StatusFound || resp.Header.Get("Location") != other.URL || body == "" {
		t.Errorf("%v, %q, %v", resp, body, err)
	}
}

func TestClientLimitsTheBody(t *testing.T) {
	server := newServer(t, func(w http.ResponseWriter, req *http.Request) {
		var size int
		fmt.Sscan(req.URL.Query().Get("size"), &size)
		if req.URL.Query().Has("chunked") {
			w.(http.Flusher).Flush()
		}
		io.WriteString(w, strings.Repeat("x", size))
	})
	for _, tt := range []struct {
		query     string
		max       int64
		want      int
		wantError bool
	}{
		{"size=0", 10, 0, false},
		{"size=10", 10, 10, false},
		{"size=11", 10, 10, true},
		{"size=10&chunked", 10, 10, false},
		{"size=11&chunked", 10, 10, true},
		{"size=3000000&chunked", 1000, 1000, true},
		{"size=1048576", 0, 1 << 20, false},
		{"size=1048577", 0, 1 << 20, true},
	} {
		t.Run(tt.query, func(t *testing.T) {
			c := newClient(t, newPolicy(t, false, "loopback"), outbound.Limits{MaxBody: tt.max})
			resp, err := c.Get(server.URL + "?" + tt.query)
			if err != nil {
				t.Fatal(err)
			}
			defer resp.Body.Close()
			got, err := io.ReadAll(resp.Body)
			if len(got) != tt.want || errors.Is(err, outbound.ErrTooLarge) != tt.wantError || !tt.wantError && err != nil {
				t.Errorf("%d bytes, %v", len(got), err)
			}
			if !tt.wantError {
				return
			}
			wantError(t, err, sdk.Exhausted, "the answer is too large: more than")
			if n, err := resp.Body.Read(make([]byte, 1)); n != 0 || !errors.Is(err, outbound.ErrTooLarge) {
				t.Errorf("then %d bytes, %v", n, err)
			}
		})
	}
}

// What a compressed answer would become counts for nothing, because none is asked for.
func TestClientAsksForNoCompression(t *testing.T) {
	server := newServer(t, func(w http.ResponseWriter, req *http.Request) { fmt.Fprint(w, req.Header["Accept-Encoding"]) })
	if _, body, err := get(t, newClient(t, newPolicy(t, false, "loopback"), outbound.Limits{}), server.URL); err != nil || body != "[]" {
		t.Errorf("%q, %v", body, err)
	}
}

func TestClientGivesUp(t *testing.T) {
	for _, tt := range []struct {
		name  string
		serve func(http.ResponseWriter)
	}{
		{"no answer", func(http.ResponseWriter) {}},
		{"no end", func(w http.ResponseWriter) {
			io.WriteString(w, "x")
			w.(http.Flusher).Flush()
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			server := newServer(t, func(w http.ResponseWriter, req *http.Request) {
				tt.serve(w)
				<-req.Context().Done()
			})
			c := newClient(t, newPolicy(t, false, "loopback"), outbound.Limits{Timeout: 100 * time.Millisecond})
			_, _, err := get(t, c, server.URL)
			var timeout net.Error
			if !errors.As(err, &timeout) || !timeout.Timeout() {
				t.Errorf("got %v", err)
			}
		})
	}
}

func TestClientTLS(t *testing.T) {
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		fmt.Fprintf(w, "%s %d", req.Proto, len(req.TLS.PeerCertificates))
	}))
	server.TLS = &tls.Config{ClientAuth: tls.RequestClientCert}
	server.Config.ErrorLog = log.New(io.Discard, "", 0) // it would tell of the handshake that fails
	server.StartTLS()
	defer server.Close()
	p := newPolicy(t, false, "loopback")
	_, _, err := get(t, newClient(t, p, outbound.Limits{}), server.URL)
	var unknown x509.UnknownAuthorityError
	if !errors.As(err, &unknown) {
		t.Errorf("without roots: %v", err)
	}
	roots := x509.NewCertPool()
	roots.AddCert(server.Certificate())
	config := &tls.Config{RootCAs: roots, Certificates: server.TLS.Certificates}
	if _, body, err := get(t, newClient(t, p, outbound.Limits{TLS: config}), server.URL); err != nil || body != "HTTP/1.1 1" {
		t.Errorf("%q, %v", body, err)
	}
}

// A name that is not suspicious by itself, and leads to this machine or its network, is refused when the connection is made.
func TestNamesThatLeadElsewhere(t *testing.T) {
	resolve(t, map[string][]string{
		"loopback.example": {"127.0.0.1"}, "private.example": {"10.0.0.1"}, "metadata.example": {"169.254.169.254"},
		"both.example": {"10.0.0.1", "127.0.0.1"},
	})
	server := newServer(t, func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "reached") })
	for _, tt := range []struct {
		host    string
		allow   []string
		refused string // part of the message; "" if the server is reached
	}{
		{"loopback.example", nil, "connections to loopback.example:%s (127.0.0.1, a loopback address) are not allowed"},
		{"private.example", nil, "connections to private.example:%s (10.0.0.1, a private address) are not allowed"},
		{"private.example", []string{"loopback"}, "a private address"},
		{"metadata.example", []string{"loopback", "10.0.0.0/8"}, "a cloud metadata address"},
		{"both.example", nil, "not allowed"},
		{"loopback.example", []string{"loopback"}, ""},
		{"loopback.example", []string{"loopback.example"}, ""},
		{"both.example", []string{"loopback"}, ""},
	} {
		c := newClient(t, newPolicy(t, true, tt.allow...), outbound.Limits{})
		_, body, err := get(t, c, "http://"+tt.host+":"+portOf(t, server))
		if tt.refused == "" {
			if err != nil || body != "reached" {
				t.Errorf("%s with %v: %q, %v", tt.host, tt.allow, body, err)
			}
			continue
		}
		if err == nil {
			t.Errorf("%s with %v can be reached", tt.host, tt.allow)
			continue
		}
		wantError(t, err, sdk.Denied, strings.ReplaceAll(tt.refused, "%s", portOf(t, server)))
	}
}

// A name that leads elsewhere than it did before is checked again.
func TestRebinding(t *testing.T) {
	names := resolve(t, map[string][]string{"rebound.example": {"127.0.0.1"}})
	server := newServer(t, func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "reached") })
	c := newClient(t, newPolicy(t, true, "127.0.0.1"), outbound.Limits{})
	rawURL := "http://rebound.example:" + portOf(t, server)
	if _, body, err := get(t, c, rawURL); err != nil || body != "reached" {
		t.Fatalf("%q, %v", body, err)
	}
	names.set("rebound.example", "127.0.0.2")
	c.CloseIdleConnections()
	_, _, err := get(t, c, rawURL)
	wantError(t, err, sdk.Denied, "127.0.0.2, a loopback address")
}

func TestDialer(t *testing.T) {
	server := newServer(t, func(http.ResponseWriter, *http.Request) {})
	address := server.Listener.Addr().String()
	_, err := newPolicy(t, true).Dialer(time.Second)(t.Context(), "tcp", address)
	wantError(t, err, sdk.Denied, "connections to "+address+" (a loopback address) are not allowed")
	conn, err := newPolicy(t, true, "loopback").Dialer(time.Second)(t.Context(), "tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	conn.Close()
	_, err = newPolicy(t, true, "loopback").Dialer(time.Second)(t.Context(), "unix", "/nowhere")
	wantError(t, err, sdk.Denied, "no IP address")
}

// names are what a resolver of the test's own knows.
type names struct {
	mu sync.Mutex
	of map[string][]string
}

// resolve answers the look-ups of this process until the test ends.
func resolve(t *testing.T, of map[string][]string) *names {
	t.Helper()
	n := &names{of: of}
	var serving sync.WaitGroup
	former := net.DefaultResolver
	net.DefaultResolver = &net.Resolver{PreferGo: true, Dial: func(context.Context, string, string) (net.Conn, error) {
		near, far := net.Pipe()
		serving.Go(func() { n.serve(far) })
		return near, nil
	}}
	t.Cleanup(func() {
		net.DefaultResolver = former
		serving.Wait()
	})
	return n
}

func (n *names) set(name string, addresses ...string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.of[name] = addresses
}

func (n *names) get(name string) []string {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.of[name]
}

// serve answers one question for the IPv4 addresses of a name, or says that there are none, as DNS over a stream (RFC 1035).
func (n *names) serve(conn net.Conn) {
	defer conn.Close()
	var size uint16
	if binary.Read(conn, binary.BigEndian, &size) != nil {
		return
	}
	message := make([]byte, size)
	if _, err := io.ReadFull(conn, message); err != nil || size < 12 {
		return
	}
	name, end := "", 12
	for message[end] != 0 {
		length := int(message[end])
		name += string(message[end+1:end+1+length]) + "."
		end += 1 + length
	}
	question := message[12 : end+5]
	answer := append([]byte{}, message[0], message[1], 0x84, 0, 0, 1, 0, 0, 0, 0, 0, 0)
	answer = append(answer, question...)
	if isA := message[end+2] == 1; isA {
		for _, address := range n.get(strings.TrimSuffix(name, ".")) {
			ip := netip.MustParseAddr(address).As4()
			answer = append(answer, 0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 0, 0, 4)
			answer = append(answer, ip[:]...)
			answer[7]++
		}
	}
	binary.Write(conn, binary.BigEndian, uint16(len(answer)))
	conn.Write(answer)
}
