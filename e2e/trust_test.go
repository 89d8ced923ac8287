//go:build linux

package e2e_test

import (
	"net"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// confinement is what the blocks of the plugins file and http get in a story of confined plugins.
const confinement = `
  limits {
    memory     = "1GiB"
    open_files = 512
  }
  permissions {
    read    = [env("E2E_FILES")]
    write   = [env("E2E_FILES")]
    connect = [env("E2E_CONNECT")]
  }
`

// confine confines a host's plugins to its files, and to the listener of another.
func (h *host) confine(t testing.TB, to *host) {
	t.Helper()
	const first = `  lane             = env("E2E_LANE", "auto")`
	if strings.Count(configuration, first) != 2 {
		t.Fatal("the plugin blocks do not begin as is expected here")
	}
	confined := strings.ReplaceAll(configuration, first, first+confinement)
	writeFile(t, h.config+"/common.hcl", confined)
	h.env = append(h.env, "E2E_CONNECT="+to.network.address)
}

// ownPlugins gives a host a plugin directory of its own, with the plugins file and http.
func (h *host) ownPlugins(t testing.TB) {
	t.Helper()
	dir := t.TempDir()
	for _, name := range []string{"file", "http"} {
		content, err := os.ReadFile(filepath.Join(binaries.plugins, "towpath-plugin-"+name))
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, "towpath-plugin-"+name), content, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	h.env = append(h.env, "E2E_PLUGINS="+dir)
}

// Plugins that are confined to what they need move everything, on either lane.
func TestConfinedPlugins(t *testing.T) {
	t.Parallel()
	for _, lane := range []string{"auto", "grpc"} {
		t.Run(lane, func(t *testing.T) {
			t.Parallel()
			d := &dataspace{t: t, provider: newHost(t, "provider", "", "E2E_LANE="+lane), consumer: newHost(t, "consumer", "", "E2E_LANE="+lane)}
			d.provider.confine(t, d.consumer)
			d.consumer.confine(t, d.provider)
			d.files = makeTree(t, d.provider.outbox(), 41, 8*mib)
			d.provider.start()
			d.consumer.start()
			for _, direction := range []string{"push", "pull"} {
				finish := guard(t, d.consumer.inbox(), d.files)
				f, _ := d.start(direction)
				d.finish(direction, f)
				finish()
				if err := os.RemoveAll(d.consumer.inbox()); err != nil {
					t.Fatal(err)
				}
			}
			if log := d.provider.logs() + d.consumer.logs(); strings.Contains(log, "plugin was kept from what it is not allowed") {
				t.Errorf("a plugin wanted more: %s", tail(log, 20))
			}
		})
	}
}

// A plugin that may connect to one listener reaches no other, and the flow says why it does not move.
func TestRefusedAddress(t *testing.T) {
	t.Parallel()
	h := newHost(t, "provider", "")
	h.confine(t, h)
	makeTree(t, h.outbox(), 43, mib)
	h.start()
	receiver := newReceiver(t)
	h.signal("start", creation("flow", "http-push", "tree", newAddress(receiver.url+"/flow")))
	to, err := url.Parse(receiver.url)
	if err != nil {
		t.Fatal(err)
	}
	eventually(t, "the log says what the plugin was kept from", func() bool {
		return strings.Contains(h.logs(), "connect to "+to.Host)
	})
	if host, _, err := net.SplitHostPort(to.Host); err != nil || host != "127.0.0.1" {
		t.Errorf("the receiver is at %s, where the plugin may not be kept from by the http plugin's own rules", to.Host)
	}
}

// A plugin runs because an operator has decided so, is stopped under a running flow when that is taken back, and the flow goes on when
// it is trusted again.
func TestTrustIsRevokedUnderAFlow(t *testing.T) {
	t.Parallel()
	d := &dataspace{t: t, provider: newHost(t, "provider", "", "E2E_TRUST=ask"), consumer: newHost(t, "consumer", "")}
	h := d.provider
	h.ownPlugins(t)
	d.files = makeTree(t, h.outbox(), 42, 16*mib)
	decide := func(wantCode int, args ...string) string {
		t.Helper()
		code, stdout, stderr := towpath(t, h.env, append(append([]string{"plugins"}, args...), "-config", h.config)...)
		if code != wantCode {
			t.Fatalf("towpath plugins %s: exit code %d, not %d\n%s%s", strings.Join(args, " "), code, wantCode, stdout, stderr)
		}
		return stdout + stderr
	}
	if out := decide(0, "list"); strings.Count(out, "untrusted") != 2 {
		t.Errorf("before anything was decided: %s", out)
	}
	decide(1, "trust", "file", "-sha256", strings.Repeat("ab", 32))
	decide(0, "trust", "file")
	decide(0, "trust", "http")
	decide(4, "trust", "none")
	if out := decide(0, "describe", "file"); !strings.Contains(out, "someone has decided to trust it") {
		t.Errorf("a trusted plugin: %s", out)
	}
	h.start()
	d.consumer.start()
	guard(t, d.consumer.inbox(), d.files)
	d.consumer.network.rate.Store(8 * mib)
	f := d.startPush("push")
	d.consumer.network.awaitPassed(t, 4*mib)

	if out := decide(0, "distrust", "file"); !strings.Contains(out, "is trusted no more") {
		t.Errorf("taken back: %s", out)
	}
	decide(4, "distrust", "file")
	if p := h.plugin("file"); p.PID != 0 {
		t.Errorf("a plugin that is trusted no more runs as process %d", p.PID)
	}
	h.expectState(f.provider, "STARTED")
	d.consumer.network.rate.Store(0)
	decide(0, "trust", "file")
	d.finishPush(f)
	d.expectSameDigest(f)

	// What was decided holds after a restart, for that very content.
	h.stop()
	if out := decide(0, "diff", "file", filepath.Join(binaries.plugins, "towpath-plugin-file")); !strings.Contains(out, "same file") {
		t.Errorf("the same file twice: %s", out)
	}
	plugins := strings.TrimPrefix(h.env[len(h.env)-1], "E2E_PLUGINS=")
	file, err := os.OpenFile(filepath.Join(plugins, "towpath-plugin-file"), os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	file.Write([]byte{0})
	file.Close()
	if out := decide(0, "list"); strings.Count(out, "untrusted") != 1 || !strings.Contains(out, "but what was trusted on") {
		t.Errorf("after the file has changed: %s", out)
	}
}
