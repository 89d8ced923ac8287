package sdk_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"hash/crc32"
	"io"
	"iter"
	"slices"
	"strconv"
	"testing"
	"testing/synctest"

	"github.com/towpath-dataplane/towpath/sdk"
)

// scripted gives batches of one record each, numbered, and asks before each whether to go on.
type scripted struct {
	records []sdk.Record
	before  func(ctx context.Context, i int) error
}

func (s scripted) Read(context.Context, sdk.ReadRequest) iter.Seq2[sdk.Part, error] {
	part := sdk.Part{PartInfo: sdk.PartInfo{Name: "records"}, OpenRecords: func(context.Context, []byte) (sdk.RecordReader, error) {
		return &scriptedReader{scripted: s}, nil
	}}
	return func(yield func(sdk.Part, error) bool) { yield(part, nil) }
}

type scriptedReader struct {
	scripted
	next int
}

func (r *scriptedReader) Next(ctx context.Context) ([]sdk.Record, []byte, error) {
	i := r.next
	r.next++
	if r.before != nil {
		if err := r.before(ctx, i); err != nil {
			return nil, nil, err
		}
	}
	if i == len(r.records) {
		return nil, nil, io.EOF
	}
	return r.records[i : i+1], []byte(strconv.Itoa(i)), nil
}

func (r *scriptedReader) Close() error { return nil }

func numbered(n int) (records []sdk.Record) {
	for i := range n {
		records = append(records, sdk.Record{Value: []byte(strconv.Itoa(i))})
	}
	return records
}

// box is a Packer that holds so many records.
type box struct {
	room    int
	records []sdk.Record
}

func (b *box) Add(records []sdk.Record) bool {
	if len(b.records) > 0 && len(b.records)+len(records) > b.room {
		return false
	}
	for _, r := range records {
		b.records = append(b.records, sdk.Record{Key: bytes.Clone(r.Key), Value: bytes.Clone(r.Value)})
	}
	return true
}

func (b *box) Batch() sdk.Batch { return sdk.RecordsBatch(b.records) }

func readRecords(t *testing.T, source sdk.Source, room int) sdk.ReadStream {
	t.Helper()
	d := sdk.NewDataSource(sdk.SourceType{AddressType: sdk.AddressType{Type: "T", Address: sdk.Schema{Open: true}}, Source: source})
	s, err := d.Read(t.Context(), sdk.ReadOpen{Address: sdk.DataAddress{Type: "T"}, Digests: []sdk.Algorithm{sdk.CRC32C},
		Pack: func() sdk.Packer { return &box{room: room} }})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// nextBatch returns the next values, or nil behind the last; io.EOF is none.
func nextBatch(t *testing.T, s sdk.ReadStream) (values []string, err error) {
	t.Helper()
	for {
		f, err := s.Recv()
		if err == io.EOF {
			return nil, nil
		}
		if err != nil {
			return nil, err
		}
		if b, ok := f.(*sdk.RecordBatch); ok {
			records, err := b.Records()
			if err != nil {
				t.Fatal(err)
			}
			for _, r := range records {
				values = append(values, string(r.Value))
			}
			b.Release()
			return values, nil
		}
	}
}

func TestSmallBatchesGatherWhileTheReceiverIsBusy(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := readRecords(t, scripted{records: numbered(100)}, 30)
		defer s.Close()
		var all []string
		batches := 0
		for {
			synctest.Wait() // the source has done what it can
			values, err := nextBatch(t, s)
			if err != nil {
				t.Fatal(err)
			}
			if values == nil {
				break
			}
			batches++
			all = append(all, values...)
		}
		for i, v := range all {
			if v != strconv.Itoa(i) {
				t.Fatalf("record %d is %s", i, v)
			}
		}
		if len(all) != 100 || batches > 10 {
			t.Errorf("%d records came in %d batches", len(all), batches)
		}
	})
}

func TestGatheredRecordsDoNotWaitForMore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		more := make(chan struct{})
		s := readRecords(t, scripted{records: numbered(50), before: func(ctx context.Context, i int) error {
			if i < 7 {
				return nil
			}
			select {
			case <-more:
				return nil
			case <-ctx.Done():
				return ctx.Err()
			}
		}}, 1000)
		defer s.Close()
		synctest.Wait()
		var got []string
		for len(got) < 7 {
			values, err := nextBatch(t, s)
			if err != nil || values == nil {
				t.Fatal(values, err)
			}
			got = append(got, values...)
		}
		close(more)
		for {
			values, err := nextBatch(t, s)
			if err != nil {
				t.Fatal(err)
			}
			if values == nil {
				break
			}
			got = append(got, values...)
		}
		if len(got) != 50 {
			t.Errorf("%d records came", len(got))
		}
	})
}

func TestGatheredRecordsComeBeforeAFailure(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := readRecords(t, scripted{records: numbered(50), before: func(_ context.Context, i int) error {
			if i == 20 {
				return sdk.Errorf(sdk.Corrupt, "record 20 is broken")
			}
			return nil
		}}, 1000)
		defer s.Close()
		var got []string
		for {
			synctest.Wait()
			values, err := nextBatch(t, s)
			if err != nil {
				break
			}
			got = append(got, values...)
		}
		if len(got) != 20 || !slices.IsSortedFunc(got, func(a, b string) int { x, _ := strconv.Atoi(a); y, _ := strconv.Atoi(b); return x - y }) {
			t.Errorf("before the failure came %v", got)
		}
	})
}

// TestDigestOfRecords holds the digest of records to its definition: key and value, each behind its length in four bytes.
func TestDigestOfRecords(t *testing.T) {
	var records []sdk.Record
	for _, key := range []int{0, 1, 247, 248, 249, 3000} {
		for _, value := range []int{0, 1, 1024} {
			records = append(records, sdk.Record{Key: bytes.Repeat([]byte{'k'}, key), Value: bytes.Repeat([]byte{'v'}, value)})
		}
	}
	var want []byte
	for _, r := range records {
		want = append(binary.BigEndian.AppendUint32(want, uint32(len(r.Key))), r.Key...)
		want = append(binary.BigEndian.AppendUint32(want, uint32(len(r.Value))), r.Value...)
	}
	s := readRecords(t, scripted{records: records}, 5)
	defer s.Close()
	for {
		f, err := s.Recv()
		if err != nil {
			t.Fatal(err)
		}
		sdk.Release(f)
		if end, ok := f.(*sdk.PartEnd); ok {
			sum := binary.BigEndian.AppendUint32(nil, crc32.Checksum(want, crc32.MakeTable(crc32.Castagnoli)))
			if !bytes.Equal(end.Digests[sdk.CRC32C], sum) {
				t.Errorf("crc32c is %x, want %x", end.Digests[sdk.CRC32C], sum)
			}
			return
		}
	}
}
