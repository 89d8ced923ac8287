package main

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"io"
	"log/slog"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/towpath-dataplane/towpath/host/config"
)

// authority signs certificates.
type authority struct {
	t           *testing.T
	certificate *x509.Certificate
	key         *ecdsa.PrivateKey
}

func newAuthority(t *testing.T, name string) *authority {
	a := &authority{t: t}
	a.certificate, a.key = a.sign(&x509.Certificate{Subject: pkix.Name{CommonName: name}, IsCA: true, BasicConstraintsValid: true,
		NotAfter: time.Now().Add(time.Hour), KeyUsage: x509.KeyUsageCertSign})
	return a
}

// sign makes a key with a certificate, signed by a itself if it is the first.
func (a *authority) sign(template *x509.Certificate) (*x509.Certificate, *ecdsa.PrivateKey) {
	a.t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		a.t.Fatal(err)
	}
	template.SerialNumber, err = rand.Int(rand.Reader, big.NewInt(1<<62))
	if err != nil {
		a.t.Fatal(err)
	}
	template.NotBefore = time.Now().Add(-2 * time.Hour)
	parent, signer := a.certificate, a.key
	if parent == nil {
		parent, signer = template, key
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, key.Public(), signer)
	if err != nil {
		a.t.Fatal(err)
	}
	certificate, err := x509.ParseCertificate(der)
	if err != nil {
		a.t.Fatal(err)
	}
	return certificate, key
}

// issue returns a pair for this machine, by a name, that is good for a while.
func (a *authority) issue(name string, lifetime time.Duration) tls.Certificate {
	a.t.Helper()
	certificate, key := a.sign(&x509.Certificate{Subject: pkix.Name{CommonName: name}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		NotAfter: time.Now().Add(lifetime), ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth}})
	return tls.Certificate{Certificate: [][]byte{certificate.Raw}, PrivateKey: key, Leaf: certificate}
}

func (a *authority) pool() *x509.CertPool {
	pool := x509.NewCertPool()
	pool.AddCert(a.certificate)
	return pool
}

// pemFiles are the files of a listener.
type pemFiles struct {
	t *testing.T
	config.TLS
}

func newPEMFiles(t *testing.T) pemFiles {
	dir := t.TempDir()
	return pemFiles{t, config.TLS{Certificate: filepath.Join(dir, "tls.crt"), Key: filepath.Join(dir, "tls.key")}}
}

func (f pemFiles) write(pair tls.Certificate) {
	f.t.Helper()
	f.writeFile(f.Certificate, "CERTIFICATE", pair.Certificate[0])
	f.writeKey(pair)
}

func (f pemFiles) writeKey(pair tls.Certificate) {
	f.t.Helper()
	der, err := x509.MarshalPKCS8PrivateKey(pair.PrivateKey)
	if err != nil {
		f.t.Fatal(err)
	}
	f.writeFile(f.Key, "PRIVATE KEY", der)
}

func (f *pemFiles) writeClientCA(a *authority) {
	f.t.Helper()
	f.ClientCA = filepath.Join(filepath.Dir(f.Key), "clients.pem")
	f.writeFile(f.ClientCA, "CERTIFICATE", a.certificate.Raw)
}

// writeFile replaces a file, as tools do that renew certificates.
func (f pemFiles) writeFile(name, kind string, der []byte) {
	f.t.Helper()
	if err := os.WriteFile(name+".new", pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600); err != nil {
		f.t.Fatal(err)
	}
	if err := os.Rename(name+".new", name); err != nil {
		f.t.Fatal(err)
	}
}

// journal is a log that can be read while it is written.
type journal struct {
	mu   sync.Mutex // guards text
	text bytes.Buffer
}

func (j *journal) Write(p []byte) (int, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.text.Write(p)
}

func (j *journal) count(piece string) int {
	j.mu.Lock()
	defer j.mu.Unlock()
	return strings.Count(j.text.String(), piece)
}

func (j *journal) logger() *slog.Logger { return slog.New(slog.NewTextHandler(j, nil)) }

// opened is a door that serves, with the handle to have its certificates read again.
type opened struct {
	*door
	t      *testing.T
	hangup chan os.Signal
}

func openDoor(t *testing.T, c config.TLS, logger *slog.Logger, h http.Handler) *opened {
	t.Helper()
	d, err := open("public", config.Listener{Address: "127.0.0.1:0", TLS: &c}, logger)
	if err != nil {
		t.Fatal(err)
	}
	o := &opened{d, t, make(chan os.Signal)}
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() {
		if err := d.serve(ctx, h, logger); err != nil {
			t.Error(err)
		}
	})
	plain := &door{name: "plain"}
	running.Go(func() { (&listeners{plain, d, plain}).reload(ctx, o.hangup) })
	t.Cleanup(func() {
		cancel()
		running.Wait()
	})
	return o
}

// reload returns when the files have been read again: the second signal is taken when the first has been dealt with.
func (o *opened) reload() {
	o.hangup <- os.Interrupt
	o.hangup <- os.Interrupt
}

// client has connections of its own.
func (o *opened) client(roots *authority, change func(*tls.Config)) *http.Client {
	config := &tls.Config{RootCAs: roots.pool()}
	if change != nil {
		change(config)
	}
	transport := &http.Transport{TLSClientConfig: config, ForceAttemptHTTP2: true}
	o.t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Transport: transport}
}

// ask returns the name that the server proved.
func (o *opened) ask(c *http.Client) (string, error) {
	resp, err := c.Get(o.url("/"))
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	if _, err := io.Copy(io.Discard, resp.Body); err != nil {
		return "", err
	}
	if resp.ProtoMajor != 2 {
		return "", errors.New("answered over " + resp.Proto)
	}
	return resp.TLS.PeerCertificates[0].Subject.CommonName, nil
}

func (o *opened) expect(c *http.Client, want string) {
	o.t.Helper()
	if got, err := o.ask(c); err != nil || got != want {
		o.t.Errorf("answered by %q, %v, not %q", got, err, want)
	}
}

func (o *opened) expectRefusal(c *http.Client) {
	o.t.Helper()
	if got, err := o.ask(c); err == nil {
		o.t.Errorf("answered by %q", got)
	}
}

func withCertificate(pair tls.Certificate) func(*tls.Config) {
	return func(c *tls.Config) {
		// Whatever authorities the server says it trusts.
		c.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &pair, nil }
	}
}

// A certificate is replaced under a download. Connections go on, new ones get the new certificate.
func TestCertificateIsReplaced(t *testing.T) {
	t.Cleanup(func() { goleak.VerifyNone(t) })
	ca, files := newAuthority(t, "CA"), newPEMFiles(t)
	files.write(ca.issue("old", time.Hour))
	begun, proceed := make(chan struct{}), make(chan struct{})
	o := openDoor(t, files.TLS, (&journal{}).logger(), http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/long" {
			return
		}
		w.Write([]byte("first "))
		http.NewResponseController(w).Flush()
		close(begun)
		<-proceed
		w.Write([]byte("second"))
	}))
	early := o.client(ca, nil)
	o.expect(early, "old")
	resp, err := early.Get(o.url("/long"))
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	<-begun
	files.write(ca.issue("new", time.Hour))
	o.reload()
	close(proceed)
	if body, err := io.ReadAll(resp.Body); err != nil || string(body) != "first second" {
		t.Errorf("the download got %q, %v", body, err)
	}
	o.expect(early, "old") // over the connection that it has
	o.expect(o.client(ca, nil), "new")
	o.expectRefusal(o.client(newAuthority(t, "another"), nil))
}

func TestClientCertificates(t *testing.T) {
	t.Cleanup(func() { goleak.VerifyNone(t) })
	ca, clients, others, files := newAuthority(t, "CA"), newAuthority(t, "clients"), newAuthority(t, "others"), newPEMFiles(t)
	files.write(ca.issue("server", time.Hour))
	files.writeClientCA(clients)
	o := openDoor(t, files.TLS, slog.New(slog.DiscardHandler), http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if len(r.TLS.VerifiedChains) == 0 {
			t.Error("an unknown client has come through")
		}
	}))
	good, other := clients.issue("client", time.Hour), others.issue("client", time.Hour)
	cache := tls.NewLRUClientSessionCache(1)
	resuming := func(c *tls.Config) {
		withCertificate(good)(c)
		c.ClientSessionCache = cache
	}
	early := o.client(ca, withCertificate(good))
	o.expect(early, "server")
	o.expect(o.client(ca, resuming), "server")
	o.expectRefusal(o.client(ca, nil))
	o.expectRefusal(o.client(ca, withCertificate(other)))
	o.expectRefusal(o.client(ca, withCertificate(clients.issue("expired", -time.Hour))))

	files.writeClientCA(others)
	o.reload()
	o.expect(early, "server") // over the connection that it has
	o.expect(o.client(ca, withCertificate(other)), "server")
	o.expectRefusal(o.client(ca, withCertificate(good)))
	o.expectRefusal(o.client(ca, resuming))

	if err := os.WriteFile(files.ClientCA, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	o.reload()
	o.expect(o.client(ca, withCertificate(other)), "server")
	o.expectRefusal(o.client(ca, nil))
}

func TestOldTLS(t *testing.T) {
	ca, files := newAuthority(t, "CA"), newPEMFiles(t)
	files.write(ca.issue("server", time.Hour))
	o := openDoor(t, files.TLS, slog.New(slog.DiscardHandler), http.NotFoundHandler())
	for version, good := range map[uint16]bool{tls.VersionTLS11: false, tls.VersionTLS12: true, tls.VersionTLS13: true} {
		conn, err := tls.Dial("tcp", o.Addr().String(), &tls.Config{RootCAs: ca.pool(), MinVersion: version, MaxVersion: version})
		if (err == nil) != good {
			t.Errorf("%s: %v", tls.VersionName(version), err)
		}
		if err == nil {
			conn.Close()
		}
	}
}

// Files are looked at now and then, by whoever comes; what is wrong with them is said once.
func TestCertificatesAreLookedAt(t *testing.T) {
	ca, files, log, now := newAuthority(t, "CA"), newPEMFiles(t), &journal{}, time.Now()
	first, second := ca.issue("first", time.Hour), ca.issue("second", time.Hour)
	files.write(first)
	c, err := loadCertificates(files.TLS, log.logger(), func() time.Time { return now })
	if err != nil {
		t.Fatal(err)
	}
	remove := func(name string) {
		if err := os.Remove(name); err != nil {
			t.Fatal(err)
		}
	}
	for i, step := range []struct {
		change       func()
		wait         time.Duration
		serves       string
		errors, news int // in the log until now
	}{
		{func() {}, lookInterval, "first", 0, 0},
		{func() { files.write(second) }, lookInterval - 1, "first", 0, 0},
		{func() {}, 1, "second", 0, 1},
		{func() { files.writeKey(first) }, lookInterval, "second", 1, 1}, // the key of another certificate
		{func() {}, lookInterval, "second", 1, 1},
		{func() {}, lookInterval, "second", 1, 1},
		{func() { files.write(first) }, lookInterval, "first", 1, 2},
		{func() { remove(files.Key) }, lookInterval, "first", 2, 2},
		{func() {}, lookInterval, "first", 2, 2},
		{func() { files.writeFile(files.Certificate, "CERTIFICATE", []byte("no")) }, lookInterval, "first", 3, 2},
		{func() { files.write(ca.issue("expired", -time.Minute)) }, lookInterval, "first", 4, 2},
		{func() {}, lookInterval, "first", 4, 2},
		{func() { files.write(second) }, lookInterval, "second", 4, 3},
		{func() { c.reload() }, 0, "second", 4, 4}, // whether they have changed or not
	} {
		step.change()
		now = now.Add(step.wait)
		got := c.current().Certificates[0].Leaf.Subject.CommonName
		if errors, news := log.count("not replaced"), log.count("certificates replaced"); got != step.serves || errors != step.errors || news != step.news {
			t.Errorf("step %d: serves %s, %d errors and %d news logged, want %s, %d and %d", i, got, errors, news, step.serves, step.errors, step.news)
		}
	}
}

func TestDoorsThatDoNotOpen(t *testing.T) {
	ca, files := newAuthority(t, "CA"), newPEMFiles(t)
	files.write(ca.issue("server", time.Hour))
	files.ClientCA = files.Key // a file with PEM that is no certificate
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	free := config.Listener{Address: "127.0.0.1:0"}
	for want, c := range map[string]config.Config{
		"listen for admin":         {Signaling: free, Public: free, Admin: config.Listener{Address: taken.Addr().String()}},
		"client authorities":       {Signaling: free, Public: config.Listener{Address: "127.0.0.1:0", TLS: &files.TLS}, Admin: free},
		"TLS for signaling: certi": {Signaling: config.Listener{Address: "127.0.0.1:0", TLS: &config.TLS{Certificate: "none", Key: "none"}}, Public: free, Admin: free},
	} {
		if _, err := listen(&c, slog.New(slog.DiscardHandler)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %s", err, want)
		}
	}
}

// A host starts with a certificate that has expired, since its clients may not mind, and says so.
func TestExpiredCertificate(t *testing.T) {
	ca, files, log := newAuthority(t, "CA"), newPEMFiles(t), &journal{}
	files.write(ca.issue("expired", -time.Minute))
	o := openDoor(t, files.TLS, log.logger(), http.NotFoundHandler())
	if log.count("has expired") != 1 {
		t.Error("nothing is said of it")
	}
	o.expectRefusal(o.client(ca, nil))
	files.write(ca.issue("renewed", time.Hour))
	o.reload()
	o.expect(o.client(ca, nil), "renewed")
}
