package pluginhost

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/towpath-dataplane/towpath/sdk"
)

// Isolation says which flows share a process of a plugin.
type Isolation string

// The kinds of isolation. Calls that belong to no flow are made to a process of their own in any case but the first.
const (
	IsolationShared      Isolation = "shared"      // all
	IsolationFlow        Isolation = "flow"        // none
	IsolationParticipant Isolation = "participant" // those of one participant context
)

// defaultMaxProcesses is what MaxProcesses is where it is not set.
const defaultMaxProcesses = 32

// ErrBusy says that a plugin has as many processes as it may have, and all are in use. It passes by itself, when flows have ended.
var ErrBusy = errors.New("all processes that max_processes allows are in use")

// room names one of the processes of a generation. The zero value: the shared one.
type room struct {
	context, flow string // whose it is
	cell          int    // of suspects, see ward
}

func (r room) String() string {
	switch {
	case r.cell != 0:
		return fmt.Sprintf("suspects %d", r.cell)
	case r.flow != "":
		return fmt.Sprintf("flow %s/%s", r.context, r.flow)
	case r.context != "":
		return "participant " + r.context
	}
	return "shared"
}

// roomFor is the process for a tenant, as far as the settings go.
func (s Settings) roomFor(t tenant) room {
	switch {
	case t.flow == "":
		return room{}
	case s.Isolation == IsolationFlow:
		return room{context: t.context, flow: t.flow}
	case s.Isolation == IsolationParticipant:
		return room{context: t.context}
	}
	return room{}
}

// pool has the processes of a generation that are not everyone's. They come with the first call that needs them, and go when none has for
// a while, or when there is no other room for another.
type pool struct {
	of *generation

	ctx     context.Context // of the generation
	running sync.WaitGroup

	mu      sync.Mutex // guards the rest
	members map[room]*member
	changed chan struct{} // closed, and made anew, when a member may have become free
	retired string
	ended   status // what the members that are gone had
}

// member is one process of a pool. The mutex of the pool guards what is not the supervisor's.
type member struct {
	*supervisor
	uses   int
	ending bool
	idle   *time.Timer
}

func newPool(g *generation) *pool {
	return &pool{of: g, members: map[room]*member{}, changed: make(chan struct{})}
}

// enter returns who keeps the process for a tenant running, and what is to be called when the process is not needed any more. It waits,
// with bounds, while there are too many processes. The error is an *sdk.Error, or that of ctx.
func (p *pool) enter(ctx context.Context, who tenant) (*supervisor, func(), error) {
	deadline := time.Now().Add(p.of.pace.patience)
	for {
		s, leave, changed := p.tryEnter(who)
		if s != nil {
			return s, leave, nil
		}
		if !time.Now().Before(deadline) {
			return nil, nil, sdk.Retryf(sdk.Unavailable, "plugin %s: %w (%d)", p.of.Name, ErrBusy, p.of.settings.MaxProcesses)
		}
		if err := waitFor(ctx, changed, deadline); err != nil {
			return nil, nil, err
		}
	}
}

func (p *pool) tryEnter(who tenant) (*supervisor, func(), <-chan struct{}) {
	r := p.of.ward.roomOf(who, p.of.settings.roomFor(who))
	p.mu.Lock()
	defer p.mu.Unlock()
	if r == (room{}) || p.retired != "" || p.ctx == nil {
		return p.of.supervisor, func() {}, nil // which refuses by itself
	}
	m := p.members[r]
	if m == nil && len(p.members) < p.of.settings.MaxProcesses {
		m = p.open(r)
	}
	switch {
	case m != nil && !m.ending:
		m.uses++
		if m.idle != nil {
			m.idle.Stop()
			m.idle = nil
		}
		return m.supervisor, sync.OnceFunc(func() { p.leave(m) }), nil
	case m == nil:
		p.makeRoom()
		if r.cell != 0 {
			return p.of.supervisor, func() {}, nil
		}
	}
	return nil, nil, p.changed
}

// open adds a member. p.mu is held.
func (p *pool) open(r room) *member {
	g := p.of
	s := newSupervisor(g.program, g.pace, g.log)
	s.log = g.log
	s.room, s.ward, s.config, s.launch, s.lazy = r, g.ward, g.config, g.launch, true
	s.ended = g.ended
	s.admit = func(in *instance) error {
		in.trial = g.onTrial()
		return g.welcome(in)
	}
	s.demand = make(chan struct{}, 1)
	s.stopping, s.hurry = context.WithCancel(g.stopping)
	s.resting, s.rouse = context.WithCancel(g.resting)
	s.status.state = StateNotStarted
	ctx, cancel := context.WithCancel(p.ctx)
	s.cancel = cancel
	m := &member{supervisor: s}
	p.members[r] = m
	p.running.Go(func() {
		defer cancel()
		s.run(ctx)
		p.mu.Lock()
		defer p.mu.Unlock()
		delete(p.members, r)
		st, _ := s.snapshot()
		p.ended.restarts, p.ended.launches = p.ended.restarts+st.restarts, p.ended.launches+st.launches
		if st.lastExit != nil {
			p.ended.lastExit = st.lastExit
		}
		p.ended.problem = errors.Join(p.ended.problem, s.stopErr)
		p.tell()
	})
	return m
}

func (p *pool) tell() {
	close(p.changed)
	p.changed = make(chan struct{})
}

// leave ends a use.
func (p *pool) leave(m *member) {
	p.mu.Lock()
	defer p.mu.Unlock()
	m.uses--
	if m.uses > 0 || m.ending {
		return
	}
	p.tell()
	m.idle = time.AfterFunc(p.of.pace.idle, func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		p.dismiss(m)
	})
}

// dismiss ends the process of a member that nobody uses. p.mu is held.
func (p *pool) dismiss(m *member) {
	if m.uses > 0 || m.ending {
		return
	}
	m.ending = true
	if m.idle != nil {
		m.idle.Stop()
	}
	m.cancel()
}

// makeRoom ends the process that nobody uses, if there is one. p.mu is held.
func (p *pool) makeRoom() {
	for _, m := range p.members {
		if m.ending {
			return // which makes room
		}
	}
	for _, m := range p.members {
		if m.uses == 0 {
			p.dismiss(m)
			return
		}
	}
}

// retire has the members come to rest, and lets no other come.
func (p *pool) retire(why string, how parting) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.retired == "" {
		p.retired = why
	}
	for _, m := range p.members {
		if m.idle != nil {
			m.idle.Stop()
		}
		m.retire(why, how)
	}
	p.tell()
}

// rest waits until no member is left, and returns what went wrong when they were ended.
func (p *pool) rest() error {
	p.running.Wait()
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.ended.problem
}

// list returns the members, by name.
func (p *pool) list() []*member {
	p.mu.Lock()
	defer p.mu.Unlock()
	var all []*member
	for _, m := range p.members {
		all = append(all, m)
	}
	slices.SortFunc(all, func(a, b *member) int { return strings.Compare(a.room.String(), b.room.String()) })
	return all
}

// run keeps the processes of the generation running until ctx ends.
func (g *generation) run(ctx context.Context) {
	defer close(g.finished)
	defer g.hurry()
	defer g.rouse()
	g.loop(ctx)
	<-ctx.Done()
	err := g.pool.rest()
	g.mu.Lock()
	defer g.mu.Unlock()
	g.stopErr = errors.Join(g.stopErr, err)
}

// begin lets a generation run.
func (g *generation) begin() {
	ctx, cancel := context.WithCancel(context.Background())
	g.cancel = cancel
	g.pool.mu.Lock()
	g.pool.ctx = ctx
	g.pool.mu.Unlock()
	go g.run(ctx)
}

// retire is supervisor.retire for all processes.
func (g *generation) retire(why string, how parting) {
	g.pool.retire(why, how)
	g.supervisor.retire(why, how)
	g.ward.close()
}

// stop is supervisor.stop for all processes.
func (g *generation) stop(ctx context.Context) error {
	g.cancel()
	g.ward.close()
	g.pool.retire("the host stops", atOnce)
	return g.supervisor.stop(ctx)
}

// failed says whether no process of it is launched by itself.
func (g *generation) failed() bool { return g.supervisor.failed() || g.ward.quarantined() != nil }

// welcome says whether a process describes itself as the generation did before.
func (g *generation) welcome(in *instance) error {
	if st, _ := g.snapshot(); st.description != nil && !sameOffers(*st.description, in.description) {
		return errors.New("it describes itself in another way than before")
	}
	return nil
}

// call calls f with a visit to the process for a tenant.
func (g *generation) call(ctx context.Context, to offering, who tenant, f func(v *visit) error) error {
	if g.ward.quarantined() != nil && g.why() == "" {
		return g.ward.refusal()
	}
	if g.supervisor.failed() {
		_, err := g.acquire(ctx) // which says why
		return err
	}
	s, leave, err := g.pool.enter(ctx, who)
	if err != nil {
		return err
	}
	in, err := s.acquire(ctx)
	if err != nil {
		leave()
		return err
	}
	v := in.visit(ctx, to, who, g.ward, leave)
	err = in.trial.watch(ctx, v.asks, func() error { return v.explain(f(v)) })
	if err != nil || !v.streams {
		v.end()
	}
	return err
}
