package main

import (
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"strings"

	"github.com/towpath-dataplane/towpath/sdk"
)

// policy says which hosts the plugin may connect to. Addresses come from counterparties, so whatever is not on the public internet
// is refused unless the operator allows it. The zero value allows nothing more.
type policy struct {
	loopback  bool
	networks  []netip.Prefix
	hosts     map[string]bool // "name" and "name:port", in lower case
	allowHTTP bool
}

// newPolicy reads the entries of the allow list: "loopback", a host, host:port, an IP address, a network.
func newPolicy(allow []string, allowHTTP bool) (*policy, error) {
	p := &policy{hosts: map[string]bool{}, allowHTTP: allowHTTP}
	for _, entry := range allow {
		if err := p.allow(entry); err != nil {
			return nil, invalidField("allow", err.Error())
		}
	}
	return p, nil
}

func (p *policy) allow(entry string) error {
	if entry == "loopback" {
		p.loopback = true
		return nil
	}
	if network, err := netip.ParsePrefix(entry); err == nil {
		p.networks = append(p.networks, network.Masked())
		return nil
	}
	if ip, err := netip.ParseAddr(strings.Trim(entry, "[]")); err == nil {
		ip = ip.Unmap().WithZone("")
		p.networks = append(p.networks, netip.PrefixFrom(ip, ip.BitLen()))
		return nil
	}
	host := &url.URL{Host: entry}
	if parsed, err := url.Parse("//" + entry); err != nil || parsed.Host != entry || host.Hostname() == "" || strings.HasSuffix(entry, ":") {
		return fmt.Errorf("%q is not loopback, a host, host:port, an IP address or a network", entry)
	}
	p.hosts[hostKey(host)] = true
	return nil
}

// checkURL says whether u can be requested, as far as that can be told without resolving its host.
func (p *policy) checkURL(u *url.URL) error {
	switch {
	case u.Scheme != "https" && u.Scheme != "http", u.Opaque != "", u.Hostname() == "":
		return sdk.Errorf(sdk.Invalid, "is not an absolute http or https URL")
	case u.User != nil:
		return sdk.Errorf(sdk.Invalid, "has a user name or password in the URL")
	case u.Scheme == "http" && !p.allowHTTP && !isLoopbackHost(u.Hostname()):
		return sdk.Errorf(sdk.Denied, "plain HTTP to %s is not allowed", u.Host)
	}
	ip, err := netip.ParseAddr(u.Hostname())
	switch {
	case err == nil:
		return p.checkIP(u, ip)
	case isLoopbackHost(u.Hostname()) && !p.loopback && !p.allowsHost(u):
		return sdk.Errorf(sdk.Denied, "connections to %s (a loopback address) are not allowed", u.Host)
	}
	return nil
}

// checkDial says whether a connection to the address that a host was resolved to may be made. It is asked at the last moment, so
// that a name cannot lead elsewhere than it did when it was checked.
func (p *policy) checkDial(host, resolved string) error {
	address, err := netip.ParseAddrPort(resolved)
	if err != nil {
		return sdk.Errorf(sdk.Denied, "connections to %s are not allowed: no IP address", host)
	}
	return p.checkIP(&url.URL{Host: host}, address.Addr())
}

func (p *policy) checkIP(host *url.URL, ip netip.Addr) error {
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
	if hostKey(&url.URL{Host: host.Hostname()}) != ip.String() {
		what = ip.String() + ", " + what
	}
	return sdk.Errorf(sdk.Denied, "connections to %s (%s) are not allowed", host.Host, what)
}

func (p *policy) allowsHost(u *url.URL) bool {
	return p.hosts[hostKey(u)] || p.hosts[hostKey(&url.URL{Host: u.Hostname()})]
}

// hostKey is a URL's host and, if it is there, port, written in one way only.
func hostKey(u *url.URL) string {
	name := strings.ToLower(strings.TrimSuffix(u.Hostname(), "."))
	if port := u.Port(); port != "" {
		return net.JoinHostPort(name, port)
	}
	return name
}

func isLoopbackHost(name string) bool {
	name = strings.ToLower(strings.TrimSuffix(name, "."))
	ip, err := netip.ParseAddr(name)
	return name == "localhost" || strings.HasSuffix(name, ".localhost") || err == nil && ip.Unmap().IsLoopback()
}

// refusedRanges are the addresses that are not on the public internet, or that a cloud answers itself.
var refusedRanges = []struct {
	network netip.Prefix
	what    string
}{
	{netip.MustParsePrefix("127.0.0.0/8"), "a loopback address"},
	{netip.MustParsePrefix("::1/128"), "a loopback address"},
	{netip.MustParsePrefix("169.254.169.254/32"), "a cloud metadata address"},
	{netip.MustParsePrefix("168.63.129.16/32"), "a cloud metadata address"},
	{netip.MustParsePrefix("100.100.100.200/32"), "a cloud metadata address"},
	{netip.MustParsePrefix("192.0.0.192/32"), "a cloud metadata address"},
	{netip.MustParsePrefix("fd00:ec2::254/128"), "a cloud metadata address"},
	{netip.MustParsePrefix("10.0.0.0/8"), "a private address"},
	{netip.MustParsePrefix("172.16.0.0/12"), "a private address"},
	{netip.MustParsePrefix("192.168.0.0/16"), "a private address"},
	{netip.MustParsePrefix("fc00::/7"), "a private address"},
	{netip.MustParsePrefix("fec0::/10"), "a private address"},
	{netip.MustParsePrefix("100.64.0.0/10"), "a shared address of a carrier"},
	{netip.MustParsePrefix("169.254.0.0/16"), "a link-local address"},
	{netip.MustParsePrefix("fe80::/10"), "a link-local address"},
	{netip.MustParsePrefix("224.0.0.0/4"), "a multicast address"},
	{netip.MustParsePrefix("ff00::/8"), "a multicast address"},
	{netip.MustParsePrefix("0.0.0.0/8"), "an unspecified address"},
	{netip.MustParsePrefix("240.0.0.0/4"), "a reserved address"},
	{netip.MustParsePrefix("192.0.0.0/24"), "a reserved address"},
	{netip.MustParsePrefix("192.0.2.0/24"), "a reserved address"},
	{netip.MustParsePrefix("198.18.0.0/15"), "a reserved address"},
	{netip.MustParsePrefix("198.51.100.0/24"), "a reserved address"},
	{netip.MustParsePrefix("203.0.113.0/24"), "a reserved address"},
	// The whole of ::/96: the unspecified address and IPv4-compatible ones.
	{netip.MustParsePrefix("::/96"), "an unspecified or obsolete address"},
	{netip.MustParsePrefix("100::/64"), "a reserved address"},
	{netip.MustParsePrefix("2001:db8::/32"), "a reserved address"},
	{netip.MustParsePrefix("2001::/32"), "a tunnelled address"},
	{netip.MustParsePrefix("64:ff9b:1::/48"), "a translated private address"},
}

// carriers are IPv6 networks whose addresses lead to an IPv4 address that they contain, at the given byte.
var carriers = []struct {
	network netip.Prefix
	at      int
}{
	{netip.MustParsePrefix("2002::/16"), 2},        // 6to4
	{netip.MustParsePrefix("64:ff9b::/96"), 12},    // NAT64
	{netip.MustParsePrefix("::ffff:0:0:0/96"), 12}, // stateless translation
}

// refusedRange says in which refused range an address is, "" if in none.
func refusedRange(ip netip.Addr) string {
	for _, r := range refusedRanges {
		if r.network.Contains(ip) {
			return r.what
		}
	}
	for _, c := range carriers {
		if c.network.Contains(ip) {
			b := ip.As16()
			return refusedRange(netip.AddrFrom4([4]byte(b[c.at : c.at+4])))
		}
	}
	return ""
}
