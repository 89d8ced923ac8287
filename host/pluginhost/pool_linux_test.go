package pluginhost

import (
	"errors"
	"slices"
	"syscall"
	"testing"
	"time"

	"github.com/towpath-dataplane/towpath/sdk"
)

// readFor opens a stream for a flow.
func readFor(t *testing.T, h *Host, context, flow, do string) (sdk.ReadStream, error) {
	t.Helper()
	s, err := h.Source("Misbehave")
	if err != nil {
		t.Fatal(err)
	}
	stream, err := s.Read(t.Context(), sdk.ReadOpen{Flow: sdk.FlowContext{ParticipantContext: context, ID: flow}, Address: address("Misbehave", do)})
	if err == nil {
		t.Cleanup(func() { stream.Close() })
	}
	return stream, err
}

func mustReadFor(t *testing.T, h *Host, context, flow, do string) sdk.ReadStream {
	t.Helper()
	stream, err := readFor(t, h, context, flow, do)
	if err != nil {
		t.Fatal(err)
	}
	firstData(t, stream)
	return stream
}

// processFor returns the process of a plugin that is somebody's; its PID is 0 if there is none.
func processFor(t *testing.T, h *Host, whose string) Process {
	t.Helper()
	for _, p := range info(t, h, "good").Processes {
		if p.For == whose {
			return p
		}
	}
	return Process{}
}

func awaitProcesses(t *testing.T, h *Host, want ...string) {
	t.Helper()
	deadline := time.Now().Add(time.Minute)
	for {
		var got []string
		for _, p := range info(t, h, "good").Processes {
			got = append(got, p.For)
		}
		if slices.Equal(got, want) {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("processes for %q, not %q", got, want)
		}
		time.Sleep(5 * time.Millisecond)
	}
}

// pooledPace ends processes soon that nobody uses.
var pooledPace = func() pace {
	p := quickPace
	p.idle = 20 * time.Millisecond
	return p
}()

// Each flow has a process of its own. When one is killed, the others go on in theirs; when a flow has ended, its process does.
func TestProcessForEachFlow(t *testing.T) {
	t.Parallel()
	h, _ := startHost(t, pooledPace, Settings{Isolation: IsolationFlow}, "good")
	one, other := mustReadFor(t, h, "default", "one", "endless"), mustReadFor(t, h, "default", "other", "endless")
	awaitProcesses(t, h, "shared", "flow default/one", "flow default/other")
	killed, kept := processFor(t, h, "flow default/one"), processFor(t, h, "flow default/other")
	if i := info(t, h, "good"); killed.PID == kept.PID || i.PID == killed.PID || i.Flows != 2 || i.Isolation != IsolationFlow {
		t.Errorf("%+v", i)
	}
	syscall.Kill(killed.PID, syscall.SIGKILL)
	_, err := content(one)
	mustContain(t, err, "plugin good ended: signal: killed")
	firstData(t, other)
	if now := processFor(t, h, "flow default/other"); now.PID != kept.PID || now.State != StateReady {
		t.Errorf("the process of the other flow: %+v, was %+v", now, kept)
	}
	one.Close()
	again := mustReadFor(t, h, "default", "one", "hello")
	if _, err := content(again); err != nil {
		t.Error(err)
	}
	again.Close()
	other.Close()
	awaitProcesses(t, h, "shared")
	if i := info(t, h, "good"); i.LastExit == nil || i.Launches < 3 {
		t.Errorf("what is known of the processes that are gone: %+v", i)
	}
}

func TestProcessForEachParticipant(t *testing.T) {
	t.Parallel()
	h, _ := startHost(t, quickPace, Settings{Isolation: IsolationParticipant}, "good")
	for _, flow := range []string{"1", "2"} {
		mustReadFor(t, h, "ours", flow, "endless")
		mustReadFor(t, h, "theirs", flow, "endless")
	}
	awaitProcesses(t, h, "shared", "participant ours", "participant theirs")
	if p := processFor(t, h, "participant ours"); p.Flows != 2 {
		t.Errorf("%+v", p)
	}
	// A call of no flow.
	if err := h.CheckSource(t.Context(), address("Misbehave", "refuse")); err == nil {
		t.Error("no error")
	}
}

// There are no more processes than the operator wants. A flow that finds none is told so, and has its turn when another has ended.
func TestMaxProcesses(t *testing.T) {
	t.Parallel()
	p := quickPace
	p.patience = time.Second
	h, _ := startHost(t, p, Settings{Isolation: IsolationFlow, MaxProcesses: 1, Start: StartAlways}, "good")
	// A launch can take longer than a call waits, and so can the end of a process.
	patiently := func(flow string) sdk.ReadStream {
		for try := 0; ; try++ {
			stream, err := readFor(t, h, "default", flow, "endless")
			if err == nil {
				firstData(t, stream)
				return stream
			}
			if !sdk.AsError(err).Retryable || try == 60 {
				t.Fatal(err)
			}
		}
	}
	one := patiently("one")
	_, err := readFor(t, h, "default", "other", "endless")
	mustContain(t, err, "plugin good: all processes that max_processes allows are in use (1)")
	if e := sdk.AsError(err); e.Code != sdk.Unavailable || !e.Retryable || !errors.Is(err, ErrBusy) {
		t.Errorf("%#v", e)
	}
	one.Close()
	patiently("other")
	awaitProcesses(t, h, "shared", "flow default/other")
}

// A flow that kills its process at one place is told so after a while, with what the process said. Another flow of the plugin is not cut any
// more then, and the plugin is not in quarantine.
func TestPoisonStopsItsFlowAlone(t *testing.T) {
	t.Parallel()
	h, log := startHost(t, pooledPace, Settings{}, "good")
	var verdict error
	for try := 0; verdict == nil; try++ {
		if try == 8 {
			t.Fatalf("still not known after %d crashes", try)
		}
		healthy := mustReadFor(t, h, "default", "healthy", "endless")
		bad, err := readFor(t, h, "default", "bad", "exit")
		if err == nil {
			_, err = content(bad)
			bad.Close()
		}
		if e := sdk.AsError(err); !e.Retryable {
			verdict = err
		}
		apart := slices.ContainsFunc(info(t, h, "good").Suspects, func(s Suspect) bool { return s.For == "flow default/bad" && s.Crashes > 0 })
		if apart || verdict != nil {
			firstData(t, healthy)
		}
		healthy.Close()
	}
	mustContain(t, verdict, `plugin good crashed 3 times in a process of its own for this flow at part "endless"`, "exit status 7", "the disk is on fire")
	if e := sdk.AsError(verdict); e.Part != "endless" || e.Code != sdk.Internal {
		t.Errorf("%#v", e)
	}
	if i := info(t, h, "good"); i.Quarantine != nil || i.State != StateReady {
		t.Errorf("%+v", i)
	}
	log.await(t, "a flow crashes its plugin every time")
}

// A plugin that crashes again and again is not launched any more, and says so, until it is released.
func TestQuarantineAndRelease(t *testing.T) {
	t.Parallel()
	h, log := startHost(t, quickPace, Settings{}, "good")
	s, err := h.Source("Misbehave")
	if err != nil {
		t.Fatal(err)
	}
	for crashes := 0; ; crashes++ {
		stream, err := s.Read(t.Context(), sdk.ReadOpen{Address: address("Misbehave", "exit")})
		if err == nil {
			_, err = content(stream)
			stream.Close()
		}
		if errors.Is(err, ErrQuarantined) {
			if crashes < 5 {
				t.Errorf("after %d crashes: %v", crashes, err)
			}
			mustContain(t, err, "plugin good is in quarantine since ", "after 5 crashes", `exit status 7; last stderr: "the disk is on fire"`)
			break
		}
		if crashes > 8 {
			t.Fatalf("not in quarantine after %d crashes: %v", crashes, err)
		}
	}
	record := log.await(t, "plugin is in quarantine and not launched any more")
	if record["level"] != "ERROR" || record["status"] != "exit status 7" || record["stderr"] != "the disk is on fire" {
		t.Errorf("%v", record)
	}
	awaitStatus(t, h, "good", func(st status) bool { return st.state == StateQuarantined })
	i := info(t, h, "good")
	if i.State != StateQuarantined || i.PID != 0 || i.Quarantine == nil || i.Launches != 5 || i.Quarantine.Exit.Status != "exit status 7" {
		t.Errorf("%+v", i)
	}
	if err := h.Release(t.Context(), "good"); err != nil {
		t.Fatal(err)
	}
	if b, err := content(read(t, h, "Misbehave", "hello")); err != nil || string(b) != "hello" {
		t.Errorf("%q, %v", b, err)
	}
	if err := h.Release(t.Context(), "good"); !errors.Is(err, ErrNotQuarantined) {
		t.Errorf("released twice: %v", err)
	}
	if err := h.Release(t.Context(), "bad"); !errors.Is(err, ErrUnknown) {
		t.Errorf("released: %v", err)
	}
}
