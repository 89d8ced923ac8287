package confine

import "fmt"

// machine is what the kernel offers this process.
type machine struct {
	landlock int    // version of its interface, 0 if there is none
	seccomp  string // why system calls cannot be filtered; "" if they can
	notify   string // why connections cannot be looked at one by one; "" if they can
	cgroups  *cgroups
	noGroups string // why there are no cgroups; "" if there are
}

// The versions of Landlock's interface that brought what is used here.
const (
	landlockFiles    = 1
	landlockRefer    = 2
	landlockTruncate = 3
	landlockNet      = 4
	landlockScope    = 6
)

// reserved is what programs, above all those in Go, ask of the kernel and do not use. RLIMIT_DATA counts it.
const reserved = 128 << 20

const noLandlock = "this kernel has no Landlock"

// enforces says whether, and by what, something is in force.
func (m machine) enforces(item string, p Policy) (bool, string) {
	group := m.noGroups == ""
	switch item {
	case "read", "write":
		switch {
		case m.landlock == 0:
			return false, noLandlock
		case item == "write" && m.landlock < landlockTruncate:
			return true, fmt.Sprintf("Landlock %d, which does not keep files from being made empty", m.landlock)
		}
		return true, fmt.Sprintf("Landlock %d", m.landlock)
	case "connect":
		return m.enforcesConnect(p)
	case "memory":
		if group {
			return true, "cgroup, for all its processes together"
		}
		return true, "RLIMIT_DATA, for each process by itself, with 128 MiB for what is reserved and not used; " + m.noGroups
	case "cpu", "processes":
		if group {
			return true, "cgroup"
		}
		if item == "processes" {
			return false, m.noGroups + ", and RLIMIT_NPROC counts all processes of the user"
		}
		return false, m.noGroups
	case "open files":
		return true, "RLIMIT_NOFILE, for each process by itself"
	case "children":
		switch {
		case m.seccomp == "":
			return true, "they cannot leave its process group (seccomp)"
		case group:
			return true, "cgroup.kill"
		}
		return false, "one that leaves its process group lives on; " + m.seccomp
	}
	if m.landlock >= landlockScope {
		return true, "no_new_privs; no signals to others (Landlock)"
	}
	return true, "no_new_privs"
}

func (m machine) enforcesConnect(p Policy) (bool, string) {
	switch {
	case m.notify == "" && p.datagrams():
		return true, "the host makes each connection (seccomp); names are looked up by the host; datagrams that sendmsg sends are not looked at"
	case m.notify == "":
		return true, "the host makes each connection (seccomp); there are no datagrams"
	case m.landlock >= landlockNet:
		return true, "only the ports of TCP (Landlock), not the addresses: " + m.notify
	}
	return false, m.notify
}

// datagrams reports whether the plugin has to have UDP: to look up names.
func (p Policy) datagrams() bool {
	for _, r := range p.connect {
		if r.Name != "" || !r.Network.IsValid() {
			return true
		}
	}
	return false
}
