//go:build linux

package e2e_test

import (
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

const s3CopyConfiguration = `
dataset "objects" {
  source "AmazonS3" {
    endpointOverride = env("E2E_STORE")
    bucketName       = "e2e-bucket"
    objectPrefix     = "in/"
  }
}
`

// startCopying starts a store with a tree of files in the folder in of a bucket, and a host that may have the store copy them to another
// bucket, or may not.
func startCopying(t *testing.T, size int64, allowed bool) (*objectStore, *host, tree) {
	t.Helper()
	store := startObjectStore(t)
	for _, bucket := range []string{"e2e-bucket", "e2e-copies"} {
		if err := os.Mkdir(filepath.Join(store.folder, bucket), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	config := strings.Replace(s3Configuration, `plugin "s3" {`, `plugin "s3" {
  server_side_copy = `+strconv.FormatBool(allowed), 1)
	config = strings.Replace(config, "config {", "config {\n    copy_part_size = \"5MiB\"", 1)
	url := "http://" + store.network.address
	h := newHost(t, "host", config+s3CopyConfiguration, "E2E_STORE="+url, "E2E_STORE_GRANT="+url+"/e2e-*")
	files := makeTree(t, h.outbox(), 13, size)
	h.start()
	h.signal("start", creation("out", "AmazonS3-PUSH", "tree", store.address("e2e-bucket", "folderName", "in")))
	h.controlPlane.expect(t, "out", "completed")
	return store, h, files
}

// copiedBytes is what the metrics say of copies since the host was started.
func (h *host) copiedBytes() float64 {
	h.t.Helper()
	code, text, err := fetch(h.admin+"/metrics", "")
	if err != nil || code != http.StatusOK {
		h.t.Fatalf("metrics: %d %v", code, err)
	}
	for line := range strings.Lines(text) {
		if value, ok := strings.CutPrefix(line, "towpath_transfer_copied_bytes_total "); ok {
			n, err := strconv.ParseFloat(strings.TrimSpace(value), 64)
			if err != nil {
				h.t.Fatal(err)
			}
			return n
		}
	}
	h.t.Fatal("the metrics do not say what was copied")
	return 0
}

// Objects go from one bucket of a store to another without leaving it, although the host is killed while the store copies, and then
// suspended. The host says what it did.
func TestCopyInsideObjectStore(t *testing.T) {
	t.Parallel()
	const size = 64 * mib
	store, h, files := startCopying(t, size, true)
	guard(t, filepath.Join(store.folder, "e2e-copies", "to"), files)
	before := store.network.passed.Load()
	store.network.rate.Store(4 << 10) // of requests, which is all that passes
	h.signal("start", creation("copy", "AmazonS3-PUSH", "objects", store.address("e2e-copies", "folderName", "to")))
	underway := func() bool { return h.movement("copy").Copied > 0 }
	eventually(t, "the store copies", underway)
	h.kill()
	h.start()
	eventually(t, "the store copies again", underway)
	h.signal("copy/suspend", message{"messageId": newID()})
	if f := h.flow("copy"); f.State != "SUSPENDED" {
		t.Errorf("the flow is %s", f.State)
	}
	store.network.rate.Store(0)
	h.signal("copy/resume", message{"messageId": newID()})
	h.controlPlane.expect(t, "copy", "completed")

	expectTree(t, filepath.Join(store.folder, "e2e-copies", "to"), files)
	h.expectNothingLeft("copy")
	store.expectNothingBegun(t, "e2e-copies")
	if passed := store.network.passed.Load() - before; passed > size/16 {
		t.Errorf("%d bytes have passed between the host and the store", passed)
	}
	out, copied := h.flow("out"), h.flow("copy")
	if out.Digest == "" || out.Digest != copied.Digest || copied.Parts != int64(len(files)) || copied.Bytes != out.Bytes {
		t.Errorf("the copy has %d parts, %d bytes and the digest %q, what was copied %d, %d and %q",
			copied.Parts, copied.Bytes, copied.Digest, out.Parts, out.Bytes, out.Digest)
	}
	if m := h.movement("copy"); m.Copied == 0 || h.copiedBytes() == 0 {
		t.Errorf("%d bytes were copied, and the metrics have %.0f", m.Copied, h.copiedBytes())
	}
	if !strings.Contains(h.logs(), "copied inside its store") {
		t.Error("the log does not say that the store has copied")
	}
	if _, text, _ := towpath(t, nil, "flows", "show", "-admin", h.admin, "copy"); !strings.Contains(text, "bytes inside their store") {
		t.Errorf("flows show says\n%s", text)
	}
}

// A copy that is terminated leaves nothing begun, and without leave of the operator bytes move.
func TestCopyEndsAndNeedsLeave(t *testing.T) {
	t.Parallel()
	const size = 32 * mib
	store, h, _ := startCopying(t, size, true)
	store.network.rate.Store(4 << 10)
	h.signal("start", creation("copy", "AmazonS3-PUSH", "objects", store.address("e2e-copies", "folderName", "to")))
	eventually(t, "the store copies", func() bool { return h.movement("copy").Copied > 0 })
	store.network.rate.Store(0)
	h.signal("copy/terminate", nil)
	h.expectState("copy", "TERMINATED")
	h.expectNothingLeft("copy")
	store.expectNothingBegun(t, "e2e-copies")

	store, h, files := startCopying(t, size, false)
	before := store.network.passed.Load()
	h.signal("start", creation("copy", "AmazonS3-PUSH", "objects", store.address("e2e-copies", "folderName", "to")))
	h.controlPlane.expect(t, "copy", "completed")
	expectTree(t, filepath.Join(store.folder, "e2e-copies", "to"), files)
	if passed := store.network.passed.Load() - before; passed < 2*size {
		t.Errorf("%d bytes have passed between the host and the store, want all of them twice", passed)
	}
	if m := h.movement("copy"); m.Copied != 0 || h.copiedBytes() != 0 {
		t.Errorf("%d bytes were copied", m.Copied)
	}
}
