package main

import (
	"encoding/base64"
	"encoding/binary"
	"maps"
	"slices"

	"github.com/towpath-dataplane/towpath/sdk"
)

// place is how much of a flow a sink has written.
//
// A sink that writes in transactions commits its place with them. What it is sent again after a crash it knows by the places that records
// bring along (see placeHeader), in whatever order partitions come; records that bring none come in the same order again, as the
// contract of a source says, and are counted.
type place struct {
	part    uint64          // index of the part that is being written, or comes next
	records int64           // of it
	lanes   map[int32]int64 // by partition that records of it come from: offset behind the last
}

// placeVersion is the first byte of a place.
const placeVersion = 1

// maxPlace is what brokers keep beside an offset.
const maxPlace = 4096

func (p place) encode() []byte {
	b := []byte{placeVersion}
	b = binary.AppendUvarint(b, p.part)
	b = binary.AppendUvarint(b, uint64(p.records))
	b = binary.AppendUvarint(b, uint64(len(p.lanes)))
	last := int32(0)
	for _, n := range slices.Sorted(maps.Keys(p.lanes)) {
		b = binary.AppendUvarint(b, uint64(n-last))
		b = binary.AppendUvarint(b, uint64(p.lanes[n]))
		last = n
	}
	return b
}

func decodePlace(token []byte) (place, error) {
	d := decoder{rest: token}
	if d.byte() != placeVersion {
		return place{}, errPlace()
	}
	p := place{part: d.number(1<<64 - 1), records: d.offset(), lanes: map[int32]int64{}}
	last := int64(0)
	for i := range d.count() {
		step := int64(d.partition())
		if last += step; last > 1<<31-1 || i > 0 && step == 0 {
			d.failed = true
			break
		}
		p.lanes[int32(last)] = d.offset()
	}
	if d.failed || len(d.rest) > 0 {
		return place{}, errPlace()
	}
	return p, nil
}

func errPlace() error { return sdk.Errorf(sdk.Invalid, "this is not a resume token of this sink") }

// text is the place as brokers keep it.
func (p place) text() (string, error) {
	text := base64.RawStdEncoding.EncodeToString(p.encode())
	if len(text) > maxPlace {
		return "", sdk.Errorf(sdk.Exhausted, "records come from %d partitions, more than the brokers can keep places of; write without transactional",
			len(p.lanes))
	}
	return text, nil
}

func parsePlace(text string) (place, error) {
	b, err := base64.RawStdEncoding.DecodeString(text)
	if err != nil {
		return place{}, errPlace()
	}
	return decodePlace(b)
}

// before reports whether p is before other.
func (p place) before(other place) bool {
	return p.part < other.part || p.part == other.part && p.records < other.records
}

func (p place) clone() place {
	p.lanes = maps.Clone(p.lanes)
	return p
}
