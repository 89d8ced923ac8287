package pluginhost

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/towpath-dataplane/towpath/sdk"
)

// tenant is on whose behalf a call is made: a flow, or nobody's but about an address. The zero value: neither.
type tenant struct{ context, flow, address string }

func tenantOf(f sdk.FlowContext) tenant {
	if f.ID == "" {
		return tenant{}
	}
	return tenant{context: f.ParticipantContext, flow: f.ID}
}

// about is the tenant of a call that only an address is known of.
func about(a sdk.DataAddress) tenant {
	h := sha256.New()
	fmt.Fprintf(h, "%q %q", a.Type, a.Endpoint)
	for _, name := range slices.Sorted(maps.Keys(a.Properties)) {
		fmt.Fprintf(h, " %q=%q", name, a.Properties[name])
	}
	return tenant{address: hex.EncodeToString(h.Sum(nil)[:8])}
}

func (t tenant) String() string {
	switch {
	case t.flow != "":
		return fmt.Sprintf("flow %s/%s", t.context, t.flow)
	case t.address != "":
		return "an address"
	}
	return "no flow"
}

// position is a place in a stream: in front of part, or inside of it.
type position struct {
	part   uint64 // index
	inside int64  // bytes
	name   string // of the part; "" between two
	sure   bool   // that part is what kills a process, if one is
}

func (p position) compare(q position) int {
	return cmp.Or(cmp.Compare(p.part, q.part), cmp.Compare(p.inside, q.inside))
}

// String says where it is, for people; "" at the very beginning.
func (p position) String() string {
	switch {
	case p.name != "":
		return fmt.Sprintf(" at part %q, byte %d", p.name, p.inside)
	case p.part > 0:
		return fmt.Sprintf(" after %d parts", p.part)
	}
	return ""
}

// role is the end of a flow that a visit is for.
type role int

const (
	reads role = iota
	writes
	roles
)

// visit is one call, or stream, on a process.
type visit struct {
	ctx   context.Context
	in    *instance
	who   tenant
	asks  question // of a build that may be on trial
	ward  *ward
	leave func() // the process is not needed any more
	once  sync.Once

	role    role
	streams bool
	single  bool // nobody goes on from a place in its middle
	careful bool // its flow is suspect: parts are sent one by one, as far as the suspicion goes

	mu      sync.Mutex // guards the rest
	began   bool
	from    position // where its first part began
	at      position
	marks   []checkpoint
	pending []sdk.PartInfo // parts that were sent, and whose receipt has not come; kept if careful
	news    chan struct{}  // has a value when pending got shorter
}

// checkpoint is a place that somebody may say is durable.
type checkpoint struct {
	sequence uint64
	place    position
}

// visits are those that a process has, with those that it had when it ended.
type visits struct {
	mu  sync.Mutex // guards the rest
	all map[*visit]struct{}
}

func (vs *visits) list() []*visit {
	vs.mu.Lock()
	defer vs.mu.Unlock()
	return slices.Collect(maps.Keys(vs.all))
}

// visit begins one. It has to be ended.
func (in *instance) visit(ctx context.Context, to offering, who tenant, w *ward, leave func()) *visit {
	v := &visit{ctx: ctx, in: in, who: who, asks: question{to: to}, ward: w, leave: leave}
	in.visits.mu.Lock()
	defer in.visits.mu.Unlock()
	if in.visits.all == nil {
		in.visits.all = map[*visit]struct{}{}
	}
	in.visits.all[v] = struct{}{}
	return v
}

// stream says that the visit goes on when the call that began it has returned, for resumed and refuses see question.
func (v *visit) stream(r role, once, resumed bool, refuses func() bool) {
	v.role, v.streams, v.single = r, true, once
	v.asks.stream, v.asks.resumed, v.asks.refuses = true, resumed, refuses
	v.careful = r == writes && v.ward.suspected(v.who)
	if v.careful {
		v.news = make(chan struct{}, 1)
	}
	v.in.flows.begin(v.asks.to)
	v.in.trial.opens(v.asks.to)
}

// end ends the visit, but for the record of one that the end of its process has cut.
func (v *visit) end() {
	v.once.Do(func() {
		if !v.in.process.hasEnded() {
			v.in.visits.mu.Lock()
			delete(v.in.visits.all, v)
			v.in.visits.mu.Unlock()
			v.ward.left(v)
		}
		if v.streams {
			v.in.flows.end(v.asks.to)
			v.in.trial.closes(v.asks.to)
		}
		v.leave()
	})
}

// explain replaces an error that the end of the process is the cause of by one that says how it ended, and those of a build that was given
// up by one that says that.
func (v *visit) explain(err error) error { return v.in.trial.replaced(v.explainEnd(err)) }

// judged is explain for a stream of a build that may be on trial.
func (v *visit) judged(err error) error { return v.in.trial.judge(v.ctx, v.asks, v.explain(err)) }

// Leave is closed when the flow is to go on elsewhere, at its next checkpoint.
func (v *visit) Leave() <-chan struct{} { return v.in.leaving }

func (v *visit) explainEnd(err error) error {
	if !v.in.cut(v.ctx, err) {
		return err
	}
	if v.in.crashed(); v.in.verdict != nil && v.who == v.in.culprit {
		return v.in.verdict
	}
	return v.in.lost()
}

// passes takes note of a frame.
func (v *visit) passes(f sdk.Frame) {
	v.mu.Lock()
	defer v.mu.Unlock()
	switch f := f.(type) {
	case *sdk.PartBegin:
		v.at = position{part: f.Index, inside: f.Offset, name: f.Name}
		if !v.began {
			v.began, v.from = true, v.at
		}
		if v.careful {
			v.pending = append(v.pending, f.PartInfo)
		}
	case *sdk.Data:
		v.at.inside += int64(f.Len())
	case *sdk.RecordBatch:
		v.at.inside += int64(f.Size())
	case *sdk.PartEnd:
		v.at = position{part: v.at.part + 1}
	case *sdk.Checkpoint:
		v.marks = append(v.marks, checkpoint{f.Sequence, v.at})
	}
}

// reached takes note that a checkpoint is durable.
func (v *visit) reached(sequence uint64) {
	v.mu.Lock()
	var at position
	found := slices.IndexFunc(v.marks, func(c checkpoint) bool { return c.sequence == sequence })
	if found >= 0 {
		at = v.marks[found].place
		v.marks = slices.Delete(v.marks, 0, found) // it can be said again
	}
	v.mu.Unlock()
	if found >= 0 {
		v.ward.further(v, at)
	}
}

// finished takes note that all of the stream has passed.
func (v *visit) finished() {
	v.mu.Lock()
	at := v.at
	at.inside++
	v.mu.Unlock()
	v.ward.further(v, at)
}

// hears takes note of what a sink says.
func (v *visit) hears(up sdk.Up) {
	switch up := up.(type) {
	case *sdk.Durable:
		v.reached(up.Sequence)
	case *sdk.Done:
		v.finished()
	case *sdk.PartWritten:
		v.written(up.Index)
	}
}

func (v *visit) written(part uint64) {
	if !v.careful {
		return
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	v.pending = slices.DeleteFunc(v.pending, func(p sdk.PartInfo) bool { return p.Index == part })
	select {
	case v.news <- struct{}{}:
	default:
	}
}

// await holds up the next part of a suspect until the sink has said what became of those before, or long enough: what kills the sink can
// then be told from what follows.
func (v *visit) await(next uint64) {
	if !v.careful || !v.ward.suspectedAt(v, next) {
		return
	}
	timer := time.NewTimer(v.ward.pace.caution)
	defer timer.Stop()
	for {
		v.mu.Lock()
		waits := len(v.pending) > 0
		v.mu.Unlock()
		if !waits {
			return
		}
		select {
		case <-v.news:
		case <-timer.C:
			v.mu.Lock()
			v.pending = nil // they have not killed it
			v.mu.Unlock()
			return
		case <-v.in.process.exited:
			return
		case <-v.ctx.Done():
			return
		}
	}
}

// put says where the visit is.
func (v *visit) put(at position, sure bool) {
	v.mu.Lock()
	defer v.mu.Unlock()
	at.sure = sure
	v.at, v.began = at, false
}

// where is the place that the visit has come to.
func (v *visit) where() position {
	v.mu.Lock()
	defer v.mu.Unlock()
	at := v.at
	if v.role == writes && v.careful && len(v.pending) == 1 {
		at.name, at.sure = v.pending[0].Name, true
	}
	return at
}
