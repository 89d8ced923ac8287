//go:build linux

package e2e_test

import (
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
)

const watchedConfiguration = `
plugin "gate" {
  environment = {
    MISBEHAVE_GATES = env("E2E_GATES")
  }
}

dataset "tap" {
  source "Tap" {
    gate = "tap"
  }
}

dataset "generated" {
  source "Generate" {
    rate = "1MiB"
  }
}

dataset "file" {
  source "File" {
    path = "large"
  }
}
`

// watched has a short patience. Only what is said is looked at: what is stalled stays so.
var watched = strings.Replace(configuration, "transfer {\n", `transfer {
  watchdog {
    stalled_after = "1s"
    restart_after = "never"
  }
`, 1)

// newStallingReceiver takes a little of whatever is sent, and the rest when release is called.
func newStallingReceiver(t testing.TB) (url string, release func()) {
	t.Helper()
	released := make(chan struct{})
	url = serve(t, func(_ http.ResponseWriter, r *http.Request) {
		io.CopyN(io.Discard, r.Body, 1<<10)
		select {
		case <-released:
		case <-r.Context().Done():
		}
		io.Copy(io.Discard, r.Body)
	})
	return url, func() { close(released) }
}

// Four flows do not move, each for a reason of its own: a receiver that takes nothing, a limit, a source without an end that has nothing,
// and a plugin that is dead. Whoever asks is told which is which, and the log complains of the dead one alone. When what held them is over,
// all go on.
func TestWatchdog(t *testing.T) {
	t.Parallel()
	gates, plugins := t.TempDir(), t.TempDir()
	assemble(t, plugins)
	h := newHost(t, "provider", watchedConfiguration, "E2E_GATES="+gates, "E2E_PLUGINS="+plugins)
	writeFile(t, h.config+"/common.hcl", watched)
	const large = 32 * mib
	writeFile(t, filepath.Join(h.files, "large"), "")
	if err := os.Truncate(filepath.Join(h.files, "large"), large); err != nil {
		t.Fatal(err)
	}
	h.start()
	receiver := newReceiver(t)
	stalling, release := newStallingReceiver(t)
	h.operate(0, "limits", "set", "flow=held", "-bytes", "1")
	for id, where := range map[string]struct{ dataset, url string }{
		"dead": {"generated", receiver.url}, "idle": {"tap", receiver.url}, "held": {"file", receiver.url}, "blocked": {"file", stalling},
	} {
		h.signal("start", creation(id, "http-push", where.dataset, newAddress(where.url+"/"+id)))
	}
	expect := func(id, condition, waitsFor, why string) {
		t.Helper()
		pattern := regexp.MustCompile(why)
		eventually(t, id+" is "+condition, func() bool {
			m := h.movement(id)
			return m.Condition == condition && m.WaitsFor == waitsFor && pattern.MatchString(h.flow(id).Waiting)
		})
	}
	theOthers := func() {
		t.Helper()
		expect("blocked", "blocked", "sink", `^waits for the sink since \d`)
		expect("held", "blocked", "limit", `^waits for a rate limit since \S+ of flow "held"$`)
		expect("idle", "idle", "source", `^the source has had nothing for \d`)
	}
	theOthers()
	eventually(t, "the one that is to die moves", func() bool { return h.movement("dead").Bytes > 0 })
	if m := h.movement("held"); m.Limit != `flow "held"` {
		t.Errorf("%+v", m)
	}

	// The host ends a plugin that is frozen after a while: then the next process is frozen, until all that is to be said was said.
	const why = `stalled: the source has neither moved nor answered for \d`
	frozen, unseen := 0, map[string]*regexp.Regexp{
		"list":    regexp.MustCompile(`(?m)^dead .* ` + why),
		"metrics": regexp.MustCompile(`(?m)^towpath_transfers_condition\{condition="stalled"\} 1$`),
		"api":     regexp.MustCompile(`"condition": "stalled"`),
		"status":  regexp.MustCompile(`"reason":"` + why),
		"log":     regexp.MustCompile(`level=WARN msg="transfer is stalled" flow=dead why="` + why),
	}
	say := map[string]func() string{
		"list":    func() string { return h.operate(0, "flows", "list") },
		"metrics": func() string { return h.get("/metrics") },
		"api":     func() string { return h.get("/api/v1/flows/dead") },
		"status": func() string {
			_, text, err := fetch(h.signaling+"/dataflows/dead/status", "")
			return fmt.Sprint(text, err)
		},
		"log": h.logs,
	}
	eventually(t, "everyone is told that it is dead", func() bool {
		if p := h.plugin("synthetic"); p.State == "ready" && p.PID != frozen {
			frozen = p.PID
			sendSignal(t, frozen, syscall.SIGSTOP)
		}
		for where, pattern := range unseen {
			if pattern.MatchString(say[where]()) {
				delete(unseen, where)
			}
		}
		return len(unseen) == 0
	})
	theOthers()
	for _, line := range regexp.MustCompile(`(?m)^.*transfer is stalled.*$`).FindAllString(h.logs(), -1) {
		if !strings.Contains(line, "flow=dead") {
			t.Errorf("the log has %s", line)
		}
	}
	for name, pattern := range map[string]string{
		"stalls":  `(?m)^towpath_transfer_stalls_total [1-9]`,
		"blocked": `(?m)^towpath_transfers_condition\{condition="blocked"\} 2$`,
		"idle":    `(?m)^towpath_transfers_condition\{condition="idle"\} 1$`,
	} {
		re := regexp.MustCompile(pattern)
		eventually(t, "the metrics tell of "+name, func() bool { return re.MatchString(h.get("/metrics")) })
	}
	if out := h.operate(0, "flows", "show", "blocked"); !regexp.MustCompile(`(?m)^condition +blocked\nwaits for +sink\nhas waited for +sink `).MatchString(out) {
		t.Errorf("flows show:\n%s", out)
	}

	before := h.movement("dead").Bytes
	sendSignal(t, frozen, syscall.SIGCONT)
	release()
	h.operate(0, "limits", "clear", "flow=held")
	writeFile(t, filepath.Join(gates, "tap"), "")
	for _, id := range []string{"held", "blocked"} {
		h.controlPlane.expect(t, id, "completed")
		if f := h.flow(id); f.Bytes != large || f.Waiting != "" {
			t.Errorf("%s: %+v", id, f)
		}
	}
	eventually(t, "the dead one moves again", func() bool { return h.movement("dead").Bytes > before && h.flow("dead").Waiting == "" })
	eventually(t, "the idle one has moved", func() bool { return h.movement("idle").Bytes == int64(len("a drop\n")) })
	for _, id := range []string{"dead", "idle"} {
		h.signal(id+"/terminate", message{"messageId": newID(), "reason": "done"})
	}
	eventually(t, "nobody is said to be stalled", func() bool {
		return strings.Contains(h.get("/metrics"), `towpath_transfers_condition{condition="stalled"} 0`)
	})
}

// get returns an answer of the admin API.
func (h *host) get(path string) string {
	h.t.Helper()
	code, text, err := fetch(h.admin+path, "")
	if err != nil || code != http.StatusOK {
		h.t.Fatalf("%s of the %s: %d %s %v", path, h.name, code, text, err)
	}
	return text
}
