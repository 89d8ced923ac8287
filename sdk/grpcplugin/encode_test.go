package grpcplugin

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/testing/protocmp"

	pluginv1 "github.com/towpath-dataplane/towpath/proto/towpath/plugin/v1"
	"github.com/towpath-dataplane/towpath/sdk"
	"github.com/towpath-dataplane/towpath/sdk/sdktest"
)

func orderOf(number uint64, open *sdk.ReadOpen) []byte {
	b, at := openField(nil, elementField)
	b = appendNumber(b, numberField, number)
	if open != nil {
		var in int
		b, in = openField(b, orderField)
		b = closeField(appendReadOpen(b, open), in)
	}
	return closeField(b, at)
}

func answerOf(t testing.TB, number uint64, all ...message) []byte {
	b, at := openField(nil, elementField)
	b = appendNumber(b, numberField, number)
	for _, m := range all {
		var in int
		var err error
		b, in = openField(b, framesField)
		if b, err = appendFrame(b, &m); err != nil {
			t.Fatal(err)
		}
		b = closeField(b, in)
	}
	return closeField(b, at)
}

// What is encoded by hand is what the generated code reads.
func TestOrdersAreMessages(t *testing.T) {
	for name, open := range map[string]sdk.ReadOpen{
		"nothing": {},
		"everything": {
			Flow: sdk.FlowContext{ParticipantContext: "c", ID: "f ü", ParticipantID: "p", CounterPartyID: "cp", AgreementID: "a", DatasetID: "d",
				Profile: "http-pull", Labels: []string{"l", ""}},
			Address:     sdk.DataAddress{Type: "File", Endpoint: "e", Properties: map[string]string{"path": "x", "": "y", "z": ""}},
			ResumeToken: []byte{0, 1}, Digests: sdk.Algorithms(), List: true, Skip: []string{"a", "b"}, ByReference: true,
			ByBytes: []string{"c"}, Once: true, Select: &sdk.Selection{Name: "n", Offset: 1 << 40, Length: 0, Validator: "v"},
		},
		"to the end": {Address: sdk.DataAddress{Properties: map[string]string{"path": "x"}}, Select: &sdk.Selection{Length: -1}},
	} {
		var got pluginv1.Orders
		if err := proto.Unmarshal(append(orderOf(1<<63, &open), orderOf(2, nil)...), &got); err != nil {
			t.Fatal(name, err)
		}
		want := &pluginv1.Orders{Orders: []*pluginv1.Order{{Number: 1 << 63, Open: readOpenToProto(open)}, {Number: 2}}}
		if diff := cmp.Diff(want, &got, protocmp.Transform()); diff != "" {
			t.Errorf("%s: %s", name, diff)
		}
	}
}

// someFrames are one of each that belongs in an answer.
func someFrames() []message {
	return []message{
		{frame: &sdk.PartBegin{PartInfo: sdk.PartInfo{Size: sdk.SizeUnknown}}},
		{frame: &sdk.PartBegin{Offset: 7, PartInfo: sdk.PartInfo{Index: 3, Name: "n ü", MediaType: "text/csv", Size: 0, Validator: "v", Records: true,
			TotalParts: 4, TotalBytes: 1 << 40, Modified: time.Unix(-3, 5).UTC()}}},
		{frame: &sdk.PartBegin{PartInfo: sdk.PartInfo{Size: 1, Properties: map[string]string{"a": "b", "c": ""}, Reference: []byte("r")}}},
		{frame: &sdk.Data{Payload: sdk.BytesPayload("abc")}},
		{frame: &sdk.RecordBatch{Batch: sdk.RecordsBatch{{Key: []byte("k"), Value: []byte("v")}, {}}}},
		{frame: &sdk.Checkpoint{Sequence: 3, Token: []byte("t")}},
		{frame: &sdk.PartEnd{Digests: sdk.Digests{}}},
		{frame: &sdk.PartEnd{Size: 1 << 33, Records: 2, Digests: sdk.Digests{sdk.CRC32C: []byte("1234"), sdk.SHA256: bytes.Repeat([]byte("x"), 32)}}},
		{frame: &sdk.End{}},
		{frame: &sdk.End{Totals: sdk.Totals{Parts: 1, Bytes: 2, Records: 3}}},
		{err: sdk.Errorf(sdk.NotFound, "nothing")},
	}
}

// shown is a frame as text, with its payload.
func shown(t testing.TB, m message) string {
	var payload bytes.Buffer
	switch f := m.frame.(type) {
	case *sdk.Data:
		f.WriteTo(&payload)
		return fmt.Sprintf("data %x", payload.Bytes())
	case *sdk.RecordBatch:
		records, err := f.Records()
		return fmt.Sprintf("%d records %q %v", f.Len(), records, err)
	}
	return fmt.Sprintf("%T %+v %+v %t %v", m.frame, m.frame, m.err, m.lane, m.open)
}

func TestFramesAreMessages(t *testing.T) {
	for _, m := range someFrames() {
		want := shown(t, m)
		b, err := appendFrame(nil, &m)
		if err != nil {
			t.Fatal(err)
		}
		var f pluginv1.Frame
		if err := proto.Unmarshal(b, &f); err != nil {
			t.Fatal(want, err)
		}
		again, err := proto.Marshal(&f)
		if err != nil {
			t.Fatal(err)
		}
		for _, b := range [][]byte{b, again} {
			if got, err := decodeFrame(b); err != nil || shown(t, got) != want {
				t.Errorf("%s, %v, want %s", shown(t, got), err, want)
			}
		}
	}
}

// Text that is not UTF-8 comes as text.
func TestPartWithBadText(t *testing.T) {
	b, err := appendFrame(nil, &message{frame: &sdk.PartBegin{PartInfo: sdk.PartInfo{Name: "a\xff", Properties: map[string]string{"\xff": "\xfe"}}}})
	if err != nil {
		t.Fatal(err)
	}
	m, err := decodeFrame(b)
	if err != nil || m.frame.(*sdk.PartBegin).Name != "a\uFFFD" {
		t.Errorf("%+v, %v", m.frame, err)
	}
}

// FuzzFrameByHand compares what is decoded by hand with what the generated code makes of it.
func FuzzFrameByHand(f *testing.F) {
	for _, m := range someFrames() {
		b, err := appendFrame(nil, &m)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		got, err := decodeFrame(b)
		var p pluginv1.Frame
		if wantErr := proto.Unmarshal(b, &p); wantErr != nil {
			// Records pass undecoded: whoever looks at them finds out.
			if _, records := got.frame.(*sdk.RecordBatch); err == nil && !records {
				t.Fatalf("%x was read, as %s: %v", b, shown(t, got), wantErr)
			}
			return
		}
		var want message
		switch k := p.Kind.(type) {
		case *pluginv1.Frame_Data:
			want.frame = &sdk.Data{Payload: sdk.BytesPayload(k.Data)}
			if len(k.Data) == 0 || len(k.Data) > sdk.MaxData {
				want.frame = nil
			}
		case *pluginv1.Frame_Records, nil:
			return
		default:
			want.fromProto(&p)
		}
		if err == nil && shown(t, got) != shown(t, want) || err != nil && want.frame != nil {
			t.Errorf("%x is %s, %v, want %s", b, shown(t, got), err, shown(t, want))
		}
	})
}

// pieceReader gives what it has in small pieces.
type pieceReader struct {
	rest []byte
	size int
}

func (r *pieceReader) Read(b []byte) (int, error) {
	if len(r.rest) == 0 {
		return 0, io.EOF
	}
	n := copy(b[:min(len(b), r.size)], r.rest)
	r.rest = r.rest[n:]
	return n, nil
}

// FuzzElements feeds both ends of a connection for answers what they would never be sent, in pieces.
func FuzzElements(f *testing.F) {
	f.Add(answerOf(f, 1, someFrames()[0], someFrames()[3], someFrames()[6], someFrames()[9]), 3)
	f.Add(append(orderOf(1, &sdk.ReadOpen{Address: sdk.DataAddress{Type: sdktest.MemoryType}}), orderOf(1, nil)...), 1000)
	f.Add([]byte{0x0a, 0xff, 0xff, 0xff, 0xff, 0x0f}, 2)
	f.Add([]byte{0x0a, 0x02, 0x18, 0x01}, 1)
	f.Add([]byte{0x12, 0x00}, 1)
	f.Fuzz(func(t *testing.T, b []byte, size int) {
		in := &elementReader{from: &pieceReader{b, max(size, 1)}}
		s := &pluginServer{}
		var err error
		all := 0
		for err == nil {
			err = in.receive(func(element []byte) error {
				all += len(element)
				for f := (fields{rest: element}); f.next(framesField); {
					if f.field == orderField {
						s.orders.decode(f.bytes)
					}
				}
				readAnswer(t, element)
				_, err := numberOf(element)
				return err
			})
		}
		if all > len(b) {
			t.Errorf("%d bytes were read of %d", all, len(b))
		}
		if err == io.EOF && len(in.have) > 0 {
			t.Errorf("an end in the middle of %x was taken for one", b)
		}
	})
}

// readAnswer reads an Answer as a host does that waits for it.
func readAnswer(t testing.TB, element []byte) error {
	a := &answer{ctx: t.Context(), came: make(chan struct{}), rest: element, goOn: func(context.Context, uint64) (sdk.ReadStream, error) {
		return nil, errors.New("it goes on")
	}}
	close(a.came)
	for {
		f, err := a.Recv()
		if err != nil {
			return err
		}
		if f == nil {
			t.Fatalf("nothing was read from %x", element)
		}
		sdk.Release(f)
	}
}

// What a plugin answers fails the read, not the host.
func TestRudeAnswers(t *testing.T) {
	all := someFrames()
	begin, data, partEnd, end := all[0], all[3], all[6], all[8]
	for name, tc := range map[string]struct {
		sends []byte
		want  string
	}{
		"nothing":               {answerOf(t, 1), "without an end"},
		"no end":                {answerOf(t, 1, begin, data), "without an end"},
		"more behind the end":   {answerOf(t, 1, begin, partEnd, end, begin), "behind the end"},
		"more behind the error": {answerOf(t, 1, all[10], begin), "behind the end"},
		"the frame of a lane":   {answerOf(t, 1, message{lane: true}), "does not belong"},
		"a failure":             {answerOf(t, 1, begin, all[10]), "nothing"},
		"a frame of no kind":    {[]byte{0x0a, 4, 8, 1, 0x12, 0}, "a kind that this side knows"},
		"a frame that is none":  {[]byte{0x0a, 6, 8, 1, 0x12, 2, 0xff, 0xff}, "a frame of an answer"},
		"half a frame":          {[]byte{0x0a, 5, 8, 1, 0x12, 2, 0x1a}, "without an end"},
		"it goes on":            {[]byte{0x0a, 4, 8, 1, 0x18, 9}, "it goes on"},
		"an end":                {answerOf(t, 1, begin, data, partEnd, end), "EOF"},
	} {
		element, n, err := takeElement(tc.sends)
		if err != nil || n != len(tc.sends) {
			t.Fatalf("%s: %d of %d bytes, %v", name, n, len(tc.sends), err)
		}
		if err := readAnswer(t, element); err == nil || !bytes.Contains([]byte(err.Error()), []byte(tc.want)) {
			t.Errorf("%s: %v, want %q", name, err, tc.want)
		}
	}
}
