//go:build linux

package e2e_test

import (
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// expectRefused checks that an answer has a code and says why.
func expectRefused(t testing.TB, what string, code int, text string, err error, wantCode int, wantText string) {
	t.Helper()
	if err != nil || code != wantCode || !strings.Contains(text, wantText) {
		t.Errorf("%s: %d %s (error %v), not %d with %q", what, code, text, err, wantCode, wantText)
	}
}

// A control plane sends what it should not, and is told what is wrong with it.
func TestMessagesThatAreWrong(t *testing.T) {
	t.Parallel()
	h := newHost(t, "provider", endless)
	writeFile(t, h.outbox()+"/file.txt", "content")
	h.start()
	h.signal("start", creation("here", "http-pull", "endless", nil))
	valid := func(changes ...any) string {
		m := creation("new", "http-pull", "endless", nil)
		for i := 0; i < len(changes); i += 2 {
			m[changes[i].(string)] = changes[i+1]
		}
		return encode(t, m)
	}
	for _, c := range []struct {
		name, path, body string
		code             int
		text             string
	}{
		{"body too long", "start", valid("metadata", message{"x": strings.Repeat("x", 2*mib)}), 413, "longer than"},
		{"broken JSON", "start", `{"messageId": "1",`, 400, "JSON"},
		{"trailing text", "start", valid() + "}", 400, "JSON"},
		{"nothing", "start", "", 400, "JSON"},
		{"not UTF-8", "start", "{\"messageId\": \"\xff\"}", 400, "UTF-8"},
		{"duplicate name", "start", `{"messageId": "1", "messageId": "2"}`, 400, "messageId"},
		{"duplicate name, nested", "start", `{"claims": {"a": 1, "a": 2}}`, 400, "claims.a"},
		{"wrong kind", "start", valid("datasetId", 7), 400, "datasetId"},
		{"missing id", "start", valid("dataFlowId", nil), 400, "dataFlowId"},
		{"two ids", "start", valid("processId", "other"), 400, "processId"},
		{"unknown profile", "start", valid("profile", "carrier-pigeon-push"), 400, "carrier-pigeon-push"},
		{"unknown dataset", "start", valid("datasetId", "atlantis"), 400, "atlantis"},
		{"dataset without a sink", "prepare", valid("profile", "http-push"), 400, "sink"},
		{"pull with an address", "start", valid("dataAddress", newAddress("https://example.com/")), 400, "dataAddress"},
		{"push without an address", "start", valid("profile", "http-push"), 400, "dataAddress"},
		{"push into a private network", "start", valid("profile", "http-push", "dataAddress", newAddress("http://10.1.2.3/")), 400, "10.1.2.3"},
		{"push to the cloud's metadata", "start", valid("profile", "http-push", "dataAddress", newAddress("http://169.254.169.254/latest")), 400, "169.254.169.254"},
		{"flow exists", "start", valid("dataFlowId", "here"), 409, "STARTED"},
		{"wrong state", "here/resume", "{}", 409, "STARTED"},
		{"provider told of its own start", "here/started", "{}", 409, "started"},
		{"unknown flow", "gone/suspend", "{}", 404, "no such data flow"},
		{"unknown path", "here/explode", "{}", 404, ""},
	} {
		a, err := h.post(c.path, []byte(c.body))
		expectRefused(t, c.name, a.code, a.text, err, c.code, c.text)
		if strings.Contains(a.text, h.files) {
			t.Errorf("%s: the answer tells a path of this machine: %s", c.name, a.text)
		}
	}
	first := creation("replayed", "http-pull", "endless", nil)
	h.signal("start", first)
	first["datasetId"] = "tree"
	a, err := h.try("start", first)
	expectRefused(t, "message id used again", a.code, a.text, err, 409, "messageId")

	h.expectState("here", "STARTED")
	for _, path := range []string{"/api/v1/flows?state=LOST", "/api/v1/flows?limit=-1", "/api/v1/flows?before=soon"} {
		code, text, err := fetch(h.admin+path, "")
		expectRefused(t, path, code, text, err, 400, "")
	}
	if code, _, err := fetch(h.admin+"/api/v1/flows?state=started", ""); err != nil || code != 200 {
		t.Errorf("filter by state: %d %v", code, err)
	}
}

// A provider's source cannot be read. The flow is refused where that is known at once, and otherwise reported.
func TestSourceThatCannotBeRead(t *testing.T) {
	t.Parallel()
	var datasets strings.Builder
	for name, path := range map[string]string{
		"absent": "absent", "below-file": "outbox/file.txt/below", "device": "fifo",
		"linked": "linked", "linked-tree": "outbox", "outside": "../config/common.hcl",
	} {
		fmt.Fprintf(&datasets, "dataset %q {\n  source \"File\" {\n    path = %q\n  }\n}\n", name, path)
	}
	h := newHost(t, "provider", datasets.String())
	secret := filepath.Join(h.config, "common.hcl")
	writeFile(t, h.outbox()+"/file.txt", "content")
	for _, link := range []string{"linked", "outbox/linked"} {
		if err := os.Symlink(secret, filepath.Join(h.files, link)); err != nil {
			t.Fatal(err)
		}
	}
	if err := unix.Mkfifo(filepath.Join(h.files, "fifo"), 0o600); err != nil {
		t.Fatal(err)
	}
	h.start()
	receiver := newReceiver(t)
	for dataset, why := range map[string]string{
		"absent": "no such file", "below-file": "not a directory", "device": "not a regular file",
		"linked": "out of the root", "linked-tree": "out of the root", "outside": "..",
	} {
		a, err := h.try("start", creation(dataset, "http-push", dataset, newAddress(receiver.url+"/"+dataset)))
		if err != nil || a.code != http.StatusOK {
			expectRefused(t, dataset, a.code, a.text, err, 400, why)
			continue
		}
		said := h.controlPlane.expect(t, dataset, "errored")
		if said[0].State != "STARTED" || !strings.Contains(said[0].Error, why) || strings.Contains(said[0].Error, h.files) {
			t.Errorf("%s: %+v", dataset, said)
		}
		if f := h.flow(dataset); f.Fault != said[0].Error {
			t.Errorf("%s: an operator sees the fault %q, the control plane %q", dataset, f.Fault, said[0].Error)
		}
		h.signal(dataset+"/terminate", nil)
	}
}

// A counterparty does with its token what it must not.
func TestTokensThatAreWrong(t *testing.T) {
	t.Parallel()
	h := newHost(t, "provider", "", "E2E_TOKEN_LIFETIME=2s")
	other := newHost(t, "other", "")
	for _, h := range []*host{h, other} {
		writeFile(t, h.outbox()+"/file.txt", "content")
		h.start()
	}
	pull := func(h *host, id string) *dataAddress {
		return h.signal("start", creation(id, "http-pull", "tree", nil)).DataAddress
	}
	a, b := pull(other, "a"), pull(other, "b")
	get := func(what string, address *dataAddress, token string, wantCode int, want string) {
		t.Helper()
		code, text, err := fetch(address.Endpoint, token)
		expectRefused(t, what, code, text, err, wantCode, want)
	}
	get("the right token", a, a.token(), 200, "content")
	get("no token", a, "", 401, "no token")
	get("garbage", a, "garbage", 401, "malformed")
	get("changed token", a, a.token()[:len(a.token())-6]+"AAAAAA", 401, "not issued here")
	get("another flow's token", a, b.token(), 403, "another data flow")
	get("another host's token", a, pull(h, "a").token(), 401, "not issued here")
	get("token for a flow that does not exist", &dataAddress{Endpoint: strings.Replace(a.Endpoint, "/a", "/c", 1)}, a.token(), 403, "another data flow")

	other.signal("a/suspend", nil)
	get("token of a suspended flow", a, a.token(), 403, "revoked")
	other.signal("b/terminate", nil)
	get("token of a terminated flow", b, b.token(), 403, "revoked")

	short := pull(h, "short")
	get("token in its time", short, short.token(), 200, "content")
	eventually(t, "the token expires", func() bool {
		code, text, err := fetch(short.Endpoint, short.token())
		return err == nil && code == 401 && strings.Contains(text, "expired")
	})
	h.expectState("short", "STARTED")
}

// A counterparty asks for, and sends, parts that lie elsewhere.
func TestEscapesFromTheFolder(t *testing.T) {
	t.Parallel()
	h := newHost(t, "host", "")
	writeFile(t, h.outbox()+"/file.txt", "content")
	writeFile(t, h.outbox()+"/other.txt", "content")
	secret := filepath.Join(h.files, "secret.txt")
	writeFile(t, secret, "secret")
	if err := os.MkdirAll(h.inbox(), 0o700); err != nil {
		t.Fatal(err)
	}
	outside := t.TempDir()
	if err := os.Symlink(outside, h.inbox()+"/link"); err != nil {
		t.Fatal(err)
	}
	before := readTree(t, h.files)
	h.start()
	from := h.signal("start", creation("pull", "http-pull", "tree", nil)).DataAddress
	to := h.signal("prepare", creation("push", "http-push", "tree", nil)).DataAddress
	for _, name := range []string{"../secret.txt", "..%2fsecret.txt", "%2e%2e/secret.txt", "%2e%2e%2fsecret.txt", "/etc/passwd", "a/../../secret.txt",
		"..", ".", "%00", "link/../../secret.txt", "%5c..%5csecret.txt", "link/escaped", "link", ".towpath/x"} {
		code, text, err := fetch(from.Endpoint+"/parts/"+name, from.token())
		if err != nil || code < 400 || code > 499 || text == "secret" {
			t.Errorf("read %s: %d %s %v", name, code, text, err)
		}
		code, text, err = request(http.MethodPut, to.Endpoint+"/"+name, to.token(), "intruder")
		if strings.HasPrefix(name, "%5c") || strings.HasPrefix(name, ".towpath") {
			continue // good names below the inbox
		}
		if err != nil || code < 400 || code == 500 {
			t.Errorf("write %s: %d %s %v", name, code, text, err)
		}
	}
	if content, _ := os.ReadFile(secret); string(content) != "secret" {
		t.Errorf("the file outside of the inbox is now %q", content)
	}
	expectTree(t, outside, tree{})
	for name := range readTree(t, h.files) {
		if !strings.HasPrefix(name, "inbox/") && before[name] == "" {
			t.Errorf("there is a new file outside of the inbox: %s", name)
		}
	}
}

// The receiver of a push resets the connection, again and again. It is tried for as long as the operator says, and then reported; the
// flow stays STARTED, and goes on when it is told to and the receiver is well.
func TestReceiverResets(t *testing.T) {
	t.Parallel()
	h := newHost(t, "provider", "", "E2E_GIVE_UP_AFTER=1500ms")
	makeTree(t, h.outbox(), 10, 2*mib)
	h.start()
	resetting, connections := newResettingReceiver(t)
	h.signal("start", creation("flow", "http-push", "tree", newAddress(resetting)))
	said := h.controlPlane.expect(t, "flow", "errored")
	// Which of them it is depends on where in the exchange the reset arrives.
	hungUp := slices.ContainsFunc([]string{"reset", "closed the connection", "broken pipe"},
		func(words string) bool { return strings.Contains(said[0].Error, words) })
	if said[0].State != "STARTED" || !hungUp {
		t.Errorf("callback: %+v", said)
	}
	h.expectState("flow", "STARTED")
	if n := connections.Load(); n < 3 {
		t.Errorf("it was tried %d times", n)
	}
	h.signal("flow/suspend", nil)
	h.signal("flow/resume", message{"messageId": newID(), "dataAddress": newAddress(newReceiver(t).url + "/flow")})
	h.controlPlane.expect(t, "flow", "errored", "completed")
	if f := h.flow("flow"); f.Fault != "" {
		t.Errorf("the fault is still there: %s", f.Fault)
	}
}

// The receiver of a push refuses what it gets. That is reported at once, with the receiver's words.
func TestReceiverRefuses(t *testing.T) {
	t.Parallel()
	h := newHost(t, "provider", "")
	makeTree(t, h.outbox(), 11, 2*mib)
	h.start()
	for _, code := range []int{http.StatusRequestEntityTooLarge, http.StatusForbidden} {
		refusing := serve(t, func(w http.ResponseWriter, _ *http.Request) { http.Error(w, "the quota of Ada is used up", code) })
		id := fmt.Sprint("flow-", code)
		h.signal("start", creation(id, "http-push", "tree", newAddress(refusing+"/")))
		said := h.controlPlane.expect(t, id, "errored")
		if e := said[0].Error; !strings.Contains(e, fmt.Sprint(code)) || !strings.Contains(e, "the quota of Ada is used up") {
			t.Errorf("callback: %+v", said)
		}
		h.expectState(id, "STARTED")
		h.signal(id+"/terminate", nil)
	}
}

// A file changes while it is sent: it gets shorter, or longer. Nothing wrong is taken for the file: the operator of the provider finds
// in the log what has happened, and the file is sent as it is now.
func TestSourceChanges(t *testing.T) {
	t.Parallel()
	// Larger than everything that windows and socket buffers hold between the file and the slow network.
	before := strings.Repeat("0123456789abcdef", 32*mib/16)
	for name, after := range map[string]string{"shorter": before[:3*mib], "longer": before + before[:mib]} {
		for _, direction := range []string{"push", "pull"} {
			t.Run(name+", "+direction, func(t *testing.T) {
				t.Parallel()
				final := t.TempDir()
				writeFile(t, final+"/file.bin", after)
				d := newDataspace(t, 12, 0)
				if err := os.RemoveAll(d.provider.outbox()); err != nil {
					t.Fatal(err)
				}
				file := filepath.Join(d.provider.outbox(), "file.bin")
				writeFile(t, file, before)
				d.files = readTree(t, final)
				guard(t, d.consumer.inbox(), d.files)
				d.provider.network.rate.Store(4 * mib)
				d.consumer.network.rate.Store(4 * mib)
				f, via := d.start(direction)
				via.awaitPassed(t, mib)
				writeFile(t, file, after)
				d.provider.network.rate.Store(64 * mib)
				d.consumer.network.rate.Store(64 * mib)
				d.finish(direction, f)
				if log := d.provider.process.stderr.String(); !strings.Contains(log, "has changed since it was announced") {
					t.Error("the provider's log does not say that the file has changed")
				}
			})
		}
	}
}

// The consumer's file system has no room for a file, and then it has. Nobody has to do anything but make room.
//
// A limit on the size of files takes the part of the full disk: unlike a small file system it can be had without root. That the
// plugin takes ENOSPC for the same thing is for its own tests.
func TestNoRoomAtTheConsumer(t *testing.T) {
	t.Parallel()
	d := newDataspace(t, 13, 16*mib)
	guard(t, d.consumer.inbox(), d.files)
	plugin := d.consumer.plugin("file").PID
	limit := unix.Rlimit{}
	if err := unix.Prlimit(plugin, unix.RLIMIT_FSIZE, nil, &limit); err != nil {
		t.Fatal(err)
	}
	small := unix.Rlimit{Cur: 2 * mib, Max: limit.Max}
	if err := unix.Prlimit(plugin, unix.RLIMIT_FSIZE, &small, nil); err != nil {
		t.Fatal(err)
	}
	f := d.startPush("push")
	eventually(t, "the provider waits", func() bool {
		return strings.Contains(d.provider.flow(f.provider).Waiting, "507")
	})
	expectTree(t, d.consumer.inbox(), tree{})
	d.provider.expectState(f.provider, "STARTED")
	if err := unix.Prlimit(plugin, unix.RLIMIT_FSIZE, &limit, nil); err != nil {
		t.Fatal(err)
	}
	d.finishPush(f)
	d.expectSameDigest(f)
}
