package main

import (
	"io"
	"os"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

// noOpenat2 is set when the kernel, or who confines this process, does not have openat2.
var noOpenat2 atomic.Bool

// openSingle opens one regular file below a folder with as few calls to the system as can be: many files are small, and cost no more
// than that. It returns nil for whatever is something else, or could be: it is for os.Root then, which neither leads out of the folder.
func openSingle(root, name string) (content, identity) {
	if noOpenat2.Load() || name == "." {
		return nil, identity{}
	}
	dir, err := retry(func() (int, error) { return unix.Open(root, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0) })
	if err != nil {
		return nil, identity{}
	}
	defer unix.Close(dir)
	// Opening what is not a regular file may do something. What is opened is looked at again.
	var st unix.Stat_t
	if err := unix.Fstatat(dir, name, &st, 0); err != nil || st.Mode&unix.S_IFMT != unix.S_IFREG {
		return nil, identity{}
	}
	how := unix.OpenHow{Flags: unix.O_RDONLY | unix.O_NONBLOCK | unix.O_CLOEXEC, Resolve: unix.RESOLVE_BENEATH | unix.RESOLVE_NO_MAGICLINKS}
	fd, err := retry(func() (int, error) { return unix.Openat2(dir, name, &how) })
	if err == unix.ENOSYS || err == unix.EPERM {
		noOpenat2.Store(true)
	}
	if err != nil {
		return nil, identity{}
	}
	f := &opened{fd}
	id, err := f.look()
	if err != nil || !id.regular {
		f.Close()
		return nil, identity{}
	}
	return f, id
}

func retry[T any](call func() (T, error)) (T, error) {
	for {
		v, err := call()
		if err != unix.EINTR {
			return v, err
		}
	}
}

// opened is a regular file that is open for reading.
type opened struct{ fd int }

func (o *opened) look() (identity, error) {
	var st unix.Stat_t
	if err := unix.Fstat(o.fd, &st); err != nil {
		return identity{}, os.NewSyscallError("fstat", err)
	}
	return identity{size: st.Size, modified: time.Unix(st.Mtim.Unix()), inode: st.Ino, regular: st.Mode&unix.S_IFMT == unix.S_IFREG}, nil
}

func (o *opened) Read(b []byte) (int, error) {
	n, err := retry(func() (int, error) { return unix.Read(o.fd, b) })
	switch {
	case err != nil:
		return 0, os.NewSyscallError("read", err)
	case n == 0 && len(b) > 0:
		return 0, io.EOF
	}
	return n, nil
}

func (o *opened) Seek(offset int64, whence int) (int64, error) {
	n, err := unix.Seek(o.fd, offset, whence)
	return n, os.NewSyscallError("seek", err)
}

func (o *opened) Close() error { return os.NewSyscallError("close", unix.Close(o.fd)) }
