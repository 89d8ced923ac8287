package sdk

import (
	"errors"
	"fmt"
	"net"
	"path/filepath"
	"strconv"
	"strings"
)

// maxSocketPath is what every system takes for the path of a unix socket.
const maxSocketPath = 103

// ListenAddress reads where a plugin listens that no host launches: unix:///path of a socket, or tcp://host:port.
func ListenAddress(s string) (network, address string, err error) {
	network, address, _ = strings.Cut(s, "://")
	switch network {
	case "unix":
		err = checkSocketPath(address)
	case "tcp":
		err = checkHostPort(address)
	default:
		err = errors.New("it begins neither with unix:// nor with tcp://")
	}
	if err != nil {
		return "", "", fmt.Errorf("%q is no address such as unix:///run/x.sock or tcp://host:7443: %w", s, err)
	}
	return network, address, nil
}

func checkSocketPath(path string) error {
	switch {
	case !filepath.IsAbs(path), filepath.Clean(path) != path, strings.ContainsRune(path, 0):
		return errors.New("behind unix:// comes a plain absolute path")
	case len(path) > maxSocketPath:
		return fmt.Errorf("the path of a socket has at most %d bytes", maxSocketPath)
	}
	return nil
}

func checkHostPort(s string) error {
	host, port, err := net.SplitHostPort(s)
	if err != nil {
		return errors.New("behind tcp:// come host:port")
	}
	if _, err := strconv.ParseUint(port, 10, 16); err != nil {
		return fmt.Errorf("%q is no port", port)
	}
	if strings.ContainsAny(host, "/?#@ \x00") {
		return fmt.Errorf("%q is no host", host)
	}
	return nil
}
