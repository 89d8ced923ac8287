// Package edc speaks the data plane signaling of Eclipse EDC's connectors, version 1, which is JSON-LD over HTTP and which EDC 0.6 to
// 0.18 speak in four dialects.
//
// Handler is the API that one control plane calls: it expands a message with a JSON-LD processor, hands the signal to flow.Signals and
// answers as those control planes read answers. Client writes what a control plane is told: callbacks and the registration of this data
// plane. The messages, their vocabularies, the contexts that are known and the oddities of each
// dialect live here and nowhere else.
//
// What the dialects have of what the engine wants to know, and how the rest follows:
//
//   - A flow's id is the transfer process' id. Messages have no ids of their own: a start that comes again is flow.Engine's Again.
//   - The profile is the transfer type, DEST-FLOW[-RESPONSE]; see transferType.
//   - The counterparty of a provider's flow is the message's participant. A consumer's flow has one that is not known.
//
// The package fetches nothing, decides nothing about a flow, and logs neither data addresses nor tokens nor secrets.
package edc
