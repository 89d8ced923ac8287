package publicapi

import (
	"errors"
	"net/http"
	"slices"
	"time"

	"github.com/towpath-dataplane/towpath/host/flow"
	"github.com/towpath-dataplane/towpath/host/token"
)

// service is who takes the parts of a request: the flow, or its response channel.
func (h *Handler) service(r route) flow.Service {
	if r.operation.responds() {
		return h.Responses
	}
	return h.Flows
}

// untimely says why a request is refused whose token is not good. A message on a response channel is answered with the state of the flow
// even if its token is dead because of that, so that its sender knows whether there is any use in trying again. Only a token which was
// issued for that channel says so much.
func (h *Handler) untimely(x *exchange, claims token.Claims, refused error) error {
	var p *problem
	if !x.route.operation.responds() || !errors.As(refused, &p) || p.Type != revokedToken.because("").Type ||
		claims.Flow != tokenFlow(x.route.key) || claims.Access != token.Respond {
		return refused
	}
	joined, err := h.Responses.Join(x.r.Context(), x.route.key)
	if err != nil {
		return err
	}
	joined.Leave()
	return refused // there is a newer token
}

// suspendedRetry is when the sender of a message may look again whether a flow that was suspended goes on.
const suspendedRetry = 10 * time.Second

// responseProblem is how a message on a response channel is refused, which says whether to try again.
func responseProblem(p *problem, err error) *problem {
	var state *flow.StateError
	if errors.As(err, &state) && !errors.As(err, new(*problem)) {
		p = untimelyMessage(state)
	}
	retry := p.header.Get("Retry-After") != "" ||
		slices.Contains([]int{http.StatusRequestTimeout, http.StatusTooManyRequests, http.StatusGatewayTimeout}, p.Status)
	p.Retry = &retry
	return p
}

// untimelyMessage answers a message that a flow in its state does not take.
func untimelyMessage(e *flow.StateError) *problem {
	var p *problem
	switch e.State {
	case flow.Preparing, flow.Prepared, flow.Starting:
		p = notStarted.because("the response channel opens when the data flow has started; it is %s", e.State).retryAfter(time.Second)
	case flow.Started:
		p = unavailable.because("the response channel was opened anew").retryAfter(time.Second)
	case flow.Suspended:
		p = unavailable.because("the data flow is SUSPENDED; when it goes on, the response channel has a new token").retryAfter(suspendedRetry)
	default:
		p = gone.because("the response channel is closed for good: the data flow is %s", e.State)
	}
	p.State = e.State
	return p
}
