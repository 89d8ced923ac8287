package grpcplugin

import (
	"context"
	"errors"
	"io"
	"sync"
	"time"

	pluginv1 "github.com/towpath-dataplane/towpath/proto/towpath/plugin/v1"
	"github.com/towpath-dataplane/towpath/sdk"
)

// AnswersLaneName is the lane for reads that are many and short, as plugin.proto has it. Linux only.
const AnswersLaneName = "fd1-answers"

const (
	maxTalks  = 512              // of one plugin at a time; reads beyond that have calls of their own
	idleTalks = 64               // are kept
	idleTime  = 20 * time.Second // for so long at most
)

// talk is a connection on which a plugin answers one read after the other. All methods but cut are for one goroutine.
type talk interface {
	// ask sends an order. The answer before has ended.
	ask(open *pluginv1.ReadOpen) error
	// next returns what comes next of the answer. io.EOF: the plugin has ended the talk.
	next() (message, error)
	// pending reports whether next does not have to wait.
	pending() bool
	// clean reports whether nothing has come that next has not returned.
	clean() bool
	// cut makes next return, and tells the plugin that no more is wanted. It does not wait, and can be called at any time.
	cut()
	// close ends the talk and waits, within bounds, until the plugin has let go of what it reads. polite: there is nothing to wait for.
	close(polite bool)
}

// talks are those of one plugin that are not in use, the last used last.
type talks struct {
	begin func(ctx context.Context) (talk, error)

	mu     sync.Mutex // guards what follows
	idle   []idleTalk
	open   map[talk]struct{}
	timer  *time.Timer // runs as long as there are idle ones
	closed bool
}

type idleTalk struct {
	talk
	since time.Time
}

func newTalks(begin func(context.Context) (talk, error)) *talks {
	return &talks{begin: begin, open: map[talk]struct{}{}}
}

// take returns a talk that was used before, or a new one; nil if there are too many, or none can be had.
func (p *talks) take(ctx context.Context) (t talk, used bool) {
	p.mu.Lock()
	if n := len(p.idle); n > 0 {
		t := p.idle[n-1].talk
		p.idle[n-1] = idleTalk{}
		p.idle = p.idle[:n-1]
		p.mu.Unlock()
		return t, true
	}
	full := p.closed || len(p.open) >= maxTalks
	p.mu.Unlock()
	if full {
		return nil, false
	}
	t, err := p.begin(ctx)
	if err != nil {
		return nil, false
	}
	p.mu.Lock()
	if !p.closed {
		p.open[t] = struct{}{}
		p.mu.Unlock()
		return t, false
	}
	p.mu.Unlock()
	t.close(true)
	return nil, false
}

// put keeps a talk whose answer has ended.
func (p *talks) put(t talk) {
	p.mu.Lock()
	if !p.closed && len(p.idle) < idleTalks {
		p.idle = append(p.idle, idleTalk{t, time.Now()})
		if p.timer == nil {
			p.timer = time.AfterFunc(idleTime, p.sweep)
		}
		p.mu.Unlock()
		return
	}
	p.mu.Unlock()
	p.drop(t, true)
}

// drop closes a talk.
func (p *talks) drop(t talk, polite bool) {
	t.close(polite)
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.open, t)
}

// sweep closes the talks that were idle for long.
func (p *talks) sweep() {
	p.mu.Lock()
	n, now := 0, time.Now()
	for n < len(p.idle) && now.Sub(p.idle[n].since) >= idleTime {
		n++
	}
	old := append([]idleTalk(nil), p.idle[:n]...)
	p.idle = append(p.idle[:0], p.idle[n:]...)
	p.timer = nil
	if len(p.idle) > 0 {
		p.timer = time.AfterFunc(idleTime-now.Sub(p.idle[0].since), p.sweep)
	}
	p.mu.Unlock()
	for _, t := range old {
		p.drop(t.talk, true)
	}
}

// close ends all talks. No new ones begin.
func (p *talks) close() {
	p.mu.Lock()
	p.closed = true
	idle := p.idle
	p.idle = nil
	if p.timer != nil {
		p.timer.Stop()
	}
	for t := range p.open {
		t.cut()
	}
	p.mu.Unlock()
	for _, t := range idle {
		p.drop(t.talk, true)
	}
}

// answer is a ReadStream of a read that says Once.
type answer struct {
	ctx   context.Context // the caller's
	talks *talks
	talk  talk
	stop  func() bool // of the AfterFunc on the caller's context
	again func() (sdk.ReadStream, error)

	begun   bool // something has come, or would have
	inside  bool // something of the answer has come
	ended   bool // End or the error has come: the talk is as good as new
	failed  error
	closing sync.Once
	instead sdk.ReadStream // takes over if the talk turned out to have ended before the order came
}

// ask opens a read on a talk. It returns nil if that cannot be. again opens it in another way.
func (p *talks) ask(ctx context.Context, open sdk.ReadOpen, again func() (sdk.ReadStream, error)) *answer {
	t, used := p.take(ctx)
	if t == nil {
		return nil
	}
	if err := t.ask(readOpenToProto(open)); err != nil {
		p.drop(t, true)
		return nil
	}
	a := &answer{ctx: ctx, talks: p, talk: t, begun: !used, again: again}
	a.stop = context.AfterFunc(ctx, t.cut)
	return a
}

func (a *answer) Recv() (sdk.Frame, error) {
	switch {
	case a.instead != nil:
		return a.instead.Recv()
	case a.failed != nil:
		return nil, a.failed
	}
	m, err := a.talk.next()
	if a.ctx.Err() != nil {
		sdk.Release(m.frame)
		return nil, context.Cause(a.ctx)
	}
	if err != nil {
		return a.lost(err)
	}
	first := !a.inside
	a.begun, a.inside = true, true
	if m.err != nil {
		a.ended, a.failed = true, m.err
		return nil, a.failed
	}
	switch m.frame.(type) {
	case nil:
		return a.lost(sdk.Errorf(sdk.Internal, "the source sent a frame that does not belong in an answer"))
	case *sdk.End:
		a.ended, a.failed = true, io.EOF
	case *sdk.PartBegin:
	default:
		if first {
			sdk.Release(m.frame)
			return a.lost(sdk.Errorf(sdk.Internal, "the source sent the rest of an answer"))
		}
	}
	return m.frame, nil
}

// lost deals with the end of a talk that comes before that of the answer. One that was idle may have ended unseen: nothing is lost then.
func (a *answer) lost(err error) (sdk.Frame, error) {
	if e := (*sdk.Error)(nil); errors.As(err, &e) {
		a.failed = e
		return nil, e
	}
	if !a.begun {
		if again, failed := a.again(); failed != nil {
			a.failed = failed
		} else {
			a.instead = again
			return again.Recv()
		}
		return nil, a.failed
	}
	a.failed = sdk.Retryf(sdk.Unavailable, "the plugin ended an answer before it was whole: %w", err)
	return nil, a.failed
}

// RequestCheckpoint does nothing: the read says Once.
func (a *answer) RequestCheckpoint() error { return nil }

// Acknowledge does nothing: the read says Once.
func (a *answer) Acknowledge(uint64) error { return nil }

func (a *answer) Close() (err error) {
	a.closing.Do(func() {
		if a.instead != nil {
			err = a.instead.Close()
		}
		// What lies behind the end must not be taken for an answer to someone else.
		if a.stop() && a.finish() && a.talk.clean() {
			a.talks.put(a.talk)
			return
		}
		a.talk.cut()
		a.talks.drop(a.talk, false)
	})
	return err
}

// finish skips what has come already, and reports whether that is the end.
func (a *answer) finish() bool {
	for !a.ended && a.failed == nil && a.talk.pending() {
		f, err := a.Recv()
		if err != nil {
			break
		}
		sdk.Release(f)
	}
	return a.ended
}
