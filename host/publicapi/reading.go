package publicapi

import (
	"context"
	"errors"
	"io"
	"time"

	"github.com/towpath-dataplane/towpath/sdk"
)

// source opens streams of a flow's source.
type source struct {
	data       sdk.DataSource
	stay       *stay
	algorithms []sdk.Algorithm
	patience   time.Duration // for the first part
	replaced   func(err error) bool
}

// reading is a stream from a source. Its methods return the errors of sdk.ReadStream.
type reading struct {
	stream sdk.ReadStream
	stay   *stay
	cancel context.CancelFunc
}

// open opens a stream and returns its first part, nil if there is none. The error is a *problem.
func (s source) open(ctx context.Context, list bool, piece *sdk.Selection) (*reading, *sdk.PartBegin, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	timer := time.AfterFunc(s.patience, func() { cancel(context.DeadlineExceeded) })
	rd, first, err := s.begin(ctx, sdk.ReadOpen{
		Flow: s.stay.flow.PluginContext(), Address: s.stay.flow.Local, Digests: s.algorithms, List: list, Select: piece, Once: true,
	})
	if !timer.Stop() {
		err = errors.Join(err, context.DeadlineExceeded)
	}
	if err != nil {
		cancel(nil)
		rd.close()
		return nil, nil, sourceProblem(err)
	}
	rd.cancel = func() { cancel(nil) }
	return rd, first, nil
}

// begin opens a stream, once more if a plugin was to open it in the place of which there is another by now.
func (s source) begin(ctx context.Context, open sdk.ReadOpen) (*reading, *sdk.PartBegin, error) {
	rd, first, err := s.beginOnce(ctx, open)
	if err == nil || s.replaced == nil || !s.replaced(err) {
		return rd, first, err
	}
	rd.close()
	return s.beginOnce(ctx, open)
}

func (s source) beginOnce(ctx context.Context, open sdk.ReadOpen) (*reading, *sdk.PartBegin, error) {
	s.stay.waitsForSource()
	stream, err := s.data.Read(ctx, open)
	if err != nil {
		return nil, nil, err
	}
	rd := &reading{stream: stream, stay: s.stay, cancel: func() {}}
	first, err := rd.next()
	return rd, first, err
}

// several reports whether the source has another number of parts than one: first, which is nil if it has none. A source that does not
// list its parts counts as having one.
func (s source) several(ctx context.Context, first *sdk.PartBegin) (bool, error) {
	if first == nil || first.TotalParts > 0 {
		return first == nil || first.TotalParts > 1, nil
	}
	rd, _, err := s.open(ctx, true, nil)
	if e := new(sdk.Error); errors.As(err, &e) && e.Code == sdk.Unsupported {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	defer rd.close()
	second, err := rd.next()
	if err != nil {
		return false, sourceProblem(err)
	}
	return second != nil, nil
}

// close ends the stream. It does nothing for nil.
func (rd *reading) close() {
	if rd == nil {
		return
	}
	// What the source still has to say concerns nobody. A stream that has ended by itself is worth more than one that was cut.
	_ = rd.stream.Close()
	rd.cancel()
}

func (rd *reading) recv() (sdk.Frame, error) {
	rd.stay.waitsForSource()
	f, err := rd.stream.Recv()
	if err == io.EOF {
		return nil, sdk.Errorf(sdk.Corrupt, "the source stopped before its end")
	}
	return f, err
}

// next skips to the next part, and returns nil if there is none.
func (rd *reading) next() (*sdk.PartBegin, error) {
	for {
		f, err := rd.recv()
		if err != nil {
			return nil, err
		}
		switch f := f.(type) {
		case *sdk.PartBegin:
			return f, nil
		case *sdk.End:
			return nil, nil
		}
		sdk.Release(f)
	}
}

// nothingElse says whether the part that has ended was the last.
func (rd *reading) nothingElse() error {
	second, err := rd.next()
	if err == nil && second != nil {
		err = sdk.Errorf(sdk.Corrupt, "the source has part %q behind the only part", second.Name)
	}
	return err
}
