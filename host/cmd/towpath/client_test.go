package main

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"encoding/pem"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/towpath-dataplane/towpath/host/admin"
	"github.com/towpath-dataplane/towpath/host/config"
	"github.com/towpath-dataplane/towpath/host/flow"
	"github.com/towpath-dataplane/towpath/host/limit"
	"github.com/towpath-dataplane/towpath/host/store/storetest"
	"github.com/towpath-dataplane/towpath/sdk"
)

var update = flag.Bool("update", false, "write the golden files")

// operated is a host as operators see it: three flows, datasets and control planes. f/1 rests with a fault, and its counterparty serves
// parts.
type operated struct {
	*storetest.Memory
	mu        sync.Mutex // guards documents
	documents map[string]flow.Document
}

func newOperated(t *testing.T) *operated {
	h := &operated{Memory: storetest.NewMemory(), documents: map[string]flow.Document{}}
	for _, f := range []flow.Flow{
		{Key: flow.Key{Context: "default", ID: "f/1"}, Role: flow.Consumer, Direction: flow.Pull, State: flow.Started, Profile: "http-pull",
			DatasetID: "orders", AgreementID: "agreement-1", CounterPartyID: "did:web:them.example", ControlPlane: "cp",
			Remote:      &sdk.DataAddress{Type: "HttpData", Endpoint: "https://them.example/f", Properties: map[string]string{"authorization": "planted-secret"}},
			RemoteSince: time.Now(), RenewalFault: "the counterparty knows no such token", Fault: "the sink\nis\x1b[31m full",
			Totals: sdk.Totals{Parts: 1, Bytes: 3}},
		{Key: flow.Key{Context: "default", ID: "f2"}, Role: flow.Provider, Direction: flow.Push, State: flow.Suspended, Profile: "http-push",
			DatasetID: "orders", ControlPlane: "cp", Reason: "a holiday", Local: sdk.DataAddress{Type: "File"},
			Response: &flow.Response{Local: sdk.DataAddress{Type: "File", Properties: map[string]string{"path": "planted-secret"}},
				Totals: sdk.Totals{Parts: 1, Bytes: 5}, Fault: "response channel: the queue is gone"}},
		{Key: flow.Key{Context: "alice", ID: "f/1"}, Role: flow.Provider, Direction: flow.Pull, State: flow.Completed, Profile: "http-pull",
			DatasetID: "parts", ControlPlane: "cp"},
	} {
		if err := h.Update(t.Context(), f.Key, func(tx flow.Tx) error { return fill(tx, &f) }); err != nil {
			t.Fatal(err)
		}
	}
	return h
}

func fill(tx flow.Tx, f *flow.Flow) error {
	if err := tx.Put(f); err != nil || f.Context == "alice" {
		return err
	}
	if _, err := tx.AddPart(flow.Part{Name: "a\tb.csv", Size: 3, Digests: sdk.Digests{sdk.CRC32C: {1, 2, 3, 4}}, Location: "inbox"}); err != nil {
		return err
	}
	if f.Response != nil {
		if _, err := tx.AddPart(flow.Part{Response: true, Name: "late.json", Size: 5, Location: "answers"}); err != nil {
			return err
		}
	}
	return tx.Enqueue(flow.Callback{Kind: flow.CallbackErrored, ControlPlane: "cp", State: f.State, Status: flow.CallbackPending, Attempts: 3,
		Next: tx.Now(), Created: tx.Now(), LastErr: "503 Service Unavailable"})
}

// handler is the host's admin API.
func (h *operated) handler(t *testing.T, token string) http.Handler {
	t.Helper()
	datasets, err := admin.LoadDatasets(t.Context(), admin.DatasetOptions{
		Configured: []flow.Dataset{{ID: "orders", Source: sdk.DataAddress{Type: "File", Properties: map[string]string{"path": "planted-secret"}},
			Sink: sdk.DataAddress{Type: "HttpData", Endpoint: "https://here.example/in?planted-secret"}}},
		Contexts: []string{"alice"}, Documents: h, Checker: h, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	number := func(n int64) *int64 { return &n }
	limits, err := admin.LoadLimits(t.Context(), admin.LimitOptions{Contexts: []string{"alice"}, Documents: h, Flows: h, Logger: slog.New(slog.DiscardHandler),
		Limiter: limit.New(map[limit.Scope]limit.Limit{{Kind: limit.Host}: {Bytes: number(100 << 20), Transfers: number(64)},
			{Kind: limit.Dataset, Context: "alice", ID: "parts"}: {Weight: number(3)}})})
	if err != nil {
		t.Fatal(err)
	}
	return admin.NewHandler(admin.Options{Token: token, Limits: limits, Movement: h.movement, Store: h, Waiting: func(flow.Key) string { return "" },
		Plugins: func() []admin.Plugin { return nil }, Ready: func() error { return nil }, Metrics: prometheus.NewRegistry(),
		Logger: slog.New(slog.DiscardHandler), Operations: h, Read: h.read, Datasets: datasets, ControlPlanes: h,
		Agreement: func(_ context.Context, f *flow.Flow) (json.RawMessage, error) {
			if f.AgreementID == "" {
				return nil, sdk.Errorf(sdk.NotFound, "the control plane knows no agreement of flow %s", f.Key)
			}
			return json.RawMessage(`{"@id":"` + f.AgreementID + `"}`), nil
		}})
}

// movement is that of f/1 in the default context.
func (h *operated) movement(key flow.Key) (flow.Movement, bool) {
	return flow.Movement{
		Step: flow.Step{Totals: sdk.Totals{Parts: 2, Bytes: 3 << 30}, Part: "a\x1b[31m.csv", PartBytes: 1 << 20, PartSize: 40 << 20,
			TotalParts: 5, TotalBytes: 2 << 40},
		Rate: 12.3 * (1 << 20), Last: time.Now(),
		Waits: flow.Waits{Condition: "blocked", For: "limit", Limit: "the host", Served: 5000,
			Waited: map[string]time.Duration{"source": 1500 * time.Millisecond, "limit": 90 * time.Second, "sink": 12300 * time.Microsecond}},
	}, key.ID == "f/1" && key.Context == flow.DefaultContext
}

func (h *operated) Retry(ctx context.Context, key flow.Key) error {
	f, err := h.Flow(ctx, key)
	if err == nil && f.Fault == "" {
		err = &flow.StateError{Key: key, State: f.State, Signal: "retry", Why: "nothing has failed"}
	}
	return err
}

func (h *operated) Skip(ctx context.Context, key flow.Key, part string) error {
	f, err := h.Flow(ctx, key)
	if err == nil && part == "other" {
		err = &flow.StateError{Key: key, State: f.State, Signal: "skip", Why: "it rests at part \"a\""}
	}
	return err
}

func (h *operated) Resend(ctx context.Context, key flow.Key) error {
	_, err := h.Flow(ctx, key)
	return err
}

func (h *operated) Abort(ctx context.Context, key flow.Key, reason string) error {
	f, err := h.Flow(ctx, key)
	if err == nil && reason != "wedged" {
		err = &flow.StateError{Key: key, State: f.State, Signal: flow.SignalAbort, Why: "the reason is " + reason}
	}
	return err
}

func (h *operated) Address(ctx context.Context, key flow.Key) (sdk.DataAddress, error) {
	f, err := h.Flow(ctx, key)
	if err != nil {
		return sdk.DataAddress{}, err
	}
	if f.Remote == nil {
		return sdk.DataAddress{}, &flow.StateError{Key: key, State: f.State, Signal: "address"}
	}
	return sdk.DataAddress{Type: "HttpData", Endpoint: "https://them.example/f", Properties: map[string]string{
		"https://w3id.org/edc/v0.0.1/ns/authorization": "Bearer the-token", "authType": "bearer",
		"responseChannel-authorization": "the-other-token", "responseChannel-endpoint": "https://them.example/responses/f"}}, nil
}

func (h *operated) Visit(context.Context, flow.Key) (*flow.Joined, error) { return nil, flow.ErrClosed }

// read serves one part for most flows, several for f/1 of the default context, and stops in the middle of the part "half".
func (h *operated) read(key flow.Key, part string) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch {
		case part == "half":
			io.WriteString(w, "half of")
			http.NewResponseController(w).Flush()
			panic(http.ErrAbortHandler)
		case part == "none":
			w.Header().Set("Content-Type", "application/problem+json")
			w.WriteHeader(http.StatusNotFound)
			io.WriteString(w, `{"detail": "the source has no such data"}`)
		case part == "" && key.ID == "f/1":
			w.Header().Set("Content-Type", "application/vnd.towpath.parts+json")
			fmt.Fprint(w, `{"parts":[{"name":"a/b c.csv"},{"name":"d"}]}`)
		default:
			fmt.Fprintf(w, "the data of %s in %s: %q", key.ID, key.Context, part)
		}
	})
}

func (h *operated) CheckSource(_ context.Context, a sdk.DataAddress) error {
	if a.Type != "File" {
		return sdk.Errorf(sdk.Invalid, "no plugin offers the source type %q; there are: File", a.Type)
	}
	return sdk.InvalidFields(sdk.Schema{Fields: []sdk.Field{{Name: "path", Required: true}}}.Check(a))
}

func (h *operated) CheckSink(ctx context.Context, a sdk.DataAddress) error {
	return h.CheckSource(ctx, a)
}

func (h *operated) PutDocument(_ context.Context, d flow.Document) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.documents[d.Context+" "+d.ID] = d
	return nil
}

func (h *operated) DeleteDocument(_ context.Context, _, context, id string) (bool, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	_, there := h.documents[context+" "+id]
	delete(h.documents, context+" "+id)
	return there, nil
}

func (h *operated) Documents(context.Context, string) ([]flow.Document, error) { return nil, nil }

func (h *operated) List(context.Context) ([]admin.ControlPlane, error) {
	next := time.Now()
	return []admin.ControlPlane{
		{ID: "cp", Context: "default", Endpoint: "https://cp.example/api?key=planted-secret", Protocol: "dps", Origin: admin.OriginFile,
			Authorization: []string{"oauth2_client_credentials"}, Registration: &admin.Registration{Status: "pending",
				LastError: "connection refused", Attempts: 2, Next: &next}},
		{ID: "cp/2", Context: "alice", Endpoint: "https://alice.example", Protocol: "dps", Origin: admin.OriginAPI},
	}, nil
}

func (h *operated) Register(_ context.Context, participant, id string) error {
	if participant == "alice" {
		return sdk.Errorf(sdk.Unsupported, "no registration is configured for control plane %q", id)
	}
	if id != "cp" {
		return sdk.Errorf(sdk.NotFound, "there is no control plane %q", id)
	}
	return nil
}

func (h *operated) Deregister(ctx context.Context, participant, id string) error {
	return h.Register(ctx, participant, id)
}

// times are what golden files cannot have as they are.
var times = regexp.MustCompile(`\d{4}-\d\d-\d\d \d\d:\d\d:\d\d`)

// What operators' commands print, in the order of their use.
func TestOperatorsCommands(t *testing.T) {
	server := httptest.NewServer(newOperated(t).handler(t, ""))
	defer server.Close()
	t.Setenv("TOWPATH_ADMIN_URL", server.URL)
	dir := t.TempDir()
	for name, text := range map[string]string{
		"new.json":     `{"id": "a/b", "context": "alice", "source": {"type": "File", "properties": {"path": "planted-secret"}}}`,
		"wrong.json":   `{"id": "c", "source": {"type": "File", "properties": {"pth": "planted-secret"}}}`,
		"typo.json":    `{"id": "c", "sorce": {}}`,
		"orders.json":  `{"id": "orders", "source": {"type": "File", "properties": {"path": "x"}}}`,
		"no-id.json":   `{"context": "alice"}`,
		"no-json.json": "{\n",
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	t.Chdir(dir)
	var log strings.Builder
	for _, line := range []string{
		"flows list",
		"flows list -context alice",
		"flows list -state suspended",
		"flows show f/1",
		"flows show f/1 -context alice",
		"flows show none",
		"flows watch f/1 -n 1",
		"flows watch -n 1",
		"flows watch f/1 -context alice",
		"flows show f2",
		"flows watch none",
		"flows watch f/1 -interval 1ms",
		"flows watch f/1 f2",
		"flows retry f/1",
		"flows retry f2",
		"flows retry none",
		"flows skip f/1",
		"flows skip f/1 -part other",
		"flows resend f/1",
		"flows resend none",
		"flows terminate f/1 -reason wedged",
		"flows terminate f/1",
		"flows address f/1",
		"flows address f/1 -json",
		"flows address -token f/1",
		"flows address -response f/1",
		"flows address f/1 -token -json",
		"flows address f2",
		"flows agreement f/1",
		"flows agreement f2",
		"flows data f/1",
		"flows data f/1 -part d",
		"flows data f/1 -part none",
		"flows data f2",
		"flows data f2 -context alice -o saved",
		"flows data f2 -part half",
		"flows data f2 -part half -o saved",
		"flows data f2 -o missing/saved",
		"datasets list",
		"datasets put new.json",
		"datasets put new.json -context alice",
		"datasets put new.json -context default",
		"datasets put wrong.json",
		"datasets put typo.json",
		"datasets put orders.json",
		"datasets put no-id.json",
		"datasets put no-json.json",
		"datasets put none.json",
		"datasets show a/b -context alice",
		"datasets show a/b",
		"datasets show orders",
		"datasets list -context alice",
		"datasets remove orders",
		"datasets remove a/b -context alice",
		"datasets remove a/b -context alice",
		"limits list",
		"limits set host -bytes 10MiB",
		"limits set host -transfers none",
		"limits set counterparty=did:web:them.example/x -context alice -records 100 -weight 5",
		"limits set flow -bytes 1000",
		"limits set flow=f/1 -weight 2000",
		"limits set flow=f/1 -bytes fast",
		"limits set flow=f/1 -transfers 2",
		"limits set flow=f/1",
		"limits set planet=x -bytes 1",
		"limits set profile -weight 1",
		"limits set context=nobody -weight 1",
		"limits list",
		"limits list -context alice",
		"limits clear flow",
		"limits clear flow",
		"limits clear host",
		"controlplanes list",
		"controlplanes list -context alice",
		"controlplanes register cp",
		"controlplanes deregister cp",
		"controlplanes register none",
		"controlplanes register cp/2 -context alice",
	} {
		code, stdout, stderr := invoke(strings.Fields(line)...)
		fmt.Fprintf(&log, "$ towpath %s\n%s", line, stdout)
		if stderr != "" {
			fmt.Fprintf(&log, "--- standard error\n%s", stderr)
		}
		if code != 0 {
			fmt.Fprintf(&log, "--- exit code %d\n", code)
		}
		log.WriteString("\n")
	}
	if strings.Contains(log.String(), "planted-secret") || strings.Contains(log.String(), "\x1b") {
		t.Error("a secret is shown, or the terminal told what to do")
	}
	if saved, err := os.ReadFile("saved"); err != nil || string(saved) != `the data of f2 in alice: ""` {
		t.Errorf("saved %q, %v", saved, err)
	}
	if left, _ := filepath.Glob(".saved*"); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
	golden(t, "commands.txt", times.ReplaceAllString(log.String(), "2026-01-02 03:04:05"))
}

// here is the folder of this package, whatever the test has changed to.
var here, _ = os.Getwd()

func golden(t *testing.T, name, got string) {
	t.Helper()
	file := filepath.Join(here, "testdata", name)
	if *update {
		if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(string(want), got); d != "" {
		t.Errorf("%s (-want +got):\n%s", name, d)
	}
}

func TestJSONOfCommands(t *testing.T) {
	server := httptest.NewServer(newOperated(t).handler(t, ""))
	defer server.Close()
	put := filepath.Join(t.TempDir(), "new.json")
	if err := os.WriteFile(put, []byte(`{"id": "new", "source": {"type": "File", "properties": {"path": "x"}}}`), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, line := range []string{"flows list", "flows show f/1", "flows retry f/1", "flows skip f/1", "flows resend f/1", "flows address f/1", "datasets list", "datasets show orders",
		"datasets put " + put, "controlplanes list", "controlplanes register cp", "limits list", "limits set host -bytes 5"} {
		code, stdout, stderr := invoke(append(strings.Fields(line), "-json", "-admin", server.URL+"/")...)
		if code != 0 || stderr != "" || !json.Valid([]byte(stdout)) {
			t.Errorf("towpath %s -json: exit %d, %s%s", line, code, stdout, stderr)
		}
	}
}

func TestAdminToken(t *testing.T) {
	server := httptest.NewServer(newOperated(t).handler(t, "the-token"))
	defer server.Close()
	file := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(file, []byte("the-token\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		environment, args string
		code              int
		stderr            string
	}{
		{"", "", 1, "the admin token is needed: TOWPATH_ADMIN_TOKEN"},
		{"wrong", "", 1, "this is not the admin token"},
		{"the-token", "", 0, ""},
		{"", "-admin-token the-token", 0, ""},
		{"wrong", "-admin-token-file " + file, 0, ""},
		{"the-token", "-admin-token wrong", 1, "this is not the admin token"},
		{"the-token", "-admin-token-file does-not-exist", 1, "does-not-exist"},
		{"a\r\nHeader: x", "", 1, "characters that no token has"},
	} {
		t.Setenv("TOWPATH_ADMIN_TOKEN", c.environment)
		code, _, stderr := invoke(append([]string{"flows", "list", "-admin", server.URL}, strings.Fields(c.args)...)...)
		if code != c.code || !strings.Contains(stderr, c.stderr) {
			t.Errorf("%q %s: exit %d, %s", c.environment, c.args, code, stderr)
		}
	}
	// The environment is not for help to show.
	t.Setenv("TOWPATH_ADMIN_TOKEN", "planted-secret")
	if _, stdout, _ := invoke("flows", "list", "--help"); strings.Contains(stdout, "planted-secret") {
		t.Error(stdout)
	}
}

func TestAdminOverTLS(t *testing.T) {
	ca, clients, files := newAuthority(t, "CA"), newAuthority(t, "clients"), newPEMFiles(t)
	pair := ca.issue("server", time.Hour)
	files.write(pair)
	files.writeClientCA(clients)
	o := openDoor(t, files.TLS, slog.New(slog.DiscardHandler), newOperated(t).handler(t, ""))
	dir := t.TempDir()
	authorities, mine := filepath.Join(dir, "ca.pem"), newPEMFiles(t)
	mine.write(clients.issue("operator", time.Hour))
	if err := os.WriteFile(authorities, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: ca.certificate.Raw}), 0o600); err != nil {
		t.Fatal(err)
	}
	hcl := filepath.Join(dir, "towpath.hcl")
	text := fmt.Sprintf(`
dataplane "d" {}
plugins {
  directory = "."
  trust     = "directory"
}
control_plane "cp" { endpoint = "http://127.0.0.1:1" }
profile "http-pull" { direction = "pull" }
dataset "d" {
  source "File" {}
}
listen "admin" {
  address = %q
  tls {
    certificate = %q
    key         = %q
  }
}
`, o.Addr(), files.Certificate, files.Key)
	if err := os.WriteFile(hcl, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	show := []string{"-cert", mine.Certificate, "-key", mine.Key}
	for _, c := range []struct {
		args []string
		code int
	}{
		{append([]string{"-admin", o.url(""), "-ca", authorities}, show...), 0},
		{append([]string{"-config", hcl}, show...), 0},
		{append([]string{"-admin", o.url("")}, show...), 1}, // an authority that nobody knows
		{[]string{"-admin", o.url(""), "-ca", authorities}, 1},
		{[]string{"-admin", o.url(""), "-ca", files.Key}, 1},
		{[]string{"-admin", o.url(""), "-ca", authorities, "-cert", mine.Certificate, "-key", files.Key}, 1},
		{[]string{"-config", filepath.Join(dir, "none.hcl")}, 3},
	} {
		if code, _, stderr := invoke(append([]string{"flows", "list"}, c.args...)...); code != c.code || (code == 0) != (stderr == "") {
			t.Errorf("%v: exit %d, %s", c.args, code, stderr)
		}
	}
}

func TestWhereAConfiguredHostIs(t *testing.T) {
	for address, want := range map[string]string{
		"127.0.0.1:1": "127.0.0.1:1", "0.0.0.0:1": "127.0.0.1:1", ":1": "127.0.0.1:1", "[::]:1": "[::1]:1", "[::1]:1": "[::1]:1",
		"towpath.example:1": "towpath.example:1",
	} {
		to := target{tls: &tls.Config{}}
		if err := to.configure(&config.Config{Admin: config.Listener{Address: address}}, true); err != nil || to.base != "http://"+want {
			t.Errorf("%s: %s, %v", address, to.base, err)
		}
	}
}

// What is not a plain file keeps what it is.
func TestSavingIntoADevice(t *testing.T) {
	if err := saveData(os.DevNull, strings.NewReader("data")); err != nil {
		t.Error(err)
	}
	if info, err := os.Stat(os.DevNull); err != nil || info.Mode().IsRegular() {
		t.Errorf("%s has become a file: %v", os.DevNull, err)
	}
}
