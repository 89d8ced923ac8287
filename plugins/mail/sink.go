package main

import (
	"context"
	"fmt"
	"iter"
	"time"

	"github.com/towpath-dataplane/towpath/sdk"
)

// sink sends a mail for each part. It keeps nothing.
type sink struct{ settings settings }

var (
	_ sdk.Sink      = (*sink)(nil)
	_ sdk.Validator = (*sink)(nil)
)

// Validate reads the address. The server is asked when there is something to send.
func (s *sink) Validate(_ context.Context, a sdk.DataAddress) error {
	_, err := s.settings.destination(a)
	return err
}

func (s *sink) Write(ctx context.Context, req sdk.WriteRequest, parts iter.Seq2[*sdk.IncomingPart, error]) error {
	to, err := s.settings.destination(req.Address)
	if err != nil {
		return err
	}
	w := &writer{ctx: ctx, settings: &s.settings, to: to, flow: req.Flow}
	defer w.quit()
	for p, err := range parts {
		if err != nil {
			return err
		}
		if err := w.send(p); err != nil {
			return fmt.Errorf("part %q: %w", p.Name, err)
		}
	}
	return nil
}

// writer sends the mails of one flow over one connection, as long as that lasts.
type writer struct {
	ctx      context.Context // of the stream
	settings *settings
	to       destination
	flow     sdk.FlowContext
	session  *session // nil: not connected
}

func (w *writer) send(p *sdk.IncomingPart) error {
	if p.PartInfo.Records {
		return sdk.Errorf(sdk.Unsupported, "records cannot be mailed, only bytes")
	}
	m := newMessage(w.to, w.flow, p.PartInfo, time.Now())
	if err := w.fits(m, p.Size, int64(w.settings.MaxMessage), "this data plane allows"); err != nil {
		return err
	}
	body, err := w.begin(m, p.Size)
	if err != nil {
		return err
	}
	if err := w.fill(body, m, p); err != nil {
		w.drop() // nothing of it is delivered: the mail has no end
		return err
	}
	answer, err := w.session.deliver()
	if err != nil {
		w.drop()
		return err
	}
	p.Commit(fmt.Sprintf("mail %s: %s", m.id, answer))
	return nil
}

// fits refuses a mail that is known to be larger than a limit; 0 is none.
func (w *writer) fits(m message, size, limit int64, whose string) error {
	if size = m.size(max(size, 0)); limit > 0 && size > limit {
		return tooLarge(size, limit, whose)
	}
	return nil
}

func tooLarge(size, limit int64, whose string) error {
	return sdk.Errorf(sdk.Exhausted, "its mail would have %d bytes or more, %s %d: nothing was sent", size, whose, limit)
}

// begin opens a mail. A connection that has been idle since the part before may have ended meanwhile; then there is another.
func (w *writer) begin(m message, size int64) (*body, error) {
	fresh := w.session == nil
	b, err := w.tryBegin(m, size)
	if err == nil {
		return b, nil
	}
	w.drop()
	if fresh || !lost(err) {
		return nil, err
	}
	if b, err = w.tryBegin(m, size); err != nil {
		w.drop()
		return nil, err
	}
	return b, nil
}

func (w *writer) tryBegin(m message, size int64) (*body, error) {
	if w.session == nil {
		s, err := w.settings.connect(w.ctx)
		if err != nil {
			return nil, err
		}
		w.session = s
	}
	if err := w.fits(m, size, w.session.limit, "the server allows"); err != nil {
		return nil, err
	}
	announced := int64(0)
	if size >= 0 {
		announced = m.size(size)
	}
	return w.session.begin(w.to, announced)
}

// fill sends the mail but for its end. An error of the part goes before one of the server.
func (w *writer) fill(b *body, m message, p *sdk.IncomingPart) error {
	b.limits(int64(w.settings.MaxMessage), w.session.limit)
	e := newEncoder(b)
	if _, e.err = b.Write(m.head); e.err != nil {
		return e.err
	}
	if _, err := p.WriteTo(e); err != nil {
		return err
	}
	if err := e.end(); err != nil {
		return err
	}
	_, err := b.Write(m.tail)
	return err
}

// drop ends the connection at once. What was begun on it is not delivered.
func (w *writer) drop() {
	if w.session != nil {
		w.session.close()
		w.session = nil
	}
}

// quit takes leave of the server.
func (w *writer) quit() {
	if w.session != nil {
		w.session.quit()
		w.session = nil
	}
}
