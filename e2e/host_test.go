//go:build linux

package e2e_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
)

// configuration is what all hosts have in common. A story adds blocks of its own.
const configuration = `
dataplane "e2e" {
  data_dir = env("E2E_DATA")
}

listen "signaling" {
  address = env("E2E_SIGNALING")
}

listen "public" {
  address = env("E2E_PUBLIC")
  url     = env("E2E_PUBLIC_URL")
}

listen "admin" {
  address = env("E2E_ADMIN")
}

control_plane "e2e" {
  endpoint = env("E2E_CONTROL_PLANE")
}

plugins {
  directory = env("E2E_PLUGINS")
  trust     = env("E2E_TRUST", "directory")
  watch     = env("E2E_WATCH", "true")
}

plugin "file" {
  lane             = env("E2E_LANE", "auto")
  quarantine_after = env("E2E_QUARANTINE_AFTER", "5")

  config {
    root = env("E2E_FILES")
  }
}

plugin "http" {
  lane             = env("E2E_LANE", "auto")
  quarantine_after = env("E2E_QUARANTINE_AFTER", "5")

  config {
    allow = ["loopback"]
  }
}

profile "http-pull" {
  type       = "HttpData"
  allow_http = true
}

profile "http-push" {
  type       = "HttpData"
  allow_http = true
}

dataset "tree" {
  source "File" {
    path = "outbox"
  }

  sink "File" {
    path = "inbox"
  }
}

token {
  lifetime = env("E2E_TOKEN_LIFETIME", "1h")
}

transfer {
  digests             = ["sha256"]
  checkpoint_interval = env("E2E_CHECKPOINT_INTERVAL", "200ms")

  retry {
    first         = "100ms"
    max           = "500ms"
    give_up_after = env("E2E_GIVE_UP_AFTER", "2m")
  }
}
`

// host is a data plane that can be started, killed and started again in the same place.
type host struct {
	t      testing.TB
	name   string
	config string // folder
	data   string
	files  string
	env    []string

	signaling string // URLs
	public    string
	admin     string

	controlPlane *controlPlane
	network      *network // between counterparties and the public listener
	process      *process // the last one
	former       []*process
}

// newHost makes the place for a host: folders, free ports, a control plane. The network in front of it is as fast as the machine.
func newHost(t testing.TB, name, moreConfiguration string, env ...string) *host {
	t.Helper()
	dir := filepath.Join(t.TempDir(), name)
	h := &host{t: t, name: name, config: dir + "/config", data: dir + "/data", files: dir + "/files"}
	for _, folder := range []string{h.config, h.files} {
		if err := os.MkdirAll(folder, 0o700); err != nil {
			t.Fatal(err)
		}
	}
	writeFile(t, h.config+"/common.hcl", configuration)
	writeFile(t, h.config+"/story.hcl", moreConfiguration)
	signaling, public, admin := freeAddress(t), freeAddress(t), freeAddress(t)
	h.signaling, h.public, h.admin = "http://"+signaling, "http://"+public, "http://"+admin
	h.controlPlane = newControlPlane(t)
	h.network = newNetwork(t, public)
	h.env = append([]string{
		"E2E_DATA=" + h.data, "E2E_FILES=" + h.files, "E2E_PLUGINS=" + binaries.plugins,
		"E2E_SIGNALING=" + signaling, "E2E_PUBLIC=" + public, "E2E_ADMIN=" + admin,
		"E2E_PUBLIC_URL=http://" + h.network.address, "E2E_CONTROL_PLANE=" + h.controlPlane.url,
	}, env...)
	return h
}

// start starts the host and waits until it is ready.
func (h *host) start() {
	h.t.Helper()
	h.launch()
	h.awaitReady()
}

func (h *host) launch() {
	h.t.Helper()
	p := startProcess(h.t, h.env, binaries.towpath, "serve", "-config", h.config)
	if h.process != nil {
		h.former = append(h.former, h.process)
	}
	h.process = p
	h.t.Cleanup(func() {
		if h.t.Failed() {
			h.t.Logf("log of the %s, process %d:\n%s", h.name, p.cmd.Process.Pid, tail(p.stderr.String(), 60))
		}
	})
}

// logs returns what all processes of the host have said.
func (h *host) logs() string {
	var all strings.Builder
	for _, p := range append(slices.Clone(h.former), h.process) {
		all.WriteString(p.stderr.String())
	}
	return all.String()
}

func (h *host) awaitReady() {
	h.t.Helper()
	p := h.process
	eventually(h.t, h.name+" is ready", func() bool {
		if p.hasExited() {
			h.t.Fatalf("the %s has ended with code %d:\n%s", h.name, p.cmd.ProcessState.ExitCode(), p.stderr.String())
		}
		return h.isReady()
	})
}

func (h *host) isReady() bool {
	code, _, err := fetch(h.admin+"/readyz", "")
	return err == nil && code == http.StatusOK
}

// kill kills the host, and waits until its plugins are gone too.
func (h *host) kill() {
	h.t.Helper()
	plugins := childrenOf(h.process.cmd.Process.Pid)
	h.process.signal(syscall.SIGKILL)
	<-h.process.exited
	expectGone(h.t, plugins)
}

// stop stops the host as a service manager does, and expects it to leave nothing behind.
func (h *host) stop() {
	h.t.Helper()
	plugins := childrenOf(h.process.cmd.Process.Pid)
	h.process.signal(syscall.SIGTERM)
	if code := h.process.exitCode(h.t); code != 0 {
		h.t.Errorf("the %s ended with code %d after a SIGTERM, not 0", h.name, code)
	}
	expectGone(h.t, plugins)
}

// inbox and outbox are the folders of the dataset "tree".
func (h *host) inbox() string  { return filepath.Join(h.files, "inbox") }
func (h *host) outbox() string { return filepath.Join(h.files, "outbox") }

// answer is what a host said to a signal.
type answer struct {
	code int
	text string

	DataFlowID  string       `json:"dataFlowId"`
	State       string       `json:"state"`
	DataAddress *dataAddress `json:"dataAddress"`
	// Of a problem:
	Detail string `json:"detail"`
	Field  string `json:"field"`
}

// dataAddress is a DataAddress of the Dataspace Protocol.
type dataAddress struct {
	Type               string             `json:"@type"`
	EndpointType       string             `json:"endpointType"`
	Endpoint           string             `json:"endpoint,omitempty"`
	EndpointProperties []endpointProperty `json:"endpointProperties"`
}

type endpointProperty struct {
	Type  string `json:"@type"`
	Name  string `json:"name"`
	Value string `json:"value"`
}

func newAddress(endpoint string) *dataAddress {
	return &dataAddress{Type: "DataAddress", EndpointType: "HttpData", Endpoint: endpoint}
}

// token returns the access token of an address.
func (a *dataAddress) token() string {
	for _, p := range a.EndpointProperties {
		if p.Name == "authorization" {
			return p.Value
		}
	}
	return ""
}

// message is the body of a signal.
type message map[string]any

// creation returns a prepare or start message. address is nil unless a provider is to push.
func creation(id, profile, dataset string, address *dataAddress) message {
	m := message{
		"messageId": newID(), "dataFlowId": id, "participantId": "did:web:us.example", "counterPartyId": "did:web:them.example",
		"dataspaceContext": "e2e", "agreementId": "agreement-" + id, "datasetId": dataset, "profile": profile, "claims": message{},
	}
	if address != nil {
		m["dataAddress"] = address
	}
	return m
}

// signal sends a signal, which has to be taken.
func (h *host) signal(path string, m message) answer {
	h.t.Helper()
	a, err := h.try(path, m)
	if err != nil {
		h.t.Fatalf("%s of the %s: %v", path, h.name, err)
	}
	if a.code != http.StatusOK {
		h.t.Fatalf("%s of the %s: %d %s", path, h.name, a.code, a.text)
	}
	return a
}

// try sends a signal. The error says that there was no answer.
func (h *host) try(path string, m message) (answer, error) {
	if m == nil {
		m = message{"messageId": newID()}
	}
	body, err := json.Marshal(m)
	if err != nil {
		return answer{}, err
	}
	return h.post(path, body)
}

// post sends a signal as it is.
func (h *host) post(path string, body []byte) (answer, error) {
	resp, err := client.Post(h.signaling+"/dataflows/"+path, "application/json", bytes.NewReader(body))
	if err != nil {
		return answer{}, err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		return answer{}, err
	}
	a := answer{code: resp.StatusCode, text: string(text)}
	return a, json.Unmarshal(text, &a)
}

// state asks for the state of a flow by signaling.
func (h *host) state(id string) string {
	h.t.Helper()
	code, text, err := fetch(h.signaling+"/dataflows/"+id+"/status", "")
	if err != nil || code != http.StatusOK {
		h.t.Fatalf("status of %s at the %s: %d %s %v", id, h.name, code, text, err)
	}
	var a answer
	if err := json.Unmarshal([]byte(text), &a); err != nil || a.DataFlowID != id {
		h.t.Fatalf("status of %s at the %s: %s", id, h.name, text)
	}
	return a.State
}

func (h *host) expectState(id, want string) {
	h.t.Helper()
	if got := h.state(id); got != want {
		h.t.Errorf("flow %s at the %s is %s, not %s", id, h.name, got, want)
	}
}

// flowDetail is what the admin API shows of a flow.
type flowDetail struct {
	ID, Role, Direction, State, Dataset string
	Parts, Bytes, Records               int64
	Digest, Waiting, Fault, Reason      string
	CleanupPending                      bool
	PartList                            []struct {
		Name           string
		Size, Records  int64
		CRC32C, SHA256 string
	}
	Callbacks []struct {
		Kind, Status, LastError, Error string
		Attempts                       int
	}
}

// flow returns what the admin API shows of a flow.
func (h *host) flow(id string) flowDetail {
	h.t.Helper()
	var f flowDetail
	h.ask("/api/v1/flows/"+id, &f)
	return f
}

// pluginStatus is what the admin API shows of a plugin.
type pluginStatus struct {
	Name, State, Problem, Reason, Generation string
	PID, Restarts, Flows                     int
	Launches                                 int
	Sources, Sinks                           []string
	Processes                                []struct {
		PID int
		For string
	}
	Quarantine *struct {
		Crashes int
		Exit    struct {
			Status string
			Stderr []string
		}
	}
}

func (h *host) plugin(name string) pluginStatus {
	h.t.Helper()
	var p pluginStatus
	h.ask("/api/v1/plugins/"+name, &p)
	return p
}

// ask decodes an answer of the admin API into v.
func (h *host) ask(path string, v any) {
	h.t.Helper()
	code, text, err := fetch(h.admin+path, "")
	if err != nil || code != http.StatusOK {
		h.t.Fatalf("%s of the %s: %d %s %v", path, h.name, code, text, err)
	}
	if err := json.Unmarshal([]byte(text), v); err != nil {
		h.t.Fatalf("%s of the %s: %v in %s", path, h.name, err, text)
	}
}

// expectNothingLeft waits until the plugins of the host have let go of what they held for flows that have ended.
func (h *host) expectNothingLeft(id string) {
	h.t.Helper()
	eventually(h.t, fmt.Sprintf("cleanup of flow %s at the %s", id, h.name), func() bool { return !h.flow(id).CleanupPending })
	if left, _ := os.ReadDir(filepath.Join(h.files, ".towpath")); len(left) > 0 {
		h.t.Errorf("the file plugin of the %s has left %v in its work folder", h.name, left)
	}
}

// tail returns the last lines of a text.
func tail(text string, lines int) string {
	all := strings.Split(strings.TrimRight(text, "\n"), "\n")
	return strings.Join(all[max(0, len(all)-lines):], "\n")
}
