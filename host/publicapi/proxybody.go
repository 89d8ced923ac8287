package publicapi

import (
	"io"
	"sync"
	"sync/atomic"
	"time"
)

// requestBody takes the body of a request that is handed on from the client, beside the answer. What is no longer wanted of it is thrown
// away: to stop a client in the middle would end the connection that the answer goes on.
type requestBody struct {
	exchange *exchange
	stay     *stay
	meter    Meter // its own: that of the stay is for the answer; nil without limits
	waiting  *patience

	out  *io.PipeReader
	in   *io.PipeWriter
	over atomic.Bool   // nobody wants more of it
	done chan struct{} // closed when nothing more is read
	err  error         // what broke the body while it was wanted; valid when done is closed
}

var _ io.ReadCloser = (*requestBody)(nil)

// newBody begins to take the body.
func (p *proxied) newBody(waiting *patience) *requestBody {
	b := &requestBody{exchange: p.exchange, stay: p.stay, waiting: waiting, done: make(chan struct{})}
	b.out, b.in = io.Pipe()
	if p.handler.Meter != nil {
		b.meter = p.handler.Meter(p.stay.flow)
	}
	go b.take()
	return b
}

// Read gives what the client has sent.
func (b *requestBody) Read(p []byte) (int, error) { return b.out.Read(p) }

// Close ends a Read that waits.
func (b *requestBody) Close() error {
	b.over.Store(true)
	return b.out.Close()
}

func (b *requestBody) take() {
	defer close(b.done)
	if b.meter != nil {
		defer b.meter.Close()
	}
	piece := make([]byte, pieceSize)
	for {
		n, err := b.next(piece)
		if n > 0 && !b.over.Load() {
			b.in.Write(piece[:n]) // what is not wanted is thrown away
		}
		switch {
		case err == nil:
			continue
		case err != io.EOF && !b.over.Load():
			b.err = err
		}
		b.in.CloseWithError(err)
		return
	}
}

// next takes a piece. As long as the client sends, the server behind the source has time for its answer.
func (b *requestBody) next(piece []byte) (int, error) {
	if b.over.Load() {
		return b.exchange.readPiece(piece)
	}
	b.waiting.pause()
	defer b.waiting.again()
	if b.meter != nil {
		b.meter.Source()
		defer b.meter.Sink()
	}
	n, err := b.exchange.readPiece(piece)
	if b.meter != nil && n > 0 {
		if late := b.meter.Wait(b.stay.ctx, int64(n), 0); late != nil {
			return 0, late
		}
	}
	return n, err
}

// ends reports whether nothing more comes from the client, or will in some time.
func (b *requestBody) ends(within time.Duration) bool {
	if b == nil {
		return true
	}
	timer := time.NewTimer(within)
	defer timer.Stop()
	select {
	case <-b.done:
		return true
	case <-timer.C:
		return false
	}
}

// finish stops the client, if it still sends. It does nothing for nil, and can be called again.
func (b *requestBody) finish() {
	if b != nil {
		b.Close()
		b.exchange.stopReading()
		<-b.done
	}
}

// explain returns what broke the body if something did: it is why err came about.
func (b *requestBody) explain(err error) error {
	if b == nil {
		return err
	}
	b.finish()
	if b.err != nil {
		return b.err
	}
	return err
}

// patience is how long a source may take for its answer. It does not run while something else is waited for.
type patience struct {
	mu    sync.Mutex // guards what follows
	limit time.Duration
	timer *time.Timer
	over  bool
}

func startPatience(limit time.Duration, lost func()) *patience {
	return &patience{limit: limit, timer: time.AfterFunc(limit, lost)}
}

func (p *patience) pause() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.timer.Stop()
}

func (p *patience) again() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.over {
		p.timer.Reset(p.limit)
	}
}

// end is the end of the wait. It can be called again.
func (p *patience) end() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.over = true
	p.timer.Stop()
}
