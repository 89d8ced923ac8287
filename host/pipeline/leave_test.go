package pipeline_test

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/towpath-dataplane/towpath/sdk"
	"github.com/towpath-dataplane/towpath/sdk/sdktest"
)

// builds is a plugin that is replaced now and then: the streams that are open then ask to be left.
type builds struct {
	mu            sync.Mutex
	leave         chan struct{}
	opens         int
	sent, records atomic.Int64 // bytes and records that came for the sink
}

func newBuilds() *builds { return &builds{leave: make(chan struct{})} }

func (b *builds) replace() {
	b.mu.Lock()
	defer b.mu.Unlock()
	close(b.leave)
	b.leave = make(chan struct{})
}

func (b *builds) current() chan struct{} {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.opens++
	return b.leave
}

type replacedSource struct {
	sdk.DataSource
	*builds
}

func (s replacedSource) Read(ctx context.Context, open sdk.ReadOpen) (sdk.ReadStream, error) {
	leave := s.current()
	r, err := s.DataSource.Read(ctx, open)
	return &leftReadStream{r, leave}, err
}

type leftReadStream struct {
	sdk.ReadStream
	leave chan struct{}
}

func (s *leftReadStream) Leave() <-chan struct{} { return s.leave }

type replacedSink struct {
	sdk.DataSink
	*builds
}

func (s replacedSink) Write(ctx context.Context, open sdk.WriteOpen) (sdk.WriteStream, error) {
	leave := s.current()
	w, err := s.DataSink.Write(ctx, open)
	return &leftWriteStream{w, leave, s.builds}, err
}

type leftWriteStream struct {
	sdk.WriteStream
	leave  chan struct{}
	builds *builds
}

func (s *leftWriteStream) Leave() <-chan struct{} { return s.leave }

func (s *leftWriteStream) Send(f sdk.Frame) error {
	bytes, records := int64(0), int64(0)
	switch f := f.(type) {
	case *sdk.Data:
		bytes = int64(f.Len())
	case *sdk.RecordBatch:
		records = int64(f.Len())
	}
	err := s.WriteStream.Send(f)
	if err == nil {
		s.builds.sent.Add(bytes)
		s.builds.records.Add(records)
	}
	return err
}

// A transfer whose plugins are replaced goes on with their successors from where it was: inside a part, and without sending a byte again.
func TestLeave(t *testing.T) { onEachLane(t, leaves) }

func leaves(t *testing.T, via lane) {
	for name, replace := range map[string]func(source, sink *builds){
		"the source": func(source, _ *builds) { source.replace() },
		"the sink":   func(_, sink *builds) { sink.replace() },
		"both":       func(source, sink *builds) { source.replace(); sink.replace() },
	} {
		t.Run(name, func(t *testing.T) {
			from, to, k := filled(3, 8<<20, 0, 300_000), &sdktest.Memory{}, &keeper{}
			source, sink := newBuilds(), newBuilds()
			var passed atomic.Int64
			from.Reading = func(context.Context, sdktest.Point) error {
				if passed.Add(1)%25 == 0 {
					replace(source, sink)
				}
				return nil
			}
			tr := transfer(from, to)
			memorySource, memorySink := via.source(t, from), via.sink(t, to)
			tr.Source = func(string) (sdk.DataSource, error) { return replacedSource{memorySource, source}, nil }
			tr.Sink = func(string) (sdk.DataSink, error) { return replacedSink{memorySink, sink}, nil }
			if err := tr.Run(t.Context(), job(from, k), func(why string) { t.Errorf("it waits: %s", why) }); err != nil {
				t.Fatal(err)
			}
			wantSame(t, from, to)
			if want := int64(3 + 8<<20 + 300_000); sink.sent.Load() != want || k.bytes() != want {
				t.Errorf("%d bytes were sent, %d stored, of %d", sink.sent.Load(), k.bytes(), want)
			}
			if source.opens < 3 || source.opens != sink.opens {
				t.Errorf("%d and %d streams were opened", source.opens, sink.opens)
			}
		})
	}
}

// Nothing has to be awaited where nothing was sent: a source that has nothing to give is left at once.
func TestLeaveAtRest(t *testing.T) {
	from, to, k := filled(1000), &sdktest.Memory{}, &keeper{}
	source, asked := newBuilds(), make(chan struct{}, 1)
	first := true
	from.Reading = func(ctx context.Context, _ sdktest.Point) error {
		if !first {
			return nil
		}
		first = false
		asked <- struct{}{}
		<-ctx.Done()
		return ctx.Err()
	}
	tr := transfer(from, to)
	tr.Source = func(string) (sdk.DataSource, error) { return replacedSource{from.DataSource(), source}, nil }
	go func() { <-asked; source.replace() }()
	if err := tr.Run(t.Context(), job(from, k), func(string) {}); err != nil {
		t.Fatal(err)
	}
	wantSame(t, from, to)
}

// A failure that lies with a plugin that is gone is no reason to wait.
func TestReplacedIsTriedAtOnce(t *testing.T) {
	from, to, k := filled(1000), &sdktest.Memory{}, &keeper{}
	gone, failures := errors.New("gone"), 0
	from.Reading = func(context.Context, sdktest.Point) error {
		if failures++; failures <= 50 {
			return sdk.Retryf(sdk.Unavailable, "%w", gone)
		}
		return nil
	}
	tr := transfer(from, to)
	tr.Replaced = func(err error) bool { return errors.Is(err, gone) }
	if err := tr.Run(t.Context(), job(from, k), func(why string) { t.Errorf("it waits: %s", why) }); err != nil {
		t.Fatal(err)
	}
	wantSame(t, from, to)
}

// Records go over to a successor as bytes do: each once.
func TestLeaveWithRecords(t *testing.T) { onEachLane(t, leavesWithRecords) }

func leavesWithRecords(t *testing.T, via lane) {
	from, to, k := &sdktest.Memory{}, &sdktest.Memory{}, &keeper{}
	var records []sdk.Record
	for i := range 2000 {
		records = append(records, sdk.Record{Key: []byte{byte(i)}, Value: sdktest.Pattern(i, 500)})
	}
	from.PutRecords("stream", records)
	source, sink := newBuilds(), newBuilds()
	var passed atomic.Int64
	from.Reading = func(context.Context, sdktest.Point) error {
		if passed.Add(1) == 2 {
			source.replace()
			sink.replace()
		}
		return nil
	}
	tr := transfer(from, to)
	memorySource, memorySink := via.source(t, from), via.sink(t, to)
	tr.Source = func(string) (sdk.DataSource, error) { return replacedSource{memorySource, source}, nil }
	tr.Sink = func(string) (sdk.DataSink, error) { return replacedSink{memorySink, sink}, nil }
	if err := tr.Run(t.Context(), job(from, k), func(why string) { t.Errorf("it waits: %s", why) }); err != nil {
		t.Fatal(err)
	}
	got, err := to.Records("stream")
	if err != nil || len(got) != len(records) || sink.records.Load() != int64(len(records)) {
		t.Errorf("%d records arrived, %d were sent, of %d: %v", len(got), sink.records.Load(), len(records), err)
	}
	if source.opens < 2 {
		t.Errorf("%d streams were opened", source.opens)
	}
}

// coarse is a sink that is not told of checkpoints inside parts, as one that cannot go on there.
type coarse struct{ sdk.DataSink }

func (c coarse) Write(ctx context.Context, open sdk.WriteOpen) (sdk.WriteStream, error) {
	w, err := c.DataSink.Write(ctx, open)
	return &coarseStream{WriteStream: w}, err
}

type coarseStream struct {
	sdk.WriteStream
	inside bool
}

func (s *coarseStream) Send(f sdk.Frame) error {
	switch f.(type) {
	case *sdk.PartBegin:
		s.inside = true
	case *sdk.PartEnd:
		s.inside = false
	case *sdk.Checkpoint:
		if s.inside {
			return nil
		}
	}
	return s.WriteStream.Send(f)
}

// A sink that makes nothing durable inside a part is left behind the part.
func TestLeaveBehindAPart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		from, to, k := filled(1<<20, 1<<20, 1<<20), &sdktest.Memory{}, &keeper{}
		source, sink := newBuilds(), newBuilds()
		var passed atomic.Int64
		from.Reading = func(context.Context, sdktest.Point) error {
			if passed.Add(1) == 20 { // in the second part
				sink.replace()
				time.Sleep(time.Second)
			}
			return nil
		}
		tr := transfer(from, to)
		tr.Source = func(string) (sdk.DataSource, error) { return replacedSource{from.DataSource(), source}, nil }
		tr.Sink = func(string) (sdk.DataSink, error) { return replacedSink{coarse{to.DataSink()}, sink}, nil }
		if err := tr.Run(t.Context(), job(from, k), func(why string) { t.Errorf("it waits: %s", why) }); err != nil {
			t.Fatal(err)
		}
		wantSame(t, from, to)
		if sink.sent.Load() != 3<<20 || sink.opens != 2 {
			t.Errorf("%d bytes were sent in %d streams", sink.sent.Load(), sink.opens)
		}
	})
}
