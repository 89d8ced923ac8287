// Package admin is the operator's view of a host: flows, plugins, health and metrics over HTTP, for people, scripts and `towpath flows`.
//
//	GET /healthz                      the process runs
//	GET /readyz                       it takes signals; otherwise 503 and why not
//	GET /metrics                      for Prometheus
//	GET /api/v1/flows                 flows, newest first; ?state=STARTED (several times), ?limit=, ?before= (RFC 3339)
//	GET /api/v1/flows/{id}            one flow with its parts and callbacks; ?context= for another participant context
//	GET /api/v1/plugins               plugins
//	GET /api/v1/plugins/{name}        one plugin with its types and their schemas
//
// It changes nothing and returns no secret: of data addresses it shows the type, the endpoint without its query, and the names of
// the properties.
package admin
