package main

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/towpath-dataplane/towpath/sdk"
)

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
