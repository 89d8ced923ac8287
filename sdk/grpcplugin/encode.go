package grpcplugin

import (
	"maps"
	"math"
	"slices"
	"time"
	"unicode/utf8"

	"google.golang.org/grpc/mem"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"

	pluginv1 "github.com/towpath-dataplane/towpath/proto/towpath/plugin/v1"
	"github.com/towpath-dataplane/towpath/sdk"
)

// What an order and an answer are made of is encoded and decoded by hand where it is the same in most of them: the generated code takes
// several times as long. On the wire there is no difference.

func appendString(b []byte, field protowire.Number, s string) []byte {
	if s == "" {
		return b
	}
	return protowire.AppendString(protowire.AppendTag(b, field, protowire.BytesType), s)
}

func appendNumber(b []byte, field protowire.Number, n uint64) []byte {
	if n == 0 {
		return b
	}
	return appendOptional(b, field, n)
}

func appendOptional(b []byte, field protowire.Number, n uint64) []byte {
	return protowire.AppendVarint(protowire.AppendTag(b, field, protowire.VarintType), n)
}

func appendBool(b []byte, field protowire.Number, v bool) []byte {
	return appendNumber(b, field, protowire.EncodeBool(v))
}

// openField appends the head of a field that is a message. What is appended to the result is the message, until closeField.
func openField(b []byte, field protowire.Number) (_ []byte, at int) {
	b = appendPadded(protowire.AppendTag(b, field, protowire.BytesType), 0)
	return b, len(b)
}

func closeField(b []byte, at int) []byte {
	appendPadded(b[:at-paddedVarint], len(b)-at)
	return b
}

func appendStrings(b []byte, field protowire.Number, all []string) []byte {
	for _, s := range all {
		b = protowire.AppendString(protowire.AppendTag(b, field, protowire.BytesType), s)
	}
	return b
}

// appendMap appends a map, in the order of its keys: what is the same looks the same.
func appendMap(b []byte, field protowire.Number, m map[string]string) []byte {
	one := func(k, v string) {
		var at int
		b, at = openField(b, field)
		b = closeField(appendString(appendString(b, 1, k), 2, v), at)
	}
	if len(m) == 1 {
		for k, v := range m {
			one(k, v)
		}
		return b
	}
	for _, k := range slices.Sorted(maps.Keys(m)) {
		one(k, m[k])
	}
	return b
}

// appendReadOpen appends a ReadOpen that has neither a request nor a lane.
func appendReadOpen(b []byte, o *sdk.ReadOpen) []byte {
	b, at := openField(b, 1)
	f := &o.Flow
	for i, s := range [...]string{f.ParticipantContext, f.ID, f.ParticipantID, f.CounterPartyID, f.AgreementID, f.DatasetID, f.Profile} {
		b = appendString(b, protowire.Number(i+1), s)
	}
	b = closeField(appendStrings(b, 8, f.Labels), at)
	b, at = openField(b, 2)
	b = appendString(appendString(b, 1, o.Address.Type), 2, o.Address.Endpoint)
	b = closeField(appendMap(b, 3, o.Address.Properties), at)
	b = appendBytes(b, 3, o.ResumeToken)
	for _, a := range o.Digests {
		b = appendOptional(b, 4, uint64(algorithmToProto(a)))
	}
	b = appendBool(b, 6, o.List)
	if s := o.Select; s != nil {
		b, at = openField(b, 7)
		b = appendNumber(appendString(b, 1, s.Name), 2, uint64(s.Offset))
		if s.Length >= 0 {
			b = appendOptional(b, 3, uint64(s.Length))
		}
		b = closeField(appendString(b, 4, s.Validator), at)
	}
	b = appendNumber(b, 8, sdk.MaxData)
	b = appendBool(appendStrings(b, 10, o.Skip), 11, o.ByReference)
	return appendBool(appendStrings(b, 12, o.ByBytes), 13, o.Once)
}

// The fields of Frame that are most of an answer, besides those that pass undecoded.
const (
	partBeginField = protowire.Number(3)
	partEndField   = protowire.Number(4)
	endField       = protowire.Number(6)
)

// appendFrame appends a Frame. It sees to the frame's memory.
func appendFrame(b []byte, m *message) ([]byte, error) {
	at := 0
	switch f := m.frame.(type) {
	case *sdk.Data:
		defer f.Release()
		return appendPayload(dataHeader(b, f.Len()), f)
	case *sdk.RecordBatch:
		encoded, err := encodedBatch(f.Batch)
		if err != nil {
			return b, err
		}
		defer encoded.Release()
		return appendPayload(b, encoded)
	case *sdk.PartBegin:
		b, at = openField(b, partBeginField)
		return closeField(appendPart(b, f), at), nil
	case *sdk.PartEnd:
		b, at = openField(b, partEndField)
		b = appendNumber(b, 1, uint64(f.Size))
		for _, a := range sdk.Algorithms() {
			if v := f.Digests[a]; v != nil {
				var in int
				b, in = openField(b, 2)
				b = closeField(appendBytes(appendNumber(b, 1, uint64(algorithmToProto(a))), 2, v), in)
			}
		}
		return closeField(appendNumber(b, 3, uint64(f.Records)), at), nil
	case *sdk.End:
		b, at = openField(b, endField)
		return closeField(appendNumber(appendNumber(appendNumber(b, 1, uint64(f.Parts)), 2, uint64(f.Bytes)), 3, uint64(f.Records)), at), nil
	}
	return proto.MarshalOptions{}.MarshalAppend(b, frameToProto(m))
}

func appendPayload(b []byte, p sdk.Payload) ([]byte, error) {
	_, err := p.WriteTo((*appendWriter)(&b))
	return b, err
}

func appendPart(b []byte, f *sdk.PartBegin) []byte {
	b = appendString(appendString(appendNumber(b, 1, f.Index), 2, text(f.Name)), 3, text(f.MediaType))
	if f.Size >= 0 {
		b = appendOptional(b, 4, uint64(f.Size))
	}
	if !f.Modified.IsZero() {
		var at int
		b, at = openField(b, 5)
		b = closeField(appendNumber(appendNumber(b, 1, uint64(f.Modified.Unix())), 2, uint64(f.Modified.Nanosecond())), at)
	}
	if len(f.Properties) > 0 {
		b = appendMap(b, 6, texts(f.Properties))
	}
	b = appendBool(appendString(appendNumber(b, 7, uint64(f.Offset)), 8, text(f.Validator)), 9, f.Records)
	b = appendNumber(appendNumber(b, 10, uint64(max(f.TotalParts, 0))), 11, uint64(max(f.TotalBytes, 0)))
	return appendBytes(b, 12, f.Reference)
}

func texts(m map[string]string) map[string]string {
	out := make(map[string]string, len(m))
	for k, v := range m {
		out[text(k)] = text(v)
	}
	return out
}

// decodeFrame reads a frame, which may go on pointing into b.
func decodeFrame(b []byte) (m message, err error) {
	if field, kind, n := protowire.ConsumeTag(b); n > 0 && kind == protowire.BytesType {
		if body, size := protowire.ConsumeBytes(b[n:]); size == len(b)-n {
			if m.frame = decodeUsual(field, body, b); m.frame != nil {
				return m, nil
			}
		}
	}
	var f pluginv1.Frame
	if err := proto.Unmarshal(b, &f); err != nil {
		return m, err
	}
	if d, ok := f.Kind.(*pluginv1.Frame_Data); ok && len(d.Data) > 0 && len(d.Data) <= sdk.MaxData {
		return message{frame: &sdk.Data{Payload: sdk.BytesPayload(d.Data)}}, nil
	}
	return m, m.fromProto(&f)
}

// decodeUsual reads a frame of which body is all, or returns nil: it is one for the generated code.
func decodeUsual(field protowire.Number, body, whole []byte) sdk.Frame {
	f := fields{rest: body}
	switch field {
	case dataField:
		if len(body) > 0 && len(body) <= sdk.MaxData {
			return &sdk.Data{Payload: sdk.BytesPayload(body)}
		}
	case recordsField:
		if batch, err := newWireBatch(mem.BufferSlice{mem.SliceBuffer(whole)}, len(whole)-len(body)); err == nil {
			return &sdk.RecordBatch{Batch: batch}
		}
	case partBeginField:
		if p := f.part(); !f.unusual {
			return p
		}
	case partEndField:
		if p := f.partEnd(); !f.unusual {
			return p
		}
	case endField:
		if e := f.end(); !f.unusual {
			return e
		}
	}
	return nil
}

// fields reads a message, field by field.
type fields struct {
	rest    []byte
	unusual bool // it is not what one encodes who has no more to say than this side knows

	field  protowire.Number
	seen   uint64 // bits by field
	number uint64 // of a varint
	bytes  []byte // of what has a length
}

// next reports whether there is another field, which is not there twice unless it is that one. There is none behind what is unusual.
func (f *fields) next(repeated protowire.Number) bool {
	if len(f.rest) == 0 || f.unusual {
		return false
	}
	field, kind, n := protowire.ConsumeTag(f.rest)
	if n < 0 || field > 63 || field != repeated && f.seen&(1<<field) != 0 {
		f.unusual = true
		return false
	}
	m := -1
	f.field, f.seen, f.number, f.bytes = field, f.seen|1<<field, 0, nil
	switch kind {
	case protowire.VarintType:
		f.number, m = protowire.ConsumeVarint(f.rest[n:])
	case protowire.BytesType:
		f.bytes, m = protowire.ConsumeBytes(f.rest[n:])
		if f.bytes == nil {
			m = -1
		}
	}
	f.unusual = m < 0
	if !f.unusual {
		f.rest = f.rest[n+m:]
	}
	return !f.unusual
}

// varint is the field's number, text and content its bytes. It is unusual if it has another form.
func (f *fields) varint() uint64 {
	f.unusual = f.unusual || f.bytes != nil
	return f.number
}

func (f *fields) content() []byte {
	f.unusual = f.unusual || f.bytes == nil
	return f.bytes
}

func (f *fields) text() string {
	b := f.content()
	f.unusual = f.unusual || !utf8.Valid(b)
	return string(b)
}

func (f *fields) part() *sdk.PartBegin {
	p := &sdk.PartBegin{PartInfo: sdk.PartInfo{Size: sdk.SizeUnknown}}
	for f.next(0) {
		switch f.field {
		case 1:
			p.Index = f.varint()
		case 2:
			p.Name = f.text()
		case 3:
			p.MediaType = f.text()
		case 4:
			p.Size = int64(f.varint())
		case 5:
			p.Modified = f.time()
		case 7:
			p.Offset = int64(f.varint())
		case 8:
			p.Validator = f.text()
		case 9:
			p.Records = protowire.DecodeBool(f.varint())
		case 10:
			p.TotalParts = int(f.varint())
		case 11:
			p.TotalBytes = int64(min(f.varint(), math.MaxInt64))
		default:
			f.unusual = true
		}
	}
	return p
}

func (f *fields) time() time.Time {
	in := fields{rest: f.content()}
	var seconds, nanos uint64
	for in.next(0) {
		switch in.field {
		case 1:
			seconds = in.varint()
		case 2:
			nanos = in.varint()
		default:
			in.unusual = true
		}
	}
	f.unusual = f.unusual || in.unusual
	return time.Unix(int64(seconds), int64(int32(nanos))).UTC()
}

func (f *fields) partEnd() *sdk.PartEnd {
	e := &sdk.PartEnd{Digests: sdk.Digests{}}
	for f.next(2) {
		switch f.field {
		case 1:
			e.Size = int64(f.varint())
		case 2:
			f.digest(e.Digests)
		case 3:
			e.Records = int64(f.varint())
		default:
			f.unusual = true
		}
	}
	return e
}

func (f *fields) digest(all sdk.Digests) {
	in := fields{rest: f.content()}
	var algorithm uint64
	var value []byte
	for in.next(0) {
		switch in.field {
		case 1:
			algorithm = in.varint()
		case 2:
			value = in.content()
		default:
			in.unusual = true
		}
	}
	f.unusual = f.unusual || in.unusual
	if a, ok := algorithms[pluginv1.DigestAlgorithm(algorithm)]; ok {
		all[a] = value
	}
}

func (f *fields) end() *sdk.End {
	e := &sdk.End{}
	for f.next(0) {
		switch f.field {
		case 1:
			e.Parts = int64(f.varint())
		case 2:
			e.Bytes = int64(f.varint())
		case 3:
			e.Records = int64(f.varint())
		default:
			f.unusual = true
		}
	}
	return e
}
