package pluginhost

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"google.golang.org/grpc"

	"github.com/towpath-dataplane/towpath/host/confine"
	"github.com/towpath-dataplane/towpath/sdk"
	"github.com/towpath-dataplane/towpath/sdk/grpcplugin"
	"github.com/towpath-dataplane/towpath/sdk/sdktest"
)

// onEachAddress runs a test with plugins at unix sockets, and with plugins behind mutual TLS.
func onEachAddress(t *testing.T, test func(t *testing.T, network string)) {
	for _, network := range []string{"unix", "tcp"} {
		t.Run(network, func(t *testing.T) { test(t, network) })
	}
}

// openDialling returns a host whose plugins are dialled, and the log of it. It is closed with the test.
func openDialling(t *testing.T, p pace, plugins map[string]Settings) (*Host, *recorder) {
	t.Helper()
	log := newRecorder()
	h, err := newHost(Options{Plugins: plugins, RuntimeDir: runtimeDir(t), HostVersion: "test", Wait: true,
		Logger: slog.New(slog.NewJSONHandler(log, nil))}, p)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { h.Close(context.Background()) })
	return h, log
}

// startDialling is openDialling and a Start, which does not fail whatever is dialled.
func startDialling(t *testing.T, p pace, plugins map[string]Settings) (*Host, *recorder) {
	t.Helper()
	h, log := openDialling(t, p, plugins)
	if err := h.Start(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
	return h, log
}

// A plugin that lives on its own serves one host after the other, and several at once, and does not end with any.
func TestDialled(t *testing.T) { onEachAddress(t, dialled) }

func dialled(t *testing.T, network string) {
	t.Parallel()
	p := newLoner(t, misbehave, "good", network)
	first, _ := startDialling(t, quickPace, p.plugin())
	second, _ := startDialling(t, quickPace, p.plugin())
	for _, h := range []*Host{first, second} {
		i := info(t, h, "good")
		if i.State != StateReady || i.Status != StatusDialled || i.Address != p.settings.Address || i.PID != 0 || i.Path != "" || len(i.Generation) != 64 {
			t.Errorf("%+v", i)
		}
		for _, item := range i.Confinement {
			if item.InForce || item.How != howUnconfined {
				t.Errorf("%+v", item)
			}
		}
	}
	greet(t, first)
	firstData(t, read(t, second, "Misbehave", "wait"))
	if err := first.Close(t.Context()); err != nil {
		t.Error(err)
	}
	third, _ := startDialling(t, quickPace, p.plugin())
	for _, h := range []*Host{second, third} {
		greet(t, h)
	}
	if n := info(t, second, "good").Flows; n == 0 {
		t.Error("the flow of one host has ended with another host")
	}
	if d, err := third.Describe(t.Context(), "good"); err != nil || d.Version != "1.2.3" {
		t.Errorf("%+v, %v", d, err)
	}
	select {
	case <-p.exited:
		t.Error("the plugin has ended")
	default:
	}
}

// greet has the plugin "good" read something.
func greet(t *testing.T, h *Host) {
	t.Helper()
	stream := read(t, h, "Misbehave", "hello")
	defer stream.Close()
	if b, err := content(stream); string(b) != "hello" || err != nil {
		t.Errorf("%q, %v", b, err)
	}
}

// Whoever asks only what a plugin is leaves it as it was.
func TestDialledIsDescribed(t *testing.T) {
	t.Parallel()
	p := newLoner(t, misbehave, "good", "unix")
	h, _ := openDialling(t, quickPace, p.plugin())
	for range 2 {
		if d, err := h.Describe(t.Context(), "good"); err != nil || d.Name != "good" {
			t.Errorf("%+v, %v", d, err)
		}
		if all, err := h.Descriptions(t.Context()); err != nil || len(all) != 1 {
			t.Errorf("%+v, %v", all, err)
		}
	}
	p.stop()
	if _, err := h.Describe(t.Context(), "good"); err == nil {
		t.Error("a plugin that is gone was described")
	}
	if all, err := h.Descriptions(t.Context()); err != nil || len(all) != 0 {
		t.Errorf("%+v, %v", all, err)
	}
	c, err := h.Inspect("good")
	if err != nil || c.Status != StatusDialled {
		t.Errorf("%+v, %v", c, err)
	}
}

// The suites that every plugin passes, over a connection that the host has not made the plugin for.
func TestDialledFileSource(t *testing.T) { onEachAddress(t, dialledFileSource) }

func dialledFileSource(t *testing.T, network string) {
	root := t.TempDir()
	contents := []sdktest.Content{{Name: "a.csv", Bytes: sdktest.Pattern(1, 3<<20+5)}, {Name: "empty", Bytes: []byte{}}}
	for _, c := range contents {
		if err := os.WriteFile(filepath.Join(root, c.Name), c.Bytes, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	sdktest.TestSource(t, sdktest.SourceCase{
		New: func(t *testing.T) sdk.DataSource {
			s, err := dialFile(t, network, root).Source("File")
			if err != nil {
				t.Fatal(err)
			}
			return s
		},
		Address: sdk.DataAddress{Type: "File", Properties: map[string]string{"path": "."}}, Parts: contents,
		Bad: []sdktest.BadAddress{{Name: "not there", Code: sdk.NotFound,
			Address: sdk.DataAddress{Type: "File", Properties: map[string]string{"path": "nowhere"}}}},
	})
}

func TestDialledFileSink(t *testing.T) { onEachAddress(t, dialledFileSink) }

func dialledFileSink(t *testing.T, network string) {
	sdktest.TestSink(t, sdktest.SinkCase{Resumable: true, New: func(t *testing.T) sdktest.Store {
		root := t.TempDir()
		sink, err := dialFile(t, network, root).Sink("File")
		if err != nil {
			t.Fatal(err)
		}
		return sdktest.Store{
			Sink: sink, Address: sdk.DataAddress{Type: "File"},
			Names:   func() ([]string, error) { return files(root, false) },
			Begun:   func() ([]string, error) { return files(root, true) },
			Content: func(name string) ([]byte, error) { return os.ReadFile(filepath.Join(root, name)) },
		}
	}})
}

// dialFile returns a host that has dialled the plugin file.
func dialFile(t *testing.T, network, root string) *Host {
	t.Helper()
	dir, err := shipped()
	if err != nil {
		t.Fatal(err)
	}
	p := newLoner(t, filepath.Join(dir, filePrefix+"file"), "file", network)
	h, _ := openDialling(t, defaultPace, p.plugin())
	if err := h.Start(t.Context(), fileConfig(root)); err != nil {
		t.Fatal(err)
	}
	if i := info(t, h, "file"); i.State != StateReady {
		t.Fatalf("%+v", i)
	}
	return h
}

// A host waits for a plugin that is not there yet, tells when it comes, and finds it again each time that it was away.
func TestDialledComesAndGoes(t *testing.T) { onEachAddress(t, dialledComesAndGoes) }

func dialledComesAndGoes(t *testing.T, network string) {
	t.Parallel()
	p := newLoner(t, misbehave, "good", network)
	p.stop()
	changed := make(chan struct{}, 1)
	h, log := openDialling(t, quickPace, p.plugin())
	h.options.Changed = func() {
		select {
		case changed <- struct{}{}:
		default:
		}
	}
	if err := h.Start(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
	<-changed // it is one of the host's plugins
	log.await(t, "plugin will be dialled again")
	if i := info(t, h, "good"); i.Problem == "" || i.State == StateReady || i.State == StateFailed {
		t.Errorf("before it was there: %+v", i)
	}
	source, err := h.Source("Misbehave") // it may come
	if err != nil {
		t.Fatal(err)
	}
	p.start()
	<-changed
	awaitStatus(t, h, "good", func(st status) bool { return st.state == StateReady })
	for range 2 {
		stream := read(t, h, "Misbehave", "endless")
		firstData(t, stream)
		p.kill()
		_, err := content(stream)
		if e := sdk.AsError(err); e.Code != sdk.Unavailable || !e.Retryable || !strings.Contains(e.Error(), "the connection was lost") {
			t.Errorf("what its end cut: %v", err)
		}
		p.start()
		again, err := source.Read(t.Context(), sdk.ReadOpen{Address: address("Misbehave", "hello")}) // waits until it is there
		if err != nil {
			t.Fatal(err)
		}
		if b, err := content(again); string(b) != "hello" || err != nil {
			t.Errorf("%q, %v", b, err)
		}
		again.Close()
	}
	if i := info(t, h, "good"); i.Restarts == 0 || i.LastExit != nil {
		t.Errorf("%+v", i)
	}
}

// A plugin that freezes is hung up on, and dialled until it answers again.
func TestDialledFreezes(t *testing.T) {
	t.Parallel()
	p := newLoner(t, misbehave, "good", "unix")
	h, log := startDialling(t, watchfulPace, p.plugin())
	p.signal(syscall.SIGSTOP)
	mustContain(t, errors.New(fmt.Sprint(log.await(t, "plugin will be dialled again"))), "the host hung up", "health checks")
	p.signal(syscall.SIGCONT)
	awaitStatus(t, h, "good", func(st status) bool { return st.state == StateReady && st.launches == 2 })
}

// A host that stops waits for its flows, within bounds, and hangs up; the plugin lives on.
func TestDialledIsLeft(t *testing.T) {
	t.Parallel()
	p := newLoner(t, misbehave, "good", "unix")
	plugins := p.plugin()
	s := plugins["good"]
	s.DrainTimeout = 50 * time.Millisecond
	plugins["good"] = s
	h, _ := startDialling(t, quickPace, plugins)
	stream := read(t, h, "Misbehave", "wait")
	firstData(t, stream)
	mustContain(t, h.Close(t.Context()), "drain plugin good: 1 flows still ran after 50ms")
	if _, err := content(stream); err == nil {
		t.Error("a flow went on when the host had hung up")
	}
	stream.Close()
	other, _ := startDialling(t, quickPace, p.plugin())
	rests := read(t, other, "Misbehave", "hello")
	closed := make(chan error, 1)
	go func() { closed <- other.Close(context.Background()) }()
	if b, err := content(rests); string(b) != "hello" || err != nil {
		t.Errorf("%q, %v", b, err)
	}
	rests.Close()
	if err := <-closed; err != nil {
		t.Error(err)
	}
}

// What cannot be trusted, or understood, is not used, and the operator is told why.
func TestDialledIsRefused(t *testing.T) {
	certificates := newCertificates(t)
	unix := func(serve func(l net.Listener), mode os.FileMode) func(t *testing.T) Settings {
		return func(t *testing.T) Settings {
			path := filepath.Join(runtimeDir(t), "s")
			listenOn(t, "unix", path, serve)
			if err := os.Chmod(path, mode); err != nil {
				t.Fatal(err)
			}
			return Settings{Address: "unix://" + path}
		}
	}
	tcp := func(theirs, ours, ca string) func(t *testing.T) Settings {
		return func(t *testing.T) Settings {
			p := certificates.loner(t, misbehave, "good", "tcp", theirs)
			s := p.settings
			s.TLS = &DialTLS{Certificate: certificates.file(ours + ".pem"), Key: certificates.file(ours + ".key"), CA: certificates.file(ca + ".pem")}
			return s
		}
	}
	for name, c := range map[string]struct {
		settings func(t *testing.T) Settings
		says     string
	}{
		"nobody":                   {func(t *testing.T) Settings { return Settings{Address: "unix://" + runtimeDir(t) + "/s"} }, "no such file"},
		"written by others":        {unix(accept, 0o666), "can be written by everyone (mode 0666)"},
		"written by its group":     {unix(accept, 0o660), "can be written by its group (mode 0660)"},
		"hangs":                    {unix(accept, 0o600), "it was not ready within its start timeout of 1s"},
		"hangs up":                 {unix(hangUp, 0o600), "the connection was lost: "},
		"speaks something else":    {unix(chatter, 0o600), "describe: "},
		"speaks other services":    {unix(serve(nil), 0o600), "it does not speak towpath.plugin.v1"},
		"another plugin":           {unix(serve(&sdk.Plugin{Name: "other"}), 0o600), `it calls itself "other", not "good"`},
		"plugin of another CA":     {tcp("stranger", "host", "ca"), "certificate signed by unknown authority"},
		"expired plugin":           {tcp("expired", "host", "ca"), "certificate has expired"},
		"plugin with another name": {tcp("elsewhere", "host", "ca"), "not 127.0.0.1"},
		"host of another CA":       {tcp("plugin", "stranger", "ca"), "remote error: tls: "},
		"expired host":             {tcp("plugin", "expired", "ca"), "remote error: tls: expired certificate"},
		"hangs in the TLS handshake": {func(t *testing.T) Settings {
			return certificates.settings("tcp://" + listenOn(t, "tcp", "127.0.0.1:0", accept))
		}, "it was not ready within its start timeout of 1s"},
		"no TLS": {func(t *testing.T) Settings {
			return certificates.settings("tcp://" + listenOn(t, "tcp", "127.0.0.1:0", serve(&sdk.Plugin{Name: "good"})))
		}, "mutual TLS with 127.0.0.1:"},
		"certificate that is gone": {func(t *testing.T) Settings {
			s := certificates.settings("tcp://127.0.0.1:9")
			s.TLS.Certificate = "/no/such.pem"
			return s
		}, "certificate of the host: open /no/such.pem"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := c.settings(t)
			s.StartTimeout = time.Second
			if !strings.Contains(c.says, "timeout") {
				s.StartTimeout = time.Minute
			}
			h, _ := startDialling(t, quickPace, map[string]Settings{"good": s})
			st := awaitStatus(t, h, "good", func(st status) bool { return st.state == StateBackoff })
			mustContain(t, st.problem, c.says)
			_, err := h.Describe(t.Context(), "good")
			mustContain(t, err, c.says)
			if _, err := h.Descriptions(t.Context()); err != nil {
				t.Errorf("a host that waits has the error %v", err)
			}
			if err := h.CheckSource(t.Context(), address("Misbehave", "hello")); err == nil {
				t.Error("its source is offered")
			}
		})
	}
}

// A plugin that comes back as another version offers what that does.
func TestDialledOffersSomethingElse(t *testing.T) {
	t.Parallel()
	path := filepath.Join(runtimeDir(t), "s")
	version := func(types ...string) *sdk.Plugin {
		p := &sdk.Plugin{Name: "good", Version: fmt.Sprint(len(types))}
		for _, typ := range types {
			p.Sinks = append(p.Sinks, sdk.SinkType{AddressType: sdk.AddressType{Type: typ}})
		}
		return p
	}
	stop := startOn(t, "unix", path, serve(version("A", "B")))
	h, log := openDialling(t, quickPace, map[string]Settings{"good": {Address: "unix://" + path}})
	h.options.Configure = func(d sdk.Description) ([]byte, error) {
		if d.Version == "1" {
			return nil, errors.New("it wants a licence now")
		}
		return []byte("{}"), nil
	}
	if err := h.Start(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
	before := info(t, h, "good")
	if before.State != StateReady {
		t.Fatalf("%+v", before)
	}
	stop()
	stop = startOn(t, "unix", path, serve(version("B", "C", "D")))
	awaitStatus(t, h, "good", func(st status) bool { return st.state == StateReady && st.launches == 2 })
	log.await(t, "plugin offers something else than before")
	if after := info(t, h, "good"); after.Generation == before.Generation || !slices.Equal(after.Sinks, []string{"B", "C", "D"}) {
		t.Errorf("before %+v, after %+v", before, after)
	}
	_, err := h.find(offering{asSink, "A"})
	mustContain(t, err, "does not offer it any more")
	stop()
	startOn(t, "unix", path, serve(version("B")))
	st := awaitStatus(t, h, "good", func(st status) bool {
		return st.state == StateBackoff && strings.Contains(st.problem.Error(), "licence")
	})
	mustContain(t, st.problem, "plugin good: configure: it wants a licence now")
}

// A file that has the name of a plugin which is dialled is another one's, and keeps nobody from anything.
func TestFileWithTheNameOfADialledPlugin(t *testing.T) {
	t.Parallel()
	p := newLoner(t, misbehave, "good", "unix")
	h, err := newHost(Options{Plugins: p.plugin(), Directory: directory(t, "good"), Trust: TrustOff, RuntimeDir: runtimeDir(t)}, quickPace)
	if err != nil {
		t.Fatal(err)
	}
	defer h.Close(context.Background())
	if all, err := h.Descriptions(t.Context()); err != nil || len(all) != 1 {
		t.Errorf("%+v, %v", all, err)
	}
	if err := h.Start(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
	if err := h.Rescan(t.Context()); err != nil {
		t.Error(err)
	}
	greet(t, h)
	all, err := h.Discover()
	if err != nil || len(all) != 2 || all[0].Status != StatusDialled || all[1].Status != StatusUntrusted {
		t.Fatalf("%+v, %v", all, err)
	}
	mustContain(t, errors.New(all[1].Reason), `plugin "good" is dialled at unix://`)
}

func TestDialledSettings(t *testing.T) {
	tls := &DialTLS{Certificate: "c", Key: "k", CA: "a"}
	for says, s := range map[string]Settings{
		"neither with unix:// nor with tcp://": {Address: "udp://a:1"},
		"needs mutual TLS":                     {Address: "tcp://127.0.0.1:1", TLS: &DialTLS{Certificate: "c", Key: "k"}},
		"says nowhere to dial":                 {Address: "tcp://:1", TLS: tls},
		"needs no TLS":                         {Address: "unix:///s", TLS: tls},
		"neither a file nor an environment":    {Address: "unix:///s", Binary: "x"},
		"is not launched":                      {Address: "unix:///s", Start: StartAlways},
		"cannot be kept to anything":           {Address: "unix:///s", Allowed: confine.Allowed{Read: []string{"/srv"}}},
		"TLS is for a plugin that is dialled":  {TLS: tls},
	} {
		_, err := New(Options{Plugins: map[string]Settings{"a": s}, RuntimeDir: runtimeDir(t)})
		mustContain(t, err, says)
	}
	if err := (Settings{Address: "tcp://a:1", TLS: tls, StartTimeout: 1, DrainTimeout: 1, ServerSideCopy: true}).check(); err != nil {
		t.Error(err)
	}
}

// Only the host's user and root may listen.
func TestReachSocketOfAnother(t *testing.T) {
	path := filepath.Join(runtimeDir(t), "s")
	listenOn(t, "unix", path, accept)
	if err := os.Chmod(path, 0o600); err != nil {
		t.Fatal(err)
	}
	conn, err := reachSocket(t.Context(), path, os.Getuid())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	if by, err := listenerOf(conn.(*net.UnixConn), info); by != os.Getuid() || err != nil {
		t.Errorf("user %d, %v", by, err)
	}
	if os.Getuid() != 0 { // root may listen for anyone
		_, err := reachSocket(t.Context(), path, os.Getuid()+1)
		mustContain(t, err, "belongs to user")
	}
}

func serve(p *sdk.Plugin) func(l net.Listener) {
	return func(l net.Listener) {
		s := grpcplugin.NewServer(nil)
		if p != nil {
			grpcplugin.Register(s, *p)
		}
		go func(s *grpc.Server) { s.Serve(l) }(s)
	}
}
