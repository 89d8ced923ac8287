package flow

import (
	"context"
	"errors"
	"time"

	"github.com/towpath-dataplane/towpath/sdk"
)

// Transfer moves the parts of a flow from one address to another, from f.Checkpoint on, and returns when everything is durable, or
// with the failure that it could not get over by itself, or when ctx ends. It tells progress where it is. When it has returned, no
// byte moves and no goroutine is left.
type Transfer func(ctx context.Context, f *Flow, progress Progress) error

// Progress is what a Transfer tells the Engine. All methods may be called concurrently.
type Progress interface {
	// Checkpoint stores a place to go on from, the totals of what is durable there, and the parts that became durable since the last
	// call, in one transaction. When it returns nil, the source may forget what lies before. The error is a retryable *sdk.Error if it can
	// be stored later, as with ErrStorage.
	Checkpoint(ctx context.Context, c Checkpoint, totals sdk.Totals, parts []Part) error
	// Waiting tells an operator why nothing moves: "" when it does again.
	Waiting(reason string)
	// Observe says whom to ask where the transfer is, for operators. step may be called at any time until the Transfer returns; it does
	// not wait for anything.
	Observe(step func() Step)
	// Remote returns the address at the other end, with the type of the plugin that uses it, as it is now. refused says that the last
	// one was refused: its token is renewed then, and the error is ErrNotRenewed if that cannot be.
	Remote(ctx context.Context, refused bool) (sdk.DataAddress, error)
}

// Endpoint issues the addresses at which a counterparty reaches a flow that this side serves. The public API is one.
type Endpoint interface {
	// Issue returns an address with a new token for the flow. Tokens issued before for the flow stop working.
	Issue(ctx context.Context, f *Flow) (sdk.DataAddress, error)
	// IssueResponse returns the address of the flow's response channel with a new token. Tokens issued before for that channel stop
	// working; those for the flow's data do not.
	IssueResponse(ctx context.Context, f *Flow) (sdk.DataAddress, error)
	// Revoke ends all tokens of the flow, those of its response channel too. It is idempotent.
	Revoke(ctx context.Context, key Key) error
}

// Sinks finds sinks by type, to release what they hold for a flow that has ended.
type Sinks interface {
	Sink(typ string) (sdk.DataSink, error)
}

// Checker says whether the plugins at hand can read from or write to an address, before a flow is accepted. The error is an
// *sdk.Error.
type Checker interface {
	CheckSource(ctx context.Context, a sdk.DataAddress) error
	CheckSink(ctx context.Context, a sdk.DataAddress) error
}

// Profile is what the operator says about a profile (older drafts: transfer type).
type Profile struct {
	Name      string
	Direction Direction
	// EndpointType is the endpointType of addresses that are issued for the profile. "": the profile's name.
	EndpointType string
	// Types maps the endpointType of a counterparty's address to the type of the plugin that reads or writes it.
	Types map[string]string
	// Type, if not "", is the plugin's type whatever the address says.
	Type string
	// AllowHTTP accepts counterparty addresses and issues ones that are not HTTPS.
	AllowHTTP bool
	// Strict demands what the profile's specification does: the endpointType is the profile's, started for pull has an address.
	Strict bool
	// Mode says whether prepare and start are answered before their work is done.
	Mode Mode
	// Renewal says whether addresses come with tokens that can be renewed.
	Renewal Renewal
	// Provision, if not "", is the type of the sink that makes the addresses which are handed out, in place of the public API.
	Provision string
	// Response, if not nil, gives the flows that this side provides a response channel.
	Response *ResponseProfile
	// DatasetInMessage takes a dataset that the Catalog does not know from the metadata of the message.
	DatasetInMessage bool
}

// ResponseProfile is what the operator says about the response channels of a profile.
type ResponseProfile struct {
	// EndpointType is the endpointType of the channel that the counterparty is told. "": what makes the address says it.
	EndpointType string
	// Provision, if not "", is the type of the plugin that makes the channel, whose sink provisions it and whose source reads it, in place
	// of the public API.
	Provision string
	// Linger is how long a push that has sent everything waits with its completion, and so how long the channel stays open.
	Linger time.Duration
}

// Mode says when prepare and start are answered.
type Mode string

// The modes.
const (
	ModeAuto  Mode = "auto"  // when the work is done, or after a while with 202
	ModeSync  Mode = "sync"  // when the work is done
	ModeAsync Mode = "async" // at once, with 202
)

// Renewal says what becomes of the Token Renewal profile in another profile.
type Renewal string

// The kinds of renewal.
const (
	RenewalOff     Renewal = "off"     // issued addresses have no refresh token
	RenewalOffer   Renewal = "offer"   // they have, if both participants are DIDs
	RenewalRequire Renewal = "require" // the same, and an address without one is refused
)

// Dataset is what the operator says about a dataset.
type Dataset struct {
	Context string // participant context
	ID      string
	// Source is read when this side provides the dataset; Sink is written when it consumes it. Zero if there is none.
	Source sdk.DataAddress
	Sink   sdk.DataAddress
	// Response is written with what comes back on the response channel when this side provides the dataset. Zero if there is none.
	Response sdk.DataAddress
	// Mode goes before that of the profile. "": the profile's.
	Mode Mode
}

// Catalog finds profiles and datasets.
type Catalog interface {
	// Profile returns false if the profile is not supported.
	Profile(name string) (Profile, bool)
	// Dataset returns false if there is no such dataset in the participant context.
	Dataset(context, id string) (Dataset, bool)
}

// Renewer renews the token of an address that a counterparty issued (profile Token Renewal, in the role of the consumer).
type Renewer interface {
	// Renewable reports whether the address has what a renewal needs. expires is how long its token is good from when it was issued, 0
	// if that is not known.
	Renewable(f *Flow, a sdk.DataAddress) (expires time.Duration, ok bool)
	// Renew returns the address with its new tokens. The error is an *sdk.Error; Denied: no further attempt can succeed.
	Renew(ctx context.Context, f *Flow, a sdk.DataAddress) (sdk.DataAddress, error)
}

// RequestError says that a signal cannot be taken because of what is in it.
type RequestError struct {
	Field   string // "" if it is no single field
	Message string
	Err     error // cause, may be nil
}

func (e *RequestError) Error() string {
	if e.Field == "" {
		return e.Message
	}
	return e.Field + ": " + e.Message
}

func (e *RequestError) Unwrap() error { return e.Err }

// ErrMessageReused says that a message id was used before for something else.
var ErrMessageReused = errors.New("the messageId was used before for another request")

// ErrNotRenewed says that an address is as good as it gets.
var ErrNotRenewed = errors.New("the token of the address cannot be renewed")

// ErrStorage says that flows cannot be stored or read at the moment: the disk is full, or broken. An error of a Store that may pass is it.
var ErrStorage = errors.New("the data plane cannot store anything at the moment")

// ErrClosed says that the engine is shutting down.
var ErrClosed = errors.New("the data plane is shutting down")
