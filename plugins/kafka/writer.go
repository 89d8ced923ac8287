package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/towpath-dataplane/towpath/sdk"
)

const (
	// maxBufferedRecords bounds what is sent ahead of what the brokers have stored, besides the bytes in the configuration.
	maxBufferedRecords = 10_000
	// abortWait bounds giving up a transaction.
	abortWait = 2 * time.Second
)

// writer writes one flow.
type writer struct {
	*connection
	*destination
	limit   int           // bytes of a message
	stretch time.Duration // longest transaction
	flow    string        // name of the flow to the brokers
	topicID [16]byte
	known   place // what an earlier run has committed
	reached place
	behind  int64 // records of the part that are committed, counted, and come again
	begun   bool  // a transaction is under way
	begunAt time.Time

	patience time.Duration
	stuck    *time.Timer // runs out when the brokers have stored nothing for too long

	mu     sync.Mutex // guards what follows
	failed error      // why the first message that failed did
}

// newWriter opens a topic. stop ends ctx, when the writer gives up.
func (e *environment) newWriter(ctx context.Context, stop func(), d *destination, req sdk.WriteRequest) (*writer, error) {
	s := e.settings
	w := &writer{destination: d, limit: int(s.MaxMessage), stretch: time.Duration(s.TransactionTimeout) / 3, flow: flowName(req.Flow),
		patience: time.Duration(s.DeliveryTimeout)}
	opts := []kgo.Opt{
		kgo.DefaultProduceTopic(d.topic),
		kgo.ProducerBatchMaxBytes(int32(s.MaxMessage) + 4096),
		kgo.ProducerBatchCompression(d.codec),
		kgo.MaxBufferedRecords(maxBufferedRecords),
		kgo.MaxBufferedBytes(int(s.SendAhead)),
		kgo.ProducerLinger(0),
	}
	if d.partition != anyPartition {
		opts = append(opts, kgo.RecordPartitioner(kgo.ManualPartitioner()))
	}
	if d.transactional {
		opts = append(opts, kgo.TransactionalID(w.flow), kgo.TransactionTimeout(time.Duration(s.TransactionTimeout)))
	}
	c, err := e.connect(d.target, opts...)
	if err != nil {
		return nil, err
	}
	w.connection = c
	w.stuck = time.AfterFunc(w.patience, func() { w.giveUp(stop) })
	if err := w.open(ctx, req.Redelivery); err != nil {
		w.close()
		return nil, err
	}
	return w, nil
}

// giveUp fails the flow if messages wait to be stored.
func (w *writer) giveUp(stop func()) {
	if w.BufferedProduceRecords() > 0 {
		w.fail(sdk.Retryf(sdk.Unavailable, "the brokers have stored nothing for %s", w.patience))
		stop()
	}
}

// open makes sure that there is a topic to write to, and finds the place that an earlier run of the flow has reached.
func (w *writer) open(ctx context.Context, redelivery bool) error {
	detail, err := w.detailOf(ctx, w.topic)
	if err != nil {
		return err
	}
	w.topicID = detail.ID
	if _, ok := detail.Partitions[w.partition]; !ok && w.partition != anyPartition {
		return sdk.Errorf(sdk.NotFound, "topic %q has no partition %d", w.topic, w.partition)
	}
	if !w.transactional {
		return nil
	}
	if err := w.fence(ctx); err != nil {
		return err
	}
	if redelivery {
		w.known, err = w.committed(ctx)
	}
	return err
}

// close gives up what is not committed.
func (w *writer) close() {
	w.stuck.Stop()
	if w.begun {
		ctx, cancel := context.WithTimeout(context.Background(), abortWait)
		defer cancel()
		w.AbortBufferedRecords(ctx)
		w.EndTransaction(ctx, kgo.TryAbort)
	}
	w.connection.close()
}

func (w *writer) write(ctx context.Context, p *sdk.IncomingPart) error {
	at, err := w.begin(p)
	if err != nil {
		return err
	}
	if p.PartInfo.Records {
		err = w.records(ctx, p, at)
	} else {
		err = w.bytes(ctx, p)
	}
	if err != nil {
		return err
	}
	w.reached = place{part: p.Index + 1}
	if w.reached.before(w.known) {
		w.reached = w.known.clone()
	}
	if err := w.settle(ctx); err != nil {
		return err
	}
	p.Commit("topic " + w.topic)
	return nil
}

// begin moves the place to a part. at is where in it the records that come begin.
func (w *writer) begin(p *sdk.IncomingPart) (at place, err error) {
	at = place{part: p.Index}
	if len(p.Token) > 0 {
		if at, err = decodePlace(p.Token); err != nil {
			return at, err
		}
		if at.part != p.Index {
			return at, errPlace()
		}
	}
	w.reached = at.clone()
	if w.known.part == p.Index && at.before(w.known) {
		w.reached = w.known.clone()
	}
	if w.reached.lanes == nil {
		w.reached.lanes = map[int32]int64{}
	}
	w.behind = w.reached.records - at.records
	return at, nil
}

// token is the place in what comes, which can be behind the one that an earlier run has committed: records that are counted are counted
// on from there.
func (w *writer) token() []byte {
	p := w.reached
	p.records -= w.behind
	return p.encode()
}

// bytes makes a part one message, when it is whole.
func (w *writer) bytes(ctx context.Context, p *sdk.IncomingPart) error {
	if p.Size > int64(w.limit) {
		return w.tooLarge(p.Size)
	}
	content, err := io.ReadAll(io.LimitReader(p, int64(w.limit)+1))
	if err != nil {
		return err
	}
	if len(content) > w.limit {
		return w.tooLarge(int64(len(content)))
	}
	if p.Index < w.known.part {
		return nil
	}
	headers := map[string][]byte{partHeader: []byte(p.Name)}
	if p.MediaType != "" {
		headers[mediaTypeHeader] = []byte(p.MediaType)
	}
	return w.produce(ctx, sdk.Record{Key: []byte(p.Name), Value: content, Time: p.Modified, Headers: headers})
}

func (w *writer) tooLarge(n int64) error {
	return sdk.Errorf(sdk.Exhausted, "has %d bytes or more, which do not fit into one message (max_message is %d)", n, w.limit)
}

// records makes each record of a part a message, but for those that an earlier run has committed. at is how many came before.
func (w *writer) records(ctx context.Context, p *sdk.IncomingPart, at place) error {
	p.OnCheckpoint(func() ([]byte, error) {
		if err := w.settle(ctx); err != nil {
			return nil, err
		}
		return w.token(), nil
	})
	count := at.records
	for {
		batch, err := p.NextRecords()
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
		for _, r := range batch {
			count++
			fresh, err := w.pass(r, count)
			if err != nil {
				return err
			}
			if !fresh || p.Index < w.known.part {
				continue
			}
			if err := w.produce(ctx, r); err != nil {
				return err
			}
		}
		if w.begun && time.Since(w.begunAt) > w.stretch {
			if err := w.settle(ctx); err != nil {
				return err
			}
		}
	}
}

// pass moves the place behind a record, the count-th of its part. It reports false for one that was passed before.
func (w *writer) pass(r sdk.Record, count int64) (bool, error) {
	partition, offset, ok, err := placeOf(r)
	if err != nil {
		return false, err
	}
	if ok {
		if offset < w.reached.lanes[partition] {
			return false, nil
		}
		w.reached.lanes[partition] = offset + 1
	} else if w.behind = max(0, w.reached.records-count); count <= w.reached.records {
		return false, nil
	}
	w.reached.records++
	return true, nil
}

// produce hands a record to the client, and waits while that is behind.
func (w *writer) produce(ctx context.Context, r sdk.Record) error {
	m := messageOf(r)
	if n := sizeOf(m); n > w.limit+1024 {
		return sdk.Errorf(sdk.Exhausted, "a record takes about %d bytes, which do not fit into one message (max_message is %d)", n, w.limit)
	}
	if w.partition != anyPartition {
		m.Partition = w.partition
	}
	if err := w.enter(); err != nil {
		return err
	}
	if w.BufferedProduceRecords() == 0 {
		w.stuck.Reset(w.patience)
	}
	w.Produce(ctx, m, func(_ *kgo.Record, err error) {
		w.stuck.Reset(w.patience)
		if err != nil {
			w.fail(err)
		}
	})
	return w.failure(ctx)
}

func (w *writer) fail(err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.failed == nil {
		w.failed = err
	}
}

// failure says why a message could not be written.
func (w *writer) failure(ctx context.Context) error {
	w.mu.Lock()
	err := w.failed
	w.mu.Unlock()
	var gaveUp *sdk.Error
	switch {
	case errors.As(err, &gaveUp):
		return gaveUp
	case ctx.Err() != nil:
		return sdk.ErrInterrupted
	case err != nil:
		return w.connection.failure(fmt.Sprintf("write to topic %q", w.topic), err)
	}
	return nil
}

// settle makes durable what was written, with the place if it is to be exact.
func (w *writer) settle(ctx context.Context) error {
	if err := w.Flush(ctx); err != nil {
		w.fail(err)
	}
	if err := w.failure(ctx); err != nil || !w.begun {
		return err
	}
	// There are none left. But this waits until the client knows the partitions it has just written to for the first time: those that it
	// does not know yet it takes for untouched, and a transaction without any it aborts.
	if err := w.AbortBufferedRecords(ctx); err != nil {
		w.fail(err)
		return w.failure(ctx)
	}
	return w.commit(ctx)
}
