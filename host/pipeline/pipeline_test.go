package pipeline_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/goleak"

	"github.com/towpath-dataplane/towpath/host/pipeline"
	"github.com/towpath-dataplane/towpath/sdk"
	"github.com/towpath-dataplane/towpath/sdk/sdktest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// keeper keeps what a transfer stores, as the engine does.
type keeper struct {
	mu    sync.Mutex
	place pipeline.Place
	parts []pipeline.Part
	err   error
	calls int
	delay time.Duration
}

func (k *keeper) store(_ context.Context, p pipeline.Place, parts []pipeline.Part) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	time.Sleep(k.delay)
	k.calls++
	if k.err != nil {
		return k.err
	}
	k.place = p
	k.parts = append(k.parts, parts...)
	return nil
}

// bytes returns how many bytes lie before the stored place.
func (k *keeper) bytes() int64 {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.place.Totals.Bytes
}

func job(m *sdktest.Memory, k *keeper) pipeline.Job {
	return pipeline.Job{
		Flow: sdk.FlowContext{ParticipantContext: "default", ID: "f"},
		From: m.Address(""), To: m.Address(""), Place: k.place, Store: k.store,
	}
}

func filled(sizes ...int) *sdktest.Memory {
	m := &sdktest.Memory{}
	for i, size := range sizes {
		m.Put(fmt.Sprintf("dir/part %02d", i), sdktest.Pattern(i, size))
	}
	return m
}

func wantSame(t *testing.T, from, to *sdktest.Memory) {
	t.Helper()
	if got, want := strings.Join(to.Names(), ","), strings.Join(from.Names(), ","); got != want {
		t.Fatalf("parts %s, want %s", got, want)
	}
	for _, name := range from.Names() {
		want, err1 := from.Content(name)
		got, err2 := to.Content(name)
		if err1 != nil || err2 != nil || !bytes.Equal(got, want) {
			t.Errorf("%s differs: %v, %v", name, err1, err2)
		}
	}
	wantBuffersBack(t)
}

func TestRun(t *testing.T) { onEachLane(t, runs) }

func runs(t *testing.T, via lane) {
	for name, sizes := range map[string][]int{
		"no part": {}, "empty part": {0}, "one byte": {1}, "odd": {1<<20 + 7}, "many": {5, 0, 300_000, 1, 1 << 20, 17},
	} {
		t.Run(name, func(t *testing.T) {
			from, to, k := filled(sizes...), &sdktest.Memory{}, &keeper{}
			j := job(from, k)
			j.Digests = []sdk.Algorithm{sdk.SHA256}
			m := pipeline.NewMetrics(prometheus.NewRegistry())
			if err := pipeline.Run(t.Context(), via.source(t, from), via.sink(t, to), j, 0, m); err != nil {
				t.Fatal(err)
			}
			wantSame(t, from, to)
			if len(k.parts) != len(sizes) || k.place.Totals.Parts != int64(len(sizes)) {
				t.Errorf("stored %d parts, totals %+v", len(k.parts), k.place.Totals)
			}
			for _, p := range k.parts {
				if len(p.Digests[sdk.CRC32C]) != 4 || len(p.Digests[sdk.SHA256]) != 32 {
					t.Errorf("part %s has digests %s", p.Name, p.Digests)
				}
			}
		})
	}
}

func TestRecords(t *testing.T) { onEachLane(t, records) }

func records(t *testing.T, via lane) {
	from, to, k := &sdktest.Memory{}, &sdktest.Memory{}, &keeper{}
	var records []sdk.Record
	for i := range 100 {
		records = append(records, sdk.Record{Key: fmt.Append(nil, i), Value: sdktest.Pattern(i, 100)})
	}
	from.PutRecords("stream", records)
	if err := pipeline.Run(t.Context(), via.source(t, from), via.sink(t, to), job(from, k), 0, nil); err != nil {
		t.Fatal(err)
	}
	if got, err := to.Records("stream"); err != nil || len(got) != 100 || k.place.Totals.Records != 100 {
		t.Errorf("%d records, %v, totals %+v", len(got), err, k.place.Totals)
	}
}

// TestGoesOnFromWhereItWas cuts a transfer at random points, again and again, and goes on from the stored place with fresh streams, as
// after a suspend or a crash.
func TestGoesOnFromWhereItWas(t *testing.T) { onEachLane(t, goesOnFromWhereItWas) }

func goesOnFromWhereItWas(t *testing.T, via lane) {
	for seed := range via.seeds {
		random := rand.New(rand.NewPCG(seed, 0))
		from := filled(700_000, 0, 1<<20, 3, 400_000)
		to, k := &sdktest.Memory{}, &keeper{}
		for attempt := 0; ; attempt++ {
			if attempt == 50 {
				t.Fatalf("seed %d: no end", seed)
			}
			limit, failure := int64(random.IntN(1_200_000)), errors.New("cut")
			if random.IntN(2) == 0 {
				from.Reading = sdktest.FailOnce(limit, failure)
			} else {
				to.Writing = sdktest.FailOnce(limit, sdk.ErrInterrupted)
			}
			j := job(from, k)
			j.Redelivery = attempt > 0
			err := pipeline.Run(t.Context(), via.source(t, from), via.sink(t, to), j, time.Microsecond, nil)
			from.Reading, to.Writing = nil, nil
			if err == nil {
				break
			}
		}
		wantSame(t, from, to)
		if total := int64(700_000 + 1<<20 + 3 + 400_000); k.place.Totals != (sdk.Totals{Parts: 5, Bytes: total}) {
			t.Errorf("seed %d: totals %+v", seed, k.place.Totals)
		}
	}
}

func TestCutReturnsItsCauseAndStoresThePlace(t *testing.T) {
	onEachLane(t, cutReturnsItsCauseAndStoresThePlace)
}

func cutReturnsItsCauseAndStoresThePlace(t *testing.T, via lane) {
	from, to, k := filled(100_000, 4<<20), &sdktest.Memory{}, &keeper{}
	gate := sdktest.NewGate(1 << 20)
	to.Writing = gate.Hook
	ctx, cancel := context.WithCancelCause(t.Context())
	suspended := errors.New("suspended")
	done := make(chan error)
	sink := heardSink{via.sink(t, to), make(chan struct{})}
	go func() { done <- pipeline.Run(ctx, via.source(t, from), sink, job(from, k), time.Hour, nil) }()
	<-gate.Reached()
	<-sink.heard
	cancel(suspended)
	if err := <-done; !errors.Is(err, suspended) {
		t.Errorf("got %v", err)
	}
	if k.bytes() != 100_000 || len(k.parts) != 1 {
		t.Errorf("stored %d bytes and %d parts: the first part was durable", k.bytes(), len(k.parts))
	}
	wantBuffersBack(t)
}

// heardSink closes heard when the first Durable was dealt with.
type heardSink struct {
	sdk.DataSink
	heard chan struct{}
}

func (h heardSink) Write(ctx context.Context, open sdk.WriteOpen) (sdk.WriteStream, error) {
	s, err := h.DataSink.Write(ctx, open)
	return &heardStream{WriteStream: s, heard: h.heard}, err
}

type heardStream struct {
	sdk.WriteStream
	durable bool
	heard   chan struct{}
	once    sync.Once
}

func (h *heardStream) Recv() (sdk.Up, error) {
	if h.durable {
		h.once.Do(func() { close(h.heard) })
	}
	up, err := h.WriteStream.Recv()
	if _, ok := up.(*sdk.Durable); ok {
		h.durable = true
	}
	return up, err
}

// TestStoppedSinkStopsTheSource: what a stalled flow takes from its source does not depend on its size.
func TestStoppedSinkStopsTheSource(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		from, to, k := filled(64<<20), &sdktest.Memory{}, &keeper{}
		var read atomic.Int64
		from.Reading = func(_ context.Context, at sdktest.Point) error {
			read.Store(at.Total)
			return nil
		}
		to.Writing = sdktest.NewGate(0).Hook
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error)
		go func() { done <- pipeline.Run(ctx, from.DataSource(), to.DataSink(), job(from, k), 1000*time.Hour, nil) }()
		synctest.Wait()
		// Between an in-process source and sink there are a few frames, no window.
		if n := read.Load(); n == 0 || n > 2<<20 {
			t.Errorf("a stopped sink took %d bytes from its source", n)
		}
		cancel()
		<-done
	})
}

func TestFailuresNameTheSideAndKeepTheirCode(t *testing.T) {
	onEachLane(t, failuresNameTheSideAndKeepTheirCode)
}

func failuresNameTheSideAndKeepTheirCode(t *testing.T, via lane) {
	denied := sdk.Errorf(sdk.Denied, "not for you")
	for name, set := range map[string]func(from, to *sdktest.Memory){
		"source": func(from, _ *sdktest.Memory) { from.Reading = sdktest.FailAfter(10, denied) },
		"sink":   func(_, to *sdktest.Memory) { to.Writing = sdktest.FailAfter(10, denied) },
	} {
		from, to, k := filled(100_000), &sdktest.Memory{}, &keeper{}
		set(from, to)
		err := pipeline.Run(t.Context(), via.source(t, from), via.sink(t, to), job(from, k), 0, nil)
		if e := sdk.AsError(err); err == nil || e.Code != sdk.Denied || !strings.HasPrefix(err.Error(), name+": ") {
			t.Errorf("%s: %v", name, err)
		}
		if len(to.Names()) != 0 {
			t.Errorf("%s: a part is visible that is not whole", name)
		}
	}
}

func TestStoreThatFailsEndsTheTransfer(t *testing.T) { onEachLane(t, storeThatFailsEndsTheTransfer) }

func storeThatFailsEndsTheTransfer(t *testing.T, via lane) {
	from, to := filled(100_000), &sdktest.Memory{}
	k := &keeper{err: errors.New("disk full")}
	if err := pipeline.Run(t.Context(), via.source(t, from), via.sink(t, to), job(from, k), 0, nil); !errors.Is(err, k.err) {
		t.Errorf("got %v", err)
	}
}

// TestPartsOfAPlaceThatCouldNotBeStored: a run is cut while it stores a place, and stores a later one in the end. The parts of both count.
func TestPartsOfAPlaceThatCouldNotBeStored(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		from, to, k := filled(1000, 1000, 1000, 1000), &sdktest.Memory{}, &keeper{}
		storing := make(chan struct{})
		from.Reading = func(_ context.Context, at sdktest.Point) error {
			switch at.Total {
			case 2000: // two parts are durable
				<-storing
			case 4000:
				synctest.Wait() // three are
				return errors.New("cut")
			}
			return nil
		}
		j := job(from, k)
		j.Store = func(ctx context.Context, p pipeline.Place, parts []pipeline.Part) error {
			select {
			case <-storing:
				return k.store(ctx, p, parts)
			default:
				close(storing)
				<-ctx.Done()
				return ctx.Err()
			}
		}
		if err := pipeline.Run(t.Context(), from.DataSource(), to.DataSink(), j, time.Second, nil); err == nil {
			t.Fatal("the run was not cut")
		}
		if int64(len(k.parts)) != k.place.Totals.Parts || len(k.parts) != 3 {
			t.Errorf("stored a place behind %d parts, and %d parts", k.place.Totals.Parts, len(k.parts))
		}
	})
}

// tampering changes what passes between a source and a sink.
type tampering struct {
	sdk.DataSource
	change func(sdk.Frame) sdk.Frame
}

func (s tampering) Read(ctx context.Context, open sdk.ReadOpen) (sdk.ReadStream, error) {
	stream, err := s.DataSource.Read(ctx, open)
	return tamperingStream{stream, s.change}, err
}

type tamperingStream struct {
	sdk.ReadStream
	change func(sdk.Frame) sdk.Frame
}

func (s tamperingStream) Recv() (sdk.Frame, error) {
	f, err := s.ReadStream.Recv()
	if err != nil {
		return f, err
	}
	return s.change(f), nil
}

func TestChangedBytesAreNoticed(t *testing.T) {
	changes := map[string]func(sdk.Frame) sdk.Frame{
		"a byte": func(f sdk.Frame) sdk.Frame {
			if d, ok := f.(*sdk.Data); ok {
				d.Payload.(*sdk.Buffer).Bytes()[7] ^= 1
			}
			return f
		},
		"size announced too small": func(f sdk.Frame) sdk.Frame {
			if b, ok := f.(*sdk.PartBegin); ok {
				b.Size--
			}
			return f
		},
		"end announces another size": func(f sdk.Frame) sdk.Frame {
			if e, ok := f.(*sdk.PartEnd); ok {
				e.Size++
			}
			return f
		},
		"a part too many announced": func(f sdk.Frame) sdk.Frame {
			if e, ok := f.(*sdk.End); ok {
				e.Parts++
			}
			return f
		},
		"a name that leads out": func(f sdk.Frame) sdk.Frame {
			if b, ok := f.(*sdk.PartBegin); ok {
				b.Name = "../" + b.Name
			}
			return f
		},
	}
	for name, change := range changes {
		from, to, k := filled(100_000), &sdktest.Memory{}, &keeper{}
		err := pipeline.Run(t.Context(), tampering{from.DataSource(), change}, to.DataSink(), job(from, k), 0, nil)
		if code := sdk.AsError(err); err == nil || code.Code != sdk.Corrupt && code.Code != sdk.Invalid {
			t.Errorf("%s: %v", name, err)
		}
		if len(to.Names()) != 0 && name != "a part too many announced" {
			t.Errorf("%s: the part is visible", name)
		}
		wantBuffersBack(t)
	}
}

func transfer(from, to *sdktest.Memory) *pipeline.Transfer {
	return &pipeline.Transfer{
		Source: func(string) (sdk.DataSource, error) { return from.DataSource(), nil },
		Sink:   func(string) (sdk.DataSink, error) { return to.DataSink(), nil },
		Retry:  pipeline.Retry{First: time.Second, Max: 10 * time.Second, GiveUpAfter: time.Minute},
		Logger: slog.New(slog.DiscardHandler),
	}
}

func TestTransferGoesOnAfterFailuresThatPass(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		from, to, k := filled(100_000, 300_000), &sdktest.Memory{}, &keeper{}
		from.Reading = sdktest.FailOnce(50_000, sdk.Retryf(sdk.Unavailable, "gone"))
		to.Writing = sdktest.FailOnce(200_000, sdk.Retryf(sdk.Unavailable, "gone too"))
		var reasons []string
		err := transfer(from, to).Run(t.Context(), job(from, k), func(r string) { reasons = append(reasons, r) })
		if err != nil {
			t.Fatal(err)
		}
		wantSame(t, from, to)
		if len(reasons) != 4 || !strings.Contains(reasons[0], "gone") || reasons[1] != "" {
			t.Errorf("waiting said %q", reasons)
		}
	})
}

// What both sides have done is not thrown away because this host cannot store it for longer than peers may fail.
func TestTransferWaitsUntilItsPlaceCanBeStored(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		from, to, k := filled(100_000, 300_000), &sdktest.Memory{}, &keeper{}
		var reasons []string
		full, began := sdk.Retryf(sdk.Unavailable, "the disk is full"), time.Now()
		j := job(from, k)
		j.Store = func(ctx context.Context, p pipeline.Place, parts []pipeline.Part) error {
			if time.Since(began) < time.Hour {
				return full
			}
			return k.store(ctx, p, parts)
		}
		to.Writing = sdktest.FailOnce(200_000, sdk.Retryf(sdk.Unavailable, "gone after an hour"))
		if err := transfer(from, to).Run(t.Context(), j, func(r string) { reasons = append(reasons, r) }); err != nil {
			t.Fatal(err)
		}
		wantSame(t, from, to)
		if k.bytes() != 400_000 || !slices.ContainsFunc(reasons, func(r string) bool { return strings.Contains(r, "disk is full") }) ||
			reasons[len(reasons)-1] != "" {
			t.Errorf("%d bytes are stored, waiting said %q", k.bytes(), reasons)
		}

		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		j = job(from, &keeper{err: full})
		if err := transfer(from, &sdktest.Memory{}).Run(ctx, j, func(string) {}); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("cut while it waits: %v", err)
		}
	})
}

func TestTransferGivesUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		from, to, k := filled(100_000), &sdktest.Memory{}, &keeper{}
		from.Reading = sdktest.FailAfter(0, sdk.Retryf(sdk.Unavailable, "gone"))
		start := time.Now()
		err := transfer(from, to).Run(t.Context(), job(from, k), func(string) {})
		if e := sdk.AsError(err); err == nil || e.Code != sdk.Unavailable {
			t.Errorf("got %v", err)
		}
		if took := time.Since(start); took < time.Minute || took > 75*time.Second {
			t.Errorf("gave up after %s", took)
		}
	})
}

// A plugin that is not there is waited for, for as long as that takes; a failure that comes then has all its time.
func TestTransferWaitsForWhoIsAbsent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		from, to, k, began := filled(100_000), &sdktest.Memory{}, &keeper{}, time.Now()
		absent := errors.New("nobody offers it")
		tr := transfer(from, to)
		tr.Absent = func(err error) bool { return errors.Is(err, absent) }
		tr.Sink = func(string) (sdk.DataSink, error) {
			switch waited := time.Since(began); {
			case waited < time.Hour:
				return nil, sdk.Retryf(sdk.Unavailable, "%w", absent)
			case waited < time.Hour+30*time.Second:
				return nil, sdk.Retryf(sdk.Unavailable, "gone")
			}
			return to.DataSink(), nil
		}
		if err := tr.Run(t.Context(), job(from, k), func(string) {}); err != nil {
			t.Fatal(err)
		}
		wantSame(t, from, to)
	})
}

func TestTransferDoesNotRepeatWhatCannotPass(t *testing.T) {
	from, to, k := filled(100_000), &sdktest.Memory{}, &keeper{}
	from.Reading = sdktest.FailAfter(0, sdk.Errorf(sdk.NotFound, "no such thing"))
	start := 0
	err := transfer(from, to).Run(t.Context(), job(from, k), func(string) { start++ })
	if e := sdk.AsError(err); err == nil || e.Code != sdk.NotFound || start != 0 {
		t.Errorf("got %v after %d pauses", err, start)
	}
}

func TestTransferHeedsRetryAfter(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		from, to, k := filled(100_000), &sdktest.Memory{}, &keeper{}
		busy := sdk.Retryf(sdk.Unavailable, "busy")
		busy.RetryAfter = 30 * time.Second
		from.Reading = sdktest.FailOnce(0, busy)
		start := time.Now()
		if err := transfer(from, to).Run(t.Context(), job(from, k), func(string) {}); err != nil {
			t.Fatal(err)
		}
		if took := time.Since(start); took < 30*time.Second {
			t.Errorf("tried again after %s", took)
		}
	})
}

// A side that refuses a transfer gets a renewed address, once until something was stored.
func TestTransferAsksForARenewedAddress(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		denied := sdk.Errorf(sdk.Denied, "token expired")
		for name, tc := range map[string]struct {
			fail    func(offset int64, err error) sdktest.Hook
			renewal error
			want    sdk.Code // "" for success
			asked   string
		}{
			"and goes on with it":     {sdktest.FailOnce, nil, "", "false true false "},
			"but not again and again": {sdktest.FailAfter, nil, sdk.Denied, "false true false "},
			"and may not get one":     {sdktest.FailOnce, errors.New("cannot be renewed"), sdk.Denied, "false true "},
		} {
			from, to, k := filled(100_000), &sdktest.Memory{}, &keeper{}
			from.Reading = tc.fail(0, denied)
			j := job(from, k)
			asked := ""
			j.Addresses = func(_ context.Context, refused bool) (sdk.DataAddress, sdk.DataAddress, error) {
				asked += fmt.Sprint(refused, " ")
				if refused {
					return from.Address(""), to.Address(""), tc.renewal
				}
				return from.Address(""), to.Address(""), nil
			}
			err := transfer(from, to).Run(t.Context(), j, func(string) {})
			if (err == nil) != (tc.want == "") || err != nil && sdk.AsError(err).Code != tc.want || asked != tc.asked {
				t.Errorf("%s: %v, asked %s", name, err, asked)
			}
		}
	})
}

// A run says where it is, and a further attempt begins where the last place was.
func TestStep(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		from, to := filled(100_000, 300_000), &sdktest.Memory{}
		gate := sdktest.NewGate(200_000)
		from.Reading = gate.Hook
		var step atomic.Pointer[func() pipeline.Step]
		j := job(from, &keeper{})
		j.To = to.Address("")
		j.Observe = func(s func() pipeline.Step) { step.Store(&s) }
		done := make(chan error)
		go func() { done <- pipeline.Run(t.Context(), from.DataSource(), to.DataSink(), j, time.Hour, nil) }()
		<-gate.Reached()
		synctest.Wait()
		s := (*step.Load())()
		if s.Part != "dir/part 01" || s.PartSize != 300_000 || s.PartBytes == 0 || s.Totals.Parts != 1 || s.Totals.Bytes != 100_000+s.PartBytes ||
			s.TotalParts != 2 || s.TotalBytes != 400_000 {
			t.Errorf("step %+v", s)
		}
		gate.Open()
		if err := <-done; err != nil {
			t.Fatal(err)
		}
		if s := (*step.Load())(); s.Part != "" || s.PartBytes != 0 || s.Totals != (sdk.Totals{Parts: 2, Bytes: 400_000}) {
			t.Errorf("at the end: step %+v", s)
		}
	})
}

// A part that comes out wrong moves again from its start, not from the last place inside it, and not for ever.
func TestTransferMovesASpoiledPartAgain(t *testing.T) {
	for _, times := range []int{1, 3, 100} {
		synctest.Test(t, func(t *testing.T) {
			from, to, k := filled(1000, 3<<20, 1000), &sdktest.Memory{}, &keeper{}
			left, starts := times, 0
			from.Reading = func(ctx context.Context, at sdktest.Point) error {
				if at.Part != "dir/part 01" {
					return nil
				}
				if at.Offset == 0 {
					starts++
				}
				time.Sleep(50 * time.Millisecond) // so that places inside are stored
				if at.Offset < 2<<20 || left == 0 {
					return nil
				}
				left--
				return sdk.Retryf(sdk.Corrupt, "not what its origin says")
			}
			err := transfer(from, to).Run(t.Context(), job(from, k), func(string) {})
			if times == 100 {
				if e := sdk.AsError(err); e == nil || e.Code != sdk.Corrupt || starts > 10 {
					t.Errorf("ends with %v after the part was begun %d times", err, starts)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			wantSame(t, from, to)
			if starts != times+1 {
				t.Errorf("the part was begun %d times, want %d", starts, times+1)
			}
		})
	}
}
