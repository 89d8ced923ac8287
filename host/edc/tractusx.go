package edc

import (
	"encoding/json"

	"github.com/towpath-dataplane/towpath/host/flow"
)

// audienceProperty is the property of a flow that says, in dataspaces of Tractus-X, whose DID may renew the flow's tokens.
const audienceProperty = "https://w3id.org/tractusx/auth/audience"

// TractusXAudience returns the DID that may renew the tokens of a flow, as the properties of its messages say, "" if they do not.
func TractusXAudience(f *flow.Flow) string {
	var properties map[string]json.RawMessage
	if json.Unmarshal(f.Metadata, &properties) != nil {
		return ""
	}
	var audience string
	if json.Unmarshal(properties[audienceProperty], &audience) != nil {
		return ""
	}
	return audience
}
