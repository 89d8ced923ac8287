package publicapi

import (
	"context"
	"errors"
	"slices"
	"sync"
	"testing"

	"github.com/towpath-dataplane/towpath/host/flow"
	"github.com/towpath-dataplane/towpath/sdk"
)

// flows is a flow.Service that keeps flows in memory and stops them as the engine does.
type flows struct {
	mu     sync.Mutex // guards what follows
	flows  map[flow.Key]*flow.Flow
	parts  map[flow.Key]map[string]flow.Part
	next   map[flow.Key]uint64
	inside map[flow.Key]*visitors
	faults map[flow.Key][]string
	broken error                            // what everything but Join returns
	cause  func(flow.Key, flow.State) error // what requests are cut with; nil: errSuspended
}

// visitors are the requests inside a flow.
type visitors struct {
	sync.WaitGroup
	cancels map[*flow.Joined]context.CancelCauseFunc
}

var _ flow.Service = (*flows)(nil)

var errSuspended = errors.New("suspended by the control plane")

func newFlows() *flows {
	return &flows{
		flows: map[flow.Key]*flow.Flow{}, parts: map[flow.Key]map[string]flow.Part{},
		next: map[flow.Key]uint64{}, inside: map[flow.Key]*visitors{}, faults: map[flow.Key][]string{},
	}
}

func (s *flows) put(f *flow.Flow) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.flows[f.Key] = f
	s.parts[f.Key] = map[string]flow.Part{}
	s.inside[f.Key] = &visitors{cancels: map[*flow.Joined]context.CancelCauseFunc{}}
}

// stop moves a flow to a state in which nothing runs, and returns when nothing does.
func (s *flows) stop(key flow.Key, to flow.State) {
	s.mu.Lock()
	s.flows[key].State = to
	v := s.inside[key]
	cause := errSuspended
	if s.cause != nil {
		cause = s.cause(key, to)
	}
	for _, cancel := range v.cancels {
		cancel(cause)
	}
	s.mu.Unlock()
	v.Wait()
}

func (s *flows) breakDown(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.broken = err
}

func (s *flows) visiting(key flow.Key) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.inside[key].cancels)
}

func (s *flows) recorded(key flow.Key) []flow.Part {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.recordedLocked(key)
}

func (s *flows) recordedLocked(key flow.Key) []flow.Part {
	var all []flow.Part
	for _, p := range s.parts[key] {
		all = append(all, p)
	}
	slices.SortFunc(all, func(a, b flow.Part) int { return int(a.Index) - int(b.Index) })
	return all
}

func (s *flows) Join(ctx context.Context, key flow.Key) (*flow.Joined, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	f, ok := s.flows[key]
	if !ok {
		return nil, flow.ErrNotFound
	}
	if f.State != flow.Started && !(f.State == flow.Prepared && f.Direction == flow.Push) {
		return nil, &flow.StateError{Key: key, State: f.State, Signal: "data"}
	}
	ctx, cancel := context.WithCancelCause(ctx)
	v := s.inside[key]
	v.Add(1)
	copied := *f
	joined := &flow.Joined{Context: ctx, Flow: &copied}
	v.cancels[joined] = cancel
	joined.Leave = func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		delete(v.cancels, joined)
		cancel(nil)
		v.Done()
	}
	return joined, nil
}

func (s *flows) Record(_ context.Context, key flow.Key, parts ...flow.Part) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.broken != nil {
		return s.broken
	}
	f := s.flows[key]
	if f.Sealed {
		return &flow.StateError{Key: key, State: f.State, Signal: "data", Why: "its manifest has closed it"}
	}
	for _, p := range parts {
		old, ok := s.parts[key][p.Name]
		if ok {
			f.Totals.Bytes -= old.Size
			f.Totals.Parts--
		}
		f.Totals.Bytes += p.Size
		f.Totals.Parts++
		s.parts[key][p.Name] = p
	}
	return nil
}

func (s *flows) Part(_ context.Context, key flow.Key, name string) (flow.Part, bool, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	p, ok := s.parts[key][name]
	return p, ok, s.broken
}

func (s *flows) Seal(_ context.Context, key flow.Key, check func([]flow.Part) error) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.broken != nil {
		return s.broken
	}
	if err := check(s.recordedLocked(key)); err != nil {
		return err
	}
	s.flows[key].Sealed = true
	return nil
}

func (s *flows) Report(_ context.Context, key flow.Key, failure error) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.faults[key] = append(s.faults[key], failure.Error())
	return s.broken
}

func (s *flows) reported(key flow.Key) []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.faults[key])
}

func (s *flows) NextIndex(_ context.Context, key flow.Key) (uint64, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := s.next[key]
	s.next[key]++
	return n, s.broken
}

// scripted is a source that answers each read with the frames that a function gives, and then an error; nil is io.EOF.
type scripted func(open sdk.ReadOpen) ([]sdk.Frame, error)

func (s scripted) Validate(context.Context, sdk.DataAddress) error { return nil }

func (s scripted) Store(context.Context, sdk.DataAddress) (string, error) { return "", nil }

func (s scripted) Read(ctx context.Context, open sdk.ReadOpen) (sdk.ReadStream, error) {
	frames, err := s(open)
	if len(frames) == 0 && err != nil && err != errForever {
		return nil, err
	}
	return &script{ctx: ctx, frames: frames, err: err}, nil
}

// errForever lets a scripted source wait behind its frames until it is closed.
var errForever = errors.New("forever")

type script struct {
	ctx    context.Context
	frames []sdk.Frame
	err    error
}

func (s *script) Recv() (sdk.Frame, error) {
	if s.ctx.Err() != nil {
		return nil, context.Cause(s.ctx)
	}
	if len(s.frames) > 0 {
		f := s.frames[0]
		s.frames = s.frames[1:]
		return f, nil
	}
	if s.err == errForever {
		<-s.ctx.Done()
		return nil, context.Cause(s.ctx)
	}
	return nil, s.err
}

func (s *script) RequestCheckpoint() error { return nil }
func (s *script) Acknowledge(uint64) error { return nil }

func (s *script) Close() error {
	for _, f := range s.frames {
		sdk.Release(f)
	}
	s.frames = nil
	return nil
}

// buffered returns a frame in pooled memory, so that a frame that is not released is found.
func buffered(t *testing.T, content string) *sdk.Data {
	t.Helper()
	b := sdk.NewBuffer()
	b.Grow(copy(b.Free(), content))
	return &sdk.Data{Payload: b}
}
