package token

import (
	"crypto/sha256"
	"sync"
	"time"
)

// maxLive bounds the memory for tokens that were found good: some 300 bytes each.
const maxLive = 1 << 16

type digest = [sha256.Size]byte

// live remembers tokens that were found good, by digest. Only a look-up in the store puts a token in; Issue and Revoke only take
// tokens out. So whatever their order, what is in live is good, or is about to be taken out by a call that has not returned.
type live struct {
	max int

	mu     sync.RWMutex // guards what follows
	claims map[digest]Claims
	flows  map[Flow]map[digest]struct{}
	epoch  uint64 // counts calls of forget
}

func newLive(most int) *live {
	return &live{max: most, claims: map[digest]Claims{}, flows: map[Flow]map[digest]struct{}{}}
}

// get returns what is remembered. If that is nothing, the epoch is for add.
func (l *live) get(d digest) (c Claims, epoch uint64, ok bool) {
	l.mu.RLock()
	defer l.mu.RUnlock()
	c, ok = l.claims[d]
	return c, l.epoch, ok
}

// add remembers a token that was looked up after get returned epoch. It does nothing if a flow was forgotten in the meantime: it may
// have been this one, after the look-up.
func (l *live) add(d digest, c Claims, epoch uint64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.epoch != epoch {
		return
	}
	if len(l.claims) >= l.max {
		for other := range l.claims {
			l.drop(other)
			break
		}
	}
	l.claims[d] = c
	if l.flows[c.Flow] == nil {
		l.flows[c.Flow] = map[digest]struct{}{}
	}
	l.flows[c.Flow][d] = struct{}{}
}

// forget drops all tokens of a flow.
func (l *live) forget(f Flow) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.epoch++
	for d := range l.flows[f] {
		l.drop(d)
	}
}

// purge drops tokens that expired before a time.
func (l *live) purge(before time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for d, c := range l.claims {
		if c.Expires.Before(before) {
			l.drop(d)
		}
	}
}

// drop is called with mu held.
func (l *live) drop(d digest) {
	f := l.claims[d].Flow
	delete(l.claims, d)
	delete(l.flows[f], d)
	if len(l.flows[f]) == 0 {
		delete(l.flows, f)
	}
}
