package sdk

import (
	"net/netip"
	"strings"
	"testing"
)

func TestParseConnectRule(t *testing.T) {
	for _, test := range []struct{ in, want string }{
		{"s3.Example.com:443", "s3.example.com:443"},
		{"s3.example.com.:443", "s3.example.com:443"},
		{"10.1.2.3/8:443", "10.0.0.0/8:443"},
		{"10.1.2.3:*", "10.1.2.3:*"},
		{"[2001:db8::1]:443", "[2001:db8::1]:443"},
		{"[2001:db8::/32]:*", "[2001:db8::/32]:*"},
		{"[::ffff:10.0.0.1]:1", "10.0.0.1:1"},
		{"*:5432", "*:5432"},
		{"*:*", "*:*"},
		{"localhost:1", "localhost:1"},
		{"", "is not host:port"},
		{":443", "is not host:port"},
		{"example.com", "is not host:port"},
		{"example.com:0", "has no port"},
		{"example.com:65536", "has no port"},
		{"example.com:https", "has no port"},
		{"2001:db8::1:443", "without brackets"},
		{"[example.com]:443", "has brackets"},
		{"[::1:443", "has brackets"},
		{"10.0.0:443", "has no host name"},
		{"10.0.0.0/33:443", "has no host name"},
		{"-a.example:443", "has no host name"},
		{"a..example:443", "has no host name"},
		{"https://a.example:443", "without brackets"},
		{"*.example.com:443", "has no host name"},
	} {
		r, err := ParseConnectRule(test.in)
		got := r.String()
		if err != nil {
			got = err.Error()
		}
		if err == nil && got != test.want || err != nil && !strings.Contains(got, test.want) {
			t.Errorf("%q: %s, want %s", test.in, got, test.want)
		}
	}
}

func TestIntersectRules(t *testing.T) {
	for _, test := range []struct{ a, b, want string }{
		{"*:443", "s3.example.com:*", "s3.example.com:443"},
		{"10.0.0.0/8:443", "10.1.0.0/16:*", "10.1.0.0/16:443"},
		{"10.0.0.0/8:443", "11.0.0.0/8:443", ""},
		{"10.0.0.0/8:443", "10.0.0.0/8:444", ""},
		{"a.example:1", "b.example:1", ""},
		{"a.example:1", "10.0.0.0/8:*", "a.example in 10.0.0.0/8:1"},
	} {
		for _, pair := range [][2]string{{test.a, test.b}, {test.b, test.a}} {
			a, _ := ParseConnectRule(pair[0])
			b, _ := ParseConnectRule(pair[1])
			r, ok := a.Intersect(b)
			if ok != (test.want != "") || ok && r.String() != test.want {
				t.Errorf("%s and %s: %s, %v", pair[0], pair[1], r, ok)
			}
		}
	}
}

func TestConnectRuleMatches(t *testing.T) {
	for _, test := range []struct {
		rule, to string
		want     bool
	}{
		{"10.0.0.0/8:443", "10.9.9.9:443", true},
		{"10.0.0.0/8:443", "[::ffff:10.9.9.9]:443", true},
		{"10.0.0.0/8:443", "10.9.9.9:80", false},
		{"10.0.0.0/8:443", "11.9.9.9:443", false},
		{"*:443", "[2001:db8::1]:443", true},
		{"[2001:db8::/32]:*", "[2001:db8::1]:7", true},
	} {
		r, err := ParseConnectRule(test.rule)
		if err != nil || r.Matches(netip.MustParseAddrPort(test.to)) != test.want {
			t.Errorf("%s, %s: %v, want %v", test.rule, test.to, err, test.want)
		}
	}
}

func TestCheckPermissions(t *testing.T) {
	for _, test := range []struct {
		p    Permissions
		says string
	}{
		{Permissions{Environment: []string{"A"}, Read: []string{"/a"}, Write: []string{"/b/c"}, Connect: []string{"*:1"}, Memory: 1}, ""},
		{Permissions{Environment: []string{"A=b"}}, "environment variable"},
		{Permissions{Read: []string{"a"}}, "absolute path"},
		{Permissions{Write: []string{"/a/../b"}}, "absolute path"},
		{Permissions{Connect: []string{"a"}}, "host:port"},
		{Permissions{OpenFiles: -1}, "negative"},
	} {
		err := test.p.Check()
		if (err == nil) != (test.says == "") || err != nil && !strings.Contains(err.Error(), test.says) {
			t.Errorf("%+v: %v", test.p, err)
		}
	}
}

func FuzzParseConnectRule(f *testing.F) {
	for _, s := range []string{"a.example:443", "10.0.0.0/8:*", "[::1]:1", "*:5"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		r, err := ParseConnectRule(s)
		if err != nil {
			return
		}
		again, err := ParseConnectRule(r.String())
		if err != nil || again != r {
			t.Errorf("%q gave %q, which gives %q, %v", s, r, again, err)
		}
	})
}
