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
)

// A plugin crashes whatever it does. It is put into quarantine, which is told wherever an operator looks; its flows rest without a fault, and
// go on when it is let out of it.
func TestQuarantineOfAPlugin(t *testing.T) {
	t.Parallel()
	for _, way := range []struct {
		name string
		out  func(h *host)
	}{
		{"released", func(h *host) {
			if out := h.operate(0, "plugins", "release", "brittle"); !strings.Contains(out, `plugin "brittle" is released`) {
				h.t.Errorf("plugins release:\n%s", out)
			}
			h.operate(1, "plugins", "release", "brittle")
			h.operate(4, "plugins", "release", "marble")
		}},
		{"looked at again", func(h *host) { h.operate(0, "plugins", "rescan") }},
		{"replaced", func(h *host) { putBrittle(t, h.variable("E2E_PLUGINS"), []byte("another")...) }},
		{"host started again", func(h *host) { h.kill(); h.start() }},
	} {
		t.Run(way.name, func(t *testing.T) {
			t.Parallel()
			h, receiver := brittleHost(t), newReceiver(t)
			ids := []string{"first", "second"}
			for _, id := range ids {
				h.push(id, "whole", receiver)
			}
			eventually(t, "the flows move", func() bool { return h.flow("first").Parts > 0 && h.flow("second").Parts > 0 })
			crash := filepath.Join(h.variable("E2E_GATES"), "crash")
			writeFile(t, crash, "")
			eventually(t, "the plugin is in quarantine", func() bool { return h.plugin("brittle").State == "quarantined" })
			for _, id := range ids {
				eventually(t, "flow "+id+" says what it waits for", func() bool {
					return strings.Contains(h.flow(id).Waiting, "plugin brittle is in quarantine since")
				})
			}
			h.expectQuarantine()
			for _, id := range ids {
				h.expectState(id, "STARTED")
				if f := h.flow(id); f.Fault != "" || len(h.controlPlane.about(id)) > 0 {
					t.Errorf("flow %s: fault %q", id, f.Fault)
				}
			}

			if err := os.Remove(crash); err != nil {
				t.Fatal(err)
			}
			way.out(h)
			h.hasten(ids...)
			for _, id := range ids {
				h.controlPlane.expect(t, id, "completed")
			}
			h.awaitReady()
			h.push("reference", "whole", receiver)
			h.hasten("reference")
			h.controlPlane.expect(t, "reference", "completed")
			h.expectSameData("reference", "first", "second")
			h.stop()
		})
	}
}

// expectQuarantine checks what an operator is told about the plugin that breaks.
func (h *host) expectQuarantine() {
	t := h.t
	t.Helper()
	q := h.plugin("brittle").Quarantine
	if q == nil || q.Crashes < 5 || q.Exit.Status != "exit status 9" || !slices.Contains(q.Exit.Stderr, "the licence server has hung up") {
		t.Fatalf("admin API: %+v", q)
	}
	_, describe, _ := towpath(t, h.env, "plugins", "describe", "brittle", "-config", h.config)
	for _, want := range []string{"quarantined", "exit status 9", "| the licence server has hung up", "| giving up", "towpath plugins release brittle"} {
		if !strings.Contains(describe, want) {
			t.Errorf("plugins describe does not say %q:\n%s", want, describe)
		}
	}
	if _, list, _ := towpath(t, h.env, "plugins", "list", "-config", h.config); !strings.Contains(list, "quarantined") || !strings.Contains(list, "exit status 9") {
		t.Errorf("plugins list:\n%s", list)
	}
	if code, text, err := fetch(h.admin+"/readyz", ""); err != nil || code != http.StatusServiceUnavailable || !strings.Contains(text, "in quarantine") {
		t.Errorf("readyz: %d %s %v", code, text, err)
	}
	if _, text, _ := fetch(h.admin+"/metrics", ""); !strings.Contains(text, `towpath_plugin_state{plugin="brittle",state="quarantined"} 1`) {
		t.Error("no metric says so")
	}
	if n := strings.Count(h.logs(), "plugin is in quarantine and not launched any more"); n != 1 {
		t.Errorf("%d records in the log", n)
	}
	if pid := h.pidFor("shared"); pid != 0 {
		t.Errorf("it runs as process %d", pid)
	}
	launches := h.plugin("brittle").Launches
	if a, err := h.try("start", creation(fmt.Sprint("night-", launches), "http-pull", "whole", nil)); err != nil || a.code != http.StatusOK {
		t.Errorf("a flow that comes meanwhile: %d %s %v", a.code, a.text, err)
	}
	if now := h.plugin("brittle").Launches; now != launches {
		t.Errorf("launched %d times more", now-launches)
	}
}
