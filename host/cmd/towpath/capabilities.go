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

	mu   sync.Mutex                      // guards what follows
	last map[string]map[string]time.Time // when each profile was possible last, by context
}

// offered are the types that plugins read and write at present.
type offered struct{ sources, sinks map[string]bool }

func newCapabilities(cfg *config.Config, c catalog, plugins *pluginhost.Host, prompt <-chan struct{}) *capabilities {
	caps := &capabilities{profiles: slices.Collect(maps.Values(c.profiles)), datasets: c.datasets.Of, contexts: contexts(cfg),
		types: func() (offered, offered) { return typesOf(plugins.Plugins()) }, prompt: prompt, changed: make(chan struct{}, 1), last: map[string]map[string]time.Time{}}
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
			c.last[name] = map[string]time.Time{}
		}
		possible := c.last[name]
		datasets := c.datasets(name)
		for _, p := range c.profiles {
			since, was := possible[p.Name]
			switch {
			case types.serve(p, datasets):
				possible[p.Name] = now
				differs = differs || !was
			case was && (now.Sub(since) >= missingFor || !soon.serve(p, datasets)):
				delete(possible, p.Name)
				differs = true
			}
		}
	}
	return differs
}

// serve reports whether a profile can be used, as a provider or as a consumer, with some dataset.
func (o offered) serve(p flow.Profile, datasets []flow.Dataset) bool {
	reads := slices.ContainsFunc(datasets, func(d flow.Dataset) bool { return o.sources[d.Source.Type] && o.answers(p, d) })
	if p.Direction == flow.Pull {
		return reads && (p.Provision == "" || o.sinks[p.Provision]) || handles(o.sources, p)
	}
	return reads && handles(o.sinks, p) ||
		slices.ContainsFunc(datasets, func(d flow.Dataset) bool { return o.sinks[d.Sink.Type] })
}

// answers reports whether the response channel that a profile asks for can be opened for a dataset.
func (o offered) answers(p flow.Profile, d flow.Dataset) bool {
	if p.Response == nil {
		return true
	}
	carried := p.Response.Provision == "" || o.sinks[p.Response.Provision] && o.sources[p.Response.Provision]
	return carried && o.sinks[d.Response.Type]
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
