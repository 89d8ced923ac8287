package admin_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/towpath-dataplane/towpath/host/admin"
	"github.com/towpath-dataplane/towpath/host/flow"
	"github.com/towpath-dataplane/towpath/sdk"
)

// ledger keeps decisions about one plugin, "file", whose digest is "d1".
type ledger struct {
	decision *admin.Decision
	broken   bool
}

func (l *ledger) Decided(context.Context, string) (*admin.Decision, error) {
	if l.broken {
		return nil, fmt.Errorf("%w: no", flow.ErrStorage)
	}
	return l.decision, nil
}

func (l *ledger) Trust(_ context.Context, name, sha256 string) (*admin.Decision, error) {
	switch {
	case name != "file":
		return nil, sdk.Errorf(sdk.NotFound, "there is no plugin %q", name)
	case sha256 != "" && sha256 != "d1":
		return nil, sdk.Errorf(sdk.Conflict, "it has another sha256")
	}
	l.decision = &admin.Decision{Plugin: name, SHA256: "d1", Path: "/p/file", At: time.Unix(0, 0)}
	return l.decision, nil
}

func (l *ledger) Distrust(context.Context, string) (bool, error) {
	was := l.decision
	l.decision = nil
	if l.broken {
		return false, errors.New("no")
	}
	return was != nil, nil
}

func TestPluginTrust(t *testing.T) {
	l := &ledger{}
	w := newWorld(t, func(o *admin.Options) { o.PluginTrust = l })
	send := func(method, path, body string) (int, string) {
		r := httptest.NewRequest(method, path, strings.NewReader(body))
		r.Host = "127.0.0.1:1"
		answer := httptest.NewRecorder()
		w.api.ServeHTTP(answer, r)
		return answer.Code, answer.Body.String()
	}
	const path = "/api/v1/plugins/file/trust"
	for _, test := range []struct {
		method, path, body string
		status             int
		says               string
	}{
		{"GET", path, "", 404, "nothing is decided"},
		{"PUT", path, "", 400, "not JSON"},
		{"PUT", path, `[]`, 400, "object"},
		{"PUT", path, `{"sha256": 5}`, 400, "sha256"},
		{"PUT", path, `{"digest": "d1"}`, 400, "is not known"},
		{"PUT", path, `{"sha256": "d2"}`, 409, "another sha256"},
		{"PUT", "/api/v1/plugins/none/trust", `{}`, 404, "no plugin"},
		{"PUT", path, `{"sha256": "d1"}`, 200, `"sha256": "d1"`},
		{"PUT", path, `{}`, 200, `"plugin": "file"`},
		{"GET", path, "", 200, "/p/file"},
		{"DELETE", path, "", 204, ""},
		{"DELETE", path, "", 404, "nothing is decided"},
		{"POST", path, "", 405, ""},
	} {
		if code, body := send(test.method, test.path, test.body); code != test.status || !strings.Contains(body, test.says) {
			t.Errorf("%s %s %s: %d %s", test.method, test.path, test.body, code, body)
		}
	}
	l.broken = true
	if code, _ := send(http.MethodGet, path, ""); code != 503 {
		t.Errorf("a store that fails: %d", code)
	}
	if code, _ := send(http.MethodDelete, path, ""); code != 500 {
		t.Errorf("what fails: %d", code)
	}
	r := httptest.NewRequest(http.MethodPut, path, strings.NewReader("{}"))
	r.Host = "rebound.example.com"
	answer := httptest.NewRecorder()
	if w.api.ServeHTTP(answer, r); answer.Code != http.StatusForbidden {
		t.Errorf("a page that a browser shows: %d", answer.Code)
	}
}

func TestPluginBuild(t *testing.T) {
	w := newWorld(t, func(o *admin.Options) {
		o.PluginBuild = func(string) *admin.Build { return &admin.Build{Go: "go1.99"} }
	})
	if _, body := w.get("/api/v1/plugins/file"); !strings.Contains(body, "go1.99") {
		t.Error(body)
	}
	if _, body := w.get("/api/v1/plugins"); strings.Contains(body, "go1.99") {
		t.Error(body)
	}
}

// The directory is looked at before the plugins are listed. Without anybody to do so there is no such path.
func TestRescan(t *testing.T) {
	looked := 0
	var fails error
	w := newWorld(t, func(o *admin.Options) {
		o.Rescan = func(context.Context) error { looked++; return fails }
	})
	if code, answer := w.do("POST", "/api/v1/plugins", ""); code != 200 || looked != 1 || !strings.Contains(answer, `"name": "file"`) ||
		strings.Contains(answer, "description") {
		t.Errorf("rescan: %d %s, looked %d times", code, answer, looked)
	}
	fails = errors.New("the disk is on fire")
	if code, answer := w.do("POST", "/api/v1/plugins", ""); code != 503 || !strings.Contains(answer, "the disk is on fire") {
		t.Errorf("rescan that fails: %d %s", code, answer)
	}
	if code, _ := newWorld(t).do("POST", "/api/v1/plugins", ""); code != 405 && code != 404 {
		t.Errorf("without anybody to look: %d", code)
	}
}
