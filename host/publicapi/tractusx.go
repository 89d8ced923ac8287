package publicapi

import (
	"github.com/towpath-dataplane/towpath/host/flow"
	"github.com/towpath-dataplane/towpath/host/identity"
	"github.com/towpath-dataplane/towpath/host/token"
)

// TractusX says whether a flow's tokens are renewed as the connectors of Tractus-X do it, and then whose DID may: the audience that the
// flow's control plane has named.
//
// That is the profile Token Renewal under other names, with these differences: the client is the audience, whoever the counterparty is
// otherwise; what it has signed is addressed to the refreshAudience, which is its own DID; and the refresh token before stays good until
// the new tokens are used, however long that takes, since those connectors renew only when somebody asks them for a token.
type TractusX func(f *flow.Flow) (audience string, ok bool)

// of returns the audience of a flow, and false for a flow whose tokens are not renewed in this way, or by nobody that can be known.
func (t TractusX) of(f *flow.Flow) (audience string, ok bool) {
	if t == nil {
		return "", false
	}
	audience, ok = t(f)
	return audience, ok && identity.CheckDID(audience) == nil
}

const tractusXNames = "https://w3id.org/tractusx/auth/"

// nameTractusX writes how tokens are renewed. The client adds /token to the refreshEndpoint.
func (e *Endpoint) nameTractusX(properties map[string]string, i token.Issued, audience string) {
	properties[tractusXNames+"refreshToken"] = i.Refresh
	properties[tractusXNames+"expiresIn"] = lifetime(i)
	properties[tractusXNames+"refreshEndpoint"] = e.base
	properties[tractusXNames+"refreshAudience"] = audience
}
