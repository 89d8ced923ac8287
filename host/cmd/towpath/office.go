package main

import (
	"cmp"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"time"

	"github.com/towpath-dataplane/towpath/host/admin"
	"github.com/towpath-dataplane/towpath/host/config"
	"github.com/towpath-dataplane/towpath/host/flow"
	"github.com/towpath-dataplane/towpath/host/signaling"
	"github.com/towpath-dataplane/towpath/sdk"
	"github.com/towpath-dataplane/towpath/sdk/outbound"
)

// controlPlanes are the configuration's control planes. signalingURL is what they are told where the configuration says nothing.
func controlPlanes(cfg *config.Config, signalingURL string, c catalog, logger *slog.Logger) ([]signaling.ControlPlane, error) {
	var all []signaling.ControlPlane
	for _, cp := range cfg.ControlPlanes {
		client, err := controlPlaneClient(cfg.Outbound, cp)
		if err != nil {
			return nil, fmt.Errorf("control plane %s: %w", cp.ID, err)
		}
		all = append(all, signaling.ControlPlane{
			ID: cp.ID, Context: cp.ParticipantContext, Protocol: protocolOf(cp, c, logger), Endpoint: cp.Endpoint,
			GiveUpAfter: cp.GiveUpAfter, Timeout: cp.Timeout, HTTP: client,
			Inbound: inboundOf(cp), Outbound: outboundOf(cp), Registration: registrationOf(cp, signalingURL),
		})
	}
	return all, nil
}

// controlPlaneClient calls one control plane, its authorization server and its keys. What the operator has written down may be
// reached wherever it is.
func controlPlaneClient(rules config.Outbound, c config.ControlPlane) (*http.Client, error) {
	policy, err := outbound.NewPolicy(outbound.Rules{Allow: rules.Allow, AllowHTTP: rules.AllowHTTP})
	if err != nil {
		return nil, err
	}
	urls := append([]string{c.Endpoint}, c.CallbackAddresses...)
	if a := c.Authorization; a != nil {
		urls = append(urls, a.JWKSURI, a.TokenEndpoint, a.TokenExchangeEndpoint)
	}
	if r := c.Registration; r != nil {
		urls = append(urls, r.Endpoint)
	}
	for _, u := range urls {
		if u == "" {
			continue
		}
		if err := policy.Trust(u); err != nil {
			return nil, err
		}
	}
	limits := outbound.Limits{Timeout: c.Timeout}
	if c.TLS != nil {
		if limits.TLS, err = clientTLS(*c.TLS); err != nil {
			return nil, err
		}
	}
	return policy.Client(limits), nil
}

// clientTLS is for calling a server with a private authority, or one that asks for a certificate. The certificate is read again for
// each connection, so that a renewed one is used.
func clientTLS(c config.ClientTLS) (*tls.Config, error) {
	t := &tls.Config{MinVersion: tls.VersionTLS12}
	if c.CA != "" {
		pem, err := os.ReadFile(c.CA)
		if err != nil {
			return nil, fmt.Errorf("authorities: %w", err)
		}
		if t.RootCAs = x509.NewCertPool(); !t.RootCAs.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("authorities: %s has no certificate", c.CA)
		}
	}
	if c.Certificate != "" {
		t.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
			pair, err := tls.LoadX509KeyPair(c.Certificate, c.Key)
			return &pair, err
		}
	}
	return t, nil
}

// inboundOf is how a control plane proves who it is.
func inboundOf(c config.ControlPlane) signaling.Inbound {
	a := c.Authorization
	if !a.HasInbound() {
		return signaling.Inbound{}
	}
	in := signaling.Inbound{Type: string(a.Type), Issuer: a.Issuer, Subject: a.Subject, Audiences: a.Audiences, RequiredScope: a.RequiredScope,
		JWKSURI: a.JWKSURI, InsecureSkipSignature: a.InsecureSkipSignature, SingleUse: a.SingleUse, Header: a.Header, Secret: a.Inbound.Reveal()}
	if a.JWKS != "" {
		in.JWKS = []byte(a.JWKS)
	}
	if in.Subject == c.ID && a.Type == config.TokenExchange {
		in.Subject = "" // its participant context names it, too
	}
	return in
}

// outboundOf is how this data plane proves to a control plane who it is.
func outboundOf(c config.ControlPlane) signaling.Outbound {
	a := c.Authorization
	if !a.HasOutbound() {
		return signaling.Outbound{}
	}
	return signaling.Outbound{Type: string(a.Type), TokenEndpoint: a.TokenEndpoint, ClientID: a.ClientID, ClientSecret: a.ClientSecret.Reveal(),
		TokenExchangeEndpoint: a.TokenExchangeEndpoint, SubjectTokenFile: a.SubjectToken, Resource: a.Resource, Audience: a.Audience,
		Scope: a.Scope, SingleUse: a.SingleUse, Header: a.Header, Secret: a.Outbound.Reveal()}
}

// registrationOf is how this data plane is registered at a control plane, nil if it is not.
func registrationOf(c config.ControlPlane, signalingURL string) *signaling.Registration {
	r := c.Registration
	if r == nil {
		return nil
	}
	path := "/dataflows"
	if c.Protocol == config.ProtocolEDC {
		path = config.EDCPath(c.ID)
	}
	out := &signaling.Registration{Endpoint: r.Endpoint, DataPlaneEndpoint: cmp.Or(r.DataplaneEndpoint, signalingURL+path),
		Labels: r.Labels, Headers: map[string]string{}, DeregisterOnStop: r.DeregisterOnStop}
	for name, value := range r.Headers {
		out.Headers[name] = value.Reveal()
	}
	if a := r.Authorization; a != nil {
		out.Authorization = &signaling.AuthorizationEntry{Type: string(a.Type), TokenEndpoint: a.TokenEndpoint, ClientID: a.ClientID,
			ClientSecret: a.ClientSecret.Reveal(), TokenExchangeEndpoint: a.TokenExchangeEndpoint, Issuer: a.Issuer, JWKSURI: a.JWKSURI,
			Resource: a.Resource, Audience: a.Audience, Scope: a.Scope}
		if a.JWKS != "" {
			out.Authorization.JWKS = json.RawMessage(a.JWKS)
		}
	}
	return out
}

// registrationKeys are the secrets with which control planes register themselves, by participant context.
func registrationKeys(cfg *config.Config) map[string]string {
	keys := map[string]string{}
	for _, c := range cfg.ParticipantContexts {
		if !c.RegistrationKey.IsZero() {
			keys[c.Name] = c.RegistrationKey.Reveal()
		}
	}
	return keys
}

// office shows operators the control planes, and lets them change registrations.
type office struct {
	directory *signaling.Directory
	registrar *signaling.Registrar
}

var _ admin.ControlPlanes = office{}

func (o office) List(context.Context) ([]admin.ControlPlane, error) {
	registrations := map[string]*admin.Registration{}
	for _, s := range o.registrar.Status() {
		registrations[s.ControlPlane] = &admin.Registration{Status: s.State(), Endpoint: s.Endpoint, Since: known(s.Since),
			Attempts: s.Attempts, Next: known(s.Next), LastError: s.LastErr}
	}
	var all []admin.ControlPlane
	for _, e := range o.directory.Entries() {
		c := admin.ControlPlane{ID: e.ID, Context: e.Context, Endpoint: e.Endpoint, Protocol: e.Protocol, Origin: admin.OriginFile,
			Registration: registrations[e.ID]}
		if !e.Registered.IsZero() {
			c.Origin = admin.OriginAPI
		}
		if e.Inbound != "" {
			c.Authorization = append(c.Authorization, e.Inbound)
		}
		if e.Outbound != "" && e.Outbound != e.Inbound {
			c.Authorization = append(c.Authorization, e.Outbound)
		}
		all = append(all, c)
	}
	return all, nil
}

// known returns nil for the zero time.
func known(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	return &t
}

func (o office) Register(ctx context.Context, participantContext, id string) error {
	return o.change(ctx, participantContext, id, o.registrar.Register)
}

func (o office) Deregister(ctx context.Context, participantContext, id string) error {
	return o.change(ctx, participantContext, id, o.registrar.Deregister)
}

func (o office) change(ctx context.Context, participantContext, id string, change func(context.Context, string) error) error {
	known := false
	for _, e := range o.directory.Entries() {
		known = known || e.ID == id && e.Context == participantContext
	}
	if !known {
		return sdk.Errorf(sdk.NotFound, "there is no control plane %q in participant context %q", id, participantContext)
	}
	err := change(ctx, id)
	switch {
	case err == nil:
		return nil
	case errors.Is(err, signaling.ErrNoRegistration):
		return sdk.Errorf(sdk.Unsupported, "no registration with control plane %q is configured", id)
	}
	return sdk.Retryf(sdk.Unavailable, "%w", err)
}

// agreement asks a flow's control plane for its agreement.
func agreement(a *signaling.Agreements) func(context.Context, *flow.Flow) (json.RawMessage, error) {
	return func(ctx context.Context, f *flow.Flow) (json.RawMessage, error) {
		raw, err := a.Agreement(ctx, f)
		switch {
		case err == nil:
			return raw, nil
		case errors.Is(err, signaling.ErrNoAgreement), errors.Is(err, signaling.ErrUnknownControlPlane):
			return nil, sdk.Errorf(sdk.NotFound, "%w", err)
		case errors.Is(err, signaling.ErrNotSupported):
			return nil, sdk.Errorf(sdk.Unsupported, "%w", err)
		case errors.Is(err, signaling.ErrBadAgreement):
			return nil, sdk.Errorf(sdk.Corrupt, "%w", err)
		}
		return nil, sdk.Retryf(sdk.Unavailable, "%w", err)
	}
}
