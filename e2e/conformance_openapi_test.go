//go:build linux

package e2e_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/getkin/kin-openapi/openapi3"
	"github.com/getkin/kin-openapi/openapi3filter"
	"github.com/getkin/kin-openapi/routers"
)

// api is one of the APIs of a host, as its OpenAPI document has it.
type api struct {
	name string
	*openapi3.T
}

// apis are the documents of all.
type apis struct{ signaling, public, admin *api }

var loadDocuments = sync.OnceValues(func() (*apis, error) {
	for _, media := range []string{"application/vnd.towpath.parts+json", "application/jwk-set+json"} {
		openapi3filter.RegisterBodyDecoder(media, openapi3filter.JSONBodyDecoder)
	}
	all := &apis{}
	for name, into := range map[string]**api{"signaling": &all.signaling, "public": &all.public, "admin": &all.admin} {
		loader := openapi3.NewLoader()
		document, err := loader.LoadFromFile(filepath.Join("../host/cmd/towpath/openapi", name+".yaml"))
		if err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		if err := document.Validate(context.Background()); err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		*into = &api{name, document}
	}
	return all, nil
})

func documents(t testing.TB) *apis {
	t.Helper()
	all, err := loadDocuments()
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// route finds what a request is for, by its escaped path. The most literal of several paths wins.
func (a *api) route(method, escaped string) (*routers.Route, map[string]string) {
	var (
		best   *routers.Route
		values map[string]string
		least  int
	)
	for path, item := range a.Paths.Map() {
		params, ok := match(strings.Split(path, "/"), strings.Split(escaped, "/"))
		operation := item.GetOperation(method)
		if !ok || operation == nil || best != nil && (len(params) > least || len(params) == least && len(path) <= len(best.Path)) {
			continue
		}
		best = &routers.Route{Spec: a.T, Path: path, PathItem: item, Method: method, Operation: operation}
		values, least = params, len(params)
	}
	return best, values
}

// goesOn reports whether more can stand behind a path: the name of a part, or a path that a source knows.
func goesOn(path string) bool {
	firsts := []string{"/flows", "/ingest", "/responses"}
	return strings.Contains(path, "{name}") || slices.ContainsFunc(firsts, func(first string) bool { return strings.HasPrefix(path, first) })
}

// match holds a path against a template, whose last parameter can have several elements if it is a name or a path.
func match(template, segments []string) (map[string]string, bool) {
	values := map[string]string{}
	for i, t := range template {
		if i >= len(segments) {
			return nil, false
		}
		name, parameter := strings.CutPrefix(t, "{")
		switch {
		case (t == "{name}" || t == "{path}") && i == len(template)-1:
			values[strings.TrimSuffix(name, "}")] = strings.Join(segments[i:], "/")
			return values, segments[i] != ""
		case parameter:
			value, err := url.PathUnescape(segments[i])
			if err != nil || value == "" {
				return nil, false
			}
			values[strings.TrimSuffix(name, "}")] = value
		case t != segments[i]:
			return nil, false
		}
	}
	return values, len(template) == len(segments)
}

// check holds an answer against the document. Requests for what is not documented have to be refused as such.
func (a *api) check(t testing.TB, base string, req *http.Request, r reply) {
	t.Helper()
	root, err := url.Parse(base)
	if err != nil {
		t.Fatal(err)
	}
	path := strings.TrimPrefix(req.URL.EscapedPath(), root.EscapedPath())
	route, params := a.route(req.Method, path)
	if route == nil {
		// What the documents say once is so for HEAD and OPTIONS, and for paths with a prefix, too.
		said := req.Method == http.MethodHead || req.Method == http.MethodOptions || a.name == "signaling" || strings.HasPrefix(path, "/contexts/")
		if !said && r.code != http.StatusNotFound && r.code != http.StatusMethodNotAllowed {
			t.Errorf("%s %s is not in %s.yaml, and is answered by %d %s", req.Method, path, a.name, r.code, r.text)
		}
		return
	}
	body := r.text
	if media := r.header.Get("Content-Type"); !strings.Contains(media, "json") && !strings.HasPrefix(media, "text/plain") {
		body = "" // data, whatever it is
	}
	err = openapi3filter.ValidateResponse(context.Background(), &openapi3filter.ResponseValidationInput{
		RequestValidationInput: &openapi3filter.RequestValidationInput{Request: req, Route: route, PathParams: params},
		Status:                 r.code,
		Header:                 r.header,
		Body:                   io.NopCloser(bytes.NewReader([]byte(body))),
		Options:                &openapi3filter.Options{IncludeResponseStatus: true, ExcludeResponseBody: body == "" && r.text != ""},
	})
	if err != nil {
		t.Errorf("%s %s is not answered as %s.yaml says: %v\n%d %v\n%s", req.Method, path, a.name, err, r.code, r.header, r.text)
	}
}

// ask makes a request to the admin API and checks the answer against its document. into, if not nil, gets what it says.
func (c *caller) ask(method, path string, body, into any) reply {
	c.t.Helper()
	req := newRequest(c.t, method, c.host.admin+path, body)
	if body != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	if c.adminToken != "" {
		req.Header.Set("Authorization", "Bearer "+c.adminToken)
	}
	plain := &caller{t: c.t}
	r := plain.do(req)
	documents(c.t).admin.check(c.t, c.host.admin, req, r)
	if into != nil {
		if r.code/100 != 2 {
			c.t.Fatalf("%s %s: %d %s", method, path, r.code, r.text)
		}
		if err := json.Unmarshal([]byte(r.text), into); err != nil {
			c.t.Fatalf("%s %s: %v in %s", method, path, err, r.text)
		}
	}
	return r
}

// detail is what the admin API shows of a flow.
func (f *flowOf) detail() (d flowDetail) {
	f.t.Helper()
	f.ask(http.MethodGet, "/api/v1/flows/"+url.PathEscape(f.id), nil, &d)
	return d
}

// The documents can be read by tools.
func TestOpenAPIDocuments(t *testing.T) {
	t.Parallel()
	all := documents(t)
	for _, a := range []*api{all.signaling, all.public, all.admin} {
		ids := map[string]bool{}
		for path, item := range a.Paths.Map() {
			for method, operation := range item.Operations() {
				if operation.Summary == "" || operation.OperationID == "" || ids[operation.OperationID] || len(operation.Tags) != 1 {
					t.Errorf("%s: %s %s needs a summary, one tag, and an id of its own", a.name, method, path)
				}
				ids[operation.OperationID] = true
			}
		}
	}
}

// everyMethod are those that a path can have.
var everyMethod = []string{http.MethodGet, http.MethodHead, http.MethodPost, http.MethodPut, http.MethodPatch, http.MethodDelete}

// expectRoutes holds a running API against its document: everything in it is there, and nothing else. send makes a request; absent
// reports whether an answer says that there is no such endpoint.
func (a *api) expectRoutes(t testing.TB, skip string, send func(method, path string) reply, absent func(reply) bool) {
	t.Helper()
	for path, item := range a.Paths.Map() {
		if skip != "" && strings.HasPrefix(path, skip) {
			continue
		}
		concrete := strings.NewReplacer("{id}", "nothing", "{name}", "nothing", "{path}", "nowhere/at/all").Replace(path)
		var documented []string
		for _, method := range everyMethod {
			r := send(method, concrete)
			if item.GetOperation(method) != nil {
				documented = append(documented, method)
				if r.code == http.StatusMethodNotAllowed || absent(r) || r.code >= 500 {
					t.Errorf("%s %s is in %s.yaml, but not there: %d %s", method, concrete, a.name, r.code, r.text)
				}
				continue
			}
			if method == http.MethodHead && item.Get != nil {
				continue // comes with GET
			}
			if r.code != http.StatusMethodNotAllowed {
				t.Errorf("%s %s is not in %s.yaml, but is there: %d %s", method, concrete, a.name, r.code, r.text)
			}
			a.expectAllow(t, item, concrete, r)
		}
		if len(documented) == 0 {
			t.Errorf("%s.yaml has nothing at %s", a.name, path)
		}
		if r := send(http.MethodGet, concrete+"/nowhere/at/all"); !goesOn(path) && !absent(r) {
			t.Errorf("GET %s/nowhere/at/all is answered by %d %s", concrete, r.code, r.text)
		}
	}
	for _, path := range []string{
		"/", "/nowhere", "/debug/pprof/", "/debug/vars", "/api", "/api/v1", "/api/v1/nowhere", "/.well-known/nowhere",
	} {
		if r := send(http.MethodGet, path); !absent(r) {
			t.Errorf("GET %s of %s is answered by %d %s", path, a.name, r.code, r.text)
		}
	}
}

// expectAllow holds the methods that a refusal offers against the document.
func (a *api) expectAllow(t testing.TB, item *openapi3.PathItem, path string, r reply) {
	t.Helper()
	offered := strings.Split(strings.ReplaceAll(r.header.Get("Allow"), " ", ""), ",")
	for _, method := range offered {
		implied := method == http.MethodOptions || method == http.MethodHead && item.Get != nil
		if !implied && (!slices.Contains(everyMethod, method) || item.GetOperation(method) == nil) {
			t.Errorf("%s offers %q, which is not in %s.yaml", path, method, a.name)
		}
	}
	for method := range item.Operations() {
		if !slices.Contains(offered, method) {
			t.Errorf("%s does not offer %s, which is in %s.yaml", path, method, a.name)
		}
	}
}
