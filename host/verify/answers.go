package verify

import (
	"context"
	"fmt"
	"io"

	pluginv1 "github.com/towpath-dataplane/towpath/proto/towpath/plugin/v1"
)

// sourceAnswers asks for an address twice on one call, and for a list between, all at once.
func sourceAnswers(t *trial) error {
	if !t.description.GetCapabilities().GetAnswers() {
		return skipf("the plugin does not declare answers")
	}
	p, a, want, err := t.known()
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(t.ctx)
	defer cancel()
	stream, err := p.source.Answer(ctx)
	if err != nil {
		return problemOf(err)
	}
	orders := &pluginv1.Orders{}
	for i, list := range []bool{false, true, false} {
		open := &pluginv1.ReadOpen{Flow: t.newFlow(), Address: addressToProto(a), List: list, Once: true}
		orders.Orders = append(orders.Orders, &pluginv1.Order{Number: uint64(i) + 1, Open: open})
	}
	if err := stream.Send(orders); err != nil {
		return problemOf(err)
	}
	answers, err := collect(stream.Recv, len(orders.Orders))
	if err != nil {
		return p.explain(err)
	}
	for _, order := range orders.Orders {
		r, err := t.readAnswer(p, order.Open, answers[order.Number])
		if err == nil && !order.Open.List {
			err = sameParts(r.parts, want.parts)
		}
		if err != nil {
			return fmt.Errorf("answer %d: %w", order.Number, p.explain(err))
		}
	}
	return stream.CloseSend()
}

// collect receives the answers to the orders from 1 to n.
func collect(receive func() (*pluginv1.Answers, error), n int) (map[uint64]*pluginv1.Answer, error) {
	all := map[uint64]*pluginv1.Answer{}
	for len(all) < n {
		m, err := receive()
		if err != nil {
			return nil, fmt.Errorf("after %d of %d answers: %w", len(all), n, problemOf(err))
		}
		for _, a := range m.Answers {
			if a.Number < 1 || a.Number > uint64(n) {
				return nil, fmt.Errorf("an answer has the number %d, which no order has", a.Number)
			}
			if all[a.Number] != nil {
				return nil, fmt.Errorf("two answers have the number %d", a.Number)
			}
			all[a.Number] = a
		}
	}
	return all, nil
}

// readAnswer reads what an answer has, or what a Read has that it goes on in.
func (t *trial) readAnswer(p *process, open *pluginv1.ReadOpen, a *pluginv1.Answer) (*reader, error) {
	ctx, cancel := context.WithCancel(t.ctx)
	defer cancel()
	r := &reader{stream: &answer{a.Frames}, cancel: cancel, open: open, names: map[string]bool{}}
	if a.GoesOn != 0 {
		stream, err := p.source.Read(ctx)
		if err == nil {
			err = stream.Send(&pluginv1.ReadUp{Kind: &pluginv1.ReadUp_Open{Open: &pluginv1.ReadOpen{GoesOn: a.GoesOn}}})
		}
		if err != nil && err != io.EOF {
			return nil, problemOf(err)
		}
		r.stream = stream
	}
	return r, r.rest()
}

// answer is one answer as a stream of Read. What a host says meanwhile is not said.
type answer struct{ frames []*pluginv1.Frame }

var _ frames = (*answer)(nil)

func (a *answer) Recv() (*pluginv1.Frame, error) {
	if len(a.frames) == 0 {
		return nil, io.EOF
	}
	f := a.frames[0]
	a.frames = a.frames[1:]
	return f, nil
}

func (a *answer) Send(*pluginv1.ReadUp) error { return nil }

func (a *answer) CloseSend() error { return nil }
