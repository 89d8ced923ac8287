//go:build linux

package e2e_test

import (
	"io/fs"
	"net/http"
	"path/filepath"
	"strings"
	"testing"
)

// kept lists what the file plugin keeps of parts that are not whole.
func (h *host) kept() (files []string) {
	h.t.Helper()
	filepath.WalkDir(filepath.Join(h.files, ".towpath"), func(path string, d fs.DirEntry, err error) error {
		if err == nil && d.Type().IsRegular() {
			files = append(files, path)
		}
		return nil
	})
	return files
}

// An upload that its client gives up, or that nobody goes on with for its lifetime, leaves nothing in the sink's folder, although the data
// flow goes on, and takes the same part from its start.
func TestUploadsThatAreGivenUp(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		lifetime string
		deletes  bool
	}{"deleted": {"1h", true}, "expired": {"2s", false}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := newHost(t, "consumer", "")
			writeFile(t, h.config+"/common.hcl", strings.Replace(configuration, "transfer {\n", "transfer {\n  upload_lifetime = \""+tc.lifetime+"\"\n", 1))
			h.start()
			a := h.signal("prepare", creation("in", "http-push", "tree", nil)).DataAddress
			send := func(method, url, content string, fields ...string) *http.Response {
				t.Helper()
				r, err := http.NewRequest(method, url, strings.NewReader(content))
				if err != nil {
					t.Fatal(err)
				}
				r.Header.Set("Authorization", "Bearer "+a.token())
				r.Header.Set("Upload-Draft-Interop-Version", "8")
				for i := 0; i < len(fields); i += 2 {
					r.Header.Set(fields[i], fields[i+1])
				}
				resp, err := client.Do(r)
				if err != nil {
					t.Fatal(err)
				}
				resp.Body.Close()
				return resp
			}
			begun := send(http.MethodPut, a.Endpoint+"/part", strings.Repeat("x", mib), "Upload-Complete", "?0")
			upload, err := begun.Location()
			if err != nil || begun.StatusCode != http.StatusCreated {
				t.Fatal(begun.Status, err)
			}
			if tc.deletes {
				if got := h.kept(); len(got) != 1 {
					t.Errorf("before, the sink keeps %q", got)
				}
				if resp := send(http.MethodDelete, upload.String(), ""); resp.StatusCode != http.StatusNoContent {
					t.Errorf("DELETE: %s", resp.Status)
				}
				if got := h.kept(); len(got) != 0 {
					t.Errorf("after it was deleted, the sink keeps %q", got)
				}
			} else {
				eventually(t, "nothing is kept", func() bool { return len(h.kept()) == 0 })
			}
			if resp := send(http.MethodHead, upload.String(), ""); resp.StatusCode != http.StatusNotFound {
				t.Errorf("the upload afterwards: %s", resp.Status)
			}
			h.expectState("in", "PREPARED")
			if resp := send(http.MethodPut, a.Endpoint+"/part", "whole"); resp.StatusCode != http.StatusCreated {
				t.Errorf("the part: %s", resp.Status)
			}
			h.signal("in/terminate", message{"messageId": newID(), "reason": "done"})
			h.expectNothingLeft("in")
		})
	}
}
