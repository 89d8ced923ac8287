package pluginhost

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"github.com/towpath-dataplane/towpath/sdk"
)

// State is where a plugin's process is in its life.
type State string

// The states.
const (
	StateResolved   State = "resolved"    // not launched yet
	StateNotStarted State = "not started" // launched by the first call that needs it
	StateStarting   State = "starting"
	StateReady      State = "ready"
	StateDraining   State = "draining" // takes no new flow, ends soon
	StateStopped    State = "stopped"
	StateBackoff    State = "backoff" // ended, will be launched again
	StateFailed     State = "failed"  // cannot be launched; someone has to change something
	// StateQuarantined: it crashed again and again, and is not launched until someone says so.
	StateQuarantined State = "quarantined"
	StateRefused     State = "refused" // its file may be executed, and is not used all the same
)

// States lists them all.
func States() []State {
	return []State{StateResolved, StateNotStarted, StateStarting, StateReady, StateDraining, StateStopped, StateBackoff, StateFailed,
		StateQuarantined, StateRefused}
}

// pace is how a supervisor spaces what it does.
type pace struct {
	healthInterval time.Duration
	healthTimeout  time.Duration
	healthMisses   int // unanswered checks in a row that mean that the process is frozen
	firstBackoff   time.Duration
	maxBackoff     time.Duration
	steady         time.Duration // running so long means that the last crash is forgotten
	patience       time.Duration // how long a call waits for a process that is being launched
	rescan         time.Duration // between looks at the plugin directory, besides those when something happens in it
	settle         time.Duration // how long a file has to stay as it is to be whole
	grace          time.Duration // how long a file has to be missing to have been removed
	idle           time.Duration // how long a process that is not everyone's is kept without a call
	window         time.Duration // crashes that are older do not count
	rarely         time.Duration // between the attempts of a flow that needs a plugin in quarantine
	tries          int           // crashes of a flow in a process of its own, without getting further, that are its own
	cells          int           // processes that those are spread over who may have made another crash
	caution        time.Duration // how long the part of a suspect has for itself
	suspicion      time.Duration // how long a flow that is not heard of stays suspect
}

var defaultPace = pace{
	healthInterval: 5 * time.Second,
	healthTimeout:  5 * time.Second,
	healthMisses:   3,
	firstBackoff:   250 * time.Millisecond,
	maxBackoff:     30 * time.Second,
	steady:         time.Minute,
	patience:       10 * time.Second,
	rescan:         10 * time.Second,
	settle:         250 * time.Millisecond,
	grace:          time.Second,
	idle:           30 * time.Second,
	window:         10 * time.Minute,
	rarely:         5 * time.Minute,
	tries:          3,
	cells:          8,
	caution:        250 * time.Millisecond,
	suspicion:      time.Hour,
}

// backoff is how long to wait before the next launch, after a number of failures in a row. Half of it is chance, so that plugins that
// fail together do not come back together.
func (p pace) backoff(failures int) time.Duration {
	d := p.firstBackoff
	for i := 1; i < failures && d < p.maxBackoff; i++ {
		d *= 2
	}
	d = min(d, p.maxBackoff)
	return d/2 + rand.N(d/2+1)
}

// supervisor keeps one plugin running: run launches a process, watches it, and launches another when it has ended. It alone owns the
// process.
type supervisor struct {
	program
	pace   pace
	log    *slog.Logger
	config []byte
	launch func(ctx context.Context, p program) (*instance, error)
	// admit says whether a plugin that describes itself so can be used beside the others. It is called once for each launch.
	admit func(in *instance) error
	// ended, if not nil, is told of every process that has ended by itself, or could not be launched.
	ended func(err error)
	// demand, if not nil, gets a value when a process is needed for the first time; if lazy, also after each that has ended.
	demand chan struct{}
	lazy   bool
	room   room  // that it is the process of
	ward   *ward // of its generation; nil: crashes mean nothing

	cancel   context.CancelFunc
	finished chan struct{}   // closed when run has returned
	stopping context.Context // bounds the end of the process
	hurry    context.CancelFunc
	resting  context.Context // ends when flows are not waited for any longer
	rouse    context.CancelFunc
	leaving  chan struct{} // closed when flows are to leave for another build

	mu      sync.Mutex // guards the rest
	status  status
	current *instance     // nil unless ready or draining
	changed chan struct{} // closed, and made anew, when status changes
	retired string        // why it takes no new flow. "": it does
	how     parting       // it does not
	stopErr error
}

// status is what is known about a supervised plugin.
type status struct {
	state       State
	since       time.Time
	problem     error // why it is not ready
	health      string
	answered    time.Time // when the process answered last
	retryAt     time.Time // in StateBackoff
	restarts    int
	launches    int
	launchTook  time.Duration // the last launch, up to ready
	lastExit    *Exit
	description *sdk.Description
}

func newSupervisor(p program, pc pace, log *slog.Logger) *supervisor {
	s := &supervisor{program: p, pace: pc, log: log.With("plugin", p.Name), finished: make(chan struct{}),
		changed: make(chan struct{}), leaving: make(chan struct{}), status: status{state: StateResolved, since: time.Now()}}
	s.stopping, s.hurry = context.WithCancel(context.Background())
	s.resting, s.rouse = context.WithCancel(context.Background())
	return s
}

// wait makes run wait until a process is needed. d is what the plugin said of itself before.
func (s *supervisor) wait(d sdk.Description) {
	s.demand = make(chan struct{}, 1)
	s.status.state, s.status.description = StateNotStarted, &d
}

// run supervises until ctx ends or the plugin fails for good.
func (s *supervisor) run(ctx context.Context) {
	defer close(s.finished)
	defer s.hurry()
	defer s.rouse()
	s.loop(ctx)
}

func (s *supervisor) loop(ctx context.Context) {
	s.awaitNeed(ctx)
	for failures := 0; ; {
		if s.sitOut(ctx) {
			failures = 0
			if s.lazy {
				s.awaitNeed(ctx)
				continue
			}
		}
		if ctx.Err() != nil {
			s.set(func(st *status) { st.state = StateStopped })
			return
		}
		began := time.Now()
		err := s.runOnce(ctx)
		if ctx.Err() == nil && s.ended != nil {
			s.ended(err)
		}
		switch e := (*Error)(nil); {
		case ctx.Err() != nil:
			s.set(func(st *status) { st.state = StateStopped })
			return
		case errors.As(err, &e) && e.Final:
			s.log.Error("plugin cannot be used", "err", err)
			s.set(func(st *status) { st.state, st.problem = StateFailed, err })
			return
		}
		if time.Since(began) >= s.pace.steady {
			failures = 0
		}
		failures++
		if s.ward.note(err) {
			continue
		}
		wait := s.pace.backoff(failures)
		s.log.Warn("plugin will be "+s.verb()+" again", "err", err, "wait", wait)
		s.set(func(st *status) {
			st.state, st.problem, st.retryAt = StateBackoff, err, time.Now().Add(wait)
			st.restarts++
		})
		sleep(ctx, wait)
		if s.lazy {
			s.awaitNeed(ctx)
		}
	}
}

// awaitNeed waits until there has to be a process, or ctx has ended.
func (s *supervisor) awaitNeed(ctx context.Context) {
	if s.lazy {
		select {
		case <-s.demand: // of a process that has ended since
		default:
		}
		s.set(func(st *status) { st.state = StateNotStarted })
	}
	select {
	case <-s.needed():
	case <-ctx.Done():
	}
}

// sitOut waits until the plugin is not in quarantine, or ctx has ended, and says whether it was.
func (s *supervisor) sitOut(ctx context.Context) (was bool) {
	for {
		q := s.ward.quarantined()
		if q == nil || ctx.Err() != nil {
			return was
		}
		if !was {
			s.set(func(st *status) { st.state, st.problem = StateQuarantined, q })
		}
		was = true
		select {
		case <-q.over:
		case <-ctx.Done():
		}
	}
}

// needed is a channel that gives a value, or is closed, when there has to be a process.
func (s *supervisor) needed() <-chan struct{} {
	if s.demand != nil {
		return s.demand
	}
	now := make(chan struct{})
	close(now)
	return now
}

// runOnce launches a process and returns when nothing is left of it. The error says why it ended; that does not matter if ctx has.
func (s *supervisor) runOnce(ctx context.Context) error {
	began := time.Now()
	s.set(func(st *status) { st.state, st.problem = StateStarting, nil })
	in, err := s.start(ctx)
	if err != nil {
		if e := (*Error)(nil); errors.As(err, &e) && e.Exit != nil {
			s.set(func(st *status) { st.lastExit = e.Exit })
		}
		return err
	}
	in.ready = time.Now()
	in.crashed = sync.OnceFunc(func() {
		if ctx.Err() == nil {
			s.ward.fell(s.room, in)
		}
	})
	took := time.Since(began)
	s.log.Info("plugin is ready", "process", s.room.String(), s.place(in), "version", in.description.Version, "took", took)
	s.enter(StateReady, in, took)
	reason := s.watch(ctx, in)
	if ctx.Err() != nil {
		s.enter(StateDraining, in, took)
		reason = s.rest(in)
		if reason == "" {
			err = in.stop(s.stopping)
		} else {
			err = in.end(reason)
		}
	} else {
		in.frozen.Store(reason != "")
		if reason == "" {
			in.crashed() // before there is another that its flows could go to
		}
		// Nobody is to be given this process while it is cleared away.
		s.set(func(st *status) { st.state, st.problem, st.retryAt = StateBackoff, in.ended(), time.Now() })
		err = in.end(reason)
		in.crashed()
	}
	return s.leave(in, err)
}

// rest waits until the flows of a process have ended, if the supervisor was retired so. The reason says why the process has to be killed.
func (s *supervisor) rest(in *instance) (reason string) {
	s.mu.Lock()
	how := s.how
	s.mu.Unlock()
	if how == atOnce {
		return ""
	}
	ctx, cancel := context.WithCancel(s.resting)
	defer cancel()
	in.flows.whenIdle(cancel)
	if how == leaving {
		var still sync.WaitGroup
		still.Go(func() { in.flows.awaitStill(ctx, in.settings.DrainTimeout); cancel() })
		defer still.Wait()
		defer cancel()
	}
	return s.watch(ctx, in)
}

// parting is how the flows of a build that is retired part from it.
type parting int

// The ways to part.
const (
	atOnce  parting = iota // within its settings, at a checkpoint where they can
	leaving                // at a checkpoint; those that cannot go on for as long as they move
	inPeace                // when they have come to their end
)

var errEnded = errors.New("it has ended")

// start launches a process and makes it ready for use.
func (s *supervisor) start(ctx context.Context) (*instance, error) {
	in, err := s.launch(ctx, s.program)
	if err != nil {
		return nil, err
	}
	in.leaving = s.leaving
	if err := in.configure(ctx, s.config); err != nil {
		return nil, err
	}
	if err := s.admit(in); err != nil {
		return nil, in.fail(ctx, "describe", finally(err))
	}
	return in, nil
}

// watch returns when the process has ended, has stopped to answer, or ctx has ended. The reason says why the process has to be killed.
func (s *supervisor) watch(ctx context.Context, in *instance) (reason string) {
	ticker := time.NewTicker(s.pace.healthInterval)
	defer ticker.Stop()
	for misses := 0; ; {
		select {
		case <-ctx.Done():
			return ""
		case <-in.process.exited:
			return ""
		case <-ticker.C:
		}
		if s.check(ctx, in) {
			misses = 0
		} else if misses++; misses == s.pace.healthMisses {
			return fmt.Sprintf("it did not answer %d health checks", misses)
		}
	}
}

// check asks for the health of the process and says whether it answered.
func (s *supervisor) check(ctx context.Context, in *instance) bool {
	ctx, cancel := context.WithTimeout(ctx, s.pace.healthTimeout)
	defer cancel()
	health, err := in.rpc.Health(ctx)
	message := health.Message
	switch {
	case err != nil:
		message = fmt.Sprintf("health check: %v", err)
	case !health.Serving && !health.Draining:
		message = "not serving: " + message
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.status.health = message
	if err == nil {
		s.status.answered = time.Now()
	}
	return err == nil
}

// stop ends the plugin for good, gently as long as ctx lasts, and returns when nothing is left of it.
func (s *supervisor) stop(ctx context.Context) error {
	defer context.AfterFunc(ctx, s.hurry)()
	s.rouse()
	s.cancel()
	<-s.finished
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.stopErr
}

// retire ends the plugin without waiting for that: it takes no new flow, those that run part from it, and then its process ends.
func (s *supervisor) retire(why string, how parting) {
	s.mu.Lock()
	if s.retired == "" {
		s.retired, s.how = why, how
		if how != inPeace {
			close(s.leaving)
		}
	}
	s.mu.Unlock()
	s.cancel()
}

// why is why it takes no new flows.
func (s *supervisor) why() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.retired
}

// errRetired is the cause of errors of calls that came when a plugin did not take new flows any more.
var errRetired = errors.New("it takes no new flows")

// acquire returns the current process. One that was not needed before is launched; while that goes on it waits, with bounds. The error is
// an *sdk.Error, or that of ctx.
func (s *supervisor) acquire(ctx context.Context) (*instance, error) {
	deadline := time.Now().Add(s.pace.patience)
	for {
		s.mu.Lock()
		in, st, changed, retired := s.current, s.status, s.changed, s.retired
		s.mu.Unlock()
		switch {
		case retired != "":
			return nil, sdk.Retryf(sdk.Unavailable, "plugin %s: %w: %s", s.Name, errRetired, retired)
		case st.state == StateReady && !in.process.hasEnded():
			return in, nil
		case st.state == StateFailed:
			return nil, sdk.Errorf(sdk.Unavailable, "plugin %s has failed: %w", s.Name, st.problem)
		case st.state == StateQuarantined:
			return nil, s.ward.refusal()
		case st.state == StateDraining, st.state == StateStopped:
			return nil, sdk.Retryf(sdk.Unavailable, "plugin %s is %s", s.Name, st.state)
		case st.state == StateBackoff && st.retryAt.After(deadline), !time.Now().Before(deadline):
			e := sdk.Retryf(sdk.Unavailable, "plugin %s is not ready (%s): %w", s.Name, st.state, cause(st.problem))
			e.RetryAfter = max(0, time.Until(st.retryAt))
			return nil, e
		case st.state == StateNotStarted:
			select {
			case s.demand <- struct{}{}:
			default:
			}
		}
		if err := waitFor(ctx, changed, deadline); err != nil {
			return nil, err
		}
	}
}

// cause is the problem, or words for there being none yet.
func cause(problem error) error {
	if problem == nil {
		return errors.New("it is still being launched")
	}
	return problem
}

// waitFor waits for a channel to be closed, or the deadline. The error is that of ctx.
func waitFor(ctx context.Context, changed <-chan struct{}, deadline time.Time) error {
	timer := time.NewTimer(time.Until(deadline))
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-changed:
	case <-timer.C:
	}
	return nil
}

func sleep(ctx context.Context, d time.Duration) {
	waitFor(ctx, nil, time.Now().Add(d))
}

// enter records that a process is in use.
func (s *supervisor) enter(state State, in *instance, took time.Duration) {
	s.setInstance(in, func(st *status) {
		if state == StateReady {
			st.launches++
		}
		st.state, st.description, st.answered, st.launchTook = state, &in.description, time.Now(), took
	})
}

// leave records that a process has ended, and returns that as an error. err is what went wrong while it was ended.
func (s *supervisor) leave(in *instance, err error) error {
	ended := &Error{Plugin: s.Name, Doing: "run", Err: in.ended()}
	if exit, ok := in.exited(); ok && !in.dialled() {
		ended.Exit = &exit
		s.log.Info("plugin process ended", "pid", in.process.pid, "status", exit.Status, "reason", exit.Reason)
	}
	s.set(func(st *status) {
		st.health, st.lastExit = "", ended.Exit
		s.stopErr = err
	})
	if err != nil {
		ended.Err = err
	}
	return ended
}

func (s *supervisor) set(edit func(st *status)) { s.setInstance(nil, edit) }

// setInstance changes the status, and wakes those who wait for that.
func (s *supervisor) setInstance(in *instance, edit func(st *status)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	before := s.status.state
	edit(&s.status)
	if s.status.state != before {
		s.status.since = time.Now()
	}
	s.current = in
	close(s.changed)
	s.changed = make(chan struct{})
}

// snapshot returns the status, and the current process if there is one.
func (s *supervisor) snapshot() (status, *instance) {
	s.mu.Lock()
	defer s.mu.Unlock()
	st := s.status
	if st.lastExit != nil {
		exit := *st.lastExit
		exit.Stderr = slices.Clone(exit.Stderr)
		st.lastExit = &exit
	}
	return st, s.current
}

// settled waits until the first launch has succeeded or failed, and returns its error.
func (s *supervisor) settled(ctx context.Context) error {
	for {
		s.mu.Lock()
		st, changed := s.status, s.changed
		s.mu.Unlock()
		switch st.state {
		case StateReady, StateNotStarted, StateDraining, StateStopped:
			return nil
		case StateQuarantined:
			if s.ward.quarantined() != nil {
				return st.problem
			}
		case StateBackoff, StateFailed:
			return st.problem
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-changed:
		}
	}
}
