package sdk

import (
	"io"
)

// IncomingPart is a part on its way into a Sink. Read and WriteTo give its bytes; io.EOF comes only when the part is whole: its size
// is the one announced and its digests are right. It is used by the goroutine that ranges over the parts, and those it starts for
// the time of one part; never by two at once.
type IncomingPart struct {
	PartInfo
	// Offset is where in the part the bytes begin: more than 0 only if an earlier run gave a checkpoint inside the part. Of a part with a
	// Reference it is what an earlier run has copied.
	Offset int64
	// Token is what that run's checkpoint function returned, or what it gave to Copied.
	Token []byte

	body       *incomingBody
	copying    *copying // nil for a part without a Reference
	checkpoint func() ([]byte, error)
	committed  bool
	location   string
}

// Read gives the next bytes. See IncomingPart for errors; ErrInterrupted means that the flow was cut and may go on later.
func (p *IncomingPart) Read(b []byte) (int, error) { return p.body.read(b) }

// WriteTo writes all bytes to w, without copying them first. io.Copy uses it.
func (p *IncomingPart) WriteTo(w io.Writer) (int64, error) { return p.body.writeTo(w) }

// NextRecords returns the next batch of a part that carries records; io.EOF when the part is whole. The batch is valid until the
// next call.
func (p *IncomingPart) NextRecords() ([]Record, error) { return p.body.nextRecords() }

// OnCheckpoint makes the part continuable in its middle. f makes durable what Read or NextRecords has given so far and returns a
// token, which comes back as Token, with Offset, when the flow goes on. f is called from inside Read, WriteTo and NextRecords.
func (p *IncomingPart) OnCheckpoint(f func() (token []byte, err error)) { p.checkpoint = f }

// Commit says that the part is durable under its final name, before Write returns. location is for people and has no secrets. A
// sink whose parts become durable only together does not call it.
func (p *IncomingPart) Commit(location string) { p.committed, p.location = true, location }
