package verify

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding"
	"encoding/binary"
	"errors"
	"fmt"
	"hash"
	"hash/crc32"
	"io"
	"slices"
	"time"

	pluginv1 "github.com/towpath-dataplane/towpath/proto/towpath/plugin/v1"
	"github.com/towpath-dataplane/towpath/sdk"
)

// maxData is the most bytes of payload in one frame.
const maxData = 1 << 20

// readPart is a part as it was read.
type readPart struct {
	begin   *pluginv1.PartBegin
	end     *pluginv1.PartEnd // nil if it was not whole
	got     uint64            // bytes of the part so far, those before a resume included
	records uint64
	sum     sums
}

// sums are the digests of a part's content.
type sums struct {
	sha256 hash.Hash
	crc32c hash.Hash32
}

func newSums() sums { return sums{sha256.New(), crc32.New(crc32.MakeTable(crc32.Castagnoli))} }

func (s sums) Write(b []byte) {
	s.sha256.Write(b)
	s.crc32c.Write(b)
}

func (s sums) record(r *pluginv1.Record) {
	var n [4]byte
	for _, b := range [][]byte{r.Key, r.Value} {
		binary.BigEndian.PutUint32(n[:], uint32(len(b)))
		s.Write(n[:])
		s.Write(b)
	}
}

func (s sums) of(a pluginv1.DigestAlgorithm) []byte {
	switch a {
	case pluginv1.DigestAlgorithm_DIGEST_ALGORITHM_SHA256:
		return s.sha256.Sum(nil)
	case pluginv1.DigestAlgorithm_DIGEST_ALGORITHM_CRC32C:
		return s.crc32c.Sum(nil)
	}
	return nil
}

// clone copies the state: both are the standard library's, which can.
func (s sums) clone() sums {
	out := newSums()
	for _, pair := range [][2]any{{s.sha256, out.sha256}, {s.crc32c, out.crc32c}} {
		state, err := pair[0].(encoding.BinaryMarshaler).MarshalBinary()
		if err == nil {
			err = pair[1].(encoding.BinaryUnmarshaler).UnmarshalBinary(state)
		}
		if err != nil {
			panic(err)
		}
	}
	return out
}

// mark is a place that a source gave a checkpoint for.
type mark struct {
	token    []byte
	sequence uint64
	finished int       // parts that were whole
	inside   *readPart // a copy as it was; nil between parts
}

// reading is what a source has sent.
type reading struct {
	parts []*readPart
	marks []mark
	end   *pluginv1.End
	bytes uint64 // of payload, in this stream
}

// frames is what a reader needs of a call.
type frames interface {
	Recv() (*pluginv1.Frame, error)
	Send(*pluginv1.ReadUp) error
	CloseSend() error
}

// reader reads one flow, and holds the source to the order of frames.
type reader struct {
	stream frames
	cancel context.CancelFunc
	open   *pluginv1.ReadOpen
	from   *mark // where it goes on
	reading
	current *readPart // nil between parts
	names   map[string]bool
	last    uint64 // sequence
	// every, if not 0, is after how many bytes of payload a checkpoint is asked for.
	every, asked uint64
	unanswered   bool          // a checkpoint was asked for
	pause        time.Duration // before each frame until it comes
}

// read begins to read an address.
func (t *trial) read(p *process, a sdk.DataAddress, change func(*pluginv1.ReadOpen)) (*reader, error) {
	open := &pluginv1.ReadOpen{Flow: t.newFlow(), Address: addressToProto(a), Digests: t.description.GetCapabilities().GetDigests()}
	if change != nil {
		change(open)
	}
	ctx, cancel := context.WithCancel(t.ctx)
	stream, err := p.source.Read(ctx)
	if err == nil {
		if err = stream.Send(&pluginv1.ReadUp{Kind: &pluginv1.ReadUp_Open{Open: open}}); err == io.EOF {
			err = nil // the next reception says why
		}
	}
	if err != nil {
		cancel()
		return nil, problemOf(err)
	}
	return &reader{stream: stream, cancel: cancel, open: open, names: map[string]bool{}}, nil
}

// resume begins to read from a place on.
func (t *trial) resume(p *process, a sdk.DataAddress, m mark) (*reader, error) {
	r, err := t.read(p, a, func(o *pluginv1.ReadOpen) { o.ResumeToken = m.token })
	if err == nil {
		r.from, r.last = &m, m.sequence
	}
	return r, err
}

// whole reads an address from its start to its end.
func (t *trial) whole(p *process, a sdk.DataAddress, change func(*pluginv1.ReadOpen)) (*reading, error) {
	r, err := t.read(p, a, change)
	if err != nil {
		return nil, err
	}
	defer r.cancel()
	return &r.reading, p.explain(r.rest())
}

// reference returns the first whole reading of an address, with which others are compared.
func (t *trial) reference(a sdk.DataAddress) (*reading, error) {
	key := fmt.Sprint(a.Type, a.Endpoint, a.Properties)
	if r, ok := t.readings[key]; ok {
		return r, nil
	}
	p, err := t.plugin()
	if err != nil {
		return nil, err
	}
	r, err := t.whole(p, a, nil)
	if err != nil {
		return nil, err
	}
	t.readings[key] = r
	return r, nil
}

// rest reads to the end.
func (r *reader) rest() error { return r.until(func(*pluginv1.Frame) bool { return false }) }

// until reads until a frame satisfies stop, or to the end.
func (r *reader) until(stop func(*pluginv1.Frame) bool) error {
	for {
		f, err := r.next()
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
		if stop(f) {
			return nil
		}
	}
}

// next returns the next frame, io.EOF when the source has closed the stream behind End, or what went wrong.
func (r *reader) next() (*pluginv1.Frame, error) {
	if r.unanswered {
		time.Sleep(r.pause)
	}
	f, err := r.stream.Recv()
	if err == io.EOF && r.end == nil {
		return nil, errors.New("the source closed the stream without End or Error")
	}
	if err != nil {
		return nil, problemOf(err)
	}
	if r.end != nil {
		return nil, fmt.Errorf("a frame %s after End", frameName(f))
	}
	switch k := f.Kind.(type) {
	case *pluginv1.Frame_PartBegin:
		err = r.begin(k.PartBegin)
	case *pluginv1.Frame_Data:
		err = r.data(k.Data)
	case *pluginv1.Frame_Records:
		err = r.batch(k.Records)
	case *pluginv1.Frame_PartEnd:
		err = r.finish(k.PartEnd)
	case *pluginv1.Frame_Checkpoint:
		err = r.checkpoint(k.Checkpoint)
	case *pluginv1.Frame_End:
		err = r.endOf(k.End)
	case *pluginv1.Frame_Error:
		if _, after := r.stream.Recv(); after != io.EOF {
			return nil, fmt.Errorf("its Error was not the last that the source sent: %v", after)
		}
		return nil, &problem{said: k.Error}
	default:
		err = fmt.Errorf("a source must not send a frame %s", frameName(f))
	}
	if err != nil {
		return nil, err
	}
	return f, r.ask()
}

func frameName(f *pluginv1.Frame) string {
	if f.Kind == nil {
		return "without a kind"
	}
	name := fmt.Sprintf("%T", f.Kind)
	return name[len("*pluginv1.Frame_"):]
}

// ask asks for a checkpoint when enough has come since the last.
func (r *reader) ask() error {
	if r.every == 0 || r.unanswered || r.end != nil || r.bytes < r.asked+r.every {
		return nil
	}
	r.asked, r.unanswered = r.bytes, true
	err := r.stream.Send(&pluginv1.ReadUp{Kind: &pluginv1.ReadUp_Checkpoint{Checkpoint: &pluginv1.CheckpointRequest{}}})
	if err != nil && err != io.EOF {
		return problemOf(err)
	}
	return nil
}

func (r *reader) begin(b *pluginv1.PartBegin) error {
	switch {
	case r.current != nil:
		return fmt.Errorf("part %q began before part %q had ended", b.Name, r.current.begin.Name)
	case len(b.Reference) > 0:
		return fmt.Errorf("part %q has a reference, and nobody asked for one", b.Name)
	case r.names[b.Name]:
		return fmt.Errorf("part %q came twice", b.Name)
	}
	if err := sdk.CheckName(b.Name); err != nil {
		return err
	}
	r.names[b.Name] = true
	if n := len(r.parts); n > 0 && b.Index <= r.parts[n-1].begin.Index {
		return fmt.Errorf("part %q has index %d, which does not follow %d", b.Name, b.Index, r.parts[n-1].begin.Index)
	}
	if r.complete() && b.Index != uint64(len(r.parts)) {
		return fmt.Errorf("part %q has index %d, want %d", b.Name, b.Index, len(r.parts))
	}
	part := &readPart{begin: b, sum: newSums(), got: b.Offset}
	if err := r.placed(part); err != nil {
		return err
	}
	r.parts, r.current = append(r.parts, part), part
	return nil
}

// placed checks where a part begins.
func (r *reader) placed(part *readPart) error {
	b := part.begin
	if r.from != nil && r.from.inside != nil && len(r.parts) == 0 {
		before := r.from.inside
		switch {
		case b.Name != before.begin.Name || b.Index != before.begin.Index:
			return fmt.Errorf("the flow goes on with part %d, %q, and not inside part %d, %q", b.Index, b.Name, before.begin.Index, before.begin.Name)
		case b.Offset != before.got:
			return fmt.Errorf("part %q goes on at %d, and not at %d, where the checkpoint was", b.Name, b.Offset, before.got)
		}
		part.got, part.records, part.sum = before.got, before.records, before.sum.clone()
		return nil
	}
	if r.from != nil && len(r.parts) == 0 && b.Index != uint64(r.from.finished) {
		return fmt.Errorf("the flow goes on with part %d, and not with part %d", b.Index, r.from.finished)
	}
	if b.Offset != 0 && r.open.Select == nil {
		return fmt.Errorf("part %q begins at %d, not at its start", b.Name, b.Offset)
	}
	return nil
}

// complete says whether all parts are to come, from the first one on.
func (r *reader) complete() bool {
	return r.open.Select == nil && len(r.open.Skip) == 0 && len(r.open.ResumeToken) == 0
}

func (r *reader) data(b []byte) error {
	switch {
	case r.current == nil:
		return errors.New("data between parts")
	case r.current.begin.Records:
		return fmt.Errorf("data in part %q, which carries records", r.current.begin.Name)
	case r.open.List:
		return fmt.Errorf("data in part %q, which was only to be listed", r.current.begin.Name)
	case len(b) == 0 || len(b) > maxData:
		return fmt.Errorf("a data frame of %d bytes in part %q: 1 to %d are allowed", len(b), r.current.begin.Name, maxData)
	}
	r.current.sum.Write(b)
	r.current.got += uint64(len(b))
	r.bytes += uint64(len(b))
	return nil
}

func (r *reader) batch(b *pluginv1.Records) error {
	switch {
	case r.current == nil:
		return errors.New("records between parts")
	case !r.current.begin.Records:
		return fmt.Errorf("records in part %q, which carries bytes", r.current.begin.Name)
	case r.open.List:
		return fmt.Errorf("records in part %q, which was only to be listed", r.current.begin.Name)
	case len(b.Records) == 0 || uint32(len(b.Records)) != b.Count:
		return fmt.Errorf("a batch in part %q says %d records and has %d", r.current.begin.Name, b.Count, len(b.Records))
	}
	for _, record := range b.Records {
		r.current.sum.record(record)
		n := uint64(len(record.Key) + len(record.Value))
		r.current.got += n
		r.bytes += n
	}
	r.current.records += uint64(len(b.Records))
	return nil
}

func (r *reader) finish(e *pluginv1.PartEnd) error {
	part := r.current
	if part == nil {
		return errors.New("a part ended that had not begun")
	}
	part.end, r.current = e, nil
	if r.open.List {
		if len(e.Digests) > 0 {
			return fmt.Errorf("part %q was only to be listed, and has digests", part.begin.Name)
		}
		return nil
	}
	if r.open.Select != nil && (r.open.Select.Offset > 0 || r.open.Select.Length != nil) {
		if part.begin.Offset == 0 && part.got == e.Size {
			return nil // it came whole
		}
		if len(e.Digests) > 0 {
			return fmt.Errorf("only a piece of part %q was asked for, and it has digests", part.begin.Name)
		}
		return nil
	}
	switch size := part.begin.Size; {
	case e.Size != part.got || e.Records != part.records:
		return fmt.Errorf("part %q ends with %d bytes and %d records, and %d and %d came", part.begin.Name, e.Size, e.Records, part.got, part.records)
	case size != nil && *size != e.Size:
		return fmt.Errorf("part %q announced %d bytes, and %d came", part.begin.Name, *size, e.Size)
	}
	for _, d := range e.Digests {
		if want := part.sum.of(d.Algorithm); want != nil && !bytes.Equal(want, d.Value) {
			return fmt.Errorf("part %q ends with %s %x, and what came has %x", part.begin.Name, digestName(d.Algorithm), d.Value, want)
		}
	}
	return nil
}

func digestName(a pluginv1.DigestAlgorithm) string { return a.String()[len("DIGEST_ALGORITHM_"):] }

func (r *reader) checkpoint(c *pluginv1.Checkpoint) error {
	switch {
	case c.Sequence <= r.last:
		return fmt.Errorf("a checkpoint has sequence %d, which does not follow %d", c.Sequence, r.last)
	case len(c.SourceToken) == 0:
		return errors.New("a checkpoint has no token: that is the beginning")
	}
	m := mark{token: c.SourceToken, sequence: c.Sequence, finished: len(r.parts)}
	if r.from != nil {
		m.finished += r.from.finished
	}
	if r.current != nil {
		m.finished--
		copied := *r.current
		copied.sum = r.current.sum.clone()
		m.inside = &copied
	}
	r.last, r.unanswered = c.Sequence, false
	r.marks = append(r.marks, m)
	return nil
}

func (r *reader) endOf(e *pluginv1.End) error {
	if r.current != nil {
		return fmt.Errorf("its End inside part %q", r.current.begin.Name)
	}
	r.end = e
	defer r.stream.CloseSend() // nothing is left to say, but for what is stored
	for _, m := range r.marks {
		if err := r.acknowledge(m.sequence); err != nil {
			return err
		}
	}
	if !r.complete() || r.open.List {
		return nil
	}
	want := &pluginv1.End{Parts: uint64(len(r.parts))}
	for _, p := range r.parts {
		want.Bytes += p.got
		want.Records += p.records
	}
	if e.Parts != want.Parts || e.Bytes != want.Bytes || e.Records != want.Records {
		return fmt.Errorf("its End counts %d parts, %d bytes and %d records, and %d, %d and %d came",
			e.Parts, e.Bytes, e.Records, want.Parts, want.Bytes, want.Records)
	}
	return nil
}

func (r *reader) acknowledge(sequence uint64) error {
	err := r.stream.Send(&pluginv1.ReadUp{Kind: &pluginv1.ReadUp_Acknowledge{Acknowledge: &pluginv1.Acknowledge{Sequence: sequence}}})
	if err != nil && err != io.EOF {
		return problemOf(err)
	}
	return nil
}

// same says where two parts that were read whole differ.
func (p *readPart) same(other *readPart) error {
	switch {
	case p.begin.Name != other.begin.Name:
		return fmt.Errorf("part %d is %q, and was %q before", p.begin.Index, p.begin.Name, other.begin.Name)
	case p.begin.Index != other.begin.Index:
		return fmt.Errorf("part %q has index %d, and had %d before", p.begin.Name, p.begin.Index, other.begin.Index)
	case p.got != other.got || p.records != other.records:
		return fmt.Errorf("part %q has %d bytes and %d records, and had %d and %d before", p.begin.Name, p.got, p.records, other.got, other.records)
	case !bytes.Equal(p.sum.of(pluginv1.DigestAlgorithm_DIGEST_ALGORITHM_SHA256), other.sum.of(pluginv1.DigestAlgorithm_DIGEST_ALGORITHM_SHA256)):
		return fmt.Errorf("part %q has other content than before: its SHA-256 differs", p.begin.Name)
	}
	return nil
}

// sameParts compares readings of the same parts.
func sameParts(got, want []*readPart) error {
	if len(got) != len(want) {
		return fmt.Errorf("%d parts came, and %d before", len(got), len(want))
	}
	for i, p := range got {
		if err := p.same(want[i]); err != nil {
			return err
		}
	}
	return nil
}

// follows checks that a reading from a place on has exactly what the whole has behind that place.
func (r *reading) follows(m mark, whole *reading) error {
	if err := sameParts(r.parts, whole.parts[m.finished:]); err != nil {
		return fmt.Errorf("from the checkpoint with sequence %d on, which is behind %d parts: %w", m.sequence, m.finished, err)
	}
	if r.end.Parts != whole.end.Parts || r.end.Bytes != whole.end.Bytes || r.end.Records != whole.end.Records {
		return fmt.Errorf("its End of a reading from the middle on counts %d parts, %d bytes and %d records, not those of the whole flow: %d, %d and %d",
			r.end.Parts, r.end.Bytes, r.end.Records, whole.end.Parts, whole.end.Bytes, whole.end.Records)
	}
	return nil
}

// largest returns the part with most bytes; nil if there is none.
func (r *reading) largest() *readPart {
	if len(r.parts) == 0 {
		return nil
	}
	return slices.MaxFunc(r.parts, func(a, b *readPart) int { return int(int64(a.got) - int64(b.got)) })
}

func (r *reading) total() (n uint64) {
	for _, p := range r.parts {
		n += p.got
	}
	return n
}
