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
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"math/big"
	"mime"
	"mime/multipart"
	"net"
	"net/mail"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/emersion/go-sasl"
	"github.com/emersion/go-smtp"

	"github.com/towpath-dataplane/towpath/sdk"
)

// post is an SMTP server that keeps the mails it has accepted.
type post struct {
	host string
	port int
	ca   string

	auth    bool
	onMail  func(size int64) error
	onRcpt  func(to string) error
	onData  func(r io.Reader) error // before a mail is read
	onEnd   func() error            // when it is read
	session func() error

	mu    sync.Mutex
	mails []received
}

// received is a mail, parsed.
type received struct {
	from   string
	to     []string
	header mail.Header
	size   int
	parts  []receivedPart
}

type receivedPart struct {
	typ, name, disposition string
	content                []byte
}

// newPost starts a server; change is given the chance to make it special.
func newPost(t *testing.T, p *post, change func(*smtp.Server)) *post {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p.host, p.port = "127.0.0.1", l.Addr().(*net.TCPAddr).Port
	server := smtp.NewServer(smtp.BackendFunc(func(*smtp.Conn) (smtp.Session, error) {
		if p.session != nil {
			if err := p.session(); err != nil {
				return nil, err
			}
		}
		s := &postSession{post: p}
		if p.auth {
			return &authSession{postSession: s}, nil
		}
		return s, nil
	}))
	server.Domain, server.AllowInsecureAuth = "post.example", true
	server.ErrorLog = discard{}
	implicit := false
	if change != nil {
		change(server)
	}
	if server.LMTP { // means TLS from the first byte on, here
		server.LMTP, implicit = false, true
	}
	if server.TLSConfig != nil {
		server.TLSConfig, p.ca = certificate(t)
	}
	if implicit {
		l, server.TLSConfig = tls.NewListener(l, server.TLSConfig), nil
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		server.Serve(l)
	}()
	t.Cleanup(func() {
		server.Close()
		l.Close() // the server may not have known it yet
		<-done
	})
	return p
}

type discard struct{}

func (discard) Printf(string, ...any) {}
func (discard) Println(...any)        {}

// certificate returns one for 127.0.0.1, and itself in PEM.
func certificate(t *testing.T) (*tls.Config, string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	c := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "post"}, IsCA: true, BasicConstraintsValid: true,
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, c, c, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	config := &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}}
	return config, string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
}

type postSession struct {
	post *post
	from string
	to   []string
}

func (s *postSession) Reset()        { s.from, s.to = "", nil }
func (s *postSession) Logout() error { return nil }

func (s *postSession) Mail(from string, o *smtp.MailOptions) error {
	s.from = from
	if s.post.onMail != nil {
		return s.post.onMail(o.Size)
	}
	return nil
}

func (s *postSession) Rcpt(to string, _ *smtp.RcptOptions) error {
	if s.post.onRcpt != nil {
		if err := s.post.onRcpt(to); err != nil {
			return err
		}
	}
	s.to = append(s.to, to)
	return nil
}

func (s *postSession) Data(r io.Reader) error {
	if s.post.onData != nil {
		if err := s.post.onData(r); err != nil {
			return err
		}
	}
	raw, err := io.ReadAll(r)
	if err != nil {
		return err
	}
	m, err := parseMail(raw)
	if err != nil {
		return &smtp.SMTPError{Code: 554, Message: err.Error()}
	}
	m.from, m.to = s.from, s.to
	s.post.mu.Lock()
	s.post.mails = append(s.post.mails, m)
	s.post.mu.Unlock()
	if s.post.onEnd != nil {
		return s.post.onEnd()
	}
	return nil
}

type authSession struct{ *postSession }

func (s *authSession) AuthMechanisms() []string { return []string{sasl.Plain} }
func (s *authSession) Auth(string) (sasl.Server, error) {
	return sasl.NewPlainServer(func(_, username, password string) error {
		if username != "user" || password != "right" {
			return &smtp.SMTPError{Code: 535, EnhancedCode: smtp.EnhancedCode{5, 7, 8}, Message: "no " + password + ", sorry"}
		}
		return nil
	}), nil
}

// parseMail is strict where mails get broken.
func parseMail(raw []byte) (received, error) {
	m := received{size: len(raw)}
	for line := range bytes.Lines(raw) {
		if len(line) > 1000 || !bytes.HasSuffix(line, []byte("\r\n")) || bytes.ContainsFunc(line, func(r rune) bool { return r > '~' }) {
			return m, fmt.Errorf("a line of %d bytes is not one of a mail", len(line))
		}
	}
	parsed, err := mail.ReadMessage(bytes.NewReader(raw))
	if err != nil {
		return m, err
	}
	m.header = parsed.Header
	_, parameters, err := mime.ParseMediaType(parsed.Header.Get("Content-Type"))
	if err != nil {
		return m, err
	}
	reader := multipart.NewReader(parsed.Body, parameters["boundary"])
	for {
		p, err := reader.NextPart()
		if err == io.EOF {
			return m, nil
		}
		if err != nil {
			return m, err
		}
		part, err := parsePart(p)
		if err != nil {
			return m, err
		}
		m.parts = append(m.parts, part)
	}
}

func parsePart(p *multipart.Part) (receivedPart, error) {
	out := receivedPart{typ: p.Header.Get("Content-Type")}
	var r io.Reader = p
	if p.Header.Get("Content-Transfer-Encoding") == "base64" {
		r = base64.NewDecoder(base64.StdEncoding, r)
	}
	var err error
	if out.content, err = io.ReadAll(r); err != nil {
		return out, err
	}
	if d := p.Header.Get("Content-Disposition"); d != "" {
		var parameters map[string]string
		if out.disposition, parameters, err = mime.ParseMediaType(d); err != nil {
			return out, err
		}
		out.name = parameters["filename"]
	}
	return out, nil
}

// all are the mails that were accepted.
func (p *post) all() []received {
	p.mu.Lock()
	defer p.mu.Unlock()
	return append([]received(nil), p.mails...)
}

// attachments are those of all mails by their names; a mail that came twice counts once.
func (p *post) attachments() (map[string][]byte, error) {
	seen, out := map[string]bool{}, map[string][]byte{}
	for _, m := range p.all() {
		id := m.header.Get("Message-ID")
		if seen[id] {
			continue
		}
		seen[id] = true
		if len(m.parts) != 2 || m.parts[1].disposition != "attachment" {
			return nil, fmt.Errorf("mail %s has %d parts", id, len(m.parts))
		}
		if _, twice := out[m.parts[1].name]; twice {
			return nil, fmt.Errorf("two mails have %q", m.parts[1].name)
		}
		out[m.parts[1].name] = m.parts[1].content
	}
	return out, nil
}

// config is what a plugin needs to use the server.
func (p *post) config(more map[string]any) map[string]any {
	c := map[string]any{"server": p.host, "port": p.port, "tls": tlsOff, "sender": "Data Space <data@provider.example>", "hello": "dataplane"}
	for name, value := range more {
		c[name] = value
	}
	return c
}

// newSink returns the sink of a configured plugin.
func newSink(t *testing.T, config map[string]any) sdk.DataSink {
	t.Helper()
	p := newPlugin()
	if err := configurePlugin(p, config); err != nil {
		t.Fatal(err)
	}
	return sdk.NewDataSink(p.Sinks[0])
}

func configurePlugin(p sdk.Plugin, config map[string]any) error {
	encoded, err := json.Marshal(config)
	if err != nil {
		return err
	}
	return p.Configure(context.Background(), sdk.Config{JSON: encoded})
}

func address(properties ...string) sdk.DataAddress {
	a := sdk.DataAddress{Type: addressType, Properties: map[string]string{"recipient": "them@consumer.example"}}
	for i := 0; i < len(properties); i += 2 {
		a.Properties[properties[i]] = properties[i+1]
	}
	return a
}

// send writes parts of a flow, as a host does.
func send(t *testing.T, s sdk.DataSink, a sdk.DataAddress, parts ...sdk.Part) ([]*sdk.PartWritten, error) {
	t.Helper()
	source := sdk.NewDataSource(sdk.SourceType{AddressType: sdk.AddressType{Type: "Test", Address: sdk.Schema{Open: true}}, Source: partsSource(parts)})
	from, err := source.Read(t.Context(), sdk.ReadOpen{Flow: testFlow, Address: sdk.DataAddress{Type: "Test"}, Digests: sdk.Algorithms()})
	if err != nil {
		t.Fatal(err)
	}
	defer from.Close()
	to, err := s.Write(t.Context(), sdk.WriteOpen{Flow: testFlow, Address: a, Digests: sdk.Algorithms()})
	if err != nil {
		return nil, err
	}
	defer to.Close()
	go func() {
		for {
			f, err := from.Recv()
			if err != nil || to.Send(f) != nil {
				return
			}
		}
	}()
	var written []*sdk.PartWritten
	for {
		up, err := to.Recv()
		if err == io.EOF {
			return written, nil
		}
		if err != nil {
			return written, err
		}
		if w, ok := up.(*sdk.PartWritten); ok {
			written = append(written, w)
		}
	}
}

var testFlow = sdk.FlowContext{ParticipantContext: "default", ID: "flow-1"}

// wantError checks the code of an error and what it says.
func wantError(t *testing.T, err error, code sdk.Code, retryable bool, says ...string) {
	t.Helper()
	e := sdk.AsError(err)
	if e == nil {
		t.Fatal("no error")
	}
	if e.Code != code || e.Retryable != retryable {
		t.Errorf("%q has code %s, retryable %t, want %s, %t", err, e.Code, e.Retryable, code, retryable)
	}
	for _, text := range says {
		if !strings.Contains(err.Error(), text) {
			t.Errorf("%q does not say %q", err, text)
		}
	}
	if strings.ContainsAny(err.Error(), "\r\n") {
		t.Errorf("%q is not one line", err)
	}
}

var (
	errGone = errors.New("gone")
	// certificateWanted stands for one that newPost makes.
	certificateWanted = &tls.Config{MinVersion: tls.VersionTLS12}
)
