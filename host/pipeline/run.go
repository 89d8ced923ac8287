package pipeline

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	"github.com/towpath-dataplane/towpath/sdk"
)

// Job is what Run moves.
type Job struct {
	Flow sdk.FlowContext
	// From and To are the addresses that the source reads and the sink writes to.
	From, To sdk.DataAddress
	// Addresses, if not nil, gives From and To anew for each attempt of a Transfer: tokens in them are renewed while it runs. refused
	// says that the last attempt was Denied; the error then says that there is no better address.
	Addresses func(ctx context.Context, refused bool) (from, to sdk.DataAddress, err error)
	// Place is where to go on from; the zero value is the beginning.
	Place Place
	// Redelivery tells the sink that parts may have reached it in an earlier run that stored nothing of it.
	Redelivery bool
	// Skip names parts that are given up.
	Skip []string
	// ByReference has the sink copy parts inside its store, but for those that ByBytes names. A Transfer sets it, and adds to those.
	ByReference bool
	ByBytes     []string
	// Digests to compute besides CRC-32C.
	Digests []sdk.Algorithm
	// Observe, if not nil, is given at the begin of each attempt what tells where it is. That waits for nothing.
	Observe func(step func() Step)
	// Store makes a place durable. It is called by one goroutine at a time. When it returns nil, the source may forget what lies before.
	Store func(ctx context.Context, p Place, parts []Part) error
	// Since is when the job asked for its place among those that run; the zero value is now. See Transfer.Admit.
	Since time.Time
	// Meter, if not nil, is asked before frames are sent on. A Transfer sets it.
	Meter Meter

	account *account
}

// Meter holds a transfer to its limits.
type Meter interface {
	// Wait returns when so many bytes and records may move next, or with the cause for which ctx ended. One goroutine calls it.
	Wait(ctx context.Context, bytes, records int64) error
	// Close is the end of the transfer.
	Close()
}

// Place is a place in the stream from which a transfer can be taken up again.
type Place struct {
	// Source and Sink are the tokens of both sides for this place, opaque to whoever stores them. Nil for the beginning.
	Source, Sink []byte
	// Totals count what lies before the place, with the bytes of a part that it lies in.
	Totals sdk.Totals
}

// A stored source token begins with the number of bytes that its place lies inside a part.
func sealInside(inside int64, token []byte) []byte {
	return append(binary.AppendUvarint(nil, uint64(inside)), token...)
}

func openInside(stored []byte) (inside int64, token []byte, err error) {
	if len(stored) == 0 {
		return 0, nil, nil
	}
	n, size := binary.Uvarint(stored)
	if size <= 0 {
		return 0, nil, sdk.Errorf(sdk.Invalid, "this is not a place that a transfer has stored")
	}
	return int64(n), stored[size:], nil
}

// Part is a part that the sink has made durable.
type Part struct {
	Index    uint64
	Name     string
	Size     int64
	Records  int64
	Digests  sdk.Digests
	Location string
}

// checkpointInterval is how often a place is stored if Run is given no other interval.
const checkpointInterval = time.Second

// storeGrace bounds storing the last place when a run was cut.
const storeGrace = 5 * time.Second

// Run moves a job from its place to its end, and returns nil when everything is durable and stored. When ctx ends it returns the
// cause of that, when a side fails an *sdk.Error. It has then stored the last place that both sides reached. When Run returns,
// nothing of it runs any more.
func Run(ctx context.Context, source sdk.DataSource, sink sdk.DataSink, job Job, interval time.Duration, m *Metrics) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	if interval <= 0 {
		interval = checkpointInterval
	}
	algorithms := append([]sdk.Algorithm{sdk.CRC32C}, job.Digests...)
	inside, token, err := openInside(job.Place.Source)
	if err != nil {
		return err
	}
	job.account.at(atSource)
	// Nothing here looks at the payload.
	from, err := source.Read(ctx, sdk.ReadOpen{Flow: job.Flow, Address: job.From, ResumeToken: token, Digests: algorithms, Skip: job.Skip,
		ByReference: job.ByReference, ByBytes: job.ByBytes, Unread: true})
	if err != nil {
		return fmt.Errorf("open source: %w", err)
	}
	defer from.Close()
	job.account.at(atSink)
	to, err := sink.Write(ctx, sdk.WriteOpen{Flow: job.Flow, Address: job.To, ResumeToken: job.Place.Sink,
		Redelivery: job.Redelivery, Digests: algorithms})
	if err != nil {
		return fmt.Errorf("open sink: %w", err)
	}
	defer to.Close()

	r := &run{from: from, to: to, store: job.Store, metrics: m, meter: job.Meter, account: job.account, announced: map[uint64]Part{}}
	if token != nil {
		r.reached = job.Place.Totals
		r.reached.Bytes -= inside
	}
	if job.Observe != nil {
		job.Observe(r.step)
	}
	return r.run(ctx, cancel, interval)
}

// run is one attempt. forward takes frames from the source to the sink, receive takes what the sink says, keep stores places.
type run struct {
	from    sdk.ReadStream
	to      sdk.WriteStream
	store   func(context.Context, Place, []Part) error
	metrics *Metrics
	meter   Meter
	account *account

	mu        sync.Mutex   // guards what follows
	reached   sdk.Totals   // totals of the parts that were sent
	open      Part         // the part that is being sent
	inside    int64        // bytes of it that were sent
	records   int64        // of it that were sent
	referred  *referred    // the part, if the sink copies it
	begun     sdk.PartInfo // of the part that is being sent, and what it said of the flow; no name between parts
	announced map[uint64]Part
	marks     []mark
	written   []Part // durable at the sink, not stored
	durable   *mark  // the last place that both sides reached, if it is not stored
	stored    *mark  // the place that was stored last; nil: none was
	dirty     bool   // something was sent since the last checkpoint came
	stopped   bool   // nothing more is to be sent
	leaving   leaving
	moved     bool // something was sent since the last checkpoint was asked for
	asked     bool // a checkpoint was asked for and has not come
}

// mark is a checkpoint on its way.
type mark struct {
	sequence uint64
	place    Place
}

func (r *run) run(ctx context.Context, cancel context.CancelCauseFunc, interval time.Duration) error {
	var wg sync.WaitGroup
	var finished error
	done := make(chan struct{})
	wg.Go(func() {
		if err := r.forward(ctx); err != nil {
			cancel(err)
		}
	})
	wg.Go(func() {
		defer close(done)
		if finished = r.receive(); finished != nil {
			cancel(finished)
		}
	})
	wg.Go(func() {
		if err := r.keep(ctx, cancel, done, interval); err != nil {
			cancel(err)
		}
	})
	wg.Wait()
	if ctx.Err() == nil {
		return r.storeEnd(ctx)
	}
	cause := context.Cause(ctx)
	flushCtx, stop := context.WithTimeout(context.WithoutCancel(ctx), storeGrace)
	defer stop()
	if err := r.flush(flushCtx); err != nil {
		return errors.Join(cause, err)
	}
	return cause
}

// forward sends the source's frames to the sink until the end, or until one of them stops.
func (r *run) forward(ctx context.Context) error {
	for {
		r.account.at(atSource)
		f, err := r.from.Recv()
		if err == io.EOF {
			r.account.at(atSink) // until it is done
			return nil
		}
		if err != nil {
			return fmt.Errorf("source: %w", err)
		}
		r.account.at(atSink)
		err = r.note(f)
		if err == nil {
			err = r.wait(ctx, f)
		}
		if err != nil {
			sdk.Release(f)
			return err
		}
		err = r.to.Send(f)
		switch {
		case err == nil:
			switch f := f.(type) {
			case *sdk.PartEnd:
				if !r.passed(ctx, f) {
					return nil // receive learns why, or the transfer was cut
				}
			case *sdk.Checkpoint:
				if err := r.leaves(ctx, f); err != nil {
					return err
				}
			}
		case err == io.EOF:
			return nil // receive learns why
		case errors.Is(err, sdk.ErrUnread):
			return r.lost(err)
		default:
			return fmt.Errorf("sink: %w", err)
		}
	}
}

// passed moves the place behind a part, when the sink has all of it that it has to say something about.
func (r *run) passed(ctx context.Context, f *sdk.PartEnd) bool {
	if !r.awaitCopied(ctx) {
		return false
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.inside, r.records, r.begun.Name, r.referred = 0, 0, "", nil
	r.reached.Parts++
	r.reached.Bytes += f.Size
	r.reached.Records += f.Records
	return true
}

// lost returns why a payload did not come.
func (r *run) lost(err error) error {
	f, why := r.from.Recv()
	if why == nil || why == io.EOF {
		sdk.Release(f)
		why = err
	}
	return fmt.Errorf("source: %w", why)
}

// wait waits until a frame may be sent on.
func (r *run) wait(ctx context.Context, f sdk.Frame) error {
	if r.meter == nil {
		return nil
	}
	switch f := f.(type) {
	case *sdk.Data:
		return r.meter.Wait(ctx, int64(f.Len()), 0)
	case *sdk.RecordBatch:
		return r.meter.Wait(ctx, int64(f.Size()), int64(f.Len()))
	}
	return nil
}

// note keeps account of a frame before it is sent on.
func (r *run) note(f sdk.Frame) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.stopped {
		return errLeft
	}
	r.moved = true
	switch f := f.(type) {
	case *sdk.End:
		r.dirty = true
	case *sdk.PartBegin:
		if err := sdk.CheckName(f.Name); err != nil {
			return fmt.Errorf("source: %w", err)
		}
		if err := r.refer(f); err != nil {
			return err
		}
		r.open, r.inside, r.records, r.begun = Part{Index: f.Index, Name: f.Name}, f.Offset, 0, f.PartInfo
	case *sdk.Data:
		r.dirty = true
		r.inside += int64(f.Len())
		r.metrics.data(f.Len())
	case *sdk.RecordBatch:
		r.dirty = true
		r.inside += int64(f.Size())
		r.records += int64(f.Len())
		r.metrics.records(f.Len(), f.Size())
	case *sdk.PartEnd:
		r.dirty = true
		if p := r.referred; p != nil && f.Size != p.size {
			return sdk.Errorf(sdk.Internal, "source: part %q ends with %d bytes, %d were announced", r.open.Name, f.Size, p.size)
		}
		r.open.Size, r.open.Records, r.open.Digests = f.Size, f.Records, f.Digests
		r.announced[r.open.Index] = r.open
	case *sdk.Checkpoint:
		r.asked, r.dirty = false, false
		place := Place{Source: sealInside(r.inside, f.Token), Totals: r.reached}
		place.Totals.Bytes += r.inside
		r.marks = append(r.marks, mark{f.Sequence, place})
	}
	return nil
}

// receive takes what the sink says, until it is done.
func (r *run) receive() error {
	done := false
	for {
		up, err := r.to.Recv()
		if err == io.EOF && done {
			return nil
		}
		if err != nil {
			return fmt.Errorf("sink: %w", err)
		}
		r.account.hears(up)
		switch up := up.(type) {
		case *sdk.Copied:
			err = r.copied(up)
		case *sdk.PartWritten:
			err = r.partWritten(up)
		case *sdk.Durable:
			err = r.reachedBySink(up)
		case *sdk.Blocked:
			r.metrics.blocked(up.Blocked)
		case *sdk.Done:
			done, err = true, r.finish(up)
		}
		if err != nil {
			return err
		}
	}
}

// partWritten compares the sink's receipt for a part with what the source announced.
func (r *run) partWritten(w *sdk.PartWritten) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	p, ok := r.announced[w.Index]
	if !ok {
		return sdk.Errorf(sdk.Internal, "the sink acknowledges part %d, which was not sent to it", w.Index)
	}
	delete(r.announced, w.Index)
	if w.Size != p.Size {
		return damaged(p.Name, "the source sent %d bytes, the sink has %d", p.Size, w.Size)
	}
	if err := p.Digests.Compare(w.Digests); err != nil {
		return damaged(p.Name, "%w", err)
	}
	if len(p.Digests) == 0 {
		p.Digests = w.Digests
	}
	p.Location = w.Location
	r.written = append(r.written, p)
	r.metrics.part()
	return nil
}

// damaged is the error for a part that did not arrive as it was sent.
func damaged(part, format string, args ...any) error {
	e := sdk.Errorf(sdk.Corrupt, "part %q: "+format, append([]any{part}, args...)...)
	e.Part = part
	return e
}

// reachedBySink turns a checkpoint that the sink has made durable into a place to be stored.
func (r *run) reachedBySink(d *sdk.Durable) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	for i, m := range r.marks {
		if m.sequence != d.Sequence {
			continue
		}
		m.place.Sink = d.Token
		r.durable = &m
		if r.leaving.stored != nil && r.leaving.at == m.sequence {
			close(r.leaving.stored)
			r.leaving.stored = nil
		}
		r.marks = append(r.marks[:0], r.marks[i:]...) // it may come again, from further inside a part that is copied
		return nil
	}
	return sdk.Errorf(sdk.Internal, "the sink acknowledges checkpoint %d, which was not sent to it", d.Sequence)
}

func (r *run) finish(d *sdk.Done) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if d.Totals != r.reached {
		return sdk.Errorf(sdk.Corrupt, "%d parts, %d bytes and %d records were sent, the sink has %d, %d and %d",
			r.reached.Parts, r.reached.Bytes, r.reached.Records, d.Parts, d.Bytes, d.Records)
	}
	if len(r.announced) > 0 {
		return sdk.Errorf(sdk.Corrupt, "the sink is done and has acknowledged %d parts too few", len(r.announced))
	}
	return nil
}

// keep asks for checkpoints and stores places, until the sink is done or ctx ends. When one of the sides asks to be left it has that done.
func (r *run) keep(ctx context.Context, cancel context.CancelCauseFunc, done <-chan struct{}, interval time.Duration) error {
	tick := time.NewTicker(interval)
	defer tick.Stop()
	source, sink := leaveOf(r.from), leaveOf(r.to)
	for {
		select {
		case <-source:
			source = nil
			r.leave(cancel)
			continue
		case <-sink:
			sink = nil
			r.leave(cancel)
			continue
		case <-done:
			return nil
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		if err := r.flush(ctx); err != nil {
			return err
		}
		if r.wantCheckpoint() {
			// An error means that the stream has ended; forward learns why.
			r.from.RequestCheckpoint()
		}
	}
}

// wantCheckpoint reports whether something moved that no checkpoint covers.
func (r *run) wantCheckpoint() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	want := r.moved && !r.asked
	if want {
		r.moved, r.asked = false, true
	}
	return want
}

// flush stores what is durable, and tells the source.
func (r *run) flush(ctx context.Context) error {
	r.mu.Lock()
	durable, written := r.durable, r.written
	r.durable, r.written = nil, nil
	r.mu.Unlock()
	if durable == nil {
		r.giveBack(nil, written)
		return nil
	}
	start := time.Now()
	r.account.store(true)
	defer r.account.store(false)
	if err := r.store(ctx, durable.place, written); err != nil {
		// A later place may still be stored, and these parts lie before it.
		r.giveBack(durable, written)
		return fmt.Errorf("store the transfer's place: %w", err)
	}
	r.metrics.stored(time.Since(start))
	r.mu.Lock()
	r.stored = durable
	r.mu.Unlock()
	// An error means that the stream has ended.
	r.from.Acknowledge(durable.sequence)
	return nil
}

// storeEnd stores what is left when everything is durable. A source without checkpoints has no place to go on from, but its parts
// count.
func (r *run) storeEnd(ctx context.Context) error {
	r.account.at(atHost)
	if r.durable == nil && len(r.written) > 0 {
		r.durable = &mark{place: Place{Totals: r.reached}}
	}
	return r.flush(ctx)
}

// giveBack keeps what was not stored for the next flush: parts are stored together with a place behind them.
func (r *run) giveBack(durable *mark, parts []Part) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.durable == nil {
		r.durable = durable
	}
	r.written = append(parts, r.written...)
}
