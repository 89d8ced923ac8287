package signaling

import (
	"bytes"
	"encoding/json"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/towpath-dataplane/towpath/host/flow"
	"github.com/towpath-dataplane/towpath/sdk"
)

// TestMessagesGolden has a golden file for each form of the messages that are sent, and checks them against their schemas.
func TestMessagesGolden(t *testing.T) {
	key := flow.Key{Context: "c", ID: "urn:uuid:f/1"}
	for name, m := range map[string]any{
		"status-plain": statusMessage{MessageID: answerID(key, "m"), DataFlowID: key.ID, State: flow.Suspended},
		"status-address": statusMessage{MessageID: answerID(key, "m"), DataFlowID: key.ID, State: flow.Started, DataAddress: encodeAddress(&sdk.DataAddress{
			Type: "https://w3id.org/dspace-sig/profile/http-pull", Endpoint: "https://dp.example/public/f?a=1&b=<2>",
			Properties: map[string]string{"refreshToken": "", "authType": "bearer", "authorization": "not-a-real-token", "Z": "ü\n"},
		})},
		"status-address-without-properties": statusMessage{MessageID: "m", DataFlowID: "f", State: flow.Prepared,
			DataAddress: encodeAddress(&sdk.DataAddress{Type: "x", Endpoint: "https://dp.example/in"})},
		"status-address-of-a-type-only": statusMessage{MessageID: "m", DataFlowID: "f", State: flow.Prepared,
			DataAddress: encodeAddress(&sdk.DataAddress{Type: "x"})},
		"status-address-with-other-endpoint": statusMessage{MessageID: "m", DataFlowID: "f", State: flow.Prepared,
			DataAddress: encodeAddress(&sdk.DataAddress{Type: "x", Endpoint: "https://a.example", Properties: map[string]string{edcEndpoint: "https://b.example"}})},
		"status-response":    statusResponseMessage{DataFlowID: key.ID, State: flow.Completed},
		"callback-completed": json.RawMessage(callbackBody(flow.Callback{Key: key, Kind: flow.CallbackCompleted, MessageID: "m", State: flow.Completed})),
		"callback-errored":   json.RawMessage(callbackBody(flow.Callback{Key: key, Kind: flow.CallbackErrored, MessageID: "m", State: flow.Started, Error: "the sink's disk is full"})),
		"callback-prepared": json.RawMessage(callbackBody(flow.Callback{Key: key, Kind: flow.CallbackPrepared, MessageID: "m", State: flow.Prepared,
			DataAddress: &sdk.DataAddress{Type: "x", Endpoint: "https://dp.example/in"}})),
		"status-response-with-fault": statusResponseMessage{DataFlowID: key.ID, State: flow.Started, Error: "the sink's disk is full"},
		"callback-started": json.RawMessage(callbackBody(flow.Callback{Key: key, Kind: flow.CallbackStarted, MessageID: "m", State: flow.Started,
			DataAddress: &sdk.DataAddress{Type: "x", Endpoint: "https://dp.example/out", Properties: map[string]string{"authorization": "not-a-real-token"}}})),
	} {
		t.Run(name, func(t *testing.T) {
			body := encode(m)
			schema := "DataFlowStatusMessage"
			if strings.HasPrefix(name, "status-response") {
				schema = "DataFlowStatusResponseMessage"
			}
			conforms(t, schema, body)
			if bytes.Contains(body, []byte("null")) {
				t.Errorf("null in %s", body)
			}
			golden(t, "messages/"+name+".json", indent(t, body))
		})
	}
}

func TestEncodeAddressLeavesItAlone(t *testing.T) {
	a := sdk.DataAddress{Type: "x", Endpoint: "https://a.example", Properties: map[string]string{"k": "v"}}
	before := a.Clone()
	encodeAddress(&a)
	if diff := cmp.Diff(before, a); diff != "" {
		t.Errorf("changed (-before +after):\n%s", diff)
	}
	if encodeAddress(nil) != nil {
		t.Error("an address out of nothing")
	}
}

func TestAddressRoundTrip(t *testing.T) {
	for _, a := range []sdk.DataAddress{
		{Type: "x"},
		{Type: "x", Endpoint: "https://a.example"},
		{Type: "x", Properties: map[string]string{"a": "1", "b": ""}},
		{Type: "x", Endpoint: "e", Properties: map[string]string{"type": "y", "endpoint": "z", "": "nameless"}},
		{Type: "x", Endpoint: "e", Properties: map[string]string{edcEndpoint: "other", edcType: "other"}},
		{Type: "x", Endpoint: "e", Properties: map[string]string{"responseChannel-endpoint": "r", "responseChannel-authorization": "t"}},
	} {
		delete(a.Properties, "")
		got, err := decodeAddress("", encode(encodeAddress(&a)))
		if err != nil {
			t.Errorf("%v: %v", a, err)
			continue
		}
		if diff := cmp.Diff(&a, got); diff != "" {
			t.Errorf("(-want +got):\n%s", diff)
		}
	}
}

// The properties of a response channel have EDC's names in messages, and bare ones inside; a peer may use either, or both.
func TestResponseChannelProperties(t *testing.T) {
	a := sdk.DataAddress{Type: "x", Endpoint: "e", Properties: map[string]string{"responseChannel-endpoint": "r", "authorization": "t"}}
	var names []string
	for _, p := range encodeAddress(&a).EndpointProperties {
		names = append(names, p.Name)
	}
	want := []string{"authorization", "https://w3id.org/edc/v0.0.1/ns/endpoint", "https://w3id.org/edc/v0.0.1/ns/responseChannel-endpoint"}
	if diff := cmp.Diff(want, names); diff != "" {
		t.Errorf("names (-want +got):\n%s", diff)
	}
	const full, bare = `{"name":"https://w3id.org/edc/v0.0.1/ns/responseChannel-endpoint","value":"r"}`, `{"name":"responseChannel-endpoint","value":"r"}`
	for _, properties := range []string{full, bare, full + "," + bare} {
		got, err := decodeAddress("", []byte(`{"endpointType":"x","endpointProperties":[`+properties+`]}`))
		if err != nil || got.Properties["responseChannel-endpoint"] != "r" || len(got.Properties) != 1 {
			t.Errorf("%s: %v, %v", properties, got, err)
		}
	}
	other := strings.Replace(bare, `"r"`, `"s"`, 1)
	if _, err := decodeAddress("", []byte(`{"endpointType":"x","endpointProperties":[`+full+","+other+`]}`)); err == nil {
		t.Error("two channels in one address")
	}
}

// TestSchemas checks that every schema can be used, and that it takes and refuses what the decoder does in strict mode.
func TestSchemas(t *testing.T) {
	names, err := fs.Glob(Schemas(), "*.schema.json")
	if err != nil || len(names) == 0 {
		t.Fatalf("no schemas: %v", err)
	}
	for _, name := range names {
		compileSchema(t, strings.TrimSuffix(name, ".schema.json"))
	}
	messages := map[string]string{
		"prepare": "DataFlowPrepareMessage", "start": "DataFlowStartMessage", "started": "DataFlowStartedNotificationMessage",
		"suspend": "DataFlowSuspendMessage", "resume": "DataFlowResumeMessage", "terminate": "DataFlowTerminateMessage",
	}
	for op, name := range messages {
		t.Run(name, func(t *testing.T) {
			files, _ := filepath.Glob("testdata/requests/" + op + "/*.json")
			for _, file := range files {
				body, err := os.ReadFile(file)
				if err != nil {
					t.Fatal(err)
				}
				if checkJSON(body) != nil {
					continue
				}
				valid := schemaError(t, name, body) == nil
				if _, err := decode(operation(op), body, true); valid && err != nil && !beyondSchemas(err) {
					t.Errorf("%s: the schema takes what the decoder refuses: %v", file, err)
				}
			}
		})
	}
	for body, ok := range map[string]bool{
		startMessage: true,
		strings.Replace(startMessage, "dataFlowId", "processId", 1):                       true,
		strings.Replace(startMessage, "dataFlowId", "id", 1):                              false,
		strings.Replace(startMessage, `"claims":{}`, `"claims":null`, 1):                  false,
		strings.Replace(startMessage, `"datasetId":"d1"`, `"datasetId":1`, 1):             false,
		strings.Replace(startMessage, `{"messageId"`, `{"dataAddress":{},"messageId"`, 1): false,
	} {
		if err := schemaError(t, "DataFlowStartMessage", []byte(body)); (err == nil) != ok {
			t.Errorf("%s: %v", body, err)
		}
	}
}

// beyondSchemas reports whether an error is about something that a schema cannot say.
func beyondSchemas(err error) bool {
	return strings.Contains(err.Error(), "differs from") || strings.Contains(err.Error(), "is there twice")
}
