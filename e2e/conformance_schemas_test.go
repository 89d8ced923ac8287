//go:build linux

package e2e_test

import (
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/santhosh-tekuri/jsonschema/v6"
)

// schemas are the messages of Data Plane Signaling, by name.
var schemas = sync.OnceValues(func() (map[string]*jsonschema.Schema, error) {
	c := jsonschema.NewCompiler()
	c.AssertFormat()
	files, err := filepath.Glob("testdata/schemas/*.schema.json")
	if err != nil {
		return nil, err
	}
	for _, file := range files {
		text, err := os.Open(file)
		if err != nil {
			return nil, err
		}
		content, err := jsonschema.UnmarshalJSON(text)
		text.Close()
		if err != nil {
			return nil, err
		}
		if err := c.AddResource(schemaURL(file), content); err != nil {
			return nil, err
		}
	}
	all := map[string]*jsonschema.Schema{}
	for _, file := range files {
		s, err := c.Compile(schemaURL(file))
		if err != nil {
			return nil, err
		}
		all[strings.TrimSuffix(filepath.Base(file), ".schema.json")] = s
	}
	return all, nil
})

func schemaURL(file string) string { return "https://towpath.example/schemas/" + filepath.Base(file) }

// schemaError says why a text is no message of a kind.
func schemaError(name, text string) error {
	all, err := schemas()
	if err != nil {
		return err
	}
	value, err := jsonschema.UnmarshalJSON(strings.NewReader(text))
	if err != nil {
		return err
	}
	return all[name].Validate(value)
}

func checkSchema(t testing.TB, name, text string) {
	t.Helper()
	if err := schemaError(name, text); err != nil {
		t.Errorf("this is no %s: %v\n%s", name, err, text)
	}
}

// The schemas tell messages from what is none.
func TestSchemas(t *testing.T) {
	t.Parallel()
	address := `{"@type":"DataAddress","endpointType":"x","endpointProperties":[{"@type":"EndpointProperty","name":"a","value":"b"}]}`
	base := `"messageId":"1","participantId":"p","counterPartyId":"c","dataspaceContext":"d","agreementId":"a","datasetId":"s",` +
		`"profile":"x","claims":{}`
	for _, c := range []struct {
		name, text string
		good       bool
	}{
		{"DataFlowStatusMessage", `{"messageId":"1","dataFlowId":"f","state":"STARTED","dataAddress":` + address + `}`, true},
		{"DataFlowStatusMessage", `{"messageId":"1","dataFlowId":"f","state":"STARTED","dataAddress":null}`, false},
		{"DataFlowStatusMessage", `{"messageId":"1","dataFlowId":"f","state":"STARTED","error":""}`, false},
		{"DataFlowStatusMessage", `{"messageId":"1","state":"STARTED"}`, false},
		{"DataFlowStatusMessage", `{"messageId":"1","dataFlowId":"f","state":"FAILED"}`, false},
		{"DataFlowStatusResponseMessage", `{"dataFlowId":"f","state":"PREPARING"}`, true},
		{"DataFlowStatusResponseMessage", `{"dataFlowId":"f"}`, false},
		{"DataAddress", `{"@type":"DataAddress","endpointType":"x","endpointProperties":[]}`, false},
		{"DataAddress", `{"@type":"DataAddress","endpointType":"x","endpointProperties":[{"name":"a","value":"b"}]}`, false},
		{"DataAddress", `{"@type":"DataAddress","endpointType":"x","endpointProperties":[{"@type":"EndpointProperty","name":"a","value":1}]}`, false},
		{"DataFlowStartMessage", `{` + base + `,"dataFlowId":"f","dataAddress":` + address + `}`, true},
		{"DataFlowStartMessage", `{` + base + `,"processId":"f"}`, true},
		{"DataFlowStartMessage", `{` + base + `}`, false},
		{"DataFlowPrepareMessage", `{"dataFlowId":"f"}`, false},
		{"DataFlowSuspendMessage", `{"messageId":"1","reason":"r"}`, true},
		{"DataFlowTerminateMessage", `{"messageId":"1","reason":1}`, false},
		{"DataFlowResumeMessage", `{"messageId":"1","dataAddress":` + address + `}`, true},
		{"DataFlowStartedNotificationMessage", `{}`, false},
		{"DataPlaneRegistrationMessage", `{"dataplaneId":"d","endpoint":"https://x.example/d","profiles":["p-push"],"authorization":{"type":"none"}}`, true},
		{"DataPlaneRegistrationMessage", `{"dataplaneId":"d","endpoint":"https://x.example/d","profiles":["p-push"],"authorization":{}}`, false},
		{"DataPlaneRegistrationMessage", `{"dataplaneId":"d","endpoint":"x y","profiles":["p-push"]}`, false},
		{"ControlPlaneRegistrationMessage", `{"controlplaneId":"c","endpoint":"https://x.example",` +
			`"authorization":{"type":"oauth2_client_credentials","tokenEndpoint":"https://x.example/t","clientId":"i","clientSecret":"s"}}`, true},
		{"ControlPlaneRegistrationMessage", `{"controlplaneId":"c","endpoint":"https://x.example",` +
			`"authorization":{"type":"oauth2_token_exchange","tokenExchangeEndpoint":"https://x.example/t"}}`, false},
		{"TokenResponse", `{"access_token":"a","token_type":"Bearer","expires_in":300}`, true},
		{"TokenResponse", `{"access_token":"a","token_type":"Bearer","expires_in":"300"}`, false},
		{"TokenError", `{"error":"invalid_grant"}`, true},
		{"TokenError", `{"error":"no"}`, false},
		{"Problem", `{"type":"urn:towpath:problem:wrong-state","title":"t","status":409}`, true},
		{"Problem", `{"type":"about:blank","status":200}`, false},
	} {
		if err := schemaError(c.name, c.text); (err == nil) != c.good {
			t.Errorf("%s: %v: %s", c.name, err, c.text)
		}
	}
}
