package flow

import (
	"encoding/json"
	"time"

	"github.com/towpath-dataplane/towpath/sdk"
)

// DefaultContext is the participant context of flows until an operator declares more.
const DefaultContext = "default"

// Key identifies a data flow. ID is chosen by a control plane and unique within the participant context.
type Key struct {
	Context string
	ID      string
}

func (k Key) String() string {
	if k.Context == DefaultContext {
		return k.ID
	}
	return k.Context + "/" + k.ID
}

// Role is the side of the flow that this data plane is on.
type Role string

// The roles.
const (
	Provider Role = "provider"
	Consumer Role = "consumer"
)

// Direction says who asks for the bytes: in Push the provider sends them, in Pull the consumer fetches them.
type Direction string

// The directions.
const (
	Push Direction = "push"
	Pull Direction = "pull"
)

// Flow is a data flow as it is stored. Engine hands out copies.
type Flow struct {
	Key
	Role      Role
	Direction Direction
	State     State
	// Resumed says that STARTED was last reached by a resume.
	Resumed bool

	Profile          string
	DatasetID        string
	AgreementID      string
	ParticipantID    string
	CounterPartyID   string
	DataspaceContext string
	// ControlPlane is the id of the control plane that owns the flow and hears its callbacks.
	ControlPlane string
	// Callback is the URL at which its control plane wants the flow's callbacks, as its messages say. "": at its endpoint.
	Callback string
	Labels   []string
	Claims   json.RawMessage
	Metadata json.RawMessage

	// Local is the dataset's address on our side: the source of a provider's flow, the sink of a consumer's. Zero for a consumer
	// pull without a sink.
	Local sdk.DataAddress
	// Target is where our side's sink writes what the counterparty fetches at Issued, if a plugin provisioned that (Profile.Provision).
	Target *sdk.DataAddress
	// Remote is the counterparty's address (provider push, consumer pull). Nil until it is known. Secret.
	Remote *sdk.DataAddress
	// RemoteSince is when Remote, with the token in it, was issued as far as we know.
	RemoteSince time.Time
	// RenewalFault is why the token of Remote could not be renewed the last time; "" if it could. RenewalRefused says that no further
	// attempt can succeed.
	RenewalFault   string
	RenewalRefused bool
	// Issued is the address we issued to the counterparty (provider pull, consumer push, and any provider with a response channel), with
	// its current tokens. Secret.
	Issued *sdk.DataAddress
	// Response is the flow's response channel, nil if it has none.
	Response *Response

	// Reason is what the last suspend or terminate said.
	Reason string
	// Fault is the failure that was last reported by errored; "" once the flow moves again. FaultPart is the part that it is about, ""
	// for none.
	Fault     string
	FaultPart string
	// Skipped are the parts that an operator gave up.
	Skipped []Skipped
	// Reported are digests of the failures that were reported since the flow moved last, so that none is reported twice.
	Reported []string
	// Waiting says why a transfer that should run does not: a retry that is due, a plugin that is starting. For operators; memory
	// only.
	Waiting string

	// Totals count what is durable.
	Totals sdk.Totals
	// Digest sums up the parts, whatever order they came in: equal at both ends of a flow if name, size and CRC-32C of every part
	// are. See Sum.
	Digest []byte
	// Checkpoint is where a transfer goes on from. Nil for the beginning.
	Checkpoint *Checkpoint
	// Redelivery says that the transfer has run before. Memory only.
	Redelivery bool
	// NextIndex is the index of the next part of an ingest.
	NextIndex uint64
	// Sealed says that an ingest is closed by its manifest: no more parts.
	Sealed bool
	// Leftover says that the flow has ended and its sink has not been told so yet.
	Leftover bool

	Created time.Time
	Updated time.Time
}

// PluginContext describes the flow to plugins.
func (f *Flow) PluginContext() sdk.FlowContext {
	return sdk.FlowContext{
		ParticipantContext: f.Context, ID: f.ID,
		ParticipantID: f.ParticipantID, CounterPartyID: f.CounterPartyID,
		AgreementID: f.AgreementID, DatasetID: f.DatasetID, Profile: f.Profile, Labels: f.Labels,
	}
}

// Moves reports whether this side runs a transfer for the flow (otherwise it serves an endpoint, or holds an address).
func (f *Flow) Moves() bool {
	return f.Target != nil || f.uses() && !f.Local.IsZero()
}

// Serves reports whether this side serves an endpoint for the flow.
func (f *Flow) Serves() bool { return !f.uses() && f.Target == nil }

// uses reports whether the counterparty makes the address: this side writes to it, or reads from it.
func (f *Flow) uses() bool {
	return f.Role == Provider && f.Direction == Push || f.Role == Consumer && f.Direction == Pull
}

// Lacks says what a STARTED flow waits for before anything can move, "" for nothing.
func (f *Flow) Lacks() string {
	if f.State == Started && f.uses() && f.Remote == nil {
		return "the counterparty has not given its address"
	}
	return ""
}

// recovered forgets a failure and what was reported, because the flow moves.
func (f *Flow) recovered() { f.Fault, f.FaultPart, f.Reported = "", "", nil }

// Skipped is a part that an operator gave up.
type Skipped struct {
	Part   string
	Reason string // the failure that it was given up for
	At     time.Time
}

// Checkpoint is a place from which a transfer goes on: the source's token and the sink's token for the same place in the stream.
type Checkpoint struct {
	Source []byte
	Sink   []byte
}

// Part is a part of a flow that is durable at the sink (transfer, ingest), or that was read whole by the counterparty (pull).
type Part struct {
	// Response says that it came on the response channel, whose parts have names and indexes of their own.
	Response bool
	Index    uint64
	Name     string
	Size     int64
	Records  int64
	Digests  sdk.Digests
	Location string
	Finished time.Time
}
