//go:build linux

package e2e_test

import (
	"encoding/json"
	"io"
	"net/http"
	"strings"
	"testing"
)

// edcRules are about how Eclipse EDC speaks.
func edcRules() []rule {
	return []rule{
		{"E1", "edc 3.2 prepare, 4.8.4, 4.8.2", "prepare as EDC sends it", checkEDCPrepare},
		{"E2", "edc 3.2 start, 4.8.7, 2.1 authorization", "start as EDC sends it, with its own names for properties", checkEDCStart},
		{"E3", "edc 3.2 answer, 4.8.5", "answers have what EDC cannot do without", checkEDCAnswer},
		{"E4", "edc 3.2 endpoint", "the endpoint is a property too, and is read from there", checkEDCEndpoint},
		{"E5", "edc 3.3 STARTING", "the answer in STARTING has no address, the callback has", checkEDCStarting},
		{"E6", "edc 3.3 resume, 4.8.8", "resume with the address that was issued, and without one", checkEDCResume},
		{"E7", "edc 3.4 prepared, 4.8.9", "callbacks are POST with a JSON content type, and come after the answer", checkEDCCallbacks},
		{"E8", "4.8.10", "a consumer's started has no callback", checkEDCNoStarted},
		{"E9", "4.8.6, 1.2 completed", "what EDC sends again does no harm", checkEDCRepeats},
		{"E10", "4.8.12, 1.3 agreement", "a control plane without agreements is no failure of ours", checkEDCAgreement},
	}
}

// edc fills in a message as EDC writes it.
func edc(template, id string, more ...string) string {
	return strings.NewReplacer(append([]string{"ID", id, "NEW", newID()}, more...)...).Replace(template)
}

const edcPrepare = `{"messageId":"NEW","participantId":"did:web:consumer","counterPartyId":"did:web:provider",
	"dataspaceContext":"dataspace-protocol-http:2025-1","processId":"ID","agreementId":"contract","datasetId":"small","callbackAddress":null,
	"profile":"HttpData-PULL","labels":[],"metadata":{},"claims":{"client_id":"provider"}}`

const edcStart = `{"messageId":"NEW","participantId":"did:web:provider","counterPartyId":"did:web:consumer",
	"dataspaceContext":"dataspace-protocol-http:2025-1","processId":"ID","agreementId":"contract","datasetId":"small","callbackAddress":null,
	"profile":"HttpData-PUSH","dataAddress":{"@type":"DataAddress","endpointType":"HttpData","endpoint":"TARGET","endpointProperties":[
	{"@type":"EndpointProperty","name":"https://w3id.org/edc/v0.0.1/ns/authorization","value":"the-token"},
	{"@type":"EndpointProperty","name":"https://w3id.org/edc/v0.0.1/ns/authType","value":"bearer"},
	{"@type":"EndpointProperty","name":"https://w3id.org/edc/v0.0.1/ns/type","value":"HttpData"},
	{"@type":"EndpointProperty","name":"https://w3id.org/edc/v0.0.1/ns/endpoint","value":"TARGET"}]},
	"labels":[],"metadata":{},"claims":{"client_id":"consumer"}}`

func checkEDCPrepare(t *testing.T, w *world) {
	c := w.open(t)
	f := c.newFlow("", "", nil)
	r := c.signal("prepare", edc(edcPrepare, f.id))
	if r.State != "PREPARED" || r.DataAddress != nil || r.DataFlowID != f.id {
		t.Errorf("%s", r.text)
	}
	nulls := strings.NewReplacer(`"labels":[]`, `"labels":null`, `"metadata":{}`, `"metadata":null`, `{"client_id":"provider"}`, "null")
	c.signal("prepare", edc(nulls.Replace(edcPrepare), f.id+"-2"))
	older := strings.NewReplacer(`"profile"`, `"transferType"`, `"callbackAddress":null`, `"callbackAddress":"http://cp:8182/api/signaling"`)
	c.signal("prepare", edc(older.Replace(edcPrepare), f.id+"-3"))
	source := c.newFlow("HttpData-PULL", "small", nil).start().reply.DataAddress
	for _, id := range []string{f.id, f.id + "-2", f.id + "-3"} {
		c.signal(id+"/started", message{"messageId": newID(), "dataAddress": source})
		c.office.expect(t, id, "completed")
	}
}

// doorkeeper is a counterparty that notes with what authorization data is delivered.
func doorkeeper(t testing.TB) (url string, seen <-chan string) {
	all := make(chan string, 100)
	return serve(t, func(w http.ResponseWriter, r *http.Request) {
		all <- r.Header.Get("Authorization")
		io.Copy(io.Discard, r.Body)
	}), all
}

func checkEDCStart(t *testing.T, w *world) {
	c := w.open(t)
	target, seen := doorkeeper(t)
	f := c.newFlow("", "", nil)
	r := c.signal("start", edc(edcStart, f.id, "TARGET", target+"/in"))
	if r.State != "STARTED" || r.DataAddress != nil {
		t.Errorf("%s", r.text)
	}
	c.office.expect(t, f.id, "completed")
	if got := <-seen; got != "Bearer the-token" {
		t.Errorf("the consumer saw the authorization %q", got)
	}
}

func checkEDCAnswer(t *testing.T, w *world) {
	c := w.open(t)
	push := c.newFlow("HttpData-PUSH", "small", nil).prepare()
	pull := c.newFlow("HttpData-PULL", "small", nil).start()
	push.tell("started", nil)
	push.tell("suspend", nil)
	pull.tell("suspend", nil)
	for _, r := range []reply{push.tell("resume", nil), pull.tell("resume", nil)} {
		var m struct {
			State       *string `json:"state"`
			DataAddress struct {
				EndpointType, Endpoint *string
				EndpointProperties     []map[string]any
			} `json:"dataAddress"`
		}
		if err := json.Unmarshal([]byte(r.text), &m); err != nil {
			t.Fatal(err)
		}
		a := m.DataAddress
		if m.State == nil || a.EndpointType == nil || a.Endpoint == nil || a.EndpointProperties == nil {
			t.Errorf("%s", r.text)
		}
		for _, p := range a.EndpointProperties {
			if _, text := p["value"].(string); !text || p["name"] == "https://w3id.org/edc/v0.0.1/ns/responseChannel" {
				t.Errorf("property %v", p)
			}
		}
	}
}

const edcEndpoint = "https://w3id.org/edc/v0.0.1/ns/endpoint"

func checkEDCEndpoint(t *testing.T, w *world) {
	c := w.open(t)
	f := c.newFlow("HttpData-PULL", "small", nil).start()
	a := f.reply.DataAddress
	if repeated, _ := a.lookup(edcEndpoint); repeated != a.Endpoint {
		t.Errorf("%s", f.reply.text)
	}
	// A consumer's EDC may have only the property.
	only := *a
	only.Endpoint = ""
	g := c.newFlow("HttpData-PULL", "small", nil).prepare()
	g.tell("started", message{"dataAddress": only})
	c.office.expect(t, g.id, "completed")
}

func checkEDCStarting(t *testing.T, w *world) {
	c := w.open(t)
	f := c.newFlow("async-pull", "small", nil).start()
	if f.reply.State != "STARTING" || f.reply.DataAddress != nil {
		t.Errorf("%s", f.reply.text)
	}
	c.expectReads(c.office.expect(t, f.id, "started")[0].DataAddress, http.StatusOK)
}

func checkEDCResume(t *testing.T, w *world) {
	c := w.open(t)
	f := c.newFlow("HttpData-PULL", "endless", nil).start()
	own := f.reply.DataAddress
	consumer := c.newFlow("HttpData-PULL", "small", nil).prepare()
	consumer.tell("started", message{"dataAddress": own})
	f.tell("suspend", message{"reason": "suspend"})
	consumer.tell("suspend", message{"reason": "suspend"})
	r := f.tell("resume", message{"dataAddress": own, "processId": newID()})
	c.expectReads(r.DataAddress, http.StatusOK)
	consumer.tell("resume", message{"processId": newID()})
	consumer.expect("STARTED")
	consumer.tell("terminate", nil)
	f.tell("terminate", nil)
}

func checkEDCCallbacks(t *testing.T, w *world) {
	c := w.open(t)
	f := c.newFlow("async-push", "small", nil).prepare()
	answered := c.office.expect(t, f.id, "prepared")[0] // the office checks method, path and content type
	if f.reply.State != "PREPARING" || answered.State != "PREPARED" || answered.DataAddress == nil {
		t.Errorf("%s, %s", f.reply.text, answered.body)
	}
	if got := answered.path; got != "/transfers/"+f.id+"/dataflow/prepared" {
		t.Errorf("path %s", got)
	}
}

func checkEDCNoStarted(t *testing.T, w *world) {
	c := w.open(t)
	source := c.newFlow("HttpData-PULL", "small", nil).start().reply.DataAddress
	f := c.newFlow("HttpData-PULL", "small", nil).prepare()
	f.tell("started", message{"dataAddress": source})
	c.office.expect(t, f.id, "completed")
}

func checkEDCRepeats(t *testing.T, w *world) {
	c := w.open(t)
	f := c.newFlow("", "", nil)
	prepare := edc(edcPrepare, f.id)
	first := c.signal("prepare", prepare)
	if again := c.signal("prepare", prepare); again.text != first.text {
		t.Errorf("%s, first %s", again.text, first.text)
	}
	if again := c.signal("prepare", edc(edcPrepare, f.id)); again.State != "PREPARED" { // after a crash, with another messageId
		t.Errorf("%s", again.text)
	}
	for _, op := range []string{"terminate", "terminate"} {
		c.signal(f.id+"/"+op, message{"messageId": newID()})
	}
	g := c.newFlow("HttpData-PULL", "small", nil).start()
	for range 2 {
		if r := c.signal(g.id+"/completed", message{}); r.State != "COMPLETED" {
			t.Errorf("%s", r.text)
		}
	}
}

func checkEDCAgreement(t *testing.T, w *world) {
	c := w.open(t)
	f := c.newFlow("HttpData-PULL", "small", nil).start()
	for _, code := range []int{http.StatusNotFound, http.StatusMethodNotAllowed} {
		c.office.answer("agreement", f.id, code)
		r := c.ask(http.MethodGet, "/api/v1/flows/"+f.id+"/agreement", nil, nil)
		if r.code < 400 || r.code == http.StatusInternalServerError || r.Detail == "" {
			t.Errorf("after %d: %d %s", code, r.code, r.text)
		}
	}
	c.office.agree(f.id, `{"@type":"Offer"}`)
	if r := c.ask(http.MethodGet, "/api/v1/flows/"+f.id+"/agreement", nil, nil); r.code != http.StatusBadGateway {
		t.Errorf("after what is no agreement: %d %s", r.code, r.text)
	}
	f.expect("STARTED")
}
