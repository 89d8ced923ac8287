package pluginhost

import (
	"os"
	"testing"
)

// A plugin gets the best of lane and TLS that it can do and its settings allow.
func TestLaneAndMutualTLS(t *testing.T) {
	for _, c := range []struct {
		plugin       string
		settings     Settings
		lane, secure bool
	}{
		{"good", Settings{}, true, true},
		{"good", Settings{MTLS: MTLSOff}, true, false},
		{"good", Settings{Lane: LaneGRPC}, false, false},
		{"good", Settings{Lane: LaneGRPC, MTLS: MTLSOn}, false, true},
		{"in-clear", Settings{}, true, false},
		{"oversized", Settings{}, false, false}, // it has no lane
	} {
		t.Run(c.plugin+" "+string(c.settings.Lane)+" "+string(c.settings.MTLS), func(t *testing.T) {
			h, _ := startHost(t, quickPace, c.settings, c.plugin)
			in, err := h.plugins[c.plugin].acquire(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			if in.hs.secure != c.secure {
				t.Errorf("secure: %t", in.hs.secure)
			}
			if _, err := os.Stat(in.folder + "/" + laneSocket); (err == nil) != c.lane {
				t.Errorf("socket for lanes: %v", err)
			}
			if c.plugin == "good" {
				firstData(t, read(t, h, "Misbehave", "wait"))
			}
		})
	}
	h, _ := openHost(t, quickPace, Settings{MTLS: MTLSOn}, "in-clear")
	mustContain(t, h.Start(t.Context(), nil), "does not take part in mutual TLS")
	if i := info(t, h, "in-clear"); i.State != StateFailed {
		t.Errorf("a plugin that cannot do what it has to: %+v", i)
	}
}

func TestBadLaneSettings(t *testing.T) {
	for _, s := range []Settings{{Lane: "fast"}, {MTLS: "yes"}, {LaneBuffer: -1}} {
		if _, err := New(Options{Plugins: map[string]Settings{"a": s}, RuntimeDir: runtimeDir(t)}); err == nil {
			t.Errorf("%+v was accepted", s)
		}
	}
}
