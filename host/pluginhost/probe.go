package pluginhost

import (
	"context"
	"io"
	"slices"
	"time"

	"github.com/towpath-dataplane/towpath/sdk"
)

// The bounds of a probe.
const (
	probedParts = 64
	probedBytes = 4 << 20 // of each; no plugin is so far ahead of what has come from it
	probeTime   = 20 * time.Second
)

// probe reads the parts behind the place where a suspect crashed its process, one by one, before the suspect may do so for the last time. What a
// process has sent in its last moments can be lost: only so it is sure which part kills it. The error is that of the end of the process.
func (s *source) probe(v *visit, open sdk.ReadOpen) error {
	t, _ := v.in.description.Source(s.typ)
	place, last := v.ward.lastTry(v.who)
	if !last || open.Once || open.List || open.Select != nil || t.NonFinite {
		return nil
	}
	ctx, cancel := context.WithTimeout(v.ctx, probeTime)
	defer cancel()
	parts, err := s.partsFrom(ctx, v, open, place.part)
	for _, p := range parts {
		if err != nil {
			break
		}
		at := position{part: p.Index, name: p.Name}
		if p.Index == place.part {
			at.inside = place.inside
		}
		v.put(at, true)
		piece := &sdk.Selection{Name: p.Name, Length: -1, Validator: p.Validator}
		if !p.Records {
			piece.Offset = min(at.inside, max(p.Size, 0))
		}
		err = s.try(ctx, v, sdk.ReadOpen{Flow: open.Flow, Address: open.Address, Select: piece}, probedBytes, func(sdk.Frame) bool { return true })
	}
	if err != nil && v.in.cut(v.ctx, err) {
		return err
	}
	v.put(position{}, false)
	return nil // whatever else there is to say the stream itself says
}

// partsFrom lists some of the parts of a flow from one on.
func (s *source) partsFrom(ctx context.Context, v *visit, open sdk.ReadOpen, first uint64) (parts []sdk.PartInfo, err error) {
	err = s.try(ctx, v, sdk.ReadOpen{Flow: open.Flow, Address: open.Address, Skip: open.Skip, List: true}, 0, func(f sdk.Frame) bool {
		if begin, ok := f.(*sdk.PartBegin); ok && begin.Index >= first && !slices.Contains(open.Skip, begin.Name) {
			parts = append(parts, begin.PartInfo)
		}
		return len(parts) < probedParts
	})
	return parts, err
}

// try reads a stream until take has enough of it, or so many bytes have come, or it ends.
func (s *source) try(ctx context.Context, v *visit, open sdk.ReadOpen, most int, take func(sdk.Frame) bool) error {
	r, err := v.in.rpc.Source(s.typ).Read(ctx, open)
	if err != nil {
		return err
	}
	defer r.Close()
	for n := 0; ; {
		f, err := r.Recv()
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
		switch f := f.(type) {
		case *sdk.Data:
			n += f.Len()
		case *sdk.RecordBatch:
			n += f.Size()
		}
		more := take(f)
		sdk.Release(f)
		if !more || most > 0 && n >= most {
			return nil
		}
	}
}
