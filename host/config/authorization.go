package config

import (
	"maps"
	"slices"

	"github.com/hashicorp/hcl/v2"
)

// AuthorizationType is how a control plane and a data plane prove to each other who they are.
type AuthorizationType string

// The types of authorization. The first two are profiles of Data Plane Signaling.
const (
	ClientCredentials AuthorizationType = "oauth2_client_credentials"
	TokenExchange     AuthorizationType = "oauth2_token_exchange"
	StaticCredential  AuthorizationType = "static"
)

// Authorization is an authorization block of a control plane. What its type does not have is zero.
type Authorization struct {
	Type AuthorizationType

	// How the control plane calls us: by a JWT, unless the type is StaticCredential.

	// Issuer is the only iss that is accepted. "" (ClientCredentials only): any.
	Issuer string
	// Subject is who the control plane is in a token.
	Subject string
	// Audiences of which a token has to have one.
	Audiences []string
	// One of JWKSURI, JWKS (a key set) and InsecureSkipSignature says how signatures are verified.
	JWKSURI               string
	JWKS                  string
	InsecureSkipSignature bool
	// RequiredScope has to be among the scopes of a token (TokenExchange only). "": none.
	RequiredScope string
	// SingleUse refuses a token that was used.
	SingleUse bool

	// How we call it.

	// TokenEndpoint is where tokens come from (ClientCredentials). "": it is called without one.
	TokenEndpoint string
	ClientID      string
	ClientSecret  Secret
	// TokenExchangeEndpoint is where tokens come from (TokenExchange). "": it is called without one.
	TokenExchangeEndpoint string
	// SubjectToken is the file of the token that is exchanged. It need not be there yet, and changes.
	SubjectToken string
	// What to ask for; "" to ask for nothing.
	Scope    string
	Audience string
	Resource string

	// Header has the canonical name (StaticCredential). If it is Authorization, the values stand behind "Bearer ".
	Header string
	// Inbound is the value that the control plane sends, Outbound the one that it is sent. At least one is there.
	Inbound  Secret
	Outbound Secret

	Range hcl.Range

	incomplete bool // something was wrong with it, and reported
}

// HasInbound reports whether the control plane proves itself when it calls. It is false for nil.
func (a *Authorization) HasInbound() bool {
	return a != nil && (a.Type != StaticCredential || !a.Inbound.IsZero())
}

// HasOutbound reports whether the data plane proves itself when it calls. It is false for nil.
func (a *Authorization) HasOutbound() bool {
	return a != nil && (a.TokenEndpoint != "" || a.TokenExchangeEndpoint != "" || !a.Outbound.IsZero())
}

// AuthorizationEntry is the authorization block of a registration: what a control plane is told of how it calls the data plane. What
// its type does not have is zero.
type AuthorizationEntry struct {
	Type AuthorizationType // never StaticCredential

	TokenEndpoint string // ClientCredentials
	ClientID      string
	ClientSecret  Secret

	TokenExchangeEndpoint string // TokenExchange
	Issuer                string
	Resource              string
	Audience              string
	Scope                 string

	// JWKSURI or JWKS (a key set) say how our own tokens are verified. At most one is there.
	JWKSURI string
	JWKS    string

	Range hcl.Range
}

// authorization reads the authorization block of a control plane. It returns nil if it is of no known type.
func (l *loader) authorization(b *hcl.Block, controlPlane string) *Authorization {
	f, typ, ok := l.openTyped(b, authorizationSchemas)
	if !ok {
		return &Authorization{Range: b.DefRange, incomplete: true}
	}
	a := &Authorization{Type: typ, Range: b.DefRange}
	before := len(l.diags)
	switch typ {
	case ClientCredentials:
		l.verification(f, a, controlPlane)
		l.oneKeySource(f, a)
		l.setSecured(f, "token_endpoint", &a.TokenEndpoint)
		l.client(f, &a.ClientID, &a.ClientSecret)
		l.requested(f, &a.Scope, &a.Audience, &a.Resource)
		f.together("token_endpoint", []string{"client_id", "client_secret"}, "scope", "audience", "resource")
	case TokenExchange:
		l.verification(f, a, controlPlane)
		set(f, "required_scope", &a.RequiredScope, word)
		l.setSecured(f, "token_exchange_endpoint", &a.TokenExchangeEndpoint)
		set(f, "subject_token", &a.SubjectToken, f.path)
		l.requested(f, &a.Scope, &a.Audience, &a.Resource)
		f.together("token_exchange_endpoint", []string{"subject_token", "audience", "resource"}, "scope")
	case StaticCredential:
		l.static(f, a)
	}
	a.incomplete = !f.valid || len(l.diags) > before
	return a
}

// openTyped opens a block whose label says what may stand in it.
func (l *loader) openTyped(b *hcl.Block, schemas map[AuthorizationType]*hcl.BodySchema) (fields, AuthorizationType, bool) {
	typ := AuthorizationType(b.Labels[0])
	schema, ok := schemas[typ]
	if !ok {
		var names []string
		for t := range maps.Keys(schemas) {
			names = append(names, string(t))
		}
		l.report(b.LabelRanges[0], "Unknown authorization", "There are: %s.%s", list(names), didYouMean(b.Labels[0], names))
		return fields{}, "", false
	}
	return l.open(b, schema), typ, true
}

// verification reads how the control plane's tokens are verified.
func (l *loader) verification(f fields, a *Authorization, controlPlane string) {
	a.Subject = controlPlane
	set(f, "issuer", &a.Issuer, nonEmpty)
	set(f, "subject", &a.Subject, nonEmpty)
	set(f, "audiences", &a.Audiences, nonEmptyTexts)
	set(f, "single_use", &a.SingleUse, boolean)
	l.setSecured(f, "jwks_uri", &a.JWKSURI)
	set(f, "jwks", &a.JWKS, jwks)
}

// oneKeySource reads insecure_skip_signature, which goes without the keys of which there is to be one kind.
func (l *loader) oneKeySource(f fields, a *Authorization) {
	set(f, "insecure_skip_signature", &a.InsecureSkipSignature, boolean)
	var given []string
	for _, name := range []string{"jwks_uri", "jwks"} {
		if f.has(name) {
			given = append(given, name)
		}
	}
	if a.InsecureSkipSignature {
		given = append(given, "insecure_skip_signature")
	}
	switch {
	case len(given) == 0:
		l.report(f.header, "Missing keys", "It needs jwks_uri or jwks, to verify the control plane's tokens with. "+
			"(Or insecure_skip_signature = true, with which anyone can pretend to be it.)")
	case len(given) > 1:
		l.report(f.at(given[1]), "Attributes exclude each other", "%s and %s: only one can say how tokens are verified.", given[0], given[1])
	}
}

func (l *loader) client(f fields, id *string, secret *Secret) {
	set(f, "client_id", id, nonEmpty)
	setSecret(f, "client_secret", secret, headerValue)
}

func (l *loader) requested(f fields, scope, audience, resource *string) {
	set(f, "scope", scope, nonEmpty)
	set(f, "audience", audience, nonEmpty)
	set(f, "resource", resource, resourceURI)
}

func (l *loader) static(f fields, a *Authorization) {
	a.Header = "Authorization"
	set(f, "header", &a.Header, header)
	check := headerValue
	if a.Header == "Authorization" {
		check = bearerToken
	}
	setSecret(f, "inbound", &a.Inbound, check)
	setSecret(f, "outbound", &a.Outbound, check)
	if f.valid && !f.has("inbound") && !f.has("outbound") {
		l.report(f.header, "Empty authorization", "It needs inbound, which the control plane sends, or outbound, which it is sent, or both.")
	}
}

// authorizationEntry reads the authorization block of a registration.
func (l *loader) authorizationEntry(b *hcl.Block) *AuthorizationEntry {
	f, typ, ok := l.openTyped(b, entrySchemas)
	if !ok {
		return nil
	}
	e := &AuthorizationEntry{Type: typ, Range: b.DefRange}
	l.setSecured(f, "token_endpoint", &e.TokenEndpoint)
	l.client(f, &e.ClientID, &e.ClientSecret)
	l.setSecured(f, "token_exchange_endpoint", &e.TokenExchangeEndpoint)
	set(f, "issuer", &e.Issuer, nonEmpty)
	l.requested(f, &e.Scope, &e.Audience, &e.Resource)
	l.setSecured(f, "jwks_uri", &e.JWKSURI)
	set(f, "jwks", &e.JWKS, jwks)
	if f.has("jwks_uri") && f.has("jwks") {
		l.report(f.at("jwks"), "Attributes exclude each other", "jwks_uri and jwks: only one can say how tokens are verified.")
	}
	return e
}

// accepts reports whether what proves one control plane proves another as well. sameContext: both are in one participant context.
func (a *Authorization) accepts(other *Authorization, sameContext bool) bool {
	switch {
	case !a.HasInbound() || !other.HasInbound() || a.incomplete || other.incomplete:
		return false
	case a.Type == StaticCredential || other.Type == StaticCredential:
		return a.Type == other.Type && a.Header == other.Header && a.Inbound.Equal(other.Inbound)
	case a.Subject != other.Subject, a.Issuer != "" && other.Issuer != "" && a.Issuer != other.Issuer:
		return false
	case !a.InsecureSkipSignature && !other.InsecureSkipSignature && (a.JWKSURI != other.JWKSURI || a.JWKS != other.JWKS):
		return false
	case a.Type == TokenExchange && other.Type == TokenExchange && !sameContext: // which the token names
		return false
	}
	return len(a.Audiences) == 0 || len(other.Audiences) == 0 ||
		slices.ContainsFunc(a.Audiences, func(s string) bool { return slices.Contains(other.Audiences, s) })
}
