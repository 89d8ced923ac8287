// Package flow keeps data flows: what a flow is, which signal moves it from which state to which, and the Engine that applies
// signals and owns whatever runs for a flow.
//
// A signal is one transaction in the Store: read, check, write, outbox row. Its effect (a transfer started or stopped, an address
// issued or revoked) happens under the same per-flow lock, so that no other signal sees the one without the other. Memory holds only
// what runs; after a restart the Engine revives that from the Store.
//
// The package knows nothing of HTTP, of SQL, of tokens or of plugins. It declares what it needs of them: Store, Endpoint, Transfer,
// Sinks, and the lookups for profiles and datasets.
package flow
