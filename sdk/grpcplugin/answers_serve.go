package grpcplugin

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
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
	// maxAnswer is the most bytes of frames that are kept to go together.
	maxAnswer = maxElement - 64
	// holdTime is how often answers are looked at that have begun. One that has not ended by the second time goes on in a call.
	holdTime = 10 * time.Millisecond
	// idleWorkers are kept for orders to come.
	idleWorkers = 64
)

// desk is where a plugin takes orders on one connection.
type desk struct {
	server *pluginServer
	out    *outbox
	ctx    context.Context // ends with the connection
	orders chan *reply     // for idle workers, with room for all of them

	mu      sync.Mutex // guards what follows
	open    map[uint64]*reply
	idle    int         // workers
	timer   *time.Timer // of look
	looking bool        // the timer runs
}

// attend answers on a connection until it ends.
func (s *pluginServer) attend(c connection) error {
	ctx, cancel := context.WithCancelCause(context.Background())
	d := &desk{server: s, out: newOutbox(c), ctx: ctx, orders: make(chan *reply, idleWorkers), open: map[uint64]*reply{}}
	go d.out.run() // ends with the connection
	var err error
	for err == nil {
		err = c.receive(d.take)
	}
	cancel(sdk.ErrInterrupted)
	close(d.orders)
	d.out.close()
	c.close()
	return err
}

// take begins a reply, or gives one up.
func (d *desk) take(element []byte) error {
	number, err := numberOf(element)
	if err != nil {
		return err
	}
	for f := (fields{rest: element}); f.next(0); {
		if f.field == orderField {
			open, err := d.server.orders.decode(f.content())
			if err != nil {
				return err
			}
			return d.begin(number, open)
		}
	}
	d.mu.Lock()
	r := d.open[number]
	d.mu.Unlock()
	if r != nil {
		r.cancel(sdk.ErrInterrupted)
	}
	return nil
}

func (d *desk) begin(number uint64, open *pluginv1.ReadOpen) error {
	r := &reply{desk: d, number: number, open: open}
	r.ctx, r.cancel = context.WithCancelCause(d.ctx)
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.open[number] != nil {
		return sdk.Errorf(sdk.Invalid, "an order has the number of another one")
	}
	d.open[number] = r
	if d.idle > 0 {
		d.idle--
		d.orders <- r
	} else {
		go d.work(r)
	}
	if !d.looking {
		d.looking = true
		if d.timer == nil {
			d.timer = time.AfterFunc(holdTime, d.look)
		} else {
			d.timer.Reset(holdTime)
		}
	}
	return nil
}

// work makes replies, for as long as it is kept. It ends with the connection at the latest.
func (d *desk) work(r *reply) {
	var memory []byte
	for ok := true; ok; r, ok = <-d.orders {
		memory = r.make(memory[:0])
		if !d.rest(r) {
			return
		}
	}
}

// rest takes a reply off the desk, and reports whether its worker is kept.
func (d *desk) rest(r *reply) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	delete(d.open, r.number)
	if d.idle == idleWorkers {
		return false
	}
	d.idle++
	return true
}

// look has the replies that take long go on in a call.
func (d *desk) look() {
	d.mu.Lock()
	open := slices.Collect(maps.Values(d.open))
	d.looking = len(open) > 0 && d.ctx.Err() == nil
	if d.looking {
		d.timer.Reset(holdTime)
	}
	d.mu.Unlock()
	for _, r := range open {
		r.age()
	}
}

// reply is a read that is under way at a desk.
type reply struct {
	desk   *desk
	number uint64
	open   *pluginv1.ReadOpen // shared: nobody changes it
	ctx    context.Context
	cancel context.CancelCauseFunc

	mu    sync.Mutex // guards what follows
	body  []byte     // frames that wait for the end, encoded
	old   bool       // some have for a while
	moved bool       // to a call: the host was told so, and body does not change any more
	ended bool       // was sent

	attached chan struct{} // closed when there is a call
	to       *frameSender  // of the call
	done     chan struct{} // closed when nothing comes any more, if it was moved
	failure  error         // the last thing to say then
}

// make reads, and sends what comes. It works in memory, and gives it back.
func (r *reply) make(memory []byte) []byte {
	defer r.cancel(nil)
	r.mu.Lock()
	r.body = memory
	r.mu.Unlock()
	leave, failure := r.desk.server.enter()
	if failure == nil {
		defer leave()
		failure = r.desk.server.readInto(r.ctx, r.open, r.emit)
	}
	if r.ctx.Err() != nil {
		failure = context.Cause(r.ctx)
	}
	return r.end(failure)
}

func (s *pluginServer) readInto(ctx context.Context, p *pluginv1.ReadOpen, emit func(sdk.Frame) error) (err error) {
	defer func() {
		if r := recover(); r != nil {
			slog.Error("panic in an answer", "panic", fmt.Sprint(r), "stack", string(debug.Stack()))
			err = sdk.Errorf(sdk.Internal, "the plugin panicked: %v", r)
		}
	}()
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

// emit keeps a frame, or sends it in the call.
func (r *reply) emit(f sdk.Frame) error {
	if kept, err := r.keep(f); kept || err != nil {
		return err
	}
	select {
	case <-r.attached:
	case <-r.ctx.Done():
	}
	if r.ctx.Err() != nil {
		sdk.Release(f)
		return context.Cause(r.ctx)
	}
	err := r.to.send(f)
	if err == io.EOF {
		return sdk.ErrInterrupted
	}
	return err
}

// keep reports false if there is to be a call for the frame, and what was kept before.
func (r *reply) keep(f sdk.Frame) (bool, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.moved && len(r.body)+sizeOf(f) > maxAnswer {
		r.moveLocked()
	}
	if r.moved {
		return false, nil
	}
	return true, r.keepLocked(&message{frame: f})
}

func (r *reply) keepLocked(m *message) (err error) {
	out, at := openField(r.body, framesField)
	if out, err = appendFrame(out, m); err != nil {
		return err
	}
	r.body = closeField(out, at)
	if len(r.body) > maxAnswer {
		r.moveLocked() // the frame was larger than it looked
	}
	return nil
}

// sizeOf is how much a frame takes, more or less.
func sizeOf(f sdk.Frame) int {
	switch f := f.(type) {
	case *sdk.Data:
		return f.Len()
	case *sdk.RecordBatch:
		return f.Size()
	}
	return 0
}

// moveLocked tells the host to make a call.
func (r *reply) moveLocked() {
	r.moved, r.attached, r.done = true, make(chan struct{}), make(chan struct{})
	number := r.desk.server.waiting.add(r)
	r.desk.out.add(func(b []byte) []byte {
		b, at := openField(b, elementField)
		return closeField(appendNumber(appendNumber(b, numberField, r.number), goesOnField, number), at)
	})
	// Ends by itself.
	time.AfterFunc(laneWait, func() {
		if r.desk.server.waiting.take(number) != nil {
			r.cancel(sdk.ErrInterrupted)
		}
	})
}

// age moves a reply whose frames wait for the second time.
func (r *reply) age() {
	r.mu.Lock()
	defer r.mu.Unlock()
	switch {
	case r.moved || r.ended || len(r.body) == 0:
	case r.old:
		r.moveLocked()
	default:
		r.old = true
	}
}

// end says what is last, and returns memory that is used no more.
func (r *reply) end(failure error) []byte {
	if r.endAtDesk(failure) {
		return r.body
	}
	close(r.done)
	select {
	case <-r.attached:
	case <-r.ctx.Done():
	}
	return nil
}

// endAtDesk sends the answer, or reports false if it ends in a call.
func (r *reply) endAtDesk(failure error) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if failure != nil && !r.moved {
		r.keepLocked(&message{err: sdk.AsError(failure)})
		failure = nil
	}
	if r.moved {
		r.failure = failure
		return false
	}
	r.desk.out.add(func(b []byte) []byte {
		b, at := openField(b, elementField)
		return closeField(append(appendNumber(b, numberField, r.number), r.body...), at)
	})
	r.ended = true
	return true
}

// goOn sends what a reply has kept, and lets it go on, in a call.
func (s *pluginServer) goOn(stream grpc.BidiStreamingServer[pluginv1.ReadUp, pluginv1.Frame], open *pluginv1.ReadOpen) error {
	r := s.waiting.take(open.GoesOn)
	if r == nil {
		return sdk.Retryf(sdk.Unavailable, "there is no read to go on with")
	}
	// Ends with the stream, which ends when this function has returned.
	go func() { r.cancel(listen(stream, once{}, nil)) }()
	r.to = newFrameSender(stream, open.GetLane())
	err := r.sendKept()
	if err != nil {
		r.cancel(err)
	} else {
		close(r.attached)
	}
	<-r.done
	if err != nil {
		return err
	}
	return r.failure
}

func (r *reply) sendKept() error {
	for f := (fields{rest: r.body}); f.next(framesField); {
		m, err := decodeFrame(f.content())
		switch {
		case err != nil:
			return err
		case m.err != nil:
			return m.err
		}
		if err := r.to.send(m.frame); err == io.EOF {
			return sdk.ErrInterrupted
		} else if err != nil {
			return err
		}
	}
	return nil
}

// once is told nothing: there are no checkpoints.
type once struct{}

func (once) RequestCheckpoint() error { return nil }
func (once) Acknowledge(uint64) error { return nil }

// replies are those that wait for a call.
type replies struct {
	mu     sync.Mutex // guards what follows
	last   uint64
	number map[uint64]*reply
}

func (w *replies) add(r *reply) uint64 {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.number == nil {
		w.number = map[uint64]*reply{}
	}
	w.last++
	w.number[w.last] = r
	return w.last
}

// take returns the reply of that number to the first who asks for it, otherwise nil.
func (w *replies) take(number uint64) *reply {
	w.mu.Lock()
	defer w.mu.Unlock()
	r := w.number[number]
	delete(w.number, number)
	return r
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
		if err := s.attend(&laneConnection{lane, elementReader{from: patientLane{lane}}}); !errors.Is(err, io.EOF) {
			slog.Warn("a lane for answers is given up", "err", err)
		}
	}()
	return &pluginv1.Attendance{}, nil
}

// Answer answers on gRPC.
func (s sourceServer) Answer(stream grpc.BidiStreamingServer[pluginv1.Orders, pluginv1.Answers]) error {
	err := s.attend(&streamConnection{stream: stream, cancel: func() {}})
	if err == io.EOF {
		return nil
	}
	return statusOf(err)
}
