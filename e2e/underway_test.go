//go:build linux

package e2e_test

import (
	"bytes"
	"encoding/json"
	"io"
	"net/http"
	"syscall"
	"testing"
)

// quickAnswers lets a host say that its work goes on, when a plugin takes its time.
const quickAnswers = `
signaling {
  answer_within = "200ms"
}
`

// begin sends a prepare or start that is answered before its work is done.
func (h *host) begin(path string, m message) (a answer, location string) {
	h.t.Helper()
	body, err := json.Marshal(m)
	if err != nil {
		h.t.Fatal(err)
	}
	resp, err := client.Post(h.signaling+"/dataflows/"+path, "application/json", bytes.NewReader(body))
	if err != nil {
		h.t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err == nil {
		err = json.Unmarshal(text, &a)
	}
	if err != nil || resp.StatusCode != http.StatusAccepted {
		h.t.Fatalf("%s of the %s: %d %s %v", path, h.name, resp.StatusCode, text, err)
	}
	return a, resp.Header.Get("Location")
}

// A plugin that is frozen when a flow starts holds up the flow, and nobody else: the control plane has its answer, and hears the rest
// when there is something to hear. The host is even killed in between.
func TestStartOutlivesItsAnswer(t *testing.T) {
	t.Parallel()
	d := &dataspace{t: t, provider: newHost(t, "provider", quickAnswers), consumer: newHost(t, "consumer", "")}
	d.files = makeTree(t, d.provider.outbox(), 11, mib)
	d.provider.start()
	d.consumer.start()
	f := transfer{provider: "at the/provider", consumer: "at-consumer"}
	const escaped = "at%20the%2Fprovider"
	d.consumer.signal("prepare", creation(f.consumer, "http-pull", "tree", nil))

	sendSignal(t, d.provider.plugin("file").PID, syscall.SIGSTOP)
	a, location := d.provider.begin("start", creation(f.provider, "http-pull", "tree", nil))
	if a.State != "STARTING" || a.DataAddress != nil || location != "/dataflows/"+escaped+"/status" {
		t.Errorf("answered %+v at %s", a, location)
	}
	if again, err := d.provider.try(escaped+"/suspend", nil); err != nil || again.code != http.StatusConflict {
		t.Errorf("suspend was answered %d %s %v", again.code, again.text, err)
	}
	d.provider.kill()

	d.provider.start()
	said := d.provider.controlPlane.expect(t, f.provider, "started")
	if said[0].State != "STARTED" || said[0].DataAddress == nil {
		t.Fatalf("callback %+v", said[0])
	}
	d.consumer.signal(f.consumer+"/started", message{"messageId": newID(), "dataAddress": said[0].DataAddress})
	d.consumer.controlPlane.expect(t, f.consumer, "completed")
	expectTree(t, d.consumer.inbox(), d.files)
	d.provider.signal(escaped+"/terminate", nil)
}

// What is terminated while it is set up says nothing any more, and leaves no token that works.
func TestTerminateWhileItIsSetUp(t *testing.T) {
	t.Parallel()
	h := newHost(t, "provider", quickAnswers)
	makeTree(t, h.outbox(), 12, mib)
	h.start()
	frozen := h.plugin("file").PID
	sendSignal(t, frozen, syscall.SIGSTOP)
	h.begin("start", creation("flow", "http-pull", "tree", nil))
	h.signal("flow/terminate", nil)
	sendSignal(t, frozen, syscall.SIGCONT)
	h.signal("start", creation("other", "http-pull", "tree", nil))
	h.expectState("flow", "TERMINATED")
	if said := h.controlPlane.about("flow"); len(said) > 0 {
		t.Errorf("callbacks %+v", said)
	}
}
