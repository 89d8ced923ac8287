package admin

import (
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

// Options are what the API shows. All fields are required.
type Options struct {
	Store flow.Store
	// Waiting says why a flow's transfer does not move; "" if it does.
	Waiting func(flow.Key) string
	// Plugins lists the plugins of the host.
	Plugins func() []Plugin
	// Ready returns nil when the host takes signals.
	Ready   func() error
	Metrics *prometheus.Registry
	Logger  *slog.Logger
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
	return mux
}

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
		problem(w, http.StatusBadRequest, err.Error())
		return
	}
	flows, err := h.Store.Flows(r.Context(), filter)
	if err != nil {
		h.fail(w, r, err)
		return
	}
	list := FlowList{Flows: make([]Flow, 0, len(flows))}
	for _, f := range flows {
		list.Flows = append(list.Flows, h.show(f))
	}
	reply(w, list)
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

func (h handler) flow(w http.ResponseWriter, r *http.Request) {
	key := flow.Key{Context: r.URL.Query().Get("context"), ID: r.PathValue("id")}
	if key.Context == "" {
		key.Context = flow.DefaultContext
	}
	detail, err := h.detail(r.Context(), key)
	switch {
	case errors.Is(err, flow.ErrNotFound):
		problem(w, http.StatusNotFound, "there is no flow "+key.String())
	case err != nil:
		h.fail(w, r, err)
	default:
		reply(w, detail)
	}
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
	callbacks, err := h.Store.Callbacks(ctx, key)
	if err != nil {
		return FlowDetail{}, err
	}
	return newDetail(h.show(f), f, parts, callbacks), nil
}

func (h handler) show(f *flow.Flow) Flow { return newFlow(f, h.Waiting(f.Key)) }

func (h handler) plugins(w http.ResponseWriter, _ *http.Request) {
	list := PluginList{Plugins: h.Plugins()}
	for i := range list.Plugins {
		list.Plugins[i].Description = nil
	}
	reply(w, list)
}

func (h handler) plugin(w http.ResponseWriter, r *http.Request) {
	plugins := h.Plugins()
	i := slices.IndexFunc(plugins, func(p Plugin) bool { return p.Name == r.PathValue("name") })
	if i < 0 {
		problem(w, http.StatusNotFound, "there is no plugin "+r.PathValue("name"))
		return
	}
	reply(w, plugins[i])
}

func (h handler) fail(w http.ResponseWriter, r *http.Request, err error) {
	h.Logger.Error("admin request failed", "path", r.URL.Path, "err", err)
	problem(w, http.StatusInternalServerError, "the host could not answer; its log says why")
}

func reply(w http.ResponseWriter, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	e.SetEscapeHTML(false)
	e.Encode(v)
}

func problem(w http.ResponseWriter, status int, detail string) {
	w.Header().Set("Content-Type", "application/problem+json")
	w.WriteHeader(status)
	json.NewEncoder(w).Encode(map[string]any{"title": http.StatusText(status), "status": status, "detail": detail})
}
