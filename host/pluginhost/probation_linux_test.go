package pluginhost

import (
	"context"
	"errors"
	"io"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/towpath-dataplane/towpath/sdk"
)

// faulty writes a build of the plugin that misbehaves. See e2e/misbehave.
func faulty(t *testing.T, path, fault string) { variant(t, path, "\nfault: "+fault) }

// upgraded is a host on which a build of the plugin good follows one that works.
func upgraded(t *testing.T, o Options, s Settings, fault string) watched {
	t.Helper()
	o.Plugins = map[string]Settings{"good": s}
	w := watchHost(t, o)
	variant(t, w.path("good"), "one")
	w.awaitInfo(t, only(StateReady))
	faulty(t, w.path("good"), fault)
	w.awaitInfo(t, onProbation)
	return w
}

// onProbation is a property: the build in use has not proved itself.
func onProbation(all []Info) bool {
	return len(all) > 0 && all[0].Probation != nil && all[0].State == StateReady
}

// wasRolledBack is a property: another file than that in use was refused.
func wasRolledBack(all []Info) bool {
	return len(all) == 2 && all[0].Rollback != nil && all[0].State == StateReady && all[0].Probation == nil &&
		all[1].Generation == "" && all[1].SHA256 == all[0].Rollback.SHA256 && strings.Contains(all[1].Problem, "was rolled back")
}

// attempt reads the first data of a flow, as often as it takes for a build that works to serve it. token is where it goes on.
func (w watched) attempt(t *testing.T, do string, token []byte) {
	t.Helper()
	source, err := w.Source("Misbehave")
	if err != nil {
		t.Fatal(err)
	}
	for {
		err := readSome(t.Context(), source, sdk.ReadOpen{Address: address("Misbehave", do), ResumeToken: token})
		if err == nil {
			return
		}
		if e := sdk.AsError(err); !e.Retryable {
			t.Fatalf("a flow: %#v", err)
		}
	}
}

func readSome(ctx context.Context, source sdk.DataSource, open sdk.ReadOpen) error {
	stream, err := source.Read(ctx, open)
	if err != nil {
		return err
	}
	defer stream.Close()
	for {
		f, err := stream.Recv()
		_, ok := f.(*sdk.Data)
		sdk.Release(f)
		if err != nil || ok {
			return err
		}
	}
}

// place reads until a checkpoint, and returns its token.
func (w watched) place(t *testing.T) []byte {
	t.Helper()
	stream := read(t, w.Host, "Misbehave", "endless")
	defer stream.Close()
	stream.RequestCheckpoint()
	for {
		f, err := stream.Recv()
		if err != nil {
			t.Fatal(err)
		}
		if c, ok := f.(*sdk.Checkpoint); ok {
			return c.Token
		}
		sdk.Release(f)
	}
}

// copies is how many copies of binaries the host has.
func (w watched) copies(t *testing.T) int {
	t.Helper()
	all, err := os.ReadDir(w.launcher.dir.path + "/" + imageDir)
	if err != nil {
		t.Fatal(err)
	}
	return len(all)
}

// brief is a handover timeout for builds of which it is known that they move nothing.
const brief = 300 * time.Millisecond

func TestRollBack(t *testing.T) {
	for _, test := range []struct {
		fault   string
		timeout time.Duration
		why     string
	}{
		{"hangs", brief, "asked for the source type \"Misbehave\", and moved nothing for 300ms"},
		{"is unavailable", brief, "the shelf is out of reach"},
		{"breaks", time.Hour, "it failed: the shelf is broken"},
		{"crashes", time.Hour, "the shelf has collapsed"},
		{"refuses addresses", time.Hour, "it refuses a data address that was accepted before: do"},
	} {
		t.Run(test.fault, func(t *testing.T) {
			t.Parallel()
			w := upgraded(t, Options{}, Settings{HandoverTimeout: test.timeout}, test.fault)
			bad := w.Plugins()[0]
			w.attempt(t, "hello", nil)
			w.awaitInfo(t, wasRolledBack)
			i := w.Plugins()[0]
			if i.Generation != bad.Probation.SHA256 || i.Rollback.SHA256 != bad.SHA256 || !strings.Contains(i.Rollback.Why, test.why) {
				t.Errorf("rolled back: %+v, from %+v", i.Rollback, bad)
			}
			record := w.log.await(t, "plugin is rolled back")
			if record["plugin"] != "good" || record["to"] != i.Generation || record["why"] != i.Rollback.Why || record["do"] == "" {
				t.Errorf("record: %v", record)
			}
			// It is not tried again by itself, and the build before it serves.
			if _, _, err := w.look(t.Context(), false); err != nil {
				t.Fatal(err)
			}
			w.attempt(t, "hello", nil)
			w.awaitInfo(t, wasRolledBack)
			if n := w.endedHandovers()["good"]; n[outcomeRolledBack] != 1 || n[outcomeKept] != 0 {
				t.Errorf("handovers: %v", n)
			}
			// It is when someone says so.
			if err := w.Rescan(t.Context()); err != nil {
				t.Fatal(err)
			}
			w.awaitInfo(t, func(all []Info) bool {
				return onProbation(all) && all[0].Generation == bad.Generation && all[0].Rollback == nil
			})
		})
	}
}

// A build that does not go on with what the one before has begun is no good, though it serves new flows.
func TestATokenIsRefused(t *testing.T) {
	t.Parallel()
	w := watchHost(t, Options{})
	variant(t, w.path("good"), "one")
	w.awaitInfo(t, only(StateReady))
	token := w.place(t)
	faulty(t, w.path("good"), "refuses tokens")
	w.awaitInfo(t, onProbation)
	w.attempt(t, "endless", token)
	w.awaitInfo(t, wasRolledBack)
	if r := w.Plugins()[0].Rollback; !strings.Contains(r.Why, "does not go on with a flow of the build before: nothing is known of this token") {
		t.Errorf("why: %s", r.Why)
	}
}

// A build whose flows fail because of themselves is not to blame.
func TestNotTheBuildsFault(t *testing.T) {
	t.Parallel()
	w := upgraded(t, Options{}, Settings{HandoverTimeout: time.Hour}, "none")
	if err := w.CheckSource(t.Context(), address("Misbehave", "refuse")); sdk.AsError(err).Code != sdk.Invalid {
		t.Errorf("a new flow with a wrong address: %v", err)
	}
	source, _ := w.Source("Misbehave")
	if err := readSome(t.Context(), source, sdk.ReadOpen{Address: address("Misbehave", "unavailable")}); !sdk.AsError(err).Retryable {
		t.Errorf("a flow whose other side is away: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	stream, err := source.Read(ctx, sdk.ReadOpen{Address: address("Misbehave", "wait")})
	if err != nil {
		t.Fatal(err)
	}
	cancel()
	stream.Close()
	if !onProbation(w.Plugins()) {
		t.Errorf("info: %+v", w.Plugins())
	}
}

// A build has proved itself when it has moved data for all who ask.
func TestABuildProvesItself(t *testing.T) {
	t.Parallel()
	w := upgraded(t, Options{}, Settings{}, "none")
	good := w.Plugins()[0]
	sink, err := w.Sink("Sink-good")
	if err != nil {
		t.Fatal(err)
	}
	to, err := sink.Write(t.Context(), sdk.WriteOpen{Address: sdk.DataAddress{Type: "Sink-good"}})
	if err != nil {
		t.Fatal(err)
	}
	defer to.Close()
	w.attempt(t, "hello", nil)
	if !onProbation(w.Plugins()) {
		t.Errorf("the source has moved data, the sink has not: %+v", w.Plugins())
	}
	for _, f := range []sdk.Frame{&sdk.End{}} {
		if err := to.Send(f); err != nil {
			t.Fatal(err)
		}
	}
	for err == nil {
		_, err = to.Recv()
	}
	if err != io.EOF {
		t.Fatal(err)
	}
	w.awaitInfo(t, func(all []Info) bool {
		return len(all) == 1 && all[0].Probation == nil && all[0].Generation == good.Generation
	})
	w.log.await(t, "plugin has proved itself")
	if n := w.endedHandovers()["good"]; n[outcomeKept] != 1 {
		t.Errorf("handovers: %v", n)
	}
	w.awaitInfo(t, func([]Info) bool { return w.copies(t) == 1 })
}

// Of a sink that takes everything and makes nothing durable, the end is waited for.
func TestASinkHangs(t *testing.T) {
	t.Parallel()
	w := upgraded(t, Options{}, Settings{HandoverTimeout: brief}, "sink hangs")
	sink, err := w.Sink("Sink-good")
	if err != nil {
		t.Fatal(err)
	}
	to, err := sink.Write(t.Context(), sdk.WriteOpen{Address: sdk.DataAddress{Type: "Sink-good"}})
	if err != nil {
		t.Fatal(err)
	}
	defer to.Close()
	if err := to.Send(&sdk.End{}); err != nil {
		t.Fatal(err)
	}
	for err == nil {
		_, err = to.Recv()
	}
	if !errors.Is(err, ErrReplaced) || !sdk.AsError(err).Retryable {
		t.Errorf("a flow that was cut: %v", err)
	}
	w.awaitInfo(t, wasRolledBack)
}

// What a build does not offer any more must not be in use, or it cannot follow.
func TestATypeIsMissing(t *testing.T) {
	t.Parallel()
	w := watchHost(t, Options{})
	variant(t, w.path("good"), "one")
	w.awaitInfo(t, only(StateReady))
	sink, err := w.Sink("Sink-good")
	if err != nil {
		t.Fatal(err)
	}
	to, err := sink.Write(t.Context(), sdk.WriteOpen{Address: sdk.DataAddress{Type: "Sink-good"}})
	if err != nil {
		t.Fatal(err)
	}
	faulty(t, w.path("good"), "has no sink")
	w.awaitInfo(t, func(all []Info) bool {
		return len(all) == 2 && all[0].State == StateReady && all[1].State == StateFailed &&
			strings.Contains(all[1].Problem, `does not offer the sink type "Sink-good" any more`)
	})
	to.Close()
	if err := w.Rescan(t.Context()); err != nil {
		t.Fatal(err)
	}
	w.awaitInfo(t, onProbation)
}

// The build that has proved itself stays what there is to go back to, however many follow that do not.
func TestAThirdBuild(t *testing.T) {
	t.Parallel()
	o := Options{Keep: t.TempDir() + "/kept"}
	w := upgraded(t, o, Settings{HandoverTimeout: brief}, "hangs")
	second := w.Plugins()[0]
	first := second.Probation.SHA256
	faulty(t, w.path("good"), "breaks")
	w.awaitInfo(t, func(all []Info) bool {
		return onProbation(all) && all[0].Generation != second.Generation && all[0].Probation.SHA256 == first
	})
	w.attempt(t, "hello", nil)
	w.awaitInfo(t, wasRolledBack)
	if i := w.Plugins()[0]; i.Generation != first {
		t.Errorf("rolled back to %s, not %s", i.Generation, first)
	}
	w.awaitInfo(t, func([]Info) bool { return slices.Equal(kept(t, o), []string{first}) })
	// And when its file is back, nothing is left to be said.
	variant(t, w.path("good"), "one")
	w.awaitInfo(t, func(all []Info) bool { return len(all) == 1 && all[0].Rollback == nil && all[0].Generation == first })
	if n := w.endedHandovers()["good"]; n[outcomeSuperseded] != 1 || n[outcomeRolledBack] != 1 {
		t.Errorf("handovers: %v", n)
	}
}

// A build that is removed while it is on probation takes with it what there was to go back to.
func TestRemovedOnProbation(t *testing.T) {
	t.Parallel()
	w := upgraded(t, Options{}, Settings{}, "none")
	os.Remove(w.path("good"))
	w.awaitInfo(t, func(all []Info) bool { return len(all) == 1 && all[0].Generation == "" && all[0].Withdrawn })
	if n := w.endedHandovers()["good"]; n[outcomeWithdrawn] != 1 {
		t.Errorf("handovers: %v", n)
	}
	w.awaitInfo(t, func([]Info) bool { return w.copies(t) == 0 })
}

// kept lists the digests of the builds that are kept for the next host.
func kept(t *testing.T, o Options) []string {
	t.Helper()
	entries, err := os.ReadDir(o.Keep)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		t.Fatal(err)
	}
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names
}

// A host that is started again has not forgotten what was rolled back, nor lost what to.
func TestRestartAfterRollback(t *testing.T) {
	t.Parallel()
	o := Options{Directory: t.TempDir(), Cache: newMemory(), Keep: t.TempDir() + "/kept", Trust: TrustDirectory}
	w := upgraded(t, o, Settings{}, "breaks")
	bad := w.Plugins()[0]
	w.attempt(t, "hello", nil)
	w.awaitInfo(t, wasRolledBack)
	if err := w.Close(context.Background()); err != nil {
		t.Fatal(err)
	}
	if _, r := w.Standing(Candidate{Name: "good", SHA256: bad.SHA256}); r == nil || !strings.Contains(r.Why, "the shelf is broken") {
		t.Errorf("what is kept of the file: %+v", r)
	}

	again := watchHost(t, o)
	again.log.await(t, "plugin stays rolled back")
	again.attempt(t, "hello", nil)
	again.awaitInfo(t, wasRolledBack)
	if i := again.Plugins()[0]; i.Generation != bad.Probation.SHA256 || !strings.Contains(i.Rollback.Why, "the shelf is broken") {
		t.Errorf("info: %+v", i)
	}
	// A build that works is on probation with the same one to go back to, and then nothing is kept.
	faulty(t, again.path("good"), "none")
	again.awaitInfo(t, func(all []Info) bool { return onProbation(all) && all[0].Probation.SHA256 == bad.Probation.SHA256 })
	again.attempt(t, "hello", nil)
	again.log.await(t, "plugin has proved itself")
	if err := again.Close(context.Background()); err != nil {
		t.Fatal(err)
	}
	if left := kept(t, o); len(left) > 0 {
		t.Errorf("kept: %v", left)
	}
}

// A build that is on probation still is after a start of the host.
func TestRestartOnProbation(t *testing.T) {
	t.Parallel()
	o := Options{Directory: t.TempDir(), Cache: newMemory(), Keep: t.TempDir() + "/kept"}
	w := upgraded(t, o, Settings{}, "breaks")
	bad := w.Plugins()[0]
	if err := w.Close(context.Background()); err != nil {
		t.Fatal(err)
	}
	again := watchHost(t, o)
	if i := again.Plugins()[0]; i.Generation != bad.Generation || i.Probation == nil || i.Probation.SHA256 != bad.Probation.SHA256 ||
		!i.Probation.Since.Equal(bad.Probation.Since) {
		t.Fatalf("info: %+v", i)
	}
	again.attempt(t, "hello", nil)
	again.awaitInfo(t, wasRolledBack)
	if i := again.Plugins()[0]; i.Generation != bad.Probation.SHA256 {
		t.Errorf("info: %+v", i)
	}
}

// What is kept is used only if it is what it was, and the policy allows it.
func TestWhatIsKeptIsNotTrustedBlindly(t *testing.T) {
	t.Parallel()
	for name, spoil := range map[string]func(t *testing.T, path, digest string, o *Options){
		"another content": func(t *testing.T, path, _ string, _ *Options) { faulty(t, path, "none") },
		"gone":            func(t *testing.T, path, _ string, _ *Options) { os.Remove(path) },
		"open to others":  func(t *testing.T, path, _ string, _ *Options) { os.Chmod(path, 0o777) },
		"another pin": func(_ *testing.T, _, digest string, o *Options) {
			o.Plugins = map[string]Settings{"good": {SHA256: digest}}
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			o := Options{Directory: t.TempDir(), Cache: newMemory(), Keep: t.TempDir() + "/kept", Trust: TrustDirectory}
			w := upgraded(t, o, Settings{}, "breaks")
			bad := w.Plugins()[0]
			w.attempt(t, "hello", nil)
			w.awaitInfo(t, wasRolledBack)
			if err := w.Close(context.Background()); err != nil {
				t.Fatal(err)
			}
			spoil(t, w.keptPath(bad.Probation.SHA256, filePrefix+"good"), bad.SHA256, &o)
			again := watchHost(t, o)
			again.log.await(t, "there is no build of the plugin to go back to")
			if i := again.Plugins()[0]; i.Generation != bad.Generation {
				t.Errorf("info: %+v", i)
			}
		})
	}
}

// A stream that cannot go on elsewhere stays with the build that it is on for as long as it moves.
func TestAStreamThatCannotLeave(t *testing.T) {
	t.Parallel()
	w := watchHost(t, Options{Plugins: map[string]Settings{"good": {DrainTimeout: brief}}})
	variant(t, w.path("good"), "one")
	w.awaitInfo(t, only(StateReady))
	before := w.Plugins()[0]
	stream := read(t, w.Host, "Misbehave", "endless")
	firstData(t, stream)
	faulty(t, w.path("good"), "none")
	ended := make(chan error, 1)
	still := make(chan struct{})
	go func() {
		for {
			f, err := stream.Recv()
			sdk.Release(f)
			if err != nil {
				ended <- err
				return
			}
			select {
			case <-still:
				return
			case <-time.After(time.Millisecond):
			}
		}
	}()
	w.awaitInfo(t, onProbation)
	w.attempt(t, "hello", nil)
	w.log.await(t, "plugin has proved itself")
	asked := stream.(interface{ Leave() <-chan struct{} })
	<-asked.Leave()
	for range 3 {
		time.Sleep(brief) // the build before goes on
		select {
		case err := <-ended:
			t.Fatalf("a stream that moves was cut: %v", err)
		default:
		}
	}
	if all := w.Plugins(); len(all) != 2 || all[1].Generation != before.Generation || all[1].PID != before.PID || all[1].Flows != 1 {
		t.Errorf("info: %+v", all)
	}
	close(still)
	w.awaitInfo(t, func(all []Info) bool { return len(all) == 1 })
}
