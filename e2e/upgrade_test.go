//go:build linux

package e2e_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

// nextFile builds the plugin "file" once more, as another version of it, and misbehave builds one that only looks like it.
var (
	nextFile  = sync.OnceValues(func() ([]byte, error) { return rebuild("../plugins/file", "-ldflags=-X main.version=0.2.0") })
	misbehave = sync.OnceValues(func() ([]byte, error) { return rebuild("./misbehave") })
)

func rebuild(pkg string, flags ...string) ([]byte, error) {
	dir, err := os.MkdirTemp("", "towpath-e2e-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	output := filepath.Join(dir, "plugin")
	if err := goBuild(output, pkg, flags...); err != nil {
		return nil, err
	}
	return os.ReadFile(output)
}

// replaceFile puts another build of the plugin "file" in the place of the one that a host has.
func (h *host) replaceFile(content []byte, err error) {
	h.t.Helper()
	h.replacePlugin("file", content, err)
}

// replacePlugin puts another build of a plugin in the place of the one that a host has, as an installer does.
func (h *host) replacePlugin(name string, content []byte, err error) {
	h.t.Helper()
	path := filepath.Join(h.pluginFolder(), "towpath-plugin-"+name)
	if err == nil {
		err = os.WriteFile(path+".new", content, 0o700)
	}
	if err == nil {
		err = os.Rename(path+".new", path)
	}
	if err != nil {
		h.t.Fatal(err)
	}
}

// pluginFolder is the plugin directory of the host.
func (h *host) pluginFolder() string {
	for i := len(h.env) - 1; i >= 0; i-- {
		if dir, ok := strings.CutPrefix(h.env[i], "E2E_PLUGINS="); ok {
			return dir
		}
	}
	return ""
}

// faultyFile is a build that looks like the plugin "file" and has a fault. See misbehave.
func faultyFile(fault string) ([]byte, error) {
	content, err := misbehave()
	return append(content[:len(content):len(content)], "\nfault: "+fault...), err
}

// handover is what the admin API shows of how a build follows another.
type handover struct {
	Version, Generation string
	Probation           *struct {
		Since           time.Time
		SHA256, Version string
	}
	RolledBack *struct {
		At                   time.Time
		SHA256, Version, Why string
	}
}

func (h *host) handover(name string) (o handover) {
	h.t.Helper()
	h.ask("/api/v1/plugins/"+name, &o)
	return o
}

// handovers is how often a plugin was handed over with an outcome.
func (h *host) handovers(name, outcome string) string {
	h.t.Helper()
	_, text, err := fetch(h.admin+"/metrics", "")
	if err != nil {
		h.t.Fatal(err)
	}
	_, rest, _ := strings.Cut(text, fmt.Sprintf("towpath_plugin_handovers_total{outcome=%q,plugin=%q} ", outcome, name))
	count, _, _ := strings.Cut(rest, "\n")
	return count
}

// newUpgradable is newDataspace for hosts whose plugins can be replaced. timeout is the handover timeout of the plugin "file".
func newUpgradable(t testing.TB, seed uint64, size int64, timeout string) *dataspace {
	t.Helper()
	d := &dataspace{t: t, provider: newHost(t, "provider", ""), consumer: newHost(t, "consumer", "")}
	d.files = makeTree(t, d.provider.outbox(), seed, size)
	for _, h := range []*host{d.provider, d.consumer} {
		writeFile(t, h.config+"/common.hcl", strings.Replace(configuration, `plugin "file" {`, fmt.Sprintf(`plugin "file" {
  handover_timeout = %q`, timeout), 1))
		h.env = append(h.env, "E2E_PLUGINS="+pluginFolder(t, "file", "http"), "E2E_CHECKPOINT_INTERVAL=50ms")
		h.launch()
	}
	for _, h := range []*host{d.provider, d.consumer} {
		h.awaitReady()
	}
	return d
}

// Both sides of a transfer replace a plugin under way. The transfer goes on with the new one from a checkpoint inside a part, and sends
// nothing again.
func TestUpgradeUnderRunningFlows(t *testing.T) {
	t.Parallel()
	for _, direction := range []string{"push", "pull"} {
		t.Run(direction, func(t *testing.T) {
			t.Parallel()
			d := newUpgradable(t, 40, 16*mib, "1h")
			finish := guard(t, d.consumer.inbox(), d.files)
			d.consumer.network.rate.Store(4 * mib)
			d.provider.network.rate.Store(4 * mib)
			f, via := d.start(direction)
			via.awaitPassed(t, mib)
			for _, h := range []*host{d.provider, d.consumer} {
				h.replaceFile(nextFile())
			}
			for _, h := range []*host{d.provider, d.consumer} {
				eventually(t, "the new build at the "+h.name, func() bool { return h.handover("file").Version == "0.2.0" })
			}
			d.consumer.network.rate.Store(0)
			d.provider.network.rate.Store(0)
			d.finish(direction, f)
			finish()
			if direction == "push" { // a provider does not count a part that was read in pieces; finish has compared all digests
				d.expectSameDigest(f)
			}
			if passed := via.passed.Load(); direction == "push" && passed > 17*mib {
				t.Errorf("%d bytes passed the network for %d", passed, 16*mib)
			}
			for _, h := range []*host{d.provider, d.consumer} {
				if strings.Contains(h.logs(), "transfer failed") {
					t.Errorf("the %s says that a transfer has failed", h.name)
				}
				eventually(t, "the new build proves itself", func() bool { return h.handovers("file", "kept") == "1" || h.handover("file").Probation != nil })
			}
			mover := map[string]*host{"push": d.provider, "pull": d.consumer}[direction]
			if logs := mover.logs(); !strings.Contains(logs, "transfer goes on with another build") || !strings.Contains(logs, "at_checkpoint=true") {
				t.Error("the transfer did not leave the old build at a checkpoint")
			}
			if n := mover.handovers("file", "kept"); n != "1" {
				t.Errorf("handovers that ended well: %q", n)
			}
			d.provider.stop()
			d.consumer.stop()
		})
	}
}

// A build that does not work is replaced by the one before it, under a transfer that comes to its end with all its bytes.
func TestRollBackUnderRunningFlows(t *testing.T) {
	t.Parallel()
	for _, story := range []struct {
		fault, direction string
		at               func(d *dataspace) *host
		timeout, why     string
	}{
		{"hangs", "push", providerOf, "1s", "moved nothing for 1s"},
		{"crashes", "pull", providerOf, "1h", "the shelf has collapsed"},
		{"refuses tokens", "push", providerOf, "1h", "does not go on with a flow of the build before: nothing is known of this token"},
		{"hangs", "pull", consumerOf, "1s", "moved nothing for 1s"},
		{"crashes", "push", consumerOf, "1h", "the shelf has collapsed"},
	} {
		t.Run(story.fault+" in a "+story.direction, func(t *testing.T) {
			t.Parallel()
			d := newUpgradable(t, 41, 8*mib, story.timeout)
			finish := guard(t, d.consumer.inbox(), d.files)
			d.consumer.network.rate.Store(2 * mib)
			d.provider.network.rate.Store(2 * mib)
			f, via := d.start(story.direction)
			via.awaitPassed(t, mib)
			h := story.at(d)
			before := h.handover("file")
			h.replaceFile(faultyFile(story.fault))
			eventually(t, "the rollback", func() bool { return h.handover("file").RolledBack != nil })
			if o := h.handover("file"); o.Version != "0.1.0" || o.Generation != before.Generation || o.RolledBack.Version != "6.6.6" ||
				!strings.Contains(o.RolledBack.Why, story.why) {
				t.Errorf("what the admin API says: %+v, %+v", o, o.RolledBack)
			}
			d.consumer.network.rate.Store(0)
			d.provider.network.rate.Store(0)
			d.finish(story.direction, f)
			finish()
			if story.direction == "push" {
				d.expectSameDigest(f)
			}
			if n := h.handovers("file", "rolled back"); n != "1" {
				t.Errorf("handovers that were rolled back: %q", n)
			}
		})
	}
}

func providerOf(d *dataspace) *host { return d.provider }
func consumerOf(d *dataspace) *host { return d.consumer }

// The plugins at both ends of a transfer are replaced at once, and the one that hangs is to blame, not the one that waits for it.
func TestTwoPluginsAreReplacedAtOnce(t *testing.T) {
	t.Parallel()
	d := newUpgradable(t, 43, 8*mib, "1s")
	finish := guard(t, d.consumer.inbox(), d.files)
	d.consumer.network.rate.Store(2 * mib)
	f := d.startPush("push")
	d.consumer.network.awaitPassed(t, mib)
	h := d.provider
	before := h.handover("http")
	content, err := os.ReadFile(filepath.Join(binaries.plugins, "towpath-plugin-http"))
	h.replacePlugin("http", append(content, "\nanother build"...), err)
	h.replaceFile(faultyFile("hangs"))
	eventually(t, "the rollback of one", func() bool { return h.handover("file").RolledBack != nil })
	eventually(t, "the new build of the other", func() bool { return h.handover("http").Generation != before.Generation })
	d.consumer.network.rate.Store(0)
	d.finishPush(f)
	finish()
	d.expectSameDigest(f)
	if kept, back := h.handovers("http", "kept"), h.handovers("http", "rolled back"); kept != "1" || back != "0" {
		t.Errorf("handovers of the plugin that works: %s ended well, %s did not", kept, back)
	}
}

// What was rolled back stays so when the host is started again, until the operator says otherwise or another build comes.
func TestRollbackIsRemembered(t *testing.T) {
	t.Parallel()
	h, receiver := newHost(t, "provider", "", "E2E_PLUGINS="+pluginFolder(t, "file", "http")), newReceiver(t)
	makeTree(t, h.outbox(), 42, mib)
	h.start()
	h.pushTo("before", "http-push", newAddress(receiver.url+"/before"))
	h.controlPlane.expect(t, "before", "completed")
	h.replaceFile(faultyFile("breaks"))
	eventually(t, "the new build", func() bool { return h.handover("file").Version == "6.6.6" })
	eventually(t, "plugins list says so", func() bool { return strings.Contains(h.list(), "on probation since") })
	h.pushTo("during", "http-push", newAddress(receiver.url+"/during"))
	h.controlPlane.expect(t, "during", "completed")
	h.stop()

	h.start()
	if o := h.handover("file"); o.Version != "0.1.0" || o.RolledBack == nil || !strings.Contains(o.RolledBack.Why, "the shelf is broken") {
		t.Fatalf("after a start: %+v", o)
	}
	if list := h.list(); !strings.Contains(list, "rolled back on") || !strings.Contains(list, "the shelf is broken") {
		t.Errorf("plugins list:\n%s", list)
	}
	h.pushTo("after", "http-push", newAddress(receiver.url+"/after"))
	h.controlPlane.expect(t, "after", "completed")
	if before, during, after := h.flow("before"), h.flow("during"), h.flow("after"); before.Digest == "" || during.Digest != before.Digest ||
		after.Digest != before.Digest {
		t.Errorf("digests %q, %q and %q", before.Digest, during.Digest, after.Digest)
	}
	h.operate(0, "plugins", "rescan")
	if o := h.handover("file"); o.Version != "6.6.6" || o.Probation == nil {
		t.Errorf("after a rescan: %+v", o)
	}
	h.replaceFile(nextFile())
	eventually(t, "a build that works", func() bool { return h.handover("file").Version == "0.2.0" })
	h.pushTo("last", "http-push", newAddress(receiver.url+"/last"))
	h.controlPlane.expect(t, "last", "completed")
	eventually(t, "it proves itself", func() bool { return h.handover("file").Probation == nil })
	h.stop()
	if left, _ := os.ReadDir(filepath.Join(h.data, "plugins")); len(left) > 0 {
		t.Errorf("builds that are kept: %v", left)
	}
}

// list is what the command plugins list says.
func (h *host) list() string {
	h.t.Helper()
	code, stdout, stderr := towpath(h.t, h.env, "plugins", "list", "-config", h.config)
	if code != 0 {
		h.t.Fatalf("towpath plugins list: exit code %d\n%s", code, stderr)
	}
	return stdout
}
