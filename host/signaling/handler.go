package signaling

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"runtime/debug"
	"strconv"
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
	// BasePath is the path below which the endpoints are, as it is in the request: "/api/v1" for /api/v1/dataflows/start.
	BasePath string
	// ControlPlane is the id of the control plane that calls.
	ControlPlane string
	// Context is the participant context of its flows. "": flow.DefaultContext.
	Context string
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

// Handler serves the data flow endpoints of Data Plane Signaling to one control plane. It is safe for concurrent use.
type Handler struct {
	engine       flow.Signals
	base         string
	controlPlane string
	context      string
	maxBody      int64
	strict       bool
	log          *slog.Logger
	metrics      signalMetrics
}

// NewHandler returns a Handler. Several may share a Registerer.
func NewHandler(o Options) *Handler {
	h := &Handler{
		engine:       o.Engine,
		base:         basePath(o.BasePath),
		controlPlane: o.ControlPlane,
		context:      o.Context,
		maxBody:      o.MaxBody,
		strict:       o.Strict,
		log:          o.Logger,
		metrics:      newSignalMetrics(o.Registerer),
	}
	if h.context == "" {
		h.context = flow.DefaultContext
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

// ServeHTTP takes one signal. A message that was received whole is carried through even if its sender does not wait for the answer:
// the sender may repeat it and gets the stored one.
func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	begun := time.Now()
	var to endpoint
	a := h.serve(w, r, &to)
	a.write(w)
	h.record(r.Context(), to, a, time.Since(begun))
}

// answer is what a request gets.
type answer struct {
	code    int
	header  http.Header
	body    any      // nil for none
	problem *problem // body, if the request was refused
}

// serve never panics: a fault in the code below costs one request. It stores in to what the request is for.
func (h *Handler) serve(w http.ResponseWriter, r *http.Request, to *endpoint) (a answer) {
	defer func() {
		if v := recover(); v != nil {
			a = h.refuse(r, *to, fmt.Errorf("panic: %v\n%s", v, debug.Stack()))
		}
	}()
	var err error
	if *to, err = parsePath(h.base, r.URL.EscapedPath(), h.strict); err != nil {
		return h.refuse(r, *to, err)
	}
	switch allow := to.allow(); {
	case r.Method == http.MethodOptions:
		return answer{code: http.StatusNoContent, header: http.Header{"Allow": {allow}}}
	case !to.takes(r.Method):
		return h.refuse(r, *to, methodNotAllowed.problem("%s is not for %s requests", to.operation, r.Method).with("Allow", allow))
	}
	body, err := h.take(w, r, to)
	if err != nil {
		return h.refuse(r, *to, err)
	}
	return answer{code: http.StatusOK, body: body}
}

// take reads the message, gives the signal to the engine, and returns the message to answer with.
func (h *Handler) take(w http.ResponseWriter, r *http.Request, to *endpoint) (any, error) {
	if to.operation == opStatus {
		status, err := h.engine.Status(r.Context(), flow.Message{Key: h.key(*to), ControlPlane: h.controlPlane})
		return statusResponseMessage{State: status.State, DataFlowID: to.id}, err
	}
	m, err := h.message(w, r, to.operation)
	if err != nil {
		return nil, err
	}
	if m.flowID != "" {
		to.id = m.flowID
	}
	key := h.key(*to)
	status, err := h.signal(context.WithoutCancel(r.Context()), to.operation, m, flow.Message{
		Key: key, ControlPlane: h.controlPlane, MessageID: m.messageID, Body: m.digest,
	})
	if err != nil {
		return nil, err
	}
	return statusMessage{
		MessageID:   answerID(key, m.messageID),
		DataFlowID:  key.ID,
		State:       status.State,
		DataAddress: encodeAddress(status.DataAddress),
	}, nil
}

func (h *Handler) key(to endpoint) flow.Key { return flow.Key{Context: h.context, ID: to.id} }

// message reads and decodes the body of a signal.
func (h *Handler) message(w http.ResponseWriter, r *http.Request, op operation) (message, error) {
	if op == opCompleted { // it has no message; what clients send nevertheless does not matter
		return message{}, nil
	}
	if err := checkContentType(r.Header); err != nil {
		return message{}, err
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, h.maxBody))
	var tooLong *http.MaxBytesError
	switch {
	case errors.As(err, &tooLong):
		return message{}, tooLarge.problem("the message is longer than %d bytes", tooLong.Limit)
	case err != nil:
		return message{}, &flow.RequestError{Message: "the message did not arrive whole", Err: err}
	}
	return decode(op, body, h.strict)
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

// refuse turns an error into an answer. Faults of ours are logged in full, under an id that the answer carries in their place.
func (h *Handler) refuse(r *http.Request, to endpoint, err error) answer {
	p := problemOf(err)
	p.DataFlowID = to.id
	if p.Status == http.StatusInternalServerError {
		p.Instance = "urn:uuid:" + uuid.NewString()
		h.log.ErrorContext(r.Context(), "signal failed", "operation", to.operation, "flow", h.key(to).String(), "instance", p.Instance, "err", err)
	}
	return answer{code: p.Status, header: p.header, body: p, problem: p}
}

func (a answer) write(w http.ResponseWriter) {
	header := w.Header()
	for name, values := range a.header {
		header[name] = values
	}
	header.Set("Cache-Control", "no-store") // answers carry tokens
	if a.body == nil {
		w.WriteHeader(a.code)
		return
	}
	header.Set("Content-Type", "application/json")
	if a.problem != nil {
		header.Set("Content-Type", "application/problem+json")
	}
	body := encode(a.body)
	header.Set("Content-Length", strconv.Itoa(len(body)))
	w.WriteHeader(a.code)
	w.Write(body) // a sender that has gone repeats its message
}

// encode returns v as JSON, with the characters of a URL as they are. v is one of the package's messages, which can be encoded.
func encode(v any) []byte {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(v); err != nil {
		panic(err)
	}
	return b.Bytes()
}

func (h *Handler) record(ctx context.Context, to endpoint, a answer, took time.Duration) {
	attrs := []slog.Attr{
		slog.String("operation", string(to.operation)),
		slog.String("flow", h.key(to).String()),
		slog.Int("status", a.code),
		slog.Duration("duration", took),
	}
	if a.problem != nil {
		attrs = append(attrs, slog.String("problem", a.problem.slug()), slog.String("field", a.problem.Field))
	}
	h.log.LogAttrs(ctx, slog.LevelInfo, "signal", attrs...)
	h.metrics.observe(to.operation, a, took)
}
