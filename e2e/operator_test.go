//go:build linux

package e2e_test

import (
	"io"
	"net/http"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
)

// operate runs a command of the operator's against a host, and expects it to end with a code.
func (h *host) operate(wantCode int, args ...string) (stdout string) {
	h.t.Helper()
	code, stdout, stderr := towpath(h.t, nil, append(args, "-admin", h.admin)...)
	if code != wantCode {
		h.t.Fatalf("towpath %s: exit code %d, not %d\n%s%s", strings.Join(args, " "), code, wantCode, stdout, stderr)
	}
	return stdout
}

// An operator adds a dataset to a running host. It is there after a restart, its secrets are nowhere to be seen, and a flow that has
// begun goes on when it is removed.
func TestDatasetsOfTheOperator(t *testing.T) {
	t.Parallel()
	h := newHost(t, "provider", "")
	want := makeTree(t, filepath.Join(h.files, "more"), 31, mib)
	h.start()
	file := filepath.Join(t.TempDir(), "dataset.json")
	start := func(id string) answer {
		a, err := h.try("start", creation(id, "http-push", "more", newAddress(newReceiver(t).url+"/"+id)))
		if err != nil {
			t.Fatal(err)
		}
		return a
	}
	if a := start("before"); a.code != http.StatusBadRequest || a.Field != "datasetId" {
		t.Errorf("a dataset that is not there: %d %s", a.code, a.text)
	}
	const secret = "not-for-everyone-4711"
	writeFile(t, file, `{"id":"more","source":{"type":"HttpData","properties":{"baseUrl":"http://127.0.0.1:1","authKey":"X-Key","authCode":"`+secret+`"}}}`)
	h.operate(0, "datasets", "put", file)
	if out := h.operate(0, "datasets", "show", "more") + h.operate(0, "datasets", "list"); strings.Contains(out, secret) || !strings.Contains(out, "more") {
		t.Errorf("the dataset is shown as %s", out)
	}
	writeFile(t, file, `{"id":"more","source":{"type":"File","properties":{"path":"more"}},"colour":"green"}`)
	h.operate(1, "datasets", "put", file)
	writeFile(t, file, `{"id":"more","source":{"type":"File","properties":{"path":"../../etc"}}}`)
	h.operate(1, "datasets", "put", file)
	writeFile(t, file, `{"id":"more","source":{"type":"File","properties":{"path":"more"}}}`)
	h.operate(0, "datasets", "put", file)
	writeFile(t, file, `{"id":"tree","source":{"type":"File","properties":{"path":"more"}}}`)
	h.operate(1, "datasets", "put", file) // that of the configuration
	h.kill()
	h.start()

	receiver := newReceiver(t)
	h.signal("start", creation("flow", "http-push", "more", newAddress(receiver.url+"/flow")))
	h.operate(0, "datasets", "remove", "more")
	h.operate(4, "datasets", "remove", "more")
	h.controlPlane.expect(t, "flow", "completed")
	if n := h.flow("flow").Parts; int(n) != len(want) {
		t.Errorf("%d parts were moved, not %d", n, len(want))
	}
	if a := start("after"); a.code != http.StatusBadRequest {
		t.Errorf("a dataset that was removed: %d %s", a.code, a.text)
	}
	if strings.Contains(h.process.stderr.String(), secret) {
		t.Error("a secret of a dataset is in the log")
	}
}

// A flow rests with a failure until an operator has mended what is wrong and tells it to go on.
func TestRetryByTheOperator(t *testing.T) {
	t.Parallel()
	h := newHost(t, "provider", "")
	makeTree(t, h.outbox(), 32, mib)
	h.start()
	var refusing atomic.Bool
	refusing.Store(true)
	url := serve(t, func(w http.ResponseWriter, r *http.Request) {
		if refusing.Load() {
			http.Error(w, "the contract is not signed", http.StatusForbidden)
			return
		}
		io.Copy(io.Discard, r.Body)
	})
	h.operate(4, "flows", "retry", "flow")
	h.signal("start", creation("flow", "http-push", "tree", newAddress(url+"/flow")))
	h.controlPlane.expect(t, "flow", "errored")
	code, status, err := fetch(h.signaling+"/dataflows/flow/status", "")
	if err != nil || code != http.StatusOK || !strings.Contains(status, `"state":"STARTED"`) || !strings.Contains(status, `"error":"`) {
		t.Errorf("status of a flow that rests: %d %s %v", code, status, err)
	}
	if out := h.operate(0, "flows", "show", "flow"); !strings.Contains(out, "fault") || !strings.Contains(out, "403") {
		t.Errorf("flows show:\n%s", out)
	}
	h.operate(0, "flows", "retry", "flow") // fails in the same way, of which the control plane has heard
	eventually(t, "the flow has failed again", func() bool { return h.flow("flow").Fault != "" })
	refusing.Store(false)
	h.operate(0, "flows", "retry", "flow")
	h.controlPlane.expect(t, "flow", "errored", "completed")
	h.operate(1, "flows", "retry", "flow")
}
