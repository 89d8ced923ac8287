//go:build !linux

package grpcplugin

import "errors"

const laneSupported = false

var errNoLane = errors.New("there is no lane besides gRPC on this system")

func (c *laneConn) peek() (h [itemHeader]byte, err error) { return h, errNoLane }

func (c *laneConn) awaitHangUp() {}

type patientLane struct{ *laneConn }

func move(from, to *laneConn, n int) error { return errNoLane }

func (c *laneConn) sameUser() bool { return false }
