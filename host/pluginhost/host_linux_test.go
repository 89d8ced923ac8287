package pluginhost

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/towpath-dataplane/towpath/sdk"
)

func TestNewRefuses(t *testing.T) {
	for says, o := range map[string]Options{
		`trust "blind" is not one of pinned, signed, directory, ask, off`: {Trust: "blind"},
		"plugin directory: open /no/such: no such file":                   {Directory: "/no/such"},
		`"A" is not a name for a plugin`:                                  {Plugins: map[string]Settings{"A": {}}},
		`"-a" is not a name for a plugin`:                                 {Plugins: map[string]Settings{"-a": {}}},
		`plugin a: "abc" is not a sha256`:                                 {Plugins: map[string]Settings{"a": {SHA256: "abc"}}},
		`plugin a: "` + strings.Repeat("zz", 32) + `" is not a sh`:        {Plugins: map[string]Settings{"a": {SHA256: strings.Repeat("zz", 32)}}},
		`plugin a: binary "../a" is neither a file name nor an ab`:        {Plugins: map[string]Settings{"a": {Binary: "../a"}}},
		"plugin a: timeout -1ns is negative":                              {Plugins: map[string]Settings{"a": {StopTimeout: -1}}},
	} {
		t.Run(says, func(t *testing.T) {
			o.RuntimeDir = runtimeDir(t)
			_, err := New(o)
			mustContain(t, err, says)
		})
	}
}

func TestTypes(t *testing.T) {
	h, _ := startHost(t, quickPace, Settings{}, "good", "breeder")
	if _, err := h.Source("Nothing"); err == nil || sdk.AsError(err).Code != sdk.Invalid {
		t.Errorf("source: %v", err)
	}
	_, err := h.Sink("Nothing")
	mustContain(t, err, `no plugin offers the sink type "Nothing"; there are: Sink-breeder, Sink-good`)
	for _, test := range []struct {
		name  string
		check func(ctx context.Context, a sdk.DataAddress) error
		a     sdk.DataAddress
		says  string
	}{
		{"good source", h.CheckSource, address("Misbehave", "hello"), ""},
		{"unknown source", h.CheckSource, address("Nothing", "x"), `no plugin offers the source type "Nothing"; there are: Misbehave, Misbehave-breeder`},
		{"sink for a source", h.CheckSource, sdk.DataAddress{Type: "Sink-good"}, "no plugin offers the source type"},
		{"schema", h.CheckSource, sdk.DataAddress{Type: "Misbehave", Properties: map[string]string{"dont": "x"}}, "do: is required; dont: is not a property"},
		{"plugin's own check", h.CheckSource, address("Misbehave", "refuse"), "do: must not be refuse"},
		{"good sink", h.CheckSink, sdk.DataAddress{Type: "Sink-good"}, ""},
		{"unknown sink", h.CheckSink, sdk.DataAddress{}, `no plugin offers the sink type ""`},
		{"sink's schema", h.CheckSink, sdk.DataAddress{Type: "Sink-good", Properties: map[string]string{"x": "y"}}, "x: is not a property"},
	} {
		err := test.check(t.Context(), test.a)
		if test.says == "" {
			if err != nil {
				t.Errorf("%s: %v", test.name, err)
			}
			continue
		}
		mustContain(t, err, test.says)
		if e := (*sdk.Error)(nil); !errors.As(err, &e) || e.Code != sdk.Invalid {
			t.Errorf("%s: %#v", test.name, err)
		}
	}
}

func TestSink(t *testing.T) {
	h, _ := startHost(t, quickPace, Settings{}, "good")
	s, err := h.Sink("Sink-good")
	if err != nil {
		t.Fatal(err)
	}
	a := sdk.DataAddress{Type: "Sink-good"}
	if err := s.Validate(t.Context(), a); err != nil {
		t.Error(err)
	}
	if _, err := s.Provision(t.Context(), sdk.FlowContext{}, a); err == nil || sdk.AsError(err).Code != sdk.Unsupported {
		t.Errorf("provision: %v", err)
	}
	if err := s.Deprovision(t.Context(), sdk.FlowContext{ID: "f"}, a); err != nil {
		t.Error(err)
	}
	w, err := s.Write(t.Context(), sdk.WriteOpen{Address: a})
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	for _, f := range []sdk.Frame{
		&sdk.PartBegin{PartInfo: sdk.PartInfo{Name: "p", Size: 1}}, &sdk.Data{Payload: sdk.BytesPayload("x")}, &sdk.PartEnd{Size: 1},
		&sdk.End{Totals: sdk.Totals{Parts: 1, Bytes: 1}},
	} {
		if err := w.Send(f); err != nil {
			t.Fatal(err)
		}
	}
	for {
		up, err := w.Recv()
		if err != nil {
			t.Fatal(err)
		}
		if done, ok := up.(*sdk.Done); ok {
			if done.Parts != 1 || done.Bytes != 1 {
				t.Errorf("done: %+v", done)
			}
			return
		}
	}
}

func TestConflict(t *testing.T) {
	h, _ := openHost(t, quickPace, Settings{}, "good", "rival")
	err := h.Start(t.Context(), nil)
	mustContain(t, err, `source type "Misbehave" is offered by two plugins: good and rival`)
	if !errors.Is(err, ErrConflict) {
		t.Errorf("error: %#v", err)
	}
	states := map[State]int{}
	for _, i := range h.Plugins() {
		states[i.State]++
	}
	if states[StateReady] != 1 || states[StateFailed] != 1 {
		t.Errorf("states: %v", states)
	}
}

// A plugin that nobody declared may fail without anyone being told but the log.
func TestUndeclaredPlugins(t *testing.T) {
	h, err := New(Options{Directory: directory(t, "good", "crash-at-start"), Trust: TrustDirectory, RuntimeDir: runtimeDir(t)})
	if err != nil {
		t.Fatal(err)
	}
	defer h.Close(t.Context())
	found, err := h.Descriptions(t.Context())
	if err != nil || len(found) != 1 || found[0].Name != "good" {
		t.Errorf("descriptions: %v, %v", found, err)
	}
	if err := h.Start(t.Context(), nil); err != nil {
		t.Error(err)
	}
	if i := info(t, h, "good"); i.State != StateReady {
		t.Errorf("info: %+v", i)
	}
}

func TestDescribe(t *testing.T) {
	h, _ := openHost(t, quickPace, Settings{}, "good", "other-name")
	d, err := h.Describe(t.Context(), "good")
	if err != nil || d.Name != "good" || d.Version != "1.2.3" || len(d.Sources) != 1 || len(d.Sources[0].Address.Fields) != 1 {
		t.Errorf("describe: %+v, %v", d, err)
	}
	if _, ok := h.Description("good"); ok {
		t.Error("described without a start")
	}
	if _, err := h.Describe(t.Context(), "nobody"); !errors.Is(err, ErrUnknown) {
		t.Errorf("describe: %v", err)
	}
	found, err := h.Descriptions(t.Context())
	mustContain(t, err, "plugin other-name: describe: it calls itself")
	if len(found) != 1 || found[0].Name != "good" {
		t.Errorf("descriptions: %v", found)
	}
	if left, _ := filepath.Glob(filepath.Join(h.launcher.dir.path, "[0-9]*")); len(left) > 0 {
		t.Errorf("folders left: %v", left)
	}
	h.Start(t.Context(), nil)
	if _, ok := h.Description("good"); !ok {
		t.Error("not described after a start")
	}
	h.Close(t.Context())
	if _, err := h.Describe(t.Context(), "other-name"); !errors.Is(err, ErrClosed) {
		t.Errorf("describe after close: %v", err)
	}
	if err := h.Start(t.Context(), nil); err == nil {
		t.Error("started after close")
	}
}

// Close ends a description that is under way.
func TestCloseWhileDescribing(t *testing.T) {
	h, _ := openHost(t, quickPace, Settings{}, "describe-hangs")
	described := make(chan error)
	go func() {
		_, err := h.Describe(t.Context(), "describe-hangs")
		described <- err
	}()
	h.Close(t.Context())
	if err := <-described; !errors.Is(err, ErrClosed) {
		t.Errorf("describe: %v", err)
	}
}

func TestCloseWhileStarting(t *testing.T) {
	h, _ := openHost(t, quickPace, Settings{}, "describe-hangs")
	if errs := h.superviseAll(h.candidates); errs != nil {
		t.Fatal(errs)
	}
	if err := h.Close(t.Context()); err != nil {
		t.Error(err)
	}
	if i := info(t, h, "describe-hangs"); i.State != StateStopped {
		t.Errorf("info: %+v", i)
	}
}

func TestStartIsCancelled(t *testing.T) {
	h, _ := openHost(t, quickPace, Settings{}, "describe-hangs")
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(errors.New("never mind"))
	mustContain(t, h.Start(ctx, nil), "never mind")
}

func TestMetrics(t *testing.T) {
	registry := prometheus.NewRegistry()
	o := Options{Directory: directory(t, "good"), Trust: TrustOff, RuntimeDir: runtimeDir(t), Registerer: registry,
		Plugins: map[string]Settings{"good": {DrainTimeout: 100 * time.Millisecond}}}
	h, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	defer h.Close(t.Context())
	if _, err := New(o); err == nil {
		t.Error("a second host has the same metrics")
	}
	if err := h.Start(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
	firstData(t, read(t, h, "Misbehave", "wait"))
	var want strings.Builder
	fmt.Fprintln(&want, "# HELP towpath_plugin_flows Streams open on the plugin's processes.\n# TYPE towpath_plugin_flows gauge")
	fmt.Fprintln(&want, `towpath_plugin_flows{plugin="good"} 1`)
	fmt.Fprintln(&want, "# HELP towpath_plugin_state 1 for the state that the plugin is in, 0 for the others.\n# TYPE towpath_plugin_state gauge")
	for _, s := range States() {
		is := 0
		if s == StateReady {
			is = 1
		}
		fmt.Fprintf(&want, "towpath_plugin_state{plugin=\"good\",state=%q} %d\n", s, is)
	}
	if err := testutil.GatherAndCompare(registry, strings.NewReader(want.String()), "towpath_plugin_flows", "towpath_plugin_state"); err != nil {
		t.Error(err)
	}
	if problems, err := testutil.GatherAndLint(registry); err != nil || len(problems) > 0 {
		t.Errorf("lint: %v, %v", problems, err)
	}
	h.Close(t.Context())
	if n, err := testutil.GatherAndCount(registry); n != 0 || err != nil {
		t.Errorf("%d metrics after Close, %v", n, err)
	}
}

// A script is a plugin as good as any, and fails as clearly.
func TestScript(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, filePrefix+"script")
	if err := os.WriteFile(path, []byte("#!/bin/sh\necho no python here >&2\nexit 6\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	h, err := New(Options{Directory: dir, Trust: TrustOff, RuntimeDir: runtimeDir(t), Plugins: map[string]Settings{"script": {}}})
	if err != nil {
		t.Fatal(err)
	}
	defer h.Close(t.Context())
	mustContain(t, h.Start(t.Context(), nil), "plugin script: launch", "exit status 6", "no python here")
}
