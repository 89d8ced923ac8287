//go:build linux

package e2e_test

import (
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

const fullConfiguration = `
profile "file-push" {
  type = "File"
}

dataset "slow" {
  source "Generate" {
    size = "3MiB"
    rate = "1MiB"
  }
}
`

// The disk of a host is full while a flow runs. The host says so, to operators and to control planes, takes nothing that it cannot keep,
// and goes on when there is room, as the flow does.
func TestFullDataDirectory(t *testing.T) {
	if !hasOwnMounts() {
		err := runWithOwnMounts(t, t.Name())
		if err == nil {
			return
		}
		fmt.Fprintf(os.Stderr, "%s: NO DISK OF ITS OWN TO FILL (%v): a limit on the size of files stands in for it\n", t.Name(), err)
	}
	h := newHost(t, "host", fullConfiguration, "E2E_CHECKPOINT_INTERVAL=20ms")
	if hasOwnMounts() {
		mountSmallDisk(t, h.data, dataRoom(t, binaries.plugins))
	}
	h.start()
	to := func(id string) message {
		return creation(id, "file-push", "slow", localAddress("File", "path", "in/"+id))
	}
	h.signal("start", to("f"))
	eventually(t, "some of the flow is stored", func() bool { return h.flow("f").Bytes > 0 })

	free := h.fillData(t)
	eventually(t, "the log says that the disk is full", func() bool { return saysFull(h.logs()) })
	eventually(t, "operators see that the flow waits for it", func() bool { return saysFull(h.flow("f").Waiting) })
	if !strings.Contains(h.logs(), "level=ERROR") {
		t.Errorf("the log does not call it an error:\n%s", h.logs())
	}
	refused, err := h.try("start", to("g"))
	if err != nil || refused.code != http.StatusServiceUnavailable || !strings.Contains(refused.text, "storage-fails") {
		t.Errorf("start on a full disk: %d %s %v", refused.code, refused.text, err)
	}
	if code, text, err := fetch(h.admin+"/api/v1/flows/g", ""); err != nil || code != http.StatusNotFound {
		t.Errorf("a flow that was refused: %d %s %v", code, text, err)
	}
	h.expectState("f", "STARTED")
	free()
	h.controlPlane.expect(t, "f", "completed")
	h.signal("start", to("g"))
	h.controlPlane.expect(t, "g", "completed")
	for _, id := range []string{"f", "g"} {
		if f := h.flow(id); f.Bytes != 3*mib || f.Fault != "" {
			t.Errorf("flow %s: %+v", id, f)
		}
	}
	h.stop()
	if hasOwnMounts() {
		h.expectNoStartOnFullDisk(t)
	}
}

// expectNoStartOnFullDisk: a host that has no room when it starts ends, says why, and starts when there is room.
func (h *host) expectNoStartOnFullDisk(t *testing.T) {
	t.Helper()
	free := h.fillData(t)
	h.launch()
	code := h.process.exitCode(t)
	if text := h.process.stderr.String(); code == 0 || !saysFull(text) {
		t.Errorf("started on a full disk, it has ended with code %d:\n%s", code, text)
	}
	free()
	h.start()
	h.expectState("f", "COMPLETED")
}

// fillData leaves the host no room for what it stores.
func (h *host) fillData(t *testing.T) (free func()) {
	t.Helper()
	if !hasOwnMounts() {
		limitFileSize(h.process.cmd.Process.Pid, 4096)
		return func() { limitFileSize(h.process.cmd.Process.Pid, unix.RLIM_INFINITY) }
	}
	ballast := filepath.Join(h.data, "ballast")
	if _, err := fillDisk(ballast); err != nil {
		t.Fatal(err)
	}
	return func() {
		if err := os.Remove(ballast); err != nil {
			t.Fatal(err)
		}
	}
}
