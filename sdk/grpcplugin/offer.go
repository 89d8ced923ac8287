package grpcplugin

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"sync"
	"time"

	pluginv1 "github.com/towpath-dataplane/towpath/proto/towpath/plugin/v1"
	"github.com/towpath-dataplane/towpath/sdk"
)

// LaneSupported says whether this system has the lane.
const LaneSupported = laneSupported

const (
	laneToken = 16
	laneWait  = 5 * time.Second // for the other side to take up a lane
)

// LaneOptions say how a host offers lanes.
type LaneOptions struct {
	// Buffer is asked for on both ends of each lane, in bytes. A kernel that allows less gives less. It bounds what the kernel holds of
	// a stalled flow. 0: 512 KiB, which a thousand flows can afford; 2 MiB is the most that is of use.
	Buffer int
	// After is how many bytes of payload a call carries on gRPC before its lane is worth a connection. 0: 64 KiB. Less than 0: none.
	After int64
}

func (o LaneOptions) withDefaults() LaneOptions {
	if o.Buffer == 0 {
		o.Buffer = 512 << 10
	}
	switch {
	case o.After == 0:
		o.After = 64 << 10
	case o.After < 0:
		o.After = 0
	}
	return o
}

// lanes is where a host waits for the plugin to take up the lanes that it was offered.
type lanes struct {
	options  LaneOptions
	listener *net.UnixListener
	running  sync.WaitGroup

	mu      sync.Mutex // guards what follows
	waiting map[[laneToken]byte]*laneOffer
	coming  map[*laneConn]struct{} // accepted, and not known yet
	closed  bool
}

// OfferLanes makes the client offer a lane for every stream that begins from now on, if the plugin has said in Describe that it speaks
// it. socket is where to listen: the path of a unix socket that does not exist, in a folder that only the host's user can enter. The
// caller calls stop when the process has ended. It does nothing where there is no such lane.
func (c *Client) OfferLanes(socket string, o LaneOptions) (stop func(), err error) {
	if !laneSupported || !c.speaksLane.Load() {
		return func() {}, nil
	}
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: socket, Net: "unix"})
	if err != nil {
		return nil, fmt.Errorf("listen for lanes: %w", err)
	}
	h := &lanes{options: o.withDefaults(), listener: l, waiting: map[[laneToken]byte]*laneOffer{}, coming: map[*laneConn]struct{}{}}
	h.running.Go(h.accept)
	c.lanes.Store(h)
	var onLane *talks
	if c.answersOnLane.Load() {
		onLane = newTalks(c.attend)
		if former := c.talks.Swap(onLane); former != nil {
			former.close()
		}
	}
	return func() {
		c.lanes.CompareAndSwap(h, nil)
		if onLane != nil {
			c.talks.CompareAndSwap(onLane, nil)
			onLane.close()
		}
		h.close()
	}, nil
}

func (h *lanes) close() {
	h.listener.Close()
	h.mu.Lock()
	h.closed = true
	for c := range h.coming {
		c.Close()
	}
	h.mu.Unlock()
	h.running.Wait()
}

func (h *lanes) accept() {
	for {
		c, err := h.listener.AcceptUnix()
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil {
			// Out of descriptors, most likely. Those who wait for a lane do without, or try again.
			time.Sleep(10 * time.Millisecond)
			continue
		}
		lane, err := newLaneConn(c, h.options.Buffer)
		if err != nil || !h.admit(lane) {
			c.Close()
			continue
		}
		h.running.Go(func() { h.greet(lane) })
	}
}

// admit notes a connection, so that close can end it.
func (h *lanes) admit(c *laneConn) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.closed || !c.sameUser() {
		return false
	}
	h.coming[c] = struct{}{}
	return true
}

// greet finds out which call a connection is for.
func (h *lanes) greet(c *laneConn) {
	var token [laneToken]byte
	c.SetDeadline(time.Now().Add(laneWait))
	_, err := io.ReadFull(c, token[:])
	h.mu.Lock()
	delete(h.coming, c)
	offer := h.waiting[token]
	delete(h.waiting, token)
	h.mu.Unlock()
	if err == nil && offer != nil {
		_, err = c.Write([]byte{1})
	}
	if err != nil || offer == nil || c.SetDeadline(time.Time{}) != nil || !offer.deliver(c) {
		c.Close()
	}
}

// laneOffer is the host's half of the lane of one call. All methods can be called on nil, which is no lane.
type laneOffer struct {
	lanes *lanes
	token [laneToken]byte
	taken chan struct{} // closed when the lane is there

	mu     sync.Mutex // guards what follows
	lane   *laneConn
	closed bool
}

// offer returns a new offer, or nil if there are no lanes.
func (c *Client) offer() *laneOffer {
	h := c.lanes.Load()
	if h == nil {
		return nil
	}
	o := &laneOffer{lanes: h, taken: make(chan struct{})}
	rand.Read(o.token[:])
	h.mu.Lock()
	defer h.mu.Unlock()
	h.waiting[o.token] = o
	return o
}

func (o *laneOffer) proto() *pluginv1.LaneOffer {
	if o == nil {
		return nil
	}
	return &pluginv1.LaneOffer{Name: LaneName, Socket: o.lanes.listener.Addr().String(), Token: o.token[:],
		Buffer: uint32(o.lanes.options.Buffer), After: uint64(o.lanes.options.After)}
}

func (o *laneOffer) deliver(c *laneConn) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.closed {
		return false
	}
	o.lane = c
	close(o.taken)
	return true
}

// await returns the lane when the plugin has taken it up.
func (o *laneOffer) await(ctx context.Context) (*laneConn, error) {
	if o == nil {
		return nil, sdk.Errorf(sdk.Internal, "the plugin began a lane that it was not offered")
	}
	timer := time.NewTimer(laneWait)
	defer timer.Stop()
	select {
	case <-o.taken:
		return o.lane, nil
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	case <-timer.C:
		return nil, sdk.Retryf(sdk.Unavailable, "the plugin did not take up the lane within %s", laneWait)
	}
}

// close takes the offer back, or closes the lane. It can be called more than once.
func (o *laneOffer) close() {
	if o == nil {
		return
	}
	o.lanes.mu.Lock()
	delete(o.lanes.waiting, o.token)
	o.lanes.mu.Unlock()
	o.mu.Lock()
	defer o.mu.Unlock()
	o.closed = true
	if o.lane != nil {
		o.lane.Close()
	}
}

// dialLane takes up a lane that a host offers. It is closed when ctx ends.
func dialLane(ctx context.Context, offer *pluginv1.LaneOffer) (*laneConn, error) {
	if !laneSupported || offer.GetName() != LaneName || len(offer.GetToken()) != laneToken {
		return nil, sdk.Errorf(sdk.Unsupported, "this plugin does not speak the lane %q", offer.GetName())
	}
	deadline := time.Now().Add(laneWait)
	dialer := net.Dialer{Deadline: deadline}
	conn, err := dialer.DialContext(ctx, "unix", offer.Socket)
	if err != nil {
		return nil, sdk.Retryf(sdk.Unavailable, "take up the lane: %w", err)
	}
	lane, err := newLaneConn(conn.(*net.UnixConn), int(offer.Buffer))
	if err == nil {
		context.AfterFunc(ctx, func() { conn.Close() })
		err = lane.introduce(offer.Token, deadline)
	}
	if err != nil {
		conn.Close()
		return nil, sdk.Retryf(sdk.Unavailable, "take up the lane: %w", err)
	}
	return lane, nil
}

func (c *laneConn) introduce(token []byte, deadline time.Time) error {
	if err := c.SetDeadline(deadline); err != nil {
		return err
	}
	if _, err := c.Write(token); err != nil {
		return err
	}
	var accepted [1]byte
	if _, err := io.ReadFull(c, accepted[:]); err != nil {
		return err
	}
	if accepted[0] != 1 {
		return os.ErrPermission
	}
	return c.SetDeadline(time.Time{})
}
