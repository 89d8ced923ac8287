package signaling

import (
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"mime"
	"net/http"
	"strings"

	"github.com/towpath-dataplane/towpath/host/flow"
)

// decode reads the message of an operation. Members it does not know are ignored, null is the same as absent. The error is a
// *flow.RequestError that names the member at fault.
func decode(op operation, body []byte, strict bool) (message, error) {
	if len(bytes.TrimSpace(body)) == 0 && following[string(op)] != "" {
		body = []byte("{}") // the messages about an existing flow were once optional
	}
	if err := checkJSON(body); err != nil {
		return message{}, err
	}
	f, err := parseFields("", body)
	if err != nil {
		return message{}, err
	}
	m := message{messageID: f.messageID(strict), digest: digest(body)}
	switch op {
	case opPrepare:
		f.create(&m, strict)
	case opStart:
		f.create(&m, strict)
		m.dataAddress = f.address("dataAddress")
	case opStarted, opResume:
		m.dataAddress = f.address("dataAddress")
	case opSuspend, opTerminate:
		m.reason = f.text("reason")
	}
	if f.err != nil {
		return message{}, f.err
	}
	return m, nil
}

// create reads what DataFlowPrepareMessage and DataFlowStartMessage have in common.
func (f *fields) create(m *message, strict bool) {
	m.flowID = f.flowID()
	m.participantID = f.required("participantId")
	m.counterPartyID = f.required("counterPartyId")
	m.dataspaceContext = f.required("dataspaceContext")
	m.agreementID = f.required("agreementId")
	m.datasetID = f.required("datasetId")
	m.profile = f.profile(strict)
	m.labels = f.texts("labels")
	m.claims = f.object("claims")
	m.metadata = f.object("metadata")
	if m.claims == nil {
		if strict {
			f.fail("claims", "is required")
		}
		m.claims = json.RawMessage("{}")
	}
}

func (f *fields) messageID(strict bool) string {
	id := f.text("messageId")
	switch {
	case id == "" && strict:
		f.fail("messageId", "is required")
	case id != "":
		f.checkID("messageId", id)
	}
	return id
}

// flowID reads dataFlowId, which the specification called processId up to RC3.
func (f *fields) flowID() string {
	id, former := f.text("dataFlowId"), f.text("processId")
	switch {
	case id == "" && former == "":
		f.fail("dataFlowId", "is required")
	case id == "":
		f.checkID("processId", former)
		return former
	case former != "" && id != former:
		f.fail("processId", "differs from dataFlowId")
	}
	f.checkID("dataFlowId", id)
	return id
}

// profile reads profile, which up to RC2 was called transferType and once was an object.
func (f *fields) profile(strict bool) string {
	if strict || f.has("profile") || !f.has("transferType") {
		return f.required("profile")
	}
	if kindOf(f.members["transferType"]) != "an object" {
		return f.required("transferType")
	}
	t, err := parseFields(f.at("transferType"), f.members["transferType"])
	if err != nil {
		f.keep(err)
		return ""
	}
	profile := t.required("destinationType") + "-" + strings.ToLower(t.required("flowType"))
	f.keep(t.err)
	return profile
}

func (f *fields) checkID(name, id string) {
	if why := flow.CheckID(id); why != "" {
		f.fail(name, "%s", why)
	}
}

// digest identifies the content of a message: equal for the same members in another order or layout. body is valid JSON.
func digest(body []byte) []byte {
	d := json.NewDecoder(bytes.NewReader(body))
	d.UseNumber()
	var content any
	if err := d.Decode(&content); err != nil {
		panic(fmt.Sprintf("signaling: digest of a message that was not checked: %v", err))
	}
	sum := sha256.Sum256(encode(content))
	return sum[:]
}

// checkContentType refuses what cannot be a JSON message. A missing type is fine.
func checkContentType(h http.Header) error {
	if coding := h.Get("Content-Encoding"); coding != "" && coding != "identity" {
		return unsupportedMedia.problem("the content coding %.100q is not supported", coding).with("Accept-Encoding", "identity")
	}
	given := h.Get("Content-Type")
	media, _, err := mime.ParseMediaType(given)
	if err != nil { // of the parameters, or there is none
		media, _, _ = strings.Cut(strings.ToLower(given), ";")
		media = strings.TrimSpace(media)
	}
	if media == "" || strings.HasSuffix(media, "/json") || strings.HasSuffix(media, "+json") {
		return nil
	}
	return unsupportedMedia.problem("the content type %.100q is not JSON", given).with("Accept", "application/json")
}

// invalid returns the error for a member of a message; field is "" for the whole message.
func invalid(field, format string, args ...any) *flow.RequestError {
	return &flow.RequestError{Field: field, Message: fmt.Sprintf(format, args...)}
}
