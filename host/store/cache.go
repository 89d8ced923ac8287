package store

import (
	"bytes"
	"slices"

	"github.com/towpath-dataplane/towpath/host/flow"
	"github.com/towpath-dataplane/towpath/sdk"
)

// maxCached is how many flows the writer remembers.
const maxCached = 1024

// row is a flow with the id of its row.
type row struct {
	id   int64
	flow *flow.Flow
}

// cache remembers flows as the writer's transaction sees them: a signal reads its flow twice, and what follows comes soon. It belongs
// to the writer's goroutine. What is in it is not shared with anyone.
type cache map[flow.Key]row

// put takes over what was stored.
func (c cache) put(id int64, f *flow.Flow) {
	if _, ok := c[f.Key]; !ok && len(c) >= maxCached {
		for other := range c {
			delete(c, other)
			break
		}
	}
	c[f.Key] = row{id, f}
}

// clone returns a copy that shares nothing with f.
func clone(f *flow.Flow) *flow.Flow {
	c := *f
	c.Labels, c.Reported = slices.Clone(f.Labels), slices.Clone(f.Reported)
	c.Skipped = slices.Clone(f.Skipped)
	c.Claims, c.Metadata, c.Digest = bytes.Clone(f.Claims), bytes.Clone(f.Metadata), bytes.Clone(f.Digest)
	c.Local = f.Local.Clone()
	c.Target, c.Remote, c.Issued = cloneAddress(f.Target), cloneAddress(f.Remote), cloneAddress(f.Issued)
	c.Checkpoint = cloneCheckpoint(f.Checkpoint)
	if f.Response != nil {
		r := *f.Response
		r.Local, r.Digest, r.Checkpoint = r.Local.Clone(), bytes.Clone(r.Digest), cloneCheckpoint(r.Checkpoint)
		r.Target, r.Issued, r.Remote = cloneAddress(r.Target), cloneAddress(r.Issued), cloneAddress(r.Remote)
		c.Response = &r
	}
	return &c
}

func cloneCheckpoint(c *flow.Checkpoint) *flow.Checkpoint {
	if c == nil {
		return nil
	}
	return &flow.Checkpoint{Source: bytes.Clone(c.Source), Sink: bytes.Clone(c.Sink)}
}

func cloneAddress(a *sdk.DataAddress) *sdk.DataAddress {
	if a == nil {
		return nil
	}
	c := a.Clone()
	return &c
}
