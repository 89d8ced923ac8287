package flow

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"reflect"
	"slices"
	"strings"
	"time"

	"github.com/towpath-dataplane/towpath/sdk"
)

const (
	// answerPatience is how long the end of work waits for the answer that says it goes on.
	answerPatience = 5 * time.Second
	// workPatience is how long work is tried again after failures that can pass, before the control plane is told.
	workPatience = 10 * time.Minute
	// The pauses between attempts double from the first to the longest.
	firstWorkPause = 250 * time.Millisecond
	maxWorkPause   = 30 * time.Second
)

// Prepare creates a consumer's flow. For push the answer carries the address to send to, which takes data from then on.
func (e *Engine) Prepare(ctx context.Context, c Create) (Status, error) {
	return e.create(ctx, SignalPrepare, Consumer, c)
}

// Start creates a provider's flow. For pull the answer carries the address to read from.
func (e *Engine) Start(ctx context.Context, c Create) (Status, error) {
	return e.create(ctx, SignalStart, Provider, c)
}

// create answers when the work is done, or says that it goes on: PREPARING or STARTING. Nothing is stored before one or the other.
func (e *Engine) create(ctx context.Context, op Signal, role Role, c Create) (Status, error) {
	l, unlock, err := e.enter(ctx, c.Key)
	if err != nil {
		return Status{}, err
	}
	defer unlock()
	there, answered, err := e.examine(ctx, op, c.Message, &c)
	switch {
	case there != nil:
		return e.again(ctx, l, there, c)
	case answered != nil, !errors.Is(err, ErrNotFound):
		return answer(answered, err)
	}
	f, mode, err := e.draft(op, role, c)
	if err != nil {
		return Status{}, err
	}
	w := e.beginWork(l, f, false)
	if w == nil {
		return Status{}, ErrClosed
	}
	first, ended, err := w.within(ctx, mode, e.AnswerWithin)
	if err != nil { // who asked has gone
		return Status{}, errors.Join(err, e.undo(l, w))
	}
	if ended && first.err != nil && (mode == ModeSync || isFinal(first.err)) {
		if f.Target != nil || f.Response != nil {
			return Status{}, errors.Join(first.err, e.undo(l, w))
		}
		w.abandon()
		return Status{}, first.err
	}
	ready := ended && first.err == nil
	if ready {
		f.give(first.offer)
	} else {
		f.State = underWay[f.State]
	}
	status := f.status(f.Issued)
	err = e.Store.Update(ctx, c.Key, func(tx Tx) error {
		if err := tx.Put(f); err != nil {
			return err
		}
		return remember(tx, c.Message, op, status, "")
	})
	if err != nil {
		return Status{}, errors.Join(err, e.undo(l, w))
	}
	if !ready {
		w.goOn(c.Answered)
		return status, nil
	}
	w.abandon()
	if f.State == Started {
		e.run(l, f)
	}
	return status, nil
}

// undo takes back what the work of a flow has made that there will not be. The flow's lock is held.
func (e *Engine) undo(l *live, w *work) error {
	w.abandon()
	timer := time.NewTimer(e.StopTimeout)
	defer timer.Stop()
	select {
	case <-w.done:
	case <-timer.C:
		l.stuck = w.done
		e.Logger.Error("preparation did not stop in time", "flow", w.key.String())
	}
	err := e.Endpoint.Revoke(context.WithoutCancel(e.ctx), w.key)
	err = errors.Join(err, e.letGoOf(w.flow, w.flow.provisioned()))
	if err != nil {
		return fmt.Errorf("take back what was issued: %w", err)
	}
	return nil
}

// sameAs reports whether a prepare that comes with a new message id asks for the flow that is there: a control plane that lost the
// answer asks again so.
func (f *Flow) sameAs(op Signal, c *Create) bool {
	return op == SignalPrepare && f.Role == Consumer && (f.State == Prepared || f.State == Preparing) &&
		f.Profile == c.Profile && f.DatasetID == c.DatasetID && f.AgreementID == c.AgreementID &&
		f.ParticipantID == c.ParticipantID && f.CounterPartyID == c.CounterPartyID && f.DataspaceContext == c.DataspaceContext &&
		slices.Equal(f.Labels, c.Labels) && sameJSON(f.Claims, c.Claims) && sameJSON(f.Metadata, c.Metadata)
}

func sameJSON(a, b json.RawMessage) bool {
	if len(a) == 0 || len(b) == 0 {
		return len(a) == len(b)
	}
	var va, vb any
	return json.Unmarshal(a, &va) == nil && json.Unmarshal(b, &vb) == nil && reflect.DeepEqual(va, vb)
}

// draft returns the flow that a prepare or start asks for, checked as far as that needs no plugin, and when to answer.
func (e *Engine) draft(op Signal, role Role, c Create) (*Flow, Mode, error) {
	p, ok := e.Catalog.Profile(c.Profile)
	if !ok {
		return nil, "", &RequestError{Field: "profile", Message: fmt.Sprintf("%q is not supported", c.Profile)}
	}
	d, ok, err := e.dataset(p, c)
	if err != nil {
		return nil, "", err
	}
	if !ok && (role == Provider || p.Direction == Push) { // a consumer can hold the address of whatever it has agreed on
		return nil, "", &RequestError{Field: "datasetId", Message: fmt.Sprintf("there is no dataset %q", c.DatasetID)}
	}
	next, _, err := Next(nil, op)
	if err != nil {
		return nil, "", err
	}
	f := &Flow{
		Key: c.Key, Role: role, Direction: p.Direction, State: next, Profile: c.Profile,
		DatasetID: c.DatasetID, AgreementID: c.AgreementID, ParticipantID: c.ParticipantID, CounterPartyID: c.CounterPartyID,
		DataspaceContext: c.DataspaceContext, ControlPlane: c.ControlPlane, Callback: c.Callback, Labels: c.Labels, Claims: c.Claims, Metadata: c.Metadata,
	}
	if c.DataAddress != nil {
		f.Remote, f.RemoteSince = c.DataAddress, e.Clock().UTC()
	}
	mode := p.Mode
	for _, before := range []Mode{d.Mode, c.Mode} {
		if before != "" {
			mode = before
		}
	}
	if role == Provider {
		return f, mode, f.draftProvider(p, d, c)
	}
	return f, mode, f.draftConsumer(d)
}

// dataset finds the dataset of a prepare or start: what the operator declares goes before what the message says.
func (e *Engine) dataset(p Profile, c Create) (d Dataset, ok bool, err error) {
	if d, ok = e.Catalog.Dataset(c.Key.Context, c.DatasetID); !ok && p.DatasetInMessage && e.DatasetIn != nil {
		d, ok, err = e.DatasetIn(c.Metadata)
	}
	if err == nil && d.Source.IsZero() && c.Source != nil {
		d.ID, d.Source, ok = c.DatasetID, *c.Source, true
	}
	return d, ok, err
}

func (f *Flow) draftProvider(p Profile, d Dataset, c Create) error {
	f.Local = d.Source
	if f.Direction == Pull && p.Provision != "" {
		f.Target = &sdk.DataAddress{Type: p.Provision}
	}
	switch {
	case f.Local.IsZero():
		return &RequestError{Field: "datasetId", Message: fmt.Sprintf("dataset %q has no source", d.ID)}
	case f.Direction == Pull && f.Remote != nil:
		return &RequestError{Field: "dataAddress", Message: "must be absent: for pull, the provider's data plane makes the address"}
	case f.Direction == Push && f.Remote == nil:
		return &RequestError{Field: "dataAddress", Message: "is required: for push, it says where the consumer takes the data"}
	case p.Response == nil:
		return nil
	}
	return f.draftResponse(*p.Response, d, c)
}

func (f *Flow) draftResponse(p ResponseProfile, d Dataset, c Create) error {
	r := &Response{Local: d.Response}
	if r.Local.IsZero() && c.Response != nil {
		r.Local = *c.Response
	}
	if r.Local.IsZero() {
		return &RequestError{Field: "datasetId", Message: fmt.Sprintf("dataset %q has no response sink, which the profile requires", c.DatasetID)}
	}
	if p.Provision != "" {
		r.Target = &sdk.DataAddress{Type: p.Provision}
	}
	f.Response = r
	return nil
}

func (f *Flow) draftConsumer(d Dataset) error {
	f.Local = d.Sink
	if f.Direction == Push && f.Local.IsZero() {
		return &RequestError{Field: "datasetId", Message: fmt.Sprintf("dataset %q has no sink", d.ID)}
	}
	return nil
}

// perform is the work of a prepare or start: it has the plugins check the addresses, and makes what is handed out. It can be done again,
// whatever became of it the last time.
func (e *Engine) perform(ctx context.Context, f *Flow) (offer, error) {
	p, ok := e.Catalog.Profile(f.Profile)
	if !ok {
		return offer{}, &RequestError{Field: "profile", Message: fmt.Sprintf("%q is not supported any more", f.Profile)}
	}
	check, what := e.Checker.CheckSource, "source"
	if f.Role == Consumer {
		check, what = e.Checker.CheckSink, "sink"
	}
	if !f.Local.IsZero() {
		prefix := fmt.Sprintf("%s of dataset %q: ", what, f.DatasetID)
		if err := refusal("datasetId", prefix, check(ctx, f.Local)); err != nil {
			return offer{}, err
		}
	}
	if f.opensResponse() {
		prefix := fmt.Sprintf("response sink of dataset %q: ", f.DatasetID)
		if err := refusal("datasetId", prefix, e.Checker.CheckSink(ctx, f.Response.Local)); err != nil {
			return offer{}, err
		}
	}
	if f.Remote != nil {
		if err := e.checkRemote(ctx, f, p, *f.Remote); err != nil {
			return offer{}, err
		}
	}
	o, err := e.offer(ctx, f)
	if err == nil && !f.uses() && p.Renewal == RenewalRequire && o.address.Get("refreshToken") == "" {
		err = &RequestError{Field: "counterPartyId", Message: "is no DID that could renew tokens, which the profile requires"}
		return offer{}, errors.Join(err, e.Endpoint.Revoke(context.WithoutCancel(ctx), f.Key))
	}
	return o, err
}

// issue makes the address that the counterparty is given, nil if that makes one itself.
func (e *Engine) issue(ctx context.Context, f *Flow) (*sdk.DataAddress, error) {
	var a sdk.DataAddress
	var err error
	switch {
	case f.Target != nil:
		var sink sdk.DataSink
		if sink, err = e.Sinks.Sink(f.Target.Type); err == nil {
			a, err = sink.Provision(ctx, f.PluginContext(), *f.Target)
		}
	case f.Serves():
		a, err = e.Endpoint.Issue(ctx, f)
	default:
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("issue an address: %w", err)
	}
	return &a, nil
}

// refusal returns what a plugin says against an address as what is wrong with a request. A plugin that cannot say anything at present
// is no reason to refuse: the transfer waits for it.
func refusal(field, prefix string, err error) error {
	var e *sdk.Error
	if !errors.As(err, &e) {
		return err
	}
	switch {
	case e.Code == sdk.Internal:
		return err
	case e.Code == sdk.Unavailable || e.Retryable:
		return nil
	}
	return &RequestError{Field: field, Message: prefix + e.Message, Err: err}
}

// checkRemote checks a counterparty's address against the profile, and against the plugin that is to use it, if one is.
func (e *Engine) checkRemote(ctx context.Context, f *Flow, p Profile, a sdk.DataAddress) error {
	if err := p.checkAddress(a); err != nil {
		return err
	}
	if p.Renewal == RenewalRequire {
		if life, ok := e.Renewer.Renewable(f, a); !ok || life <= 0 {
			return &RequestError{Field: "dataAddress.endpointProperties",
				Message: "refreshToken and expiresIn are required by the profile, and a refreshEndpoint that can be used"}
		}
	}
	if !f.Moves() {
		return nil // kept for a local application
	}
	check := e.Checker.CheckSource
	if f.Role == Provider {
		check = e.Checker.CheckSink
	}
	return refusal("dataAddress", "", check(ctx, p.resolve(a)))
}

// checkAddress holds a counterparty's address against what the profile's specification says of it.
func (p Profile) checkAddress(a sdk.DataAddress) error {
	if !p.AllowHTTP && isPlainHTTP(a.Endpoint) {
		return &RequestError{Field: "dataAddress.endpoint", Message: "must be https"}
	}
	if !p.Strict {
		return nil
	}
	if a.Type != p.Name {
		return &RequestError{Field: "dataAddress.endpointType", Message: fmt.Sprintf("must be %q", p.Name)}
	}
	u, err := url.Parse(a.Endpoint)
	if err != nil || u.Host == "" || u.Scheme != "https" && !(p.AllowHTTP && u.Scheme == "http") {
		return &RequestError{Field: "dataAddress.endpoint", Message: "must be an absolute https URL"}
	}
	if a.Get("authorization") != "" && a.Get("authType") == "" {
		return &RequestError{Field: "dataAddress.endpointProperties", Message: "authType is required beside authorization"}
	}
	return nil
}

func isPlainHTTP(endpoint string) bool { return strings.HasPrefix(strings.ToLower(endpoint), "http:") }

// work is what a prepare or start does beside the store. It may outlive the answer.
type work struct {
	engine *Engine
	key    Key
	live   *live
	flow   *Flow // a copy
	ctx    context.Context
	cancel context.CancelCauseFunc
	stuck  <-chan struct{} // closed when the work may begin; nil: at once
	late   bool            // nobody waits for the first attempt

	first  chan outcome // the first attempt's; holds one
	handed chan bool    // whether it is to go on after the first attempt; holds one
	done   chan struct{}

	answered <-chan struct{} // set before true is sent to handed
}

// outcome is how an attempt ended.
type outcome struct {
	offer
	err error
}

// beginWork starts the work of a flow, nil if the engine is closed. late says that nobody waits for it. The flow's lock is held.
func (e *Engine) beginWork(l *live, f *Flow, late bool) *work {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.closed {
		return nil
	}
	l.users++
	flow := *f
	w := &work{engine: e, key: f.Key, live: l, flow: &flow, stuck: l.stuck, late: late,
		first: make(chan outcome, 1), handed: make(chan bool, 1), done: make(chan struct{})}
	w.ctx, w.cancel = context.WithCancelCause(e.ctx)
	e.work.Go(func() {
		defer e.unuse(w.key, l)
		defer w.cancel(nil)
		if o, ours := w.run(); ours {
			e.persist(e.ctx, w.key, l, func() error { return e.workEnded(w, o) })
		}
	})
	return w
}

// within returns the first outcome, if it comes in time for an answer of the mode. The error is that of ctx.
func (w *work) within(ctx context.Context, mode Mode, bound time.Duration) (o outcome, ok bool, err error) {
	if mode == ModeAsync {
		return outcome{}, false, nil
	}
	var late <-chan time.Time // never for ModeSync
	if mode != ModeSync {
		timer := time.NewTimer(bound)
		defer timer.Stop()
		late = timer.C
	}
	select {
	case o = <-w.first:
		return o, true, nil
	case <-late:
		return outcome{}, false, nil
	case <-ctx.Done():
		return outcome{}, false, ctx.Err()
	}
}

// abandon lets the work end with its first attempt, whose outcome somebody else takes care of.
func (w *work) abandon() {
	w.handed <- false
	w.cancel(nil)
}

// goOn lets the work go on until it is done or cannot be. The flow's lock is held, and its state says that it is under way.
func (w *work) goOn(answered <-chan struct{}) {
	w.live.work = w
	w.answered = answered
	w.handed <- true
}

// run makes the attempts. It returns false if somebody else takes care of the outcome, or nobody.
func (w *work) run() (o outcome, ours bool) {
	defer close(w.done)
	if w.stuck != nil {
		w.engine.outlive(w.ctx, w.live, w.stuck)
	}
	o = w.attempt(w.late)
	w.first <- o
	if !<-w.handed {
		return outcome{}, false
	}
	o = w.insist(o)
	w.await()
	return o, w.engine.ctx.Err() == nil // after a stop, the next start does it again
}

// attempt does the work once. What nobody waits for waits for its turn.
func (w *work) attempt(late bool) outcome {
	if late {
		end, err := w.engine.turn(w.ctx)
		if err != nil {
			return outcome{err: err}
		}
		defer end()
	}
	given, err := w.engine.perform(w.ctx, w.flow)
	return outcome{given, err}
}

// insist tries again for as long as the failure can pass.
func (w *work) insist(o outcome) outcome {
	pause := firstWorkPause
	began := w.engine.Clock()
	for o.err != nil && !isFinal(o.err) && w.engine.Clock().Sub(began) < workPatience && w.ctx.Err() == nil {
		w.engine.Logger.Warn("flow cannot be set up yet", "flow", w.key.String(), "err", o.err, "pause", pause)
		w.engine.setWaiting(w.live, fmt.Sprintf("tries again in %s after: %v", pause, o.err))
		select {
		case <-w.ctx.Done():
			return o
		case <-time.After(pause):
		}
		pause = min(2*pause, maxWorkPause)
		o = w.attempt(true)
	}
	w.engine.setWaiting(w.live, "")
	return o
}

// await waits until the answer to the signal has left.
func (w *work) await() {
	if w.answered == nil {
		return
	}
	timer := time.NewTimer(answerPatience)
	defer timer.Stop()
	select {
	case <-w.answered:
	case <-timer.C:
	case <-w.ctx.Done():
	}
}

// workEnded applies what the end of work means: PREPARED or STARTED and a callback, or a fault and a callback. An error means that it
// is not stored. The flow's lock is held.
func (e *Engine) workEnded(w *work, o outcome) error {
	l := w.live
	ctx := context.WithoutCancel(e.ctx)
	if l.work != w { // a signal came first
		return e.dropLate(ctx, w, o)
	}
	var f *Flow
	err := e.Store.Update(ctx, w.key, func(tx Tx) (err error) {
		if f, err = tx.Flow(); err != nil {
			return err
		}
		if o.err != nil {
			return fault(tx, f, o.err)
		}
		return ready(tx, f, o.offer)
	})
	if err != nil && !final(err) {
		return err
	}
	l.work = nil
	e.setWaiting(l, "")
	switch {
	case err != nil:
		e.Logger.Error("a flow was set up that is not under way", "flow", w.key.String(), "err", err)
	case o.err != nil:
		e.Logger.Error("flow cannot be set up", "flow", w.key.String(), "err", o.err)
	case f.State == Started:
		e.run(l, f)
	}
	return nil
}

// dropLate ends the tokens that work has issued after its flow had ended. Those of a flow that goes on belong to the work that is in
// the place of this one.
func (e *Engine) dropLate(ctx context.Context, w *work, o outcome) error {
	if o.address == nil {
		return nil
	}
	f, err := e.Store.Flow(ctx, w.key)
	if err != nil && !errors.Is(err, ErrNotFound) {
		return err
	}
	if err == nil && !f.State.Final() {
		return nil
	}
	return e.Endpoint.Revoke(ctx, w.key)
}

// ready moves a flow to the state that its work was for.
func ready(tx Tx, f *Flow, o offer) error {
	next, _, err := Next(f, SignalReady)
	if err != nil {
		return err
	}
	kind := CallbackPrepared
	if next == Started {
		kind = CallbackStarted
	}
	f.recovered()
	f.State = next
	f.give(o)
	if err := tx.Put(f); err != nil {
		return err
	}
	return tx.Enqueue(newCallback(tx, f, kind, f.Issued))
}

// reviveWork takes up the work of a flow that a former process left under way, or that an operator wants tried again. The flow's lock
// is held.
func (e *Engine) reviveWork(l *live, f *Flow) {
	if w := e.beginWork(l, f, true); w != nil {
		w.goOn(nil)
	}
}

// isFinal reports whether a failure of work stays the same however often it is tried.
func isFinal(err error) bool {
	var e *sdk.Error
	return errors.As(err, new(*RequestError)) || errors.As(err, &e) && !e.Retryable
}
