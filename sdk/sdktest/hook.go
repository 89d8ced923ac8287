package sdktest

import (
	"context"
	"errors"
	"io"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/towpath-dataplane/towpath/sdk"
)

// Hook stands between a Memory and a flow. It may wait, no longer than ctx, and the error it returns is what the read or the write
// fails with. It is called concurrently for different flows.
type Hook func(ctx context.Context, at Point) error

// Point is where a flow is when a Hook is called.
type Point struct {
	Flow   sdk.FlowContext
	Part   string
	Offset int64 // in the part
	Total  int64 // bytes moved since the stream was opened
}

// FailAfter returns a Hook that fails every stream with err once n bytes have passed.
func FailAfter(n int64, err error) Hook {
	return func(_ context.Context, at Point) error {
		if at.Total >= n {
			return err
		}
		return nil
	}
}

// FailOnce is FailAfter for the first stream that comes so far; the others pass.
func FailOnce(n int64, err error) Hook {
	var once sync.Once
	return func(_ context.Context, at Point) error {
		var failure error
		if at.Total >= n {
			once.Do(func() { failure = err })
		}
		return failure
	}
}

// Slow returns a Hook that waits before each piece.
func Slow(wait time.Duration) Hook {
	return func(ctx context.Context, _ Point) error {
		select {
		case <-time.After(wait):
			return nil
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// Gate stops every stream after some bytes until it is opened.
type Gate struct {
	after   int64
	reached chan struct{}
	opened  chan struct{}
	reach   sync.Once
	open    sync.Once
}

// NewGate returns a closed gate behind the first n bytes.
func NewGate(n int64) *Gate {
	return &Gate{after: n, reached: make(chan struct{}), opened: make(chan struct{})}
}

// Hook is the gate as a Hook.
func (g *Gate) Hook(ctx context.Context, at Point) error {
	if at.Total < g.after {
		return nil
	}
	g.reach.Do(func() { close(g.reached) })
	select {
	case <-g.opened:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// Reached is closed when the first stream stands before the gate.
func (g *Gate) Reached() <-chan struct{} { return g.reached }

// Open lets everything pass, now and later. It is safe to call twice.
func (g *Gate) Open() { g.open.Do(func() { close(g.opened) }) }

// hooked moves one stream's parts in pieces, with a Hook before each.
type hooked struct {
	hook  Hook
	at    Point
	piece int
}

func (h *hooked) wait(ctx context.Context) error {
	if h.hook == nil {
		return nil
	}
	return h.hook(ctx, h.at)
}

func (h *hooked) moved(n int64) {
	h.at.Offset += n
	h.at.Total += n
}

func (h *hooked) open(ctx context.Context, p memoryPart, offset int64) (io.ReadCloser, error) {
	if offset > int64(len(p.content)) {
		return nil, sdk.Errorf(sdk.Invalid, "has no byte at offset %d", offset)
	}
	h.at.Part, h.at.Offset = p.info.Name, offset
	return &bytesReader{ctx: ctx, hooked: h, rest: p.content[offset:]}, nil
}

type bytesReader struct {
	*hooked
	ctx  context.Context // of the part
	rest []byte
}

func (r *bytesReader) Read(b []byte) (int, error) {
	if err := r.wait(r.ctx); err != nil {
		return 0, err
	}
	if len(r.rest) == 0 {
		return 0, io.EOF
	}
	n := copy(b, r.rest[:min(len(r.rest), r.piece)])
	r.rest = r.rest[n:]
	r.moved(int64(n))
	return n, nil
}

func (r *bytesReader) Close() error { return nil }

func (h *hooked) openRecords(p memoryPart, token []byte) (sdk.RecordReader, error) {
	next := 0
	if token != nil {
		var err error
		if next, err = strconv.Atoi(string(token)); err != nil || next < 0 || next > len(p.records) {
			return nil, sdk.Errorf(sdk.Invalid, "not a token of this source")
		}
	}
	h.at.Part, h.at.Offset = p.info.Name, recordBytes(p.records[:next])
	return &recordReader{hooked: h, records: p.records, next: next}, nil
}

type recordReader struct {
	*hooked
	records []sdk.Record
	next    int
}

// batchLen is the number of records a Memory hands over at a time.
const batchLen = 8

func (r *recordReader) Next(ctx context.Context) ([]sdk.Record, []byte, error) {
	if err := r.wait(ctx); err != nil {
		return nil, nil, err
	}
	if r.next == len(r.records) {
		return nil, nil, io.EOF
	}
	batch := r.records[r.next:min(r.next+batchLen, len(r.records))]
	r.next += len(batch)
	r.moved(recordBytes(batch))
	return batch, []byte(strconv.Itoa(r.next)), nil
}

func (r *recordReader) Close() error { return nil }

// recordBytes is what an sdk.Totals counts for records: keys and values.
func recordBytes(records []sdk.Record) int64 {
	n := 0
	for _, r := range records {
		n += len(r.Key) + len(r.Value)
	}
	return int64(n)
}

// receive appends the bytes of in to p.
func (h *hooked) receive(ctx context.Context, in *sdk.IncomingPart, p *memoryPart) error {
	buf := make([]byte, h.piece)
	for {
		if err := h.wait(ctx); err != nil {
			return interrupted(ctx, err)
		}
		n, err := in.Read(buf)
		p.content = append(p.content, buf[:n]...)
		h.moved(int64(n))
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

// receiveRecords appends the records of in to p.
func (h *hooked) receiveRecords(ctx context.Context, in *sdk.IncomingPart, p *memoryPart) error {
	for {
		if err := h.wait(ctx); err != nil {
			return interrupted(ctx, err)
		}
		batch, err := in.NextRecords()
		for _, r := range batch {
			p.records = append(p.records, cloneRecord(r))
		}
		h.moved(recordBytes(batch))
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

// interrupted returns ErrInterrupted for an error that is the end of ctx.
func interrupted(ctx context.Context, err error) error {
	if ctx.Err() != nil && errors.Is(err, context.Cause(ctx)) {
		return sdk.ErrInterrupted
	}
	return err
}

func cloneRecord(r sdk.Record) sdk.Record {
	r.Key, r.Value = slices.Clone(r.Key), slices.Clone(r.Value)
	if r.Headers != nil {
		headers := make(map[string][]byte, len(r.Headers))
		for k, v := range r.Headers {
			headers[k] = slices.Clone(v)
		}
		r.Headers = headers
	}
	return r
}
