package pluginhost

import (
	"bufio"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"io"
	"math/big"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// loner is a plugin that lives on its own.
type loner struct {
	t        *testing.T
	binary   string
	name     string
	settings Settings // with which a host dials it
	more     []string // arguments besides the address

	cmd    *exec.Cmd
	exited chan struct{}
}

// newLoner starts a plugin, at a socket or behind mutual TLS. It ends with the test.
func newLoner(t *testing.T, binary, name, network string) *loner {
	t.Helper()
	return newCertificates(t).loner(t, binary, name, network, "plugin")
}

// loner starts a plugin that shows a certificate of these.
func (c certificates) loner(t *testing.T, binary, name, network, shows string) *loner {
	t.Helper()
	dir := runtimeDir(t)
	p := &loner{t: t, binary: filepath.Join(dir, filePrefix+name), name: name}
	if err := os.Link(binary, p.binary); err != nil {
		t.Fatal(err)
	}
	p.settings = Settings{Address: "unix://" + filepath.Join(dir, "s")}
	if network == "tcp" {
		p.settings = c.settings("tcp://127.0.0.1:0")
		p.more = []string{"-certificate", c.file(shows + ".pem"), "-key", c.file(shows + ".key"), "-client-ca", c.file("ca.pem")}
	}
	t.Cleanup(p.kill)
	p.start()
	return p
}

// plugin is what a host is told of it.
func (p *loner) plugin() map[string]Settings { return map[string]Settings{p.name: p.settings} }

var listens = regexp.MustCompile(`address=(\S+)`)

// start starts it, and returns when it can be dialled. It comes back where it was.
func (p *loner) start() {
	p.t.Helper()
	p.cmd = exec.Command(p.binary, append([]string{"-listen", p.settings.Address}, p.more...)...)
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	stderr, err := p.cmd.StderrPipe()
	if err == nil {
		err = p.cmd.Start()
	}
	if err != nil {
		p.t.Fatal(err)
	}
	exited := make(chan struct{})
	p.exited = exited
	said, ready := &strings.Builder{}, make(chan string, 1)
	go func(cmd *exec.Cmd) {
		defer close(exited)
		lines := bufio.NewScanner(stderr)
		for lines.Scan() {
			said.WriteString(lines.Text() + "\n")
			if m := listens.FindStringSubmatch(lines.Text()); m != nil {
				ready <- m[1]
			}
		}
		cmd.Wait()
	}(p.cmd)
	select {
	case p.settings.Address = <-ready:
	case <-exited:
		p.t.Fatalf("%s has ended: %s", p.binary, said)
	}
}

func (p *loner) signal(s syscall.Signal) {
	p.cmd.Process.Signal(s)
}

// stop has it end by itself.
func (p *loner) stop() {
	p.signal(syscall.SIGTERM)
	<-p.exited
}

func (p *loner) kill() {
	p.signal(syscall.SIGKILL)
	<-p.exited
}

// listenOn has a program in this process listen, in place of a plugin, and returns where. It stops with the test.
func listenOn(t *testing.T, network, address string, serve func(l net.Listener)) string {
	t.Helper()
	l := newTrackedListener(t, network, address)
	serve(l)
	return l.Addr().String()
}

// startOn is listenOn for a program that is stopped before the test ends, with all its connections.
func startOn(t *testing.T, network, address string, serve func(l net.Listener)) (stop func()) {
	t.Helper()
	l := newTrackedListener(t, network, address)
	serve(l)
	if network == "unix" {
		if err := os.Chmod(address, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return l.stop
}

// trackedListener closes its connections when it is stopped.
type trackedListener struct {
	net.Listener
	mu    sync.Mutex // guards conns
	conns []net.Conn
}

func newTrackedListener(t *testing.T, network, address string) *trackedListener {
	t.Helper()
	l, err := net.Listen(network, address)
	if err != nil {
		t.Fatal(err)
	}
	tracked := &trackedListener{Listener: l}
	t.Cleanup(tracked.stop)
	return tracked
}

func (l *trackedListener) Accept() (net.Conn, error) {
	conn, err := l.Listener.Accept()
	if err == nil {
		l.mu.Lock()
		defer l.mu.Unlock()
		l.conns = append(l.conns, conn)
	}
	return conn, err
}

func (l *trackedListener) stop() {
	l.Close()
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, conn := range l.conns {
		conn.Close()
	}
}

// each has every connection handled, until the listener closes.
func each(l net.Listener, handle func(conn net.Conn)) {
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			handle(conn)
		}
	}()
}

// accept never says anything, hangUp neither, and chatter what nobody understands.
func accept(l net.Listener) { each(l, func(net.Conn) {}) }
func hangUp(l net.Listener) { each(l, func(conn net.Conn) { conn.Close() }) }
func chatter(l net.Listener) {
	each(l, func(conn net.Conn) {
		io.WriteString(conn, "220 mail.example ESMTP ready, what can I do for you today\r\n")
	})
}

// certificates are files of one authority, "ca", and of another, "stranger": NAME.pem and NAME.key.
type certificates struct{ dir string }

func (c certificates) file(name string) string { return filepath.Join(c.dir, name) }

// settings are those of a host for a plugin at an address.
func (c certificates) settings(address string) Settings {
	return Settings{Address: address, TLS: &DialTLS{Certificate: c.file("host.pem"), Key: c.file("host.key"), CA: c.file("ca.pem")}}
}

func newCertificates(t *testing.T) certificates {
	t.Helper()
	c := certificates{t.TempDir()}
	now := time.Now()
	ca := c.issue(t, "ca", nil, x509.Certificate{IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign, NotAfter: now.Add(time.Hour)})
	here := []net.IP{net.IPv4(127, 0, 0, 1)}
	c.issue(t, "plugin", ca, x509.Certificate{NotAfter: now.Add(time.Hour), IPAddresses: here})
	c.issue(t, "host", ca, x509.Certificate{NotAfter: now.Add(time.Hour)})
	c.issue(t, "elsewhere", ca, x509.Certificate{NotAfter: now.Add(time.Hour), IPAddresses: []net.IP{net.IPv4(127, 0, 0, 2)}})
	c.issue(t, "expired", ca, x509.Certificate{NotAfter: now.Add(-time.Minute), IPAddresses: here})
	c.issue(t, "stranger", nil, x509.Certificate{NotAfter: now.Add(time.Hour), IPAddresses: here})
	return c
}

// issued is a certificate and its key.
type issued struct {
	certificate *x509.Certificate
	key         *ecdsa.PrivateKey
}

// issue writes a certificate, signed by itself if there is no authority.
func (c certificates) issue(t *testing.T, name string, by *issued, template x509.Certificate) *issued {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template.Subject, template.SerialNumber, template.NotBefore = pkix.Name{CommonName: name}, big.NewInt(1), time.Now().Add(-time.Hour)
	if by == nil {
		by = &issued{&template, key}
	}
	der, err := x509.CreateCertificate(rand.Reader, &template, by.certificate, key.Public(), by.key)
	if err != nil {
		t.Fatal(err)
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	for file, block := range map[string]*pem.Block{".pem": {Type: "CERTIFICATE", Bytes: der}, ".key": {Type: "PRIVATE KEY", Bytes: private}} {
		if err := os.WriteFile(c.file(name+file), pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return &issued{&template, key}
}
