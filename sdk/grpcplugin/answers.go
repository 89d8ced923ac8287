package grpcplugin

import (
	"bytes"
	"context"
	"errors"
	"io"
	"sync"
	"time"

	"github.com/towpath-dataplane/towpath/sdk"
)

const (
	// maxAsked is how many answers a host waits for on one talk. Reads beyond that have calls of their own.
	maxAsked = 512
	// askAgain is how long reads have calls of their own after no talk could be had.
	askAgain = time.Second
)

// talks has the talk on which a plugin is asked for reads that are many and short.
type talks struct {
	connect func(ctx context.Context) (connection, error)

	mu     sync.Mutex // guards what follows
	talk   *talk      // nil: there was none yet
	begins bool       // somebody connects
	not    time.Time  // before that
	closed bool
}

func newTalks(connect func(context.Context) (connection, error)) *talks {
	return &talks{connect: connect}
}

// get returns the talk, nil if there is none at present.
func (p *talks) get(ctx context.Context) *talk {
	p.mu.Lock()
	if p.talk != nil && !p.talk.hasEnded() {
		defer p.mu.Unlock()
		return p.talk
	}
	if p.closed || p.begins || !p.not.IsZero() && time.Now().Before(p.not) {
		p.mu.Unlock()
		return nil
	}
	p.begins = true
	p.mu.Unlock()
	c, err := p.connect(ctx)
	p.mu.Lock()
	defer p.mu.Unlock()
	p.begins = false
	switch {
	case err != nil:
		p.not = time.Now().Add(askAgain)
		return nil
	case p.closed:
		c.close()
		return nil
	}
	p.talk = newTalk(c)
	return p.talk
}

// close ends the talk. No new one begins.
func (p *talks) close() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.closed = true
	if p.talk != nil {
		p.talk.conn.close()
	}
}

// talk is the host's side of a connection on which a plugin answers.
type talk struct {
	conn connection
	out  *outbox

	mu    sync.Mutex // guards what follows
	asked map[uint64]*answer
	last  uint64 // number of an order
	ended error  // why nothing comes any more; nil: it does
}

func newTalk(c connection) *talk {
	t := &talk{conn: c, out: newOutbox(c), asked: map[uint64]*answer{}}
	// Both end with the connection.
	go t.out.run()
	go t.listen()
	return t
}

func (t *talk) hasEnded() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.ended != nil
}

// ask sends an order, or reports false: the read needs a call of its own.
func (t *talk) ask(ctx context.Context, open *sdk.ReadOpen, goOn goOn) (*answer, bool) {
	a := &answer{ctx: ctx, talk: t, came: make(chan struct{}), goOn: goOn}
	if !t.enter(a) {
		return nil, false
	}
	fits := true
	t.out.add(func(b []byte) []byte {
		out, at := openField(b, elementField)
		out = appendNumber(out, numberField, a.number)
		out, in := openField(out, orderField)
		out = closeField(closeField(appendReadOpen(out, open), in), at)
		if fits = len(out)-at <= maxElement; fits {
			return out
		}
		return b
	})
	if !fits {
		t.forget(a)
	}
	return a, fits
}

func (t *talk) enter(a *answer) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.ended != nil || len(t.asked) >= maxAsked {
		return false
	}
	t.last++
	a.number = t.last
	t.asked[a.number] = a
	return true
}

func (t *talk) forget(a *answer) {
	t.mu.Lock()
	defer t.mu.Unlock()
	delete(t.asked, a.number)
}

// giveUp says that an answer is not wanted any more. It comes all the same.
func (t *talk) giveUp(a *answer) {
	t.out.add(func(b []byte) []byte {
		b, at := openField(b, elementField)
		return closeField(appendNumber(b, numberField, a.number), at)
	})
}

// listen hands out the answers until the talk has ended.
func (t *talk) listen() {
	var err error
	for err == nil {
		err = t.conn.receive(t.take)
	}
	t.conn.close()
	t.out.close()
	t.mu.Lock()
	defer t.mu.Unlock()
	t.ended = err
	for _, a := range t.asked {
		a.lost = err
		close(a.came)
	}
	clear(t.asked)
}

// take hands out an answer. One that nobody waits for was given up.
func (t *talk) take(element []byte) error {
	number, err := numberOf(element)
	if err != nil {
		return err
	}
	t.mu.Lock()
	a := t.asked[number]
	delete(t.asked, number)
	t.mu.Unlock()
	if a != nil {
		a.rest = bytes.Clone(element)
		close(a.came)
	}
	return nil
}

// numberOf returns the number of an order or an answer.
func numberOf(element []byte) (uint64, error) {
	for f := (fields{rest: element}); f.next(framesField); {
		if f.field == numberField {
			return f.number, nil
		}
	}
	return 0, errors.New("an order or an answer without a number")
}

// goOn opens a read that a plugin has answered with.
type goOn = func(ctx context.Context, number uint64) (sdk.ReadStream, error)

// answer is a ReadStream of a read that says Once.
type answer struct {
	ctx    context.Context // the caller's
	talk   *talk
	number uint64
	goOn   goOn

	came chan struct{} // closed when one of what follows is set
	rest []byte        // of the Answer
	lost error         // why it never comes

	failed  error          // what Recv says from now on
	instead sdk.ReadStream // goes on with the answer
	closing sync.Once
}

func (a *answer) Recv() (sdk.Frame, error) {
	if a.instead != nil {
		return a.instead.Recv()
	}
	select {
	case <-a.came:
	case <-a.ctx.Done():
	}
	if a.ctx.Err() != nil {
		return nil, context.Cause(a.ctx)
	}
	if a.failed != nil {
		return nil, a.failed
	}
	m, err := a.next()
	switch {
	case err != nil:
		a.failed = err
	case a.instead != nil:
		return a.instead.Recv()
	case m.err != nil:
		a.failed = m.err
	default:
		if _, last := m.frame.(*sdk.End); last {
			a.failed = io.EOF
		}
		return m.frame, nil
	}
	return nil, a.failed
}

// next takes the next frame, or what goes on in its place. The answer has come.
func (a *answer) next() (m message, err error) {
	if a.lost != nil {
		return m, sdk.Retryf(sdk.Unavailable, "the plugin ended an answer before it was whole: %w", a.lost)
	}
	for f := (fields{rest: a.rest}); f.next(framesField); {
		switch f.field {
		case framesField:
			if m, err = decodeFrame(f.content()); err != nil {
				return m, sdk.Errorf(sdk.Internal, "a frame of an answer: %w", err)
			}
			a.rest = f.rest
			return m, a.check(m)
		case goesOnField:
			a.rest = nil
			a.instead, err = a.goOn(a.ctx, f.varint())
			return m, err
		}
	}
	return m, sdk.Errorf(sdk.Internal, "the source sent an answer without an end")
}

// check says whether a frame belongs in an answer, at this place.
func (a *answer) check(m message) error {
	_, last := m.frame.(*sdk.End)
	switch {
	case m.frame == nil && m.err == nil:
		return sdk.Errorf(sdk.Internal, "the source sent a frame that does not belong in an answer")
	case (last || m.err != nil) && len(a.rest) > 0:
		return sdk.Errorf(sdk.Internal, "the source sent something behind the end of an answer")
	}
	return nil
}

// RequestCheckpoint does nothing: the read says Once.
func (a *answer) RequestCheckpoint() error { return nil }

// Acknowledge does nothing: the read says Once.
func (a *answer) Acknowledge(uint64) error { return nil }

func (a *answer) Close() (err error) {
	a.closing.Do(func() {
		if a.instead == nil && a.awaitEnd() {
			if number := goesOn(a.rest); number != 0 {
				a.instead, _ = a.goOn(a.ctx, number) // the plugin lets go when that ends
			}
		}
		if a.instead != nil {
			err = a.instead.Close()
		}
	})
	return err
}

// awaitEnd reports whether the answer has come. One that has not is given up: the plugin answers when it has let go.
func (a *answer) awaitEnd() bool {
	select {
	case <-a.came:
		return true
	default:
	}
	a.talk.giveUp(a)
	timer := time.NewTimer(hangUpWait)
	defer timer.Stop()
	select {
	case <-a.came:
		return true
	case <-timer.C:
		a.talk.forget(a)
		return false
	}
}

// goesOn returns the number with which what is left of an answer says that it goes on, 0 if it does not.
func goesOn(rest []byte) uint64 {
	for f := (fields{rest: rest}); f.next(framesField); {
		if f.field == framesField {
			return 0
		}
		if f.field == goesOnField {
			return f.number
		}
	}
	return 0
}
