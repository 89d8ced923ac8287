//go:build linux

package e2e_test

import (
	"net/http"
	"strings"
	"testing"
)

// adminRules are about the documents of the APIs, and about what an operator can do.
func adminRules() []rule {
	return []rule{
		{"O1", "OpenAPI", "the signaling API is what its document says", checkSignalingRoutes},
		{"O2", "OpenAPI", "the registration API is what its document says", checkRegistrationRoutes},
		{"O3", "OpenAPI", "the public API is what its document says", checkPublicRoutes},
		{"O4", "OpenAPI", "the admin API is what its document says", checkAdminRoutes},
		{"O5", "OpenAPI, 1.2 start", "a dataset can be put, used and removed", checkDatasets},
		{"O6", "OpenAPI", "flows can be listed, page by page", checkFlowList},
		{"O7", "OpenAPI, 1.2 started", "a local application reads through the host", checkReadThrough},
		{"O9", "OpenAPI", "the examples of the documents work", checkExamples},
		{"O8", "OpenAPI, trap 25", "an operator can have a flow tried again", checkOperatorRetry},
	}
}

func noSuchEndpoint(r reply) bool {
	return r.code == http.StatusNotFound && r.Type == "urn:towpath:problem:no-such-endpoint"
}

func checkSignalingRoutes(t *testing.T, w *world) {
	c := w.open(t)
	send := func(method, path string) reply { return c.send(method, path, nil) }
	documents(t).signaling.expectRoutes(t, "/controlplanes", send, noSuchEndpoint)
	r := c.send(http.MethodOptions, "/dataflows/start", nil)
	if r.code != http.StatusNoContent || r.header.Get("Allow") != "POST, OPTIONS" {
		t.Errorf("OPTIONS: %d, Allow %q", r.code, r.header.Get("Allow"))
	}
}

func checkRegistrationRoutes(t *testing.T, w *world) {
	c := w.dynamic(t)
	for path, methods := range map[string]string{"/controlplanes": "PUT", "/controlplanes/nothing": "DELETE"} {
		for _, method := range everyMethod {
			r := c.send(method, path, nil)
			switch {
			case method == methods && (r.code == http.StatusMethodNotAllowed || noSuchEndpoint(r)):
				t.Errorf("%s %s: %d %s", method, path, r.code, r.text)
			case method != methods && r.code != http.StatusMethodNotAllowed:
				t.Errorf("%s %s: %d %s", method, path, r.code, r.text)
			case method != methods && !strings.Contains(r.header.Get("Allow"), methods):
				t.Errorf("%s %s: Allow %q", method, path, r.header.Get("Allow"))
			}
		}
	}
}

func checkPublicRoutes(t *testing.T, w *world) {
	c := w.open(t)
	base := c.host.variable("E2E_PUBLIC_URL")
	send := func(method, path string) reply {
		req := newRequest(t, method, base+path, nil)
		r := (&caller{t: t}).do(req)
		documents(t).public.check(t, base, req, r)
		return r
	}
	documents(t).public.expectRoutes(t, "", send, func(r reply) bool {
		return r.code == http.StatusNotFound && r.Detail == "nothing has this path"
	})
}

func checkAdminRoutes(t *testing.T, w *world) {
	c := w.open(t)
	documents(t).admin.expectRoutes(t, "", func(method, path string) reply { return c.ask(method, path, nil, nil) }, func(r reply) bool {
		return r.code == http.StatusNotFound && strings.HasPrefix(r.Detail, "there is nothing at")
	})
}

func checkDatasets(t *testing.T, w *world) {
	c := w.open(t)
	id := "put/" + strings.ToLower(newID()[:8])
	path := "/api/v1/datasets/" + strings.ReplaceAll(id, "/", "%2F")
	if r := c.ask(http.MethodGet, path, nil, nil); r.code != http.StatusNotFound {
		t.Errorf("before: %d %s", r.code, r.text)
	}
	dataset := message{"source": message{"type": "Generate", "properties": message{"size": "2KiB"}}}
	if r := c.ask(http.MethodPut, path, dataset, nil); r.code != http.StatusCreated {
		t.Errorf("put: %d %s", r.code, r.text)
	}
	a := c.newFlow("http-pull", id, nil).start().reply.DataAddress
	if r := c.request(http.MethodGet, a.Endpoint, a.token(), ""); len(r.text) != 2048 {
		t.Errorf("%d, %d bytes", r.code, len(r.text))
	}
	if r := c.ask(http.MethodPut, path, dataset, nil); r.code != http.StatusOK {
		t.Errorf("put again: %d %s", r.code, r.text)
	}
	for what, wrong := range map[string]any{
		"unknown type":   message{"source": message{"type": "Kafka"}},
		"unknown member": message{"sauce": message{}},
		"wrong property": message{"source": message{"type": "Generate", "properties": message{"size": "much"}}},
		"no address":     message{"mode": "sync"},
		"no JSON":        "{",
	} {
		if r := c.ask(http.MethodPut, path, wrong, nil); r.code/100 != 4 {
			t.Errorf("%s: %d %s", what, r.code, r.text)
		}
	}
	if r := c.ask(http.MethodPut, "/api/v1/datasets/small", dataset, nil); r.code != http.StatusConflict {
		t.Errorf("one of the configuration: %d %s", r.code, r.text)
	}
	if r := c.ask(http.MethodDelete, path, nil, nil); r.code != http.StatusNoContent {
		t.Errorf("delete: %d %s", r.code, r.text)
	}
	c.refuse(http.StatusBadRequest, "start", c.newFlow("http-pull", id, nil).create)
	c.expectReads(a, http.StatusOK) // flows that use it go on
}

func checkFlowList(t *testing.T, w *world) {
	c := w.contexts(t, "bob-2")
	for range 3 {
		c.newFlow("http-pull", "small", nil).start()
	}
	var page struct {
		Flows []struct{ ID, Context, State, Created string }
	}
	seen := map[string]bool{}
	before := ""
	for range 50 {
		c.ask(http.MethodGet, "/api/v1/flows?context=bob&state=started&limit=2"+before, nil, &page)
		for _, f := range page.Flows {
			if f.Context != "bob" || f.State != "STARTED" {
				t.Errorf("%+v", f)
			}
			seen[f.ID] = true
		}
		if len(page.Flows) == 0 {
			break
		}
		before = "&before=" + page.Flows[len(page.Flows)-1].Created
	}
	if len(seen) < 3 {
		t.Errorf("%d flows", len(seen))
	}
	for _, query := range []string{"state=LOST", "limit=0", "limit=x", "before=soon"} {
		if r := c.ask(http.MethodGet, "/api/v1/flows?"+query, nil, nil); r.code != http.StatusBadRequest {
			t.Errorf("%s: %d %s", query, r.code, r.text)
		}
	}
}

func checkReadThrough(t *testing.T, w *world) {
	c := w.open(t)
	source := c.newFlow("http-pull", "tree", nil).start().reply.DataAddress
	f := c.newFlow("http-pull", "application", nil).prepare()
	path := "/api/v1/flows/" + f.id
	if r := f.ask(http.MethodGet, path+"/data", nil, nil); r.code != http.StatusConflict {
		t.Errorf("before started: %d %s", r.code, r.text)
	}
	f.tell("started", message{"dataAddress": source})
	if r := f.ask(http.MethodGet, path+"/data", nil, nil); r.code != http.StatusOK || r.text != "content" {
		t.Errorf("%d %q", r.code, r.text)
	}
	if a := f.held(); a.Endpoint != source.Endpoint || a.Properties["authorization"] != source.token() {
		t.Errorf("%+v", a)
	}
	f.tell("suspend", nil)
	for _, what := range []string{"/data", "/address"} {
		if r := f.ask(http.MethodGet, path+what, nil, nil); r.code != http.StatusConflict && r.code != http.StatusForbidden {
			t.Errorf("%s of a flow that is SUSPENDED: %d %s", what, r.code, r.text)
		}
	}
}

func checkOperatorRetry(t *testing.T, w *world) {
	c := w.open(t)
	to, takes := refusing(t, "the quota is used up")
	f := c.newFlow("http-push", "small", newAddress(to+"/x")).start()
	c.office.expect(t, f.id, "errored")
	close(takes)
	f.ask(http.MethodPost, "/api/v1/flows/"+f.id+"/retry", nil, &flowDetail{})
	c.office.expect(t, f.id, "errored", "completed")
	if r := f.ask(http.MethodPost, "/api/v1/flows/"+f.id+"/retry", nil, nil); r.code != http.StatusConflict {
		t.Errorf("nothing to retry: %d %s", r.code, r.text)
	}
}

// example is what a document shows of the body of a request.
func (a *api) example(t testing.TB, method, path string) message {
	t.Helper()
	operation := a.Paths.Find(path).GetOperation(method)
	shown, ok := operation.RequestBody.Value.Content["application/json"].Example.(map[string]any)
	if !ok {
		t.Fatalf("%s.yaml has no example of %s %s", a.name, method, path)
	}
	return shown
}

func checkExamples(t *testing.T, w *world) {
	c := w.open(t)
	d := documents(t)
	post := func(path string) message { return d.signaling.example(t, http.MethodPost, path) }
	start := c.signal("start", post("/dataflows/start"))
	address := start.DataAddress
	c.signal("prepare", post("/dataflows/prepare"))
	for _, op := range []string{"suspend", "resume", "terminate"} {
		c.signal(start.DataFlowID+"/"+op, post("/dataflows/{id}/"+op))
	}
	started := post("/dataflows/{id}/started")
	shown := started["dataAddress"].(map[string]any)
	for _, p := range shown["endpointProperties"].([]any) {
		if name := p.(map[string]any)["name"].(string); name != "authorization" {
			if _, ok := address.lookup(name); !ok {
				t.Errorf("the example's %s is in no address that is issued", name)
			}
		}
	}
	shown["endpoint"] = c.newFlow("http-pull", "hello", nil).start().reply.DataAddress.Endpoint // the example's is nowhere
	c.signal(post("/dataflows/prepare")["dataFlowId"].(string)+"/started", started)
	c.signal(post("/dataflows/prepare")["dataFlowId"].(string)+"/terminate", nil)
	dataset := d.admin.example(t, http.MethodPut, "/api/v1/datasets/{id}")
	if r := c.ask(http.MethodPut, "/api/v1/datasets/of-the-example", dataset, nil); r.code != http.StatusCreated {
		t.Errorf("dataset: %d %s", r.code, r.text)
	}
	checkSchema(t, "ControlPlaneRegistrationMessage", encode(t, d.signaling.example(t, http.MethodPut, "/controlplanes")))
	checkSchema(t, "DataFlowPrepareMessage", encode(t, post("/dataflows/prepare")))
	checkSchema(t, "DataFlowStartMessage", encode(t, post("/dataflows/start")))
	checkSchema(t, "DataFlowStartedNotificationMessage", encode(t, post("/dataflows/{id}/started")))
}
