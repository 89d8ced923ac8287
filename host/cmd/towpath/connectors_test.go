package main

import (
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/towpath-dataplane/towpath/host/config"
	"github.com/towpath-dataplane/towpath/host/flow"
	"github.com/towpath-dataplane/towpath/host/signaling"
	"github.com/towpath-dataplane/towpath/host/token"
)

// What is at the path of an EDC control plane is for it, and all else for Data Plane Signaling.
func TestConnectorsHaveTheirPaths(t *testing.T) {
	cfg := &config.Config{Signaling: config.Listener{BasePath: "/api/v1"}, ControlPlanes: []config.ControlPlane{
		{ID: "dps", Protocol: config.ProtocolDPS, ParticipantContext: "default", Endpoint: "https://dps.example"},
		{ID: "a/b c", Protocol: config.ProtocolEDC, ParticipantContext: "default", Endpoint: "https://edc.example"},
	}}
	planes, err := controlPlanes(cfg, "http://dp.example/api/v1", catalog{}, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	directory, err := signaling.NewDirectory(t.Context(), signaling.DirectoryOptions{DataPlane: "dp", ControlPlanes: planes})
	if err != nil {
		t.Fatal(err)
	}
	defer directory.Close()
	others := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusTeapot) })
	h := newConnectors(cfg, nil, catalog{}, directory, others, slog.New(slog.DiscardHandler), prometheus.NewRegistry())
	for path, want := range map[string]int{
		"/api/v1/edc/a%2Fb%20c/v1/dataflows/check": http.StatusNoContent,
		"/api/v1/edc/a%2Fb%20c/v1/dataflows":       http.StatusBadRequest,
		"/api/v1/edc/a%2Fb%20c/v1/dataflowsX":      http.StatusTeapot,
		"/api/v1/edc/dps/v1/dataflows/check":       http.StatusTeapot,
		"/edc/a%2Fb%20c/v1/dataflows/check":        http.StatusTeapot,
		"/api/v1/dataflows/start":                  http.StatusTeapot,
	} {
		method := http.MethodPost
		if strings.HasSuffix(path, "/check") {
			method = http.MethodGet
		}
		a := httptest.NewRecorder()
		h.ServeHTTP(a, httptest.NewRequest(method, path, nil))
		if a.Code != want {
			t.Errorf("%s: %d %s, want %d", path, a.Code, a.Body, want)
		}
	}
}

func TestTokenLifetimes(t *testing.T) {
	lifetime := tokenLifetimes(&config.Config{ControlPlanes: []config.ControlPlane{
		{ID: "dps", Protocol: config.ProtocolDPS}, {ID: "dps-1h", Protocol: config.ProtocolDPS, TokenLifetime: time.Hour},
		{ID: "edc", Protocol: config.ProtocolEDC}, {ID: "edc-1h", Protocol: config.ProtocolEDC, TokenLifetime: time.Hour},
	}})
	for id, want := range map[string]time.Duration{"dps": 0, "dps-1h": time.Hour, "edc": token.Forever, "edc-1h": time.Hour, "registered": 0} {
		if got := lifetime(&flow.Flow{ControlPlane: id}); got != want {
			t.Errorf("%s: %v, want %v", id, got, want)
		}
	}
}
