package confine

import (
	"errors"
	"runtime"
	"unsafe"

	"golang.org/x/sys/unix"
)

// listenerFollows is the message that brings the host the descriptor on which it is asked to connect.
const listenerFollows = 'L'

// architecture is what the kernel calls this one, 0 if filters are not made for it.
func architecture() uint32 {
	switch runtime.GOARCH {
	case "amd64":
		return unix.AUDIT_ARCH_X86_64
	case "arm64":
		return unix.AUDIT_ARCH_AARCH64
	}
	return 0
}

// Where struct seccomp_data has its members.
const (
	atNumber = 0
	atArch   = 4
	atArgs   = 16
)

// The instructions of classic BPF that are used.
const (
	load        = unix.BPF_LD | unix.BPF_W | unix.BPF_ABS
	andWith     = unix.BPF_ALU | unix.BPF_AND | unix.BPF_K
	jumpEqual   = unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K
	jumpAtLeast = unix.BPF_JMP | unix.BPF_JGE | unix.BPF_K
	jumpSet     = unix.BPF_JMP | unix.BPF_JSET | unix.BPF_K
	giveBack    = unix.BPF_RET | unix.BPF_K
)

func op(code uint16, k uint32) unix.SockFilter { return unix.SockFilter{Code: code, K: k} }

// jump skips so many instructions if the test holds, or does not.
func jump(code uint16, k uint32, holds, not uint8) unix.SockFilter {
	return unix.SockFilter{Code: code, Jt: holds, Jf: not, K: k}
}

var allow = op(giveBack, unix.SECCOMP_RET_ALLOW)

func refuse(e unix.Errno) unix.SockFilter { return op(giveBack, unix.SECCOMP_RET_ERRNO|uint32(e)) }

// argument is where the lower half of an argument lies; both architectures are little endian.
func argument(n uint32) uint32 { return atArgs + 8*n }

// filterProgram refuses what leads round the process group and round the filter itself; with notify it refuses sockets of other kinds than
// stream sockets and, if datagrams are allowed, UDP, and leaves connections to the host.
func filterProgram(notify, datagrams bool) ([]unix.SockFilter, error) {
	arch := architecture()
	if arch == 0 {
		return nil, errors.New("system calls cannot be filtered on " + runtime.GOARCH)
	}
	program := []unix.SockFilter{op(load, atArch), jump(jumpEqual, arch, 1, 0), refuse(unix.ENOSYS), op(load, atNumber)}
	if runtime.GOARCH == "amd64" {
		program = append(program, jump(jumpAtLeast, x32, 0, 1), refuse(unix.ENOSYS))
	}
	on := func(number uint32, body ...unix.SockFilter) {
		program = append(append(program, jump(jumpEqual, number, 0, uint8(len(body)))), body...)
	}
	on(unix.SYS_SETSID, refuse(unix.EPERM))
	on(unix.SYS_SETPGID, refuse(unix.EPERM))
	on(unix.SYS_IO_URING_SETUP, refuse(unix.ENOSYS))
	if notify {
		ask := op(giveBack, unix.SECCOMP_RET_USER_NOTIF)
		on(unix.SYS_CONNECT, ask)
		on(unix.SYS_SENDTO, op(load, argument(4)), jump(jumpEqual, 0, 0, 3), op(load, argument(4)+4), jump(jumpEqual, 0, 0, 1), allow, ask)
		on(unix.SYS_SENDMSG, op(load, argument(2)), jump(jumpSet, unix.MSG_FASTOPEN, 0, 1), refuse(unix.EOPNOTSUPP), allow)
		on(unix.SYS_SENDMMSG, op(load, argument(3)), jump(jumpSet, unix.MSG_FASTOPEN, 0, 1), refuse(unix.EOPNOTSUPP), allow)
		on(unix.SYS_SOCKET, socketRules(datagrams)...)
	}
	return append(program, allow), nil
}

// x32 is the first number of a system call of the x32 interface.
const x32 = 0x40000000

// socketRules say which sockets there may be.
func socketRules(datagrams bool) []unix.SockFilter {
	var rules []unix.SockFilter
	// kind allows sockets of a family, of a type, with one of the protocols.
	kind := func(family, typ uint32, protocols ...uint32) {
		rule := []unix.SockFilter{op(load, argument(1)), op(andWith, 0xf), jump(jumpEqual, typ, 0, uint8(3+len(protocols))), op(load, argument(2))}
		for i, p := range protocols {
			rule = append(rule, jump(jumpEqual, p, uint8(len(protocols)-i), 0))
		}
		// What follows is passed by if none matches, and is reached by the jumps above.
		rule = append(rule, refuse(unix.EACCES), allow)
		rules = append(append(rules, op(load, argument(0)), jump(jumpEqual, family, 0, uint8(len(rule)))), rule...)
	}
	for _, family := range []uint32{unix.AF_INET, unix.AF_INET6} {
		kind(family, unix.SOCK_STREAM, 0, unix.IPPROTO_TCP, unix.IPPROTO_MPTCP)
		if datagrams {
			kind(family, unix.SOCK_DGRAM, 0, unix.IPPROTO_UDP)
		}
	}
	kind(unix.AF_UNIX, unix.SOCK_STREAM, 0)
	kind(unix.AF_NETLINK, unix.SOCK_RAW, unix.NETLINK_ROUTE)
	kind(unix.AF_NETLINK, unix.SOCK_DGRAM, unix.NETLINK_ROUTE)
	return append(rules, refuse(unix.EACCES))
}

// installFilter filters the system calls of this thread, and returns the descriptor on which the host is asked.
func installFilter(program []unix.SockFilter, notify bool) (listener int, err error) {
	flags := uintptr(0)
	if notify {
		flags = listenerFlags
	}
	prog := unix.SockFprog{Len: uint16(len(program)), Filter: &program[0]}
	fd, _, errno := unix.Syscall(unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER, flags, uintptr(unsafe.Pointer(&prog)))
	runtime.KeepAlive(program)
	if errno != 0 {
		return -1, errno
	}
	return int(fd), nil
}

// listenerFlags: a call that the host has begun to answer is broken off by nothing but the death of the caller, so it is made once.
const listenerFlags = unix.SECCOMP_FILTER_FLAG_NEW_LISTENER | unix.SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV

// hasFilter says whether the kernel takes filters with these flags: it looks at the flags before the program, which is not there.
func hasFilter(flags uintptr) bool {
	_, _, errno := unix.Syscall(unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER, flags, 0)
	return errno == unix.EFAULT
}
