package main

import (
	"context"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/towpath-dataplane/towpath/host/config"
	"github.com/towpath-dataplane/towpath/host/flow"
	"github.com/towpath-dataplane/towpath/host/limit"
	"github.com/towpath-dataplane/towpath/host/pluginhost"
)

// shared is the sharing of a host with some more configuration.
func shared(t *testing.T, more string) sharing {
	t.Helper()
	file := filepath.Join(t.TempDir(), "towpath.hcl")
	if err := os.WriteFile(file, []byte(`dataplane "d" {}
control_plane "cp" {
  endpoint = "https://cp.example.com"
  authorization "oauth2_client_credentials" { insecure_skip_signature = true }
}
plugins {
  directory = "."
  trust     = "off"
}
`+more), 0o600); err != nil {
		t.Fatal(err)
	}
	cfg, err := config.Load(file)
	if err != nil {
		t.Fatal(err)
	}
	runtime := filepath.Join(t.TempDir(), "run")
	plugins, err := pluginhost.New(pluginhost.Options{RuntimeDir: runtime, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := plugins.Close(context.Background()); err != nil {
			t.Error(err)
		}
	})
	return newSharing(cfg, plugins, prometheus.NewRegistry())
}

// Whatever the configuration says of limits holds for what it is said of.
func TestConfiguredLimits(t *testing.T) {
	s := shared(t, `
profile "http-pull" { weight = 2 }
participant_context "alice" {
  limits { bytes = 1 }
}
control_plane "alice" {
  participant_context = "alice"
  endpoint            = "https://alice.example.com"
  authorization "oauth2_client_credentials" { insecure_skip_signature = true }
}
dataset "d" {
  participant_context = "alice"
  source "File" {}
  limits {
    transfers = 2
    weight    = 3
  }
}
limits {
  host { records = 4 }
  counterparty { bytes = 5 }
  dataset { bytes = 6 }
  flow { bytes = 7 }
}
`)
	for scope, want := range map[limit.Scope]string{
		{Kind: limit.Host}: "- 4 - -",
		{Kind: limit.Context, Context: "alice", ID: "alice"}:          "1 - - -",
		{Kind: limit.Context, Context: "default", ID: "default"}:      "- - - -",
		{Kind: limit.Counterparty, Context: "alice", ID: "did:web:x"}: "5 - - -",
		{Kind: limit.Dataset, Context: "alice", ID: "d"}:              "6 - 2 3",
		{Kind: limit.Dataset, Context: "default", ID: "d"}:            "6 - - -",
		{Kind: limit.Profile, ID: "http-pull"}:                        "- - - 2",
		{Kind: limit.Flow, Context: "default", ID: "f"}:               "7 - - -",
	} {
		l := s.limiter.Rule(scope).InForce
		got := strings.Join([]string{numberOrDash(l.Bytes), numberOrDash(l.Records), numberOrDash(l.Transfers), numberOrDash(l.Weight)}, " ")
		if got != want {
			t.Errorf("%s of %q: %s, not %s", scope, scope.Context, got, want)
		}
	}
}

// Those that ran before a restart run again before those that waited, and these go on waiting in their order.
func TestPlacesAfterARestart(t *testing.T) {
	s := shared(t, `
profile "http-pull" {}
limits {
  host { transfers = 1 }
}
`)
	now := time.Now()
	waited := &flow.Flow{Key: flow.Key{Context: "default", ID: "waited"}, Created: now.Add(-2 * time.Hour), Updated: now.Add(-2 * time.Hour)}
	ran := &flow.Flow{Key: flow.Key{Context: "default", ID: "ran"}, Created: now.Add(-time.Hour), Updated: now, Checkpoint: &flow.Checkpoint{}}
	ctx, stop := context.WithCancel(t.Context())
	runs, done := make(chan string, 2), make(chan struct{}, 2)
	for _, f := range []*flow.Flow{waited, ran} {
		since := s.since(f)
		go func() {
			defer func() { done <- struct{}{} }()
			leave, err := s.admit(ctx, f.PluginContext(), since)
			if err != nil {
				return
			}
			defer leave()
			runs <- f.ID
			<-ctx.Done()
		}()
		for deadline := time.Now().Add(20 * time.Second); s.waits(f.Key).Text == ""; time.Sleep(time.Millisecond) {
			if time.Now().After(deadline) {
				t.Fatalf("%s does not wait", f.ID)
			}
		}
	}
	s.limiter.Queue.Begin()
	if id := <-runs; id != "ran" {
		t.Errorf("%s runs first", id)
	}
	if got := s.waits(waited.Key).Text; got != "queued, place 1 of 1: 1 transfers of the host run" {
		t.Errorf("the other one: %q", got)
	}
	if again := s.since(ran); !again.Equal(now) {
		t.Errorf("one that is resumed later goes before those that wait: %s", again)
	}
	stop()
	<-done
	<-done
}

// What requests of counterparties move and wait for is seen, too, also when they have ended.
func TestMovementOfRequests(t *testing.T) {
	s := shared(t, `
profile "http-pull" {}
limits {
  flow { bytes = "100KiB" }
}
`)
	f := &flow.Flow{Key: flow.Key{Context: "default", ID: "f"}}
	if w := s.waits(f.Key); w.For != "" || len(w.Waited) > 0 || w.Served > 0 {
		t.Errorf("nothing has moved: %+v", w)
	}
	m := s.meterOfRequest(f)
	for range 4 {
		if err := m.Wait(t.Context(), 10<<10, 2); err != nil {
			t.Fatal(err)
		}
	}
	if w := s.waits(f.Key); w.For != "host" || w.Served != 40<<10 || w.Waited["limit"] <= 0 || w.Condition != "" || w.Text != "" {
		t.Errorf("%+v", w)
	}
	m.Close()
	if w := s.waits(f.Key); w.For != "" || w.Served != 40<<10 || w.Waited["limit"] <= 0 {
		t.Errorf("when it has ended: %+v", w)
	}
}
