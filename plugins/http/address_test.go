package main

import (
	"flag"
	"io"
	"net/http"
	"net/http/httputil"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/towpath-dataplane/towpath/sdk"
)

var update = flag.Bool("update", false, "write the golden files anew")

// recorder answers every request with a small body and keeps what came.
type recorder struct {
	requests []string
}

func (r *recorder) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	req.Host = "server.example"
	dump, err := httputil.DumpRequest(req, true)
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	r.requests = append(r.requests, strings.ReplaceAll(string(dump), "\r\n", "\n"))
	w.Header().Set("Content-Type", "text/plain")
	w.Write([]byte("content"))
}

func (r *recorder) checkGolden(t *testing.T, name string) {
	t.Helper()
	got := strings.Join(r.requests, "\n----\n")
	file := filepath.Join("testdata", name+".golden")
	if *update {
		if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), got); diff != "" {
		t.Errorf("%s (-want +got):\n%s", file, diff)
	}
}

func TestRequestsOfSources(t *testing.T) {
	const namespace = "https://w3id.org/edc/v0.0.1/ns/"
	for _, tt := range []struct {
		name    string
		address func(url string) sdk.DataAddress
		request *sdk.ProxyRequest
	}{
		{name: "source-edc", address: func(url string) sdk.DataAddress {
			return edc(url+"/base/", "path", "/a b/c%2Fd", "queryParams", "x=1&y=ü", "authKey", "X-Api-Key", "authCode", "secret",
				"header:X-One", "1", namespace+"header:X-Two", "2", "header:Content-Type", "ignored/type", "unknown", "ignored")
		}},
		{name: "source-edc-namespace", address: func(url string) sdk.DataAddress {
			a := sdk.DataAddress{Type: addressType, Properties: map[string]string{
				namespace + "baseUrl": url + "?fixed=1", namespace + "queryParams": "?more=2", namespace + "path": "data",
			}}
			return a
		}},
		{name: "source-dps", address: func(url string) sdk.DataAddress {
			return dps(url+"/flows/1", "authorization", "token", "authType", "bearer")
		}},
		{name: "source-dps-raw", address: func(url string) sdk.DataAddress {
			return dps(url, "authorization", "Bearer token", "header:Accept", "text/csv")
		}},
		{name: "source-dps-basic", address: func(url string) sdk.DataAddress {
			return dps(url, "authorization", "dTpw", "authType", "Basic")
		}},
		{name: "source-method", address: func(url string) sdk.DataAddress { return edc(url, "method", "POST") }},
		{
			name: "source-proxy",
			address: func(url string) sdk.DataAddress {
				return edc(url+"/base", "path", "replaced", "queryParams", "own=1", "proxyPath", "true", "proxyQueryParams", "true",
					"proxyMethod", "true", "proxyBody", "true")
			},
			request: &sdk.ProxyRequest{Method: "PUT", Path: "/x%2Fy/z", Query: "theirs=2 3",
				Header: []sdk.HeaderField{{Name: "content-type", Value: "text/csv"}, {Name: "X-Other", Value: "goes"}},
				Body:   io.NopCloser(strings.NewReader("1;2")), Size: 3},
		},
		{
			name: "source-proxy-off",
			address: func(url string) sdk.DataAddress {
				return edc(url+"/base", "path", "own", "queryParams", "own=1", "proxyPath", "false")
			},
			request: &sdk.ProxyRequest{Method: "PUT", Path: "theirs", Query: "theirs=2", Body: io.NopCloser(strings.NewReader("x")), Size: 1,
				Header: []sdk.HeaderField{{Name: "Content-Type", Value: "text/csv"}, {Name: "Accept", Value: "text/csv"}}},
		},
		{
			name:    "source-proxy-body-untyped",
			address: func(url string) sdk.DataAddress { return edc(url, "proxyBody", "true", "proxyMethod", "true") },
			request: &sdk.ProxyRequest{Method: "POST", Body: io.NopCloser(strings.NewReader("x")), Size: sdk.SizeUnknown},
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var r recorder
			server := newServer(t, r.ServeHTTP)
			p := newTestPlugin(t, loopback())
			req := sdk.ReadRequest{Address: tt.address(server.URL), Request: tt.request}
			if err := sdk.NewDataSource(p.Sources[0]).Validate(t.Context(), req.Address); err != nil {
				t.Fatal(err)
			}
			if _, err := readAll(t.Context(), p, req); err != nil {
				t.Fatal(err)
			}
			r.checkGolden(t, tt.name)
		})
	}
}

func TestProxiedRequestsThatAreRefused(t *testing.T) {
	server := newServer(t, func(http.ResponseWriter, *http.Request) { t.Error("the server was reached") })
	p := newTestPlugin(t, loopback())
	a := edc(server.URL+"/base", "proxyPath", "true", "proxyMethod", "true")
	for _, r := range []sdk.ProxyRequest{
		{Path: "../admin"}, {Path: "a/%2e%2e/b"}, {Path: `a\..\b`}, {Path: "a/%2E"}, {Path: "%zz"}, {Path: "..%2fadmin"}, {Path: "a%5c..%5cb"},
		{Method: "CONNECT"}, {Method: "TRACE"}, {Method: "GE T"}, {Method: "G\r\nX"},
	} {
		_, err := readAll(t.Context(), p, sdk.ReadRequest{Address: a, Request: &r})
		wantError(t, err, sdk.Invalid, false, "cannot be handed on")
	}
}

func TestAddressesThatAreRefused(t *testing.T) {
	ok := "https://a.example/"
	for _, tt := range []struct {
		name    string
		address sdk.DataAddress
		field   string
	}{
		{"no URL", edc(""), "baseUrl"},
		{"relative", edc("/x"), "baseUrl"},
		{"no host", dps("https:///x"), "endpoint"},
		{"not HTTP", dps("ftp://a.example/"), "endpoint"},
		{"user", dps("https://user:word@a.example/"), "endpoint"},
		{"broken", dps("https://a.example/%zz?secret-in-query"), "endpoint"},
		{"port", dps("https://a.example:99999/"), "endpoint"},
		{"control", dps("https://a.example/\x00"), "endpoint"},
		{"path", edc(ok, "path", "%zz"), "path"},
		{"method", edc(ok, "method", "GE T"), "method"},
		{"method CONNECT", edc(ok, "method", "CONNECT"), "method"},
		{"method HEAD", edc(ok, "method", "HEAD"), "method"},
		{"header name", edc(ok, "header:X Y", "v"), "header:X Y"},
		{"header without name", edc(ok, "header:", "v"), "header:"},
		{"header value", edc(ok, "header:X", "a\r\nY: b"), "header:X"},
		{"header of the plugin", edc(ok, "header:Transfer-Encoding", "chunked"), "header:Transfer-Encoding"},
		{"header Host", edc(ok, "header:host", "b.example"), "header:host"},
		{"authKey", edc(ok, "authKey", "X:", "authCode", "secret-code"), "authKey"},
		{"authKey without authCode", edc(ok, "authKey", "X"), "authCode"},
		{"authCode without authKey", edc(ok, "authCode", "secret-code"), "authKey"},
		{"authCode value", edc(ok, "authKey", "X", "authCode", "secret-code\n"), "authKey"},
		{"authorization value", dps(ok, "authorization", "secret-code\n"), "authorization"},
		{"authType", dps(ok, "authorization", "secret-code", "authType", "a b"), "authType"},
		{"two values", dps(ok, "authorization", "secret-code", "authKey", "authorization", "authCode", "secret-code"), "authorization"},
		{"name", edc(ok, "name", "../x"), "name"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			source := newPlugin().Sources[0].Source.(*source)
			err := source.Validate(t.Context(), tt.address)
			wantError(t, err, sdk.Invalid, false)
			fields := sdk.AsError(err).Fields
			if len(fields) == 0 || fields[0].Field != tt.field {
				t.Errorf("fields %v, want %s", fields, tt.field)
			}
			if strings.Contains(err.Error(), "secret") || strings.Contains(err.Error(), "word") && tt.name != "user" {
				t.Errorf("the error gives a secret away: %v", err)
			}
		})
	}
}

func TestCredentialsThatHaveToBeFetched(t *testing.T) {
	for _, name := range []string{"secretName", "oauth2:tokenUrl", "https://w3id.org/edc/v0.0.1/ns/oauth2:clientId"} {
		a := edc("https://a.example/", name, "x")
		p := newPlugin()
		wantError(t, sdk.NewDataSource(p.Sources[0]).Validate(t.Context(), a), sdk.Unsupported, false, "not supported yet")
		wantError(t, sdk.NewDataSink(p.Sinks[0]).Validate(t.Context(), a), sdk.Unsupported, false, "not supported yet")
	}
}

func TestSchemasTakeWhatPeersSend(t *testing.T) {
	p := newPlugin()
	a := dps("https://a.example/", "authorization", "t", "authType", "bearer", "refreshToken", "r", "expiresIn", "300")
	if err := sdk.NewDataSource(p.Sources[0]).Validate(t.Context(), a); err != nil {
		t.Error(err)
	}
	a.Properties["manifestUrl"] = "https://a.example/manifests/1"
	a.Properties["digests"] = "sha256"
	if err := sdk.NewDataSink(p.Sinks[0]).Validate(t.Context(), a); err != nil {
		t.Error(err)
	}
	wantError(t, sdk.NewDataSource(p.Sources[0]).Validate(t.Context(), edc("https://a.example/", "proxyPath", "maybe")), sdk.Invalid, false)
}

// FuzzAddress reads addresses that counterparties made. What is accepted can be sent, and what is refused repeats no secret.
func FuzzAddress(f *testing.F) {
	f.Add("https://x.example/a?b=c", "/d e", "?f=g", "Bearer", "secret-value", "X-Field", "value")
	f.Add("http://x.example:0", "%zz", "#", "", "secret-value", "Host", "a\nb")
	f.Add("//x", "", "", "basic", "", "", "")
	f.Fuzz(func(t *testing.T, endpoint, path, query, authType, token, name, value string) {
		a := sdk.DataAddress{Type: "HttpData", Endpoint: endpoint, Properties: map[string]string{"path": path, "queryParams": query,
			"authType": authType, "authorization": token, "header:" + name: value}}
		to, err := newTarget(a, http.MethodGet)
		if err != nil {
			if e := sdk.AsError(err); e.Code != sdk.Invalid && e.Code != sdk.Unsupported {
				t.Error(err)
			}
			if token == "secret-value" && strings.Contains(err.Error(), token) {
				t.Errorf("the token is in %v", err)
			}
			return
		}
		r := &http.Request{Method: to.method, URL: to.url, Header: to.header}
		if err := r.Write(io.Discard); err != nil || to.url.Host == "" || to.url.User != nil || to.url.Fragment != "" {
			t.Errorf("%s %s: %v", to.method, to.url, err)
		}
		for name, values := range to.header {
			for _, v := range values {
				if strings.ContainsAny(name+v, "\r\n\x00") {
					t.Errorf("%q: %q", name, v)
				}
			}
		}
	})
}
