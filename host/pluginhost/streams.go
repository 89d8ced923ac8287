package pluginhost

import "sync"

// streams counts the streams that are open on a process.
type streams struct {
	mu   sync.Mutex // guards the rest
	open int
	idle []func() // called when open comes to 0
}

func (s *streams) count() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.open
}

func (s *streams) begin() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.open++
}

func (s *streams) end() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.open--
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
