package publicapi

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"slices"
	"time"

	"github.com/google/uuid"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/towpath-dataplane/towpath/host/flow"
	"github.com/towpath-dataplane/towpath/sdk"
)

// Options are what a Handler needs. All but Responses, Renewal, Proxy, Resume, Digests, Limits, Meter, Access, Registerer and Logger are
// required.
type Options struct {
	Flows flow.Service
	// Responses are the response channels of flows. nil: none has one.
	Responses flow.Service
	Tokens    Verifier
	// Source and Sink find what reads or writes the data addresses of a type.
	Source func(typ string) (sdk.DataSource, error)
	Sink   func(typ string) (sdk.DataSink, error)
	// JWKS are the public keys of tokens, as a JSON Web Key Set.
	JWKS []byte
	// Renewal lets counterparties renew tokens. Without its Tokens and Keys none are.
	Renewal RenewalOptions
	// Proxy lets counterparties speak with the servers behind some sources.
	Proxy ProxyOptions
	// Resume lets counterparties go on with uploads that were cut.
	Resume ResumeOptions
	// PublicURL is as in EndpointOptions. The paths that reach the Handler begin behind it.
	PublicURL string
	// Digests are computed of every part. CRC32C always is.
	Digests []sdk.Algorithm
	Limits  Limits
	// Meter opens what a request is held to in a flow. nil: there are no limits but those of tokens.
	Meter func(f *flow.Flow) Meter
	// Access is asked once about each request with a good token, inside its flow and before anything is opened, whether it may go on: it
	// returns nil, an *AccessDenied, or the cause for which ctx ended. nil: all may.
	Access func(ctx context.Context, r AccessRequest) error
	// Replaced says of a failure that it lies with a plugin in the place of which there is another by now: it is asked again at once. nil: there
	// is no such failure.
	Replaced   func(err error) bool
	Registerer prometheus.Registerer // nil: no metrics are published
	Logger     *slog.Logger          // nil: nothing is logged
}

// Handler honours the addresses that an Endpoint issued. It expects to be the only handler of its connections: it moves their
// deadlines as bytes move, and wants a server without ReadTimeout and WriteTimeout.
//
// It panics with http.ErrAbortHandler to break off an answer.
type Handler struct {
	Options
	base       string // PublicURL without '/' at its end
	path       string // of it
	algorithms []sdk.Algorithm
	usage      *usage
	uploads    *uploads
	renewing   *renewing
	metrics    *metrics
}

// NewHandler returns a Handler, or says which option is wrong.
func NewHandler(o Options) (*Handler, error) {
	base, err := publicBase(o.PublicURL)
	switch {
	case err != nil:
		return nil, err
	case o.Flows == nil, o.Tokens == nil, o.Source == nil, o.Sink == nil, len(o.JWKS) == 0:
		return nil, errors.New("a Handler needs Flows, Tokens, Source, Sink and JWKS")
	case (o.Renewal.Tokens == nil) != (o.Renewal.Keys == nil):
		return nil, errors.New("to renew tokens, a Handler needs both Tokens and Keys")
	case o.Resume.Uploads != nil && o.Resume.Sink == nil:
		return nil, errors.New("to go on with uploads, a Handler needs both Uploads and Sink")
	}
	m, err := newMetrics(o.Registerer)
	if err != nil {
		return nil, fmt.Errorf("register metrics: %w", err)
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.Renewal.Clock == nil {
		o.Renewal.Clock = time.Now
	}
	if o.Limits.IdleTimeout == 0 {
		o.Limits.IdleTimeout = time.Minute
	}
	o.Resume = o.Resume.withDefaults()
	return &Handler{
		Options: o, base: base, path: pathOf(base), algorithms: algorithms(o.Digests),
		usage: newUsage(o.Limits), uploads: newUploads(), renewing: &renewing{clients: map[string]int{}}, metrics: m,
	}, nil
}

// algorithms are those to compute if some are wanted.
func algorithms(wanted []sdk.Algorithm) []sdk.Algorithm {
	if slices.Contains(wanted, sdk.SHA256) {
		return []sdk.Algorithm{sdk.CRC32C, sdk.SHA256}
	}
	return []sdk.Algorithm{sdk.CRC32C}
}

// ServeHTTP answers one request of a counterparty.
func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	to, known := h.routeOf(r)
	if !known || to.operation == renewTokens && h.Renewal.Tokens == nil || to.operation.responds() && h.Responses == nil {
		to.operation = noOperation
	}
	h.answer(w, r, to, h.serve)
}

// answer lets serve answer a request. If serve returns an error, the answer has not begun, or has to be broken off.
func (h *Handler) answer(w http.ResponseWriter, r *http.Request, to route, serve func(*exchange) error) {
	x := newExchange(w, r, h.Limits.IdleTimeout, h.metrics)
	defer x.end()
	x.route = to
	gauge := h.metrics.running(to.operation)
	gauge.Inc()
	defer gauge.Dec()

	err := serve(x)
	switch {
	case err == nil:
		h.metrics.answered(x.route.operation, x.status)
	case x.hasBegun():
		h.breakOff(x, err)
	case x.route.operation == renewTokens:
		h.refuseRenewal(x, err)
	default:
		h.refuse(x, err)
	}
}

// serve does what a counterparty's request asks for.
func (h *Handler) serve(x *exchange) error {
	operation := x.route.operation
	if operation == noOperation {
		return notFound.because("nothing has this path")
	}
	if !operation.takes(x.r.Method) {
		return wrongMethod.because("%s is not for this path", x.r.Method).with("Allow", allowed(operation))
	}
	switch operation {
	case publishKeys:
		return x.reply(http.StatusOK, "application/jwk-set+json", h.JWKS)
	case renewTokens:
		return h.renew(x)
	}
	claims, err := h.authorize(x)
	if err != nil {
		return h.untimely(x, claims, err)
	}
	x.allowance, err = h.usage.enter(claims.ID, claims.Expires, !x.route.controls(x.r.Method))
	if err != nil {
		return err
	}
	defer x.allowance.leave()
	return h.serveInside(x)
}

// serveInside runs the operation inside the flow. An answer that is not the flow's data is sent when the flow has been left, so that
// a slow client does not hold up a suspend.
func (h *Handler) serveInside(x *exchange) error {
	release, err := h.uploads.enter(x.route)
	if err != nil {
		return err
	}
	defer release()
	s, err := h.join(x)
	if err != nil {
		return err
	}
	defer s.leave()
	if err = h.admit(x, s); err != nil {
		s.leave()
		return s.explain(err)
	}
	a, err := h.perform(x, s)
	s.leave()
	if err != nil || a == nil {
		return s.explain(err)
	}
	if a.location != "" {
		x.header().Set("Location", a.location)
	}
	for name, values := range a.header {
		x.header()[name] = values
	}
	if a.body == nil {
		return x.replyEmpty(a.status)
	}
	return x.replyJSON(a.status, a.body)
}

// answer is what is said about an ingest.
type answer struct {
	status   int
	location string
	header   http.Header // more fields
	body     any         // nil for none
}

// perform returns a nil answer if it has written one itself.
func (h *Handler) perform(x *exchange, s *stay) (*answer, error) {
	switch x.route.operation {
	case pullFlow, pullPart, belowFlow:
		return nil, h.read(x, s)
	case ingestFlow, ingestPart, uploadPart, respondFlow, respondPart:
		return h.ingest(x, s)
	case seal:
		return h.seal(x, s)
	}
	panic("publicapi: no such operation: " + string(x.route.operation))
}

// refuse answers with the problem that err is. Faults of ours and of plugins are logged, under an id that the answer carries.
func (h *Handler) refuse(x *exchange, err error) {
	p := problemOf(err)
	if x.route.operation.responds() {
		p = responseProblem(p, err)
	}
	if p.Status >= http.StatusInternalServerError && p.err != nil {
		p.Instance = "urn:uuid:" + uuid.NewString()
		h.Logger.ErrorContext(x.r.Context(), "request failed",
			"operation", x.route.operation, "flow", x.route.key.String(), "instance", p.Instance, "err", err)
	}
	// If the problem cannot be sent, there is nobody to tell.
	_ = p.write(x)
	h.metrics.answered(x.route.operation, p.Status)
}

// breakOff ends an answer of which some may have left, so that the client cannot take it for whole.
func (h *Handler) breakOff(x *exchange, err error) {
	reason, level := "source", slog.LevelError
	var p *problem
	switch {
	case errors.Is(err, errClientGone):
		reason, level = "client", slog.LevelDebug
	case errors.Is(err, errCut):
		reason, level = "stopped", slog.LevelInfo
	case errors.As(err, &p) && p.err == nil:
		reason, level = "limit", slog.LevelInfo
	}
	h.Logger.Log(context.WithoutCancel(x.r.Context()), level, "answer broken off",
		"operation", x.route.operation, "flow", x.route.key.String(), "reason", reason, "err", err)
	h.metrics.brokenOff(x.route.operation, reason)
	panic(http.ErrAbortHandler)
}
