package pluginhost

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/towpath-dataplane/towpath/sdk"
)

// watched is a host that watches its directory, as one that has been started.
type watched struct {
	*Host
	dir     string
	log     *recorder
	changes chan struct{}
}

// watchHost starts a host that watches a directory.
func watchHost(t *testing.T, o Options) watched {
	t.Helper()
	w := watched{dir: o.Directory, log: newRecorder(), changes: make(chan struct{}, 1)}
	if w.dir == "" {
		w.dir = t.TempDir()
	}
	o.Directory, o.RuntimeDir, o.Watch, o.Logger = w.dir, runtimeDir(t), true, slog.New(slog.NewJSONHandler(w.log, nil))
	if o.Cache == nil {
		o.Cache = newMemory()
	}
	if o.Trust == "" {
		o.Trust = TrustOff
	}
	o.Changed = func() {
		select {
		case w.changes <- struct{}{}:
		default:
		}
	}
	pc := quickPace
	pc.settle, pc.grace, pc.rescan = 20*time.Millisecond, 40*time.Millisecond, time.Hour
	var err error
	if w.Host, err = newHost(o, pc); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { w.Close(context.Background()) })
	if err := w.Start(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- w.Watch(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return w
}

func (w watched) path(name string) string { return filepath.Join(w.dir, filePrefix+name) }

// awaitInfo waits until what the host says of its plugins has a property.
func (w watched) awaitInfo(t *testing.T, has func(all []Info) bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for !has(w.Plugins()) {
		select {
		case <-tick.C:
		case <-ctx.Done():
			t.Fatalf("plugins: %+v", w.Plugins())
		}
	}
}

// only is a property: there is one plugin, in this state.
func only(state State) func([]Info) bool {
	return func(all []Info) bool { return len(all) == 1 && all[0].State == state }
}

func TestAFileComesAndGoes(t *testing.T) {
	w := watchHost(t, Options{})
	if _, err := w.CheckSourceOf("Misbehave"); err == nil {
		t.Fatal("a type without a plugin")
	}
	variant(t, w.path("good"), "one")
	w.awaitInfo(t, only(StateReady))
	<-w.changes
	stream := read(t, w.Host, "Misbehave", "endless")
	firstData(t, stream)

	if err := os.Remove(w.path("good")); err != nil {
		t.Fatal(err)
	}
	w.awaitInfo(t, only(StateDraining))
	<-w.changes
	i := w.Plugins()[0]
	if i.Status != StatusRetired || i.Reason != whyRemoved || i.Flows != 1 || len(i.Sources) > 0 {
		t.Errorf("info: %+v", i)
	}
	if _, err := w.CheckSourceOf("Misbehave"); !errors.Is(err, ErrWithdrawn) || sdk.AsError(err).Code != sdk.Invalid {
		t.Errorf("a new flow: %v", err)
	}
	firstData(t, stream)

	// A flow that was cut waits for a plugin to come, and goes on with it.
	source, err := w.Source("Misbehave")
	if err != nil {
		t.Fatal(err)
	}
	waits := make(chan error, 1)
	go func() { waits <- source.Validate(t.Context(), address("Misbehave", "hello")) }()
	stream.Close()
	w.awaitInfo(t, func(all []Info) bool { return len(all) == 0 })
	if left, _ := filepath.Glob(filepath.Join(w.launcher.dir.path, imageDir, "*")); len(left) > 0 {
		t.Errorf("copies left: %v", left)
	}
	variant(t, w.path("good"), "one")
	if err := <-waits; err != nil {
		t.Errorf("a flow that waited: %v", err)
	}
}

// CheckSourceOf checks an address of a type.
func (w watched) CheckSourceOf(typ string) (string, error) {
	return typ, w.CheckSource(context.Background(), address(typ, "hello"))
}

// A call for a type whose plugin does not come back fails with an error that passes.
func TestAbsenceIsBounded(t *testing.T) {
	w := watchHost(t, Options{})
	w.pace.patience = time.Millisecond
	source, err := w.Source("Misbehave")
	if err != nil {
		t.Fatal(err)
	}
	err = source.Validate(t.Context(), address("Misbehave", "hello"))
	if e := sdk.AsError(err); !errors.Is(err, ErrWithdrawn) || e.Code != sdk.Unavailable || !e.Retryable {
		t.Errorf("validate: %#v", err)
	}
}

// What the operator has bound is cut when the time is over.
func TestRemovalWithinABound(t *testing.T) {
	w := watchHost(t, Options{Plugins: map[string]Settings{"good": {DrainTimeout: time.Millisecond, DrainBound: true}}})
	variant(t, w.path("good"), "one")
	w.awaitInfo(t, only(StateReady))
	stream := read(t, w.Host, "Misbehave", "endless")
	firstData(t, stream)
	os.Remove(w.path("good"))
	_, err := content(stream)
	if e := sdk.AsError(err); e.Code != sdk.Unavailable || !e.Retryable {
		t.Errorf("a flow that was cut: %#v", err)
	}
}

// The flows of a file that is replaced go on with its successor.
func TestAFileIsReplaced(t *testing.T) {
	w := watchHost(t, Options{Plugins: map[string]Settings{"good": {DrainTimeout: time.Millisecond, DrainBound: true}}})
	variant(t, w.path("good"), "one")
	w.awaitInfo(t, only(StateReady))
	first := w.Plugins()[0]
	stream := read(t, w.Host, "Misbehave", "endless")
	firstData(t, stream)
	variant(t, w.path("good"), "two")
	if _, err := content(stream); !sdk.AsError(err).Retryable {
		t.Errorf("a flow on the version before: %v", err)
	}
	firstData(t, read(t, w.Host, "Misbehave", "wait"))
	w.awaitInfo(t, only(StateReady))
	if i := w.Plugins()[0]; i.Generation == first.Generation || i.Generation != i.SHA256 || i.PID == first.PID {
		t.Errorf("info: %+v, before %+v", i, first)
	}
}

// A successor that does not work does not take over, and the one before goes on.
func TestABadSuccessor(t *testing.T) {
	for name, put := range map[string]func(t *testing.T, path string){
		"not a plugin": func(t *testing.T, path string) { place(t, path, []byte("#!/bin/sh\necho no >&2\nexit 1\n")) },
		"no program":   func(t *testing.T, path string) { place(t, path, []byte("MZ")) },
	} {
		t.Run(name, func(t *testing.T) {
			w := watchHost(t, Options{})
			variant(t, w.path("good"), "one")
			w.awaitInfo(t, only(StateReady))
			stream := read(t, w.Host, "Misbehave", "endless")
			put(t, w.path("good"))
			record := w.log.await(t, "plugin cannot be used")
			if record["plugin"] != "good" || record["why"] == "" || record["do"] == "" {
				t.Errorf("record: %v", record)
			}
			firstData(t, stream)
			if err := w.CheckSource(t.Context(), address("Misbehave", "hello")); err != nil {
				t.Error(err)
			}
			w.awaitInfo(t, func(all []Info) bool {
				return len(all) == 2 && all[0].State == StateReady && all[1].Generation == "" &&
					(all[1].Problem != "" || all[1].Status == StatusNotExecutable)
			})
		})
	}
}

// A file is not looked into before it is whole.
func TestAFileIsStillBeingWritten(t *testing.T) {
	w := watchHost(t, Options{})
	content, err := os.ReadFile(misbehave)
	if err != nil {
		t.Fatal(err)
	}
	file, err := os.OpenFile(w.path("good"), os.O_CREATE|os.O_WRONLY, 0o755)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	if _, err := file.Write(content[:len(content)/2]); err != nil {
		t.Fatal(err)
	}
	// The file has not changed for longer than it takes to be whole, but for its writer.
	w.awaitInfo(t, func(all []Info) bool {
		return len(all) == 1 && all[0].Status == StatusIncomplete && strings.Contains(all[0].Reason, "open for writing")
	})
	if _, err := file.Write(content[len(content)/2:]); err != nil {
		t.Fatal(err)
	}
	file.Close()
	w.awaitInfo(t, only(StateReady))
}

// Of two plugins that offer one type the first stays, and the other takes over when it has gone.
func TestTheFirstStays(t *testing.T) {
	w := watchHost(t, Options{})
	variant(t, w.path("rival"), "one")
	w.awaitInfo(t, only(StateReady))
	variant(t, w.path("good"), "two")
	record := w.log.await(t, "plugin cannot be used")
	if record["plugin"] != "good" || !strings.Contains(record["why"].(string), "is offered by two plugins: good and rival") {
		t.Errorf("record: %v", record)
	}
	w.awaitInfo(t, func(all []Info) bool {
		return len(all) == 2 && strings.Contains(all[0].Problem, "two plugins") && all[1].State == StateReady
	})
	os.Remove(w.path("rival"))
	w.awaitInfo(t, only(StateReady))
	if i := w.Plugins()[0]; i.Name != "good" {
		t.Errorf("info: %+v", i)
	}
}

// Nothing is executed that policy does not allow, and it is said once.
func TestARefusedFile(t *testing.T) {
	w := watchHost(t, Options{Trust: TrustPinned})
	variant(t, w.path("good"), "one")
	record := w.log.await(t, "plugin cannot be used")
	if !strings.Contains(record["why"].(string), "no sha256 is pinned") || !strings.Contains(record["do"].(string), `pin it and start the host again: plugin "good"`) {
		t.Errorf("record: %v", record)
	}
	for range 3 {
		if err := w.Rescan(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	if n := w.launcher.dir.launches.Load(); n != 0 {
		t.Errorf("%d launches", n)
	}
	w.log.mu.Lock()
	defer w.log.mu.Unlock()
	if len(w.log.records) != 1 {
		t.Errorf("records: %v", w.log.records)
	}
}

// A plugin whose configuration is not good is not used, until it is and the operator says so.
func TestAFileWithoutConfiguration(t *testing.T) {
	var refuse error = errors.New("root is required")
	w := watchHost(t, Options{Configure: func(sdk.Description) ([]byte, error) { return []byte("{}"), refuse }})
	variant(t, w.path("good"), "one")
	if why := w.log.await(t, "plugin cannot be used")["why"]; why != "root is required" {
		t.Errorf("why: %v", why)
	}
	if err := w.Rescan(t.Context()); err != nil {
		t.Fatal(err)
	}
	w.awaitInfo(t, func(all []Info) bool { return len(all) == 1 && strings.Contains(all[0].Problem, "root is required") })
	refuse = nil
	if err := w.Rescan(t.Context()); err != nil {
		t.Fatal(err)
	}
	w.awaitInfo(t, only(StateReady))
}

// A declared plugin whose file was missing begins to work when it comes.
func TestADeclaredFileComes(t *testing.T) {
	w := watchHost(t, Options{Plugins: map[string]Settings{"good": {}}})
	w.awaitInfo(t, func(all []Info) bool { return len(all) == 1 && all[0].Status == StatusMissing })
	variant(t, w.path("good"), "one")
	w.awaitInfo(t, only(StateReady))
}
