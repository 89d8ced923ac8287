package main

import (
	"cmp"
	"context"
	"iter"

	"github.com/towpath-dataplane/towpath/sdk"
)

// Values of properties.
const (
	lossFail     = "fail"
	lossEarliest = "earliest"
	lossLatest   = "latest"

	readCommitted = "read_committed"

	repeatedFail = "fail"
	repeatedLast = "last"

	stopNever = "never"
)

// source reads topics. Each flow has a client of its own.
type source struct{ env *environment }

var (
	_ sdk.Source    = (*source)(nil)
	_ sdk.Validator = (*source)(nil)
)

// Validate says what is wrong with the properties, each by itself and together.
func (s *source) Validate(_ context.Context, a sdk.DataAddress) error {
	_, err := newSelection(a)
	return err
}

// Read yields one part: the topic.
func (s *source) Read(_ context.Context, req sdk.ReadRequest) iter.Seq2[sdk.Part, error] {
	return func(yield func(sdk.Part, error) bool) {
		sel, err := newSelection(req.Address)
		if err != nil {
			yield(sdk.Part{}, err)
			return
		}
		yield(sdk.Part{
			PartInfo: sdk.PartInfo{Name: sel.name, Size: sdk.SizeUnknown, TotalParts: 1},
			OpenRecords: func(ctx context.Context, token []byte) (sdk.RecordReader, error) {
				return s.env.open(ctx, sel, token)
			},
		}, nil)
	}
}

// selection is what an address asks for.
type selection struct {
	*target
	name       string
	group      string
	partitions []int32 // nil: all
	start      bound
	stop       bound // the zero value: never
	onLoss     string
	committed  bool
	lastHeader bool
}

func newSelection(a sdk.DataAddress) (*selection, error) {
	r := addressReader{address: a}
	s := &selection{
		target:     r.target(),
		group:      a.Get("kafka.group.id"),
		onLoss:     cmp.Or(a.Get("onLoss"), lossFail),
		committed:  cmp.Or(a.Get("kafka.isolation.level"), readCommitted) == readCommitted,
		lastHeader: a.Get("repeatedHeaders") == repeatedLast,
	}
	s.name = cmp.Or(a.Get("name"), s.topic)
	if err := sdk.CheckName(s.name); err != nil && s.topic != "" {
		r.fail("name", "is not a relative path")
	}
	s.start = r.start()
	if text := a.Get("stop"); text != "" && text != stopNever {
		s.stop = r.bound("stop", text)
		if s.stop.edge == edgeEarliest {
			r.fail("stop", "is before everything")
		}
	}
	if text := a.Get("partitions"); text != "" {
		var err error
		if s.partitions, err = parsePartitions(text); err != nil {
			r.fail("partitions", err.Error())
		}
		if s.group != "" {
			r.fail("partitions", "cannot be chosen in a group")
		}
	}
	return s, sdk.InvalidFields(r.errs)
}

func (r *addressReader) start() bound {
	text, reset := r.address.Get("start"), r.address.Get("kafka.auto.offset.reset")
	if text != "" && reset != "" {
		r.fail("start", "cannot stand beside kafka.auto.offset.reset")
	}
	return r.bound("start", cmp.Or(text, reset, edgeEarliest))
}

func (r *addressReader) bound(field, text string) bound {
	b, err := parseBound(text)
	if err != nil {
		r.fail(field, err.Error())
	}
	return b
}

// finite reports whether the part has an end.
func (s *selection) finite() bool {
	return s.stop.edge != "" || !s.stop.time.IsZero() || s.stop.offsets != nil
}
