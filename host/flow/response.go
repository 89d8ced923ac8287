package flow

import (
	"context"
	"fmt"
	"maps"
	"strings"
	"time"

	"github.com/towpath-dataplane/towpath/sdk"
)

// Response is the response channel of a flow (back channel): where the counterparty sends what it has to say about the data. The
// provider of a flow opens it, whatever the flow's direction, and it takes messages while the flow is STARTED and no longer.
type Response struct {
	// Local is the dataset's response sink, which is written with what comes. Zero for a consumer.
	Local sdk.DataAddress
	// Target is what made Issued, if a plugin provisioned that: a transfer then reads what is sent to Issued. Nil if the public API takes
	// it.
	Target *sdk.DataAddress
	// Issued is the channel's address with its current token, which is in Flow.Issued under the names of Embed. Secret.
	Issued *sdk.DataAddress
	// Remote is the address with the channel that the counterparty has opened, for a consumer's push. Secret.
	Remote *sdk.DataAddress

	// Totals, Digest, Checkpoint and NextIndex are as those of Flow, for what came on the channel.
	Totals     sdk.Totals
	Digest     []byte
	Checkpoint *Checkpoint
	NextIndex  uint64
	// Fault is the failure of the channel's transfer that was reported last; "" once it moves again.
	Fault string
}

// The names of a response channel's properties in an address begin with responsePrefix.
const (
	responsePrefix   = "responseChannel-"
	responseEndpoint = responsePrefix + "endpoint"
	responseType     = responsePrefix + "endpointType"
)

// responseSuffix is what the id of a flow has, for plugins, limits and accounts, where its response channel is meant.
const responseSuffix = "/responses"

// Embed returns an address with the response channel at channel in its properties; nil stands for a flow whose counterparty is given
// nothing else. Its address is then that of the channel, because control planes want one.
func Embed(a *sdk.DataAddress, channel sdk.DataAddress) *sdk.DataAddress {
	both := sdk.DataAddress{Type: channel.Type, Endpoint: channel.Endpoint}
	if a != nil {
		both = a.Clone()
	}
	if both.Properties == nil {
		both.Properties = map[string]string{}
	}
	for name, value := range channel.Properties {
		both.Properties[responsePrefix+name] = value
	}
	both.Properties[responseType] = channel.Type
	if channel.Endpoint != "" {
		both.Properties[responseEndpoint] = channel.Endpoint
	}
	return &both
}

// hasResponse reports whether an address tells of a response channel.
func hasResponse(a sdk.DataAddress) bool {
	return a.Get(responseType) != "" || a.Get(responseEndpoint) != ""
}

// onlyResponse reports whether an address tells of nothing but a response channel.
func onlyResponse(a sdk.DataAddress) bool {
	return hasResponse(a) && (a.Endpoint == "" || a.Endpoint == a.Get(responseEndpoint))
}

// withoutResponse returns the address without the response channel, which is nothing to the plugin that moves the data.
func withoutResponse(a sdk.DataAddress) sdk.DataAddress {
	a = a.Clone()
	maps.DeleteFunc(a.Properties, func(name, _ string) bool { return strings.HasPrefix(sdk.LocalName(name), responsePrefix) })
	return a
}

// checkResponse holds the response channel of a counterparty's address against the profile.
func (p Profile) checkResponse(a sdk.DataAddress) error {
	if !p.AllowHTTP && isPlainHTTP(a.Get(responseEndpoint)) {
		return &RequestError{Field: "dataAddress.endpointProperties", Message: responseEndpoint + " must be https"}
	}
	return nil
}

// opensResponse reports whether this side has opened a response channel, or is to.
func (f *Flow) opensResponse() bool { return f.Role == Provider && f.Response != nil }

// carriesResponse reports whether this side runs a transfer for the response channel.
func (f *Flow) carriesResponse() bool { return f.opensResponse() && f.Response.Target != nil }

// respond changes a copy of the response channel, which it puts in the place of what there is.
func (f *Flow) respond(change func(r *Response)) {
	r := Response{}
	if f.Response != nil {
		r = *f.Response
	}
	change(&r)
	f.Response = &r
}

// offer is what a counterparty is given: an address, nil if there is none. channel is the address of the response channel that is in it.
type offer struct{ address, channel *sdk.DataAddress }

// give keeps what the counterparty is given.
func (f *Flow) give(o offer) {
	f.Issued = o.address
	if o.channel != nil {
		f.respond(func(r *Response) { r.Issued = o.channel })
	}
}

// withdraw forgets what the counterparty was given.
func (f *Flow) withdraw() {
	f.Issued = nil
	if f.Response != nil && f.Response.Issued != nil {
		f.respond(func(r *Response) { r.Issued = nil })
	}
}

// refreshResponse takes over what has come on the channel since f was read: now is what is stored.
func (f *Flow) refreshResponse(now *Response) {
	if f.Response == nil || now == nil {
		return
	}
	given := f.Response
	f.respond(func(r *Response) {
		*r = *now
		r.Issued, r.Remote = given.Issued, given.Remote
	})
}

// offer makes what the counterparty is given.
func (e *Engine) offer(ctx context.Context, f *Flow) (o offer, err error) {
	if o.address, err = e.issue(ctx, f); err != nil || !f.opensResponse() {
		return o, err
	}
	channel, err := e.openResponse(ctx, f)
	if err != nil {
		return o, fmt.Errorf("open the response channel: %w", err)
	}
	return offer{Embed(o.address, channel), &channel}, nil
}

// openResponse makes the address of the response channel.
func (e *Engine) openResponse(ctx context.Context, f *Flow) (a sdk.DataAddress, err error) {
	if f.Response.Target == nil {
		return e.Endpoint.IssueResponse(ctx, f)
	}
	sink, err := e.Sinks.Sink(f.Response.Target.Type)
	if err != nil {
		return a, err
	}
	if a, err = sink.Provision(ctx, f.responses().PluginContext(), *f.Response.Target); err != nil {
		return a, err
	}
	if p, ok := e.Catalog.Profile(f.Profile); ok && p.Response != nil && p.Response.EndpointType != "" {
		a.Type = p.Response.EndpointType
	}
	return a, nil
}

// responses is the flow as it is for whoever moves what comes on its response channel: a consumer's, of the counterparty's messages.
// With a carrier this side fetches them from there.
func (f *Flow) responses() *Flow {
	v, r := *f, f.Response
	v.ID += responseSuffix
	v.Role, v.Direction, v.Response = Consumer, Push, nil
	v.Local, v.Target, v.Remote, v.Issued = r.Local, nil, nil, nil
	v.Totals, v.Digest, v.Checkpoint, v.NextIndex = r.Totals, r.Digest, r.Checkpoint, r.NextIndex
	v.Fault, v.FaultPart, v.Skipped, v.Reported, v.Sealed = r.Fault, "", nil, nil, false
	if r.Target != nil {
		v.Direction = Pull
	}
	return &v
}

// responseKey is what the flow's response channel is called where it has an account of its own.
func responseKey(key Key) Key { return Key{Context: key.Context, ID: key.ID + responseSuffix} }

// carrier is where the channel's transfer reads.
func (f *Flow) carrier() (sdk.DataAddress, error) {
	if !f.carriesResponse() || f.Response.Issued == nil {
		return sdk.DataAddress{}, &StateError{Key: f.Key, State: f.State, Signal: signalData, Why: "it has no open response channel"}
	}
	a := f.Response.Issued.Clone()
	a.Type = f.Response.Target.Type
	return a, nil
}

// runResponse runs the transfer of a response channel that a plugin carries. The flow's lock is held.
func (e *Engine) runResponse(l *live, f *Flow) {
	if !f.carriesResponse() || l.response != nil { // it runs on if the flow is started again
		return
	}
	stuck := l.responseStuck
	view := f.responses()
	view.Redelivery = f.Redelivery || view.Checkpoint != nil
	l.response = e.spawn(l, view.Key, f.Key, &l.responses, func(ctx context.Context) error {
		if stuck != nil {
			select {
			case <-stuck:
			case <-ctx.Done():
				return context.Cause(ctx)
			}
			now, err := e.Store.Flow(ctx, f.Key)
			if err != nil || now.Response == nil {
				return sdk.Retryf(sdk.Unavailable, "read flow: %w", err)
			}
			view.Checkpoint, view.Totals, view.Digest = now.Response.Checkpoint, now.Response.Totals, now.Response.Digest
		}
		p := &responseProgress{engine: e, key: f.Key, live: l}
		defer l.responses.forget(p)
		return e.Transfer(ctx, view, p)
	}, func(r *running, err error) error { return e.responseEnded(f.Key, l, r, err) })
}

// errResponseEnded is what it means that the transfer of a response channel has come to an end.
var errResponseEnded = sdk.Errorf(sdk.Unavailable, "what carries it has ended")

// responseEnded reports that the transfer of a response channel has ended, which leaves the flow's data alone. An error means that it is
// not stored. The flow's lock is held.
func (e *Engine) responseEnded(key Key, l *live, r *running, failure error) error {
	if l.response != r {
		return nil // a signal came first
	}
	if failure == nil {
		failure = errResponseEnded
	}
	err := e.Store.Update(context.WithoutCancel(e.ctx), key, func(tx Tx) error { return responseFault(tx, failure) })
	if err != nil && !final(err) {
		return err
	}
	l.response = nil
	e.setResponseWaiting(l, "")
	e.Logger.Error("response channel cannot go on", "flow", key.String(), "err", failure)
	return nil
}

// responseFault keeps a failure of the response channel's transfer, and reports it unless it was reported since the channel moved last.
func responseFault(tx Tx, failure error) error {
	f, err := tx.Flow()
	if err != nil {
		return err
	}
	text := "response channel: " + failure.Error()
	switch {
	case f.State != Started || f.Response == nil:
		return &StateError{Key: f.Key, State: f.State, Signal: SignalFinished}
	case f.Response.Fault == text:
		return nil
	}
	f.respond(func(r *Response) { r.Fault = text })
	if err := tx.Put(f); err != nil {
		return err
	}
	c := newCallback(tx, f, CallbackErrored, nil)
	c.Error = text
	return tx.Enqueue(c)
}

// closeResponse closes the response channel of a flow that has come to its end by itself. The flow's lock is held.
func (e *Engine) closeResponse(ctx context.Context, l *live, f *Flow) error {
	if !f.opensResponse() {
		return nil
	}
	err := e.Endpoint.Revoke(ctx, f.Key)
	e.halt(f.Key, l, f.State)
	if err != nil {
		e.Logger.Error("tokens of a flow that has ended not revoked yet", "flow", f.Key.String(), "err", err)
	}
	return err
}

// linger keeps a flow that has sent everything from its completion for as long as its response channel is to stay open.
func (e *Engine) linger(ctx context.Context, l *live, f *Flow) error {
	p, ok := e.Catalog.Profile(f.Profile)
	if !ok || p.Response == nil || p.Response.Linger <= 0 || !f.opensResponse() {
		return nil
	}
	e.setWaiting(l, fmt.Sprintf("everything is sent; the response channel stays open for %s more", p.Response.Linger))
	timer := time.NewTimer(p.Response.Linger)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

func (e *Engine) setResponseWaiting(l *live, reason string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	l.responseWaiting = reason
}

// responseProgress is what the transfer of a response channel tells the engine, and asks it.
type responseProgress struct {
	engine *Engine
	key    Key
	live   *live
}

func (p *responseProgress) Waiting(reason string) { p.engine.setResponseWaiting(p.live, reason) }

func (p *responseProgress) Observe(step func() Step) { p.live.responses.observe(p, step) }

func (p *responseProgress) Checkpoint(ctx context.Context, c Checkpoint, totals sdk.Totals, parts []Part) error {
	return storable(p.engine.Store.Update(ctx, p.key, func(tx Tx) error {
		f, err := tx.Flow()
		switch {
		case err != nil:
			return err
		case f.State.Final() || f.Response == nil:
			return &StateError{Key: f.Key, State: f.State, Signal: SignalFinished}
		}
		for _, part := range parts {
			part.Response = true
			if err := addPart(tx, f, part); err != nil {
				return err
			}
		}
		f.respond(func(r *Response) { r.Checkpoint, r.Totals, r.Fault = &c, totals, "" })
		return tx.Put(f)
	}))
}

func (p *responseProgress) Remote(ctx context.Context, refused bool) (sdk.DataAddress, error) {
	if refused {
		return sdk.DataAddress{}, ErrNotRenewed
	}
	f, err := p.engine.Store.Flow(ctx, p.key)
	if err != nil {
		return sdk.DataAddress{}, err
	}
	return f.carrier()
}

// Responses returns the Service of response channels: its flows are those whose channel the public API serves, and what it joins,
// records and counts is what comes on them.
func (e *Engine) Responses() Service { return responses{e} }

type responses struct{ engine *Engine }

// Join enters the response channel of a flow. The Joined's flow has the response sink as Local.
func (s responses) Join(ctx context.Context, key Key) (*Joined, error) {
	return s.engine.stay(ctx, key, true, func(f *Flow) (*Flow, error) {
		switch {
		case !f.opensResponse() || f.Response.Target != nil:
			return nil, ErrNotFound
		case f.State != Started:
			return nil, &StateError{Key: key, State: f.State, Signal: signalData}
		}
		return f.responses(), nil
	})
}

func (s responses) Record(ctx context.Context, key Key, parts ...Part) error {
	return s.edit(ctx, key, func(tx Tx, f *Flow) error {
		for _, p := range parts {
			p.Response = true
			if err := addPart(tx, f, p); err != nil {
				return err
			}
		}
		return nil
	})
}

func (s responses) Part(ctx context.Context, key Key, name string) (p Part, ok bool, err error) {
	err = s.engine.Store.Update(ctx, key, func(tx Tx) (err error) {
		p, ok, err = tx.ResponsePart(name)
		return err
	})
	return p, ok, err
}

func (s responses) NextIndex(ctx context.Context, key Key) (index uint64, err error) {
	err = s.edit(ctx, key, func(_ Tx, f *Flow) error {
		f.respond(func(r *Response) {
			index = r.NextIndex
			r.NextIndex++
		})
		return nil
	})
	return index, err
}

// Seal refuses: a channel is open for as long as its flow is STARTED.
func (s responses) Seal(_ context.Context, key Key, _ func([]Part) error) error {
	return &StateError{Key: key, State: Started, Signal: signalData, Why: "a response channel has no manifest"}
}

func (s responses) Report(ctx context.Context, key Key, failure error) error {
	return s.engine.Report(ctx, key, failure)
}

func (s responses) edit(ctx context.Context, key Key, change func(Tx, *Flow) error) error {
	return s.engine.edit(ctx, key, func(tx Tx, f *Flow) error {
		if f.Response == nil {
			return ErrNotFound
		}
		return change(tx, f)
	})
}

// ResponseWaiting returns why the transfer of a flow's response channel does not move at present, "" if it does or there is none.
func (e *Engine) ResponseWaiting(key Key) string {
	if reason := e.Options.Waits(responseKey(key)).Text; reason != "" {
		return reason
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if l := e.live[key]; l != nil {
		return l.responseWaiting
	}
	return ""
}

// ResponseMovement returns how what comes on a flow's response channel moves in this process, and false if nothing is known of that.
func (e *Engine) ResponseMovement(key Key) (Movement, bool) {
	return e.movement(key, responseKey(key), true)
}
