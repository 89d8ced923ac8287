package sdk

import (
	"context"
	"errors"
	"fmt"
	"io"
)

// sendBytes sends the content of p, from the place on, and returns the digester of the whole part.
func (s *readStream) sendBytes(p Part) (*Digester, error) {
	body, digest, err := s.openBytes(p)
	if err != nil {
		return nil, err
	}
	defer body.Close()
	if err := s.send(s.header(p, digest.Size())); err != nil {
		return nil, err
	}
	err = s.copyBytes(body, func(b *Buffer) error {
		digest.Write(b.Bytes())
		if p.Size >= 0 && digest.Size() > p.Size {
			return Errorf(Corrupt, "has more than the %d bytes announced", p.Size)
		}
		return nil
	}, func() error {
		if !s.wantCheckpoint.Load() || s.open.Request != nil {
			return nil
		}
		s.place.Offset, s.place.Digest = digest.Size(), digest.State()
		return s.sendCheckpoint()
	})
	if err == nil && p.Size >= 0 && digest.Size() < p.Size {
		err = Errorf(Corrupt, "has %d bytes of the %d announced", digest.Size(), p.Size)
	}
	if err == nil {
		if wrong := digest.Sum().Compare(p.Digests); wrong != nil {
			err = Retryf(Corrupt, "is not what its origin says: %w", wrong)
		}
	}
	return digest, err
}

// copyBytes sends what body gives as Data frames. check sees each buffer before it is sent, after is called behind each.
func (s *readStream) copyBytes(body io.Reader, check func(*Buffer) error, after func() error) error {
	for {
		b := NewBuffer()
		n, readErr := b.ReadOnce(body)
		if n == 0 {
			b.Release()
		} else {
			if err := check(b); err != nil {
				b.Release()
				return err
			}
			if err := s.send(&Data{b}); err != nil {
				return err
			}
			if err := after(); err != nil {
				return err
			}
		}
		if readErr == io.EOF {
			return nil
		}
		if readErr != nil {
			return readErr
		}
		if err := s.ctx.Err(); err != nil {
			return context.Cause(s.ctx)
		}
	}
}

// openBytes opens p where the place says. If the content has changed since, or what can be seen of it is not what was sent, the part
// begins again.
func (s *readStream) openBytes(p Part) (io.ReadCloser, *Digester, error) {
	if s.place.Offset > 0 && s.place.Validator != p.Validator {
		s.restart(p)
	}
	digest, err := s.digester()
	if err != nil {
		return nil, nil, Errorf(Invalid, "resume token: %w", err)
	}
	offset := s.place.Offset
	body, err := p.Open(s.ctx, offset)
	if offset == 0 || !errors.Is(err, ErrFromStart) {
		return body, digest, err
	}
	if body, err = p.Open(s.ctx, 0); err != nil {
		return nil, nil, err
	}
	same, err := skip(body, offset, digest)
	if err == nil && same {
		return body, digest, nil
	}
	body.Close()
	if err != nil {
		return nil, nil, err
	}
	s.restart(p)
	return s.openBytes(p)
}

// skip reads n bytes and reports whether they are those that want was computed over.
func skip(r io.Reader, n int64, want *Digester) (bool, error) {
	got := NewDigester(want.algorithms()...)
	if _, err := io.CopyN(got, r, n); err == io.EOF {
		return false, nil
	} else if err != nil {
		return false, err
	}
	return want.Sum().Compare(got.Sum()) == nil, nil
}

// sendSelected sends one part, or a piece of it.
func (s *readStream) sendSelected(p Part) error {
	sel := *s.open.Select
	if sel.Validator != "" && sel.Validator != p.Validator {
		sel.Offset, sel.Length = 0, -1
	}
	if p.OpenRecords != nil || sel.Offset == 0 && (sel.Length < 0 || sel.Length == p.Size) || s.open.List {
		if err := s.sendPart(p); err != nil {
			return fmt.Errorf("part %q: %w", p.Name, err)
		}
		return s.send(&End{s.place.Totals})
	}
	if p.Size >= 0 && sel.Offset > p.Size {
		return Errorf(Invalid, "part %q has %d bytes, none at offset %d", p.Name, p.Size, sel.Offset)
	}
	n, err := s.sendPiece(p, sel)
	if err != nil {
		return fmt.Errorf("part %q: %w", p.Name, err)
	}
	if err := s.send(&PartEnd{Size: max(p.Size, 0)}); err != nil {
		return err
	}
	return s.send(&End{Totals{Bytes: n}})
}

func (s *readStream) sendPiece(p Part, sel Selection) (int64, error) {
	s.begin(p)
	body, err := p.Open(s.ctx, sel.Offset)
	if errors.Is(err, ErrFromStart) {
		if body, err = p.Open(s.ctx, 0); err == nil {
			_, err = io.CopyN(io.Discard, body, sel.Offset)
		}
	}
	if body != nil {
		defer body.Close()
	}
	if err != nil {
		return 0, err
	}
	if err := s.send(s.header(p, sel.Offset)); err != nil {
		return 0, err
	}
	want := sel.Length
	if rest := p.Size - sel.Offset; p.Size >= 0 && (want < 0 || want > rest) {
		want = rest
	}
	var r io.Reader = body
	if want >= 0 {
		r = io.LimitReader(body, want)
	}
	n := int64(0)
	count := func(b *Buffer) error { n += int64(b.Len()); return nil }
	if err := s.copyBytes(r, count, func() error { return nil }); err != nil {
		return n, err
	}
	if p.Size >= 0 && n < want {
		return n, Errorf(Corrupt, "has %d bytes of the %d announced", sel.Offset+n, p.Size)
	}
	return n, nil
}
