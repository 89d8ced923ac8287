package pipeline_test

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/towpath-dataplane/towpath/host/pipeline"
	"github.com/towpath-dataplane/towpath/sdk"
)

// What requests wait for is in the account of their flow, each by itself, and stays there when they have ended.
func TestRequestsInTheAccount(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		registry := prometheus.NewRegistry()
		accounts := pipeline.NewAccounts(pipeline.Watchdog{}, registry)
		f := sdk.FlowContext{ID: "f", ParticipantContext: "default"}
		of := func() pipeline.Waits {
			waits, ok := accounts.Of("default", "f")
			if !ok {
				t.Fatal("nothing is known of the flow")
			}
			return waits
		}
		first := accounts.Request(f)
		time.Sleep(time.Second) // host
		first.Source()
		time.Sleep(2 * time.Second)
		first.Source()
		second := accounts.Request(f)
		second.Sink()
		time.Sleep(3 * time.Second)
		if w := of(); w.Runs || w.Hop != pipeline.HopSource || w.Condition != pipeline.Moving || w.Text != "" {
			t.Errorf("what waits longest is the first: %+v", w)
		}
		second.Limited(true)
		time.Sleep(4 * time.Second)
		second.Limited(false)
		first.Moved(10)
		first.Close()
		time.Sleep(5 * time.Second)
		if w := of(); w.Hop != pipeline.HopSink || w.Served != 10 {
			t.Errorf("with the second alone: %+v", w)
		}
		second.Moved(5)
		second.Close()
		time.Sleep(time.Hour)
		w := of()
		want := map[pipeline.Hop]time.Duration{pipeline.HopHost: time.Second, pipeline.HopSource: 9 * time.Second,
			pipeline.HopSink: 8 * time.Second, pipeline.HopLimit: 4 * time.Second}
		if w.Hop != "" || w.Served != 15 || len(w.Waited) != len(want) {
			t.Errorf("at the end: %+v", w)
		}
		for hop, d := range want {
			if w.Waited[hop] != d {
				t.Errorf("it has waited for %s for %s, not %s", hop, w.Waited[hop], d)
			}
		}
		// Others push it out of memory, but not out of the sums.
		for range 3000 {
			accounts.Request(sdk.FlowContext{ID: time.Now().String(), ParticipantContext: "default"}).Close()
			time.Sleep(time.Nanosecond)
		}
		if _, ok := accounts.Of("default", "f"); ok {
			t.Error("the account of a flow from long ago is there")
		}
		watched := &watched{registry: registry}
		if sum := watched.metric(t, "towpath_request_blocked_seconds_total"); sum < 22 || sum > 22.1 {
			t.Errorf("all have waited for %v seconds", sum)
		}
	})
}
