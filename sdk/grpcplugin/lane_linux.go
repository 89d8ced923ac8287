package grpcplugin

import (
	"fmt"
	"io"
	"os"
	"runtime"
	"sync"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/towpath-dataplane/towpath/sdk"
)

// laneSupported says whether this system has the lane.
const laneSupported = true

// peek waits for the header of the next item and leaves it in the socket. io.EOF: nothing comes any more.
func (c *laneConn) peek() (h [itemHeader]byte, err error) {
	var failure error
	err = c.raw.Read(func(fd uintptr) (done bool) {
		done, failure = peekHeader(fd, &h)
		return done
	})
	if err == nil {
		err = failure
	}
	return h, err
}

// peekHeader reports false if the socket has not got the header yet.
func peekHeader(fd uintptr, h *[itemHeader]byte) (bool, error) {
	for {
		n, _, errno := unix.Syscall6(unix.SYS_RECVFROM, fd, uintptr(unsafe.Pointer(h)), itemHeader, unix.MSG_PEEK|unix.MSG_DONTWAIT, 0, 0)
		switch {
		case errno == unix.EINTR:
		case errno == unix.EAGAIN:
			return false, nil
		case errno != 0:
			return true, errno
		case n == itemHeader:
			return true, nil
		case n == 0:
			return true, io.EOF
		case hungUp(fd):
			return true, io.ErrUnexpectedEOF
		default:
			return false, nil
		}
	}
}

// patientLane is read by one who reads again and again, whenever a little has come. It waits in the kernel, with a thread and a place in
// the scheduler: to be woken by way of epoll, as others are, costs a process that does little else more than what it does. Whatever else
// there is to run runs first. Only the other end closes the lane meanwhile.
type patientLane struct{ *laneConn }

func (l patientLane) Read(b []byte) (n int, err error) {
	runtime.Gosched()
	var failure error
	err = l.raw.Read(func(fd uintptr) bool {
		n, failure = readOrWait(int(fd), b)
		return true
	})
	switch {
	case err != nil:
		return 0, err
	case failure != nil:
		return 0, os.NewSyscallError("read", failure)
	case n == 0:
		return 0, io.EOF
	}
	return n, nil
}

func readOrWait(fd int, b []byte) (int, error) {
	for {
		n, err := unix.Read(fd, b)
		if err == unix.EAGAIN {
			_, err = unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, -1)
			if err == nil {
				continue
			}
		}
		if err != unix.EINTR {
			return n, err
		}
	}
}

// hungUp says whether no more comes: a header that was begun stays one.
func hungUp(fd uintptr) bool {
	poll := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLRDHUP}}
	n, err := unix.Poll(poll, 0)
	return err == nil && n > 0 && poll[0].Revents&(unix.POLLRDHUP|unix.POLLHUP|unix.POLLERR) != 0
}

// awaitHangUp returns when either side has closed the lane. Nothing is written to it meanwhile.
func (c *laneConn) awaitHangUp() { c.raw.Write(hungUp) }

// move passes n bytes from one lane to the other without copying them. The error wraps sdk.ErrUnread if it is that of from.
func move(from, to *laneConn, n int) error {
	p, err := takePipe()
	if err != nil {
		return err
	}
	for n > 0 {
		filled, err := splice(from.raw.Read, func(fd int) (int, error) { return p.fill(fd, n) })
		if err == nil && filled == 0 {
			err = io.ErrUnexpectedEOF
		}
		if err != nil {
			p.close()
			return fmt.Errorf("%w: %w", sdk.ErrUnread, err)
		}
		n -= filled
		for filled > 0 {
			drained, err := splice(to.raw.Write, func(fd int) (int, error) { return p.drain(fd, filled) })
			if err != nil {
				p.close()
				return err
			}
			filled -= drained
		}
	}
	p.giveBack()
	return nil
}

// splice calls f as soon as the socket is ready for it. No thread waits meanwhile.
func splice(when func(func(fd uintptr) bool) error, f func(fd int) (int, error)) (n int, err error) {
	err2 := when(func(fd uintptr) bool {
		for {
			if n, err = f(int(fd)); err != syscall.EINTR {
				break
			}
		}
		return err != syscall.EAGAIN
	})
	if err2 != nil {
		return 0, err2
	}
	return n, err
}

// pipe is what bytes pass through from one socket to another. It is empty whenever it is not in use.
type pipe struct{ r, w int }

const (
	pipeSize = 512 << 10 // asked for
	// sparePipes are kept. More are in use only where sinks are behind.
	sparePipes = 32
)

var pipes struct {
	mu    sync.Mutex // guards spare
	spare []*pipe
}

func takePipe() (*pipe, error) {
	pipes.mu.Lock()
	defer pipes.mu.Unlock()
	if n := len(pipes.spare); n > 0 {
		p := pipes.spare[n-1]
		pipes.spare = pipes.spare[:n-1]
		return p, nil
	}
	var fds [2]int
	if err := unix.Pipe2(fds[:], unix.O_CLOEXEC|unix.O_NONBLOCK); err != nil {
		return nil, fmt.Errorf("make a pipe: %w", err)
	}
	// A user can have so many pages in pipes. Where they are used up, smaller pipes do as well.
	unix.FcntlInt(uintptr(fds[1]), unix.F_SETPIPE_SZ, pipeSize)
	return &pipe{fds[0], fds[1]}, nil
}

func (p *pipe) fill(fd, n int) (int, error) {
	m, err := unix.Splice(fd, nil, p.w, nil, n, unix.SPLICE_F_NONBLOCK|unix.SPLICE_F_MOVE)
	return int(m), err
}

func (p *pipe) drain(fd, n int) (int, error) {
	m, err := unix.Splice(p.r, nil, fd, nil, n, unix.SPLICE_F_NONBLOCK|unix.SPLICE_F_MOVE)
	return int(m), err
}

func (p *pipe) giveBack() {
	pipes.mu.Lock()
	defer pipes.mu.Unlock()
	if len(pipes.spare) < sparePipes {
		pipes.spare = append(pipes.spare, p)
		return
	}
	p.close()
}

func (p *pipe) close() {
	unix.Close(p.r)
	unix.Close(p.w)
}

// sameUser says whether the process at the other end runs as this one's user.
func (c *laneConn) sameUser() bool {
	var cred *unix.Ucred
	var err error
	err2 := c.raw.Control(func(fd uintptr) { cred, err = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED) })
	return err == nil && err2 == nil && int(cred.Uid) == unix.Geteuid()
}
