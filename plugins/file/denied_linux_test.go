package main

import (
	"context"
	"iter"
	"os"
	"runtime"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/towpath-dataplane/towpath/sdk"
)

// asNobody runs f without the rights of the superuser, if the test has them: on a thread of its own, which ends with f.
func asNobody(f func()) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		runtime.LockOSThread() // and never unlocked: the thread is of no more use
		if os.Geteuid() == 0 {
			unix.Setfsuid(65534)
		}
		f()
	}()
	<-done
}

func TestSourceIsDenied(t *testing.T) {
	root := t.TempDir()
	put(t, root, "files/a", "a")
	put(t, root, "files/locked", "b")
	put(t, root, "folders/locked/c", "c")
	openForNobody(t, root)
	chmod(t, root+"/files/locked", 0)
	chmod(t, root+"/folders/locked", 0)
	t.Cleanup(func() { chmod(t, root+"/folders/locked", 0o700) })
	for path, want := range map[string]string{
		"files":        `read "files/locked": permission denied`,
		"files/locked": `read "files/locked": permission denied`,
		"folders":      `read "folders/locked": permission denied`,
	} {
		var err error
		asNobody(func() {
			for part, failed := range newSource(root).Read(t.Context(), request(path)) {
				if err = failed; err == nil {
					var r interface{ Close() error }
					if r, err = part.Open(t.Context(), 0); err == nil {
						r.Close()
					}
				}
			}
		})
		if err == nil || err.Error() != want || sdk.AsError(err).Code != sdk.Denied {
			t.Errorf("path %q: error %v, want %s", path, err, want)
		}
	}
}

func TestSinkIsDenied(t *testing.T) {
	root := t.TempDir()
	put(t, root, "locked/x", "x")
	openForNobody(t, root)
	chmod(t, root, 0o777)
	chmod(t, root+"/locked", 0o555)
	for path, want := range map[string]string{
		"locked":     `name "locked/new": permission denied`,
		"locked/sub": `make folder "locked/sub": permission denied`,
	} {
		typ := (&volume{path: root}).sinkType()
		typ.Sink = nobodysSink{typ.Sink}
		_, err := send(t, sdk.NewDataSink(typ), open(address("path", path)), part("new", "content"))
		if err == nil || !strings.HasSuffix(err.Error(), want) || sdk.AsError(err).Code != sdk.Denied {
			t.Errorf("path %q: error %v, want %s", path, err, want)
		}
		if left, _ := temporaries(root); len(left) > 0 {
			t.Errorf("path %q: %q is left", path, left)
		}
	}
}

// nobodysSink writes without the rights of the superuser.
type nobodysSink struct{ sdk.Sink }

func (s nobodysSink) Write(ctx context.Context, req sdk.WriteRequest, parts iter.Seq2[*sdk.IncomingPart, error]) (err error) {
	asNobody(func() { err = s.Sink.Write(ctx, req, parts) })
	return err
}

// openForNobody makes a temporary folder of the test reachable.
func openForNobody(t *testing.T, root string) {
	t.Helper()
	for dir := root; len(dir) > len(os.TempDir()); dir = dir[:strings.LastIndex(dir, "/")] {
		chmod(t, dir, 0o755)
	}
}

func chmod(t *testing.T, name string, mode os.FileMode) {
	t.Helper()
	if err := os.Chmod(name, mode); err != nil {
		t.Fatal(err)
	}
}
