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

// injected is the context in force before a message's own: EDC's names need no prefix, and the usual prefixes no declaration.
func injected() any {
	return map[string]any{"@vocab": namespace, "edc": namespace, "dspace": dspace08}
}

// contexts are the documents that a message's @context may name, as far as messages of data plane signaling use terms of them. Nothing
// is fetched.
var contexts = map[string]func() any{
	"https://w3id.org/dspace/2025/1/context.jsonld": func() any {
		return map[string]any{
			"@version": 1.1, "@protected": true,
			"dspace": dspace2025,
			"odrl":   "http://www.w3.org/ns/odrl/2/",
			"DataAddress": map[string]any{"@id": "dspace:DataAddress", "@context": map[string]any{
				"@version": 1.1, "@protected": true,
				"endpoint":           "dspace:endpoint",
				"endpointType":       map[string]any{"@id": "dspace:endpointType", "@type": "@vocab"},
				"endpointProperties": map[string]any{"@id": "dspace:endpointProperties", "@container": "@set"},
			}},
			"EndpointProperty": map[string]any{"@id": "dspace:EndpointProperty", "@context": map[string]any{
				"@version": 1.1, "@protected": true,
				"name":  "dspace:name",
				"value": "dspace:value",
			}},
		}
	},
	"https://w3id.org/dspace/2024/1/context.json": func() any {
		return map[string]any{
			"dspace":                    dspace2024,
			"odrl":                      "http://www.w3.org/ns/odrl/2/",
			"dspace:endpointProperties": map[string]any{"@container": "@set"},
		}
	},
	"https://w3id.org/edc/connector/management/v0.0.1": func() any {
		return map[string]any{
			"@version": 1.1,
			"edc":      namespace,
			"DataAddress": map[string]any{"@id": "edc:DataAddress", "@context": map[string]any{
				"@vocab": namespace,
				"type":   "edc:type",
			}},
			"properties": map[string]any{"@id": "edc:properties", "@context": map[string]any{"@vocab": namespace}},
		}
	},
	"https://w3id.org/edc/dspace/v0.0.1": func() any {
		return map[string]any{"@version": 1.1, "edc": namespace, "id": "edc:id"}
	},
}
