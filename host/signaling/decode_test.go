package signaling

import (
	"bytes"
	"encoding/json"
	"errors"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/towpath-dataplane/towpath/host/flow"
	"github.com/towpath-dataplane/towpath/sdk"
)

// TestDecodeGolden decodes testdata/requests/<operation>/*.json. Files whose names begin with "strict-" are decoded strictly.
func TestDecodeGolden(t *testing.T) {
	files, err := filepath.Glob("testdata/requests/*/*.json")
	if err != nil || len(files) == 0 {
		t.Fatalf("no requests: %v", err)
	}
	for _, file := range files {
		op, name := filepath.Base(filepath.Dir(file)), strings.TrimSuffix(filepath.Base(file), ".json")
		t.Run(op+"/"+name, func(t *testing.T) {
			body, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			m, err := decode(operation(op), body, strings.HasPrefix(name, "strict-"))
			golden(t, "requests/"+op+"/"+name+".golden", decoded(t, m, err))
		})
	}
}

// decoded shows what decode returned.
func decoded(t *testing.T, m message, err error) []byte {
	t.Helper()
	if err != nil {
		var request *flow.RequestError
		if !errors.As(err, &request) {
			t.Fatalf("error is a %T: %v", err, err)
		}
		return indent(t, encode(map[string]string{"field": request.Field, "error": request.Message}))
	}
	if len(m.digest) != 32 {
		t.Errorf("digest of %d bytes", len(m.digest))
	}
	return indent(t, encode(struct {
		MessageID        string           `json:"messageId,omitempty"`
		FlowID           string           `json:"flowId,omitempty"`
		Profile          string           `json:"profile,omitempty"`
		DatasetID        string           `json:"datasetId,omitempty"`
		AgreementID      string           `json:"agreementId,omitempty"`
		ParticipantID    string           `json:"participantId,omitempty"`
		CounterPartyID   string           `json:"counterPartyId,omitempty"`
		DataspaceContext string           `json:"dataspaceContext,omitempty"`
		Labels           []string         `json:"labels,omitempty"`
		Claims           json.RawMessage  `json:"claims,omitempty"`
		Metadata         json.RawMessage  `json:"metadata,omitempty"`
		DataAddress      *sdk.DataAddress `json:"dataAddress,omitempty"`
		Reason           string           `json:"reason,omitempty"`
	}{
		m.messageID, m.flowID, m.profile, m.datasetID, m.agreementID, m.participantID, m.counterPartyID, m.dataspaceContext,
		m.labels, m.claims, m.metadata, m.dataAddress, m.reason,
	}))
}

const startMessage = `{"messageId":"m1","participantId":"did:web:provider.example","counterPartyId":"did:web:consumer.example",
	"dataspaceContext":"space","dataFlowId":"f1","agreementId":"a1","datasetId":"d1","profile":"HttpData-PULL","claims":{}}`

// with returns a start message with members replaced; nil removes one.
func with(t *testing.T, members map[string]any) []byte {
	t.Helper()
	var m map[string]any
	if err := json.Unmarshal([]byte(startMessage), &m); err != nil {
		t.Fatal(err)
	}
	for name, value := range members {
		if m[name] = value; value == nil {
			delete(m, name)
		}
	}
	body, err := json.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	return body
}

func TestDecodeRequiredMembers(t *testing.T) {
	for _, name := range []string{"participantId", "counterPartyId", "dataspaceContext", "dataFlowId", "agreementId", "datasetId", "profile"} {
		for _, value := range []any{nil, "", 7, true, []string{"x"}, map[string]any{}} {
			for _, op := range []operation{opPrepare, opStart} {
				_, err := decode(op, with(t, map[string]any{name: value}), false)
				var request *flow.RequestError
				if !errors.As(err, &request) || request.Field != name {
					t.Errorf("%s with %s = %v: %v", op, name, value, err)
				}
			}
		}
	}
}

func TestDecodeIDs(t *testing.T) {
	tests := []struct {
		name    string
		members map[string]any
		id      string // decoded
		field   string // at fault
	}{
		{"new name", map[string]any{"dataFlowId": "x"}, "x", ""},
		{"old name", map[string]any{"dataFlowId": nil, "processId": "x"}, "x", ""},
		{"both, equal", map[string]any{"dataFlowId": "x", "processId": "x"}, "x", ""},
		{"both, different", map[string]any{"dataFlowId": "x", "processId": "y"}, "", "processId"},
		{"other case", map[string]any{"dataFlowId": nil, "dataflowid": "x"}, "", "dataFlowId"},
		{"dot", map[string]any{"dataFlowId": "."}, "", "dataFlowId"},
		{"dots, old name", map[string]any{"dataFlowId": nil, "processId": ".."}, "", "processId"},
		{"three dots", map[string]any{"dataFlowId": "..."}, "...", ""},
		{"control character", map[string]any{"dataFlowId": "a\nb"}, "", "dataFlowId"},
		{"longest", map[string]any{"dataFlowId": strings.Repeat("ü", flow.MaxID)}, strings.Repeat("ü", flow.MaxID), ""},
		{"too long", map[string]any{"dataFlowId": strings.Repeat("x", flow.MaxID+1)}, "", "dataFlowId"},
		{"message id too long", map[string]any{"messageId": strings.Repeat("x", flow.MaxID+1)}, "", "messageId"},
		{"message id with a control character", map[string]any{"messageId": "a\x00"}, "", "messageId"},
		{"message id is a number", map[string]any{"messageId": 1}, "", "messageId"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			m, err := decode(opStart, with(t, tt.members), false)
			field := ""
			if request := (*flow.RequestError)(nil); errors.As(err, &request) {
				field = request.Field
			}
			if m.flowID != tt.id || field != tt.field {
				t.Errorf("id %q, field %q (%v); want %q, %q", m.flowID, field, err, tt.id, tt.field)
			}
		})
	}
}

func TestDecodeStrict(t *testing.T) {
	for name, members := range map[string]map[string]any{
		"messageId": {"messageId": nil},
		"claims":    {"claims": nil},
		"profile":   {"profile": nil, "transferType": "HttpData-PULL"},
	} {
		body := with(t, members)
		if _, err := decode(opStart, body, false); err != nil {
			t.Errorf("without %s: %v", name, err)
		}
		_, err := decode(opStart, body, true)
		if request := (*flow.RequestError)(nil); !errors.As(err, &request) || request.Field != name {
			t.Errorf("strictly without %s: %v", name, err)
		}
	}
	if _, err := decode(opSuspend, nil, true); err == nil {
		t.Error("strictly, an empty suspend message is accepted")
	}
}

func TestDigestIsOfTheContent(t *testing.T) {
	base := digest([]byte(`{"a":1,"b":{"c":[1.50,"x"]}}`))
	for body, equal := range map[string]bool{
		`{ "b": {"c" : [1.50, "\u0078"]}, "a": 1 }`: true,
		`{"a":1,"b":{"c":[1.5,"x"]}}`:               false,
		`{"a":1,"b":{"c":["x",1.50]}}`:              false,
		`{"a":1,"b":{"c":[1.50,"x"]},"d":null}`:     false,
	} {
		if bytes.Equal(digest([]byte(body)), base) != equal {
			t.Errorf("%s: equal is not %t", body, equal)
		}
	}
}

func TestContentType(t *testing.T) {
	for value, ok := range map[string]bool{
		"":                                  true,
		"application/json":                  true,
		"Application/JSON; charset=utf-8":   true,
		"application/json; charset":         true,
		"application/json;;":                true,
		"application/ld+json":               true,
		"application/vnd.x+json":            true,
		"text/json":                         true,
		"text/plain":                        false,
		"application/xml":                   false,
		"application/x-www-form-urlencoded": false,
		"application/jsonp":                 false,
		"multipart/form-data; boundary=x":   false,
	} {
		h := http.Header{}
		if value != "" {
			h.Set("Content-Type", value)
		}
		if err := checkContentType(h); (err == nil) != ok {
			t.Errorf("%q: %v", value, err)
		}
	}
	if err := checkContentType(http.Header{"Content-Encoding": {"gzip"}}); err == nil {
		t.Error("gzip is accepted")
	}
}

// FuzzDecode: the decoder never panics, refuses with the right error only, and what it accepts means the same when it is sent again.
func FuzzDecode(f *testing.F) {
	operations := []operation{opPrepare, opStart, opStarted, opSuspend, opResume, opTerminate}
	files, _ := filepath.Glob("testdata/requests/*/*.json")
	for _, file := range files {
		body, err := os.ReadFile(file)
		if err != nil {
			f.Fatal(err)
		}
		for i := range operations {
			f.Add(uint8(i), i%2 == 0, body)
		}
	}
	f.Fuzz(func(t *testing.T, which uint8, strict bool, body []byte) {
		op := operations[int(which)%len(operations)]
		m, err := decode(op, body, strict)
		if err != nil {
			if request := (*flow.RequestError)(nil); !errors.As(err, &request) || request.Message == "" {
				t.Fatalf("%T: %v", err, err)
			}
			return
		}
		again, err := decode(op, recode(m), strict)
		if err != nil {
			t.Fatalf("%v in %s", err, recode(m))
		}
		m.digest, again.digest = nil, nil
		if diff := cmp.Diff(m, again, cmp.AllowUnexported(message{}), cmp.Comparer(sameJSON)); diff != "" {
			t.Errorf("(-first +again):\n%s", diff)
		}
	})
}

// recode writes a message as a control plane of today would.
func recode(m message) []byte {
	body := map[string]any{"messageId": m.messageID}
	if m.flowID != "" {
		body = map[string]any{
			"messageId": m.messageID, "dataFlowId": m.flowID, "profile": m.profile, "datasetId": m.datasetID,
			"agreementId": m.agreementID, "participantId": m.participantID, "counterPartyId": m.counterPartyID,
			"dataspaceContext": m.dataspaceContext, "labels": m.labels, "claims": m.claims, "metadata": m.metadata,
		}
	}
	if m.reason != "" {
		body["reason"] = m.reason
	}
	if m.dataAddress != nil {
		body["dataAddress"] = encodeAddress(m.dataAddress)
	}
	return encode(body)
}

// sameJSON compares documents whose strings may be escaped differently.
func sameJSON(a, b json.RawMessage) bool {
	if len(a) == 0 || len(b) == 0 {
		return len(a) == len(b)
	}
	return bytes.Equal(digest(a), digest(b))
}
