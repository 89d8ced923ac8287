package flow_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/towpath-dataplane/towpath/host/flow"
	"github.com/towpath-dataplane/towpath/host/store/storetest"
	"github.com/towpath-dataplane/towpath/sdk"
)

var (
	errDisk = errors.New("the disk is full")
	errDead = errors.New("the process is dead")
)

// dice are thrown by many goroutines.
type dice struct {
	mu sync.Mutex
	r  *rand.Rand
}

func (d *dice) n(n int) int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.r.IntN(n)
}

// one reports true once in so many throws.
func (d *dice) one(in int) bool { return d.n(in) == 0 }

func (d *dice) upTo(most time.Duration) time.Duration {
	return time.Duration(d.n(int(most/time.Millisecond))) * time.Millisecond
}

// disk decides what a process can still write: anything, anything but for a fault now and then, or nothing any more because it is
// dead and does not know yet.
type disk struct {
	*dice
	mu     sync.Mutex
	faults int // one write in so many fails; 0: none
	alive  bool
	left   int // writes until death; negative: no end
}

// write says what becomes of a write.
func (d *disk) write() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.left > 0 {
		d.left--
		d.alive = d.left > 0
		return nil // the last one may still reach the disk
	}
	switch {
	case !d.alive:
		return errDead
	case d.faults > 0 && d.one(d.faults):
		return errDisk
	}
	return nil
}

func (d *disk) dead() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return !d.alive
}

// dieAfter lets the process die after so many writes more; those who wait for the last do not hear of it.
func (d *disk) dieAfter(writes int) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.left, d.alive = writes, writes > 0
}

func (d *disk) set(faults int) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.faults, d.alive, d.left = faults, true, -1
}

// chaosStore is a store on such a disk, which holds each change of a state against what Data Plane Signaling draws.
type chaosStore struct {
	flow.Store
	disk *disk
	t    *testing.T
}

// drawn is the state machine of Data Plane Signaling, section "Data Flow State Machine".
var drawn = map[flow.State][]flow.State{
	"":             {flow.Preparing, flow.Prepared, flow.Starting, flow.Started},
	flow.Preparing: {flow.Prepared, flow.Terminated},
	flow.Prepared:  {flow.Started, flow.Terminated},
	flow.Starting:  {flow.Started, flow.Terminated},
	flow.Started:   {flow.Suspended, flow.Completed, flow.Terminated},
	flow.Suspended: {flow.Started, flow.Terminated},
}

func (s *chaosStore) Update(ctx context.Context, key flow.Key, fn func(flow.Tx) error) error {
	fate := s.disk.write()
	var from, to flow.State
	err := s.Store.Update(ctx, key, func(tx flow.Tx) error {
		if f, err := tx.Flow(); err == nil {
			from = f.State
		}
		if err := fn(tx); err != nil {
			return err
		}
		if f, err := tx.Flow(); err == nil {
			to = f.State
		}
		return fate
	})
	if err != nil {
		return err
	}
	if from != to && !contains(drawn[from], to) {
		s.t.Errorf("flow %s has gone from %q to %q", key, from, to)
	}
	if s.disk.dead() {
		return errDead // it is durable, and nobody hears of it
	}
	return nil
}

func contains[T comparable](all []T, one T) bool {
	for _, v := range all {
		if v == one {
			return true
		}
	}
	return false
}

// chaosEndpoint keeps its tokens on the disk.
type chaosEndpoint struct {
	*endpoint
	disk *disk
}

func (e *chaosEndpoint) Issue(ctx context.Context, f *flow.Flow) (sdk.DataAddress, error) {
	if err := cmpOr(ctx.Err(), e.disk.write()); err != nil {
		return sdk.DataAddress{}, sdk.Retryf(sdk.Unavailable, "%w", err)
	}
	return e.endpoint.Issue(ctx, f)
}

func (e *chaosEndpoint) IssueResponse(ctx context.Context, f *flow.Flow) (sdk.DataAddress, error) {
	if err := cmpOr(ctx.Err(), e.disk.write()); err != nil {
		return sdk.DataAddress{}, sdk.Retryf(sdk.Unavailable, "%w", err)
	}
	return e.endpoint.IssueResponse(ctx, f)
}

func (e *chaosEndpoint) Revoke(ctx context.Context, key flow.Key) error {
	if err := cmpOr(ctx.Err(), e.disk.write()); err != nil {
		return err
	}
	return e.endpoint.Revoke(ctx, key)
}

func cmpOr(errs ...error) error {
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}

// tokens returns how many tokens of a flow work.
func (e *endpoint) tokens(key flow.Key) (n int) {
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, k := range e.live {
		if k == key {
			n++
		}
	}
	return n
}

// chaosPlugins check, provision, release and move, each as it likes.
type chaosPlugins struct {
	*dice
	t      *testing.T
	mu     sync.Mutex
	calm   bool
	gone   chan struct{}             // closed when the process dies, and the plugins with it
	moving map[flow.Key]*chaosMoving // transfers
	held   map[flow.Key]bool         // provisioned, not released
}

type chaosMoving struct{ cut bool }

// fault is what a plugin fails with at present.
func (p *chaosPlugins) fault(final int) error {
	p.mu.Lock()
	calm := p.calm
	p.mu.Unlock()
	switch {
	case calm:
		return nil
	case p.one(final):
		return sdk.Errorf(sdk.Denied, "no %d", p.n(3))
	case p.one(6):
		return sdk.Retryf(sdk.Exhausted, "busy")
	}
	return nil
}

func (p *chaosPlugins) setCalm(calm bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.calm = calm
}

// death is closed when the process dies.
func (p *chaosPlugins) death() <-chan struct{} {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.gone
}

func (p *chaosPlugins) check(ctx context.Context, _ sdk.DataAddress) error {
	if p.one(2) {
		select {
		case <-time.After(p.upTo(6 * time.Second)):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return p.fault(25)
}

func (p *chaosPlugins) CheckSource(ctx context.Context, a sdk.DataAddress) error {
	return p.check(ctx, a)
}
func (p *chaosPlugins) CheckSink(ctx context.Context, a sdk.DataAddress) error {
	return p.check(ctx, a)
}

// chaosSinks are the sinks that a process reaches for as long as it lives.
type chaosSinks struct {
	*chaosPlugins
	disk *disk
}

func (s chaosSinks) Sink(string) (sdk.DataSink, error) { return chaosSink{chaosSinks: s}, nil }

type chaosSink struct {
	sink
	chaosSinks
}

func (s chaosSink) Provision(_ context.Context, f sdk.FlowContext, _ sdk.DataAddress) (sdk.DataAddress, error) {
	if err := s.fault(50); err != nil {
		return sdk.DataAddress{}, err
	}
	if s.disk.dead() {
		return sdk.DataAddress{}, errDead
	}
	s.chaosPlugins.mu.Lock()
	defer s.chaosPlugins.mu.Unlock()
	s.held[flow.Key{Context: f.ParticipantContext, ID: f.ID}] = true
	return sdk.DataAddress{Type: "queue", Endpoint: "amqps://here/" + f.ID}, nil
}

func (s chaosSink) Deprovision(_ context.Context, f sdk.FlowContext, _ sdk.DataAddress) error {
	if s.fault(1<<30) != nil || s.disk.dead() {
		return sdk.Retryf(sdk.Unavailable, "not now")
	}
	s.chaosPlugins.mu.Lock()
	defer s.chaosPlugins.mu.Unlock()
	delete(s.held, flow.Key{Context: f.ParticipantContext, ID: f.ID})
	return nil
}

// move is a transfer: it ends by itself, with a failure, or when it is cut, soon or late.
func (p *chaosPlugins) move(ctx context.Context, f *flow.Flow, progress flow.Progress) error {
	p.mu.Lock()
	m, gone := &chaosMoving{}, p.gone
	if p.moving[f.Key] != nil {
		p.t.Errorf("two transfers of flow %s at a time", f.Key)
	}
	p.moving[f.Key] = m
	p.mu.Unlock()
	defer func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		delete(p.moving, f.Key)
	}()
	for range p.n(4) {
		select {
		case <-time.After(p.upTo(20 * time.Second)):
		case <-ctx.Done():
			p.mu.Lock()
			m.cut = true
			p.mu.Unlock()
			if p.one(8) { // it does not listen
				select {
				case <-time.After(p.upTo(30 * time.Second)):
				case <-gone:
				}
			}
			return context.Cause(ctx)
		}
		progress.Checkpoint(ctx, flow.Checkpoint{}, sdk.Totals{Bytes: 1}, nil)
	}
	return p.fault(3)
}

// moves reports whether a flow's transfer runs that was not told to stop.
func (p *chaosPlugins) moves(key flow.Key) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	m := p.moving[key]
	return m != nil && !m.cut
}

func (p *chaosPlugins) holds(key flow.Key) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.held[key]
}

// chaos is a data plane whose disk, plugins and process fail, and what its control plane was told.
type chaos struct {
	*dice
	t        *testing.T
	memory   flowStore
	endpoint *endpoint
	plugins  *chaosPlugins

	mu      sync.Mutex // guards process
	process *process

	guard sync.Mutex // guards what follows
	told  map[flow.Key][]*told
	ended map[flow.Key]int // callbacks of flows whose terminate was acknowledged
	tally map[string]int
}

// process is one life of the engine. What it writes after its death does not reach the disk.
type process struct {
	*flow.Engine
	disk *disk
}

// now returns the process that runs.
func (c *chaos) now() *process {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.process
}

// flowStore is a store with its outbox.
type flowStore interface {
	flow.Store
	flow.Outbox
}

func newChaos(t *testing.T, seed uint64, memory flowStore) *chaos {
	d := &dice{r: rand.New(rand.NewPCG(seed, 1))}
	c := &chaos{dice: d, t: t, memory: memory, endpoint: &endpoint{live: map[string]flow.Key{}},
		plugins: &chaosPlugins{dice: d, t: t, moving: map[flow.Key]*chaosMoving{}, held: map[flow.Key]bool{}},
		told:    map[flow.Key][]*told{}, ended: map[flow.Key]int{}, tally: map[string]int{}}
	c.begin()
	return c
}

// begin starts a process.
func (c *chaos) begin() {
	c.plugins.mu.Lock()
	c.plugins.gone = make(chan struct{})
	c.plugins.mu.Unlock()
	d := &disk{dice: c.dice}
	d.set(30)
	e := flow.New(flow.Options{
		Store: &chaosStore{Store: c.memory, disk: d, t: c.t}, Catalog: catalog{}, Checker: c.plugins,
		Endpoint: &chaosEndpoint{c.endpoint, d}, Transfer: c.plugins.move, Sinks: chaosSinks{c.plugins, d},
		Logger: slog.New(slog.DiscardHandler), StopTimeout: 5 * time.Second,
	})
	if err := e.Revive(bg); err != nil {
		c.t.Errorf("revive: %v", err)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.process = &process{e, d}
}

// end takes the process away. What it still wants to write is lost if it died.
func (c *chaos) end() {
	c.plugins.mu.Lock()
	close(c.plugins.gone)
	c.plugins.mu.Unlock()
	ctx, cancel := context.WithTimeout(bg, time.Minute)
	defer cancel()
	if err := c.now().Close(ctx); err != nil {
		c.t.Errorf("close: %v", err)
	}
}

// crash kills the process at one of its next writes, and starts another.
func (c *chaos) crash() {
	dying := c.now().disk
	dying.dieAfter(c.n(4))
	time.Sleep(c.upTo(3 * time.Second))
	dying.dieAfter(0)
	c.end()
	c.begin()
}

// inChaos runs a test in a bubble, which ends when all of its goroutines have.
func inChaos(t *testing.T, seed uint64, test func(c *chaos)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		defer func() {
			if t.Failed() {
				t.Logf("seed %d", seed)
			}
		}()
		test(newChaos(t, seed, storetest.NewMemory()))
	})
}

func (c *chaos) count(what string) {
	c.guard.Lock()
	defer c.guard.Unlock()
	c.tally[what]++
}

func chaosKey(n int) flow.Key {
	return flow.Key{Context: flow.DefaultContext, ID: fmt.Sprint("f", n)}
}
