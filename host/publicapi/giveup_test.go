package publicapi

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/towpath-dataplane/towpath/host/flow"
	"github.com/towpath-dataplane/towpath/sdk"
)

// An upload that is given up leaves nothing at the sink, although the data flow goes on; one that is gone on with is not touched.
func TestUploadsLeaveNothing(t *testing.T) {
	expire := func(w *world) {
		w.t.Helper()
		if err := w.handler.Expire(w.t.(*testing.T).Context()); err != nil {
			w.t.Error(err)
		}
	}
	const long = time.Hour
	for name, tc := range map[string]struct {
		lifetime time.Duration
		end      func(w *world, a sdk.DataAddress, upload string)
		kept     bool
	}{
		"deleted": {long, func(w *world, a sdk.DataAddress, upload string) {
			w.mustAsk(a, http.MethodDelete, upload, nil).wantStatus(w.t.(*testing.T), http.StatusNoContent)
		}, false},
		"not what its digest says": {long, func(w *world, a sdk.DataAddress, upload string) {
			w.mustAsk(a, http.MethodPatch, upload, strings.NewReader("!"), "Upload-Complete", "?1", "Upload-Offset", "5", "Repr-Digest",
				"crc32c=:AAAAAA==:").wantStatus(w.t.(*testing.T), http.StatusBadRequest)
		}, false},
		"expired": {time.Millisecond, func(w *world, a sdk.DataAddress, upload string) {
			w.eventually("it has expired", func() bool { expire(w); return len(w.memory.Begun()) == 0 })
		}, false},
		"not expired": {long, func(w *world, _ sdk.DataAddress, _ string) { expire(w) }, true},
		"suspended": {time.Millisecond, func(w *world, _ sdk.DataAddress, _ string) {
			w.flows.stop(key("f"), flow.Suspended)
			w.eventually("its time is over", func() bool {
				found, err := w.handler.Resume.Uploads.Expired(w.t.(*testing.T).Context(), time.Now())
				return err == nil && len(found) == 1
			})
			expire(w)
		}, true},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, func(w *world, o *Options) {
				resuming(w, o)
				o.Resume.Lifetime = tc.lifetime
			})
			a := w.push("f")
			res, _, err := w.ask(a, http.MethodPut, a.Endpoint+"/x", strings.NewReader("hello"), "Upload-Complete", "?0")
			if err != nil {
				t.Fatal(err)
			}
			res.wantStatus(t, http.StatusCreated)
			if len(w.memory.Begun()) != 1 {
				t.Fatalf("the sink keeps %q", w.memory.Begun())
			}
			tc.end(w, a, w.here(res.Header.Get("Location")))
			if got := w.memory.Begun(); (len(got) > 0) != tc.kept {
				t.Errorf("the sink keeps %q", got)
			}
			_, there, err := w.handler.Resume.Uploads.Upload(t.Context(), key("f"), "x")
			if err != nil || there != tc.kept {
				t.Errorf("the upload is there: %t, %v", there, err)
			}
			w.wantContent(map[string]string{})
			if strings.Contains(w.log.String(), "the sink keeps") {
				t.Error(w.log)
			}
		})
	}
}
