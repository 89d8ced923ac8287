package pluginhost

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/go-plugin"

	"github.com/towpath-dataplane/towpath/sdk"
	"github.com/towpath-dataplane/towpath/sdk/grpcplugin"
)

func TestBackoff(t *testing.T) {
	p := pace{firstBackoff: 100 * time.Millisecond, maxBackoff: time.Second}
	for failures, most := range map[int]time.Duration{
		1: 100 * time.Millisecond, 2: 200 * time.Millisecond, 4: 800 * time.Millisecond, 5: time.Second, 6: time.Second, 1 << 40: time.Second,
	} {
		for range 100 {
			if d := p.backoff(failures); d < most/2 || d > most {
				t.Errorf("after %d failures: %s, want %s to %s", failures, d, most/2, most)
			}
		}
	}
}

// fakeClient is a plugin that answers as it is told to.
func (fakeClient) SpeaksLane() bool { return false }

func (fakeClient) OfferLanes(string, grpcplugin.LaneOptions) (func(), error) { return func() {}, nil }

type fakeClient struct {
	configure error
	health    func(ctx context.Context) (grpcplugin.Health, error)
}

func (f *fakeClient) Describe(context.Context, string) (sdk.Description, error) {
	return sdk.Description{}, nil
}
func (f *fakeClient) Configure(context.Context, sdk.Config) error { return f.configure }
func (f *fakeClient) Health(ctx context.Context) (grpcplugin.Health, error) {
	if f.health == nil {
		return grpcplugin.Health{Serving: true}, nil
	}
	return f.health(ctx)
}
func (f *fakeClient) Drain(context.Context, time.Duration) (int, error) { return 0, nil }
func (f *fakeClient) Source(string) sdk.DataSource                      { return nil }
func (f *fakeClient) Sink(string) sdk.DataSink                          { return nil }

// fakeInstance has a process that has been reaped, so that no signal is sent, and that ends when end is closed.
func fakeInstance(p program, rpc client, end <-chan struct{}) *instance {
	in := &instance{program: p, rpc: rpc, client: plugin.NewClient(&plugin.ClientConfig{}),
		process: &process{exited: make(chan struct{}), reaped: true, exit: Exit{Status: "exit status 5"}}}
	go func() {
		<-end
		close(in.process.exited)
	}()
	return in
}

// after returns a channel that is closed after d.
func after(d time.Duration) <-chan struct{} {
	c := make(chan struct{})
	time.AfterFunc(d, func() { close(c) })
	return c
}

// fakeSupervisor launches what launch returns. It is stopped with the test.
func fakeSupervisor(t *testing.T, pc pace, launch func(n int, p program) (*instance, error)) *supervisor {
	p := program{Candidate: Candidate{Name: "fake"}, dropped: new(atomic.Int64), settings: Settings{}.withDefaults()}
	ctx, cancel := context.WithCancel(t.Context())
	s := newSupervisor(p, pc, slog.New(slog.DiscardHandler))
	s.cancel = cancel
	s.admit = func(*instance) error { return nil }
	n := 0
	s.launch = func(ctx context.Context, p program) (*instance, error) {
		n++
		return launch(n, p)
	}
	go s.run(ctx)
	t.Cleanup(func() { s.stop(t.Context()) })
	return s
}

func TestRestartsSlowDownAndRecover(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var launched []time.Time
		end := make(chan struct{})
		pc := defaultPace
		s := fakeSupervisor(t, pc, func(n int, p program) (*instance, error) {
			launched = append(launched, time.Now())
			switch {
			case n <= 10:
				return nil, &Error{Plugin: "fake", Doing: "launch", Err: errors.New("no")}
			case n == 11:
				return fakeInstance(p, &fakeClient{}, after(2*pc.steady)), nil
			}
			return fakeInstance(p, &fakeClient{}, end), nil
		})
		time.Sleep(time.Hour)
		synctest.Wait()
		if len(launched) != 12 {
			t.Fatalf("%d launches", len(launched))
		}
		for i := 1; i <= 10; i++ {
			most := min(pc.firstBackoff<<(i-1), pc.maxBackoff)
			if wait := launched[i].Sub(launched[i-1]); wait < most/2 || wait > most {
				t.Errorf("launch %d after %s, want %s to %s", i, wait, most/2, most)
			}
		}
		if wait := launched[11].Sub(launched[10]) - 2*pc.steady; wait > pc.firstBackoff {
			t.Errorf("after a long run the backoff is still %s", wait)
		}
		if st, _ := s.snapshot(); st.state != StateReady || st.restarts != 11 || st.lastExit.Status != "exit status 5" {
			t.Errorf("status: %+v", st)
		}
		close(end)
	})
}

// When a process answered last is known by the types that it offers.
func TestAnswers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		end := make(chan struct{})
		defer close(end)
		s := fakeSupervisor(t, defaultPace, func(_ int, p program) (*instance, error) {
			in := fakeInstance(p, &fakeClient{}, end)
			in.description.Sources = []sdk.AddressType{{Type: "Ticks", NonFinite: true}}
			return in, nil
		})
		h := &Host{routes: map[offering]*generation{{asSource, "Ticks"}: {supervisor: s}}}
		time.Sleep(time.Hour + time.Second)
		o, ok := h.SourceOffer("Ticks")
		if quiet := time.Since(o.Answered); !ok || !o.NonFinite || quiet < 0 || quiet > defaultPace.healthInterval {
			t.Errorf("%+v, answered %s ago", o, time.Since(o.Answered))
		}
		if _, ok := h.SinkOffer("Ticks"); ok {
			t.Error("a sink that nobody offers")
		}
	})
}

func TestFinalFailureIsNotRepeated(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		launches := 0
		s := fakeSupervisor(t, defaultPace, func(n int, p program) (*instance, error) {
			launches = n
			return fakeInstance(p, &fakeClient{configure: sdk.Errorf(sdk.Invalid, "root is required")}, after(time.Minute)), nil
		})
		mustContain(t, s.settled(t.Context()), "plugin fake: configure: root is required")
		time.Sleep(time.Hour)
		synctest.Wait()
		if launches != 1 {
			t.Errorf("%d launches", launches)
		}
		_, err := s.acquire(t.Context())
		var e *sdk.Error
		if !errors.As(err, &e) || e.Code != sdk.Unavailable || e.Retryable {
			t.Errorf("acquire: %#v", err)
		}
		mustContain(t, err, "plugin fake has failed", "root is required")
	})
}

func TestHealthMisses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		checks := 0
		// Every third answer comes, so that no three in a row are missing, until the twentieth.
		rpc := &fakeClient{health: func(ctx context.Context) (grpcplugin.Health, error) {
			checks++
			if checks%3 == 0 && checks < 20 {
				return grpcplugin.Health{Serving: true}, nil
			}
			<-ctx.Done()
			return grpcplugin.Health{}, ctx.Err()
		}}
		s := newSupervisor(program{}, defaultPace, slog.New(slog.DiscardHandler))
		in := fakeInstance(program{}, rpc, after(24*time.Hour))
		if reason := s.watch(t.Context(), in); reason != "it did not answer 3 health checks" {
			t.Errorf("reason %q", reason)
		}
		if checks != 21 {
			t.Errorf("%d checks", checks)
		}
		if s.status.health != "health check: context deadline exceeded" {
			t.Errorf("health %q", s.status.health)
		}
		time.Sleep(24 * time.Hour)
	})
}

func TestAcquire(t *testing.T) {
	ready := &instance{process: &process{exited: make(chan struct{}), reaped: true}}
	for _, test := range []struct {
		name  string
		now   status
		later *status // after a second
		waits time.Duration
		says  string
	}{
		{"ready", status{state: StateReady}, nil, 0, ""},
		{"starting, then ready", status{state: StateStarting}, &status{state: StateReady}, time.Second, ""},
		{"starting for long", status{state: StateStarting}, nil, 10 * time.Second, "is not ready (starting): it is still being launched"},
		{"short backoff", status{state: StateBackoff, retryAt: at(2 * time.Second)}, &status{state: StateReady}, time.Second, ""},
		{"long backoff", status{state: StateBackoff, retryAt: at(time.Minute), problem: errors.New("boom")}, nil, 0,
			"is not ready (backoff): boom"},
		{"then fails", status{state: StateStarting}, &status{state: StateFailed, problem: errors.New("boom")}, time.Second, "has failed: boom"},
		{"draining", status{state: StateDraining}, nil, 0, "is draining"},
		{"stopped", status{state: StateStopped}, nil, 0, "is stopped"},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := newSupervisor(program{Candidate: Candidate{Name: "fake"}}, defaultPace, slog.New(slog.DiscardHandler))
				now := func(st status) {
					if !st.retryAt.IsZero() {
						st.retryAt = time.Now().Add(st.retryAt.Sub(time.Time{}))
					}
					s.setInstance(ready, func(old *status) { *old = st })
				}
				now(test.now)
				if test.later != nil {
					time.AfterFunc(time.Second, func() { now(*test.later) })
				}
				began := time.Now()
				in, err := s.acquire(t.Context())
				if waited := time.Since(began); waited != test.waits {
					t.Errorf("waited %s, want %s", waited, test.waits)
				}
				if test.says == "" {
					if in != ready || err != nil {
						t.Errorf("acquire: %v, %v", in, err)
					}
					return
				}
				mustContain(t, err, "plugin fake", test.says)
				var e *sdk.Error
				if !errors.As(err, &e) || e.Code != sdk.Unavailable {
					t.Errorf("error: %#v", err)
				}
				if test.name == "long backoff" && (!e.Retryable || e.RetryAfter != time.Minute) {
					t.Errorf("error: %#v", e)
				}
			})
		})
	}
	t.Run("context ends", func(t *testing.T) {
		s := newSupervisor(program{}, defaultPace, slog.New(slog.DiscardHandler))
		ctx, cancel := context.WithCancelCause(t.Context())
		cancel(fmt.Errorf("suspended"))
		if _, err := s.acquire(ctx); err == nil || err.Error() != "suspended" {
			t.Errorf("acquire: %v", err)
		}
	})
}

// at is a time d from the moment when the test begins.
func at(d time.Duration) time.Time { return time.Time{}.Add(d) }
