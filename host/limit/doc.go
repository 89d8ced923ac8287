// Package limit shares out what may move: rates in bytes and in records, and places for transfers.
//
// A flow is under several limits at once: its own, those of its dataset, of its counterparty and of its participant context, and that
// of the host. It gets its bytes from each of them. Those that wait for the same limit share it by weight: first participant contexts,
// then the counterparties of each, then the flows of each; so a counterparty with a hundred flows has no more of it than one with a
// single flow. What one of them cannot use, the others get.
//
// Limiter is what holds for all of a host and can be changed while it is in use; Meter is what one transfer or request is held to. The
// package knows nothing of plugins, stores or signals, nor of where limits are written down.
package limit
