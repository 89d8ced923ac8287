package sdktest

import (
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/towpath-dataplane/towpath/sdk"
)

// CopyCase is what TestCopy has to know about a source and a sink of one plugin whose stores copy by themselves.
type CopyCase struct {
	// Parts are of bytes, with names in an order. One of them should be so large that it is copied in several steps.
	Parts []Content
	// New returns a source with the parts, and a sink with an empty store behind it. Every test of the suite calls it once.
	New func(t *testing.T) Copying
}

// Copying is a source and a sink at addresses in one store.
type Copying struct {
	Source sdk.DataSource
	From   sdk.DataAddress // names exactly the parts
	Store                  // the sink, its address, and what is there
	// Elsewhere are addresses of the sink in other stores, or that are not reached with the same credentials.
	Elsewhere []sdk.DataAddress
	// Secrets are values that the name of a store must not have in it.
	Secrets []string
	// Replace gives a part at the source another content.
	Replace func(name string, content []byte) error
}

// TestCopy runs the suite that a source and a sink have to pass that are Copiers, besides TestSource and TestSink.
func TestCopy(t *testing.T, c CopyCase) {
	for _, test := range []struct {
		name string
		run  func(*testing.T, CopyCase, Copying)
	}{
		{"stores", copyNamesStores},
		{"whole", copyWhole},
		{"by bytes", copyHeedsBytes},
		{"redelivery", copyTakesRedelivery},
		{"cut", copyResumes},
		{"deprovision", copyDeprovisions},
		{"changed", copyRefusesChanged},
		{"changed after a cut", copyRestartsChanged},
		{"to bytes after a cut", copyGivesWay},
		{"bad reference", copyRefusesReference},
	} {
		t.Run(test.name, func(t *testing.T) {
			s := c.New(t)
			checkLeaks(t)
			test.run(t, c, s)
		})
	}
}

func (s Copying) read() sdk.ReadOpen {
	return sdk.ReadOpen{Flow: flow("flow-1"), Address: s.From, Digests: sdk.Algorithms(), ByReference: true}
}

// largest is the index of the part that takes longest.
func (c CopyCase) largest() int {
	largest := 0
	for i, p := range c.Parts {
		if len(p.Bytes) > len(c.Parts[largest].Bytes) {
			largest = i
		}
	}
	return largest
}

// with returns the parts with another content for one of them.
func (c CopyCase) with(i int, content []byte) []Content {
	parts := slices.Clone(c.Parts)
	parts[i].Bytes = content
	return parts
}

func copyNamesStores(t *testing.T, _ CopyCase, s Copying) {
	type asking func(sdk.DataAddress) (string, error)
	name := func(ask asking, a sdk.DataAddress) string {
		first, err := ask(a)
		if err != nil {
			t.Fatalf("Store: %v", err)
		}
		if second, err := ask(a); err != nil || second != first {
			t.Errorf("the store is %q and then %q, %v", first, second, err)
		}
		for _, secret := range s.Secrets {
			if strings.Contains(first, secret) {
				t.Errorf("the name %q of the store has a secret in it", first)
			}
		}
		if len(first) > 256 {
			t.Errorf("the name of the store has %d bytes", len(first))
		}
		return first
	}
	source := asking(func(a sdk.DataAddress) (string, error) { return s.Source.Store(t.Context(), a) })
	sink := asking(func(a sdk.DataAddress) (string, error) { return s.Sink.Store(t.Context(), a) })
	from, to := name(source, s.From), name(sink, s.Address)
	if from != to || from == "" {
		t.Errorf("the source is in the store %q, the sink in %q", from, to)
	}
	for _, a := range s.Elsewhere {
		if got := name(sink, a); got == from {
			t.Errorf("an address in another store is in %q as well", got)
		}
	}
	other := s.From.Clone()
	other.Type = "no-such-type"
	_, err := source(other)
	wantCode(t, "Store of another type", err, sdk.Invalid)
}

// relay is a flow from the source to the sink.
type relay struct {
	t      *testing.T
	stream sdk.ReadStream
	*writing
	begun   *sdk.PartBegin // the last
	inside  uint64         // the checkpoint in it
	tokens  map[uint64][]byte
	end     *sdk.End
	byBytes map[string]int64 // how many bytes came of a part
}

func (s Copying) relay(t *testing.T, read sdk.ReadOpen, w sdk.WriteOpen) *relay {
	t.Helper()
	stream, err := s.Source.Read(t.Context(), read)
	if err != nil {
		t.Fatalf("open a read: %v", err)
	}
	t.Cleanup(func() { stream.Close() })
	return &relay{t: t, stream: stream, writing: write(t, s.Sink, w), tokens: map[uint64][]byte{}, byBytes: map[string]int64{}}
}

// next moves a frame, and returns false behind the last.
func (r *relay) next() bool {
	r.t.Helper()
	f := r.take()
	if f != nil {
		r.send(f)
	}
	return f != nil
}

// take takes a frame from the source, and returns nil behind the last.
func (r *relay) take() sdk.Frame {
	r.t.Helper()
	f, err := r.stream.Recv()
	if err == io.EOF {
		return nil
	}
	if err != nil {
		r.t.Fatalf("the source: %v", err)
	}
	switch f := f.(type) {
	case *sdk.PartBegin:
		r.begun, r.inside, r.byBytes[f.Name] = f, 0, 0
	case *sdk.Checkpoint:
		r.tokens[f.Sequence] = f.Token
		if r.inside == 0 {
			r.inside = f.Sequence
		}
	case *sdk.Data:
		r.byBytes[r.begun.Name] += int64(f.Len())
	case *sdk.PartEnd:
		if r.begun.Reference != nil && (r.inside == 0 || r.begun.Size < 0 || f.Size != r.begun.Size) {
			r.t.Errorf("part %q has a reference, %d bytes, %d at its end, and the checkpoint %d", r.begun.Name, r.begun.Size, f.Size, r.inside)
		}
	case *sdk.End:
		r.end = f
	}
	return f
}

// all moves everything, and returns the sink's error.
func (r *relay) all() error {
	r.t.Helper()
	for r.next() {
	}
	r.stream.Close()
	return r.finish()
}

// check compares what was copied, from a part on, with what is expected. None of it may have come as bytes but for the parts that are named.
func (r *relay) check(s Copying, parts []Content, first int, moved ...string) {
	r.t.Helper()
	want := sdk.Totals{}
	for _, p := range parts {
		want.Parts++
		want.Bytes += p.size()
	}
	if diff := cmp.Diff(want, r.end.Totals); diff != "" {
		r.t.Errorf("totals of End (-want +got):\n%s", diff)
	}
	r.checkReceipts(first, want, parts[first:]...)
	copied := map[uint64]int64{}
	for _, c := range said[*sdk.Copied](r.writing) {
		if c.Bytes < copied[c.Index] {
			r.t.Errorf("part %d: %d bytes are copied after %d", c.Index, c.Bytes, copied[c.Index])
		}
		copied[c.Index] = c.Bytes
	}
	for i, p := range parts[first:] {
		n, isCopied := copied[uint64(first+i)]
		switch asBytes := slices.Contains(moved, p.Name); {
		case asBytes && (isCopied || r.byBytes[p.Name] != p.size()):
			r.t.Errorf("part %q was to move as bytes: %d came, %d are copied", p.Name, r.byBytes[p.Name], n)
		case !asBytes && (!isCopied || n != p.size() || r.byBytes[p.Name] != 0):
			r.t.Errorf("part %q was to be copied: %d bytes came, %d are copied", p.Name, r.byBytes[p.Name], n)
		}
	}
	s.checkStored(r.t, parts...)
	if err := s.Sink.Deprovision(r.t.Context(), flow("flow-1"), s.Address); err != nil {
		r.t.Error(err)
	}
	s.checkBegun(r.t, "after the flow", false)
	s.checkStored(r.t, parts...)
}

func copyWhole(t *testing.T, c CopyCase, s Copying) {
	r := s.relay(t, s.read(), s.open("flow-1"))
	if err := r.all(); err != nil {
		t.Fatal(err)
	}
	r.check(s, c.Parts, 0)
}

// copyHeedsBytes has one part move, and then, unasked, all.
func copyHeedsBytes(t *testing.T, c CopyCase, s Copying) {
	read, moved := s.read(), c.Parts[c.largest()].Name
	read.ByBytes = []string{moved}
	r := s.relay(t, read, s.open("flow-1"))
	if err := r.all(); err != nil {
		t.Fatal(err)
	}
	r.check(s, c.Parts, 0, moved)
	read = s.read()
	read.ByReference = false
	whole, err := readAll(t.Context(), s.Source, read)
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range whole.parts {
		if p.begin.Reference != nil || int64(len(p.bytes)) != p.end.Size {
			t.Errorf("part %q has a reference, and %d bytes of %d, without being asked for", p.begin.Name, len(p.bytes), p.end.Size)
		}
	}
}

func copyTakesRedelivery(t *testing.T, c CopyCase, s Copying) {
	for run := range 2 {
		write := s.open("flow-1")
		write.Redelivery = run > 0
		r := s.relay(t, s.read(), write)
		if err := r.all(); err != nil {
			t.Fatalf("run %d: %v", run+1, err)
		}
		r.check(s, c.Parts, 0)
	}
}

// copyHalf is a flow that was cut while its largest part was copied.
type copyHalf struct {
	index        int
	source, sink []byte // tokens
	durable      int64  // bytes of the part that are behind the sink's
}

func (c CopyCase) cut(t *testing.T, s Copying) copyHalf {
	t.Helper()
	h := copyHalf{index: c.largest()}
	r := s.relay(t, s.read(), s.open("flow-1"))
	for {
		f := r.take()
		r.send(f)
		if _, ok := f.(*sdk.PartEnd); ok && r.begun.Name == c.Parts[h.index].Name {
			break
		}
	}
	h.sink, h.source = r.awaitDurable(r.inside), r.tokens[r.inside]
	inside := r.inside
	r.cut()
	r.stream.Close()
	for _, up := range r.ups {
		if n, ok := up.(*sdk.Copied); ok && n.Index == uint64(h.index) {
			h.durable = n.Bytes
		}
		if d, ok := up.(*sdk.Durable); ok && d.Sequence == inside {
			break
		}
	}
	if h.durable == 0 {
		t.Fatal("nothing of the part was copied when its place became durable")
	}
	return h
}

func (h copyHalf) goOn(t *testing.T, s Copying, byBytes ...string) *relay {
	t.Helper()
	read, write := s.read(), s.open("flow-1")
	read.ResumeToken, read.ByBytes = h.source, byBytes
	write.ResumeToken, write.Redelivery = h.sink, true
	return s.relay(t, read, write)
}

func copyResumes(t *testing.T, c CopyCase, s Copying) {
	h := c.cut(t, s)
	for _, again := range []bool{true, false} {
		r := h.goOn(t, s)
		if again { // a second cut leaves the same place
			r.next()
			r.cut()
			r.stream.Close()
			continue
		}
		if err := r.all(); err != nil {
			t.Fatal(err)
		}
		for _, n := range said[*sdk.Copied](r.writing) {
			if n.Index == uint64(h.index) && n.Bytes < h.durable {
				t.Errorf("%d bytes were copied anew, although %d were durable", n.Bytes, h.durable)
			}
		}
		r.check(s, c.Parts, h.index)
	}
}

func copyDeprovisions(t *testing.T, c CopyCase, s Copying) {
	c.cut(t, s)
	for range 2 {
		if err := s.Sink.Deprovision(t.Context(), flow("flow-1"), s.Address); err != nil {
			t.Fatal(err)
		}
	}
	s.checkBegun(t, "after Deprovision", false)
}

// copyRefusesChanged changes the content of a part between its announcement and its copy.
func copyRefusesChanged(t *testing.T, c CopyCase, s Copying) {
	i := c.largest()
	part := c.Parts[i]
	r := s.relay(t, s.read(), s.open("flow-1"))
	for ended := false; !ended; {
		f := r.take()
		if begin, ok := f.(*sdk.PartBegin); ok && begin.Name == part.Name {
			if err := s.Replace(part.Name, Pattern(99, len(part.Bytes))); err != nil {
				t.Fatal(err)
			}
		}
		_, ended = f.(*sdk.PartEnd)
		ended = ended && r.begun.Name == part.Name
		r.send(f)
	}
	r.stream.Close()
	err := r.finish()
	wantCode(t, "a part that has changed", err, sdk.Corrupt)
	if err != nil && !sdk.AsError(err).Retryable {
		t.Errorf("the error %q cannot be retried", err)
	}
	s.checkStored(t, c.Parts[:i]...)
	write := s.open("flow-1")
	write.Redelivery = true
	r = s.relay(t, s.read(), write)
	if err := r.all(); err != nil {
		t.Fatal(err)
	}
	r.check(s, c.with(i, Pattern(99, len(part.Bytes))), 0)
}

// copyRestartsChanged changes a part of which half is copied.
func copyRestartsChanged(t *testing.T, c CopyCase, s Copying) {
	h := c.cut(t, s)
	part := c.Parts[h.index]
	if err := s.Replace(part.Name, Pattern(98, len(part.Bytes))); err != nil {
		t.Fatal(err)
	}
	r := h.goOn(t, s)
	if err := r.all(); err != nil {
		t.Fatal(err)
	}
	r.check(s, c.with(h.index, Pattern(98, len(part.Bytes))), h.index)
}

// copyGivesWay has a part move of which half is copied.
func copyGivesWay(t *testing.T, c CopyCase, s Copying) {
	h := c.cut(t, s)
	r := h.goOn(t, s, c.Parts[h.index].Name)
	if err := r.all(); err != nil {
		t.Fatal(err)
	}
	r.check(s, c.Parts, h.index, c.Parts[h.index].Name)
}

func copyRefusesReference(t *testing.T, _ CopyCase, s Copying) {
	for _, reference := range []string{"no reference", "{}", "\x00\xff"} {
		w := write(t, s.Sink, s.open("flow-1"))
		w.send(&sdk.PartBegin{PartInfo: sdk.PartInfo{Name: "part", Size: 3, Reference: []byte(reference)}},
			&sdk.Checkpoint{Sequence: 1, Token: []byte("x")}, &sdk.PartEnd{Size: 3}, &sdk.End{Totals: sdk.Totals{Parts: 1, Bytes: 3}})
		err := w.finish()
		if code := sdk.AsError(err); err == nil || code.Code != sdk.NotCopied && code.Code != sdk.NotFound {
			t.Errorf("reference %q: %v", reference, fmt.Sprint(err))
		}
		s.checkStored(t)
	}
}
