package signaling

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/towpath-dataplane/towpath/host/flow"
)

// Dispatcher delivers the callbacks in an outbox: at least once each, in order within a flow, many flows at a time. What fails is
// tried again with growing delays; what cannot succeed, or has failed for too long, is given up. Neither a flow nor a control plane
// waits for another one. Control planes may come and go meanwhile.
//
// The fields are set before Run and not changed.
type Dispatcher struct {
	Outbox flow.Outbox
	// ControlPlanes are those that callbacks go to.
	ControlPlanes *Directory
	// Clock tells the time. nil: time.Now.
	Clock func() time.Time
	// Logger gets a line per attempt. nil: none.
	Logger *slog.Logger
	// Registerer gets the metrics. nil: none.
	Registerer prometheus.Registerer
}

// Run delivers until ctx ends, and returns nil then: attempts in flight are broken off, and their callbacks stay in the outbox. There
// is one Run at a time.
func (d *Dispatcher) Run(ctx context.Context) error {
	d.newRun().loop(ctx)
	return nil
}

func (d *Dispatcher) newRun() *run {
	r := &run{
		outbox:        d.Outbox,
		controlPlanes: d.ControlPlanes,
		clock:         d.Clock,
		log:           d.Logger,
		metrics:       newCallbackMetrics(d.Registerer),
		faults:        make(map[int64]int),
		flows:         make(map[flow.Key]bool),
		busy:          make(map[string]int),
		seen:          make(map[string]sight),
		finished:      make(chan flow.Callback),
	}
	if r.clock == nil {
		r.clock = time.Now
	}
	if r.log == nil {
		r.log = slog.New(slog.DiscardHandler)
	}
	return r
}

// run is a running Dispatcher. The goroutines that deliver use the fields of the first group only; the others belong to loop.
type run struct {
	outbox        flow.Outbox
	controlPlanes *Directory
	clock         func() time.Time
	log           *slog.Logger
	metrics       callbackMetrics
	finished      chan flow.Callback // callbacks whose attempt is over

	mu     sync.Mutex    // guards faults
	faults map[int64]int // answers in a row that were 500 without a word, by callback

	flows    map[flow.Key]bool // those with a callback on its way
	busy     map[string]int    // callbacks on their way, by control plane
	seen     map[string]sight  // control planes that there are metrics of
	searched time.Time         // when the outbox was last read beyond the first batch
}

const (
	// batch is how many callbacks are asked for at once.
	batch = 128
	// recheck is the longest time until the outbox is looked at again.
	recheck = time.Minute
	// recheckBusy is that time while overdue callbacks hide when the next one is due.
	recheckBusy = time.Second
)

func (r *run) loop(ctx context.Context) {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for ctx.Err() == nil {
		select {
		case <-ctx.Done():
		case <-r.outbox.Added():
		case c := <-r.finished:
			r.release(c)
			r.releaseMore()
		case <-timer.C:
		}
		timer.Reset(r.pass(ctx))
	}
	for len(r.flows) > 0 {
		r.release(<-r.finished)
	}
}

func (r *run) release(c flow.Callback) {
	delete(r.flows, c.Key)
	if r.busy[c.ControlPlane]--; r.busy[c.ControlPlane] <= 0 {
		delete(r.busy, c.ControlPlane) // control planes come and go
	}
}

// releaseMore saves a look at the outbox for each callback that finished at the same time.
func (r *run) releaseMore() {
	for {
		select {
		case c := <-r.finished:
			r.release(c)
		default:
			return
		}
	}
}

// pass sends what is due and has room, and returns the time until the next look at the outbox.
//
// A callback on its way is still in the outbox, and is known from r.flows, which only changes between passes. So one that was
// delivered while the outbox was read is not sent again.
func (r *run) pass(ctx context.Context) time.Duration {
	if ctx.Err() != nil {
		return recheck
	}
	next, err := r.send(ctx)
	if err != nil && ctx.Err() == nil {
		r.log.ErrorContext(ctx, "the outbox cannot be read", "err", err)
		return recheckBusy
	}
	return next
}

func (r *run) send(ctx context.Context) (time.Duration, error) {
	r.forgetGone()
	for limit := batch; ; limit *= 2 {
		due, err := r.outbox.Due(ctx, r.clock(), limit)
		if err != nil {
			return 0, fmt.Errorf("callbacks that are due: %w", err)
		}
		for _, c := range due {
			r.begin(ctx, c)
		}
		if len(due) < limit || !r.search(limit) {
			return r.untilNext(ctx)
		}
	}
}

// sight is when a callback was last sent to a control plane, and whether that was known then.
type sight struct {
	at    time.Time
	known bool
}

// forgetGone drops the metrics of control planes that have left: there is no end to those that come and go. What cannot be delivered to
// them shows for as long as it is tried.
func (r *run) forgetGone() {
	for id, s := range r.seen {
		if r.busy[id] == 0 && !r.controlPlanes.knows(id) && (s.known || r.clock().Sub(s.at) > 2*maxBackoff) {
			r.metrics.forget(id)
			delete(r.seen, id)
		}
	}
}

// search decides whether to look beyond the callbacks that were read: those of a busy control plane must not hide those of an idle
// one. Since a long outbox takes long to read, it happens once in a while.
func (r *run) search(limit int) bool {
	now := r.clock()
	if !r.room() || limit == batch && now.Sub(r.searched) < recheckBusy {
		return false
	}
	r.searched = now
	return true
}

// room reports whether a control plane takes more callbacks than it is being sent.
func (r *run) room() bool {
	return slices.ContainsFunc(r.controlPlanes.sorted(), func(m *member) bool { return r.busy[m.ID] < m.Parallel })
}

// begin sends a callback, unless its flow or its control plane is busy.
func (r *run) begin(ctx context.Context, c flow.Callback) {
	m, ok := r.controlPlanes.member(c.Key.Context, c.ControlPlane)
	if !ok {
		m = &member{ControlPlane: ControlPlane{}.withDefaults()}
	}
	if r.flows[c.Key] || r.busy[c.ControlPlane] >= m.Parallel {
		return
	}
	r.flows[c.Key] = true
	r.busy[c.ControlPlane]++
	r.seen[c.ControlPlane] = sight{r.clock(), ok}
	go func() {
		r.deliver(ctx, m, c)
		r.finished <- c
	}()
}

func (r *run) untilNext(ctx context.Context) (time.Duration, error) {
	depth, err := r.outbox.Depth(ctx)
	if err != nil {
		return 0, fmt.Errorf("depth: %w", err)
	}
	r.metrics.depth.Set(float64(depth))
	next, ok, err := r.outbox.NextDue(ctx)
	if err != nil {
		return 0, fmt.Errorf("next callback that is due: %w", err)
	}
	switch wait := next.Sub(r.clock()); {
	case !ok:
		return recheck, nil
	case wait <= 0:
		return recheckBusy, nil
	default:
		return min(wait, recheck), nil
	}
}
