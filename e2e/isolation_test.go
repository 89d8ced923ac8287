//go:build linux

package e2e_test

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
)

// brittleStory has a plugin that breaks, see e2e/misbehave, and datasets of it. Their flows are slow until someone lifts the limit.
const brittleStory = `
plugin "brittle" {
  environment = { MISBEHAVE_GATES = env("E2E_GATES") }
  isolation   = env("E2E_ISOLATION", "shared")
}

limits {
  flow {
    bytes = "128KiB"
  }
}

dataset "whole" {
  source "Brittle" {
    parts = 24
    size  = "64KiB"
  }
}

dataset "cracked" {
  source "Brittle" {
    parts = 24
    size  = "64KiB"
    kills = "part-03"
  }
}
`

// builtBrittle is the program of the plugin that breaks.
var builtBrittle = sync.OnceValues(func() (string, error) {
	file := filepath.Join(binaries.folder, "brittle")
	return file, goBuild(file, "./misbehave")
})

// brittleHost is a host with the plugin that breaks, which has started.
func brittleHost(t *testing.T, env ...string) *host {
	t.Helper()
	dir, gates := pluginFolder(t, "file", "http"), t.TempDir()
	putBrittle(t, dir)
	h := newHost(t, "provider", brittleStory, append(env, "E2E_PLUGINS="+dir, "E2E_GATES="+gates)...)
	h.start()
	return h
}

// putBrittle puts the plugin that breaks into a plugin directory, in place of one that is there.
func putBrittle(t *testing.T, dir string, more ...byte) {
	t.Helper()
	file, err := builtBrittle()
	if err != nil {
		t.Fatal(err)
	}
	content, err := os.ReadFile(file)
	if err == nil {
		err = os.WriteFile(filepath.Join(dir, ".new"), append(content, more...), 0o700)
	}
	if err == nil {
		err = os.Rename(filepath.Join(dir, ".new"), filepath.Join(dir, "towpath-plugin-brittle"))
	}
	if err != nil {
		t.Fatal(err)
	}
}

func (h *host) push(id, dataset string, r *receiver) {
	h.t.Helper()
	if a := h.signal("start", creation(id, "http-push", dataset, newAddress(r.url+"/"+id))); a.State != "STARTED" {
		h.t.Fatalf("start of %s: %s", id, a.text)
	}
}

// hasten lifts the limits of flows.
func (h *host) hasten(ids ...string) {
	h.t.Helper()
	for _, id := range ids {
		h.operate(0, "limits", "set", "flow="+id, "-bytes", "none")
	}
}

// pidFor returns the process of the plugin that breaks which is somebody's, 0 if there is none.
func (h *host) pidFor(whose string) int {
	h.t.Helper()
	for _, p := range h.plugin("brittle").Processes {
		if p.For == whose {
			return p.PID
		}
	}
	return 0
}

// expectSameData checks that flows have moved the same, all of it.
func (h *host) expectSameData(ids ...string) {
	h.t.Helper()
	want := h.flow(ids[0])
	if want.Parts != 24 || want.Digest == "" {
		h.t.Errorf("flow %s: %d parts, digest %q", ids[0], want.Parts, want.Digest)
	}
	for _, id := range ids {
		if got := h.flow(id); got.Digest != want.Digest || got.Parts != want.Parts {
			h.t.Errorf("flow %s: %d parts, digest %s; flow %s: %d, %s", id, got.Parts, got.Digest, want.ID, want.Parts, want.Digest)
		}
	}
}

// Each flow has a process of its own. One is killed: its flow goes on with another, and nothing happens to the other flow. When they have
// ended so have their processes, or they do with the host.
func TestFlowsHaveProcessesOfTheirOwn(t *testing.T) {
	t.Parallel()
	h, receiver := brittleHost(t, "E2E_ISOLATION=flow"), newReceiver(t)
	h.push("one", "whole", receiver)
	h.push("other", "whole", receiver)
	eventually(t, "both flows move", func() bool { return h.flow("one").Parts > 0 && h.flow("other").Parts > 0 })
	one, other := h.pidFor("flow default/one"), h.pidFor("flow default/other")
	if shared := h.pidFor("shared"); one == 0 || other == 0 || one == other || shared == one || shared == other {
		t.Fatalf("processes %d and %d, for calls of no flow %d", one, other, shared)
	}
	sendSignal(t, one, syscall.SIGKILL)
	eventually(t, "the flow has another process", func() bool { pid := h.pidFor("flow default/one"); return pid != 0 && pid != one })
	if now := h.pidFor("flow default/other"); now != other {
		t.Errorf("the process of the other flow was %d and is %d", other, now)
	}
	h.hasten("one", "other")
	h.controlPlane.expect(t, "one", "completed")
	h.controlPlane.expect(t, "other", "completed")
	h.expectSameData("one", "other")
	if log := h.logs(); strings.Count(log, "transfer failed and is tried again") != 1 || !strings.Contains(log, "signal: killed") {
		t.Error("not one flow, and once, was cut by the end of its process")
	}
	h.stop()
}

// Two flows use a plugin, and one of them has a part that kills it every time. That one rests, and says at which part and why; the other
// comes to its end, and the plugin is nowhere in quarantine. An operator gives the part up.
func TestPartThatKillsItsPlugin(t *testing.T) {
	t.Parallel()
	h, receiver := brittleHost(t), newReceiver(t)
	h.push("healthy", "whole", receiver)
	h.push("poisoned", "cracked", receiver)
	h.hasten("poisoned")
	said := h.controlPlane.expect(t, "poisoned", "errored")
	f := h.flow("poisoned")
	for _, want := range []string{"plugin brittle crashed 3 times in a process of its own", `at part "part-03"`, "exit status 7", "part 3 has a crack"} {
		if !strings.Contains(f.Fault, want) || !strings.Contains(said[0].Error, want) {
			t.Errorf("fault %q, callback %q, without %q", f.Fault, said[0].Error, want)
		}
	}
	h.expectState("poisoned", "STARTED")
	crashes := h.plugin("brittle").Restarts
	h.hasten("healthy")
	h.controlPlane.expect(t, "healthy", "completed")
	p := h.plugin("brittle")
	if p.State != "ready" || p.Quarantine != nil || p.Restarts != crashes {
		t.Errorf("plugin: %+v; %d crashes when the flow was parked", p, crashes)
	}
	if !h.isReady() {
		t.Error("a flow that is parked makes the host unready")
	}

	h.operate(0, "flows", "retry", "poisoned") // and it is parked again
	eventually(t, "the flow rests again", func() bool { return h.flow("poisoned").Fault != "" })
	if p := h.plugin("brittle"); p.Quarantine != nil {
		t.Errorf("plugin: %+v", p)
	}
	h.operate(0, "flows", "skip", "poisoned", "-part", "part-03")
	eventually(t, "the flow completes", func() bool { return h.state("poisoned") == "COMPLETED" })
	h.push("again", "whole", receiver)
	h.hasten("again")
	h.controlPlane.expect(t, "again", "completed")
	h.expectSameData("healthy", "again")
	var names []string
	for _, part := range h.flow("poisoned").PartList {
		names = append(names, part.Name)
	}
	if len(names) != 23 || slices.Contains(names, "part-03") {
		t.Errorf("parts of the flow: %v", names)
	}
	h.stop()
}
