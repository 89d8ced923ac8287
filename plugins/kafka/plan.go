package main

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"

	"github.com/towpath-dataplane/towpath/sdk"
)

// open begins to read what a selection asks for, from the place of a token on.
func (e *environment) open(ctx context.Context, sel *selection, token []byte) (*reader, error) {
	var before mark
	if token != nil {
		var err error
		if before, err = decodeMark(token); err != nil {
			return nil, err
		}
	}
	c, err := e.connect(sel.target)
	if err != nil {
		return nil, err
	}
	p := planner{connection: c, selection: sel}
	place, err := p.plan(ctx, before)
	c.close()
	if err != nil {
		return nil, err
	}
	return e.newReader(sel, place, before)
}

// planner finds out where a flow begins and ends in each partition.
type planner struct {
	*connection
	*selection
}

func (p *planner) plan(ctx context.Context, before mark) (mark, error) {
	detail, err := p.detailOf(ctx, p.topic)
	if err != nil {
		return mark{}, err
	}
	place := mark{topic: detail.ID, lanes: map[int32]lane{}}
	if before.lanes != nil && before.topic != place.topic {
		return mark{}, sdk.Errorf(sdk.Corrupt, "topic %q is another one of the same name than the one that was read before", p.topic)
	}
	partitions := p.partitions
	if partitions == nil {
		partitions = slices.Sorted(maps.Keys(detail.Partitions))
	}
	limits, err := p.limits(ctx)
	if err != nil {
		return mark{}, err
	}
	for _, n := range partitions {
		l, err := limits.lane(n, before)
		if err != nil {
			return mark{}, err
		}
		place.lanes[n] = l
	}
	return place, nil
}

// detailOf returns what the brokers say of the topic.
func (c *connection) detailOf(ctx context.Context, topic string) (kadm.TopicDetail, error) {
	doing := fmt.Sprintf("look up topic %q", topic)
	details, err := c.admin.ListTopicsWithInternal(ctx, topic)
	if err != nil {
		return kadm.TopicDetail{}, c.failure(doing, err)
	}
	detail := details[topic]
	if detail.Err != nil {
		return detail, c.failure(doing, detail.Err)
	}
	return detail, nil
}

// limits are offsets of a topic, each by partition.
type limits struct {
	*selection
	first, end    kadm.ListedOffsets
	starts, stops kadm.ListedOffsets // of the times in the address, if there are such
}

func (p *planner) limits(ctx context.Context) (*limits, error) {
	l := &limits{selection: p.selection}
	end := p.admin.ListEndOffsets
	if p.committed {
		end = p.admin.ListCommittedOffsets
	}
	if err := p.list(ctx, &l.first, p.admin.ListStartOffsets); err != nil {
		return nil, err
	}
	if err := p.list(ctx, &l.end, end); err != nil {
		return nil, err
	}
	if err := p.listAfter(ctx, &l.starts, p.start); err != nil {
		return nil, err
	}
	return l, p.listAfter(ctx, &l.stops, p.stop)
}

func (p *planner) list(ctx context.Context, into *kadm.ListedOffsets, ask func(context.Context, ...string) (kadm.ListedOffsets, error)) error {
	offsets, err := ask(ctx, p.topic)
	if err == nil {
		err = offsets.Error()
	}
	if err != nil {
		return p.failure(fmt.Sprintf("ask for offsets of topic %q", p.topic), err)
	}
	*into = offsets
	return nil
}

func (p *planner) listAfter(ctx context.Context, into *kadm.ListedOffsets, b bound) error {
	if b.time.IsZero() {
		return nil
	}
	return p.list(ctx, into, func(ctx context.Context, topics ...string) (kadm.ListedOffsets, error) {
		return p.admin.ListOffsetsAfterMilli(ctx, b.time.UnixMilli(), topics...)
	})
}

// lane is where to read a partition: from where it was read before, or else from where the address says.
func (l *limits) lane(partition int32, before mark) (lane, error) {
	first, ok := l.first.Lookup(l.topic, partition)
	end, endOK := l.end.Lookup(l.topic, partition)
	if !ok || !endOK {
		return lane{}, sdk.Errorf(sdk.NotFound, "topic %q has no partition %d", l.topic, partition)
	}
	at, known := before.lanes[partition]
	switch {
	case known && at.stop == noStop && !l.stop.time.IsZero():
		at.stop = l.finish(partition, end.Offset)
	case known:
	case before.lanes != nil && l.finite() && l.stop.time.IsZero(): // the partition was added since, behind the end
		at = lane{first.Offset, first.Offset}
	case before.lanes != nil:
		at = lane{first.Offset, l.finish(partition, end.Offset)}
	default:
		at = lane{l.begin(partition, first.Offset, end.Offset), l.finish(partition, end.Offset)}
	}
	if at.ended() || l.group != "" || first.Offset <= at.next && at.next <= end.Offset {
		return at, nil
	}
	switch l.onLoss {
	case lossEarliest:
		at.next = first.Offset
	case lossLatest:
		at.next = end.Offset
	default:
		return at, sdk.Errorf(sdk.Corrupt, "partition %d of topic %q has no offset %d any more, from which the flow goes on: it has %d to %d; onLoss "+
			"says what to do", partition, l.topic, at.next, first.Offset, end.Offset)
	}
	return at, nil
}

func (l *limits) begin(partition int32, first, end int64) int64 {
	if l.start.edge == edgeLatest {
		return end
	}
	if at, ok := l.starts.Lookup(l.topic, partition); ok {
		return at.Offset
	}
	if at, ok := l.start.offsets[partition]; ok {
		return at
	}
	return first
}

func (l *limits) finish(partition int32, end int64) int64 {
	if l.stop.edge == edgeLatest {
		return end
	}
	if at, ok := l.stops.Lookup(l.topic, partition); ok && !l.stop.time.After(time.Now()) {
		return at.Offset
	}
	if at, ok := l.stop.offsets[partition]; ok {
		return at
	}
	if l.stop.offsets != nil {
		return 0 // nothing is asked for of this one
	}
	return noStop
}
