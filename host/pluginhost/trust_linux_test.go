package pluginhost

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestCheckEntry(t *testing.T) {
	const me, root, other = 1000, 0, 1001
	for _, test := range []struct {
		name  string
		mode  fs.FileMode
		owner int
		above bool
		says  string // "" if it is good
	}{
		{"own file", 0o755, me, false, ""},
		{"root's file", 0o755, root, false, ""},
		{"another's file", 0o755, other, false, "belongs to user 1001"},
		{"unknown owner", 0o755, -1, false, "belongs to user -1"},
		{"group may write", 0o775, me, false, "written by its group (mode 0775)"},
		{"others may write", 0o757, root, false, "written by everyone (mode 0757)"},
		{"all may write", 0o777, me, true, "written by everyone (mode 0777)"},
		{"sticky folder above", fs.ModeDir | fs.ModeSticky | 0o777, root, true, ""},
		{"sticky plugin folder", fs.ModeDir | fs.ModeSticky | 0o777, root, false, "written by everyone"},
		{"another's sticky folder above", fs.ModeDir | fs.ModeSticky | 0o777, other, true, "belongs to user 1001"},
		{"own link", fs.ModeSymlink | 0o777, me, false, ""},
		{"another's link", fs.ModeSymlink | 0o777, other, false, "belongs to user 1001"},
	} {
		t.Run(test.name, func(t *testing.T) {
			err := checkEntry(test.mode, test.owner, me, test.above)
			if test.says == "" && err != nil {
				t.Error(err)
			}
			if test.says != "" {
				mustContain(t, err, test.says)
			}
		})
	}
}

func TestOnlyWritableBy(t *testing.T) {
	makeFile := func(t *testing.T, path string) {
		t.Helper()
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte("x"), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for _, test := range []struct {
		name    string
		prepare func(t *testing.T, dir string)
		says    string
	}{
		{"good", func(t *testing.T, dir string) {}, ""},
		{"file", func(t *testing.T, dir string) { os.Chmod(dir+"/a/plugins/p", 0o757) }, "plugins/p can be written by everyone"},
		{"folder", func(t *testing.T, dir string) { os.Chmod(dir+"/a/plugins", 0o775) }, "a/plugins can be written by its group"},
		{"folder above", func(t *testing.T, dir string) { os.Chmod(dir+"/a", 0o777) }, "/a can be written by everyone"},
		{"sticky folder above", func(t *testing.T, dir string) { os.Chmod(dir+"/a", 0o777|fs.ModeSticky) }, ""},
		{"link to an open folder", func(t *testing.T, dir string) {
			makeFile(t, dir+"/b/q")
			os.Chmod(dir+"/b", 0o777)
			os.Remove(dir + "/a/plugins/p")
			os.Symlink(dir+"/b/q", dir+"/a/plugins/p")
		}, "/b can be written by everyone"},
		{"link in an open folder", func(t *testing.T, dir string) {
			makeFile(t, dir+"/b/q")
			os.Remove(dir + "/a/plugins/p")
			os.Symlink(dir+"/b/q", dir+"/a/plugins/p")
			os.Chmod(dir+"/a/plugins", 0o777)
		}, "a/plugins can be written by everyone"},
		{"link among closed folders", func(t *testing.T, dir string) {
			makeFile(t, dir+"/b/q")
			os.Remove(dir + "/a/plugins/p")
			os.Symlink("../../b/q", dir+"/a/plugins/p")
		}, ""},
		{"gone", func(t *testing.T, dir string) { os.Remove(dir + "/a/plugins/p") }, "no such file"},
	} {
		t.Run(test.name, func(t *testing.T) {
			dir := t.TempDir()
			os.Chmod(dir, 0o755)
			makeFile(t, dir+"/a/plugins/p")
			test.prepare(t, dir)
			err := onlyWritableBy(dir+"/a/plugins/p", os.Geteuid())
			if test.says == "" && err != nil {
				t.Error(err)
			}
			if test.says != "" {
				mustContain(t, err, test.says)
			}
		})
	}
}

func TestJudge(t *testing.T) {
	file := filepath.Join(t.TempDir(), "p")
	if err := os.WriteFile(file, nil, 0o777); err != nil {
		t.Fatal(err)
	}
	os.Chmod(file, 0o777)
	digest, another := strings.Repeat("ab", 32), strings.Repeat("cd", 32)
	for _, test := range []struct {
		trust   Trust
		pin     string
		allowed bool
		says    string
	}{
		{TrustAsk, digest, true, "its sha256 is pinned"},
		{TrustAsk, "", false, "nobody has decided to trust it"},
		{TrustSigned, digest, true, "its sha256 is pinned"},
		{TrustSigned, "", false, "it is not signed"},
		{TrustPinned, digest, true, "its sha256 is pinned"},
		{TrustPinned, "", false, "no sha256 is pinned"},
		{TrustPinned, another, false, "but " + another + " is pinned"},
		{TrustOff, "", true, "trust is off"},
		{TrustOff, another, false, "is pinned"},
		{TrustDirectory, digest, true, "its sha256 is pinned"},
		{TrustDirectory, another, false, "is pinned"},
		{TrustDirectory, "", false, "can be written by everyone"},
	} {
		ground, err := test.trust.judge(Candidate{Path: file, SHA256: digest}, evidence{pin: test.pin, unsigned: errors.New("it is not signed"),
			decision: func() (Decision, bool, error) { return Decision{}, false, nil }})
		if (err == nil) != test.allowed {
			t.Errorf("%s, pin %q: %v", test.trust, test.pin, err)
			continue
		}
		if err != nil {
			ground = err.Error()
		}
		if !strings.Contains(ground, test.says) {
			t.Errorf("%s, pin %q: %q does not say %q", test.trust, test.pin, ground, test.says)
		}
	}
}

// What to do is said by what is wrong, and by the policy.
func TestAdvice(t *testing.T) {
	untrusted := func(c Candidate) Candidate {
		c.Name, c.Status, c.SHA256, c.Path = "x", StatusUntrusted, "ab", "/p/towpath-plugin-x"
		return c
	}
	for name, test := range map[string]struct {
		trust    Trust
		settings Settings
		c        Candidate
		err      error
		want     string
	}{
		"its name":     {TrustOff, Settings{}, untrusted(Candidate{misnamed: true}), nil, "rename it"},
		"no pin":       {TrustPinned, Settings{}, untrusted(Candidate{}), nil, `plugin "x" { sha256 = "ab" }`},
		"another pin":  {TrustAsk, Settings{SHA256: "cd"}, untrusted(Candidate{}), nil, `plugin "x" { sha256 = "ab" }`},
		"no signature": {TrustSigned, Settings{}, untrusted(Candidate{}), nil, "(towpath-plugin-x.minisig)"},
		"whose":        {TrustOff, Settings{Publisher: "acme"}, untrusted(Candidate{}), nil, `publisher "acme"`},
		"undecided":    {TrustAsk, Settings{}, untrusted(Candidate{}), nil, "towpath plugins trust x"},
		"open":         {TrustDirectory, Settings{}, untrusted(Candidate{}), nil, "chmod go-w"},
		"no bit":       {TrustOff, Settings{}, Candidate{Status: StatusNotExecutable, Mode: 0o600}, nil, "make it executable"},
		"half":         {TrustOff, Settings{}, Candidate{Status: StatusNotExecutable, Mode: 0o700}, nil, "the whole file"},
		"abroad":       {TrustOff, Settings{}, Candidate{Status: StatusWrongArch}, nil, "a build for this machine"},
		"rival":        {TrustOff, Settings{}, Candidate{Status: StatusReady}, ErrConflict, "one of the two"},
		"broken":       {TrustOff, Settings{}, Candidate{Status: StatusReady}, errNoHandshake, "rescan tries it again"},
	} {
		h := &Host{options: Options{Trust: test.trust, Plugins: map[string]Settings{"x": test.settings}}}
		if got := h.advice(test.c, test.err); !strings.Contains(got, test.want) {
			t.Errorf("%s: %q, want %q in it", name, got, test.want)
		}
	}
}
