package config

import (
	"errors"
	"net"
	"slices"
	"strings"

	"github.com/hashicorp/hcl/v2"
	"github.com/zclconf/go-cty/cty"

	"github.com/towpath-dataplane/towpath/sdk"
)

// DialTLS names the PEM files for a plugin that is dialled over TCP. Certificate and Key were a valid pair when they were loaded.
type DialTLS struct {
	Certificate string
	Key         string
	CA          string // has the authorities of which one must have signed the plugin's certificate
	ServerName  string // that it has to be for. "": the host in the address
}

// ofDialled are the attributes and blocks of a plugin that is dialled. All others are about its file and its process.
var ofDialled = []string{"address", "tls", "config", "start_timeout", "drain_timeout", "server_side_copy"}

var dialTLSSchema = &hcl.BodySchema{Attributes: append(required("certificate", "key", "ca"), optional("server_name")...)}

// dialled reads where a plugin is dialled, if it is.
func (l *loader) dialled(f fields, p *Plugin) {
	given := set(f, "address", &p.Address, dialAddress)
	b := f.single("tls")
	if b != nil {
		p.TLS = l.dialTLS(b)
	}
	if f.attrs["address"] == nil {
		if b != nil {
			l.report(b.DefRange, "Block without effect", "tls is for a plugin with an address such as tcp://host:7443. The connection to a plugin "+
				"that is launched is secured with mtls.")
		}
		return
	}
	for name, attr := range f.attrs {
		if !slices.Contains(ofDialled, name) {
			l.report(attr.NameRange, "Attributes exclude each other", "The plugin is dialled at its address, and not launched, so %s has no effect.", name)
		}
	}
	for _, b := range f.blocks {
		if !slices.Contains(ofDialled, b.Type) {
			l.report(b.DefRange, "Block without effect", "The plugin is dialled at its address, and not launched, so it can be kept to nothing: "+
				"confine it where it runs.")
		}
	}
	over := func(network string) bool { return strings.HasPrefix(p.Address, network+"://") }
	switch {
	case given && over("tcp") && b == nil:
		l.report(f.at("address"), "Missing tls", "Over TCP there is always mutual TLS, on this machine too: tls { certificate, key, ca }.")
	case given && over("unix") && b != nil:
		l.report(b.DefRange, "Block without effect", "A unix socket has no TLS: who listens there has to be the host's user or root.")
	}
}

func (l *loader) dialTLS(b *hcl.Block) *DialTLS {
	f := l.open(b, dialTLSSchema)
	t := &DialTLS{}
	l.pair(f, &t.Certificate, &t.Key)
	l.certificates(f, "ca", &t.CA)
	set(f, "server_name", &t.ServerName, nonEmpty)
	return t
}

// dialAddress reads an address that can be dialled.
func dialAddress(v cty.Value) (string, error) {
	s, err := text(v)
	if err != nil {
		return "", err
	}
	network, address, err := sdk.ListenAddress(s)
	if err != nil {
		return "", err
	}
	if host, port, _ := net.SplitHostPort(address); network == "tcp" && (host == "" || port == "0") {
		err = errors.New("it needs a host and a port")
	}
	return s, err
}
