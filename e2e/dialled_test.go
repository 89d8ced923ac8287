//go:build linux

package e2e_test

import (
	"encoding/json"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// loner is a plugin that somebody else has started, and that hosts dial.
type loner struct {
	t       testing.TB
	path    string // of the program
	address string
	more    []string // arguments
	process *process
}

// newLoner starts a plugin of a folder. At tcp:// it shows what is in the folder tls.
func newLoner(t testing.TB, folder, name, address, tls string) *loner {
	t.Helper()
	l := &loner{t: t, path: filepath.Join(folder, "towpath-plugin-"+name), address: address}
	if strings.HasPrefix(address, "tcp://") {
		l.more = []string{"-certificate", tls + "/server.pem", "-key", tls + "/server.key", "-client-ca", tls + "/ca.pem"}
	}
	l.start()
	return l
}

// start starts the plugin, again if it was there before.
func (l *loner) start() {
	l.t.Helper()
	l.process = startProcess(l.t, nil, l.path, append([]string{"-listen", l.address}, l.more...)...)
	eventually(l.t, "the plugin listens", func() bool {
		if l.process.hasExited() {
			l.t.Fatalf("the plugin has ended: %s", l.process.stderr.String())
		}
		return strings.Contains(l.process.stderr.String(), "plugin listens")
	})
}

// socketFolder returns a folder with a path that is short enough for sockets.
func socketFolder(t testing.TB) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "tp")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

// dials has a host dial its plugin "file".
func (h *host) dials(address, tls string) {
	h.t.Helper()
	block := "plugin \"file\" {\n  address = \"" + address + "\"\n"
	if tls != "" {
		block += "  tls {\n    certificate = \"" + tls + "/client.pem\"\n    key = \"" + tls + "/client.key\"\n    ca = \"" + tls + "/ca.pem\"\n  }\n"
	}
	before, rest, _ := strings.Cut(configuration, "plugin \"file\" {\n")
	_, after, found := strings.Cut(rest, "\n  config {") // what stands before it is for plugins that are launched
	if !found {
		h.t.Fatal("the configuration has another block of the plugin")
	}
	writeFile(h.t, h.config+"/common.hcl", before+block+"\n  config {"+after)
}

// A push whose files are read and written by plugins that live on their own, one at a socket and one behind mutual TLS. Plugins and hosts are
// killed while it runs, and come back; it ends with what was sent.
func TestDialledPluginsComeAndGo(t *testing.T) {
	t.Parallel()
	const size, rate = 24 * mib, 8 * mib
	tls := t.TempDir()
	newAuthority(t).write(t, tls)
	d := &dataspace{t: t, provider: newHost(t, "provider", ""), consumer: newHost(t, "consumer", "")}
	writeRandom(t, filepath.Join(d.provider.outbox(), "large.bin"), rand.NewChaCha8([32]byte{9}), size)
	d.files = readTree(t, d.provider.outbox())
	reads := newLoner(t, binaries.plugins, "file", "tcp://"+freeAddress(t), tls)
	writes := newLoner(t, binaries.plugins, "file", "unix://"+socketFolder(t)+"/file.sock", "")
	d.provider.dials(reads.address, tls)
	d.consumer.dials(writes.address, "")
	for _, h := range []*host{d.provider, d.consumer} {
		h.start()
		if p := h.plugin("file"); p.PID != 0 || p.State != "ready" {
			t.Errorf("the plugin of the %s: %+v", h.name, p)
		}
	}
	guard(t, d.consumer.inbox(), d.files)
	d.consumer.network.rate.Store(rate)
	f := d.startPush("push")
	via, struck := d.consumer.network, int64(0)
	for _, strike := range []func(){
		func() { reads.process.kill(); reads.start() },
		func() { writes.process.kill(); writes.start() },
		func() { d.provider.kill(); d.provider.start() },
		func() { d.consumer.kill(); d.consumer.start() },
	} {
		via.awaitPassed(t, 3*mib)
		struck += min(via.passed.Load(), size)
		strike()
	}
	d.finishPush(f)
	d.expectOnePart(f.consumer, size)
	d.expectSameDigest(f)
	if again := via.passed.Load() - size; again >= struck {
		t.Errorf("%d bytes were sent again, and %d had come", again, struck)
	}
	for _, l := range []*loner{reads, writes} {
		if l.process.hasExited() {
			t.Errorf("a plugin has ended with a host: %s", l.process.stderr.String())
		}
	}
	d.provider.stop()
	d.consumer.stop()
	for _, l := range []*loner{reads, writes} {
		l.process.signal(syscall.SIGTERM)
		if code := l.process.exitCode(t); code != 0 {
			t.Errorf("a plugin ended with code %d after a SIGTERM: %s", code, l.process.stderr.String())
		}
	}
}

// An operator sees where a plugin is, that it is away, why, and that nothing keeps it from anything; a host that is started without it waits.
func TestDialledPluginIsShown(t *testing.T) {
	t.Parallel()
	socket := filepath.Join(socketFolder(t), "file.sock")
	h := newHost(t, "provider", "")
	h.dials("unix://"+socket, "")
	receiver := newReceiver(t)
	makeTree(t, h.outbox(), 3, mib)
	local := func(wantCode int, args ...string) string {
		t.Helper()
		code, stdout, stderr := towpath(t, h.env, append(args, "-config", h.config)...)
		if code != wantCode {
			t.Fatalf("towpath %s: exit code %d, not %d\n%s%s", strings.Join(args, " "), code, wantCode, stdout, stderr)
		}
		return stdout + stderr
	}
	contains := func(text string, parts ...string) {
		t.Helper()
		for _, part := range parts {
			if !strings.Contains(text, part) {
				t.Errorf("%q is not in:\n%s", part, text)
			}
		}
	}
	contains(local(3, "validate"), `The plugin "file" was not reached at unix://`+socket)
	h.launch()
	eventually(t, "the host says what it lacks", func() bool {
		code, text, err := fetch(h.admin+"/readyz", "")
		return err == nil && code == http.StatusServiceUnavailable && strings.Contains(text, "plugin file is not ready: plugin file: dial: ")
	})
	l := newLoner(t, binaries.plugins, "file", "unix://"+socket, "")
	h.awaitReady()
	var shown struct {
		Name, Path, Address, Status, State, Generation string
		PID                                            int
	}
	h.ask("/api/v1/plugins/file", &shown)
	if shown.Address != "unix://"+socket || shown.Path != "" || shown.Status != "dialled" || shown.State != "ready" || len(shown.Generation) != 64 {
		content, _ := json.Marshal(shown)
		t.Errorf("the admin API shows %s", content)
	}
	contains(local(0, "plugins", "list"), "dialled", "unix://"+socket)
	contains(local(0, "plugins", "describe", "file"), "address unix://"+socket, "not confined: the host does not launch it", "Folder")
	contains(local(0, "validate"), "is valid")
	contains(h.operate(0, "plugins", "rescan"), "unix://"+socket)
	h.pushTo("flow", "http-push", newAddress(receiver.url+"/flow"))
	h.controlPlane.expect(t, "flow", "completed")

	l.process.signal(syscall.SIGTERM)
	l.process.exitCode(t)
	eventually(t, "the host misses it", func() bool { return h.plugin("file").State == "backoff" })
	contains(local(3, "validate"), "was not reached")
	if out := local(0, "plugins", "list"); !strings.Contains(out, "no such file") {
		t.Errorf("the list says why it is away: %s", out)
	}
	h.stop()
}
