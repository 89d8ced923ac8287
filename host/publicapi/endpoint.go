package publicapi

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/towpath-dataplane/towpath/host/flow"
	"github.com/towpath-dataplane/towpath/host/identity"
	"github.com/towpath-dataplane/towpath/host/token"
	"github.com/towpath-dataplane/towpath/sdk"
)

// Tokens issues and revokes tokens. A *token.Authority is one.
type Tokens interface {
	// Issue returns tokens for a flow, whose older tokens stop working.
	Issue(ctx context.Context, g token.Grant) (token.Issued, error)
	// Revoke ends all tokens of a flow. It is idempotent.
	Revoke(ctx context.Context, f token.Flow) error
}

// EndpointOptions are what an Endpoint needs.
type EndpointOptions struct {
	// PublicURL is where counterparties reach the Handler's paths: absolute, without query.
	PublicURL string
	// EndpointType returns the endpointType of the addresses issued for a profile.
	EndpointType func(profile string) string
	// ResponseType returns the endpointType of the response channels of a profile. nil: it is HttpData.
	ResponseType func(profile string) string
	Tokens       Tokens
	// Renewable says whether a flow's tokens can be renewed. They never can if its counterparty is not known by a DID that can be
	// resolved. nil: none can.
	Renewable func(f *flow.Flow) bool
	// TractusX says whether a flow's tokens are renewed as Tractus-X does it. nil: none are.
	TractusX TractusX
	// Lifetime is how long a token of a flow is good: as token.Grant has it. nil: as long as the Tokens have it.
	Lifetime func(f *flow.Flow) time.Duration
	// Digests that an ingest computes. The sender is asked for the same.
	Digests []sdk.Algorithm
}

// Endpoint issues the addresses that a Handler honours. Its methods may be called concurrently.
type Endpoint struct {
	EndpointOptions
	base string // PublicURL without '/' at its end
}

var _ flow.Endpoint = (*Endpoint)(nil)

// NewEndpoint returns an Endpoint, or says which option is wrong.
func NewEndpoint(o EndpointOptions) (*Endpoint, error) {
	base, err := publicBase(o.PublicURL)
	switch {
	case err != nil:
		return nil, err
	case o.EndpointType == nil, o.Tokens == nil:
		return nil, errors.New("an Endpoint needs EndpointType and Tokens")
	}
	if o.ResponseType == nil {
		o.ResponseType = func(string) string { return "HttpData" }
	}
	return &Endpoint{EndpointOptions: o, base: base}, nil
}

// publicBase checks a public URL and returns it without '/' at its end.
func publicBase(raw string) (string, error) {
	u, err := url.Parse(raw)
	switch {
	case err != nil:
		return "", fmt.Errorf("public URL: %w", err)
	case u.Scheme != "http" && u.Scheme != "https", u.Host == "":
		return "", fmt.Errorf("public URL %q is not an absolute HTTP URL", u.Redacted())
	case u.User != nil, u.RawQuery != "", u.Fragment != "":
		return "", fmt.Errorf("public URL %q has more than a host and a path", u.Redacted())
	}
	return strings.TrimRight(raw, "/?#"), nil
}

// pathOf returns the path of a base.
func pathOf(base string) string {
	_, rest, _ := strings.Cut(base, "://")
	if at := strings.IndexByte(rest, '/'); at >= 0 {
		return rest[at:]
	}
	return ""
}

// Issue returns the address at which the flow's counterparty reads (pull) or writes (push), with a new token, and if that can be
// renewed with what the Token Renewal profile asks for.
func (e *Endpoint) Issue(ctx context.Context, f *flow.Flow) (sdk.DataAddress, error) {
	if !f.Serves() {
		return sdk.DataAddress{}, fmt.Errorf("flow %s has no endpoint on this side: %s of a %s", f.Key, f.Role, f.Direction)
	}
	access, first := token.Read, flowElement
	if f.Direction == flow.Push {
		access, first = token.Write, ingestElement
	}
	a, err := e.issue(ctx, f, access, first)
	if err != nil {
		return sdk.DataAddress{}, err
	}
	a.Type = e.EndpointType(f.Profile)
	if access == token.Write {
		a.Properties["manifestUrl"] = e.base + flowPath(sealElement, f.Key)
		if list := digestList(e.Digests); list != "" {
			a.Properties["digests"] = list
		}
	}
	return a, nil
}

// IssueResponse returns the address at which the flow's counterparty sends what it has to say about the data, with a new token, and what
// it takes to renew that under the same conditions.
func (e *Endpoint) IssueResponse(ctx context.Context, f *flow.Flow) (sdk.DataAddress, error) {
	a, err := e.issue(ctx, f, token.Respond, responseElement)
	a.Type = e.ResponseType(f.Profile)
	return a, err
}

// issue returns an address without a type below one of the first elements, with a new token for an access.
func (e *Endpoint) issue(ctx context.Context, f *flow.Flow, access token.Access, first string) (sdk.DataAddress, error) {
	g := token.Grant{Flow: tokenFlow(f.Key), Access: access}
	var names func(map[string]string, token.Issued)
	g.Subject, g.Renewable, names = e.renewal(f)
	if g.Subject == "" { // the control plane does not say: it is for whoever has the flow
		g.Subject = f.ID
	}
	if e.Lifetime != nil {
		g.Lifetime = e.Lifetime(f)
	}
	issued, err := e.Tokens.Issue(ctx, g)
	if err != nil {
		return sdk.DataAddress{}, err
	}
	a := sdk.DataAddress{
		Endpoint:   e.base + flowPath(first, f.Key),
		Properties: map[string]string{"authorization": issued.Access, "authType": "bearer"},
	}
	if issued.Refresh != "" {
		names(a.Properties, issued)
	}
	return a, nil
}

// renewal says whom a flow's tokens are for, whether they can be renewed, and what writes into an address how.
func (e *Endpoint) renewal(f *flow.Flow) (subject string, renewable bool, names func(map[string]string, token.Issued)) {
	if audience, ok := e.TractusX.of(f); ok {
		return audience, true, func(properties map[string]string, i token.Issued) { e.nameTractusX(properties, i, audience) }
	}
	renewable = e.Renewable != nil && e.Renewable(f) && identity.CheckDID(f.CounterPartyID) == nil
	return f.CounterPartyID, renewable, e.nameRenewal
}

// nameRenewal writes how tokens are renewed in the words of the profile Token Renewal.
func (e *Endpoint) nameRenewal(properties map[string]string, i token.Issued) {
	properties["refreshToken"] = i.Refresh
	properties["expiresIn"] = lifetime(i)
	properties["refreshEndpoint"] = e.base + renewalPath
}

// lifetime is that of an access token, in seconds.
func lifetime(i token.Issued) string {
	return strconv.FormatInt(int64(i.Claims.Expires.Sub(i.Claims.Issued)/time.Second), 10)
}

// Revoke ends all tokens of the flow.
func (e *Endpoint) Revoke(ctx context.Context, key flow.Key) error {
	return e.Tokens.Revoke(ctx, tokenFlow(key))
}

func tokenFlow(key flow.Key) token.Flow { return token.Flow{Context: key.Context, ID: key.ID} }

// digestList names the algorithms if there are more than the one that is always used.
func digestList(wanted []sdk.Algorithm) string {
	if !slices.Contains(wanted, sdk.SHA256) {
		return ""
	}
	return string(sdk.CRC32C) + "," + string(sdk.SHA256)
}
