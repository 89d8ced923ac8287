package signaling

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"runtime/debug"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/towpath-dataplane/towpath/host/flow"
)

// DefaultMaxBody is the longest message, in bytes, that a Handler reads unless Options says otherwise.
const DefaultMaxBody = 1 << 20

// Options says how a Handler serves.
type Options struct {
	// Engine takes the signals.
	Engine flow.Signals
	// ControlPlanes tells who calls, and takes the registrations of control planes if it has keys for that.
	ControlPlanes *Directory
	// BasePath is the path below which the endpoints are, as it is in the request: "/api/v1" for /api/v1/dataflows/start.
	BasePath string
	// MaxBody limits a message, in bytes. 0: DefaultMaxBody.
	MaxBody int64
	// Strict refuses what only older drafts of the specification allow: messages without messageId or claims, transferType for
	// profile, and the paths of those drafts.
	Strict bool
	// Logger gets a line per request. nil: none.
	Logger *slog.Logger
	// Registerer gets the metrics. nil: none.
	Registerer prometheus.Registerer
}

// Handler serves the data plane's endpoints of Data Plane Signaling to control planes. It is safe for concurrent use.
type Handler struct {
	engine        flow.Signals
	controlPlanes *Directory
	base          string
	maxBody       int64
	strict        bool
	log           *slog.Logger
	metrics       signalMetrics
}

// NewHandler returns a Handler. Several may share a Registerer.
func NewHandler(o Options) *Handler {
	h := &Handler{
		engine:        o.Engine,
		controlPlanes: o.ControlPlanes,
		base:          basePath(o.BasePath),
		maxBody:       o.MaxBody,
		strict:        o.Strict,
		log:           o.Logger,
		metrics:       newSignalMetrics(o.Registerer),
	}
	if h.maxBody <= 0 {
		h.maxBody = DefaultMaxBody
	}
	if h.log == nil {
		h.log = slog.New(slog.DiscardHandler)
	}
	return h
}

func basePath(path string) string {
	if path = strings.Trim(path, "/"); path == "" {
		return ""
	}
	return "/" + path
}

// request is a request on its way through a Handler.
type request struct {
	*http.Request
	w        http.ResponseWriter
	to       endpoint      // what it is for
	context  string        // the participant context it belongs to, "" until that is known
	from     string        // the control plane that sent it, "" until that is known
	answered chan struct{} // closed when the answer has left
}

func (r *request) key() flow.Key { return flow.Key{Context: r.context, ID: r.to.id} }

// ServeHTTP takes one signal. A message that was received whole is carried through even if its sender does not wait for the answer:
// the sender may repeat it and gets the stored one.
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
	if r.to, err = parsePath(h.base, r.URL.EscapedPath(), h.strict); err != nil {
		return h.refuse(r, err)
	}
	if r.to.ofRegistration() && !h.controlPlanes.takesRegistrations() {
		return h.refuse(r, noEndpoint(r.URL.EscapedPath()))
	}
	if r.Method == http.MethodOptions {
		return answer{code: http.StatusNoContent, header: http.Header{"Allow": {r.to.allow()}}}
	}
	if err := h.authorize(r); err != nil {
		return h.refuse(r, err)
	}
	if !r.to.takes(r.Method) {
		return h.refuse(r, methodNotAllowed.problem("%s is not for %s requests", r.to.operation, r.Method).with("Allow", r.to.allow()))
	}
	a, err = h.take(r)
	if err != nil {
		return h.refuse(r, err)
	}
	return a
}

// authorize finds out who calls, for all operations alike.
func (h *Handler) authorize(r *request) (err error) {
	if r.to.ofRegistration() {
		r.context, err = h.controlPlanes.registrant(r.Header)
		return err
	}
	m, err := h.controlPlanes.identify(r.Request)
	if err != nil {
		return err
	}
	r.context, r.from = m.Context, m.ID
	return nil
}

// take does what a request asks for.
func (h *Handler) take(r *request) (answer, error) {
	switch r.to.operation {
	case opRegister:
		return h.register(r)
	case opDeregister:
		return answer{code: http.StatusNoContent}, h.controlPlanes.deregister(context.WithoutCancel(r.Context()), r.context, r.to.id)
	case opStatus:
		status, err := h.engine.Status(r.Context(), flow.Message{Key: r.key(), ControlPlane: r.from})
		body := statusResponseMessage{DataFlowID: r.to.id, State: status.State, Error: status.Fault, Reason: status.Waiting}
		return answer{code: http.StatusOK, body: body}, err
	default:
		return h.takeSignal(r)
	}
}

// register takes a ControlPlaneRegistrationMessage. Nothing of it is repeated in the answer.
func (h *Handler) register(r *request) (answer, error) {
	body, err := h.body(r)
	if err != nil {
		return answer{}, err
	}
	registration, err := decodeRegistration(body)
	if err != nil {
		return answer{}, err
	}
	r.to.id = registration.ID
	if err := h.controlPlanes.discover(r.Context(), registration.Authorization); err != nil {
		return answer{}, err
	}
	return answer{code: http.StatusOK}, h.controlPlanes.register(context.WithoutCancel(r.Context()), r.context, registration)
}

// takeSignal reads the message, gives the signal to the engine, and returns the message to answer with.
func (h *Handler) takeSignal(r *request) (answer, error) {
	m, err := h.message(r)
	if err != nil {
		return answer{}, err
	}
	if m.flowID != "" {
		r.to.id = m.flowID
	}
	key := r.key()
	status, err := h.signal(context.WithoutCancel(r.Context()), r.to.operation, m, flow.Message{
		Key: key, ControlPlane: r.from, MessageID: m.messageID, Body: m.digest, Answered: r.answered,
	})
	if err != nil {
		return answer{}, err
	}
	a := answer{code: http.StatusOK, body: statusMessage{
		MessageID:   answerID(key, m.messageID),
		DataFlowID:  key.ID,
		State:       status.State,
		DataAddress: encodeAddress(status.DataAddress),
	}}
	if status.State == flow.Preparing || status.State == flow.Starting {
		a.code = http.StatusAccepted
		a.header = http.Header{"Location": {h.statusPath(key.ID)}}
	}
	return a, nil
}

// statusPath is where the status of a flow is, from the root on: what is relative to the base in the specification, clients would
// resolve differently.
func (h *Handler) statusPath(id string) string {
	return h.base + "/" + collection + "/" + url.PathEscape(id) + "/" + string(opStatus)
}

// message reads and decodes the body of a signal.
func (h *Handler) message(r *request) (message, error) {
	if r.to.operation == opCompleted { // it has no message; what clients send nevertheless does not matter
		return message{}, nil
	}
	body, err := h.body(r)
	if err != nil {
		return message{}, err
	}
	return decode(r.to.operation, body, h.strict)
}

func (h *Handler) body(r *request) ([]byte, error) {
	if err := checkContentType(r.Header); err != nil {
		return nil, err
	}
	body, err := io.ReadAll(http.MaxBytesReader(r.w, r.Body, h.maxBody))
	var tooLong *http.MaxBytesError
	switch {
	case errors.As(err, &tooLong):
		return nil, tooLarge.problem("the message is longer than %d bytes", tooLong.Limit)
	case err != nil:
		return nil, &flow.RequestError{Message: "the message did not arrive whole", Err: err}
	}
	return body, nil
}

// signal calls the engine's method for an operation.
func (h *Handler) signal(ctx context.Context, op operation, m message, about flow.Message) (flow.Status, error) {
	switch op {
	case opPrepare:
		return h.engine.Prepare(ctx, m.create(about))
	case opStart:
		return h.engine.Start(ctx, m.create(about))
	case opStarted:
		return h.engine.Started(ctx, about, m.dataAddress)
	case opSuspend:
		return h.engine.Suspend(ctx, about, m.reason)
	case opResume:
		return h.engine.Resume(ctx, about, m.dataAddress)
	case opTerminate:
		return h.engine.Terminate(ctx, about, m.reason)
	case opCompleted:
		return h.engine.Completed(ctx, about)
	default:
		panic("signaling: no signal for operation " + string(op))
	}
}

// answerID is the messageId of an answer. It follows from the request's, so that the answer to a repeated message is the same to the
// byte.
func answerID(key flow.Key, messageID string) string {
	if messageID == "" {
		return uuid.NewString()
	}
	name := strings.Join([]string{"urn:towpath:answer", key.Context, key.ID, messageID}, "\x00")
	return uuid.NewSHA1(uuid.NameSpaceURL, []byte(name)).String()
}
