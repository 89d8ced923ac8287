package main

import (
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/towpath-dataplane/towpath/sdk"
)

var testFlow = sdk.FlowContext{ParticipantContext: "default", ID: "flow-1"}

func open(a sdk.DataAddress) sdk.WriteOpen { return sdk.WriteOpen{Flow: testFlow, Address: a} }

// writeOne writes a flow of one part.
func writeOne(t *testing.T, root string, a sdk.DataAddress, name, content string) error {
	t.Helper()
	_, err := write(t, root, open(a), part(name, content)...)
	return err
}

// write writes frames in one stream, and End if there was no error, and returns what the sink said.
func write(t *testing.T, root string, open sdk.WriteOpen, frames ...sdk.Frame) ([]sdk.Up, error) {
	t.Helper()
	var totals sdk.Totals
	for _, f := range frames {
		if end, ok := f.(*sdk.PartEnd); ok {
			totals.Parts++
			totals.Bytes += end.Size
		}
	}
	_, sink := newVolume(t, root)
	return send(t, sink, open, append(frames, &sdk.End{Totals: totals}))
}

func send(t *testing.T, sink sdk.DataSink, open sdk.WriteOpen, frames []sdk.Frame) ([]sdk.Up, error) {
	t.Helper()
	stream, err := sink.Write(t.Context(), open)
	if err != nil {
		return nil, err
	}
	defer stream.Close()
	go func() {
		for _, f := range frames {
			if stream.Send(f) != nil {
				return
			}
		}
	}()
	return receive(stream)
}

func receive(stream sdk.WriteStream) (ups []sdk.Up, err error) {
	for {
		up, err := stream.Recv()
		if err == io.EOF {
			return ups, nil
		}
		if err != nil {
			return ups, err
		}
		ups = append(ups, up)
	}
}

func part(name, content string) []sdk.Frame {
	frames := []sdk.Frame{&sdk.PartBegin{PartInfo: sdk.PartInfo{Name: name, Size: int64(len(content))}}}
	for rest := []byte(content); len(rest) > 0; {
		n := min(len(rest), 64<<10)
		frames = append(frames, &sdk.Data{Payload: sdk.BytesPayload(rest[:n])})
		rest = rest[n:]
	}
	return append(frames, &sdk.PartEnd{Size: int64(len(content))})
}

// checkTree compares the files below a root with pairs of names and contents.
func checkTree(t *testing.T, root string, want ...string) {
	t.Helper()
	names, err := tree(root)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, name := range names {
		content, err := os.ReadFile(filepath.Join(root, name))
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, name, string(content))
	}
	if diff := cmp.Diff(want, got, cmpopts.EquateEmpty()); diff != "" {
		t.Errorf("files (-want +got):\n%s", diff)
	}
}

func storedAt(ups []sdk.Up) string {
	for _, up := range ups {
		if p, ok := up.(*sdk.PartWritten); ok {
			return p.Location
		}
	}
	return ""
}

func TestOwnFolderIsRefused(t *testing.T) {
	root := t.TempDir()
	for _, name := range []string{".towpath/x", ".Towpath/x", ".towpath"} {
		err := writeOne(t, root, address(), name, "x")
		if e := sdk.AsError(err); e == nil || e.Code != sdk.Invalid {
			t.Errorf("part %q: %v", name, err)
		}
	}
	if err := writeOne(t, root, address("path", "a"), ".towpath/x", "x"); err != nil {
		t.Errorf("in another folder: %v", err)
	}
}

func TestReadOnly(t *testing.T) {
	root := t.TempDir()
	_, sink := configured(t, map[string]any{"root": root, "read_only": true})
	_, err := send(t, sink, open(address()), part("p", "x"))
	for call, err := range map[string]error{"Validate": sink.Validate(t.Context(), address()), "Write": err} {
		if e := sdk.AsError(err); e == nil || e.Code != sdk.Denied {
			t.Errorf("%s: %v", call, err)
		}
	}
	if err := sink.Deprovision(t.Context(), testFlow, address()); err != nil {
		t.Errorf("Deprovision: %v", err)
	}
	if entries, err := os.ReadDir(root); err != nil || len(entries) > 0 {
		t.Errorf("the root has %v (%v)", entries, err)
	}
}

func TestRecordsAreRefused(t *testing.T) {
	begin := &sdk.PartBegin{PartInfo: sdk.PartInfo{Name: "events", Size: sdk.SizeUnknown, Records: true}}
	_, err := write(t, t.TempDir(), open(address()), begin, &sdk.PartEnd{})
	if e := sdk.AsError(err); e == nil || e.Code != sdk.Unsupported {
		t.Errorf("error %v", err)
	}
}

func TestTimeIsKept(t *testing.T) {
	root := t.TempDir()
	modified := time.Date(2001, 2, 3, 4, 5, 6, 7000, time.UTC)
	frames := part("p", "x")
	frames[0].(*sdk.PartBegin).Modified = modified
	if _, err := write(t, root, open(address()), frames...); err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(filepath.Join(root, "p"))
	if err != nil || !info.ModTime().Equal(modified) {
		t.Errorf("modified %v (%v), want %v", info.ModTime(), err, modified)
	}
}

func TestRootIsGone(t *testing.T) {
	root := filepath.Join(t.TempDir(), "mount")
	if err := os.Mkdir(root, 0o777); err != nil {
		t.Fatal(err)
	}
	_, sink := newVolume(t, root)
	if err := os.Remove(root); err != nil {
		t.Fatal(err)
	}
	_, err := send(t, sink, open(address()), part("p", "x"))
	if e := sdk.AsError(err); e == nil || e.Code != sdk.Unavailable || !e.Retryable || strings.Contains(e.Error(), root) {
		t.Errorf("error %v", err)
	}
}

func TestFailureCodes(t *testing.T) {
	for _, test := range []struct {
		errno     syscall.Errno
		code      sdk.Code
		retryable bool
	}{
		{syscall.ENOSPC, sdk.Exhausted, true},
		{syscall.EDQUOT, sdk.Exhausted, true},
		{syscall.EFBIG, sdk.Exhausted, true},
		{syscall.EACCES, sdk.Denied, false},
		{syscall.EROFS, sdk.Denied, false},
		{syscall.EISDIR, sdk.Conflict, false},
		{syscall.ENAMETOOLONG, sdk.Invalid, false},
		{syscall.EIO, sdk.Internal, false},
	} {
		err := failure(&os.PathError{Op: "write", Path: "/the/host's/path", Err: test.errno}, "write", "a\nb")
		e := sdk.AsError(err)
		if want := `write "a\nb": ` + test.errno.Error(); e.Error() != want || e.Code != test.code || e.Retryable != test.retryable {
			t.Errorf("%q with code %q, retryable %t; want %q with %q, %t", e, e.Code, e.Retryable, want, test.code, test.retryable)
		}
		if !errors.Is(err, test.errno) {
			t.Errorf("%v is not %v", err, test.errno)
		}
	}
}

func FuzzPart(f *testing.F) {
	for _, name := range []string{"a", "../a", "a/../b", ".towpath/x", "/etc/passwd", "a\x00", "link/x", "loop/x"} {
		f.Add(name)
	}
	outside := f.TempDir()
	root := filepath.Join(outside, "root")
	if err := os.Mkdir(root, 0o777); err != nil {
		f.Fatal(err)
	}
	for link, target := range map[string]string{"link": "..", "loop": "loop"} {
		if err := os.Symlink(target, filepath.Join(root, link)); err != nil {
			f.Fatal(err)
		}
	}
	f.Fuzz(func(t *testing.T, name string) {
		err := writeOne(t, root, address("collision", collisionReplace), name, "x")
		entries, readErr := os.ReadDir(outside)
		if readErr != nil || !slices.EqualFunc(entries, []string{"root"}, func(e os.DirEntry, name string) bool { return e.Name() == name }) {
			t.Fatalf("part %q came outside: %v (%v)", name, entries, readErr)
		}
		if _, statErr := os.Lstat(filepath.Join(root, name)); err == nil && statErr != nil {
			t.Errorf("part %q was taken, but: %v", name, statErr)
		}
	})
}
