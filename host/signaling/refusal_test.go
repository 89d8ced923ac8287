package signaling

import (
	"net/http"
	"testing"
)

// Control planes with a protocol of their own call elsewhere: they neither need proofs to be told from others, nor are they taken for them.
func TestCallersInOtherProtocols(t *testing.T) {
	static := func(secret string) Inbound { return Inbound{Type: AuthStatic, Header: "X-Api-Key", Secret: secret} }
	d := newDirectory(t, DirectoryOptions{DataPlane: "dp", ControlPlanes: []ControlPlane{
		{ID: "dps", Endpoint: "https://dps.example"},
		{ID: "open", Endpoint: "https://open.example", Protocol: telegraph{}},
		{ID: "static", Endpoint: "https://static.example", Protocol: telegraph{}, Inbound: static("s1")},
		{ID: "bearer", Endpoint: "https://bearer.example", Protocol: telegraph{}, Inbound: Inbound{Type: AuthStatic, Secret: "s2"}},
	}})
	request := func(headers ...string) *http.Request {
		r, err := http.NewRequest(http.MethodPost, "http://dp.example/", nil)
		if err != nil {
			t.Fatal(err)
		}
		for i := 0; i < len(headers); i += 2 {
			r.Header.Add(headers[i], headers[i+1])
		}
		return r
	}
	if m, err := d.identify(request("X-Api-Key", "s1")); err != nil || m.ID != "dps" {
		t.Errorf("a caller of Data Plane Signaling is %v, %v", m, err)
	}
	tests := []struct {
		name, controlPlane string
		headers            []string
		status             int
	}{
		{"without a proof", "open", nil, 0},
		{"from a browser", "open", []string{"Origin", "https://evil.example"}, 403},
		{"with the secret", "static", []string{"x-api-key", "s1"}, 0},
		{"with the secret, from a browser", "static", []string{"X-Api-Key", "s1", "Origin", "https://console.example"}, 0},
		{"with no secret", "static", nil, 401},
		{"with another secret", "static", []string{"X-Api-Key", "s2"}, 401},
		{"with two secrets", "static", []string{"X-Api-Key", "s1", "X-Api-Key", "s2"}, 401},
		{"with the secret elsewhere", "static", []string{"Authorization", "Bearer s1"}, 401},
		{"with a bearer token", "bearer", []string{"Authorization", "Bearer s2"}, 0},
		{"with the token of another", "bearer", []string{"Authorization", "Bearer s1"}, 401},
		{"not known", "nobody", nil, 401},
	}
	for _, tt := range tests {
		status, why := d.Refusal(request(tt.headers...), "default", tt.controlPlane)
		if status != tt.status || (why == "") != (status == 0) {
			t.Errorf("%s: %d %q, want %d", tt.name, status, why, tt.status)
		}
	}
	if status, _ := d.Refusal(request("X-Api-Key", "s1"), "alice", "static"); status != 401 {
		t.Errorf("in another participant context: %d", status)
	}
}

// With protocols of their own alone, nobody calls by Data Plane Signaling.
func TestNobodyCallsWhereAllSpeakOtherwise(t *testing.T) {
	d := newDirectory(t, DirectoryOptions{DataPlane: "dp", ControlPlanes: []ControlPlane{
		{ID: "open", Endpoint: "https://open.example", Protocol: telegraph{}}}})
	r, err := http.NewRequest(http.MethodPost, "http://dp.example/", nil)
	if err != nil {
		t.Fatal(err)
	}
	if m, err := d.identify(r); err == nil {
		t.Errorf("it is %s", m.ID)
	}
}
