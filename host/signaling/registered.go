package signaling

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"net/url"
	"slices"
	"strings"

	"github.com/towpath-dataplane/towpath/host/flow"
	"github.com/towpath-dataplane/towpath/host/identity"
)

// AuthorizationEntry is the authorization object of a registration. What it has besides Type depends on that.
type AuthorizationEntry struct {
	Type                  string          `json:"type"`
	TokenEndpoint         string          `json:"tokenEndpoint,omitempty"`
	ClientID              string          `json:"clientId,omitempty"`
	ClientSecret          string          `json:"clientSecret,omitempty"`
	TokenExchangeEndpoint string          `json:"tokenExchangeEndpoint,omitempty"`
	Issuer                string          `json:"issuer,omitempty"`
	JWKSURI               string          `json:"jwksUri,omitempty"`
	JWKS                  json.RawMessage `json:"jwks,omitempty"`
	Resource              string          `json:"resource,omitempty"`
	Audience              string          `json:"audience,omitempty"`
	Scope                 string          `json:"scope,omitempty"`
	// MetadataEndpoint stands for TokenExchangeEndpoint, Issuer and JWKSURI, and is taken, but never sent or kept.
	MetadataEndpoint string `json:"metadataEndpoint,omitempty"`
}

const supported = "the types are " + AuthClientCredentials + " and " + AuthTokenExchange

// check demands what the authorization profiles do. The error is a *flow.RequestError.
func (a *AuthorizationEntry) check() error {
	switch a.Type {
	case AuthClientCredentials:
		if a.JWKS != nil && a.JWKSURI != "" {
			return invalid("authorization.jwks", "must not be there together with jwksUri")
		}
		return need("tokenEndpoint", a.TokenEndpoint, "clientId", a.ClientID, "clientSecret", a.ClientSecret)
	case AuthTokenExchange:
		if a.JWKS != nil {
			return invalid("authorization.jwks", "is not for "+AuthTokenExchange)
		}
		return need("tokenExchangeEndpoint", a.TokenExchangeEndpoint, "issuer", a.Issuer, "jwksUri", a.JWKSURI)
	default:
		return invalid("authorization.type", "%.100q is not supported; "+supported, a.Type)
	}
}

// need demands members of the authorization object, given as name, value, …
func need(members ...string) error {
	for i := 0; i < len(members); i += 2 {
		if members[i+1] == "" {
			return invalid("authorization."+members[i], "is required")
		}
	}
	return nil
}

// controlPlaneRegistration is ControlPlaneRegistrationMessage. It is also how a registration is kept.
type controlPlaneRegistration struct {
	ID            string              `json:"controlplaneId"`
	Endpoint      string              `json:"endpoint"`
	Authorization *AuthorizationEntry `json:"authorization,omitempty"`
}

// decodeRegistration reads a ControlPlaneRegistrationMessage. The error is a *flow.RequestError that repeats no value.
func decodeRegistration(body []byte) (controlPlaneRegistration, error) {
	if err := checkJSON(body); err != nil {
		return controlPlaneRegistration{}, err
	}
	f, err := parseFields("", body)
	if err != nil {
		return controlPlaneRegistration{}, err
	}
	r := controlPlaneRegistration{ID: f.required("controlplaneId"), Endpoint: f.required("endpoint")}
	f.checkID("controlplaneId", r.ID)
	if f.has("authorization") {
		a, err := parseFields("authorization", f.members["authorization"])
		if err != nil {
			return controlPlaneRegistration{}, cmp.Or(f.err, err)
		}
		r.Authorization = a.authorization()
		f.keep(a.err)
	}
	return r, f.err
}

func (f *fields) authorization() *AuthorizationEntry {
	return &AuthorizationEntry{
		Type:                  f.required("type"),
		TokenEndpoint:         f.text("tokenEndpoint"),
		ClientID:              f.text("clientId"),
		ClientSecret:          f.text("clientSecret"),
		TokenExchangeEndpoint: f.text("tokenExchangeEndpoint"),
		Issuer:                f.text("issuer"),
		JWKSURI:               f.text("jwksUri"),
		JWKS:                  f.object("jwks"),
		Resource:              f.text("resource"),
		Audience:              f.text("audience"),
		Scope:                 f.text("scope"),
		MetadataEndpoint:      f.text("metadataEndpoint"),
	}
}

// takesRegistrations reports whether control planes can be registered over the API.
func (d *Directory) takesRegistrations() bool { return len(d.keys) > 0 }

// documentKind is the kind of the documents with registrations.
const documentKind = "control_plane"

// register takes a registration for a participant context, in place of the one that it repeats. The error is a *problem or a
// *flow.RequestError, or else a failure of ours.
func (d *Directory) register(ctx context.Context, context string, r controlPlaneRegistration) error {
	cp, err := d.registeredControlPlane(context, r)
	if err != nil {
		return err
	}
	d.changing.Lock()
	defer d.changing.Unlock()
	if err := d.checkTaken(cp); err != nil {
		return err
	}
	if err := d.checkRoom(cp); err != nil {
		return err
	}
	m, err := d.newMember(cp, d.guarded)
	if err != nil {
		return invalid("", "%v", err)
	}
	m.registered = d.clock().UTC()
	document := flow.Document{Kind: documentKind, Context: context, ID: r.ID, Content: encode(r), Updated: m.registered}
	if err := d.documents.PutDocument(ctx, document); err != nil {
		m.close()
		return fmt.Errorf("store the registration of control plane %q: %w", r.ID, err)
	}
	d.replace(r.ID, m)
	d.log.InfoContext(ctx, "control plane registered", "control_plane", r.ID, "context", context, "endpoint", r.Endpoint)
	return nil
}

// deregister ends a registration of a participant context. The error is a *problem, or else a failure of ours.
func (d *Directory) deregister(ctx context.Context, context, id string) error {
	d.changing.Lock()
	defer d.changing.Unlock()
	if m, ok := d.member(context, id); !ok || m.registered.IsZero() {
		return noSuchControlPlane.problem("no control plane is registered under this id")
	}
	if _, err := d.documents.DeleteDocument(ctx, documentKind, context, id); err != nil {
		return fmt.Errorf("remove the registration of control plane %q: %w", id, err)
	}
	d.replace(id, nil)
	d.log.InfoContext(ctx, "control plane deregistered", "control_plane", id, "context", context)
	return nil
}

// replace puts m, or nothing if it is nil, in the place of a registered control plane, and ends what that has going on.
func (d *Directory) replace(id string, m *member) {
	before := d.put(id, m)
	if before != nil {
		before.close()
	}
}

// checkTaken refuses an id by which another control plane is known, of the operator's or of another participant context; and tokens that
// would name one of the operator's.
func (d *Directory) checkTaken(cp ControlPlane) error {
	for _, m := range d.sorted() {
		configured := m.registered.IsZero()
		switch {
		case m.ID == cp.ID && (configured || m.Context != cp.Context), configured && m.inbound.subject == cp.ID:
			return controlPlaneTaken.problem("another control plane is known by this id")
		case configured && m.Context == cp.Context && m.inbound.exchange && m.inbound.byContext &&
			cp.Inbound.Type == AuthTokenExchange && cp.Inbound.Issuer == m.inbound.rules.Issuer:
			return controlPlaneTaken.problem("the issuer's tokens for this participant context name another control plane")
		}
	}
	return nil
}

// maxRegistered is how many control planes can be registered in a participant context.
const maxRegistered = 100

// checkRoom refuses one control plane more than that.
func (d *Directory) checkRoom(cp ControlPlane) error {
	n := 0
	for _, m := range d.sorted() {
		if !m.registered.IsZero() && m.Context == cp.Context && m.ID != cp.ID {
			n++
		}
	}
	if n >= maxRegistered {
		return tooManyPlanes.problem("%d control planes are registered in this participant context", n)
	}
	return nil
}

// load takes up the registrations that were stored. One that cannot be used any more is left out and said so.
func (d *Directory) load(ctx context.Context) error {
	documents, err := d.documents.Documents(ctx, documentKind)
	if err != nil {
		return fmt.Errorf("registered control planes: %w", err)
	}
	for _, document := range documents {
		if err := d.restore(document); err != nil {
			d.log.WarnContext(ctx, "a registered control plane is left out", "control_plane", document.ID, "context", document.Context, "err", err)
		}
	}
	return nil
}

func (d *Directory) restore(document flow.Document) error {
	if _, ok := d.keys[document.Context]; !ok {
		return fmt.Errorf("participant context %q has no registration key any more", document.Context)
	}
	r, err := decodeRegistration(document.Content)
	if err != nil {
		return err
	}
	cp, err := d.registeredControlPlane(document.Context, r)
	if err != nil {
		return err
	}
	if err := d.checkTaken(cp); err != nil {
		return err
	}
	m, err := d.newMember(cp, d.guarded)
	if err != nil {
		return err
	}
	m.registered = document.Updated
	d.replace(r.ID, m)
	return nil
}

// registeredControlPlane says what a registration means. What it names must be reachable within the policy, and it must say how to know
// the control plane again. The error is a *flow.RequestError.
func (d *Directory) registeredControlPlane(context string, r controlPlaneRegistration) (ControlPlane, error) {
	cp := ControlPlane{ID: r.ID, Context: context, Endpoint: r.Endpoint}
	if err := checkURL(r.Endpoint); err != nil {
		return cp, invalid("endpoint", "%v", err)
	}
	if err := d.checkReachable("endpoint", r.Endpoint); err != nil {
		return cp, err
	}
	a := r.Authorization
	if a == nil {
		return cp, invalid("authorization", "is required: without it, this data plane cannot tell who calls; "+supported)
	}
	if err := a.check(); err != nil {
		return cp, err
	}
	if a.Type == AuthTokenExchange {
		return cp, d.tokenExchange(&cp, a)
	}
	return cp, d.clientCredentials(&cp, a)
}

func (d *Directory) clientCredentials(cp *ControlPlane, a *AuthorizationEntry) error {
	if a.JWKS == nil && a.JWKSURI == "" {
		return invalid("authorization.jwksUri", "is required, or jwks: without keys, this data plane cannot tell who calls")
	}
	if err := d.checkReachable("authorization.tokenEndpoint", a.TokenEndpoint); err != nil {
		return err
	}
	if a.JWKS != nil {
		if _, err := identity.ParseJWKS(a.JWKS); err != nil {
			return invalid("authorization.jwks", "%v", err)
		}
	}
	if a.JWKSURI != "" {
		if err := d.checkReachable("authorization.jwksUri", a.JWKSURI); err != nil {
			return err
		}
	}
	cp.Inbound = Inbound{Type: a.Type, Issuer: a.Issuer, JWKSURI: a.JWKSURI, JWKS: a.JWKS}
	cp.Outbound = Outbound{Type: a.Type, TokenEndpoint: a.TokenEndpoint, ClientID: a.ClientID, ClientSecret: a.ClientSecret, Scope: a.Scope}
	return nil
}

// tokenExchange also sees to it that this workload's own credential goes nowhere but to the operator's authorization servers, and that
// the token it is exchanged for is for whom the registration is.
func (d *Directory) tokenExchange(cp *ControlPlane, a *AuthorizationEntry) error {
	if err := d.checkReachable("authorization.jwksUri", a.JWKSURI); err != nil {
		return err
	}
	known := d.exchangeAt(cp.Context, a.TokenExchangeEndpoint)
	switch {
	case known == nil:
		return invalid("authorization.tokenExchangeEndpoint",
			"is not one that the operator of this data plane has configured for the participant context")
	case a.Resource != "" && !sameOrigin(a.Resource, cp.Endpoint):
		return invalid("authorization.resource", "is at another host than the control plane's endpoint")
	case a.Audience != "" && a.Audience != cp.ID && a.Audience != known.Audience && !sameOrigin(a.Audience, cp.Endpoint):
		return invalid("authorization.audience", "is not the control plane's id")
	case d.isOfOthers(cmp.Or(a.Audience, cp.ID), cp.Endpoint):
		return invalid("authorization.audience", "is that of somebody else (without it, the control plane's id is the audience)")
	}
	cp.Inbound = Inbound{Type: a.Type, Issuer: a.Issuer, JWKSURI: a.JWKSURI}
	cp.Outbound = Outbound{Type: a.Type, TokenExchangeEndpoint: known.TokenExchangeEndpoint, SubjectTokenFile: known.SubjectTokenFile,
		Resource: a.Resource, Audience: a.Audience, Scope: a.Scope}
	return nil
}

// isOfOthers reports whether tokens for an audience are good at another host than the endpoint's, as far as can be told: who registers
// chooses its id.
func (d *Directory) isOfOthers(audience, endpoint string) bool {
	if sameOrigin(audience, endpoint) {
		return false
	}
	return checkURLWithQuery(audience) == nil || slices.ContainsFunc(d.sorted(), func(m *member) bool {
		theirs := []string{m.Outbound.Audience, m.Outbound.Resource, m.ID}
		return m.registered.IsZero() && slices.Contains(theirs, audience) && !sameOrigin(m.Endpoint, endpoint)
	})
}

// exchangeAt returns how a configured control plane of a participant context uses a token exchange endpoint, and nil if none does.
func (d *Directory) exchangeAt(context, endpoint string) *Outbound {
	for _, m := range d.sorted() {
		if m.registered.IsZero() && m.Context == context && m.Outbound.Type == AuthTokenExchange && m.Outbound.TokenExchangeEndpoint == endpoint {
			return &m.Outbound
		}
	}
	return nil
}

func sameOrigin(a, b string) bool {
	first, err := url.Parse(a)
	if err != nil || first.Host == "" {
		return false
	}
	second, err := url.Parse(b)
	return err == nil && first.Scheme == second.Scheme && strings.EqualFold(first.Host, second.Host)
}

// checkReachable refuses a URL that could not be requested.
func (d *Directory) checkReachable(field, raw string) error {
	if err := checkURLWithQuery(raw); err != nil {
		return invalid(field, "%v", err)
	}
	u, err := url.Parse(raw)
	if err != nil {
		return invalid(field, "is not a URL")
	}
	if err := d.policy.CheckURL(u); err != nil {
		return invalid(field, "%v", err)
	}
	return nil
}
