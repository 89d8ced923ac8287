package publicapi

import (
	"encoding/json"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/towpath-dataplane/towpath/host/flow"
	"github.com/towpath-dataplane/towpath/sdk"
)

// connectorDID is who renews the tokens of flows whose counterparty has another kind of id.
const connectorDID = "did:web:connector.example"

// newTractusX makes a world in which flows with labels are renewed as Tractus-X does: the label is the audience.
func newTractusX(t *testing.T) *world {
	variant := func(f *flow.Flow) (string, bool) {
		if len(f.Labels) == 0 {
			return "", false
		}
		return f.Labels[0], true
	}
	w := newRenewing(t, func(_ *world, o *Options) { o.Renewal.TractusX = variant })
	w.endpoint.TractusX = variant
	w.memory.Put("d", []byte("x"))
	return w
}

func (w *world) offerTractusX(id, audience string) sdk.DataAddress {
	return w.add(flow.Flow{Key: key(id), Role: flow.Provider, Direction: flow.Pull, CounterPartyID: "BPNL000000000001", Labels: []string{audience}})
}

// asConnector renews as Tractus-X does: everything in the query, and addressed to the refreshAudience.
func (w *world) asConnector(p *party, a sdk.DataAddress) response {
	w.t.Helper()
	signed := p.sign(a.Get("authorization"), func(_, claims map[string]any) {
		claims["aud"], claims["jti"] = a.Properties[tractusXNames+"refreshAudience"], "transfer-1"
	})
	query := url.Values{"grant_type": {"refresh_token"}, "refresh_token": {a.Properties[tractusXNames+"refreshToken"]}}.Encode()
	return w.do(sdk.DataAddress{}, a.Properties[tractusXNames+"refreshEndpoint"]+"/token?"+query, request{method: http.MethodPost,
		header: map[string]string{"Authorization": "Bearer " + signed, "Content-Type": formType}})
}

// wantEDR checks an answer with tokens, and returns the address with them.
func (r response) wantEDR(t *testing.T, a sdk.DataAddress, expires int) sdk.DataAddress {
	t.Helper()
	var got struct {
		Access    string `json:"access_token"`
		Refresh   string `json:"refresh_token"`
		Expires   int    `json:"expires"`
		ExpiresIn int    `json:"expires_in"`
		Type      string `json:"token_type"`
	}
	d := json.NewDecoder(strings.NewReader(string(r.body)))
	d.DisallowUnknownFields()
	if err := d.Decode(&got); err != nil || r.StatusCode != http.StatusOK || got.Access == "" || got.Refresh == "" || got.Type != "bearer" {
		t.Fatalf("status %d: %s: %v", r.StatusCode, r.body, err)
	}
	if got.Expires != expires || got.ExpiresIn != expires {
		t.Errorf("expires in %d and %d, want %d", got.Expires, got.ExpiresIn, expires)
	}
	b := a.Clone()
	b.Properties["authorization"], b.Properties[tractusXNames+"refreshToken"] = got.Access, got.Refresh
	return b
}

func TestTractusXRenewal(t *testing.T) {
	w := newTractusX(t)
	p := w.newParty(connectorDID)
	first := w.offerTractusX("f", connectorDID)
	want := map[string]string{
		"authorization": first.Get("authorization"), "authType": "bearer",
		tractusXNames + "refreshToken": first.Properties[tractusXNames+"refreshToken"], tractusXNames + "expiresIn": "3600",
		tractusXNames + "refreshEndpoint": w.server.URL, tractusXNames + "refreshAudience": connectorDID,
	}
	if diff := cmp.Diff(want, first.Properties); diff != "" || want[tractusXNames+"refreshToken"] == "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	second := w.asConnector(p, first).wantEDR(t, first, 3600)
	for _, a := range []sdk.DataAddress{first, second} {
		w.get(a, nil).wantBody(t, http.StatusOK, "x")
	}
	// A form will do as well, and so will what is addressed to the participant.
	third := w.post(grant(second.Properties[tractusXNames+"refreshToken"]), p.sign(second.Get("authorization"), nil)).wantEDR(t, second, 3600)
	w.get(third, nil).wantBody(t, http.StatusOK, "x")
}

// Nobody but the audience renews, however good what he has signed is.
func TestTractusXRenewalByOthers(t *testing.T) {
	w := newTractusX(t)
	mine, other := w.newParty(connectorDID), w.newParty(them)
	a := w.offerTractusX("f", connectorDID)
	w.asConnector(other, a).wantRefusal(t, "another DID", http.StatusUnauthorized, "invalid_client")
	// The audience of a flow of another kind says nothing: there only the participant is addressed.
	b := w.offer("g", connectorDID)
	w.post(grant(b.Get("refreshToken")), mine.sign(b.Get("authorization"), func(_, claims map[string]any) { claims["aud"] = connectorDID })).
		wantRefusal(t, "addressed to itself", http.StatusUnauthorized, "invalid_client")
	w.asConnector(mine, a).wantEDR(t, a, 3600)
	for _, audience := range []string{"", "BPNL000000000001", "did:"} {
		if c := w.offerTractusX("h"+audience, audience); len(c.Properties) != 2 {
			t.Errorf("audience %q: %v", audience, c.Properties)
		}
	}
}

// The refresh token before stays good until somebody has used the new tokens, whenever that is: the answer may not have arrived.
func TestTractusXAnswerThatWasLost(t *testing.T) {
	w := newTractusX(t)
	p := w.newParty(connectorDID)
	first := w.offerTractusX("f", connectorDID)
	w.asConnector(p, first).wantEDR(t, first, 3600)
	w.clock.advance(20 * time.Minute)
	w.asConnector(p, first).wantEDR(t, first, 2400)
	w.clock.advance(5 * time.Hour)
	second := w.asConnector(p, first).wantEDR(t, first, 0) // what was lost, which is too old to be used but not to be renewed
	third := w.asConnector(p, second).wantEDR(t, second, 3600)
	w.get(third, nil).wantBody(t, http.StatusOK, "x")
	w.asConnector(p, second).wantRefusal(t, "after the use", http.StatusBadRequest, "invalid_grant")
}
