package admin_test

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/towpath-dataplane/towpath/host/admin"
)

func TestToken(t *testing.T) {
	w := newWorld(t, func(o *admin.Options) { o.Token = "opens-sesame" })
	for _, c := range []struct {
		path, authorization string
		want                int
	}{
		{"/healthz", "", 200},
		{"/readyz", "", 200},
		{"/metrics", "", 401},
		{"/api/v1/flows", "", 401},
		{"/api/v1/nothing", "", 401},
		{"/api/v1/flows", "Bearer", 401},
		{"/api/v1/flows", "Bearer ", 401},
		{"/api/v1/flows", "Bearer opens-sesam", 401},
		{"/api/v1/flows", "Bearer opens-sesame2", 401},
		{"/api/v1/flows", "Basic opens-sesame", 401},
		{"/api/v1/flows", "opens-sesame", 401},
		{"/api/v1/flows", "Bearer opens-sesame", 200},
		{"/api/v1/flows", "bearer  opens-sesame", 200},
		{"/metrics", "Bearer opens-sesame", 200},
		{"/api/v1/nothing", "Bearer opens-sesame", 404},
	} {
		r := httptest.NewRequest(http.MethodGet, "http://towpath.example"+c.path, nil)
		if c.authorization != "" {
			r.Header.Set("Authorization", c.authorization)
		}
		resp := w.ask(r)
		if resp.StatusCode != c.want {
			t.Errorf("%s with %q: %d, want %d", c.path, c.authorization, resp.StatusCode, c.want)
		}
		if challenge := resp.Header.Get("WWW-Authenticate"); strings.HasPrefix(challenge, "Bearer ") != (c.want == 401) {
			t.Errorf("%s with %q: challenge %q", c.path, c.authorization, challenge)
		}
	}
}

// A page of the web that an operator looks at cannot have the operator's browser ask.
func TestBrowsers(t *testing.T) {
	for _, c := range []struct {
		token, method, path, host string
		header                    map[string]string
		want                      int
	}{
		{"", "POST", "/api/v1/flows/f/retry", "127.0.0.1:18082", nil, 200},
		{"", "POST", "/api/v1/flows/f/retry", "[::1]:18082", nil, 200},
		{"", "POST", "/api/v1/flows/f/retry", "[::1]", nil, 200},
		{"", "POST", "/api/v1/flows/f/retry", "localhost:18082", nil, 200},
		{"", "POST", "/api/v1/flows/f/retry", "towpath:18082", nil, 200},
		{"", "POST", "/api/v1/flows/f/retry", "rebound.example:18082", nil, 403},
		{"", "GET", "/api/v1/flows/f/address", "rebound.example:18082", nil, 403},
		{"", "GET", "/api/v1/flows/f/data", "rebound.example:18082", nil, 403},
		{"", "GET", "/api/v1/flows/f/data/parts/x", "rebound.example:18082", nil, 403},
		{"", "GET", "/api/v1/flows/f/agreement", "rebound.example:18082", nil, 403},
		{"", "GET", "/api/v1/flows/f", "towpath.example", nil, 200},
		{"s", "POST", "/api/v1/flows/f/retry", "towpath.example", nil, 200},
		{"", "POST", "/api/v1/flows/f/retry", "127.0.0.1:18082", map[string]string{"Origin": "https://page.example"}, 403},
		{"", "POST", "/api/v1/flows/f/retry", "127.0.0.1:18082", map[string]string{"Sec-Fetch-Site": "cross-site"}, 403},
		{"", "POST", "/api/v1/flows/f/retry", "127.0.0.1:18082", map[string]string{"Sec-Fetch-Site": "same-origin"}, 200},
		{"s", "POST", "/api/v1/flows/f/retry", "127.0.0.1:18082", map[string]string{"Sec-Fetch-Site": "same-site"}, 403},
		{"", "PUT", "/api/v1/datasets/d", "rebound.example", nil, 403},
		{"", "DELETE", "/api/v1/datasets/d", "rebound.example", nil, 403},
		{"", "POST", "/api/v1/controlplanes/cp/register", "rebound.example", nil, 403},
		{"", "POST", "/api/v1/controlplanes/cp/deregister", "rebound.example", nil, 403},
	} {
		w := newFullWorld(t, func(o *admin.Options) { o.Token = c.token })
		r := httptest.NewRequest(c.method, c.path, nil)
		r.Host = c.host
		if c.token != "" {
			r.Header.Set("Authorization", "Bearer "+c.token)
		}
		for name, value := range c.header {
			r.Header.Set(name, value)
		}
		if got := w.ask(r).StatusCode; got != c.want {
			t.Errorf("%s %s at %s with %v: %d, want %d", c.method, c.path, c.host, c.header, got, c.want)
		}
	}
}
