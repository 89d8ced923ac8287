//go:build linux

package e2e_test

import (
	"crypto/ed25519"
	"crypto/rand"
	"encoding/json"
	"net/http"
	"net/url"
	"testing"
)

const tractusXNames = "https://w3id.org/tractusx/auth/"

// tellTractusXRenewal renews as the connectors of Tractus-X do: with all that is asked for in the query, and addressed to itself.
func tellTractusXRenewal(t *testing.T, w *edcWorld, c *connector) {
	public, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	consumer := &party{key: private}
	consumer.did, consumer.kid = didKey(public)
	p := c.begin("renewed", 0)
	x := w.pull(c, p)
	x.properties = message{tractusXNames + "audience": consumer.did, "https://w3id.org/catenax/credentials/bpn": "BPNL000000000001"}
	first := p.start(x)
	if first[tractusXNames+"refreshAudience"] != consumer.did || first[tractusXNames+"expiresIn"] != "3600" {
		t.Fatalf("%v", first)
	}
	first.expect(t, http.StatusOK, "content of /"+p.id)
	second := first.renew(t, consumer)
	again := first.renew(t, consumer) // as if the answer had been lost
	if again["authorization"] != second["authorization"] {
		t.Error("a renewal whose answer was lost has other tokens")
	}
	second.expect(t, http.StatusOK, "content of /"+p.id)
	second.renew(t, consumer).expect(t, http.StatusOK, "")
	p.terminate()
	second.expect(t, http.StatusForbidden, "")

	other := c.begin("not-renewed", 0)
	if given := other.start(w.pull(c, other)); given[tractusXNames+"refreshToken"] != "" || given["authorization"] == "" {
		t.Errorf("without an audience: %v", given)
	}
	other.terminate()
}

// renew returns an address with new tokens.
func (a edr) renew(t *testing.T, p *party) edr {
	t.Helper()
	query := url.Values{"grant_type": {"refresh_token"}, "refresh_token": {a[tractusXNames+"refreshToken"]}}.Encode()
	r, err := http.NewRequest(http.MethodPost, a[tractusXNames+"refreshEndpoint"]+"/token?"+query, nil)
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Authorization", "Bearer "+p.assertion(t, a[tractusXNames+"refreshAudience"], a["authorization"], nil))
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	response, err := client.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	var got struct {
		Access  string `json:"access_token"`
		Refresh string `json:"refresh_token"`
		Expires int    `json:"expires"`
		In      int    `json:"expires_in"`
		Type    string `json:"token_type"`
	}
	err = json.NewDecoder(response.Body).Decode(&got)
	if err != nil || response.StatusCode != http.StatusOK || got.Access == "" || got.Refresh == "" || got.Expires != got.In || got.Type != "bearer" {
		t.Fatalf("%d %+v %v", response.StatusCode, got, err)
	}
	b := edr{}
	for name, value := range a {
		b[name] = value
	}
	b["authorization"], b[tractusXNames+"refreshToken"] = got.Access, got.Refresh
	return b
}
