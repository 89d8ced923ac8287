package sdktest

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/towpath-dataplane/towpath/sdk"
)

// half is a flow that was cut inside its second part, behind a checkpoint there.
type half struct {
	first, second Content
	frames        script
	token         []byte
	offset        int
}

// writeHalf writes the first part and half of the second, takes a checkpoint, sends the rest of the second part, and finishes it if
// asked to. Then the stream is cut.
func writeHalf(t *testing.T, s Store, finished bool) *half {
	h := &half{
		first:  Content{Name: "first", Bytes: Pattern(1, 1000)},
		second: Content{Name: "sub/second", Bytes: Pattern(2, 2<<20+3)},
		offset: 1<<20 + 1,
	}
	w := write(t, s.Sink, s.open("flow-1"))
	w.send(h.frames.part(h.first).begin(h.second, 0).content(Content{Bytes: h.second.Bytes[:h.offset]}).checkpoint().take()...)
	h.token = w.awaitDurable(h.frames.sequence)
	ahead := h.frames // what follows the checkpoint is sent again later
	ahead.content(Content{Bytes: h.second.Bytes[h.offset:]})
	if finished {
		w.send(ahead.end(h.second).checkpoint().take()...)
		w.awaitDurable(ahead.sequence)
	} else {
		w.send(ahead.take()...)
	}
	w.cut()
	return h
}

// goOn opens the stream that takes the flow up again.
func (h *half) goOn(t *testing.T, s Store) *writing {
	open := s.open("flow-1")
	open.ResumeToken, open.Redelivery = h.token, true
	return write(t, s.Sink, open)
}

// finish sends the rest of the second part from an offset on, and checks what is there.
func (h *half) finish(t *testing.T, s Store, w *writing, offset int) {
	t.Helper()
	w.send(h.frames.begin(h.second, int64(offset)).content(Content{Bytes: h.second.Bytes[offset:]}).end(h.second).checkpoint().done().take()...)
	if err := w.finish(); err != nil {
		t.Fatal(err)
	}
	w.checkReceipts(1, h.frames.totals, h.second)
	s.checkStored(t, h.first, h.second)
	if err := s.Sink.Deprovision(t.Context(), flow("flow-1"), s.Address); err != nil {
		t.Error(err)
	}
	s.checkBegun(t, "after the flow", false)
	s.checkStored(t, h.first, h.second)
}

func sinkResumesInside(t *testing.T, s Store) {
	h := writeHalf(t, s, false)
	s.checkStored(t, h.first)
	s.checkBegun(t, "after a checkpoint inside a part", true)
	// A second cut before anything new became durable leaves the same place.
	w := h.goOn(t, s)
	again := h.frames
	w.send(again.begin(h.second, int64(h.offset)).content(Content{Bytes: h.second.Bytes[h.offset:]}).take()...)
	w.cut()
	s.checkStored(t, h.first)
	h.finish(t, s, h.goOn(t, s), h.offset)
}

// sinkResumesFinished goes on inside a part that reached its final place after the checkpoint, as happens when a host dies before
// it has stored the next one.
func sinkResumesFinished(t *testing.T, s Store) {
	h := writeHalf(t, s, true)
	s.checkStored(t, h.first, h.second)
	// The same happens once more.
	w := h.goOn(t, s)
	again := h.frames
	w.send(again.begin(h.second, int64(h.offset)).content(Content{Bytes: h.second.Bytes[h.offset:]}).end(h.second).checkpoint().take()...)
	w.awaitDurable(again.sequence)
	w.cut()
	s.checkStored(t, h.first, h.second)
	h.finish(t, s, h.goOn(t, s), h.offset)
}

// sinkRestartsPart sends the second part from its start again, as a source does whose content has changed.
func sinkRestartsPart(t *testing.T, s Store) {
	h := writeHalf(t, s, false)
	h.second.Bytes = Pattern(3, 1<<20)
	h.finish(t, s, h.goOn(t, s), 0)
}

// sinkGivesUp gives up a part of which something is kept, and sends it anew later.
func sinkGivesUp(t *testing.T, s Store) {
	h := writeHalf(t, s, false)
	s.checkBegun(t, "after a checkpoint inside a part", true)
	w := h.goOn(t, s)
	given := h.frames
	w.send(given.begin(h.second, int64(h.offset)).done().take()...)
	wantCode(t, "part that is given up", w.finish(), sdk.Invalid)
	s.checkBegun(t, "after a part was given up", false)
	s.checkStored(t, h.first)
	open := s.open("flow-1")
	open.Redelivery = true
	w = write(t, s.Sink, open)
	var frames script
	w.send(frames.part(h.first).part(h.second).checkpoint().done().take()...)
	if err := w.finish(); err != nil {
		t.Fatal(err)
	}
	s.checkStored(t, h.first, h.second)
}

// sinkForgets ends a flow for good that was cut inside a part, and then tries to go on nevertheless.
func sinkForgets(t *testing.T, s Store) {
	h := writeHalf(t, s, false)
	if err := s.Sink.Deprovision(t.Context(), flow("flow-1"), s.Address); err != nil {
		t.Fatal(err)
	}
	s.checkBegun(t, "after Deprovision", false)
	s.checkStored(t, h.first)
	if s.Names == nil {
		return
	}
	w := h.goOn(t, s)
	w.send(h.frames.begin(h.second, int64(h.offset)).content(Content{Bytes: h.second.Bytes[h.offset:]}).end(h.second).done().take()...)
	wantCode(t, "resume after Deprovision", w.finish(), sdk.Corrupt)
	s.checkStored(t, h.first)
}

func sinkStoresRecords(t *testing.T, s Store) {
	parts := []Content{
		{Name: "events", Records: sampleRecords(100)},
		{Name: "none", Records: []sdk.Record{}},
		{Name: "bytes", Bytes: Pattern(1, 1000)},
		{Name: "more", Records: sampleRecords(1)},
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
}

func sinkResumesRecords(t *testing.T, s Store) {
	part, cut := Content{Name: "events", Records: sampleRecords(100)}, 37
	var frames script
	w := write(t, s.Sink, s.open("flow-1"))
	w.send(frames.begin(part, 0).content(Content{Records: part.Records[:cut]}).checkpoint().take()...)
	token := w.awaitDurable(frames.sequence)
	ahead := frames
	w.send(ahead.content(Content{Records: part.Records[cut : cut+20]}).take()...)
	w.cut()
	s.checkStored(t)

	open := s.open("flow-1")
	open.ResumeToken, open.Redelivery = token, true
	w = write(t, s.Sink, open)
	w.send(frames.begin(part, recordBytes(part.Records[:cut])).content(Content{Records: part.Records[cut:]}).end(part).done().take()...)
	if err := w.finish(); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(sdk.Totals{Parts: 1, Bytes: part.size(), Records: 100}, frames.totals); diff != "" {
		t.Fatal(diff)
	}
	w.checkReceipts(0, frames.totals, part)
	s.checkStored(t, part)
}
