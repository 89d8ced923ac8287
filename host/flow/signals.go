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
	// Answered, if not nil, is closed when the answer has left. What follows the answer (a callback about work that goes on) waits for
	// it, so that the control plane does not hear the end before the beginning; but not for long.
	Answered <-chan struct{}
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

	// What follows is of protocols whose messages say more than those of Data Plane Signaling.

	// Source is the dataset's source as the message has it. One that the operator declares goes before it.
	Source *sdk.DataAddress
	// Response is the dataset's response sink as the message has it. One that the operator declares goes before it.
	Response *sdk.DataAddress
	// Callback is where the callbacks of the flow go; "": to its control plane's endpoint.
	Callback string
	// Mode goes before that of the profile and the dataset. "": theirs.
	Mode Mode
	// Again says that the same message may come for a flow that is there, which asks for what Engine.Again does.
	Again bool
}

// Status is the answer to a signal (DataFlowStatusMessage).
type Status struct {
	Key         Key
	State       State            // PREPARING and STARTING: the work goes on, a callback follows
	DataAddress *sdk.DataAddress // what the counterparty is to be given; nil if nothing. Secret.
	// Fault is why the flow does not go on, as it was reported by errored. Only Signals.Status tells it.
	Fault string
	// Waiting is why nothing moves at present. Only Signals.Status tells it.
	Waiting string
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
	// Status tells a flow's state to the control plane that owns it. For any other one, the flow does not exist.
	Status(ctx context.Context, m Message) (Status, error)
}

// Operations is what an operator, or an application beside the host, asks of the engine. Engine implements it.
type Operations interface {
	// Retry lets a flow go on that rests with a fault, and tries callbacks again that were given up. A *StateError says that there is
	// nothing to retry.
	Retry(ctx context.Context, key Key) error
	// Skip gives up the part that a flow rests at, and lets the flow go on with the next. part, if not "", has to be that part: the
	// error is a *StateError if the flow does not rest at it.
	Skip(ctx context.Context, key Key, part string) error
	// Resend has a STARTED or SUSPENDED flow that sends or fetches data begin again from its start, as if nothing had reached the sink.
	Resend(ctx context.Context, key Key) error
	// Abort moves a flow to TERMINATED without its control plane, which is told by errored. It is for a flow that nobody else ends.
	Abort(ctx context.Context, key Key, reason string) error
	// Address returns the counterparty's address of a STARTED flow, with a token that is good now: where its data is, with the properties
	// of its response channel, or for a consumer's push only those. The error is a *StateError if there is none to give away. Secret.
	Address(ctx context.Context, key Key) (sdk.DataAddress, error)
	// Visit enters a STARTED flow whose data the counterparty serves, for the time of one request of a local application. The Joined's
	// flow has the counterparty's address, with the type of the plugin that reads it, as Local.
	Visit(ctx context.Context, key Key) (*Joined, error)
}

// Joined is a counterparty's request that runs inside a flow.
type Joined struct {
	// Context is derived from the caller's and ends when the flow stops serving. The cause is then a *StateError or ErrClosed.
	Context context.Context
	Flow    *Flow // not to be changed: others may have the same
	// Of is the flow as it is stored, where Flow is only its response channel or has another address. It is not changed.
	Of *Flow
	// Moved counts bytes of the request as they come or go, for operators. It may be called concurrently.
	Moved func(n int)
	// Read stores that the request has read a part whole, as Service.Record does, but soon rather than before it returns: what is read
	// of a flow within a while shares a transaction. A signal that stops the flow returns when it is stored. It is called before Leave.
	Read func(p Part)
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
	// Report keeps a failure with a flow that serves its endpoint, and tells the control plane by errored, once. The state stays.
	Report(ctx context.Context, key Key, failure error) error
}
