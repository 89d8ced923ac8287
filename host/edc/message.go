package edc

import (
	"encoding/json"

	"github.com/towpath-dataplane/towpath/host/flow"
	"github.com/towpath-dataplane/towpath/sdk"
)

// message is what a control plane sent, of any kind. Each kind fills the members it has.
type message struct {
	kind   string // its type, one of the four; "" if there is none
	dspace string // the namespace of the Dataspace Protocol that it is written in, "" if it names none
	former bool   // it is a start at the base, where EDC sends it up to 0.14

	// DataFlowStartMessage and DataFlowProvisionMessage
	processID               string
	transferType            string // since 0.16
	transferTypeDestination string // since 0.8
	flowType                string
	responseChannel         string // since 0.11
	datasetID               string
	agreementID             string
	participantID           string
	callbackAddress         string
	properties              json.RawMessage
	source                  *sdk.DataAddress // start
	response                *sdk.DataAddress // of the source
	destination             *sdk.DataAddress

	// DataFlowSuspendMessage and DataFlowTerminateMessage
	reason string
}

// kinds are the types of messages.
var kinds = []string{startMessage, provisionMessage, suspendMessage, terminateMessage}

// decode reads a message. What it does not know is ignored. The error is a *problem that names the member at fault.
func decode(body []byte) (m message, err error) {
	n, dspace, err := expand(body)
	if err != nil {
		return m, err
	}
	m.dspace = dspace
	for _, kind := range kinds {
		if n.is(kind) {
			m.kind = kind
		}
	}
	if m.kind == "" && n["@type"] != nil {
		return m, invalid("@type", "%.200s is no message of data plane signaling", n.types())
	}
	r := &reader{node: n}
	m.reason = r.text("reason")
	if m.kind == startMessage || m.kind == provisionMessage {
		m.read(r)
	}
	return m, r.err
}

func (m *message) read(r *reader) {
	m.processID = r.required("processId")
	if why := flow.CheckID(m.processID); why != "" {
		r.fail("processId", "%s", why)
	}
	m.transferType = r.text("transferType")
	m.transferTypeDestination = r.text("transferTypeDestination")
	m.flowType = r.text("flowType")
	m.responseChannel = r.text("responseChannel")
	m.datasetID = r.required("datasetId")
	m.agreementID = r.text("agreementId")
	m.participantID = r.text("participantId")
	m.callbackAddress = r.text("callbackAddress")
	m.properties = r.properties("properties")
	if m.kind == provisionMessage {
		m.destination, _ = r.address("destination")
		return
	}
	m.source, m.response = r.address("sourceDataAddress")
	m.destination, _ = r.address("destinationDataAddress")
}

// properties reads the object of properties of a flow, as JSON: strings by their names without EDC's namespace.
func (r *reader) properties(name string) json.RawMessage {
	of := r.object(name)
	if of == nil {
		return json.RawMessage("{}")
	}
	all := map[string]string{}
	for _, key := range of.keys() {
		values := items(of.node[key])
		if len(values) == 0 {
			continue
		}
		s, ok := textOf(values[0])
		if !ok || len(values) > 1 {
			of.fail(bare(key), "is not a string")
		}
		all[bare(key)] = s
	}
	r.keep(of.err)
	raw, err := json.Marshal(all)
	if err != nil {
		panic(err) // strings can be encoded
	}
	return raw
}
