package verify

import (
	"context"
	"errors"
	"fmt"

	pluginv1 "github.com/towpath-dataplane/towpath/proto/towpath/plugin/v1"
)

// sourceAnswers reads an address twice on one call, with a list between.
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
	for i, list := range []bool{false, true, false} {
		open := &pluginv1.ReadOpen{Flow: t.newFlow(), Address: addressToProto(a), List: list, Once: true}
		if err := stream.Send(open); err != nil {
			return fmt.Errorf("question %d: %w", i, problemOf(err))
		}
		r := &reader{stream: &answer{receive: stream.Recv}, cancel: cancel, open: open, names: map[string]bool{}}
		for r.end == nil {
			if _, err := r.next(); err != nil {
				return fmt.Errorf("answer %d: %w", i, p.explain(err))
			}
		}
		if list {
			continue
		}
		if err := sameParts(r.parts, want.parts); err != nil {
			return fmt.Errorf("answer %d: %w", i, err)
		}
	}
	return stream.CloseSend()
}

// answer is one answer as a stream of Read: bundles are undone, and what a host says meanwhile is not said.
type answer struct {
	receive func() (*pluginv1.Frame, error)
	bundle  []*pluginv1.Frame
}

var _ frames = (*answer)(nil)

func (a *answer) Recv() (*pluginv1.Frame, error) {
	for len(a.bundle) == 0 {
		f, err := a.receive()
		if err != nil || f.GetBundle() == nil {
			return f, err
		}
		for _, inner := range f.GetBundle().Frames {
			if inner.GetBundle() != nil {
				return nil, errors.New("a bundle in a bundle")
			}
		}
		a.bundle = f.GetBundle().Frames
	}
	f := a.bundle[0]
	a.bundle = a.bundle[1:]
	return f, nil
}

func (a *answer) Send(*pluginv1.ReadUp) error { return nil }

func (a *answer) CloseSend() error { return nil }
