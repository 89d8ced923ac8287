package verify

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"google.golang.org/protobuf/proto"

	pluginv1 "github.com/towpath-dataplane/towpath/proto/towpath/plugin/v1"
	"github.com/towpath-dataplane/towpath/sdk"
)

// writable returns the process that checks share and an address to write to, another for each call if the Spec uses flow.
func (t *trial) writable() (*process, sdk.DataAddress, error) {
	a, err := t.address()
	if err != nil {
		return nil, a, err
	}
	p, err := t.plugin()
	return p, a, err
}

// contents returns n parts as the sink takes them, with names that no other call has.
func (t *trial) contents(n int) (out []content) {
	t.flows++
	for i := range n {
		name := fmt.Sprintf("verify-%d/part-%d", t.flows, i)
		if t.typ.Records {
			out = append(out, recordsOf(name, 100+i))
		} else {
			out = append(out, bytesOf(name, int64(1000+70_000*i)))
		}
	}
	return out
}

// big is a part to be cut in the middle, between two others.
func (t *trial) big() []content {
	parts := t.contents(3)
	if t.typ.Records {
		parts[1] = recordsOf(parts[1].name, 6000)
	} else {
		parts[1] = bytesOf(parts[1].name, 8<<20)
	}
	return parts
}

// step is how far checkpoints are apart inside a part.
func (t *trial) step() int64 {
	if t.typ.Records {
		return 500
	}
	return 1 << 20
}

func sinkType(t *trial) error {
	p, a, err := t.writable()
	if err != nil {
		return err
	}
	a.Type = "no-such-type-of-any-plugin"
	_, err = p.sink.Validate(t.ctx, &pluginv1.ValidateRequest{Address: addressToProto(a)})
	if err := wantRefusal("Validate of another type", problemOf(err), pluginv1.ErrorCode_ERROR_CODE_INVALID); err != nil {
		return err
	}
	_, err = t.put(p, a, t.contents(1), sendOptions{})
	return wantRefusal("Write to another type", err, pluginv1.ErrorCode_ERROR_CODE_INVALID)
}

func sinkWhole(t *trial) error {
	p, a, err := t.writable()
	if err != nil {
		return err
	}
	parts := t.contents(4)
	w, err := t.put(p, a, parts, sendOptions{every: t.step()})
	if err != nil {
		return err
	}
	if last := w.last(); last.part != len(parts) {
		return errors.New("the checkpoint behind the last part was not answered with Durable, though WriteDone says that all is durable")
	}
	declared := t.description.GetCapabilities().GetDigests()
	for _, receipt := range w.written {
		for _, algorithm := range declared {
			if !slices.ContainsFunc(receipt.Digests, func(d *pluginv1.Digest) bool { return d.Algorithm == algorithm }) {
				return fmt.Errorf("its PartWritten of part %d is without %s, which WriteOpen asks for", receipt.Index, digestName(algorithm))
			}
		}
	}
	return nil
}

// back reads what was written by the source of read_back. It is not applicable if there is none.
func (t *trial) back(flow *pluginv1.FlowContext) (*reading, error) {
	if t.sink == nil || t.sink.readBack == nil {
		return nil, skipf("nobody said how to read what was written: add a block read_back to the block sink of the suite's file")
	}
	a, err := t.sink.readBack.fill(values{"flow": flowValue(flow)})
	if err != nil {
		return nil, err
	}
	p, err := t.plugin()
	if err != nil {
		return nil, err
	}
	r, err := t.whole(p, a, nil)
	if err != nil {
		return nil, fmt.Errorf("read back: %w", err)
	}
	return r, nil
}

// kept compares what was read back with what was written. Other parts may be there too.
func (r *reading) kept(parts []content) error {
	for _, c := range parts {
		i := slices.IndexFunc(r.parts, func(p *readPart) bool { return p.begin.Name == c.name })
		if i < 0 {
			return fmt.Errorf("part %q was written, and is not read back", c.name)
		}
		want := &readPart{begin: r.parts[i].begin, got: uint64(c.size), records: uint64(c.records), sum: c.sum()}
		if err := r.parts[i].same(want); err != nil {
			return fmt.Errorf("read back: %w", err)
		}
	}
	return nil
}

// to returns an address to write to in a flow of its own.
func (t *trial) to() (sdk.DataAddress, *pluginv1.FlowContext, error) {
	flow := t.newFlow()
	if _, err := t.address(); err != nil {
		return sdk.DataAddress{}, nil, err
	}
	a, err := t.sink.address.fill(values{"flow": flowValue(flow)})
	return a, flow, err
}

// writes writes parts, and reads them back if the Spec says how.
func (t *trial) writes(parts []content) error {
	w, err := t.begin(t.plugin, parts)
	if err != nil {
		return err
	}
	defer w.close()
	if err := w.toEnd(sendOptions{}); err != nil {
		return w.process.explain(err)
	}
	return t.keeps(w.flow, parts)
}

// keeps reads parts back that a flow has written, if the Spec says how.
func (t *trial) keeps(flow *pluginv1.FlowContext, parts []content) error {
	r, err := t.back(flow)
	if errors.As(err, new(notApplicable)) {
		return nil
	}
	if err != nil {
		return err
	}
	return r.kept(parts)
}

func sinkRoundTrip(t *trial) error {
	if _, err := t.address(); err != nil {
		return err
	}
	if t.sink.readBack == nil {
		_, err := t.back(nil)
		return err
	}
	return t.writes(t.big())
}

// writesSizes writes one part of each size.
func (t *trial) writesSizes(wanted ...int64) error {
	if t.typ.Records {
		return skipf("the type carries records, not bytes")
	}
	parts := t.contents(len(wanted))
	for i, n := range wanted {
		parts[i] = bytesOf(parts[i].name, n)
	}
	return t.writes(parts)
}

func sinkOneByte(t *trial) error     { return t.writesSizes(1) }
func sinkOneMebibyte(t *trial) error { return t.writesSizes(1 << 20) }
func sinkOddSizes(t *trial) error    { return t.writesSizes(sizes...) }

func sinkMany(t *trial) error {
	parts := t.contents(manyParts)
	for i := range parts {
		if t.typ.Records {
			parts[i] = recordsOf(parts[i].name, 1)
		} else {
			parts[i] = bytesOf(parts[i].name, int64(1+i%50))
		}
	}
	return t.writes(parts)
}

func sinkRecords(t *trial) error {
	if _, err := t.address(); err != nil {
		return err
	}
	if !t.typ.Records && !t.sink.records {
		return skipf("the type does not say that it carries records, and the suite's file has no block records")
	}
	parts := t.contents(2)
	parts[0], parts[1] = recordsOf(parts[0].name, 1), recordsOf(parts[1].name, 5000)
	return t.writes(parts)
}

// spoiled writes with frames that are changed on the way. It has to be refused.
func (t *trial) spoiled(what string, edit func(*pluginv1.Frame), want ...pluginv1.ErrorCode) error {
	p, a, err := t.writable()
	if err != nil {
		return err
	}
	_, err = t.put(p, a, t.contents(2), sendOptions{edit: edit})
	return wantRefusal(what, err, want...)
}

func sinkDigests(t *trial) error {
	declared := t.description.GetCapabilities().GetDigests()
	if len(declared) == 0 {
		return skipf("the plugin declares no digests: the host computes them")
	}
	for _, algorithm := range declared {
		err := t.spoiled("a part with a wrong "+digestName(algorithm), func(f *pluginv1.Frame) {
			for _, d := range f.GetPartEnd().GetDigests() {
				if d.Algorithm == algorithm {
					d.Value[0] ^= 1
				}
			}
		}, pluginv1.ErrorCode_ERROR_CODE_CORRUPT)
		if err != nil {
			return err
		}
	}
	return nil
}

func sinkSizes(t *trial) error {
	err := t.spoiled("a part that is shorter than PartEnd says", func(f *pluginv1.Frame) {
		if e := f.GetPartEnd(); e != nil {
			e.Size++
		}
	}, pluginv1.ErrorCode_ERROR_CODE_CORRUPT)
	if err != nil {
		return err
	}
	return t.spoiled("a flow with fewer parts than End says", func(f *pluginv1.Frame) {
		if e := f.GetEnd(); e != nil {
			e.Parts++
		}
	}, pluginv1.ErrorCode_ERROR_CODE_CORRUPT)
}

func sinkOrder(t *trial) error {
	p, _, err := t.writable()
	if err != nil {
		return err
	}
	begin := func(index uint64, name string) *pluginv1.Frame {
		return &pluginv1.Frame{Kind: &pluginv1.Frame_PartBegin{PartBegin: &pluginv1.PartBegin{Index: index, Name: name, Records: t.typ.Records}}}
	}
	payload := bytesOf("", 3).frame(0, 3)
	if t.typ.Records {
		payload = recordsOf("", 1).frame(0, 1)
	}
	partEnd := &pluginv1.Frame{Kind: &pluginv1.Frame_PartEnd{PartEnd: &pluginv1.PartEnd{}}}
	end := &pluginv1.Frame{Kind: &pluginv1.Frame_End{End: &pluginv1.End{}}}
	for _, c := range []struct {
		name   string
		frames []*pluginv1.Frame
	}{
		{"payload before the first part", []*pluginv1.Frame{payload, end}},
		{"the end of a part that has not begun", []*pluginv1.Frame{partEnd, end}},
		{"a part inside a part", []*pluginv1.Frame{begin(0, "a"), begin(1, "b"), payload, partEnd, end}},
		{"End inside a part", []*pluginv1.Frame{begin(0, "a"), payload, end}},
		{"a second WriteOpen", []*pluginv1.Frame{{Kind: &pluginv1.Frame_Open{Open: &pluginv1.WriteOpen{}}}, end}},
		{"a frame without a kind", []*pluginv1.Frame{{}, end}},
		{"a stream that ends before End", []*pluginv1.Frame{begin(0, "a"), payload}},
	} {
		if err := t.disorder(p, c.name, c.frames); err != nil {
			return err
		}
	}
	return p.answers(t.ctx)
}

// disorder sends frames as they are, behind WriteOpen.
func (t *trial) disorder(p *process, what string, frames []*pluginv1.Frame) error {
	a, flow, err := t.to()
	if err != nil {
		return err
	}
	w, err := t.write(p, a, flow, nil, nil)
	if err == nil {
		defer w.close()
		for _, f := range frames {
			if err = w.send(f); err != nil {
				break
			}
		}
		if frames[len(frames)-1].GetEnd() == nil {
			w.stream.CloseSend()
		}
		if err == nil {
			err = w.awaitRefusal(what)
		}
	}
	if errors.Is(err, errCut) && !p.hasEnded() {
		return nil // UNAVAILABLE, CANCELLED: a refusal all the same
	}
	return p.explain(wantRefusal(what, err))
}

// awaitRefusal is await for a stream that the sink should not let be.
func (w *writer) awaitRefusal(what string) error {
	timer := time.NewTimer(patienceForGarbage)
	defer timer.Stop()
	select {
	case <-w.ups:
		return w.await()
	case <-timer.C:
		return fmt.Errorf("%s: it was neither accepted nor refused within %s", what, patienceForGarbage)
	}
}

func sinkNames(t *trial) error {
	p, _, err := t.writable()
	if err != nil {
		return err
	}
	for _, name := range []string{"", ".", "..", "../verify-outside", "/verify-outside", "a/../../verify-outside", "a//b", `a\b`, "a\x00b", "a/"} {
		a, flow, err := t.to()
		if err != nil {
			return err
		}
		parts := t.contents(1)
		parts[0].name = name
		w, err := t.write(p, a, flow, parts, nil)
		if err == nil {
			err = w.toEnd(sendOptions{})
			w.close()
		}
		if err := wantRefusal(fmt.Sprintf("a part called %q", name), err, pluginv1.ErrorCode_ERROR_CODE_INVALID); err != nil {
			return err
		}
	}
	return nil
}

func sinkOversized(t *trial) error {
	if t.typ.Records {
		return skipf("the type carries records, not bytes")
	}
	p, a, err := t.writable()
	if err != nil {
		return err
	}
	parts := t.contents(1)
	parts[0] = bytesOf(parts[0].name, maxData+1)
	_, err = t.put(p, a, parts, sendOptions{frame: maxData + 1})
	if err := wantRefusal("a data frame with 1 MiB and a byte", err); err != nil {
		return err
	}
	return p.answers(t.ctx)
}

func sinkToken(t *trial) error {
	p, _, err := t.writable()
	if err != nil {
		return err
	}
	for _, token := range []string{"this is no token", "\x00\xff\xfe", "[1,2", `{"index":"x"}`} {
		a, flow, err := t.to()
		if err != nil {
			return err
		}
		parts := t.contents(1)
		w, err := t.write(p, a, flow, parts, func(o *pluginv1.WriteOpen) { o.ResumeToken = []byte(token) })
		if err == nil {
			err = w.toEnd(sendOptions{})
			w.close()
		}
		what := fmt.Sprintf("the token %q", token)
		if err := wantRefusal(what, err, pluginv1.ErrorCode_ERROR_CODE_INVALID, pluginv1.ErrorCode_ERROR_CODE_CORRUPT); err != nil {
			return err
		}
	}
	return p.answers(t.ctx)
}

func sinkMissing(t *trial) error {
	p, _, err := t.writable()
	if err != nil {
		return err
	}
	if t.sink.missing == nil {
		return skipf("no such address was given: add a block missing to the block sink of the suite's file")
	}
	a, err := t.sink.missing.fill(values{"flow": flowValue(t.newFlow())})
	if err != nil {
		return err
	}
	_, err = t.put(p, a, t.contents(1), sendOptions{})
	return wantRefusal("an address that cannot be written to", err, pluginv1.ErrorCode_ERROR_CODE_NOT_FOUND, pluginv1.ErrorCode_ERROR_CODE_DENIED,
		pluginv1.ErrorCode_ERROR_CODE_CONFLICT, pluginv1.ErrorCode_ERROR_CODE_INVALID)
}

func sinkHealth(t *trial) error {
	w, err := t.begin(t.fresh, t.contents(1))
	if err != nil {
		return err
	}
	err = t.awaitFlows(w.process, 1)
	w.close()
	if err != nil {
		return fmt.Errorf("while a flow is written: %w", err)
	}
	if err := t.awaitFlows(w.process, 0); err != nil {
		return fmt.Errorf("after the flow was cut: %w", err)
	}
	return nil
}

func sinkDeprovision(t *trial) error {
	p, a, err := t.writable()
	if err != nil {
		return err
	}
	flow := t.newFlow()
	for _, which := range []string{"of a flow that it never saw", "for the second time"} {
		if _, err := p.sink.Deprovision(t.ctx, &pluginv1.DeprovisionRequest{Flow: flow, Address: addressToProto(a)}); err != nil {
			return fmt.Errorf("its Deprovision %s: %w", which, p.explain(problemOf(err)))
		}
	}
	return nil
}

func sinkProvision(t *trial) error {
	p, a, err := t.writable()
	if err != nil {
		return err
	}
	flow := t.newFlow()
	request := &pluginv1.ProvisionRequest{Flow: flow, Address: addressToProto(a)}
	first, err := p.sink.Provision(t.ctx, request)
	if !t.typ.Provisions {
		if err == nil {
			return errors.New("the type does not say that it provisions, and Provision gives an address")
		}
		return wantRefusal("Provision of a type that does not", problemOf(err))
	}
	if err != nil {
		return fmt.Errorf("its Provision: %w", p.explain(problemOf(err)))
	}
	second, err := p.sink.Provision(t.ctx, request)
	if err != nil {
		return fmt.Errorf("its Provision for the second time: %w", p.explain(problemOf(err)))
	}
	if !proto.Equal(first, second) {
		return errors.New("its Provision gives the same flow another address the second time")
	}
	if first.Address.GetType() == "" {
		return errors.New("its Provision gives an address without a type")
	}
	for range 2 {
		if _, err := p.sink.Deprovision(t.ctx, &pluginv1.DeprovisionRequest{Flow: flow, Address: addressToProto(a)}); err != nil {
			return fmt.Errorf("its Deprovision: %w", p.explain(problemOf(err)))
		}
	}
	return nil
}

func sinkQuiet(t *trial) error {
	a, err := t.address()
	if err != nil {
		return err
	}
	p, err := t.fresh()
	if err != nil {
		return err
	}
	parts := t.contents(1500)
	for i := range parts {
		if t.typ.Records {
			parts[i] = recordsOf(parts[i].name, 1)
		} else {
			parts[i] = bytesOf(parts[i].name, 10)
		}
	}
	if _, err := t.put(p, a, parts, sendOptions{}); err != nil {
		return err
	}
	return p.quiet(t)
}

func sinkLane(t *trial) error {
	a, flow, err := t.to()
	if err != nil {
		return err
	}
	p, client, stop, err := t.speaksLane()
	if err != nil {
		return err
	}
	parts := t.big()
	err = t.writeByClient(client.Sink(t.typ.Type), a, flow, parts)
	p.end()
	stop()
	if err != nil {
		return err
	}
	return t.keeps(flow, parts)
}

func sinkTerm(t *trial) error {
	w, err := t.begin(t.fresh, t.big())
	if err != nil {
		return err
	}
	defer w.close()
	if err := t.awaitFlows(w.process, 1); err != nil {
		return err // a flow that the plugin has not begun is a new one
	}
	ended := make(chan error, 1)
	termed := false
	err = w.sendAll(sendOptions{every: t.step(), stop: func(part int, offset int64) bool {
		if part == 1 && !termed {
			termed = true
			go func() { ended <- w.process.term(t.ctx) }()
		}
		return false
	}})
	if err == nil {
		err = w.finish(place{})
	}
	return afterTerm(ended, "taken", err)
}
