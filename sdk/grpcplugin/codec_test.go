package grpcplugin

import (
	"bytes"
	"testing"

	"google.golang.org/grpc/mem"
	"google.golang.org/protobuf/proto"

	pluginv1 "github.com/towpath-dataplane/towpath/proto/towpath/plugin/v1"
	"github.com/towpath-dataplane/towpath/sdk"
)

// sliced cuts bytes into pieces as a transport might.
func sliced(b []byte, size int) mem.BufferSlice {
	var out mem.BufferSlice
	for len(b) > size {
		out, b = append(out, mem.SliceBuffer(b[:size])), b[size:]
	}
	return append(out, mem.SliceBuffer(b))
}

func encoded(t testing.TB, f *pluginv1.Frame) []byte {
	t.Helper()
	b, err := proto.Marshal(f)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestFramesThatAreRefused(t *testing.T) {
	c := newCodec()
	for name, f := range map[string]*pluginv1.Frame{
		"empty":          {},
		"empty data":     {Kind: &pluginv1.Frame_Data{Data: []byte{}}},
		"too large data": {Kind: &pluginv1.Frame_Data{Data: make([]byte, sdk.MaxData+1)}},
	} {
		var m message
		if err := c.Unmarshal(sliced(encoded(t, f), 16<<10), &m); err == nil {
			t.Errorf("%s: accepted as %T", name, m.frame)
		}
	}
}

func TestBatchWithoutLeadingCount(t *testing.T) {
	// Field 2 of Frame: Records with one record and, behind it, the count.
	wire := []byte{0x12, 7, 0x12, 3, 0x0a, 1, 'v', 0x08, 1}
	var m message
	if err := newCodec().Unmarshal(sliced(wire, 3), &m); err != nil {
		t.Fatal(err)
	}
	batch := m.frame.(*sdk.RecordBatch)
	records, err := batch.Records()
	if err != nil || batch.Len() != 1 || string(records[0].Value) != "v" {
		t.Errorf("%d, %v, %v", batch.Len(), records, err)
	}
	batch.Release()
}

// FuzzFrame: whatever comes is refused, or comes out as it went in, by this codec and by protobuf's own.
func FuzzFrame(f *testing.F) {
	size := uint64(3)
	for _, frame := range []*pluginv1.Frame{
		{Kind: &pluginv1.Frame_Data{Data: []byte("data")}},
		{Kind: &pluginv1.Frame_Records{Records: &pluginv1.Records{Count: 2, Records: []*pluginv1.Record{
			{Key: []byte("k"), Value: []byte("v"), TimeMicros: 1, Headers: map[string][]byte{"h": []byte("x")}}, {}}}}},
		{Kind: &pluginv1.Frame_PartBegin{PartBegin: &pluginv1.PartBegin{Index: 1, Name: "a/b", Size: &size}}},
		{Kind: &pluginv1.Frame_PartEnd{PartEnd: &pluginv1.PartEnd{Size: 3, Digests: []*pluginv1.Digest{{Algorithm: 1, Value: []byte{1}}}}}},
		{Kind: &pluginv1.Frame_Checkpoint{Checkpoint: &pluginv1.Checkpoint{Sequence: 9, SourceToken: []byte("t")}}},
		{Kind: &pluginv1.Frame_End{End: &pluginv1.End{Parts: 1}}},
		{Kind: &pluginv1.Frame_Error{Error: &pluginv1.Error{Message: "no"}}},
		{Kind: &pluginv1.Frame_Open{Open: &pluginv1.WriteOpen{Redelivery: true}}},
	} {
		f.Add(encoded(f, frame), uint8(5))
	}
	f.Add([]byte{0x12, 7, 0x12, 3, 0x0a, 1, 'v', 0x08, 1}, uint8(3))
	c := newCodec()
	f.Fuzz(func(t *testing.T, wire []byte, piece uint8) {
		var m message
		if c.Unmarshal(sliced(bytes.Clone(wire), 1+int(piece)), &m) != nil {
			return
		}
		if b, ok := m.frame.(*sdk.RecordBatch); ok {
			if _, err := b.Records(); err != nil {
				b.Release()
				return
			}
		}
		var plain pluginv1.Frame
		if err := proto.Unmarshal(wire, &plain); err != nil {
			// A batch is not looked into as long as nobody asks, and a string is not checked to be UTF-8.
			if _, ok := m.frame.(*sdk.RecordBatch); !ok {
				t.Fatalf("accepted as %T what protobuf refuses: %v", m.frame, err)
			}
			sdk.Release(m.frame)
			return
		}
		if d, ok := m.frame.(*sdk.Data); ok {
			var got bytes.Buffer
			d.WriteTo(&got)
			if !bytes.Equal(got.Bytes(), plain.GetData()) || d.Len() != got.Len() {
				t.Fatalf("data is %x, want %x", got.Bytes(), plain.GetData())
			}
		}
		out, err := c.Marshal(&m)
		if err != nil {
			t.Fatal(err)
		}
		var again pluginv1.Frame
		if err := proto.Unmarshal(out.Materialize(), &again); err != nil {
			t.Fatalf("what was accepted does not encode: %v", err)
		}
		out.Free()
	})
}

func TestEncodedRecordsAreProtobuf(t *testing.T) {
	records := []sdk.Record{{Key: []byte("k"), Value: bytes.Repeat([]byte("v"), 300), Headers: map[string][]byte{"h": []byte("x"), "": nil}}, {}}
	wire := wire(encodeRecords(records))
	defer wire.Free()
	var f pluginv1.Frame
	if err := proto.Unmarshal(wire.Materialize(), &f); err != nil {
		t.Fatal(err)
	}
	if r := f.GetRecords(); r.Count != 2 || len(r.Records) != 2 || len(r.Records[0].Value) != 300 || string(r.Records[0].Headers["h"]) != "x" {
		t.Errorf("got %v", r)
	}
}
