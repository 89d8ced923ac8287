package pluginhost

import (
	"errors"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/towpath-dataplane/towpath/sdk"
)

// ward finds out, when processes of a generation crash, who is to blame: one flow, with a frame that kills its process every time, or the
// plugin.
//
// A flow that was open in two crashes and got no further in between is suspect. Suspects are spread over a few processes, cells, and those
// of a cell that crashes over others, so that each is soon known for what it is: it gets past the place where it was, and is among the
// others again with its next call, or crashes alone. What is said here of flows holds for addresses too, of which plugins are asked before
// there is a flow.
type ward struct {
	name  string // of the plugin
	pace  pace
	limit int // of crashes; less than 0: none
	log   *slog.Logger

	watched atomic.Int64 // suspects that there are
	life    atomic.Int64 // when a flow got further last, in nanoseconds
	// quarantine is nil if the plugin is in none. It changes under mu.
	quarantine atomic.Pointer[Quarantine]

	mu       sync.Mutex // guards the rest
	suspects map[tenant]*suspect
	cells    int      // that there were so far
	crashes  []*crash // since the last steady run, and not too long ago
}

// suspect is what is held against a flow. It goes when the flow has got further than where it was.
type suspect struct {
	strikes int       // crashes of processes that it shared with others
	cell    int       // where its calls are made; 0: among the others
	crashes int       // of a process of its own
	since   time.Time // of the first of them
	passed  bool      // it has got further since; it is let go when its streams have ended
	seen    time.Time
	with    []*crash // where it was
	marked  [roles]bool
	place   [roles]position // the furthest that it had come to
	past    [roles]bool
}

// crash is the end of a process that nobody wanted.
type crash struct {
	at      time.Time
	exit    Exit
	launch  bool // it was not ready yet
	search  bool // of a cell with several suspects
	blamed  bool // it is known to be a flow's fault
	culprit tenant
}

func newWard(name string, p pace, limit int, log *slog.Logger) *ward {
	return &ward{name: name, pace: p, limit: limit, log: log, suspects: map[tenant]*suspect{}}
}

// roomOf is where the calls of a tenant are made, if nothing is held against it in usual.
func (w *ward) roomOf(t tenant, usual room) room {
	if w.watched.Load() == 0 || usual.flow != "" {
		return usual
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	s := w.suspects[t]
	if s == nil || s.cell == 0 {
		return usual
	}
	s.seen = time.Now()
	return room{cell: s.cell}
}

// suspected says whether a tenant's streams are to be looked at closely.
func (w *ward) suspected(t tenant) bool {
	if w.watched.Load() == 0 {
		return false
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	s := w.suspects[t]
	return s != nil && s.segregated()
}

// suspectedAt says whether what is held against a visit's tenant can lie in front of a part.
func (w *ward) suspectedAt(v *visit, part uint64) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	s := w.suspects[v.who]
	return s != nil && !s.passed && part <= s.place[v.role].part+1
}

func (s *suspect) segregated() bool { return s.cell != 0 || s.crashes > 0 }

// fell takes note that a process has ended, unless the host has ended it.
func (w *ward) fell(r room, in *instance) {
	exit, ended := in.exited()
	if w == nil || w.limit < 0 || !ended || exit.Reason != "" && !in.frozen.Load() {
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	now := time.Now()
	w.forget(now)
	if now.Sub(in.ready) >= w.pace.steady {
		w.crashes = nil
	}
	c := &crash{at: now, exit: exit}
	w.crashes = append(w.crashes, c)
	hit := w.hit(in.visits.list(), c)
	if len(hit) == 1 && (r.cell != 0 || r.flow != "") {
		w.accuse(hit[0], c)
	} else {
		c.search = r.cell != 0
		w.separate(hit, r.cell != 0)
	}
	if w.judge(); w.quarantine.Load() == nil && c.culprit != (tenant{}) {
		in.culprit, in.verdict = c.culprit, w.sentence(c)
	}
}

// hit updates what is known of the tenants that were in a process when it crashed, and returns them.
func (w *ward) hit(all []*visit, c *crash) (hit []tenant) {
	for _, v := range all {
		if v.who == (tenant{}) {
			continue
		}
		s := w.suspects[v.who]
		if s == nil {
			s = &suspect{}
			w.suspects[v.who] = s
		}
		if !slices.Contains(hit, v.who) {
			hit = append(hit, v.who)
			s.seen, s.with = c.at, append(s.with, c)
		}
		if at := v.where(); v.streams && (!s.marked[v.role] || at.compare(s.place[v.role]) >= 0) {
			s.marked[v.role], s.past[v.role], s.place[v.role] = true, false, at
		}
	}
	w.watched.Store(int64(len(w.suspects)))
	return hit
}

// lastTry says whether a tenant that reads crashes its process for the last time if it does so again, and where.
func (w *ward) lastTry(t tenant) (at position, last bool) {
	if !w.suspected(t) {
		return position{}, false
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	s := w.suspects[t]
	if s == nil || s.passed || s.crashes < w.pace.tries-1 || !s.marked[reads] {
		return position{}, false
	}
	return s.place[reads], true
}

// accuse blames the tenant that was alone in a process.
func (w *ward) accuse(t tenant, c *crash) {
	s := w.suspects[t]
	if s.passed {
		// Not that frame: this is another crash, of which no more is known than that.
		s.passed, s.crashes, s.since, s.with = false, 1, c.at, []*crash{c}
		return
	}
	if s.crashes++; s.crashes == 1 {
		s.since = c.at
	}
	for _, each := range s.with {
		each.blamed = true
	}
	s.with, c.culprit = nil, t
}

// separate spreads those over cells who may be to blame.
func (w *ward) separate(hit []tenant, again bool) {
	var suspects []*suspect
	for _, t := range hit {
		s := w.suspects[t]
		s.strikes++
		s.passed = false
		if again || s.strikes > 1 {
			suspects = append(suspects, s)
		}
	}
	for i, s := range suspects {
		s.cell = w.cells + 1 + i%w.pace.cells
	}
	w.cells += min(len(suspects), w.pace.cells)
}

// sentence is what a tenant is told that has crashed its own process for the last time; nil if it may try again.
func (w *ward) sentence(c *crash) error {
	s := w.suspects[c.culprit]
	elsewhere := slices.ContainsFunc(w.crashes, func(c *crash) bool { return !c.blamed && !c.search && !c.at.Before(s.since) })
	if s.crashes < w.pace.tries || elsewhere {
		return nil // or the plugin crashes without it as well
	}
	crashes := s.crashes
	s.crashes = 0 // an operator may let it try again
	at := s.place[reads]
	if w := s.place[writes]; s.marked[writes] && (!s.marked[reads] || w.sure) {
		at = w
	}
	e := sdk.Errorf(sdk.Internal, "plugin %s crashed %d times in a process of its own for this %s%s, and got no further: %s", w.name, crashes,
		c.culprit.kind(), at, c.exit)
	if at.sure {
		e.Part = at.name
	}
	w.log.Error("a flow crashes its plugin every time", "for", c.culprit.String(), "part", e.Part, "status", c.exit.Status, "err", e.Message)
	return e
}

func (t tenant) kind() string {
	if t.address != "" {
		return "address"
	}
	return "flow"
}

// further takes note that all up to a place of a stream has been done for good.
func (w *ward) further(v *visit, at position) {
	now := time.Now()
	if w.watched.Load() == 0 {
		w.life.Store(now.UnixNano())
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	s := w.suspects[v.who]
	if s == nil {
		w.life.Store(now.UnixNano())
		return
	}
	s.seen = now
	if !s.marked[v.role] || at.compare(s.place[v.role]) <= 0 || v.single && v.from.compare(s.place[v.role]) > 0 {
		return
	}
	s.past[v.role] = true
	if s.past != s.marked {
		return
	}
	w.life.Store(now.UnixNano())
	if s.passed = true; !s.segregated() {
		w.clear(v.who)
	}
}

// left takes note that a visit has ended, and its process has not.
func (w *ward) left(v *visit) {
	if w.watched.Load() == 0 {
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	s := w.suspects[v.who]
	switch {
	case s == nil:
	case s.passed, !v.streams && s.marked == [roles]bool{}:
		w.clear(v.who)
	}
}

// clear drops what is held against a tenant. w.mu is held.
func (w *ward) clear(t tenant) {
	delete(w.suspects, t)
	w.watched.Store(int64(len(w.suspects)))
}

// forget drops what is too old to matter. w.mu is held.
func (w *ward) forget(now time.Time) {
	w.crashes = slices.DeleteFunc(w.crashes, func(c *crash) bool { return now.Sub(c.at) > w.pace.window })
	for t, s := range w.suspects {
		if now.Sub(s.seen) > w.pace.suspicion {
			w.clear(t)
		}
	}
}

// note takes note of why a process could not be launched, or has ended, and says whether the plugin is in quarantine.
func (w *ward) note(err error) bool {
	if w == nil || w.limit < 0 {
		return false
	}
	if e := (*Error)(nil); errors.As(err, &e) && e.Doing != "run" && e.Exit != nil && e.Exit.Reason == "" {
		w.mu.Lock()
		now := time.Now()
		w.forget(now)
		w.crashes = append(w.crashes, &crash{at: now, exit: *e.Exit, launch: true})
		w.judge()
		w.mu.Unlock()
	}
	return w.quarantined() != nil
}

// Suspect is a flow that may crash its plugin.
type Suspect struct {
	For     string // which it is
	Process string // where its calls are made
	Crashes int    // of a process of its own, at the place where it is
	Place   string
}

// list returns the suspects that are kept apart, by name.
func (w *ward) list() (all []Suspect) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for t, s := range w.suspects {
		if s.segregated() && !s.passed {
			r := room{context: t.context, flow: t.flow, cell: s.cell}
			all = append(all, Suspect{For: t.String(), Process: r.String(), Crashes: s.crashes,
				Place: s.place[reads].String() + s.place[writes].String()})
		}
	}
	slices.SortFunc(all, func(a, b Suspect) int { return strings.Compare(a.For, b.For) })
	return all
}
