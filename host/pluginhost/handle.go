package pluginhost

import (
	"context"
	"errors"
	"io"
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
	return s.host.call(ctx, offering{asSource, s.typ}, about(a), func(v *visit) error { return v.in.rpc.Source(s.typ).Validate(ctx, a) })
}

func (s *source) Store(ctx context.Context, a sdk.DataAddress) (name string, err error) {
	err = s.host.call(ctx, offering{asSource, s.typ}, about(a), func(v *visit) (err error) {
		name, err = v.in.rpc.Source(s.typ).Store(ctx, a)
		return err
	})
	return name, err
}

func (s *source) Read(ctx context.Context, open sdk.ReadOpen) (stream sdk.ReadStream, err error) {
	err = s.host.call(ctx, offering{asSource, s.typ}, tenantOf(open.Flow), func(v *visit) error {
		v.stream(reads, open.Once, open.ResumeToken != nil, v.in.refuses(ctx, v.in.rpc.Source(s.typ), open.Address))
		if err := s.probe(v, open); err != nil {
			return err
		}
		r, err := v.in.rpc.Source(s.typ).Read(ctx, open)
		if err == nil {
			stream = &readStream{r, v}
		}
		return err
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
	return s.host.call(ctx, offering{asSink, s.typ}, about(a), func(v *visit) error { return v.in.rpc.Sink(s.typ).Validate(ctx, a) })
}

func (s *sink) Store(ctx context.Context, a sdk.DataAddress) (name string, err error) {
	err = s.host.call(ctx, offering{asSink, s.typ}, about(a), func(v *visit) (err error) {
		name, err = v.in.rpc.Sink(s.typ).Store(ctx, a)
		return err
	})
	return name, err
}

func (s *sink) Provision(ctx context.Context, flow sdk.FlowContext, a sdk.DataAddress) (out sdk.DataAddress, err error) {
	err = s.host.call(ctx, offering{asSink, s.typ}, tenantOf(flow), func(v *visit) (err error) {
		out, err = v.in.rpc.Sink(s.typ).Provision(ctx, flow, a)
		return err
	})
	return out, err
}

func (s *sink) Deprovision(ctx context.Context, flow sdk.FlowContext, a sdk.DataAddress) error {
	return s.host.call(ctx, offering{asSink, s.typ}, tenantOf(flow), func(v *visit) error { return v.in.rpc.Sink(s.typ).Deprovision(ctx, flow, a) })
}

func (s *sink) Write(ctx context.Context, open sdk.WriteOpen) (stream sdk.WriteStream, err error) {
	err = s.host.call(ctx, offering{asSink, s.typ}, tenantOf(open.Flow), func(v *visit) error {
		v.stream(writes, false, open.ResumeToken != nil, v.in.refuses(ctx, v.in.rpc.Sink(s.typ), open.Address))
		w, err := v.in.rpc.Sink(s.typ).Write(ctx, open)
		if err == nil {
			stream = &writeStream{WriteStream: w, visit: v}
		}
		return err
	})
	return stream, err
}

// cut says whether the end of the process is the cause of an error that a call ended with.
func (in *instance) cut(ctx context.Context, err error) bool {
	if err == nil || errors.Is(err, io.EOF) || errors.Is(err, sdk.ErrUnread) || ctx.Err() != nil {
		return false
	}
	e := sdk.AsError(err)
	if e.Err == nil || e.Code != sdk.Unavailable && e.Code != sdk.Internal {
		return false // the plugin's own words: causes do not travel
	}
	// The connection breaks a moment before the process can be seen to have ended.
	return in.process.wait(ctx, exitGrace)
}

type readStream struct {
	sdk.ReadStream
	*visit
}

func (s *readStream) Recv() (sdk.Frame, error) {
	if s.in.trial.runs() {
		return s.recvOnTrial()
	}
	f, err := s.ReadStream.Recv()
	s.gives(f, err)
	return f, s.explain(err)
}

// gives takes note of what came from the source.
func (s *readStream) gives(f sdk.Frame, err error) {
	s.in.flows.stirs()
	switch err {
	case nil:
		s.passes(f)
	case io.EOF:
		s.finished()
	}
}

func (s *readStream) RequestCheckpoint() error { return s.explain(s.ReadStream.RequestCheckpoint()) }

func (s *readStream) Acknowledge(sequence uint64) error {
	s.reached(sequence)
	return s.explain(s.ReadStream.Acknowledge(sequence))
}

func (s *readStream) Close() error {
	defer s.end()
	return s.explain(s.ReadStream.Close())
}

type writeStream struct {
	sdk.WriteStream
	*visit
	owes atomic.Bool // while the build is on trial: something was sent that it has to answer
}

func (s *writeStream) Send(f sdk.Frame) error {
	if begin, ok := f.(*sdk.PartBegin); ok {
		s.await(begin.Index)
	}
	s.passes(f) // before it belongs to the sink
	if s.in.trial.runs() {
		return s.sendOnTrial(f)
	}
	s.in.flows.stirs()
	return s.explain(s.WriteStream.Send(f))
}

func (s *writeStream) Recv() (sdk.Up, error) {
	up, err := s.WriteStream.Recv()
	s.in.flows.stirs()
	if err == nil {
		s.hears(up)
	}
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
