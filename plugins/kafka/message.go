package main

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/towpath-dataplane/towpath/sdk"
)

// Header fields of a record that are about the message it was or becomes. A sink takes them out.
const (
	// placeHeader says where a message was, as partition:offset. It tells a sink that writes in transactions which records it has.
	placeHeader = "towpath-place"
	// nullHeader says that a message has no value, which is not the same as an empty one: it deletes its key from compacted topics.
	nullHeader = "towpath-null"
	// partHeader is the name of the part of bytes that a message is. It is a header field of the message.
	partHeader = "towpath-part"
	// mediaTypeHeader is its media type.
	mediaTypeHeader = "content-type"
)

// recordOf returns a message as a record. It points into the message.
func recordOf(m *kgo.Record, lastHeader bool) (sdk.Record, error) {
	headers := make(map[string][]byte, len(m.Headers)+1)
	for _, h := range m.Headers {
		if h.Key == placeHeader || h.Key == nullHeader {
			continue
		}
		if _, twice := headers[h.Key]; twice && !lastHeader {
			return sdk.Record{}, sdk.Errorf(sdk.Unsupported, "the message at offset %d of partition %d has more than one header %q; repeatedHeaders says "+
				"what to do", m.Offset, m.Partition, h.Key)
		}
		headers[h.Key] = h.Value
	}
	place := make([]byte, 0, 24)
	place = append(strconv.AppendInt(place, int64(m.Partition), 10), ':')
	headers[placeHeader] = strconv.AppendInt(place, m.Offset, 10)
	if m.Value == nil {
		headers[nullHeader] = nil
	}
	return sdk.Record{Key: m.Key, Value: m.Value, Time: m.Timestamp, Headers: headers}, nil
}

// sizeOf is about what a message takes.
func sizeOf(m *kgo.Record) int {
	n := len(m.Key) + len(m.Value) + 64
	for _, h := range m.Headers {
		n += len(h.Key) + len(h.Value) + 8
	}
	return n
}

// messageOf returns a record as a message, which shares nothing with it. An empty key is none.
func messageOf(r sdk.Record) *kgo.Record {
	n := len(r.Key) + len(r.Value)
	for _, v := range r.Headers {
		n += len(v)
	}
	memory := make([]byte, 0, n)
	own := func(b []byte) []byte {
		start := len(memory)
		memory = append(memory, b...)
		return memory[start:len(memory):len(memory)]
	}
	m := &kgo.Record{Timestamp: r.Time}
	if len(r.Key) > 0 {
		m.Key = own(r.Key)
	}
	if _, null := r.Headers[nullHeader]; !null || len(r.Value) > 0 {
		m.Value = own(r.Value)
	}
	for _, name := range slices.Sorted(maps.Keys(r.Headers)) {
		if name != placeHeader && name != nullHeader {
			m.Headers = append(m.Headers, kgo.RecordHeader{Key: name, Value: own(r.Headers[name])})
		}
	}
	return m
}

// placeOf returns where the message that a record was had been. ok is false if the record does not say.
func placeOf(r sdk.Record) (partition int32, offset int64, ok bool, err error) {
	text, ok := r.Headers[placeHeader]
	if !ok {
		return 0, 0, false, nil
	}
	before, after, _ := strings.Cut(string(text), ":")
	p, err := strconv.ParseInt(before, 10, 32)
	n, offsetErr := strconv.ParseInt(after, 10, 64)
	if err != nil || offsetErr != nil || p < 0 || n < 0 {
		return 0, 0, false, sdk.Errorf(sdk.Invalid, "header %s of a record is %q, not partition:offset", placeHeader, fmt.Sprintf("%.40s", text))
	}
	return int32(p), n, true, nil
}
