package confine

import (
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/towpath-dataplane/towpath/sdk"
)

func TestNewPolicy(t *testing.T) {
	for name, test := range map[string]struct {
		declared            *sdk.Permissions
		allowed             Allowed
		read, write         []string
		connect             string
		memory              int64
		files               int
		environment         []string
		confines, datagrams bool
	}{
		"nobody says anything": {nil, Allowed{}, nil, nil, "", 0, 0, nil, false, false},
		"the plugin needs nothing": {&sdk.Permissions{}, Allowed{}, []string{}, []string{}, "none", 0, 0, nil,
			true, false},
		"the operator alone": {nil, Allowed{Read: []string{"/a"}, Connect: []string{"*:1"}}, []string{"/a"}, nil, "*:1", 0, 0, nil, true, true},
		"both": {
			&sdk.Permissions{Environment: []string{"A", "B"}, Read: []string{"/a/b", "/c", "/e"}, Write: []string{"/w"},
				Connect: []string{"*:443", "db.example:5432"}, Memory: 100, OpenFiles: 10},
			Allowed{Limits: Limits{Memory: 50, OpenFiles: 20}, Environment: []string{"B", "C"}, Read: []string{"/a", "/c/d", "/ee"},
				Connect: []string{"10.0.0.0/8:443"}},
			[]string{"/a/b", "/c/d"}, []string{"/w"}, "10.0.0.0/8:443", 50, 10, []string{"B"}, true, false},
		"the whole file system": {&sdk.Permissions{Read: []string{"/"}}, Allowed{Read: []string{"/a"}}, []string{"/a"}, []string{}, "none",
			0, 0, nil, true, false},
	} {
		p, err := NewPolicy(test.declared, test.allowed)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		var rules []string
		for _, r := range p.connect {
			rules = append(rules, r.String())
		}
		connect := strings.Join(rules, ", ")
		if p.connect != nil && len(rules) == 0 {
			connect = "none"
		}
		if !reflect.DeepEqual(p.read, test.read) || !reflect.DeepEqual(p.write, test.write) || connect != test.connect ||
			p.Memory != test.memory || p.OpenFiles != test.files || len(p.environment) != len(test.environment) ||
			p.confines() != test.confines || p.datagrams() != test.datagrams {
			t.Errorf("%s: %+v", name, p)
		}
	}
	if _, err := NewPolicy(nil, Allowed{Read: []string{"here"}}); err == nil {
		t.Error("a relative path is allowed")
	}
	if _, err := NewPolicy(&sdk.Permissions{Connect: []string{"x"}}, Allowed{}); err == nil {
		t.Error("a rule that is none is declared")
	}
}

func policy(t *testing.T, declared *sdk.Permissions, allowed Allowed) Policy {
	t.Helper()
	p, err := NewPolicy(declared, allowed)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// fakeGroup is a folder that looks like a control group.
func fakeGroup(t *testing.T, has string) string {
	t.Helper()
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "cgroup.controllers"), []byte(has), 0o600); err != nil {
		t.Fatal(err)
	}
	return dir
}

func content(t *testing.T, path ...string) string {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(path...))
	if err != nil {
		t.Error(err)
	}
	return string(b)
}

func TestCgroups(t *testing.T) {
	dir := fakeGroup(t, "cpuset cpu io memory pids\n")
	groups, err := openCgroups(dir)
	if err != nil {
		t.Fatal(err)
	}
	if got := content(t, dir, "cgroup.subtree_control"); got != "+cpu +memory +pids" {
		t.Errorf("handed on: %s", got)
	}
	content(t, dir, "towpath-host", "cgroup.procs")
	group, err := groups.make("x", Limits{Memory: 1 << 20, CPU: 1.5, Processes: 7})
	if err != nil {
		t.Fatal(err)
	}
	for file, want := range map[string]string{"memory.max": "1048576", "memory.swap.max": "0", "cpu.max": "150000 100000", "pids.max": "7"} {
		if got := content(t, group, file); got != want {
			t.Errorf("%s: %s, want %s", file, got, want)
		}
	}
	killed := ""
	groups.remove = func(group string) error { killed = content(t, group, "cgroup.kill"); return os.RemoveAll(group) }
	if err := groups.end(group); err != nil || killed != "1" {
		t.Errorf("%v, %q", err, killed)
	}
	if other, err := groups.make("x", Limits{CPU: 0.25}); err != nil || content(t, other, "cpu.max") != "25000 100000" {
		t.Error(err)
	} else if _, err := os.Stat(filepath.Join(other, "memory.max")); err == nil {
		t.Error("memory is limited too")
	}
}

func TestNoCgroups(t *testing.T) {
	for says, dir := range map[string]string{
		"no cgroup v2 controller is writable here": fakeGroup(t, ""),
		"there is no cgroup v2 here":               t.TempDir(),
	} {
		if _, err := openCgroups(dir); err == nil || err.Error() != says {
			t.Errorf("%v, want %s", err, says)
		}
	}
}

func TestItems(t *testing.T) {
	full := machine{landlock: 7, cgroups: &cgroups{}}
	bare := machine{seccomp: "no filters", notify: "no filters", noGroups: "no controller"}
	ports := machine{landlock: 4, notify: "too old", noGroups: "no controller"}
	all := policy(t, &sdk.Permissions{Read: []string{"/a"}}, Allowed{Limits: Limits{Memory: 1 << 30, CPU: 1.5, OpenFiles: 9, Processes: 4},
		Connect: []string{"*:1"}})
	for _, test := range []struct {
		name    string
		m       machine
		p       Policy
		item    string
		inForce bool
		says    string
	}{
		{"full", full, all, "memory", true, "cgroup"},
		{"full", full, all, "cpu", true, "cgroup"},
		{"full", full, all, "read", true, "Landlock 7"},
		{"full", full, all, "connect", true, "there are no datagrams"},
		{"full", full, all, "children", true, "seccomp"},
		{"full", full, all, "privileges", true, "no signals"},
		{"full", full, policy(t, nil, Allowed{Connect: []string{"*:1"}}), "connect", true, "sendmsg"},
		{"full", full, policy(t, nil, Allowed{}), "memory", false, "not confined"},
		{"full", full, policy(t, nil, Allowed{}), "children", false, "not confined"},
		{"bare", bare, all, "memory", true, "RLIMIT_DATA"},
		{"bare", bare, all, "cpu", false, "no controller"},
		{"bare", bare, all, "processes", false, "RLIMIT_NPROC"},
		{"bare", bare, all, "read", false, "no Landlock"},
		{"bare", bare, all, "connect", false, "no filters"},
		{"bare", bare, all, "children", false, "lives on"},
		{"bare", bare, all, "open files", true, "RLIMIT_NOFILE"},
		{"ports", ports, all, "connect", true, "only the ports"},
		{"old", machine{landlock: 2}, all, "write", true, "made empty"},
	} {
		for _, item := range (&Confiner{test.m}).Items(test.p) {
			if item.Name == test.item && (item.InForce != test.inForce || !strings.Contains(item.How, test.says)) {
				t.Errorf("%s, %s: %+v", test.name, test.item, item)
			}
		}
	}
	items := (&Confiner{full}).Items(all)
	if items[1].Declared != "/a" || items[2].Declared != "none" || items[4].Allowed != "1 GiB" || items[5].Confined != "1.5" {
		t.Errorf("%+v", items)
	}
}
