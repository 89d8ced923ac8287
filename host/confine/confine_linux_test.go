package confine

import (
	"context"
	"io"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/towpath-dataplane/towpath/sdk"
)

func ptr(p *[120]byte) unsafe.Pointer { return unsafe.Pointer(p) }

func TestFiles(t *testing.T) {
	in, out := t.TempDir(), t.TempDir()
	inside, outside := tempFile(t, in, "a"), tempFile(t, out, "b")
	if err := os.Symlink(outside, filepath.Join(in, "link")); err != nil {
		t.Fatal(err)
	}
	read := policy(t, nil, Allowed{Read: []string{in}, Write: []string{}})
	both := policy(t, nil, Allowed{Read: []string{}, Write: []string{in}})
	for _, test := range []struct {
		p           Policy
		what, fails string
	}{
		{read, "read " + inside, ""},
		{read, "read " + outside, "permission denied"},
		{read, "read " + filepath.Join(in, "link"), "permission denied"},
		{read, "read /proc/1/environ", "permission denied"},
		{read, "read /etc/shadow", "permission denied"},
		{read, "read /etc/hosts", ""},
		{read, "list " + out, "permission denied"},
		{read, "run /bin/true", "permission denied"},
		{read, "write " + inside, "permission denied"},
		{read, "write here", ""},
		{read, "write /dev/null", ""},
		{read, "write /tmp/towpath-confine", "permission denied"},
		{both, "write " + inside, ""},
		{both, "read " + inside, ""},
		{both, "write " + outside, "permission denied"},
		{both, "move " + inside + " " + filepath.Join(out, "moved"), "permission denied"},
		{both, "move " + outside + " " + filepath.Join(in, "moved"), "permission denied"},
		{policy(t, nil, Allowed{Read: []string{in}}), "write " + outside, ""},
		{policy(t, nil, Allowed{Write: []string{in}}), "read " + outside, ""},
		{policy(t, &sdk.Permissions{}, Allowed{}), "read " + inside, "permission denied"},
		{policy(t, &sdk.Permissions{Read: []string{in}}, Allowed{}), "read " + inside, ""},
		{policy(t, &sdk.Permissions{Read: []string{in}}, Allowed{Read: []string{out}}), "read " + inside, "permission denied"},
	} {
		mustDo(t, test.p, test.what, test.fails)
	}
}

// listen returns the address of a listener that takes all connections.
func listen(t *testing.T, network, address string) string {
	t.Helper()
	l, err := net.Listen(network, address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			io.Copy(io.Discard, c)
			c.Close()
		}
	}()
	return l.Addr().String()
}

func TestConnections(t *testing.T) {
	address := listen(t, "tcp", "127.0.0.1:0")
	other := listen(t, "tcp", "127.0.0.2:0")
	_, port, _ := net.SplitHostPort(address)
	_, otherPort, _ := net.SplitHostPort(other)
	only := policy(t, nil, Allowed{Connect: []string{"127.0.0.1:" + port}})
	udp, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer udp.Close()
	_, udpPort, _ := net.SplitHostPort(udp.LocalAddr().String())
	names := policy(t, nil, Allowed{Connect: []string{"localhost:" + port, "*:" + udpPort}})
	for _, test := range []struct {
		p           Policy
		what, fails string
		refused     string
	}{
		{only, "dial tcp " + address, "", ""},
		{only, "dial tcp [::ffff:127.0.0.1]:" + port, "", ""},
		{only, "dial tcp 0.0.0.0:" + port, "", ""},
		{only, "dial tcp " + other, "permission denied", "connect to " + other},
		{only, "dial tcp 127.0.0.1:" + otherPort, "permission denied", "connect to 127.0.0.1:" + otherPort},
		{only, "block " + address, "", ""},
		{only, "block " + other, "permission denied", "connect to " + other},
		{only, "fastopen " + address, "not supported", ""},
		{only, "dial udp " + udp.LocalAddr().String(), "permission denied", ""},
		{only, "socket 2 3 6", "permission denied", ""},                  // raw
		{only, "socket 2 1 132", "permission denied", ""},                // SCTP
		{only, "socket 17 3 0", "permission denied", ""},                 // packets
		{only, "socket 40 1 0", "permission denied", ""},                 // vsock
		{only, "socket 1 2 0", "permission denied", ""},                  // unix datagrams
		{only, "socket " + strconv.Itoa(1<<20|2) + " 1 0", "denied", ""}, // no family at all
		{only, "interfaces", "", ""},
		{only, "uring", "not implemented", ""},
		{names, "dial tcp " + address, "", ""},
		{names, "dial tcp " + other, "permission denied", "connect to " + other},
		{names, "dial udp " + udp.LocalAddr().String(), "", ""},
		{names, "send " + udp.LocalAddr().String(), "", ""},
		{names, "send 127.0.0.1:9", "permission denied", "connect to 127.0.0.1:9"},
		{policy(t, &sdk.Permissions{}, Allowed{}), "dial tcp " + address, "permission denied", "connect to " + address},
	} {
		r := mustDo(t, test.p, test.what, test.fails)
		if test.refused != "" && !slices.Contains(r.refused, test.refused) {
			t.Errorf("%s: the host was told %q", test.what, r.refused)
		}
	}
}

func TestUnixSockets(t *testing.T) {
	in, out := t.TempDir(), t.TempDir()
	inside, outside := listen(t, "unix", filepath.Join(in, "s")), listen(t, "unix", filepath.Join(out, "s"))
	if err := os.Symlink(outside, filepath.Join(in, "link")); err != nil {
		t.Fatal(err)
	}
	abstract := listen(t, "unix", "@"+strings.ReplaceAll(in, "/", "-"))
	p := policy(t, nil, Allowed{Write: []string{in}})
	for _, test := range []struct{ what, fails string }{
		{"dial unix " + inside, ""},
		{"dial unix " + outside, "permission denied"},
		{"dial unix " + filepath.Join(in, "link"), "permission denied"},
		{"dial unix " + filepath.Join(in, "none"), "no such file"},
		{"dial unix nowhere", "no such file"},
		{"dial unix " + abstract, "permission denied"},
	} {
		mustDo(t, p, test.what, test.fails)
	}
}

func TestGroupsAndPrivileges(t *testing.T) {
	p := policy(t, nil, Allowed{Limits: Limits{OpenFiles: 64}})
	mustDo(t, p, "setsid", "not permitted")
	mustDo(t, p, "setpgid", "not permitted")
	mustDo(t, p, "signal "+strconv.Itoa(os.Getpid()), "not permitted")
	r := mustDo(t, p, "privileges", "NoNewPrivs:\t1")
	if os.Geteuid() == 0 && !strings.Contains(r.output, "CapEff:\t000000000000001f") &&
		!strings.Contains(r.output, "CapEff:\t0000000000000000") {
		t.Errorf("capabilities: %s", r.output)
	}
}

func TestOpenFiles(t *testing.T) {
	files := policy(t, nil, Allowed{Limits: Limits{OpenFiles: 64}})
	mustDo(t, files, "open 32", "")
	mustDo(t, files, "open 64", "too many open files")
}

// deafTCP returns the address of a listener that accepts nobody, and has no room for more who wait.
func deafTCP(t *testing.T) string {
	t.Helper()
	l, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Close(l) })
	if err := unix.Bind(l, &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}); err != nil {
		t.Fatal(err)
	}
	unix.Listen(l, 0)
	name, _ := unix.Getsockname(l)
	address := netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, 1}), uint16(name.(*unix.SockaddrInet4).Port)).String()
	fill(t, "tcp", address)
	return address
}

// deafUnix is deafTCP with a unix socket.
func deafUnix(t *testing.T, dir string) string {
	t.Helper()
	path := filepath.Join(dir, "deaf")
	l, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Close(l) })
	if err := unix.Bind(l, &unix.SockaddrUnix{Name: path}); err != nil {
		t.Fatal(err)
	}
	unix.Listen(l, 0)
	fill(t, "unix", path)
	return path
}

func fill(t *testing.T, network, address string) {
	t.Helper()
	c, err := net.Dial(network, address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
}

// A plugin that is stuck in a call that the host makes for it does not hold up the host.
func TestEndWhileConnecting(t *testing.T) {
	dir := t.TempDir()
	for what, allowed := range map[string]Allowed{
		"block " + deafTCP(t):            {Connect: []string{"127.0.0.1:*"}},
		"block-unix " + deafUnix(t, dir): {Write: []string{dir}},
	} {
		image, _ := os.Executable()
		cmd := exec.Command(image)
		cmd.Env = append(os.Environ(), actEnv+"="+what)
		process, err := New(false).Prepare(cmd, "test", policy(t, nil, allowed), Places{Image: image, Folder: t.TempDir()}, func(string) {})
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		if err := process.Started(t.Context()); err != nil {
			t.Fatal(err)
		}
		ended := make(chan struct{})
		go func() { cmd.Wait(); close(ended) }()
		process.sentry.awaitCall(t, ended)
		cmd.Process.Kill()
		<-ended
		if err := process.Close(); err != nil {
			t.Error(err)
		}
	}
}

// awaitCall waits until the process has the host connect for it.
func (s *sentry) awaitCall(t *testing.T, ended <-chan struct{}) {
	t.Helper()
	for {
		s.mu.Lock()
		n := len(s.sockets)
		s.mu.Unlock()
		if n > 0 {
			return
		}
		select {
		case <-ended:
			t.Fatal("it has ended")
		case <-time.After(time.Millisecond):
		}
	}
}

func TestCannotExecute(t *testing.T) {
	dir := t.TempDir()
	p := policy(t, nil, Allowed{Limits: Limits{OpenFiles: 64}})
	for name, test := range map[string]struct {
		mode os.FileMode
		is   error
	}{"not-executable": {0o600, unix.EACCES}, "no-program": {0o700, unix.ENOEXEC}} {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte("neither"), test.mode); err != nil {
			t.Fatal(err)
		}
		_, err := begin(t, New(false), p, exec.Command(path), "list /")
		if err == nil || !strings.Contains(err.Error(), "execute it") || err.(interface{ Unwrap() error }).Unwrap() != test.is {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestScript(t *testing.T) {
	script := filepath.Join(t.TempDir(), "script")
	if err := os.WriteFile(script, []byte("#!/bin/sh\necho done\n"), 0o700); err != nil {
		t.Fatal(err)
	}
	r, err := begin(t, New(false), policy(t, &sdk.Permissions{}, Allowed{}), exec.Command(script), "-")
	if err != nil || r.output != "done\n" {
		t.Errorf("%v, %q", err, r.output)
	}
}

func TestNotConfined(t *testing.T) {
	cmd := exec.Command("/bin/true")
	p := policy(t, nil, Allowed{})
	process, err := New(false).Prepare(cmd, "test", p, Places{}, nil)
	if process != nil || err != nil || cmd.Path != "/bin/true" {
		t.Errorf("%v, %v, %s", process, err, cmd.Path)
	}
	if err := process.Started(t.Context()); err != nil {
		t.Error(err)
	}
	if err := process.Close(); err != nil {
		t.Error(err)
	}
}

func TestNames(t *testing.T) {
	answers := [][]netip.Addr{{netip.MustParseAddr("10.0.0.1")}, {netip.MustParseAddr("10.0.0.2")}}
	n := newNames(func(_ context.Context, _, name string) ([]netip.Addr, error) {
		if name != "s3.example" || len(answers) == 0 {
			return nil, &net.DNSError{IsNotFound: true}
		}
		a := answers[0]
		answers = answers[1:]
		return a, nil
	})
	defer n.cancel()
	one, two := netip.MustParseAddr("10.0.0.1"), netip.MustParseAddr("10.0.0.2")
	if !n.have("s3.example", one) || n.have("s3.example", two) || n.have("other.example", one) {
		t.Error("the first answer is not what counts")
	}
	clear(n.asked)
	if !n.have("s3.example", two) || !n.have("s3.example", one) {
		t.Error("what a name had does not stay")
	}
}

func TestNameServers(t *testing.T) {
	got := nameServers("# comment\nnameserver 10.0.0.2\nnameserver fe80::1%eth0\nnameserver nonsense\nsearch a.example\n")
	if want := []string{"10.0.0.2:53", "[fe80::1]:53"}; len(got) != 2 || got[0].String() != want[0] || got[1].String() != want[1] {
		t.Errorf("%v", got)
	}
	if got := nameServers(""); len(got) != 2 {
		t.Errorf("%v", got)
	}
}

// What stands in a group of this machine is a fake: it has no controllers to give.
func TestCgroupIsJoined(t *testing.T) {
	dir := fakeGroup(t, "cpu memory pids")
	c := New(true)
	c.useCgroups(dir)
	joined := ""
	c.machine.cgroups.remove = func(group string) error {
		joined = content(t, group, "cgroup.procs")
		return os.RemoveAll(group)
	}
	r := do(t, c, policy(t, nil, Allowed{Limits: Limits{Memory: 1 << 20}}), "list /")
	if pid, err := strconv.Atoi(joined); err != nil || pid == os.Getpid() || !strings.HasSuffix(r.output, "done\n") {
		t.Errorf("joined by %q: %s", joined, r.output)
	}
}
