package flow

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"

	"github.com/towpath-dataplane/towpath/sdk"
)

// callbackDelay lets the answer to a signal reach the control plane before a callback about its flow does.
const callbackDelay = 250 * time.Millisecond

func answer(s *Status, err error) (Status, error) {
	if s == nil {
		return Status{}, err
	}
	return *s, err
}

// examine says whether a signal is to be applied: it returns the flow then. Otherwise it returns the answer: that of the same message
// before, that of a signal whose target is reached, or an error. A refusal by state is stored, so that the message is refused again
// when it is repeated later.
func (e *Engine) examine(ctx context.Context, op Signal, m Message, c *Create) (f *Flow, answered *Status, err error) {
	var refused error
	err = e.Store.Update(ctx, m.Key, func(tx Tx) (err error) {
		f, answered, refused, err = examine(tx, op, m, c)
		return err
	})
	if err != nil {
		return nil, nil, err
	}
	return f, answered, refused
}

func examine(tx Tx, op Signal, m Message, c *Create) (f *Flow, answered *Status, refused, err error) {
	f, err = tx.Flow()
	if err != nil {
		return nil, nil, nil, err
	}
	if f.ControlPlane != m.ControlPlane {
		if c != nil {
			return nil, nil, nil, &RequestError{Field: "dataFlowId", Message: "is in use"}
		}
		return nil, nil, nil, ErrNotFound
	}
	if m.MessageID != "" {
		a, ok, err := tx.Answer(m.MessageID)
		if err != nil {
			return nil, nil, nil, err
		}
		if ok {
			answered, refused = a.replay(f, op, m)
			return nil, answered, refused, nil
		}
	}
	if c != nil && f.sameAs(op, c) {
		s := f.status(f.Issued)
		return nil, &s, nil, remember(tx, m, op, s, "")
	}
	moves := op
	if c != nil && c.Again {
		if err := f.startedBy(c); err != nil {
			return nil, nil, nil, err
		}
		moves = SignalAgain
	}
	_, repeated, refused := Next(f, moves)
	switch {
	case refused != nil:
		return nil, nil, refused, remember(tx, m, op, f.status(nil), refused.Error())
	case repeated:
		s := f.status(nil)
		if issues(moves) {
			s = f.status(f.Issued)
		}
		return nil, &s, nil, remember(tx, m, op, s, "")
	}
	return f, nil, nil, nil
}

// replay returns what a message was answered with before.
func (a Answer) replay(f *Flow, op Signal, m Message) (*Status, error) {
	switch {
	case !a.sameRequest(op, m.Body):
		return nil, ErrMessageReused
	case a.Refused != "":
		return nil, &StateError{Key: f.Key, State: a.State, Signal: op, Why: "this message was refused before"}
	}
	return &Status{Key: f.Key, State: a.State, DataAddress: a.DataAddress}, nil
}

func remember(tx Tx, m Message, op Signal, s Status, refused string) error {
	if m.MessageID == "" {
		return nil
	}
	return tx.PutAnswer(m.MessageID, Answer{
		Operation: string(op), Body: m.Body, State: s.State, DataAddress: s.DataAddress, Refused: refused})
}

// issues reports whether the answer to a signal has the address that the counterparty is to be given.
func issues(op Signal) bool { return op == SignalResume || op == SignalAgain }

func (f *Flow) status(a *sdk.DataAddress) Status {
	return Status{Key: f.Key, State: f.State, DataAddress: a}
}

// Started tells a consumer that the provider has started; for pull, a transfer into the dataset's sink begins.
func (e *Engine) Started(ctx context.Context, m Message, address *sdk.DataAddress) (Status, error) {
	return e.apply(ctx, SignalStarted, m, func(f *Flow) error { return e.takeAddress(ctx, f, address, true) }, nil)
}

// Resume lets a suspended flow go on, with a new token where this side serves the data.
func (e *Engine) Resume(ctx context.Context, m Message, address *sdk.DataAddress) (Status, error) {
	return e.apply(ctx, SignalResume, m, func(f *Flow) error { return e.reissue(ctx, f, address) }, resumed)
}

// reissue has a flow that is to go on take the counterparty's address, if there is one, and makes the one to hand out.
func (e *Engine) reissue(ctx context.Context, f *Flow, address *sdk.DataAddress) error {
	if err := e.takeAddress(ctx, f, address, false); err != nil {
		return err
	}
	f.Redelivery = true
	given, err := e.offer(ctx, f)
	if err != nil && f.opensResponse() { // half of it may be there
		err = errors.Join(err, e.Endpoint.Revoke(context.WithoutCancel(ctx), f.Key))
	}
	f.give(given)
	return err
}

func resumed(_ Tx, f *Flow) error {
	f.recovered()
	if f.opensResponse() {
		f.respond(func(r *Response) { r.Fault = "" })
	}
	f.Resumed, f.Reason = true, ""
	return nil
}

// Suspend stops a flow until Resume.
func (e *Engine) Suspend(ctx context.Context, m Message, reason string) (Status, error) {
	return e.apply(ctx, SignalSuspend, m, nil, func(_ Tx, f *Flow) error {
		f.Reason = reason
		f.withdraw()
		return nil
	})
}

// Terminate ends a flow for good. Callbacks that were not delivered are withdrawn.
func (e *Engine) Terminate(ctx context.Context, m Message, reason string) (Status, error) {
	return e.apply(ctx, SignalTerminate, m, nil, func(tx Tx, f *Flow) error {
		f.Reason, f.Leftover = reason, true
		f.withdraw()
		return tx.CancelCallbacks()
	})
}

// Completed ends a flow whose counterparty has everything.
func (e *Engine) Completed(ctx context.Context, m Message) (Status, error) {
	return e.apply(ctx, SignalCompleted, m, nil, func(tx Tx, f *Flow) error {
		f.Leftover = true
		f.withdraw()
		return tx.CancelCallbacks()
	})
}

// Status tells a flow's state to the control plane that owns it.
func (e *Engine) Status(ctx context.Context, m Message) (Status, error) {
	f, err := e.Store.Flow(ctx, m.Key)
	if err != nil {
		return Status{}, err
	}
	if f.ControlPlane != m.ControlPlane {
		return Status{}, ErrNotFound
	}
	s := f.status(nil)
	s.Fault, s.Waiting = f.Fault, e.Waiting(f.Key)
	return s, nil
}

// apply moves a flow that exists. prepare, if not nil, does what has to be done before the state changes and may refuse; change edits
// the flow in the transaction that stores the new state.
func (e *Engine) apply(ctx context.Context, op Signal, m Message, prepare func(*Flow) error, change func(Tx, *Flow) error) (Status, error) {
	l, unlock, err := e.enter(ctx, m.Key)
	if err != nil {
		return Status{}, err
	}
	defer unlock()
	f, answered, err := e.examine(ctx, op, m, nil)
	if f == nil {
		return answer(answered, err)
	}
	return e.move(ctx, l, f, op, m, prepare, change)
}

// move is what apply does once it is known that the signal is to be applied. The flow's lock is held.
func (e *Engine) move(ctx context.Context, l *live, f *Flow, op Signal, m Message, prepare func(*Flow) error,
	change func(Tx, *Flow) error) (Status, error) {
	former := f.Remote
	if prepare != nil {
		if err := prepare(f); err != nil {
			return Status{}, err
		}
	}
	next, _, err := Next(f, op)
	if err != nil {
		return Status{}, err
	}
	var status Status
	takes := f.Remote != former // the signal has brought another address
	err = e.Store.Update(ctx, m.Key, func(tx Tx) error {
		// A transfer stores its progress without the flow's lock: what it stored last must not be lost.
		if err := f.refresh(tx, takes); err != nil {
			return err
		}
		f.State = next
		f.Resumed = false
		if change != nil {
			if err := change(tx, f); err != nil {
				return err
			}
		}
		if err := tx.Put(f); err != nil {
			return err
		}
		status = f.status(nil)
		if issues(op) {
			status = f.status(f.Issued)
		}
		return remember(tx, m, op, status, "")
	})
	if err != nil {
		if issues(op) && (f.Serves() || f.opensResponse()) { // the new token has nobody who knows it, but it works
			err = errors.Join(err, e.Endpoint.Revoke(context.WithoutCancel(ctx), m.Key))
		}
		return Status{}, err
	}
	// The state is durable. The effect happens whether or not the caller still waits.
	return status, e.effect(context.WithoutCancel(ctx), l, f)
}

// refresh takes over what a transfer, an ingest or a renewal has stored since f was read. takes says that f has been given another
// address meanwhile, to which no renewal belongs.
func (f *Flow) refresh(tx Tx, takes bool) error {
	now, err := tx.Flow()
	if err != nil {
		return err
	}
	f.Checkpoint, f.Totals, f.Digest = now.Checkpoint, now.Totals, now.Digest
	f.Fault, f.FaultPart, f.Reported = now.Fault, now.FaultPart, now.Reported
	f.NextIndex, f.Sealed = now.NextIndex, now.Sealed
	f.refreshResponse(now.Response)
	if !takes {
		f.Remote, f.RemoteSince, f.RenewalFault, f.RenewalRefused = now.Remote, now.RemoteSince, now.RenewalFault, now.RenewalRefused
	}
	return nil
}

// effect does what a state that was just reached means.
func (e *Engine) effect(ctx context.Context, l *live, f *Flow) error {
	if f.State == Started {
		e.run(l, f)
		return nil
	}
	// Tokens first: who is cut must not come back.
	err := e.Endpoint.Revoke(ctx, f.Key)
	if e.halt(f.Key, l, f.State) { // work that was under way may have issued one more
		err = errors.Join(err, e.Endpoint.Revoke(ctx, f.Key))
	}
	if f.State.Final() {
		e.release(f, err != nil)
	}
	if err != nil {
		return fmt.Errorf("revoke tokens: %w", err)
	}
	return nil
}

// takeAddress takes over the counterparty's address from started or resume.
func (e *Engine) takeAddress(ctx context.Context, f *Flow, a *sdk.DataAddress, started bool) error {
	p, ok := e.Catalog.Profile(f.Profile)
	if !ok {
		return &RequestError{Field: "profile", Message: fmt.Sprintf("%q is not supported any more", f.Profile)}
	}
	if !f.uses() {
		if f.Role == Consumer && a != nil && hasResponse(*a) {
			return f.takeResponse(p, *a)
		}
		if started && a != nil && p.Strict {
			return &RequestError{Field: "dataAddress", Message: "must be absent: for push, the consumer's data plane makes the address"}
		}
		return nil // on resume, a control plane may give us our own address back
	}
	if f.Role == Provider && a != nil && onlyResponse(*a) {
		a = nil // ours: a control plane gives back what start was answered with
	}
	if a == nil {
		if f.Remote == nil && p.Strict {
			return &RequestError{Field: "dataAddress", Message: "is required: it says where the provider offers the data"}
		}
		return nil
	}
	if err := e.checkRemote(ctx, f, p, *a); err != nil {
		return err
	}
	f.Remote, f.RemoteSince, f.RenewalFault, f.RenewalRefused = a, e.Clock().UTC(), "", false
	return nil
}

// takeResponse takes over the address of the response channel that the provider of a push has opened.
func (f *Flow) takeResponse(p Profile, a sdk.DataAddress) error {
	if !p.AllowHTTP && isPlainHTTP(a.Get(responseEndpoint)) {
		return &RequestError{Field: "dataAddress.endpointProperties", Message: responseEndpoint + " must be https"}
	}
	f.respond(func(r *Response) { r.Remote = &a })
	return nil
}

func newCallback(tx Tx, f *Flow, kind CallbackKind, a *sdk.DataAddress) Callback {
	return Callback{
		Key: f.Key, ControlPlane: f.ControlPlane, To: f.Callback, Kind: kind, MessageID: uuid.NewString(), State: f.State, DataAddress: a,
		Created: tx.Now(), Next: tx.Now().Add(callbackDelay), Status: CallbackPending,
	}
}
