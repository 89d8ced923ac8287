package sdk

import (
	"context"
	"slices"
)

// storeOf asks the author's code in which store an address lies.
func storeOf(ctx context.Context, t AddressType, impl any, a DataAddress) (string, error) {
	c, ok := impl.(Copier)
	if !ok {
		return "", Errorf(Unsupported, "addresses of type %q lie in no store that copies", t.Type)
	}
	if err := validate(ctx, t, impl, a); err != nil {
		return "", err
	}
	return c.Store(ctx, a)
}

// isReferred reports whether p is sent by its reference. A part that goes on in its middle goes on as it began.
func (s *readStream) isReferred(p Part) bool {
	return s.open.ByReference && p.Reference != nil && len(p.Reference) <= MaxReference && p.OpenRecords == nil && p.Size >= 0 &&
		s.place.Offset == 0 && !slices.Contains(s.open.ByBytes, p.Name)
}

// sendReference sends a part without its content.
func (s *readStream) sendReference(p Part) error {
	s.restart(p)
	begin := s.header(p, 0)
	begin.Reference = p.Reference
	if err := s.send(begin); err != nil {
		return err
	}
	if err := s.sendCheckpoint(); err != nil {
		return err
	}
	if err := s.send(&PartEnd{Size: p.Size, Digests: p.Digests}); err != nil {
		return err
	}
	return s.finish(p, p.Size)
}

// copying is a part that a sink copies inside its store.
type copying struct {
	receiver *receiver
	index    uint64
	size     int64
	inside   *Checkpoint // nil if the source gave none
	end      *PartEnd
	all      bool    // everything is copied
	digests  Digests // of that, as the store has them
}

// Copied says that n bytes of a part with a Reference are copied, those of an earlier run included. token, if not nil, is what an attempt
// to go on from there needs, and is durable: it comes back as Token, with n as Offset. It is called by the goroutine that ranges over the
// parts. ErrInterrupted means that the flow was cut.
func (p *IncomingPart) Copied(n int64, token []byte) error {
	c := p.copying
	if c == nil || n < 0 || n > c.size {
		return Errorf(Internal, "%d bytes of part %q cannot have been copied", n, p.Name)
	}
	r := c.receiver
	if err := r.stream.say(&Copied{Index: c.index, Bytes: n}); err != nil {
		return err
	}
	if token == nil || n == 0 || c.inside == nil || len(r.unsettled) > 0 {
		return nil
	}
	r.place.Index, r.place.Offset, r.place.Records, r.place.Copied = c.index, 0, 0, n
	r.place.Token, r.place.Digest = token, DigestState{}
	answer, err := r.answer(c.inside)
	if err != nil {
		return err
	}
	return r.stream.say(answer)
}

// CopiedAll says that a part with a Reference is copied, and gives the digests that the store has of it, nil if there are none. The error
// is Corrupt if they are not those of the source. Commit follows when the part is durable under its final name.
func (p *IncomingPart) CopiedAll(digests Digests) error {
	c := p.copying
	if c == nil {
		return Errorf(Internal, "part %q is not one to be copied", p.Name)
	}
	if err := digests.Compare(c.end.Digests); err != nil {
		return Errorf(Corrupt, "part %q: %w", p.Name, err)
	}
	c.all, c.digests = true, digests
	return c.receiver.stream.say(&Copied{Index: c.index, Bytes: c.size})
}

// incomingReference prepares a part that the sink copies.
func (r *receiver) incomingReference(p *IncomingPart) error {
	switch _, ok := r.sink.Sink.(Copier); {
	case !ok:
		return aboutPart(p.Name, Errorf(NotCopied, "addresses of type %q lie in no store that copies", r.sink.Type))
	case p.Offset != 0, p.Size < 0, p.PartInfo.Records:
		return Errorf(Corrupt, "part %q has a reference, and is not one of bytes from its start on", p.Name)
	}
	p.copying = &copying{receiver: r, index: p.Index, size: p.Size}
	if !r.resumed && r.place.Copied > 0 && r.place.Index == p.Index {
		p.Token, p.Offset = r.place.Token, r.place.Copied
	}
	r.resumed = true
	return nil
}

// copy gives a part with a Reference to the author, with all that came of it.
func (r *receiver) copy(p *IncomingPart, yield func(*IncomingPart, error) bool) (more bool, err error) {
	c := p.copying
	for c.end == nil {
		f, err := r.stream.next()
		if err != nil {
			return true, err
		}
		switch f := f.(type) {
		case *Checkpoint:
			c.inside = f
		case *PartEnd:
			c.end = f
		default:
			Release(f)
			return true, Errorf(Internal, "%T inside a part with a reference", f)
		}
	}
	if c.end.Size != c.size || c.end.Records != 0 {
		return true, Errorf(Corrupt, "part %q has %d bytes and %d records, %d bytes were announced", p.Name, c.end.Size, c.end.Records, c.size)
	}
	p.body.err = errNoBytes
	more = yield(p, nil)
	switch {
	case !c.all && !more:
		return false, nil // the author has failed with it
	case !c.all:
		return more, Errorf(Internal, "the sink did not copy part %q", p.Name)
	}
	if more || p.committed {
		r.current = ""
	}
	return more, r.receipt(p, c.size, c.digests)
}

// errNoBytes is what reading a part with a Reference returns.
var errNoBytes = Errorf(Internal, "there are no bytes: the part has a reference")
