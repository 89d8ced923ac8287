package main

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/towpath-dataplane/towpath/sdk"
)

func TestPolicyRefusesRanges(t *testing.T) {
	p, err := newPolicy(nil, true)
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		resolved string
		refused  string // part of the message; "" if the address can be used
	}{
		{"93.184.215.14:443", ""},
		{"[2606:2800:21f:cb07:6820:80da:af6b:8b2c]:443", ""},
		{"172.15.255.255:443", ""},
		{"172.32.0.0:443", ""},
		{"100.63.255.255:443", ""},
		{"100.128.0.0:443", ""},
		{"[2002:5db8:d70e::1]:443", ""},      // 6to4 of a public address
		{"[64:ff9b::93.184.215.14]:443", ""}, // NAT64 of a public address
		{"[::ffff:93.184.215.14]:443", ""},   // mapped public address
		{"127.0.0.1:80", "loopback"},
		{"127.255.255.254:80", "loopback"},
		{"[::1]:80", "loopback"},
		{"[::ffff:127.0.0.1]:80", "loopback"},
		{"10.0.0.1:443", "private"},
		{"172.16.0.1:443", "private"},
		{"172.31.255.255:443", "private"},
		{"192.168.1.1:443", "private"},
		{"[fd12:3456::1]:443", "private"},
		{"[fec0::1]:443", "private"},
		{"[::ffff:10.0.0.1]:443", "private"},
		{"[2002:0a00:0001::1]:443", "private"},
		{"[2002:7f00:0001::1]:443", "loopback"},
		{"[64:ff9b::192.168.0.1]:443", "private"},
		{"[64:ff9b:1::1]:443", "private"},
		{"[::ffff:0:10.0.0.1]:443", "private"},
		{"169.254.1.1:443", "link-local"},
		{"[fe80::1%eth0]:443", "link-local"},
		{"100.64.0.1:443", "carrier"},
		{"169.254.169.254:80", "metadata"},
		{"168.63.129.16:80", "metadata"},
		{"100.100.100.200:80", "metadata"},
		{"[fd00:ec2::254]:80", "metadata"},
		{"[::ffff:169.254.169.254]:80", "metadata"},
		{"[64:ff9b::169.254.169.254]:80", "metadata"},
		{"0.0.0.0:80", "unspecified"},
		{"0.1.2.3:80", "unspecified"},
		{"[::]:80", "unspecified"},
		{"[::10.0.0.1]:80", "obsolete"},
		{"224.0.0.1:80", "multicast"},
		{"[ff02::1]:80", "multicast"},
		{"255.255.255.255:80", "reserved"},
		{"198.18.0.1:80", "reserved"},
		{"[2001:0:4136:e378:8000:63bf:3fff:fdd2]:80", "tunnelled"},
		{"/run/socket", "no IP address"},
	} {
		err := p.checkDial("host.example:443", tt.resolved)
		if tt.refused == "" {
			if err != nil {
				t.Errorf("%s: %v", tt.resolved, err)
			}
			continue
		}
		if err == nil {
			t.Errorf("%s can be used", tt.resolved)
			continue
		}
		wantError(t, err, sdk.Denied, false, tt.refused, "host.example:443")
	}
}

func TestPolicyAllows(t *testing.T) {
	for _, tt := range []struct {
		allow          string
		host, resolved string
		want           bool
	}{
		{"loopback", "localhost:80", "127.0.0.1:80", true},
		{"loopback", "localhost:80", "[::1]:80", true},
		{"loopback", "a.example:80", "127.0.0.1:80", true},
		{"loopback", "a.example:80", "10.0.0.1:80", false},
		{"loopback", "a.example:80", "[2002:7f00:1::]:80", false},
		{"10.1.0.0/16", "a.example:80", "10.1.2.3:80", true},
		{"10.1.0.0/16", "a.example:80", "10.2.0.1:80", false},
		{"10.1.0.0/16", "a.example:80", "[::ffff:10.1.2.3]:80", true},
		{"10.1.2.3", "a.example:80", "10.1.2.3:80", true},
		{"10.1.2.3", "a.example:80", "10.1.2.4:80", false},
		{"::1", "a.example:80", "[::1]:80", true},
		{"fd00::/8", "a.example:80", "[fd00::1]:80", true},
		{"a.example", "a.example:80", "10.0.0.1:80", true},
		{"A.Example", "a.EXAMPLE.:8080", "10.0.0.1:8080", true},
		{"a.example", "b.a.example:80", "10.0.0.1:80", false},
		{"a.example:8080", "a.example:8080", "10.0.0.1:8080", true},
		{"a.example:8080", "a.example:80", "10.0.0.1:80", false},
		{"10.0.0.1:8080", "10.0.0.1:8080", "10.0.0.1:8080", true},
		{"10.0.0.1:8080", "10.0.0.1:80", "10.0.0.1:80", false},
	} {
		p, err := newPolicy([]string{tt.allow}, false)
		if err != nil {
			t.Fatal(err)
		}
		if err := p.checkDial(tt.host, tt.resolved); (err == nil) != tt.want {
			t.Errorf("allow %q: %s resolved to %s: %v", tt.allow, tt.host, tt.resolved, err)
		}
	}
}

func TestPolicyRefusesEntries(t *testing.T) {
	for _, entry := range []string{"", "http://a.example", "a.example/path", "a.example:", "a b", "10.0.0.0/33", "user@a.example", "a.example:http"} {
		if _, err := newPolicy([]string{entry}, false); err == nil {
			t.Errorf("allow %q is taken", entry)
		}
	}
}

func TestPolicyChecksURL(t *testing.T) {
	for _, tt := range []struct {
		url       string
		allow     []string
		allowHTTP bool
		code      sdk.Code // "" if it can be used
	}{
		{url: "https://a.example/x"},
		{url: "http://a.example/x", code: sdk.Denied},
		{url: "http://a.example/x", allowHTTP: true},
		{url: "http://a.example/x", allow: []string{"a.example"}, code: sdk.Denied},
		{url: "http://localhost/", code: sdk.Denied},
		{url: "http://localhost/", allow: []string{"loopback"}},
		{url: "http://LOCALHOST./", allow: []string{"loopback"}},
		{url: "https://x.localhost/", code: sdk.Denied},
		{url: "https://x.localhost/", allow: []string{"x.localhost"}},
		{url: "http://127.0.0.1:8080/", allow: []string{"loopback"}},
		{url: "http://[::1]:8080/", allow: []string{"loopback"}},
		{url: "http://[::ffff:127.0.0.1]/", code: sdk.Denied},
		{url: "https://10.0.0.1/", code: sdk.Denied},
		{url: "https://169.254.169.254/latest/", code: sdk.Denied},
		{url: "ftp://a.example/", code: sdk.Invalid},
		{url: "//a.example/", code: sdk.Invalid},
		{url: "/x", code: sdk.Invalid},
		{url: "https:a.example", code: sdk.Invalid},
		{url: "https://user:pw@a.example/", code: sdk.Invalid},
	} {
		p, err := newPolicy(tt.allow, tt.allowHTTP)
		if err != nil {
			t.Fatal(err)
		}
		err = p.checkURL(parseURL(t, tt.url))
		if tt.code == "" {
			if err != nil {
				t.Errorf("%s with allow %q: %v", tt.url, tt.allow, err)
			}
			continue
		}
		wantError(t, err, tt.code, false)
	}
}

// A name that is not suspicious by itself, and leads to loopback, is refused when the connection is made.
func TestDialChecksWhatWasResolved(t *testing.T) {
	server := newServer(t, func(http.ResponseWriter, *http.Request) { t.Error("the server was reached") })
	p := newTestPlugin(t, block{"allow_http": true})
	transport := environmentOf(p).reader.http.Transport.(*http.Transport)
	_, port, _ := strings.Cut(strings.TrimPrefix(server.URL, "http://"), ":")
	// The host's name cannot be resolved in a test; its dialler is asked for the address that a resolver would give.
	_, err := transport.DialContext(t.Context(), "tcp", "127.0.0.1:"+port)
	wantError(t, failure(t.Context(), "GET http://rebound.example/", err), sdk.Denied, false, "loopback")
}

func TestRequestsStayInPolicy(t *testing.T) {
	server := newServer(t, func(http.ResponseWriter, *http.Request) { t.Error("the server was reached") })
	t.Setenv("HTTP_PROXY", server.URL)
	t.Setenv("http_proxy", server.URL)
	p := newTestPlugin(t, block{})
	for _, a := range []sdk.DataAddress{edc(server.URL), dps(server.URL), edc("http://localhost:1/"), edc("https://192.168.0.1/")} {
		wantError(t, readError(t, p, a), sdk.Denied, false, "not allowed")
	}
	err := sdk.NewDataSource(p.Sources[0]).Validate(t.Context(), edc(server.URL))
	wantError(t, err, sdk.Invalid, false, "baseUrl", "not allowed")
	err = sdk.NewDataSink(p.Sinks[0]).Validate(t.Context(), edc("https://192.168.0.1/"))
	wantError(t, err, sdk.Invalid, false, "baseUrl: connections to 192.168.0.1 (a private address) are not allowed")
}

func TestNoProxyFromTheEnvironment(t *testing.T) {
	proxy := newServer(t, func(http.ResponseWriter, *http.Request) { t.Error("the proxy was used") })
	t.Setenv("HTTP_PROXY", proxy.URL)
	t.Setenv("NO_PROXY", "")
	for _, c := range []*client{environmentOf(newTestPlugin(t, loopback())).reader, environmentOf(newTestPlugin(t, loopback())).writer} {
		if c.http.Transport.(*http.Transport).Proxy != nil {
			t.Error("the transport has a proxy")
		}
	}
	server := httptest.NewServer(http.NotFoundHandler())
	defer server.Close()
	wantError(t, readError(t, newTestPlugin(t, loopback()), edc(server.URL)), sdk.NotFound, false)
}
