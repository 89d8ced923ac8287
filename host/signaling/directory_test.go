package signaling

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	gocmp "github.com/google/go-cmp/cmp"

	"github.com/towpath-dataplane/towpath/host/flow"
	"github.com/towpath-dataplane/towpath/sdk/outbound"
)

// shelf keeps documents in memory.
type shelf struct {
	mu        sync.Mutex // guards what follows
	documents map[string]flow.Document
	broken    error
}

func newShelf() *shelf { return &shelf{documents: map[string]flow.Document{}} }

func (s *shelf) PutDocument(_ context.Context, d flow.Document) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.broken == nil {
		s.documents[d.Kind+"\x00"+d.Context+"\x00"+d.ID] = d
	}
	return s.broken
}

func (s *shelf) DeleteDocument(_ context.Context, kind, context, id string) (bool, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	key := kind + "\x00" + context + "\x00" + id
	_, ok := s.documents[key]
	if s.broken == nil {
		delete(s.documents, key)
	}
	return ok, s.broken
}

func (s *shelf) Documents(_ context.Context, kind string) ([]flow.Document, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	var found []flow.Document
	for _, d := range s.documents {
		if d.Kind == kind {
			found = append(found, d)
		}
	}
	slices.SortFunc(found, func(a, b flow.Document) int {
		return cmp.Or(cmp.Compare(a.Context, b.Context), cmp.Compare(a.ID, b.ID))
	})
	return found, s.broken
}

// loopbackPolicy lets registrations name servers of tests.
func loopbackPolicy(t *testing.T) *outbound.Policy {
	t.Helper()
	p, err := outbound.NewPolicy(outbound.Rules{Allow: []string{"loopback"}})
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func TestDirectoryRefusesControlPlanes(t *testing.T) {
	const key = "hunter2"
	static := Inbound{Type: AuthStatic, Secret: key}
	with := func(change func(*ControlPlane)) []ControlPlane {
		cp := ControlPlane{ID: "cp", Endpoint: "https://cp.example", Inbound: static}
		change(&cp)
		return []ControlPlane{cp}
	}
	in := func(in Inbound) []ControlPlane { return with(func(cp *ControlPlane) { cp.Inbound = in }) }
	out := func(o Outbound) []ControlPlane { return with(func(cp *ControlPlane) { cp.Outbound = o }) }
	at := func(endpoint string) []ControlPlane { return with(func(cp *ControlPlane) { cp.Endpoint = endpoint }) }
	registration := func(r Registration) []ControlPlane {
		return with(func(cp *ControlPlane) { cp.Registration = &r })
	}
	two := func(a, b ControlPlane) []ControlPlane { return []ControlPlane{a, b} }
	cp := ControlPlane{ID: "a", Endpoint: "https://a.example", Inbound: static}
	other := ControlPlane{ID: "b", Endpoint: "https://b.example", Inbound: Inbound{Type: AuthStatic, Secret: "other"}}
	mute := ControlPlane{ID: "m", Endpoint: "https://m.example"}
	tests := []struct {
		all  []ControlPlane
		keys map[string]string
		want string
	}{
		{all: at(""), want: `"cp": the endpoint is not an absolute HTTP URL`},
		{all: at("cp.example/callbacks"), want: "not an absolute HTTP URL"},
		{all: at("ftp://cp.example"), want: "not an absolute HTTP URL"},
		{all: at("https://"), want: "not an absolute HTTP URL"},
		{all: at("https://u:hunter2@cp.example"), want: "contains credentials"},
		{all: at("https://cp.example?key=hunter2"), want: "query or a fragment"},
		{all: at("https://cp.example/#hunter2"), want: "query or a fragment"},
		{all: at("https://cp example:hunter2"), want: "not a URL"},
		{all: with(func(cp *ControlPlane) { cp.ID = "" }), want: "the id is empty"},
		{all: in(Inbound{Type: "basic"}), want: `the type "basic" is not supported`},
		{all: in(Inbound{Type: AuthStatic}), want: "there is no secret"},
		{all: in(Inbound{Type: AuthStatic, Secret: "hunter2\n"}), want: "cannot be one"},
		{all: in(Inbound{Type: AuthStatic, Secret: key, Header: "X Y"}), want: "cannot be the name"},
		{all: in(Inbound{Type: AuthClientCredentials}), want: "no keys to verify tokens with"},
		{all: in(Inbound{Type: AuthClientCredentials, JWKSURI: "x"}), want: "the URL of keys is not an absolute HTTP URL"},
		{all: in(Inbound{Type: AuthClientCredentials, JWKSURI: "https://x", JWKS: []byte(`{}`)}), want: "both by URL and as they are"},
		{all: in(Inbound{Type: AuthClientCredentials, JWKS: []byte(`{"keys":[{"kty":"oct","k":"aHVudGVyMg"}]}`)}), want: "keys to verify tokens with"},
		{all: in(Inbound{Type: AuthTokenExchange, JWKSURI: "https://x"}), want: "there is no issuer"},
		{all: in(Inbound{Type: AuthTokenExchange, Issuer: "https://x"}), want: "no URL of keys"},
		{all: out(Outbound{Type: "basic"}), want: `outbound authorization: the type "basic"`},
		{all: out(Outbound{Type: AuthStatic}), want: "there is no secret"},
		{all: out(Outbound{Type: AuthClientCredentials, ClientSecret: key, TokenEndpoint: "https://x"}), want: "there is no client id"},
		{all: out(Outbound{Type: AuthClientCredentials, ClientID: "c", TokenEndpoint: "https://x"}), want: "there is no client secret"},
		{all: out(Outbound{Type: AuthClientCredentials, ClientID: "c", ClientSecret: key}), want: "the token endpoint is not"},
		{all: out(Outbound{Type: AuthClientCredentials, ClientID: "c", ClientSecret: key, ClientAuth: "jwt"}), want: `"jwt" is not supported`},
		{all: out(Outbound{Type: AuthTokenExchange, TokenExchangeEndpoint: "https://x"}), want: "no file with a subject token"},
		{all: out(Outbound{Type: AuthTokenExchange, SubjectTokenFile: "f"}), want: "the token exchange endpoint is not"},
		{all: registration(Registration{}), want: "registration: the data plane's endpoint is not"},
		{all: registration(Registration{Endpoint: "x", DataPlaneEndpoint: "https://dp"}), want: "registration: the endpoint is not"},
		{all: registration(Registration{DataPlaneEndpoint: "https://dp", Headers: map[string]string{"X-Key": "hunter2\r\n"}}), want: "header field X-Key"},
		{all: registration(Registration{DataPlaneEndpoint: "https://dp", Authorization: &AuthorizationEntry{Type: "none"}}), want: `registration: authorization.type: "none" is not supported`},
		{all: registration(Registration{DataPlaneEndpoint: "https://dp", Authorization: &AuthorizationEntry{Type: AuthTokenExchange}}),
			want: "authorization.tokenExchangeEndpoint: is required"},
		{all: two(cp, cp), want: `"a" is there twice`},
		{all: two(cp, ControlPlane{ID: "b", Endpoint: "https://b.example", Inbound: static}), want: `"a" and "b" have the same secret`},
		{all: two(cp, mute), want: `"m" has no inbound authorization`},
		{all: []ControlPlane{mute}, keys: map[string]string{"default": "k"}, want: `"m" has no inbound authorization`},
		{all: two(cp, other), keys: map[string]string{"alice": ""}, want: `registration key of participant context "alice": there is no secret`},
		{all: two(cp, other), keys: map[string]string{"alice": key, "bob": key}, want: `"alice" and "bob" have the same registration key`},
	}
	for _, tt := range tests {
		_, err := NewDirectory(t.Context(), DirectoryOptions{DataPlane: "dp", ControlPlanes: tt.all, RegistrationKeys: tt.keys, Documents: newShelf()})
		if err == nil || !strings.Contains(err.Error(), tt.want) || strings.Contains(err.Error(), key) {
			t.Errorf("want %q: %v", tt.want, err)
		}
	}
	if _, err := NewDirectory(t.Context(), DirectoryOptions{RegistrationKeys: map[string]string{"a": "k"}}); err == nil {
		t.Error("registrations are taken that nothing keeps")
	}
	broken := &shelf{broken: errors.New("disk on fire")}
	if _, err := NewDirectory(t.Context(), DirectoryOptions{RegistrationKeys: map[string]string{"a": "k"}, Documents: broken}); err == nil {
		t.Error("registrations that cannot be read are left out in silence")
	}
}

// What was registered is there after a restart, as far as the operator still wants it.
func TestRegistrationsAreKept(t *testing.T) {
	documents := newShelf()
	options := DirectoryOptions{DataPlane: "dp", Documents: documents, RegistrationKeys: map[string]string{"alice": "ka", "bob": "kb"},
		ControlPlanes: []ControlPlane{{ID: "own", Endpoint: "https://own.example", Inbound: Inbound{Type: AuthStatic, Secret: "s"}}}}
	jwks := newSigningKey(t, "k").jwks()
	d := newDirectory(t, options)
	for _, r := range [][2]string{{"alice", "a1"}, {"alice", "a2"}, {"bob", "b1"}} {
		if err := d.register(t.Context(), r[0], registered(r[1], jwks)); err != nil {
			t.Fatal(err)
		}
	}
	if err := d.deregister(t.Context(), "alice", "a2"); err != nil {
		t.Fatal(err)
	}
	documents.PutDocument(t.Context(), flow.Document{Kind: documentKind, Context: "alice", ID: "broken", Content: []byte("{")})
	documents.PutDocument(t.Context(), flow.Document{Kind: "dataset", Context: "alice", ID: "no control plane", Content: []byte("{}")})

	for name, tt := range map[string]struct {
		change func(*DirectoryOptions)
		want   string
	}{
		"as it was":             {func(*DirectoryOptions) {}, "own a1 b1"},
		"bob has no key":        {func(o *DirectoryOptions) { o.RegistrationKeys = map[string]string{"alice": "new"} }, "own a1"},
		"nobody has a key":      {func(o *DirectoryOptions) { o.RegistrationKeys = nil }, "own"},
		"an id is configured":   {func(o *DirectoryOptions) { o.ControlPlanes[0].ID = "a1" }, "a1 b1"},
		"loopback is forbidden": {func(o *DirectoryOptions) { o.Outbound = &outbound.Policy{} }, "own a1 b1"},
	} {
		o := options
		o.ControlPlanes = slices.Clone(o.ControlPlanes)
		tt.change(&o)
		var got []string
		for _, e := range newDirectory(t, o).Entries() {
			got = append(got, e.ID)
			if (e.Registered.IsZero()) != (e.Context == flow.DefaultContext) {
				t.Errorf("%s: %+v", name, e)
			}
		}
		if s := strings.Join(got, " "); s != tt.want {
			t.Errorf("%s: %s", name, s)
		}
	}
}

func newDirectory(t *testing.T, o DirectoryOptions) *Directory {
	t.Helper()
	d, err := NewDirectory(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(d.Close)
	return d
}

// registered is the registration of a control plane at https://<id>.example.
func registered(id string, jwks []byte) controlPlaneRegistration {
	return controlPlaneRegistration{ID: id, Endpoint: "https://" + id + ".example", Authorization: &AuthorizationEntry{
		Type: AuthClientCredentials, TokenEndpoint: "https://idp.example/token", ClientID: "dp", ClientSecret: "hunter2", JWKS: jwks}}
}

func TestEntries(t *testing.T) {
	d := newDirectory(t, DirectoryOptions{ControlPlanes: []ControlPlane{
		{ID: "b", Context: "bob", Endpoint: "https://b.example", Inbound: Inbound{Type: AuthStatic, Secret: "hunter2"}},
		{ID: "a", Endpoint: "https://a.example", Inbound: Inbound{Type: AuthStatic, Secret: "hunter3"},
			Outbound: Outbound{Type: AuthStatic, Secret: "hunter4"}},
	}})
	want := []Entry{
		{ID: "a", Context: "default", Endpoint: "https://a.example", Protocol: "dps", Inbound: AuthStatic, Outbound: AuthStatic},
		{ID: "b", Context: "bob", Endpoint: "https://b.example", Protocol: "dps", Inbound: AuthStatic},
	}
	if diff := gocmp.Diff(want, d.Entries()); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// Control planes come and go while others are looked up.
func TestDirectoryConcurrently(t *testing.T) {
	d := newDirectory(t, DirectoryOptions{Documents: newShelf(), RegistrationKeys: map[string]string{"c": "k"}})
	jwks := newSigningKey(t, "k").jwks()
	var wg sync.WaitGroup
	for i := range 4 {
		wg.Go(func() {
			id := fmt.Sprint("cp", i)
			for range 20 {
				if err := d.register(t.Context(), "c", registered(id, jwks)); err != nil {
					t.Error(err)
				}
				if _, ok := d.member("c", id); !ok {
					t.Errorf("%s is not there", id)
				}
				if err := d.deregister(t.Context(), "c", id); err != nil {
					t.Error(err)
				}
				d.Entries()
			}
		})
	}
	wg.Wait()
	if e := d.Entries(); len(e) != 0 {
		t.Errorf("left: %v", e)
	}
}

// A registration that cannot be stored does not take effect, and one that cannot be removed stays.
func TestRegistrationThatCannotBeStored(t *testing.T) {
	documents := newShelf()
	d := newDirectory(t, DirectoryOptions{Documents: documents, RegistrationKeys: map[string]string{"c": "k"}})
	jwks := newSigningKey(t, "k").jwks()
	if err := d.register(t.Context(), "c", registered("cp", jwks)); err != nil {
		t.Fatal(err)
	}
	documents.broken = errors.New("disk on fire")
	elsewhere := registered("cp", jwks)
	elsewhere.Endpoint = "https://elsewhere.example"
	if err := d.register(t.Context(), "c", elsewhere); err == nil {
		t.Error("registered")
	}
	if err := d.deregister(t.Context(), "c", "cp"); err == nil {
		t.Error("deregistered")
	}
	if e := d.Entries(); len(e) != 1 || e[0].Endpoint != "https://cp.example" || time.Since(e[0].Registered) > time.Minute {
		t.Errorf("%+v", e)
	}
}
