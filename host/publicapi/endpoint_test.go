package publicapi

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/towpath-dataplane/towpath/host/flow"
	"github.com/towpath-dataplane/towpath/host/token"
	"github.com/towpath-dataplane/towpath/sdk"
)

// issuer is a Tokens whose tokens say what they are for.
type issuer struct{ err error }

func (i issuer) Issue(_ context.Context, g token.Grant) (token.Issued, error) {
	issued := token.Issued{
		Access: string(g.Access) + " " + g.Flow.Context + " " + g.Flow.ID + " " + g.Subject,
		Claims: token.Claims{Grant: g, Issued: time.Unix(1000, 0), Expires: time.Unix(1300, 0)},
	}
	if g.Renewable {
		issued.Refresh = "refresh for " + g.Subject
	}
	return issued, i.err
}

func (i issuer) Revoke(context.Context, token.Flow) error { return i.err }

func TestIssue(t *testing.T) {
	consumer := flow.Flow{Key: flow.Key{Context: "t/1", ID: "urn:x/1"}, Role: flow.Consumer, Direction: flow.Push,
		Profile: "push", CounterPartyID: "cp"}
	renewable := consumer
	renewable.CounterPartyID = "did:web:them.example%3A8443"
	elsewhere := renewable
	elsewhere.CounterPartyID = "did:example:them"
	never := renewable
	never.Profile = "pull"
	provider := flow.Flow{Key: key("f 1"), Role: flow.Provider, Direction: flow.Pull, Profile: "pull", CounterPartyID: "cp"}
	for _, tc := range []struct {
		name    string
		digests []sdk.Algorithm
		flow    flow.Flow
		want    sdk.DataAddress
	}{
		{"pull", []sdk.Algorithm{sdk.SHA256}, provider, sdk.DataAddress{
			Type: "type of pull", Endpoint: "https://dp.example/data/flows/f%201",
			Properties: map[string]string{"authorization": "read default f 1 cp", "authType": "bearer"},
		}},
		{"push", nil, consumer, sdk.DataAddress{
			Type: "type of push", Endpoint: "https://dp.example/data/contexts/t%2F1/ingest/urn:x%2F1",
			Properties: map[string]string{"authorization": "write t/1 urn:x/1 cp", "authType": "bearer",
				"manifestUrl": "https://dp.example/data/contexts/t%2F1/manifests/urn:x%2F1"},
		}},
		{"push with digests", []sdk.Algorithm{sdk.SHA256}, consumer, sdk.DataAddress{
			Type: "type of push", Endpoint: "https://dp.example/data/contexts/t%2F1/ingest/urn:x%2F1",
			Properties: map[string]string{"authorization": "write t/1 urn:x/1 cp", "authType": "bearer", "digests": "crc32c,sha256",
				"manifestUrl": "https://dp.example/data/contexts/t%2F1/manifests/urn:x%2F1"},
		}},
		{"push that can be renewed", nil, renewable, sdk.DataAddress{
			Type: "type of push", Endpoint: "https://dp.example/data/contexts/t%2F1/ingest/urn:x%2F1",
			Properties: map[string]string{"authorization": "write t/1 urn:x/1 did:web:them.example%3A8443", "authType": "bearer",
				"refreshToken": "refresh for did:web:them.example%3A8443", "expiresIn": "300", "refreshEndpoint": "https://dp.example/data/token",
				"manifestUrl": "https://dp.example/data/contexts/t%2F1/manifests/urn:x%2F1"},
		}},
		{"push of a DID that cannot be resolved", nil, elsewhere, sdk.DataAddress{
			Type: "type of push", Endpoint: "https://dp.example/data/contexts/t%2F1/ingest/urn:x%2F1",
			Properties: map[string]string{"authorization": "write t/1 urn:x/1 did:example:them", "authType": "bearer",
				"manifestUrl": "https://dp.example/data/contexts/t%2F1/manifests/urn:x%2F1"},
		}},
		{"push of another profile", nil, never, sdk.DataAddress{
			Type: "type of pull", Endpoint: "https://dp.example/data/contexts/t%2F1/ingest/urn:x%2F1",
			Properties: map[string]string{"authorization": "write t/1 urn:x/1 did:web:them.example%3A8443", "authType": "bearer",
				"manifestUrl": "https://dp.example/data/contexts/t%2F1/manifests/urn:x%2F1"},
		}},
	} {
		e, err := NewEndpoint(EndpointOptions{PublicURL: "https://dp.example/data/", Tokens: issuer{}, Digests: tc.digests,
			EndpointType: func(profile string) string { return "type of " + profile },
			Renewable:    func(f *flow.Flow) bool { return f.Profile == "push" }})
		if err != nil {
			t.Fatal(err)
		}
		got, err := e.Issue(t.Context(), &tc.flow)
		if diff := cmp.Diff(tc.want, got); err != nil || diff != "" {
			t.Errorf("%s: %v %s", tc.name, err, diff)
		}
	}
}

func TestIssueRefuses(t *testing.T) {
	broken := errors.New("disk full")
	e, err := NewEndpoint(EndpointOptions{PublicURL: "https://x", Tokens: issuer{broken}, EndpointType: func(p string) string { return p }})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := e.Issue(t.Context(), &flow.Flow{Key: key("f"), Role: flow.Provider, Direction: flow.Pull}); !errors.Is(err, broken) {
		t.Errorf("error %v", err)
	}
	if err := e.Revoke(t.Context(), key("f")); !errors.Is(err, broken) {
		t.Errorf("error %v", err)
	}
	if a, err := e.Issue(t.Context(), &flow.Flow{Key: key("f"), Role: flow.Provider, Direction: flow.Push}); err == nil || !a.IsZero() {
		t.Errorf("address for a flow without an endpoint: %v, %v", a, err)
	}
}

func TestOptionsThatAreRefused(t *testing.T) {
	typ := func(p string) string { return p }
	for _, o := range []EndpointOptions{
		{PublicURL: "", Tokens: issuer{}, EndpointType: typ}, {PublicURL: "dp.example", Tokens: issuer{}, EndpointType: typ},
		{PublicURL: "ftp://dp.example", Tokens: issuer{}, EndpointType: typ}, {PublicURL: "https://", Tokens: issuer{}, EndpointType: typ},
		{PublicURL: "https://dp.example?x", Tokens: issuer{}, EndpointType: typ}, {PublicURL: "https://u@dp.example", Tokens: issuer{}, EndpointType: typ},
		{PublicURL: "https://dp.example#x", Tokens: issuer{}, EndpointType: typ}, {PublicURL: "https://dp.example/%zz", Tokens: issuer{}, EndpointType: typ},
		{PublicURL: "https://dp.example", EndpointType: typ}, {PublicURL: "https://dp.example", Tokens: issuer{}},
	} {
		if _, err := NewEndpoint(o); err == nil {
			t.Errorf("%+v was taken", o)
		}
	}
	if _, err := NewHandler(Options{PublicURL: "https://dp.example"}); err == nil {
		t.Error("a Handler without anything was made")
	}
	whole := Options{PublicURL: "https://x", Flows: newFlows(), Tokens: newAuthority(t, time.Now), JWKS: []byte("{}"),
		Source: func(string) (sdk.DataSource, error) { return nil, nil }, Sink: func(string) (sdk.DataSink, error) { return nil, nil }}
	if _, err := NewHandler(whole); err != nil {
		t.Error(err)
	}
	whole.Renewal.Tokens = newAuthority(t, time.Now)
	if _, err := NewHandler(whole); err == nil {
		t.Error("a Handler that renews without Keys was made")
	}
	if _, err := NewHandler(Options{PublicURL: "dp.example"}); err == nil {
		t.Error("a Handler without a public URL was made")
	}
}
