package pipeline

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	"github.com/towpath-dataplane/towpath/sdk"
)

// Watchdog tells transfers that are blocked from those that are dead.
type Watchdog struct {
	// StalledAfter is how long nothing has to have moved until something is said about a transfer. 0: a minute.
	StalledAfter time.Duration
	// RestartAfter is how long nothing has to have moved until an attempt that is stalled is ended, for the next one to go on from the
	// last stored place. 0: it is left as it is.
	RestartAfter time.Duration
	// Source and Sink say about the plugin for a type of address what is known of it. nil: nothing is.
	Source, Sink func(typ string) Plugin
	// DistrustHealth says that a plugin which answers is no proof that its flows live: one whose source or sink is silent is stalled.
	DistrustHealth bool
}

// askedWithin is how old an answer has to be before its age means anything: plugins are not asked all the time.
const askedWithin = 15 * time.Second

// Plugin is what is known of the plugin at one end of a transfer.
type Plugin struct {
	// Answered is when it answered last when it was asked for its health.
	Answered time.Time
	// NonFinite says that the streams of this type have no end of their own: that nothing comes means nothing.
	NonFinite bool
}

// Condition is what the watchdog says about a transfer.
type Condition string

// The conditions.
const (
	Moving  Condition = "moving"
	Blocked Condition = "blocked" // by a side that lives, by a limit, or by others in the queue
	Idle    Condition = "idle"    // a source without an end has nothing at present
	Stalled Condition = "stalled" // neither side has moved, nor answered
)

func (w Watchdog) complete() Watchdog {
	if w.StalledAfter == 0 {
		w.StalledAfter = time.Minute
	}
	unknown := func(string) Plugin { return Plugin{} }
	if w.Source == nil {
		w.Source = unknown
	}
	if w.Sink == nil {
		w.Sink = unknown
	}
	return w
}

// condition says how the transfer is, and why if it does not move.
func (a *account) condition(now time.Time) (Condition, string) {
	quiet := a.quiet(now)
	if !a.runs || quiet < a.watchdog.StalledAfter {
		return Moving, ""
	}
	waits := func(what string) string { return fmt.Sprintf("waits for %s since %s", what, quiet.Round(time.Second)) }
	switch a.owner() {
	case atSource:
		source := a.watchdog.Source(a.from)
		switch {
		case source.NonFinite:
			return Idle, fmt.Sprintf("the source has had nothing for %s", quiet.Round(time.Second))
		case a.lives(source, now):
			return Blocked, waits("the source")
		}
		return Stalled, fmt.Sprintf("stalled: the source has neither moved nor answered for %s", quiet.Round(time.Second))
	case atSink:
		switch {
		case a.blocked != nil && a.blocked.Blocked && a.blocked.Reason != "":
			return Blocked, waits("the sink") + ": " + a.blocked.Reason
		case a.blocked != nil && a.blocked.Blocked, a.lives(a.watchdog.Sink(a.to), now):
			return Blocked, waits("the sink")
		}
		return Stalled, fmt.Sprintf("stalled: the sink has neither moved nor answered for %s", quiet.Round(time.Second))
	case atHost:
		return Blocked, waits("the host's store")
	case atLimit:
		return Blocked, waits("a rate limit")
	case atQueue:
		return Blocked, waits("a place among the transfers")
	}
	return Blocked, waits("its next attempt")
}

// quiet is for how long nothing has moved.
func (a *account) quiet(now time.Time) time.Duration {
	last := a.since
	if a.life.After(last) {
		last = a.life
	}
	return now.Sub(last)
}

// lives reports whether a plugin's answers speak for its flow.
func (a *account) lives(p Plugin, now time.Time) bool {
	return !a.watchdog.DistrustHealth && !p.Answered.IsZero() && now.Sub(p.Answered) < max(a.watchdog.StalledAfter, askedWithin)
}

// watch looks after one attempt until ctx ends, and says through waiting if it is stalled. It ends an attempt that is dead by returning
// why.
func (a *account) watch(ctx context.Context, stalls interface{ Inc() }, waiting func(reason string), log *slog.Logger) error {
	tick := time.NewTicker(max(a.watchdog.StalledAfter/4, time.Millisecond))
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		text, changed, dead := a.look(time.Now())
		switch {
		case changed && text != "":
			stalls.Inc()
			waiting(text)
			log.Warn("transfer is stalled", "why", text)
		case changed:
			waiting("")
			log.Info("transfer is no longer stalled")
		}
		if dead {
			return sdk.Retryf(sdk.Unavailable, "%s", text)
		}
	}
}

// look reports whether the transfer is stalled, whether that is new, and whether it is dead for good.
func (a *account) look(now time.Time) (text string, changed, dead bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	condition, text := a.condition(now)
	stalled := condition == Stalled
	changed = stalled != a.stalled
	a.stalled = stalled
	if !stalled {
		return "", changed, false
	}
	return text, changed, a.watchdog.RestartAfter > 0 && a.quiet(now) >= a.watchdog.RestartAfter
}
