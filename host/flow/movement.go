package flow

import (
	"log/slog"
	"maps"
	"math"
	"slices"
	"sync"
	"time"

	"github.com/towpath-dataplane/towpath/sdk"
)

// Movement is how a flow's data moves in this process, and what it waits for. It is for operators, and in memory only.
type Movement struct {
	// Step is where the transfer is; zero for a flow that has none.
	Step Step
	// Requests are those of counterparties and local applications that are inside the flow now.
	Requests int
	// Rate and RecordRate are what moved a second of late.
	Rate, RecordRate float64
	// Last is when something moved last; zero if nothing has.
	Last time.Time
	Waits
}

// Waits is what a flow's transfer and requests wait for. The zero value is that of a flow of which nothing is known.
type Waits struct {
	// Condition is what the watchdog says of the flow's transfer: moving, blocked, idle or stalled; "" if it has none.
	Condition string
	// Text says why the transfer does not move, "" if it does or if it knows better itself.
	Text string
	// For is what is waited for at this moment: source, host, sink, limit, queue or retry; "" if nothing runs. Limit is the scope whose
	// rate that is.
	For, Limit string
	// Waited is for how long, by what was waited for.
	Waited map[string]time.Duration
	// Served counts the bytes that requests have moved since the process began, Copied those that a store has copied inside itself.
	Served, Copied int64
}

// Step is where a transfer is.
type Step struct {
	// Totals count what was sent to the sink since the beginning of the flow, durable or not.
	Totals sdk.Totals
	// Part is the name of the part that is being sent, "" between parts. PartBytes of its PartSize were sent.
	Part      string
	PartBytes int64
	PartSize  int64 // or sdk.SizeUnknown
	// TotalParts and TotalBytes are those of the whole flow, 0 if not known.
	TotalParts int64
	TotalBytes int64
}

// End estimates when a transfer has sent everything, from what moved of late. It is zero if that cannot be told: the size is not known,
// or nothing moves.
func (m Movement) End(now time.Time) time.Time {
	left := m.Step.TotalBytes - m.Step.Totals.Bytes
	if m.Step.TotalBytes == 0 || left < 0 || m.Rate < 1 {
		return time.Time{}
	}
	seconds := float64(left) / m.Rate
	if seconds > maxForecast.Seconds() {
		return time.Time{}
	}
	return now.Add(time.Duration(seconds * float64(time.Second)))
}

// maxForecast is how far ahead an end is estimated.
const maxForecast = 365 * 24 * time.Hour

// paceWindow is the time over which a rate is smoothed.
const paceWindow = 5 * time.Second

// pace smooths how much moves a second. The zero value is ready for use.
type pace struct {
	rate  float64 // a second, at last
	began time.Time
	last  time.Time
}

// add counts what moved since the last time.
func (p *pace) add(n int64, now time.Time) {
	if p.began.IsZero() {
		p.began, p.last = now, now
	}
	p.rate = p.decayed(now) + float64(n)*weight(now.Sub(p.last))
	p.last = now
}

// weight is what each unit adds to the rate if it moved at some time in a while.
func weight(while time.Duration) float64 {
	if while <= 0 {
		return 1 / paceWindow.Seconds()
	}
	return -math.Expm1(-while.Seconds()/paceWindow.Seconds()) / while.Seconds()
}

func (p *pace) decayed(now time.Time) float64 {
	return p.rate * math.Exp(-now.Sub(p.last).Seconds()/paceWindow.Seconds())
}

// at returns the rate at a time. What has moved for less than the window is measured by the time it had.
func (p *pace) at(now time.Time) float64 {
	if p.began.IsZero() {
		return 0
	}
	had := -math.Expm1(-max(time.Second, now.Sub(p.began)).Seconds() / paceWindow.Seconds())
	return p.decayed(now) / had
}

// tracker follows how one flow's data moves. Its methods may be called concurrently.
type tracker struct {
	mu      sync.Mutex // guards what follows
	mover   Progress   // of the transfer that runs
	step    func() Step
	counted sdk.Totals // of the step that was looked at last
	bytes   pace
	records pace
	last    time.Time
}

// observe sets what tells where a transfer is. An attempt begins where it begins, and what an earlier one had sent beyond that does not
// count twice.
func (t *tracker) observe(p Progress, step func() Step) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.mover, t.step, t.counted = p, step, step().Totals
}

// forget ends an observation, unless another transfer runs by now.
func (t *tracker) forget(p Progress) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.mover == p {
		t.mover, t.step = nil, nil
	}
}

// look counts what a transfer has moved since the last look.
func (t *tracker) look(now time.Time) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.lookLocked(now)
}

func (t *tracker) lookLocked(now time.Time) (s Step) {
	if t.step == nil {
		return s
	}
	s = t.step()
	moved, records := s.Totals.Bytes-t.counted.Bytes, s.Totals.Records-t.counted.Records
	if moved > 0 || records > 0 || s.Totals.Parts > t.counted.Parts {
		t.last = now
	}
	t.bytes.add(max(0, moved), now)
	t.records.add(max(0, records), now)
	t.counted = s.Totals
	return s
}

// moved counts what a request has moved.
func (t *tracker) moved(n int, now time.Time) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.bytes.add(int64(n), now)
	t.last = now
}

func (t *tracker) movement(now time.Time) Movement {
	t.mu.Lock()
	defer t.mu.Unlock()
	step := t.lookLocked(now)
	return Movement{Step: step, Last: t.last, Rate: t.bytes.at(now), RecordRate: t.records.at(now)}
}

const (
	lookInterval   = time.Second
	reportInterval = time.Minute
)

// follow looks at a transfer until it ends, and reports to the log how far it is when it takes long.
func (e *Engine) follow(key Key, t *tracker, done <-chan struct{}) {
	look, report := time.NewTicker(lookInterval), time.NewTicker(reportInterval)
	defer look.Stop()
	defer report.Stop()
	reported := time.Time{}
	for {
		select {
		case <-done:
			return
		case <-look.C:
			t.look(e.Clock())
		case <-report.C:
			m := t.movement(e.Clock())
			if m.Last.Equal(reported) {
				continue // nothing moved; why is said elsewhere
			}
			reported = m.Last
			m.Waits = e.Options.Waits(key)
			e.Logger.Info("flow moves", m.attributes(key, e.Clock())...)
		}
	}
}

// attributes are what the log says of a movement.
func (m Movement) attributes(key Key, now time.Time) []any {
	all := []any{"flow", key.String(), "parts", m.Step.Totals.Parts, "bytes", m.Step.Totals.Bytes, "bytes_per_second", int64(m.Rate)}
	if m.Step.Totals.Records > 0 {
		all = append(all, "records", m.Step.Totals.Records, "records_per_second", int64(m.RecordRate))
	}
	if m.Step.TotalParts > 0 {
		all = append(all, "of_parts", m.Step.TotalParts)
	}
	if m.Step.TotalBytes > 0 {
		all = append(all, "of_bytes", m.Step.TotalBytes)
	}
	if end := m.End(now); !end.IsZero() {
		all = append(all, "end", end.UTC().Truncate(time.Second))
	}
	var blocked []any
	for _, hop := range slices.Sorted(maps.Keys(m.Waited)) {
		blocked = append(blocked, slog.Float64(hop, m.Waited[hop].Round(time.Millisecond).Seconds()))
	}
	if blocked != nil {
		all = append(all, slog.Group("blocked_seconds", blocked...))
	}
	return all
}

// Movement returns how a flow's data moves in this process, and false if nothing is known of that.
func (e *Engine) Movement(key Key) (Movement, bool) { return e.movement(key, key, false) }

// movement returns how a flow's data moves, or what comes on its response channel. account is what that is called in Waits.
func (e *Engine) movement(key, account Key, response bool) (Movement, bool) {
	e.mu.Lock()
	l := e.live[key]
	requests := 0
	var t *tracker
	if l != nil {
		if t = &l.tracker; response {
			t = &l.responses
		}
		for s := range l.stays {
			if s.response == response {
				requests++
			}
		}
	}
	e.mu.Unlock()
	var m Movement
	known := requests > 0
	if t != nil {
		m = t.movement(e.Clock())
		known = known || t.observed()
	}
	m.Requests, m.Waits = requests, e.Options.Waits(account)
	return m, known || m.Condition != "" || len(m.Waited) > 0
}

func (t *tracker) observed() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.step != nil
}
