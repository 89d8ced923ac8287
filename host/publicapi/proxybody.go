package publicapi

import (
	"io"
	"sync"
	"sync/atomic"
	"time"
)

// requestBody is the body of a request that is handed on. It is read beside the answer, by one goroutine.
type requestBody struct {
	exchange *exchange
	stay     *stay
	meter    Meter // its own: that of the stay is for the answer
	waiting  *patience

	over atomic.Bool // nobody wants more of it

	reading sync.Mutex // held by a Read; guards what follows
	closed  bool
	err     error // what broke the body, while it was wanted
}

var _ io.ReadCloser = (*requestBody)(nil)

func (p *proxied) newBody(waiting *patience) *requestBody {
	b := &requestBody{exchange: p.exchange, stay: p.stay, waiting: waiting}
	if p.handler.Meter != nil {
		b.meter = p.handler.Meter(p.stay.flow)
	}
	return b
}

// Read gives what the client sends. As long as it sends, the server behind the source has time for its answer.
func (b *requestBody) Read(p []byte) (int, error) {
	b.reading.Lock()
	defer b.reading.Unlock()
	if b.closed {
		return 0, badRequest.because("the body is no longer read")
	}
	b.waiting.pause()
	defer b.waiting.again()
	if b.meter != nil {
		b.meter.Source()
		defer b.meter.Sink()
	}
	n, err := b.exchange.readPiece(p)
	if late := b.wait(n); late != nil && err == nil {
		err = late
	}
	if err != nil && err != io.EOF && !b.over.Load() {
		b.err = err
	}
	return n, err
}

func (b *requestBody) wait(n int) error {
	if b.meter == nil || n == 0 {
		return nil
	}
	return b.meter.Wait(b.stay.ctx, int64(n), 0)
}

// Close ends a Read that waits.
func (b *requestBody) Close() error {
	b.over.Store(true)
	b.exchange.stopReading()
	return nil
}

// finish ends the body for good, and waits for a Read. It does nothing for nil, and can be called again.
func (b *requestBody) finish() {
	if b == nil {
		return
	}
	b.Close()
	b.reading.Lock()
	defer b.reading.Unlock()
	if !b.closed && b.meter != nil {
		b.meter.Close()
	}
	b.closed = true
}

// explain returns what broke the body if something did: it is why err came about.
func (b *requestBody) explain(err error) error {
	if b == nil {
		return err
	}
	b.finish()
	b.reading.Lock()
	defer b.reading.Unlock()
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
