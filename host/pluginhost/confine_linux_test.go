package pluginhost

import (
	"encoding/json"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/towpath-dataplane/towpath/host/confine"
	"github.com/towpath-dataplane/towpath/sdk"
)

// reached has a plugin try to get at something, and returns what came of it.
func reached(t *testing.T, h *Host, trap, what string) string {
	t.Helper()
	typ := "Misbehave"
	if trap != "good" {
		typ += "-" + trap
	}
	b, err := content(read(t, h, typ, "reach "+what))
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// mustReach compares what came of an attempt: "" for what has to succeed.
func mustReach(t *testing.T, h *Host, trap, what, fails string) {
	t.Helper()
	got := reached(t, h, trap, what)
	if fails == "" && got != "reached" || fails != "" && !strings.Contains(got, fails) {
		t.Errorf("%s: %s, want %q", what, got, fails)
	}
}

func listener(t *testing.T, address string) string {
	t.Helper()
	l, err := net.Listen("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return l.Addr().String()
}

// A plugin is kept to what the operator allows, on either lane and with mutual TLS.
func TestConfined(t *testing.T) {
	in, out := t.TempDir(), t.TempDir()
	inside, outside := filepath.Join(in, "file"), filepath.Join(out, "file")
	for _, path := range []string{inside, outside} {
		if err := os.WriteFile(path, []byte("content"), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	allowed, refused := listener(t, "127.0.0.1:0"), listener(t, "127.0.0.2:0")
	for _, s := range []Settings{{Lane: LaneAuto, MTLS: MTLSAuto}, {Lane: LaneGRPC, MTLS: MTLSOff}, {MTLS: MTLSOn}} {
		s.Allowed = confine.Allowed{Read: []string{in}, Write: []string{}, Connect: []string{allowed},
			Limits: confine.Limits{OpenFiles: 100}}
		h, log := openHost(t, defaultPace, s, "good")
		h.launcher.laneAfter = -1
		if err := h.Start(t.Context(), nil); err != nil {
			t.Fatal(err)
		}
		stream := read(t, h, "Misbehave", "wait")
		firstData(t, stream)
		stream.Close()
		mustReach(t, h, "good", "read "+inside, "")
		mustReach(t, h, "good", "read "+outside, "permission denied")
		mustReach(t, h, "good", "read /etc/shadow", "permission denied")
		mustReach(t, h, "good", "write "+inside, "permission denied")
		mustReach(t, h, "good", "write scratch-file", "")
		mustReach(t, h, "good", "write "+filepath.Join(h.launcher.dir.path, imageDir, "x"), "permission denied")
		mustReach(t, h, "good", "dial "+allowed, "")
		mustReach(t, h, "good", "dial "+refused, "permission denied")
		if attempt := log.await(t, "plugin was kept from what it is not allowed")["attempt"]; attempt != "connect to "+refused {
			t.Errorf("attempt: %v", attempt)
		}
		mustReach(t, h, "good", "escape", "p") // not permitted, or not to be found
		mustReach(t, h, "good", "open 200", "too many open files")
		if err := h.Close(t.Context()); err != nil {
			t.Error(err)
		}
	}
}

// A child that would outlive a confined plugin cannot leave its process group, and ends with it.
func TestConfinedChildren(t *testing.T) {
	h, log := startHost(t, defaultPace, Settings{Allowed: confine.Allowed{Limits: confine.Limits{OpenFiles: 1000}}}, "good")
	mustReach(t, h, "good", "escape", "operation not permitted")
	stream := read(t, h, "Misbehave", "breed")
	firstData(t, stream)
	go func() { // it goes on when it is read
		for {
			f, err := stream.Recv()
			if err != nil {
				return
			}
			sdk.Release(f)
		}
	}()
	child := processFD(bred(t, log))
	if err := h.Close(t.Context()); err != nil && !strings.Contains(err.Error(), "flows still ran") {
		t.Error(err)
	}
	child.mustEnd(t)
}

func TestConfinedMemory(t *testing.T) {
	h, _ := startHost(t, quickPace, Settings{Allowed: confine.Allowed{Limits: confine.Limits{Memory: 128 << 20}}}, "good")
	mustReach(t, h, "good", "eat 32", "")
	if _, err := content(read(t, h, "Misbehave", "reach eat 1024")); err == nil {
		t.Fatal("it has eaten four times what it may")
	}
	st := awaitStatus(t, h, "good", func(st status) bool { return st.lastExit != nil })
	if said := st.lastExit.Stderr; len(said) == 0 || !isPanic(said[0]) {
		t.Errorf("it ended with %v: %q", st.lastExit, st.lastExit.Stderr)
	}
	mustReach(t, h, "good", "eat 1", "") // the next process
}

// A plugin that says what it needs is kept to that from the moment it has said so.
func TestDeclaredPermissions(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, []byte("content"), 0o644); err != nil {
		t.Fatal(err)
	}
	t.Setenv("GREEDY_ONE", "1")
	t.Setenv("GREEDY_TWO", "2")
	s := Settings{Allowed: confine.Allowed{Environment: []string{"GREEDY_TWO", "PATH"}}}
	h, _ := startHost(t, defaultPace, s, "modest", "greedy")
	mustReach(t, h, "modest", "read "+file, "permission denied")
	mustReach(t, h, "modest", "dial "+listener(t, "127.0.0.1:0"), "permission denied")
	mustReach(t, h, "greedy", "read "+file, "")
	b, err := content(read(t, h, "Misbehave-greedy", "about"))
	if err != nil {
		t.Fatal(err)
	}
	var about struct{ Environment []string }
	if err := json.Unmarshal(b, &about); err != nil {
		t.Fatal(err)
	}
	if slices.Contains(about.Environment, "GREEDY_ONE=1") || !slices.Contains(about.Environment, "GREEDY_TWO=2") {
		t.Errorf("environment: %q", about.Environment)
	}
	for _, i := range info(t, h, "modest").Confinement {
		if i.Name == "read" && (i.Declared != "none" || i.Confined != "none" || !i.InForce) {
			t.Errorf("read: %+v", i)
		}
	}
}

// A host that is killed takes a confined plugin with it.
func TestConfinedPluginDiesWithHost(t *testing.T) {
	testDiesWithHost(t, "modest")
}

func TestPermissionsAreChecked(t *testing.T) {
	_, err := New(Options{RuntimeDir: runtimeDir(t), Plugins: map[string]Settings{"x": {Allowed: confine.Allowed{Read: []string{"here"}}}}})
	mustContain(t, err, "plugin x", "absolute path")
}
