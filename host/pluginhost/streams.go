package pluginhost

import (
	"context"
	"sync"
	"sync/atomic"
	"time"
)

// streams counts the streams that are open on a process.
type streams struct {
	moves atomic.Int64 // counts what went through any of them

	mu   sync.Mutex // guards the rest
	open int
	by   map[offering]int // open ones, by the type that they are of
	idle []func()         // called when open comes to 0
}

// stirs says that something went through a stream.
func (s *streams) stirs() { s.moves.Add(1) }

// awaitStill returns when nothing has gone through any stream for d, or ctx has ended.
func (s *streams) awaitStill(ctx context.Context, d time.Duration) {
	for before := s.moves.Load(); ctx.Err() == nil; {
		sleep(ctx, d)
		now := s.moves.Load()
		if now == before {
			return
		}
		before = now
	}
}

// of is how many streams are of one type.
func (s *streams) of(to offering) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.by[to]
}

func (s *streams) count() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.open
}

func (s *streams) begin(to offering) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.open++
	if s.by == nil {
		s.by = map[offering]int{}
	}
	s.by[to]++
}

func (s *streams) end(to offering) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.open--
	s.by[to]--
	s.settle()
}

// whenIdle calls f once no stream is open: f must not block.
func (s *streams) whenIdle(f func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.idle = append(s.idle, f)
	s.settle()
}

func (s *streams) settle() {
	if s.open > 0 {
		return
	}
	for _, f := range s.idle {
		f()
	}
	s.idle = nil
}
