// Package signaling speaks Data Plane Signaling in both directions.
//
// Handler is the API that control planes call: it decodes a message, hands the signal to flow.Signals and answers with the flow's
// status. Dispatcher sends what the outbox holds to the control planes' callbacks. The messages of the protocol, their JSON schemas
// and their oddities in older drafts live here and nowhere else.
//
// The package decides nothing about a flow: which state takes which signal, and what a repeated message is answered with, is the
// engine's business. It logs neither data addresses nor tokens.
package signaling
