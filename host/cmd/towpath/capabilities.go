package main

import (
	"context"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/towpath-dataplane/towpath/host/config"
	"github.com/towpath-dataplane/towpath/host/flow"
	"github.com/towpath-dataplane/towpath/host/pluginhost"
)

const (
	// offerInterval is how often it is looked at what the data plane can do.
	offerInterval = 2 * time.Second
	// missingFor is how long something has to be missing until control planes are told: a plugin that crashes comes back soon. Of one that was
	// removed they are told at once.
	missingFor = 30 * time.Second
)

// capabilities is what the data plane can do, by participant context: the profiles that control planes are told of. They follow from
// the plugins that are there.
type capabilities struct {
	profiles []flow.Profile
	datasets func(participantContext string) []flow.Dataset
	contexts []string
	types    func() (at offered, soon offered)
	prompt   <-chan struct{} // gets a value when plugins have come or gone
	changed  chan struct{}   // gets a value when offers may differ from before

	mu      sync.Mutex       // guards what follows
	last    map[string]lasts // of profiles, by participant context
	carried map[string]lasts // the same where messages carry the addresses of sources, so that no dataset is needed
	sources lasts            // of types that plugins read
}

// lasts is when each of some names was possible last. It is there for as long as control planes are told of it.
type lasts map[string]time.Time

// look notes whether a name is possible now, and whether it soon will be again, and reports whether control planes are to be told.
func (l lasts) look(now time.Time, name string, possible, soon bool) (differs bool) {
	since, was := l[name]
	switch {
	case possible:
		l[name] = now
		return !was
	case was && (now.Sub(since) >= missingFor || !soon):
		delete(l, name)
		return true
	}
	return false
}

// offered are the types that plugins read and write at present.
type offered struct{ sources, sinks map[string]bool }

func newCapabilities(cfg *config.Config, c catalog, plugins *pluginhost.Host, prompt <-chan struct{}) *capabilities {
	caps := &capabilities{profiles: slices.Collect(maps.Values(c.profiles)), datasets: c.datasets.Of, contexts: contexts(cfg),
		types: func() (offered, offered) { return typesOf(plugins.Plugins()) }, prompt: prompt, changed: make(chan struct{}, 1),
		last: map[string]lasts{}, carried: map[string]lasts{}, sources: lasts{}}
	caps.look(time.Now())
	return caps
}

// typesOf returns what plugins read and write at present, and what they do, or will when they have come back from a failure.
func typesOf(plugins []pluginhost.Info) (at, soon offered) {
	at, soon = offered{map[string]bool{}, map[string]bool{}}, offered{map[string]bool{}, map[string]bool{}}
	for _, p := range plugins {
		if p.State == pluginhost.StateReady || p.State == pluginhost.StateNotStarted {
			at.add(p)
		}
		if p.Status != pluginhost.StatusRetired {
			soon.add(p)
		}
	}
	return at, soon
}

func (o offered) add(p pluginhost.Info) {
	for _, t := range p.Sources {
		o.sources[t] = true
	}
	for _, t := range p.Sinks {
		o.sinks[t] = true
	}
}

// Profiles returns the names of the profiles that are offered in a participant context, sorted.
func (c *capabilities) Profiles(participantContext string) []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Sorted(maps.Keys(c.last[participantContext]))
}

// Carried returns what is offered in a participant context to control planes whose messages carry the addresses of sources: profiles, and
// the types of sources, both sorted.
func (c *capabilities) Carried(participantContext string) (profiles, sources []string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Sorted(maps.Keys(c.carried[participantContext])), slices.Sorted(maps.Keys(c.sources))
}

// watch looks again and again, until ctx ends.
func (c *capabilities) watch(ctx context.Context) error {
	tick := time.NewTicker(offerInterval)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		case <-c.prompt:
		}
		if c.look(time.Now()) {
			signalTo(c.changed)
		}
	}
}

// look finds out what is possible, and reports whether that differs from before.
func (c *capabilities) look(now time.Time) (differs bool) {
	types, soon := c.types()
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, name := range c.contexts {
		if c.last[name] == nil {
			c.last[name], c.carried[name] = lasts{}, lasts{}
		}
		datasets := c.datasets(name)
		for _, p := range c.profiles {
			differs = c.last[name].look(now, p.Name, types.serve(p, datasets), soon.serve(p, datasets)) || differs
			differs = c.carried[name].look(now, p.Name, types.serveCarried(p, datasets), soon.serveCarried(p, datasets)) || differs
		}
	}
	for name := range types.sources {
		differs = c.sources.look(now, name, types.sources[name], soon.sources[name]) || differs
	}
	for name := range c.sources {
		differs = c.sources.look(now, name, types.sources[name], soon.sources[name]) || differs
	}
	return differs
}

// serve reports whether a profile can be used, as a provider or as a consumer, with some dataset.
func (o offered) serve(p flow.Profile, datasets []flow.Dataset) bool {
	return o.serveFrom(p, datasets, slices.ContainsFunc(datasets, func(d flow.Dataset) bool { return o.sources[d.Source.Type] && o.answers(p, d) }))
}

// serveCarried reports the same for messages that carry the address of the source, and of the sink for what comes back.
func (o offered) serveCarried(p flow.Profile, datasets []flow.Dataset) bool {
	return o.serveFrom(p, datasets, some(o.sources) && (p.Response == nil || o.carries(p.Response) && some(o.sinks)))
}

// some reports whether there is a type at all.
func some(types map[string]bool) bool {
	return slices.Contains(slices.Collect(maps.Values(types)), true)
}

func (o offered) serveFrom(p flow.Profile, datasets []flow.Dataset, reads bool) bool {
	if p.Direction == flow.Pull {
		return reads && (p.Provision == "" || o.sinks[p.Provision]) || handles(o.sources, p)
	}
	return reads && handles(o.sinks, p) ||
		slices.ContainsFunc(datasets, func(d flow.Dataset) bool { return o.sinks[d.Sink.Type] })
}

// answers reports whether the response channel that a profile asks for can be opened for a dataset.
func (o offered) answers(p flow.Profile, d flow.Dataset) bool {
	return p.Response == nil || o.carries(p.Response) && o.sinks[d.Response.Type]
}

// carries reports whether what the messages of a response channel travel on can be made.
func (o offered) carries(r *flow.ResponseProfile) bool {
	return r.Provision == "" || o.sinks[r.Provision] && o.sources[r.Provision]
}

// handles reports whether a plugin handles the addresses of a profile's counterparties.
func handles(types map[string]bool, p flow.Profile) bool {
	if p.Type != "" {
		return types[p.Type]
	}
	for _, t := range p.Types {
		if types[t] {
			return true
		}
	}
	return types[p.Name]
}

// signalTo puts a value into a channel with room for one, unless there is one already.
func signalTo(c chan<- struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}
