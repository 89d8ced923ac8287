package grpcplugin

import (
	"fmt"
	"io"

	"google.golang.org/grpc/encoding"
	_ "google.golang.org/grpc/encoding/proto" // registers the codec for ordinary messages
	"google.golang.org/grpc/mem"
	"google.golang.org/protobuf/encoding/protowire"

	pluginv1 "github.com/towpath-dataplane/towpath/proto/towpath/plugin/v1"
	"github.com/towpath-dataplane/towpath/sdk"
)

// The fields of Frame that pass undecoded.
const (
	dataField    = protowire.Number(1)
	recordsField = protowire.Number(2)
	countField   = protowire.Number(1) // of Records
	maxHeader    = 1 + 5               // tag and length of such a field
)

// message is a Frame on its way through gRPC: what SendMsg and RecvMsg are given instead of *pluginv1.Frame.
type message struct {
	frame sdk.Frame
	open  *pluginv1.WriteOpen // instead of frame: the first message to a sink
	lane  bool                // instead of frame: the lane begins
	err   *sdk.Error          // instead of frame: the last message of a source that failed
	taken bool                // Marshal has taken over the frame's memory
}

// codec passes Data and RecordBatch frames through as the buffers they came in. It keeps the name of protobuf's codec: on the wire
// there is no difference.
type codec struct{ encoding.CodecV2 }

func newCodec() codec { return codec{encoding.GetCodecV2("proto")} }

func (c codec) Marshal(v any) (mem.BufferSlice, error) {
	m, ok := v.(*message)
	if !ok {
		if e, ok := v.(*rawMessage); ok {
			return e.marshal(), nil
		}
		return c.CodecV2.Marshal(v)
	}
	m.taken = true
	switch f := m.frame.(type) {
	case *sdk.Data:
		return marshalData(f.Payload)
	case *sdk.RecordBatch:
		return marshalBatch(f.Batch)
	}
	return c.CodecV2.Marshal(frameToProto(m))
}

func marshalData(p sdk.Payload) (mem.BufferSlice, error) {
	switch p := p.(type) {
	case *wirePayload:
		return p.take(), nil
	case *sdk.Buffer:
		return mem.BufferSlice{lend(p, dataHeader(make([]byte, 0, maxHeader), p.Len()))}, nil
	}
	defer p.Release()
	if p.Len() > sdk.MaxData {
		return nil, sdk.Errorf(sdk.Internal, "a data frame of %d bytes is more than %d", p.Len(), sdk.MaxData)
	}
	pool := mem.DefaultBufferPool()
	whole := pool.Get(maxHeader + p.Len())
	out := appendWriter(dataHeader((*whole)[:0], p.Len()))
	if _, err := p.WriteTo(&out); err != nil {
		return nil, err
	}
	*whole = out
	return mem.BufferSlice{mem.NewBuffer(whole, pool)}, nil
}

type appendWriter []byte

func (a *appendWriter) Write(b []byte) (int, error) {
	*a = append(*a, b...)
	return len(b), nil
}

func dataHeader(b []byte, n int) []byte {
	return protowire.AppendVarint(protowire.AppendTag(b, dataField, protowire.BytesType), uint64(n))
}

// lent is a sdk.Buffer that gRPC holds until it has written it. It stands in for the pool to which gRPC returns the memory.
type lent struct {
	buffer *sdk.Buffer
	bytes  []byte
}

func lend(b *sdk.Buffer, header []byte) mem.Buffer {
	l := &lent{buffer: b, bytes: b.WithHeader(header)}
	return mem.NewBuffer(&l.bytes, l)
}

func (l *lent) Get(int) *[]byte { panic("not a pool to take from") }
func (l *lent) Put(*[]byte)     { l.buffer.Release() }

func marshalBatch(b sdk.Batch) (mem.BufferSlice, error) {
	if w, ok := b.(*wireBatch); ok {
		return w.take(), nil
	}
	body, err := encodedBatch(b)
	if err != nil {
		return nil, err
	}
	return wire(body), nil
}

// encodedBatch returns a batch as a Frame, and releases it.
func encodedBatch(b sdk.Batch) (sdk.Payload, error) {
	switch b := b.(type) {
	case *wireBatch:
		raw := b.take()
		return &wirePayload{raw: raw, size: raw.Len()}, nil
	case *packedBatch:
		return b.Payload, nil
	}
	defer b.Release()
	records, err := b.Records()
	if err != nil {
		return nil, err
	}
	return encodeRecords(records), nil
}

func (c codec) Unmarshal(data mem.BufferSlice, v any) error {
	m, ok := v.(*message)
	if !ok {
		if e, ok := v.(*rawMessage); ok {
			e.bytes = data.Materialize()
			return nil
		}
		return c.CodecV2.Unmarshal(data, v)
	}
	field, header, body := peek(data)
	switch {
	case field == dataField && body > 0 && body <= sdk.MaxData:
		m.frame = &sdk.Data{Payload: newWirePayload(data, header, body)}
		return nil
	case field == recordsField:
		batch, err := newWireBatch(data, header)
		if err != nil {
			return err
		}
		m.frame = &sdk.RecordBatch{Batch: batch}
		return nil
	case field == dataField:
		return fmt.Errorf("a data frame of %d bytes: at least 1 and at most %d are allowed", body, sdk.MaxData)
	}
	var f pluginv1.Frame
	if err := c.CodecV2.Unmarshal(data, &f); err != nil {
		return err
	}
	return m.fromProto(&f)
}

// peek returns the field that makes up the whole message, the length of its header and of its body, or 0 if the message is not made
// of one length-delimited field alone.
func peek(data mem.BufferSlice) (field protowire.Number, header, body int) {
	var space [maxHeader]byte
	head := prefix(data, space[:])
	number, kind, tagLen := protowire.ConsumeTag(head)
	if tagLen < 0 || kind != protowire.BytesType {
		return 0, 0, 0
	}
	size, sizeLen := protowire.ConsumeVarint(head[tagLen:])
	if sizeLen < 0 || uint64(tagLen+sizeLen)+size != uint64(data.Len()) {
		return 0, 0, 0
	}
	return number, tagLen + sizeLen, int(size)
}

// prefix copies the first bytes of data into space, as many as there are and fit.
func prefix(data mem.BufferSlice, space []byte) []byte {
	n := 0
	for _, b := range data {
		if n == len(space) {
			break
		}
		n += copy(space[n:], b.ReadOnlyData())
	}
	return space[:n]
}

// wirePayload is the payload of a Data frame in the buffers that the transport received it in, header included.
type wirePayload struct {
	raw    mem.BufferSlice
	header int
	size   int
}

func newWirePayload(data mem.BufferSlice, header, size int) *wirePayload {
	return &wirePayload{raw: hold(data), header: header, size: size}
}

// hold keeps the buffers of a received message beyond Unmarshal. The slice itself is gRPC's, so it is copied.
func hold(data mem.BufferSlice) mem.BufferSlice {
	data.Ref()
	return append(mem.BufferSlice(nil), data...)
}

func (p *wirePayload) Len() int { return p.size }

func (p *wirePayload) WriteTo(w io.Writer) (int64, error) {
	skip, n := p.header, int64(0)
	for _, b := range p.raw {
		piece := b.ReadOnlyData()
		if skip >= len(piece) {
			skip -= len(piece)
			continue
		}
		m, err := w.Write(piece[skip:])
		n, skip = n+int64(m), 0
		if err != nil {
			return n, err
		}
	}
	return n, nil
}

func (p *wirePayload) Release() { p.take().Free() }

// take hands over the message as it was received.
func (p *wirePayload) take() mem.BufferSlice {
	raw := p.raw
	p.raw = nil
	return raw
}

// wireBatch is a Records frame in the buffers that the transport received it in.
type wireBatch struct {
	raw     mem.BufferSlice
	count   int
	records *[]sdk.Record // nil until someone asks
	decoded sdk.Payload   // what records point into, if raw is in pieces
}

func newWireBatch(data mem.BufferSlice, header int) (*wireBatch, error) {
	b := &wireBatch{raw: hold(data)}
	count, ok := peekCount(data, header)
	if !ok {
		// The sender did not put the count first.
		records, err := b.Records()
		if err != nil {
			b.Release()
			return nil, err
		}
		count = len(records)
	}
	b.count = count
	return b, nil
}

func peekCount(data mem.BufferSlice, header int) (int, bool) {
	var space [2 * maxHeader]byte
	head := prefix(data, space[:])
	head = head[min(header, len(head)):]
	number, kind, n := protowire.ConsumeTag(head)
	if n < 0 || number != countField || kind != protowire.VarintType {
		return 0, false
	}
	count, m := protowire.ConsumeVarint(head[n:])
	return int(count), m >= 0 && count <= sdk.MaxData
}

func (b *wireBatch) Len() int  { return b.count }
func (b *wireBatch) Size() int { return b.raw.Len() }

func (b *wireBatch) Records() ([]sdk.Record, error) {
	if b.records != nil {
		return *b.records, nil
	}
	records, err := decodeRecords(b.whole())
	if err == nil && b.count != 0 && len(*records) != b.count {
		err = fmt.Errorf("a batch of %d records has %d", b.count, len(*records))
	}
	b.records = records
	return *records, err
}

// whole returns the message in one piece.
func (b *wireBatch) whole() []byte {
	if len(b.raw) == 1 {
		return b.raw[0].ReadOnlyData()
	}
	body := newBody(b.raw.Len())
	n := b.raw.CopyTo(body.space())
	body.fill(n)
	b.decoded = body.Payload
	return body.space()[:n]
}

func (b *wireBatch) Release() { b.take().Free() }

func (b *wireBatch) take() mem.BufferSlice {
	raw := b.raw
	if b.decoded != nil {
		b.decoded.Release()
	}
	releaseRecords(b.records)
	b.raw, b.decoded, b.records = nil, nil, nil
	return raw
}
