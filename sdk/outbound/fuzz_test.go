package outbound_test

import (
	"net"
	"net/netip"
	"net/url"
	"strings"
	"testing"

	"github.com/towpath-dataplane/towpath/sdk"
	"github.com/towpath-dataplane/towpath/sdk/outbound"
)

// An entry opens what it names and nothing else.
func FuzzAllow(f *testing.F) {
	for _, entry := range []string{
		"loopback", "a.example", "A.example:8080", "10.0.0.0/8", "10.0.0.1", "10.0.0.1:80", "::1", "[::1]", "[::1]:80", "fd00::/8", "0.0.0.0/0",
		"", "a b", "a.example:", "user@a.example", "http://a.example", "*.example", "::ffff:10.0.0.0/104", "fe80::1%eth0", "[fe80::1%25eth0]:80",
	} {
		f.Add(entry)
	}
	f.Fuzz(func(t *testing.T, entry string) {
		p, err := outbound.NewPolicy(outbound.Rules{Allow: []string{entry}})
		if err != nil {
			return
		}
		_, noNetwork := netip.ParsePrefix(entry)
		_, noIP := netip.ParseAddr(strings.Trim(entry, "[]"))
		if entry == "loopback" || noNetwork == nil || noIP == nil {
			return // those open addresses, whatever the host
		}
		u := &url.URL{Scheme: "https", Host: entry}
		if err := p.CheckURL(u); err != nil {
			t.Errorf("%q does not open itself: %v", entry, err)
		}
		if err := p.CheckDial(outbound.HostPort(u), "10.0.0.1:443"); err != nil {
			t.Errorf("%q does not open itself: %v", entry, err)
		}
		if p.CheckDial("not-"+outbound.HostPort(u), "10.0.0.1:443") == nil || p.CheckDial("10.0.0.9:9", "10.0.0.9:9") == nil {
			t.Errorf("%q opens others", entry)
		}
	})
}

// No URL that passes names an address of a refused kind, or goes without TLS; one that an operator trusts passes.
func FuzzURL(f *testing.F) {
	for _, raw := range []string{
		"https://a.example/x?q=1", "http://a.example", "https://10.0.0.1/", "https://[::ffff:127.0.0.1]:8443/", "https://[fe80::1%25eth0]/",
		"https://127.1/", "https://0x7f000001/", "https://user:pw@a.example", "https:a.example", "//a.example", "https://localhost.", "https://:443",
		"https://[64:ff9b::7f00:1]", "https://a.example:", "https://a.example:99999", "https://%6c%6fcalhost/", "https://\u24d0.example",
	} {
		f.Add(raw)
	}
	f.Fuzz(func(t *testing.T, raw string) {
		u, err := url.Parse(raw)
		if err != nil {
			return
		}
		err = newPolicy(t, false).CheckURL(u)
		if err == nil && (u.Scheme != "https" || u.User != nil || u.Host == "") {
			t.Errorf("%q passes", raw)
		}
		if e := sdk.AsError(err); e != nil && e.Code != sdk.Invalid && e.Code != sdk.Denied {
			t.Errorf("%q: %v", raw, err)
		}
		if ip := net.ParseIP(u.Hostname()); err == nil && ip != nil &&
			(ip.IsLoopback() || ip.IsPrivate() || ip.IsLinkLocalUnicast() || ip.IsMulticast() || ip.IsUnspecified()) {
			t.Errorf("%q passes with %s", raw, ip)
		}
		p := newPolicy(t, false)
		if p.Trust(raw) != nil {
			return
		}
		if err := p.CheckURL(u); err != nil {
			t.Errorf("%q is trusted: %v", raw, err)
		}
		if err := p.CheckDial(outbound.HostPort(u), "127.0.0.1:1"); err != nil {
			t.Errorf("%q is trusted: %v", raw, err)
		}
		if p.CheckDial("not-"+outbound.HostPort(u), "127.0.0.1:1") == nil {
			t.Errorf("trust in %q reaches further", raw)
		}
	})
}
