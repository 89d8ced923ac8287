package pluginhost

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/towpath-dataplane/towpath/sdk"
)

// Plugins that never become ready: the error says what happened, and nothing is left.
func TestStartTraps(t *testing.T) {
	for _, test := range []struct {
		trap  string
		final bool
		says  []string
	}{
		{"crash-at-start", false, []string{"launch", "exit status 3", "no licence found"}},
		{"panic-at-start", false, []string{"exit status 2", "panic: assignment to entry in nil map"}},
		{"not-a-plugin", false, []string{"exit status 1", "usage: backup"}},
		{"silent", false, []string{"launch", "not ready within its start timeout of 3s"}},
		{"garbage", true, []string{"prints something else than the line that says where it listens"}},
		{"old-protocol", true, []string{"speaks version 99 of the plugin protocol, this host speaks 1"}},
		{"elsewhere", true, []string{`listens on unix "/run/docker.sock"`}},
		{"deaf", false, []string{"launch", "not ready within its start timeout of 3s"}},
		{"describe-freezes", false, []string{"describe", "not ready within its start timeout of 3s"}},
		{"describe-hangs", false, []string{"describe", "not ready within its start timeout of 3s"}},
		{"describe-exits", false, []string{"describe", "exit status 4"}},
		{"other-name", true, []string{`describe`, `it calls itself "good", not "other-name"`}},
		{"refuses-config", true, []string{"configure", "root: is required"}},
	} {
		t.Run(test.trap, func(t *testing.T) {
			t.Parallel()
			h, _ := openHost(t, defaultPace, Settings{StartTimeout: 3 * time.Second}, test.trap)
			err := h.Start(t.Context(), nil)
			mustContain(t, err, test.says...)
			var e *Error
			if !errors.As(err, &e) || e.Plugin != test.trap || e.Final != test.final {
				t.Errorf("error: %#v", e)
			}
			state := StateBackoff
			if test.final {
				state = StateFailed
			}
			i := info(t, h, test.trap)
			if i.State != state || i.Problem == "" || i.PID != 0 {
				t.Errorf("state %s, problem %q, pid %d", i.State, i.Problem, i.PID)
			}
			if launches, _ := filepath.Glob(filepath.Join(h.launcher.dir.path, "[0-9]")); len(launches) > 0 {
				t.Errorf("folders left: %v", launches)
			}
		})
	}
}

// Plugins that print what they should not, and serve none the less.
func TestOutputTraps(t *testing.T) {
	for _, trap := range []string{"chatty", "stderr-traps", "stderr-flood", "breeder"} {
		t.Run(trap, func(t *testing.T) {
			h, log := startHost(t, quickPace, Settings{}, trap)
			got, err := content(read(t, h, "Misbehave-"+trap, "hello"))
			if string(got) != "hello" || err != nil {
				t.Fatalf("read %q, %v", got, err)
			}
			switch trap {
			case "stderr-traps":
				log.await(t, "end of traps")
				log.await(t, `{"@message":1}`)
				log.await(t, `{"@timestamp":5}`)
				if r := log.await(t, "m"); r["plugin_plugin"] != "forged" || r["plugin"] != trap || r["level"] != "INFO" {
					t.Errorf("record: %v", r)
				}
				if r := log.await(t, strings.Repeat("z", maxLine)); r["bytes_cut"] != float64(10<<20-maxLine) {
					t.Errorf("%v bytes cut", r["bytes_cut"])
				}
			case "chatty":
				if r := log.await(t, "Loading | modules | please | wait"); r["stream"] != "stdout" {
					t.Errorf("record: %v", r)
				}
			case "stderr-flood":
				log.await(t, "plugin prints too much, lines were dropped")
			}
			if i := info(t, h, trap); i.State != StateReady || i.Restarts != 0 {
				t.Errorf("state %s after %d restarts", i.State, i.Restarts)
			}
		})
	}
}

func TestOutputBecomesRecords(t *testing.T) {
	h, log := startHost(t, quickPace, Settings{}, "prints-nicely")
	for message, want := range map[string]map[string]any{
		"low space":             {"level": "WARN", "plugin": "prints-nicely", "module": "disk", "free": "12"},
		"[ERROR] plain trouble": {"level": "ERROR", "plugin": "prints-nicely", "stream": "stderr"},
		"plain words":           {"level": "INFO"},
	} {
		got := log.await(t, message)
		for key, value := range want {
			if got[key] != value {
				t.Errorf("%s: %s is %v, want %v", message, key, got[key], value)
			}
		}
	}
	typ := "Misbehave-prints-nicely"
	stream := read(t, h, typ, "log")
	firstData(t, stream)
	if r := log.await(t, "the disk is warm"); r["flow"] != "f1" || r["degrees"] != "71" || r["level"] != "WARN" {
		t.Errorf("record: %v", r)
	}
	stream = read(t, h, typ, "print x")
	firstData(t, stream)
	if r := log.await(t, "printed x"); r["stream"] != "stdout" {
		t.Errorf("record: %v", r)
	}
	log.await(t, "complained x")
}

// A process that ends cuts its streams with an error that says why, and is replaced.
func TestEndInMidStream(t *testing.T) {
	for _, test := range []struct {
		do   string
		says []string
	}{
		{"exit", []string{"plugin good ended", "exit status 7", "the disk is on fire"}},
		{"panic", []string{"exit status 2", "panic: index out of range"}},
		{"kill", []string{"signal: killed"}},
		{"freeze", []string{"signal: killed", "it did not answer 2 health checks"}},
	} {
		t.Run(test.do, func(t *testing.T) {
			h, log := startHost(t, watchfulPace, Settings{}, "good")
			bystander := read(t, h, "Misbehave", "wait")
			firstData(t, bystander)
			stream := read(t, h, "Misbehave", test.do)
			for _, s := range []sdk.ReadStream{stream, bystander} {
				_, err := content(s)
				mustContain(t, err, test.says...)
				var e *sdk.Error
				if !errors.As(err, &e) || e.Code != sdk.Unavailable || !e.Retryable {
					t.Errorf("error: %#v", e)
				}
				s.Close()
			}
			// The handle is good for the next process.
			got, err := content(read(t, h, "Misbehave", "hello"))
			if string(got) != "hello" || err != nil {
				t.Fatalf("read %q, %v", got, err)
			}
			i := info(t, h, "good")
			if i.State != StateReady || i.Restarts != 1 || i.LastExit == nil || i.Flows != 1 {
				t.Errorf("info: %+v", i)
			}
			log.await(t, "plugin process ended")
		})
	}
}

func TestPluginsOwnErrorsPass(t *testing.T) {
	h, _ := startHost(t, quickPace, Settings{}, "good")
	_, err := content(read(t, h, "Misbehave", "unavailable"))
	mustContain(t, err, "the tape is not mounted")
	if i := info(t, h, "good"); i.Restarts != 0 {
		t.Errorf("%d restarts", i.Restarts)
	}
}

func TestOversizedMessage(t *testing.T) {
	h, _ := startHost(t, quickPace, Settings{DrainTimeout: time.Second}, "oversized")
	for range 2 {
		_, err := content(read(t, h, "Oversized", "x"))
		mustContain(t, err, "larger than max")
	}
	awaitHealth(t, h, "oversized", "not serving: too fat to serve")
	i := info(t, h, "oversized")
	if i.State != StateReady || i.Restarts != 0 {
		t.Errorf("info: %+v", i)
	}
	mustContain(t, h.Close(t.Context()), "drain plugin oversized: 3 flows still ran")
}

// awaitHealth waits for a health check's answer by doing one.
func awaitHealth(t *testing.T, h *Host, name, want string) {
	t.Helper()
	s := h.all()[0]
	_, in := s.snapshot()
	s.check(t.Context(), in)
	if got := info(t, h, name).Health; got != want {
		t.Errorf("health %q, want %q", got, want)
	}
}

// A plugin sees little of its host.
func TestWhatAPluginSees(t *testing.T) {
	t.Setenv("TOWPATH_TEST_SECRET", "hush")
	t.Setenv("TOWPATH_TEST_PASSED", "from the host")
	t.Setenv("TZ", "Europe/Berlin")
	h, _ := startHost(t, quickPace, Settings{
		Environment:     map[string]string{"EXTRA": "1", "TZ": "UTC", "TOWPATH_PLUGIN": "forged"},
		PassEnvironment: []string{"TOWPATH_TEST_PASSED", "TOWPATH_TEST_UNSET"},
	}, "good")
	got, err := content(read(t, h, "Misbehave", "about"))
	if err != nil {
		t.Fatal(err)
	}
	var about struct {
		Environment               []string
		Stdin, Folder, Executable string
		Group, PID                int
	}
	if err := json.Unmarshal(got, &about); err != nil {
		t.Fatal(err)
	}
	i := info(t, h, "good")
	for _, want := range []string{"EXTRA=1", "TZ=UTC", "TOWPATH_TEST_PASSED=from the host", "TMPDIR=" + about.Folder, "TOWPATH_PLUGIN=dataspace"} {
		if !slices.Contains(about.Environment, want) {
			t.Errorf("no %s in %q", want, about.Environment)
		}
	}
	if strings.Contains(strings.Join(about.Environment, "\n"), "hush") {
		t.Error("the plugin sees the host's secret")
	}
	if about.Stdin != "" || about.Group != i.PID || about.PID != i.PID {
		t.Errorf("stdin %q, group %d, pid %d", about.Stdin, about.Group, about.PID)
	}
	if filepath.Base(about.Executable) != i.SHA256 || filepath.Dir(filepath.Dir(about.Folder)) != h.launcher.dir.path {
		t.Errorf("runs %s in %s", about.Executable, about.Folder)
	}
}

// Whatever it takes to end a process, it ends, with its children.
func TestClose(t *testing.T) {
	impatient := Settings{DrainTimeout: 200 * time.Millisecond, StopTimeout: time.Second}
	for _, test := range []struct {
		trap, do string
		says     string // "" for a clean end
	}{
		{"good", "hello", ""},
		{"good", "breed", ""},
		{"good", "hold", "drain plugin good: 1 flows still ran"},
		{"good", "stop", "drain plugin good"},
		{"stubborn", "hello", "plugin stubborn did not stop when asked to, and was killed"},
		{"breeder", "hello", ""},
		{"escaping-child", "hello", ""},
		{"stderr-flood", "hello", ""},
	} {
		t.Run(test.trap+" "+test.do, func(t *testing.T) {
			h, log := startHost(t, defaultPace, impatient, test.trap)
			typ := "Misbehave"
			if test.trap != "good" {
				typ += "-" + test.trap
			}
			stream := read(t, h, typ, test.do)
			child := -1
			switch test.do {
			case "breed":
				child = bred(t, log)
				stream.Close()
			case "stop":
				pid := info(t, h, "good").PID
				syscall.Kill(pid, syscall.SIGSTOP)
				if err := unix.Waitid(unix.P_PID, pid, nil, unix.WSTOPPED|unix.WNOWAIT, nil); err != nil {
					t.Fatal(err)
				}
			case "hello":
				firstData(t, stream)
				stream.Close()
			default:
				firstData(t, stream)
			}
			if test.trap == "breeder" || test.trap == "escaping-child" {
				child = bred(t, log)
			}
			plugin := openProcess(t, info(t, h, test.trap).PID)
			err := h.Close(t.Context())
			if test.says == "" && err != nil {
				t.Error(err)
			}
			if test.says != "" {
				mustContain(t, err, test.says)
			}
			plugin.mustEnd(t)
			switch {
			case test.trap == "escaping-child": // beyond what a process group can hold
				unix.PidfdSendSignal(child, unix.SIGKILL, nil, 0)
			case child >= 0:
				processFD(child).mustEnd(t)
			}
			if i := info(t, h, test.trap); i.State != StateStopped || i.LastExit == nil {
				t.Errorf("info: %+v", i)
			}
		})
	}
}

// bred returns the child that a plugin says it has.
func bred(t *testing.T, log *recorder) int {
	t.Helper()
	pid, err := strconv.Atoi(fmt.Sprint(log.await(t, "bred")["child"]))
	if err != nil {
		t.Fatal(err)
	}
	return int(openProcess(t, pid))
}

// processFD refers to a process, also after its end.
type processFD int

func openProcess(t *testing.T, pid int) processFD {
	t.Helper()
	fd, err := unix.PidfdOpen(pid, 0)
	if err != nil {
		t.Fatalf("process %d: %v", pid, err)
	}
	t.Cleanup(func() { unix.Close(fd) })
	return processFD(fd)
}

// mustEnd waits for the end of the process.
func (p processFD) mustEnd(t *testing.T) {
	t.Helper()
	for {
		n, err := unix.Poll([]unix.PollFd{{Fd: int32(p), Events: unix.POLLIN}}, 30_000)
		if n == 1 {
			return
		}
		if err != unix.EINTR {
			t.Fatalf("process does not end: %v", err)
		}
	}
}

// A deadline that has passed skips all gentle steps.
func TestCloseInAHurry(t *testing.T) {
	h, _ := startHost(t, defaultPace, Settings{DrainTimeout: time.Hour, StopTimeout: time.Hour}, "good", "stubborn")
	firstData(t, read(t, h, "Misbehave", "hold"))
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	mustContain(t, h.Close(ctx), "plugin stubborn did not stop when asked to", "plugin good")
	s, err := h.Source("Misbehave")
	if err != nil {
		t.Fatal(err)
	}
	_, err = s.Read(t.Context(), sdk.ReadOpen{Address: address("Misbehave", "hello")})
	mustContain(t, err, "plugin good is stopped")
}

// Replacing the file of a running plugin neither fails nor reaches the process.
func TestReplaceBinary(t *testing.T) {
	h, _ := startHost(t, quickPace, Settings{}, "good")
	path := info(t, h, "good").Path
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte("#!/bin/sh\nexit 9\n"), 0o700); err != nil {
		t.Fatal(err)
	}
	if _, err := content(read(t, h, "Misbehave", "kill")); err == nil {
		t.Fatal("the plugin was not killed")
	}
	awaitStatus(t, h, "good", func(st status) bool { return st.restarts == 1 && st.state == StateReady })
	got, err := content(read(t, h, "Misbehave", "hello"))
	if string(got) != "hello" || err != nil {
		t.Errorf("read %q, %v", got, err)
	}
}
