package grpcplugin

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"os"
	"runtime/debug"
	"slices"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"

	pluginv1 "github.com/towpath-dataplane/towpath/proto/towpath/plugin/v1"
	"github.com/towpath-dataplane/towpath/sdk"
)

const (
	// smallPayload is the most that is copied, to be sent together with what is before and behind it.
	smallPayload = 16 << 10
	// maxHeld is how much waits for what comes behind it, at most.
	maxHeld = 32 << 10
	// holdTime is how long it waits.
	holdTime = 2 * time.Millisecond
)

// answering is how a plugin sends one answer after the other: small frames together, none of them late. send and end are for one
// goroutine.
type answering struct {
	wire answerWire

	mu    sync.Mutex // guards what follows, and the wire
	held  bool       // something waits
	timer *time.Timer
	err   error // of the timer's flush
}

// answerWire is what frames are sent on.
type answerWire interface {
	// add keeps a frame until flush, and reports how many bytes wait. It sees to the frame's memory.
	add(m *message) (size int, err error)
	// pass sends what waits, and behind it the payload of a frame. It sees to the frame's memory.
	pass(f sdk.Frame) error
	flush() error
}

// emit sends a frame.
func (a *answering) emit(f sdk.Frame) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.err != nil {
		sdk.Release(f)
		return a.err
	}
	if isLarge(f) {
		a.held = false
		return a.wire.pass(f)
	}
	return a.addLocked(&message{frame: f})
}

func isLarge(f sdk.Frame) bool {
	switch f := f.(type) {
	case *sdk.Data:
		return f.Len() > smallPayload
	case *sdk.RecordBatch:
		return true
	}
	return false
}

func (a *answering) addLocked(m *message) error {
	size, err := a.wire.add(m)
	if err != nil || size > maxHeld {
		a.held = false
		return errors.Join(err, a.wire.flush())
	}
	if !a.held {
		a.held = true
		if a.timer == nil {
			a.timer = time.AfterFunc(holdTime, a.late)
		} else {
			a.timer.Reset(holdTime)
		}
	}
	return nil
}

// late sends what the source takes long to go on from.
func (a *answering) late() {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.held && a.err == nil {
		a.held = false
		a.err = a.wire.flush()
	}
}

// end sends what waits; failure, if not nil, is the last that is said. over is called before the host can see that it was the last.
func (a *answering) end(failure error, over func()) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.timer != nil {
		a.timer.Stop()
	}
	a.held = false
	if a.err != nil {
		return a.err
	}
	if failure != nil {
		if _, err := a.wire.add(&message{err: sdk.AsError(failure)}); err != nil {
			return err
		}
	}
	over()
	return a.wire.flush()
}

// answer serves one read.
func (s *pluginServer) answer(ctx context.Context, p *pluginv1.ReadOpen, out *answering, over func()) error {
	failure := s.readInto(ctx, p, out.emit)
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return out.end(failure, over)
}

func (s *pluginServer) readInto(ctx context.Context, p *pluginv1.ReadOpen, emit func(sdk.Frame) error) (err error) {
	defer func() {
		if r := recover(); r != nil {
			slog.Error("panic in an answer", "panic", fmt.Sprint(r), "stack", string(debug.Stack()))
			err = sdk.Errorf(sdk.Internal, "the plugin panicked: %v", r)
		}
	}()
	leave, err := s.enter()
	if err != nil {
		return err
	}
	defer leave()
	open := readOpenFromProto(p)
	// What the order is shared with stays as it is, whatever the author changes.
	open.Address.Properties, open.Flow.Labels = maps.Clone(open.Address.Properties), slices.Clone(open.Flow.Labels)
	open.Once = true
	source, err := s.source(open.Address.Type)
	if err != nil {
		return err
	}
	server, ok := source.(sdk.Server)
	if !ok {
		return sdk.Errorf(sdk.Unsupported, "%s does not answer", s.plugin.Name)
	}
	return server.Serve(ctx, open, emit)
}

// Attend takes up a lane for answers.
func (s sourceServer) Attend(ctx context.Context, offer *pluginv1.LaneOffer) (*pluginv1.Attendance, error) {
	if offer.GetName() != AnswersLaneName {
		return nil, statusOf(sdk.Errorf(sdk.Unsupported, "this plugin does not speak the lane %q", offer.GetName()))
	}
	offer.Name = LaneName
	dialing, stop := context.WithCancel(context.WithoutCancel(ctx))
	lane, err := dialLane(dialing, offer)
	if err != nil {
		stop()
		return nil, statusOf(err)
	}
	// Ends with the lane, which the host closes.
	go func() {
		defer stop()
		s.attend(lane)
	}()
	return &pluginv1.Attendance{}, nil
}

// attend answers on a lane until the host has closed it.
func (s *pluginServer) attend(lane *laneConn) {
	defer lane.Close()
	ctx, cancel := context.WithCancelCause(context.Background())
	defer cancel(nil)
	in := &itemReader{from: lane}
	out, w := &answering{wire: &laneWire{conn: lane}}, watch{lane: lane, in: in, gone: func() { cancel(sdk.ErrInterrupted) }}
	for {
		open, err := s.nextOrder(in)
		if err != nil {
			slog.Warn("a lane for answers is given up", "err", err)
		}
		if open == nil {
			return
		}
		w.begin()
		err = s.answer(ctx, open, out, func() {})
		w.end()
		if err != nil {
			return
		}
	}
}

// nextOrder returns what the host asks for next, nil if that is nothing.
func (s *pluginServer) nextOrder(in *itemReader) (open *pluginv1.ReadOpen, err error) {
	h, err := in.header()
	if err != nil {
		return nil, nil // closed
	}
	i, err := parseOrder(h)
	if err == nil {
		err = in.body(i.size, func(b []byte) error { open, err = s.orders.decode(b); return err })
	}
	return open, err
}

// orders remembers what hosts ask for again and again.
type orders struct {
	mu    sync.Mutex // guards known
	known map[string]*pluginv1.ReadOpen
}

const (
	maxKnownOrders = 512
	maxKnownOrder  = 4 << 10
)

// decode returns the order that b encodes. It is shared: nobody changes it.
func (o *orders) decode(b []byte) (*pluginv1.ReadOpen, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if open := o.known[string(b)]; open != nil {
		return open, nil
	}
	open := &pluginv1.ReadOpen{}
	if err := proto.Unmarshal(b, open); err != nil || len(b) > maxKnownOrder {
		return open, err
	}
	if o.known == nil || len(o.known) >= maxKnownOrders {
		o.known = map[string]*pluginv1.ReadOpen{}
	}
	o.known[string(b)] = open
	return open, nil
}

// watchAfter is how long an answer takes before someone looks whether the host has gone. Most have ended by then.
const watchAfter = 5 * time.Millisecond

// watch looks whether the host has closed its half of a lane while an answer is under way. begin and end are for one goroutine.
type watch struct {
	lane *laneConn
	in   *itemReader
	gone func()

	timer *time.Timer
	over  chan struct{} // gets a value when a look is over
}

func (w *watch) begin() {
	if w.timer == nil {
		w.over = make(chan struct{}, 1)
		w.timer = time.AfterFunc(watchAfter, w.look)
		return
	}
	w.timer.Reset(watchAfter)
}

// look waits for whatever comes. If that is not the end, it is the beginning of the next order.
func (w *watch) look() {
	err := w.in.more()
	if err != nil && !errors.Is(err, os.ErrDeadlineExceeded) {
		w.gone()
		w.lane.SetWriteDeadline(time.Unix(1, 0)) // the source may be about to send what nobody takes any more
	}
	w.over <- struct{}{}
}

func (w *watch) end() {
	if w.timer.Stop() {
		return
	}
	w.lane.SetReadDeadline(time.Unix(1, 0))
	<-w.over
	w.lane.SetReadDeadline(time.Time{})
}

// laneWire sends answers on a lane.
type laneWire struct {
	conn *laneConn
	out  []byte
}

func (w *laneWire) add(m *message) (int, error) {
	data, ok := m.frame.(*sdk.Data)
	if !ok {
		var err error
		w.out, err = appendMessage(w.out, frameItem, frameToProto(m))
		return len(w.out), err
	}
	defer data.Release()
	h := item{kind: dataItem, size: data.Len()}.header()
	w.out = append(w.out, h[:]...)
	_, err := data.WriteTo((*appendWriter)(&w.out))
	return len(w.out), err
}

func (w *laneWire) pass(f sdk.Frame) error {
	if err := w.flush(); err != nil {
		sdk.Release(f)
		return err
	}
	if d, ok := f.(*sdk.Data); ok {
		return w.conn.sendPayload(d.Payload)
	}
	return w.conn.sendBatch(f.(*sdk.RecordBatch).Batch)
}

func (w *laneWire) flush() error {
	if len(w.out) == 0 {
		return nil
	}
	_, err := w.conn.Write(w.out)
	w.out = w.out[:0]
	if cap(w.out) > 2*maxHeld {
		w.out = nil
	}
	return err
}

// Answer answers on gRPC.
func (s sourceServer) Answer(stream grpc.BidiStreamingServer[pluginv1.ReadOpen, pluginv1.Frame]) error {
	ctx, cancel := context.WithCancelCause(stream.Context())
	defer cancel(nil)
	orders := make(chan *pluginv1.ReadOpen)
	ready := make(chan struct{}, 1)
	ready <- struct{}{}
	// Ends with the stream, which ends when this function has returned.
	go func() {
		defer close(orders)
		for {
			open, err := stream.Recv()
			if err != nil {
				cancel(sdk.ErrInterrupted)
				return
			}
			select {
			case <-ready:
			default:
				cancel(sdk.Errorf(sdk.Invalid, "an order came before the answer to the last one had ended"))
				return
			}
			select {
			case orders <- open:
			case <-ctx.Done():
				return
			}
		}
	}()
	out := &answering{wire: &streamWire{stream: stream}}
	for open := range orders {
		if err := s.answer(ctx, open, out, func() { ready <- struct{}{} }); err != nil {
			return statusOf(err)
		}
	}
	return nil
}

// streamWire sends answers on gRPC.
type streamWire struct {
	stream sender
	bundle []*pluginv1.Frame
	size   int
}

func (w *streamWire) add(m *message) (int, error) {
	f := &pluginv1.Frame{}
	if data, ok := m.frame.(*sdk.Data); ok {
		defer data.Release()
		out := make(appendWriter, 0, data.Len())
		if _, err := data.WriteTo(&out); err != nil {
			return w.size, err
		}
		f.Kind = &pluginv1.Frame_Data{Data: out}
		w.size += len(out)
	} else {
		f = frameToProto(m)
		w.size += 256 // more or less
	}
	w.bundle = append(w.bundle, f)
	return w.size, nil
}

func (w *streamWire) pass(f sdk.Frame) error {
	if err := w.flush(); err != nil {
		sdk.Release(f)
		return err
	}
	return sendFrame(w.stream, f)
}

func (w *streamWire) flush() error {
	if len(w.bundle) == 0 {
		return nil
	}
	f := &pluginv1.Frame{Kind: &pluginv1.Frame_Bundle{Bundle: &pluginv1.Bundle{Frames: w.bundle}}}
	w.bundle, w.size = nil, 0
	err := w.stream.SendMsg(f)
	if err == io.EOF {
		return sdk.ErrInterrupted
	}
	return err
}
