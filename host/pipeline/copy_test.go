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
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/towpath-dataplane/towpath/host/pipeline"
	"github.com/towpath-dataplane/towpath/sdk"
	"github.com/towpath-dataplane/towpath/sdk/sdktest"
)

// inStore is a transfer between two folders of one memory.
func inStore(t *testing.T, via lane, m *sdktest.Memory, log *bytes.Buffer) *pipeline.Transfer {
	source, sink := via.source(t, m), via.sink(t, m)
	return &pipeline.Transfer{
		Source:   func(string) (sdk.DataSource, error) { return source, nil },
		Sink:     func(string) (sdk.DataSink, error) { return sink, nil },
		Retry:    pipeline.Retry{First: time.Millisecond, Max: time.Millisecond, GiveUpAfter: time.Minute},
		Logger:   slog.New(slog.NewTextHandler(log, nil)),
		Interval: time.Millisecond,
		InOneStore: func(ctx context.Context, from, to sdk.DataAddress) bool {
			a, err1 := source.Store(ctx, from)
			b, err2 := sink.Store(ctx, to)
			return err1 == nil && err2 == nil && a == b
		},
	}
}

func jobInStore(m *sdktest.Memory, k *keeper) pipeline.Job {
	j := job(m, k)
	j.From, j.To = m.Address("dir"), m.Address("to")
	return j
}

// wantCopy checks that everything is in its new place, and stored once.
func wantCopy(t *testing.T, m *sdktest.Memory, k *keeper) {
	t.Helper()
	var total sdk.Totals
	names := map[string]bool{}
	for _, name := range m.Names() {
		rest, ok := strings.CutPrefix(name, "dir/")
		if !ok {
			continue
		}
		want, err1 := m.Content(name)
		got, err2 := m.Content("to/" + rest)
		if err1 != nil || err2 != nil || !bytes.Equal(got, want) {
			t.Errorf("%s is not copied: %v, %v", rest, err1, err2)
		}
		total.Parts++
		total.Bytes += int64(len(want))
		names[rest] = true
	}
	if k.place.Totals != total {
		t.Errorf("stored totals are %+v, want %+v", k.place.Totals, total)
	}
	for _, p := range k.parts {
		if !names[p.Name] || len(p.Digests[sdk.CRC32C]) != 4 {
			t.Errorf("stored part %+v", p)
		}
	}
	wantBuffersBack(t)
}

// counting is a meter without limits.
type counting struct{ bytes atomic.Int64 }

func (c *counting) Wait(_ context.Context, bytes, _ int64) error { c.bytes.Add(bytes); return nil }
func (c *counting) Close()                                       {}

func TestCopiesInsideAStore(t *testing.T) { onEachLane(t, copiesInsideAStore) }

func copiesInsideAStore(t *testing.T, via lane) {
	m, k, log, meter := filled(300_000, 0, 1, 2<<20), &keeper{}, &bytes.Buffer{}, &counting{}
	m.Reading = func(context.Context, sdktest.Point) error { return errors.New("bytes are read") }
	registry := prometheus.NewRegistry()
	transfer := inStore(t, via, m, log)
	transfer.Metrics, transfer.Accounts = pipeline.NewMetrics(registry), pipeline.NewAccounts(pipeline.Watchdog{}, nil)
	transfer.Meter = func(sdk.FlowContext, func(bool)) pipeline.Meter { return meter }
	if err := transfer.Run(t.Context(), jobInStore(m, k), func(string) {}); err != nil {
		t.Fatal(err)
	}
	wantCopy(t, m, k)
	const total = 300_001 + 2<<20
	moved, _ := transfer.Accounts.Of("default", "f")
	if got := valueOf(t, registry, "towpath_transfer_copied_bytes_total"); got != total || moved.Copied != total {
		t.Errorf("%.0f bytes were counted as copied, %d of the flow, want %d", got, moved.Copied, total)
	}
	if got := valueOf(t, registry, "towpath_transfer_bytes_total"); got != 0 || meter.bytes.Load() != 0 {
		t.Errorf("%.0f bytes were counted as moved, %d were charged", got, meter.bytes.Load())
	}
	if !strings.Contains(log.String(), "copied inside its store") {
		t.Errorf("the log is %q", log.String())
	}
}

func valueOf(t *testing.T, registry *prometheus.Registry, name string) float64 {
	t.Helper()
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		if f.GetName() == name {
			return f.Metric[0].GetCounter().GetValue()
		}
	}
	t.Fatalf("there is no metric %s", name)
	return 0
}

func TestMovesWhatTheStoreRefuses(t *testing.T) { onEachLane(t, movesWhatTheStoreRefuses) }

func movesWhatTheStoreRefuses(t *testing.T, via lane) {
	for _, tt := range []struct {
		name    string
		refuses func(sdktest.Point) bool
		asked   int64 // how often the store refuses
		moved   []string
	}{
		{"one in its middle", func(at sdktest.Point) bool { return at.Part == "part 01" && at.Offset > 0 }, 1, []string{"part 01"}},
		{"all", func(sdktest.Point) bool { return true }, 3, []string{"part 00", "part 01", "part 02", "part 03", "part 04"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			m, k, log, meter := filled(1000, 300_000, 5, 6, 7), &keeper{}, &bytes.Buffer{}, &counting{}
			var refused atomic.Int64
			m.Copying = func(_ context.Context, at sdktest.Point) error {
				if !tt.refuses(at) {
					return nil
				}
				refused.Add(1)
				return sdk.Errorf(sdk.NotCopied, "the store has other rules")
			}
			transfer := inStore(t, via, m, log)
			transfer.Meter = func(sdk.FlowContext, func(bool)) pipeline.Meter { return meter }
			if err := transfer.Run(t.Context(), jobInStore(m, k), func(r string) { t.Errorf("waits: %s", r) }); err != nil {
				t.Fatal(err)
			}
			wantCopy(t, m, k)
			want := int64(0)
			for _, name := range tt.moved {
				content, _ := m.Content("dir/" + name)
				want += int64(len(content))
			}
			if refused.Load() != tt.asked || meter.bytes.Load() < want {
				t.Errorf("the store refused %d times, want %d; %d bytes moved, want %d", refused.Load(), tt.asked, meter.bytes.Load(), want)
			}
			if n := strings.Count(log.String(), "level=WARN"); n != int(tt.asked) || !strings.Contains(log.String(), "the store has other rules") {
				t.Errorf("the log has %d warnings: %s", n, log.String())
			}
		})
	}
}

// Without leave of the operator, and between stores, bytes move.
func TestMovesBetweenStores(t *testing.T) {
	m, other, k := filled(1000, 300_000), &sdktest.Memory{}, &keeper{}
	m.Copying = func(context.Context, sdktest.Point) error { return errors.New("copied") }
	other.Copying = m.Copying
	source, sink := m.DataSource(), other.DataSink()
	for name, in := range map[string]func(context.Context, sdk.DataAddress, sdk.DataAddress) bool{
		"not allowed": nil, "another store": func(context.Context, sdk.DataAddress, sdk.DataAddress) bool { return false },
	} {
		t.Run(name, func(t *testing.T) {
			transfer := transfer(m, other)
			transfer.Source = func(string) (sdk.DataSource, error) { return source, nil }
			transfer.Sink = func(string) (sdk.DataSink, error) { return sink, nil }
			transfer.InOneStore = in
			j := job(m, k)
			j.Redelivery = true
			if err := transfer.Run(t.Context(), j, func(string) {}); err != nil {
				t.Fatal(err)
			}
			wantSame(t, m, other)
		})
	}
}

// A copy is cut at random points, again and again, and goes on from the stored place with fresh streams.
func TestCopyGoesOnFromWhereItWas(t *testing.T) { onEachLane(t, copyGoesOnFromWhereItWas) }

func copyGoesOnFromWhereItWas(t *testing.T, via lane) {
	for seed := range via.seeds {
		random := rand.New(rand.NewPCG(seed, 7))
		m, k := filled(700_000, 0, 1<<20, 3, 400_000), &keeper{}
		for attempt := 0; ; attempt++ {
			ctx, cancel := context.WithCancel(t.Context())
			n := int64(random.IntN(600_000))
			m.Copying = func(ctx context.Context, at sdktest.Point) error {
				if at.Total >= n && attempt < 12 {
					cancel()
					<-ctx.Done()
					return context.Cause(ctx)
				}
				time.Sleep(time.Duration(random.IntN(2)) * time.Millisecond)
				return nil
			}
			j := jobInStore(m, k)
			j.ByReference, j.Redelivery = true, attempt > 0
			err := pipeline.Run(ctx, via.source(t, m), via.sink(t, m), j, time.Millisecond, nil)
			cancel()
			if err == nil {
				break
			}
			if !errors.Is(err, context.Canceled) {
				t.Fatalf("seed %d, attempt %d: %v", seed, attempt, err)
			}
		}
		wantCopy(t, m, k)
		names := map[string]bool{}
		for _, p := range k.parts {
			names[p.Name] = true
		}
		if len(names) != 5 {
			t.Errorf("seed %d: the parts %v were stored", seed, names)
		}
	}
}

// What an operator sees of a copy, while a store copies: how far it is, and who is waited for.
func TestStepOfACopy(t *testing.T) {
	m, k, gate := filled(100_000, 300_000), &keeper{}, sdktest.NewGate(0)
	reached := make(chan struct{})
	m.Copying = func(ctx context.Context, at sdktest.Point) error {
		if at.Part == "part 01" && at.Offset == 128<<10 {
			close(reached)
			return gate.Hook(ctx, at)
		}
		return nil
	}
	transfer := transfer(m, m)
	transfer.InOneStore = func(context.Context, sdk.DataAddress, sdk.DataAddress) bool { return true }
	j := jobInStore(m, k)
	steps := make(chan func() pipeline.Step, 1)
	j.Observe = func(step func() pipeline.Step) { steps <- step }
	done := make(chan error)
	go func() { done <- transfer.Run(t.Context(), j, func(string) {}) }()
	<-reached
	step := <-steps
	want := pipeline.Step{Totals: sdk.Totals{Parts: 1, Bytes: 100_000 + 128<<10}, Part: "part 01", PartBytes: 128 << 10, PartSize: 300_000,
		TotalParts: 2, TotalBytes: 400_000}
	for deadline := time.Now().Add(20 * time.Second); step() != want; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("the step is %+v, want %+v", step(), want)
		}
	}
	gate.Open()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	if got := step(); got.Totals.Bytes != 400_000 || got.Part != "" {
		t.Errorf("the last step is %+v", got)
	}
}

// A source may not give a reference where there can be none.
func TestRefusesWhatACopyCannotBe(t *testing.T) {
	m := filled(1000)
	for name, change := range map[string]func(f sdk.Frame) sdk.Frame{
		"no size": func(f sdk.Frame) sdk.Frame {
			if p, ok := f.(*sdk.PartBegin); ok {
				p.Size = sdk.SizeUnknown
			}
			return f
		},
		"in its middle": func(f sdk.Frame) sdk.Frame {
			if p, ok := f.(*sdk.PartBegin); ok {
				p.Offset = 1
			}
			return f
		},
		"another end": func(f sdk.Frame) sdk.Frame {
			if p, ok := f.(*sdk.PartEnd); ok {
				p.Size++
			}
			return f
		},
	} {
		t.Run(name, func(t *testing.T) {
			j := jobInStore(m, &keeper{})
			j.ByReference = true
			err := pipeline.Run(t.Context(), tampering{m.DataSource(), change}, m.DataSink(), j, 0, nil)
			if e := sdk.AsError(err); err == nil || e.Code != sdk.Internal {
				t.Errorf("Run: %v", err)
			}
		})
	}
	if names := m.Names(); slices.ContainsFunc(names, func(n string) bool { return strings.HasPrefix(n, "to/") }) {
		t.Errorf("there is %s", fmt.Sprint(names))
	}
}
