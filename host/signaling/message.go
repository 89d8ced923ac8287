package signaling

import (
	"encoding/json"

	"github.com/towpath-dataplane/towpath/host/flow"
	"github.com/towpath-dataplane/towpath/sdk"
)

// message is what a control plane sent, of any kind. Each kind fills the members it has (specification, section "Messages").
type message struct {
	messageID string // "" if there was none
	digest    []byte // of the content, whatever its layout

	// DataFlowPrepareMessage and DataFlowStartMessage
	flowID           string
	profile          string
	datasetID        string
	agreementID      string
	participantID    string
	counterPartyID   string
	dataspaceContext string
	labels           []string
	claims           json.RawMessage
	metadata         json.RawMessage

	// DataFlowStartMessage, DataFlowStartedNotificationMessage and DataFlowResumeMessage
	dataAddress *sdk.DataAddress

	// DataFlowSuspendMessage and DataFlowTerminateMessage
	reason string
}

func (m message) create(about flow.Message) flow.Create {
	return flow.Create{
		Message:          about,
		Profile:          m.profile,
		DatasetID:        m.datasetID,
		AgreementID:      m.agreementID,
		ParticipantID:    m.participantID,
		CounterPartyID:   m.counterPartyID,
		DataspaceContext: m.dataspaceContext,
		Labels:           m.labels,
		Claims:           m.claims,
		Metadata:         m.metadata,
		DataAddress:      m.dataAddress,
	}
}

// statusMessage is DataFlowStatusMessage: the answer to a signal, and the body of a callback.
type statusMessage struct {
	MessageID   string       `json:"messageId"`
	DataFlowID  string       `json:"dataFlowId"`
	State       flow.State   `json:"state"`
	DataAddress *dataAddress `json:"dataAddress,omitempty"`
	Error       string       `json:"error,omitempty"`
}

// statusResponseMessage is DataFlowStatusResponseMessage: the answer to a question for the status.
type statusResponseMessage struct {
	DataFlowID string     `json:"dataFlowId"`
	State      flow.State `json:"state"`
	Error      string     `json:"error,omitempty"`
	// Reason is why nothing moves at present, as a place in a queue.
	Reason string `json:"reason,omitempty"`
}
