package edc

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestRegistration(t *testing.T) {
	c := &Client{ProvisionTypes: []string{"AmazonS3"}}
	url, body, err := c.Registration(endpoint+"/", "dp", "http://dp:8080/api/edc/cp/v1/dataflows",
		[]string{"HttpData-PULL", "HttpData-PULL-HttpData", "HttpData-PUSH", "dps-only", "x"}, []string{"AmazonS3", "HttpData"})
	if err != nil || url != endpoint+"/v1/dataplanes" {
		t.Errorf("%s, %v", url, err)
	}
	want := `{"@context":{"@vocab":"https://w3id.org/edc/v0.0.1/ns/"},"@type":"DataPlaneInstance","@id":"dp","url":"http://dp:8080/api/edc/cp/v1/dataflows",` +
		`"allowedSourceTypes":["AmazonS3","HttpData"],"allowedTransferTypes":["HttpData-PULL","HttpData-PULL-HttpData","HttpData-PUSH"],` +
		`"destinationProvisionTypes":["AmazonS3"]}`
	if diff := cmp.Diff(want, string(body)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	_, body, err = new(Client).Registration(endpoint, "dp", "http://dp", []string{"A-PUSH"}, []string{"A"})
	if err != nil || strings.Contains(string(body), "destinationProvisionTypes") {
		t.Errorf("without types to prepare: %s, %v", body, err)
	}
}

func TestNothingToRegister(t *testing.T) {
	for want, offered := range map[string][2][]string{
		"no plugin reads anything": {{"HttpData-PULL"}, nil},
		"names as HttpData-PULL":   {{"dps-only", "PULL", "-PULL", "A-PULL-", "A-PULL-B-C", "A-pull"}, {"HttpData"}},
	} {
		if _, _, err := new(Client).Registration(endpoint, "dp", "http://dp", offered[0], offered[1]); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("want %q: %v", want, err)
		}
	}
}

func TestDeregistration(t *testing.T) {
	at := endpoint + "/v1/dataplanes/dp%2F1"
	want := [][2]string{{"DELETE", at}, {"PUT", at + "/unregister"}}
	if diff := cmp.Diff(want, new(Client).Deregistration(endpoint, "dp/1")); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestLost(t *testing.T) {
	tests := []struct {
		status int
		body   string
		want   bool
	}{
		{404, ``, true},
		{404, `[{"message":"Object of type DataPlaneInstance with ID=dp was not found","type":"ObjectNotFound"}]`, true},
		{404, `<html><body>no such service</body></html>`, false},
		{200, `{"@id":"dp","state":"UNREGISTERED"}`, false},
		{405, ``, false},
		{500, ``, false},
		{401, ``, false},
	}
	for _, tt := range tests {
		if got := new(Client).Lost(tt.status, []byte(tt.body)); got != tt.want {
			t.Errorf("%d %s: %v", tt.status, tt.body, got)
		}
	}
}
