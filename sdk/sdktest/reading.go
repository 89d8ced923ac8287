package sdktest

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/towpath-dataplane/towpath/sdk"
)

// reading is what came out of a ReadStream. It takes only frames in their order.
type reading struct {
	parts       []*readPart
	checkpoints []place
	end         *sdk.End
	names       map[string]bool
}

type readPart struct {
	begin   *sdk.PartBegin
	bytes   []byte
	records []sdk.Record
	end     *sdk.PartEnd
}

// place is where a Checkpoint came, and its token.
type place struct {
	sequence uint64
	token    []byte
	finished int // parts before it
	bytes    int // of the next part that were before it
	records  int
}

// readAll reads a stream to its end.
func readAll(ctx context.Context, source sdk.DataSource, open sdk.ReadOpen) (*reading, error) {
	return readWith(ctx, source, open, func(sdk.ReadStream, sdk.Frame) error { return nil })
}

// readWith is readAll with something to do after each frame, before it is released.
func readWith(ctx context.Context, source sdk.DataSource, open sdk.ReadOpen, each func(sdk.ReadStream, sdk.Frame) error) (*reading, error) {
	s, err := source.Read(ctx, open)
	if err != nil {
		return nil, err
	}
	defer s.Close()
	r := &reading{}
	for {
		f, err := s.Recv()
		if err == io.EOF {
			return r, r.whole()
		}
		if err != nil {
			return r, err
		}
		if err = r.add(f); err == nil {
			err = each(s, f)
		}
		sdk.Release(f)
		if err != nil {
			return r, err
		}
	}
}

// errOrder marks what a stream must never do.
var errOrder = errors.New("the frames break the contract of ReadStream")

func broken(format string, args ...any) error {
	return fmt.Errorf("%w: %s", errOrder, fmt.Sprintf(format, args...))
}

// add takes the next frame.
func (r *reading) add(f sdk.Frame) error {
	if r.end != nil {
		return broken("%T after End", f)
	}
	p := r.open()
	switch f := f.(type) {
	case *sdk.PartBegin:
		return r.begin(f)
	case *sdk.Checkpoint:
		return r.checkpoint(f)
	case *sdk.End:
		if p != nil {
			return broken("End inside part %q", p.begin.Name)
		}
		r.end = f
		return nil
	}
	if p == nil {
		return broken("%T outside of a part", f)
	}
	switch f := f.(type) {
	case *sdk.Data:
		return p.data(f)
	case *sdk.RecordBatch:
		return p.batch(f)
	case *sdk.PartEnd:
		p.end = f
		return nil
	}
	return broken("unexpected %T", f)
}

// whole says whether io.EOF may come now.
func (r *reading) whole() error {
	if r.end == nil {
		return broken("io.EOF without End")
	}
	return nil
}

// open returns the part that has begun and not ended.
func (r *reading) open() *readPart {
	if len(r.parts) == 0 || r.parts[len(r.parts)-1].end != nil {
		return nil
	}
	return r.parts[len(r.parts)-1]
}

func (r *reading) begin(f *sdk.PartBegin) error {
	if p := r.open(); p != nil {
		return broken("PartBegin inside part %q", p.begin.Name)
	}
	if err := sdk.CheckName(f.Name); err != nil {
		return broken("%v", err)
	}
	if r.names[f.Name] {
		return broken("a second part %q", f.Name)
	}
	if r.names == nil {
		r.names = map[string]bool{}
	}
	r.names[f.Name] = true
	r.parts = append(r.parts, &readPart{begin: f})
	return nil
}

func (r *reading) checkpoint(f *sdk.Checkpoint) error {
	c := place{sequence: f.Sequence, token: f.Token, finished: len(r.parts)}
	if p := r.open(); p != nil {
		c.finished--
		c.bytes, c.records = len(p.bytes), len(p.records)
	}
	if len(f.Token) == 0 {
		return broken("checkpoint %d without a token", f.Sequence)
	}
	if n := len(r.checkpoints); n > 0 && r.checkpoints[n-1].sequence >= f.Sequence {
		return broken("checkpoint %d after checkpoint %d", f.Sequence, r.checkpoints[n-1].sequence)
	}
	r.checkpoints = append(r.checkpoints, c)
	return nil
}

func (p *readPart) data(f *sdk.Data) error {
	if p.begin.Records {
		return broken("Data in part %q, which carries records", p.begin.Name)
	}
	if f.Len() < 1 || f.Len() > sdk.MaxData {
		return broken("a Data frame of %d bytes", f.Len())
	}
	n, err := f.WriteTo(writerFunc(func(b []byte) (int, error) {
		p.bytes = append(p.bytes, b...)
		return len(b), nil
	}))
	if err != nil || n != int64(f.Len()) {
		return broken("a payload of %d bytes wrote %d: %v", f.Len(), n, err)
	}
	return nil
}

type writerFunc func([]byte) (int, error)

func (w writerFunc) Write(b []byte) (int, error) { return w(b) }

func (p *readPart) batch(f *sdk.RecordBatch) error {
	if !p.begin.Records {
		return broken("records in part %q, which carries bytes", p.begin.Name)
	}
	records, err := f.Records()
	if err != nil {
		return err
	}
	if len(records) == 0 || len(records) != f.Len() {
		return broken("a batch with %d records says that it has %d", len(records), f.Len())
	}
	for _, r := range records {
		p.records = append(p.records, cloneRecord(r))
	}
	return nil
}

// headers are what is known of the parts without their content.
func (r *reading) headers() []sdk.PartBegin {
	var headers []sdk.PartBegin
	for _, p := range r.parts {
		headers = append(headers, *p.begin)
	}
	return headers
}

// spread picks at most n places, the first and the last among them.
func spread(places []place, n int) []place {
	if len(places) <= n {
		return places
	}
	var picked []place
	for i := range n {
		picked = append(picked, places[i*(len(places)-1)/(n-1)])
	}
	return picked
}
