package main

import (
	"context"
	"errors"
	"io"
	"time"

	"github.com/towpath-dataplane/towpath/sdk"
)

const (
	// attempts is how often in a row a body may break without giving a byte.
	attempts  = 5
	firstWait = 100 * time.Millisecond
	// aheadAfter is how much is read before something is fetched ahead: who wants a small piece does not say so.
	aheadAfter = 1 << 20
)

// rangeReader reads an object from an offset on, by several requests at a time. The first range that is not fetched ahead goes
// straight through; those fetched ahead are kept in memory that all flows share, until it is their turn.
type rangeReader struct {
	ctx    context.Context
	cancel context.CancelFunc
	store  *store
	object *object
	from   int64 // where it began
	at     int64 // of the next byte to give
	asked  int64 // up to here ranges were asked for

	ahead   []*fetch       // in order
	current *blockReader   // of ahead[0]
	direct  *segmentReader // if there is nothing ahead
}

func newRangeReader(ctx context.Context, s *store, o *object, offset int64) *rangeReader {
	ctx, cancel := context.WithCancel(ctx)
	return &rangeReader{ctx: ctx, cancel: cancel, store: s, object: o, from: offset, at: offset, asked: offset}
}

// begin takes the body of an answer with the whole object.
func (r *rangeReader) begin(body io.ReadCloser) {
	r.direct = &segmentReader{ctx: r.ctx, store: r.store, object: r.object, body: body, end: r.object.size}
	r.asked = r.object.size
}

// Read gives the next bytes, and io.EOF behind the last one of the object.
func (r *rangeReader) Read(p []byte) (int, error) {
	for {
		if r.at == r.object.size && (r.object.size > 0 || r.direct != nil && r.direct.done) {
			return 0, io.EOF
		}
		n, err := r.next(p)
		r.at += int64(n)
		if n > 0 && err == io.EOF {
			err = nil
		}
		if n > 0 || err != nil && err != io.EOF {
			return n, err
		}
	}
}

// next reads from the segment whose turn it is. io.EOF is its end.
func (r *rangeReader) next(p []byte) (int, error) {
	if r.direct == nil && r.current == nil && len(r.ahead) == 0 {
		end := r.segment()
		r.direct = &segmentReader{ctx: r.ctx, store: r.store, object: r.object, at: r.at, end: end}
		r.asked = end
	}
	if r.at-r.from >= aheadAfter {
		r.fetchAhead()
	}
	if r.direct != nil {
		n, err := r.direct.Read(p)
		if err == io.EOF && r.object.size > 0 {
			r.direct.Close()
			r.direct = nil
		}
		return n, err
	}
	f := r.ahead[0]
	if r.current == nil {
		<-f.done
		if f.err != nil {
			return 0, f.err
		}
		r.current = f.content.reader()
	}
	n, err := r.current.Read(p)
	if err == io.EOF {
		r.current, r.ahead = nil, r.ahead[1:]
		f.release()
	}
	return n, err
}

// segment is the end of the range that begins where ranges were asked for.
func (r *rangeReader) segment() int64 {
	return min(r.asked+int64(r.store.env.RangeSize), r.object.size)
}

// fetchAhead begins as many requests as may be.
func (r *rangeReader) fetchAhead() {
	for len(r.ahead) < r.store.env.Parallel-1 && r.asked < r.object.size {
		end := r.segment()
		if !r.store.env.memory.take(end - r.asked) {
			return
		}
		f := &fetch{budget: r.store.env.memory, size: end - r.asked, done: make(chan struct{})}
		go f.run(&segmentReader{ctx: r.ctx, store: r.store, object: r.object, at: r.asked, end: end})
		r.ahead = append(r.ahead, f)
		r.asked = end
	}
}

// Close ends all requests and waits for them.
func (r *rangeReader) Close() error {
	r.cancel()
	for _, f := range r.ahead {
		<-f.done
		f.release()
	}
	r.ahead, r.current = nil, nil
	if r.direct != nil {
		r.direct.Close()
	}
	return nil
}

// fetch is a range on its way into memory.
type fetch struct {
	budget  *budget
	size    int64
	content blocks
	err     error
	done    chan struct{} // closed when content and err are final
}

func (f *fetch) run(r *segmentReader) {
	defer close(f.done)
	defer r.Close()
	f.err = f.content.fill(r, f.size)
}

func (f *fetch) release() {
	f.content.release()
	f.budget.give(f.size)
}

// segmentReader reads one range, and asks again for what is missing when the connection breaks.
type segmentReader struct {
	ctx    context.Context
	store  *store
	object *object
	at     int64
	end    int64
	body   io.ReadCloser
	failed int  // times in a row
	done   bool // an answer came whole, also one without a byte
}

func (s *segmentReader) Read(p []byte) (int, error) {
	for {
		if s.done {
			return 0, io.EOF
		}
		if s.body == nil {
			out, err := s.object.request(s.ctx, s.store, s.at, s.end)
			if err != nil {
				return 0, err
			}
			s.body = out.Body
		}
		n, err := s.body.Read(p[:min(int64(len(p)), max(s.end-s.at, 1))])
		if s.at += int64(n); s.at > s.end {
			return 0, sdk.Errorf(sdk.Corrupt, "%q gave more than it was asked for", s.store.location(s.object.key))
		}
		if n > 0 {
			s.failed = 0
		}
		switch {
		case err == io.EOF && s.at == s.end:
			s.done = true
			return n, nil
		case err == nil:
			return n, nil
		}
		if err := s.again(err); err != nil || n > 0 {
			return n, err
		}
	}
}

// again prepares for the next attempt after a break, or says that there is none.
func (s *segmentReader) again(broken error) error {
	s.Close()
	s.failed++
	if s.ctx.Err() != nil || s.failed == attempts {
		if errors.Is(broken, io.EOF) {
			broken = io.ErrUnexpectedEOF
		}
		return s.store.failure(s.ctx, broken, "read", s.object.key)
	}
	timer := time.NewTimer(firstWait << (s.failed - 1))
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-s.ctx.Done():
	}
	return nil
}

// Close lets go of the connection.
func (s *segmentReader) Close() error {
	if s.body != nil {
		s.body.Close()
		s.body = nil
	}
	return nil
}
