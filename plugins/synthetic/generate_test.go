package main

import (
	"bytes"
	"encoding/binary"
	"io"
	"math/rand/v2"
	"strconv"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/towpath-dataplane/towpath/sdk"
	"github.com/towpath-dataplane/towpath/sdk/sdktest"
)

func address(typ string, properties ...string) sdk.DataAddress {
	a := sdk.DataAddress{Type: typ, Properties: map[string]string{}}
	for i := 0; i < len(properties); i += 2 {
		a.Properties[properties[i]] = properties[i+1]
	}
	return a
}

func TestGenerateSuite(t *testing.T) {
	bad := []sdktest.BadAddress{
		{Name: "size", Code: sdk.Invalid, Address: address("Generate", "size", "many")},
		{Name: "negative size", Code: sdk.Invalid, Address: address("Generate", "size", "-1")},
		{Name: "mode", Code: sdk.Invalid, Address: address("Generate", "mode", "lines")},
		{Name: "no parts", Code: sdk.Invalid, Address: address("Generate", "size", "1", "parts", "0")},
		{Name: "too many parts", Code: sdk.Invalid, Address: address("Generate", "size", "1", "parts", "1000001")},
		{Name: "parts behind one without end", Code: sdk.Invalid, Address: address("Generate", "parts", "2")},
		{Name: "small records", Code: sdk.Invalid, Address: address("Generate", "mode", "records", "record_size", "7")},
		{Name: "large records", Code: sdk.Invalid, Address: address("Generate", "mode", "records", "record_size", "1MiB")},
		{Name: "negative duration", Code: sdk.Invalid, Address: address("Generate", "duration", "-1s")},
		{Name: "unknown", Code: sdk.Invalid, Address: address("Generate", "sise", "1")},
	}
	for name, c := range map[string]sdktest.SourceCase{
		"bytes": {
			Address: address("Generate", "size", "2100001", "parts", "3", "seed", "7"), Bad: bad,
			Parts: []sdktest.Content{
				{Name: "part-0000.bin", Bytes: pages(7, 0, 2100001)},
				{Name: "part-0001.bin", Bytes: pages(7, 1, 2100001)},
				{Name: "part-0002.bin", Bytes: pages(7, 2, 2100001)},
			},
		},
		"empty": {Address: address("Generate", "size", "0"), Parts: []sdktest.Content{{Name: "part-0000.bin", Bytes: []byte{}}}},
		"records": {
			Address: address("Generate", "mode", "records", "size", "100KiB", "record_size", "1000", "parts", "2"),
			Parts: []sdktest.Content{
				{Name: "part-0000", Records: numbered(1, 0, 102, 1000)},
				{Name: "part-0001", Records: numbered(1, 1, 102, 1000)},
			},
		},
		"many records": {
			Address: address("Generate", "mode", "records", "size", "1MiB", "record_size", "64"),
			Parts:   []sdktest.Content{{Name: "part-0000", Records: numbered(1, 0, 16384, 64)}},
		},
	} {
		t.Run(name, func(t *testing.T) {
			c.New = func(*testing.T) sdk.DataSource { return sdk.NewDataSource(generateType()) }
			sdktest.TestSource(t, c)
		})
	}
}

// random returns the block that everything in a part is made of.
func random(seed, part uint64) []byte {
	var key [32]byte
	binary.BigEndian.PutUint64(key[:], seed)
	binary.BigEndian.PutUint64(key[8:], part)
	block := make([]byte, 1<<20)
	rand.NewChaCha8(key).Read(block)
	return block
}

// pages says what the content of a part is, in the slow and plain way.
func pages(seed, part uint64, size int) []byte {
	block := random(seed, part)
	var b []byte
	for page := 0; len(b) < size; page++ {
		b = binary.BigEndian.AppendUint64(b, uint64(page))
		start := page * 4096 % len(block)
		b = append(b, block[start+8:start+4096]...)
	}
	return b[:size]
}

// numbered says what the records of a part are.
func numbered(seed, part uint64, n, size int) []sdk.Record {
	block := random(seed, part)
	records := make([]sdk.Record, n)
	for i := range records {
		value := bytes.Clone(block[i : i+size])
		binary.BigEndian.PutUint64(value, uint64(i))
		records[i] = sdk.Record{Value: value}
	}
	return records
}

func TestContentAtAnyOffset(t *testing.T) {
	want := pages(3, 4, 3<<20)
	c := newContent(3, 4)
	for _, piece := range [][2]int{{0, 1}, {1, 7}, {7, 2}, {4090, 20}, {4096, 8}, {1<<20 - 3, 9}, {1<<20 + 4099, 1 << 20}, {3<<20 - 1, 1}, {5, 0}} {
		got := make([]byte, piece[1])
		c.fill(got, int64(piece[0]))
		if !bytes.Equal(got, want[piece[0]:piece[0]+piece[1]]) {
			t.Errorf("%d bytes at %d are not those of the whole", piece[1], piece[0])
		}
	}
}

func TestPagesDiffer(t *testing.T) {
	seen := map[string]string{}
	for _, source := range [][2]int64{{1, 0}, {1, 1}, {2, 0}} {
		c := newContent(source[0], source[1])
		for page := range int64(3 * blockSize / pageSize) {
			b := make([]byte, pageSize)
			c.fill(b, page*pageSize)
			here := strconv.FormatInt(source[0], 10) + " " + strconv.FormatInt(source[1], 10) + " " + strconv.FormatInt(page, 10)
			if there, ok := seen[string(b)]; ok {
				t.Fatalf("page %s is page %s", here, there)
			}
			seen[string(b)] = here
		}
	}
}

// TestRate reads for ten seconds of a clock that only moves when all wait.
func TestRate(t *testing.T) {
	for _, rate := range []int64{1, 10, 1000, 1 << 20, 1<<24 + 7} {
		synctest.Test(t, func(t *testing.T) {
			p := plan{size: -1, rate: rate, seed: 1, duration: 10 * time.Second}
			r, err := p.openBytes(t.Context(), 0, 0)
			if err != nil {
				t.Fatal(err)
			}
			n, b := int64(0), make([]byte, 256<<10)
			for {
				m, err := r.Read(b)
				n += int64(m)
				if err == io.EOF {
					break
				}
				if err != nil {
					t.Fatal(err)
				}
			}
			if want := 10 * rate; n < want-want/50-1 || n > want+want/50+1 {
				t.Errorf("%d bytes in 10 s at %d per second", n, rate)
			}
		})
	}
}

// TestRateAfterStandstill: a stream that nobody read for an hour does not make up for it.
func TestRateAfterStandstill(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPace(1000)
		time.Sleep(time.Hour)
		start, n := time.Now(), int64(0)
		for time.Since(start) < 10*time.Second {
			if err := p.wait(t.Context()); err != nil {
				t.Fatal(err)
			}
			n += 10
			p.spend(10)
		}
		if n < 9_000 || n > 11_100 {
			t.Errorf("%d units in 10 s at 1000 per second, of which at most a second's is made up for", n)
		}
	})
}

func TestWithoutEnd(t *testing.T) {
	for _, a := range []sdk.DataAddress{address("Generate"), address("Generate", "mode", "records")} {
		s, err := sdk.NewDataSource(generateType()).Read(t.Context(), sdk.ReadOpen{Address: a})
		if err != nil {
			t.Fatal(err)
		}
		for range 100 {
			f, err := s.Recv()
			if err != nil {
				t.Fatal(err)
			}
			if end, ok := f.(*sdk.PartEnd); ok {
				t.Fatalf("ended after %d bytes", end.Size)
			}
			sdk.Release(f)
		}
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	}
}

func TestRecordToken(t *testing.T) {
	p := plan{size: 1000, records: true, recordSize: 10}
	for token, want := range map[string]string{
		"":    "",
		"100": "",
		"101": "has 100 records, none with number 101",
		"-1":  `"-1" is not the number of a record`,
		"one": `"one" is not the number of a record`,
	} {
		given := []byte(token)
		if token == "" {
			given = nil
		}
		_, err := p.openRecords(0, given)
		got := ""
		if err != nil {
			got = err.Error()
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("token %q (-want +got):\n%s", token, diff)
		}
	}
}

func BenchmarkFill(b *testing.B) {
	c, buffer := newContent(1, 0), make([]byte, 256<<10)
	b.SetBytes(int64(len(buffer)))
	for i := 0; b.Loop(); i++ {
		c.fill(buffer, int64(i*len(buffer)))
	}
}

func BenchmarkRecords(b *testing.B) {
	r, err := plan{size: -1, recordSize: 1 << 10}.openRecords(0, nil)
	if err != nil {
		b.Fatal(err)
	}
	b.SetBytes(128 << 10)
	for b.Loop() {
		if _, _, err := r.Next(b.Context()); err != nil {
			b.Fatal(err)
		}
	}
}
