package publicapi

import (
	"context"
	"errors"
	"fmt"

	"github.com/towpath-dataplane/towpath/host/flow"
)

// stay is the time that a request spends inside a flow.
type stay struct {
	flow *flow.Flow
	// ctx ends when the flow stops, the client goes, or the request has taken too long.
	ctx context.Context
	// read stores that a part was read, nil if nobody does so in the background.
	read  func(flow.Part)
	meter Meter // nil without limits, and after leave
	// reason says what else ended the stay, nil if nothing did. It is set by leave.
	reason error

	exchange    *exchange
	joined      *flow.Joined
	stopTimer   context.CancelFunc // nil if there is none
	interrupted chan struct{}      // closed when the exchange was
	uninterrupt func() bool
	left        bool
}

// join enters the flow of the request. The token is verified again inside: a flow that was suspended and resumed in the meantime has
// let its old tokens die, and from here on it cannot stop without waiting for us.
func (h *Handler) join(x *exchange) (*stay, error) {
	joined, err := h.service(x.route).Join(x.r.Context(), x.route.key)
	if err != nil {
		return nil, err
	}
	if _, err := h.authorize(x); err != nil {
		joined.Leave()
		return nil, err
	}
	return h.newStay(x, joined), nil
}

func (h *Handler) newStay(x *exchange, joined *flow.Joined) *stay {
	s := &stay{flow: joined.Flow, ctx: joined.Context, read: joined.Read, exchange: x, joined: joined, interrupted: make(chan struct{})}
	if d := h.Limits.MaxDuration; d > 0 {
		s.ctx, s.stopTimer = context.WithTimeoutCause(s.ctx, d, tookTooLong(x.route.operation))
	}
	// It ends also with the request's own, because the client has gone.
	s.uninterrupt = context.AfterFunc(s.ctx, s.interrupt)
	if h.Meter != nil {
		s.meter = h.Meter(joined.Flow)
	}
	x.stay, x.moved = s, joined.Moved
	return s
}

func (s *stay) interrupt() {
	s.exchange.interrupt()
	close(s.interrupted)
}

// leave ends the stay. It can be called again.
func (s *stay) leave() {
	if s.left {
		return
	}
	s.left = true
	s.reason = whyEnded(s.ctx)
	if !s.uninterrupt() {
		<-s.interrupted
	}
	if s.stopTimer != nil {
		s.stopTimer()
	}
	if s.meter != nil {
		s.meter.Close()
		s.meter = nil
	}
	s.joined.Leave()
}

// waitsForSource says whom the request waits for from now on. It does nothing for nil, as its like.
func (s *stay) waitsForSource() {
	if s != nil && s.meter != nil {
		s.meter.Source()
	}
}

func (s *stay) waitsForHost() {
	if s != nil && s.meter != nil {
		s.meter.Host()
	}
}

func (s *stay) waitsForSink() {
	if s != nil && s.meter != nil {
		s.meter.Sink()
	}
}

func tookTooLong(o operation) error {
	k := tooSlow
	if o.reads() {
		k = backendSlow
	}
	return k.because("the request took longer than allowed")
}

// whyEnded says what ended a stay, nil if nothing has.
func whyEnded(ctx context.Context) error {
	cause := context.Cause(ctx)
	var p *problem
	switch {
	case cause == nil, errors.As(cause, &p):
		return cause
	case errors.Is(cause, context.Canceled), errors.Is(cause, errClientGone):
		return errClientGone
	}
	return fmt.Errorf("%w: %w", errCut, cause)
}

// explain returns why the stay was ended if that is why err came about, otherwise err. It is called after leave.
func (s *stay) explain(err error) error {
	// An operation that fails may itself break the connection; its own error is then the reason.
	if err == nil || s.reason == nil || s.reason == errClientGone && !endOf(s.ctx, err) {
		return err
	}
	return s.reason
}

// endOf reports whether err says that ctx has ended.
func endOf(ctx context.Context, err error) bool {
	cause := context.Cause(ctx)
	return errors.Is(err, context.Canceled) || cause != nil && errors.Is(err, cause)
}
