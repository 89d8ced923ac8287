package main

import (
	"context"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/towpath-dataplane/towpath/host/admin"
	"github.com/towpath-dataplane/towpath/host/config"
	"github.com/towpath-dataplane/towpath/host/flow"
	"github.com/towpath-dataplane/towpath/host/limit"
	"github.com/towpath-dataplane/towpath/host/pipeline"
	"github.com/towpath-dataplane/towpath/host/pluginhost"
	"github.com/towpath-dataplane/towpath/host/publicapi"
	"github.com/towpath-dataplane/towpath/sdk"
)

// limitsOf are the configuration's limits.
func limitsOf(cfg *config.Config) map[limit.Scope]limit.Limit {
	all := map[limit.Scope]limit.Limit{}
	add := func(s limit.Scope, l config.Limit) {
		said := func(n int64) *int64 {
			if n == 0 {
				return nil
			}
			return &n
		}
		if l != (config.Limit{}) {
			all[s] = limit.Limit{Bytes: said(l.Bytes), Records: said(l.Records), Transfers: said(l.Transfers), Weight: said(l.Weight)}
		}
	}
	add(limit.Scope{Kind: limit.Host}, cfg.Limits.Host)
	add(limit.Scope{Kind: limit.Counterparty}, cfg.Limits.Counterparty)
	add(limit.Scope{Kind: limit.Dataset}, cfg.Limits.Dataset)
	add(limit.Scope{Kind: limit.Flow}, cfg.Limits.Flow)
	for _, c := range cfg.ParticipantContexts {
		add(limit.Scope{Kind: limit.Context, Context: c.Name, ID: c.Name}, c.Limits)
	}
	for _, p := range cfg.Profiles {
		add(limit.Scope{Kind: limit.Profile, ID: p.Name}, config.Limit{Weight: p.Weight})
	}
	for _, d := range cfg.Datasets {
		add(limit.Scope{Kind: limit.Dataset, Context: d.ParticipantContext, ID: d.ID}, d.Limits)
	}
	return all
}

// sharing is who holds flows to their limits, and who knows what they wait for.
type sharing struct {
	limiter  *limit.Limiter
	accounts *pipeline.Accounts
}

// newSharing makes the one of a host, and publishes what it knows.
func newSharing(cfg *config.Config, plugins *pluginhost.Host, r prometheus.Registerer) sharing {
	s := sharing{limit.New(limitsOf(cfg)), pipeline.NewAccounts(watchdog(cfg.Transfer.Watchdog, plugins), r)}
	r.MustRegister(prometheus.NewCounterFunc(prometheus.CounterOpts{Name: "towpath_limited_seconds_total",
		Help: "Time that transfers and requests of counterparties have waited for rates."},
		func() float64 { return s.limiter.Waited().Seconds() }))
	return s
}

func whoOf(f sdk.FlowContext) limit.Who {
	return limit.Who{Context: f.ParticipantContext, Flow: f.ID, Dataset: f.DatasetID, Counterparty: f.CounterPartyID, Profile: f.Profile}
}

func (s sharing) admit(ctx context.Context, f sdk.FlowContext, since time.Time) (leave func(), err error) {
	return s.limiter.Queue.Enter(ctx, whoOf(f), since)
}

func (s sharing) meterOfTransfer(f sdk.FlowContext, waits func(now bool)) pipeline.Meter {
	m := s.limiter.Open(whoOf(f))
	m.Tell(waits)
	return m
}

func (s sharing) meterOfRequest(f *flow.Flow) publicapi.Meter {
	return s.limiter.Open(whoOf(f.PluginContext()))
}

// since is when the transfer of a flow asked for its place first. After a restart those that have moved already are before all others:
// they had places.
func (s sharing) since(f *flow.Flow) time.Time {
	if f.Checkpoint != nil && !s.limiter.Queue.Begun() {
		return f.Created.AddDate(-1000, 0, 0)
	}
	return f.Updated
}

// waiting says why a flow's transfer does not move, "" if the transfer itself knows better.
func (s sharing) waiting(key flow.Key) string {
	if place := s.limiter.Queue.Place(key.Context, key.ID); place != "" {
		return place
	}
	m, _ := s.accounts.Of(key.Context, key.ID)
	if m.Hop == pipeline.HopRetry {
		return ""
	}
	if u, ok := s.limiter.Usage(key.Context, key.ID); ok && u.At != nil && m.Text != "" {
		return m.Text + " of " + u.At.String()
	}
	return m.Text
}

// movement is what was seen of a flow, nil if nothing was.
func (s sharing) movement(key flow.Key) *admin.Movement {
	usage, used := s.limiter.Usage(key.Context, key.ID)
	m, moved := s.accounts.Of(key.Context, key.ID)
	if !used && !moved {
		return nil
	}
	out := &admin.Movement{Bytes: usage.Bytes, Records: usage.Records, Copied: m.Copied, BlockedSeconds: map[string]float64{}}
	if usage.At != nil {
		out.Limit = usage.At.String()
	}
	for hop, d := range m.Waited {
		if hop == pipeline.HopLimit {
			d = max(d, usage.Limited)
		}
		if d > 0 {
			out.BlockedSeconds[string(hop)] = d.Seconds()
		}
	}
	if !moved && usage.Limited > 0 { // requests of counterparties
		out.BlockedSeconds[string(pipeline.HopLimit)] = usage.Limited.Seconds()
	}
	if m.Runs {
		out.Condition, out.WaitsFor = string(m.Condition), string(m.Hop)
	}
	return out
}

// watchdog is what the configuration says about transfers that do not move.
func watchdog(cfg config.Watchdog, plugins *pluginhost.Host) pipeline.Watchdog {
	known := func(offer func(string) (pluginhost.Offer, bool)) func(string) pipeline.Plugin {
		return func(typ string) pipeline.Plugin {
			o, _ := offer(typ)
			return pipeline.Plugin{Answered: o.Answered, NonFinite: o.NonFinite}
		}
	}
	return pipeline.Watchdog{StalledAfter: cfg.StalledAfter, RestartAfter: cfg.RestartAfter,
		Source: known(plugins.SourceOffer), Sink: known(plugins.SinkOffer), DistrustHealth: !cfg.TrustHealth}
}
