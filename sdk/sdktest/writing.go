package sdktest

import (
	"context"
	"errors"
	"io"
	"sync/atomic"
	"testing"
	"time"

	"github.com/towpath-dataplane/towpath/sdk"
)

// writing is a WriteStream in use. One goroutine of its own takes what the sink says.
type writing struct {
	t      *testing.T
	stream sdk.WriteStream
	cancel context.CancelFunc

	durable chan *sdk.Durable // closed when the sink has said its last
	ups     []sdk.Up          // read them after that
	err     error             // of Recv, nil for io.EOF
	refused error             // of Send, if a frame did not even reach the sink

	lent     atomic.Int64 // payloads handed over
	returned atomic.Int64 // payloads released
}

// write opens a stream. It is ended by finish or cut.
func write(t *testing.T, sink sdk.DataSink, open sdk.WriteOpen) *writing {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	stream, err := sink.Write(ctx, open)
	if err != nil {
		cancel()
		t.Fatalf("open a write: %v", err)
	}
	w := &writing{t: t, stream: stream, cancel: cancel, durable: make(chan *sdk.Durable, 1024)}
	go w.recv()
	return w
}

func (w *writing) recv() {
	defer close(w.durable)
	for {
		up, err := w.stream.Recv()
		if err != nil {
			if err != io.EOF {
				w.err = err
			}
			return
		}
		w.ups = append(w.ups, up)
		if d, ok := up.(*sdk.Durable); ok {
			w.durable <- d
		}
	}
}

// send hands frames over until the sink takes no more.
func (w *writing) send(frames ...sdk.Frame) {
	for _, f := range frames {
		if d, ok := f.(*sdk.Data); ok {
			w.lent.Add(1)
			f = &sdk.Data{Payload: &lentPayload{Payload: d.Payload, back: &w.returned}}
		}
		if err := w.stream.Send(f); err != nil {
			if !errors.Is(err, io.EOF) && !errors.Is(err, context.Canceled) {
				w.refused = err
			}
			return
		}
	}
}

// lentPayload counts its release, once.
type lentPayload struct {
	sdk.Payload
	back *atomic.Int64
}

func (p *lentPayload) Release() {
	p.Payload.Release()
	p.Payload = nil // a use after the release panics
	p.back.Add(1)
}

// awaitDurable waits for the answer to a checkpoint, and returns its token.
func (w *writing) awaitDurable(sequence uint64) []byte {
	w.t.Helper()
	for {
		select {
		case d, ok := <-w.durable:
			if !ok {
				w.t.Fatalf("the sink ended before checkpoint %d was durable: %v", sequence, w.err)
			}
			if d.Sequence == sequence {
				return d.Token
			}
		case <-time.After(patience):
			w.t.Fatalf("checkpoint %d did not become durable", sequence)
		}
	}
}

// cut ends the stream as the loss of a connection does.
func (w *writing) cut() {
	w.t.Helper()
	w.cancel()
	w.close()
}

// finish waits for the sink's last word and returns its error, or that of a frame that could not be sent.
func (w *writing) finish() error {
	w.t.Helper()
	if w.refused != nil {
		w.cut()
		return w.refused
	}
	timeout := time.After(patience)
	for waiting := true; waiting; {
		select {
		case _, waiting = <-w.durable:
		case <-timeout:
			w.t.Error("the sink did not end")
			waiting = false
		}
	}
	w.close()
	w.cancel()
	return w.err
}

func (w *writing) close() {
	w.t.Helper()
	within(w.t, "Close", func() {
		for range 2 {
			if err := w.stream.Close(); err != nil {
				w.t.Errorf("Close: %v", err)
			}
		}
		for range w.durable {
		}
	})
	eventually(w.t, "all payloads are released", func() bool { return w.returned.Load() == w.lent.Load() })
}

// said returns what the sink said of one kind.
func said[U sdk.Up](w *writing) []U {
	var found []U
	for _, up := range w.ups {
		if u, ok := up.(U); ok {
			found = append(found, u)
		}
	}
	return found
}

// script makes the frames of a flow.
type script struct {
	frames   []sdk.Frame
	sequence uint64
	totals   sdk.Totals
}

// pieceSizes are the lengths of Data frames, in turn.
var pieceSizes = []int{1, 64 << 10, 4095, sdk.MaxData, 7}

// part adds a whole part.
func (s *script) part(c Content) *script {
	return s.begin(c, 0).content(c).end(c)
}

func (s *script) begin(c Content, offset int64) *script {
	info := sdk.PartInfo{
		Index: uint64(s.totals.Parts), Name: c.Name, Size: int64(len(c.Bytes)), Records: c.Records != nil,
		MediaType: "application/octet-stream", Modified: time.Unix(1_700_000_000, 0).UTC(),
	}
	if info.Records {
		info.Size = sdk.SizeUnknown
	}
	return s.add(&sdk.PartBegin{PartInfo: info, Offset: offset})
}

// content adds the bytes or records of a part, or what of them is in c.
func (s *script) content(c Content) *script {
	for i, rest := 0, c.Bytes; len(rest) > 0; i++ {
		n := min(len(rest), pieceSizes[i%len(pieceSizes)])
		s.add(&sdk.Data{Payload: sdk.BytesPayload(rest[:n])})
		rest = rest[n:]
	}
	for rest := c.Records; len(rest) > 0; {
		n := min(len(rest), batchLen)
		s.add(&sdk.RecordBatch{Batch: sdk.RecordsBatch(rest[:n])})
		rest = rest[n:]
	}
	return s
}

// end closes the part.
func (s *script) end(c Content) *script {
	end := &sdk.PartEnd{Size: c.size(), Records: int64(len(c.Records))}
	if c.Records == nil {
		end.Digests = digests(c.Bytes)
	}
	s.totals.Parts++
	s.totals.Bytes += end.Size
	s.totals.Records += end.Records
	return s.add(end)
}

func (s *script) checkpoint() *script {
	s.sequence++
	return s.add(&sdk.Checkpoint{Sequence: s.sequence, Token: []byte{byte(s.sequence)}})
}

// done adds End.
func (s *script) done() *script { return s.add(&sdk.End{Totals: s.totals}) }

func (s *script) add(f sdk.Frame) *script {
	s.frames = append(s.frames, f)
	return s
}

// take returns the frames added since the last call.
func (s *script) take() []sdk.Frame {
	frames := s.frames
	s.frames = nil
	return frames
}
