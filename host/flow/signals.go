package flow

import (
	"context"
	"encoding/json"

	"github.com/towpath-dataplane/towpath/sdk"
)

// Message is what every signal carries.
type Message struct {
	// Key of the flow that the signal is for.
	Key Key
	// ControlPlane is the id of the control plane that sent it.
	ControlPlane string
	// MessageID is "" if the sender gave none; the signal is then not recognised when it is repeated.
	MessageID string
	// Body is a digest of the request, to tell a repetition from a reuse of the id.
	Body []byte
}

// Create is the content of prepare and start (DataFlowPrepareMessage, DataFlowStartMessage).
type Create struct {
	Message
	Profile          string
	DatasetID        string
	AgreementID      string
	ParticipantID    string
	CounterPartyID   string
	DataspaceContext string
	Labels           []string
	Claims           json.RawMessage
	Metadata         json.RawMessage
	// DataAddress is the counterparty's; only start for push has one.
	DataAddress *sdk.DataAddress
}

// Status is the answer to a signal (DataFlowStatusMessage).
type Status struct {
	Key         Key
	State       State
	DataAddress *sdk.DataAddress // what the counterparty is to be given; nil if nothing. Secret.
}

// Signals is what a signaling protocol asks of the engine. Engine implements it. Every method is one signal: it returns when the
// state is durable and the effect has happened. Errors: ErrNotFound, *StateError, *RequestError, ErrMessageReused, ErrClosed, and
// anything else for a failure of ours.
type Signals interface {
	// Prepare creates a consumer's flow (POST /dataflows/prepare).
	Prepare(ctx context.Context, c Create) (Status, error)
	// Start creates a provider's flow (POST /dataflows/start).
	Start(ctx context.Context, c Create) (Status, error)
	// Started tells a consumer that the provider has started (POST /dataflows/{id}/started). address may be nil.
	Started(ctx context.Context, m Message, address *sdk.DataAddress) (Status, error)
	// Suspend stops a flow until Resume. Bytes have stopped and tokens are dead when it returns.
	Suspend(ctx context.Context, m Message, reason string) (Status, error)
	// Resume lets a suspended flow go on. address, if not nil, replaces the counterparty's.
	Resume(ctx context.Context, m Message, address *sdk.DataAddress) (Status, error)
	// Terminate ends a flow for good.
	Terminate(ctx context.Context, m Message, reason string) (Status, error)
	// Completed ends a flow whose counterparty has everything.
	Completed(ctx context.Context, m Message) (Status, error)
	// Status tells a flow's state.
	Status(ctx context.Context, key Key) (Status, error)
}

// Joined is a counterparty's request that runs inside a flow.
type Joined struct {
	// Context is derived from the caller's and ends when the flow stops serving. The cause is then a *StateError or ErrClosed.
	Context context.Context
	Flow    *Flow
	// Leave ends the request's stay. It is called once.
	Leave func()
}

// Service is what the public API asks of the engine. Engine implements it.
type Service interface {
	// Join enters a flow for the time of one request, if the flow serves its endpoint now: STARTED, or for a consumer's push also
	// PREPARED. A suspend, terminate or complete ends the context and waits for Leave before it returns. The errors are ErrNotFound,
	// *StateError and ErrClosed.
	Join(ctx context.Context, key Key) (*Joined, error)
	// Record stores parts that a counterparty read whole or that it sent and the sink made durable. It counts their bytes.
	Record(ctx context.Context, key Key, parts ...Part) error
	// Part returns a stored part, and whether there is one.
	Part(ctx context.Context, key Key, name string) (Part, bool, error)
	// Seal closes an ingest: check is called with the parts that are there; if it returns nil the flow takes no more.
	Seal(ctx context.Context, key Key, check func(parts []Part) error) error
	// NextIndex returns an index for a new part of an ingest, never the same twice.
	NextIndex(ctx context.Context, key Key) (uint64, error)
}
