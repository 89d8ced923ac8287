package pluginhost

import (
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/towpath-dataplane/towpath/sdk"
)

// wardTest has flows that are read through one plugin, whose processes crash when the test says so.
type wardTest struct {
	t *testing.T
	*ward
	visits map[string]*visit
}

func newWardTest(t *testing.T) *wardTest {
	return &wardTest{t: t, ward: newWard("fake", defaultPace, 5, slog.New(slog.DiscardHandler)), visits: map[string]*visit{}}
}

func flowTenant(name string) tenant { return tenant{context: "default", flow: name} }

// open opens the streams of flows, each from a place on, and says in which processes.
func (w *wardTest) open(at int64, flows ...string) {
	for _, name := range flows {
		v := &visit{ctx: w.t.Context(), who: flowTenant(name), ward: w.ward, leave: func() {}, streams: true, role: reads}
		v.passes(&sdk.PartBegin{PartInfo: sdk.PartInfo{Index: 2, Name: "part"}, Offset: at})
		w.visits[name] = v
	}
}

// durable says that a flow has got to a place for good.
func (w *wardTest) durable(name string, at int64) {
	v := w.visits[name]
	v.mu.Lock()
	v.at.inside = at
	v.mu.Unlock()
	v.passes(&sdk.Checkpoint{Sequence: 1})
	v.reached(1)
}

// crash ends the process in which flows are after a time, and returns what the one is told that it was the last time for.
func (w *wardTest) crash(r room, ran time.Duration, flows ...string) error {
	in := &instance{process: &process{exited: make(chan struct{}), exit: Exit{Status: "exit status 7", Stderr: []string{"on fire"}}},
		ready: time.Now().Add(-ran)}
	close(in.process.exited)
	in.visits.all = map[*visit]struct{}{}
	for _, name := range flows {
		in.visits.all[w.visits[name]] = struct{}{}
	}
	w.fell(r, in)
	return in.verdict
}

// rooms says where the calls of flows are made, equal letters for equal processes, "-" for the shared one.
func (w *wardTest) rooms(flows ...string) string {
	var b strings.Builder
	seen := map[room]int{}
	for _, name := range flows {
		r := w.roomOf(flowTenant(name), room{})
		if r == (room{}) {
			b.WriteString("-")
			continue
		}
		if _, ok := seen[r]; !ok {
			seen[r] = len(seen)
		}
		b.WriteByte(byte('a' + seen[r]))
	}
	return b.String()
}

func (w *wardTest) expectRooms(want string, flows ...string) {
	w.t.Helper()
	if got := w.rooms(flows...); got != want {
		w.t.Errorf("the calls of %v are made to %s, not %s", flows, got, want)
	}
}

func (w *wardTest) expectQuarantine(want bool) {
	w.t.Helper()
	if got := w.quarantined(); (got != nil) != want {
		w.t.Errorf("quarantine: %v, want %t", got, want)
	}
}

// Of two flows one kills the process at a certain frame. It is told so, the other is where it was, and the plugin was never in quarantine.
func TestOneFlowIsToBlame(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWardTest(t)
		w.open(0, "good", "bad")
		w.crash(room{}, time.Second, "good", "bad")
		w.expectRooms("--", "good", "bad")
		w.open(0, "good", "bad")
		w.crash(room{}, time.Second, "good", "bad")
		w.expectRooms("ab", "good", "bad")
		for try := range 3 {
			w.open(0, "bad")
			w.durable("bad", 0) // the same place again
			err := w.crash(w.roomOf(flowTenant("bad"), room{}), time.Second, "bad")
			if try < 2 && err != nil {
				t.Errorf("after %d crashes: %v", try+1, err)
			}
			if try == 2 {
				mustContain(t, err, `crashed 3 times in a process of its own for this flow at part "part", byte 0`, "exit status 7", "on fire")
				if e := sdk.AsError(err); e.Retryable || e.Part != "" {
					t.Errorf("%+v", e)
				}
			}
		}
		w.open(0, "good")
		w.durable("good", 1)
		w.left(w.visits["good"])
		w.expectRooms("-a", "good", "bad")
		w.expectQuarantine(false)
		if again := w.crash(w.roomOf(flowTenant("bad"), room{}), time.Second, "bad"); again != nil {
			t.Errorf("an operator's retry is no retry: %v", again)
		}
	})
}

// A flow whose process crashes is not blamed while the plugin crashes without it too.
func TestPluginThatCrashesAnyway(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWardTest(t)
		for i := range 5 {
			w.open(0, "one")
			if err := w.crash(room{context: "default", flow: "one"}, time.Second, "one"); err != nil {
				t.Errorf("after %d crashes: %v", i+1, err)
			}
			time.Sleep(time.Second)
			w.times(1, time.Second)
		}
		w.expectQuarantine(true)
	})
}

// Many flows are open in a process that crashes, and one of them is to blame: it is found in few steps, with few processes.
func TestCulpritIsFoundAmongMany(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWardTest(t)
		var all []string
		for i := range 500 {
			all = append(all, fmt.Sprintf("f%d", i))
		}
		const bad = "f77"
		crashes, err := 0, error(nil)
		for r, inside := (room{}), all; err == nil; {
			if crashes++; crashes > 12 {
				t.Fatalf("not found after %d crashes: %d flows in %s", crashes, len(inside), r)
			}
			w.open(0, inside...)
			err = w.crash(r, time.Second, inside...)
			r = w.roomOf(flowTenant(bad), room{})
			var next []string
			rooms := map[room]bool{}
			for _, f := range inside {
				rooms[w.roomOf(flowTenant(f), room{})] = true
				if w.roomOf(flowTenant(f), room{}) == r {
					next = append(next, f)
				}
			}
			if len(rooms) > defaultPace.cells {
				t.Errorf("%d flows are spread over %d processes", len(inside), len(rooms))
			}
			inside = next
		}
		w.expectQuarantine(false)
	})
}

// A flow that gets further each time is not crashed by a frame: it is the plugin that crashes, until it is in quarantine.
func TestProgressIsNoPoison(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWardTest(t)
		for i := range int64(8) {
			w.open(100*i, "one")
			w.durable("one", 100*i+50)
			if err := w.crash(w.roomOf(flowTenant("one"), room{}), time.Second, "one"); err != nil {
				t.Fatal(err)
			}
			if w.quarantined() != nil {
				if i < 4 {
					t.Errorf("after %d crashes", i+1)
				}
				return
			}
		}
		t.Error("never in quarantine")
	})
}

func TestQuarantine(t *testing.T) {
	const own = "a process of its own"
	launch := &Error{Plugin: "fake", Doing: "launch", Err: errors.New("no"), Exit: &Exit{Status: "exit status 1"}}
	for _, test := range []struct {
		name string
		do   func(w *wardTest)
		want bool
	}{
		{"four crashes", func(w *wardTest) { w.times(4, time.Second) }, false},
		{"five crashes", func(w *wardTest) { w.times(5, time.Second) }, true},
		{"each after a steady run", func(w *wardTest) { w.times(9, time.Minute) }, false},
		{"one after a steady run", func(w *wardTest) { w.times(4, time.Second); w.times(4, 2*time.Minute) }, false},
		{"spread", func(w *wardTest) {
			for range 9 {
				w.times(1, time.Second)
				time.Sleep(3 * time.Minute)
			}
		}, false},
		{"nine launches", func(w *wardTest) {
			for range 9 {
				w.note(launch)
			}
		}, false},
		{"ten launches", func(w *wardTest) {
			for range 10 {
				w.note(launch)
			}
		}, true},
		{"the host ended them", func(w *wardTest) {
			ended := *launch
			ended.Exit = &Exit{Status: "signal: killed", Reason: "it was too slow"}
			for range 20 {
				w.note(&ended)
			}
		}, false},
		{"several flows, and no other lives", func(w *wardTest) {
			for range 2 {
				w.open(0, "a", "b", "c")
				for _, f := range []string{"a", "b", "c"} {
					w.crash(room{context: "default", flow: f}, time.Second, f)
				}
			}
		}, true},
		{"several flows, and another lives", func(w *wardTest) {
			for range 2 {
				w.open(0, "a", "b", "c", "d")
				for _, f := range []string{"a", "b", "c"} {
					w.crash(room{context: "default", flow: f}, time.Second, f)
					time.Sleep(time.Millisecond)
					w.open(0, "d")
					w.durable("d", 1)
				}
			}
		}, false},
		{"one flow in " + own, func(w *wardTest) {
			for range 9 {
				w.open(0, "a")
				w.crash(room{context: "default", flow: "a"}, time.Second, "a")
			}
		}, false},
		{"none", func(w *wardTest) { w.limit = -1; w.times(9, time.Second) }, false},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWardTest(t)
				test.do(w)
				w.expectQuarantine(test.want)
				if !test.want {
					return
				}
				err := w.refusal()
				mustContain(t, err, "plugin fake is in quarantine since", "the last: exit status", "towpath plugins release fake")
				if e := sdk.AsError(err); e.Code != sdk.Unavailable || !e.Retryable || e.RetryAfter != defaultPace.rarely || !errors.Is(err, ErrQuarantined) {
					t.Errorf("%#v", e)
				}
				passed := Passed(fmt.Errorf("open source: %w", err))
				if !w.release() || w.release() {
					t.Error("it cannot be released once")
				}
				<-passed
				w.expectQuarantine(false)
			})
		})
	}
}

// times crashes the shared process, with no flow in it.
func (w *wardTest) times(n int, ran time.Duration) {
	for range n {
		w.crash(room{}, ran)
	}
}

// The parts of a suspect are given to a sink one by one, so that the one that kills it is known.
func TestPartsOfSuspects(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWardTest(t)
		in := &instance{process: &process{exited: make(chan struct{})}}
		open := func() *visit {
			v := in.visit(t.Context(), offering{}, flowTenant("one"), w.ward, func() {})
			v.stream(writes, false, false, nil)
			return v
		}
		send := func(v *visit, parts ...uint64) (took time.Duration) {
			began := time.Now()
			for _, i := range parts {
				v.await(i)
				v.passes(&sdk.PartBegin{PartInfo: sdk.PartInfo{Index: i, Name: fmt.Sprint(i)}})
				v.passes(&sdk.PartEnd{})
			}
			return time.Since(began)
		}
		v := open()
		if took := send(v, 0, 1, 2); took != 0 || v.careful {
			t.Errorf("a flow that nothing is held against waits %s", took)
		}
		w.visits["one"] = v
		w.crash(room{context: "default", flow: "one"}, time.Second, "one")
		v = open()
		v.hears(&sdk.PartWritten{Index: 0})
		if took := send(v, 0, 1); took != defaultPace.caution {
			t.Errorf("parts of a suspect follow one another in %s", took)
		}
		if at := v.where(); at.name != "1" {
			t.Errorf("it is at part %q", at.name)
		}
		if took := send(v, 2, 3, 4, 5, 6, 7); took > 4*defaultPace.caution {
			t.Errorf("what lies behind the place is held up for %s", took)
		}
	})
}

// An address that crashes the plugin when it is asked about it is told so.
func TestAddressIsToBlame(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWardTest(t)
		who := about(address("Misbehave", "crash"))
		var err error
		for i := range 5 {
			w.visits["call"] = &visit{ctx: t.Context(), who: who, ward: w.ward}
			if err = w.crash(w.roomOf(who, room{}), time.Second, "call"); err != nil && i < 4 {
				t.Errorf("after %d crashes: %v", i+1, err)
			}
		}
		mustContain(t, err, "in a process of its own for this address")
		w.expectQuarantine(false)
		if other := about(address("Misbehave", "other")); other == who || w.roomOf(other, room{}) != (room{}) {
			t.Errorf("another address is %v", other)
		}
	})
}
