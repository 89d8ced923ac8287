package confine

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// sentry makes the connections of one confined process for it: the process's call stops, the sentry reads the address, judges what it has
// read, connects the process's socket to that, and gives the result back. So the process cannot change the address after it was judged.
type sentry struct {
	listener *os.File
	judge    judge
	slots    chan struct{} // bounds what is done at a time, and with it the host's threads
	calls    sync.WaitGroup

	mu      sync.Mutex // guards the rest
	closed  bool
	sockets map[int]bool // those that are being connected
}

// maxCalls is how many connections of one process are made at a time. Further ones wait.
const maxCalls = 32

// request is struct seccomp_notif.
type request struct {
	ID     uint64
	PID    uint32 // of the thread
	Flags  uint32
	Number int32
	Arch   uint32
	IP     uint64
	Args   [6]uint64
}

// answer is struct seccomp_notif_resp.
type answer struct {
	ID    uint64
	Value int64
	Error int32 // negative
	Flags uint32
}

// idValid is SECCOMP_IOCTL_NOTIF_ID_VALID.
const idValid = 0x40082102

// newSentry owns the listener.
func newSentry(listener int, p Policy, folder string, refused func(string)) (*sentry, error) {
	if err := unix.SetNonblock(listener, true); err != nil {
		return nil, errors.Join(err, unix.Close(listener))
	}
	s := &sentry{listener: os.NewFile(uintptr(listener), "seccomp"), judge: newJudge(p, folder, refused),
		slots: make(chan struct{}, maxCalls), sockets: map[int]bool{}}
	raw, err := s.listener.SyscallConn()
	if err != nil {
		return nil, errors.Join(err, s.listener.Close())
	}
	s.calls.Go(func() { s.run(raw) })
	return s, nil
}

// close breaks off what is being done.
func (s *sentry) close() {
	s.listener.Close()
	s.judge.names.cancel()
	s.mu.Lock()
	s.closed = true
	for fd := range s.sockets {
		unix.Shutdown(fd, unix.SHUT_RDWR)
	}
	s.mu.Unlock()
	s.calls.Wait()
}

// run takes requests until the process has ended, or the listener is closed.
func (s *sentry) run(raw syscall.RawConn) {
	for {
		var r request
		ended, took := false, false
		err := raw.Read(func(fd uintptr) bool {
			ready := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
			n, err := unix.Poll(ready, 0)
			switch {
			case err == unix.EINTR:
				return true
			case n == 0:
				return false
			case ready[0].Revents&unix.POLLIN == 0:
				ended = true
				return true
			}
			_, _, errno := unix.Syscall(unix.SYS_IOCTL, fd, unix.SECCOMP_IOCTL_NOTIF_RECV, uintptr(unsafe.Pointer(&r)))
			took = errno == 0 // otherwise the caller has gone
			return true
		})
		if err != nil || ended {
			return
		}
		if !took {
			continue
		}
		s.slots <- struct{}{}
		s.calls.Go(func() {
			defer func() { <-s.slots }()
			s.serve(raw, r)
		})
	}
}

func (s *sentry) serve(raw syscall.RawConn, r request) {
	value, err := s.call(raw, r)
	a := answer{ID: r.ID, Value: value}
	if err != nil {
		a.Value, a.Error = 0, -int32(errnoOf(err))
	}
	s.ioctl(raw, unix.SECCOMP_IOCTL_NOTIF_SEND, unsafe.Pointer(&a)) // nobody is there if it fails
}

func errnoOf(err error) unix.Errno {
	var errno unix.Errno
	if !errors.As(err, &errno) {
		return unix.EACCES
	}
	return errno
}

func (s *sentry) ioctl(raw syscall.RawConn, what uintptr, of unsafe.Pointer) error {
	var errno unix.Errno
	err := raw.Control(func(fd uintptr) { _, _, errno = unix.Syscall(unix.SYS_IOCTL, fd, what, uintptr(of)) })
	if err == nil && errno != 0 {
		err = errno
	}
	return err
}

// call does what the process asks for, if it may.
func (s *sentry) call(raw syscall.RawConn, r request) (int64, error) {
	pidfd, err := unix.PidfdOpen(int(r.PID), unix.PIDFD_THREAD)
	if err == unix.EINVAL { // before Linux 6.9
		pidfd, err = openProcessOf(int(r.PID))
	}
	if err != nil {
		return 0, err
	}
	defer unix.Close(pidfd)
	c := caller{pid: int(r.PID), alive: func() error { return s.ioctl(raw, idValid, unsafe.Pointer(&r.ID)) }}
	// From here on the thread that pidfd stands for is the one that asks.
	if err := c.alive(); err != nil {
		return 0, err
	}
	fd, err := unix.PidfdGetfd(pidfd, int(r.Args[0]), 0)
	if err != nil {
		return 0, err
	}
	defer unix.Close(fd)
	if !s.begin(fd) {
		return 0, unix.EACCES
	}
	defer s.end(fd)
	switch r.Number {
	case unix.SYS_CONNECT:
		return 0, s.connect(c, fd, r.Args[1], r.Args[2])
	case unix.SYS_SENDTO:
		return s.sendTo(c, fd, r.Args)
	}
	return 0, unix.ENOSYS
}

// openProcessOf returns a descriptor of a thread's process, whose descriptors threads share.
func openProcessOf(thread int) (int, error) {
	status, err := os.ReadFile("/proc/" + strconv.Itoa(thread) + "/status")
	if err != nil {
		return -1, unix.ESRCH
	}
	for line := range strings.Lines(string(status)) {
		if id, ok := strings.CutPrefix(line, "Tgid:"); ok {
			pid, err := strconv.Atoi(strings.TrimSpace(id))
			if err != nil {
				return -1, unix.ESRCH
			}
			return unix.PidfdOpen(pid, 0)
		}
	}
	return -1, unix.ESRCH
}

func (s *sentry) begin(fd int) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.closed {
		s.sockets[fd] = true
	}
	return !s.closed
}

func (s *sentry) end(fd int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.sockets, fd)
}

// caller is a thread that waits for the sentry.
type caller struct {
	pid   int
	alive func() error
}

// read copies memory of the caller.
func (c caller) read(at, n uint64) ([]byte, error) {
	if n == 0 {
		return nil, nil
	}
	b := make([]byte, n)
	local := []unix.Iovec{{Base: &b[0]}}
	local[0].SetLen(int(n))
	got, err := unix.ProcessVMReadv(c.pid, local, []unix.RemoteIovec{{Base: uintptr(at), Len: int(n)}}, 0)
	if err != nil {
		return nil, err
	}
	if got != int(n) {
		return nil, unix.EFAULT
	}
	return b, c.alive() // otherwise it was another's memory
}

// address reads a socket address.
func (c caller) address(at, n uint64) ([]byte, error) {
	if n < 2 || n > unix.SizeofSockaddrAny {
		return nil, unix.EINVAL
	}
	return c.read(at, uint64(uint32(n)))
}

func (s *sentry) connect(c caller, fd int, at, n uint64) error {
	address, err := c.address(at, n)
	if err != nil {
		return err
	}
	switch family := binary.NativeEndian.Uint16(address); family {
	case unix.AF_UNSPEC: // ends a connection
		return connect(fd, address)
	case unix.AF_UNIX:
		return s.connectUnix(c, fd, address)
	default:
		if err := s.judge.network(family, address); err != nil {
			return err
		}
		return connect(fd, address)
	}
}

// connectUnix connects to a socket in one of the folders. It is held by a descriptor from the check on, so its name can change.
func (s *sentry) connectUnix(c caller, fd int, address []byte) error {
	name := string(address[2:])
	if name == "" || name[0] == 0 {
		return s.judge.refuse("an abstract unix socket")
	}
	for i := range name {
		if name[i] == 0 {
			name = name[:i]
			break
		}
	}
	if !filepath.IsAbs(name) {
		name = fmt.Sprintf("/proc/%d/cwd/%s", c.pid, name)
	}
	target, err := unix.Open(name, unix.O_PATH|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(target)
	if err := c.alive(); err != nil {
		return err
	}
	held := fmt.Sprintf("/proc/self/fd/%d", target)
	path, err := os.Readlink(held)
	if err != nil {
		return err
	}
	if !s.judge.socket(path) {
		return s.judge.refuse("the unix socket " + path)
	}
	return s.connectHeld(c, fd, held)
}

// connectHeld connects to a unix socket. A server that accepts nobody holds a call up that may block, and nothing breaks such a call off:
// so it is made again every second.
func (s *sentry) connectHeld(c caller, fd int, name string) error {
	flags, err := unix.FcntlInt(uintptr(fd), unix.F_GETFL, 0)
	if err != nil {
		return err
	}
	to := &unix.SockaddrUnix{Name: name}
	if flags&unix.O_NONBLOCK != 0 {
		return unix.Connect(fd, to)
	}
	own, err := unix.GetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_SNDTIMEO)
	if err != nil {
		return err
	}
	if err := unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_SNDTIMEO, &unix.Timeval{Sec: 1}); err != nil {
		return err
	}
	defer unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_SNDTIMEO, own)
	for {
		err := unix.Connect(fd, to)
		if err != unix.EAGAIN && err != unix.EINTR {
			return err
		}
		if s.isClosed() || c.alive() != nil {
			return unix.EACCES
		}
	}
}

func (s *sentry) isClosed() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.closed
}

// connect connects a socket to an address that the host has a copy of.
func connect(fd int, address []byte) error {
	_, _, errno := unix.Syscall(unix.SYS_CONNECT, uintptr(fd), uintptr(unsafe.Pointer(&address[0])), uintptr(len(address)))
	switch errno {
	case 0:
		return nil
	case unix.EINTR:
		return connected(fd)
	}
	return errno
}

// connected waits for a connection that is being made.
func connected(fd int) error {
	ready := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLOUT}}
	for {
		if _, err := unix.Poll(ready, -1); err != unix.EINTR {
			break
		}
	}
	code, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_ERROR)
	if err == nil && code != 0 {
		err = unix.Errno(code)
	}
	return err
}

// maxDatagram is the largest of UDP.
const maxDatagram = 65535

// sendTo sends a datagram to an address.
func (s *sentry) sendTo(c caller, fd int, args [6]uint64) (int64, error) {
	at, n, flags := args[1], args[2], uint32(args[3])
	if n > maxDatagram {
		return 0, unix.EMSGSIZE
	}
	if flags&unix.MSG_FASTOPEN != 0 {
		return 0, unix.EOPNOTSUPP
	}
	address, err := c.address(args[4], args[5])
	if err != nil {
		return 0, err
	}
	family := binary.NativeEndian.Uint16(address)
	if family == unix.AF_NETLINK {
		err = s.judge.netlink(address)
	} else {
		err = s.judge.network(family, address)
	}
	if err != nil {
		return 0, err
	}
	data, err := c.read(at, n)
	if err != nil {
		return 0, err
	}
	sent, _, errno := unix.Syscall6(unix.SYS_SENDTO, uintptr(fd), uintptr(unsafe.Pointer(unsafe.SliceData(data))), uintptr(len(data)),
		uintptr(flags|unix.MSG_NOSIGNAL), uintptr(unsafe.Pointer(&address[0])), uintptr(len(address)))
	if errno != 0 {
		return 0, errno
	}
	return int64(sent), nil
}

// internet reads an address of IPv4 or IPv6.
func internet(family uint16, b []byte) (netip.AddrPort, bool) {
	switch {
	case family == unix.AF_INET && len(b) >= unix.SizeofSockaddrInet4:
		return netip.AddrPortFrom(netip.AddrFrom4([4]byte(b[4:8])), binary.BigEndian.Uint16(b[2:])), true
	case family == unix.AF_INET6 && len(b) >= unix.SizeofSockaddrInet6-4: // the scope may be missing
		return netip.AddrPortFrom(netip.AddrFrom16([16]byte(b[8:24])).Unmap(), binary.BigEndian.Uint16(b[2:])), true
	}
	return netip.AddrPort{}, false
}
