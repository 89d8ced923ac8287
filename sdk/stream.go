package sdk

import (
	"context"
	"errors"
	"io"
	"sync/atomic"
)

// MaxData is the most bytes of payload that one Data frame carries.
const MaxData = 1 << 20

// ahead is how many frames pass between an author's code and the stream before one waits for the other: enough for both to work at a
// time, and not to wake each other for each frame.
const ahead = 4

// DataSource is a source as a host sees it: a stream of frames. In-process sources and plugin processes look alike.
// All methods may be called concurrently.
type DataSource interface {
	// Validate returns nil, an Error with code Invalid that lists fields, or the error of the attempt.
	Validate(ctx context.Context, a DataAddress) error
	// Store names the store that an address lies in, see Copier. The error has code Unsupported if the source is none.
	Store(ctx context.Context, a DataAddress) (string, error)
	// Read opens a stream. ctx is for the whole life of the stream: when it ends, so does the stream.
	Read(ctx context.Context, open ReadOpen) (ReadStream, error)
}

// ReadStream is one flow read from a source. Recv is for one goroutine; the other methods may be called beside it. The owner closes
// it, also after an error.
type ReadStream interface {
	// Recv returns the next frame, in the order
	//
	//	(PartBegin (Data | RecordBatch | Checkpoint)* PartEnd Checkpoint?)* End
	//
	// and io.EOF after End. A part with a Reference has neither Data nor RecordBatch, and a Checkpoint at its start. Every other error is an *Error or the end of the context. The frame belongs to the caller, who releases
	// it or sends it on.
	Recv() (Frame, error)
	// RequestCheckpoint asks for a Checkpoint at the next place where the source can give one. It does not wait.
	RequestCheckpoint() error
	// Acknowledge says that a checkpoint, and all before it, are stored. It does not wait.
	Acknowledge(sequence uint64) error
	// Close ends the stream and waits until the source has let go of the flow, or for a bounded time. It is safe to call twice.
	Close() error
}

// DataSink is a sink as a host sees it. All methods may be called concurrently.
type DataSink interface {
	// Validate and Store are as for DataSource.
	Validate(ctx context.Context, a DataAddress) error
	Store(ctx context.Context, a DataAddress) (string, error)
	// Provision makes what a counterparty needs to fetch the flow's data, and returns the address to hand out. Idempotent.
	// The error has code Unsupported if the sink does not do this.
	Provision(ctx context.Context, flow FlowContext, a DataAddress) (DataAddress, error)
	// Deprovision ends the flow for good: provisioned resources and what was kept for a resume go. Idempotent.
	Deprovision(ctx context.Context, flow FlowContext, a DataAddress) error
	// Write opens a stream. ctx is for the whole life of the stream: when it ends, so does the stream.
	Write(ctx context.Context, open WriteOpen) (WriteStream, error)
}

// WriteStream is one flow written to a sink. Send is for one goroutine, Recv for another. The owner closes it, also after an error.
type WriteStream interface {
	// Send hands over the next frame, in the order that ReadStream gives them, and waits while the sink is behind. The frame belongs
	// to the sink from then on, also after an error. io.EOF means that the sink has ended the stream; Recv says why. An error that
	// wraps ErrUnread is none of the sink's.
	Send(Frame) error
	// Recv returns what the sink says next, and io.EOF after Done. Every other error is an *Error or the end of the context.
	Recv() (Up, error)
	// Close ends the stream and waits until the sink has let go of the flow, or for a bounded time. It is safe to call twice.
	Close() error
}

// ReadOpen begins a read.
type ReadOpen struct {
	Flow    FlowContext
	Address DataAddress
	// ResumeToken is the token of the last Checkpoint that was stored; nil for the beginning.
	ResumeToken []byte
	// Digests wanted in PartEnd. A source computes those it can.
	Digests []Algorithm
	// List asks for PartBegin and PartEnd only.
	List bool
	// Select asks for one part, or a piece of it.
	Select *Selection
	// Request is a request to hand on, to a source whose type proxies. The part that it answers with is read once, whole, and as it comes.
	Request *ProxyRequest
	// Skip names parts that are not to be sent, nor read. The others keep their indexes.
	Skip []string
	// ByReference asks for parts with a Reference, but for those that ByBytes names and one that goes on in its middle.
	ByReference bool
	ByBytes     []string
	// Unread lets Recv give a frame whose payload is still on its way. It is then read by whoever wants it, or never comes into this
	// process, if a sink can be sent it as it is.
	Unread bool
	// Once says that nobody will go on from a place in the middle, nor ask for or acknowledge a Checkpoint: a source can leave them out.
	// The reads of requests are of this kind. They are made to be many and short.
	Once bool
	// Pack, if not nil, makes the source copy records into a Packer, small batches together while the receiver is busy. Without it a
	// batch is the author's memory, lent until it is released.
	Pack func() Packer
}

// Packer gathers records into a Batch. It is not safe for concurrent use.
type Packer interface {
	// Add copies records, or reports false if they do not fit beside those it has. An empty Packer takes any number.
	Add(records []Record) bool
	// Batch returns what was added. The Packer is not used after that.
	Batch() Batch
}

// ErrUnread says that a payload could not be read, see ReadOpen. The next Recv of the stream that it came from says why.
var ErrUnread = errors.New("the payload did not come")

// Selection picks a part, or a piece of it.
type Selection struct {
	Name   string // "" for the only part
	Offset int64
	Length int64 // less than 0: to the end
	// Validator, if not "", has to equal the part's, or the part comes whole, from its start.
	Validator string
}

// WriteOpen begins a write.
type WriteOpen struct {
	Flow    FlowContext
	Address DataAddress
	// ResumeToken is the sink's token that belongs to the checkpoint the source goes on from; nil for the beginning.
	ResumeToken []byte
	Redelivery  bool // see WriteRequest
	// Digests to compute of every part and to compare with those in PartEnd. CRC32C is always computed.
	Digests []Algorithm
}

// Frame is one step of a stream: *PartBegin, *Data, *RecordBatch, *PartEnd, *Checkpoint or *End. Whoever holds a *Data or
// *RecordBatch last releases it, once.
type Frame interface{ frame() }

// PartBegin opens a part.
type PartBegin struct {
	PartInfo
	// Offset is where in the part the data that follows begins.
	Offset int64
}

// Data is a piece of the current part, at most MaxData bytes.
type Data struct{ Payload }

// Payload is a run of bytes that travels without being copied or looked at. It is not safe for concurrent use.
type Payload interface {
	// Len is the number of bytes.
	Len() int
	// WriteTo writes all bytes, in one or several calls of w.Write. It can be called again. What w is given stays valid until
	// Release. Its errors are those of w, and ErrUnread.
	io.WriterTo
	// Release gives the memory back. The payload is not used after that.
	Release()
}

// RecordBatch is some records of the current part.
type RecordBatch struct{ Batch }

// Batch is a run of records that travels without being looked at. It is not safe for concurrent use.
type Batch interface {
	// Len is the number of records.
	Len() int
	// Size is the number of bytes they take on the wire.
	Size() int
	// Records returns them. They are valid until Release.
	Records() ([]Record, error)
	// Release gives the memory back. The batch and its records are not used after that.
	Release()
}

// PartEnd closes a part.
type PartEnd struct {
	// Size and Records count the whole part, with what came before a resume.
	Size    int64
	Records int64
	Digests Digests
	// Trailer is what stood behind the content of a part with a Response.
	Trailer []HeaderField
}

// Checkpoint marks a place from which the stream can be taken up again.
type Checkpoint struct {
	Sequence uint64
	Token    []byte // opaque to all but the source
}

// End says that everything was sent. Inside a part it says to a sink that the part is given up: nothing is to be kept of it, and the
// stream ends with Invalid.
type End struct{ Totals }

// Totals count a flow, or what of it is durable, with what came before a resume.
type Totals struct {
	Parts   int64 `json:"parts"`
	Bytes   int64 `json:"bytes"`
	Records int64 `json:"records"`
}

func (*PartBegin) frame()   {}
func (*Data) frame()        {}
func (*RecordBatch) frame() {}
func (*PartEnd) frame()     {}
func (*Checkpoint) frame()  {}
func (*End) frame()         {}

// Release releases a frame's payload, if it has one. It does nothing for nil.
func Release(f Frame) {
	switch f := f.(type) {
	case *Data:
		f.Payload.Release()
	case *RecordBatch:
		f.Batch.Release()
	}
}

// Up is what a sink says: *Durable, *Blocked, *Copied, *PartWritten or *Done.
type Up interface{ up() }

// Durable says that everything before the Checkpoint with this sequence survives a crash. For the Checkpoint in a part with a Reference
// it is said again whenever more is copied; the last one counts.
type Durable struct {
	Sequence uint64
	Token    []byte // opaque to all but the sink
}

// Blocked says that the sink waits for something outside, or no longer does.
type Blocked struct {
	Blocked bool
	Reason  string
}

// Copied says how much of a part with a Reference is in its place, what an earlier run has copied included; the part's size when all of
// it is.
type Copied struct {
	Index uint64
	Bytes int64
}

// PartWritten is the sink's receipt for a part: complete and durable under its final name.
type PartWritten struct {
	Index    uint64
	Size     int64
	Digests  Digests // of what was written, computed by the sink; of what was copied, as far as the store gives any
	Location string  // for people
}

// Done is the sink's receipt for the flow: everything up to End is durable.
type Done struct{ Totals }

func (*Durable) up()     {}
func (*Blocked) up()     {}
func (*Copied) up()      {}
func (*PartWritten) up() {}
func (*Done) up()        {}

// BytesPayload is a Payload of memory that needs no release.
type BytesPayload []byte

// Len is the number of bytes.
func (b BytesPayload) Len() int { return len(b) }

// WriteTo writes the bytes.
func (b BytesPayload) WriteTo(w io.Writer) (int64, error) {
	n, err := w.Write(b)
	return int64(n), err
}

// Release does nothing.
func (b BytesPayload) Release() {}

// RecordsBatch is a Batch of records in memory.
type RecordsBatch []Record

// Len is the number of records.
func (b RecordsBatch) Len() int { return len(b) }

// Size is about what they take on the wire.
func (b RecordsBatch) Size() int {
	n := 0
	for _, r := range b {
		n += len(r.Key) + len(r.Value) + 16
		for k, v := range r.Headers {
			n += len(k) + len(v) + 8
		}
	}
	return n
}

// Records returns the records.
func (b RecordsBatch) Records() ([]Record, error) { return b, nil }

// Release does nothing.
func (b RecordsBatch) Release() {}

// outstanding counts the Buffers that were taken and not released, for tests that look for leaks.
var outstanding atomic.Int64
