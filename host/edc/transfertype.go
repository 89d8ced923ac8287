package edc

import (
	"strings"

	"github.com/towpath-dataplane/towpath/host/flow"
)

// httpData is the type of EDC's addresses for HTTP.
const httpData = "HttpData"

// The flow types.
const (
	pull = "PULL"
	push = "PUSH"
)

// split takes a transfer type apart, DEST-FLOW[-RESPONSE]. What is not of that form is all DEST.
func split(transferType string) (dest, flowType, response string) {
	for _, f := range []string{pull, push} {
		if dest, ok := strings.CutSuffix(transferType, "-"+f); ok && dest != "" {
			return dest, f, ""
		}
		if at := strings.LastIndex(transferType, "-"+f+"-"); at > 0 {
			return transferType[:at], f, transferType[at+len(f)+2:]
		}
	}
	return transferType, "", ""
}

// transferType finds the transfer type that a message is about, which is the name of its profile:
//
//   - transferType, which EDC sends since 0.16.
//   - transferTypeDestination, flowType and responseChannel, joined as EDC 0.8 to 0.15 takes them apart.
//   - EDC 0.6 and 0.7 send flowType alone. For PUSH, the type of the destination's address is DEST. For PULL, DEST is the type of the
//     source's address if there is a profile of that name, and otherwise HttpData, which the public API serves.
func (h *Handler) transferType(m message) (string, error) {
	flowType := strings.ToUpper(m.flowType)
	if flowType != "" && flowType != pull && flowType != push {
		return "", invalid("flowType", "%.100q is neither PUSH nor PULL", m.flowType)
	}
	name := m.transferType
	switch {
	case name != "":
	case flowType == "":
		return "", invalid("flowType", "is required, or transferType")
	case m.transferTypeDestination != "":
		name = join(m.transferTypeDestination, flowType, m.responseChannel)
	case flowType == push && m.destination == nil:
		return "", invalid("destinationDataAddress", "is required: for PUSH, it says where the data goes")
	case flowType == push:
		name = join(m.destination.Type, flowType, m.responseChannel)
	default:
		name = join(httpData, flowType, m.responseChannel)
		if m.source != nil {
			if own := join(m.source.Type, flowType, m.responseChannel); h.known(own) {
				name = own
			}
		}
	}
	p, ok := h.Profile(name)
	if !ok {
		return "", invalid("transferType", "%.200q is not supported", name)
	}
	if flowType != "" && flowType != direction(p) {
		return "", invalid("flowType", "is %s, and the transfer type %q is for %s", flowType, name, direction(p))
	}
	return name, nil
}

func (h *Handler) known(name string) bool {
	_, ok := h.Profile(name)
	return ok
}

func direction(p flow.Profile) string { return strings.ToUpper(string(p.Direction)) }

func join(dest, flowType, response string) string {
	name := dest + "-" + flowType
	if response != "" {
		name += "-" + response
	}
	return name
}
