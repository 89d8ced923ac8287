package sdk

import (
	"context"
	"sync"
)

// told keeps the reader of the part that is being sent, or was sent last, if it is an Acknowledger, and tells it what is stored.
type told struct {
	mu      sync.Mutex    // guards what follows
	reader  RecordReader  // nil if there is none to tell
	marks   []readMark    // checkpoints that were sent since the reader was opened, and are not stored
	settled chan struct{} // closed when nothing more can be stored; nil while more is sent
}

// readMark is a checkpoint with the token that the reader gave for it.
type readMark struct {
	sequence uint64
	token    []byte
}

// begin takes the reader of another part.
func (t *told) begin(r RecordReader) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.reader = r
}

// sent notes a checkpoint.
func (t *told) sent(sequence uint64, token []byte) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.reader != nil {
		t.marks = append(t.marks, readMark{sequence, token})
	}
}

func (t *told) acknowledge(sequence uint64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	stored := -1
	for stored+1 < len(t.marks) && t.marks[stored+1].sequence <= sequence {
		stored++
	}
	if stored < 0 {
		return
	}
	t.reader.(Acknowledger).Acknowledge(t.marks[stored].token)
	if t.marks = t.marks[stored+1:]; len(t.marks) == 0 && t.settled != nil {
		close(t.settled)
		t.settled = nil
	}
}

// await waits until everything that was sent is stored, or ctx ends.
func (t *told) await(ctx context.Context) {
	t.mu.Lock()
	settled := make(chan struct{})
	if len(t.marks) == 0 {
		close(settled)
	} else {
		t.settled = settled
	}
	t.mu.Unlock()
	select {
	case <-settled:
	case <-ctx.Done():
	}
}

// close closes the reader. It is told nothing any more.
func (t *told) close() {
	t.mu.Lock()
	r := t.reader
	t.reader, t.marks, t.settled = nil, nil, nil
	t.mu.Unlock()
	if r != nil {
		r.Close()
	}
}
