package pipeline_test

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/towpath-dataplane/towpath/host/pipeline"
	"github.com/towpath-dataplane/towpath/sdk"
	"github.com/towpath-dataplane/towpath/sdk/sdktest"
)

// meter lets a frame pass every so often.
type meter struct {
	pause          time.Duration
	waits          func(now bool) // may be nil
	bytes, records atomic.Int64
	closed         atomic.Bool
}

func (m *meter) Wait(ctx context.Context, bytes, records int64) error {
	if m.waits != nil {
		m.waits(true)
		defer m.waits(false)
	}
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-time.After(m.pause):
	}
	m.bytes.Add(bytes)
	m.records.Add(records)
	return nil
}

func (m *meter) Close() { m.closed.Store(true) }

// watched is a transfer with accounts, and what it logs.
type watched struct {
	*pipeline.Transfer
	registry *prometheus.Registry
	mu       sync.Mutex // guards log
	log      bytes.Buffer
}

func (w *watched) Write(b []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.log.Write(b)
}

func (w *watched) logged() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.log.String()
}

func watch(from, to *sdktest.Memory, dog pipeline.Watchdog) *watched {
	w := &watched{Transfer: transfer(from, to), registry: prometheus.NewRegistry()}
	w.Accounts = pipeline.NewAccounts(dog, w.registry)
	w.Logger = slog.New(slog.NewTextHandler(w, nil))
	return w
}

// metric sums up a metric.
func (w *watched) metric(t *testing.T, name string) (total float64) {
	t.Helper()
	families, err := w.registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		if f.GetName() != name {
			continue
		}
		for _, m := range f.Metric {
			total += m.GetCounter().GetValue() + m.GetGauge().GetValue()
		}
	}
	return total
}

func (w *watched) stands(t *testing.T) pipeline.Waits {
	t.Helper()
	m, ok := w.Accounts.Of("default", "f")
	if !ok {
		t.Fatal("nothing is known of the transfer")
	}
	return m
}

// delay makes each frame take a while.
func delay(d time.Duration) sdktest.Hook {
	return func(ctx context.Context, _ sdktest.Point) error {
		select {
		case <-ctx.Done():
		case <-time.After(d):
		}
		return nil
	}
}

// Whatever a transfer waits for is what its time is put down to.
func TestWhoBlocks(t *testing.T) {
	const frames = 10 // at least so many
	for name, tc := range map[string]struct {
		slow func(from, to *sdktest.Memory, k *keeper, w *watched)
		hop  pipeline.Hop
	}{
		"source": {func(from, _ *sdktest.Memory, _ *keeper, _ *watched) { from.Reading = delay(time.Second) }, pipeline.HopSource},
		"sink":   {func(_, to *sdktest.Memory, _ *keeper, _ *watched) { to.Writing = delay(time.Second) }, pipeline.HopSink},
		"limit": {func(_, _ *sdktest.Memory, _ *keeper, w *watched) {
			w.Meter = func(_ sdk.FlowContext, waits func(bool)) pipeline.Meter {
				return &meter{pause: time.Second, waits: waits}
			}
		}, pipeline.HopLimit},
		"host": {func(_, _ *sdktest.Memory, k *keeper, _ *watched) { k.delay = time.Minute }, pipeline.HopHost},
		"queue": {func(_, _ *sdktest.Memory, _ *keeper, w *watched) {
			w.Admit = func(ctx context.Context, _ sdk.FlowContext, _ time.Time) (func(), error) {
				time.Sleep(time.Minute)
				return func() {}, nil
			}
		}, pipeline.HopQueue},
		"retry": {func(from, _ *sdktest.Memory, _ *keeper, w *watched) {
			busy := sdk.Retryf(sdk.Unavailable, "busy")
			busy.RetryAfter = 30 * time.Second
			from.Reading = sdktest.FailOnce(0, busy)
		}, pipeline.HopRetry},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				from, to, k := filled(sdk.BufferSize*frames), &sdktest.Memory{}, &keeper{}
				w := watch(from, to, pipeline.Watchdog{StalledAfter: time.Hour})
				tc.slow(from, to, k, w)
				began := time.Now()
				if err := w.Run(t.Context(), job(from, k), func(string) {}); err != nil {
					t.Fatal(err)
				}
				m := w.stands(t)
				var sum time.Duration
				for _, d := range m.Waited {
					sum += d
				}
				if took := time.Since(began); sum != took || m.Waited[tc.hop] < took*9/10 || took < 10*time.Second || m.Runs {
					t.Errorf("of %s, %v", took, m.Waited)
				}
			})
		})
	}
}

// Every frame that carries something is asked for, with what it carries.
func TestMeter(t *testing.T) {
	from, k, m := filled(700_000, 0, 5), &keeper{}, &meter{}
	from.PutRecords("stream", []sdk.Record{{Value: []byte("a")}, {Value: []byte("b")}})
	w := watch(from, &sdktest.Memory{}, pipeline.Watchdog{})
	w.Meter = func(f sdk.FlowContext, _ func(bool)) pipeline.Meter {
		if f.ID != "f" {
			t.Errorf("a meter for %q", f.ID)
		}
		return m
	}
	if err := w.Run(t.Context(), job(from, k), func(string) {}); err != nil {
		t.Fatal(err)
	}
	if m.bytes.Load() < 700_007 || m.records.Load() != 2 || !m.closed.Load() {
		t.Errorf("%d bytes and %d records, closed: %v", m.bytes.Load(), m.records.Load(), m.closed.Load())
	}
}

// A flow that is cut while it waits for a limit or in the queue ends at once.
func TestCutWhileWaiting(t *testing.T) {
	for name, set := range map[string]func(*pipeline.Transfer){
		"limit": func(tr *pipeline.Transfer) {
			tr.Meter = func(_ sdk.FlowContext, waits func(bool)) pipeline.Meter {
				return &meter{pause: time.Hour, waits: waits}
			}
		},
		"queue": func(tr *pipeline.Transfer) {
			tr.Admit = func(ctx context.Context, _ sdk.FlowContext, _ time.Time) (func(), error) {
				<-ctx.Done()
				return nil, context.Cause(ctx)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				from, k := filled(1<<20), &keeper{}
				w := watch(from, &sdktest.Memory{}, pipeline.Watchdog{})
				set(w.Transfer)
				ctx, cancel := context.WithCancelCause(t.Context())
				suspended, done := errors.New("suspended"), make(chan error)
				go func() { done <- w.Run(ctx, job(from, k), func(string) {}) }()
				synctest.Wait()
				if m := w.stands(t); string(m.Hop) != name || !m.Runs {
					t.Errorf("it waits for %s", m.Hop)
				}
				began := time.Now()
				cancel(suspended)
				if err := <-done; !errors.Is(err, suspended) || time.Since(began) > 0 {
					t.Errorf("%v after %s", err, time.Since(began))
				}
			})
		})
	}
}

// An attempt gives its place back before a pause, and asks for another one as the last to come.
func TestPlacesAreGivenBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		from, k := filled(1000), &keeper{}
		from.Reading = sdktest.FailOnce(0, sdk.Retryf(sdk.Unavailable, "gone"))
		w := watch(from, &sdktest.Memory{}, pipeline.Watchdog{})
		var events []string
		first := time.Now().Add(-time.Hour)
		w.Admit = func(_ context.Context, _ sdk.FlowContext, since time.Time) (func(), error) {
			events = append(events, map[bool]string{true: "first", false: "again"}[since.Equal(first)])
			return func() { events = append(events, "left") }, nil
		}
		j := job(from, k)
		j.Since = first
		if err := w.Run(t.Context(), j, func(reason string) { events = append(events, reason[:min(5, len(reason))]) }); err != nil {
			t.Fatal(err)
		}
		if got := strings.Join(events, ","); got != "first,left,tries,,again,left" {
			t.Errorf("what happened: %s", got)
		}
	})
}

// The watchdog tells who is dead from who waits, and has the dead ones begin again.
func TestWatchdog(t *testing.T) {
	answers := func(string) pipeline.Plugin { return pipeline.Plugin{Answered: time.Now()} }
	silent := func(string) pipeline.Plugin { return pipeline.Plugin{} }
	endless := func(string) pipeline.Plugin { return pipeline.Plugin{NonFinite: true} }
	hang := func(ctx context.Context, _ sdktest.Point) error {
		<-ctx.Done()
		return nil
	}
	for name, tc := range map[string]struct {
		dog       pipeline.Watchdog
		set       func(from, to *sdktest.Memory, w *watched)
		condition pipeline.Condition
		text      string
	}{
		"dead source":            {pipeline.Watchdog{Source: silent}, func(from, _ *sdktest.Memory, _ *watched) { from.Reading = hang }, pipeline.Stalled, "stalled: the source"},
		"dead sink":              {pipeline.Watchdog{Sink: silent}, func(_, to *sdktest.Memory, _ *watched) { to.Writing = hang }, pipeline.Stalled, "stalled: the sink"},
		"source that answers":    {pipeline.Watchdog{Source: answers}, func(from, _ *sdktest.Memory, _ *watched) { from.Reading = hang }, pipeline.Blocked, "waits for the source since 10m"},
		"sink that answers":      {pipeline.Watchdog{Sink: answers}, func(_, to *sdktest.Memory, _ *watched) { to.Writing = hang }, pipeline.Blocked, "waits for the sink since 10m"},
		"answers count for less": {pipeline.Watchdog{Source: answers, DistrustHealth: true}, func(from, _ *sdktest.Memory, _ *watched) { from.Reading = hang }, pipeline.Stalled, "stalled: the source"},
		"idle source":            {pipeline.Watchdog{Source: endless}, func(from, _ *sdktest.Memory, _ *watched) { from.Reading = hang }, pipeline.Idle, "the source has had nothing for 10m"},
		"limit": {pipeline.Watchdog{}, func(_, _ *sdktest.Memory, w *watched) {
			w.Meter = func(_ sdk.FlowContext, waits func(bool)) pipeline.Meter {
				return &meter{pause: time.Hour, waits: waits}
			}
		}, pipeline.Blocked, "waits for a rate limit since 10m"},
		"queue": {pipeline.Watchdog{}, func(_, _ *sdktest.Memory, w *watched) {
			w.Admit = func(ctx context.Context, _ sdk.FlowContext, _ time.Time) (func(), error) {
				<-ctx.Done()
				return nil, context.Cause(ctx)
			}
		}, pipeline.Blocked, "waits for a place"},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				from, to, k := filled(1<<20), &sdktest.Memory{}, &keeper{}
				tc.dog.StalledAfter = time.Minute
				w := watch(from, to, tc.dog)
				tc.set(from, to, w)
				ctx, cancel := context.WithCancel(t.Context())
				done := make(chan error)
				go func() { done <- w.Run(ctx, job(from, k), func(string) {}) }()
				time.Sleep(30 * time.Second)
				if m := w.stands(t); m.Condition != pipeline.Moving || m.Text != "" {
					t.Errorf("after half a minute: %s, %s", m.Condition, m.Text)
				}
				time.Sleep(9*time.Minute + 35*time.Second)
				m := w.stands(t)
				if m.Condition != tc.condition || !strings.HasPrefix(m.Text, tc.text) {
					t.Errorf("%s, %s", m.Condition, m.Text)
				}
				stalls := 0
				if tc.condition == pipeline.Stalled {
					stalls = 1
				}
				if n := strings.Count(w.logged(), "transfer is stalled"); n != stalls {
					t.Errorf("logged %d times", n)
				}
				if n := w.metric(t, "towpath_transfer_stalls_total"); int(n) != stalls {
					t.Errorf("%v stalls are counted", n)
				}
				cancel()
				<-done
			})
		})
	}
}

func TestStalledTransferBeginsAgain(t *testing.T) {
	for _, side := range []string{"source", "sink"} {
		t.Run(side, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				from, to, k := filled(1<<20, 300_000, 4<<20), &sdktest.Memory{}, &keeper{}
				w := watch(from, to, pipeline.Watchdog{StalledAfter: time.Minute, RestartAfter: 5 * time.Minute})
				once := true
				hook := func(ctx context.Context, at sdktest.Point) error {
					if once && at.Total > 2<<20 {
						once = false
						<-ctx.Done()
					}
					return nil
				}
				if side == "source" {
					from.Reading = hook
				} else {
					to.Writing = hook
				}
				w.Retry.GiveUpAfter = 10 * time.Minute
				began := time.Now()
				var reasons []string
				if err := w.Run(t.Context(), job(from, k), func(r string) { reasons = append(reasons, r) }); err != nil {
					t.Fatal(err)
				}
				wantSame(t, from, to)
				if took := time.Since(began); took < 5*time.Minute || took > 6*time.Minute {
					t.Errorf("it took %s", took)
				}
				// That it is stalled, that it is tried again, and that it moves.
				if len(reasons) != 3 || !strings.HasPrefix(reasons[0], "stalled: the "+side) || !strings.Contains(reasons[1], reasons[0][:17]) {
					t.Errorf("reasons %q", reasons)
				}
			})
		})
	}
}

func TestAccountsAreKeptForAWhile(t *testing.T) {
	from, to, k := filled(1000), &sdktest.Memory{}, &keeper{}
	w := watch(from, to, pipeline.Watchdog{})
	if err := w.Run(t.Context(), job(from, k), func(string) {}); err != nil {
		t.Fatal(err)
	}
	sum := func() float64 { return w.metric(t, "towpath_transfer_blocked_seconds_total") }
	before := sum()
	for range 3000 {
		j := job(&sdktest.Memory{}, &keeper{})
		j.Flow.ID = time.Now().String()
		if err := w.Run(t.Context(), j, func(string) {}); err != nil && sdk.AsError(err).Code == "" {
			t.Fatal(err)
		}
	}
	if _, ok := w.Accounts.Of("default", "f"); ok {
		t.Error("the account of a flow from long ago is there")
	}
	if after := sum(); before <= 0 || after < before {
		t.Errorf("the sum went from %v to %v", before, after)
	}
}
