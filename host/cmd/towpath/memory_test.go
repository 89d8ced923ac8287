//go:build linux

package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/towpath-dataplane/towpath/host/admin"
)

// host is a built towpath that serves a configuration, with its plugins.
type host struct {
	b                *testing.B
	pid              int
	signaling, admin string
	messages         int
}

const memoryConfig = `
dataplane "bench" { data_dir = %q }
listen "signaling" { address = %q }
listen "public"    { address = "127.0.0.1:0" }
listen "admin"     { address = %q }
plugins {
  directory = %q
  trust     = "off"
}
control_plane "bench" { endpoint = "http://127.0.0.1:1" }
profile "discard-push" { type = "Discard" }
profile "load-pull" { allow_http = true }
dataset "large" {
  source "Generate" { size = "4GiB" }
}
dataset "steady" {
  source "Generate" {
    size = "1TiB"
    rate = 1048576
  }
}
telemetry { log_level = "error" }
`

func startHost(b *testing.B) *host {
	return serveHost(b, []string{"synthetic"}, func(h *host, state, plugins string) string {
		return fmt.Sprintf(memoryConfig, state, h.signaling, h.admin, plugins)
	})
}

// serveHost builds towpath and plugins, and serves the configuration that is written for them until the benchmark ends.
func serveHost(b *testing.B, names []string, configuration func(h *host, state, plugins string) string) *host {
	b.Helper()
	dir := b.TempDir()
	plugins := filepath.Join(dir, "plugins")
	build := func(out, pkg string) {
		cmd := exec.Command("go", "build", "-o", out, pkg)
		cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
		if out, err := cmd.CombinedOutput(); err != nil {
			b.Fatalf("build %s: %v\n%s", pkg, err, out)
		}
	}
	build(filepath.Join(dir, "towpath"), ".")
	for _, name := range names {
		build(filepath.Join(plugins, "towpath-plugin-"+name), "../../../plugins/"+name)
	}
	h := &host{b: b, signaling: freeAddress(b), admin: freeAddress(b)}
	file := filepath.Join(dir, "bench.hcl")
	if err := os.WriteFile(file, []byte(configuration(h, filepath.Join(dir, "state"), plugins)), 0o600); err != nil {
		b.Fatal(err)
	}
	cmd := exec.Command(filepath.Join(dir, "towpath"), "serve", "-config", file)
	cmd.Stderr = os.Stderr
	if err := cmd.Start(); err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { cmd.Process.Signal(syscall.SIGTERM); cmd.Wait() })
	h.pid = cmd.Process.Pid
	h.until("ready", func() bool {
		resp, err := http.Get("http://" + h.admin + "/readyz")
		if err != nil {
			return false
		}
		resp.Body.Close()
		return resp.StatusCode == http.StatusOK
	})
	return h
}

func freeAddress(b *testing.B) string {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

// until polls for a condition, for a bounded time.
func (h *host) until(what string, done func() bool) {
	h.b.Helper()
	for range 6000 {
		if done() {
			return
		}
		time.Sleep(20 * time.Millisecond)
	}
	h.b.Fatal("never: " + what)
}

// signal sends a signal and returns the answer.
func (h *host) signal(path string, body map[string]any) []byte {
	h.b.Helper()
	h.messages++
	body["messageId"] = fmt.Sprint("message-", h.messages)
	text, err := json.Marshal(body)
	if err != nil {
		h.b.Fatal(err)
	}
	resp, err := http.Post("http://"+h.signaling+"/dataflows/"+path, "application/json", bytes.NewReader(text))
	if err != nil {
		h.b.Fatal(err)
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != http.StatusOK {
		h.b.Fatal(path, resp.Status, err)
	}
	return answer
}

// start begins a push from a dataset to the Discard plugin, which stops reading after so many bytes if stallAfter is not "".
func (h *host) start(id, dataset, stallAfter string) {
	address := map[string]any{"endpointType": "Discard", "endpoint": "https://nowhere.example"}
	if stallAfter != "" {
		address["endpointProperties"] = []any{map[string]any{"name": "stall_after", "value": stallAfter}}
	}
	h.signal("start", map[string]any{"dataFlowId": id, "participantId": "p", "counterPartyId": "c", "dataspaceContext": "d",
		"agreementId": "a", "datasetId": dataset, "profile": "discard-push", "dataAddress": address})
}

// bytes is what all transfers have moved.
func (h *host) bytes() string { return h.metric(`towpath_transfer_bytes_total `) }

// started is the number of flows that are STARTED.
func (h *host) started() int {
	_, value, _ := strings.Cut(h.metric(`towpath_flows{state="STARTED"} `), "} ")
	n, err := strconv.Atoi(value)
	if err != nil {
		h.b.Fatal(err)
	}
	return n
}

// metric returns the line of a metric.
func (h *host) metric(name string) string {
	h.b.Helper()
	resp, err := http.Get("http://" + h.admin + "/metrics")
	if err != nil {
		h.b.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		h.b.Fatal(err)
	}
	return string(regexp.MustCompile(`(?m)^` + regexp.QuoteMeta(name) + `.*$`).Find(text))
}

func (h *host) flow(id string) (f admin.FlowDetail) {
	h.b.Helper()
	resp, err := http.Get("http://" + h.admin + "/api/v1/flows/" + id)
	if err != nil {
		h.b.Fatal(err)
	}
	defer resp.Body.Close()
	if err := json.NewDecoder(resp.Body).Decode(&f); err != nil {
		h.b.Fatal(err)
	}
	return f
}

// memory returns a line of the process's status, in MiB: VmRSS is resident now, VmHWM at most so far.
func (h *host) memory(name string) float64 {
	h.b.Helper()
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", h.pid))
	if err != nil {
		h.b.Fatal(err)
	}
	match := regexp.MustCompile(name + `:\s+(\d+) kB`).FindStringSubmatch(string(status))
	if match == nil {
		h.b.Fatal(name, " is not in ", strings.TrimSpace(string(status)))
	}
	kib, _ := strconv.ParseFloat(match[1], 64)
	return kib / 1024
}

// BenchmarkMemory is what the host holds while one flow moves 4 GiB, what each of a hundred further flows that move at the same time
// adds to that, and what each of a hundred flows whose sink has stopped.
func BenchmarkMemory(b *testing.B) {
	const flows = 100
	h := startHost(b)
	for b.Loop() {
		h.start("large", "large", "")
		h.until("4 GiB moved", func() bool { return h.flow("large").State == "COMPLETED" })
	}
	b.ReportMetric(h.memory("VmHWM"), "MiB-one-flow-at-most")
	one := h.memory("VmRSS")
	for i := range flows {
		h.start(fmt.Sprint("steady-", i), "steady", "")
	}
	for i := range flows {
		h.until("every flow moves", func() bool { return h.moved(fmt.Sprint("steady-", i)) })
	}
	b.ReportMetric(max(0, h.memory("VmRSS")-one)/flows, "MiB-each-further-flow")
	for i := range flows {
		h.signal(fmt.Sprintf("steady-%d/terminate", i), map[string]any{})
	}
	before := h.memory("VmRSS")
	for i := range flows {
		h.start(fmt.Sprint("stalled-", i), "large", "1MiB")
	}
	still, last := 0, ""
	h.until("every flow stalled", func() bool {
		now := h.bytes()
		if still++; now != last {
			still, last = 0, now
		}
		return still > 50
	})
	b.ReportMetric(max(0, h.memory("VmRSS")-before)/flows, "MiB-each-stalled-flow")
	b.ReportMetric(0, "ns/op")
}

// moved reports whether bytes of a flow are durable.
func (h *host) moved(id string) bool {
	f := h.flow(id)
	if f.Fault != "" {
		h.b.Fatal(id, f.Fault)
	}
	return f.Bytes > 0
}
