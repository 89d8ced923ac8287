// Package signaling speaks Data Plane Signaling in both directions.
//
// Handler is the API that control planes call: it finds out who calls, decodes a message, hands the signal to flow.Signals and answers
// with the flow's status. Directory knows the control planes, those of the operator and those that register over the API: by what each
// is known, and what goes with a request to it. Dispatcher sends what the outbox holds to their callbacks, Registrar registers this data
// plane there, and Agreements fetches agreements. The messages of the protocol, their JSON schemas and their oddities in older drafts
// live here and nowhere else.
//
// The package decides nothing about a flow: which state takes which signal, and what a repeated message is answered with, is the
// engine's business. It logs neither data addresses nor tokens nor secrets.
package signaling
