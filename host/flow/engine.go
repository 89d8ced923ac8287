package flow

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/towpath-dataplane/towpath/sdk"
)

// Options are what an Engine works with. All fields up to Logger are required.
type Options struct {
	Store    Store
	Catalog  Catalog
	Checker  Checker
	Endpoint Endpoint
	Transfer Transfer
	Sinks    Sinks
	Logger   *slog.Logger
	// Renewer renews the tokens of counterparties. nil: nobody does.
	Renewer Renewer
	// DatasetIn reads the dataset in the metadata of a message, where a profile allows that. It returns false if there is none; the
	// error is a *RequestError. nil: there never is one.
	DatasetIn func(metadata json.RawMessage) (d Dataset, ok bool, err error)
	// AnswerWithin is how long a prepare or start may take until it is answered with the state that says its work goes on, in ModeAuto.
	// 0: 2 seconds.
	AnswerWithin time.Duration
	// StopTimeout bounds how long a signal waits for what it has cut. 0: 15 seconds.
	StopTimeout time.Duration
	// Ended is told of a flow that has ended for good, again until it returns nil, past restarts. nil: nobody is.
	Ended func(context.Context, Key) error
	// Waits says what is waited for in a flow. Its Text goes before what the transfer itself says. nil: nobody knows.
	Waits func(Key) Waits
	// Clock tells the time. nil: time.Now.
	Clock func() time.Time
}

// Engine applies signals to flows and owns whatever runs for them. All methods may be called concurrently; signals for one flow are
// applied one after the other.
type Engine struct {
	Options
	ctx    context.Context // ends with Close; cause ErrClosed
	cancel context.CancelCauseFunc
	work   sync.WaitGroup // transfers and what follows them
	turns  chan struct{}  // holds a value for each that has its turn

	mu     sync.Mutex // guards what follows
	closed bool
	live   map[Key]*live
}

var (
	_ Signals    = (*Engine)(nil)
	_ Service    = (*Engine)(nil)
	_ Operations = (*Engine)(nil)
)

// live is what memory holds of a flow: its lock and what runs for it.
type live struct {
	lock     chan struct{} // holds one value while a signal is applied
	users    int           // guarded by Engine.mu; the entry goes with the last
	transfer *running      // guarded by lock, as are the next four
	response *running      // the transfer of the response channel
	work     *work         // that was answered before it was done
	keeper   *keeper       // of the counterparty's token
	// stuck is closed when that has ended which was cut and did not stop in time: until then nothing else begins.
	stuck         <-chan struct{}
	responseStuck <-chan struct{} // the same of what ran for the response channel
	stays         map[*stay]struct{}
	waiting       string  // guarded by Engine.mu, as are stays and the next
	tracker       tracker // of what moves
	reads         reads

	responseWaiting string
	responses       tracker // of what comes on the response channel
}

// running is a transfer.
type running struct {
	cancel context.CancelCauseFunc
	done   chan struct{} // closed when the transfer has returned
}

// signalData stands for data that wants to move, in a StateError.
const signalData Signal = "data"

// An operator's, in a StateError.
const (
	signalRetry  Signal = "retry"
	signalSkip   Signal = "skip"
	signalResend Signal = "resend"
)

// cut is the cause with which a signal ends a transfer or a request.
func cut(key Key, state State) error { return &StateError{Key: key, State: state, Signal: signalData} }

// New returns an Engine. Nothing runs before Revive.
func New(o Options) *Engine {
	if o.StopTimeout == 0 {
		o.StopTimeout = 15 * time.Second
	}
	if o.AnswerWithin == 0 {
		o.AnswerWithin = 2 * time.Second
	}
	if o.Renewer == nil {
		o.Renewer = noRenewer{}
	}
	if o.Ended == nil {
		o.Ended = func(context.Context, Key) error { return nil }
	}
	if o.Waits == nil {
		o.Waits = func(Key) Waits { return Waits{} }
	}
	if o.Clock == nil {
		o.Clock = time.Now
	}
	e := &Engine{Options: o, live: map[Key]*live{}, turns: make(chan struct{}, maxTurns)}
	e.ctx, e.cancel = context.WithCancelCause(context.Background())
	return e
}

// Revive starts what a former process left running: the work of flows that are PREPARING or STARTING, the transfers and renewals of
// STARTED flows, and the end of flows whose sinks were not told. One flow that cannot be revived does not keep the others from it.
func (e *Engine) Revive(ctx context.Context) error {
	if err := e.each(ctx, Filter{States: []State{Preparing, Starting, Started}}, (*Flow).runs, e.reviveFlow); err != nil {
		return fmt.Errorf("revive flows: %w", err)
	}
	// Nobody waits for those that have ended.
	e.background(func() {
		err := e.each(e.ctx, Filter{Leftover: true}, func(*Flow) bool { return true }, e.reviveRelease)
		if err != nil && e.ctx.Err() == nil {
			e.Logger.Error("flows that have ended not released", "err", err)
		}
	})
	return nil
}

// background runs do unless the engine is closed. It ends soon when e.ctx does.
func (e *Engine) background(do func()) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if !e.closed {
		e.work.Go(do)
	}
}

// runs reports whether something may have to run for a flow that has not ended.
func (f *Flow) runs() bool {
	return f.State != Started || f.Moves() || f.Remote != nil || f.carriesResponse()
}

// each calls do for the flows of a listing that it is wanted for, the oldest first: who waited longest before is the first to wait
// again.
func (e *Engine) each(ctx context.Context, filter Filter, wanted func(*Flow) bool, do func(context.Context, *Flow) error) error {
	var found []*Flow
	for {
		flows, err := e.Store.Flows(ctx, filter)
		if err != nil {
			return err
		}
		for _, f := range flows {
			if wanted(f) {
				found = append(found, f)
			}
		}
		if len(flows) == 0 {
			break
		}
		last := flows[len(flows)-1].Created
		if !filter.Before.IsZero() && !last.Before(filter.Before) {
			break
		}
		filter.Before = last
	}
	for _, f := range slices.Backward(found) {
		if err := do(ctx, f); err != nil {
			e.Logger.Error("flow not revived", "flow", f.Key.String(), "err", err)
		}
	}
	return nil
}

func (e *Engine) reviveFlow(ctx context.Context, f *Flow) error {
	l, unlock, err := e.enter(ctx, f.Key)
	if err != nil {
		return err
	}
	defer unlock()
	// A signal may have come first.
	if f, err = e.Store.Flow(ctx, f.Key); err != nil || l.transfer != nil || l.response != nil || l.work != nil || l.keeper != nil {
		return err
	}
	switch f.State {
	case Preparing, Starting:
		e.reviveWork(l, f)
	case Started:
		f.Redelivery = true
		e.run(l, f)
	default:
		return nil
	}
	e.Logger.Info("flow revived", "flow", f.Key.String(), "state", f.State, "bytes", f.Totals.Bytes, "parts", f.Totals.Parts)
	return nil
}

func (e *Engine) reviveRelease(ctx context.Context, f *Flow) error {
	if !f.Leftover { // the store could not tell
		return e.edit(ctx, f.Key, func(Tx, *Flow) error { return nil })
	}
	e.release(f, true) // the former process may have ended before it had revoked the tokens
	return nil
}

// Close ends what runs and waits for it, or for ctx. It is no signal: the states stay, and Revive goes on from there.
func (e *Engine) Close(ctx context.Context) error {
	e.mu.Lock()
	e.closed = true
	for _, l := range e.live {
		for s := range l.stays {
			s.cancel(ErrClosed)
		}
	}
	e.mu.Unlock()
	e.cancel(ErrClosed)
	done := make(chan struct{})
	go func() { e.work.Wait(); close(done) }()
	select {
	case <-done:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("transfers still run: %w", ctx.Err())
	}
}

// enter takes a flow's lock. unlock gives it back.
func (e *Engine) enter(ctx context.Context, key Key) (l *live, unlock func(), err error) {
	l, err = e.use(key)
	if err != nil {
		return nil, nil, err
	}
	select {
	case l.lock <- struct{}{}:
		return l, func() { <-l.lock; e.unuse(key, l) }, nil
	case <-ctx.Done():
		e.unuse(key, l)
		return nil, nil, ctx.Err()
	}
}

func (e *Engine) use(key Key) (*live, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.closed {
		return nil, ErrClosed
	}
	l := e.live[key]
	if l == nil {
		l = &live{lock: make(chan struct{}, 1), stays: map[*stay]struct{}{}}
		e.live[key] = l
	}
	l.users++
	return l, nil
}

func (e *Engine) unuse(key Key, l *live) {
	e.mu.Lock()
	defer e.mu.Unlock()
	l.users--
	if l.users == 0 {
		delete(e.live, key)
	}
}

// run starts what there is to run for a flow that is STARTED. The flow's lock is held.
func (e *Engine) run(l *live, f *Flow) {
	e.runResponse(l, f)
	if f.Lacks() != "" {
		return
	}
	e.keepFresh(l, f)
	if f.Moves() {
		e.launch(l, f)
	}
}

// launch runs the transfer of a flow that is STARTED. The flow's lock is held.
func (e *Engine) launch(l *live, f *Flow) {
	stuck := l.stuck
	l.transfer = e.spawn(l, f.Key, f.Key, &l.tracker, func(ctx context.Context) error {
		err := e.transfer(ctx, l, f, stuck)
		if err == nil {
			err = e.linger(ctx, l, f)
		}
		return err
	}, func(r *running, err error) error { return e.transferEnded(f.Key, l, r, err) })
}

// spawn runs a transfer of the flow with a key, and then ended until that returns nil, unless it was cut; nil if the engine is closed.
// name is what it is called in the log. The flow's lock is held, and it is for ended.
func (e *Engine) spawn(l *live, name, key Key, t *tracker, run func(context.Context) error, ended func(*running, error) error) *running {
	e.mu.Lock()
	if e.closed {
		e.mu.Unlock()
		return nil
	}
	l.users++ // until the transfer has ended
	e.work.Add(1)
	e.mu.Unlock()

	ctx, cancel := context.WithCancelCause(e.ctx)
	r := &running{cancel: cancel, done: make(chan struct{})}
	e.work.Go(func() { e.follow(name, t, r.done) })
	go func() {
		defer e.work.Done()
		defer e.unuse(key, l)
		defer cancel(nil)
		err := run(ctx)
		close(r.done)
		if ctx.Err() == nil {
			e.persist(ctx, key, l, func() error { return ended(r, err) })
		}
	}()
	return r
}

// transfer runs a transfer, after the one before it if that did not stop when it was cut.
func (e *Engine) transfer(ctx context.Context, l *live, f *Flow, stuck <-chan struct{}) error {
	if stuck != nil {
		if err := e.outlive(ctx, l, stuck); err != nil {
			return err
		}
		now, err := e.Store.Flow(ctx, f.Key)
		if err != nil {
			return sdk.Retryf(sdk.Unavailable, "read flow: %w", err)
		}
		f.Checkpoint, f.Totals, f.Digest = now.Checkpoint, now.Totals, now.Digest
	}
	p := &progress{engine: e, key: f.Key, live: l}
	defer l.tracker.forget(p)
	return e.Transfer(ctx, f, p)
}

// outlive waits until that has stopped which was cut a while ago.
func (e *Engine) outlive(ctx context.Context, l *live, stuck <-chan struct{}) error {
	e.setWaiting(l, "what ran before has not stopped yet")
	defer e.setWaiting(l, "")
	select {
	case <-stuck:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

const (
	// The pauses between attempts to store how something ended double from the first to the longest.
	firstStorePause = 100 * time.Millisecond
	maxStorePause   = 30 * time.Second
)

// persist calls store with the flow's lock until it returns nil: what a flow has come to must not be forgotten because the disk is
// full. It gives up when ctx ends.
func (e *Engine) persist(ctx context.Context, key Key, l *live, store func() error) {
	attempt := func() error {
		l.lock <- struct{}{}
		defer func() { <-l.lock }()
		err := store()
		if err != nil && ctx.Err() == nil {
			e.setWaiting(l, fmt.Sprintf("what it has come to cannot be stored: %v", err))
		}
		return err
	}
	for pause := firstStorePause; ; pause = min(2*pause, maxStorePause) {
		err := attempt()
		if err == nil {
			return
		}
		e.Logger.Error("what a flow has come to not stored", "flow", key.String(), "err", err, "pause", pause)
		select {
		case <-ctx.Done():
			return
		case <-time.After(pause):
		}
	}
}

const (
	// maxTurns is how much of what nobody waits for runs at a time: after a start there may be thousands of flows to set up.
	maxTurns = 64
	// longTurn is how long a turn keeps others from theirs, so that what hangs does not hold up all.
	longTurn = time.Second
)

// turn waits for a turn, which ends with a call of end.
func (e *Engine) turn(ctx context.Context) (end func(), err error) {
	select {
	case e.turns <- struct{}{}:
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
	over := sync.OnceFunc(func() { <-e.turns })
	timer := time.AfterFunc(longTurn, over)
	return func() { timer.Stop(); over() }, nil
}

// transferEnded applies what the end of a transfer means: COMPLETED and a callback, or a fault and a callback. An error means that it
// is not stored. The flow's lock is held.
func (e *Engine) transferEnded(key Key, l *live, r *running, failure error) error {
	if l.transfer != r {
		return nil // a signal came first
	}
	ctx := context.WithoutCancel(e.ctx)
	var f *Flow
	err := e.Store.Update(ctx, key, func(tx Tx) (err error) {
		if f, err = tx.Flow(); err != nil {
			return err
		}
		if failure != nil {
			return fault(tx, f, failure)
		}
		return finish(tx, f)
	})
	if err != nil && !final(err) {
		return err
	}
	l.transfer = nil
	e.setWaiting(l, "")
	switch {
	case err != nil:
		e.Logger.Error("a transfer has ended whose flow is not STARTED", "flow", key.String(), "err", err)
	case failure != nil:
		e.Logger.Error("flow cannot go on", "flow", key.String(), "err", failure)
	default:
		e.Logger.Info("flow completed", "flow", key.String(), "parts", f.Totals.Parts, "bytes", f.Totals.Bytes)
		l.keeper.stop()
		l.keeper = nil
		err := e.closeResponse(ctx, l, f)
		e.release(f, err != nil)
	}
	return nil
}

// final reports whether an error of a transaction stays the same however often it is tried: there is no such flow, or it has gone on.
func final(err error) bool { return errors.As(err, new(*StateError)) || errors.Is(err, ErrNotFound) }

func finish(tx Tx, f *Flow) error {
	next, _, err := Next(f, SignalFinished)
	if err != nil {
		return err
	}
	f.recovered()
	f.withdraw()
	f.State, f.Leftover = next, true
	if err := tx.Put(f); err != nil {
		return err
	}
	return tx.Enqueue(newCallback(tx, f, CallbackCompleted, nil))
}

// maxReported is how many different failures of a flow are remembered.
const maxReported = 16

// fault keeps a failure with its flow, and reports it unless the same was reported since the flow moved last. The state stays.
func fault(tx Tx, f *Flow, failure error) error {
	if f.State != Started && f.State != Preparing && f.State != Starting && !f.serving() {
		return &StateError{Key: f.Key, State: f.State, Signal: SignalFinished}
	}
	text := failure.Error()
	digest := fmt.Sprintf("%.8x", sha256.Sum256([]byte(text)))
	known := slices.Contains(f.Reported, digest)
	if known && f.Fault == text {
		return nil
	}
	f.Fault, f.FaultPart = text, sdk.AsError(failure).Part
	if known {
		return tx.Put(f)
	}
	f.Reported = append(f.Reported[max(0, len(f.Reported)-maxReported+1):], digest)
	if err := tx.Put(f); err != nil {
		return err
	}
	c := newCallback(tx, f, CallbackErrored, nil)
	c.Error = text
	return tx.Enqueue(c)
}

// halt stops what runs for a flow and waits for it. It reports whether the flow was being set up. The flow's lock is held.
func (e *Engine) halt(key Key, l *live, state State) (underWay bool) {
	timeout := time.NewTimer(e.StopTimeout)
	defer timeout.Stop()
	if w := l.work; w != nil {
		w.cancel(cut(key, state))
		l.work, underWay = nil, true
		select {
		case <-w.done:
		case <-timeout.C:
			l.stuck = w.done
			e.Logger.Error("preparation did not stop in time", "flow", key.String())
		}
	}
	l.keeper.stop()
	l.keeper = nil
	e.haltTransfers(key, l, state, timeout.C)
	if !e.cutStays(l, cut(key, state), timeout.C) {
		e.Logger.Error("requests did not stop in time", "flow", key.String())
	}
	e.storeReads(key, l, false)
	e.setWaiting(l, "")
	return underWay
}

// haltTransfers cuts the transfers of a flow's data and of its response channel, and then waits for both.
func (e *Engine) haltTransfers(key Key, l *live, state State, timeout <-chan time.Time) {
	all := []struct {
		what  string
		r     **running
		stuck *<-chan struct{}
	}{{"transfer", &l.transfer, &l.stuck}, {"response channel", &l.response, &l.responseStuck}}
	for _, one := range all {
		if *one.r != nil {
			(*one.r).cancel(cut(key, state))
		}
	}
	for _, one := range all {
		r := *one.r
		if r == nil {
			continue
		}
		*one.r = nil
		select {
		case <-r.done:
		case <-timeout:
			*one.stuck = r.done
			e.Logger.Error(one.what+" did not stop in time", "flow", key.String())
		}
	}
	e.setResponseWaiting(l, "")
}

func (e *Engine) setWaiting(l *live, reason string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	l.waiting = reason
}

// Waiting returns why a flow's transfer does not move at present, "" if it does or has none.
func (e *Engine) Waiting(key Key) string {
	if reason := e.Options.Waits(key).Text; reason != "" {
		return reason
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if l := e.live[key]; l != nil {
		return l.waiting
	}
	return ""
}

// sameRequest reports whether a message that is repeated is the one that was answered.
func (a Answer) sameRequest(op Signal, body []byte) bool {
	return a.Operation == string(op) && bytes.Equal(a.Body, body)
}
