package main

import (
	"log/slog"
	"net/http"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/towpath-dataplane/towpath/host/config"
	"github.com/towpath-dataplane/towpath/host/edc"
	"github.com/towpath-dataplane/towpath/host/flow"
	"github.com/towpath-dataplane/towpath/host/publicapi"
	"github.com/towpath-dataplane/towpath/host/signaling"
	"github.com/towpath-dataplane/towpath/host/token"
)

// connectors are the control planes that speak EDC's signaling, each with a path of its own.
type connectors struct {
	paths    []string // of each, in the order of the handlers
	handlers []http.Handler
	others   http.Handler // Data Plane Signaling
}

// newConnectors serves EDC's control planes, and others what is not at their paths.
func newConnectors(cfg *config.Config, engine edc.Signals, c catalog, directory *signaling.Directory, others http.Handler,
	logger *slog.Logger, r prometheus.Registerer) connectors {
	all := connectors{others: others}
	for _, cp := range cfg.ControlPlanes {
		if cp.Protocol != config.ProtocolEDC {
			continue
		}
		path := cfg.Signaling.BasePath + config.EDCPath(cp.ID)
		all.paths = append(all.paths, path)
		all.handlers = append(all.handlers, edc.NewHandler(edc.Options{Engine: engine, ControlPlane: cp.ID, Context: cp.ParticipantContext,
			Participant: didOf(cfg, cp.ParticipantContext), BasePath: path, Profile: c.Profile, Logger: logger, Registerer: r,
			Authorize: func(r *http.Request) (int, string) { return directory.Refusal(r, cp.ParticipantContext, cp.ID) }}))
	}
	return all
}

func (c connectors) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	escaped := r.URL.EscapedPath()
	for i, path := range c.paths {
		if escaped == path || strings.HasPrefix(escaped, path+"/") {
			c.handlers[i].ServeHTTP(w, r)
			return
		}
	}
	c.others.ServeHTTP(w, r)
}

// didOf is the DID of a participant context, "" if it has none.
func didOf(cfg *config.Config, participantContext string) string {
	for _, p := range cfg.ParticipantContexts {
		if p.Name == participantContext {
			return p.DID
		}
	}
	return ""
}

// protocolOf is how a control plane is told things, nil for Data Plane Signaling.
func protocolOf(cp config.ControlPlane, c catalog, logger *slog.Logger) signaling.Protocol {
	if cp.Protocol != config.ProtocolEDC {
		return nil
	}
	client := &edc.Client{CallbackAddresses: cp.CallbackAddresses, Profile: c.Profile, Logger: logger}
	if cp.Registration != nil {
		client.ProvisionTypes = cp.Registration.ProvisionTypes
	}
	return client
}

// tokenLifetimes are how long the tokens of each control plane's flows are good. EDC's have no end of their own.
func tokenLifetimes(cfg *config.Config) func(*flow.Flow) time.Duration {
	of := map[string]time.Duration{}
	for _, cp := range cfg.ControlPlanes {
		of[cp.ID] = cp.TokenLifetime
		if cp.TokenLifetime == 0 && cp.Protocol == config.ProtocolEDC {
			of[cp.ID] = token.Forever
		}
	}
	return func(f *flow.Flow) time.Duration { return of[f.ControlPlane] }
}

// tractusX says which flows' tokens are renewed as Tractus-X does it.
func tractusX(cfg *config.Config) publicapi.TractusX {
	declared := map[string]bool{}
	for _, cp := range cfg.ControlPlanes {
		declared[cp.ID] = cp.Renewal == config.RenewalTractusX
	}
	return func(f *flow.Flow) (string, bool) { return edc.TractusXAudience(f), declared[f.ControlPlane] }
}
