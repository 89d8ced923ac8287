package grpcplugin

import (
	"errors"
	"slices"
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

// encodeRecords returns a Frame with these records. It is written by hand because the generated code needs an object per record.
func encodeRecords(records []sdk.Record) sdk.Payload {
	size := protowire.SizeTag(countField) + protowire.SizeVarint(uint64(len(records)))
	for i := range records {
		size += protowire.SizeTag(recordField) + protowire.SizeBytes(recordSize(&records[i]))
	}
	out := newBody(protowire.SizeTag(recordsField) + protowire.SizeBytes(size))
	b := out.withHeader([itemHeader]byte{})[:itemHeader]
	b = protowire.AppendTag(b, recordsField, protowire.BytesType)
	b = protowire.AppendVarint(b, uint64(size))
	b = protowire.AppendTag(b, countField, protowire.VarintType)
	b = protowire.AppendVarint(b, uint64(len(records)))
	for i := range records {
		b = appendRecord(b, &records[i])
	}
	return out.Payload
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

// decodeRecords returns the records of a Frame. They point into frame.
func decodeRecords(frame []byte) ([]sdk.Record, error) {
	_, _, n := protowire.ConsumeTag(frame)
	if n < 0 {
		return nil, errRecords
	}
	body, m := protowire.ConsumeBytes(frame[n:])
	if m < 0 {
		return nil, errRecords
	}
	var records []sdk.Record
	err := eachField(body, func(field protowire.Number, value []byte, number uint64) error {
		switch field {
		case countField:
			// A count that is wrong is found by whoever compares; one that is absurd must not cost memory.
			records = slices.Grow(records, int(min(number, uint64(len(body))/2)))
		case recordField:
			r, err := decodeRecord(value)
			if err != nil {
				return err
			}
			records = append(records, r)
		}
		return nil
	})
	return records, err
}

func decodeRecord(b []byte) (sdk.Record, error) {
	var r sdk.Record
	err := eachField(b, func(field protowire.Number, value []byte, number uint64) error {
		switch field {
		case valueField:
			r.Value = value
		case keyField:
			r.Key = value
		case timeField:
			r.Time = time.UnixMicro(int64(number)).UTC()
		case headersField:
			return decodeHeader(&r, value)
		}
		return nil
	})
	return r, err
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
