package grpcplugin

import (
	"errors"
	"slices"
	"sync"
	"time"

	"google.golang.org/protobuf/encoding/protowire"

	"github.com/towpath-dataplane/towpath/sdk"
)

// The fields of Record and of an entry of its headers.
const (
	recordField  = protowire.Number(2) // of Records
	valueField   = protowire.Number(1)
	keyField     = protowire.Number(2)
	timeField    = protowire.Number(3)
	headersField = protowire.Number(4)
	entryKey     = protowire.Number(1)
	entryValue   = protowire.Number(2)
)

var errRecords = errors.New("malformed batch of records")

// packer gathers records as a Frame. The encoding is written by hand because the generated code needs an object per record. Lengths
// that are known only at the end have room for the longest.
type packer struct {
	body  body
	bytes []byte // of body, as far as it is filled
	count int
}

// packHeader is the tag and length of the Frame's field, and the tag and value of the batch's count.
const packHeader = 2 * (1 + paddedVarint)

const paddedVarint = 5

func newPacker() sdk.Packer { return &packer{} }

// encodeRecords returns a Frame with these records.
func encodeRecords(records []sdk.Record) sdk.Payload {
	var p packer
	p.Add(records)
	return p.payload()
}

func (p *packer) Add(records []sdk.Record) bool {
	size := 0
	for i := range records {
		size += protowire.SizeTag(recordField) + protowire.SizeBytes(recordSize(&records[i]))
	}
	switch {
	case p.bytes == nil:
		p.body = newBody(packHeader + size)
		p.bytes = p.body.space()[:packHeader]
	case len(p.bytes)+size > cap(p.bytes):
		return false
	}
	for i := range records {
		p.bytes = appendRecord(p.bytes, &records[i])
	}
	p.count += len(records)
	return true
}

func (p *packer) payload() sdk.Payload {
	b := append(p.bytes[:0], byte(protowire.EncodeTag(recordsField, protowire.BytesType)))
	b = appendPadded(b, len(p.bytes)-(1+paddedVarint))
	b = append(b, byte(protowire.EncodeTag(countField, protowire.VarintType)))
	appendPadded(b, p.count)
	p.body.fill(len(p.bytes))
	return p.body.Payload
}

func (p *packer) Batch() sdk.Batch { return &packedBatch{Payload: p.payload(), count: p.count} }

// appendPadded appends a varint of paddedVarint bytes.
func appendPadded(b []byte, n int) []byte {
	return append(b, byte(n)|0x80, byte(n>>7)|0x80, byte(n>>14)|0x80, byte(n>>21)|0x80, byte(n>>28))
}

// packedBatch is records as a Frame that no transport has seen yet.
type packedBatch struct {
	sdk.Payload
	count int
}

func (b *packedBatch) Len() int  { return b.count }
func (b *packedBatch) Size() int { return b.Payload.Len() }

func (b *packedBatch) Records() ([]sdk.Record, error) {
	var whole pieces
	b.WriteTo(&whole)
	records, err := decodeRecords(whole[0])
	return *records, err
}

func recordSize(r *sdk.Record) int {
	size := sizeBytes(len(r.Value)) + sizeBytes(len(r.Key))
	if t := micros(r.Time); t != 0 {
		size += protowire.SizeTag(timeField) + protowire.SizeVarint(uint64(t))
	}
	for k, v := range r.Headers {
		size += protowire.SizeTag(headersField) + protowire.SizeBytes(entrySize(k, v))
	}
	return size
}

// sizeBytes is the size of a field of n bytes with a number below 16; none if it is empty.
func sizeBytes(n int) int {
	if n == 0 {
		return 0
	}
	return 1 + protowire.SizeBytes(n)
}

func entrySize(k string, v []byte) int {
	return 2 + protowire.SizeBytes(len(k)) + protowire.SizeBytes(len(v))
}

func appendRecord(b []byte, r *sdk.Record) []byte {
	b = protowire.AppendTag(b, recordField, protowire.BytesType)
	b = protowire.AppendVarint(b, uint64(recordSize(r)))
	b = appendBytes(b, valueField, r.Value)
	b = appendBytes(b, keyField, r.Key)
	if t := micros(r.Time); t != 0 {
		b = protowire.AppendVarint(protowire.AppendTag(b, timeField, protowire.VarintType), uint64(t))
	}
	for k, v := range r.Headers {
		b = protowire.AppendTag(b, headersField, protowire.BytesType)
		b = protowire.AppendVarint(b, uint64(entrySize(k, v)))
		b = protowire.AppendString(protowire.AppendTag(b, entryKey, protowire.BytesType), k)
		b = protowire.AppendBytes(protowire.AppendTag(b, entryValue, protowire.BytesType), v)
	}
	return b
}

func appendBytes(b []byte, field protowire.Number, v []byte) []byte {
	if len(v) == 0 {
		return b
	}
	return protowire.AppendBytes(protowire.AppendTag(b, field, protowire.BytesType), v)
}

func micros(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.UnixMicro()
}

// recordSlices are those that decodeRecords fills.
var recordSlices = sync.Pool{New: func() any { return new([]sdk.Record) }}

// mostSpareRecords bounds what one slice keeps.
const mostSpareRecords = 4096

func releaseRecords(records *[]sdk.Record) {
	if records == nil || cap(*records) > mostSpareRecords {
		return
	}
	clear(*records)
	*records = (*records)[:0]
	recordSlices.Put(records)
}

// decodeRecords returns the records of a Frame. They point into frame. The caller can give the slice back to releaseRecords.
func decodeRecords(frame []byte) (*[]sdk.Record, error) {
	records := recordSlices.Get().(*[]sdk.Record)
	_, _, n := protowire.ConsumeTag(frame)
	if n < 0 {
		return records, errRecords
	}
	body, m := protowire.ConsumeBytes(frame[n:])
	if m < 0 {
		return records, errRecords
	}
	return records, eachField(body, func(field protowire.Number, value []byte, number uint64) error {
		switch field {
		case countField:
			// A count that is wrong is found by whoever compares; one that is absurd must not cost memory.
			*records = slices.Grow(*records, int(min(number, uint64(len(body))/2)))
		case recordField:
			*records = append(*records, sdk.Record{})
			return decodeRecord(value, &(*records)[len(*records)-1])
		}
		return nil
	})
}

func decodeRecord(b []byte, r *sdk.Record) error {
	return eachField(b, func(field protowire.Number, value []byte, number uint64) error {
		switch field {
		case valueField:
			r.Value = value
		case keyField:
			r.Key = value
		case timeField:
			r.Time = time.UnixMicro(int64(number)).UTC()
		case headersField:
			return decodeHeader(r, value)
		}
		return nil
	})
}

func decodeHeader(r *sdk.Record, entry []byte) error {
	var key string
	var value []byte
	err := eachField(entry, func(field protowire.Number, v []byte, _ uint64) error {
		switch field {
		case entryKey:
			key = string(v)
		case entryValue:
			value = v
		}
		return nil
	})
	if r.Headers == nil {
		r.Headers = map[string][]byte{}
	}
	r.Headers[key] = value
	return err
}

// eachField calls f with every field of a message: value for those that are length-delimited, number for varints.
func eachField(b []byte, f func(field protowire.Number, value []byte, number uint64) error) error {
	for len(b) > 0 {
		field, kind, n := protowire.ConsumeTag(b)
		if n < 0 {
			return errRecords
		}
		b = b[n:]
		var value []byte
		var number uint64
		switch kind {
		case protowire.BytesType:
			value, n = protowire.ConsumeBytes(b)
		case protowire.VarintType:
			number, n = protowire.ConsumeVarint(b)
		default:
			n = protowire.ConsumeFieldValue(field, kind, b)
		}
		if n < 0 {
			return errRecords
		}
		b = b[n:]
		if err := f(field, value, number); err != nil {
			return err
		}
	}
	return nil
}
