//go:build linux

package e2e_test

import (
	"encoding/json"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
)

// registry is a control plane that data planes register at.
type registry struct {
	url string

	mu       sync.Mutex
	profiles []string // of the last registration
}

func newRegistry(t testing.TB) *registry {
	t.Helper()
	r := &registry{}
	r.url = serve(t, func(w http.ResponseWriter, req *http.Request) {
		var said struct{ Profiles []string }
		if err := json.NewDecoder(req.Body).Decode(&said); err != nil && req.Method == http.MethodPut {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		r.mu.Lock()
		defer r.mu.Unlock()
		r.profiles = said.Profiles
	})
	return r
}

// await waits until a profile is registered, or is not.
func (r *registry) await(t testing.TB, profile string, there bool) {
	t.Helper()
	eventually(t, "the registration of "+profile, func() bool {
		r.mu.Lock()
		defer r.mu.Unlock()
		return len(r.profiles) > 0 && slices.Contains(r.profiles, profile) == there
	})
}

// pluginFolder is a plugin directory of a host's own, with some of the plugins.
func pluginFolder(t testing.TB, names ...string) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "plugins")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	for _, name := range names {
		dropIn(t, dir, name)
	}
	return dir
}

// dropIn puts a plugin into a plugin directory, as cp does.
func dropIn(t testing.TB, dir, name string) {
	t.Helper()
	file := "towpath-plugin-" + name
	content, err := os.ReadFile(filepath.Join(binaries.plugins, file))
	if err == nil {
		err = os.WriteFile(filepath.Join(dir, file), content, 0o700)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// pushTo starts a push of the dataset "tree".
func (h *host) pushTo(id, profile string, to *dataAddress) {
	h.t.Helper()
	if a := h.signal("start", creation(id, profile, "tree", to)); a.State != "STARTED" {
		h.t.Fatalf("start of %s: %s", id, a.text)
	}
}

const dropInStory = `
profile "Sink-good" {
  direction = "push"
}

limits {
  flow {
    bytes = "64KiB"
  }
}
`

// While a push is under way, a plugin is dropped in: its profile is registered, and a flow uses it. When it is removed the registration is
// changed, no new flow is taken, and the flow that runs comes to its end.
func TestPluginIsDroppedInAndRemoved(t *testing.T) {
	t.Parallel()
	dir, office, receiver := pluginFolder(t, "file", "http"), newRegistry(t), newReceiver(t)
	h := newHost(t, "provider", dropInStory, "E2E_PLUGINS="+dir)
	h.registersAt(office)
	makeTree(t, h.outbox(), 7, 2*mib)
	h.start()
	office.await(t, "http-push", true)
	office.await(t, "Sink-good", false)
	h.pushTo("first", "http-push", newAddress(receiver.url+"/first"))

	good := filepath.Join(dir, "towpath-plugin-good")
	if err := goBuild(good, "./misbehave"); err != nil { // written as it is linked
		t.Fatal(err)
	}
	office.await(t, "Sink-good", true)
	to := &dataAddress{Type: "DataAddress", EndpointType: "Sink-good"}
	h.pushTo("second", "Sink-good", to)
	eventually(t, "the flow uses the plugin", func() bool { return h.plugin("good").Flows > 0 })

	if err := os.Remove(good); err != nil {
		t.Fatal(err)
	}
	office.await(t, "Sink-good", false)
	if p := h.plugin("good"); p.State != "draining" || p.Reason != "its file was removed" || p.Flows == 0 {
		t.Errorf("the plugin that was removed: %+v", p)
	}
	a, err := h.try("start", creation("third", "Sink-good", "tree", to))
	if err != nil || a.code != http.StatusBadRequest || !strings.Contains(a.text, "is not offered at present: plugin good: its file was removed") {
		t.Errorf("a flow that needs the plugin: %d %s, %v", a.code, a.text, err)
	}
	for _, id := range []string{"first", "second"} {
		h.expectState(id, "STARTED")
		h.operate(0, "limits", "set", "flow="+id, "-bytes", "none")
	}
	for _, id := range []string{"first", "second"} {
		h.controlPlane.expect(t, id, "completed")
	}
	if first, second := h.flow("first"), h.flow("second"); first.Digest == "" || first.Digest != second.Digest {
		t.Errorf("digest %q through the plugin that stayed, %q through the one that was removed", first.Digest, second.Digest)
	}
	eventually(t, "the process of the plugin ends", func() bool {
		code, _, err := fetch(h.admin+"/api/v1/plugins/good", "")
		return err == nil && code == http.StatusNotFound
	})
	h.stop()
}

// withoutSink is the configuration without a sink of its dataset: then only plugins make a push possible.
func withoutSink(configuration string) string {
	before, rest, _ := strings.Cut(configuration, "  sink \"File\" {")
	_, after, _ := strings.Cut(rest, "}\n")
	return before + after
}

// A flow whose plugin is cut rests, past a restart of the host as well, and goes on when the plugin is there again.
func TestPluginComesBack(t *testing.T) {
	t.Parallel()
	dir, receiver := pluginFolder(t, "file", "http"), newReceiver(t)
	h := newHost(t, "provider", "limits {\n  flow {\n    bytes = \"64KiB\"\n  }\n}\n", "E2E_PLUGINS="+dir)
	writeFile(t, h.config+"/common.hcl", strings.Replace(configuration, `plugin "http" {`, `plugin "http" {
  drain_timeout = "10ms"`, 1))
	makeTree(t, h.outbox(), 8, 2*mib)
	h.start()
	h.pushTo("rests", "http-push", newAddress(receiver.url+"/rests"))
	eventually(t, "the flow uses the plugin", func() bool { return h.plugin("http").Flows > 0 })
	if err := os.Remove(filepath.Join(dir, "towpath-plugin-http")); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the flow says what it waits for", func() bool {
		return strings.Contains(h.flow("rests").Waiting, "is not offered at present")
	})
	h.expectState("rests", "STARTED")
	if !h.isReady() {
		t.Error("a plugin that an operator has removed makes the host unready")
	}
	h.stop()

	h.launch()
	eventually(t, "the host says what it lacks", func() bool {
		code, text, err := fetch(h.admin+"/readyz", "")
		return err == nil && code == http.StatusServiceUnavailable && strings.Contains(text, "plugin http is not ready: there is no file")
	})
	h.expectState("rests", "STARTED")
	h.operate(0, "limits", "set", "flow=rests", "-bytes", "none")
	dropIn(t, dir, "http")
	h.awaitReady()
	h.controlPlane.expect(t, "rests", "completed")
	h.stop()
}

// A host that has described its plugins launches none at its start, and those that a flow needs with the flow.
func TestPluginsAreLaunchedOnDemand(t *testing.T) {
	t.Parallel()
	h := newHost(t, "provider", "", "E2E_PLUGINS="+pluginFolder(t, "file", "http", "synthetic"))
	receiver := newReceiver(t)
	makeTree(t, h.outbox(), 9, 1*mib)
	h.start()
	h.stop()
	h.start()
	for _, name := range []string{"file", "http", "synthetic"} {
		if p := h.plugin(name); p.State != "not started" || p.PID != 0 {
			t.Errorf("plugin %s: %+v", name, p)
		}
	}
	if children := childrenOf(h.process.cmd.Process.Pid); len(children) > 0 {
		t.Errorf("processes before any flow: %v", children)
	}
	if list := h.operate(0, "plugins", "rescan"); !strings.Contains(list, "synthetic") {
		t.Errorf("plugins rescan:\n%s", list)
	}
	h.pushTo("flow", "http-push", newAddress(receiver.url+"/flow"))
	h.controlPlane.expect(t, "flow", "completed")
	for name, state := range map[string]string{"file": "ready", "http": "ready", "synthetic": "not started"} {
		if p := h.plugin(name); p.State != state {
			t.Errorf("plugin %s after a flow: %+v", name, p)
		}
	}
	h.stop()
}
