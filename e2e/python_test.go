//go:build linux && python

package e2e_test

import (
	"cmp"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// pythonPlugins is where `make python` builds the plugin of e2e/python: pyfile, and pyplain, which computes no digests.
var pythonPlugins = cmp.Or(os.Getenv("TOWPATH_PYTHON_PLUGINS"), "../.towpath/python")

// newHostWith makes a host whose dataset "tree" is read and written by a plugin: "file", "pyfile" or "pyplain".
func newHostWith(t testing.TB, name, plugin string) *host {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "plugins")
	install(t, dir, "http", binaries.plugins)
	if plugin == "file" {
		install(t, dir, plugin, binaries.plugins)
		return newHost(t, name, "", "E2E_PLUGINS="+dir)
	}
	install(t, dir, plugin, pythonPlugins)
	h := newHost(t, name, "", "E2E_PLUGINS="+dir)
	writeFile(t, h.config+"/common.hcl", strings.NewReplacer(`"File"`, `"PyFile"`, `plugin "file"`, `plugin "`+plugin+`"`).Replace(configuration))
	return h
}

// newPythonDataspace is a dataspace whose sides have these plugins. fill lays the provider's files.
func newPythonDataspace(t testing.TB, provider, consumer string, fill func(folder string)) *dataspace {
	t.Helper()
	d := &dataspace{t: t, provider: newHostWith(t, "provider", provider), consumer: newHostWith(t, "consumer", consumer)}
	fill(d.provider.outbox())
	d.files = readTree(t, d.provider.outbox())
	for _, h := range []*host{d.provider, d.consumer} {
		h.launch()
	}
	for _, h := range []*host{d.provider, d.consumer} {
		h.awaitReady()
	}
	return d
}

// Files move between plugins in Go and in Python, in both directions, and both sides agree on their digests, whoever computes them.
func TestPythonMoves(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ provider, consumer string }{
		{"pyfile", "pyfile"}, {"pyfile", "file"}, {"file", "pyfile"}, {"pyplain", "file"}, {"file", "pyplain"},
	} {
		for _, direction := range []string{"push", "pull"} {
			t.Run(fmt.Sprintf("%s from %s to %s", direction, c.provider, c.consumer), func(t *testing.T) {
				t.Parallel()
				d := newPythonDataspace(t, c.provider, c.consumer, func(folder string) { makeTree(t, folder, 1, 4*mib) })
				finish := guard(t, d.consumer.inbox(), d.files)
				f, _ := d.start(direction)
				d.finish(direction, f)
				finish()
				if direction == "push" {
					d.expectParts(d.provider, f.provider)
					d.expectSameDigest(f)
				}
			})
		}
	}
}

// One large file moves, and a plugin or its host is killed in the middle of it, twice. It goes on where it was: not all that had come is sent
// again.
func TestPythonIsKilledInMidPart(t *testing.T) {
	t.Parallel()
	const size, rate = 24 * mib, 8 * mib
	for i, c := range []struct{ provider, consumer, direction, victim string }{
		{"pyfile", "file", "push", "provider"},
		{"pyfile", "pyfile", "pull", "provider"},
		{"file", "pyfile", "push", "consumer"},
		{"pyfile", "pyfile", "pull", "consumer"},
		{"pyplain", "pyplain", "push", "consumer"},
		{"pyplain", "pyplain", "pull", "provider"},
		{"pyfile", "pyfile", "push", "hosts"},
	} {
		t.Run(fmt.Sprintf("%s from %s to %s, kill %s", c.direction, c.provider, c.consumer, c.victim), func(t *testing.T) {
			t.Parallel()
			random := rand.NewChaCha8([32]byte{byte(i), 8})
			d := newPythonDataspace(t, c.provider, c.consumer, func(folder string) {
				writeRandom(t, filepath.Join(folder, "large.bin"), random, size)
			})
			guard(t, d.consumer.inbox(), d.files)
			d.provider.network.rate.Store(rate)
			d.consumer.network.rate.Store(rate)
			f, via := d.start(c.direction)
			struck := int64(0)
			for range 2 {
				via.awaitPassed(t, 6*mib)
				struck += min(via.passed.Load(), size)
				switch c.victim {
				case "provider":
					sendSignal(t, d.provider.plugin(c.provider).PID, syscall.SIGKILL)
				case "consumer":
					sendSignal(t, d.consumer.plugin(c.consumer).PID, syscall.SIGKILL)
				default:
					d.provider.kill()
					d.consumer.kill()
					d.provider.start()
					d.consumer.start()
				}
			}
			d.finish(c.direction, f)
			d.expectOnePart(f.consumer, size)
			if c.direction == "push" {
				d.expectSameDigest(f)
			}
			if again := via.passed.Load() - size; again >= struck {
				t.Errorf("%d bytes were sent again, and %d had come", again, struck)
			}
		})
	}
}

// A push from Python to Python is suspended in mid-transfer and stands still, is resumed and finishes.
func TestPythonSuspendsAndResumes(t *testing.T) {
	t.Parallel()
	d := newPythonDataspace(t, "pyfile", "pyfile", func(folder string) { makeTree(t, folder, 3, 16*mib) })
	guard(t, d.consumer.inbox(), d.files)
	d.consumer.network.rate.Store(8 * mib)
	f := d.startPush("push")
	d.consumer.network.awaitPassed(t, 4*mib)
	d.expectAnswer(d.provider.signal(f.provider+"/suspend", nil), "SUSPENDED", false)
	d.expectAnswer(d.consumer.signal(f.consumer+"/suspend", nil), "SUSPENDED", false)
	d.expectStill()
	resumed := d.consumer.signal(f.consumer+"/resume", nil)
	d.expectAnswer(d.provider.signal(f.provider+"/resume", message{"messageId": newID(), "dataAddress": resumed.DataAddress}), "STARTED", false)
	d.finishPush(f)
	d.expectSameDigest(f)
}

// The plugin lives on its own, at a socket and behind mutual TLS, and hosts dial it. One and a host are killed while a file moves.
func TestPythonIsDialled(t *testing.T) {
	t.Parallel()
	const size = 16 * mib
	tls := t.TempDir()
	newAuthority(t).write(t, tls)
	plugins := "E2E_PLUGINS=" + pluginFolder(t, "http")
	d := &dataspace{t: t, provider: newHost(t, "provider", "", plugins), consumer: newHost(t, "consumer", "", plugins)}
	writeRandom(t, filepath.Join(d.provider.outbox(), "large.bin"), rand.NewChaCha8([32]byte{10}), size)
	d.files = readTree(t, d.provider.outbox())
	reads := newLoner(t, pythonPlugins, "pyfile", "tcp://"+freeAddress(t), tls)
	writes := newLoner(t, pythonPlugins, "pyfile", "unix://"+socketFolder(t)+"/s", "")
	d.provider.dials(reads.address, tls)
	d.consumer.dials(writes.address, "")
	for _, h := range []*host{d.provider, d.consumer} {
		config, err := os.ReadFile(h.config + "/common.hcl")
		if err != nil {
			t.Fatal(err)
		}
		writeFile(t, h.config+"/common.hcl", strings.NewReplacer(`"File"`, `"PyFile"`, `plugin "file"`, `plugin "pyfile"`).Replace(string(config)))
		h.start()
	}
	guard(t, d.consumer.inbox(), d.files)
	d.consumer.network.rate.Store(8 * mib)
	f := d.startPush("push")
	d.consumer.network.awaitPassed(t, 3*mib)
	writes.process.kill()
	writes.start()
	d.consumer.network.awaitPassed(t, 3*mib)
	d.provider.kill()
	d.provider.start()
	d.finishPush(f)
	d.expectSameDigest(f)
	d.provider.stop()
	reads.process.signal(syscall.SIGTERM)
	if code := reads.process.exitCode(t); code != 0 {
		t.Errorf("the plugin ended with code %d after a SIGTERM: %s", code, reads.process.stderr.String())
	}
}

// A service manager's stop ends the plugin too, in good order, and leaves nothing.
func TestPythonStops(t *testing.T) {
	t.Parallel()
	h := newHostWith(t, "provider", "pyfile")
	h.start()
	plugin := h.plugin("pyfile").PID
	sendSignal(t, plugin, syscall.SIGTERM)
	eventually(t, "the plugin ends by itself, and another takes its place", func() bool {
		p := h.plugin("pyfile")
		return p.State == "ready" && p.PID != 0 && p.PID != plugin
	})
	h.stop()
	if strings.Contains(h.logs(), "was killed") {
		t.Errorf("the plugin had to be killed:\n%s", tail(h.logs(), 20))
	}
}

// The plugin keeps the promises of the protocol, whether it computes digests or leaves them to the host.
func TestPythonIsVerified(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"pyfile", "pyplain"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := startProcess(t, nil, binaries.towpath, "plugins", "verify", "-patience", "5m", "-spec", "python/verify.hcl",
				filepath.Join(pythonPlugins, "towpath-plugin-"+name))
			awaitExit(p)
			if code := p.exitCode(t); code != 0 || !strings.Contains(p.stdout.String(), " 0 failed") {
				t.Errorf("verify ended with code %d:\n%s\n%s", code, p.stdout.String(), p.stderr.String())
			}
		})
	}
}
