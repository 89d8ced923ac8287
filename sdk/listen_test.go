package sdk_test

import (
	"strings"
	"testing"

	"github.com/towpath-dataplane/towpath/sdk"
)

func TestListenAddress(t *testing.T) {
	for s, want := range map[string]string{
		"unix:///run/x.sock":                  "unix /run/x.sock",
		"tcp://plugin.internal:7443":          "tcp plugin.internal:7443",
		"tcp://[::1]:7443":                    "tcp [::1]:7443",
		"tcp://:0":                            "tcp :0",
		"":                                    "neither",
		"/run/x.sock":                         "neither",
		"http://a:1":                          "neither",
		"unix://run/x.sock":                   "plain absolute path",
		"unix:///run/../x.sock":               "plain absolute path",
		"unix:///a\x00b":                      "plain absolute path",
		"unix://":                             "plain absolute path",
		"unix:///" + strings.Repeat("x", 103): "at most 103 bytes",
		"tcp://a":                             "host:port",
		"tcp://a:b":                           "no port",
		"tcp://a:":                            "no port",
		"tcp://u@a:1":                         "no host",
		"tcp://a/b:1":                         "no host",
		"tcp://a:1/b":                         "no port",
		"tcp://a:70000":                       "no port",
	} {
		network, address, err := sdk.ListenAddress(s)
		if got := network + " " + address; err == nil && got != want {
			t.Errorf("%q is %q, not %q", s, got, want)
		}
		if err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v does not say %q", s, err, want)
		}
	}
}

func FuzzListenAddress(f *testing.F) {
	for _, s := range []string{"unix:///run/x.sock", "tcp://[::1]:7443", "tcp://:0", "unix://", "udp://a:1"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		network, address, err := sdk.ListenAddress(s)
		if err == nil && network+"://"+address != s {
			t.Errorf("%q was taken for %s at %q", s, network, address)
		}
	})
}
