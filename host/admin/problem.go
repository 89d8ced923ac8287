package admin

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"time"

	"github.com/towpath-dataplane/towpath/host/flow"
	"github.com/towpath-dataplane/towpath/sdk"
)

// Problem is the answer to a request that cannot be granted (RFC 9457). It is also the error that leads to it.
type Problem struct {
	Title  string `json:"title"`
	Status int    `json:"status"`
	Detail string `json:"detail,omitempty"`
	// State is that of the flow, if it is the reason.
	State string `json:"state,omitempty"`
	// Fields are what is wrong with the request's body, or with the data addresses in it.
	Fields []FieldProblem `json:"fields,omitempty"`

	header http.Header
}

// FieldProblem says what is wrong with one field.
type FieldProblem struct {
	Field   string `json:"field,omitempty"` // as source.properties.path; "" for the whole
	Message string `json:"message"`
}

func (p *Problem) Error() string { return p.Title + ": " + p.Detail }

func newProblem(status int, format string, args ...any) *Problem {
	return &Problem{Title: http.StatusText(status), Status: status, Detail: fmt.Sprintf(format, args...)}
}

// wrongFields says what is wrong with the fields of a body.
func wrongFields(status int, fields []sdk.FieldError) *Problem {
	p := newProblem(status, "%s", sdk.InvalidFields(fields))
	for _, f := range fields {
		p.Fields = append(p.Fields, FieldProblem{f.Field, f.Message})
	}
	return p
}

// with adds a header field to the answer.
func (p *Problem) with(name, value string) *Problem {
	if p.header == nil {
		p.header = http.Header{}
	}
	p.header.Set(name, value)
	return p
}

func (p *Problem) write(w http.ResponseWriter) {
	for name, values := range p.header {
		w.Header()[name] = values
	}
	w.Header().Set("Content-Type", "application/problem+json")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(p.Status)
	json.NewEncoder(w).Encode(p)
}

// refuse answers a request that failed. What is not the client's doing is logged.
func (h handler) refuse(w http.ResponseWriter, r *http.Request, err error) {
	p := problemOf(r, err)
	switch {
	case r.Context().Err() != nil: // nobody waits for the answer
	case p.Status == http.StatusServiceUnavailable:
		h.Logger.Warn("admin request is to be tried again", "method", r.Method, "path", r.URL.Path, "err", err)
	case p.Status >= http.StatusInternalServerError:
		h.Logger.Error("admin request failed", "method", r.Method, "path", r.URL.Path, "err", err)
	}
	p.write(w)
}

func problemOf(r *http.Request, err error) *Problem {
	var (
		p     *Problem
		state *flow.StateError
		coded *sdk.Error
	)
	switch {
	case errors.As(err, &p):
		return p
	case errors.Is(err, flow.ErrNotFound):
		return newProblem(http.StatusNotFound, "there is no flow %s", keyOf(r))
	case errors.As(err, &state):
		p = newProblem(http.StatusConflict, "%s", state.Error())
		p.State = string(state.State)
		return p
	case errors.Is(err, flow.ErrStorage):
		return newProblem(http.StatusServiceUnavailable, "%s; the host's log says why", flow.ErrStorage).with("Retry-After", "5")
	case errors.Is(err, flow.ErrClosed):
		return newProblem(http.StatusServiceUnavailable, "%s", flow.ErrClosed).with("Retry-After", "5")
	case errors.As(err, &coded):
		return codedProblem(coded)
	}
	return newProblem(http.StatusInternalServerError, "the host could not answer; its log says why")
}

// codedProblem answers what a plugin, or another host, is the cause of.
func codedProblem(e *sdk.Error) *Problem {
	switch e.Code {
	case sdk.NotFound:
		return newProblem(http.StatusNotFound, "%s", e.Message)
	case sdk.Invalid:
		return newProblem(http.StatusUnprocessableEntity, "%s", e.Message)
	case sdk.Conflict, sdk.Unsupported:
		return newProblem(http.StatusConflict, "%s", e.Message)
	case sdk.Unavailable, sdk.Exhausted:
		seconds := max(1, int64((e.RetryAfter+time.Second-1)/time.Second))
		return newProblem(http.StatusServiceUnavailable, "%s", e.Message).with("Retry-After", strconv.FormatInt(seconds, 10))
	default: // refused by the other side, or broken there
		return newProblem(http.StatusBadGateway, "%s", e.Message)
	}
}
