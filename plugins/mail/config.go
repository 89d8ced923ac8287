package main

import (
	"cmp"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net"
	"net/netip"
	"os"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/towpath-dataplane/towpath/sdk"
)

// Values of settings.TLS.
const (
	tlsImplicit = "implicit" // from the first byte on
	tlsStart    = "starttls" // STARTTLS, or nothing is sent
	tlsOptional = "optional" // STARTTLS where the server offers it
	tlsOff      = "off"
)

// settings is the plugin's configuration block, and what is made of it.
type settings struct {
	Server          string       `json:"server"`
	Port            int          `json:"port"`
	TLS             string       `json:"tls"`
	CA              string       `json:"ca"`
	Username        string       `json:"username"`
	Password        string       `json:"password"`
	Hello           string       `json:"hello"`
	Sender          string       `json:"sender"`
	AllowSenders    []string     `json:"allow_senders"`
	AllowRecipients []string     `json:"allow_recipients"`
	MaxRecipients   int          `json:"max_recipients"`
	MaxMessage      sdk.ByteSize `json:"max_message"`
	Timeout         sdk.TimeSpan `json:"timeout"`
	IdleTimeout     sdk.TimeSpan `json:"idle_timeout"`
	DeliveryTimeout sdk.TimeSpan `json:"delivery_timeout"`

	tlsConfig  *tls.Config
	senders    *regexp.Regexp // besides Sender; nil: none
	recipients *regexp.Regexp // nil: all
}

func defaultSettings() settings {
	return settings{
		TLS:             tlsStart,
		MaxRecipients:   20,
		MaxMessage:      25 << 20,
		Timeout:         sdk.TimeSpan(30 * time.Second),
		IdleTimeout:     sdk.TimeSpan(5 * time.Minute),
		DeliveryTimeout: sdk.TimeSpan(12 * time.Minute),
	}
}

// configSchema describes settings. Its defaults are those of defaultSettings.
func configSchema() sdk.Schema {
	return sdk.Schema{Fields: []sdk.Field{
		{Name: "server", Required: true, Documentation: "Host name or IP address of the SMTP server that takes the mails."},
		{Name: "port", Kind: sdk.Int, Documentation: "Its port. Default: 465 with `tls = \"implicit\"`, 25 with `tls = \"off\"`, otherwise 587."},
		{Name: "tls", Default: tlsStart, OneOf: []string{tlsImplicit, tlsStart, tlsOptional, tlsOff}, Documentation: "TLS from the first " +
			"byte on (`implicit`), by STARTTLS (`starttls`: nothing is sent without it; `optional`: where the server offers it), or none (`off`)."},
		{Name: "ca", Documentation: "PEM certificates to trust besides those of the system, such as `file(\"ca.pem\")`."},
		{Name: "username", Documentation: "User to log in as, by AUTH PLAIN or LOGIN. A server that is not on this machine gets it over TLS only."},
		{Name: "password", Sensitive: true, Documentation: "Password of `username`."},
		{Name: "hello", Documentation: "Name that the plugin greets the server with. Default: the name of this machine."},
		{Name: "sender", Required: true, Documentation: "Address that mails come from, and that bounces go to, such as " +
			"`Data Space <data@provider.example>`."},
		{Name: "allow_senders", Kind: sdk.StringList, Documentation: "Senders that a data address may name in place of `sender`, such as " +
			"`*@provider.example`. Default: none."},
		{Name: "allow_recipients", Kind: sdk.StringList, Documentation: "Recipients that data addresses may name, such as " +
			"`*@consumer.example`; `*` stands for any characters. Default: all."},
		{Name: "max_recipients", Kind: sdk.Int, Default: "20", Documentation: "Most recipients of a data address."},
		{Name: "max_message", Kind: sdk.Size, Default: "25MiB", Documentation: "Largest mail, as it is sent: some 37 % more than its " +
			"attachment. The limit that the server announces holds besides."},
		{Name: "timeout", Kind: sdk.Duration, Default: "30s", Documentation: "Longest time to connect, agree on TLS and log in."},
		{Name: "idle_timeout", Kind: sdk.Duration, Default: "5m", Documentation: "Longest time in which the server neither answers nor takes a byte."},
		{Name: "delivery_timeout", Kind: sdk.Duration, Default: "12m", Documentation: "Longest time until the server accepts a mail that it has all of."},
	}}
}

func configure(c sdk.Config) (settings, error) {
	s := defaultSettings()
	if err := c.Decode(&s); err != nil {
		return s, err
	}
	return s, s.complete()
}

// complete checks the settings, and makes what follows from them.
func (s *settings) complete() error {
	var fields []sdk.FieldError
	refuse := func(field, why string) { fields = append(fields, sdk.FieldError{Field: field, Message: why}) }
	if s.Server == "" || strings.ContainsAny(s.Server, "/@ []") {
		refuse("server", "is not a host name or an IP address")
	}
	if s.Port < 0 || s.Port > 65535 {
		refuse("port", "is not a port")
	}
	if (s.Username == "") != (s.Password == "") {
		refuse("username", "needs password, and the other way round")
	}
	if s.Username != "" && s.TLS == tlsOff && !s.onThisMachine() {
		refuse("tls", "has to be on where there is a password")
	}
	if _, err := parseAddress(s.Sender); err != nil {
		refuse("sender", err.Error())
	}
	for field, d := range map[string]sdk.TimeSpan{"timeout": s.Timeout, "idle_timeout": s.IdleTimeout, "delivery_timeout": s.DeliveryTimeout} {
		if d <= 0 {
			refuse(field, "is not more than 0")
		}
	}
	if s.MaxRecipients < 1 {
		refuse("max_recipients", "is not more than 0")
	}
	if s.MaxMessage < 1 {
		refuse("max_message", "is not more than 0")
	}
	if s.Hello = cmp.Or(s.Hello, hostName()); strings.ContainsFunc(s.Hello, func(r rune) bool { return r <= ' ' || r > '~' }) {
		refuse("hello", "is not the name of a machine")
	}
	s.tlsConfig = &tls.Config{MinVersion: tls.VersionTLS12, ServerName: s.Server}
	if err := s.trust(); err != nil {
		refuse("ca", err.Error())
	}
	s.senders, s.recipients = patterns(s.AllowSenders), patterns(s.AllowRecipients)
	return sdk.InvalidFields(fields)
}

func (s *settings) trust() error {
	if s.CA == "" {
		return nil
	}
	pool, err := x509.SystemCertPool()
	if err != nil {
		pool = x509.NewCertPool()
	}
	if !pool.AppendCertsFromPEM([]byte(s.CA)) {
		return fmt.Errorf("has no certificate in PEM")
	}
	s.tlsConfig.RootCAs = pool
	return nil
}

func hostName() string {
	name, err := os.Hostname()
	if err != nil || name == "" {
		return "localhost"
	}
	return name
}

func (s *settings) onThisMachine() bool {
	ip, err := netip.ParseAddr(s.Server)
	return s.Server == "localhost" || err == nil && ip.Unmap().IsLoopback()
}

// address is where the server is.
func (s *settings) address() string {
	port := s.Port
	if port == 0 {
		port = map[string]int{tlsImplicit: 465, tlsOff: 25}[s.TLS]
	}
	return net.JoinHostPort(s.Server, strconv.Itoa(cmp.Or(port, 587)))
}

// patterns matches what one of the patterns does, by any case; nil if there are none.
func patterns(all []string) *regexp.Regexp {
	if len(all) == 0 {
		return nil
	}
	quoted := make([]string, len(all))
	for i, p := range all {
		quoted[i] = strings.ReplaceAll(regexp.QuoteMeta(p), `\*`, ".*")
	}
	return regexp.MustCompile(`(?i)^(?:` + strings.Join(quoted, "|") + `)$`)
}
