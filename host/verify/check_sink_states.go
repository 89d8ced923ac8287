package verify

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	pluginv1 "github.com/towpath-dataplane/towpath/proto/towpath/plugin/v1"
)

func sinkCancel(t *trial) error {
	p, err := t.fresh()
	if err != nil {
		return err
	}
	for _, state := range []struct {
		name string
		stop func(part int, offset int64) bool
		end  bool
	}{
		{"before the first frame", nil, false},
		{"inside a part", func(part int, offset int64) bool { return part == 1 && offset >= t.step() }, false},
		{"between parts", func(part int, _ int64) bool { return part == 2 }, false},
		{"after End, before the receipt", nil, true},
	} {
		w, err := t.begin(func() (*process, error) { return p, nil }, t.big())
		if err != nil {
			return fmt.Errorf("to be cut %s: %w", state.name, err)
		}
		if state.stop != nil || state.end {
			err = w.sendAll(sendOptions{stop: state.stop, every: t.step()})
		}
		w.close()
		if err != nil && !errors.Is(err, errStopped) {
			return fmt.Errorf("to be cut %s: %w", state.name, p.explain(err))
		}
		if err := t.awaitFlows(p, 0); err != nil {
			return fmt.Errorf("a flow was cut %s: %w", state.name, err)
		}
		if err := t.again(p, w, place{}); err != nil {
			return fmt.Errorf("a flow was cut %s, and runs again: %w", state.name, err)
		}
	}
	return nil
}

// again writes a flow that was cut to its end, in p and from a place on, and reads it back if the Spec says how.
func (t *trial) again(p *process, cut *writer, from place) error {
	w, err := t.write(p, cut.address, cut.flow, cut.parts, func(o *pluginv1.WriteOpen) { o.Redelivery, o.ResumeToken = true, from.token })
	if err != nil {
		return p.explain(err)
	}
	defer w.close()
	if err := w.toEnd(sendOptions{from: from}); err != nil {
		return p.explain(err)
	}
	return t.keeps(w.flow, w.parts)
}

func sinkInvisible(t *trial) error {
	p, _, err := t.writable()
	if err != nil {
		return err
	}
	if t.sink.readBack == nil {
		_, err := t.back(nil)
		return err
	}
	if t.typ.Records {
		return skipf("the type carries records, which are visible one by one")
	}
	parts := t.big()
	w, err := t.begin(func() (*process, error) { return p, nil }, parts)
	if err != nil {
		return err
	}
	defer w.close()
	err = w.sendAll(sendOptions{stop: func(part int, offset int64) bool { return part == 1 && offset >= parts[1].size/2 }, every: t.step()})
	if !errors.Is(err, errStopped) {
		return p.explain(err)
	}
	for _, when := range []string{"while it is written", "after the flow was cut"} {
		r, err := t.back(w.flow)
		if q := (*problem)(nil); errors.As(err, &q) && q.said.GetCode() == pluginv1.ErrorCode_ERROR_CODE_NOT_FOUND {
			r, err = &reading{}, nil // nothing is there, not even its place
		}
		if err != nil {
			return err
		}
		if slices.ContainsFunc(r.parts, func(p *readPart) bool { return p.begin.Name == parts[1].name }) {
			return fmt.Errorf("half of part %q is visible under its name %s", parts[1].name, when)
		}
		w.close()
		if err := t.awaitFlows(p, 0); err != nil {
			return err
		}
	}
	return nil
}

// sinkKilled kills the process in mid part, and goes on with another from the last place that is durable.
func sinkKilled(t *trial) error {
	parts := t.big()
	w, err := t.begin(t.fresh, parts)
	if err != nil {
		return err
	}
	defer w.close()
	middle := int64(parts[1].records)
	if middle == 0 {
		middle = parts[1].size
	}
	err = w.sendAll(sendOptions{every: t.step(), stop: func(part int, offset int64) bool { return part == 1 && offset >= middle*3/4 }})
	if !errors.Is(err, errStopped) {
		return w.process.explain(err)
	}
	wait, cancel := context.WithTimeout(t.ctx, time.Second)
	// Not every receiver behind a sink can go on inside a part: then a place before it has to do.
	w.awaitDurable(wait, func(d place) bool { return d.offset > 0 })
	cancel()
	w.process.end()
	<-w.ups
	next, err := t.fresh()
	if err != nil {
		return err
	}
	from := w.last()
	if err := t.again(next, w, from); err != nil {
		return fmt.Errorf("killed inside part 1, and gone on from part %d at %d: %w", from.part, from.offset, err)
	}
	return nil
}

// sinkRepeated writes a flow to its end, and then goes on from a checkpoint in its middle, twice.
func sinkRepeated(t *trial) error {
	w, err := t.begin(t.plugin, t.big())
	if err != nil {
		return err
	}
	defer w.close()
	if err := w.toEnd(sendOptions{every: t.step()}); err != nil {
		return w.process.explain(err)
	}
	from := place{}
	for _, d := range w.durable {
		if d.part <= 1 {
			from = d // the last one inside the big part, or before it
		}
	}
	for range 2 {
		if err := t.again(w.process, w, from); err != nil {
			return fmt.Errorf("written whole, and gone on from part %d at %d: %w", from.part, from.offset, err)
		}
	}
	return nil
}
