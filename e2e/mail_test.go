//go:build linux

package e2e_test

import (
	"bytes"
	"crypto/rand"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// mailConfiguration is configs/mail.hcl with a server of the story's.
const mailConfiguration = `
dataplane "e2e" {
  data_dir = env("E2E_DATA")
}

listen "signaling" {
  address = env("E2E_SIGNALING")
}

listen "public" {
  address = env("E2E_PUBLIC")
}

listen "admin" {
  address = env("E2E_ADMIN")
}

control_plane "e2e" {
  endpoint = env("E2E_CONTROL_PLANE")
}

plugins {
  directory = env("E2E_PLUGINS")
  trust     = "directory"
}

plugin "onefile" {
  config {
    root = env("E2E_FILES")
  }

  permissions {
    read = [env("E2E_FILES")]
  }
}

plugin "mail" {
  config {
    server           = "127.0.0.1"
    port             = env("E2E_MAIL_PORT")
    tls              = env("E2E_MAIL_TLS", "off")
    ca               = env("E2E_MAIL_CA", "")
    username         = env("E2E_MAIL_USER", "")
    password         = env("E2E_MAIL_PASSWORD", "")
    sender           = "Data Space <dataspace@provider.example>"
    allow_recipients = ["*@consumer.example"]
  }

  permissions {
    connect = ["127.0.0.1:${env("E2E_MAIL_PORT")}"]
  }
}

profile "Mail-PUSH" {}

dataset "file-asset" {
  source "File" {
    sourceFile = "report.csv"
  }
}

transfer {
  digests             = ["sha256"]
  checkpoint_interval = "200ms"

  retry {
    first         = "100ms"
    max           = "500ms"
    give_up_after = env("E2E_GIVE_UP_AFTER", "2m")
  }
}
`

// mailPlugins builds the two plugins once.
var mailPlugins = sync.OnceValues(func() (string, error) {
	dir := filepath.Join(binaries.folder, "mail")
	for _, name := range []string{"mail", "onefile"} {
		if err := goBuild(filepath.Join(dir, "towpath-plugin-"+name), "../plugins/"+name); err != nil {
			return "", err
		}
	}
	return dir, nil
})

// newMailHost is a host with nothing but the two plugins, whose mails go to a server at an address, and with a file to send.
func newMailHost(t testing.TB, server string, size int, env ...string) (*host, []byte) {
	t.Helper()
	plugins, err := mailPlugins()
	if err != nil {
		t.Fatal(err)
	}
	port := server[strings.LastIndexByte(server, ':')+1:]
	h := newHost(t, "provider", "", append(env, "E2E_PLUGINS="+plugins, "E2E_MAIL_PORT="+port)...)
	writeFile(t, h.config+"/common.hcl", mailConfiguration)
	content := make([]byte, size)
	rand.Read(content)
	if err := os.WriteFile(filepath.Join(h.files, "report.csv"), content, 0o600); err != nil {
		t.Fatal(err)
	}
	return h, content
}

// orderByDPS is the transfer request of the example as Data Plane Signaling has it.
func orderByDPS(h *host, id, recipient string) answer {
	h.t.Helper()
	to := &dataAddress{Type: "DataAddress", EndpointType: "Mail", EndpointProperties: []endpointProperty{{"EndpointProperty", "recipient", recipient}}}
	a, err := h.try("start", creation(id, "Mail-PUSH", "file-asset", to))
	if err != nil {
		h.t.Fatal(err)
	}
	return a
}

const recipient = "them@consumer.example"

// A file is ordered by mail, and comes as an attachment of one, over each kind of connection.
func TestFileToMail(t *testing.T) {
	t.Parallel()
	for mode, o := range map[string]postOptions{"off": {}, "starttls": {tls: true, password: "s3cret"},
		"implicit": {tls: true, implicit: true, password: "s3cret"}} {
		t.Run(mode, func(t *testing.T) {
			t.Parallel()
			post := startPost(t, o)
			env := []string{"E2E_MAIL_TLS=" + mode, "E2E_MAIL_CA=" + post.certificate}
			if o.password != "" {
				env = append(env, "E2E_MAIL_USER=dataplane", "E2E_MAIL_PASSWORD="+o.password)
			}
			h, content := newMailHost(t, post.address, 3*mib+1, env...)
			h.start()
			if a := orderByDPS(h, "asset-1", recipient); a.code != http.StatusOK || a.State != "STARTED" {
				t.Fatalf("the order is answered with %d %s", a.code, a.text)
			}
			h.controlPlane.expect(t, "asset-1", "completed")
			mails := post.all()
			if len(mails) != 1 {
				t.Fatalf("%d mails came", len(mails))
			}
			m := mails[0]
			if m.from != "dataspace@provider.example" || !slices.Equal(m.to, []string{recipient}) || m.subject != "File transfer asset-1" {
				t.Errorf("a mail from %s to %v, %q", m.from, m.to, m.subject)
			}
			if m.name != "report.csv" || !bytes.Equal(m.content, content) {
				t.Errorf("%q with %d bytes is attached, not what was sent", m.name, len(m.content))
			}
			f := h.flow("asset-1")
			if f.Parts != 1 || f.Bytes != int64(len(content)) || f.PartList[0].SHA256 != sumOf(m.content) {
				t.Errorf("the operator sees %+v", f)
			}
			h.stop()
			if o.password != "" && strings.Contains(h.logs(), o.password) {
				t.Error("the password is in the log")
			}
		})
	}
}

// What no mail may be is refused at once, and what does not fit into a mail when that is known: nothing is delivered, and the flow rests
// with the reason.
func TestMailIsRefused(t *testing.T) {
	t.Parallel()
	post := startPost(t, postOptions{limit: 1 * mib})
	h, _ := newMailHost(t, post.address, 1*mib)
	h.start()
	a := orderByDPS(h, "stranger", "them@elsewhere.example")
	if a.code != http.StatusBadRequest || !strings.Contains(a.text, "them@elsewhere.example is not one that this data plane may send to") {
		t.Errorf("a recipient that is not allowed: %d %s", a.code, a.text)
	}
	if a := orderByDPS(h, "large", recipient); a.code != http.StatusOK {
		t.Fatalf("%d %s", a.code, a.text)
	}
	said := h.controlPlane.expect(t, "large", "errored")[0]
	f := h.flow("large")
	for _, text := range []string{f.Fault, said.Error} {
		if !strings.Contains(text, "the server allows 1048576: nothing was sent") {
			t.Errorf("the reason is %q", text)
		}
	}
	if f.State != "STARTED" || len(post.all()) != 0 {
		t.Errorf("the flow is %s, and %d mails came", f.State, len(post.all()))
	}
	h.stop()
}

// The example as EDC's control planes order it, in each of their dialects: the asset's address, a File with its sourceFile, comes with the
// message, and the consumer's is a Mail with a recipient.
func TestFileToMailByEDC(t *testing.T) {
	t.Parallel()
	post := startPost(t, postOptions{limit: 2 * mib})
	h, content := newMailHost(t, post.address, 1*mib)
	large := filepath.Join(h.files, "large.csv")
	if err := os.WriteFile(large, make([]byte, 3*mib), 0o600); err != nil {
		t.Fatal(err)
	}
	var connectors []*connector
	blocks := ""
	for _, d := range dialects {
		c := newConnector(t, d)
		connectors, blocks = append(connectors, c), blocks+c.block()
	}
	writeFile(t, h.config+"/story.hcl", blocks)
	h.start()
	for _, c := range connectors {
		t.Run(c.dialect.name, func(t *testing.T) {
			c := c.in(t)
			if p := c.awaitPlane(); !slices.Equal(p.SourceTypes, []string{"File"}) || !slices.Equal(p.TransferTypes, []string{"Mail-PUSH"}) {
				t.Errorf("the data plane offers %v of %v", p.TransferTypes, p.SourceTypes)
			}
			before := len(post.all())
			order := edcTransfer{flow: "PUSH", kind: "Mail", asset: "edc-asset", destination: c.address("Mail", "recipient", recipient)}
			order.source = c.address("File", "sourceFile", filepath.Join(h.files, "report.csv"))
			sent := c.begin("mail", 0)
			sent.start(order)
			sent.await("COMPLETED")
			mails := post.all()[before:]
			if len(mails) != 1 || mails[0].subject != "File transfer "+sent.id || mails[0].name != "report.csv" || !bytes.Equal(mails[0].content, content) {
				t.Errorf("%d mails came", len(mails))
			}

			order.source = c.address("File", "sourceFile", large)
			refused := c.begin("large", 0)
			refused.start(order)
			if now := refused.await("TERMINATED"); !strings.Contains(now.failed, "the server allows 2097152: nothing was sent") {
				t.Errorf("the reason is %q", now.failed)
			}
			if n := len(post.all()); n != before+1 {
				t.Errorf("%d mails came", n-before)
			}
		})
	}
	h.stop()
}

// The server is away when the order comes, and comes back: then the mail is sent, once.
func TestMailServerComesBack(t *testing.T) {
	t.Parallel()
	address := freeAddress(t)
	h, content := newMailHost(t, address, 1*mib)
	h.start()
	if a := orderByDPS(h, "later", recipient); a.State != "STARTED" {
		t.Fatal(a.text)
	}
	eventually(t, "the operator sees what the flow waits for", func() bool {
		return strings.Contains(h.flow("later").Waiting, "connect to the mail server")
	})
	post := startPost(t, postOptions{address: address})
	h.controlPlane.expect(t, "later", "completed")
	if mails := post.all(); len(mails) != 1 || !bytes.Equal(mails[0].content, content) {
		t.Errorf("%d mails came", len(mails))
	}
	h.stop()
}

// The host is killed in the middle of a mail: that is not delivered, and the next one is.
func TestKillInsideAMail(t *testing.T) {
	t.Parallel()
	post := startPost(t, postOptions{})
	network := newNetwork(t, post.address)
	network.rate.Store(2 * mib)
	h, content := newMailHost(t, network.address, 4*mib)
	h.start()
	if a := orderByDPS(h, "killed", recipient); a.State != "STARTED" {
		t.Fatal(a.text)
	}
	network.awaitPassed(t, 1*mib)
	h.kill()
	network.rate.Store(0)
	h.start()
	h.controlPlane.expect(t, "killed", "completed")
	if mails := post.all(); len(mails) != 1 || !bytes.Equal(mails[0].content, content) {
		t.Errorf("%d mails came", len(mails))
	}
	h.stop()
}

// The host is killed when the server has accepted a mail and the host does not know: it comes again, and can be told for the same.
func TestKillBehindAMail(t *testing.T) {
	t.Parallel()
	accepted, answer := make(chan struct{}), make(chan struct{})
	var once sync.Once
	post := startPost(t, postOptions{accepted: func() {
		once.Do(func() {
			close(accepted)
			<-answer
		})
	}})
	h, content := newMailHost(t, post.address, 1*mib)
	h.start()
	if a := orderByDPS(h, "twice", recipient); a.State != "STARTED" {
		t.Fatal(a.text)
	}
	select {
	case <-accepted:
	case <-time.After(patience):
		t.Fatal("no mail comes")
	}
	h.kill()
	close(answer)
	h.start()
	h.controlPlane.expect(t, "twice", "completed")
	mails := post.all()
	if len(mails) != 2 || mails[0].id == "" || mails[0].id != mails[1].id {
		t.Fatalf("%d mails came", len(mails))
	}
	for _, m := range mails {
		if !bytes.Equal(m.content, content) {
			t.Errorf("a mail with %d bytes", len(m.content))
		}
	}
	h.stop()
}

// The sample is right for the two plugins, and beside the plugin file the one that has a block offers their common type.
func TestMailSample(t *testing.T) {
	t.Parallel()
	built, err := mailPlugins()
	if err != nil {
		t.Fatal(err)
	}
	dir := pluginFolder(t, "file")
	for _, name := range []string{"towpath-plugin-mail", "towpath-plugin-onefile"} {
		content, err := os.ReadFile(filepath.Join(built, name))
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, name), content, 0o700); err != nil {
			t.Fatal(err)
		}
	}
	signaling, admin := freeAddress(t), freeAddress(t)
	env := []string{"TOWPATH_PLUGINS=" + dir, "TOWPATH_DATA_DIR=" + t.TempDir(), "TOWPATH_FILES=" + t.TempDir(), "TOWPATH_SIGNALING=" + signaling,
		"TOWPATH_PUBLIC=" + freeAddress(t), "TOWPATH_ADMIN=" + admin, "TOWPATH_TRUST=directory"}
	if code, _, stderr := towpath(t, env, "validate", "-config", "../configs/mail.hcl"); code != 0 {
		t.Fatalf("validate: %d %s", code, stderr)
	}
	p := startProcess(t, env, binaries.towpath, "serve", "-config", "../configs/mail.hcl")
	eventually(t, "the host is ready", func() bool {
		if p.hasExited() {
			t.Fatal(p.stderr.String())
		}
		code, _, err := fetch("http://"+admin+"/readyz", "")
		return err == nil && code == http.StatusOK
	})
	_, list, _ := towpath(t, env, "plugins", "rescan", "-admin", "http://"+admin)
	for name, want := range map[string]string{"onefile": "ready", "mail": "ready", "file": "refused"} {
		if !slices.ContainsFunc(strings.Split(list, "\n"), func(line string) bool {
			fields := strings.Fields(line)
			return len(fields) > 3 && fields[0] == name && slices.Contains(fields[:4], want)
		}) {
			t.Errorf("plugin %s is not %s:\n%s", name, want, list)
		}
	}
}
