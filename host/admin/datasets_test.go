package admin_test

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/towpath-dataplane/towpath/host/admin"
	"github.com/towpath-dataplane/towpath/host/flow"
	"github.com/towpath-dataplane/towpath/sdk"
)

// documents are kept in memory.
type documents struct {
	mu     sync.Mutex // guards what follows
	all    map[string]flow.Document
	broken error
}

func newDocuments() *documents { return &documents{all: map[string]flow.Document{}} }

func documentKey(kind, context, id string) string { return fmt.Sprintf("%q %q %q", kind, context, id) }

func (d *documents) PutDocument(_ context.Context, doc flow.Document) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.broken == nil {
		d.all[documentKey(doc.Kind, doc.Context, doc.ID)] = doc
	}
	return d.broken
}

func (d *documents) DeleteDocument(_ context.Context, kind, context, id string) (bool, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	key := documentKey(kind, context, id)
	_, there := d.all[key]
	if d.broken == nil {
		delete(d.all, key)
	}
	return there, d.broken
}

func (d *documents) Documents(_ context.Context, kind string) ([]flow.Document, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	list := slices.DeleteFunc(slices.Collect(maps.Values(d.all)), func(doc flow.Document) bool { return doc.Kind != kind })
	slices.SortFunc(list, func(a, b flow.Document) int {
		return cmp.Or(cmp.Compare(a.Context, b.Context), cmp.Compare(a.ID, b.ID))
	})
	return list, d.broken
}

// checker knows the type File, whose schema has a path and a password, and types that are not well.
type checker struct{}

var fileSchema = sdk.Schema{Fields: []sdk.Field{{Name: "path", Required: true}, {Name: "password", Sensitive: true, Kind: sdk.Int}}}

func (checker) CheckSource(_ context.Context, a sdk.DataAddress) error {
	switch a.Type {
	case "File":
		return sdk.InvalidFields(fileSchema.Check(a))
	case "Ill":
		return sdk.Retryf(sdk.Unavailable, "the plugin is starting")
	case "Mad":
		return sdk.Errorf(sdk.Internal, "the plugin failed")
	case "Shut":
		return sdk.Errorf(sdk.Denied, "the policy does not allow it")
	}
	return sdk.Errorf(sdk.Invalid, "no plugin offers the type %q", a.Type)
}

func (c checker) CheckSink(ctx context.Context, a sdk.DataAddress) error {
	if a.Type == "HttpData" {
		return sdk.InvalidFields([]sdk.FieldError{{Field: "endpoint", Message: "is not absolute"}, {Field: "", Message: "is bad"}})
	}
	return c.CheckSource(ctx, a)
}

// loadDatasets has the dataset "fixed" of the configuration.
func loadDatasets(t *testing.T, d *documents) *admin.Datasets {
	t.Helper()
	loaded, err := admin.LoadDatasets(t.Context(), admin.DatasetOptions{
		Configured: []flow.Dataset{{ID: "fixed", Source: sdk.DataAddress{Type: "File", Endpoint: "file://x?planted-secret",
			Properties: map[string]string{"path": "planted-secret"}}}},
		Contexts: []string{"alice"}, Documents: d, Checker: checker{}, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	return loaded
}

// small is a dataset with nothing in it that is not required.
const small = `{"sink": {"type": "File", "properties": {"path": "p"}}}`

func TestDatasets(t *testing.T) {
	docs := newDocuments()
	live := loadDatasets(t, docs)
	w := newWorld(t, func(o *admin.Options) { o.Datasets = live })
	const full = `{"id": "a/b", "context": "alice", "mode": "async",
		"source": {"type": "File", "endpoint": "file://user:planted-secret@x/y?planted-secret", "properties": {"path": "p", "password": "12345"}},
		"sink": {"type": "File", "properties": {"path": "q"}}}`
	steps := []struct {
		method, path, body string
		status             int
		answer             string // a piece of it
	}{
		{"GET", "a%2Fb?context=alice", "", 404, `there is no dataset \"a/b\"`},
		{"PUT", "a%2Fb", full, 201, `"endpoint": "file://x/y"`},
		{"PUT", "a%2Fb?context=alice", full, 200, `"password"`},
		{"GET", "a%2Fb?context=alice", "", 200, `"origin": "api"`},
		{"GET", "a%2Fb", "", 404, ""},
		{"PUT", "answered", `{"source": {"type": "File", "properties": {"path": "p"}}, "response": {"type": "File", "properties": {"path": "planted-secret"}}}`, 201, `"response": {`},
		{"PUT", "answered", `{"sink": {"type": "File", "properties": {"path": "p"}}, "response": {"type": "File", "properties": {"path": "q"}}}`, 400, "is required with response"},
		{"PUT", "answered", `{"source": {"type": "File", "properties": {"path": "p"}}, "response": {"type": "File"}}`, 422, "response.properties.path"},
		{"DELETE", "answered", "", 204, ""},
		{"PUT", "a%2Fb?context=default", full, 400, `"field":"context"`},
		{"PUT", "c", full, 400, `"field":"id"`},
		{"PUT", "c?context=carol", small, 400, `"field":"context"`},
		{"PUT", "held", small, 201, `"held"`},
		{"PUT", "fixed", small, 409, "is in the configuration"},
		{"PUT", "fixed?context=alice", small, 201, ""},
		{"DELETE", "fixed", "", 409, "is in the configuration"},
		{"DELETE", "fixed?context=alice", "", 204, ""},
		{"DELETE", "fixed?context=alice", "", 404, ""},
		{"GET", "fixed", "", 200, `"origin": "file"`},
		{"POST", "fixed", "", 405, ""},
	}
	for _, s := range steps {
		status, body := w.do(s.method, "/api/v1/datasets/"+s.path, s.body)
		if status != s.status || !strings.Contains(body, s.answer) {
			t.Errorf("%s %s: %d %s", s.method, s.path, status, body)
		}
		if strings.Contains(body, "planted-secret") || strings.Contains(body, "12345") {
			t.Errorf("%s %s shows a secret: %s", s.method, s.path, body)
		}
	}
	check := func(live *admin.Datasets) {
		t.Helper()
		d, ok := live.Lookup("alice", "a/b")
		if !ok || d.ID != "a/b" || d.Context != "alice" || d.Mode != flow.ModeAsync || d.Source.Get("password") != "12345" || d.Sink.Get("path") != "q" {
			t.Errorf("the engine finds %v %v, %s, %s", ok, d.ID, d.Source, d.Sink)
		}
		d.Source.Properties["path"] = "changed"
		if again, _ := live.Lookup("alice", "a/b"); again.Source.Get("path") != "p" {
			t.Error("the engine can change what is stored")
		}
		if d, ok := live.Lookup("default", "fixed"); !ok || d.Context != "default" || d.Source.Get("path") != "planted-secret" {
			t.Error("the engine does not find the configured dataset")
		}
		if _, ok := live.Lookup("default", "a/b"); ok {
			t.Error("a dataset is found in another context")
		}
	}
	check(live)
	check(loadDatasets(t, docs)) // as after a restart

	status, body := w.get("/api/v1/datasets")
	var names []string
	for _, d := range decode[admin.DatasetList](t, status, body).Datasets {
		names = append(names, d.Context+" "+d.ID+" "+string(d.Origin))
	}
	if got := strings.Join(names, ", "); got != "alice a/b api, default fixed file, default held api" || strings.Contains(body, "planted-secret") {
		t.Error(got, body)
	}
	status, body = w.get("/api/v1/datasets?context=alice")
	if list := decode[admin.DatasetList](t, status, body); len(list.Datasets) != 1 {
		t.Error(body)
	}
}

func TestWrongDatasets(t *testing.T) {
	w := newFullWorld(t)
	for name, c := range map[string]struct {
		body   string
		status int
		fields string // of the answer
	}{
		"not JSON":              {`{`, 400, ""},
		"two values":            {`{} {}`, 400, ""},
		"empty":                 {`{"mode": "sync"}`, 400, "source"},
		"empty sides":           {`{"source": null, "sink": null}`, 400, "source"},
		"nothing":               {``, 400, ""},
		"not UTF-8":             {"{\"mode\": \"\xff\"}", 400, ""},
		"an array":              {`[]`, 400, ""},
		"unknown":               {`{"modus": "auto"}`, 400, "modus"},
		"case":                  {`{"Mode": "auto"}`, 400, "Mode"},
		"unknown in an address": {`{"source": {"type": "File", "propertis": {}}}`, 400, "source.propertis"},
		"what GET shows":        {`{"origin": "api", "source": {"type": "File", "properties": ["path"]}}`, 400, "source.properties origin"},
		"twice":                 {`{"mode": "auto", "mode": "sync"}`, 400, "mode"},
		"twice in properties":   {`{"source": {"type": "File", "properties": {"a": "1", "a": "1"}}}`, 400, "source.properties.a"},
		"a mode":                {`{"mode": "often"}`, 400, "mode"},
		"a number":              {`{"sink": {"type": "File", "properties": {"path": 1}}}`, 400, "sink.properties.path"},
		"null":                  {`{"mode": null, "sink": {"type": "File", "properties": {"path": null}}}`, 400, "sink.properties.path"},
		"half a pair":           {`{"sink": {"type": "File", "properties": {"path": "\ud800"}}}`, 400, "sink.properties.path"},
		"half a pair in a name": {`{"sink": {"type": "File", "properties": {"\udc00": "x"}}}`, 400, "sink.properties.\ufffd"},
		"no type":               {`{"sink": {"endpoint": "x"}}`, 400, "sink.type"},
		"several":               {`{"mode": 1, "source": 2, "sink": {"type": ""}, "x": 3}`, 400, "mode source sink.type x"},
		"schema":                {`{"source": {"type": "File", "properties": {"password": "planted-secret", "pth": ""}}}`, 422, "source.properties.password source.properties.path source.properties.pth"},
		"no such type":          {`{"sink": {"type": "Nothing"}}`, 422, "sink"},
		"the endpoint":          {`{"sink": {"type": "HttpData"}}`, 422, "sink.endpoint sink"},
		"policy":                {`{"sink": {"type": "Shut"}}`, 422, "sink"},
		"a plugin that starts":  {`{"source": {"type": "Ill"}}`, 503, ""},
		"a plugin that fails":   {`{"source": {"type": "Mad"}}`, 502, ""},
		"too long":              {`{"id": "` + strings.Repeat("x", 1<<20) + `"}`, 413, ""},
	} {
		status, body := w.do("PUT", "/api/v1/datasets/d", c.body)
		if status != c.status || strings.Contains(body, "planted-secret") {
			t.Errorf("%s: %d %s", name, status, body)
			continue
		}
		var fields []string
		for _, f := range decode[admin.Problem](t, 0, body).Fields {
			fields = append(fields, f.Field)
		}
		if got := strings.Join(fields, " "); got != c.fields {
			t.Errorf("%s: fields %q, want %q", name, got, c.fields)
		}
	}
	for _, id := range []string{"..%2F", "%00", "a%0Ab", "%FF", strings.Repeat("x", 257)} {
		want := 400
		if id == "..%2F" {
			want = 201 // odd, but no harm
		}
		if status, body := w.do("PUT", "/api/v1/datasets/"+id, small); status != want {
			t.Errorf("%.20s: %d %s", id, status, body)
		}
	}
	r := httptest.NewRequest("PUT", "http://127.0.0.1/api/v1/datasets/d", strings.NewReader(small))
	r.Header.Set("Content-Type", "text/csv")
	if resp := w.ask(r); resp.StatusCode != 415 {
		t.Error(resp.Status)
	}
	if status, _ := w.get("/api/v1/datasets/d"); status != 404 {
		t.Error("a dataset that was refused is there")
	}
}

// What the store does not keep is not there.
func TestDatasetsWithABrokenStore(t *testing.T) {
	docs := newDocuments()
	live := loadDatasets(t, docs)
	w := newWorld(t, func(o *admin.Options) { o.Datasets = live })
	if status, body := w.do("PUT", "/api/v1/datasets/kept", small); status != 201 {
		t.Fatal(status, body)
	}
	docs.broken = errors.New("planted-secret")
	for _, do := range []struct{ method, id string }{{"PUT", "new"}, {"DELETE", "kept"}} {
		if status, body := w.do(do.method, "/api/v1/datasets/"+do.id, small); status != 500 || strings.Contains(body, "planted-secret") {
			t.Error(do, status, body)
		}
	}
	if _, ok := live.Lookup("default", "kept"); !ok {
		t.Error("a dataset is gone that the store still has")
	}
	if _, ok := live.Lookup("default", "new"); ok {
		t.Error("a dataset is there that the store does not have")
	}
	if _, err := admin.LoadDatasets(t.Context(), admin.DatasetOptions{Documents: docs}); !errors.Is(err, docs.broken) {
		t.Error(err)
	}
}

// A document that makes no sense any more, or has become one of the configuration, does not stop a host from starting.
func TestLoadingOddDatasets(t *testing.T) {
	docs := newDocuments()
	for id, content := range map[string]string{"odd": `{"new": "field"}`, "broken": `{`, "fixed": small, "good": small, "empty": `{}`} {
		docs.PutDocument(t.Context(), flow.Document{Kind: "dataset", Context: "default", ID: id, Content: []byte(content)})
	}
	docs.PutDocument(t.Context(), flow.Document{Kind: "control_plane", Context: "default", ID: "other", Content: []byte(`{}`)})
	live := loadDatasets(t, docs)
	for id, want := range map[string]string{"odd": "", "broken": "", "other": "", "empty": "", "good": "good", "fixed": "fixed"} {
		if d, _ := live.Lookup("default", id); d.ID != want {
			t.Errorf("%s: found %q", id, d.ID)
		}
	}
	if d, _ := live.Lookup("default", "fixed"); d.Source.IsZero() {
		t.Error("the document goes before the configuration")
	}
}

func TestDatasetsAreChangedConcurrently(t *testing.T) {
	docs := newDocuments()
	live := loadDatasets(t, docs)
	w := newWorld(t, func(o *admin.Options) { o.Datasets = live })
	var all sync.WaitGroup
	for i := range 8 {
		all.Go(func() {
			for range 50 {
				w.do("PUT", "/api/v1/datasets/x", fmt.Sprintf(`{"source": {"type": "File", "properties": {"path": "%d"}}}`, i))
				live.Lookup("default", "x")
				w.get("/api/v1/datasets")
				if i%4 == 0 {
					w.do("DELETE", "/api/v1/datasets/x", "")
				}
			}
		})
	}
	all.Wait()
	now, ok := live.Lookup("default", "x")
	after, kept := loadDatasets(t, docs).Lookup("default", "x")
	if ok != kept || now.Source.Get("path") != after.Source.Get("path") {
		t.Errorf("in memory %v %s, in the store %v %s", ok, now.Source.Get("path"), kept, after.Source.Get("path"))
	}
}
