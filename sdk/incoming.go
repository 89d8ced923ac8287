package sdk

import (
	"io"
)

// IncomingPart is a part on its way into a Sink. Read and WriteTo give its bytes; io.EOF comes only when the part is whole: its size
// is the one announced and its digests are right. It is used by the goroutine that ranges over the parts, and those it starts for
// the time of one part; never by two at once.
type IncomingPart struct {
	PartInfo
	// Offset is where in the part the bytes begin: more than 0 only if an earlier run gave a checkpoint inside the part. Of a part with a
	// Reference it is what an earlier run has copied.
	Offset int64
	// Token is what that run's checkpoint function returned, or what it gave to Copied.
	Token []byte

	body       *incomingBody
	copying    *copying // nil for a part without a Reference
	checkpoint func() ([]byte, error)
	committed  bool
	location   string
}

// Read gives the next bytes. See IncomingPart for errors; ErrInterrupted means that the flow was cut and may go on later.
func (p *IncomingPart) Read(b []byte) (int, error) { return p.body.read(b) }

// WriteTo writes all bytes to w, without copying them first. io.Copy uses it.
func (p *IncomingPart) WriteTo(w io.Writer) (int64, error) { return p.body.writeTo(w) }

// NextRecords returns the next batch of a part that carries records; io.EOF when the part is whole. The batch is valid until the
// next call.
func (p *IncomingPart) NextRecords() ([]Record, error) { return p.body.nextRecords() }

// OnCheckpoint makes the part continuable in its middle. f makes durable what Read or NextRecords has given so far and returns a
// token, which comes back as Token, with Offset, when the flow goes on. f is called from inside Read, WriteTo and NextRecords.
func (p *IncomingPart) OnCheckpoint(f func() (token []byte, err error)) { p.checkpoint = f }

// Commit says that the part is durable under its final name, before Write returns. location is for people and has no secrets. A
// sink whose parts become durable only together does not call it.
func (p *IncomingPart) Commit(location string) { p.committed, p.location = true, location }

// incomingBody is the content of the part that is being received.
type incomingBody struct {
	receiver *receiver
	part     *IncomingPart
	digest   *Digester
	records  int64
	current  Payload // that pieces belong to
	batch    Batch   // the author's until the next call
	pieces   pieces
	err      error // io.EOF: the part is whole
}

// pieces collects what a Payload writes, without copying it.
type pieces [][]byte

func (p *pieces) Write(b []byte) (int, error) {
	*p = append(*p, b)
	return len(b), nil
}

func (b *incomingBody) read(dst []byte) (int, error) {
	if len(dst) == 0 {
		return 0, nil
	}
	for len(b.pieces) == 0 {
		if err := b.advance(); err != nil {
			return 0, err
		}
		b.pieces = b.pieces[:0]
		b.current.WriteTo(&b.pieces)
	}
	n := 0
	for n < len(dst) && len(b.pieces) > 0 {
		m := copy(dst[n:], b.pieces[0])
		n += m
		if b.pieces[0] = b.pieces[0][m:]; len(b.pieces[0]) == 0 {
			b.pieces = b.pieces[1:]
		}
	}
	return n, nil
}

func (b *incomingBody) writeTo(w io.Writer) (int64, error) {
	n := int64(0)
	for len(b.pieces) > 0 {
		m, err := w.Write(b.pieces[0])
		n += int64(m)
		if err != nil {
			return n, err
		}
		b.pieces = b.pieces[1:]
	}
	for {
		if err := b.advance(); err == io.EOF {
			return n, nil
		} else if err != nil {
			return n, err
		}
		m, err := b.current.WriteTo(w)
		n += m
		if err != nil {
			return n, err
		}
	}
}

// advance makes the next payload current, or returns how the part ended.
func (b *incomingBody) advance() error {
	for b.err == nil {
		b.release()
		f, err := b.receiver.stream.next()
		if err != nil {
			b.err = err
			break
		}
		if data, ok := f.(*Data); ok {
			b.current = data.Payload
			if _, b.err = data.WriteTo(b.digest); b.err == nil {
				return nil
			}
			break
		}
		b.control(f)
	}
	b.release()
	return b.err
}

func (b *incomingBody) release() {
	if b.current != nil {
		b.current.Release()
		b.current = nil
	}
	if b.batch != nil {
		b.batch.Release()
		b.batch = nil
	}
}

// control handles what is not payload.
func (b *incomingBody) control(f Frame) {
	switch f := f.(type) {
	case *Checkpoint:
		b.err = b.checkpoint(f)
	case *PartEnd:
		b.err = b.end(f)
	case *End:
		b.err = Errorf(Invalid, "part %q was given up", b.part.Name)
	default:
		Release(f)
		b.err = Errorf(Internal, "%T inside a part", f)
	}
}

func (b *incomingBody) checkpoint(c *Checkpoint) error {
	r := b.receiver
	if b.part.checkpoint == nil || len(r.unsettled) > 0 {
		return nil
	}
	token, err := b.part.checkpoint()
	if err != nil {
		return err
	}
	r.place.Index, r.place.Offset, r.place.Records = b.part.Index, b.digest.Size(), b.records
	r.place.Token, r.place.Copied, r.place.Digest = token, 0, b.digest.State()
	answer, err := r.answer(c)
	if err != nil {
		return err
	}
	return r.stream.say(answer)
}

// end checks a whole part and returns io.EOF if it is as announced.
func (b *incomingBody) end(e *PartEnd) error {
	size := b.digest.Size()
	switch {
	case size != e.Size, b.part.Size >= 0 && size != b.part.Size:
		return Errorf(Corrupt, "part %q has %d bytes, %d were announced", b.part.Name, size, max(e.Size, b.part.Size))
	case b.records != e.Records:
		return Errorf(Corrupt, "part %q has %d records, %d were announced", b.part.Name, b.records, e.Records)
	}
	if err := b.digest.Sum().Compare(e.Digests); err != nil {
		return Errorf(Corrupt, "part %q: %w", b.part.Name, err)
	}
	return io.EOF
}

func (b *incomingBody) nextRecords() ([]Record, error) {
	for b.err == nil {
		b.release()
		f, err := b.receiver.stream.next()
		if err != nil {
			b.err = err
			break
		}
		batch, ok := f.(*RecordBatch)
		if !ok {
			b.control(f)
			continue
		}
		b.batch = batch.Batch
		records, err := batch.Records()
		if err != nil {
			b.err = Errorf(Corrupt, "batch of records: %v", err)
			break
		}
		b.digest.WriteRecords(records)
		b.records += int64(len(records))
		return records, nil
	}
	b.release()
	return nil, b.err
}
