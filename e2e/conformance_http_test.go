//go:build linux

package e2e_test

import (
	"io"
	"net/http"
	"net/url"
	"strings"
	"testing"
)

// httpRules are about the HTTP transfer profile, at a host that obeys it to the letter.
func httpRules() []rule {
	return []rule{
		{"H1", "2.1 endpointType, 2.1 https, 1.8 profiles",
			"the addresses that are issued are the profile's, and HTTPS", checkIssuedByProfile},
		{"H2", "trap 20, 2.1 https", "an address that is not HTTPS is refused", checkPlainRefused},
		{"H3", "trap 21, 2.1 endpointType", "an address of another endpointType is refused", checkOtherEndpointType},
		{"H4", "trap 15", "started for pull without an address is refused", checkStrictStarted},
		{"H5", "2.1 authorization", "the token of an address goes as a bearer token", checkBearer},
		{"H6", "2.1 unknown properties", "properties that are not known are ignored", checkUnknownProperties},
		{"H7", "2.1 metadata", "no metadata and no labels are needed, and any are taken", checkMetadata},
		{"H8", "2.1 authorization",
			"authType is the scheme, is required beside authorization, and cannot be anything else", checkAuthType},
		{"H9", "trap 55, 2.1 authorization", "a token opens its own flow, in its own direction, and nothing else", checkForeignTokens},
	}
}

// secureServer is a counterparty with TLS.
func (w *world) secureServer(t testing.TB, h http.HandlerFunc) string {
	t.Helper()
	return listen(t, freeAddress(t), w.ca.server(t, false), h)
}

// addressOf returns an address of the HTTP profile.
func addressOf(profile, endpoint string, properties ...string) *dataAddress {
	return (&dataAddress{Type: "DataAddress", EndpointType: profile, Endpoint: endpoint}).withProperties(properties...)
}

func checkIssuedByProfile(t *testing.T, w *world) {
	c := w.strict(t)
	for profile, f := range map[string]*flowOf{
		httpPull: c.newFlow(httpPull, "small", nil).start(), httpPush: c.newFlow(httpPush, "small", nil).prepare(),
	} {
		a := f.reply.DataAddress
		if a.EndpointType != profile || !strings.HasPrefix(a.Endpoint, "https://") {
			t.Errorf("%s: %s", profile, f.reply.text)
		}
	}
	pull := c.newFlow(httpPull, "small", nil).start().reply.DataAddress
	if r := c.request(http.MethodGet, pull.Endpoint, pull.token(), ""); r.code != http.StatusOK || len(r.text) != 1024 {
		t.Errorf("%d, %d bytes", r.code, len(r.text))
	}
	push := c.newFlow(httpPush, "small", nil).prepare().reply.DataAddress
	if r := c.request(http.MethodPost, push.Endpoint+"/a.txt", push.token(), "content"); r.code != http.StatusCreated {
		t.Errorf("%d %s", r.code, r.text)
	}
}

func checkPlainRefused(t *testing.T, w *world) {
	c := w.strict(t)
	plain := newReceiver(t).url
	for _, endpoint := range []string{plain + "/x", "HTTP" + strings.TrimPrefix(plain, "http") + "/x", "", "//127.0.0.1/x", "x"} {
		f := c.newFlow(httpPush, "small", addressOf(httpPush, endpoint))
		if r := c.refuse(http.StatusBadRequest, "start", f.create); !strings.HasPrefix(r.Field, "dataAddress") {
			t.Errorf("start with %q: %s", endpoint, r.text)
		}
		g := c.newFlow(httpPull, "small", nil).prepare()
		r := c.refuse(http.StatusBadRequest, g.id+"/started", message{"messageId": newID(), "dataAddress": addressOf(httpPull, endpoint)})
		if !strings.HasPrefix(r.Field, "dataAddress") {
			t.Errorf("started with %q: %s", endpoint, r.text)
		}
		g.expect("PREPARED")
	}
	// What is kept for a local application is no exception.
	g := c.newFlow(httpPull, "application", nil).prepare()
	c.refuse(http.StatusBadRequest, g.id+"/started", message{"messageId": newID(), "dataAddress": addressOf(httpPull, plain+"/x")})
}

func checkOtherEndpointType(t *testing.T, w *world) {
	c := w.strict(t)
	to := w.secureServer(t, func(w http.ResponseWriter, r *http.Request) { io.Copy(io.Discard, r.Body) })
	for _, kind := range []string{
		httpPull, "HttpData", "https://w3id.org/dspace-sig/profile/http", "HTTPS://W3ID.ORG/dspace-sig/profile/http-push",
	} {
		r := c.refuse(http.StatusBadRequest, "start", c.newFlow(httpPush, "small", addressOf(kind, to)).create)
		if !strings.HasPrefix(r.Field, "dataAddress") {
			t.Errorf("%s: %s", kind, r.text)
		}
	}
	g := c.newFlow(httpPull, "small", nil).prepare()
	c.refuse(http.StatusBadRequest, g.id+"/started", message{"messageId": newID(), "dataAddress": addressOf(httpPush, to)})
	f := c.newFlow(httpPush, "small", addressOf(httpPush, to)).start()
	c.office.expect(t, f.id, "completed")
}

func checkStrictStarted(t *testing.T, w *world) {
	c := w.strict(t)
	for _, dataset := range []string{"small", "application"} {
		g := c.newFlow(httpPull, dataset, nil).prepare()
		if r := c.refuse(http.StatusBadRequest, g.id+"/started", nil); r.Field != "dataAddress" {
			t.Errorf("%s: %s", dataset, r.text)
		}
		g.expect("PREPARED")
	}
}

func checkBearer(t *testing.T, w *world) {
	c := w.strict(t)
	seen := make(chan string, 10)
	server := w.secureServer(t, func(w http.ResponseWriter, r *http.Request) {
		seen <- r.Header.Get("Authorization")
		io.Copy(io.Discard, r.Body)
		io.WriteString(w, "content")
	})
	f := c.newFlow(httpPush, "small", addressOf(httpPush, server+"/in", "authorization", "push-token", "authType", "bearer")).start()
	c.office.expect(t, f.id, "completed")
	if got := <-seen; got != "Bearer push-token" {
		t.Errorf("push: %q", got)
	}
	for len(seen) > 0 { // a manifest, if any
		<-seen
	}
	g := c.newFlow(httpPull, "small", nil).prepare()
	g.tell("started", message{"dataAddress": addressOf(httpPull, server+"/out", "authorization", "pull-token", "authType", "bearer")})
	c.office.expect(t, g.id, "completed")
	if got := <-seen; got != "Bearer pull-token" {
		t.Errorf("pull: %q", got)
	}
}

func checkUnknownProperties(t *testing.T, w *world) {
	c := w.strict(t)
	to := w.secureServer(t, func(w http.ResponseWriter, r *http.Request) { io.Copy(io.Discard, r.Body) })
	address := addressOf(httpPush, to+"/x", "contentType", "text/csv", "https://vendor.example/x", "1", "future", "")
	f := c.newFlow(httpPush, "small", address).start()
	c.office.expect(t, f.id, "completed")
}

func checkMetadata(t *testing.T, w *world) {
	c := w.strict(t)
	f := c.newFlow(httpPull, "small", nil)
	f.create = f.create.with(message{"metadata": message{"a": message{"b": []int{1}}}, "labels": []string{"x", "y"}})
	f.start()
	c.newFlow(httpPull, "small", nil).start() // with neither
}

func checkAuthType(t *testing.T, w *world) {
	c := w.strict(t)
	seen := make(chan string, 10)
	to := w.secureServer(t, func(w http.ResponseWriter, r *http.Request) { seen <- r.Header.Get("Authorization") })
	f := c.newFlow(httpPush, "small", addressOf(httpPush, to+"/x", "authorization", "dTpw", "authType", "Basic")).start()
	c.office.expect(t, f.id, "completed")
	if got := <-seen; got != "Basic dTpw" {
		t.Errorf("%q", got)
	}
	for what, a := range map[string]*dataAddress{
		"missing":       addressOf(httpPush, to+"/x", "authorization", "the-token"),
		"no scheme":     addressOf(httpPush, to+"/x", "authorization", "the-token", "authType", "a b"),
		"another field": addressOf(httpPush, to+"/x", "authorization", "the-token", "authType", "bearer\r\nX-Injected: 1"),
	} {
		r := c.refuse(http.StatusBadRequest, "start", c.newFlow(httpPush, "small", a).create)
		if !strings.HasPrefix(r.Field, "dataAddress") || strings.Contains(r.text, "the-token") {
			t.Errorf("%s: %s", what, r.text)
		}
	}
}

func checkForeignTokens(t *testing.T, w *world) {
	c := w.strict(t)
	pull, other := c.newFlow(httpPull, "small", nil).start().reply.DataAddress, c.newFlow(httpPull, "small", nil).start().reply.DataAddress
	push := c.newFlow(httpPush, "small", nil).prepare().reply.DataAddress
	for what, r := range map[string]reply{
		"of another flow":      c.request(http.MethodGet, pull.Endpoint, other.token(), ""),
		"to read for writing":  c.request(http.MethodPut, push.Endpoint+"/x", pull.token(), "x"),
		"to write for reading": c.request(http.MethodGet, pull.Endpoint, push.token(), ""),
		"none":                 c.request(http.MethodGet, pull.Endpoint, "", ""),
		"garbage":              c.request(http.MethodGet, pull.Endpoint, "garbage", ""),
		"changed":              c.request(http.MethodGet, pull.Endpoint, pull.token()[:len(pull.token())-8]+"AAAAAAAA", ""),
	} {
		if r.code != http.StatusUnauthorized && r.code != http.StatusForbidden {
			t.Errorf("a token %s: %d %s", what, r.code, r.text)
		}
		if r.code == http.StatusUnauthorized && !strings.HasPrefix(r.header.Get("WWW-Authenticate"), "Bearer") {
			t.Errorf("a token %s: WWW-Authenticate %q", what, r.header.Get("WWW-Authenticate"))
		}
	}
	missing, err := url.JoinPath(c.host.variable("E2E_PUBLIC_URL"), "flows", "nothing")
	if err != nil {
		t.Fatal(err)
	}
	for _, token := range []string{"", "garbage", pull.token()} {
		there, gone := c.request(http.MethodGet, other.Endpoint, token, ""), c.request(http.MethodGet, missing, token, "")
		if there.code != gone.code || there.text != gone.text {
			t.Errorf("whether a flow exists can be told: %d %s, %d %s", there.code, there.text, gone.code, gone.text)
		}
	}
}
