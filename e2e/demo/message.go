package main

// message is any message to a data plane.
type message struct {
	MessageID        string       `json:"messageId"`
	ParticipantID    string       `json:"participantId,omitempty"`
	CounterPartyID   string       `json:"counterPartyId,omitempty"`
	DataspaceContext string       `json:"dataspaceContext,omitempty"`
	DataFlowID       string       `json:"dataFlowId,omitempty"`
	AgreementID      string       `json:"agreementId,omitempty"`
	DatasetID        string       `json:"datasetId,omitempty"`
	Profile          string       `json:"profile,omitempty"`
	Claims           *struct{}    `json:"claims,omitempty"`
	DataAddress      *dataAddress `json:"dataAddress,omitempty"`
	Reason           string       `json:"reason,omitempty"`
}

// status is DataFlowStatusMessage.
type status struct {
	DataFlowID  string       `json:"dataFlowId"`
	State       string       `json:"state"`
	DataAddress *dataAddress `json:"dataAddress"`
	Error       string       `json:"error"`
}

// dataAddress is DataAddress. Control planes pass it on as it is.
type dataAddress struct {
	Kind         string             `json:"@type"`
	EndpointType string             `json:"endpointType"`
	Endpoint     string             `json:"endpoint"`
	Properties   []endpointProperty `json:"endpointProperties"`
}

type endpointProperty struct {
	Kind  string `json:"@type"`
	Name  string `json:"name"`
	Value string `json:"value"`
}

// property returns the value of an endpoint property, "" if there is none.
func (a *dataAddress) property(name string) string {
	for _, p := range a.Properties {
		if p.Name == name {
			return p.Value
		}
	}
	return ""
}
