package flow

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/towpath-dataplane/towpath/sdk"
)

// callbackDelay lets the answer to a signal reach the control plane before a callback about its flow does.
const callbackDelay = 250 * time.Millisecond

// Prepare creates a consumer's flow. For push the answer carries the address to send to, which takes data from then on.
func (e *Engine) Prepare(ctx context.Context, c Create) (Status, error) {
	return e.create(ctx, SignalPrepare, Consumer, c)
}

// Start creates a provider's flow. For pull the answer carries the address to read from.
func (e *Engine) Start(ctx context.Context, c Create) (Status, error) {
	return e.create(ctx, SignalStart, Provider, c)
}

func (e *Engine) create(ctx context.Context, op Signal, role Role, c Create) (Status, error) {
	l, unlock, err := e.enter(ctx, c.Key)
	if err != nil {
		return Status{}, err
	}
	defer unlock()
	_, answered, err := e.examine(ctx, op, c.Message, &c)
	if answered != nil || !errors.Is(err, ErrNotFound) {
		return answer(answered, err)
	}
	f, err := e.newFlow(ctx, op, role, c)
	if err != nil {
		return Status{}, err
	}
	if err := e.issue(ctx, f); err != nil {
		return Status{}, err
	}
	status := f.status(f.Issued)
	err = e.Store.Update(ctx, c.Key, func(tx Tx) error {
		if err := tx.Put(f); err != nil {
			return err
		}
		return remember(tx, c.Message, op, status, "")
	})
	if err != nil {
		return Status{}, errors.Join(err, e.Endpoint.Revoke(context.WithoutCancel(ctx), c.Key))
	}
	if f.State == Started && f.Moves() {
		e.launch(l, f)
	}
	return status, nil
}

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
	if err == nil && f.ControlPlane != m.ControlPlane {
		return nil, nil, nil, ErrNotFound
	}
	if err != nil {
		return nil, nil, nil, err
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
	_, repeated, refused := Next(f, op)
	switch {
	case refused != nil:
		return nil, nil, refused, remember(tx, m, op, f.status(nil), refused.Error())
	case repeated:
		s := f.status(nil)
		if op == SignalResume {
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

// sameAs reports whether a prepare that comes with a new message id asks for the flow that is there: a control plane that lost the
// answer asks again so.
func (f *Flow) sameAs(op Signal, c *Create) bool {
	return op == SignalPrepare && f.Role == Consumer && f.State == Prepared &&
		f.Profile == c.Profile && f.DatasetID == c.DatasetID && f.AgreementID == c.AgreementID &&
		f.ParticipantID == c.ParticipantID && f.CounterPartyID == c.CounterPartyID && f.DataspaceContext == c.DataspaceContext
}

func remember(tx Tx, m Message, op Signal, s Status, refused string) error {
	if m.MessageID == "" {
		return nil
	}
	return tx.PutAnswer(m.MessageID, Answer{
		Operation: string(op), Body: m.Body, State: s.State, DataAddress: s.DataAddress, Refused: refused})
}

func (f *Flow) status(a *sdk.DataAddress) Status {
	return Status{Key: f.Key, State: f.State, DataAddress: a}
}

// newFlow returns the flow that a prepare or start asks for, checked and not stored.
func (e *Engine) newFlow(ctx context.Context, op Signal, role Role, c Create) (*Flow, error) {
	profile, ok := e.Catalog.Profile(c.Profile)
	if !ok {
		return nil, &RequestError{Field: "profile", Message: fmt.Sprintf("%q is not supported", c.Profile)}
	}
	dataset, ok := e.Catalog.Dataset(c.Key.Context, c.DatasetID)
	if !ok {
		return nil, &RequestError{Field: "datasetId", Message: fmt.Sprintf("there is no dataset %q", c.DatasetID)}
	}
	next, _, err := Next(nil, op)
	if err != nil {
		return nil, err
	}
	f := &Flow{
		Key: c.Key, Role: role, Direction: profile.Direction, State: next, Profile: c.Profile,
		DatasetID: c.DatasetID, AgreementID: c.AgreementID, ParticipantID: c.ParticipantID, CounterPartyID: c.CounterPartyID,
		DataspaceContext: c.DataspaceContext, ControlPlane: c.ControlPlane, Labels: c.Labels, Claims: c.Claims, Metadata: c.Metadata,
		Remote: c.DataAddress,
	}
	if role == Provider {
		return f, e.checkProvider(ctx, f, profile, dataset)
	}
	return f, e.checkConsumer(ctx, f, dataset)
}

func (e *Engine) checkProvider(ctx context.Context, f *Flow, p Profile, d Dataset) error {
	f.Local = d.Source
	switch {
	case f.Local.IsZero():
		return &RequestError{Field: "datasetId", Message: fmt.Sprintf("dataset %q has no source", d.ID)}
	case f.Direction == Pull && f.Remote != nil:
		return &RequestError{Field: "dataAddress", Message: "must be absent: for pull, the provider's data plane makes the address"}
	case f.Direction == Push && f.Remote == nil:
		return &RequestError{Field: "dataAddress", Message: "is required: for push, it says where the consumer takes the data"}
	}
	if err := refusal("datasetId", fmt.Sprintf("source of dataset %q: ", d.ID), e.Checker.CheckSource(ctx, f.Local)); err != nil {
		return err
	}
	if f.Direction == Pull {
		return nil
	}
	return checkRemote(ctx, p, *f.Remote, e.Checker.CheckSink)
}

// refusal returns what a plugin says against an address as what is wrong with a request. A plugin that cannot say anything at present
// is no reason to refuse: the transfer waits for it.
func refusal(field, prefix string, err error) error {
	var e *sdk.Error
	if !errors.As(err, &e) {
		return err
	}
	switch e.Code {
	case sdk.Unavailable:
		return nil
	case sdk.Internal:
		return err
	}
	return &RequestError{Field: field, Message: prefix + e.Message, Err: err}
}

func (e *Engine) checkConsumer(ctx context.Context, f *Flow, d Dataset) error {
	f.Local = d.Sink
	if f.Direction == Push && f.Local.IsZero() {
		return &RequestError{Field: "datasetId", Message: fmt.Sprintf("dataset %q has no sink", d.ID)}
	}
	if f.Local.IsZero() {
		return nil
	}
	return refusal("datasetId", fmt.Sprintf("sink of dataset %q: ", d.ID), e.Checker.CheckSink(ctx, f.Local))
}

// checkRemote checks a counterparty's address against the profile and the plugin that is to use it.
func checkRemote(ctx context.Context, p Profile, a sdk.DataAddress, check func(context.Context, sdk.DataAddress) error) error {
	if !p.AllowHTTP && strings.HasPrefix(strings.ToLower(a.Endpoint), "http:") {
		return &RequestError{Field: "dataAddress.endpoint", Message: "must be https"}
	}
	return refusal("dataAddress", "", check(ctx, p.resolve(a)))
}

// issue makes the address for a flow that this side serves.
func (e *Engine) issue(ctx context.Context, f *Flow) error {
	if !f.Serves() {
		return nil
	}
	a, err := e.Endpoint.Issue(ctx, f)
	if err != nil {
		return fmt.Errorf("issue an address: %w", err)
	}
	f.Issued = &a
	return nil
}

// Started tells a consumer that the provider has started; for pull, a transfer into the dataset's sink begins.
func (e *Engine) Started(ctx context.Context, m Message, address *sdk.DataAddress) (Status, error) {
	return e.apply(ctx, SignalStarted, m, func(f *Flow) error { return e.takeAddress(ctx, f, address, true) }, nil)
}

// Resume lets a suspended flow go on, with a new token where this side serves the data.
func (e *Engine) Resume(ctx context.Context, m Message, address *sdk.DataAddress) (Status, error) {
	return e.apply(ctx, SignalResume, m, func(f *Flow) error {
		if err := e.takeAddress(ctx, f, address, false); err != nil {
			return err
		}
		f.Redelivery = true
		return e.issue(ctx, f)
	}, func(_ Tx, f *Flow) error {
		f.Resumed, f.Reason = true, ""
		return nil
	})
}

// Suspend stops a flow until Resume.
func (e *Engine) Suspend(ctx context.Context, m Message, reason string) (Status, error) {
	return e.apply(ctx, SignalSuspend, m, nil, func(_ Tx, f *Flow) error {
		f.Reason, f.Issued = reason, nil
		return nil
	})
}

// Terminate ends a flow for good. Callbacks that were not delivered are withdrawn.
func (e *Engine) Terminate(ctx context.Context, m Message, reason string) (Status, error) {
	return e.apply(ctx, SignalTerminate, m, nil, func(tx Tx, f *Flow) error {
		f.Reason, f.Issued, f.Leftover = reason, nil, true
		return tx.CancelCallbacks()
	})
}

// Completed ends a flow whose counterparty has everything.
func (e *Engine) Completed(ctx context.Context, m Message) (Status, error) {
	return e.apply(ctx, SignalCompleted, m, nil, func(tx Tx, f *Flow) error {
		f.Issued, f.Leftover = nil, true
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
	s.Fault = f.Fault
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
	err = e.Store.Update(ctx, m.Key, func(tx Tx) error {
		// A transfer stores its progress without the flow's lock: what it stored last must not be lost.
		if err := f.refresh(tx); err != nil {
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
		if op == SignalResume {
			status = f.status(f.Issued)
		}
		return remember(tx, m, op, status, "")
	})
	if err != nil {
		return Status{}, err
	}
	// The state is durable. The effect happens whether or not the caller still waits.
	return status, e.effect(context.WithoutCancel(ctx), l, f)
}

// refresh takes over what a transfer or an ingest has stored since f was read.
func (f *Flow) refresh(tx Tx) error {
	now, err := tx.Flow()
	if err != nil {
		return err
	}
	f.Checkpoint, f.Totals, f.Digest, f.Fault = now.Checkpoint, now.Totals, now.Digest, now.Fault
	f.NextIndex, f.Sealed = now.NextIndex, now.Sealed
	return nil
}

// effect does what a state that was just reached means.
func (e *Engine) effect(ctx context.Context, l *live, f *Flow) error {
	if f.State == Started {
		if f.Moves() {
			e.launch(l, f)
		}
		return nil
	}
	// Tokens first: who is cut must not come back.
	err := e.Endpoint.Revoke(ctx, f.Key)
	e.halt(f.Key, l, f.State)
	if f.State.Final() {
		e.release(f)
	}
	if err != nil {
		return fmt.Errorf("revoke tokens: %w", err)
	}
	return nil
}

// takeAddress takes over the counterparty's address from started or resume.
func (e *Engine) takeAddress(ctx context.Context, f *Flow, a *sdk.DataAddress, started bool) error {
	receives := f.Role == Provider && f.Direction == Push || f.Role == Consumer && f.Direction == Pull
	if !receives {
		if started && a != nil {
			return &RequestError{Field: "dataAddress", Message: "must be absent: for push, the consumer's data plane makes the address"}
		}
		return nil // on resume, a control plane may give us our own address back
	}
	if a == nil {
		if f.Remote == nil && f.Moves() {
			return &RequestError{Field: "dataAddress", Message: "is required: it says where the provider offers the data"}
		}
		return nil
	}
	profile, ok := e.Catalog.Profile(f.Profile)
	if !ok {
		return &RequestError{Field: "profile", Message: fmt.Sprintf("%q is not supported any more", f.Profile)}
	}
	check := e.Checker.CheckSource
	if f.Role == Provider {
		check = e.Checker.CheckSink
	}
	if !f.Moves() {
		check = func(context.Context, sdk.DataAddress) error { return nil } // kept for a local application
	}
	if err := checkRemote(ctx, profile, *a, check); err != nil {
		return err
	}
	f.Remote = a
	return nil
}

func newCallback(tx Tx, f *Flow, kind CallbackKind) Callback {
	return Callback{
		Key: f.Key, ControlPlane: f.ControlPlane, Kind: kind, MessageID: uuid.NewString(), State: f.State,
		Created: tx.Now(), Next: tx.Now().Add(callbackDelay), Status: CallbackPending,
	}
}
