package pluginhost

import (
	"io/fs"
	"net"
	"syscall"
)

// listenerOf is the user of the program that listens at the other end. Only who listens knows better than the socket's file.
func listenerOf(conn *net.UnixConn, _ fs.FileInfo) (uid int, err error) {
	raw, err := conn.SyscallConn()
	if err != nil {
		return 0, err
	}
	var peer *syscall.Ucred
	failed := raw.Control(func(fd uintptr) {
		peer, err = syscall.GetsockoptUcred(int(fd), syscall.SOL_SOCKET, syscall.SO_PEERCRED)
	})
	if failed != nil {
		return 0, failed
	}
	if err != nil {
		return 0, err
	}
	return int(peer.Uid), nil
}
