package pluginhost

import (
	"context"
	"errors"
	"io"
	"sync"
	"sync/atomic"

	"github.com/towpath-dataplane/towpath/sdk"
)

// source is a sdk.DataSource that stays the same when the plugin's process, or the plugin, is replaced. Each call goes to the process of
// the moment, waits for a bounded time while there is none, and ends with the process.
type source struct {
	host *Host
	typ  string
}

var _ sdk.DataSource = (*source)(nil)

func (s *source) Validate(ctx context.Context, a sdk.DataAddress) error {
	return s.host.call(ctx, offering{asSource, s.typ}, func(in *instance) error { return in.rpc.Source(s.typ).Validate(ctx, a) })
}

func (s *source) Store(ctx context.Context, a sdk.DataAddress) (name string, err error) {
	err = s.host.call(ctx, offering{asSource, s.typ}, func(in *instance) (err error) {
		name, err = in.rpc.Source(s.typ).Store(ctx, a)
		return err
	})
	return name, err
}

func (s *source) Read(ctx context.Context, open sdk.ReadOpen) (stream sdk.ReadStream, err error) {
	to := offering{asSource, s.typ}
	err = s.host.call(ctx, to, func(in *instance) error {
		c := in.newCall(ctx, question{to: to, stream: true, resumed: open.ResumeToken != nil,
			refuses: in.refuses(ctx, in.rpc.Source(s.typ), open.Address)})
		r, err := in.rpc.Source(s.typ).Read(ctx, open)
		if err != nil {
			c.end()
			return err
		}
		stream = &readStream{r, c}
		return nil
	})
	return stream, err
}

// sink is a sdk.DataSink in the way that source is a sdk.DataSource.
type sink struct {
	host *Host
	typ  string
}

var _ sdk.DataSink = (*sink)(nil)

func (s *sink) Validate(ctx context.Context, a sdk.DataAddress) error {
	return s.host.call(ctx, offering{asSink, s.typ}, func(in *instance) error { return in.rpc.Sink(s.typ).Validate(ctx, a) })
}

func (s *sink) Store(ctx context.Context, a sdk.DataAddress) (name string, err error) {
	err = s.host.call(ctx, offering{asSink, s.typ}, func(in *instance) (err error) {
		name, err = in.rpc.Sink(s.typ).Store(ctx, a)
		return err
	})
	return name, err
}

func (s *sink) Provision(ctx context.Context, flow sdk.FlowContext, a sdk.DataAddress) (out sdk.DataAddress, err error) {
	err = s.host.call(ctx, offering{asSink, s.typ}, func(in *instance) (err error) {
		out, err = in.rpc.Sink(s.typ).Provision(ctx, flow, a)
		return err
	})
	return out, err
}

func (s *sink) Deprovision(ctx context.Context, flow sdk.FlowContext, a sdk.DataAddress) error {
	return s.host.call(ctx, offering{asSink, s.typ}, func(in *instance) error { return in.rpc.Sink(s.typ).Deprovision(ctx, flow, a) })
}

func (s *sink) Write(ctx context.Context, open sdk.WriteOpen) (stream sdk.WriteStream, err error) {
	to := offering{asSink, s.typ}
	err = s.host.call(ctx, to, func(in *instance) error {
		c := in.newCall(ctx, question{to: to, stream: true, resumed: open.ResumeToken != nil,
			refuses: in.refuses(ctx, in.rpc.Sink(s.typ), open.Address)})
		w, err := in.rpc.Sink(s.typ).Write(ctx, open)
		if err != nil {
			c.end()
			return err
		}
		stream = &writeStream{WriteStream: w, call: c}
		return nil
	})
	return stream, err
}

// call calls f with the process of the moment.
func (s *supervisor) call(ctx context.Context, to offering, f func(in *instance) error) error {
	in, err := s.acquire(ctx)
	if err != nil {
		return err
	}
	return in.trial.watch(ctx, question{to: to}, func() error { return in.explain(ctx, f(in)) })
}

// explain replaces the error of a call that the end of the process has cut by one that says how it ended.
func (in *instance) explain(ctx context.Context, err error) error {
	if err == nil || errors.Is(err, io.EOF) || errors.Is(err, sdk.ErrUnread) || ctx.Err() != nil {
		return err
	}
	e := sdk.AsError(err)
	if e.Err == nil || e.Code != sdk.Unavailable && e.Code != sdk.Internal {
		return err // the plugin's own words: causes do not travel
	}
	// The connection breaks a moment before the process can be seen to have ended.
	if in.process.wait(ctx, exitGrace) {
		return in.lost()
	}
	return err
}

// call is one stream on a process.
type call struct {
	ctx  context.Context // of the stream
	in   *instance
	asks question
	once sync.Once
}

func (in *instance) newCall(ctx context.Context, q question) *call {
	in.flows.begin(q.to)
	in.trial.opens(q.to)
	return &call{ctx: ctx, in: in, asks: q}
}

func (c *call) explain(err error) error { return c.in.trial.replaced(c.in.explain(c.ctx, err)) }

// judged is explain for a stream of a build that may be on trial.
func (c *call) judged(err error) error { return c.in.trial.judge(c.ctx, c.asks, c.explain(err)) }

func (c *call) end() {
	c.once.Do(func() {
		c.in.flows.end(c.asks.to)
		c.in.trial.closes(c.asks.to)
	})
}

// Leave is closed when the flow is to go on elsewhere, at its next checkpoint.
func (c *call) Leave() <-chan struct{} { return c.in.leaving }

type readStream struct {
	sdk.ReadStream
	*call
}

func (s *readStream) Recv() (sdk.Frame, error) {
	if s.in.trial.runs() {
		return s.recvOnTrial()
	}
	f, err := s.ReadStream.Recv()
	s.in.flows.stirs()
	return f, s.explain(err)
}

func (s *readStream) RequestCheckpoint() error { return s.explain(s.ReadStream.RequestCheckpoint()) }

func (s *readStream) Acknowledge(sequence uint64) error {
	return s.explain(s.ReadStream.Acknowledge(sequence))
}

func (s *readStream) Close() error {
	defer s.end()
	return s.explain(s.ReadStream.Close())
}

type writeStream struct {
	sdk.WriteStream
	*call
	owes atomic.Bool // while the build is on trial: something was sent that it has to answer
}

func (s *writeStream) Send(f sdk.Frame) error {
	if s.in.trial.runs() {
		return s.sendOnTrial(f)
	}
	s.in.flows.stirs()
	return s.explain(s.WriteStream.Send(f))
}

func (s *writeStream) Recv() (sdk.Up, error) {
	up, err := s.WriteStream.Recv()
	s.in.flows.stirs()
	if s.in.trial.runs() {
		return up, s.heardOnTrial(up, err)
	}
	return up, s.explain(err)
}

func (s *writeStream) Close() error {
	defer s.end()
	defer s.settle()
	return s.explain(s.WriteStream.Close())
}
