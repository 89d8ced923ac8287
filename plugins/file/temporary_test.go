package main

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/towpath-dataplane/towpath/sdk"
)

// TestFlowsAreApart: what one flow keeps is neither used nor removed by another, whatever their ids are.
func TestFlowsAreApart(t *testing.T) {
	root := t.TempDir()
	_, sink := newVolume(t, root)
	flows := []sdk.FlowContext{
		{ParticipantContext: "a", ID: "b"}, {ParticipantContext: "ab"}, {ID: "ab"}, {ID: "../../escape"}, {ID: "a/b"}, {ID: "\x00"},
	}
	for _, flow := range flows {
		cutInside(t, sink, sdk.WriteOpen{Flow: flow, Address: address()})
	}
	for i, flow := range flows {
		if left, err := temporaries(root); err != nil || len(left) != len(flows)-i {
			t.Fatalf("%d temporary files (%v), want %d", len(left), err, len(flows)-i)
		}
		if err := sink.Deprovision(t.Context(), flow, address()); err != nil {
			t.Error(err)
		}
	}
	checkTree(t, root)
}

// cutInside begins part "p" with "01234", takes a checkpoint there, and cuts the stream. It returns the sink's token.
func cutInside(t *testing.T, sink sdk.DataSink, open sdk.WriteOpen) []byte {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	stream, err := sink.Write(ctx, open)
	if err != nil {
		t.Fatal(err)
	}
	defer stream.Close()
	for _, f := range []sdk.Frame{
		&sdk.PartBegin{PartInfo: sdk.PartInfo{Name: "p", Size: 10}}, data("01234"), &sdk.Checkpoint{Sequence: 1},
	} {
		if err := stream.Send(f); err != nil {
			t.Fatal(err)
		}
	}
	up, err := stream.Recv()
	if err != nil {
		t.Fatal(err)
	}
	return up.(*sdk.Durable).Token
}

func data(content string) sdk.Frame { return &sdk.Data{Payload: sdk.BytesPayload(content)} }

// goOn sends the rest of the part that cutInside began.
func goOn(t *testing.T, root string, open sdk.WriteOpen) error {
	t.Helper()
	_, err := write(t, root, open, &sdk.PartBegin{PartInfo: sdk.PartInfo{Name: "p", Size: 10}, Offset: 5}, data("56789"), &sdk.PartEnd{Size: 10})
	return err
}

// TestLostTemporary: a part whose beginning is gone is not finished with something else.
func TestLostTemporary(t *testing.T) {
	for _, test := range []struct {
		name   string
		change func(t *testing.T, temporary string)
		after  bool // the part was finished before the change
		code   sdk.Code
	}{
		{name: "untouched"},
		{name: "longer", change: appendTo("56789 and more")},
		{name: "shorter", change: truncateTo(4), code: sdk.Corrupt},
		{name: "gone", change: remove, code: sdk.Corrupt},
		{name: "folder", change: func(t *testing.T, file string) { remove(t, file); put(t, file, "x", "") }, code: sdk.Conflict},
		{name: "finished", after: true},
		{name: "finished and changed", after: true, change: overwrite("X"), code: sdk.Corrupt},
		{name: "finished and gone", after: true, change: remove, code: sdk.Corrupt},
		{name: "finished and another in its place", after: true, code: sdk.Corrupt, change: func(t *testing.T, file string) {
			remove(t, file)
			put(t, filepath.Dir(file), filepath.Base(file), "X123456789")
		}},
	} {
		t.Run(test.name, func(t *testing.T) {
			root := t.TempDir()
			_, sink := newVolume(t, root)
			again := open(address())
			again.ResumeToken = cutInside(t, sink, open(address()))
			file := filepath.Join(root, "p")
			if test.after {
				if err := goOn(t, root, again); err != nil {
					t.Fatal(err)
				}
				past := time.Now().Add(-time.Hour)
				if err := os.Chtimes(file, time.Time{}, past); err != nil {
					t.Fatal(err)
				}
				keepNote(t, root, file)
			} else {
				file = temporaryFile(t, root)
			}
			if test.change != nil {
				test.change(t, file)
			}
			err := goOn(t, root, again)
			if e := sdk.AsError(err); (e == nil) != (test.code == "") || e != nil && (e.Code != test.code || e.Retryable) {
				t.Fatalf("error %v, want code %q, not to be retried", err, test.code)
			}
			if err == nil {
				checkTree(t, root, "p", "0123456789")
			}
		})
	}
}

// temporaryFile returns the only file that the plugin keeps.
func temporaryFile(t *testing.T, root string) string {
	t.Helper()
	left, err := temporaries(root)
	if err != nil || len(left) != 1 {
		t.Fatalf("temporary files %q (%v), want one", left, err)
	}
	return filepath.Join(root, workFolder, left[0])
}

// keepNote writes the note on a finished file anew, after the test has changed its time.
func keepNote(t *testing.T, root, file string) {
	t.Helper()
	note := temporaryFile(t, root)
	if !strings.HasSuffix(note, doneSuffix) {
		t.Fatalf("%q is kept", note)
	}
	info, err := os.Stat(file)
	if err != nil {
		t.Fatal(err)
	}
	put(t, filepath.Dir(note), filepath.Base(note), validator(info))
}

// TestFalseRest: a part that cannot be right any more is not kept for a resume.
func TestFalseRest(t *testing.T) {
	root := t.TempDir()
	_, sink := newVolume(t, root)
	again := open(address())
	again.ResumeToken = cutInside(t, sink, open(address()))
	_, err := write(t, root, again, &sdk.PartBegin{PartInfo: sdk.PartInfo{Name: "p", Size: 10}, Offset: 5}, data("5"), &sdk.PartEnd{Size: 6})
	if e := sdk.AsError(err); e == nil || e.Code != sdk.Corrupt {
		t.Errorf("error %v", err)
	}
	if left, err := temporaries(root); err != nil || len(left) > 0 {
		t.Errorf("%q is left (%v)", left, err)
	}
}

func TestForeignToken(t *testing.T) {
	root := t.TempDir()
	_, sink := newVolume(t, root)
	again := open(address())
	again.ResumeToken = cutInside(t, sink, open(address()))
	_, err := write(t, root, again, &sdk.PartBegin{PartInfo: sdk.PartInfo{Name: "q", Size: 10}, Offset: 5}, data("56789"), &sdk.PartEnd{Size: 10})
	if e := sdk.AsError(err); e == nil || e.Code != sdk.Invalid {
		t.Errorf("another part with the token: %v", err)
	}
	checkTree(t, root)
}
