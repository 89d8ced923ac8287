package admin

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/towpath-dataplane/towpath/host/flow"
)

// Options are what the API shows and acts on. Where a field may be nil, the API is without what needs it.
type Options struct {
	// Token is what every request but those for health has to bring. "": none is needed.
	Token string
	Store flow.Store
	// Waiting says why a flow's transfer does not move; "" if it does.
	Waiting func(flow.Key) string
	// Movement says how a flow's data moves, and false if nothing is known of that. May be nil.
	Movement func(flow.Key) (flow.Movement, bool)
	// ResponseWaiting and ResponseMovement say the same of its response channel. May be nil.
	ResponseWaiting  func(flow.Key) string
	ResponseMovement func(flow.Key) (flow.Movement, bool)
	// Plugins lists the plugins of the host.
	Plugins func() []Plugin
	// PluginBuild reads how a plugin's file was built; nil if it does not say. May be nil.
	PluginBuild func(path string) *Build
	// PluginTrust may be nil.
	PluginTrust PluginTrust
	// Rescan looks at the plugin directory, and returns when what is found there has been taken into use, or refused. May be nil.
	Rescan func(ctx context.Context) error
	// Release ends the quarantine of a plugin, and returns when its process is ready or has failed. The error is an *sdk.Error: NotFound, or
	// Conflict if it is in none. May be nil.
	Release func(ctx context.Context, name string) error
	// Ready returns nil when the host takes signals.
	Ready   func() error
	Metrics *prometheus.Registry
	Logger  *slog.Logger

	// Operations acts on flows and gives their addresses away. May be nil.
	Operations flow.Operations
	// Read answers GET and HEAD for the data of a flow, or for one of its parts; part is "" for the flow. The request has no
	// Authorization, which was for this API. May be nil.
	Read func(key flow.Key, part string) http.Handler
	// Agreement asks the control plane of a flow for its agreement. The error is an *sdk.Error. May be nil.
	Agreement func(ctx context.Context, f *flow.Flow) (json.RawMessage, error)
	// Datasets may be nil.
	Datasets *Datasets
	// ControlPlanes may be nil.
	ControlPlanes ControlPlanes
	// Limits may be nil.
	Limits *Limits
}

// Pages of lists are bounded.
const (
	defaultLimit = 100
	maxLimit     = 1000
	maxParts     = 1000
)

type handler struct {
	Options
}

// NewHandler returns the API. It registers the number of flows by state with o.Metrics.
func NewHandler(o Options) http.Handler {
	h := handler{o}
	o.Metrics.MustRegister(flowCollector{o.Store, o.Logger})
	mux := http.NewServeMux()
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { w.Write([]byte("ok\n")) })
	mux.HandleFunc("GET /readyz", h.ready)
	mux.Handle("GET /metrics", promhttp.HandlerFor(o.Metrics, promhttp.HandlerOpts{ErrorLog: slog.NewLogLogger(o.Logger.Handler(), slog.LevelError)}))
	mux.HandleFunc("GET /api/v1/flows", h.flows)
	mux.HandleFunc("GET /api/v1/flows/{id}", h.flow)
	mux.HandleFunc("GET /api/v1/plugins", h.plugins)
	mux.HandleFunc("GET /api/v1/plugins/{name}", h.plugin)
	if o.PluginTrust != nil {
		mux.HandleFunc("GET /api/v1/plugins/{name}/trust", h.pluginDecision)
		mux.HandleFunc("PUT /api/v1/plugins/{name}/trust", h.private(h.trustPlugin))
		mux.HandleFunc("DELETE /api/v1/plugins/{name}/trust", h.private(h.distrustPlugin))
	}
	if o.Rescan != nil {
		mux.HandleFunc("POST /api/v1/plugins", h.private(h.rescan))
	}
	if o.Release != nil {
		mux.HandleFunc("POST /api/v1/plugins/{name}/release", h.private(h.release))
	}
	if o.Operations != nil {
		mux.HandleFunc("POST /api/v1/flows/{id}/retry", h.private(h.operate(h.retry)))
		mux.HandleFunc("POST /api/v1/flows/{id}/skip", h.private(h.operate(h.skip)))
		mux.HandleFunc("POST /api/v1/flows/{id}/resend", h.private(h.operate(h.resend)))
		mux.HandleFunc("POST /api/v1/flows/{id}/abort", h.private(h.operate(h.abort)))
		mux.HandleFunc("GET /api/v1/flows/{id}/address", h.private(h.address))
	}
	if o.Read != nil {
		mux.HandleFunc(dataPattern, h.private(h.data))
		mux.HandleFunc(dataPattern+"/parts/{name...}", h.private(h.data))
	}
	if o.Agreement != nil {
		mux.HandleFunc("GET /api/v1/flows/{id}/agreement", h.private(h.agreement))
	}
	if o.Datasets != nil {
		mux.HandleFunc("GET /api/v1/datasets", h.datasets)
		mux.HandleFunc("GET /api/v1/datasets/{id}", h.dataset)
		mux.HandleFunc("PUT /api/v1/datasets/{id}", h.private(h.putDataset))
		mux.HandleFunc("DELETE /api/v1/datasets/{id}", h.private(h.removeDataset))
	}
	if o.ControlPlanes != nil {
		mux.HandleFunc("GET /api/v1/controlplanes", h.controlPlanes)
		mux.HandleFunc("POST /api/v1/controlplanes/{id}/register", h.private(h.register))
		mux.HandleFunc("POST /api/v1/controlplanes/{id}/deregister", h.private(h.deregister))
	}
	if o.Limits != nil {
		mux.HandleFunc("GET /api/v1/limits", h.limits)
		for _, at := range limitPaths {
			path := " /api/v1/limits/" + at.path
			mux.HandleFunc("GET"+path, h.limit(at))
			mux.HandleFunc("PUT"+path, h.private(h.putLimit(at)))
			mux.HandleFunc("DELETE"+path, h.private(h.clearLimit(at)))
		}
	}
	return h.authorized(known(mux))
}

// known answers what the mux does not know, in the way of the rest of the API.
func known(mux *http.ServeMux) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		unknown, pattern := mux.Handler(r)
		if pattern != "" {
			mux.ServeHTTP(w, r)
			return
		}
		answer := &statusOnly{header: http.Header{}}
		unknown.ServeHTTP(answer, r)
		p := newProblem(http.StatusNotFound, "there is nothing at %.300q", r.URL.EscapedPath())
		if answer.status == http.StatusMethodNotAllowed {
			p = newProblem(answer.status, "%.20q is not for %.300q", r.Method, r.URL.EscapedPath()).
				with("Allow", answer.header.Get("Allow"))
		}
		p.write(w)
	})
}

// statusOnly is a ResponseWriter that keeps what the mux says, but not how.
type statusOnly struct {
	header http.Header
	status int
}

func (s *statusOnly) Header() http.Header         { return s.header }
func (s *statusOnly) WriteHeader(status int)      { s.status = status }
func (s *statusOnly) Write(b []byte) (int, error) { return len(b), nil }

func (h handler) ready(w http.ResponseWriter, _ *http.Request) {
	if err := h.Ready(); err != nil {
		http.Error(w, err.Error(), http.StatusServiceUnavailable)
		return
	}
	w.Write([]byte("ready\n"))
}

func (h handler) flows(w http.ResponseWriter, r *http.Request) {
	filter, err := parseFilter(r)
	if err != nil {
		newProblem(http.StatusBadRequest, "%v", err).write(w)
		return
	}
	flows, err := h.Store.Flows(r.Context(), filter)
	if err != nil {
		h.refuse(w, r, err)
		return
	}
	list := FlowList{Flows: make([]Flow, 0, len(flows))}
	for _, f := range flows {
		list.Flows = append(list.Flows, h.show(f))
	}
	reply(w, http.StatusOK, list)
}

func parseFilter(r *http.Request) (flow.Filter, error) {
	q := r.URL.Query()
	f := flow.Filter{Context: q.Get("context"), Limit: defaultLimit}
	for _, s := range q["state"] {
		state := flow.State(strings.ToUpper(s))
		if !slices.Contains(flow.States(), state) {
			return f, errors.New("state: there is no state " + strconv.Quote(s))
		}
		f.States = append(f.States, state)
	}
	if s := q.Get("limit"); s != "" {
		n, err := strconv.Atoi(s)
		if err != nil || n < 1 || n > maxLimit {
			return f, errors.New("limit: has to be a number from 1 to " + strconv.Itoa(maxLimit))
		}
		f.Limit = n
	}
	if s := q.Get("before"); s != "" {
		t, err := time.Parse(time.RFC3339Nano, s)
		if err != nil {
			return f, errors.New("before: has to be a time such as 2026-01-02T15:04:05Z")
		}
		f.Before = t
	}
	return f, nil
}

// keyOf is the flow that a request is about.
func keyOf(r *http.Request) flow.Key { return flow.Key{Context: contextOf(r), ID: r.PathValue("id")} }

// contextOf is the participant context that a request names.
func contextOf(r *http.Request) string {
	if context := r.URL.Query().Get("context"); context != "" {
		return context
	}
	return flow.DefaultContext
}

func (h handler) flow(w http.ResponseWriter, r *http.Request) {
	detail, err := h.detail(r.Context(), keyOf(r))
	if err != nil {
		h.refuse(w, r, err)
		return
	}
	reply(w, http.StatusOK, detail)
}

func (h handler) detail(ctx context.Context, key flow.Key) (FlowDetail, error) {
	f, err := h.Store.Flow(ctx, key)
	if err != nil {
		return FlowDetail{}, err
	}
	parts, err := h.Store.Parts(ctx, key, 0, maxParts)
	if err != nil {
		return FlowDetail{}, err
	}
	var responses []flow.Part
	if f.Response != nil {
		if responses, err = h.Store.ResponseParts(ctx, key, 0, maxParts); err != nil {
			return FlowDetail{}, err
		}
	}
	callbacks, err := h.Store.Callbacks(ctx, key)
	if err != nil {
		return FlowDetail{}, err
	}
	return newDetail(h.show(f), f, parts, responses, callbacks), nil
}

func (h handler) show(f *flow.Flow) Flow {
	shown := newFlow(f, cmp.Or(h.Waiting(f.Key), f.Lacks()))
	if h.Movement != nil {
		if m, ok := h.Movement(f.Key); ok {
			shown.Movement = newMovement(m, f.Totals, time.Now())
		}
	}
	if f.Role == flow.Provider && f.Response != nil {
		shown.Response = h.showResponse(f)
	}
	return shown
}

func (h handler) showResponse(f *flow.Flow) *Response {
	waiting := ""
	if h.ResponseWaiting != nil {
		waiting = h.ResponseWaiting(f.Key)
	}
	shown := newResponse(f.Response, waiting)
	if h.ResponseMovement != nil {
		if m, ok := h.ResponseMovement(f.Key); ok {
			shown.Movement = newMovement(m, f.Response.Totals, time.Now())
		}
	}
	return shown
}

func reply(w http.ResponseWriter, status int, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	e.SetEscapeHTML(false)
	e.Encode(v)
}
