package main

import (
	"slices"
	"testing"
	"time"

	"github.com/towpath-dataplane/towpath/host/flow"
	"github.com/towpath-dataplane/towpath/host/pluginhost"
	"github.com/towpath-dataplane/towpath/sdk"
)

func TestCapabilitiesFollowFromPlugins(t *testing.T) {
	source := flow.Dataset{ID: "s", Source: sdk.DataAddress{Type: "File"}}
	sink := flow.Dataset{ID: "t", Sink: sdk.DataAddress{Type: "File"}}
	answered := flow.Dataset{ID: "u", Source: sdk.DataAddress{Type: "File"}, Response: sdk.DataAddress{Type: "Box"}}
	back, carried := &flow.ResponseProfile{}, &flow.ResponseProfile{Provision: "Queue"}
	for name, tc := range map[string]struct {
		sources, sinks []string
		datasets       []flow.Dataset
		profile        flow.Profile
		want           bool
	}{
		"nothing there":                         {nil, nil, []flow.Dataset{source, sink}, flow.Profile{Direction: flow.Pull, Type: "Http"}, false},
		"provide for pull":                      {[]string{"File"}, nil, []flow.Dataset{source}, flow.Profile{Direction: flow.Pull, Type: "Http"}, true},
		"provide for pull without a dataset":    {[]string{"File"}, nil, []flow.Dataset{sink}, flow.Profile{Direction: flow.Pull, Type: "Http"}, false},
		"provide through a queue":               {[]string{"File"}, []string{"Queue"}, []flow.Dataset{source}, flow.Profile{Direction: flow.Pull, Provision: "Queue"}, true},
		"provide through a queue that is not":   {[]string{"File"}, nil, []flow.Dataset{source}, flow.Profile{Direction: flow.Pull, Provision: "Queue"}, false},
		"consume by pull":                       {[]string{"Http"}, nil, nil, flow.Profile{Direction: flow.Pull, Types: map[string]string{"x": "Http"}}, true},
		"consume by pull, type as in addresses": {[]string{"http-pull"}, nil, nil, flow.Profile{Name: "http-pull", Direction: flow.Pull}, true},
		"provide for push":                      {[]string{"File"}, []string{"Http"}, []flow.Dataset{source}, flow.Profile{Direction: flow.Push, Type: "Http"}, true},
		"provide for push without a sink":       {[]string{"File"}, nil, []flow.Dataset{source}, flow.Profile{Direction: flow.Push, Type: "Http"}, false},
		"be answered":                           {[]string{"File"}, []string{"Box"}, []flow.Dataset{source, answered}, flow.Profile{Direction: flow.Pull, Type: "Http", Response: back}, true},
		"be answered without a response sink":   {[]string{"File"}, []string{"Box"}, []flow.Dataset{source}, flow.Profile{Direction: flow.Pull, Type: "Http", Response: back}, false},
		"be answered by a sink that is not":     {[]string{"File"}, nil, []flow.Dataset{answered}, flow.Profile{Direction: flow.Pull, Type: "Http", Response: back}, false},
		"be answered through a queue":           {[]string{"File", "Queue"}, []string{"Box", "Queue"}, []flow.Dataset{answered}, flow.Profile{Direction: flow.Pull, Type: "Http", Response: carried}, true},
		"be answered through what nobody reads": {[]string{"File"}, []string{"Box", "Queue"}, []flow.Dataset{answered}, flow.Profile{Direction: flow.Pull, Type: "Http", Response: carried}, false},
		"consume by push":                       {nil, []string{"File"}, []flow.Dataset{sink}, flow.Profile{Direction: flow.Push, Type: "Http"}, true},
	} {
		o, _ := typesOf([]pluginhost.Info{
			{State: pluginhost.StateReady, Sources: tc.sources, Sinks: tc.sinks},
			{State: pluginhost.StateFailed, Sources: []string{"File", "Http"}, Sinks: []string{"File", "Http", "Queue"}},
		})
		if got := o.serve(tc.profile, tc.datasets); got != tc.want {
			t.Errorf("%s: %v, want %v", name, got, tc.want)
		}
	}
}

// Control planes hear of a profile at once when it can be used, and when its plugin was removed or it has not been possible
// for a while.
func TestCapabilitiesChange(t *testing.T) {
	there, soon := map[string]bool{}, map[string]bool{}
	c := &capabilities{profiles: []flow.Profile{{Name: "p", Direction: flow.Pull, Type: "Http"}}, contexts: []string{"default", "other"},
		datasets: func(string) []flow.Dataset { return nil }, types: func() (offered, offered) { return offered{sources: there}, offered{sources: soon} },
		last: map[string]lasts{}, carried: map[string]lasts{}, sources: lasts{}}
	now := time.Now()
	for i, step := range []struct {
		after   time.Duration
		there   bool
		removed bool
		differs bool
		want    []string
	}{
		{0, false, false, false, nil},
		{time.Second, true, false, true, []string{"p"}},
		{time.Second, true, false, false, []string{"p"}},
		{time.Second, false, false, false, []string{"p"}},
		{20 * time.Second, true, false, false, []string{"p"}},
		{29 * time.Second, false, false, false, []string{"p"}},
		{2 * time.Second, false, false, true, nil},
		{time.Second, false, false, false, nil},
		{time.Second, true, false, true, []string{"p"}},
		{time.Second, false, true, true, nil},
	} {
		now = now.Add(step.after)
		there["Http"], soon["Http"] = step.there, !step.removed
		if got := c.look(now); got != step.differs || !slices.Equal(c.Profiles("other"), step.want) {
			t.Errorf("step %d: differs %v, offers %v; want %v, %v", i, got, c.Profiles("other"), step.differs, step.want)
		}
	}
}

// Where messages carry the address of the source, a profile needs no dataset; and the types that can be read come and go as profiles do.
func TestCapabilitiesWhereSourcesAreCarried(t *testing.T) {
	now := offered{sources: map[string]bool{"File": true, "Http": true}, sinks: map[string]bool{"Http": true}}
	soon := now
	c := &capabilities{contexts: []string{"default"}, datasets: func(string) []flow.Dataset { return nil },
		profiles: []flow.Profile{{Name: "HttpData-PULL", Direction: flow.Pull, Type: "Queue"}, {Name: "HttpData-PUSH", Direction: flow.Push, Type: "Http"},
			{Name: "Queue-PUSH", Direction: flow.Push, Type: "Queue"}},
		types: func() (offered, offered) { return now, soon },
		last:  map[string]lasts{}, carried: map[string]lasts{}, sources: lasts{}}
	at := time.Now()
	check := func(differs bool, profiles, sources []string) {
		t.Helper()
		if got := c.look(at); got != differs {
			t.Errorf("differs %v", got)
		}
		if p, s := c.Carried("default"); !slices.Equal(p, profiles) || !slices.Equal(s, sources) {
			t.Errorf("%v of %v, want %v of %v", p, s, profiles, sources)
		}
	}
	check(true, []string{"HttpData-PULL", "HttpData-PUSH"}, []string{"File", "Http"})
	if got := c.Profiles("default"); len(got) > 0 {
		t.Errorf("%v without a dataset", got)
	}
	now = offered{sources: map[string]bool{"File": true}, sinks: map[string]bool{"Http": true}}
	check(false, []string{"HttpData-PULL", "HttpData-PUSH"}, []string{"File", "Http"})
	at = at.Add(missingFor)
	check(true, []string{"HttpData-PULL", "HttpData-PUSH"}, []string{"File"})
	now, soon = offered{}, offered{}
	check(true, nil, nil)
}
