package sdk

import (
	"cmp"
	"context"
	"encoding/json"
	"io"
	"iter"
	"maps"
	"slices"
	"sync"
	"time"
)

// NewDataSink returns a sink of this process as a host sees it.
func NewDataSink(t SinkType) DataSink {
	return &dataSink{SinkType: t, busy: map[partKey]chan struct{}{}, open: map[flowKey]map[*writeStream]bool{}}
}

type dataSink struct {
	SinkType

	mu   sync.Mutex                // guards what follows
	busy map[partKey]chan struct{} // parts that an author's code has in hand; closed when it lets go
	open map[flowKey]map[*writeStream]bool
}

type (
	partKey struct{ context, flow, part string }
	flowKey struct{ context, flow string }
)

// take waits until no one has the part in hand, so that a flow that goes on never meets the rest of its former run.
func (d *dataSink) take(ctx context.Context, key partKey) (free func(), err error) {
	mine := make(chan struct{})
	for {
		d.mu.Lock()
		other, taken := d.busy[key]
		if !taken {
			d.busy[key] = mine
			d.mu.Unlock()
			return func() { d.free(key, mine) }, nil
		}
		d.mu.Unlock()
		select {
		case <-other:
		case <-ctx.Done():
			return nil, ErrInterrupted
		}
	}
}

func (d *dataSink) free(key partKey, mine chan struct{}) {
	d.mu.Lock()
	delete(d.busy, key)
	d.mu.Unlock()
	close(mine)
}

func (d *dataSink) Validate(ctx context.Context, a DataAddress) error {
	return validate(ctx, d.AddressType, d.Sink, a)
}

func (d *dataSink) Store(ctx context.Context, a DataAddress) (string, error) {
	return storeOf(ctx, d.AddressType, d.Sink, a)
}

func (d *dataSink) Provision(ctx context.Context, flow FlowContext, a DataAddress) (DataAddress, error) {
	p, ok := d.Sink.(Provisioner)
	if !ok {
		return DataAddress{}, Errorf(Unsupported, "type %q does not hand out addresses", d.Type)
	}
	return p.Provision(ctx, flow, a)
}

func (d *dataSink) Deprovision(ctx context.Context, flow FlowContext, a DataAddress) error {
	p, ok := d.Sink.(Deprovisioner)
	if !ok {
		return nil
	}
	if err := d.endWrites(ctx, flowKey{flow.ParticipantContext, flow.ID}); err != nil {
		return err
	}
	return p.Deprovision(ctx, flow, a)
}

// endWrites ends what is written for a flow, and waits until its author's code has returned: it could leave more behind after all was
// removed.
func (d *dataSink) endWrites(ctx context.Context, flow flowKey) error {
	d.mu.Lock()
	streams := slices.Collect(maps.Keys(d.open[flow]))
	d.mu.Unlock()
	for _, s := range streams {
		s.cancel()
	}
	for _, s := range streams {
		select {
		case <-s.idle:
		case <-ctx.Done():
			return Retryf(Unavailable, "the flow is still being written: %w", context.Cause(ctx))
		}
	}
	return nil
}

// note keeps the streams that are open for a flow.
func (d *dataSink) note(flow flowKey, s *writeStream, open bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	switch {
	case open && d.open[flow] == nil:
		d.open[flow] = map[*writeStream]bool{s: true}
	case open:
		d.open[flow][s] = true
	default:
		if delete(d.open[flow], s); len(d.open[flow]) == 0 {
			delete(d.open, flow)
		}
	}
}

func (d *dataSink) Write(ctx context.Context, open WriteOpen) (WriteStream, error) {
	if err := d.Validate(ctx, open.Address); err != nil {
		return nil, err
	}
	place, err := parseWriteToken(open.ResumeToken)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(ctx)
	s := &writeStream{ctx: ctx, cancel: cancel, in: make(chan Frame, ahead), ups: make(chan Up, 1), done: make(chan struct{}),
		idle: make(chan struct{})}
	flow := flowKey{open.Flow.ParticipantContext, open.Flow.ID}
	d.note(flow, s, true)
	go func() {
		defer d.note(flow, s, false)
		s.run(d, open, place)
	}()
	return s, nil
}

// writeToken is what a Durable of this SDK carries: everything that Write needs to go on from there.
type writeToken struct {
	Index   uint64      `json:"index"`            // of the part that is begun or comes next
	Offset  int64       `json:"offset,omitempty"` // in that part
	Records int64       `json:"records,omitempty"`
	Token   []byte      `json:"token,omitempty"`  // the author's
	Copied  int64       `json:"copied,omitempty"` // of a part with a Reference: then Offset is 0
	Digest  DigestState `json:"digest"`
	Totals  Totals      `json:"totals"` // of the parts that were finished
}

func parseWriteToken(token []byte) (writeToken, error) {
	var t writeToken
	if len(token) == 0 {
		return t, nil
	}
	if err := json.Unmarshal(token, &t); err != nil || t.Offset < 0 || t.Copied < 0 {
		return t, Errorf(Invalid, "this is not a resume token of this sink")
	}
	return t, nil
}

// writeStream hands frames to the goroutine that runs the author's Write, and takes what comes back.
type writeStream struct {
	ctx     context.Context // ends when the stream is closed
	cancel  context.CancelFunc
	in      chan Frame
	ups     chan Up
	done    chan struct{} // closed when the author's code has returned
	idle    chan struct{} // closed after that, when what it did not take is released
	err     error         // what Recv says at the end; set before ups is closed
	closing sync.Once
}

func (s *writeStream) Send(f Frame) error {
	select {
	case <-s.done:
		Release(f)
		return io.EOF
	default:
	}
	select {
	case s.in <- f:
		return nil
	case <-s.done:
		Release(f)
		return io.EOF
	case <-s.ctx.Done():
		Release(f)
		return context.Cause(s.ctx)
	}
}

func (s *writeStream) Recv() (Up, error) {
	select {
	case up, ok := <-s.ups:
		if ok {
			return up, nil
		}
		return nil, s.err
	case <-s.ctx.Done():
		return nil, context.Cause(s.ctx)
	}
}

func (s *writeStream) Close() error {
	var err error
	s.closing.Do(func() {
		s.cancel()
		err = s.awaitAuthor()
		s.drain()
	})
	return err
}

func (s *writeStream) awaitAuthor() error {
	timer := time.NewTimer(closeWait)
	defer timer.Stop()
	select {
	case <-s.idle:
		return nil
	case <-timer.C:
		return Errorf(Internal, "the sink did not let go of its flow within %s", closeWait)
	}
}

// drain releases the frames that were sent and not taken.
func (s *writeStream) drain() {
	for {
		select {
		case f := <-s.in:
			Release(f)
		default:
			return
		}
	}
}

func (s *writeStream) run(d *dataSink, open WriteOpen, place writeToken) {
	defer close(s.ups)
	defer close(s.idle)
	defer s.drain()
	defer close(s.done)
	algorithms := []Algorithm{CRC32C}
	for _, a := range open.Digests {
		if a != CRC32C {
			algorithms = append(algorithms, a)
		}
	}
	r := &receiver{sink: d, open: open, stream: s, place: place, algorithms: algorithms}
	err := r.run()
	switch {
	case err == nil:
		s.err = io.EOF
	case s.ctx.Err() != nil:
		s.err = context.Cause(s.ctx)
	default:
		s.err = AsError(err)
	}
}

func (s *writeStream) say(up Up) error {
	select {
	case s.ups <- up:
		return nil
	case <-s.ctx.Done():
		return ErrInterrupted
	}
}

// next returns the next frame, or ErrInterrupted when the stream was cut.
func (s *writeStream) next() (Frame, error) {
	// A frame that is there already does not hide that the stream was cut.
	if s.ctx.Err() != nil {
		return nil, ErrInterrupted
	}
	select {
	case f := <-s.in:
		return f, nil
	case <-s.ctx.Done():
		return nil, ErrInterrupted
	}
}

// receiver turns frames into the parts that a Sink ranges over. It runs on the author's goroutine.
type receiver struct {
	sink       *dataSink
	open       WriteOpen
	stream     *writeStream
	algorithms []Algorithm
	place      writeToken
	resumed    bool // the place in the token was taken up, or passed
	ended      bool // End was received
	broken     error
	current    string // name of the part that the author has, "" between parts

	unsettled []*PartWritten // parts the author has not committed
	pending   *Durable       // the answer to the last checkpoint behind such a part
}

func (r *receiver) run() (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = Errorf(Internal, "the sink panicked: %v", p)
		}
	}()
	req := WriteRequest{Flow: r.open.Flow, Address: r.open.Address, Redelivery: r.open.Redelivery}
	if err := cmp.Or(r.sink.Sink.Write(r.stream.ctx, req, r.parts()), r.broken); err != nil {
		if r.current != "" {
			err = aboutPart(r.current, err)
		}
		return err
	}
	if !r.ended {
		return Errorf(Internal, "the sink stopped before the last part")
	}
	return r.settle()
}

// settle says what became durable only with the return of Write.
func (r *receiver) settle() error {
	for _, p := range r.unsettled {
		if err := r.stream.say(p); err != nil {
			return err
		}
	}
	r.unsettled = nil
	if r.pending != nil {
		if err := r.stream.say(r.pending); err != nil {
			return err
		}
	}
	return r.stream.say(&Done{r.place.Totals})
}

func (r *receiver) parts() iter.Seq2[*IncomingPart, error] {
	return func(yield func(*IncomingPart, error) bool) {
		for {
			f, err := r.stream.next()
			if err == nil {
				switch f := f.(type) {
				case *PartBegin:
					var more bool
					if more, err = r.part(f, yield); !more {
						r.broken = err
						return
					}
				case *Checkpoint:
					err = r.checkpoint(f)
				case *End:
					if err = r.end(f); err == nil {
						return
					}
				default:
					Release(f)
					err = Errorf(Internal, "%T where a part was expected", f)
				}
			}
			if err != nil {
				r.broken = err
				yield(nil, err)
				return
			}
		}
	}
}

// checkpoint answers a checkpoint between two parts.
func (r *receiver) checkpoint(c *Checkpoint) error {
	answer, err := r.answer(c)
	if err != nil {
		return err
	}
	if len(r.unsettled) > 0 {
		r.pending = answer
		return nil
	}
	return r.stream.say(answer)
}

// answer says that the place is durable.
func (r *receiver) answer(c *Checkpoint) (*Durable, error) {
	token, err := json.Marshal(r.place)
	return &Durable{Sequence: c.Sequence, Token: token}, err
}

func (r *receiver) end(e *End) error {
	r.ended = true
	if got := r.place.Totals; got != e.Totals {
		return Errorf(Corrupt, "%d parts, %d bytes and %d records came, %d, %d and %d were announced",
			got.Parts, got.Bytes, got.Records, e.Parts, e.Bytes, e.Records)
	}
	return nil
}

// part gives one part to the author, and takes over when they ask for the next. more is false if the author has stopped asking.
func (r *receiver) part(begin *PartBegin, yield func(*IncomingPart, error) bool) (more bool, err error) {
	p, err := r.incoming(begin)
	if err != nil {
		return true, err
	}
	free, err := r.sink.take(r.stream.ctx, partKey{r.open.Flow.ParticipantContext, r.open.Flow.ID, p.Name})
	if err != nil {
		return true, err
	}
	defer free()
	r.current = p.Name
	if p.Reference != nil {
		return r.copy(p, yield)
	}
	more = yield(p, nil)
	defer p.body.release()
	if p.body.err == nil && !more {
		return false, nil
	}
	if p.body.err == nil {
		if p.committed {
			return more, Errorf(Internal, "the sink committed part %q before it had all of it", p.Name)
		}
		// The author does not want the rest of this part. It still has to be whole.
		if _, err := p.WriteTo(io.Discard); err != nil {
			return more, err
		}
	}
	if p.body.err != io.EOF {
		return more, p.body.err
	}
	if more || p.committed { // otherwise the author has failed with it
		r.current = ""
	}
	return more, r.finish(p)
}

func (r *receiver) incoming(begin *PartBegin) (*IncomingPart, error) {
	if err := CheckName(begin.Name); err != nil {
		return nil, err
	}
	p := &IncomingPart{PartInfo: begin.PartInfo, Offset: begin.Offset}
	p.body = &incomingBody{receiver: r, part: p, digest: NewDigester(r.algorithms...)}
	if begin.Reference != nil {
		return p, r.incomingReference(p)
	}
	goesOn := !r.resumed && (r.place.Offset > 0 || r.place.Records > 0) && begin.Index == r.place.Index && begin.Offset == r.place.Offset
	r.resumed = true
	switch {
	case goesOn:
		digest, err := r.place.Digest.Digester()
		if err != nil {
			return nil, Errorf(Invalid, "resume token: %w", err)
		}
		p.Token, p.body.digest, p.body.records = r.place.Token, digest, r.place.Records
	case begin.Offset != 0:
		return nil, Errorf(Corrupt, "part %q goes on at %d, which this sink does not have", begin.Name, begin.Offset)
	}
	return p, nil
}

func (r *receiver) finish(p *IncomingPart) error {
	return r.receipt(p, p.body.digest.Size(), p.body.digest.Sum())
}

// receipt moves the place behind a part, and says that it is written, or will when that is known.
func (r *receiver) receipt(p *IncomingPart, size int64, digests Digests) error {
	r.place.Index = p.Index + 1
	r.place.Offset, r.place.Copied, r.place.Records, r.place.Token, r.place.Digest = 0, 0, 0, nil, DigestState{}
	r.place.Totals.Parts++
	r.place.Totals.Bytes += size
	r.place.Totals.Records += p.body.records
	receipt := &PartWritten{Index: p.Index, Size: size, Digests: digests, Location: p.location}
	if !p.committed || len(r.unsettled) > 0 {
		r.unsettled = append(r.unsettled, receipt)
		return nil
	}
	return r.stream.say(receipt)
}
