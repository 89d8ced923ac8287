package admin

import (
	"cmp"
	"encoding/hex"
	"maps"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/towpath-dataplane/towpath/host/flow"
	"github.com/towpath-dataplane/towpath/sdk"
)

// FlowList is the answer of /api/v1/flows.
type FlowList struct {
	Flows []Flow `json:"flows"`
}

// Flow is a data flow as the API shows it.
type Flow struct {
	ID             string    `json:"id"`
	Context        string    `json:"context"`
	Role           string    `json:"role"`
	Direction      string    `json:"direction"`
	State          string    `json:"state"`
	Profile        string    `json:"profile"`
	Dataset        string    `json:"dataset"`
	Agreement      string    `json:"agreement,omitempty"`
	Participant    string    `json:"participant,omitempty"`
	CounterParty   string    `json:"counterParty,omitempty"`
	ControlPlane   string    `json:"controlPlane"`
	Parts          int64     `json:"parts"`
	Bytes          int64     `json:"bytes"`
	Records        int64     `json:"records,omitempty"`
	Digest         string    `json:"digest,omitempty"`
	Waiting        string    `json:"waiting,omitempty"`
	Fault          string    `json:"fault,omitempty"`
	FaultPart      string    `json:"faultPart,omitempty"`    // that the fault is about
	RenewalFault   string    `json:"renewalFault,omitempty"` // why the counterparty's token could not be renewed
	Reason         string    `json:"reason,omitempty"`
	Created        time.Time `json:"created"`
	Updated        time.Time `json:"updated"`
	ClosedByParty  bool      `json:"manifestReceived,omitempty"`
	CleanupPending bool      `json:"cleanupPending,omitempty"`
	// Movement is nil if nothing of the flow has run in this process, or too long ago.
	Movement *Movement `json:"movement,omitempty"`
	// Response is the flow's response channel, nil if this side has opened none.
	Response *Response `json:"response,omitempty"`
}

// Response is a response channel: what has come on it from the counterparty.
type Response struct {
	Parts   int64  `json:"parts"`
	Bytes   int64  `json:"bytes"`
	Records int64  `json:"records,omitempty"`
	Waiting string `json:"waiting,omitempty"`
	Fault   string `json:"fault,omitempty"`
	// Movement is nil if nothing has come in this process.
	Movement *Movement `json:"movement,omitempty"`
}

// Movement is how a flow's data moves, and what it waits for.
type Movement struct {
	// What was sent since the beginning of the flow, durable or not.
	Parts     int64  `json:"parts"`
	Bytes     int64  `json:"bytes"`
	Records   int64  `json:"records,omitempty"`
	Copied    int64  `json:"copied,omitempty"` // bytes that never came here: a store has copied them inside itself since the host began
	Part      string `json:"part,omitempty"`   // that is being sent
	PartBytes int64  `json:"partBytes,omitempty"`
	PartSize  *int64 `json:"partSize,omitempty"`
	// What there is in all, as far as it is known.
	TotalParts int64 `json:"totalParts,omitempty"`
	TotalBytes int64 `json:"totalBytes,omitempty"`
	// What moves a second.
	BytesPerSecond   int64      `json:"bytesPerSecond"`
	RecordsPerSecond int64      `json:"recordsPerSecond,omitempty"`
	Last             *time.Time `json:"last,omitempty"` // when something moved
	End              *time.Time `json:"end,omitempty"`  // as estimated
	// Requests are inside the flow; Served counts the bytes of such requests since the host began.
	Requests int   `json:"requests,omitempty"`
	Served   int64 `json:"served,omitempty"`
	// Condition is what the watchdog says of the flow's transfer: moving, blocked, idle or stalled; "" if it has none.
	Condition string `json:"condition,omitempty"`
	// WaitsFor is what the transfer, or the requests, wait for at this moment: source, host, sink, limit, queue or retry.
	WaitsFor string `json:"waitsFor,omitempty"`
	// Limit is the scope whose rate is waited for.
	Limit string `json:"limit,omitempty"`
	// BlockedSeconds are by what was waited for since the host began, each request by itself.
	BlockedSeconds map[string]float64 `json:"blockedSeconds"`
}

// LimitList is the answer of /api/v1/limits.
type LimitList struct {
	Limits []Limit `json:"limits"`
}

// Limit is what is said about a scope.
type Limit struct {
	Scope   string `json:"scope"` // host, context, counterparty, dataset, profile or flow
	Context string `json:"context,omitempty"`
	ID      string `json:"id,omitempty"` // "" for the host, and for what holds for each of a kind
	// Configured is from the file. Set is from this API and goes before it, member by member; 0 is no limit.
	Configured *LimitValues `json:"configured,omitempty"`
	Set        *LimitValues `json:"set,omitempty"`
	InForce    LimitValues  `json:"inForce"`
	// Waiting is how many transfers and requests wait for its rates now.
	Waiting int `json:"waiting"`
	// Running and Queued are transfers.
	Running int `json:"running"`
	Queued  int `json:"queued"`
}

// LimitValues are the members of a limit, and the body that sets it.
type LimitValues struct {
	BytesPerSecond   *int64 `json:"bytesPerSecond,omitempty"`
	RecordsPerSecond *int64 `json:"recordsPerSecond,omitempty"`
	Transfers        *int64 `json:"transfers,omitempty"`
	Weight           *int64 `json:"weight,omitempty"`
}

// FlowDetail is the answer of /api/v1/flows/{id}.
type FlowDetail struct {
	Flow
	Local       *Address   `json:"local,omitempty"`
	Remote      *Address   `json:"remote,omitempty"`
	RemoteSince *time.Time `json:"remoteSince,omitempty"` // when the token of Remote was issued
	Issued      *Address   `json:"issued,omitempty"`
	PartList    []Part     `json:"partList"` // the first 1000
	// ResponseChannel is the address of the response channel: ours, or for a consumer's push the counterparty's. ResponseSink is what is
	// written with what comes on ours, and ResponseList the first 1000 parts of that.
	ResponseChannel *Address   `json:"responseChannel,omitempty"`
	ResponseSink    *Address   `json:"responseSink,omitempty"`
	ResponseList    []Part     `json:"responseList,omitempty"`
	Skipped         []Skipped  `json:"skipped,omitempty"`
	Callbacks       []Callback `json:"callbacks"`
}

// Address is a data address without what could be a secret.
type Address struct {
	Type       string   `json:"type"`
	Endpoint   string   `json:"endpoint,omitempty"`
	Properties []string `json:"properties,omitempty"` // names only
}

// Part is a finished part.
type Part struct {
	Index    uint64    `json:"index"`
	Name     string    `json:"name"`
	Size     int64     `json:"size"`
	Records  int64     `json:"records,omitempty"`
	CRC32C   string    `json:"crc32c,omitempty"`
	SHA256   string    `json:"sha256,omitempty"`
	Location string    `json:"location,omitempty"`
	Finished time.Time `json:"finished"`
}

// Skipped is a part that an operator gave up.
type Skipped struct {
	Part   string    `json:"part"`
	Reason string    `json:"reason"`
	At     time.Time `json:"at"`
}

// Callback is a row of the outbox.
type Callback struct {
	Kind      string     `json:"kind"`
	State     string     `json:"state"`
	Status    string     `json:"status"`
	Attempts  int        `json:"attempts"`
	Created   time.Time  `json:"created"`
	Next      *time.Time `json:"next,omitempty"` // while it is pending
	LastError string     `json:"lastError,omitempty"`
	Error     string     `json:"error,omitempty"` // what an errored callback reports
}

// DatasetList is the answer of /api/v1/datasets.
type DatasetList struct {
	Datasets []Dataset `json:"datasets"`
}

// Dataset is a dataset as the API shows it.
type Dataset struct {
	ID       string     `json:"id"`
	Context  string     `json:"context"`
	Origin   Origin     `json:"origin"`
	Mode     string     `json:"mode,omitempty"`
	Source   *Address   `json:"source,omitempty"`
	Sink     *Address   `json:"sink,omitempty"`
	Response *Address   `json:"response,omitempty"`
	Updated  *time.Time `json:"updated,omitempty"` // if it was put here
}

// Origin is where something was declared.
type Origin string

// The origins.
const (
	OriginFile Origin = "file" // in the configuration; cannot be changed here
	OriginAPI  Origin = "api"
)

// ControlPlaneList is the answer of /api/v1/controlplanes.
type ControlPlaneList struct {
	ControlPlanes []ControlPlane `json:"controlPlanes"`
}

// ControlPlane is a control plane as the API shows it.
type ControlPlane struct {
	ID       string `json:"id"`
	Context  string `json:"context"`
	Endpoint string `json:"endpoint"` // without its query
	Protocol string `json:"protocol"`
	// Authorization lists the types with which it authenticates, or this data plane towards it.
	Authorization []string `json:"authorization,omitempty"`
	// Origin is "api" if it has registered itself.
	Origin       Origin        `json:"origin"`
	Registration *Registration `json:"registration,omitempty"` // nil: this data plane does not register with it
}

// Registration is how the registration of this data plane with a control plane stands.
type Registration struct {
	Status    string     `json:"status"` // one word, as registered, pending, failed, deregistered
	Endpoint  string     `json:"endpoint,omitempty"`
	Since     *time.Time `json:"since,omitempty"` // when the status was reached
	Attempts  int        `json:"attempts,omitempty"`
	Next      *time.Time `json:"next,omitempty"` // attempt
	LastError string     `json:"lastError,omitempty"`
}

func newFlow(f *flow.Flow, waiting string) Flow {
	return Flow{
		ID: f.ID, Context: f.Context, Role: string(f.Role), Direction: string(f.Direction), State: string(f.State),
		Profile: f.Profile, Dataset: f.DatasetID, Agreement: f.AgreementID, Participant: f.ParticipantID,
		CounterParty: f.CounterPartyID, ControlPlane: f.ControlPlane,
		Parts: f.Totals.Parts, Bytes: f.Totals.Bytes, Records: f.Totals.Records, Digest: hex.EncodeToString(f.Digest),
		Waiting: waiting, Fault: f.Fault, FaultPart: f.FaultPart, RenewalFault: f.RenewalFault, Reason: f.Reason, Created: f.Created, Updated: f.Updated,
		ClosedByParty: f.Sealed, CleanupPending: f.Leftover,
	}
}

// newMovement shows how a flow moves. What is durable was sent, whether or not its transfer still runs.
func newMovement(m flow.Movement, durable sdk.Totals, now time.Time) *Movement {
	s := m.Step
	shown := &Movement{Parts: max(s.Totals.Parts, durable.Parts), Bytes: max(s.Totals.Bytes, durable.Bytes),
		Records: max(s.Totals.Records, durable.Records), Copied: m.Copied, Part: s.Part, PartBytes: s.PartBytes, TotalParts: s.TotalParts, TotalBytes: s.TotalBytes,
		BytesPerSecond: int64(m.Rate), RecordsPerSecond: int64(m.RecordRate), Requests: m.Requests, Served: m.Served,
		Condition: m.Condition, WaitsFor: m.For, Limit: m.Limit, BlockedSeconds: map[string]float64{}}
	if s.Part != "" && s.PartSize >= 0 {
		shown.PartSize = &s.PartSize
	}
	if !m.Last.IsZero() {
		shown.Last = &m.Last
	}
	if end := m.End(now); !end.IsZero() {
		shown.End = &end
	}
	for hop, d := range m.Waited {
		shown.BlockedSeconds[hop] = d.Seconds()
	}
	return shown
}

func newResponse(r *flow.Response, waiting string) *Response {
	return &Response{Parts: r.Totals.Parts, Bytes: r.Totals.Bytes, Records: r.Totals.Records, Waiting: waiting, Fault: r.Fault}
}

func newDetail(shown Flow, f *flow.Flow, parts, responses []flow.Part, callbacks []flow.Callback) FlowDetail {
	d := FlowDetail{Flow: shown, Remote: newAddress(f.Remote), Issued: newAddress(f.Issued),
		PartList: newParts(parts), Callbacks: make([]Callback, 0, len(callbacks))}
	if !f.Local.IsZero() {
		d.Local = newAddress(&f.Local)
	}
	if f.Remote != nil && !f.RemoteSince.IsZero() {
		d.RemoteSince = &f.RemoteSince
	}
	if r := f.Response; r != nil {
		d.ResponseChannel, d.ResponseList = newAddress(cmp.Or(r.Issued, r.Remote)), newParts(responses)
		if !r.Local.IsZero() {
			d.ResponseSink = newAddress(&r.Local)
		}
	}
	for _, s := range f.Skipped {
		d.Skipped = append(d.Skipped, Skipped(s))
	}
	for _, c := range callbacks {
		shown := Callback{Kind: string(c.Kind), State: string(c.State), Status: string(c.Status), Attempts: c.Attempts,
			Created: c.Created, LastError: c.LastErr, Error: c.Error}
		if c.Status == flow.CallbackPending {
			shown.Next = &c.Next
		}
		d.Callbacks = append(d.Callbacks, shown)
	}
	return d
}

func newParts(parts []flow.Part) []Part {
	shown := make([]Part, 0, len(parts))
	for _, p := range parts {
		shown = append(shown, Part{
			Index: p.Index, Name: p.Name, Size: p.Size, Records: p.Records,
			CRC32C: p.Digests.Hex(sdk.CRC32C), SHA256: p.Digests.Hex(sdk.SHA256), Location: p.Location, Finished: p.Finished})
	}
	return shown
}

func newDataset(d storedDataset) Dataset {
	shown := Dataset{ID: d.ID, Context: d.Context, Origin: d.origin, Mode: string(d.Mode)}
	if d.origin == OriginAPI {
		shown.Updated = &d.updated
	}
	if !d.Source.IsZero() {
		shown.Source = newAddress(&d.Source)
	}
	if !d.Sink.IsZero() {
		shown.Sink = newAddress(&d.Sink)
	}
	if !d.Response.IsZero() {
		shown.Response = newAddress(&d.Response)
	}
	return shown
}

func newAddress(a *sdk.DataAddress) *Address {
	if a == nil {
		return nil
	}
	return &Address{Type: a.Type, Endpoint: plainURL(a.Endpoint), Properties: slices.Sorted(maps.Keys(a.Properties))}
}

// plainURL returns a URL without what could be a secret: "" if that cannot be told.
func plainURL(raw string) string {
	u, err := url.Parse(raw)
	if err != nil {
		return ""
	}
	u.User, u.RawQuery, u.ForceQuery, u.Fragment = nil, "", false, ""
	u.Opaque = u.Opaque[strings.LastIndexByte(u.Opaque, '@')+1:]
	return u.String()
}
