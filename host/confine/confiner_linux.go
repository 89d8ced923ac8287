package confine

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// Confiner confines processes. It is safe for concurrent use.
type Confiner struct {
	machine machine
}

// New returns a Confiner that knows what this machine offers. limits says whether any plugin has limits: only then does the host look
// for control groups, and moves to one of its own.
func New(limits bool) *Confiner {
	c := &Confiner{machine{landlock: landlockVersion(), noGroups: "no plugin has limits"}}
	switch {
	case architecture() == 0:
		c.machine.seccomp = "system calls are not filtered on this architecture"
	case !hasFilter(0):
		c.machine.seccomp = "this kernel does not filter system calls"
	}
	c.machine.notify = c.machine.seccomp
	if c.machine.notify == "" && !hasFilter(listenerFlags) {
		c.machine.notify = "this kernel is too old to have the host make connections (Linux 5.19)"
	}
	if limits {
		c.useCgroups(ownCgroup())
	}
	return c
}

func (c *Confiner) useCgroups(dir string) {
	groups, err := openCgroups(dir)
	if err != nil {
		c.machine.noGroups = err.Error()
		return
	}
	c.machine.cgroups, c.machine.noGroups = groups, ""
}

// ownCgroup is the folder of this process's group, "" if there is none.
func ownCgroup() string {
	mounts, _ := os.ReadFile("/proc/self/mounts")
	groups, _ := os.ReadFile("/proc/self/cgroup")
	for mount := range strings.Lines(string(mounts)) {
		fields := strings.Fields(mount)
		if len(fields) < 3 || fields[2] != "cgroup2" {
			continue
		}
		for group := range strings.Lines(string(groups)) {
			if path, ok := strings.CutPrefix(strings.TrimSpace(group), "0::"); ok {
				return filepath.Join(fields[1], path)
			}
		}
	}
	return ""
}

// Places are where a plugin is and works.
type Places struct {
	Image  string // what is executed
	Folder string // for its sockets and scratch files
}

// Process is a confined process, nil for one that is not confined. Its methods are not called concurrently.
type Process struct {
	confiner *Confiner
	policy   Policy
	folder   string
	group    string   // "" if it has none
	report   *os.File // the host's end
	theirs   *os.File // until the process has it
	sentry   *sentry
	refused  func(what string)
}

// Prepare makes cmd, which would execute the plugin, begin as Run instead. refused is told what the plugin tries and must not; it may be
// called until Close has returned.
func (c *Confiner) Prepare(cmd *exec.Cmd, name string, p Policy, at Places, refused func(what string)) (_ *Process, err error) {
	if !p.confines() {
		return nil, nil
	}
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("confine: %w", err)
	}
	unix.SetNonblock(fds[0], true)
	process := &Process{confiner: c, policy: p, folder: at.Folder, report: os.NewFile(uintptr(fds[0]), "report"),
		theirs: os.NewFile(uintptr(fds[1]), "report"), refused: refused}
	s := c.spec(p, at)
	s.Args, s.Parent = cmd.Args, os.Getpid()
	if c.machine.cgroups != nil && (p.Memory > 0 || p.CPU > 0 || p.Processes > 0) {
		if process.group, err = c.machine.cgroups.make(name, p.Limits); err != nil {
			return nil, errors.Join(err, process.Close())
		}
		s.Cgroup = filepath.Join(process.group, "cgroup.procs")
	}
	// The host's own file may have been replaced since it was started.
	cmd.Path, cmd.Args, cmd.ExtraFiles = "/proc/self/exe", []string{os.Args[0], Argument, s.encode()}, []*os.File{process.theirs}
	return process, nil
}

// spec is what has to be done for a policy, without what is known only at the start.
func (c *Confiner) spec(p Policy, at Places) spec {
	m := c.machine
	s := spec{Image: at.Image, OpenFiles: uint64(p.OpenFiles), Seccomp: m.seccomp == ""}
	if m.cgroups == nil && p.Memory > 0 {
		s.Data = uint64(p.Memory) + reserved
	}
	if p.read != nil && m.landlock >= landlockFiles {
		s.Files |= toRead
	}
	if p.write != nil && m.landlock >= landlockFiles {
		s.Files |= writeAccess(m.landlock)
	}
	if s.Files != 0 {
		s.Paths = paths(p, at, s.Files)
	}
	if m.landlock >= landlockScope {
		s.Scopes = unix.LANDLOCK_SCOPE_SIGNAL | unix.LANDLOCK_SCOPE_ABSTRACT_UNIX_SOCKET
	}
	s.Notify = m.notify == "" && (p.connect != nil || p.write != nil)
	s.Datagrams = p.connect == nil || p.datagrams()
	if p.connect != nil && !s.Notify && m.landlock >= landlockNet {
		s.Net, s.Ports = ports(p)
	}
	return s
}

// ports are those that Landlock allows; it confines nothing if a rule has all of them.
func ports(p Policy) (kinds uint64, allowed []uint16) {
	for _, r := range p.connect {
		if r.Port == 0 {
			return 0, nil
		}
		allowed = append(allowed, r.Port)
	}
	if p.datagrams() {
		allowed = append(allowed, domainPort)
	}
	slices.Sort(allowed)
	return unix.LANDLOCK_ACCESS_NET_CONNECT_TCP, slices.Compact(allowed)
}

// What every plugin can read: libraries, certificates, time zones, how names are looked up, itself. A script needs its interpreter too.
var (
	everyones = []string{"/lib", "/lib64", "/usr/lib", "/usr/lib64", "/usr/local/lib", "/usr/share/zoneinfo", "/usr/share/ca-certificates",
		"/usr/local/share/ca-certificates", "/etc/ssl", "/etc/pki", "/etc/ca-certificates", "/etc/resolv.conf", "/etc/hosts",
		"/etc/nsswitch.conf", "/etc/host.conf", "/etc/gai.conf", "/etc/services", "/etc/protocols", "/etc/localtime", "/etc/ld.so.cache",
		"/etc/mime.types", "/dev/null", "/dev/zero", "/dev/full", "/dev/random", "/dev/urandom", "/proc/self",
		"/sys/kernel/mm/transparent_hugepage", "/sys/devices/system/cpu"}
	scripts = []string{"/usr", "/bin", "/sbin"}
)

// paths are the rules for files. Of what stands in them, only the kinds count that are confined.
func paths(p Policy, at Places, kinds uint64) []pathRule {
	var rules []pathRule
	add := func(access uint64, optional bool, list ...string) {
		for _, path := range list {
			rules = append(rules, pathRule{Path: path, Access: access & kinds, Optional: optional})
		}
	}
	everything := uint64(toRead) | kinds
	add(toRead, true, everyones...)
	if isScript(at.Image) {
		add(toRead, true, scripts...)
	}
	add(toRead, false, at.Image)
	add(everything, false, at.Folder)
	add(everything, true, "/dev/null")
	add(toRead, true, p.read...)
	add(everything, true, p.write...)
	return slices.DeleteFunc(rules, func(r pathRule) bool { return r.Access == 0 })
}

func isScript(path string) bool {
	f, err := os.Open(path)
	if err != nil {
		return false
	}
	defer f.Close()
	head := make([]byte, 2)
	_, err = io.ReadFull(f, head)
	return err == nil && bytes.Equal(head, []byte("#!"))
}

// Started waits until the process executes the plugin, or cannot. It is called once the process has been started.
func (p *Process) Started(ctx context.Context) error {
	if p == nil {
		return nil
	}
	p.theirs.Close()
	p.theirs = nil
	conn, err := net.FileConn(p.report)
	if err != nil {
		return fmt.Errorf("confine: %w", err)
	}
	defer conn.Close()
	defer context.AfterFunc(ctx, func() { conn.SetReadDeadline(time.Unix(1, 0)) })()
	message, control := make([]byte, 4096), make([]byte, unix.CmsgSpace(4))
	for {
		n, oobn, _, _, err := conn.(*net.UnixConn).ReadMsgUnix(message, control)
		switch {
		case errors.Is(err, io.EOF), err == nil && n == 0:
			return nil
		case ctx.Err() != nil:
			return context.Cause(ctx)
		case err != nil:
			return fmt.Errorf("confine: %w", err)
		case oobn > 0:
			if err := p.watch(control[:oobn]); err != nil {
				return fmt.Errorf("confine: %w", err)
			}
			continue
		}
		var f failure
		if err := json.Unmarshal(message[:n], &f); err != nil {
			return fmt.Errorf("confine: %w", err)
		}
		return f.err()
	}
}

// watch begins to make the process's connections.
func (p *Process) watch(control []byte) error {
	messages, err := unix.ParseSocketControlMessage(control)
	if err != nil || len(messages) != 1 {
		return fmt.Errorf("no descriptor came: %w", err)
	}
	fds, err := unix.ParseUnixRights(&messages[0])
	if err != nil || len(fds) != 1 {
		return fmt.Errorf("no descriptor came: %w", err)
	}
	p.sentry, err = newSentry(fds[0], p.policy, p.folder, p.refused)
	return err
}

// Close ends what is left of the process's children, and what the host does for it. It is called when the process has ended, or was never
// started.
func (p *Process) Close() error {
	if p == nil {
		return nil
	}
	if p.theirs != nil {
		p.theirs.Close()
	}
	p.report.Close()
	var err error
	if p.group != "" {
		err = p.confiner.machine.cgroups.end(p.group)
	}
	if p.sentry != nil {
		p.sentry.close()
	}
	return err
}
