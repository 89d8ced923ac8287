//go:build linux

package e2e_test

import (
	"net/http"
	"strings"
	"syscall"
	"testing"
)

// A service manager stops a host in mid-transfer, and starts it again. The control plane notices nothing: the flow stays STARTED
// and goes on where it was.
func TestStopAndStart(t *testing.T) {
	t.Parallel()
	for _, direction := range []string{"push", "pull"} {
		t.Run(direction, func(t *testing.T) {
			t.Parallel()
			d := newDataspace(t, 8, 16*mib)
			guard(t, d.consumer.inbox(), d.files)
			d.provider.network.rate.Store(8 * mib)
			d.consumer.network.rate.Store(8 * mib)
			f, via := d.start(direction)
			for _, h := range []*host{d.provider, d.consumer} {
				via.awaitPassed(t, 3*mib)
				h.stop()
				h.start()
				if got := h.flow(f.at(h)).State; got != "STARTED" {
					t.Errorf("after the stop of the %s its flow is %s", h.name, got)
				}
			}
			d.finish(direction, f)
		})
	}
}

// at returns the id of the flow at one of its sides.
func (f transfer) at(h *host) string {
	if h.name == "provider" {
		return f.provider
	}
	return f.consumer
}

// The second SIGTERM does not wait for what the first has begun.
func TestSecondStop(t *testing.T) {
	t.Parallel()
	h := newHost(t, "provider", "")
	h.start()
	// A plugin that does not react holds up an orderly stop.
	plugin := h.plugin("file").PID
	sendSignal(t, plugin, syscall.SIGSTOP)
	children := childrenOf(h.process.cmd.Process.Pid)
	h.process.signal(syscall.SIGTERM)
	eventually(t, "the host stops", func() bool { return strings.Contains(h.process.stderr.String(), "stopping") })
	if h.process.hasExited() {
		t.Fatal("the first SIGTERM did not wait for the plugin")
	}
	eventually(t, "the host ends at once", func() bool { // by the first signal that comes after it has taken notice of the one before
		h.process.signal(syscall.SIGTERM)
		return h.process.hasExited()
	})
	status := h.process.cmd.ProcessState.Sys().(syscall.WaitStatus)
	if !status.Signaled() || status.Signal() != syscall.SIGTERM {
		t.Errorf("after the second SIGTERM: %v", h.process.cmd.ProcessState)
	}
	expectGone(t, children)
}

// Two hosts with the same data folder would ruin it.
func TestTwoHostsOneFolder(t *testing.T) {
	t.Parallel()
	first, second := newHost(t, "first", ""), newHost(t, "second", "")
	first.start()
	second.env = append(second.env, "E2E_DATA="+first.data)
	second.launch()
	if code := second.process.exitCode(t); code != 1 {
		t.Errorf("exit code %d, not 1", code)
	}
	if said := second.process.stderr.String(); !strings.Contains(said, "in use by another process") {
		t.Errorf("it is not said why: %s", said)
	}
	if code, _, err := fetch(first.admin+"/readyz", ""); err != nil || code != http.StatusOK {
		t.Errorf("the first host is not ready any more: %d %v", code, err)
	}
}

// A port that is taken is named, and nothing is left behind.
func TestPortTaken(t *testing.T) {
	t.Parallel()
	h := newHost(t, "provider", "")
	h.env = append(h.env, "E2E_PUBLIC="+h.controlPlane.address)
	h.launch()
	if code := h.process.exitCode(t); code != 1 {
		t.Errorf("exit code %d, not 1", code)
	}
	if said := h.process.stderr.String(); !strings.Contains(said, h.controlPlane.address) || !strings.Contains(said, "public") {
		t.Errorf("it is not said which: %s", said)
	}
}
