package edc

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/towpath-dataplane/towpath/sdk"
)

// start is a message with members in addition to those that every start has.
func start(more string) string {
	return `{"@type":"DataFlowStartMessage","processId":"f","datasetId":"d","flowType":"PULL"` + more + `}`
}

func TestDecodeAddress(t *testing.T) {
	const ns = namespace
	tests := []struct {
		name, address string
		want          sdk.DataAddress
	}{
		{"EDC's name before the plain one", `{"endpointType":"T","endpointProperties":[{"name":"a","value":"plain"},{"name":"` + ns + `a","value":"own"}]}`,
			sdk.DataAddress{Type: "T", Properties: map[string]string{"a": "own"}}},
		{"one property", `{"endpointType":"T","endpointProperties":{"name":"a","value":"1"}}`,
			sdk.DataAddress{Type: "T", Properties: map[string]string{"a": "1"}}},
		{"no property", `{"endpointType":"T","endpointProperties":[]}`, sdk.DataAddress{Type: "T"}},
		{"type alone", `{"endpointType":{"@id":"T"}}`, sdk.DataAddress{Type: "T"}},
		{"type and endpoint among the properties", `{"endpointProperties":[{"name":"` + ns + `type","value":"T"},{"name":"` + ns + `endpoint","value":"u"}]}`,
			sdk.DataAddress{Type: "T", Endpoint: "u"}},
		{"type repeated", `{"endpointType":"T","endpointProperties":[{"name":"` + ns + `type","value":"T"}]}`, sdk.DataAddress{Type: "T"}},
		{"endpoint", `{"endpointType":"T","endpoint":"u","endpointProperties":[]}`, sdk.DataAddress{Type: "T", Endpoint: "u"}},
		{"other namespaces", `{"endpointType":"T","endpointProperties":[{"name":"https://w3id.org/tractusx/auth/a","value":"1"}]}`,
			sdk.DataAddress{Type: "T", Properties: map[string]string{"https://w3id.org/tractusx/auth/a": "1"}}},
		{"flat", `{"type":"T","a":1.50,"b":true,"oauth2:c":"d","kafka.e.f":"g","endpoint":"u"}`,
			sdk.DataAddress{Type: "T", Endpoint: "u", Properties: map[string]string{"a": "1.50", "b": "true", "oauth2:c": "d", "kafka.e.f": "g"}}},
		{"flat with an endpointType", `{"type":"T","endpointType":"U"}`, sdk.DataAddress{Type: "T", Properties: map[string]string{"endpointType": "U"}}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			m, err := decode([]byte(start(`,"sourceDataAddress":` + tt.address)))
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(&tt.want, m.source); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

func TestDecodeRefuses(t *testing.T) {
	deep := strings.Repeat(`{"a":`, maxDepth+1) + "1" + strings.Repeat("}", maxDepth+1)
	tests := []struct {
		name, body, path, message string
	}{
		{"nothing", ``, "", "not JSON"},
		{"text", `hello`, "", "not JSON"},
		{"half", `{"@type":`, "", "not JSON"},
		{"two", `{} {}`, "", "something after"},
		{"no UTF-8", "{\"a\":\"\xff\"}", "", "not UTF-8"},
		{"a number", `5`, "", "not one JSON object"},
		{"two messages", `[{},{}]`, "", "not one JSON object"},
		{"a graph", `{"@graph":[{"@type":"A"},{"@type":"B"}]}`, "", "not one JSON-LD node"},
		{"twice", `{"@type":"A","@type":"B"}`, "", `"@type" twice`},
		{"deep", deep, "", "deeper than"},
		{"many", `{"a":[` + strings.Repeat("1,", maxValues) + `1]}`, "", "more than"},
		{"unknown context", `{"@context":"https://elsewhere.example/context.jsonld"}`, "@context", "is not known here"},
		{"unknown context in an array", `{"@context":[{},"https://elsewhere.example/x"]}`, "@context", "https://edc"[:8]},
		{"unknown context below", start(`,"properties":{"@context":"https://elsewhere.example/x","a":"b"}`), "@context", "is not known here"},
		{"a file for a context", `{"@context":"/etc/passwd"}`, "@context", "is not known here"},
		{"imported context", `{"@context":{"@version":1.1,"@import":"https://elsewhere.example/x"}}`, "@context", "is not known here"},
		{"a context that is none", `{"@context":5}`, "", "cannot be expanded"},
		{"redefined", `{"@context":["https://w3id.org/dspace/2025/1/context.jsonld",{"dspace":"https://other/"}]}`, "", "protected term redefinition"},
		{"another type", `{"@type":"DataFlowResumeMessage"}`, "@type", "no message of data plane signaling"},
		{"no id", `{"@type":"DataFlowStartMessage"}`, "processId", "is required"},
		{"an id that is none", `{"@type":"DataFlowStartMessage","processId":".."}`, "processId", "must not be"},
		{"an object for an id", `{"@type":"DataFlowStartMessage","processId":{"a":"b"}}`, "processId", "is an object"},
		{"two ids", `{"@type":"DataFlowStartMessage","processId":["a","b"]}`, "processId", "has 2 values"},
		{"no dataset", `{"@type":"DataFlowStartMessage","processId":"f"}`, "datasetId", "is required"},
		{"text for an address", start(`,"sourceDataAddress":"x"`), "sourceDataAddress", "is not an object"},
		{"two addresses", start(`,"sourceDataAddress":[{"type":"A"},{"type":"B"}]`), "sourceDataAddress", "has 2 values"},
		{"no type", start(`,"sourceDataAddress":{"baseUrl":"http://x"}`), "sourceDataAddress.endpointType", "is required"},
		{"no name", start(`,"sourceDataAddress":{"endpointType":"T","endpointProperties":[{"value":"x"}]}`),
			"sourceDataAddress.endpointProperties[0].name", "is required"},
		{"no value", start(`,"sourceDataAddress":{"endpointType":"T","endpointProperties":[{"name":"x"}]}`),
			"sourceDataAddress.endpointProperties[0].value", "is required"},
		{"a property twice", start(`,"sourceDataAddress":{"endpointType":"T","endpointProperties":[{"name":"x","value":"1"},{"name":"x","value":"2"}]}`),
			"sourceDataAddress.endpointProperties[1].value", "is there twice"},
		{"an object for a property", start(`,"sourceDataAddress":{"type":"T","secret":{"a":"planted"}}`), "sourceDataAddress.secret", "is an object"},
		{"text for a property", start(`,"sourceDataAddress":{"endpointType":"T","endpointProperties":"x"}`),
			"sourceDataAddress.endpointProperties[0]", "is not an object"},
		{"text for properties", start(`,"properties":"x"`), "properties", "is not an object"},
		{"an object among properties", start(`,"properties":{"a":{"b":"c"}}`), "properties.a", "is not a string"},
		{"a bad address in an address", start(`,"sourceDataAddress":{"type":"T","responseChannel":{"baseUrl":"x"}}`),
			"sourceDataAddress.responseChannel.endpointType", "is required"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, err := decode([]byte(tt.body))
			var p *problem
			if !errors.As(err, &p) {
				t.Fatalf("got %v", err)
			}
			if p.path != tt.path || !strings.Contains(p.message, tt.message) || p.status != 400 || strings.Contains(p.message, "planted") {
				t.Errorf("%d, path %q: %s", p.status, p.path, p.message)
			}
		})
	}
}

// Many terms in a context, and many places where it is in force, cost no more than a moment.
func TestDecodeIsBounded(t *testing.T) {
	terms := map[string]any{}
	for i := range maxValues / 4 {
		terms[fmt.Sprint("t", i)] = fmt.Sprint("https://x/", i)
	}
	var items []any
	for range maxValues / 16 {
		items = append(items, map[string]any{"@context": map[string]any{"u": "https://u/"}, "u": 1})
	}
	body, err := json.Marshal(map[string]any{"@context": terms, "@type": "DataFlowSuspendMessage", "items": items})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := decode(body); err != nil {
		t.Error(err)
	}
}

func FuzzDecode(f *testing.F) {
	for _, name := range []string{"dialect-a", "dialect-b", "dialect-d", "forms"} {
		for _, x := range exchangesOf(f, name) {
			if x.Request != nil {
				f.Add([]byte(x.Request))
			}
		}
	}
	for _, context := range []string{`null`, `[]`, `{"@vocab":null}`, `{"@version":1.1,"@propagate":false}`, `{"a":{"@reverse":"b:c"}}`,
		`{"a":{"@id":"x:y","@container":"@index"}}`, `{"a":{"@id":"x:y","@context":{"a":"x:z"}}}`, `{"@base":"http://x/"}`} {
		f.Add([]byte(`{"@context":` + context + `,"@type":"DataFlowStartMessage","a":{"b":[{"@id":"x"}]},"processId":"f"}`))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		m, err := decode(body)
		var p *problem
		switch {
		case err == nil && m.kind == startMessage && (m.processID == "" || m.datasetID == ""):
			t.Errorf("%+v", m)
		case err != nil && (!errors.As(err, &p) || p.status != 400 || p.message == ""):
			t.Errorf("%v is not a refusal of the message", err)
		case err == nil && m.properties != nil && !json.Valid(m.properties):
			t.Errorf("the properties are %s", m.properties)
		}
	})
}
