package main

import (
	"encoding/binary"
	"maps"
	"slices"

	"github.com/towpath-dataplane/towpath/sdk"
)

// lane is how far a partition was read.
type lane struct {
	next int64 // offset of the message to read next
	stop int64 // offset of the first message that is not read; noStop for none
}

const noStop = -1

func (l lane) ended() bool { return l.stop != noStop && l.next >= l.stop }

// mark is a place in a topic, and what a reader's token says.
type mark struct {
	topic [16]byte // ID of the topic, all zero if the brokers have none
	lanes map[int32]lane
}

// tokenVersion is the first byte of a token.
const tokenVersion = 1

func (m mark) encode() []byte {
	b := make([]byte, 0, 20+12*len(m.lanes))
	b = append(b, tokenVersion)
	b = append(b, m.topic[:]...)
	b = binary.AppendUvarint(b, uint64(len(m.lanes)))
	for _, p := range slices.Sorted(maps.Keys(m.lanes)) {
		l := m.lanes[p]
		b = binary.AppendUvarint(b, uint64(p))
		b = binary.AppendUvarint(b, uint64(l.next))
		b = binary.AppendUvarint(b, uint64(l.stop+1))
	}
	return b
}

func decodeMark(token []byte) (mark, error) {
	d := decoder{rest: token}
	if d.byte() != tokenVersion {
		return mark{}, errToken()
	}
	m := mark{lanes: map[int32]lane{}}
	copy(m.topic[:], d.bytes(len(m.topic)))
	for range d.count() {
		p, l := d.partition(), lane{next: d.offset()}
		l.stop = d.offset() - 1
		if _, twice := m.lanes[p]; twice {
			d.failed = true
		}
		m.lanes[p] = l
	}
	if d.failed || len(d.rest) > 0 {
		return mark{}, errToken()
	}
	return m, nil
}

func errToken() error { return sdk.Errorf(sdk.Invalid, "this is not a resume token of this source") }

// decoder takes a token apart. After a failure it gives zeros.
type decoder struct {
	rest   []byte
	failed bool
}

func (d *decoder) bytes(n int) []byte {
	if len(d.rest) < n {
		d.failed, d.rest = true, nil
		return nil
	}
	b := d.rest[:n]
	d.rest = d.rest[n:]
	return b
}

func (d *decoder) byte() byte {
	if b := d.bytes(1); b != nil {
		return b[0]
	}
	return 0
}

func (d *decoder) number(most uint64) uint64 {
	n, size := binary.Uvarint(d.rest)
	if size <= 0 || n > most {
		d.failed, d.rest = true, nil
		return 0
	}
	d.rest = d.rest[size:]
	return n
}

// count is the number of things that follow, each of which takes a byte or more.
func (d *decoder) count() int { return int(d.number(uint64(len(d.rest)))) }

func (d *decoder) partition() int32 { return int32(d.number(1<<31 - 1)) }

func (d *decoder) offset() int64 { return int64(d.number(1<<63 - 1)) }
