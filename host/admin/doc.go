// Package admin is the operator's view of a host: flows, datasets, control planes, plugins, health and metrics over HTTP, for people,
// scripts, local applications, and the commands of `towpath`.
//
//	GET    /healthz                                   the process runs
//	GET    /readyz                                    it takes signals; otherwise 503 and why not
//	GET    /metrics                                   for Prometheus
//	GET    /api/v1/flows                              flows, newest first; ?state=STARTED (several times), ?limit=, ?before= (RFC 3339)
//	GET    /api/v1/flows/{id}                         one flow with its parts and callbacks
//	POST   /api/v1/flows/{id}/retry                   lets a flow go on that rests with a fault, and its callbacks that were given up
//	GET    /api/v1/flows/{id}/address                 the counterparty's address of a flow, with a token that is good now
//	GET    /api/v1/flows/{id}/data                    reads through to the counterparty; also HEAD
//	GET    /api/v1/flows/{id}/data/parts/{name...}    the same for one part
//	GET    /api/v1/flows/{id}/agreement               the agreement of a flow, as its control plane knows it
//	GET    /api/v1/datasets                           datasets of the configuration ("file") and those put here ("api")
//	GET    /api/v1/datasets/{id}                      one dataset
//	PUT    /api/v1/datasets/{id}                      creates or replaces one: {context, mode, source, sink}, the latter two
//	                                                  {type, endpoint, properties}
//	DELETE /api/v1/datasets/{id}                      removes one; flows that use it go on
//	GET    /api/v1/controlplanes                      control planes, and whether they know this data plane
//	POST   /api/v1/controlplanes/{id}/register        registers this data plane with one
//	POST   /api/v1/controlplanes/{id}/deregister      takes that back
//	GET    /api/v1/plugins                            plugins
//	GET    /api/v1/plugins/{name}                     one plugin with its types and their schemas, how it was built, and what it may do
//	GET    /api/v1/plugins/{name}/trust               what is decided about its file, where that decides whether it may be executed
//	PUT    /api/v1/plugins/{name}/trust               trusts the file that it has now: {sha256}, which may be left out
//	DELETE /api/v1/plugins/{name}/trust               takes that back, and stops it
//
// ?context= names a participant context other than the default one; lists show all contexts without it. An id is one element of the
// path, so a slash in it is written %2F; only the name of a part spans several.
//
// Bodies are JSON, read strictly: a member that is not known, or there twice, is an error. What cannot be granted is answered with a
// problem (RFC 9457) that names the fields at fault. With a token configured, every request but those for health needs it as bearer
// token. Without one, requests that change something or give a secret away have to name the host by its address or a name without dots,
// so that no web page can have a browser send them.
//
// Only the address of a flow and what is read through it hold secrets. Elsewhere data addresses are shown by their type, the endpoint
// without its query, and the names of their properties.
package admin
