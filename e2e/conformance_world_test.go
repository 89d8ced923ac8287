//go:build linux

package e2e_test

import (
	"bytes"
	"crypto/ecdsa"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
)

// world is what the rules are tested in: hosts that are configured differently and started when they are first needed, their control
// planes, an OAuth2 server, a place for DID documents.
type world struct {
	t      testing.TB
	ca     *authority
	issuer func(testing.TB) *issuer
	dids   *didHost

	openSite, securedSite, contextsSite, dynamicSite, strictSite site

	exchange sync.Mutex // held by rules that look at how alice-1 exchanges tokens

	alice2Key *ecdsa.PrivateKey // set with contextsSite
	ourKey    *ecdsa.PrivateKey // set with strictSite

	mu      sync.Mutex
	hosts   []*host
	secrets map[string]string // what they are, by value
}

// site is a host with its control planes.
type site struct {
	once    sync.Once
	host    *host
	base    string // of the signaling API
	http    *http.Client
	offices map[string]*office // by the id of the control plane
	admin   string             // token of the admin API
}

func newWorld(t testing.TB) *world {
	w := &world{t: t, ca: newAuthority(t), secrets: map[string]string{}}
	w.dids = newDIDHost(t, nil)
	var once sync.Once
	var s *issuer
	w.issuer = func(t testing.TB) *issuer {
		once.Do(func() { s = newIssuer(lifetime{t, w.t}) })
		return s
	}
	return w
}

// lifetime is a test in whose name something is made that outlives it: what goes wrong is said of the test, but cleaned up is after
// the owner.
type lifetime struct {
	testing.TB
	owner testing.TB
}

func (l lifetime) Cleanup(f func())                { l.owner.Cleanup(f) }
func (l lifetime) TempDir() string                 { return l.owner.TempDir() }
func (l lifetime) Failed() bool                    { return l.owner.Failed() }
func (l lifetime) Log(args ...any)                 { l.owner.Log(args...) }
func (l lifetime) Logf(format string, args ...any) { l.owner.Logf(format, args...) }
func (l lifetime) Setenv(string, string)           { panic("hosts have their own environment") }

// as returns the host for another test.
func (h *host) as(t testing.TB) *host {
	other := *h
	other.t = t
	return &other
}

// caller returns a control plane of the site.
func (s *site) caller(t testing.TB, id string) *caller {
	return &caller{t: t, host: s.host.as(t), base: s.base, http: s.http, office: s.offices[id], adminToken: s.admin}
}

// keep remembers something that must not be seen anywhere.
func (w *world) keep(what, value string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.secrets[value] = what
}

// newSecret makes up a secret.
func (w *world) newSecret(what string) string {
	value := "secret-" + newID()
	w.keep(what, value)
	return value
}

// enter returns a site that is set up, or fails the test if that did not work for whoever came first.
func (w *world) enter(t testing.TB, s *site, setUp func(testing.TB, *site)) *site {
	t.Helper()
	s.once.Do(func() {
		t := lifetime{t, w.t}
		s.offices = map[string]*office{}
		setUp(t, s)
		s.host.start()
		w.mu.Lock()
		defer w.mu.Unlock()
		w.hosts = append(w.hosts, s.host)
	})
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, h := range w.hosts {
		if h == s.host {
			return s
		}
	}
	t.Fatal("the host did not start")
	return nil
}

// settle makes the place for a host and says where its signaling is.
func (s *site) settle(t testing.TB, name, base, configuration string, env ...string) {
	t.Helper()
	s.host = newHost(t, name, configuration, env...)
	writeFile(t, s.host.config+"/common.hcl", groundwork)
	s.base = s.host.signaling + base
}

// expectNoViolations checks that the offices of all sites got valid messages only.
func (w *world) expectNoViolations(t testing.TB) {
	for _, s := range []*site{&w.openSite, &w.securedSite, &w.contextsSite, &w.strictSite} {
		for _, o := range s.offices {
			o.expectNoViolations(t)
		}
	}
}

// expectNoSecrets checks what hosts have printed and stored for what they must keep to themselves.
func (w *world) expectNoSecrets(t testing.TB) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, h := range w.hosts {
		log := h.process.stdout.String() + h.process.stderr.String()
		for value, what := range w.secrets {
			if strings.Contains(log, value) {
				t.Errorf("the log of %s has a secret: %s", h.name, what)
			}
		}
		expectNowhere(t, h.data, w.secrets)
	}
}

// expectNowhere checks that no file below a folder has one of the secrets, which are keys, in clear.
func expectNowhere(t testing.TB, folder string, secrets map[string]string) {
	t.Helper()
	err := walkFiles(folder, func(name string, _ fs.FileInfo) error {
		content, err := os.ReadFile(filepath.Join(folder, name))
		if os.IsNotExist(err) {
			return nil
		}
		for value, what := range secrets {
			if bytes.Contains(content, []byte(value)) {
				t.Errorf("%s has a secret in clear: %s", filepath.Join(folder, name), what)
			}
		}
		return err
	})
	if err != nil {
		t.Error(err)
	}
}
