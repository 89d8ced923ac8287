package pluginhost

import (
	"context"
	"time"

	"github.com/towpath-dataplane/towpath/sdk"
)

// refusalTime bounds the question whether a build refuses an address.
const refusalTime = 5 * time.Second

// refuses returns what asks a build on trial whether it refuses an address, and nil for any other build.
func (in *instance) refuses(ctx context.Context, v sdk.Validator, a sdk.DataAddress) func() bool {
	if !in.trial.runs() {
		return nil
	}
	return func() bool {
		ctx, cancel := context.WithTimeout(ctx, refusalTime)
		defer cancel()
		e := sdk.AsError(v.Validate(ctx, a))
		return e != nil && (e.Code == sdk.Invalid || e.Code == sdk.Unsupported)
	}
}

// recvOnTrial is Recv while the build is on trial: what it gives is what it moves. One that may have nothing to give is not timed.
func (s *readStream) recvOnTrial() (sdk.Frame, error) {
	t, to := s.in.trial, s.asks.to
	if typ, _ := s.in.description.Source(to.typ); !typ.NonFinite {
		t.begin(to)
		defer t.done(to)
	}
	f, err := s.ReadStream.Recv()
	s.gives(f, err)
	switch f := f.(type) {
	case nil:
	case *sdk.Data, *sdk.RecordBatch, *sdk.End:
		t.moves(to)
	case *sdk.PartEnd:
		if f.Size == 0 {
			t.moves(to)
		}
	default:
		t.stirs(to)
	}
	return f, s.judged(err)
}

// sendOnTrial is Send while the build is on trial. It has to take what comes, and then to answer for it.
func (s *writeStream) sendOnTrial(f sdk.Frame) error {
	t, to := s.in.trial, s.asks.to
	due := false
	switch f.(type) {
	case *sdk.End:
		due = true
	case *sdk.Checkpoint:
		typ, _ := s.in.description.Sink(to.typ)
		due = typ.Resumable
	}
	t.begin(to)
	err := s.WriteStream.Send(f)
	t.done(to)
	s.in.flows.stirs()
	if err != nil {
		return s.judged(err)
	}
	t.stirs(to)
	if due && s.owes.CompareAndSwap(false, true) {
		t.begin(to)
	}
	return nil
}

// heardOnTrial takes note of what the build says while it is on trial: what it makes durable is what it moves.
func (s *writeStream) heardOnTrial(up sdk.Up, err error) error {
	t, to := s.in.trial, s.asks.to
	switch up.(type) {
	case nil:
	case *sdk.Durable, *sdk.PartWritten, *sdk.Copied, *sdk.Done:
		t.moves(to)
	default:
		t.stirs(to)
	}
	return s.judged(err)
}

// settle is the end of a stream: nobody waits for an answer any more.
func (s *writeStream) settle() {
	if s.owes.Swap(false) {
		s.in.trial.done(s.asks.to)
	}
}
