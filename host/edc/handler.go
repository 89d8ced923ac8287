package edc

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"mime"
	"net/http"
	"runtime/debug"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/towpath-dataplane/towpath/host/flow"
	"github.com/towpath-dataplane/towpath/sdk"
)

// DefaultMaxBody is the longest message, in bytes, that a Handler reads unless Options says otherwise.
const DefaultMaxBody = 1 << 20

// Signals is what a Handler asks of the engine. flow.Engine is one.
type Signals interface {
	flow.Signals
	// Again starts a flow that is there.
	Again(ctx context.Context, m flow.Message, address *sdk.DataAddress) (flow.Status, error)
}

// Options says how a Handler serves one control plane.
type Options struct {
	// Engine takes the signals.
	Engine Signals
	// ControlPlane is the id of the control plane, and Context the participant context that it acts in.
	ControlPlane string
	Context      string
	// Participant is the id of the participant that the context stands for, "" if it is not known.
	Participant string
	// BasePath is the URL that the control plane knows, without its origin: the path below which the endpoints are, as it is in requests.
	BasePath string
	// Profile finds a profile by its name.
	Profile func(name string) (flow.Profile, bool)
	// Authorize says with which status a request is refused because of who sends it, and why; 0 if it is not. nil: none is.
	Authorize func(r *http.Request) (status int, why string)
	// MaxBody limits a message, in bytes. 0: DefaultMaxBody.
	MaxBody int64
	// Logger gets a line per request. nil: none.
	Logger *slog.Logger
	// Registerer gets the metrics. nil: none.
	Registerer prometheus.Registerer
}

// Handler serves a data plane's endpoints of EDC's signaling to one control plane, which its path names. It is safe for concurrent use.
type Handler struct {
	Options
	metrics metrics
}

// NewHandler returns a Handler. Several may share a Registerer.
func NewHandler(o Options) *Handler {
	h := &Handler{Options: o, metrics: newMetrics(o.Registerer)}
	h.MaxBody = cmp.Or(h.MaxBody, DefaultMaxBody)
	h.Context = cmp.Or(h.Context, flow.DefaultContext)
	h.BasePath = strings.TrimRight(h.BasePath, "/")
	if h.Logger == nil {
		h.Logger = slog.New(slog.DiscardHandler)
	}
	if h.Authorize == nil {
		h.Authorize = func(*http.Request) (int, string) { return 0, "" }
	}
	return h
}

// request is a request on its way through a Handler.
type request struct {
	*http.Request
	w        http.ResponseWriter
	to       place
	answered chan struct{} // closed when the answer has left
}

// ServeHTTP takes one signal. A message that was received whole is carried through even if its sender does not wait for the answer.
func (h *Handler) ServeHTTP(w http.ResponseWriter, hr *http.Request) {
	begun := time.Now()
	r := &request{Request: hr, w: w, answered: make(chan struct{})}
	defer close(r.answered)
	a := h.serve(r)
	a.write(w)
	h.record(r, a, time.Since(begun))
}

// serve never panics: a fault in the code below costs one request.
func (h *Handler) serve(r *request) (a answer) {
	defer func() {
		if v := recover(); v != nil {
			a = h.refuse(r, fmt.Errorf("panic: %v\n%s", v, debug.Stack()))
		}
	}()
	var err error
	if r.to, err = parsePath(h.BasePath, r.URL.EscapedPath()); err != nil {
		return h.refuse(r, err)
	}
	op := r.to.operation
	if r.Method == http.MethodOptions {
		return answer{code: http.StatusNoContent, header: http.Header{"Allow": {op.allow()}}}
	}
	if err := h.authorize(r); err != nil {
		return h.refuse(r, err)
	}
	if !op.takes(r.Method) {
		return h.refuse(r, methodNotAllowed.problem("%s is not for %s requests", op, r.Method).with("Allow", op.allow()))
	}
	a, err = h.take(r)
	if err != nil {
		return h.refuse(r, err)
	}
	return a
}

// authorize refuses who is not the control plane. A heartbeat needs no credential and tells nothing.
func (h *Handler) authorize(r *request) error {
	if r.to.operation == opCheck {
		return nil
	}
	switch status, why := h.Authorize(r.Request); status {
	case 0:
		return nil
	case http.StatusForbidden:
		return notAuthorized.problem("%s", why)
	default:
		return notAuthenticated.problem("%s", why)
	}
}

// take does what a request asks for.
func (h *Handler) take(r *request) (answer, error) {
	switch r.to.operation {
	case opCheck:
		return answer{code: http.StatusNoContent}, nil
	case opState:
		s, err := h.Engine.Status(r.Context(), h.about(r))
		return stateOf(s.State), err
	}
	body, err := h.body(r)
	if err != nil {
		return answer{}, err
	}
	m, err := h.message(r, body)
	if err != nil {
		return answer{}, err
	}
	return h.signal(context.WithoutCancel(r.Context()), r, m)
}

// about is what the engine is told of every signal.
func (h *Handler) about(r *request) flow.Message {
	return flow.Message{Key: flow.Key{Context: h.Context, ID: r.to.id}, ControlPlane: h.ControlPlane, Answered: r.answered}
}

func (h *Handler) body(r *request) ([]byte, error) {
	if err := checkContentType(r.Header); err != nil {
		return nil, err
	}
	body, err := io.ReadAll(http.MaxBytesReader(r.w, r.Body, h.MaxBody))
	var tooLong *http.MaxBytesError
	switch {
	case errors.As(err, &tooLong):
		return nil, tooLarge.problem("the message is longer than %d bytes", tooLong.Limit)
	case err != nil:
		return nil, invalid("", "the message did not arrive whole")
	}
	return body, nil
}

// checkContentType refuses what cannot be a JSON message. A missing type is fine.
func checkContentType(h http.Header) error {
	if coding := h.Get("Content-Encoding"); coding != "" && coding != "identity" {
		return unsupportedMedia.problem("the content coding %.100q is not supported", coding).with("Accept-Encoding", "identity")
	}
	given := h.Get("Content-Type")
	media, _, err := mime.ParseMediaType(given)
	if err != nil { // of the parameters, or there is none
		media, _, _ = strings.Cut(strings.ToLower(given), ";")
		media = strings.TrimSpace(media)
	}
	if media == "" || strings.HasSuffix(media, "/json") || strings.HasSuffix(media, "+json") {
		return nil
	}
	return unsupportedMedia.problem("the content type %.100q is not JSON", given).with("Accept", "application/json, application/ld+json")
}

// message reads the body of a signal, and settles what it is for: what the path says, and otherwise what the message's type says. The
// messages about an existing flow may be empty.
func (h *Handler) message(r *request, body []byte) (m message, err error) {
	if len(strings.TrimSpace(string(body))) > 0 || r.to.id == "" {
		if m, err = decode(body); err != nil {
			return m, err
		}
	}
	op := of[m.kind]
	switch {
	case r.to.operation == opMessage && op == "":
		return m, invalid("@type", "is required: it says what the message is for")
	case r.to.operation == opMessage && op != opStart && op != opPrepare:
		return m, invalid("@type", "%s is sent to the path of its data flow", bare(m.kind))
	case r.to.operation == opMessage:
		m.former = op == opStart
		r.to.operation = op
	case r.to.operation == opAgain && m.kind == startMessage && m.processID != r.to.id:
		return m, invalid("processId", "is not the data flow of the path")
	case r.to.operation == opAgain && m.kind == startMessage:
		r.to.operation = opStart
	case op == "" && r.to.id == "":
		return m, invalid("@type", "is required")
	case op != "" && op != r.to.operation:
		return m, invalid("@type", "%s does not belong to the path", bare(m.kind))
	}
	if r.to.id == "" {
		r.to.id = m.processID
	}
	return m, nil
}

// signal gives a signal to the engine.
func (h *Handler) signal(ctx context.Context, r *request, m message) (answer, error) {
	switch r.to.operation {
	case opSuspend:
		return h.suspend(ctx, r, m)
	case opTerminate:
		return h.terminate(ctx, r, m)
	case opAgain:
		s, err := h.Engine.Again(ctx, h.about(r), nil)
		return h.respond(m, s), err
	}
	c, err := h.create(r, m)
	if err != nil {
		return answer{}, err
	}
	var s flow.Status
	if r.to.operation == opPrepare {
		s, err = h.Engine.Prepare(ctx, c)
	} else {
		s, err = h.Engine.Start(ctx, c)
	}
	if err != nil {
		return answer{}, err
	}
	return h.respond(m, s), nil
}

// create is what a message that starts or prepares a flow says. EDC names the consumer in both: it is the counterparty of a provider,
// and on the other side it is who we are.
func (h *Handler) create(r *request, m message) (flow.Create, error) {
	name, err := h.transferType(m)
	if err != nil {
		return flow.Create{}, err
	}
	p, _ := h.Profile(name)
	c := flow.Create{Message: h.about(r), Profile: name, DatasetID: m.datasetID, AgreementID: m.agreementID,
		Metadata: m.properties, Callback: m.callbackAddress, Again: true}
	if r.to.operation == opPrepare {
		c.ParticipantID = cmp.Or(m.participantID, h.Participant)
		return c, nil
	}
	c.ParticipantID, c.CounterPartyID = h.Participant, m.participantID
	c.Source, c.Response = m.source, m.response
	if p.Direction == flow.Push {
		c.DataAddress = m.destination // for pull, EDC 0.6 and 0.7 send one that says nothing
	}
	if m.former {
		c.Mode = flow.ModeSync // there, a start that goes on after its answer is not known
	}
	return c, nil
}

// suspend stops a flow. A consumer's was PREPARED, and EDC does not tell when the provider has started.
func (h *Handler) suspend(ctx context.Context, r *request, m message) (answer, error) {
	_, err := h.Engine.Suspend(ctx, h.about(r), m.reason)
	var state *flow.StateError
	if errors.As(err, &state) && state.State == flow.Prepared {
		if _, err = h.Engine.Started(ctx, h.about(r), nil); err == nil {
			_, err = h.Engine.Suspend(ctx, h.about(r), m.reason)
		}
	}
	return answer{code: http.StatusNoContent}, err
}

// terminate ends a flow. EDC does so also with one that is COMPLETED: it has no other word for that.
func (h *Handler) terminate(ctx context.Context, r *request, m message) (answer, error) {
	_, err := h.Engine.Terminate(ctx, h.about(r), m.reason)
	var state *flow.StateError
	if errors.As(err, &state) && state.State == flow.Completed {
		err = nil
	}
	return answer{code: http.StatusNoContent}, err
}
