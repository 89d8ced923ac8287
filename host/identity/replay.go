package identity

import (
	"container/heap"
	"crypto/sha256"
	"fmt"
	"sync"
	"time"
)

// Replay remembers the ids of tokens that were used, by issuer, until they have expired. It is safe for concurrent use.
//
// It forgets no id before its time: when it is full, tokens are refused.
type Replay struct {
	max   int
	clock func() time.Time

	mu   sync.Mutex // guards what follows
	seen map[usedID]struct{}
	ends endings
}

// usedID is a digest, so that long ids take no more room than short ones.
type usedID [sha256.Size]byte

// NewReplay returns a Replay that remembers up to max ids, of some 150 bytes each. A nil clock is time.Now.
func NewReplay(max int, clock func() time.Time) *Replay {
	return &Replay{max: max, clock: orNow(clock), seen: map[usedID]struct{}{}}
}

// use notes that a token was used which is good until end. The error wraps ErrReplay.
func (r *Replay) use(issuer, id string, end time.Time) error {
	used := usedID(sha256.Sum256(fmt.Appendf(nil, "%d %s%s", len(issuer), issuer, id)))
	r.mu.Lock()
	defer r.mu.Unlock()
	now := r.clock()
	for len(r.ends) > 0 && !now.Before(r.ends[0].at) {
		delete(r.seen, heap.Pop(&r.ends).(ending).id)
	}
	if _, ok := r.seen[used]; ok {
		return ErrReplay
	}
	if len(r.seen) >= r.max {
		return fmt.Errorf("%w, or perhaps not: too many are remembered to tell", ErrReplay)
	}
	r.seen[used] = struct{}{}
	heap.Push(&r.ends, ending{end, used})
	return nil
}

// ending says when an id is forgotten.
type ending struct {
	at time.Time
	id usedID
}

// endings is a heap whose first element is the next to be forgotten.
type endings []ending

func (e endings) Len() int           { return len(e) }
func (e endings) Less(i, j int) bool { return e[i].at.Before(e[j].at) }
func (e endings) Swap(i, j int)      { e[i], e[j] = e[j], e[i] }
func (e *endings) Push(x any)        { *e = append(*e, x.(ending)) }

func (e *endings) Pop() any {
	old := *e
	last := old[len(old)-1]
	*e = old[:len(old)-1]
	return last
}
