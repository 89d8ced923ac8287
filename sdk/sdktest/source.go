package sdktest

import (
	"context"
	"errors"
	"io"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/towpath-dataplane/towpath/sdk"
)

// SourceCase is what TestSource has to know about a source.
type SourceCase struct {
	// New returns the source. Every test of the suite calls it once; t.Cleanup ends what it starts.
	New func(t *testing.T) sdk.DataSource
	// Address names exactly Parts, in this order. To try what happens within a part, one of them should have some MiB.
	Address sdk.DataAddress
	Parts   []Content
	// Bad are addresses that cannot be read.
	Bad []BadAddress
	// Once has the suite read as requests do: nothing but the tests of checkpoints asks for any.
	Once bool
}

// BadAddress is an address that is refused, by Validate or when it is used.
type BadAddress struct {
	Name    string // of the test
	Address sdk.DataAddress
	Code    sdk.Code
}

// TestSource runs the suite that every source has to pass.
func TestSource(t *testing.T, c SourceCase) {
	for _, test := range []struct {
		name string
		run  func(*testing.T, SourceCase, sdk.DataSource)
	}{
		{"validate", sourceValidates},
		{"bad addresses", sourceRefuses},
		{"whole", sourceReadsWhole},
		{"twice", sourceReadsTwice},
		{"list", sourceLists},
		{"select", sourceSelects},
		{"ranges", sourceReadsRanges},
		{"validator", sourceHeedsValidator},
		{"resume", sourceResumes},
		{"skip", sourceSkips},
		{"bad token", sourceRefusesToken},
		{"cancel", sourceIsCancelled},
		{"close", sourceCloses},
		{"two flows", sourceServesTwo},
	} {
		t.Run(test.name, func(t *testing.T) {
			source := c.New(t)
			if err := source.Validate(t.Context(), c.Address); err != nil {
				t.Fatalf("Validate: %v", err)
			}
			checkLeaks(t)
			test.run(t, c, source)
		})
	}
}

func (c SourceCase) open() sdk.ReadOpen {
	return sdk.ReadOpen{Flow: flow("flow-1"), Address: c.Address, Digests: sdk.Algorithms(), Once: c.Once}
}

// withCheckpoints is open for a reading whose checkpoints matter.
func (c SourceCase) withCheckpoints() sdk.ReadOpen {
	open := c.open()
	open.Once = false
	return open
}

// totals are those of all parts.
func (c SourceCase) totals() sdk.Totals {
	n := sdk.Totals{Parts: int64(len(c.Parts))}
	for _, p := range c.Parts {
		n.Bytes += p.size()
		n.Records += int64(len(p.Records))
	}
	return n
}

func sourceValidates(t *testing.T, c SourceCase, source sdk.DataSource) {
	other := c.Address.Clone()
	other.Type = "no-such-type"
	wantCode(t, "Validate of another type", source.Validate(t.Context(), other), sdk.Invalid)
	_, err := readAll(t.Context(), source, sdk.ReadOpen{Flow: flow("flow-1"), Address: other, Once: c.Once})
	wantCode(t, "Read of another type", err, sdk.Invalid)
}

func sourceRefuses(t *testing.T, c SourceCase, source sdk.DataSource) {
	for _, bad := range c.Bad {
		t.Run(bad.Name, func(t *testing.T) {
			if err := source.Validate(t.Context(), bad.Address); err != nil {
				wantCode(t, "Validate", err, bad.Code)
			}
			_, err := readAll(t.Context(), source, sdk.ReadOpen{Flow: flow("flow-1"), Address: bad.Address, Once: c.Once})
			wantCode(t, "Read", err, bad.Code)
		})
	}
}

func sourceReadsWhole(t *testing.T, c SourceCase, source sdk.DataSource) {
	r, err := readAll(t.Context(), source, c.open())
	if err != nil {
		t.Fatal(err)
	}
	c.check(t, r)
}

// check compares a reading of everything with what is expected.
func (c SourceCase) check(t *testing.T, r *reading) {
	t.Helper()
	if len(r.parts) != len(c.Parts) {
		t.Fatalf("%d parts, want %d", len(r.parts), len(c.Parts))
	}
	for i, p := range r.parts {
		want := c.Parts[i]
		p.check(t, i, want)
		if total := p.begin.TotalParts; total != 0 && total != len(c.Parts) {
			t.Errorf("part %q says that there are %d parts, want %d", want.Name, total, len(c.Parts))
		}
		if diff := differ(p.bytes, want.Bytes); diff != "" {
			t.Errorf("part %q: %s", want.Name, diff)
		}
		if err := equalRecords(p.records, want.Records); err != nil {
			t.Errorf("part %q: %v", want.Name, err)
		}
	}
	if diff := cmp.Diff(c.totals(), r.end.Totals); diff != "" {
		t.Errorf("totals of End (-want +got):\n%s", diff)
	}
}

// check compares what surrounds the content of a part, which may have been read from its middle on.
func (p *readPart) check(t *testing.T, index int, want Content) {
	t.Helper()
	begin, end := p.begin, p.end
	if begin.Name != want.Name || begin.Index != uint64(index) {
		t.Errorf("part %d is %q, want part %d, %q", begin.Index, begin.Name, index, want.Name)
	}
	if begin.Records != (want.Records != nil) {
		t.Errorf("part %q: records is %t", want.Name, begin.Records)
	}
	if begin.Size != sdk.SizeUnknown && begin.Size != want.size() {
		t.Errorf("part %q announces %d bytes, want %d", want.Name, begin.Size, want.size())
	}
	if end.Size != want.size() || end.Records != int64(len(want.Records)) {
		t.Errorf("part %q ends with %d bytes and %d records, want %d and %d",
			want.Name, end.Size, end.Records, want.size(), len(want.Records))
	}
	if want.Records == nil {
		if err := end.Digests.Compare(digests(want.Bytes)); err != nil {
			t.Errorf("part %q: %v", want.Name, err)
		}
	}
}

func sourceReadsTwice(t *testing.T, c SourceCase, source sdk.DataSource) {
	first, err := readAll(t.Context(), source, c.open())
	if err != nil {
		t.Fatal(err)
	}
	second, err := readAll(t.Context(), source, c.open())
	if err != nil {
		t.Fatal(err)
	}
	c.check(t, second)
	if diff := cmp.Diff(first.headers(), second.headers()); diff != "" {
		t.Errorf("the second reading is not the first (-first +second):\n%s", diff)
	}
}

func sourceLists(t *testing.T, c SourceCase, source sdk.DataSource) {
	whole, err := readAll(t.Context(), source, c.open())
	if err != nil {
		t.Fatal(err)
	}
	open := c.open()
	open.List = true
	list, err := readAll(t.Context(), source, open)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(whole.headers(), list.headers()); diff != "" {
		t.Errorf("the list is not what is read (-read +list):\n%s", diff)
	}
	for _, p := range list.parts {
		if len(p.bytes) > 0 || len(p.records) > 0 {
			t.Errorf("part %q was only to be listed, but has content", p.begin.Name)
		}
	}
	if list.end.Parts != int64(len(c.Parts)) {
		t.Errorf("End counts %d parts, want %d", list.end.Parts, len(c.Parts))
	}
}

func sourceSelects(t *testing.T, c SourceCase, source sdk.DataSource) {
	for i, want := range c.Parts {
		open := c.open()
		open.Select = &sdk.Selection{Name: want.Name, Length: -1}
		r, err := readAll(t.Context(), source, open)
		if err != nil {
			t.Fatalf("part %q: %v", want.Name, err)
		}
		if len(r.parts) != 1 {
			t.Fatalf("part %q: %d parts came", want.Name, len(r.parts))
		}
		r.parts[0].check(t, i, want)
		if diff := differ(r.parts[0].bytes, want.Bytes); diff != "" {
			t.Errorf("part %q: %s", want.Name, diff)
		}
		if err := equalRecords(r.parts[0].records, want.Records); err != nil {
			t.Errorf("part %q: %v", want.Name, err)
		}
	}
	open := c.open()
	open.Select = &sdk.Selection{Name: "there/is no such.part", Length: -1}
	_, err := readAll(t.Context(), source, open)
	wantCode(t, "a part that is not there", err, sdk.NotFound)
}

func sourceReadsRanges(t *testing.T, c SourceCase, source sdk.DataSource) {
	for _, part := range c.Parts {
		size := int64(len(part.Bytes))
		if part.Records != nil || size == 0 {
			continue
		}
		for _, piece := range []struct {
			name           string
			offset, length int64
			want           []byte
		}{
			{"first byte", 0, 1, part.Bytes[:1]},
			{"last byte", size - 1, 1, part.Bytes[size-1:]},
			{"middle", size / 3, size / 3, part.Bytes[size/3 : size/3+size/3]},
			{"to the end", size / 2, -1, part.Bytes[size/2:]},
			{"beyond the end", size / 2, 2 * size, part.Bytes[size/2:]},
			{"nothing", size / 2, 0, nil},
			{"at the end", size, -1, nil},
		} {
			open := c.open()
			open.Select = &sdk.Selection{Name: part.Name, Offset: piece.offset, Length: piece.length}
			r, err := readAll(t.Context(), source, open)
			if err != nil {
				t.Errorf("%s of part %q: %v", piece.name, part.Name, err)
				continue
			}
			if got := r.parts[0].begin.Offset; got != piece.offset {
				t.Errorf("%s of part %q begins at %d, want %d", piece.name, part.Name, got, piece.offset)
			}
			if diff := differ(r.parts[0].bytes, piece.want); diff != "" {
				t.Errorf("%s of part %q: %s", piece.name, part.Name, diff)
			}
		}
	}
}

func sourceHeedsValidator(t *testing.T, c SourceCase, source sdk.DataSource) {
	open := c.open()
	open.List = true
	list, err := readAll(t.Context(), source, open)
	if err != nil {
		t.Fatal(err)
	}
	for i, part := range c.Parts {
		validator := list.parts[i].begin.Validator
		if validator == "" || len(part.Bytes) < 2 {
			continue
		}
		for given, want := range map[string][]byte{validator: part.Bytes[1:], validator + "-old": part.Bytes} {
			open := c.open()
			open.Select = &sdk.Selection{Name: part.Name, Offset: 1, Length: -1, Validator: given}
			r, err := readAll(t.Context(), source, open)
			if err != nil {
				t.Fatalf("part %q: %v", part.Name, err)
			}
			if diff := differ(r.parts[0].bytes, want); diff != "" {
				t.Errorf("part %q with validator %q, given %q: %s", part.Name, validator, given, diff)
			}
		}
	}
}

// sourceSkips reads without one part, from the start and from places before, in and behind it.
func sourceSkips(t *testing.T, c SourceCase, source sdk.DataSource) {
	if len(c.Parts) == 0 {
		return // there is nothing to skip
	}
	whole, err := readWith(t.Context(), source, c.withCheckpoints(), func(s sdk.ReadStream, f sdk.Frame) error {
		if _, ok := f.(*sdk.Data); ok {
			return s.RequestCheckpoint()
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, skipped := range slices.Compact([]int{0, len(c.Parts) / 2, len(c.Parts) - 1}) {
		part, open := c.Parts[skipped], c.open()
		open.Skip = []string{part.Name}
		r, err := readAll(t.Context(), source, open)
		if err != nil {
			t.Fatalf("without part %q: %v", part.Name, err)
		}
		want := c.totals()
		want.Parts, want.Bytes, want.Records = want.Parts-1, want.Bytes-part.size(), want.Records-int64(len(part.Records))
		if diff := cmp.Diff(want, r.end.Totals); diff != "" {
			t.Errorf("without part %q, totals of End (-want +got):\n%s", part.Name, diff)
		}
		c.checkWithout(t, r, skipped, 0)
		for _, place := range spread(whole.checkpoints, 4) {
			open.ResumeToken = place.token
			r, err := readAll(t.Context(), source, open)
			if err != nil {
				t.Fatalf("without part %q, from a place on: %v", part.Name, err)
			}
			c.checkWithout(t, r, skipped, len(c.Parts)-len(r.parts)-1)
		}
	}
}

// checkWithout checks that a reading has the parts behind the first ones, but for one.
func (c SourceCase) checkWithout(t *testing.T, r *reading, skipped, least int) {
	t.Helper()
	last := uint64(len(c.Parts) - 1) // of a reading from behind the last part on
	for _, p := range r.parts {
		i := int(p.begin.Index)
		if i == skipped || i < least || i >= len(c.Parts) {
			t.Fatalf("part %d, %q, came without part %q", i, p.begin.Name, c.Parts[skipped].Name)
		}
		p.check(t, i, c.Parts[i])
		last = p.begin.Index
	}
	if want := len(c.Parts) - 1; want != skipped && last != uint64(want) {
		t.Errorf("without part %q, the last part that came is %d", c.Parts[skipped].Name, last)
	}
}

// sourceResumes reads with many checkpoints, and then goes on from each of them.
func sourceResumes(t *testing.T, c SourceCase, source sdk.DataSource) {
	r, err := readWith(t.Context(), source, c.withCheckpoints(), func(s sdk.ReadStream, f sdk.Frame) error {
		switch f := f.(type) {
		case *sdk.Checkpoint:
			return s.Acknowledge(f.Sequence)
		case *sdk.PartEnd, *sdk.End:
			return nil
		default:
			return s.RequestCheckpoint()
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	c.check(t, r)
	if len(r.checkpoints) == 0 && len(c.Parts) > 0 {
		t.Fatal("no checkpoint came")
	}
	for _, place := range spread(r.checkpoints, 12) {
		open := c.open()
		open.ResumeToken = place.token
		rest, err := readAll(t.Context(), source, open)
		if err != nil {
			t.Fatalf("resume from checkpoint %d: %v", place.sequence, err)
		}
		c.checkRest(t, place, rest)
	}
}

// checkRest compares what came after a checkpoint with what is expected there.
func (c SourceCase) checkRest(t *testing.T, place place, rest *reading) {
	t.Helper()
	if got, want := len(rest.parts), len(c.Parts)-place.finished; got != want {
		t.Fatalf("after checkpoint %d came %d parts, want %d", place.sequence, got, want)
	}
	for i, p := range rest.parts {
		want := c.Parts[place.finished+i]
		p.check(t, place.finished+i, want)
		var offset, records int
		if i == 0 {
			offset, records = place.bytes, place.records
		}
		if begins := int64(offset) + recordBytes(want.Records[:records]); p.begin.Offset != begins {
			t.Errorf("part %q goes on at %d, want %d", want.Name, p.begin.Offset, begins)
		}
		if diff := differ(p.bytes, want.Bytes[offset:]); diff != "" {
			t.Errorf("part %q from %d on: %s", want.Name, offset, diff)
		}
		if err := equalRecords(p.records, want.Records[records:]); err != nil {
			t.Errorf("part %q from record %d on: %v", want.Name, records, err)
		}
	}
	if diff := cmp.Diff(c.totals(), rest.end.Totals); diff != "" {
		t.Errorf("totals after checkpoint %d (-want +got):\n%s", place.sequence, diff)
	}
	for _, next := range rest.checkpoints {
		if next.sequence <= place.sequence {
			t.Errorf("checkpoint %d came after checkpoint %d", next.sequence, place.sequence)
		}
	}
}

func sourceRefusesToken(t *testing.T, c SourceCase, source sdk.DataSource) {
	for _, token := range []string{"x", "{}", "\x00\xff", `{"part":7}`} {
		open := c.open()
		open.ResumeToken = []byte(token)
		_, err := readAll(t.Context(), source, open)
		wantCode(t, "resume token "+token, err, sdk.Invalid)
	}
}

// sourceIsCancelled ends flows after one frame, and in the middle of their content.
func sourceIsCancelled(t *testing.T, c SourceCase, source sdk.DataSource) {
	for _, after := range []int{1, 2, 3} {
		ctx, cancel := context.WithCancel(t.Context())
		frames := 0
		within(t, "a flow that was cancelled", func() {
			_, err := readWith(ctx, source, c.open(), func(sdk.ReadStream, sdk.Frame) error {
				if frames++; frames == after {
					cancel()
				}
				return nil
			})
			// What was under way when the flow was cut may still arrive, even all of it.
			if err != nil && !errors.Is(err, context.Canceled) && !sdk.AsError(err).Retryable {
				t.Errorf("after a cancel: %v", err)
			}
		})
		cancel()
	}
}

func sourceCloses(t *testing.T, c SourceCase, source sdk.DataSource) {
	for _, recv := range []int{0, 1, 2, 3} {
		s, err := source.Read(t.Context(), c.open())
		if err != nil {
			t.Fatal(err)
		}
		for range recv {
			f, err := s.Recv()
			if err != nil {
				break
			}
			sdk.Release(f)
		}
		within(t, "Close", func() {
			for range 2 {
				if err := s.Close(); err != nil {
					t.Errorf("Close after %d frames: %v", recv, err)
				}
			}
			for f, err := s.Recv(); err == nil; f, err = s.Recv() {
				sdk.Release(f)
			}
		})
	}
}

// sourceServesTwo reads two flows frame by frame in turn.
func sourceServesTwo(t *testing.T, c SourceCase, source sdk.DataSource) {
	var streams [2]sdk.ReadStream
	var readings [2]*reading
	for i, id := range []string{"flow-1", "flow-2"} {
		open := c.open()
		open.Flow = flow(id)
		s, err := source.Read(t.Context(), open)
		if err != nil {
			t.Fatal(err)
		}
		defer s.Close()
		streams[i], readings[i] = s, &reading{}
	}
	for ended := 0; ended < len(streams); {
		for i, s := range streams {
			if s == nil {
				continue
			}
			f, err := s.Recv()
			if err == nil {
				err = readings[i].add(f)
				sdk.Release(f)
			}
			if err == io.EOF {
				streams[i] = nil
				ended++
				continue
			}
			if err != nil {
				t.Fatalf("flow %d: %v", i+1, err)
			}
		}
	}
	for _, r := range readings {
		c.check(t, r)
	}
}
