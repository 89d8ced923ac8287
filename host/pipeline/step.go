package pipeline

import "github.com/towpath-dataplane/towpath/sdk"

// Step is where a run is.
type Step struct {
	// Totals count what was sent to the sink since the beginning of the flow, durable or not, with what was sent of Part.
	Totals sdk.Totals
	// Part is the name of the part that is being sent, "" between parts. PartBytes of its PartSize were sent.
	Part      string
	PartBytes int64
	PartSize  int64 // or sdk.SizeUnknown
	// TotalParts and TotalBytes are those of the whole flow, 0 if not known.
	TotalParts int64
	TotalBytes int64
}

// step says where the run is.
func (r *run) step() Step {
	r.mu.Lock()
	defer r.mu.Unlock()
	s := Step{Totals: r.reached, Part: r.begun.Name, PartBytes: r.inside + r.insideCopy(), PartSize: r.begun.Size, TotalParts: int64(r.begun.TotalParts),
		TotalBytes: r.begun.TotalBytes}
	s.Totals.Bytes += s.PartBytes
	s.Totals.Records += r.records
	// The last part is the rest of the flow.
	if s.TotalBytes == 0 && s.Part != "" && s.PartSize > 0 && r.begun.Index+1 == uint64(s.TotalParts) {
		s.TotalBytes = r.reached.Bytes + s.PartSize
	}
	return s
}
