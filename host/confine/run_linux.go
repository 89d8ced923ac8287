package confine

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"runtime"
	"strconv"
	"syscall"

	"golang.org/x/sys/unix"
)

// reportFD is the socket on which Run tells the host how it goes.
const reportFD = 3

// exitRefused is the exit status of a plugin that could not be executed, as shells have it.
const exitRefused = 126

// Run is the whole of a program whose first argument is Argument: it gives up what the plugin is not to have, and becomes the plugin. It
// has to be called before the program does anything else. args are those behind Argument. It does not return.
func Run(args []string) {
	// All that follows holds for this thread, and then for the plugin: the other threads end when the plugin is executed.
	runtime.LockOSThread()
	unix.CloseOnExec(reportFD)
	var s spec
	doing, err := "read what to do", errors.New("no arguments")
	if len(args) == 1 {
		err = json.Unmarshal([]byte(args[0]), &s)
	}
	if err == nil {
		doing, err = s.become()
	}
	report(doing, err)
	os.Exit(exitRefused)
}

func report(doing string, err error) {
	f := failure{Doing: doing, Text: err.Error()}
	errors.As(err, &f.Errno)
	message, _ := json.Marshal(f)
	unix.Write(reportFD, message)
}

// become returns only if it fails, with what failed.
func (s spec) become() (doing string, err error) {
	for _, step := range []struct {
		doing string
		do    func() error
	}{
		{"die with the host", s.dieWithParent},
		{"join its cgroup", s.joinCgroup},
		{"limit resources", s.limit},
		{"give up capabilities", dropCapabilities},
		{"set no_new_privs", func() error { return unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) }},
		{"confine by Landlock", s.landlock},
		{"filter system calls", s.filter},
		{"execute it", func() error { return syscall.Exec(s.Image, s.Args, os.Environ()) }},
	} {
		if err := step.do(); err != nil {
			return step.doing, err
		}
	}
	return "", nil
}

// dieWithParent asks for that once more: what the host asked for was for the first thread of the process.
func (s spec) dieWithParent() error {
	if err := unix.Prctl(unix.PR_SET_PDEATHSIG, uintptr(unix.SIGKILL), 0, 0, 0); err != nil {
		return err
	}
	if os.Getppid() != s.Parent {
		return errors.New("the host has gone")
	}
	return nil
}

func (s spec) joinCgroup() error {
	if s.Cgroup == "" {
		return nil
	}
	return os.WriteFile(s.Cgroup, []byte(strconv.Itoa(os.Getpid())), 0o600)
}

func (s spec) limit() error {
	// A dump of the plugin's memory would hold the operator's secrets.
	limits := []struct {
		resource int
		most     uint64
		wanted   bool
	}{{unix.RLIMIT_CORE, 0, true}, {unix.RLIMIT_DATA, s.Data, s.Data > 0}, {unix.RLIMIT_NOFILE, s.OpenFiles, s.OpenFiles > 0}}
	for _, l := range limits {
		if !l.wanted {
			continue
		}
		var now syscall.Rlimit
		if err := syscall.Getrlimit(l.resource, &now); err != nil {
			return err
		}
		most := min(l.most, now.Max)
		// The package syscall has to know, so that it does not set the former limit again when it executes the plugin.
		if err := syscall.Setrlimit(l.resource, &syscall.Rlimit{Cur: most, Max: most}); err != nil {
			return err
		}
	}
	return nil
}

// keptCapabilities are those of root over files, which the plugin of a host that runs as root would miss.
var keptCapabilities = map[uintptr]bool{unix.CAP_CHOWN: true, unix.CAP_DAC_OVERRIDE: true, unix.CAP_DAC_READ_SEARCH: true,
	unix.CAP_FOWNER: true, unix.CAP_FSETID: true}

// dropCapabilities keeps the plugin from having others.
func dropCapabilities() error {
	if os.Geteuid() != 0 {
		return nil
	}
	for c := uintptr(0); c <= 63; c++ {
		if keptCapabilities[c] {
			continue
		}
		switch err := unix.Prctl(unix.PR_CAPBSET_DROP, c, 0, 0, 0); {
		case err == unix.EINVAL: // there are no more
			return nil
		case err == unix.EPERM: // nothing to drop, or nothing that may drop it
			return nil
		case err != nil:
			return err
		}
	}
	return nil
}

// landlock confines this thread.
func (s spec) landlock() error {
	if s.Files == 0 && s.Net == 0 && s.Scopes == 0 {
		return nil
	}
	ruleset, err := createRuleset(s.Files, s.Net, s.Scopes)
	if err != nil {
		return fmt.Errorf("make ruleset: %w", err)
	}
	defer unix.Close(ruleset)
	for _, r := range s.Paths {
		err := allowPath(ruleset, r.Path, r.Access)
		if err != nil && !(r.Optional && (errors.Is(err, fs.ErrNotExist) || errors.Is(err, fs.ErrPermission) || errors.Is(err, unix.ENOTDIR))) {
			return fmt.Errorf("%s: %w", r.Path, err)
		}
	}
	for _, port := range s.Ports {
		if err := allowPort(ruleset, port); err != nil {
			return fmt.Errorf("port %d: %w", port, err)
		}
	}
	return restrictSelf(ruleset)
}

func (s spec) filter() error {
	if !s.Seccomp {
		return nil
	}
	program, err := filterProgram(s.Notify, s.Datagrams)
	if err != nil {
		return err
	}
	listener, err := installFilter(program, s.Notify)
	if err != nil || !s.Notify {
		return err
	}
	return unix.Sendmsg(reportFD, []byte{listenerFollows}, unix.UnixRights(listener), nil, 0)
}
