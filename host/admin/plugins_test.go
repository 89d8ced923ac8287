package admin_test

import (
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/towpath-dataplane/towpath/host/admin"
)

// The directory is looked at before the plugins are listed. Without anybody to do so there is no such path.
func TestRescan(t *testing.T) {
	looked := 0
	var fails error
	w := newWorld(t, func(o *admin.Options) {
		o.Rescan = func(context.Context) error { looked++; return fails }
	})
	if code, answer := w.do("POST", "/api/v1/plugins", ""); code != 200 || looked != 1 || !strings.Contains(answer, `"name": "file"`) ||
		strings.Contains(answer, "description") {
		t.Errorf("rescan: %d %s, looked %d times", code, answer, looked)
	}
	fails = errors.New("the disk is on fire")
	if code, answer := w.do("POST", "/api/v1/plugins", ""); code != 503 || !strings.Contains(answer, "the disk is on fire") {
		t.Errorf("rescan that fails: %d %s", code, answer)
	}
	if code, _ := newWorld(t).do("POST", "/api/v1/plugins", ""); code != 405 && code != 404 {
		t.Errorf("without anybody to look: %d", code)
	}
}
