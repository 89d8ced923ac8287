package verify

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/zclconf/go-cty/cty"
	"google.golang.org/protobuf/types/known/durationpb"

	pluginv1 "github.com/towpath-dataplane/towpath/proto/towpath/plugin/v1"
	"github.com/towpath-dataplane/towpath/sdk"
)

func sourceMissing(t *trial) error {
	p, _, err := t.readable()
	if err != nil {
		return err
	}
	a, err := t.other("missing", func(s *Source) *template { return s.missing }, nil)
	if err != nil {
		return err
	}
	_, err = t.whole(p, a, nil)
	return wantRefusal("an address where nothing is", err, pluginv1.ErrorCode_ERROR_CODE_NOT_FOUND, pluginv1.ErrorCode_ERROR_CODE_DENIED)
}

// stalled opens a flow with much data, reads its first payload, and no more.
func (t *trial) stalled(p *process) (*reader, sdk.DataAddress, error) {
	a, err := t.large()
	if err != nil {
		return nil, a, err
	}
	if !t.typ.NonFinite {
		if whole, err := t.reference(a); err != nil || whole.total() < stallBytes {
			return nil, a, cmp.Or(err, skipf("the address has not enough data, %d bytes: add a block large to the block source of the suite's file", stallBytes))
		}
	}
	r, err := t.read(p, a, nil)
	if err != nil {
		return nil, a, err
	}
	if err := r.until(func(*pluginv1.Frame) bool { return r.bytes > 0 }); err != nil {
		r.cancel()
		return nil, a, p.explain(err)
	}
	return r, a, nil
}

func sourceStalled(t *trial) error {
	if _, ok := memory(1); !ok && !hasProc() {
		return skipf("this system has no /proc to see a process's memory in")
	}
	a, err := t.large()
	if err != nil {
		return err
	}
	var whole *reading
	if !t.typ.NonFinite {
		if whole, err = t.reference(a); err != nil {
			return err
		}
		if whole.total() < largeBytes {
			return skipf("the address has %d bytes and %d are needed: add a block large to the block source of the suite's file", whole.total(), largeBytes)
		}
	}
	p, err := t.fresh()
	if err != nil {
		return err
	}
	before, _ := memory(p.cmd.Process.Pid)
	r, _, err := t.stalled(p)
	if err != nil {
		return err
	}
	defer r.cancel()
	if err := t.awaitRest(p, before); err != nil {
		return err
	}
	if whole == nil {
		return nil
	}
	if err := r.rest(); err != nil {
		return fmt.Errorf("read on after it was stalled: %w", p.explain(err))
	}
	return sameParts(r.parts, whole.parts)
}

// awaitRest waits until a process has not grown for a while, or has grown too much.
func (t *trial) awaitRest(p *process, before uint64) error {
	const quiet = 15 // samples
	most, same := before, 0
	for range 100 {
		now, ok := memory(p.cmd.Process.Pid)
		switch {
		case !ok:
			return fmt.Errorf("its process has ended: %s", p.exit())
		case now > before+keeps:
			return fmt.Errorf("it grew from %d to %d KiB while nobody read the flow: %d KiB more is the most", before>>10, now>>10, keeps>>10)
		case now > most+64<<10:
			most, same = now, 0
		default:
			same++
		}
		if same == quiet {
			return nil
		}
		select {
		case <-time.After(40 * time.Millisecond):
		case <-t.ctx.Done():
			return context.Cause(t.ctx)
		}
	}
	return nil
}

func sourceBeside(t *trial) error {
	if _, _, err := t.readable(); err != nil {
		return err
	}
	p, err := t.fresh()
	if err != nil {
		return err
	}
	r, _, err := t.stalled(p)
	if err != nil {
		return err
	}
	defer r.cancel()
	a, err := t.address()
	if err != nil {
		return err
	}
	want, err := t.reference(a)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(t.ctx, besideTime)
	defer cancel()
	beside := *t
	beside.ctx = ctx
	got, err := beside.whole(p, a, nil)
	if ctx.Err() != nil {
		return fmt.Errorf("while another flow stalls, one of %d bytes was not read within %s", want.total(), besideTime)
	}
	if err != nil {
		return fmt.Errorf("while another flow stalls: %w", err)
	}
	return sameParts(got.parts, want.parts)
}

func sourceHealth(t *trial) error {
	p, err := t.fresh()
	if err != nil {
		return err
	}
	r, _, err := t.stalled(p)
	if err != nil {
		return err
	}
	err = t.awaitFlows(p, 1)
	r.cancel()
	if err != nil {
		return fmt.Errorf("while a flow is read: %w", err)
	}
	if err := t.awaitFlows(p, 0); err != nil {
		return fmt.Errorf("after the flow was cut: %w", err)
	}
	return nil
}

func sourceCancel(t *trial) error {
	a, err := t.large()
	if err != nil {
		return err
	}
	p, err := t.fresh()
	if err != nil {
		return err
	}
	for _, state := range []struct {
		name string
		stop func(*reader, *pluginv1.Frame) bool
	}{
		{"before the first frame", nil},
		{"at the start of a part", func(r *reader, _ *pluginv1.Frame) bool { return r.current != nil }},
		{"inside a part", func(r *reader, _ *pluginv1.Frame) bool { return r.bytes > 0 && r.current != nil }},
		{"between parts", func(r *reader, _ *pluginv1.Frame) bool { return len(r.parts) > 0 && r.current == nil }},
		{"after End", func(r *reader, _ *pluginv1.Frame) bool { return r.end != nil }},
	} {
		if t.typ.NonFinite && (state.name == "between parts" || state.name == "after End") {
			continue
		}
		r, err := t.read(p, a, nil)
		if err == nil && state.stop != nil {
			err = r.until(func(f *pluginv1.Frame) bool { return state.stop(r, f) })
		}
		if err != nil {
			return fmt.Errorf("to be cut %s: %w", state.name, p.explain(err))
		}
		r.cancel()
		if err := t.awaitFlows(p, 0); err != nil {
			return fmt.Errorf("a flow was cut %s: %w", state.name, err)
		}
	}
	return nil
}

func sourceQuiet(t *trial) error {
	if _, _, err := t.readable(); err != nil {
		return err
	}
	p, err := t.fresh()
	if err != nil {
		return err
	}
	a, err := t.other("many", func(s *Source) *template { return s.many }, values{"parts": cty.NumberIntVal(manyParts)})
	if errors.As(err, new(notApplicable)) {
		a, err = t.address()
	}
	if err != nil {
		return err
	}
	if _, err := t.whole(p, a, nil); err != nil {
		return err
	}
	return p.quiet(t)
}

// mostLines is what a plugin may log while one flow passes: what a host lets through at once.
const mostLines = 1000

// quiet ends the process, and looks at what it has printed.
func (p *process) quiet(t *trial) error {
	if err := p.term(t.ctx); err != nil {
		return err
	}
	<-p.reaped
	if lines, n := p.stderr.counts(); lines > mostLines || n > 1<<20 {
		return fmt.Errorf("it printed %d lines with %d bytes on standard error while one flow passed, as %.120q", lines, n, p.stderr.last())
	}
	if lines, _ := p.stdout.counts(); lines > 0 {
		return fmt.Errorf("it printed %d lines on standard output while a flow passed, as %.120q", lines, p.stdout.last())
	}
	return nil
}

func sourceTerm(t *trial) error {
	p, err := t.fresh()
	if err != nil {
		return err
	}
	r, _, err := t.stalled(p)
	if err != nil {
		return err
	}
	defer r.cancel()
	ended := make(chan error, 1)
	go func() { ended <- p.term(t.ctx) }()
	if t.typ.NonFinite {
		r.cancel() // as a host does with what has no end
		return <-ended
	}
	err = r.rest()
	return afterTerm(ended, "sent", err)
}

// afterTerm judges what became of a flow that ran when SIGTERM came: it was sent, or taken, to its end, or ended with Error. ended is how
// the process did.
func afterTerm(ended <-chan error, done string, err error) error {
	if said := (*problem)(nil); errors.As(err, &said) {
		err = wantTemporary("the rest of the flow, after SIGTERM,", err)
	}
	if term := <-ended; term != nil {
		return term
	}
	if err != nil {
		return fmt.Errorf("after SIGTERM the flow was neither %s to its end nor ended with Error: %w", done, err)
	}
	return nil
}

func sourceDrain(t *trial) error {
	p, err := t.fresh()
	if err != nil {
		return err
	}
	r, _, err := t.stalled(p)
	if err != nil {
		return err
	}
	defer r.cancel()
	ctx, cancel := context.WithTimeout(t.ctx, 15*time.Second)
	defer cancel()
	d, err := p.plugin.Drain(ctx, &pluginv1.DrainRequest{Deadline: durationpb.New(300 * time.Millisecond)})
	if err != nil {
		return fmt.Errorf("drain with a deadline while a flow stalls: %w", p.explain(err))
	}
	if d.Flows != 1 {
		return fmt.Errorf("one flow stalls, and Drain says at its deadline that %d are left", d.Flows)
	}
	a, err := t.address()
	if err != nil {
		return err
	}
	_, err = t.whole(p, a, nil)
	if err := wantTemporary("a new flow while it drains", err); err != nil {
		return err
	}
	r.cancel()
	d, err = p.plugin.Drain(ctx, &pluginv1.DrainRequest{Deadline: durationpb.New(10 * time.Second)})
	if err != nil {
		return p.explain(err)
	}
	if d.Flows != 0 {
		return fmt.Errorf("no flow runs, and Drain says that %d are left", d.Flows)
	}
	return nil
}
