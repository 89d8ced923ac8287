package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/towpath-dataplane/towpath/sdk"
)

const (
	// A batch has no more records and, but for a single larger one, bytes than these.
	maxBatchRecords = 1024
	maxBatchBytes   = 512 << 10
	// idleWait is how long Next waits for a message before it returns nothing.
	idleWait = 200 * time.Millisecond
	// checkEvery is how often the topic is looked up: for partitions that were added, and to learn that it is out of reach.
	checkEvery = 15 * time.Second
	// groupCheckEvery is how often a finite flow asks how far the other members of its group are.
	groupCheckEvery = time.Second
	// leaveWait bounds the last commit and the good-bye to the group, together.
	leaveWait = 2 * time.Second
)

// reader reads one topic. Next is for one goroutine; Acknowledge and what the client calls may run beside it.
type reader struct {
	*connection
	*selection
	planner   *planner
	pending   []*kgo.Record // fetched, not yet given out
	batch     []sdk.Record
	checked   time.Time
	asked     time.Time // when the group was asked for its offsets
	groupDone bool

	mu    sync.Mutex // guards what follows
	place mark       // of a group: what this member has
	ahead mark       // what a token says; of a group, as long as nobody has committed more
	plan  mark       // where the flow begins and ends, all partitions
	acked map[int32]int64
}

var (
	_ sdk.RecordReader = (*reader)(nil)
	_ sdk.Acknowledger = (*reader)(nil)
)

func (e *environment) newReader(sel *selection, plan, before mark) (*reader, error) {
	r := &reader{selection: sel, plan: plan, ahead: before, checked: time.Now(), acked: map[int32]int64{}}
	opts := []kgo.Opt{
		kgo.FetchMaxWait(e.fetchWait),
		kgo.FetchMaxBytes(int32(e.settings.FetchAhead)),
		kgo.FetchMaxPartitionBytes(int32(min(e.settings.FetchAhead, 1<<20))),
		kgo.ConsumeResetOffset(sel.reset()),
		kgo.KeepControlRecords(), // they tell that the end is reached where a transaction's marker is the last thing
	}
	if sel.committed {
		opts = append(opts, kgo.FetchIsolationLevel(kgo.ReadCommitted()))
	}
	if sel.group == "" {
		r.place = mark{topic: plan.topic, lanes: maps.Clone(plan.lanes)}
		opts = append(opts, kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{sel.topic: r.offsets(plan.lanes)}))
	} else {
		r.place = mark{topic: plan.topic, lanes: map[int32]lane{}}
		opts = append(opts, kgo.ConsumerGroup(sel.group), kgo.ConsumeTopics(sel.topic), kgo.DisableAutoCommit(),
			kgo.AdjustFetchOffsetsFn(r.assigned), kgo.OnPartitionsRevoked(r.revoked), kgo.OnPartitionsLost(r.lost))
	}
	c, err := e.connect(sel.target, opts...)
	if err != nil {
		return nil, err
	}
	r.connection = c
	r.planner = &planner{connection: c, selection: sel}
	return r, nil
}

// reset is what the client does when a message that it is to fetch is gone.
func (s *selection) reset() kgo.Offset {
	switch s.onLoss {
	case lossEarliest:
		return kgo.NewOffset().AtStart()
	case lossLatest:
		return kgo.NewOffset().AtEnd()
	}
	return kgo.NoResetOffset()
}

// offsets are those to fetch from, of lanes that have not ended.
func (s *selection) offsets(lanes map[int32]lane) map[int32]kgo.Offset {
	offsets := map[int32]kgo.Offset{}
	for p, l := range lanes {
		if !l.ended() {
			offsets[p] = s.reset().At(l.next)
		}
	}
	return offsets
}

// Next returns messages as records. A silence gives an empty batch.
func (r *reader) Next(ctx context.Context) ([]sdk.Record, []byte, error) {
	for polled := false; ; polled = true {
		batch, token, err := r.take()
		if err != nil || len(batch) > 0 {
			return batch, token, err
		}
		ended, err := r.ended(ctx)
		switch {
		case err != nil:
			return nil, nil, err
		case ended:
			return nil, nil, io.EOF
		case polled:
			return nil, token, nil
		}
		if err := r.poll(ctx); err != nil {
			return nil, nil, err
		}
	}
}

// take makes a batch of what is pending, and moves the place behind it.
func (r *reader) take() ([]sdk.Record, []byte, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.batch = r.batch[:0]
	size := 0
	for len(r.pending) > 0 && len(r.batch) < maxBatchRecords {
		m := r.pending[0]
		l, mine := r.place.lanes[m.Partition]
		if mine && !l.ended() && m.Offset >= l.next {
			if l.stop != noStop && m.Offset >= l.stop {
				l.next = l.stop
			} else if !m.Attrs.IsControl() {
				n := sizeOf(m)
				if size += n; size > maxBatchBytes && len(r.batch) > 0 {
					break
				}
				record, err := r.record(m, n)
				if err != nil {
					return nil, nil, err
				}
				r.batch = append(r.batch, record)
				l.next = m.Offset + 1
			} else {
				l.next = m.Offset + 1
			}
			r.place.lanes[m.Partition] = l
			if l.ended() {
				r.PauseFetchPartitions(map[string][]int32{r.topic: {m.Partition}})
			}
		}
		r.pending[0] = nil
		r.pending = r.pending[1:]
	}
	return r.batch, r.token(), nil
}

func (r *reader) record(m *kgo.Record, size int) (sdk.Record, error) {
	if size > mostMessage {
		return sdk.Record{}, sdk.Errorf(sdk.Exhausted, "the message at offset %d of partition %d has about %d bytes, more than the %d that can be moved",
			m.Offset, m.Partition, size, mostMessage)
	}
	return recordOf(m, r.lastHeader)
}

// token is for the place that is reached. Of a group it has what earlier members of the flow have read too. r.mu is held.
func (r *reader) token() []byte {
	if r.group == "" {
		return r.place.encode()
	}
	all := mark{topic: r.place.topic, lanes: map[int32]lane{}}
	maps.Copy(all.lanes, r.ahead.lanes)
	maps.Copy(all.lanes, r.place.lanes)
	return all.encode()
}

// poll waits a while for messages.
func (r *reader) poll(ctx context.Context) error {
	if err := r.check(ctx); err != nil {
		return err
	}
	wait, cancel := context.WithTimeout(ctx, idleWait)
	defer cancel()
	fetches := r.PollRecords(wait, maxBatchRecords)
	if err := ctx.Err(); err != nil {
		return context.Cause(ctx)
	}
	for _, e := range fetches.Errors() {
		if wait.Err() != nil && errors.Is(e.Err, wait.Err()) {
			continue
		}
		var lost *kgo.ErrDataLoss
		if errors.As(e.Err, &lost) && r.onLoss != lossFail {
			continue
		}
		return r.failure(fmt.Sprintf("fetch from partition %d of topic %q", e.Partition, r.topic), e.Err)
	}
	r.pending = append(r.pending[:0], fetches.Records()...)
	return nil
}

// check looks the topic up now and then.
func (r *reader) check(ctx context.Context) error {
	timeUp := !r.stop.time.IsZero() && !r.stop.time.After(time.Now()) && r.checked.Before(r.stop.time)
	if time.Since(r.checked) < checkEvery && !timeUp {
		return nil
	}
	r.mu.Lock()
	before := mark{topic: r.plan.topic, lanes: maps.Clone(r.plan.lanes)}
	maps.Copy(before.lanes, r.place.lanes)
	r.mu.Unlock()
	plan, err := r.planner.plan(ctx, before)
	if err != nil {
		return err
	}
	r.checked = time.Now()
	r.replan(plan)
	return nil
}

// replan takes over ends that are known now, and partitions that were added.
func (r *reader) replan(plan mark) {
	r.mu.Lock()
	defer r.mu.Unlock()
	added := map[int32]lane{}
	for p, l := range plan.lanes {
		if _, known := r.plan.lanes[p]; !known {
			added[p] = l
		}
		if was, mine := r.place.lanes[p]; mine {
			was.stop = l.stop
			r.place.lanes[p] = was
		}
		if was, known := r.plan.lanes[p]; known {
			l.next = was.next
		}
		r.plan.lanes[p] = l
	}
	if r.group == "" && len(added) > 0 {
		maps.Copy(r.place.lanes, added)
		r.AddConsumePartitions(map[string]map[int32]kgo.Offset{r.topic: r.offsets(added)})
	}
}

// ended reports whether everything up to the end was read: by this member, or by others of its group.
func (r *reader) ended(ctx context.Context) (bool, error) {
	if !r.finite() || !r.mineEnded() {
		return false, nil
	}
	if r.group == "" || r.groupDone {
		return true, nil
	}
	if time.Since(r.asked) < groupCheckEvery {
		return false, nil
	}
	r.asked = time.Now()
	committed, err := r.admin.FetchOffsets(ctx, r.group)
	if err != nil && !errors.Is(err, kerr.GroupIDNotFound) { // which is so before its first commit
		return false, r.failure(fmt.Sprintf("ask for offsets of group %q", r.group), err)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	for p, l := range r.plan.lanes {
		if mine, ok := r.place.lanes[p]; ok {
			l = mine
		} else if at, ok := committed.Lookup(r.topic, p); ok && at.At > l.next {
			l.next = at.At
		}
		if !l.ended() {
			return false, nil
		}
	}
	r.groupDone = true
	return true, nil
}

func (r *reader) mineEnded() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, l := range r.place.lanes {
		if !l.ended() {
			return false
		}
	}
	return true
}

// Acknowledge commits a place that is stored, if the flow is in a group.
func (r *reader) Acknowledge(token []byte) {
	m, err := decodeMark(token)
	if r.group == "" || err != nil {
		return
	}
	r.mu.Lock()
	for p, l := range m.lanes {
		if _, mine := r.place.lanes[p]; mine {
			r.acked[p] = max(r.acked[p], l.next)
		}
	}
	commit := r.commit()
	r.mu.Unlock()
	r.CommitOffsets(context.Background(), commit, nil)
}

// commit is what this member may commit. r.mu is held.
func (r *reader) commit() map[string]map[int32]kgo.EpochOffset {
	offsets := map[int32]kgo.EpochOffset{}
	for p, next := range r.acked {
		if _, mine := r.place.lanes[p]; mine {
			offsets[p] = kgo.EpochOffset{Epoch: -1, Offset: next}
		}
	}
	return map[string]map[int32]kgo.EpochOffset{r.topic: offsets}
}

// assigned says where to read partitions that this member was given: from what the group has committed or from what the flow has
// stored, whichever is further. Where neither says anything, the address does.
func (r *reader) assigned(_ context.Context, offsets map[string]map[int32]kgo.Offset) (map[string]map[int32]kgo.Offset, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for p, o := range offsets[r.topic] {
		l, known := r.plan.lanes[p]
		if !known {
			l = lane{stop: noStop}
		}
		if stored, ok := r.ahead.lanes[p]; ok {
			l.next = stored.next
		}
		if at := o.EpochOffset().Offset; at >= 0 {
			if _, ok := r.ahead.lanes[p]; !ok || at > l.next {
				l.next = at
			}
		}
		r.place.lanes[p] = l
		offsets[r.topic][p] = r.reset().At(l.next)
	}
	return offsets, nil
}

// revoked commits what is stored, before others go on from there.
func (r *reader) revoked(ctx context.Context, c *kgo.Client, partitions map[string][]int32) {
	r.mu.Lock()
	commit := r.commit()
	r.mu.Unlock()
	if len(commit[r.topic]) > 0 {
		ctx, cancel := context.WithTimeout(ctx, leaveWait)
		defer cancel()
		c.CommitOffsetsSync(ctx, commit, nil)
	}
	r.lost(ctx, c, partitions)
}

// lost forgets partitions that others have now. What is stored of them counts if they come back.
func (r *reader) lost(_ context.Context, _ *kgo.Client, partitions map[string][]int32) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.ahead.lanes == nil {
		r.ahead = mark{topic: r.place.topic, lanes: map[int32]lane{}}
	}
	for _, p := range partitions[r.topic] {
		if l, mine := r.place.lanes[p]; mine {
			if stored, ok := r.acked[p]; ok {
				l.next = stored
				r.ahead.lanes[p] = l
			}
			delete(r.place.lanes, p)
			delete(r.acked, p)
		}
	}
}

// Close commits what is stored and leaves the group.
func (r *reader) Close() error {
	if r.group != "" {
		ctx, cancel := context.WithTimeout(context.Background(), leaveWait)
		defer cancel()
		r.mu.Lock()
		commit := r.commit()
		r.mu.Unlock()
		if len(commit[r.topic]) > 0 {
			r.CommitOffsetsSync(ctx, commit, nil)
		}
		r.LeaveGroupContext(ctx)
	}
	r.close()
	return nil
}
