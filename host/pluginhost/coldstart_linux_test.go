package pluginhost

import (
	"context"
	"testing"
	"time"

	"github.com/towpath-dataplane/towpath/host/confine"
)

// What a call waits for that is the first to need a plugin which was described before: its launch, up to the plugin's answer.
func BenchmarkColdStart(b *testing.B) {
	for _, c := range []struct {
		name     string
		settings Settings
	}{{"mtls", Settings{}}, {"clear", Settings{MTLS: MTLSOff}}, {"confined", Settings{Allowed: confine.Allowed{
		Read: []string{"/tmp"}, Write: []string{"/tmp"}, Connect: []string{"10.0.0.0/8:443"}, Limits: confine.Limits{Memory: 256 << 20, OpenFiles: 256},
	}}}} {
		b.Run(c.name, func(b *testing.B) {
			cache := newMemory()
			o := Options{Directory: directory(b, "good"), Trust: TrustOff, RuntimeDir: runtimeDir(b), Cache: cache,
				Plugins: map[string]Settings{"good": c.settings}}
			describeAll(b, o)
			var took time.Duration
			for b.Loop() {
				b.StopTimer()
				h, err := New(o)
				if err == nil {
					err = h.Start(b.Context(), nil)
				}
				if err != nil {
					b.Fatal(err)
				}
				source, err := h.Source("Misbehave")
				if err != nil {
					b.Fatal(err)
				}
				b.StartTimer()
				began := time.Now()
				if err := source.Validate(b.Context(), address("Misbehave", "hello")); err != nil {
					b.Fatal(err)
				}
				took += time.Since(began)
				b.StopTimer()
				h.Close(context.Background())
				b.StartTimer()
			}
			b.ReportMetric(took.Seconds()*1000/float64(b.N), "ms/first-call")
		})
	}
}

// describeAll has the plugins of a directory described, as an earlier host would.
func describeAll(tb testing.TB, o Options) {
	tb.Helper()
	h, err := New(o)
	if err != nil {
		tb.Fatal(err)
	}
	defer h.Close(context.Background())
	if _, err := h.Descriptions(tb.Context()); err != nil {
		tb.Fatal(err)
	}
}
