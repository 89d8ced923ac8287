package main

import (
	"context"
	"time"

	"github.com/prometheus/client_golang/prometheus"

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
	return sharing{limit.New(limitsOf(cfg)), pipeline.NewAccounts(watchdog(cfg.Transfer.Watchdog, plugins), r)}
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

// request holds a request to its limits, and keeps account of it.
type request struct {
	*pipeline.Request
	meter *limit.Meter
}

func (s sharing) meterOfRequest(f *flow.Flow) publicapi.Meter {
	r := request{s.accounts.Request(f.PluginContext()), s.limiter.Open(whoOf(f.PluginContext()))}
	r.meter.Tell(r.Limited)
	return r
}

// Wait counts what may move as moved.
func (r request) Wait(ctx context.Context, bytes, records int64) error {
	err := r.meter.Wait(ctx, bytes, records)
	if err == nil {
		r.Moved(bytes)
	}
	return err
}

// Close is the end of the request.
func (r request) Close() {
	r.meter.Close()
	r.Request.Close()
}

// since is when the transfer of a flow asked for its place first. After a restart those that have moved already are before all others:
// they had places.
func (s sharing) since(f *flow.Flow) time.Time {
	if f.Checkpoint != nil && !s.limiter.Queue.Begun() {
		return f.Created.AddDate(-1000, 0, 0)
	}
	return f.Updated
}

// waits is what is waited for in a flow.
func (s sharing) waits(key flow.Key) flow.Waits {
	a, _ := s.accounts.Of(key.Context, key.ID)
	w := flow.Waits{For: string(a.Hop), Waited: map[string]time.Duration{}, Served: a.Served, Copied: a.Copied}
	if a.Runs {
		w.Condition, w.Text = string(a.Condition), a.Text
	}
	for hop, d := range a.Waited {
		w.Waited[string(hop)] = d
	}
	if scope, ok := s.limiter.At(key.Context, key.ID); ok && a.Hop == pipeline.HopLimit {
		w.Limit = scope.String()
		if w.Text != "" {
			w.Text += " of " + w.Limit
		}
	}
	if a.Hop == pipeline.HopRetry {
		w.Text = "" // the transfer says more
	}
	if place := s.limiter.Queue.Place(key.Context, key.ID); place != "" {
		w.Text = place
	}
	return w
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
