package httpfield

import (
	"net/http"
	"testing"
)

func TestForwarding(t *testing.T) {
	for pattern, want := range map[string]bool{
		"X-Tenant": true, "x-*": true, "set-cookie": true, "Content-*": true, "proxy-status": true,
		"": false, "*": false, "X Y": false, "X-\r\n": false, "authorization": false, "Cookie": false, "HOST": false, "te": false,
		"Transfer-Encoding": false, "content-length": false, "X**": true,
	} {
		if err := CheckForwarded(pattern); (err == nil) != want {
			t.Errorf("%q: %v", pattern, err)
		}
	}
	for name, want := range map[string]bool{"X-Tenant": true, "X-App-1": true, "X-App-": true, "X-Other": false, "X-Tenant-2": false} {
		if got := Matches([]string{"x-tenant", "x-app-*"}, name); got != want {
			t.Errorf("%s: %t", name, got)
		}
	}
	h := http.Header{"Connection": {"close, x-hop", "Y"}}
	for name, want := range map[string]bool{"X-End": true, "X-Hop": false, "Y": false, "Connection": false, "Keep-Alive": false, "Upgrade": false} {
		if got := EndToEnd(h, name); got != want {
			t.Errorf("%s: %t", name, got)
		}
	}
}
