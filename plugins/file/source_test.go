package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/towpath-dataplane/towpath/sdk"
)

// newSource returns a source as its author sees it.
func newSource(root string) *source { return &source{&volume{path: root}} }

func request(path string) sdk.ReadRequest { return sdk.ReadRequest{Address: address("path", path)} }

// names reads the names of the parts behind a path, up to the first error.
func names(t *testing.T, root, path string) ([]string, error) {
	t.Helper()
	var found []string
	for part, err := range newSource(root).Read(t.Context(), request(path)) {
		if err != nil {
			return found, err
		}
		found = append(found, part.Name)
	}
	return found, nil
}

func TestNames(t *testing.T) {
	root := t.TempDir()
	for _, name := range []string{
		"d/a/z", "d/a-b", "d/a.txt", "d/a0", "d/b/x.txt", "d/b/y.csv", "d/b/c/x.txt", "d/b.txt", "d/ü", "d/B", "d/.hidden", "d/[x].txt",
		"other/x.txt", ".towpath/0/temporary", "d/.towpath/mine",
	} {
		put(t, root, name, name)
	}
	if err := os.MkdirAll(filepath.Join(root, "d/empty/below"), 0o777); err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		path string
		want string
	}{
		{"d/a0", "a0"},
		{"d", ".hidden|.towpath/mine|B|[x].txt|a-b|a.txt|a/z|a0|b.txt|b/c/x.txt|b/x.txt|b/y.csv|ü"},
		{"./d/", ".hidden|.towpath/mine|B|[x].txt|a-b|a.txt|a/z|a0|b.txt|b/c/x.txt|b/x.txt|b/y.csv|ü"},
		{".", "d/.hidden|d/.towpath/mine|d/B|d/[x].txt|d/a-b|d/a.txt|d/a/z|d/a0|d/b.txt|d/b/c/x.txt|d/b/x.txt|d/b/y.csv|d/ü|other/x.txt"},
		{"d/empty", ""},
		{"d/*.txt", "[x].txt|a.txt|b.txt"},
		{"d/[x].txt", "[x].txt"},
		{`d/\[x].txt`, "[x].txt"},
		{"d/[ab].txt", "a.txt|b.txt"},
		{"d/?", "B|ü"},
		{"**/x.txt", "d/b/c/x.txt|d/b/x.txt|other/x.txt"},
		{"d/**/x.txt", "b/c/x.txt|b/x.txt"},
		{"d/b/**", "c/x.txt|x.txt|y.csv"},
		{"d/b/**/**/*.txt", "c/x.txt|x.txt"},
		{"*/b/*", "d/b/x.txt|d/b/y.csv"},
		{"d/**/c/**", "b/c/x.txt"},
		{"*/x.txt", "other/x.txt"},
	} {
		t.Run(test.path, func(t *testing.T) {
			got, err := names(t, root, test.path)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(strings.ReplaceAll(test.want, "a/|", "a/|"), strings.Join(got, "|")); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

func TestPartInfo(t *testing.T) {
	root := t.TempDir()
	put(t, root, "a.json", "{}")
	put(t, root, "b.odd extension", "12345")
	modified := time.Date(2024, 5, 6, 7, 8, 9, 1000, time.UTC)
	for _, name := range []string{"a.json", "b.odd extension"} {
		if err := os.Chtimes(filepath.Join(root, name), modified, modified); err != nil {
			t.Fatal(err)
		}
	}
	var got []string
	var validators []string
	for part, err := range newSource(root).Read(t.Context(), request(".")) {
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, fmt.Sprintf("%s %s %d %s of %d", part.Name, part.MediaType, part.Size, part.Modified.UTC(), part.TotalParts))
		validators = append(validators, part.Validator)
	}
	want := []string{
		"a.json application/json 2 2024-05-06 07:08:09.000001 +0000 UTC of 2",
		"b.odd extension application/octet-stream 5 2024-05-06 07:08:09.000001 +0000 UTC of 2",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if validators[0] == "" || validators[0] == validators[1] {
		t.Errorf("validators are %q", validators)
	}
}

// TestConfinement: whatever a path or a link names, nothing outside of the root is read, and nothing inside is left out in silence.
func TestConfinement(t *testing.T) {
	outside := t.TempDir()
	put(t, outside, "secret", "outside")
	for _, test := range []struct {
		name  string
		make  func(t *testing.T, root string)
		path  string
		want  string
		code  sdk.Code
		error string
	}{
		{
			name: "links inside are followed", path: "d", want: "folder/x|link to file",
			make: func(t *testing.T, root string) {
				put(t, root, "e/x", "")
				symlink(t, "../e", root+"/d/folder")
				symlink(t, "../e/x", root+"/d/link to file")
			},
		},
		{
			name: "link to a file outside", path: "d", code: sdk.Denied, error: `read "d/link": leads out of the root folder`,
			make: func(t *testing.T, root string) { symlink(t, outside+"/secret", root+"/d/link") },
		},
		{
			name: "link to a folder outside", path: "d", code: sdk.Denied, error: `read "d/link": leads out of the root folder`,
			make: func(t *testing.T, root string) { symlink(t, "../../"+filepath.Base(outside), root+"/d/link") },
		},
		{
			name: "path through a link outside", path: "link/secret", code: sdk.Denied, error: `read "link/secret": leads out of the root folder`,
			make: func(t *testing.T, root string) { symlink(t, outside, root+"/link") },
		},
		{
			name: "pattern through a link outside", path: "link/*", code: sdk.Denied, error: `read "link/*": leads out of the root folder`,
			make: func(t *testing.T, root string) { symlink(t, outside, root+"/link") },
		},
		{
			name: "link outside that the pattern does not want", path: "d/*.txt", want: "a.txt",
			make: func(t *testing.T, root string) {
				put(t, root, "d/a.txt", "")
				symlink(t, outside, root+"/d/link")
			},
		},
		{
			name: "link to nothing", path: "d", code: sdk.NotFound, error: `read "d/link": no such file or directory`,
			make: func(t *testing.T, root string) { symlink(t, "nothing", root+"/d/link") },
		},
		{
			name: "link to itself", path: "d", code: sdk.Invalid, error: `read "d/link": too many levels of symbolic links`,
			make: func(t *testing.T, root string) { symlink(t, "link", root+"/d/link") },
		},
		{
			name: "link to its folder", path: "d", code: sdk.Invalid, error: `read "d/link": a symbolic link leads back to a folder above it`,
			make: func(t *testing.T, root string) { symlink(t, ".", root+"/d/link") },
		},
		{
			name: "link to a folder further up", path: ".", code: sdk.Invalid, error: `read "d/e/link": a symbolic link leads back to a folder above it`,
			make: func(t *testing.T, root string) { symlink(t, "../..", root+"/d/e/link") },
		},
		{
			name: "two links to one folder", path: "d", want: "1/x|2/x",
			make: func(t *testing.T, root string) {
				put(t, root, "e/x", "")
				symlink(t, "../e", root+"/d/1")
				symlink(t, "../e", root+"/d/2")
			},
		},
		{
			name: "link to the plugin's own folder", path: "d", want: "x",
			make: func(t *testing.T, root string) {
				put(t, root, ".towpath/0/temporary", "")
				put(t, root, "d/x", "")
				symlink(t, "../.towpath", root+"/d/link")
			},
		},
		{
			name: "special files in a folder", path: "d", want: "x",
			make: func(t *testing.T, root string) {
				put(t, root, "d/x", "")
				fifo(t, root+"/d/fifo")
				symlink(t, "fifo", root+"/d/link to fifo")
				listen(t, root+"/d/socket")
			},
		},
		{
			name: "pipe by name", path: "fifo", code: sdk.Invalid, error: `read "fifo": not a regular file (p---------)`,
			make: func(t *testing.T, root string) { fifo(t, root+"/fifo") },
		},
		{
			name: "control characters", path: "d", code: sdk.Invalid, error: `part name "evil\x1b[31m" has control characters or is not UTF-8`,
			make: func(t *testing.T, root string) { put(t, root, "d/evil\x1b[31m", "") },
		},
		{
			name: "not UTF-8", path: "d", code: sdk.Invalid, error: `part name "\xff/x" has control characters or is not UTF-8`,
			make: func(t *testing.T, root string) { put(t, root, "d/\xff/x", "") },
		},
		{
			name: "backslash", path: "d", code: sdk.Invalid, error: `part name "a\\b" is not a plain relative path`,
			make: func(t *testing.T, root string) { put(t, root, `d/a\b`, "") },
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			root := t.TempDir()
			test.make(t, root)
			got, err := names(t, root, test.path)
			if test.code == "" {
				if err != nil {
					t.Fatal(err)
				}
				if diff := cmp.Diff(test.want, strings.Join(got, "|")); diff != "" {
					t.Errorf("(-want +got):\n%s", diff)
				}
				return
			}
			if err == nil {
				t.Fatalf("read %q", got)
			}
			if e := sdk.AsError(err); e.Code != test.code || e.Error() != test.error {
				t.Errorf("error with code %q: %s\nwant one with %q: %s", e.Code, e, test.code, test.error)
			}
		})
	}
}

func listen(t *testing.T, name string) {
	t.Helper()
	t.Chdir(filepath.Dir(name)) // the name of a socket is short, that of its folder is not
	l, err := net.Listen("unix", filepath.Base(name))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
}

// TestChange: a file that is not, to its end, what was announced is never taken for whole.
func TestChange(t *testing.T) {
	const name, content = "file", "0123456789"
	for _, test := range []struct {
		name string
		// before and during are called before the file is opened and after half of it was read.
		before, during func(t *testing.T, file string)
		code           sdk.Code
		read           string
		// alone is whether the file is what was announced to one who has opened it by then: where the address names it, on Linux.
		alone bool
	}{
		{name: "no change", read: content, alone: true},
		{name: "gone", before: remove, code: sdk.NotFound, alone: true},
		{name: "pipe in its place", before: func(t *testing.T, file string) { remove(t, file); fifo(t, file) }, code: sdk.Corrupt,
			alone: true},
		{name: "folder in its place", before: func(t *testing.T, file string) { remove(t, file); put(t, file, "x", "") }, code: sdk.Corrupt,
			alone: true},
		{name: "another in its place", before: func(t *testing.T, file string) {
			put(t, filepath.Dir(file), "new", content)
			if err := os.Rename(filepath.Join(filepath.Dir(file), "new"), file); err != nil {
				t.Fatal(err)
			}
		}, code: sdk.Corrupt, alone: true},
		{name: "grown before", before: appendTo("x"), code: sdk.Corrupt},
		{name: "removed while it is read", during: remove, read: content},
		{name: "grown while it is read", during: appendTo("more"), code: sdk.Corrupt, read: content},
		{name: "cut off while it is read", during: truncateTo(7), code: sdk.Corrupt, read: "0123456"},
		{name: "cut off before the place", during: truncateTo(1), code: sdk.Corrupt, read: "01234"},
		{name: "overwritten while it is read", during: overwrite("abcdefghij"), code: sdk.Corrupt, read: "01234fghij"},
	} {
		for _, address := range []string{".", name} {
			code, read := test.code, test.read
			if address == name && runtime.GOOS == "linux" && test.during == nil {
				if read = content; test.alone {
					code = ""
				}
			}
			t.Run(test.name+" at "+address, func(t *testing.T) {
				root := t.TempDir()
				put(t, root, name, content)
				file := filepath.Join(root, name)
				past := time.Now().Add(-time.Hour)
				if err := os.Chtimes(file, past, past); err != nil {
					t.Fatal(err)
				}
				got, err := readChanging(t, root, address, func() {
					if test.before != nil {
						test.before(t, file)
					}
				}, func() {
					if test.during != nil {
						test.during(t, file)
					}
				})
				if code == "" && err != nil || code != "" && (err == nil || sdk.AsError(err).Code != code) {
					t.Errorf("error %v, want code %q", err, code)
				}
				if got != read {
					t.Errorf("read %q, want %q", got, read)
				}
			})
		}
	}
}

// readChanging reads the only file at an address, in two halves, and returns what it got.
func readChanging(t *testing.T, root, address string, before, during func()) (string, error) {
	t.Helper()
	for part, err := range newSource(root).Read(t.Context(), request(address)) {
		if err != nil {
			t.Fatal(err)
		}
		before()
		r, err := part.Open(t.Context(), 0)
		if err != nil {
			return "", err
		}
		defer r.Close()
		half := make([]byte, part.Size/2)
		if _, err := io.ReadFull(r, half); err != nil {
			t.Fatal(err)
		}
		during()
		rest, err := io.ReadAll(r)
		return string(half) + string(rest), err
	}
	return "", errors.New("no part")
}

func remove(t *testing.T, file string) {
	if err := os.Remove(file); err != nil {
		t.Fatal(err)
	}
}

func appendTo(more string) func(*testing.T, string) {
	return change(os.O_WRONLY|os.O_APPEND, func(f *os.File) error { _, err := f.WriteString(more); return err })
}

func truncateTo(size int64) func(*testing.T, string) {
	return change(os.O_WRONLY, func(f *os.File) error { return f.Truncate(size) })
}

func overwrite(content string) func(*testing.T, string) {
	return change(os.O_WRONLY, func(f *os.File) error { _, err := f.WriteString(content); return err })
}

func change(flag int, edit func(*os.File) error) func(*testing.T, string) {
	return func(t *testing.T, file string) {
		f, err := os.OpenFile(file, flag, 0)
		if err != nil {
			t.Fatal(err)
		}
		if err := errors.Join(edit(f), f.Close()); err != nil {
			t.Fatal(err)
		}
	}
}

// TestVanished: a file that goes between the listing of its folder and its turn is as one that was never there.
func TestVanished(t *testing.T) {
	root := t.TempDir()
	for _, name := range []string{"a", "b", "c/x", "d"} {
		put(t, root, name, name)
	}
	var got []string
	for part, err := range newSource(root).Read(t.Context(), request(".")) {
		if err != nil {
			t.Fatal(err)
		}
		if part.Name == "a" {
			remove(t, filepath.Join(root, "b"))
			if err := os.RemoveAll(filepath.Join(root, "c")); err != nil {
				t.Fatal(err)
			}
		}
		got = append(got, part.Name)
	}
	if diff := cmp.Diff([]string{"a", "d"}, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// TestSkipped: what a request does not want is not opened, or even looked at.
func TestSkipped(t *testing.T) {
	root := t.TempDir()
	for _, name := range []string{"a", "b", "c"} {
		put(t, root, name, name)
	}
	read := func(req sdk.ReadRequest) string {
		var got []string
		for part, err := range newSource(root).Read(t.Context(), req) {
			if err != nil {
				t.Fatal(err)
			}
			got = append(got, fmt.Sprintf("%s(%d)", part.Name, part.Size))
		}
		return strings.Join(got, " ")
	}
	after, only := request("."), request(".")
	after.After = &sdk.Position{Part: "b", Finished: true}
	only.Part = "c"
	if got, want := read(after), "b(1) c(1)"; got != want {
		t.Errorf("after b: %s, want %s", got, want)
	}
	if got, want := read(only), "a(-1) b(-1) c(1)"; got != want {
		t.Errorf("only c: %s, want %s", got, want)
	}
}

func TestWalkEndsWithItsContext(t *testing.T) {
	root := t.TempDir()
	for i := range 10 {
		put(t, root, fmt.Sprint(i), "")
	}
	ctx, cancel := context.WithCancelCause(t.Context())
	defer cancel(nil)
	cause := errors.New("the flow was cut")
	n := 0
	var last error
	for _, err := range newSource(root).Read(ctx, request(".")) {
		if last = err; err == nil {
			n++
		}
		if n == 3 {
			cancel(cause)
		}
	}
	if n != 3 || !errors.Is(last, cause) {
		t.Errorf("%d parts and error %v, want 3 and %v", n, last, cause)
	}
}
