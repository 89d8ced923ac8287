package pluginhost

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/towpath-dataplane/towpath/host/confine"
	"github.com/towpath-dataplane/towpath/sdk"
)

// misbehave is the built program of e2e/misbehave.
var misbehave string

func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == confine.Argument {
		confine.Run(os.Args[2:])
	}
	if dir := os.Getenv(childHostEnv); dir != "" {
		childHost(dir)
	}
	os.Exit(runTests(m))
}

func runTests(m *testing.M) int {
	dir, err := os.MkdirTemp("", "misbehave")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(dir)
	misbehave = filepath.Join(dir, "misbehave")
	build := exec.Command("go", "build", "-ldflags=-s -w", "-o", misbehave, "github.com/towpath-dataplane/towpath/e2e/misbehave")
	if out, err := build.CombinedOutput(); err != nil {
		fmt.Fprintf(os.Stderr, "build misbehave: %v\n%s", err, out)
		return 1
	}
	code := m.Run()
	if err := goleak.Find(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return code
}

// childHostEnv makes the test binary a host with one plugin: its value is "plugin directory,runtime directory".
const childHostEnv = "PLUGINHOST_TEST_CHILD"

// childHost starts a host, prints the process id of its plugin and the host's folder, and waits to be killed.
func childHost(dirs string) {
	directory, runtime, _ := strings.Cut(dirs, ",")
	h, err := New(Options{Directory: directory, Trust: TrustOff, RuntimeDir: runtime})
	if err == nil {
		err = h.Start(context.Background(), nil)
	}
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	fmt.Println(h.Plugins()[0].PID, h.launcher.dir.path)
	select {}
}

// directory returns a plugin directory with misbehaving plugins of these names.
func directory(t testing.TB, names ...string) string {
	t.Helper()
	dir := t.TempDir()
	for _, name := range names {
		if err := os.Link(misbehave, filepath.Join(dir, filePrefix+name)); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// runtimeDir returns a folder with a path that is short enough for sockets.
func runtimeDir(t testing.TB) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "tp")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { removeAll(dir) })
	return dir
}

// quickPace is for tests that wait for a restart.
var quickPace = func() pace {
	p := defaultPace
	p.firstBackoff, p.maxBackoff, p.patience = 10*time.Millisecond, 40*time.Millisecond, 30*time.Second
	return p
}()

// watchfulPace is for tests that wait for a frozen process to be noticed.
var watchfulPace = func() pace {
	p := quickPace
	p.healthInterval, p.healthTimeout, p.healthMisses = 50*time.Millisecond, time.Second, 2
	return p
}()

// openHost returns a host on a directory with the named plugins, each with the settings, and the log of it. It is closed with the
// test, and has to have left nothing then.
func openHost(t *testing.T, p pace, s Settings, names ...string) (*Host, *recorder) {
	t.Helper()
	plugins := map[string]Settings{}
	for _, name := range names {
		plugins[name] = s
	}
	log := newRecorder()
	o := Options{Directory: directory(t, names...), Trust: TrustOff, Plugins: plugins, RuntimeDir: runtimeDir(t), HostVersion: "test",
		Logger: slog.New(slog.NewJSONHandler(log, nil))}
	h, err := newHost(o, p)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		h.Close(t.Context())
		if _, err := os.Stat(h.launcher.dir.path); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("the host left its folder: %v", err)
		}
	})
	return h, log
}

// startHost is openHost followed by a Start that has to succeed.
func startHost(t *testing.T, p pace, s Settings, names ...string) (*Host, *recorder) {
	t.Helper()
	h, log := openHost(t, p, s, names...)
	if err := h.Start(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
	return h, log
}

// read opens a stream on the source of a type.
func read(t *testing.T, h *Host, typ, do string) sdk.ReadStream {
	t.Helper()
	s, err := h.Source(typ)
	if err != nil {
		t.Fatal(err)
	}
	stream, err := s.Read(t.Context(), sdk.ReadOpen{Address: address(typ, do)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { stream.Close() })
	return stream
}

func address(typ, do string) sdk.DataAddress {
	return sdk.DataAddress{Type: typ, Properties: map[string]string{"do": do}}
}

// content reads the stream to its end.
func content(stream sdk.ReadStream) ([]byte, error) {
	var b bytes.Buffer
	for {
		f, err := stream.Recv()
		if err == io.EOF {
			return b.Bytes(), nil
		}
		if err != nil {
			return b.Bytes(), err
		}
		if d, ok := f.(*sdk.Data); ok {
			d.WriteTo(&b)
		}
		sdk.Release(f)
	}
}

// firstData reads the stream until data came.
func firstData(t *testing.T, stream sdk.ReadStream) {
	t.Helper()
	for {
		f, err := stream.Recv()
		if err != nil {
			t.Fatal(err)
		}
		_, ok := f.(*sdk.Data)
		sdk.Release(f)
		if ok {
			return
		}
	}
}

// info returns what the host says about a plugin.
func info(t *testing.T, h *Host, name string) Info {
	t.Helper()
	for _, i := range h.Plugins() {
		if i.Name == name {
			return i
		}
	}
	t.Fatalf("no plugin %s among %v", name, h.Plugins())
	return Info{}
}

// awaitState waits until a plugin's status has a property.
func awaitStatus(t *testing.T, h *Host, name string, has func(st status) bool) status {
	t.Helper()
	h.mu.Lock()
	s := h.plugins[name]
	h.mu.Unlock()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	for {
		s.mu.Lock()
		st, changed := s.status, s.changed
		s.mu.Unlock()
		if has(st) {
			return st
		}
		select {
		case <-changed:
		case <-ctx.Done():
			t.Fatalf("plugin %s is still %s: %v", name, st.state, st.problem)
		}
	}
}

// mustContain checks an error's text.
func mustContain(t *testing.T, err error, parts ...string) {
	t.Helper()
	if err == nil {
		t.Fatal("no error")
	}
	for _, p := range parts {
		if !strings.Contains(err.Error(), p) {
			t.Errorf("error %q does not say %q", err, p)
		}
	}
}

// recorder keeps the records of a JSON log.
type recorder struct {
	mu      sync.Mutex
	records []map[string]any
	changed chan struct{}
}

func newRecorder() *recorder { return &recorder{changed: make(chan struct{})} }

func (r *recorder) Write(p []byte) (int, error) {
	var record map[string]any
	if err := json.Unmarshal(p, &record); err != nil {
		panic(err)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.records = append(r.records, record)
	close(r.changed)
	r.changed = make(chan struct{})
	return len(p), nil
}

// await returns the first record with this message.
func (r *recorder) await(t *testing.T, message string) map[string]any {
	t.Helper()
	timeout := time.NewTimer(time.Minute)
	defer timeout.Stop()
	for {
		r.mu.Lock()
		records, changed := r.records, r.changed
		r.mu.Unlock()
		for _, record := range records {
			if record["msg"] == message {
				return record
			}
		}
		select {
		case <-changed:
		case <-timeout.C:
			t.Fatalf("no record %q among %d: %.2000v", message, len(records), records)
		}
	}
}
