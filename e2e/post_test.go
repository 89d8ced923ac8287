//go:build linux

package e2e_test

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/hex"
	"encoding/pem"
	"fmt"
	"io"
	"math/big"
	"mime"
	"mime/multipart"
	"net"
	"net/mail"
	"sync"
	"testing"
	"time"

	"github.com/emersion/go-sasl"
	"github.com/emersion/go-smtp"
)

// postOptions make an SMTP server special.
type postOptions struct {
	address  string // default: a free one
	tls      bool
	implicit bool   // from the first byte on
	password string // of the user dataplane; "": nobody logs in
	limit    int64  // of a mail
	accepted func() // called between a mail that is kept and the answer
}

// post is an SMTP server that keeps the mails it has accepted.
type post struct {
	postOptions
	certificate string // PEM

	mu    sync.Mutex
	mails []delivered
}

// delivered is a mail with one attachment.
type delivered struct {
	from, id, subject, name string
	to                      []string
	content                 []byte
}

func startPost(t testing.TB, o postOptions) *post {
	t.Helper()
	p := &post{postOptions: o}
	if p.address == "" {
		p.address = freeAddress(t)
	}
	l, err := net.Listen("tcp", p.address)
	if err != nil {
		t.Fatal(err)
	}
	server := smtp.NewServer(p)
	server.AllowInsecureAuth, server.MaxMessageBytes = true, o.limit
	if o.tls {
		config := p.certify(t)
		if o.implicit {
			l = tls.NewListener(l, config)
		} else {
			server.TLSConfig = config
		}
	}
	var work sync.WaitGroup
	work.Go(func() { server.Serve(l) })
	t.Cleanup(func() {
		server.Close()
		l.Close() // the server may not have known it yet
		work.Wait()
	})
	return p
}

// certify makes a certificate that stands for itself.
func (p *post) certify(t testing.TB) *tls.Config {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	c := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "post"}, IsCA: true, BasicConstraintsValid: true,
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, c, c, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	p.certificate = string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
	return &tls.Config{MinVersion: tls.VersionTLS12, Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}}
}

// all are the mails that were accepted.
func (p *post) all() []delivered {
	p.mu.Lock()
	defer p.mu.Unlock()
	return append([]delivered(nil), p.mails...)
}

// NewSession begins a connection.
func (p *post) NewSession(*smtp.Conn) (smtp.Session, error) {
	return &postSession{post: p, loggedIn: p.password == ""}, nil
}

type postSession struct {
	post     *post
	loggedIn bool
	from     string
	to       []string
}

func (s *postSession) Reset()                   { s.from, s.to = "", nil }
func (s *postSession) Logout() error            { return nil }
func (s *postSession) AuthMechanisms() []string { return []string{sasl.Plain} }

func (s *postSession) Auth(string) (sasl.Server, error) {
	return sasl.NewPlainServer(func(_, user, password string) error {
		if s.loggedIn = user == "dataplane" && password == s.post.password; !s.loggedIn {
			return smtp.ErrAuthFailed
		}
		return nil
	}), nil
}

func (s *postSession) Mail(from string, _ *smtp.MailOptions) error {
	if !s.loggedIn {
		return smtp.ErrAuthRequired
	}
	s.from = from
	return nil
}

func (s *postSession) Rcpt(to string, _ *smtp.RcptOptions) error {
	s.to = append(s.to, to)
	return nil
}

func (s *postSession) Data(r io.Reader) error {
	raw, err := io.ReadAll(r)
	if err != nil {
		return err
	}
	m, err := readMail(raw)
	if err != nil {
		return &smtp.SMTPError{Code: 554, Message: err.Error()}
	}
	m.from, m.to = s.from, s.to
	s.post.mu.Lock()
	s.post.mails = append(s.post.mails, m)
	s.post.mu.Unlock()
	if s.post.accepted != nil {
		s.post.accepted()
	}
	return nil
}

// readMail reads a mail of a text and an attachment.
func readMail(raw []byte) (m delivered, err error) {
	parsed, err := mail.ReadMessage(bytes.NewReader(raw))
	if err != nil {
		return m, err
	}
	m.id, m.subject = parsed.Header.Get("Message-ID"), parsed.Header.Get("Subject")
	_, parameters, err := mime.ParseMediaType(parsed.Header.Get("Content-Type"))
	if err != nil {
		return m, err
	}
	parts := multipart.NewReader(parsed.Body, parameters["boundary"])
	if _, err := parts.NextPart(); err != nil {
		return m, fmt.Errorf("its text: %w", err)
	}
	attached, err := parts.NextPart()
	if err != nil {
		return m, fmt.Errorf("its attachment: %w", err)
	}
	if m.content, err = io.ReadAll(base64.NewDecoder(base64.StdEncoding, attached)); err != nil {
		return m, err
	}
	_, parameters, err = mime.ParseMediaType(attached.Header.Get("Content-Disposition"))
	m.name = parameters["filename"]
	return m, err
}

func sumOf(content []byte) string {
	sum := sha256.Sum256(content)
	return hex.EncodeToString(sum[:])
}
