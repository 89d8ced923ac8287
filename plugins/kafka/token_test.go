package main

import (
	"bytes"
	"errors"
	"maps"
	"slices"
	"testing"

	"github.com/towpath-dataplane/towpath/sdk"
)

func TestMarks(t *testing.T) {
	for _, m := range []mark{
		{lanes: map[int32]lane{}},
		{topic: [16]byte{1, 15: 2}, lanes: map[int32]lane{0: {0, noStop}, 7: {1 << 40, 1 << 41}, 1<<31 - 1: {0, 0}}},
	} {
		got, err := decodeMark(m.encode())
		if err != nil || got.topic != m.topic || !maps.Equal(got.lanes, m.lanes) {
			t.Errorf("%v became %v, %v", m, got, err)
		}
	}
	whole := mark{lanes: map[int32]lane{3: {5, 9}, 4: {5, 9}}}.encode()
	for i := range whole {
		if _, err := decodeMark(whole[:i]); err == nil {
			t.Errorf("%d of %d bytes are taken", i, len(whole))
		}
	}
	if _, err := decodeMark(append(whole, 0)); err == nil {
		t.Error("a byte too many is taken")
	}
}

func TestPlaces(t *testing.T) {
	for _, p := range []place{{}, {part: 3, records: 1 << 40, lanes: map[int32]int64{0: 1, 5: 1 << 50, 1<<31 - 1: 0}}} {
		got, err := decodePlace(p.encode())
		if err != nil || got.part != p.part || got.records != p.records || !maps.Equal(got.lanes, p.lanes) && len(p.lanes) > 0 {
			t.Errorf("%v became %v, %v", p, got, err)
		}
	}
	many := place{lanes: map[int32]int64{}}
	for i := range int32(400) {
		many.lanes[i] = 1 << 40
	}
	if _, err := many.text(); err != nil {
		t.Errorf("the place in 400 partitions does not fit: %v", err)
	}
	for i := range int32(1000) {
		many.lanes[i] = 1 << 40
	}
	_, err := many.text()
	wantError(t, err, sdk.Exhausted, false, "1000 partitions")
}

func FuzzMark(f *testing.F) {
	f.Add([]byte{})
	f.Add(mark{lanes: map[int32]lane{0: {1, 2}, 9: {3, noStop}}}.encode())
	f.Fuzz(func(t *testing.T, token []byte) {
		m, err := decodeMark(token)
		if err != nil {
			var e *sdk.Error
			if !errors.As(err, &e) || e.Code != sdk.Invalid {
				t.Fatalf("error %v", err)
			}
			return
		}
		again, err := decodeMark(m.encode())
		if err != nil || !maps.Equal(again.lanes, m.lanes) || again.topic != m.topic {
			t.Fatalf("%v became %v, %v", m, again, err)
		}
	})
}

func FuzzPlace(f *testing.F) {
	f.Add([]byte{})
	f.Add(place{part: 1, records: 2, lanes: map[int32]int64{0: 1, 9: 3}}.encode())
	f.Fuzz(func(t *testing.T, token []byte) {
		p, err := decodePlace(token)
		if err != nil {
			return
		}
		again, err := decodePlace(p.encode())
		if err != nil || again.part != p.part || again.records != p.records || !maps.Equal(again.lanes, p.lanes) {
			t.Fatalf("%v became %v, %v", p, again, err)
		}
	})
}

func FuzzBounds(f *testing.F) {
	for _, text := range []string{"earliest", "0:17,1:4", "2026-01-31T12:00:00Z", "0-3,9"} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		parseBound(text)
		if partitions, err := parsePartitions(text); err == nil && (!slices.IsSorted(partitions) || len(partitions) > 2*maxPartitions+1) {
			t.Fatalf("%d partitions", len(partitions))
		}
	})
}

func FuzzCredentials(f *testing.F) {
	f.Add(`org.apache.kafka.common.security.plain.PlainLoginModule required username="u" password="p\"q";`)
	f.Fuzz(func(t *testing.T, text string) {
		r := addressReader{address: address("kafka.sasl.jaas.config", text)}
		if user, password := r.credentials(); len(r.errs) > 0 && user+password != "" {
			t.Fatal("credentials of a text that is refused")
		}
	})
}

// A place header that is none is the fault of the record.
func TestPlaceHeader(t *testing.T) {
	for _, text := range []string{"", "1", "1:", ":1", "-1:1", "1:-1", "1:1:1", "99999999999:1"} {
		_, _, _, err := placeOf(sdk.Record{Headers: map[string][]byte{placeHeader: []byte(text)}})
		wantError(t, err, sdk.Invalid, false, placeHeader)
	}
	partition, offset, ok, err := placeOf(sdk.Record{Headers: map[string][]byte{placeHeader: []byte("3:1234567890123")}})
	if partition != 3 || offset != 1234567890123 || !ok || err != nil {
		t.Errorf("%d, %d, %t, %v", partition, offset, ok, err)
	}
	if !bytes.Equal(messageOf(sdk.Record{Value: []byte("x"), Headers: map[string][]byte{placeHeader: []byte("3:1")}}).Value, []byte("x")) {
		t.Error("the value is lost")
	}
}
