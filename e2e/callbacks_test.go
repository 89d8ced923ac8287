//go:build linux

package e2e_test

import (
	"net/http"
	"testing"
)

// A control plane cannot be reached for a while, in which its data plane is even killed. It hears everything afterwards, in order,
// and once.
func TestCallbacksAreKept(t *testing.T) {
	t.Parallel()
	h := newHost(t, "provider", "")
	makeTree(t, h.outbox(), 9, mib)
	h.controlPlane.stop()
	h.start()
	refusing := serve(t, func(w http.ResponseWriter, _ *http.Request) { http.Error(w, "no contract", http.StatusForbidden) })
	receiver := newReceiver(t)

	h.signal("start", creation("flow", "http-push", "tree", newAddress(refusing)))
	eventually(t, "the fault is reported in vain", func() bool {
		c := h.flow("flow").Callbacks
		return len(c) == 1 && c[0].Kind == "errored" && c[0].Attempts > 0 && c[0].LastError != ""
	})
	h.kill()
	h.start()
	h.signal("flow/suspend", nil)
	h.signal("flow/resume", message{"messageId": newID(), "dataAddress": newAddress(receiver.url + "/flow")})
	eventually(t, "the flow completes", func() bool { return h.state("flow") == "COMPLETED" })
	if c := h.flow("flow").Callbacks; len(c) != 2 || c[0].Status != "pending" || c[1].Status != "pending" {
		t.Errorf("callbacks in the outbox: %+v", c)
	}

	h.controlPlane.start(t)
	said := h.controlPlane.expect(t, "flow", "errored", "completed")
	if said[0].State != "STARTED" || said[0].Error == "" || said[1].State != "COMPLETED" || said[1].DataFlowID != "flow" {
		t.Errorf("callbacks: %+v", said)
	}
	eventually(t, "the outbox is empty", func() bool {
		c := h.flow("flow").Callbacks
		return c[0].Status == "delivered" && c[1].Status == "delivered"
	})
}
