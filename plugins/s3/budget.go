package main

import "sync"

// budget is memory that all flows share for what makes them faster. It is never waited for: who gets none works without.
type budget struct {
	mu   sync.Mutex // guards left
	left int64
}

func newBudget(n int64) *budget { return &budget{left: n} }

// take reports whether n bytes may be used, until they are given back.
func (b *budget) take(n int64) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if n > b.left {
		return false
	}
	b.left -= n
	return true
}

func (b *budget) give(n int64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.left += n
}
