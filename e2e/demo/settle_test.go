package main

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

const content = "what is moved"

// newFinished returns a demo whose two hosts have both moved one file, and what the consumer's host says about it.
func newFinished(t *testing.T) (*demo, *flowStatus) {
	t.Helper()
	d := &demo{console: &console{out: &bytes.Buffer{}}}
	sum := sha256.Sum256([]byte(content))
	var said *flowStatus
	side := func(name string) *participant {
		said = &flowStatus{Role: name, Direction: "push", State: "COMPLETED", Parts: 1, Bytes: int64(len(content)),
			PartList: []flowPart{{Name: "a/b", SHA256: hex.EncodeToString(sum[:]), Finished: time.Now().Add(2 * time.Second)}}}
		f := said
		admin := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path != "/api/v1/flows/f" {
				http.NotFound(w, r)
				return
			}
			json.NewEncoder(w).Encode(f)
			f.CleanupPending = false
		}))
		t.Cleanup(admin.Close)
		h := &host{name: name, admin: admin.URL, files: t.TempDir()}
		put(t, h, "a/b", content)
		return &participant{host: h}
	}
	d.provider, d.consumer = side(provider), side(consumer)
	return d, said
}

func put(t *testing.T, h *host, name, text string) {
	t.Helper()
	path := filepath.Join(h.files, datasetID, filepath.FromSlash(name))
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

func TestSettle(t *testing.T) {
	d, said := newFinished(t)
	said.CleanupPending = true // until it was asked for once
	if err := d.settle(t.Context(), "f", time.Now(), time.Second); err != nil {
		t.Fatal(err)
	}
	for i, role := range []string{provider, consumer} {
		got := d.rows[i]
		if got.took < 500*time.Millisecond || got.took > time.Second {
			t.Errorf("%s took %v: two seconds, of which one was a pause", role, got.took)
		}
		got.took = 0
		want := row{flow: "f", direction: "push", role: role, state: "COMPLETED", parts: 1, bytes: int64(len(content)), equal: "yes"}
		if diff := cmp.Diff(want, got, cmp.AllowUnexported(row{})); diff != "" {
			t.Error(diff)
		}
	}
	if left, err := fileSizes(d.consumer.host.files); err != nil || len(left) > 0 || len(d.wrong) > 0 {
		t.Errorf("left %v, wrong %q, %v", left, d.wrong, err)
	}
	if kept, err := fileSizes(d.provider.host.files); err != nil || len(kept) != 1 {
		t.Errorf("the provider has %v, %v", kept, err)
	}
}

func TestSettleFindsWhatIsWrong(t *testing.T) {
	for name, c := range map[string]struct {
		spoil func(t *testing.T, d *demo, said *flowStatus)
		want  string
	}{
		"content": {func(t *testing.T, d *demo, _ *flowStatus) { put(t, d.consumer.host, "a/b", "What is moved") }, "demo/a/b has another content"},
		"missing": {func(t *testing.T, d *demo, _ *flowStatus) { put(t, d.provider.host, "c", "") }, "demo/c is missing"},
		"left": {func(t *testing.T, d *demo, _ *flowStatus) { put(t, d.consumer.host, "../.towpath/part", "half") },
			".towpath/part should not be there"},
		"record": {func(_ *testing.T, _ *demo, said *flowStatus) { said.PartList[0].SHA256 = "00" }, "demo/a/b has another content"},
		"state":  {func(_ *testing.T, _ *demo, said *flowStatus) { said.State = "TERMINATED" }, "the flow is TERMINATED"},
	} {
		t.Run(name, func(t *testing.T) {
			d, said := newFinished(t)
			c.spoil(t, d, said)
			if err := d.settle(t.Context(), "f", time.Now(), 0); err != nil {
				t.Fatal(err)
			}
			if !strings.Contains(strings.Join(d.wrong, "\n"), "f, consumer: "+c.want) || d.rows[1].equal != "NO" {
				t.Errorf("got %q, row %+v", d.wrong, d.rows[1])
			}
			if err := d.conclude(&workspace{t.TempDir()}, time.Second); err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("the end is %v", err)
			}
		})
	}
}
