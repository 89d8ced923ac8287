// Package outbound guards requests to addresses that came from a peer: data addresses, refresh endpoints, key sets, DIDs, control
// planes that registered themselves. Whoever names such an address must not make this machine reach what only it can reach, so
// whatever is not on the public internet is refused unless the operator allows it. Plugins and the host use it alike.
//
// A Policy says what may be reached, and Policy.Client makes a client that keeps to it. Who needs a transport of its own asks CheckURL
// before each request and redirect, and connects with Dialer.
//
// The package knows nothing of what is requested, on whose behalf, or how a request is authorized.
package outbound

import (
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"strconv"
	"strings"

	"github.com/towpath-dataplane/towpath/sdk"
)

// Rules are what an operator writes.
type Rules struct {
	// Allow lists what can be reached although it is refused by default: "loopback", a host, host:port, an IP address, a network.
	Allow []string
	// AllowHTTP allows plain HTTP to hosts other than loopback ones.
	AllowHTTP bool
}

// Policy says which hosts may be connected to. The zero value allows the public internet over HTTPS. It is safe for concurrent use,
// but for Trust.
type Policy struct {
	loopback  bool
	networks  []netip.Prefix
	hosts     map[string]bool // "name" and "name:port", as HostPort writes them
	plain     map[string]bool // "name:port" of those trusted with plain HTTP
	allowHTTP bool
}

// NewPolicy reads the rules. Its error names the entry that is wrong.
func NewPolicy(r Rules) (*Policy, error) {
	p := &Policy{hosts: map[string]bool{}, allowHTTP: r.AllowHTTP}
	for _, entry := range r.Allow {
		if err := p.allow(entry); err != nil {
			return nil, err
		}
	}
	return p, nil
}

func (p *Policy) allow(entry string) error {
	if entry == "loopback" {
		p.loopback = true
		return nil
	}
	if network, err := netip.ParsePrefix(entry); err == nil && !network.Addr().Is4In6() {
		p.networks = append(p.networks, network.Masked())
		return nil
	}
	if ip, err := netip.ParseAddr(strings.Trim(entry, "[]")); err == nil && !strings.Contains(ip.Zone(), "/") {
		ip = ip.Unmap().WithZone("")
		p.networks = append(p.networks, netip.PrefixFrom(ip, ip.BitLen()))
		return nil
	}
	u, err := url.Parse("//" + entry)
	if err != nil || u.Host != entry || !hasPlainHost(u) || strings.HasSuffix(entry, ":") {
		return fmt.Errorf("%q is not loopback, a host, host:port, an IP address or a network", entry)
	}
	p.hosts[HostPort(u)] = true
	return nil
}

// Trust allows the host and port of an operator's own URL, whatever it resolves to, and plain HTTP there if that is its scheme. Every
// request that this policy guards can go there then, also one that a peer asked for. It must not be called while the policy is in use.
func (p *Policy) Trust(rawURL string) error {
	u, err := url.Parse(rawURL)
	if err != nil {
		return errNoURL() // err repeats the URL, which can hold a secret
	}
	if err := checkForm(u); err != nil {
		return err
	}
	if !hasPlainHost(u) {
		return sdk.Errorf(sdk.Invalid, "has a host that is neither a name in ASCII nor an IP address")
	}
	if p.hosts == nil {
		p.hosts = map[string]bool{}
	}
	p.hosts[HostPort(u)] = true
	if u.Scheme == "http" {
		if p.plain == nil {
			p.plain = map[string]bool{}
		}
		p.plain[HostPort(u)] = true
	}
	return nil
}

// CheckURL says whether u can be requested, as far as that can be told without resolving its host. Its error is an *sdk.Error: Invalid
// if nobody could request u, Denied if the policy refuses it. The message begins with a verb, and has nothing of u but its host.
func (p *Policy) CheckURL(u *url.URL) error {
	if err := checkForm(u); err != nil {
		return err
	}
	name := hostName(u)
	if u.Scheme == "http" && !p.allowHTTP && !isLoopback(name) && !p.plain[HostPort(u)] {
		return sdk.Errorf(sdk.Denied, "plain HTTP to %s is not allowed", u.Host)
	}
	if ip, err := netip.ParseAddr(name); err == nil {
		return p.checkIP(u, ip)
	}
	if isLoopback(name) && !p.loopback && !p.allowsHost(u) {
		return sdk.Errorf(sdk.Denied, "connections to %s (a loopback address) are not allowed", u.Host)
	}
	return nil
}

func checkForm(u *url.URL) error {
	switch {
	case u.Scheme != "https" && u.Scheme != "http", u.Opaque != "", u.Hostname() == "":
		return errNoURL()
	case u.User != nil:
		return sdk.Errorf(sdk.Invalid, "has a user name or password in the URL")
	}
	return nil
}

func errNoURL() error { return sdk.Errorf(sdk.Invalid, "is not an absolute http or https URL") }

// CheckDial says whether a connection to the address that a host was resolved to may be made; both with their ports. It is asked at
// the last moment, so that a name cannot lead elsewhere than it did when it was checked. Its error is an *sdk.Error: Denied.
func (p *Policy) CheckDial(host, resolved string) error {
	address, err := netip.ParseAddrPort(resolved)
	if err != nil {
		return sdk.Errorf(sdk.Denied, "connections to %s are not allowed: no IP address", host)
	}
	return p.checkIP(&url.URL{Host: host}, address.Addr())
}

func (p *Policy) checkIP(host *url.URL, ip netip.Addr) error {
	ip = ip.Unmap().WithZone("")
	what := refusedRange(ip)
	if what == "" || p.loopback && ip.IsLoopback() || p.allowsHost(host) {
		return nil
	}
	for _, network := range p.networks {
		if network.Contains(ip) {
			return nil
		}
	}
	if hostName(host) != ip.String() {
		what = ip.String() + ", " + what
	}
	return sdk.Errorf(sdk.Denied, "connections to %s (%s) are not allowed", host.Host, what)
}

func (p *Policy) allowsHost(u *url.URL) bool { return p.hosts[HostPort(u)] || p.hosts[hostName(u)] }

// HostPort is a URL's host and port, written in one way only. The port is the one that the scheme implies if the URL has none, and
// left out if there is no scheme either.
func HostPort(u *url.URL) string {
	port := u.Port()
	switch {
	case port != "":
	case u.Scheme == "http":
		port = "80"
	case u.Scheme == "https":
		port = "443"
	default:
		return hostName(u)
	}
	return net.JoinHostPort(hostName(u), port)
}

func hostName(u *url.URL) string { return strings.ToLower(strings.TrimSuffix(u.Hostname(), ".")) }

func isLoopback(name string) bool {
	ip, err := netip.ParseAddr(name)
	return name == "localhost" || strings.HasSuffix(name, ".localhost") || err == nil && ip.Unmap().IsLoopback()
}

// hasPlainHost reports whether the host of u is one that a dialler can be asked for in the same words: an IP address, or a name of
// ASCII letters, digits, hyphens and underscores which is not the beginning of an IP address.
func hasPlainHost(u *url.URL) bool {
	if port := u.Port(); port != "" {
		if _, err := strconv.ParseUint(port, 10, 16); err != nil {
			return false
		}
	}
	name := hostName(u)
	if _, err := netip.ParseAddr(name); err == nil {
		return true
	}
	labels := strings.Split(name, ".")
	for _, label := range labels {
		if label == "" || strings.Trim(label, "abcdefghijklmnopqrstuvwxyz0123456789-_") != "" {
			return false
		}
	}
	return strings.Trim(labels[len(labels)-1], "0123456789") != ""
}
