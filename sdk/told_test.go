package sdk_test

import (
	"context"
	"io"
	"iter"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/towpath-dataplane/towpath/sdk"
)

// queue is a source of one part, whose server has nothing until it is opened.
type queue struct {
	records int
	opened  chan struct{}

	mu     sync.Mutex // guards what follows
	stored []string   // tokens, in the order in which they were acknowledged
	closed bool
}

func (q *queue) Read(context.Context, sdk.ReadRequest) iter.Seq2[sdk.Part, error] {
	part := sdk.Part{PartInfo: sdk.PartInfo{Name: "queue"}, OpenRecords: func(context.Context, []byte) (sdk.RecordReader, error) {
		return &queueReader{queue: q}, nil
	}}
	return func(yield func(sdk.Part, error) bool) { yield(part, nil) }
}

type queueReader struct {
	*queue
	next int
}

func (r *queueReader) Next(context.Context) ([]sdk.Record, []byte, error) {
	select {
	case <-r.opened:
	case <-time.After(time.Millisecond):
		return nil, []byte(strconv.Itoa(r.next)), nil
	}
	if r.next == r.records {
		return nil, nil, io.EOF
	}
	r.next++
	return []sdk.Record{{Value: []byte("x")}}, []byte(strconv.Itoa(r.next)), nil
}

func (r *queueReader) Acknowledge(token []byte) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.stored = append(r.stored, string(token))
}

func (r *queueReader) Close() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.closed = true
	return nil
}

// A reader that listens learns what is stored: places inside its part, and the last one even after the end.
func TestAcknowledge(t *testing.T) {
	q := &queue{records: 3, opened: make(chan struct{})}
	source := sdk.NewDataSource(sdk.SourceType{AddressType: sdk.AddressType{Type: "Queue"}, Source: q})
	s, err := source.Read(t.Context(), sdk.ReadOpen{Address: sdk.DataAddress{Type: "Queue"}})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	var checkpoints []uint64
	for {
		f, err := s.Recv()
		if err == io.EOF {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		switch f := f.(type) {
		case *sdk.PartBegin:
			s.RequestCheckpoint() // it comes although there is no record
		case *sdk.Checkpoint:
			if len(checkpoints) == 0 {
				close(q.opened)
			}
			checkpoints = append(checkpoints, f.Sequence)
		}
		sdk.Release(f)
	}
	for _, c := range checkpoints {
		s.Acknowledge(c)
	}
	<-s.(interface{ Settled() <-chan struct{} }).Settled()
	if want := []string{"0", "3"}; !slices.Equal(q.stored, want) || !q.closed {
		t.Errorf("the reader was told of %q, closed %t; want %q, true", q.stored, q.closed, want)
	}
}
