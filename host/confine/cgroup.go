package confine

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"
)

// cgroups makes control groups (version 2) below the host's own.
type cgroups struct {
	dir    string                   // that the groups are made in
	remove func(group string) error // a group without processes
}

// controllers are what the limits need.
var controllers = []string{"cpu", "memory", "pids"}

// openCgroups prepares dir, the host's own group, for groups in it: the host moves to one of them, since only a group without processes
// can hand controllers on.
func openCgroups(dir string) (*cgroups, error) {
	have, err := os.ReadFile(filepath.Join(dir, "cgroup.controllers"))
	if err != nil {
		return nil, errors.New("there is no cgroup v2 here")
	}
	for _, c := range controllers {
		if !slices.Contains(strings.Fields(string(have)), c) {
			return nil, errors.New("no cgroup v2 controller is writable here")
		}
	}
	host := filepath.Join(dir, "towpath-host")
	if err := os.Mkdir(host, 0o755); err != nil && !errors.Is(err, fs.ErrExist) {
		return nil, fmt.Errorf("no cgroup v2 controller is writable here: %w", err)
	}
	if err := write(host, "cgroup.procs", strconv.Itoa(os.Getpid())); err != nil {
		return nil, fmt.Errorf("the host cannot move within its cgroup: %w", err)
	}
	if err := write(dir, "cgroup.subtree_control", "+"+strings.Join(controllers, " +")); err != nil {
		return nil, fmt.Errorf("the host's cgroup hands no controllers on (Delegate=yes in a systemd unit does): %w", err)
	}
	return &cgroups{dir: dir, remove: os.Remove}, nil
}

// make makes a group with limits, and returns its folder.
func (c *cgroups) make(name string, l Limits) (string, error) {
	group, err := os.MkdirTemp(c.dir, "towpath-"+name+"-")
	if err != nil {
		return "", fmt.Errorf("make cgroup: %w", err)
	}
	const period = 100_000 // microseconds
	for _, set := range []struct {
		wanted      bool
		file, value string
	}{
		{l.Memory > 0, "memory.max", strconv.FormatInt(l.Memory, 10)},
		{l.CPU > 0, "cpu.max", fmt.Sprintf("%d %d", int64(l.CPU*period), period)},
		{l.Processes > 0, "pids.max", strconv.Itoa(l.Processes)},
	} {
		if !set.wanted {
			continue
		}
		if err := write(group, set.file, set.value); err != nil {
			return "", errors.Join(fmt.Errorf("limit cgroup: %w", err), c.remove(group))
		}
	}
	if l.Memory > 0 {
		write(group, "memory.swap.max", "0") // not there without swap
	}
	return group, nil
}

// end kills what is left in a group and removes it. A killed process needs a moment to leave.
func (c *cgroups) end(group string) error {
	if err := write(group, "cgroup.kill", "1"); err != nil {
		return fmt.Errorf("end cgroup: %w", err)
	}
	var err error
	for wait := time.Millisecond; wait < time.Second; wait *= 2 {
		if err = c.remove(group); err == nil || errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		time.Sleep(wait)
	}
	return fmt.Errorf("end cgroup: %w", err)
}

// write writes to a file of a group, which is never one that it makes in a real one.
func write(group, file, value string) error {
	return os.WriteFile(filepath.Join(group, file), []byte(value), 0o600)
}
