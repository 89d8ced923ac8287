package sdktest

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/towpath-dataplane/towpath/sdk"
)

// SinkCase is what TestSink has to know about a sink.
type SinkCase struct {
	// New returns the sink with an empty store behind it. Every test of the suite calls it once; t.Cleanup ends what it starts.
	New func(t *testing.T) Store
	// Resumable: the sink gives checkpoints inside parts.
	Resumable bool
	// Records: the sink takes parts that carry records.
	Records bool
}

// Store is a sink and what can be seen of it from behind.
type Store struct {
	Sink    sdk.DataSink
	Address sdk.DataAddress
	// Names lists what is stored under final names, in any order. Content returns one of them, and Records, for a sink that takes
	// records, one that has them. All three are nil for a sink that keeps nothing.
	Names   func() ([]string, error)
	Content func(name string) ([]byte, error)
	Records func(name string) ([]sdk.Record, error)
	// Begun, if not nil, lists what else the sink keeps for its flows.
	Begun func() ([]string, error)
}

// TestSink runs the suite that every sink has to pass.
func TestSink(t *testing.T, c SinkCase) {
	type test struct {
		name string
		run  func(*testing.T, Store)
	}
	tests := []test{
		{"bad address", sinkRefusesAddress},
		{"parts", sinkStoresParts},
		{"no parts", sinkStoresNothing},
		{"size unknown", sinkStoresUnknownSize},
		{"escaping names", sinkRefusesNames},
		{"false announcements", sinkRefusesFalse},
		{"checkpoints between parts", sinkAnswersCheckpoints},
		{"resume after a part", sinkResumesAfterPart},
		{"cut", sinkIsCut},
		{"redelivery", sinkTakesRedelivery},
		{"bad token", sinkRefusesToken},
		{"deprovision", sinkDeprovisions},
		{"two flows", sinkServesTwo},
	}
	if c.Resumable {
		tests = append(tests, test{"resume inside a part", sinkResumesInside},
			test{"resume inside a part that was finished", sinkResumesFinished},
			test{"give up a part", sinkGivesUp},
			test{"resume a part from its start", sinkRestartsPart},
			test{"deprovision inside a part", sinkForgets})
	}
	if c.Records {
		tests = append(tests, test{"records", sinkStoresRecords})
	}
	if c.Records && c.Resumable {
		tests = append(tests, test{"resume records", sinkResumesRecords})
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			store := c.New(t)
			if err := store.Sink.Validate(t.Context(), store.Address); err != nil {
				t.Fatalf("Validate: %v", err)
			}
			checkLeaks(t)
			test.run(t, store)
		})
	}
}

func (s Store) open(id string) sdk.WriteOpen {
	return sdk.WriteOpen{Flow: flow(id), Address: s.Address, Digests: sdk.Algorithms()}
}

// checkStored compares everything that is stored with what is expected.
func (s Store) checkStored(t *testing.T, want ...Content) {
	t.Helper()
	if s.Names == nil {
		return
	}
	names, err := s.Names()
	if err != nil {
		t.Fatalf("list what is stored: %v", err)
	}
	slices.Sort(names)
	var wantNames []string
	for _, c := range want {
		wantNames = append(wantNames, c.Name)
	}
	slices.Sort(wantNames)
	if diff := cmp.Diff(wantNames, names, cmpopts.EquateEmpty()); diff != "" {
		t.Fatalf("names that are stored (-want +got):\n%s", diff)
	}
	for _, c := range want {
		if err := s.checkContent(c); err != nil {
			t.Errorf("part %q: %v", c.Name, err)
		}
	}
}

func (s Store) checkContent(want Content) error {
	if want.Records != nil {
		got, err := s.Records(want.Name)
		if err != nil {
			return err
		}
		return equalRecords(got, want.Records)
	}
	got, err := s.Content(want.Name)
	if err != nil {
		return err
	}
	if diff := differ(got, want.Bytes); diff != "" {
		return fmt.Errorf("%s", diff)
	}
	return nil
}

// checkBegun compares the number of things that the sink keeps for a resume.
func (s Store) checkBegun(t *testing.T, when string, want bool) {
	t.Helper()
	if s.Begun == nil {
		return
	}
	// A sink in another process hears in its own time that a stream was cut.
	var begun []string
	what := fmt.Sprintf("%s the sink keeps something for a resume: %t", when, want)
	eventually(t, what, func() (ok bool) {
		var err error
		if begun, err = s.Begun(); err != nil {
			t.Fatalf("list what is begun: %v", err)
		}
		return (len(begun) > 0) == want
	})
	if (len(begun) > 0) != want {
		t.Logf("it keeps %q", begun)
	}
}

// checkReceipts compares what a sink said about parts, from the first one of this stream on.
func (w *writing) checkReceipts(first int, totals sdk.Totals, parts ...Content) {
	w.t.Helper()
	receipts := said[*sdk.PartWritten](w)
	if len(receipts) != len(parts) {
		w.t.Errorf("%d receipts for %d parts", len(receipts), len(parts))
		return
	}
	for i, r := range receipts {
		want := parts[i]
		if r.Index != uint64(first+i) || r.Size != want.size() {
			w.t.Errorf("receipt for part %d with %d bytes, want part %d with %d", r.Index, r.Size, first+i, want.size())
		}
		if want.Records == nil {
			if err := r.Digests.Compare(digests(want.Bytes)); err != nil {
				w.t.Errorf("receipt for part %q: %v", want.Name, err)
			}
		}
		if strings.Contains(r.Location, "\n") {
			w.t.Errorf("location %q is not one line", r.Location)
		}
	}
	done := said[*sdk.Done](w)
	if len(done) != 1 || w.ups[len(w.ups)-1] != sdk.Up(done[0]) {
		w.t.Errorf("the sink said Done %d times, want once, last", len(done))
		return
	}
	if diff := cmp.Diff(totals, done[0].Totals); diff != "" {
		w.t.Errorf("totals of Done (-want +got):\n%s", diff)
	}
}

func sinkRefusesAddress(t *testing.T, s Store) {
	other := s.Address.Clone()
	other.Type = "no-such-type"
	wantCode(t, "Validate of another type", s.Sink.Validate(t.Context(), other), sdk.Invalid)
	stream, err := s.Sink.Write(t.Context(), sdk.WriteOpen{Flow: flow("flow-1"), Address: other})
	if err == nil {
		_, err = stream.Recv()
		stream.Close()
	}
	wantCode(t, "Write to another type", err, sdk.Invalid)
}

func sinkStoresParts(t *testing.T, s Store) {
	parts := []Content{
		{Name: "one byte", Bytes: []byte{0}},
		{Name: "empty", Bytes: []byte{}},
		{Name: "1MiB.bin", Bytes: Pattern(1, 1<<20)},
		{Name: "1MiB and 1.bin", Bytes: Pattern(2, 1<<20+1)},
		{Name: "page less 1", Bytes: Pattern(3, 4095)},
		{Name: "64KiB and 1", Bytes: Pattern(4, 64<<10+1)},
		{Name: "a folder/and one below/file.csv", Bytes: []byte("a,b\r\n")},
		{Name: "a folder/file.csv", Bytes: []byte("c,d\r\n")},
		{Name: "Übung/データ 🙂.json", Bytes: []byte("{}")},
		{Name: ".hidden", Bytes: []byte("h")},
		{Name: "two..dots", Bytes: []byte("d")},
		{Name: "...", Bytes: []byte("three")},
		{Name: "-rf *?[x]~$HOME;&|'\"", Bytes: []byte("shell")},
		{Name: strings.Repeat("n", 200), Bytes: []byte("long")},
	}
	for i := range 100 {
		parts = append(parts, Content{Name: fmt.Sprintf("many/%03d", i), Bytes: Pattern(i, i)})
	}
	var frames script
	for _, p := range parts {
		frames.part(p).checkpoint()
	}
	w := write(t, s.Sink, s.open("flow-1"))
	w.send(frames.done().take()...)
	if err := w.finish(); err != nil {
		t.Fatal(err)
	}
	w.checkReceipts(0, frames.totals, parts...)
	s.checkStored(t, parts...)
	s.checkBegun(t, "after whole parts only", false)
}

func sinkStoresNothing(t *testing.T, s Store) {
	var frames script
	w := write(t, s.Sink, s.open("flow-1"))
	w.send(frames.done().take()...)
	if err := w.finish(); err != nil {
		t.Fatal(err)
	}
	w.checkReceipts(0, sdk.Totals{})
	s.checkStored(t)
}

func sinkStoresUnknownSize(t *testing.T, s Store) {
	part := Content{Name: "stream", Bytes: Pattern(5, 100_000)}
	var frames script
	frames.begin(part, 0)
	frames.frames[0].(*sdk.PartBegin).Size = sdk.SizeUnknown
	w := write(t, s.Sink, s.open("flow-1"))
	w.send(frames.content(part).end(part).done().take()...)
	if err := w.finish(); err != nil {
		t.Fatal(err)
	}
	w.checkReceipts(0, frames.totals, part)
	s.checkStored(t, part)
}

func sinkRefusesNames(t *testing.T, s Store) {
	for _, name := range []string{
		"", ".", "..", "../up", "a/../../up", "a/..", "./a", "/etc/absolute", "a//b", "a/", `back\slash`, "nul\x00", "bell\a",
		"line\nbreak", "not\xffutf8", strings.Repeat("x/", 600) + "x",
	} {
		var frames script
		w := write(t, s.Sink, s.open("flow-1"))
		w.send(frames.part(Content{Name: name, Bytes: []byte("x")}).done().take()...)
		wantCode(t, fmt.Sprintf("part name %.40q", name), w.finish(), sdk.Invalid)
	}
	s.checkStored(t)
	s.checkBegun(t, "after refused names", false)
}

func sinkRefusesFalse(t *testing.T, s Store) {
	good := Content{Name: "good", Bytes: Pattern(6, 50_000)}
	for _, lie := range []struct {
		name   string
		change func(*sdk.PartBegin, *sdk.PartEnd)
	}{
		{"digest", func(_ *sdk.PartBegin, e *sdk.PartEnd) { e.Digests[sdk.CRC32C][0] ^= 1 }},
		{"strong digest", func(_ *sdk.PartBegin, e *sdk.PartEnd) { e.Digests[sdk.SHA256][31] ^= 1 }},
		{"longer than it is", func(b *sdk.PartBegin, _ *sdk.PartEnd) { b.Size++ }},
		{"shorter than it is", func(b *sdk.PartBegin, _ *sdk.PartEnd) { b.Size-- }},
		{"end beyond the content", func(b *sdk.PartBegin, e *sdk.PartEnd) { b.Size = sdk.SizeUnknown; e.Size++ }},
		{"records that did not come", func(_ *sdk.PartBegin, e *sdk.PartEnd) { e.Records = 1 }},
	} {
		var frames script
		bad := frames.begin(good, 0).content(good).end(good).done().take()
		lie.change(bad[0].(*sdk.PartBegin), bad[len(bad)-2].(*sdk.PartEnd))
		w := write(t, s.Sink, s.open("flow-1"))
		w.send(bad...)
		err := w.finish()
		wantCode(t, lie.name, err, sdk.Corrupt)
		if e := sdk.AsError(err); err != nil && e.Part != good.Name {
			t.Errorf("%s: the error %q is about part %q, want %q", lie.name, err, e.Part, good.Name)
		}
	}
	s.checkStored(t)
	s.checkBegun(t, "after false announcements", false)

	var frames script
	frames.part(good)
	frames.totals.Parts++
	w := write(t, s.Sink, s.open("flow-1"))
	w.send(frames.done().take()...)
	wantCode(t, "a part that did not come", w.finish(), sdk.Corrupt)
}

func sinkAnswersCheckpoints(t *testing.T, s Store) {
	parts := []Content{{Name: "1", Bytes: Pattern(1, 10)}, {Name: "2", Bytes: Pattern(2, 200_000)}, {Name: "3", Bytes: []byte{}}}
	var frames script
	for _, p := range parts {
		frames.part(p).checkpoint().checkpoint()
	}
	w := write(t, s.Sink, s.open("flow-1"))
	w.send(frames.done().take()...)
	if err := w.finish(); err != nil {
		t.Fatal(err)
	}
	last := uint64(0)
	for _, d := range said[*sdk.Durable](w) {
		if d.Sequence <= last {
			t.Errorf("checkpoint %d became durable after %d", d.Sequence, last)
		}
		if len(d.Token) == 0 {
			t.Errorf("no token for checkpoint %d", d.Sequence)
		}
		last = d.Sequence
	}
	// An answer to a later checkpoint stands for those before it.
	if last != frames.sequence {
		t.Errorf("the last checkpoint that became durable is %d, want %d", last, frames.sequence)
	}
}

func sinkResumesAfterPart(t *testing.T, s Store) {
	first, second := Content{Name: "first", Bytes: Pattern(1, 70_000)}, Content{Name: "second", Bytes: Pattern(2, 70_001)}
	var frames script
	w := write(t, s.Sink, s.open("flow-1"))
	w.send(frames.part(first).checkpoint().take()...)
	token := w.awaitDurable(frames.sequence)
	w.cut()

	open := s.open("flow-1")
	open.ResumeToken, open.Redelivery = token, true
	w = write(t, s.Sink, open)
	w.send(frames.part(second).checkpoint().done().take()...)
	if err := w.finish(); err != nil {
		t.Fatal(err)
	}
	w.checkReceipts(1, frames.totals, second)
	s.checkStored(t, first, second)
}

func sinkIsCut(t *testing.T, s Store) {
	part := Content{Name: "folder/cut", Bytes: Pattern(7, 300_000)}
	for _, frames := range []int{0, 1, 2, 3, 5} {
		var all script
		w := write(t, s.Sink, s.open("flow-1"))
		w.send(all.part(part).take()[:frames]...)
		w.cut()
		s.checkStored(t)
		s.checkBegun(t, "after a cut without a checkpoint", false)
	}
	// A stream that was cut leaves nothing in the way of the next.
	var frames script
	w := write(t, s.Sink, s.open("flow-1"))
	w.send(frames.part(part).done().take()...)
	if err := w.finish(); err != nil {
		t.Fatal(err)
	}
	s.checkStored(t, part)
}

func sinkTakesRedelivery(t *testing.T, s Store) {
	parts := []Content{{Name: "1", Bytes: Pattern(1, 100_000)}, {Name: "sub/2", Bytes: Pattern(2, 1)}, {Name: "3", Bytes: []byte{}}}
	for run := range 2 {
		var frames script
		for _, p := range parts {
			frames.part(p).checkpoint()
		}
		open := s.open("flow-1")
		open.Redelivery = run > 0
		w := write(t, s.Sink, open)
		w.send(frames.done().take()...)
		if err := w.finish(); err != nil {
			t.Fatalf("run %d: %v", run+1, err)
		}
		w.checkReceipts(0, frames.totals, parts...)
		s.checkStored(t, parts...)
	}
}

func sinkRefusesToken(t *testing.T, s Store) {
	open := s.open("flow-1")
	open.ResumeToken = []byte("no token of this sink")
	stream, err := s.Sink.Write(t.Context(), open)
	if err == nil {
		_, err = stream.Recv()
		stream.Close()
	}
	wantCode(t, "a token that is none", err, sdk.Invalid)
}

func sinkDeprovisions(t *testing.T, s Store) {
	whole, begun := Content{Name: "whole", Bytes: Pattern(1, 1000)}, Content{Name: "begun", Bytes: Pattern(2, 1000)}
	var frames script
	w := write(t, s.Sink, s.open("flow-1"))
	w.send(frames.part(whole).checkpoint().take()...)
	w.awaitDurable(frames.sequence)
	w.send(frames.begin(begun, 0).content(begun).checkpoint().take()...)
	w.cut()
	for range 2 {
		for _, id := range []string{"flow-1", "never seen", "../../odd id\n"} {
			if err := s.Sink.Deprovision(t.Context(), flow(id), s.Address); err != nil {
				t.Errorf("Deprovision of flow %q: %v", id, err)
			}
		}
	}
	s.checkBegun(t, "after Deprovision", false)
	s.checkStored(t, whole)
}

// sinkServesTwo writes two flows in turn, and cuts a third between them.
func sinkServesTwo(t *testing.T, s Store) {
	parts := []Content{{Name: "of/flow 1", Bytes: Pattern(1, 1<<20)}, {Name: "of/flow 2", Bytes: Pattern(2, 1<<20)}}
	var frames [2][]sdk.Frame
	var flows [2]*writing
	for i, p := range parts {
		frames[i] = new(script).part(p).done().take()
		flows[i] = write(t, s.Sink, s.open(fmt.Sprint("flow-", i+1)))
	}
	lost := write(t, s.Sink, s.open("flow-3"))
	lost.send(new(script).begin(Content{Name: "lost"}, 0).take()...)
	for i := range max(len(frames[0]), len(frames[1])) {
		for f := range flows {
			if i < len(frames[f]) {
				flows[f].send(frames[f][i])
			}
		}
		if i == 2 {
			lost.cut()
		}
	}
	for i, w := range flows {
		if err := w.finish(); err != nil {
			t.Errorf("flow %d: %v", i+1, err)
		}
	}
	s.checkStored(t, parts...)
}
