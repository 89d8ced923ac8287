package pluginhost

import (
	"errors"
	"fmt"
	"maps"
	"time"

	"github.com/towpath-dataplane/towpath/sdk"
)

// fallback is a build that can be gone back to: everything that it takes to launch it again.
type fallback struct {
	program
	config  []byte
	account account
}

// Probation is that a build has followed another, which is used again should this one not move data.
type Probation struct {
	Since  time.Time
	SHA256 string // of the build before
	// Version of that build.
	Version string
}

// Rollback is that a build did not prove itself.
type Rollback struct {
	At     time.Time
	SHA256 string // of the build that was given up
	// Version of that build.
	Version string
	Why     string
}

// The ways in which a handover from one build to another ends.
const (
	outcomeKept       = "kept"        // the new build has moved data
	outcomeRolledBack = "rolled back" // it has not
	outcomeSuperseded = "superseded"  // it was followed by another before that was known
	outcomeWithdrawn  = "withdrawn"   // its file was removed, or may not be executed any more, before that was known
)

// outcomes lists the ways in which a handover ends.
var outcomes = []string{outcomeKept, outcomeRolledBack, outcomeSuperseded, outcomeWithdrawn}

// needs says why a build cannot follow g that offers what d says: a type is missing that flows have open. A generation without a process
// has no flows.
func (g *generation) needs(d sdk.Description) error {
	kept := map[offering]bool{}
	for _, to := range offers(d) {
		kept[to] = true
	}
	for _, to := range offers(g.describe()) {
		if n := g.streams(to); n > 0 && !kept[to] {
			return fmt.Errorf("it does not offer the %s type %q any more, of which %d streams are open on the build before", to.kind, to.typ, n)
		}
	}
	return nil
}

// streams counts those of a type that are open on any of its processes.
func (g *generation) streams(to offering) (n int) {
	if _, in := g.snapshot(); in != nil {
		n = in.flows.of(to)
	}
	for _, m := range g.pool.list() {
		if _, in := m.snapshot(); in != nil {
			n += in.flows.of(to)
		}
	}
	return n
}

// worthy says whether a generation is one to go back to: it works, as far as is known.
func (g *generation) worthy() bool {
	st, _ := g.snapshot()
	return st.description != nil && (st.state == StateReady || st.state == StateNotStarted || st.state == StateStarting && st.restarts == 0)
}

// succeed puts a generation on probation that follows another. What the one before had to go back to, if it has not proved itself either,
// stays what there is to go back to. h.mu is held.
func (h *Host) succeed(before, g *generation) {
	delete(h.rollbacks, g.Name)
	var back *fallback
	switch {
	case before.trial.runs():
		back = before.trial.before
		h.hold(back)
		h.giveUp(before, outcomeSuperseded)
	case before.worthy():
		back = &fallback{program: before.program, config: before.config,
			account: account{Description: before.describe(), Clear: before.clear.Load()}}
		h.hold(back)
	}
	switch {
	case back == nil:
	case back.SHA256 == g.SHA256: // it is the one to go back to
		h.dropImage(back.program)
	default:
		h.putOnTrial(g, back, time.Now())
		h.recordStanding(g.Candidate, &standing{Since: g.trial.since, Before: back.SHA256}, back)
	}
}

// hold keeps the copy of a build for as long as it can be gone back to. h.mu is held.
func (h *Host) hold(back *fallback) { h.launcher.dir.hold(back.image) }

// putOnTrial begins the probation of a generation. h.mu is held.
func (h *Host) putOnTrial(g *generation, back *fallback, since time.Time) {
	g.trial = &trial{since: since, limit: g.settings.HandoverTimeout, before: back, asks: map[offering]*ask{},
		prove: func() { h.prove(g) }, fail: func(why string) bool { return h.rollBack(g, why) }}
	h.log.Info("plugin is on probation", "plugin", g.Name, "sha256", g.SHA256, "before", back.SHA256, "handover_timeout", g.trial.limit)
}

// prove ends the probation of a generation that has moved data.
func (h *Host) prove(g *generation) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.closed || h.plugins[g.Name] != g || !g.trial.runs() {
		return
	}
	h.log.Info("plugin has proved itself", "plugin", g.Name, "sha256", g.SHA256, "version", g.describe().Version)
	h.giveUp(g, outcomeKept)
}

// giveUp ends the probation of a generation, if it is on one, and with it what there is to go back to. h.mu is held.
func (h *Host) giveUp(g *generation, outcome string) {
	if !g.trial.runs() {
		return
	}
	g.trial.end()
	h.count(g.Name, outcome)
	h.dropImage(g.trial.before.program)
	if outcome != outcomeSuperseded { // nothing of the plugin goes back to that any more
		maps.DeleteFunc(h.standings, func(of build, _ *standing) bool { return of.name == g.Name })
	}
	h.recordStanding(g.Candidate, nil, g.trial.before)
}

// count counts how a handover has ended. h.mu is held.
func (h *Host) count(name, outcome string) {
	if h.handovers[name] == nil {
		h.handovers[name] = map[string]int{}
	}
	h.handovers[name][outcome]++
}

// endedHandovers counts how handovers have ended, by name of plugin and outcome.
func (h *Host) endedHandovers() map[string]map[string]int {
	h.mu.Lock()
	defer h.mu.Unlock()
	all := map[string]map[string]int{}
	for name, ended := range h.handovers {
		all[name] = maps.Clone(ended)
	}
	return all
}

// faltered is told that a process of a generation has ended by itself, or could not be launched.
func (h *Host) faltered(g *generation, err error) {
	h.mu.Lock()
	on := g.trial.runs() && g.trial.untried()
	h.mu.Unlock()
	if on {
		h.rollBack(g, err.Error())
	}
}

// rollBack takes a generation out of use that has not proved itself, and the one before it back. It reports whether that is so, by now. The
// streams that are open on it are cut: it does not move them.
func (h *Host) rollBack(g *generation, why string) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	t := g.trial
	if h.closed || h.plugins[g.Name] != g || !t.runs() {
		return t != nil && t.lost.Load()
	}
	old := h.newGeneration(t.before.program, t.before.config)
	old.take(t.before.account, true)
	if err := h.offer(old, t.before.account.Description); err != nil {
		h.log.Error("plugin cannot be rolled back", "plugin", g.Name, "sha256", g.SHA256, "why", why, "err", err)
		h.giveUp(g, outcomeKept)
		return false
	}
	t.lost.Store(true)
	t.end()
	h.count(g.Name, outcomeRolledBack)
	h.plugins[g.Name] = old
	r := Rollback{At: time.Now(), SHA256: g.SHA256, Version: g.describe().Version, Why: why}
	h.noteRollback(g.Candidate, r)
	h.recordStanding(g.Candidate, &standing{Since: r.At, Before: old.SHA256, Refused: why}, t.before)
	h.log.Error("plugin is rolled back", "plugin", g.Name, "sha256", g.SHA256, "version", r.Version, "why", why,
		"to", old.SHA256, "to_version", t.before.account.Description.Version, "do", adviceRollback)
	h.retire(g, "it was rolled back: "+why, atOnce)
	g.hurry()
	h.begin(old)
	return true
}

const adviceRollback = "replace the file; or, if it was not to blame, towpath plugins rescan tries it again"

// noteRollback keeps a file from being used again by itself. h.mu is held.
func (h *Host) noteRollback(c Candidate, r Rollback) {
	h.rollbacks[c.Name] = r
	h.lookout.refuse(c, &Error{Plugin: c.Name, Doing: "run", Final: true,
		Err: fmt.Errorf("it %w on %s: %s", ErrRolledBack, r.At.UTC().Format(time.DateTime+"Z"), r.Why)})
}

// forgive has a file that was rolled back tried again.
func (h *Host) forgive(c Candidate) {
	h.lookout.forgive(c)
	h.restored(c.Name)
}

// restored says that nothing is known any more against the file that a plugin has.
func (h *Host) restored(name string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	delete(h.rollbacks, name)
}

// begin has a generation run. h.mu is held.
func (h *Host) begin(g *generation) {
	g.begin()
	h.announce()
}

// probation says what a generation has to prove, nil if nothing. h.mu is held.
func (g *generation) probation() *Probation {
	if !g.trial.runs() {
		return nil
	}
	b := g.trial.before
	return &Probation{Since: g.trial.since, SHA256: b.SHA256, Version: b.account.Description.Version}
}

// rolledBack is how the file that a plugin has now came not to be used; nil if it is, or something else is in the way. h.mu is held.
func (h *Host) rolledBack(name string) *Rollback {
	r, ok := h.rollbacks[name]
	if !ok || !errors.Is(h.lookout.refused(Candidate{Name: name, SHA256: r.SHA256}), ErrRolledBack) {
		return nil
	}
	return &r
}
