package main

import (
	"context"
	"crypto/tls"
	"net"
	"strings"
	"time"

	"github.com/emersion/go-sasl"
	"github.com/emersion/go-smtp"

	"github.com/towpath-dataplane/towpath/sdk"
)

// session is a connection to the server, ready for mails. It ends with the context that it was made with.
type session struct {
	ctx      context.Context
	settings *settings
	client   *smtp.Client
	limit    int64 // of the server, for a mail; 0: none
	data     *smtp.DataCommand
	release  func() bool // of the context
}

// connect greets the server, agrees on TLS and logs in, within the timeout.
func (s *settings) connect(ctx context.Context) (*session, error) {
	short, cancel := context.WithTimeout(ctx, time.Duration(s.Timeout))
	defer cancel()
	client, err := s.greet(short)
	if err != nil {
		return nil, s.failure(ctx, err, "connect to the mail server")
	}
	release := context.AfterFunc(short, func() { client.Close() })
	defer release()
	if err := s.logIn(client); err != nil {
		client.Close()
		return nil, s.failure(ctx, err, "log in at the mail server")
	}
	client.SubmissionTimeout = time.Duration(s.DeliveryTimeout)
	out := &session{ctx: ctx, settings: s, client: client}
	if n, ok := client.MaxMessageSize(); ok {
		out.limit = int64(n)
	}
	out.release = context.AfterFunc(ctx, func() { client.Close() })
	return out, nil
}

// greet returns a client that has said EHLO, under TLS where that is wanted.
func (s *settings) greet(ctx context.Context) (*smtp.Client, error) {
	client, err := s.dial(ctx, s.TLS == tlsStart)
	if err != nil || s.TLS != tlsOptional {
		return client, err
	}
	offered, _ := client.Extension("STARTTLS")
	if !offered {
		return client, nil
	}
	client.Close() // STARTTLS has to come first
	return s.dial(ctx, true)
}

func (s *settings) dial(ctx context.Context, startTLS bool) (*smtp.Client, error) {
	raw, err := new(net.Dialer).DialContext(ctx, "tcp", s.address())
	if err != nil {
		return nil, err
	}
	conn := net.Conn(&patient{Conn: raw, idle: time.Duration(s.IdleTimeout)})
	defer context.AfterFunc(ctx, func() { raw.Close() })()
	client, err := s.introduce(conn, startTLS)
	if err != nil {
		raw.Close()
		return nil, err
	}
	return client, nil
}

func (s *settings) introduce(conn net.Conn, startTLS bool) (*smtp.Client, error) {
	var client *smtp.Client
	switch {
	case startTLS:
		var err error
		if client, err = smtp.NewClientStartTLS(conn, s.tlsConfig); err != nil {
			return nil, err
		}
	case s.TLS == tlsImplicit:
		client = smtp.NewClient(tls.Client(conn, s.tlsConfig))
	default:
		client = smtp.NewClient(conn)
	}
	client.CommandTimeout = time.Duration(s.IdleTimeout)
	return client, client.Hello(s.Hello)
}

func (s *settings) logIn(c *smtp.Client) error {
	if s.Username == "" {
		return nil
	}
	if _, secure := c.TLSConnectionState(); !secure && !s.onThisMachine() {
		return sdk.Errorf(sdk.Denied, "the server offers no TLS, and a password is not sent without it")
	}
	switch {
	case c.SupportsAuth(sasl.Plain):
		return c.Auth(sasl.NewPlainClient("", s.Username, s.Password))
	case c.SupportsAuth(sasl.Login):
		return c.Auth(sasl.NewLoginClient(s.Username, s.Password))
	}
	return sdk.Errorf(sdk.Unsupported, "the server offers neither AUTH PLAIN nor AUTH LOGIN")
}

// begin opens a mail to all recipients, or to none. size is 0 if it is not known.
func (s *session) begin(to destination, size int64) (*body, error) {
	if err := s.client.Mail(to.sender.Address, &smtp.MailOptions{Size: size}); err != nil {
		return nil, s.failure(err, "send from "+to.sender.Address)
	}
	for _, a := range to.to {
		if err := s.client.Rcpt(a.Address, nil); err != nil {
			return nil, s.failure(err, "send to "+a.Address)
		}
	}
	data, err := s.client.Data()
	if err != nil {
		return nil, s.failure(err, "send")
	}
	s.data = data
	return &body{session: s}, nil
}

// deliver ends the mail, and returns what the server says: one line.
func (s *session) deliver() (string, error) {
	answer, err := s.data.CloseWithResponse()
	if err != nil {
		return "", s.failure(err, "deliver")
	}
	return s.settings.words(answer.StatusText), nil
}

func (s *session) failure(err error, attempt string) error {
	return s.settings.failure(s.ctx, err, attempt)
}

func (s *session) close() {
	s.release()
	s.client.Close()
}

// quit is polite, and does not wait long.
func (s *session) quit() {
	s.client.CommandTimeout = min(s.client.CommandTimeout, 5*time.Second)
	if s.client.Quit() != nil {
		s.client.Close()
	}
	s.release()
}

// body takes a mail, up to the limits.
type body struct {
	session *session
	written int64
	most    []int64 // the operator's limit and the server's; 0: none
}

func (b *body) limits(operator, server int64) { b.most = []int64{operator, server} }

func (b *body) Write(p []byte) (int, error) {
	size := b.written + int64(len(p))
	for i, most := range b.most {
		if most > 0 && size > most {
			return 0, tooLarge(size, most, []string{"this data plane allows", "the server allows"}[i])
		}
	}
	n, err := b.session.data.Write(p)
	b.written += int64(n)
	if err != nil {
		return n, b.session.failure(err, "send")
	}
	return n, nil
}

// patient is a connection that waits only so long until the other side takes something.
type patient struct {
	net.Conn
	idle time.Duration
}

func (c *patient) Write(p []byte) (int, error) {
	if err := c.Conn.SetWriteDeadline(time.Now().Add(c.idle)); err != nil {
		return 0, err
	}
	return c.Conn.Write(p)
}

// oneLine makes a text fit for a log.
func oneLine(text string) string {
	return strings.Join(strings.FieldsFunc(text, func(r rune) bool { return r <= ' ' || r == 0x7f || r == '\uFFFD' }), " ")
}
