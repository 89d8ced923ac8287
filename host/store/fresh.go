package store

import (
	"slices"
	"sync"

	"github.com/towpath-dataplane/towpath/host/flow"
)

// maxFresh is how many flows are remembered for those who read.
const maxFresh = 1024

// fresh remembers flows as the last commit left them: every request of a counterparty reads its flow. Only a look-up in the database
// puts a flow in; the writer takes those out that it has written before the commit, and lets them in again after it. So whoever reads a
// flow after an update of it has returned reads what that has left, and nobody reads what was before when they have read what came after.
type fresh struct {
	mu      sync.RWMutex // guards what follows
	flows   map[flow.Key]*flow.Flow
	epoch   uint64 // counts calls of commit
	written []*job // those of the commit that is under way
}

// get returns a copy of what is remembered. If that is nothing, the epoch is for add.
func (c *fresh) get(key flow.Key) (f *flow.Flow, epoch uint64) {
	if f, epoch = c.view(key); f != nil {
		f = clone(f)
	}
	return f, epoch
}

// view is get without the copy.
func (c *fresh) view(key flow.Key) (f *flow.Flow, epoch uint64) {
	c.mu.RLock()
	defer c.mu.RUnlock()
	return c.flows[key], c.epoch
}

// add remembers a flow that was looked up after get returned epoch. It does nothing if flows were written in the meantime: this may be
// one of them, as it was before.
func (c *fresh) add(f *flow.Flow, epoch uint64) {
	f = clone(f)
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.epoch != epoch || slices.ContainsFunc(c.written, func(j *job) bool { return j.key == f.Key }) {
		return
	}
	if c.flows == nil {
		c.flows = map[flow.Key]*flow.Flow{}
	}
	if len(c.flows) >= maxFresh {
		for other := range c.flows {
			delete(c.flows, other)
			break
		}
	}
	c.flows[f.Key] = f
}

// commit runs do, which ends the transaction of jobs, while their flows are not remembered.
func (c *fresh) commit(jobs []*job, do func()) {
	c.mu.Lock()
	for _, j := range jobs {
		delete(c.flows, j.key)
	}
	c.written = jobs
	c.mu.Unlock()
	do()
	c.mu.Lock()
	c.epoch++
	c.written = nil
	c.mu.Unlock()
}
