package grpcplugin

import (
	"context"
	"io"
	"sync"
	"time"

	"google.golang.org/grpc"

	pluginv1 "github.com/towpath-dataplane/towpath/proto/towpath/plugin/v1"
	"github.com/towpath-dataplane/towpath/sdk"
)

// hangUpWait is how long a plugin has to let go of a flow after the host has hung up. Then the stream is broken off.
const hangUpWait = 3 * time.Second

// bodyPiece is how much of a proxied request's body goes into one message.
const bodyPiece = 256 << 10

// readClient is a ReadStream from a plugin. When the caller's context ends, the host hangs up its half of the stream: the source lets
// go of the flow and ends the other half, so that Close knows when nothing runs any more.
type readClient struct {
	ctx    context.Context // the caller's
	stream grpc.BidiStreamingClient[pluginv1.ReadUp, pluginv1.Frame]
	cancel context.CancelFunc // breaks the stream off
	stop   func() bool        // of the AfterFunc on ctx
	ended  bool               // End was received; used by Recv only

	sending sync.Mutex  // one sender at a time
	hungUp  bool        // guarded by sending
	giveUp  *time.Timer // breaks the stream off if the plugin does not let go; guarded by sending

	receiving sync.Mutex // one receiver at a time
	finished  bool       // the other half has ended; guarded by receiving
}

func (r *readClient) open(open sdk.ReadOpen) error {
	if err := r.say(&pluginv1.ReadUp{Kind: &pluginv1.ReadUp_Open{Open: readOpenToProto(open)}}); err != nil {
		return err
	}
	if open.Request == nil {
		return nil
	}
	for body := open.Request.Body; len(body) > 0; {
		n := min(len(body), bodyPiece)
		piece := &pluginv1.RequestBody{Data: body[:n], Last: n == len(body)}
		if err := r.say(&pluginv1.ReadUp{Kind: &pluginv1.ReadUp_Body{Body: piece}}); err != nil {
			return err
		}
		body = body[n:]
	}
	return nil
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
	case err != nil:
		return nil, fromStatus(r.ctx, err)
	case m.err != nil:
		return nil, m.err
	case m.frame == nil:
		return nil, sdk.Errorf(sdk.Internal, "the source sent a frame that only a host sends")
	}
	_, r.ended = m.frame.(*sdk.End)
	return m.frame, nil
}

func (r *readClient) receive() (message, error) {
	r.receiving.Lock()
	defer r.receiving.Unlock()
	var m message
	if r.finished {
		return m, io.EOF
	}
	err := r.stream.RecvMsg(&m)
	r.finished = err != nil
	return m, err
}

func (r *readClient) RequestCheckpoint() error {
	return r.say(&pluginv1.ReadUp{Kind: &pluginv1.ReadUp_Checkpoint{Checkpoint: &pluginv1.CheckpointRequest{}}})
}

func (r *readClient) Acknowledge(sequence uint64) error {
	return r.say(&pluginv1.ReadUp{Kind: &pluginv1.ReadUp_Acknowledge{Acknowledge: &pluginv1.Acknowledge{Sequence: sequence}}})
}

// hangUp ends the host's half of the stream, once.
func (r *readClient) hangUp() {
	r.sending.Lock()
	defer r.sending.Unlock()
	if !r.hungUp {
		r.hungUp = true
		r.stream.CloseSend()
		r.giveUp = time.AfterFunc(hangUpWait, r.cancel)
	}
}

func (r *readClient) Close() error {
	r.stop()
	r.hangUp()
	defer r.giveUp.Stop()
	defer r.cancel()
	for {
		r.receiving.Lock()
		finished := r.finished
		r.receiving.Unlock()
		if finished {
			return nil
		}
		m, _ := r.receive()
		sdk.Release(m.frame)
	}
}

// writeClient is a WriteStream to a plugin. It ends as readClient does.
type writeClient struct {
	ctx    context.Context // the caller's
	stream grpc.BidiStreamingClient[pluginv1.Frame, pluginv1.WriteUp]
	cancel context.CancelFunc // breaks the stream off
	stop   func() bool        // of the AfterFunc on ctx
	done   bool               // Done was received; used by Recv only

	sending sync.Mutex  // one sender at a time
	hungUp  bool        // guarded by sending
	giveUp  *time.Timer // breaks the stream off if the plugin does not let go; guarded by sending

	receiving sync.Mutex // one receiver at a time
	finished  bool       // the other half has ended; guarded by receiving
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
	return sendFrame(w.stream, f)
}

func (w *writeClient) Recv() (sdk.Up, error) {
	up, err := w.receive()
	switch {
	case w.ctx.Err() != nil:
		return nil, context.Cause(w.ctx)
	case err == io.EOF && w.done:
		return nil, io.EOF
	case err == io.EOF:
		return nil, sdk.Retryf(sdk.Unavailable, "the sink stopped before its end")
	case err != nil:
		return nil, fromStatus(w.ctx, err)
	}
	said, err := upFromProto(up)
	_, w.done = said.(*sdk.Done)
	return said, err
}

func (w *writeClient) receive() (*pluginv1.WriteUp, error) {
	w.receiving.Lock()
	defer w.receiving.Unlock()
	if w.finished {
		return nil, io.EOF
	}
	up, err := w.stream.Recv()
	w.finished = err != nil
	return up, err
}

// hangUp ends the host's half of the stream, once. A Send that is stuck cannot be ended politely, so the stream is broken off.
func (w *writeClient) hangUp() {
	if !w.sending.TryLock() {
		w.cancel()
		w.sending.Lock()
	}
	defer w.sending.Unlock()
	if !w.hungUp {
		w.hungUp = true
		w.stream.CloseSend()
		w.giveUp = time.AfterFunc(hangUpWait, w.cancel)
	}
}

func (w *writeClient) Close() error {
	w.stop()
	w.hangUp()
	defer w.giveUp.Stop()
	defer w.cancel()
	for {
		w.receiving.Lock()
		finished := w.finished
		w.receiving.Unlock()
		if finished {
			return nil
		}
		w.receive()
	}
}
