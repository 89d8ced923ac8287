package verify

import (
	"bytes"
	"cmp"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"sync"

	"google.golang.org/grpc"

	pluginv1 "github.com/towpath-dataplane/towpath/proto/towpath/plugin/v1"
	"github.com/towpath-dataplane/towpath/sdk"
)

// content is a part that the suite makes up: the byte at each place follows from the seed.
type content struct {
	name    string
	size    int64
	seed    uint64
	records int // if not 0, there are so many, and size is what they add up to
}

// fill writes the bytes from an offset on.
func (c content) fill(b []byte, offset int64) {
	var word [8]byte
	for i := 0; i < len(b); {
		at := offset + int64(i)
		x := (uint64(at/8) + c.seed*0x9e3779b97f4a7c15 + 1) * 0xbf58476d1ce4e5b9
		x ^= x >> 29
		x *= 0x94d049bb133111eb
		x ^= x >> 32
		binary.LittleEndian.PutUint64(word[:], x)
		i += copy(b[i:], word[at%8:])
	}
}

// record returns the record with a number. All differ, and every field is in use.
func (c content) record(i int) *pluginv1.Record {
	value := make([]byte, 100+i%50)
	c.fill(value, int64(i)*200)
	return &pluginv1.Record{Key: fmt.Appendf(nil, "key-%d", i), Value: value, TimeMicros: 1_700_000_000_000_000 + int64(i)*1000,
		Headers: map[string][]byte{"n": {byte(i), 1}}}
}

func bytesOf(name string, size int64) content {
	return content{name: name, size: size, seed: uint64(size) + uint64(len(name))*7919}
}

func recordsOf(name string, n int) content {
	c := content{name: name, seed: uint64(n), records: n}
	for i := range n {
		r := c.record(i)
		c.size += int64(len(r.Key) + len(r.Value))
	}
	return c
}

// sum returns the digests of the whole part.
func (c content) sum() sums {
	s := newSums()
	if c.records > 0 {
		for i := range c.records {
			s.record(c.record(i))
		}
		return s
	}
	buffer := make([]byte, 256<<10)
	for offset := int64(0); offset < c.size; {
		n := min(int64(len(buffer)), c.size-offset)
		c.fill(buffer[:n], offset)
		s.Write(buffer[:n])
		offset += n
	}
	return s
}

// place is where in the contents a checkpoint was.
type place struct {
	part     int   // being sent, or the next
	offset   int64 // in it, in bytes or records; 0: before it
	sequence uint64
	token    []byte // the sink's, once it has answered
}

// writer writes one flow.
type writer struct {
	process *process
	address sdk.DataAddress
	flow    *pluginv1.FlowContext

	stream grpc.BidiStreamingClient[pluginv1.Frame, pluginv1.WriteUp]
	cancel context.CancelFunc
	trial  *trial
	parts  []content
	ups    chan struct{} // closed when nothing more comes

	mu       sync.Mutex // guards what follows
	sent     []place    // checkpoints, in order
	durable  []place    // those answered
	written  []*pluginv1.PartWritten
	done     *pluginv1.WriteDone
	err      error         // why the sink has ended the stream
	progress chan struct{} // has a value when something was said
}

// write begins to write to an address.
func (t *trial) write(p *process, a sdk.DataAddress, flow *pluginv1.FlowContext, parts []content, change func(*pluginv1.WriteOpen)) (*writer, error) {
	open := &pluginv1.WriteOpen{Flow: flow, Address: addressToProto(a), Digests: t.description.GetCapabilities().GetDigests()}
	if change != nil {
		change(open)
	}
	ctx, cancel := context.WithCancel(t.ctx)
	stream, err := p.sink.Write(ctx)
	if err != nil {
		cancel()
		return nil, problemOf(err)
	}
	w := &writer{process: p, address: a, flow: flow, stream: stream, cancel: cancel, trial: t, parts: parts, ups: make(chan struct{}),
		progress: make(chan struct{}, 1)}
	go w.listen()
	if err := w.send(&pluginv1.Frame{Kind: &pluginv1.Frame_Open{Open: open}}); err != nil {
		w.close()
		return nil, err
	}
	return w, nil
}

// begin begins to write to an address that nobody has written to, in the process that launch gives.
func (t *trial) begin(launch func() (*process, error), parts []content) (*writer, error) {
	a, flow, err := t.to()
	if err != nil {
		return nil, err
	}
	p, err := launch()
	if err != nil {
		return nil, err
	}
	w, err := t.write(p, a, flow, parts, nil)
	return w, p.explain(err)
}

// close cuts the flow, and waits until nothing more comes.
func (w *writer) close() {
	w.cancel()
	<-w.ups
}

// send sends a frame. If the sink has ended the stream, the error says why.
func (w *writer) send(f *pluginv1.Frame) error {
	err := w.stream.Send(f)
	if err == io.EOF {
		return w.await()
	}
	return problemOf(err)
}

// await waits for the end of the stream, and returns why it ended: nil after WriteDone.
func (w *writer) await() error {
	select {
	case <-w.ups:
	case <-w.trial.ctx.Done():
		w.cancel()
		<-w.ups
		return context.Cause(w.trial.ctx)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.err
}

// listen takes what the sink says.
func (w *writer) listen() {
	defer close(w.ups)
	for {
		up, err := w.stream.Recv()
		w.mu.Lock()
		stop := w.take(up, err)
		w.mu.Unlock()
		select {
		case w.progress <- struct{}{}:
		default:
		}
		if stop {
			return
		}
	}
}

// take notes what the sink has said, and reports whether that was the last. The caller holds mu.
func (w *writer) take(up *pluginv1.WriteUp, err error) (last bool) {
	fail := func(format string, args ...any) bool {
		w.err = fmt.Errorf(format, args...)
		w.cancel()
		return true
	}
	switch {
	case err == io.EOF && w.done != nil:
		return true
	case err == io.EOF:
		return fail("the sink closed the stream without WriteDone or Error")
	case err != nil:
		w.err = problemOf(err)
		return true
	case w.done != nil:
		return fail("the sink said %T after WriteDone", up.Kind)
	}
	switch k := up.Kind.(type) {
	case *pluginv1.WriteUp_Error:
		w.err = &problem{said: k.Error}
		return true
	case *pluginv1.WriteUp_Durable:
		for _, p := range w.sent {
			if p.sequence == k.Durable.Sequence && (len(w.durable) == 0 || w.durable[len(w.durable)-1].sequence < p.sequence) {
				p.token = k.Durable.SinkToken
				w.durable = append(w.durable, p)
				return false
			}
		}
		return fail("the sink said Durable with sequence %d, which is not that of a checkpoint that waits for it", k.Durable.Sequence)
	case *pluginv1.WriteUp_PartWritten:
		w.written = append(w.written, k.PartWritten)
	case *pluginv1.WriteUp_Done:
		w.done = k.Done
	case *pluginv1.WriteUp_Blocked:
	default:
		return fail("the sink must not say %T", up.Kind)
	}
	return false
}

// sendOptions say how parts are sent.
type sendOptions struct {
	from  place // where to begin
	every int64 // bytes or records between checkpoints inside a part; 0: none
	frame int64 // bytes or records in a frame; 0: some
	// stop, if not nil, is asked after each frame of payload; true ends the sending there.
	stop func(part int, offset int64) bool
	// edit, if not nil, changes frames before they are sent.
	edit func(*pluginv1.Frame)
}

var errStopped = errors.New("stopped as it was asked to")

// sendAll sends the parts and End. It returns errStopped if it was asked to stop.
func (w *writer) sendAll(o sendOptions) error {
	send := func(f *pluginv1.Frame) error {
		if o.edit != nil {
			o.edit(f)
		}
		return w.send(f)
	}
	sequence := o.from.sequence
	checkpoint := func(at place) error {
		sequence++
		at.sequence = sequence
		w.mu.Lock()
		w.sent = append(w.sent, at)
		w.mu.Unlock()
		return send(&pluginv1.Frame{Kind: &pluginv1.Frame_Checkpoint{Checkpoint: &pluginv1.Checkpoint{Sequence: sequence,
			SourceToken: fmt.Appendf(nil, "place %d %d", at.part, at.offset)}}})
	}
	for i := o.from.part; i < len(w.parts); i++ {
		offset := int64(0)
		if i == o.from.part {
			offset = o.from.offset
		}
		if err := w.part(i, offset, o, send, checkpoint); err != nil {
			return err
		}
		if err := checkpoint(place{part: i + 1}); err != nil {
			return err
		}
	}
	end := &pluginv1.End{Parts: uint64(len(w.parts))}
	for _, c := range w.parts {
		end.Bytes += uint64(c.size)
		end.Records += uint64(c.records)
	}
	return send(&pluginv1.Frame{Kind: &pluginv1.Frame_End{End: end}})
}

func (w *writer) part(i int, offset int64, o sendOptions, send func(*pluginv1.Frame) error, checkpoint func(place) error) error {
	c, size := w.parts[i], uint64(w.parts[i].size)
	begin := &pluginv1.PartBegin{Index: uint64(i), Name: c.name, MediaType: "application/octet-stream", Records: c.records > 0}
	if c.records == 0 {
		begin.Size, begin.Offset = &size, uint64(offset)
	}
	for i := range min(offset, int64(c.records)) { // an offset counts bytes in any case
		r := c.record(int(i))
		begin.Offset += uint64(len(r.Key) + len(r.Value))
	}
	if err := send(&pluginv1.Frame{Kind: &pluginv1.Frame_PartBegin{PartBegin: begin}}); err != nil {
		return err
	}
	length, step := c.size, int64(256<<10)
	if c.records > 0 {
		length, step = int64(c.records), 64
	}
	step = cmp.Or(o.frame, step)
	last := offset
	for offset < length {
		n := min(step, length-offset)
		if err := send(c.frame(offset, n)); err != nil {
			return err
		}
		offset += n
		if o.stop != nil && o.stop(i, offset) {
			return errStopped
		}
		if o.every > 0 && offset-last >= o.every && offset < length {
			last = offset
			if err := checkpoint(place{part: i, offset: offset}); err != nil {
				return err
			}
		}
	}
	s := c.sum()
	end := &pluginv1.PartEnd{Size: size, Records: uint64(c.records)}
	for _, a := range w.trial.description.GetCapabilities().GetDigests() {
		if v := s.of(a); v != nil {
			end.Digests = append(end.Digests, &pluginv1.Digest{Algorithm: a, Value: v})
		}
	}
	return send(&pluginv1.Frame{Kind: &pluginv1.Frame_PartEnd{PartEnd: end}})
}

// frame returns n bytes or records from a place on.
func (c content) frame(offset, n int64) *pluginv1.Frame {
	if c.records == 0 {
		b := make([]byte, n)
		c.fill(b, offset)
		return &pluginv1.Frame{Kind: &pluginv1.Frame_Data{Data: b}}
	}
	batch := &pluginv1.Records{Count: uint32(n)}
	for i := offset; i < offset+n; i++ {
		batch.Records = append(batch.Records, c.record(int(i)))
	}
	return &pluginv1.Frame{Kind: &pluginv1.Frame_Records{Records: batch}}
}

// toEnd sends all there is to send, and checks the receipts.
func (w *writer) toEnd(o sendOptions) error {
	if err := w.sendAll(o); err != nil {
		return err
	}
	return w.finish(o.from)
}

// finish waits for the receipts, and checks them. from is where the flow went on.
func (w *writer) finish(from place) error {
	if err := w.await(); err != nil {
		return err
	}
	var bytesSent, records uint64
	for _, c := range w.parts {
		bytesSent += uint64(c.size)
		records += uint64(c.records)
	}
	if w.done.Parts != uint64(len(w.parts)) || w.done.Bytes != bytesSent || w.done.Records != records {
		return fmt.Errorf("its WriteDone counts %d parts, %d bytes and %d records of the whole flow, and %d, %d and %d were sent",
			w.done.Parts, w.done.Bytes, w.done.Records, len(w.parts), bytesSent, records)
	}
	return w.receipts(from)
}

// receipts checks that each part has one PartWritten.
func (w *writer) receipts(from place) error {
	for i := from.part; i < len(w.parts); i++ {
		if n := i - from.part; n >= len(w.written) {
			return fmt.Errorf("there is no PartWritten for part %d, %q", i, w.parts[i].name)
		}
		receipt, c := w.written[i-from.part], w.parts[i]
		if receipt.Index != uint64(i) || receipt.Size != uint64(c.size) {
			return fmt.Errorf("its PartWritten of part %d with %d bytes says %d and %d", i, c.size, receipt.Index, receipt.Size)
		}
		s := c.sum()
		for _, d := range receipt.Digests {
			if want := s.of(d.Algorithm); want != nil && !bytes.Equal(want, d.Value) {
				return fmt.Errorf("its PartWritten of part %q has %s %x, and what was sent %x", c.name, digestName(d.Algorithm), d.Value, want)
			}
		}
	}
	if extra := len(w.written) - (len(w.parts) - from.part); extra > 0 {
		return fmt.Errorf("%d PartWritten too many", extra)
	}
	return nil
}

// put writes parts whole.
func (t *trial) put(p *process, a sdk.DataAddress, parts []content, o sendOptions) (*writer, error) {
	w, err := t.write(p, a, t.newFlow(), parts, nil)
	if err != nil {
		return nil, p.explain(err)
	}
	defer w.close()
	return w, p.explain(w.toEnd(o))
}

// awaitDurable waits until the sink has answered a checkpoint inside a part, or, if it never does, until ctx ends.
func (w *writer) awaitDurable(ctx context.Context, want func(place) bool) {
	for {
		w.mu.Lock()
		for _, d := range w.durable {
			if want(d) {
				w.mu.Unlock()
				return
			}
		}
		w.mu.Unlock()
		select {
		case <-w.progress:
		case <-w.ups:
			return
		case <-ctx.Done():
			return
		}
	}
}

// last is the last place that is durable.
func (w *writer) last() place {
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.durable) == 0 {
		return place{}
	}
	return w.durable[len(w.durable)-1]
}
