package signaling

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"net/http"
	"strconv"
	"time"

	"github.com/google/uuid"

	"github.com/towpath-dataplane/towpath/host/flow"
)

// answer is what a request gets.
type answer struct {
	code    int
	header  http.Header
	body    any      // nil for none
	problem *problem // body, if the request was refused
}

// refuse turns an error into an answer. Faults of ours are logged in full, under an id that the answer carries in their place.
func (h *Handler) refuse(r *request, err error) answer {
	p := problemOf(err)
	if !r.to.ofRegistration() {
		p.DataFlowID = r.to.id
	}
	if p.Status == http.StatusInternalServerError || errors.Is(err, flow.ErrStorage) {
		p.Instance = "urn:uuid:" + uuid.NewString()
		attrs := append(r.attrs(), slog.String("instance", p.Instance), slog.Any("err", err))
		h.log.LogAttrs(r.Context(), slog.LevelError, "signal failed", attrs...)
	}
	return answer{code: p.Status, header: p.header, body: p, problem: p}
}

// write sends an answer, and returns when it has left as far as that depends on this side.
func (a answer) write(w http.ResponseWriter) {
	header := w.Header()
	for name, values := range a.header {
		header[name] = values
	}
	header.Set("Cache-Control", "no-store") // answers carry tokens
	if a.body == nil {
		if a.code != http.StatusNoContent {
			header.Set("Content-Length", "0")
		}
		w.WriteHeader(a.code)
	} else {
		header.Set("Content-Type", "application/json")
		if a.problem != nil {
			header.Set("Content-Type", "application/problem+json")
		}
		body := encode(a.body)
		header.Set("Content-Length", strconv.Itoa(len(body)))
		w.WriteHeader(a.code)
		w.Write(body) // a sender that has gone repeats its message
	}
	http.NewResponseController(w).Flush()
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

// attrs say in the log what a request is about.
func (r *request) attrs() []slog.Attr {
	attrs := []slog.Attr{slog.String("operation", string(r.to.operation))}
	if r.to.ofRegistration() {
		return append(attrs, slog.String("control_plane", r.to.id), slog.String("context", r.context))
	}
	name := r.to.id
	if r.context != "" {
		name = r.key().String()
	}
	return append(attrs, slog.String("control_plane", r.from), slog.String("flow", name))
}

func (h *Handler) record(r *request, a answer, took time.Duration) {
	attrs := append(r.attrs(), slog.Int("status", a.code), slog.Duration("duration", took))
	if a.problem != nil {
		attrs = append(attrs, slog.String("problem", a.problem.slug()), slog.String("field", a.problem.Field))
		if a.problem.cause != nil {
			attrs = append(attrs, slog.String("cause", printable(a.problem.cause.Error())))
		}
	}
	h.log.LogAttrs(context.WithoutCancel(r.Context()), slog.LevelInfo, "signal", attrs...)
	h.metrics.observe(r.to.operation, a, took)
}
