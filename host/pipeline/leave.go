package pipeline

import (
	"context"
	"errors"
	"time"

	"github.com/towpath-dataplane/towpath/sdk"
)

// leaver is a stream that can ask to be left: the flow goes on elsewhere, from a checkpoint.
type leaver interface {
	// Leave is closed when that is so. It is nil, or stays open, if it never is.
	Leave() <-chan struct{}
}

// leaveOf returns when a stream asks to be left.
func leaveOf(stream any) <-chan struct{} {
	if l, ok := stream.(leaver); ok {
		return l.Leave()
	}
	return nil
}

// errLeft says that a run has ended at a place that is stored, because a side asked for that. What was sent to the sink lies before it.
var errLeft = errors.New("the flow goes on elsewhere")

// leavePatience is how long a run that is to end stands still at a checkpoint for the sink to make it durable. One that cannot, in the
// middle of a part, is not waited for longer: the run ends behind that part.
const leavePatience = 3 * time.Second

// leaving is how far a run is with leaving its sides.
type leaving struct {
	asked  bool          // they are to be left
	at     uint64        // sequence of the checkpoint at which the run stands still; 0: at none
	stored chan struct{} // closed when that is durable at the sink
}

// leave has the run end at the next checkpoint, or at once if nothing was sent since the last that is stored.
func (r *run) leave(cancel context.CancelCauseFunc) {
	r.mu.Lock()
	r.leaving.asked = true
	clean := !r.dirty && len(r.announced)+len(r.written) == 0 && r.durable == nil &&
		(len(r.marks) == 0 || r.durableAt(r.marks[len(r.marks)-1].sequence))
	if clean {
		r.stopped = true
	}
	r.asked, r.moved = true, false
	r.mu.Unlock()
	if clean {
		cancel(errLeft)
		return
	}
	// An error means that the stream has ended; forward learns why.
	r.from.RequestCheckpoint()
}

// leaves waits, behind a checkpoint that was sent, whether the run can end there if it is to, and then returns errLeft.
func (r *run) leaves(ctx context.Context, f *sdk.Checkpoint) error {
	r.mu.Lock()
	if !r.leaving.asked {
		r.mu.Unlock()
		return nil
	}
	stored := make(chan struct{})
	r.leaving.at, r.leaving.stored = f.Sequence, stored
	if r.durableAt(f.Sequence) {
		close(stored)
	}
	r.mu.Unlock()
	patience := time.NewTimer(leavePatience)
	defer patience.Stop()
	select {
	case <-stored:
		return errLeft
	case <-ctx.Done():
		return nil
	case <-patience.C:
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.leaving.stored == nil {
		return errLeft // just now
	}
	r.leaving.at, r.leaving.stored = 0, nil
	return nil
}

// durableAt says whether the sink has made a checkpoint durable. r.mu is held.
func (r *run) durableAt(sequence uint64) bool {
	return r.stored != nil && r.stored.sequence == sequence || r.durable != nil && r.durable.sequence == sequence
}
