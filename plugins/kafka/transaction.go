package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/towpath-dataplane/towpath/sdk"
)

// A transactional writer has a transactional id and a consumer group that nobody joins, both named after the flow. Each transaction
// commits, beside its messages, an offset of that group for partition 0 of the topic; the text that goes with the offset is the place.
// So the messages and the place are there together or not at all. The next run takes over the transactional id, which aborts what an
// earlier one has left and keeps it from going on, and then reads the place.

// retryPause is how long a request waits for the end of the transaction before.
const retryPause = 20 * time.Millisecond

// fence takes the transactional id over.
func (w *writer) fence(ctx context.Context) error {
	if _, _, err := w.ProducerID(ctx); err != nil {
		return w.connection.failure("begin to write in transactions", err)
	}
	return nil
}

// committed returns the place that was committed last, the beginning if there is none.
func (w *writer) committed(ctx context.Context) (place, error) {
	at, err := w.fetchOffset(ctx)
	if err != nil {
		return place{}, w.connection.failure(fmt.Sprintf("ask for the flow's place in group %q", w.flow), err)
	}
	if at == nil || at.Offset < 0 || at.Metadata == nil {
		return place{}, nil
	}
	p, err := parsePlace(*at.Metadata)
	if err != nil {
		return p, sdk.Errorf(sdk.Conflict, "group %q was used for something else: it has no place of a flow", w.flow)
	}
	return p, nil
}

// fetchOffset returns the offset of the flow's group, nil if there is none. It asks for the one partition: of a group's partitions in
// general brokers leave out those whose first offset is still being committed.
func (w *writer) fetchOffset(ctx context.Context) (*kmsg.OffsetFetchResponseGroupTopicPartition, error) {
	topic := kmsg.NewOffsetFetchRequestGroupTopic()
	topic.Topic, topic.TopicID, topic.Partitions = w.topic, w.topicID, []int32{0}
	group := kmsg.NewOffsetFetchRequestGroup()
	group.Group, group.Topics = w.flow, []kmsg.OffsetFetchRequestGroupTopic{topic}
	req := kmsg.NewPtrOffsetFetchRequest()
	req.Groups, req.RequireStable = []kmsg.OffsetFetchRequestGroup{group}, true
	resp, err := req.RequestWith(ctx, w.Client)
	if err != nil {
		return nil, err
	}
	for _, g := range resp.Groups {
		if err := kerr.ErrorForCode(g.ErrorCode); errors.Is(err, kerr.GroupIDNotFound) {
			return nil, nil
		} else if err != nil {
			return nil, err
		}
		for _, t := range g.Topics {
			for _, p := range t.Partitions {
				return &p, kerr.ErrorForCode(p.ErrorCode)
			}
		}
	}
	return nil, nil
}

// enter begins a transaction if the writer needs one and has none.
func (w *writer) enter() error {
	if !w.transactional {
		return nil
	}
	if !w.begun {
		if err := w.BeginTransaction(); err != nil {
			return w.connection.failure("begin a transaction", err)
		}
		w.begun, w.begunAt = true, time.Now()
	}
	return nil
}

// commit ends the transaction, whose messages have all been stored, with the place.
func (w *writer) commit(ctx context.Context) error {
	if err := w.addPlace(ctx); err != nil {
		return err
	}
	if err := w.EndTransaction(ctx, kgo.TryCommit); err != nil {
		return w.connection.failure("commit a transaction", err)
	}
	w.begun = false
	return w.confirm(ctx)
}

// confirm makes sure that the transaction was committed. The client aborts one, and reports no error, if it believes that nothing was
// stored in it.
func (w *writer) confirm(ctx context.Context) error {
	var at place
	err := w.patiently(ctx, func() (err error) {
		at, err = w.committed(ctx)
		return err
	})
	if err != nil {
		return err
	}
	if !bytes.Equal(at.encode(), w.reached.encode()) {
		return sdk.Retryf(sdk.Unavailable, "a transaction for topic %q was not committed, though nothing had failed", w.topic)
	}
	return nil
}

// addPlace makes the place part of the transaction.
func (w *writer) addPlace(ctx context.Context) error {
	text, err := w.reached.text()
	if err != nil {
		return err
	}
	id, epoch, err := w.ProducerID(ctx)
	if err == nil {
		err = w.patiently(ctx, func() error { return w.addGroup(ctx, id, epoch) })
	}
	if err == nil {
		err = w.patiently(ctx, func() error { return w.addOffset(ctx, id, epoch, text) })
	}
	if err != nil {
		return w.connection.failure("add the flow's place to a transaction", err)
	}
	return nil
}

func (w *writer) addGroup(ctx context.Context, id int64, epoch int16) error {
	req := kmsg.NewPtrAddOffsetsToTxnRequest()
	req.TransactionalID, req.ProducerID, req.ProducerEpoch, req.Group = w.flow, id, epoch, w.flow
	resp, err := req.RequestWith(ctx, w.Client)
	if err != nil {
		return err
	}
	return kerr.ErrorForCode(resp.ErrorCode)
}

func (w *writer) addOffset(ctx context.Context, id int64, epoch int16, text string) error {
	p := kmsg.NewTxnOffsetCommitRequestTopicPartition()
	p.Offset, p.Metadata = w.reached.records, &text
	topic := kmsg.NewTxnOffsetCommitRequestTopic()
	topic.Topic, topic.TopicID, topic.Partitions = w.topic, w.topicID, []kmsg.TxnOffsetCommitRequestTopicPartition{p}
	req := kmsg.NewPtrTxnOffsetCommitRequest()
	req.TransactionalID, req.Group, req.ProducerID, req.ProducerEpoch = w.flow, w.flow, id, epoch
	req.Topics = append(req.Topics, topic)
	resp, err := req.RequestWith(ctx, w.Client)
	if err != nil {
		return err
	}
	for _, t := range resp.Topics {
		for _, p := range t.Partitions {
			if err := kerr.ErrorForCode(p.ErrorCode); err != nil {
				return err
			}
		}
	}
	return nil
}

// patiently repeats a request while the brokers say that it is too early for it.
func (w *writer) patiently(ctx context.Context, request func() error) error {
	for deadline := time.Now().Add(w.stretch); ; {
		err := request()
		if !kerr.IsRetriable(err) && !errors.Is(err, kerr.ConcurrentTransactions) || time.Now().After(deadline) {
			return err
		}
		select {
		case <-time.After(retryPause):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}
