package sdk

import (
	"context"
	"iter"
	"slices"
)

// Plugin is everything that one plugin binary offers. The zero value offers nothing.
type Plugin struct {
	Name          string // lower-case letters, digits, '-'; the name of its HCL block
	Version       string // semantic
	Documentation string // Markdown
	// Config is the schema of the plugin's configuration block.
	Config Schema
	// Configure, if not nil, is called once before any source or sink is. Defaults of the schema are filled in. In a plugin that lives on its
	// own it is called again when all its hosts have gone and one comes with another configuration; nothing else is called then.
	Configure func(ctx context.Context, c Config) error
	Sources   []SourceType
	Sinks     []SinkType
	// Permissions are what the plugin needs of the machine, all of it. nil: it does not say.
	Permissions *Permissions
}

// AddressType describes a type of data address that a plugin reads or writes.
type AddressType struct {
	Type          string // the address's type (EDC) or endpointType (DPS), matched exactly
	Documentation string // Markdown
	Address       Schema // of the address's properties
	// Resumable: parts can be begun at an offset (source) or continued after a checkpoint (sink).
	Resumable bool
	// NonFinite: the stream has no end of its own.
	NonFinite bool
	// Records: parts carry records, not bytes.
	Records bool
	// Provisions: a sink that hands out addresses by Provision.
	Provisions bool
	// Copies: a Copier. Description sets it.
	Copies bool
	// Proxies: a source that hands requests on to a server and gives back what it answers, see ProxyRequest.
	Proxies bool
}

// SourceType is a Source with the type it reads.
type SourceType struct {
	AddressType
	Source Source
}

// SinkType is a Sink with the type it writes to.
type SinkType struct {
	AddressType
	Sink Sink
}

// Description is what a plugin says of itself: Plugin without the code.
type Description struct {
	Name          string
	Version       string
	Documentation string
	Config        Schema
	Sources       []AddressType
	Sinks         []AddressType
	// Digests that the plugin computes as a source and checks as a sink.
	Digests []Algorithm
	// Permissions are what the plugin needs of the machine. nil: it does not say.
	Permissions *Permissions
}

// Description returns what the plugin says of itself.
func (p Plugin) Description() Description {
	d := Description{Name: p.Name, Version: p.Version, Documentation: p.Documentation, Config: p.Config, Digests: Algorithms(),
		Permissions: p.Permissions}
	for _, s := range p.Sources {
		t := s.AddressType
		_, t.Copies = s.Source.(Copier)
		d.Sources = append(d.Sources, t)
	}
	for _, s := range p.Sinks {
		t := s.AddressType
		_, t.Provisions = s.Sink.(Provisioner)
		_, t.Copies = s.Sink.(Copier)
		d.Sinks = append(d.Sinks, t)
	}
	return d
}

// Source returns the source for a type.
func (d Description) Source(typ string) (AddressType, bool) { return find(d.Sources, typ) }

// Sink returns the sink for a type.
func (d Description) Sink(typ string) (AddressType, bool) { return find(d.Sinks, typ) }

func find(types []AddressType, typ string) (AddressType, bool) {
	i := slices.IndexFunc(types, func(t AddressType) bool { return t.Type == typ })
	if i < 0 {
		return AddressType{}, false
	}
	return types[i], true
}

// Source reads data addresses of one type. It is shared by all flows of a process: Read is called concurrently.
type Source interface {
	// Read yields the parts behind req.Address, always in the same order. Opening a part is left to Part.Open, so that parts that are
	// only listed, or that the other side has already, cost nothing.
	//
	// After yielding an error the sequence ends. ctx ends when the flow is cut; the sequence then ends with whatever error that gave.
	// What the source holds for the flow is released when the sequence returns.
	Read(ctx context.Context, req ReadRequest) iter.Seq2[Part, error]
}

// Sink writes to data addresses of one type. It is shared by all flows of a process: Write is called concurrently, but never twice
// at a time for one flow and part.
type Sink interface {
	// Write stores the parts of one flow, in the order they come. It returns nil only when everything is durable: what it has
	// stored survives the loss of power. Until then nothing may be visible under its final name but whole parts.
	//
	// An error in parts means that the stream broke; Write gives it back. ErrInterrupted means that the flow may go on later.
	Write(ctx context.Context, req WriteRequest, parts iter.Seq2[*IncomingPart, error]) error
}

// Validator is a Source or Sink that can say more about an address than its schema does. Validate has no effects, and returns an
// Error made with InvalidFields.
type Validator interface {
	Validate(ctx context.Context, a DataAddress) error
}

// Copier is a Source or a Sink whose addresses lie in stores that copy content by themselves. Between a Source and a Sink of one plugin,
// at addresses in one store, parts then need not move: the Source yields them with a Reference, and the Sink copies.
type Copier interface {
	// Store names the store that an address lies in. The name is equal for two addresses if, and only if, the Sink can copy from one to the
	// other with what the two addresses give it: the same store, reached with the same credentials. It is opaque and short, and no
	// secret can be learned from it. "" means that nothing can be copied. Store has no effects.
	Store(ctx context.Context, a DataAddress) (string, error)
}

// Provisioner is a Sink that makes what a counterparty needs to fetch a flow's data by the sink's own protocol.
type Provisioner interface {
	// Provision returns the address to hand out. It is idempotent.
	Provision(ctx context.Context, flow FlowContext, a DataAddress) (DataAddress, error)
}

// Deprovisioner is a Sink that keeps something for a flow: temporary files, provisioned resources.
type Deprovisioner interface {
	// Deprovision removes it. It is idempotent, and is called for every flow that ended, also for one the sink has never seen.
	Deprovision(ctx context.Context, flow FlowContext, a DataAddress) error
}

// FlowContext says which data flow a call is for: for logs, names and authorization, not for finding data.
type FlowContext struct {
	ParticipantContext string
	ID                 string // unique within the participant context; chosen by a peer, so never a path by itself
	ParticipantID      string
	CounterPartyID     string
	AgreementID        string
	DatasetID          string
	Profile            string
	Labels             []string
}

// ReadRequest asks a Source for parts.
type ReadRequest struct {
	Flow    FlowContext
	Address DataAddress
	// Part, if not "", is the name of the only part wanted. A source may yield others; they are skipped.
	Part string
	// Skip names parts that will not be opened. A source yields them all the same, for the order, but need not look at them.
	Skip []string
	// List says that no part will be opened.
	List bool
	// ByReference asks a Copier for parts with a Reference.
	ByReference bool
	// After is the place to go on from, nil for the beginning. A source may use it to skip what lies before, or yield from the
	// first part; the SDK skips the rest.
	After *Position
	// Request is what a counterparty asked for, of a source whose type proxies. nil if there is none.
	Request *ProxyRequest
}

// Position is a place in a stream of parts.
type Position struct {
	Part     string // name of the part that was begun last
	Finished bool   // the part was sent whole; the next one follows
	Offset   int64  // bytes of it that were sent, if it was not
	Token    []byte // of its RecordReader, if it carries records
}

// WriteRequest tells a Sink about the parts it is given.
type WriteRequest struct {
	Flow    FlowContext
	Address DataAddress
	// Redelivery says that parts may have reached their final place in an earlier run. A part that is there with the same content
	// is done, not a collision.
	Redelivery bool
}
