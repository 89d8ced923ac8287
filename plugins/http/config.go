package main

import (
	"crypto/tls"
	"time"

	"github.com/towpath-dataplane/towpath/sdk"
	"github.com/towpath-dataplane/towpath/sdk/outbound"
)

// settings is the plugin's configuration block.
type settings struct {
	Allow             []string     `json:"allow"`
	AllowHTTP         bool         `json:"allow_http"`
	Timeout           sdk.TimeSpan `json:"timeout"`
	IdleTimeout       sdk.TimeSpan `json:"idle_timeout"`
	CAFile            string       `json:"ca_file"`
	ClientCertificate string       `json:"client_certificate"`
	ClientKey         string       `json:"client_key"`
	Redirects         string       `json:"redirects"`
	MaxErrorBody      sdk.ByteSize `json:"max_error_body"`
	MaxSpool          sdk.ByteSize `json:"max_spool"`
}

// Values of settings.Redirects.
const (
	redirectsSameHost = "same-host"
	redirectsAny      = "any"
	redirectsNone     = "none"
)

func defaultSettings() settings {
	return settings{
		Timeout:      sdk.TimeSpan(30 * time.Second),
		IdleTimeout:  sdk.TimeSpan(2 * time.Minute),
		Redirects:    redirectsSameHost,
		MaxErrorBody: 16 << 10,
		MaxSpool:     1 << 30,
	}
}

// configSchema describes settings. Its defaults are those of defaultSettings.
func configSchema() sdk.Schema {
	return sdk.Schema{Fields: []sdk.Field{
		{Name: "allow", Kind: sdk.StringList, Documentation: "Destinations to connect to although they are in a range that is refused by " +
			"default (loopback, private, link-local, shared, multicast and reserved addresses, cloud metadata): `loopback`, a host, " +
			"`host:port`, an IP address, or a network such as `10.1.0.0/16`."},
		{Name: "allow_http", Kind: sdk.Bool, Default: "false", Documentation: "Use plain HTTP to hosts other than loopback too."},
		{Name: "timeout", Kind: sdk.Duration, Default: "30s", Documentation: "Longest time to connect, and longest time for a source to begin " +
			"its answer."},
		{Name: "idle_timeout", Kind: sdk.Duration, Default: "2m", Documentation: "Longest time in which the other side neither gives nor takes " +
			"a byte, and longest time for a sink to answer once it has the whole part."},
		{Name: "ca_file", Kind: sdk.String, Documentation: "File of PEM certificates to trust besides those of the system."},
		{Name: "client_certificate", Kind: sdk.String, Documentation: "File with the PEM certificate chain to show to servers that ask for one."},
		{Name: "client_key", Kind: sdk.String, Documentation: "File with the PEM private key of `client_certificate`."},
		{Name: "redirects", Kind: sdk.String, Default: redirectsSameHost, OneOf: []string{redirectsSameHost, redirectsAny, redirectsNone},
			Documentation: "Redirects that a source follows, five at most. Credentials stay with the host of the address, and HTTPS never " +
				"becomes HTTP. A sink follows none."},
		{Name: "max_error_body", Kind: sdk.Size, Default: "16KiB", Documentation: "How much of the body of a refusal is read for its message."},
		{Name: "max_spool", Kind: sdk.Size, Default: "1GiB", Documentation: "Largest part of unknown size that is stored in a temporary file for " +
			"an address with `nonChunkedTransfer`."},
	}}
}

func (s settings) check() error {
	var fields []sdk.FieldError
	if s.Timeout <= 0 {
		fields = append(fields, sdk.FieldError{Field: "timeout", Message: "is not more than 0"})
	}
	if s.IdleTimeout <= 0 {
		fields = append(fields, sdk.FieldError{Field: "idle_timeout", Message: "is not more than 0"})
	}
	switch s.Redirects {
	case redirectsSameHost, redirectsAny, redirectsNone:
	default:
		fields = append(fields, sdk.FieldError{Field: "redirects", Message: "is not one of same-host, any, none"})
	}
	return sdk.InvalidFields(fields)
}

func (s settings) tlsConfig() (*tls.Config, error) {
	return outbound.TLSFromFiles(s.CAFile, s.ClientCertificate, s.ClientKey)
}

func invalidField(field, message string) error {
	return sdk.InvalidFields([]sdk.FieldError{{Field: field, Message: message}})
}
