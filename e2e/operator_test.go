//go:build linux

package e2e_test

import (
	"fmt"
	"io"
	"mime"
	"net/http"
	"path/filepath"
	"strings"
	"sync"
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

// A part that its receiver never takes parks its flow. An operator gives the part up, has everything sent again, or ends the flow.
func TestPartThatNobodyTakes(t *testing.T) {
	t.Parallel()
	h := newHost(t, "provider", "")
	want := makeTree(t, h.outbox(), 33, mib)
	h.start()
	const bad = "b/c.bin"
	var mu sync.Mutex
	got := map[string]int{}
	url := serve(t, func(w http.ResponseWriter, r *http.Request) {
		io.Copy(io.Discard, r.Body)
		mu.Lock()
		defer mu.Unlock()
		_, parameters, _ := mime.ParseMediaType(r.Header.Get("Content-Disposition"))
		name := parameters["filename"]
		got[r.URL.Path+"/"+name]++
		if name == bad {
			http.Error(w, "not a table", http.StatusUnprocessableEntity)
		}
	})
	count := func(path string) int {
		mu.Lock()
		defer mu.Unlock()
		return got[path]
	}
	rest := func(id string) {
		h.signal("start", creation(id, "http-push", "tree", newAddress(url+"/"+id)))
		h.controlPlane.expect(t, id, "errored")
		if out := h.operate(0, "flows", "show", id); !strings.Contains(out, "rests at part") || !strings.Contains(out, bad) || !strings.Contains(out, "422") {
			t.Errorf("flows show:\n%s", out)
		}
	}

	rest("skip")
	h.operate(1, "flows", "skip", "skip", "-part", "a.bin")
	h.operate(0, "flows", "skip", "skip", "-part", bad)
	h.controlPlane.expect(t, "skip", "errored", "completed")
	if n := h.flow("skip").Parts; int(n) != len(want)-1 {
		t.Errorf("%d parts were moved, not %d", n, len(want)-1)
	}
	for name := range want {
		if n := count("/skip/" + name); n != 1 {
			t.Errorf("part %q was sent %d times", name, n)
		}
	}
	out := h.operate(0, "flows", "watch", "skip")
	if !strings.Contains(out, "COMPLETED") {
		t.Errorf("flows watch:\n%s", out)
	}
	if out := h.operate(0, "flows", "show", "skip"); !strings.Contains(out, "SKIPPED PART") {
		t.Errorf("flows show:\n%s", out)
	}

	rest("resend")
	h.operate(0, "flows", "resend", "resend")
	eventually(t, "the first part is sent again", func() bool { return count("/resend/a.bin") == 2 })
	eventually(t, "the flow rests again", func() bool { return h.flow("resend").Fault != "" })

	h.operate(0, "flows", "terminate", "resend", "-reason", "nobody wants it")
	said := h.controlPlane.expect(t, "resend", "errored", "errored")
	if last := said[len(said)-1]; !strings.Contains(fmt.Sprint(last), "nobody wants it") {
		t.Errorf("the control plane hears %v", last)
	}
	h.operate(1, "flows", "watch", "resend")
	h.kill()
	h.start()
	if f := h.flow("resend"); f.State != "TERMINATED" {
		t.Errorf("after a restart the flow is %s", f.State)
	}
}
