package signaling

import (
	"bytes"
	"context"
	"fmt"
	"strings"
	"sync"

	"github.com/towpath-dataplane/towpath/host/flow"
	"github.com/towpath-dataplane/towpath/sdk"
)

// engine is a flow.Signals in memory: it obeys the state table, replays the answers to repeated messages, issues a new token each
// time, and remembers what it was asked.
type engine struct {
	waiting string     // what all flows wait for
	mu      sync.Mutex // guards what follows
	flows   map[flow.Key]*flow.Flow
	answers map[string]flow.Answer
	calls   []call
	issued  int

	hook  func(ctx context.Context) error // if set, called by each signal before anything else
	async bool                            // what creates a flow goes on after the answer
}

// call is something that the engine was asked.
type call struct {
	Signal  flow.Signal
	Message flow.Message
	Create  *flow.Create     `json:",omitempty"`
	Address *sdk.DataAddress `json:",omitempty"`
	Reason  string           `json:",omitempty"`
}

func newEngine() *engine {
	return &engine{flows: map[flow.Key]*flow.Flow{}, answers: map[string]flow.Answer{}}
}

func (e *engine) Prepare(ctx context.Context, c flow.Create) (flow.Status, error) {
	return e.take(ctx, call{Signal: flow.SignalPrepare, Message: c.Message, Create: &c})
}

func (e *engine) Start(ctx context.Context, c flow.Create) (flow.Status, error) {
	return e.take(ctx, call{Signal: flow.SignalStart, Message: c.Message, Create: &c})
}

func (e *engine) Started(ctx context.Context, m flow.Message, a *sdk.DataAddress) (flow.Status, error) {
	return e.take(ctx, call{Signal: flow.SignalStarted, Message: m, Address: a})
}

func (e *engine) Suspend(ctx context.Context, m flow.Message, reason string) (flow.Status, error) {
	return e.take(ctx, call{Signal: flow.SignalSuspend, Message: m, Reason: reason})
}

func (e *engine) Resume(ctx context.Context, m flow.Message, a *sdk.DataAddress) (flow.Status, error) {
	return e.take(ctx, call{Signal: flow.SignalResume, Message: m, Address: a})
}

func (e *engine) Terminate(ctx context.Context, m flow.Message, reason string) (flow.Status, error) {
	return e.take(ctx, call{Signal: flow.SignalTerminate, Message: m, Reason: reason})
}

func (e *engine) Completed(ctx context.Context, m flow.Message) (flow.Status, error) {
	return e.take(ctx, call{Signal: flow.SignalCompleted, Message: m})
}

func (e *engine) Status(_ context.Context, m flow.Message) (flow.Status, error) {
	key := m.Key
	e.mu.Lock()
	defer e.mu.Unlock()
	f := e.flows[key]
	if f == nil || f.ControlPlane != m.ControlPlane {
		return flow.Status{}, fmt.Errorf("status of flow %s: %w", key, flow.ErrNotFound)
	}
	return flow.Status{Key: key, State: f.State, Fault: f.Fault, Waiting: e.waiting}, nil
}

func (e *engine) take(ctx context.Context, c call) (flow.Status, error) {
	if e.hook != nil {
		if err := e.hook(ctx); err != nil {
			return flow.Status{}, err
		}
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	e.calls = append(e.calls, c)
	if status, found, err := e.replay(c); found {
		return status, err
	}
	f, err := e.move(c)
	if err != nil {
		return flow.Status{}, fmt.Errorf("%s flow %s: %w", c.Signal, c.Message.Key, err)
	}
	status := flow.Status{Key: f.Key, State: f.State, DataAddress: e.issue(f)}
	if c.Message.MessageID != "" {
		e.answers[c.Message.Key.String()+" "+c.Message.MessageID] = flow.Answer{
			Operation: string(c.Signal), Body: c.Message.Body, State: f.State, DataAddress: status.DataAddress,
		}
	}
	return status, nil
}

func (e *engine) replay(c call) (status flow.Status, found bool, err error) {
	a, found := e.answers[c.Message.Key.String()+" "+c.Message.MessageID]
	switch {
	case !found || c.Message.MessageID == "":
		return flow.Status{}, false, nil
	case a.Operation != string(c.Signal) || !bytes.Equal(a.Body, c.Message.Body):
		return flow.Status{}, true, flow.ErrMessageReused
	default:
		return flow.Status{Key: c.Message.Key, State: a.State, DataAddress: a.DataAddress}, true, nil
	}
}

func (e *engine) move(c call) (*flow.Flow, error) {
	f := e.flows[c.Message.Key]
	if f == nil && c.Create == nil || f != nil && f.ControlPlane != c.Message.ControlPlane {
		return nil, flow.ErrNotFound
	}
	state, _, err := flow.Next(f, c.Signal)
	if err != nil {
		return nil, err
	}
	if f == nil {
		f = &flow.Flow{Key: c.Message.Key, Role: flow.Consumer, Direction: flow.Push, Profile: c.Create.Profile, ControlPlane: c.Message.ControlPlane}
		if c.Signal == flow.SignalStart {
			f.Role = flow.Provider
		}
		if strings.HasSuffix(strings.ToLower(f.Profile), "pull") {
			f.Direction = flow.Pull
		}
		if f.Role == flow.Provider && f.Direction == flow.Push && c.Create.DataAddress == nil {
			return nil, &flow.RequestError{Field: "dataAddress", Message: "is required for push"}
		}
		e.flows[f.Key] = f
	}
	switch {
	case e.async && c.Signal == flow.SignalPrepare:
		state = flow.Preparing
	case e.async && c.Signal == flow.SignalStart:
		state = flow.Starting
	}
	f.State, f.Resumed = state, c.Signal == flow.SignalResume
	return f, nil
}

func (e *engine) issue(f *flow.Flow) *sdk.DataAddress {
	if !f.Serves() || f.State != flow.Started && f.State != flow.Prepared {
		return nil
	}
	e.issued++
	return &sdk.DataAddress{
		Type:     f.Profile,
		Endpoint: "https://data.example/flows/" + f.ID,
		Properties: map[string]string{
			"authorization": fmt.Sprintf("token-%d", e.issued),
			"authType":      "bearer",
		},
	}
}

func (e *engine) last() (call, bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if len(e.calls) == 0 {
		return call{}, false
	}
	return e.calls[len(e.calls)-1], true
}
