package main

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"

	"github.com/towpath-dataplane/towpath/sdk"
	"github.com/towpath-dataplane/towpath/sdk/outbound"
)

func TestRedirects(t *testing.T) {
	other := newServer(t, func(w http.ResponseWriter, req *http.Request) {
		if req.URL.Path == "/back" {
			http.Redirect(w, req, req.URL.Query().Get("to"), http.StatusFound)
			return
		}
		fmt.Fprintf(w, "other %q %q %q", req.Header.Get("Authorization"), req.Header.Get("X-Api-Key"), req.Header.Get("Referer"))
	})
	var server *httptest.Server
	server = newServer(t, func(w http.ResponseWriter, req *http.Request) {
		to := map[string]string{
			"/relative": "/target?q=1", "/twice": "/relative", "/other": other.URL + "/x",
			"/and-back": other.URL + "/back?to=" + url.QueryEscape(server.URL+"/target"),
			"/private":  "http://10.0.0.1/", "/metadata": "http://169.254.169.254/latest", "/file": "file:///etc/passwd",
			"/user": strings.Replace(server.URL, "http://", "http://u:p@", 1) + "/target",
			"/loop": "/loop", "/nowhere": "",
		}[req.URL.Path]
		switch req.URL.Path {
		case "/target":
			fmt.Fprintf(w, "target %q %q %q", req.Header.Get("Authorization"), req.Header.Get("X-Api-Key"), req.Header.Get("Referer"))
		case "/kept":
			http.Redirect(w, req, "/echo", http.StatusTemporaryRedirect)
		case "/echo":
			io.Copy(w, req.Body)
		case "/nowhere":
			w.WriteHeader(http.StatusFound)
		case "/broken":
			w.Header().Set("Location", "http://[::1/?secret-query")
			w.WriteHeader(http.StatusFound)
		default:
			http.Redirect(w, req, to, http.StatusFound)
		}
	})
	const withAll = `target "Bearer token" "key" ""`
	for _, tt := range []struct {
		policy, path string
		want         string
		code         sdk.Code // "" for no error
		says         string
	}{
		{"same-host", "/relative", withAll, "", ""},
		{"same-host", "/twice", withAll, "", ""},
		{"same-host", "/other", "", sdk.Denied, "another host"},
		{"same-host", "/private", "", sdk.Denied, "another host"},
		{"same-host", "/loop", "", sdk.Invalid, "more than 5"},
		{"same-host", "/user", "", sdk.Denied, "user name"},
		{"any", "/other", `other "" "" ""`, "", ""},
		{"any", "/and-back", `target "" "" ""`, "", ""},
		{"any", "/relative", withAll, "", ""},
		{"any", "/private", "", sdk.Denied, "10.0.0.1"},
		{"any", "/metadata", "", sdk.Denied, "169.254.169.254"},
		{"any", "/file", "", sdk.Denied, "not an absolute http"},
		{"any", "/loop", "", sdk.Invalid, "more than 5"},
		{"any", "/nowhere", "", sdk.Invalid, "302"},
		{"any", "/broken", "", sdk.Unavailable, "Location"},
		{"none", "/relative", "", sdk.Invalid, "302 Found"},
	} {
		t.Run(tt.policy+tt.path, func(t *testing.T) {
			p := newTestPlugin(t, loopback().with("redirects", tt.policy).with("allow_http", true))
			a := dps(server.URL+tt.path+"?secret-query", "authorization", "token", "header:X-Api-Key", "key")
			parts, err := readAll(t.Context(), p, sdk.ReadRequest{Address: a})
			if tt.code != "" {
				wantError(t, err, tt.code, tt.code == sdk.Unavailable, tt.says)
				if strings.Contains(err.Error(), "secret") {
					t.Errorf("the error repeats a query: %v", err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if parts[0].content != tt.want {
				t.Errorf("%s, want %s", parts[0].content, tt.want)
			}
		})
	}
}

// A redirect must not turn a request with a body into one without.
func TestRedirectsOfOtherMethods(t *testing.T) {
	server := newServer(t, func(w http.ResponseWriter, req *http.Request) {
		switch req.URL.Path {
		case "/found":
			http.Redirect(w, req, "/echo", http.StatusFound)
		case "/temporary":
			http.Redirect(w, req, "/echo", http.StatusTemporaryRedirect)
		default:
			io.WriteString(w, req.Method)
		}
	})
	p := newTestPlugin(t, loopback())
	get := func(path string) ([]readPart, error) {
		return readAll(t.Context(), p, sdk.ReadRequest{Address: edc(server.URL+path, "method", "POST")})
	}
	_, err := get("/found")
	wantError(t, err, sdk.Denied, false, "POST into GET")
	parts, err := get("/temporary")
	if err != nil || parts[0].content != "POST" {
		t.Errorf("%v, %v", parts, err)
	}
}

func TestRedirectRule(t *testing.T) {
	for _, tt := range []struct {
		first, next string
		redirects   string
		want        bool
	}{
		{"https://a.example/", "https://a.example/x", redirectsSameHost, true},
		{"https://a.example/", "https://A.example.:443/x", redirectsSameHost, true},
		{"https://a.example/", "https://a.example:8443/x", redirectsSameHost, false},
		{"https://a.example/", "https://b.a.example/x", redirectsSameHost, false},
		{"https://a.example/", "https://b.a.example/x", redirectsAny, true},
		{"http://a.example/", "https://a.example/x", redirectsSameHost, true},
		{"http://a.example:8080/", "https://a.example/x", redirectsSameHost, false},
		{"http://a.example:80/", "https://a.example:443/x", redirectsSameHost, true},
		{"http://a.example/", "https://b.example/x", redirectsSameHost, false},
		{"http://a.example:8443/", "https://a.example:8443/x", redirectsSameHost, true},
		{"https://[2001:4860::1]/", "https://[2001:4860::2]/x", redirectsSameHost, false},
		{"https://a.example/", "http://a.example/x", redirectsAny, false},
		{"https://a.example/", "http://a.example:443/x", redirectsAny, false},
	} {
		p, err := outbound.NewPolicy(outbound.Rules{AllowHTTP: true})
		if err != nil {
			t.Fatal(err)
		}
		first := &http.Request{Method: "GET", URL: parseURL(t, tt.first)}
		next := &http.Request{Method: "GET", URL: parseURL(t, tt.next), Header: http.Header{}}
		if err := redirectRule(tt.redirects, p)(next, []*http.Request{first}); (err == nil) != tt.want {
			t.Errorf("%s to %s with %s: %v", tt.first, tt.next, tt.redirects, err)
		}
	}
}
