package outbound_test

import (
	"net/url"
	"strings"
	"testing"

	"go.uber.org/goleak"

	"github.com/towpath-dataplane/towpath/sdk"
	"github.com/towpath-dataplane/towpath/sdk/outbound"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func newPolicy(t *testing.T, allowHTTP bool, allow ...string) *outbound.Policy {
	t.Helper()
	p, err := outbound.NewPolicy(outbound.Rules{Allow: allow, AllowHTTP: allowHTTP})
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func parseURL(t *testing.T, s string) *url.URL {
	t.Helper()
	u, err := url.Parse(s)
	if err != nil {
		t.Fatal(err)
	}
	return u
}

// wantError checks an error's code, that it cannot pass by itself, and pieces of its message.
func wantError(t *testing.T, err error, code sdk.Code, pieces ...string) {
	t.Helper()
	if err == nil {
		t.Fatal("no error")
	}
	e := sdk.AsError(err)
	if e.Code != code || e.Retryable {
		t.Errorf("code %q, retryable %t; want %q: %v", e.Code, e.Retryable, code, err)
	}
	for _, piece := range pieces {
		if !strings.Contains(e.Message, piece) {
			t.Errorf("message %q does not say %q", e.Message, piece)
		}
	}
}

func TestPolicyRefusesRanges(t *testing.T) {
	for _, tt := range []struct {
		resolved string
		refused  string // part of the message; "" if the address can be used
	}{
		{"93.184.215.14:443", ""},
		{"[2606:2800:21f:cb07:6820:80da:af6b:8b2c]:443", ""},
		{"9.255.255.255:443", ""},
		{"11.0.0.0:443", ""},
		{"126.255.255.255:443", ""},
		{"128.0.0.0:443", ""},
		{"169.253.255.255:443", ""},
		{"169.255.0.0:443", ""},
		{"172.15.255.255:443", ""},
		{"172.32.0.0:443", ""},
		{"192.167.255.255:443", ""},
		{"192.169.0.0:443", ""},
		{"100.63.255.255:443", ""},
		{"100.128.0.0:443", ""},
		{"198.17.255.255:443", ""},
		{"198.20.0.0:443", ""},
		{"223.255.255.255:443", ""},
		{"[2001:200::1]:443", ""},
		{"[2001:4860:4860::8888]:443", ""},
		{"[2002:5db8:d70e::1]:443", ""},        // 6to4 of a public address
		{"[64:ff9b::93.184.215.14]:443", ""},   // NAT64 of a public address
		{"[::ffff:93.184.215.14]:443", ""},     // mapped public address
		{"[::ffff:0:93.184.215.14]:443", ""},   // translated public address
		{"[::ffff:5db8:d70e]:443", ""},         // mapped, in other words
		{"[64:ff9b::5db8:d70e%eth0]:443", ""},  // with a zone
		{"[2606:4700::6810:84e5%eth0]:80", ""}, // with a zone
		{"127.0.0.1:80", "loopback"},
		{"127.255.255.254:80", "loopback"},
		{"[::1]:80", "loopback"},
		{"[::1%lo]:80", "loopback"},
		{"[::ffff:127.0.0.1]:80", "loopback"},
		{"[::ffff:7f00:1]:80", "loopback"},
		{"[64:ff9b::127.0.0.1]:80", "loopback"},
		{"10.0.0.1:443", "private"},
		{"10.255.255.255:443", "private"},
		{"172.16.0.1:443", "private"},
		{"172.31.255.255:443", "private"},
		{"192.168.1.1:443", "private"},
		{"192.168.255.255:443", "private"},
		{"[fc00::1]:443", "private"},
		{"[fd12:3456::1]:443", "private"},
		{"[fec0::1]:443", "private"},
		{"[::ffff:10.0.0.1]:443", "private"},
		{"[2002:0a00:0001::1]:443", "private"},
		{"[2002:7f00:0001::1]:443", "loopback"},
		{"[64:ff9b::192.168.0.1]:443", "private"},
		{"[64:ff9b:1::1]:443", "private"},
		{"[64:ff9b:1:ffff::8.8.8.8]:443", "private"},
		{"[::ffff:0:10.0.0.1]:443", "private"},
		{"169.254.1.1:443", "link-local"},
		{"169.254.170.2:80", "link-local"},
		{"[fe80::1%eth0]:443", "link-local"},
		{"[febf::1]:443", "link-local"},
		{"100.64.0.1:443", "carrier"},
		{"100.127.255.255:443", "carrier"},
		{"169.254.169.254:80", "metadata"},
		{"168.63.129.16:80", "metadata"},
		{"100.100.100.200:80", "metadata"},
		{"192.0.0.192:80", "metadata"},
		{"[fd00:ec2::254]:80", "metadata"},
		{"[::ffff:169.254.169.254]:80", "metadata"},
		{"[64:ff9b::169.254.169.254]:80", "metadata"},
		{"[2002:a9fe:a9fe::]:80", "metadata"},
		{"0.0.0.0:80", "unspecified"},
		{"0.1.2.3:80", "unspecified"},
		{"[::]:80", "unspecified"},
		{"[::ffff:0.0.0.0]:80", "unspecified"},
		{"[::10.0.0.1]:80", "obsolete"},
		{"224.0.0.1:80", "multicast"},
		{"239.255.255.255:80", "multicast"},
		{"[ff02::1]:80", "multicast"},
		{"240.0.0.1:80", "reserved"},
		{"255.255.255.255:80", "reserved"},
		{"192.0.0.8:80", "reserved"},
		{"192.0.2.1:80", "reserved"},
		{"192.88.99.1:80", "reserved"},
		{"198.18.0.1:80", "reserved"},
		{"198.19.255.255:80", "reserved"},
		{"198.51.100.1:80", "reserved"},
		{"203.0.113.1:80", "reserved"},
		{"[100::1]:80", "reserved"},
		{"[100:0:0:1::1]:80", "reserved"},
		{"[2001:2::1]:80", "reserved"},
		{"[2001:1ff:ffff::1]:80", "reserved"},
		{"[2001:db8::1]:80", "reserved"},
		{"[3fff::1]:80", "reserved"},
		{"[5f00::1]:80", "reserved"},
		{"[2001:0:4136:e378:8000:63bf:3fff:fdd2]:80", "tunnelled"},
		{"/run/socket", "no IP address"},
		{"10.0.0.1", "no IP address"},
		{"host.example:443", "no IP address"},
		{"", "no IP address"},
	} {
		err := newPolicy(t, true).CheckDial("host.example:443", tt.resolved)
		if tt.refused == "" {
			if err != nil {
				t.Errorf("%s: %v", tt.resolved, err)
			}
			continue
		}
		if err == nil {
			t.Errorf("%s can be used", tt.resolved)
			continue
		}
		wantError(t, err, sdk.Denied, tt.refused, "host.example:443")
	}
}

func TestPolicyAllows(t *testing.T) {
	for _, tt := range []struct {
		allow          string
		host, resolved string
		want           bool
	}{
		{"loopback", "localhost:80", "127.0.0.1:80", true},
		{"loopback", "localhost:80", "[::1]:80", true},
		{"loopback", "a.example:80", "127.0.0.1:80", true},
		{"loopback", "a.example:80", "10.0.0.1:80", false},
		{"loopback", "a.example:80", "[2002:7f00:1::]:80", false},
		{"10.1.0.0/16", "a.example:80", "10.1.2.3:80", true},
		{"10.1.2.3/16", "a.example:80", "10.1.9.9:80", true},
		{"10.1.0.0/16", "a.example:80", "10.2.0.1:80", false},
		{"10.1.0.0/16", "a.example:80", "[::ffff:10.1.2.3]:80", true},
		{"10.1.0.0/16", "a.example:80", "[64:ff9b::10.1.2.3]:80", false},
		{"10.1.2.3", "a.example:80", "10.1.2.3:80", true},
		{"10.1.2.3", "a.example:80", "10.1.2.4:80", false},
		{"::ffff:10.1.2.3", "a.example:80", "10.1.2.3:80", true},
		{"::1", "a.example:80", "[::1]:80", true},
		{"[::1]", "a.example:80", "[::1]:80", true},
		{"[::1]:80", "[::1]:80", "[::1]:80", true},
		{"[::1]:80", "[::1]:81", "[::1]:81", false},
		{"fd00::/8", "a.example:80", "[fd00::1]:80", true},
		{"a.example", "a.example:80", "10.0.0.1:80", true},
		{"A.Example", "a.EXAMPLE.:8080", "10.0.0.1:8080", true},
		{"a_b", "a_b:8080", "10.0.0.1:8080", true},
		{"a.example", "b.a.example:80", "10.0.0.1:80", false},
		{"a.example", "a.example.evil.example:80", "10.0.0.1:80", false},
		{"a.example:8080", "a.example:8080", "10.0.0.1:8080", true},
		{"a.example:8080", "a.example:80", "10.0.0.1:80", false},
		{"10.0.0.1:8080", "10.0.0.1:8080", "10.0.0.1:8080", true},
		{"10.0.0.1:8080", "10.0.0.1:80", "10.0.0.1:80", false},
	} {
		p := newPolicy(t, false, tt.allow)
		if err := p.CheckDial(tt.host, tt.resolved); (err == nil) != tt.want {
			t.Errorf("allow %q: %s resolved to %s: %v", tt.allow, tt.host, tt.resolved, err)
		}
	}
}

func TestPolicyRefusesEntries(t *testing.T) {
	for _, entry := range []string{
		"", "http://a.example", "a.example/path", "a.example:", "a b", "10.0.0.0/33", "user@a.example", "a.example:http",
		"a.example:99999", "*.example", "10.0.0", "10.0.0.1.1", "999.1.1.1", "0x7f.1", "a..example", ".example", "bücher.example",
		"::ffff:10.0.0.0/104", "fe80::1%eth0/64", "a.example?", "a.example#x", ":80",
	} {
		_, err := outbound.NewPolicy(outbound.Rules{Allow: []string{"loopback", entry}})
		if err == nil {
			t.Errorf("allow %q is taken", entry)
			continue
		}
		if want := `"` + entry + `" is not loopback, a host, host:port, an IP address or a network`; err.Error() != want {
			t.Errorf("allow %q: %v", entry, err)
		}
	}
}

func TestPolicyChecksURL(t *testing.T) {
	for _, tt := range []struct {
		url       string
		allow     []string
		allowHTTP bool
		code      sdk.Code // "" if it can be used
		says      string
	}{
		{url: "https://a.example/x"},
		{url: "https://a.example:8443/x?q#f"},
		{url: "http://a.example/x", code: sdk.Denied, says: "plain HTTP to a.example is not allowed"},
		{url: "http://a.example/x", allowHTTP: true},
		{url: "http://a.example/x", allow: []string{"a.example"}, code: sdk.Denied},
		{url: "http://localhost/", code: sdk.Denied, says: "connections to localhost (a loopback address) are not allowed"},
		{url: "http://localhost/", allow: []string{"loopback"}},
		{url: "http://LOCALHOST./", allow: []string{"loopback"}},
		{url: "https://x.localhost/", code: sdk.Denied},
		{url: "https://x.localhost/", allow: []string{"x.localhost"}},
		{url: "https://x.localhost/", allow: []string{"x.localhost:443"}},
		{url: "https://x.localhost/", allow: []string{"x.localhost:80"}, code: sdk.Denied},
		{url: "http://127.0.0.1:8080/", allow: []string{"loopback"}},
		{url: "http://127.0.0.1./", code: sdk.Denied, says: "127.0.0.1. (a loopback address)"},
		{url: "http://[::1]:8080/", allow: []string{"loopback"}},
		{url: "https://[::1]:8080/", code: sdk.Denied, says: "connections to [::1]:8080 (a loopback address) are not allowed"},
		{url: "http://[::ffff:127.0.0.1]/", code: sdk.Denied, says: "(127.0.0.1, a loopback address)"},
		{url: "https://[fe80::1%25eth0]/", code: sdk.Denied, says: "link-local"},
		{url: "https://10.0.0.1/", code: sdk.Denied, says: "connections to 10.0.0.1 (a private address) are not allowed"},
		{url: "https://10.0.0.1/", allow: []string{"10.0.0.1:443"}},
		{url: "https://169.254.169.254/latest/", code: sdk.Denied},
		{url: "ftp://a.example/", code: sdk.Invalid},
		{url: "file:///etc/passwd", code: sdk.Invalid},
		{url: "//a.example/", code: sdk.Invalid, says: "is not an absolute http or https URL"},
		{url: "/x", code: sdk.Invalid},
		{url: "", code: sdk.Invalid},
		{url: "https://", code: sdk.Invalid},
		{url: "https://:443/", code: sdk.Invalid},
		{url: "https:a.example", code: sdk.Invalid},
		{url: "https://user:pw@a.example/", code: sdk.Invalid, says: "has a user name or password in the URL"},
		{url: "https://@a.example/", code: sdk.Invalid},
	} {
		err := newPolicy(t, tt.allowHTTP, tt.allow...).CheckURL(parseURL(t, tt.url))
		if tt.code == "" {
			if err != nil {
				t.Errorf("%s with allow %q: %v", tt.url, tt.allow, err)
			}
			continue
		}
		if err == nil {
			t.Errorf("%s with allow %q can be used", tt.url, tt.allow)
			continue
		}
		wantError(t, err, tt.code, tt.says)
	}
}

func TestZeroPolicy(t *testing.T) {
	var p outbound.Policy
	if err := p.CheckURL(parseURL(t, "https://a.example/")); err != nil {
		t.Error(err)
	}
	wantError(t, p.CheckURL(parseURL(t, "http://a.example/")), sdk.Denied)
	wantError(t, p.CheckDial("a.example:443", "10.0.0.1:443"), sdk.Denied)
	if err := p.Trust("http://a.example"); err != nil {
		t.Fatal(err)
	}
	if err := p.CheckURL(parseURL(t, "http://a.example/")); err != nil {
		t.Error(err)
	}
}

func TestTrust(t *testing.T) {
	for _, tt := range []struct {
		trusted, url, resolved string
		want                   bool
	}{
		{"https://cp.example/signaling", "https://cp.example/elsewhere", "10.0.0.1:443", true},
		{"https://cp.example", "https://CP.example.:443/", "10.0.0.1:443", true},
		{"https://cp.example", "https://cp.example:8443/", "10.0.0.1:8443", false},
		{"https://cp.example", "http://cp.example/", "10.0.0.1:80", false},
		{"https://cp.example:80", "http://cp.example/", "10.0.0.1:80", false},
		{"https://cp.example", "https://other.example/", "10.0.0.1:443", false},
		{"http://cp.example:8080", "http://cp.example:8080/", "10.0.0.1:8080", true},
		{"http://cp.example:8080", "http://cp.example/", "10.0.0.1:80", false},
		{"http://cp.example", "http://cp.example/", "93.184.215.14:80", true},
		{"http://cp.example", "http://other.example/", "93.184.215.14:80", false},
		{"http://10.0.0.1:8080", "http://10.0.0.1:8080/x", "10.0.0.1:8080", true},
		{"http://[fd00::1]:8080", "http://[fd00::1]:8080/x", "[fd00::1]:8080", true},
		{"http://localhost:8080", "http://localhost:8080/x", "127.0.0.1:8080", true},
		{"http://localhost:8080", "http://127.0.0.1:8080/x", "127.0.0.1:8080", false},
		{"http://localhost:8080", "http://localhost:8081/x", "127.0.0.1:8081", false},
	} {
		p := newPolicy(t, false)
		if err := p.Trust(tt.trusted); err != nil {
			t.Fatal(err)
		}
		u := parseURL(t, tt.url)
		err := p.CheckURL(u)
		if err == nil {
			err = p.CheckDial(outbound.HostPort(u), tt.resolved)
		}
		if (err == nil) != tt.want {
			t.Errorf("trust in %s: %s at %s: %v", tt.trusted, tt.url, tt.resolved, err)
		}
	}
}

func TestTrustRefuses(t *testing.T) {
	for _, raw := range []string{
		"", "cp.example", "/x", "ftp://cp.example", "https://", "https://secret@cp.example", "https://cp.example:99999", "https://b\u00fccher.example",
		"http://127.1", "https://cp.example/%zz?secret", "https://[::1", "https://a b/",
	} {
		err := newPolicy(t, false).Trust(raw)
		if err == nil {
			t.Errorf("%q is trusted", raw)
			continue
		}
		wantError(t, err, sdk.Invalid)
		if strings.Contains(err.Error(), "secret") {
			t.Errorf("the error repeats the URL: %v", err)
		}
	}
}

func TestHostPort(t *testing.T) {
	for _, tt := range []struct{ url, want string }{
		{"https://A.example./x", "a.example:443"},
		{"http://a.example", "a.example:80"},
		{"http://a.example:/", "a.example:80"},
		{"http://a.example:8080", "a.example:8080"},
		{"https://[::1]", "[::1]:443"},
		{"//a.example", "a.example"},
		{"//[2001:db8::1]", "2001:db8::1"},
		{"//[2001:db8::1]:80", "[2001:db8::1]:80"},
	} {
		if got := outbound.HostPort(parseURL(t, tt.url)); got != tt.want {
			t.Errorf("%s: %s, want %s", tt.url, got, tt.want)
		}
	}
}
