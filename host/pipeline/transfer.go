package pipeline

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"time"

	"github.com/towpath-dataplane/towpath/sdk"
)

// Retry says how a transfer goes on after failures that can pass.
type Retry struct {
	// First is the pause after the first failure; it doubles with each further one, up to Max. Half of each pause is random.
	First, Max time.Duration
	// GiveUpAfter is how long a transfer may fail without storing a new place in between. That it cannot be stored does not count.
	GiveUpAfter time.Duration
}

// pause is the one after so many failures and another one.
func (r Retry) pause(failures int) time.Duration {
	pause := r.First << min(failures, 20)
	if pause > r.Max || pause <= 0 {
		pause = r.Max
	}
	return pause/2 + rand.N(pause/2+1)
}

// Transfer moves jobs between the sources and sinks it is given, and goes on after failures that can pass: a plugin that died, a
// peer that cannot be reached.
type Transfer struct {
	// Source and Sink find the plugin for a type of address.
	Source  func(typ string) (sdk.DataSource, error)
	Sink    func(typ string) (sdk.DataSink, error)
	Retry   Retry
	Digests []sdk.Algorithm // besides CRC-32C
	// Interval is how often a place is stored; 0 for once a second.
	Interval time.Duration
	Metrics  *Metrics
	Logger   *slog.Logger
	// Admit waits until an attempt of the flow may run, and returns what is to be called when it no longer does; since is when the flow
	// asked first. The error is the cause for which ctx ended. nil: every attempt may run at once.
	Admit func(ctx context.Context, f sdk.FlowContext, since time.Time) (leave func(), err error)
	// Meter opens what a transfer of the flow is held to. It calls waits when a Wait begins to wait, and when it no longer does. nil: no
	// limits.
	Meter func(f sdk.FlowContext, waits func(now bool)) Meter
	// Accounts are told what transfers wait for. nil: nobody is, and nothing looks after transfers that do not move.
	Accounts *Accounts
	// Absent says of a failure that it lies with nobody but who is not there: a plugin that was removed. It is tried again for as long as that
	// takes. nil: there is no such failure.
	Absent func(err error) bool
	// Passed returns a channel that is closed when the cause of a failure has passed: the next attempt waits no longer then. nil, or a nil
	// channel: that is not known.
	Passed func(err error) <-chan struct{}
	// Replaced says of a failure that it lies with a plugin in the place of which there is another by now. It is tried again at once. nil: there
	// is no such failure.
	Replaced func(err error) bool
	// InOneStore says whether a store can, and may, copy what goes from one address to the other. nil: none does.
	InOneStore func(ctx context.Context, from, to sdk.DataAddress) bool
}

// Run moves a job to its end. It returns nil when everything is durable and stored, the cause when ctx ends, and otherwise the
// failure that no retry got over. waiting is told why nothing moves, and "" when it does again.
func (t *Transfer) Run(ctx context.Context, job Job, waiting func(reason string)) error {
	job.account = t.Accounts.open(job.Flow)
	defer t.Accounts.close(job.Flow, job.account)
	if t.Meter != nil {
		job.Meter = t.Meter(job.Flow, job.account.limited)
		defer job.Meter.Close()
	}
	store := job.Store
	attempt := attempts{policy: t.Retry, since: time.Now()}
	renewed := false // since the last success
	var again spoils
	again.reached(job.Place)
	job.Store = func(ctx context.Context, p Place, parts []Part) error {
		err := t.persist(ctx, job.Flow, waiting, func() error { return store(ctx, p, parts) })
		attempt.since = time.Now() // nobody but this host has kept the transfer waiting
		if err != nil {
			return err
		}
		job.Place, renewed = p, false
		again.reached(p)
		attempt.succeeded(time.Now())
		return nil
	}
	for {
		err := t.attempt(ctx, &job, waiting)
		if err == nil || ctx.Err() != nil {
			return err
		}
		if left := err == errLeft; left || t.Replaced != nil && t.Replaced(err) {
			t.Logger.Info("transfer goes on with another build of a plugin", "flow", job.Flow.ID, "at_checkpoint", left)
			attempt.succeeded(time.Now())
			job.Redelivery = job.Redelivery || !left
			continue
		}
		if t.refused(&job, err) {
			continue
		}
		if job.Addresses != nil && !renewed && sdk.AsError(err).Code == sdk.Denied {
			renewed = true
			from, to, failure := job.Addresses(ctx, true)
			if failure == nil {
				t.Logger.Info("transfer was refused and goes on with a renewed token", "flow", job.Flow.ID)
				job.From, job.To, job.Redelivery = from, to, true
				continue
			}
			t.Logger.Info("transfer was refused", "flow", job.Flow.ID, "renewal", failure)
		}
		if e := sdk.AsError(err); e.Code == sdk.Corrupt && e.Retryable {
			if job.Place = again.whole; !again.another() {
				return err
			}
		}
		if t.Absent != nil && t.Absent(err) {
			attempt.since = time.Now()
		}
		pause, ok := attempt.failed(time.Now(), sdk.AsError(err))
		if !ok {
			return err
		}
		t.Metrics.retried()
		t.Logger.Warn("transfer failed and is tried again", "flow", job.Flow.ID, "err", err, "pause", pause)
		waiting(fmt.Sprintf("tries again in %s after: %v", pause.Round(time.Millisecond), err))
		job.account.at(atRetry)
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-t.passed(err):
		case <-time.After(pause):
		}
		waiting("")
		job.Redelivery, job.Since = true, time.Now()
	}
}

func (t *Transfer) passed(err error) <-chan struct{} {
	if t.Passed == nil {
		return nil
	}
	return t.Passed(err)
}

// persist calls store until it returns nil, or a failure that does not pass: what both sides have done is not thrown away because this
// host's disk is full. It gives up when ctx ends.
func (t *Transfer) persist(ctx context.Context, f sdk.FlowContext, waiting func(string), store func() error) error {
	for failures := 0; ; failures++ {
		err := store()
		if err == nil && failures > 0 {
			waiting("")
		}
		if err == nil || !sdk.AsError(err).Retryable || ctx.Err() != nil {
			return err
		}
		pause := t.Retry.pause(failures)
		t.Logger.Error("the place of a transfer is not stored", "flow", f.ID, "err", err, "pause", pause)
		waiting(fmt.Sprintf("its place cannot be stored: %v", err))
		select {
		case <-ctx.Done():
			return fmt.Errorf("%w, before it was stored: %w", context.Cause(ctx), err)
		case <-time.After(pause):
		}
	}
}

// attempt runs the job once, when it may run, and as long as the watchdog finds life in it.
func (t *Transfer) attempt(ctx context.Context, job *Job, waiting func(reason string)) error {
	if t.Admit != nil {
		job.account.at(atQueue)
		came := time.Now()
		leave, err := t.Admit(ctx, job.Flow, cmp.Or(job.Since, came))
		if err != nil {
			return err
		}
		defer leave()
		t.Accounts.admitted(time.Since(came))
	}
	t.Metrics.started()
	defer t.Metrics.ended()
	job.account.at(atHost)
	if job.account == nil {
		return t.once(ctx, job)
	}
	watched, cancel := context.WithCancelCause(ctx)
	dead := make(chan error, 1)
	go func() {
		err := job.account.watch(watched, t.Accounts.stalls, waiting, t.Logger.With("flow", job.Flow.ID))
		cancel(err)
		dead <- err
	}()
	err := t.once(watched, job)
	cancel(nil)
	if died := <-dead; died != nil && err != nil && ctx.Err() == nil {
		return died
	}
	return err
}

func (t *Transfer) once(ctx context.Context, job *Job) error {
	if job.Addresses != nil {
		from, to, err := job.Addresses(ctx, false)
		if err != nil {
			return fmt.Errorf("find the addresses: %w", err)
		}
		job.From, job.To = from, to
	}
	source, err := t.Source(job.From.Type)
	if err != nil {
		return err
	}
	sink, err := t.Sink(job.To.Type)
	if err != nil {
		return err
	}
	job.Digests = t.Digests
	t.decide(ctx, job)
	job.account.begin(job.From.Type, job.To.Type)
	return Run(ctx, source, sink, *job, t.Interval, t.Metrics)
}

// maxSpoiled is how often one part is moved again because it came out wrong.
const maxSpoiled = 5

// spoils takes a transfer back when what was moved of a part is worth nothing: Corrupt, retryable. The part is then moved again from its
// start, or, if that place is not known any more, everything is.
type spoils struct {
	whole Place // the last that lies between two parts
	count int   // since then
}

func (s *spoils) reached(p Place) {
	if inside, _, err := openInside(p.Source); err == nil && inside == 0 {
		*s = spoils{whole: p}
	}
}

// another counts a failure, and says whether it may be tried again.
func (s *spoils) another() bool {
	s.count++
	return s.count <= maxSpoiled
}

// attempts decides whether and when to try again.
type attempts struct {
	policy   Retry
	failures int
	since    time.Time // of the last success
}

func (a *attempts) succeeded(now time.Time) { a.failures, a.since = 0, now }

// failed returns the pause before the next attempt, or false if there is none.
func (a *attempts) failed(now time.Time, err *sdk.Error) (time.Duration, bool) {
	if !err.Retryable || now.Sub(a.since) >= a.policy.GiveUpAfter {
		return 0, false
	}
	pause := max(a.policy.pause(a.failures), err.RetryAfter)
	a.failures++
	return pause, true
}
