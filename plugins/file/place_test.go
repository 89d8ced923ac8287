package main

import (
	"errors"
	"io"
	"os"
	"path/filepath"
	"testing"

	"github.com/towpath-dataplane/towpath/sdk"
)

func TestCollision(t *testing.T) {
	for _, test := range []struct {
		name       string
		there      []string // files and their content
		make       func(t *testing.T, root string)
		collision  string
		redelivery bool
		location   string
		code       sdk.Code // "" if the part is stored
		want       []string
	}{
		{name: "free", location: "in/p.txt", want: []string{"in/p.txt", "new"}},
		{name: "default", there: []string{"in/p.txt", "old"}, code: sdk.Conflict, want: []string{"in/p.txt", "old"}},
		{name: "same content is taken, too", there: []string{"in/p.txt", "new"}, collision: "fail", code: sdk.Conflict, want: []string{"in/p.txt", "new"}},
		{name: "redelivery", there: []string{"in/p.txt", "new"}, collision: "fail", redelivery: true, location: "in/p.txt", want: []string{"in/p.txt", "new"}},
		{name: "redelivery, other content", there: []string{"in/p.txt", "old"}, collision: "fail", redelivery: true, code: sdk.Conflict, want: []string{"in/p.txt", "old"}},
		{name: "redelivery, other size", there: []string{"in/p.txt", "newer"}, collision: "fail", redelivery: true, code: sdk.Conflict, want: []string{"in/p.txt", "newer"}},
		{name: "replace", there: []string{"in/p.txt", "old"}, collision: "replace", location: "in/p.txt", want: []string{"in/p.txt", "new"}},
		{name: "replace redelivered", there: []string{"in/p.txt", "new"}, collision: "replace", redelivery: true, location: "in/p.txt", want: []string{"in/p.txt", "new"}},
		{
			name: "rename", there: []string{"in/p.txt", "old"}, collision: "rename", location: "in/p (1).txt",
			want: []string{"in/p (1).txt", "new", "in/p.txt", "old"},
		},
		{
			name: "rename again", there: []string{"in/p.txt", "old", "in/p (1).txt", "new"}, collision: "rename", location: "in/p (2).txt",
			want: []string{"in/p (1).txt", "new", "in/p (2).txt", "new", "in/p.txt", "old"},
		},
		{
			name: "rename redelivered", there: []string{"in/p.txt", "old", "in/p (1).txt", "new"}, collision: "rename", redelivery: true,
			location: "in/p (1).txt", want: []string{"in/p (1).txt", "new", "in/p.txt", "old"},
		},
		{name: "folder", there: []string{"in/p.txt/x", "old"}, code: sdk.Conflict, want: []string{"in/p.txt/x", "old"}},
		{name: "folder, replace", there: []string{"in/p.txt/x", "old"}, collision: "replace", code: sdk.Conflict, want: []string{"in/p.txt/x", "old"}},
		{name: "folder, rename", there: []string{"in/p.txt/x", "old"}, collision: "rename", code: sdk.Conflict, want: []string{"in/p.txt/x", "old"}},
		{name: "folder, redelivery", there: []string{"in/p.txt/x", "old"}, redelivery: true, code: sdk.Conflict, want: []string{"in/p.txt/x", "old"}},
		{name: "file above", there: []string{"in", "old"}, collision: "replace", code: sdk.Conflict, want: []string{"in", "old"}},
		{
			name: "link", make: func(t *testing.T, root string) { symlink(t, "../elsewhere", root+"/in/p.txt") },
			there: []string{"elsewhere", "new"}, redelivery: true, code: sdk.Conflict, want: []string{"elsewhere", "new"},
		},
		{
			name: "link is replaced, not followed", make: func(t *testing.T, root string) { symlink(t, "../elsewhere", root+"/in/p.txt") },
			there: []string{"elsewhere", "old"}, collision: "replace", location: "in/p.txt", want: []string{"elsewhere", "old", "in/p.txt", "new"},
		},
		{
			name: "pipe", make: func(t *testing.T, root string) { put(t, root, "in/x", ""); fifo(t, root+"/in/p.txt") },
			redelivery: true, code: sdk.Conflict, want: []string{"in/x", ""},
		},
		{
			name: "link to a folder inside", make: func(t *testing.T, root string) { symlink(t, "box", root+"/in") },
			there: []string{"box/x", ""}, location: "in/p.txt", want: []string{"box/p.txt", "new", "box/x", ""},
		},
		{
			name: "link to a folder outside", make: func(t *testing.T, root string) { symlink(t, "..", root+"/in") },
			code: sdk.Denied,
		},
		{
			name: "link to nowhere above", make: func(t *testing.T, root string) { symlink(t, "nowhere", root+"/in") },
			collision: "replace", code: sdk.NotFound,
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			root := t.TempDir()
			for i := 0; i < len(test.there); i += 2 {
				put(t, root, test.there[i], test.there[i+1])
			}
			if test.make != nil {
				test.make(t, root)
			}
			a := address("path", "in")
			if test.collision != "" {
				a.Properties["collision"] = test.collision
			}
			w := open(a)
			w.Redelivery = test.redelivery
			ups, err := write(t, root, w, part("p.txt", "new")...)
			if e := sdk.AsError(err); (e == nil) != (test.code == "") || e != nil && e.Code != test.code {
				t.Errorf("error %v, want code %q", err, test.code)
			}
			if got := storedAt(ups); got != test.location {
				t.Errorf("location %q, want %q", got, test.location)
			}
			checkTree(t, root, test.want...)
			if left, err := temporaries(root); err != nil || len(left) > 0 {
				t.Errorf("%q is left (%v)", left, err)
			}
		})
	}
}

// TestAppearsInBetween: a file that comes while a part is received is not overwritten.
func TestAppearsInBetween(t *testing.T) {
	for collision, want := range map[string][]string{
		collisionFail:   {"p", "other"},
		collisionRename: {"p", "other", "p (1)", "mine"},
	} {
		root := t.TempDir()
		_, sink := newVolume(t, root)
		stream, err := sink.Write(t.Context(), open(address("collision", collision)))
		if err != nil {
			t.Fatal(err)
		}
		defer stream.Close()
		frames := part("p", "mine")
		for _, f := range append(frames[:2:2], &sdk.Checkpoint{Sequence: 1}) {
			if err := stream.Send(f); err != nil {
				t.Fatal(err)
			}
		}
		// The checkpoint is answered from inside the part, when the sink has looked at the name.
		if _, err := stream.Recv(); err != nil {
			t.Fatal(err)
		}
		put(t, root, "p", "other")
		for _, f := range []sdk.Frame{frames[2], &sdk.End{Totals: sdk.Totals{Parts: 1, Bytes: 4}}} {
			if err := stream.Send(f); err != nil && err != io.EOF {
				t.Fatal(err)
			}
		}
		_, err = receive(stream)
		if e := sdk.AsError(err); collision == collisionFail && (e == nil || e.Code != sdk.Conflict) || collision == collisionRename && e != nil {
			t.Errorf("%s: error %v", collision, err)
		}
		checkTree(t, root, want...)
	}
}

func TestLinkDoesNotReplace(t *testing.T) {
	folder := t.TempDir()
	put(t, folder, "from", "from")
	put(t, folder, "taken", "taken")
	root, err := os.OpenRoot(folder)
	if err != nil {
		t.Fatal(err)
	}
	defer root.Close()
	for name, rename := range map[string]func(*os.Root, string, string) error{"link": link, "renameNew": renameNew} {
		if err := rename(root, "from", "taken"); !errors.Is(err, os.ErrExist) {
			t.Errorf("%s to a name that is taken: %v", name, err)
		}
		if err := rename(root, "from", "free"); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		checkTree(t, folder, "free", "from", "taken", "taken")
		if err := os.Rename(filepath.Join(folder, "free"), filepath.Join(folder, "from")); err != nil {
			t.Fatal(err)
		}
	}
}

func TestNumbered(t *testing.T) {
	for _, test := range []struct {
		name string
		n    int
		want string
	}{
		{"a/b.txt", 0, "a/b.txt"},
		{"a/b.txt", 1, "a/b (1).txt"},
		{"b.tar.gz", 12, "b.tar (12).gz"},
		{"a.b/c", 1, "a.b/c (1)"},
		{".profile", 1, ".profile (1)"},
		{".profile.bak", 1, ".profile (1).bak"},
		{"...", 1, "... (1)"},
		{"dot.", 1, "dot (1)."},
	} {
		if got := numbered(test.name, test.n); got != test.want {
			t.Errorf("numbered(%q, %d) = %q, want %q", test.name, test.n, got, test.want)
		}
	}
}
