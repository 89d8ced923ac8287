package pluginhost

import (
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestRuntimeDirIsRefused(t *testing.T) {
	for _, test := range []struct {
		name    string
		prepare func(t *testing.T, root string) string
		says    []string
	}{
		{"too long", func(t *testing.T, root string) string { return root + "/" + strings.Repeat("d", 80) },
			[]string{"is too long", "103 is the most", "use one of at most 73 bytes"}},
		{"open to others", func(t *testing.T, root string) string { os.Chmod(root, 0o750); return root },
			[]string{"open to other users (mode 0750)"}},
		{"a file", func(t *testing.T, root string) string {
			path := filepath.Join(root, "f")
			os.WriteFile(path, nil, 0o600)
			return path
		}, []string{"not a directory"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			_, err := openRunDir(test.prepare(t, runtimeDir(t)))
			mustContain(t, err, test.says...)
		})
	}
}

func TestSweep(t *testing.T) {
	root := runtimeDir(t)
	alive, err := openRunDir(root)
	if err != nil {
		t.Fatal(err)
	}
	defer alive.close()
	dead, err := openRunDir(root)
	if err != nil {
		t.Fatal(err)
	}
	_, scratch, err := dead.launch()
	if err != nil {
		t.Fatal(err)
	}
	os.WriteFile(filepath.Join(scratch, "f"), nil, 0o400)
	os.Chmod(scratch, 0o500)
	dead.lock.Close()
	unlocked, operators := filepath.Join(root, "0a1b"), filepath.Join(root, "keep-me")
	os.Mkdir(unlocked, 0o700)
	os.Mkdir(operators, 0o700)

	next, err := openRunDir(root)
	if err != nil {
		t.Fatal(err)
	}
	defer next.close()
	for path, want := range map[string]bool{alive.path: true, dead.path: dead.path == next.path, unlocked: unlocked == next.path,
		operators: true, next.path: true} {
		if _, err := os.Stat(path); (err == nil) != want {
			t.Errorf("%s: %v", path, err)
		}
	}
}

func TestImage(t *testing.T) {
	dir, err := openRunDir(runtimeDir(t))
	if err != nil {
		t.Fatal(err)
	}
	defer dir.close()
	write := func(status Status, content string) string {
		t.Helper()
		_, path, err := dir.image(func(w io.Writer) Candidate {
			io.WriteString(w, content)
			return Candidate{Status: status, SHA256: "digest"}
		})
		if err != nil {
			t.Fatal(err)
		}
		return path
	}
	if path := write(StatusUntrusted, "bad"); path != "" {
		t.Errorf("an untrusted file was copied to %s", path)
	}
	path := write(StatusReady, "x")
	if write(StatusReady, "x") != path {
		t.Error("the same content has two copies")
	}
	info, err := os.Stat(path)
	if err != nil || info.Mode().Perm() != 0o500 {
		t.Errorf("copy: %v, %v", info, err)
	}
	all, _ := os.ReadDir(filepath.Dir(path))
	if len(all) != 1 {
		t.Errorf("files: %v", all)
	}
}
