package flow

import (
	"context"
	"errors"
	"time"

	"github.com/towpath-dataplane/towpath/sdk"
)

// ErrNotFound says that there is no such flow.
var ErrNotFound = errors.New("no such data flow")

// Store keeps flows, their parts, the answers given to signals, and the outbox. All methods may be called concurrently.
type Store interface {
	// Update runs fn in one transaction, for one flow. If fn returns nil, everything it did through tx is durable when Update returns,
	// and otherwise nothing of it is; Update then returns fn's error, or one that is ErrStorage if it may be tried again. Transactions are serialised and may share a commit. fn only
	// computes and calls tx: it does not wait for anything.
	Update(ctx context.Context, key Key, fn func(tx Tx) error) error
	// Flow returns a flow, or ErrNotFound.
	Flow(ctx context.Context, key Key) (*Flow, error)
	// View returns what Flow does, for reading only: others may have the same.
	View(ctx context.Context, key Key) (*Flow, error)
	// Flows lists flows, newest first.
	Flows(ctx context.Context, filter Filter) ([]*Flow, error)
	// Count returns the number of flows in each state.
	Count(ctx context.Context) (map[State]int64, error)
	// Parts lists the parts of a flow by index, from index `from`, at most limit.
	Parts(ctx context.Context, key Key, from uint64, limit int) ([]Part, error)
	// ResponseParts lists in the same way what came on the response channel of a flow.
	ResponseParts(ctx context.Context, key Key, from uint64, limit int) ([]Part, error)
	// Callbacks lists what the outbox holds for a flow, oldest first, delivered or not.
	Callbacks(ctx context.Context, key Key) ([]Callback, error)
}

// Tx is what one transaction of Store.Update can do. It is valid until fn returns.
type Tx interface {
	// Now is the time of the transaction, in UTC.
	Now() time.Time
	// Flow returns the flow with the transaction's key, or ErrNotFound. The caller may change it and Put it.
	Flow() (*Flow, error)
	// Put creates or replaces the flow with the transaction's key. It sets Updated, and Created on creation.
	Put(f *Flow) error
	// Answer returns the answer stored for a message, and whether there is one.
	Answer(messageID string) (Answer, bool, error)
	// PutAnswer stores the answer to a message. Answers are kept for at least a day.
	PutAnswer(messageID string, a Answer) error
	// AddPart stores a finished part, replacing one of the same name. It reports whether there was one.
	AddPart(p Part) (replaced bool, err error)
	// Part returns the stored part of that name, and whether there is one.
	Part(name string) (Part, bool, error)
	// ResponsePart does the same for those of the response channel.
	ResponsePart(name string) (Part, bool, error)
	// Enqueue adds a callback to the outbox. Callbacks of one flow are delivered in the order in which they are added.
	Enqueue(c Callback) error
	// CancelCallbacks withdraws the flow's callbacks that are not delivered, also those that were given up.
	CancelCallbacks() error
	// RetryCallbacks makes the flow's callbacks that were given up pending again, as if they had just been added, and returns how many.
	RetryCallbacks() (int, error)
}

// Filter says which flows to list. The zero value lists all, at most 1000.
type Filter struct {
	Context string  // "" for all
	States  []State // nil for all
	// Leftover lists only flows that have ended and whose sinks may not have been told of it.
	Leftover bool
	// Before lists only flows created before this time, for paging. Zero: no bound.
	Before time.Time
	Limit  int // 0: 1000
}

// Answer is what a signal was answered with, kept so that a repeated message gets the same.
type Answer struct {
	// Operation and Body identify the request: the same message id with another operation or body is refused.
	Operation string
	Body      []byte // a digest of the request's body

	State       State
	DataAddress *sdk.DataAddress // secret
	// Refused is the text of a refusal by state; "" if the signal was taken.
	Refused string
}

// CallbackKind is a callback of Data Plane Signaling.
type CallbackKind string

// The callbacks.
const (
	CallbackPrepared  CallbackKind = "prepared"
	CallbackStarted   CallbackKind = "started"
	CallbackCompleted CallbackKind = "completed"
	CallbackErrored   CallbackKind = "errored"
)

// Callback is a row of the outbox: something to tell a control plane.
type Callback struct {
	ID           int64 // set by the store; order of delivery within a flow
	Key          Key
	ControlPlane string
	// To is where the flow's control plane wants it (Flow.Callback); "": at its endpoint.
	To          string
	Kind        CallbackKind
	MessageID   string // the same at every attempt
	State       State
	DataAddress *sdk.DataAddress // secret
	Error       string

	Created  time.Time
	Attempts int
	Next     time.Time // when it is due
	LastErr  string
	// Status is how it stands.
	Status CallbackStatus
}

// CallbackStatus is how a callback stands.
type CallbackStatus string

// The statuses of a callback.
const (
	CallbackPending   CallbackStatus = "pending"
	CallbackDelivered CallbackStatus = "delivered"
	CallbackCancelled CallbackStatus = "cancelled"
	// CallbackFailed: given up, after the configured time or an answer that no retry changes.
	CallbackFailed CallbackStatus = "failed"
)

// Outbox is what delivers callbacks. The store implements it, the signaling client uses it.
type Outbox interface {
	// Due returns callbacks to deliver now: pending, due at now, and the first pending one of their flow. At most limit.
	Due(ctx context.Context, now time.Time, limit int) ([]Callback, error)
	// Settle records the outcome of an attempt: c's Status, Attempts, Next and LastErr. A callback that was cancelled in the meantime
	// stays cancelled.
	Settle(ctx context.Context, c Callback) error
	// NextDue returns when the next pending callback is due, and false if there is none.
	NextDue(ctx context.Context) (time.Time, bool, error)
	// Depth is the number of pending callbacks.
	Depth(ctx context.Context) (int64, error)
	// Added gets a value, without blocking, after a transaction that enqueued.
	Added() <-chan struct{}
}

// Document is something that was configured through an API rather than in a file: a dataset, a control plane.
type Document struct {
	Kind    string
	Context string // participant context
	ID      string // unique with Kind and Context
	Content []byte // JSON; secret
	Updated time.Time
}

// Documents keeps documents. The store implements it.
type Documents interface {
	// PutDocument creates or replaces a document. It is durable when PutDocument returns.
	PutDocument(ctx context.Context, d Document) error
	// DeleteDocument removes a document, and reports whether there was one.
	DeleteDocument(ctx context.Context, kind, context, id string) (bool, error)
	// Documents lists the documents of a kind, by context and id.
	Documents(ctx context.Context, kind string) ([]Document, error)
}
