package pipeline

import (
	"context"
	"slices"

	"github.com/towpath-dataplane/towpath/sdk"
)

// maxRefused is how many parts a store may refuse to copy in one transfer, before all others are moved without asking it.
const maxRefused = 3

// decide says whether the next attempt asks for parts by reference.
func (t *Transfer) decide(ctx context.Context, job *Job) {
	asked := job.ByReference
	job.ByReference = t.InOneStore != nil && len(job.ByBytes) < maxRefused && t.InOneStore(ctx, job.From, job.To)
	if job.ByReference && !asked {
		t.Logger.Info("transfer is copied inside its store", "flow", job.Flow.ID)
	}
}

// refused notes that a part is to be moved, because the store does not copy it. It returns false for any other failure.
func (t *Transfer) refused(job *Job, err error) bool {
	e := sdk.AsError(err)
	if e.Code != sdk.NotCopied || !job.ByReference || e.Part == "" || slices.Contains(job.ByBytes, e.Part) {
		return false
	}
	job.ByBytes = append(slices.Clip(job.ByBytes), e.Part)
	t.Logger.Warn("the store does not copy a part, which is moved", "flow", job.Flow.ID, "part", e.Part, "err", err,
		"others", len(job.ByBytes) < maxRefused)
	job.Redelivery = true
	return true
}

// referred is the part with a reference that the sink has in hand.
type referred struct {
	index  uint64
	size   int64
	copied int64
	all    bool
	news   chan struct{} // holds a token when there is more
}

// refer begins a part with a reference, or ends the one before. The caller holds r.mu.
func (r *run) refer(f *sdk.PartBegin) error {
	r.referred = nil
	switch {
	case f.Reference == nil:
		return nil
	case f.Size < 0 || f.Offset != 0 || f.Records:
		return sdk.Errorf(sdk.Internal, "source: part %q has a reference, and is not one of bytes from its start on", f.Name)
	}
	r.referred = &referred{index: f.Index, size: f.Size, news: make(chan struct{}, 1)}
	return nil
}

// copied takes note of how far the sink is with a part.
func (r *run) copied(c *sdk.Copied) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	p := r.referred
	switch {
	case p == nil, c.Index != p.index:
		return nil // a part that has passed
	case c.Bytes < p.copied || c.Bytes > p.size:
		return sdk.Errorf(sdk.Internal, "the sink says that it has copied %d bytes of %d of part %d, after %d", c.Bytes, p.size, p.index, p.copied)
	}
	p.copied, p.all = c.Bytes, c.Bytes == p.size
	r.metrics.copy(r.account.copies(c.Index, c.Bytes))
	select {
	case p.news <- struct{}{}:
	default:
	}
	return nil
}

// awaitCopied waits until the sink has copied the part that has ended, if it has a reference, and returns false when ctx has ended: a
// source that only names parts must not run ahead of those that are copied.
func (r *run) awaitCopied(ctx context.Context) bool {
	for {
		r.mu.Lock()
		p := r.referred
		if p == nil || p.all {
			r.mu.Unlock()
			return true
		}
		r.mu.Unlock()
		select {
		case <-p.news:
		case <-ctx.Done():
			return false
		}
	}
}

// insideCopy is how much of the part with a reference is copied. The caller holds r.mu.
func (r *run) insideCopy() int64 {
	if r.referred == nil {
		return 0
	}
	return r.referred.copied
}

// copies counts what a store has copied of a part, and returns what of it is new: a copy that goes on says what it had before.
func (a *account) copies(index uint64, bytes int64) int64 {
	if a == nil {
		return bytes
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	more := bytes
	if a.copying.index == index && bytes >= a.copying.bytes {
		more -= a.copying.bytes
	}
	a.copying.index, a.copying.bytes = index, bytes
	a.copied += more
	return more
}
