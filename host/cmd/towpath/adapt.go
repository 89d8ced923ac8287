package main

import (
	"context"
	"errors"
	"time"

	"github.com/towpath-dataplane/towpath/host/admin"
	"github.com/towpath-dataplane/towpath/host/config"
	"github.com/towpath-dataplane/towpath/host/confine"
	"github.com/towpath-dataplane/towpath/host/flow"
	"github.com/towpath-dataplane/towpath/host/identity"
	"github.com/towpath-dataplane/towpath/host/pipeline"
	"github.com/towpath-dataplane/towpath/host/pluginhost"
	"github.com/towpath-dataplane/towpath/sdk"
)

// catalog is what the engine looks up: the configuration's profiles, and the datasets of the configuration and of the admin API.
type catalog struct {
	profiles map[string]flow.Profile
	datasets *admin.Datasets
}

func (c catalog) Profile(name string) (flow.Profile, bool) {
	p, ok := c.profiles[name]
	return p, ok
}

func (c catalog) Dataset(context, id string) (flow.Dataset, bool) {
	return c.datasets.Lookup(context, id)
}

// profiles are the configuration's profiles by name.
func profiles(cfg *config.Config) map[string]flow.Profile {
	out := map[string]flow.Profile{}
	for _, p := range cfg.Profiles {
		out[p.Name] = flow.Profile{Name: p.Name, Direction: flow.Direction(p.Direction), EndpointType: p.EndpointType,
			Types: p.Types, Type: p.Type, AllowHTTP: p.AllowHTTP, Strict: p.Strict, Mode: flow.Mode(p.Mode),
			Renewal: flow.Renewal(p.Renewal), Provision: p.Provision, Response: responseProfile(p.Response), DatasetInMessage: p.DatasetInMessage}
	}
	return out
}

func responseProfile(r *config.Response) *flow.ResponseProfile {
	if r == nil {
		return nil
	}
	return &flow.ResponseProfile{EndpointType: r.EndpointType, Provision: r.Provision, Linger: r.Linger}
}

// datasets are the configuration's datasets.
func datasets(cfg *config.Config) []flow.Dataset {
	var out []flow.Dataset
	for _, d := range cfg.Datasets {
		out = append(out, flow.Dataset{Context: d.ParticipantContext, ID: d.ID, Mode: flow.Mode(d.Mode),
			Source: d.Source.DataAddress, Sink: d.Sink.DataAddress, Response: d.Response.DataAddress})
	}
	return out
}

// contexts are the names of the participant contexts.
func contexts(cfg *config.Config) []string {
	var names []string
	for _, c := range cfg.ParticipantContexts {
		names = append(names, c.Name)
	}
	return names
}

func (c catalog) endpointType(profile string) string {
	if t := c.profiles[profile].EndpointType; t != "" {
		return t
	}
	return profile
}

func (c catalog) responseType(profile string) string {
	if r := c.profiles[profile].Response; r != nil && r.EndpointType != "" {
		return r.EndpointType
	}
	return "HttpData"
}

// renewable reports whether the tokens of a flow can be renewed.
func (c catalog) renewable(f *flow.Flow) bool {
	return c.profiles[f.Profile].Renewal != flow.RenewalOff && identity.IsDID(f.ParticipantID) && identity.IsDID(f.CounterPartyID)
}

// newTransfer runs the transfers of the engine through the pipeline. since is when a flow's transfer asked for its place first.
func newTransfer(t *pipeline.Transfer, since func(*flow.Flow) time.Time) flow.Transfer {
	return func(ctx context.Context, f *flow.Flow, progress flow.Progress) error {
		job := pipeline.Job{Flow: f.PluginContext(), Redelivery: f.Redelivery, Since: since(f)}
		job.Addresses = func(ctx context.Context, refused bool) (from, to sdk.DataAddress, err error) {
			remote, err := progress.Remote(ctx, refused)
			switch {
			case errors.As(err, new(*flow.RequestError)):
				err = sdk.Errorf(sdk.Invalid, "%w", err) // the configuration has changed since the flow began
			case err != nil && !refused:
				err = sdk.Retryf(sdk.Unavailable, "%w", err)
			}
			if f.Role == flow.Consumer {
				return remote, f.Local, err
			}
			return f.Local, remote, err
		}
		for _, s := range f.Skipped {
			job.Skip = append(job.Skip, s.Part)
		}
		if f.Checkpoint != nil {
			job.Place = pipeline.Place{Source: f.Checkpoint.Source, Sink: f.Checkpoint.Sink, Totals: f.Totals}
		}
		job.Store = func(ctx context.Context, p pipeline.Place, parts []pipeline.Part) error {
			return progress.Checkpoint(ctx, flow.Checkpoint{Source: p.Source, Sink: p.Sink}, p.Totals, finished(parts))
		}
		job.Observe = func(step func() pipeline.Step) {
			progress.Observe(func() flow.Step { return flow.Step(step()) })
		}
		return t.Run(ctx, job, progress.Waiting)
	}
}

func finished(parts []pipeline.Part) []flow.Part {
	out := make([]flow.Part, len(parts))
	for i, p := range parts {
		out[i] = flow.Part{Index: p.Index, Name: p.Name, Size: p.Size, Records: p.Records, Digests: p.Digests, Location: p.Location}
	}
	return out
}

// showPlugins lists the plugins as the admin API shows them.
func showPlugins(plugins *pluginhost.Host) []admin.Plugin {
	var out []admin.Plugin
	for _, i := range plugins.Plugins() {
		p := showCandidate(i.Candidate)
		p.Version, p.State, p.Since, p.Problem = i.Version, string(i.State), i.Since, i.Problem
		p.Generation, p.Launches, p.LaunchSeconds = i.Generation, i.Launches, i.LaunchTook.Seconds()
		p.PID, p.Restarts, p.Flows, p.Sources, p.Sinks = i.PID, i.Restarts, i.Flows, i.Sources, i.Sinks
		if d, ok := plugins.Description(i.Name); ok && i.Generation != "" && i.Status != pluginhost.StatusRetired {
			p.Description = &d
		}
		p.Confinement = showConfinement(i.Confinement)
		p.Probation, p.RolledBack = (*admin.Probation)(i.Probation), (*admin.RolledBack)(i.Rollback)
		p.LastExit, p.Isolation = showExit(i.LastExit), string(i.Isolation)
		for _, one := range i.Processes {
			p.Processes = append(p.Processes, admin.PluginProcess{PID: one.PID, For: one.For, State: string(one.State), Since: one.Since,
				Flows: one.Flows})
		}
		for _, one := range i.Suspects {
			p.Suspects = append(p.Suspects, admin.PluginSuspect(one))
		}
		if q := i.Quarantine; q != nil {
			p.Quarantine = &admin.Quarantine{Since: q.Since, Crashes: q.Crashes, WithinSeconds: q.Within.Seconds(), Exit: *showExit(&q.Exit), Do: q.Do}
		}
		out = append(out, p)
	}
	return out
}

func showExit(e *pluginhost.Exit) *admin.Exit {
	if e == nil {
		return nil
	}
	return &admin.Exit{At: e.At, Status: e.Status, Signal: e.Signal, Reason: e.Reason, Stderr: e.Stderr}
}

// releaser ends the quarantine of a plugin, in the words of the admin API.
func releaser(plugins *pluginhost.Host) func(context.Context, string) error {
	return func(ctx context.Context, name string) error {
		err := plugins.Release(ctx, name)
		switch {
		case errors.Is(err, pluginhost.ErrUnknown):
			return sdk.Errorf(sdk.NotFound, "%w", err)
		case errors.Is(err, pluginhost.ErrNotQuarantined):
			return sdk.Errorf(sdk.Conflict, "%w", err)
		}
		return nil // what became of its launch is what the plugin's state says
	}
}

func showCandidate(c pluginhost.Candidate) admin.Plugin {
	return admin.Plugin{Name: c.Name, Path: c.Path, Address: c.Address, SHA256: c.SHA256, Status: string(c.Status), Reason: c.Reason}
}

// readBuild reads how a plugin was built; nil if it does not say, or has no file.
func readBuild(path string) *admin.Build {
	b, err := pluginhost.ReadBuild(path)
	if err != nil {
		return nil
	}
	return (*admin.Build)(&b)
}

func showConfinement(items []confine.Item) []admin.Confinement {
	out := make([]admin.Confinement, len(items))
	for i, item := range items {
		out[i] = admin.Confinement(item)
	}
	return out
}

// describe adds what a plugin says of itself.
func describe(p admin.Plugin, d sdk.Description) admin.Plugin {
	p.Version, p.Description = d.Version, &d
	for _, t := range d.Sources {
		p.Sources = append(p.Sources, t.Type)
	}
	for _, t := range d.Sinks {
		p.Sinks = append(p.Sinks, t.Type)
	}
	return p
}
