package edc

import "strings"

// namespace is that of EDC's own terms.
const namespace = "https://w3id.org/edc/v0.0.1/ns/"

// The namespaces of the Dataspace Protocol, whose terms data addresses are written in: of the dialects A to C, of drafts between them,
// and of D.
const (
	dspace08   = "https://w3id.org/dspace/v0.8/"
	dspace2024 = "https://w3id.org/dspace/2024/1/"
	dspace2025 = "https://w3id.org/dspace/2025/1/"
)

var dspaces = []string{dspace08, dspace2024, dspace2025}

// The kinds of message.
const (
	startMessage     = namespace + "DataFlowStartMessage"
	provisionMessage = namespace + "DataFlowProvisionMessage"
	suspendMessage   = namespace + "DataFlowSuspendMessage"
	terminateMessage = namespace + "DataFlowTerminateMessage"
)

// httpEndpoint is the endpointType that EDC's data planes give what they serve over HTTP.
const httpEndpoint = "https://w3id.org/idsa/v4.1/HTTP"

// bare takes EDC's namespace off a name.
func bare(name string) string { return strings.TrimPrefix(name, namespace) }

// full puts EDC's namespace before a name that is in none.
func full(name string) string {
	if strings.Contains(name, ":") {
		return name
	}
	return namespace + name
}

// local returns the name of a term of EDC's or of one of the Dataspace Protocol's namespaces.
func local(iri string) (name string, ok bool) {
	for _, ns := range append([]string{namespace}, dspaces...) {
		if name, ok = strings.CutPrefix(iri, ns); ok {
			return name, true
		}
	}
	return "", false
}
