package grpcplugin

import (
	"context"
	"errors"
	"io"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	pluginv1 "github.com/towpath-dataplane/towpath/proto/towpath/plugin/v1"
	"github.com/towpath-dataplane/towpath/sdk"
)

// hangUpWait is how long a plugin has to let go of a flow after the host has hung up. Then the stream is broken off.
const hangUpWait = 3 * time.Second

// ending is how a stream of either kind ends. When the caller's context ends, the host hangs up its half of the stream: the plugin lets
// go of the flow and ends the other half, so that close knows when nothing runs any more.
type ending struct {
	cancel context.CancelFunc // breaks the stream off
	stop   func() bool        // of the AfterFunc on the caller's context
	offer  *laneOffer         // nil: there is no lane

	sending sync.Mutex                 // one sender at a time
	hungUp  bool                       // guarded by sending
	giveUp  *time.Timer                // breaks the stream off if the plugin does not let go; guarded by sending
	lost    atomic.Pointer[time.Timer] // does so if the plugin has closed the lane and does not say why

	receiving sync.Mutex // one receiver at a time
	finished  bool       // the other half has ended; guarded by receiving
}

// hangUp ends the host's half of the stream, once.
func (e *ending) hangUp(stream grpc.ClientStream) {
	e.offer.close()
	e.sending.Lock()
	defer e.sending.Unlock()
	if !e.hungUp {
		e.hungUp = true
		stream.CloseSend()
		e.giveUp = time.AfterFunc(hangUpWait, e.cancel)
	}
}

// lostLane gives the plugin some time to say why it has closed the lane.
func (e *ending) lostLane() {
	timer := time.AfterFunc(hangUpWait, e.cancel)
	if !e.lost.CompareAndSwap(nil, timer) {
		timer.Stop()
	}
}

// why is the error of a stream that was broken off.
func (e *ending) why(ctx context.Context, err error) error {
	if e.lost.Load() != nil && status.Code(err) == codes.Canceled {
		return sdk.Retryf(sdk.Unavailable, "the plugin closed the lane of a flow and did not say why: %w", err)
	}
	return fromStatus(ctx, err)
}

// receive calls recv, or returns io.EOF if the other half has ended.
func (e *ending) receive(recv func() error) error {
	e.receiving.Lock()
	defer e.receiving.Unlock()
	if e.finished {
		return io.EOF
	}
	err := recv()
	e.finished = err != nil
	return err
}

// close receives, with next, until the other half has ended. The host has hung up.
func (e *ending) close(next func()) {
	defer e.giveUp.Stop()
	defer func() {
		if timer := e.lost.Load(); timer != nil {
			timer.Stop()
		}
	}()
	defer e.cancel()
	for {
		e.receiving.Lock()
		finished := e.finished
		e.receiving.Unlock()
		if finished {
			return
		}
		next()
	}
}

// readClient is a ReadStream from a plugin.
type readClient struct {
	ending
	ctx    context.Context // the caller's
	stream grpc.BidiStreamingClient[pluginv1.ReadUp, pluginv1.Frame]
	frames frameReceiver // guarded by receiving
	tally  *tally        // used by Recv only
	ended  bool          // End was received; used by Recv only
	body   *bodySender   // of the request that is handed on; nil if there is none
}

func newReadClient(ctx context.Context, stream grpc.BidiStreamingClient[pluginv1.ReadUp, pluginv1.Frame], cancel context.CancelFunc,
	offer *laneOffer, unread bool) *readClient {
	r := &readClient{ctx: ctx, stream: stream}
	r.cancel, r.offer = cancel, offer
	r.frames = frameReceiver{stream: stream, unread: unread, lost: r.lostLane,
		attach: func() (*laneConn, error) { return offer.await(stream.Context()) }}
	return r
}

func (r *readClient) open(open sdk.ReadOpen) error {
	if err := r.begin(readOpenToProto(open)); err != nil {
		return err
	}
	if open.Request != nil && open.Request.Body != nil {
		r.sendBody(open.Request.Body)
	}
	return nil
}

func (r *readClient) begin(first *pluginv1.ReadOpen) error {
	first.Lane = r.offer.proto()
	return r.say(&pluginv1.ReadUp{Kind: &pluginv1.ReadUp_Open{Open: first}})
}

func (r *readClient) say(up *pluginv1.ReadUp) error {
	r.sending.Lock()
	defer r.sending.Unlock()
	if r.hungUp {
		return nil
	}
	if err := r.stream.Send(up); err != io.EOF {
		return err
	}
	return nil // the stream has ended; Recv says why
}

func (r *readClient) Recv() (sdk.Frame, error) {
	if r.ended && r.ctx.Err() == nil {
		return nil, io.EOF // the source may wait for what the host stores before it ends its half
	}
	m, err := r.receive()
	if r.ctx.Err() != nil {
		sdk.Release(m.frame)
		return nil, context.Cause(r.ctx)
	}
	switch {
	case err == io.EOF && !r.ended:
		return nil, sdk.Retryf(sdk.Unavailable, "the source stopped before its end")
	case err == io.EOF:
		return nil, io.EOF
	case err != nil && r.body.why() != nil:
		return nil, r.body.why()
	case err != nil:
		return nil, r.why(r.ctx, err)
	case m.err != nil:
		return nil, m.err
	case m.frame == nil:
		return nil, sdk.Errorf(sdk.Internal, "the source sent a frame that only a host sends")
	}
	if err := r.tally.received(m.frame); err != nil {
		sdk.Release(m.frame)
		return nil, err
	}
	_, r.ended = m.frame.(*sdk.End)
	return m.frame, nil
}

func (r *readClient) receive() (m message, err error) {
	err = r.ending.receive(func() error {
		m, err = r.frames.next()
		return err
	})
	return m, err
}

func (r *readClient) RequestCheckpoint() error {
	if r.body != nil {
		return nil // there is none to be had
	}
	return r.say(&pluginv1.ReadUp{Kind: &pluginv1.ReadUp_Checkpoint{Checkpoint: &pluginv1.CheckpointRequest{}}})
}

func (r *readClient) Acknowledge(sequence uint64) error {
	if r.body != nil {
		return nil
	}
	return r.say(&pluginv1.ReadUp{Kind: &pluginv1.ReadUp_Acknowledge{Acknowledge: &pluginv1.Acknowledge{Sequence: sequence}}})
}

// hangUp ends the host's half of the stream. With the body of a request on its way that cannot be done politely: the source would not
// hear of it before it has taken what came first. So the stream is broken off.
func (r *readClient) hangUp() {
	if r.body.sends() {
		r.cancel()
	}
	r.ending.hangUp(r.stream)
}

func (r *readClient) Close() error {
	r.stop()
	r.hangUp()
	r.close(func() {
		m, _ := r.receive()
		sdk.Release(m.frame)
	})
	r.body.close()
	return nil
}

// writeClient is a WriteStream to a plugin.
type writeClient struct {
	ending
	ctx    context.Context // the caller's
	stream grpc.BidiStreamingClient[pluginv1.Frame, pluginv1.WriteUp]
	frames frameSender // guarded by sending
	tally  *tally      // guarded by sending, but for what the sink says
	done   bool        // Done was received; used by Recv only

	over   context.Context // ends when Recv has learned that the sink has ended the stream
	isOver context.CancelFunc
}

func newWriteClient(ctx context.Context, stream grpc.BidiStreamingClient[pluginv1.Frame, pluginv1.WriteUp], cancel context.CancelFunc,
	offer *laneOffer) *writeClient {
	w := &writeClient{ctx: ctx, stream: stream}
	w.cancel, w.offer = cancel, offer
	w.over, w.isOver = context.WithCancel(stream.Context())
	w.frames.stream = stream
	if offer != nil {
		w.frames.attach, w.frames.after = w.attach, offer.lanes.options.After
	}
	return w
}

// attach begins the lane.
func (w *writeClient) attach() (*laneConn, error) {
	if err := w.stream.SendMsg(&message{lane: true}); err != nil {
		return nil, err
	}
	lane, err := w.offer.await(w.over)
	if w.over.Err() != nil {
		return nil, io.EOF
	}
	return lane, err
}

func (w *writeClient) Send(f sdk.Frame) error {
	w.sending.Lock()
	defer w.sending.Unlock()
	if w.ctx.Err() != nil || w.hungUp {
		sdk.Release(f)
		if w.ctx.Err() != nil {
			return context.Cause(w.ctx)
		}
		return io.EOF
	}
	f, err := w.count(f)
	if err != nil {
		return err
	}
	err = w.frames.send(f)
	switch {
	case err == nil:
	case w.ctx.Err() != nil:
		return context.Cause(w.ctx)
	case w.frames.lane != nil && !errors.Is(err, sdk.ErrUnread):
		w.lostLane()
	}
	return err
}

// count has the tally see a frame, with its payload. It sees to the frame's memory if that fails.
func (w *writeClient) count(f sdk.Frame) (sdk.Frame, error) {
	if w.tally == nil {
		return f, nil
	}
	f, err := read(f)
	if err != nil {
		return nil, err
	}
	if err := w.tally.sent(f); err != nil {
		sdk.Release(f)
		return nil, err
	}
	return f, nil
}

func (w *writeClient) Recv() (sdk.Up, error) {
	up, err := w.recv()
	if err != nil {
		w.isOver()
	}
	return up, err
}

func (w *writeClient) recv() (sdk.Up, error) {
	up, err := w.receive()
	switch {
	case w.ctx.Err() != nil:
		return nil, context.Cause(w.ctx)
	case err == io.EOF && w.done:
		return nil, io.EOF
	case err == io.EOF:
		return nil, sdk.Retryf(sdk.Unavailable, "the sink stopped before its end")
	case err != nil:
		return nil, w.why(w.ctx, err)
	}
	said, err := upFromProto(up)
	w.tally.said(said)
	_, w.done = said.(*sdk.Done)
	return said, err
}

func (w *writeClient) receive() (up *pluginv1.WriteUp, err error) {
	err = w.ending.receive(func() error {
		up, err = w.stream.Recv()
		return err
	})
	return up, err
}

// hangUp ends the host's half of the stream. A Send that is stuck cannot be ended politely, so the stream is broken off.
func (w *writeClient) hangUp() {
	if w.sending.TryLock() {
		w.sending.Unlock()
	} else {
		w.cancel()
	}
	w.isOver()
	w.ending.hangUp(w.stream)
}

func (w *writeClient) Close() error {
	w.stop()
	w.hangUp()
	w.close(func() { w.receive() })
	return nil
}
