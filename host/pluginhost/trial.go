package pluginhost

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"sync/atomic"
	"time"

	"github.com/towpath-dataplane/towpath/sdk"
)

// trial is the probation of a build that has followed another: whether it moves data for those who ask it, and how long they have waited
// for that. It is over when each type that was asked for has moved some, or the build was found at fault before. Time in which nobody asks
// does not count. A nil trial is that of a build that has nothing to prove. All methods may be called concurrently.
type trial struct {
	since  time.Time
	limit  time.Duration // of what is waited for a type before it moves
	before *fallback     // what to go back to
	// prove and fail decide the trial. fail returns false if it was decided before, for the build.
	prove func()
	fail  func(why string) bool

	over atomic.Bool // decided
	lost atomic.Bool // against the build

	mu   sync.Mutex // guards asks
	asks map[offering]*ask
}

// ask is what has come of asking for one type.
type ask struct {
	moved   bool
	streams int           // that are open
	failing time.Time     // when the first stream failed, of those that have since; zero: none has
	failed  time.Time     // when the last did
	problem error         // of that
	pending int           // calls that wait for the build now
	since   time.Time     // since then, while pending > 0
	waited  time.Duration // before that
	timer   *time.Timer   // goes off when that may be too much; nil: there was no need
}

// on is the record of a type. t.mu is held.
func (t *trial) on(to offering) *ask {
	a := t.asks[to]
	if a == nil {
		a = &ask{}
		t.asks[to] = a
	}
	return a
}

func (t *trial) runs() bool { return t != nil && !t.over.Load() }

// end keeps the clocks from going off: it is decided.
func (t *trial) end() {
	t.over.Store(true)
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, a := range t.asks {
		if a.timer != nil {
			a.timer.Stop()
		}
	}
}

// begin says that somebody waits for a type.
func (t *trial) begin(to offering) {
	if !t.runs() {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	a := t.on(to)
	if a.pending++; a.pending > 1 || a.moved {
		return
	}
	a.since = time.Now()
	if left := t.limit - a.waited; a.timer == nil {
		a.timer = time.AfterFunc(left, func() { t.check(to) })
	} else {
		a.timer.Reset(left)
	}
}

// done ends what begin began.
func (t *trial) done(to offering) {
	if !t.runs() {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	a := t.on(to)
	if a.pending--; a.pending > 0 || a.moved {
		return
	}
	a.waited += time.Since(a.since)
	a.timer.Stop()
}

// check is the end of a clock, which may have been put back since it was set.
func (t *trial) check(to offering) {
	t.mu.Lock()
	a := t.on(to)
	if t.over.Load() || a.moved || a.pending == 0 {
		t.mu.Unlock()
		return
	}
	left := t.limit - a.waited - time.Since(a.since)
	if left > 0 {
		a.timer.Reset(left)
	}
	problem := a.problem
	t.mu.Unlock()
	if left <= 0 {
		t.fail(t.nothing(to, problem))
	}
}

// nothing says that a type has moved nothing for too long.
func (t *trial) nothing(to offering, problem error) string {
	why := fmt.Sprintf("it was asked for the %s type %q, and moved nothing for %s", to.kind, to.typ, t.limit)
	if problem != nil {
		why += fmt.Sprintf("; it failed last with: %v", problem)
	}
	return why
}

// stirs puts the clock of a type back: something came of asking, though no data has moved.
func (t *trial) stirs(to offering) {
	if !t.runs() {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	a := t.on(to)
	a.waited, a.since = 0, time.Now()
}

// moves says that a type has moved data.
func (t *trial) moves(to offering) {
	if !t.runs() {
		return
	}
	t.mu.Lock()
	a := t.on(to)
	first := !a.moved
	a.moved, a.failing = true, time.Time{}
	if first && a.timer != nil {
		a.timer.Stop()
	}
	proven := first && t.proven()
	t.mu.Unlock()
	if proven {
		t.prove()
	}
}

// proven says whether all types that are asked for have moved data. t.mu is held.
func (t *trial) proven() bool {
	some := false
	for _, a := range t.asks {
		if !a.moved && (a.streams > 0 || t.keepsFailing(a)) {
			return false
		}
		some = some || a.moved
	}
	return some
}

// opens counts a stream, and closes one that has ended.
func (t *trial) opens(to offering) {
	if t != nil {
		t.mu.Lock()
		defer t.mu.Unlock()
		t.on(to).streams++
	}
}

func (t *trial) closes(to offering) {
	if t == nil {
		return
	}
	t.mu.Lock()
	t.on(to).streams--
	proven := !t.over.Load() && t.proven()
	t.mu.Unlock()
	if proven {
		t.prove()
	}
}

// keepsFailing says whether streams of a type fail, one after the other. What failed long ago concerns nobody. t.mu is held.
func (t *trial) keepsFailing(a *ask) bool {
	return !a.failing.IsZero() && time.Since(a.failed) < failureMemory*t.limit
}

// failureMemory is for how many handover timeouts it counts that a stream has failed, if none does again.
const failureMemory = 4

// fails notes that a stream of a type has failed in a way that can pass, and returns for how long they do, with nothing moved in between.
func (t *trial) fails(to offering, problem error) time.Duration {
	t.mu.Lock()
	defer t.mu.Unlock()
	a := t.on(to)
	if !t.keepsFailing(a) {
		a.failing = time.Now()
	}
	a.failed, a.problem = time.Now(), problem
	return time.Since(a.failing)
}

// has says whether a type has moved data; untried, whether none has.
func (t *trial) has(to offering) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.on(to).moved
}

func (t *trial) untried() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, a := range t.asks {
		if a.moved {
			return false
		}
	}
	return true
}

// question is what somebody wants of a build.
type question struct {
	to offering
	// resumed says that it is to go on where another process was.
	resumed bool
	stream  bool
	// refuses asks the build whether it is the address that it does not take. nil: nobody has taken that before.
	refuses func() bool
}

// watch calls f while the clock of a type runs, and judges what comes of it.
func (t *trial) watch(ctx context.Context, q question, f func() error) error {
	if !t.runs() {
		return f()
	}
	t.begin(q.to)
	err := f()
	t.done(q.to)
	if err == nil {
		t.stirs(q.to)
	}
	return t.judge(ctx, q, err)
}

// judge decides whether an error is the fault of the build, and returns what the caller is told.
func (t *trial) judge(ctx context.Context, q question, err error) error {
	switch {
	case t == nil || err == nil || err == io.EOF || errors.Is(err, sdk.ErrUnread) || ctx.Err() != nil:
		return err
	case t.over.Load():
		return t.replaced(err)
	case t.has(q.to):
		return err
	}
	why := ""
	switch e := sdk.AsError(err); {
	case e.Code == sdk.Internal:
		why = fmt.Sprintf("it failed: %v", err)
	case e.Retryable:
		if q.stream && t.fails(q.to, err) >= t.limit {
			why = t.nothing(q.to, err)
		}
	case q.resumed:
		why = fmt.Sprintf("it does not go on with a flow of the build before: %v", err)
	case (e.Code == sdk.Invalid || e.Code == sdk.Unsupported) && q.refuses != nil && q.refuses():
		why = fmt.Sprintf("it refuses a data address that was accepted before: %v", err)
	}
	if why != "" {
		t.fail(why)
	}
	return t.replaced(err)
}

// replaced is the error for callers of a build that was given up: the one before it takes their next call.
func (t *trial) replaced(err error) error {
	if t == nil || err == nil || !t.lost.Load() || errors.Is(err, ErrReplaced) {
		return err
	}
	return sdk.Retryf(sdk.Unavailable, "%w", fmt.Errorf("%w: %w", ErrReplaced, err))
}
