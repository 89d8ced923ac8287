package pluginhost

import (
	"context"
	"errors"
	"io"
	"sync"

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
	err = s.host.call(ctx, offering{asSource, s.typ}, func(in *instance) error {
		c := in.newCall(ctx)
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
	err = s.host.call(ctx, offering{asSink, s.typ}, func(in *instance) error {
		c := in.newCall(ctx)
		w, err := in.rpc.Sink(s.typ).Write(ctx, open)
		if err != nil {
			c.end()
			return err
		}
		stream = &writeStream{w, c}
		return nil
	})
	return stream, err
}

// call calls f with the process of the moment.
func (s *supervisor) call(ctx context.Context, f func(in *instance) error) error {
	in, err := s.acquire(ctx)
	if err != nil {
		return err
	}
	return in.explain(ctx, f(in))
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
	once sync.Once
}

func (in *instance) newCall(ctx context.Context) *call {
	in.flows.begin()
	return &call{ctx: ctx, in: in}
}

func (c *call) explain(err error) error { return c.in.explain(c.ctx, err) }

func (c *call) end() { c.once.Do(func() { c.in.flows.end() }) }

type readStream struct {
	sdk.ReadStream
	call *call
}

func (s *readStream) Recv() (sdk.Frame, error) {
	f, err := s.ReadStream.Recv()
	return f, s.call.explain(err)
}

func (s *readStream) RequestCheckpoint() error {
	return s.call.explain(s.ReadStream.RequestCheckpoint())
}

func (s *readStream) Acknowledge(sequence uint64) error {
	return s.call.explain(s.ReadStream.Acknowledge(sequence))
}

func (s *readStream) Close() error {
	defer s.call.end()
	return s.call.explain(s.ReadStream.Close())
}

type writeStream struct {
	sdk.WriteStream
	call *call
}

func (s *writeStream) Send(f sdk.Frame) error { return s.call.explain(s.WriteStream.Send(f)) }

func (s *writeStream) Recv() (sdk.Up, error) {
	up, err := s.WriteStream.Recv()
	return up, s.call.explain(err)
}

func (s *writeStream) Close() error {
	defer s.call.end()
	return s.call.explain(s.WriteStream.Close())
}
