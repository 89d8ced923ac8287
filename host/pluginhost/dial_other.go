//go:build !linux

package pluginhost

import (
	"io/fs"
	"net"
)

// listenerOf is the user who made the socket.
func listenerOf(_ *net.UnixConn, info fs.FileInfo) (uid int, err error) { return owner(info), nil }
