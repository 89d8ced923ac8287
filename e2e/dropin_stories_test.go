//go:build linux

package e2e_test

import (
	"bytes"
	"crypto/rand"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"aead.dev/minisign"
)

// buildGood builds the plugin "good" of misbehave, once.
var buildGood = sync.OnceValues(func() ([]byte, error) {
	dir, err := os.MkdirTemp("", "towpath-e2e-good-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	path := filepath.Join(dir, "good")
	if err := goBuild(path, "./misbehave"); err != nil {
		return nil, err
	}
	return os.ReadFile(path)
})

// goodPlugin returns the content of the plugin "good".
func goodPlugin(t testing.TB) []byte {
	t.Helper()
	content, err := buildGood()
	if err != nil {
		t.Fatal(err)
	}
	return slices.Clone(content)
}

// put writes a file with a mode, whatever the umask.
func put(t testing.TB, path string, content []byte, mode os.FileMode) {
	t.Helper()
	if err := os.WriteFile(path, content, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(path, mode); err != nil {
		t.Fatal(err)
	}
}

// pluginRow is the row of a plugin in the list that an operator gets of a running host.
func (h *host) pluginRow(name string) string {
	for line := range strings.Lines(h.operate(0, "plugins", "rescan")) {
		if strings.HasPrefix(line, name+" ") {
			return line
		}
	}
	return ""
}

// registersAt has a host register at a control plane, without a sink of its dataset: then only plugins make a push possible.
func (h *host) registersAt(office *registry) {
	writeFile(h.t, h.config+"/common.hcl", strings.Replace(withoutSink(configuration), `endpoint = env("E2E_CONTROL_PLANE")`,
		`endpoint = env("E2E_CONTROL_PLANE")
  registration {
    endpoint = env("E2E_OFFICE")
  }`, 1))
	h.env = append(h.env, "E2E_OFFICE="+office.url)
}

// What is wrong with a file that was dropped in is said: in the log, with what to do, and in the list. Nothing of it is executed, and flows
// do not mind. When it is mended it is used, without a word from anyone.
func TestPluginIsRefusedAndMended(t *testing.T) {
	t.Parallel()
	dir, office, receiver := pluginFolder(t, "file", "http"), newRegistry(t), newReceiver(t)
	h := newHost(t, "provider", dropInStory, "E2E_PLUGINS="+dir)
	h.registersAt(office)
	makeTree(t, h.outbox(), 51, 1*mib)
	h.start()
	h.pushTo("first", "http-push", newAddress(receiver.url+"/first"))

	good := goodPlugin(t)
	foreign := goodPlugin(t)
	foreign[18], foreign[19] = 0xf3, 0 // e_machine: RISC-V
	ran := filepath.Join(t.TempDir(), "ran")
	script := fmt.Appendf(nil, "#!/bin/sh\ntouch %s\n", ran)
	path := filepath.Join(dir, "towpath-plugin-good")
	for _, c := range []struct {
		state, why, do string
		content        []byte
		mode           os.FileMode
	}{
		{"wrong architecture", "it is built for riscv", "replace it by a build for this machine", foreign, 0o700},
		{"not executable", "it is a broken ELF file", "put the whole file there again", good[:len(good)/2], 0o700},
		{"not executable", "its mode 0600 has no executable bit", "make it executable", good, 0o600},
		{"untrusted", "can be written by everyone (mode 0707)", "chmod go-w", script, 0o707},
		{"untrusted", "can be written by its group (mode 0770)", "chmod go-w", good, 0o770},
	} {
		put(t, path, c.content, c.mode)
		if row := h.pluginRow("good"); !strings.Contains(row, " "+c.state+" ") || !strings.Contains(row, c.why) {
			t.Errorf("%s: %s", c.why, row)
		}
		if log := h.logs(); !strings.Contains(log, c.why) || !strings.Contains(log, c.do) {
			t.Errorf("%q and %q are not in the log:\n%s", c.why, c.do, tail(log, 10))
		}
	}
	put(t, filepath.Join(dir, "NOTES.txt"), []byte("which plugin is from whom\n"), 0o600)
	if row := h.pluginRow("NOTES.txt"); !strings.Contains(row, "is not the name of a plugin") {
		t.Errorf("a file that is no plugin: %s", row)
	}
	to := &dataAddress{Type: "DataAddress", EndpointType: "Sink-good"}
	if a, err := h.try("start", creation("early", "Sink-good", "tree", to)); err != nil || a.code != http.StatusBadRequest {
		t.Errorf("a flow that needs it: %d %s, %v", a.code, a.text, err)
	}
	office.await(t, "Sink-good", false)

	if err := os.Chmod(path, 0o700); err != nil {
		t.Fatal(err)
	}
	office.await(t, "Sink-good", true)
	h.pushTo("second", "Sink-good", to)
	for _, id := range []string{"first", "second"} {
		h.operate(0, "limits", "set", "flow="+id, "-bytes", "none")
		h.controlPlane.expect(t, id, "completed")
	}
	h.expectSameContent("first", "second")
	if _, err := os.Stat(ran); err == nil {
		t.Error("a file was executed that the policy does not allow")
	}
	h.stop()
}

// expectSameContent compares the digests of flows.
func (h *host) expectSameContent(ids ...string) {
	h.t.Helper()
	first := h.flow(ids[0]).Digest
	for _, id := range ids {
		if f := h.flow(id); f.Digest == "" || f.Digest != first {
			h.t.Errorf("flow %s has digest %q, and %s has %q", id, f.Digest, ids[0], first)
		}
	}
}

// hasty is the configuration with a plugin file that gives its flows no time when it is stopped.
func hasty(configuration string) string {
	return strings.Replace(configuration, `plugin "file" {`, `plugin "file" {
  drain_timeout = "10ms"`, 1)
}

// A running plugin is replaced, by cp over its file and by mv, under a push: the file is not busy, what runs is what was hashed,
// and the bytes at the other end are the same.
func TestRunningPluginIsReplaced(t *testing.T) {
	t.Parallel()
	dir := pluginFolder(t, "file", "http")
	d := &dataspace{t: t, provider: newHost(t, "provider", "", "E2E_PLUGINS="+dir), consumer: newHost(t, "consumer", "")}
	writeFile(t, d.provider.config+"/common.hcl", hasty(configuration))
	d.files = makeTree(t, d.provider.outbox(), 52, 16*mib)
	d.provider.start()
	d.consumer.start()
	finish := guard(t, d.consumer.inbox(), d.files)
	network := d.consumer.network
	network.rate.Store(2 * mib)
	f := d.startPush("push")
	network.awaitPassed(t, 2*mib)

	path := filepath.Join(dir, "towpath-plugin-file")
	content, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	runs := func() string {
		t.Helper()
		p := d.provider.plugin("file")
		digest, err := digestOf(fmt.Sprintf("/proc/%d/exe", p.PID))
		if err == nil && digest != p.Generation {
			t.Errorf("the digest of what runs is %s, and %s was checked", digest, p.Generation)
		}
		return p.Generation
	}
	before := runs()
	for mark, replace := range map[string]func(content []byte) error{
		"cp": func(content []byte) error { return os.WriteFile(path, content, 0o700) },
		"mv": func(content []byte) error {
			aside := filepath.Join(filepath.Dir(dir), "aside")
			if err := os.WriteFile(aside, content, 0o700); err != nil {
				return err
			}
			return os.Rename(aside, path)
		},
	} {
		if err := replace(append(slices.Clone(content), mark...)); err != nil {
			t.Fatalf("%s: %v", mark, err)
		}
		want, err := digestOf(path)
		if err != nil {
			t.Fatal(err)
		}
		eventually(t, "the other version takes over", func() bool {
			p := d.provider.plugin("file")
			return p.Generation == want && p.State == "ready"
		})
		if after := runs(); after == before {
			t.Errorf("after %s the version is the one before", mark)
		}
	}
	d.provider.expectState(f.provider, "STARTED")
	if d.provider.flow(f.provider).Digest != "" {
		t.Error("the flow had ended before")
	}
	network.rate.Store(0)
	d.finishPush(f)
	d.expectSameDigest(f)
	finish()
	eventually(t, "the versions before have ended", func() bool { return len(childrenOf(d.provider.process.cmd.Process.Pid)) <= 2 })
}

// A file that is swapped all the time runs only as what is pinned.
func TestSwapUnderTheCheck(t *testing.T) {
	t.Parallel()
	dir, pinned := pluginFolder(t, "file"), goodPlugin(t)
	path, ran := filepath.Join(dir, "towpath-plugin-good"), filepath.Join(t.TempDir(), "ran")
	put(t, path, pinned, 0o700)
	digest, err := digestOf(path)
	if err != nil {
		t.Fatal(err)
	}
	h := newHost(t, "provider", fmt.Sprintf("plugin \"good\" {\n  sha256 = %q\n}\n", digest), "E2E_PLUGINS="+dir)
	writeFile(t, h.config+"/common.hcl", withoutHTTP(configuration))
	h.start()
	evil := fmt.Appendf(nil, "#!/bin/sh\ntouch %s\n", ran)
	aside := filepath.Join(filepath.Dir(dir), "aside")
	for i := range 40 {
		content := pinned
		if i%2 == 0 {
			content = evil
		}
		put(t, aside, content, 0o700)
		if err := os.Rename(aside, path); err != nil {
			t.Fatal(err)
		}
		if i%8 == 0 {
			h.operate(0, "plugins", "rescan")
		}
	}
	h.pluginRow("good")
	eventually(t, "the pinned file is used", func() bool { p := h.plugin("good"); return p.State == "ready" && p.Generation == digest })
	if is, err := digestOf(fmt.Sprintf("/proc/%d/exe", h.plugin("good").PID)); err != nil || is != digest {
		t.Errorf("the digest of what runs is %s, %v", is, err)
	}
	if _, err := os.Stat(ran); err == nil {
		t.Error("the file that is not pinned was executed")
	}
	h.stop()
}

// withoutHTTP is the configuration without the plugin http, and what needs it.
func withoutHTTP(configuration string) string {
	before, rest, _ := strings.Cut(configuration, `plugin "http" {`)
	_, after, _ := strings.Cut(rest, `dataset "tree" {`)
	return before + `profile "Sink-good" {
  direction = "push"
}

dataset "tree" {` + after
}

// publisher signs plugins.
type publisher struct {
	public  minisign.PublicKey
	private minisign.PrivateKey
}

func newPublisher(t testing.TB) publisher {
	t.Helper()
	public, private, err := minisign.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return publisher{public, private}
}

// sign leaves a signature beside a file.
func (p publisher) sign(t testing.TB, path string) {
	t.Helper()
	content, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	r := minisign.NewReader(bytes.NewReader(content))
	if _, err := io.Copy(io.Discard, r); err != nil {
		t.Fatal(err)
	}
	put(t, path+".minisig", r.Sign(p.private), 0o600)
}

// Under running flows a publisher's signature is taken away, comes back by the wrong key, and then by the right one: the flows stop, stay as
// they are, and come to their ends with every byte. A plugin that nobody has signed waits for its signature.
func TestSignatureIsRevokedUnderFlows(t *testing.T) {
	t.Parallel()
	dir, acme, stranger := pluginFolder(t, "file", "http"), newPublisher(t), newPublisher(t)
	signed := fmt.Sprintf("trust     = \"signed\"\n  publisher \"acme\" {\n    key = %q\n  }", acme.public)
	d := &dataspace{t: t, provider: newHost(t, "provider", "", "E2E_PLUGINS="+dir), consumer: newHost(t, "consumer", "")}
	h := d.provider
	writeFile(t, h.config+"/common.hcl", strings.Replace(hasty(configuration), `trust     = env("E2E_TRUST", "directory")`, signed, 1))
	for _, name := range []string{"file", "http"} {
		acme.sign(t, filepath.Join(dir, "towpath-plugin-"+name))
	}
	d.files = makeTree(t, h.outbox(), 53, 16*mib)
	h.start()
	d.consumer.start()
	finish := guard(t, d.consumer.inbox(), d.files)
	d.consumer.network.rate.Store(4 * mib)
	push := d.startPush("push")
	d.consumer.network.awaitPassed(t, 2*mib)

	path := filepath.Join(dir, "towpath-plugin-file")
	if err := os.Remove(path + ".minisig"); err != nil {
		t.Fatal(err)
	}
	stopped := func() bool { p := h.plugin("file"); return p.State == "resolved" && p.PID == 0 }
	eventually(t, "the plugin that has no signature any more stops", stopped)
	eventually(t, "the flow says what it waits for", func() bool { return h.flow(push.provider).Waiting != "" })
	h.expectState(push.provider, "STARTED")
	stranger.sign(t, path)
	if row := h.pluginRow("file"); !strings.Contains(row, "untrusted") || !strings.Contains(row, "none of the publishers") {
		t.Errorf("signed with another key: %s", row)
	}
	if !stopped() {
		t.Error("a plugin runs whose signature is a stranger's")
	}
	d.consumer.network.rate.Store(0)
	acme.sign(t, path)
	d.finishPush(push)
	d.expectSameDigest(push)
	finish()

	good := filepath.Join(dir, "towpath-plugin-good")
	put(t, good, goodPlugin(t), 0o700)
	if row := h.pluginRow("good"); !strings.Contains(row, "untrusted") {
		t.Errorf("nobody has signed it: %s", row)
	}
	acme.sign(t, good)
	eventually(t, "the signed plugin is used", func() bool { return h.plugin("good").State == "ready" })
	h.stop()
}

// A host with fifty plugins that it has described before starts without launching any, and offers all that they do. The first flow launches
// what it needs.
func TestFiftyDescribedPlugins(t *testing.T) {
	t.Parallel()
	dir, office := pluginFolder(t, "file", "http"), newRegistry(t)
	h := newHost(t, "provider", "profile \"Sink-good-7\" {\n  direction = \"push\"\n}\n", "E2E_PLUGINS="+dir)
	h.registersAt(office)
	makeTree(t, h.outbox(), 54, 1*mib)
	first := filepath.Join(dir, "towpath-plugin-good-0")
	put(t, first, goodPlugin(t), 0o700)
	for n := 1; n < 48; n++ {
		if err := os.Link(first, filepath.Join(dir, fmt.Sprintf("towpath-plugin-good-%d", n))); err != nil {
			t.Fatal(err)
		}
	}
	h.start()
	h.stop()
	h.start()
	office.await(t, "Sink-good-7", true)
	var all struct {
		Plugins []pluginStatus
	}
	h.ask("/api/v1/plugins", &all)
	if len(all.Plugins) != 50 {
		t.Errorf("there are %d plugins", len(all.Plugins))
	}
	for _, p := range all.Plugins {
		if p.State != "not started" || p.PID != 0 || len(p.Sinks) == 0 {
			t.Errorf("plugin: %+v", p)
		}
	}
	if children := childrenOf(h.process.cmd.Process.Pid); len(children) > 0 {
		t.Errorf("processes before any flow: %v", children)
	}
	h.pushTo("flow", "Sink-good-7", &dataAddress{Type: "DataAddress", EndpointType: "Sink-good-7"})
	h.controlPlane.expect(t, "flow", "completed")
	if children := childrenOf(h.process.cmd.Process.Pid); len(children) != 2 {
		t.Errorf("processes after a flow of two plugins: %v", children)
	}
	h.stop()
}

// With trust = "ask" a host starts without anyone's decision, says what it waits for, and goes on when that comes, past a restart too.
func TestHostWaitsForDecisions(t *testing.T) {
	t.Parallel()
	h := newHost(t, "provider", "", "E2E_TRUST=ask", "E2E_PLUGINS="+pluginFolder(t, "file", "http"))
	receiver := newReceiver(t)
	makeTree(t, h.outbox(), 55, 1*mib)
	h.launch()
	waits := func(for_ string) {
		t.Helper()
		eventually(t, "the host says what it lacks", func() bool {
			code, text, err := fetch(h.admin+"/readyz", "")
			return err == nil && code == http.StatusServiceUnavailable && strings.Contains(text, "plugin "+for_+" is not ready: nobody has decided to trust it")
		})
	}
	waits("file")
	waits("http")
	h.operate(0, "plugins", "trust", "file")
	waits("http")
	h.operate(0, "plugins", "trust", "http")
	h.awaitReady()
	h.pushTo("flow", "http-push", newAddress(receiver.url+"/flow"))
	h.controlPlane.expect(t, "flow", "completed")
	h.operate(0, "plugins", "distrust", "http")
	if !h.isReady() {
		t.Error("a plugin that an operator trusts no more makes the host unready")
	}
	h.stop()
	h.launch()
	waits("http")
	h.operate(0, "plugins", "trust", "http")
	h.awaitReady()
	h.stop()
}
