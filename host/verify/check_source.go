package verify

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/zclconf/go-cty/cty"

	pluginv1 "github.com/towpath-dataplane/towpath/proto/towpath/plugin/v1"
	"github.com/towpath-dataplane/towpath/sdk"
)

// Sizes of what data has to have for some checks.
const (
	largeBytes = 48 << 20 // to see whether a plugin keeps what nobody reads
	cutBytes   = 4 << 20  // to be cut in the middle of a part
	stallBytes = 8 << 20  // not to fit into what lies between a source and its reader
	// keeps is how much a process may grow while one of its flows stalls.
	keeps = 24 << 20
	// besideTime is for a flow beside one that stalls.
	besideTime = 20 * time.Second
)

// readable returns the process that checks share and the address to read.
func (t *trial) readable() (*process, sdk.DataAddress, error) {
	a, err := t.address()
	if err != nil {
		return nil, a, err
	}
	if t.typ.NonFinite {
		return nil, a, skipf("the type has no end of its own: only checks that cut flows apply to it")
	}
	p, err := t.plugin()
	return p, a, err
}

// known is readable with what the address gives.
func (t *trial) known() (*process, sdk.DataAddress, *reading, error) {
	p, a, err := t.readable()
	if err != nil {
		return nil, a, nil, err
	}
	r, err := t.reference(a)
	return p, a, r, err
}

// other returns another of the source's addresses. It is not applicable if there is none.
func (t *trial) other(name string, of func(*Source) *template, v values) (sdk.DataAddress, error) {
	if t.source == nil || of(t.source) == nil {
		return sdk.DataAddress{}, skipf("no such address was given: add a block %s to the block source of the suite's file", name)
	}
	if v == nil {
		v = values{}
	}
	v["flow"] = flowValue(t.newFlow())
	return of(t.source).fill(v)
}

// large returns the address with most data.
func (t *trial) large() (sdk.DataAddress, error) {
	if t.source != nil && t.source.large != nil {
		return t.other("large", func(s *Source) *template { return s.large }, nil)
	}
	return t.address()
}

func sourceType(t *trial) error {
	p, a, err := t.readable()
	if err != nil {
		return err
	}
	a.Type = "no-such-type-of-any-plugin"
	_, err = p.source.Validate(t.ctx, &pluginv1.ValidateRequest{Address: addressToProto(a)})
	if err := wantRefusal("Validate of another type", problemOf(err), pluginv1.ErrorCode_ERROR_CODE_INVALID); err != nil {
		return err
	}
	_, err = t.whole(p, a, nil)
	return wantRefusal("Read of another type", err, pluginv1.ErrorCode_ERROR_CODE_INVALID)
}

func sourceWhole(t *trial) error {
	_, _, r, err := t.known()
	if err != nil {
		return err
	}
	if len(r.parts) == 0 {
		return errors.New("the address has no parts: give one that has")
	}
	return nil
}

func sourceTwice(t *trial) error {
	p, a, first, err := t.known()
	if err != nil {
		return err
	}
	second, err := t.whole(p, a, nil)
	if err != nil {
		return err
	}
	for i, part := range second.parts {
		if i < len(first.parts) && part.begin.Validator != first.parts[i].begin.Validator {
			return fmt.Errorf("part %q has another validator than before", part.begin.Name)
		}
	}
	return sameParts(second.parts, first.parts)
}

func sourceDigests(t *trial) error {
	declared := t.description.GetCapabilities().GetDigests()
	if len(declared) == 0 {
		return skipf("the plugin declares no digests: the host computes them")
	}
	p, a, err := t.readable()
	if err != nil {
		return err
	}
	for _, wanted := range [][]pluginv1.DigestAlgorithm{declared, declared[:1]} {
		r, err := t.whole(p, a, func(o *pluginv1.ReadOpen) { o.Digests = wanted })
		if err != nil {
			return err
		}
		for _, part := range r.parts {
			for _, algorithm := range wanted {
				if !slices.ContainsFunc(part.end.Digests, func(d *pluginv1.Digest) bool { return d.Algorithm == algorithm }) {
					return fmt.Errorf("part %q ends without %s, which was asked for", part.begin.Name, digestName(algorithm))
				}
			}
		}
	}
	return nil
}

// sized reads one part of each size, twice.
func (t *trial) sized(wanted ...int64) error {
	p, _, err := t.readable()
	if err != nil {
		return err
	}
	for _, n := range wanted {
		a, err := t.other("sized", func(s *Source) *template { return s.sized }, values{"size": cty.NumberIntVal(n)})
		if err != nil {
			return err
		}
		first, err := t.whole(p, a, nil)
		if err != nil {
			return fmt.Errorf("%d bytes: %w", n, err)
		}
		if len(first.parts) != 1 || first.parts[0].got != uint64(n) {
			return fmt.Errorf("%d bytes: %d parts came, with %d bytes", n, len(first.parts), first.total())
		}
		second, err := t.whole(p, a, nil)
		if err == nil {
			err = sameParts(second.parts, first.parts)
		}
		if err != nil {
			return fmt.Errorf("%d bytes for the second time: %w", n, err)
		}
	}
	return nil
}

func sourceOneByte(t *trial) error     { return t.sized(1) }
func sourceOneMebibyte(t *trial) error { return t.sized(1 << 20) }
func sourceOddSizes(t *trial) error    { return t.sized(sizes...) }

func sourceMany(t *trial) error {
	p, _, err := t.readable()
	if err != nil {
		return err
	}
	a, err := t.other("many", func(s *Source) *template { return s.many }, values{"parts": cty.NumberIntVal(manyParts)})
	if err != nil {
		return err
	}
	r, err := t.whole(p, a, nil)
	if err != nil {
		return err
	}
	if len(r.parts) != manyParts {
		return fmt.Errorf("%d parts came, not %d", len(r.parts), manyParts)
	}
	return nil
}

func sourceRecords(t *trial) error {
	_, _, r, err := t.known()
	if err != nil {
		return err
	}
	for _, part := range r.parts {
		if part.begin.Records != t.typ.Records {
			if t.typ.Records {
				return fmt.Errorf("the type says that parts carry records, and part %q carries bytes", part.begin.Name)
			}
			continue
		}
	}
	if !slices.ContainsFunc(r.parts, func(p *readPart) bool { return p.records > 0 }) {
		return skipf("no part of the address carries records")
	}
	return nil
}

func sourceList(t *trial) error {
	p, a, want, err := t.known()
	if err != nil {
		return err
	}
	list, err := t.whole(p, a, func(o *pluginv1.ReadOpen) { o.List = true })
	if err != nil {
		return err
	}
	if len(list.parts) != len(want.parts) {
		return fmt.Errorf("%d parts are listed, and %d read", len(list.parts), len(want.parts))
	}
	for i, part := range list.parts {
		if part.begin.Name != want.parts[i].begin.Name || part.begin.Index != want.parts[i].begin.Index {
			return fmt.Errorf("part %d, %q, is listed where part %d, %q, is read", part.begin.Index, part.begin.Name,
				want.parts[i].begin.Index, want.parts[i].begin.Name)
		}
	}
	return nil
}

func sourceSelect(t *trial) error {
	p, a, whole, err := t.known()
	if err != nil {
		return err
	}
	for _, want := range few(whole.parts) {
		r, err := t.whole(p, a, selecting(want.begin.Name, 0, nil, ""))
		if err != nil {
			return fmt.Errorf("part %q: %w", want.begin.Name, err)
		}
		if err := sameParts(r.parts, []*readPart{want}); err != nil {
			return fmt.Errorf("part %q alone: %w", want.begin.Name, err)
		}
		if err := t.pieces(p, a, want); err != nil {
			return fmt.Errorf("part %q: %w", want.begin.Name, err)
		}
	}
	_, err = t.whole(p, a, selecting("there/is no such.part", 0, nil, ""))
	return wantRefusal("a part that is not there", err, pluginv1.ErrorCode_ERROR_CODE_NOT_FOUND)
}

// few returns the first, the last and some of the parts between.
func few(parts []*readPart) (out []*readPart) {
	step := max(1, len(parts)/4)
	for i := 0; i < len(parts); i += step {
		out = append(out, parts[i])
	}
	return out
}

func selecting(name string, offset uint64, length *uint64, validator string) func(*pluginv1.ReadOpen) {
	return func(o *pluginv1.ReadOpen) {
		o.Select = &pluginv1.PartSelection{Name: name, Offset: offset, Length: length, Validator: validator}
	}
}

// pieces reads pieces of a part of bytes. Two that make up the whole have to have its digest.
func (t *trial) pieces(p *process, a sdk.DataAddress, want *readPart) error {
	if want.begin.Records || want.got < 2 {
		return nil
	}
	half := want.got / 2
	first, err := t.piece(p, a, want, 0, &half)
	if err != nil {
		return err
	}
	rest, err := t.piece(p, a, want, half, nil)
	if err != nil {
		return err
	}
	if first.got != half || rest.got != want.got {
		return fmt.Errorf("%d bytes of its first %d came, and %d of the rest", first.got, half, rest.got-half)
	}
	one := uint64(1)
	last, err := t.piece(p, a, want, want.got-1, &one)
	if err != nil {
		return err
	}
	if last.got != want.got {
		return fmt.Errorf("%d bytes came in place of the last one", last.got-(want.got-1))
	}
	if want.begin.Validator == "" {
		return nil
	}
	r, err := t.whole(p, a, selecting(want.begin.Name, half, nil, want.begin.Validator+"-old"))
	if err != nil {
		return err
	}
	return sameParts(r.parts, []*readPart{want}) // whole, as another content might be
}

func (t *trial) piece(p *process, a sdk.DataAddress, want *readPart, offset uint64, length *uint64) (*readPart, error) {
	r, err := t.whole(p, a, selecting(want.begin.Name, offset, length, want.begin.Validator))
	if err != nil {
		return nil, fmt.Errorf("a piece from %d on: %w", offset, err)
	}
	if len(r.parts) != 1 {
		return nil, fmt.Errorf("a piece from %d on: %d parts came", offset, len(r.parts))
	}
	if got := r.parts[0].begin; got.Offset != offset || got.Index != want.begin.Index {
		return nil, fmt.Errorf("a piece from %d on of part %d begins at %d of part %d", offset, want.begin.Index, got.Offset, got.Index)
	}
	return r.parts[0], nil
}

func sourceSkip(t *trial) error {
	p, a, whole, err := t.known()
	if err != nil {
		return err
	}
	for _, skipped := range few(whole.parts) {
		r, err := t.whole(p, a, func(o *pluginv1.ReadOpen) { o.Skip = []string{skipped.begin.Name} })
		if err != nil {
			return fmt.Errorf("without part %q: %w", skipped.begin.Name, err)
		}
		want := slices.DeleteFunc(slices.Clone(whole.parts), func(p *readPart) bool { return p == skipped })
		if err := sameParts(r.parts, want); err != nil {
			return fmt.Errorf("without part %q: %w", skipped.begin.Name, err)
		}
	}
	return nil
}

func sourceCheckpoints(t *trial) error {
	p, _, err := t.readable()
	if err != nil {
		return err
	}
	a, err := t.cuttable()
	if err != nil {
		return err
	}
	whole, err := t.reference(a)
	if err != nil {
		return err
	}
	var r *reading
	inside, due := false, t.typ.Resumable && whole.largest().got >= cutBytes
	// A source may hear that it is asked when all is on its way: then it is read again, more slowly.
	for _, pause := range []time.Duration{0, 5 * time.Millisecond, 50 * time.Millisecond} {
		if r, err = t.withCheckpoints(p, a, whole, pause); err != nil {
			return err
		}
		if inside = slices.ContainsFunc(r.marks, func(m mark) bool { return m.inside != nil }); inside || !due {
			break
		}
	}
	switch {
	case len(r.marks) == 0 && (t.typ.Resumable || len(whole.parts) > 1):
		return errors.New("it gave no checkpoint, though it was asked for some")
	case len(r.marks) == 0:
		return skipf("the type does not say that it is resumable, and gave no checkpoint")
	case due && !inside:
		return errors.New("the type says that it is resumable, and it gave no checkpoint inside a part")
	}
	for i := 0; i < len(r.marks); i += max(1, len(r.marks)/6) {
		if err := t.goOn(p, a, r.marks[i], whole); err != nil {
			return err
		}
	}
	return nil
}

// withCheckpoints reads an address and asks for checkpoints, and pauses before each frame until what was asked for has come.
func (t *trial) withCheckpoints(p *process, a sdk.DataAddress, whole *reading, pause time.Duration) (*reading, error) {
	r, err := t.read(p, a, nil)
	if err != nil {
		return nil, err
	}
	defer r.cancel()
	r.every, r.pause = max(1, whole.total()/8), pause
	if err := r.rest(); err != nil {
		return nil, p.explain(err)
	}
	if err := sameParts(r.parts, whole.parts); err != nil {
		return nil, fmt.Errorf("read with checkpoints: %w", err)
	}
	return &r.reading, nil
}

// cuttable returns an address with enough data to stop in the middle.
func (t *trial) cuttable() (sdk.DataAddress, error) {
	a, err := t.address()
	if err != nil {
		return a, err
	}
	r, err := t.reference(a)
	if err != nil || r.total() >= cutBytes || t.source.large == nil {
		return a, err
	}
	return t.large()
}

// goOn reads from a checkpoint on, and compares.
func (t *trial) goOn(p *process, a sdk.DataAddress, m mark, whole *reading) error {
	r, err := t.resume(p, a, m)
	if err != nil {
		return err
	}
	defer r.cancel()
	if err := r.rest(); err != nil {
		return fmt.Errorf("from the checkpoint with sequence %d on: %w", m.sequence, p.explain(err))
	}
	return r.follows(m, whole)
}

// sourceKilled kills the process in mid part, and goes on with another.
func sourceKilled(t *trial) error {
	if _, _, err := t.readable(); err != nil {
		return err
	}
	a, err := t.cuttable()
	if err != nil {
		return err
	}
	whole, err := t.reference(a)
	if err != nil {
		return err
	}
	p, err := t.fresh()
	if err != nil {
		return err
	}
	r, err := t.read(p, a, nil)
	if err != nil {
		return err
	}
	defer r.cancel()
	r.every = max(1, whole.total()/16)
	err = r.until(func(*pluginv1.Frame) bool { return len(r.marks) > 0 && r.bytes >= whole.total()/2 && r.current != nil })
	if err != nil {
		return p.explain(err)
	}
	if len(r.marks) == 0 {
		return skipf("it gave no checkpoint in this address: the host would begin again from the start")
	}
	p.end()
	next, err := t.fresh()
	if err != nil {
		return err
	}
	return t.goOn(next, a, r.marks[len(r.marks)-1], whole)
}

func sourceToken(t *trial) error {
	p, a, err := t.readable()
	if err != nil {
		return err
	}
	for _, token := range []string{"this is no token", "\x00\xff\xfe", "{}", "[1,2", `{"part":7}`} {
		_, err := t.whole(p, a, func(o *pluginv1.ReadOpen) { o.ResumeToken = []byte(token) })
		what := fmt.Sprintf("the token %q", token)
		if err := wantRefusal(what, err, pluginv1.ErrorCode_ERROR_CODE_INVALID, pluginv1.ErrorCode_ERROR_CODE_CORRUPT); err != nil {
			return err
		}
	}
	return p.answers(t.ctx)
}
