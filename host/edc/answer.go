package edc

import (
	"bytes"
	"context"
	"encoding/json"
	"log/slog"
	"net/http"
	"strconv"
	"time"

	"github.com/towpath-dataplane/towpath/host/flow"
)

// answer is what a request gets. EDC's control planes take 200 and 204 for success and nothing else.
type answer struct {
	code    int
	header  http.Header
	body    any // nil for none
	problem *problem
}

// responseMessage is DataFlowResponseMessage.
type responseMessage struct {
	Context      map[string]string `json:"@context"`
	Type         string            `json:"@type"`
	Provisioning bool              `json:"provisioning"`
	DataAddress  *dataAddress      `json:"dataAddress,omitempty"`
}

// stateMessage is DataFlowState.
type stateMessage struct {
	Context map[string]string `json:"@context"`
	Type    string            `json:"@type"`
	State   string            `json:"state"`
}

// contextOf is the context of an answer: that in which EDC's control planes write, with the Dataspace Protocol in the namespace of the
// request.
func contextOf(dspace string) map[string]string {
	return map[string]string{"@vocab": namespace, "dspace": dspace, "odrl": "http://www.w3.org/ns/odrl/2/"}
}

// respond is the answer to a message that starts or prepares a flow.
func (h *Handler) respond(m message, s flow.Status) answer {
	dspace := m.dspace
	if dspace == "" {
		dspace = dspace08
	}
	return answer{code: http.StatusOK, body: responseMessage{
		Context: contextOf(dspace), Type: "DataFlowResponseMessage",
		Provisioning: s.State == flow.Preparing || s.State == flow.Starting,
		DataAddress:  encodeAddress(issued(h.Profile, s.DataAddress), dspace),
	}}
}

// states are EDC's names for states, where they are others.
var states = map[flow.State]string{flow.Preparing: "PROVISIONING", flow.Prepared: "PROVISIONED", flow.Starting: "RECEIVED"}

func stateOf(s flow.State) answer {
	name, ok := states[s]
	if !ok {
		name = string(s)
	}
	return answer{code: http.StatusOK, body: stateMessage{Context: contextOf(dspace08), Type: "DataFlowState", State: name}}
}

// refuse turns an error into an answer. Faults of ours are logged in full.
func (h *Handler) refuse(r *request, err error) answer {
	p := problemOf(err)
	if p.status >= http.StatusInternalServerError {
		attrs := append(h.attrs(r), slog.Any("err", err))
		h.Logger.LogAttrs(r.Context(), slog.LevelError, "signal failed", attrs...)
	}
	return answer{code: p.status, header: p.header, body: p.details(), problem: p}
}

// write sends an answer, and returns when it has left as far as that depends on this side.
func (a answer) write(w http.ResponseWriter) {
	header := w.Header()
	for name, values := range a.header {
		header[name] = values
	}
	header.Set("Cache-Control", "no-store") // answers carry tokens
	if a.body == nil {
		w.WriteHeader(a.code)
	} else {
		body := encode(a.body)
		header.Set("Content-Type", "application/json")
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
	return bytes.TrimSpace(b.Bytes())
}

// attrs say in the log what a request is about.
func (h *Handler) attrs(r *request) []slog.Attr {
	return []slog.Attr{slog.String("operation", string(r.to.operation)), slog.String("control_plane", h.ControlPlane),
		slog.String("flow", flow.Key{Context: h.Context, ID: r.to.id}.String())}
}

func (h *Handler) record(r *request, a answer, took time.Duration) {
	attrs := append(h.attrs(r), slog.Int("status", a.code), slog.Duration("duration", took))
	if a.problem != nil {
		attrs = append(attrs, slog.String("problem", a.problem.slug), slog.String("field", a.problem.path))
	}
	level := slog.LevelInfo
	if r.to.operation == opCheck {
		level = slog.LevelDebug // one a minute from each control plane
	}
	h.Logger.LogAttrs(context.WithoutCancel(r.Context()), level, "signal", attrs...)
	h.metrics.observe(r.to.operation, a, took)
}
