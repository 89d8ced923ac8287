package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"

	"github.com/towpath-dataplane/towpath/sdk"
	"github.com/towpath-dataplane/towpath/sdk/sdktest"
)

func TestSinkSuite(t *testing.T) {
	for _, properties := range [][]string{
		nil,
		{"folderName", "in/box", "collision", collisionFail},
		{"objectPrefix", "in/pre-", "checksums", checksumsRequired},
	} {
		t.Run(strings.Join(properties, " "), func(t *testing.T) {
			sdktest.TestSink(t, sdktest.SinkCase{Resumable: true, Records: true, New: func(t *testing.T) sdktest.Store {
				return newSinkStore(t, newBucket(t), properties...)
			}})
		})
	}
}

func newSinkStore(t *testing.T, b *bucket, properties ...string) sdktest.Store {
	a := b.address(properties...)
	folder := a.Get("objectPrefix")
	if f := a.Get("folderName"); f != "" {
		folder = f + "/"
	}
	return sdktest.Store{
		Sink: sdk.NewDataSink(newTestPlugin(t, nil).Sinks[0]), Address: a,
		Names:   func() ([]string, error) { return b.partNames(folder) },
		Content: func(name string) ([]byte, error) { return b.content(folder + name) },
		Records: func(name string) ([]sdk.Record, error) { return b.records(folder + name) },
		Begun:   b.begun,
	}
}

// partNames lists the parts that are whole: an object is, and a folder of records that has ended.
func (b *bucket) partNames(folder string) ([]string, error) {
	keys, err := b.keys("", false)
	if err != nil {
		return nil, err
	}
	var names []string
	for _, key := range keys {
		name := strings.TrimPrefix(key, folder)
		if part, ok := strings.CutSuffix(name, "/"+successName); ok {
			names = append(names, part)
		} else if !strings.HasSuffix(name, recordsSuffix) {
			names = append(names, name)
		}
	}
	return names, nil
}

// records reads the objects of a part of records.
func (b *bucket) records(key string) ([]sdk.Record, error) {
	keys, err := b.keys(key+"/", false)
	if err != nil {
		return nil, err
	}
	records := []sdk.Record{}
	for _, k := range keys {
		if !strings.HasSuffix(k, recordsSuffix) {
			continue
		}
		content, err := b.content(k)
		if err != nil {
			return nil, err
		}
		for d := json.NewDecoder(bytes.NewReader(content)); ; {
			var l line
			if err := d.Decode(&l); err == io.EOF {
				break
			} else if err != nil {
				return nil, err
			}
			r := sdk.Record{Key: l.Key, Value: l.Value, Headers: l.Headers}
			if l.Time != nil {
				r.Time = *l.Time
			}
			records = append(records, r)
		}
	}
	return records, nil
}

// feed is a write to the plugin in this process.
type feed struct {
	t      *testing.T
	stream sdk.WriteStream
	part   sdktest.Content
}

func (b *bucket) open(t *testing.T, sink sdk.DataSink, a sdk.DataAddress, part sdktest.Content, token []byte) *feed {
	t.Helper()
	stream, err := sink.Write(t.Context(), sdk.WriteOpen{
		Flow: testFlow, Address: a, ResumeToken: token, Redelivery: token != nil, Digests: sdk.Algorithms(),
	})
	if err != nil {
		t.Fatal(err)
	}
	return &feed{t, stream, part}
}

var testFlow = sdk.FlowContext{ParticipantContext: "default", ID: "flow-1"}

func (f *feed) send(frames ...sdk.Frame) {
	f.t.Helper()
	for _, frame := range frames {
		if err := f.stream.Send(frame); err != nil && err != io.EOF {
			f.t.Fatal(err)
		}
	}
}

func (f *feed) begin(offset int, size int64) {
	f.t.Helper()
	f.send(&sdk.PartBegin{PartInfo: sdk.PartInfo{Name: f.part.Name, Size: size}, Offset: int64(offset)})
}

// bytes sends the content from one offset to another.
func (f *feed) bytes(from, to int) {
	f.t.Helper()
	for piece := range slices.Chunk(f.part.Bytes[from:to], 256<<10) {
		f.send(&sdk.Data{Payload: sdk.BytesPayload(piece)})
	}
}

// checkpoint asks for a checkpoint and returns its token.
func (f *feed) checkpoint(sequence uint64) []byte {
	f.t.Helper()
	f.send(&sdk.Checkpoint{Sequence: sequence})
	for {
		up, err := f.stream.Recv()
		if err != nil {
			f.t.Fatal(err)
		}
		if d, ok := up.(*sdk.Durable); ok && d.Sequence == sequence {
			return d.Token
		}
	}
}

// end ends the part and the flow, and returns the sink's last word.
func (f *feed) end() error {
	f.t.Helper()
	d := sdk.NewDigester(sdk.Algorithms()...)
	d.Write(f.part.Bytes)
	f.send(&sdk.PartEnd{Size: d.Size(), Digests: d.Sum()}, &sdk.End{Totals: sdk.Totals{Parts: 1, Bytes: d.Size()}})
	return f.last()
}

func (f *feed) last() error {
	f.t.Helper()
	defer f.stream.Close()
	for {
		if _, err := f.stream.Recv(); err == io.EOF {
			return nil
		} else if err != nil {
			return err
		}
	}
}

func (b *bucket) expect(t *testing.T, key string, want []byte) {
	t.Helper()
	got, err := b.content(key)
	if err != nil || !bytes.Equal(got, want) {
		t.Errorf("%q has %d bytes, want %d: %v", key, len(got), len(want), err)
	}
}

func (b *bucket) expectNothingBegun(t *testing.T) {
	t.Helper()
	if begun, err := b.begun(); err != nil || len(begun) > 0 {
		t.Errorf("the sink keeps %q, %v", begun, err)
	}
}

// A large part is sent in parts, side by side, and is not there before it is whole. It is cut again and again.
func TestSinkMultipart(t *testing.T) {
	for name, size := range map[string]int64{"size known": 28<<20 + 11, "size unknown": sdk.SizeUnknown} {
		for _, checksums := range checksumModes() {
			t.Run(name+" "+checksums, func(t *testing.T) {
				b := newBucket(t)
				var parts atomic.Int64
				endpoint := newProxy(t, func(_ http.ResponseWriter, req *http.Request) bool {
					if req.Method == http.MethodPut && req.URL.Query().Has("partNumber") {
						parts.Add(1)
					}
					return false
				})
				a := b.at(endpoint, "checksums", checksums, "folderName", "big")
				part := sdktest.Content{Name: "one.bin", Bytes: sdktest.Pattern(1, 28<<20+11)}
				sink := sdk.NewDataSink(newTestPlugin(t, nil).Sinks[0])
				var token []byte
				cuts := []int{0, 3 << 20, 9<<20 + 1, 10 << 20, 20 << 20, len(part.Bytes)}
				for i, to := range cuts[1:] {
					f := b.open(t, sink, a, part, token)
					f.begin(cuts[i], size)
					f.bytes(cuts[i], to)
					if to == len(part.Bytes) {
						if err := f.end(); err != nil {
							t.Fatal(err)
						}
						break
					}
					token = f.checkpoint(uint64(i + 1))
					f.bytes(to, min(to+1<<20, len(part.Bytes))) // lost
					f.stream.Close()
					if names, err := b.keys("", false); err != nil || len(names) > 0 {
						t.Errorf("while the part is not whole there are %q, %v", names, err)
					}
				}
				b.expect(t, "big/one.bin", part.Bytes)
				b.expectNothingBegun(t)
				if n := parts.Load(); n > 10 {
					t.Errorf("%d parts were sent: some twice", n)
				}
			})
		}
	}
}

// A flow that is terminated leaves no upload, also none that a process has begun and did not live to note.
func TestSinkDeprovision(t *testing.T) {
	b := newBucket(t)
	sink := sdk.NewDataSink(newTestPlugin(t, nil).Sinks[0])
	part := sdktest.Content{Name: "one.bin", Bytes: sdktest.Pattern(1, 12<<20)}
	f := b.open(t, sink, b.address(), part, nil)
	f.begin(0, int64(len(part.Bytes)))
	f.bytes(0, 11<<20)
	f.checkpoint(1)
	f.stream.Close()
	if begun, err := b.begun(); err != nil || len(begun) < 2 {
		t.Fatalf("the sink keeps %q, %v", begun, err)
	}
	if err := sink.Deprovision(t.Context(), testFlow, b.address()); err != nil {
		t.Fatal(err)
	}
	b.expectNothingBegun(t)

	w := writerOf(t, b)
	k := w.newWork("one.bin", newNonce())
	if err := k.note(t.Context(), note{Key: "one.bin"}); err != nil {
		t.Fatal(err)
	}
	in := &s3.CreateMultipartUploadInput{Bucket: &b.name, Key: aws.String("one.bin")}
	if _, err := b.client.CreateMultipartUpload(t.Context(), in); err != nil {
		t.Fatal(err)
	}
	if err := sink.Deprovision(t.Context(), testFlow, b.address()); err != nil {
		t.Fatal(err)
	}
	b.expectNothingBegun(t)
}

// An upload that the store has dropped, as rules of a bucket can say, costs the part that was sent, and nothing else.
func TestSinkWithoutItsUpload(t *testing.T) {
	b := newBucket(t)
	sink := sdk.NewDataSink(newTestPlugin(t, nil).Sinks[0])
	part := sdktest.Content{Name: "one.bin", Bytes: sdktest.Pattern(1, 12<<20)}
	f := b.open(t, sink, b.address(), part, nil)
	f.begin(0, int64(len(part.Bytes)))
	f.bytes(0, 11<<20)
	token := f.checkpoint(1)
	f.stream.Close()
	if err := sink.Deprovision(t.Context(), testFlow, b.address()); err != nil {
		t.Fatal(err)
	}
	f = b.open(t, sink, b.address(), part, token)
	f.begin(11<<20, int64(len(part.Bytes)))
	if e := sdk.AsError(f.end()); e == nil || e.Code != sdk.Corrupt || !e.Retryable {
		t.Errorf("without what came before: %v", e)
	}
}

func writerOf(t *testing.T, b *bucket) *writer {
	t.Helper()
	env := newTestPlugin(t, nil).Sinks[0].Sink.(*sink).env
	to, err := env.newWriteFolder(b.address())
	if err != nil {
		t.Fatal(err)
	}
	return &writer{store: env.open(to.place), to: to, flow: flowHash(testFlow), replace: true}
}

// The answer that says that the object is made is lost.
func TestSinkLosesLastAnswer(t *testing.T) {
	for name, size := range map[string]int{"upload": 9 << 20, "object": 1 << 20} {
		for _, collision := range []string{collisionReplace, collisionFail} {
			t.Run(name+" "+collision, func(t *testing.T) {
				b := newBucket(t)
				var lost atomic.Bool
				transport := &http.Transport{DisableKeepAlives: true, ExpectContinueTimeout: time.Second}
				endpoint := newProxy(t, func(w http.ResponseWriter, req *http.Request) bool {
					last := req.Method == http.MethodPost && req.URL.Query().Has("uploadId") ||
						req.Method == http.MethodPut && strings.HasSuffix(req.URL.Path, "/one.bin") && req.URL.RawQuery == "x-id=PutObject"
					if !last || lost.Swap(true) {
						return false
					}
					forward(transport, &discardWriter{header: http.Header{}}, req)
					if c, _, err := http.NewResponseController(w).Hijack(); err == nil {
						c.(*net.TCPConn).SetLinger(0) // resets the connection
						c.Close()
					}
					return true
				})
				part := sdktest.Content{Name: "one.bin", Bytes: sdktest.Pattern(1, size)}
				f := b.open(t, sdk.NewDataSink(newTestPlugin(t, nil).Sinks[0]), b.at(endpoint, "collision", collision), part, nil)
				f.begin(0, int64(size))
				f.bytes(0, size)
				if err := f.end(); err != nil || !lost.Load() {
					t.Fatalf("%v, lost: %t", err, lost.Load())
				}
				b.expect(t, "one.bin", part.Bytes)
				b.expectNothingBegun(t)
			})
		}
	}
}

type discardWriter struct{ header http.Header }

func (d *discardWriter) Header() http.Header         { return d.header }
func (d *discardWriter) Write(p []byte) (int, error) { return len(p), nil }
func (d *discardWriter) WriteHeader(int)             {}

// Another's object is not replaced unless the address wants it to be.
func TestSinkCollision(t *testing.T) {
	for name, size := range map[string]int{"upload": 9 << 20, "object": 1000} {
		t.Run(name, func(t *testing.T) {
			b := newBucket(t)
			part := sdktest.Content{Name: "one.bin", Bytes: sdktest.Pattern(1, size)}
			sink := sdk.NewDataSink(newTestPlugin(t, nil).Sinks[0])
			a := b.address("collision", collisionFail)
			f := b.open(t, sink, a, part, nil)
			f.begin(0, int64(size))
			f.bytes(0, size-1)
			f.checkpoint(1)
			b.put("one.bin", []byte("another's")) // after the sink has looked
			f.bytes(size-1, size)
			if e := sdk.AsError(f.end()); e == nil || e.Code != sdk.Conflict {
				t.Errorf("the error is %v, not a conflict", e)
			}
			b.expect(t, "one.bin", []byte("another's"))
			b.expectNothingBegun(t)
			f = b.open(t, sink, a, part, nil)
			f.begin(0, int64(size))
			if e := sdk.AsError(f.last()); e == nil || e.Code != sdk.Conflict {
				t.Errorf("the error is %v, not a conflict", e)
			}
		})
	}
}

// What the store refuses once is tried again.
func TestSinkTriesAgain(t *testing.T) {
	b := newBucket(t)
	var n atomic.Int64
	endpoint := newProxy(t, func(w http.ResponseWriter, req *http.Request) bool {
		if n.Add(1)%3 != 0 {
			return false
		}
		io.Copy(io.Discard, req.Body)
		w.WriteHeader(http.StatusServiceUnavailable)
		return true
	})
	part := sdktest.Content{Name: "one.bin", Bytes: sdktest.Pattern(1, 17<<20)}
	f := b.open(t, sdk.NewDataSink(newTestPlugin(t, nil).Sinks[0]), b.at(endpoint), part, nil)
	f.begin(0, int64(len(part.Bytes)))
	f.bytes(0, len(part.Bytes))
	if err := f.end(); err != nil {
		t.Fatal(err)
	}
	b.expect(t, "one.bin", part.Bytes)
}

func TestSinkObjectName(t *testing.T) {
	b := newBucket(t)
	sink := sdk.NewDataSink(newTestPlugin(t, nil).Sinks[0])
	part := sdktest.Content{Name: "one.bin", Bytes: []byte("x")}
	a := b.address("folderName", "f", "objectName", "renamed.bin")
	f := b.open(t, sink, a, part, nil)
	f.begin(0, 1)
	f.bytes(0, 1)
	if err := f.end(); err != nil {
		t.Fatal(err)
	}
	b.expect(t, "f/renamed.bin", part.Bytes)
	f = b.open(t, sink, a, part, nil)
	f.send(&sdk.PartBegin{PartInfo: sdk.PartInfo{Name: "two.bin", Index: 1, Size: 1}})
	if e := sdk.AsError(f.last()); e == nil || e.Code != sdk.Invalid {
		t.Errorf("the error for a second part is %v", e)
	}
}

// Records are in objects of a size, and in one after a time though no more come. What was acknowledged stays when the flow ends for
// good, and what comes again replaces what it was.
func TestSinkRecords(t *testing.T) {
	b := newBucket(t)
	sink := sdk.NewDataSink(newTestPlugin(t, nil).Sinks[0])
	a := b.address("batchSize", "4KiB")
	record := func(i int) sdk.Record {
		return sdk.Record{Key: fmt.Appendf(nil, "%d", i), Value: sdktest.Pattern(i, 100)}
	}
	batch := func(from, to int) *sdk.RecordBatch {
		var records []sdk.Record
		for i := range to - from {
			records = append(records, record(from+i))
		}
		return &sdk.RecordBatch{Batch: sdk.RecordsBatch(records)}
	}
	offset := func(to int) (n int64) {
		for i := range to {
			r := record(i)
			n += int64(len(r.Key) + len(r.Value))
		}
		return n
	}
	expect := func(n int) {
		t.Helper()
		got, err := b.records("events")
		if err != nil || len(got) != n {
			t.Fatalf("%d records, want %d: %v", len(got), n, err)
		}
		for i, r := range got {
			if string(r.Key) != string(record(i).Key) || !bytes.Equal(r.Value, record(i).Value) {
				t.Fatalf("record %d is %s", i, r.Key)
			}
		}
	}
	begin := func(from int) *sdk.PartBegin {
		return &sdk.PartBegin{PartInfo: sdk.PartInfo{Name: "events", Records: true, Size: sdk.SizeUnknown}, Offset: offset(from)}
	}
	f := b.open(t, sink, a, sdktest.Content{}, nil)
	f.send(begin(0), batch(0, 100))
	token := f.checkpoint(1)
	f.send(batch(100, 250))
	f.checkpoint(2) // not stored by the host
	f.stream.Close()
	expect(250)

	f = b.open(t, sink, a, sdktest.Content{}, token)
	f.send(begin(100), batch(100, 107))
	f.checkpoint(3)
	f.send(batch(107, 150))
	f.checkpoint(4)
	f.stream.Close()
	expect(150)

	// The process is lost, and with it what it would have done at its end.
	keys, err := b.keys("events/", false)
	if err != nil || len(keys) < 4 {
		t.Fatalf("%q, %v", keys, err)
	}
	last := keys[len(keys)-1]
	if _, err := b.client.DeleteObject(context.Background(), &s3.DeleteObjectInput{Bucket: &b.name, Key: &last}); err != nil {
		t.Fatal(err)
	}
	if err := sink.Deprovision(t.Context(), testFlow, a); err != nil {
		t.Fatal(err)
	}
	expect(150)
	b.expectNothingBegun(t)
}

func TestSinkRecordsByTime(t *testing.T) {
	b := newBucket(t)
	sink := sdk.NewDataSink(newTestPlugin(t, nil).Sinks[0])
	f := b.open(t, sink, b.address("batchTime", "50ms"), sdktest.Content{}, nil)
	f.send(&sdk.PartBegin{PartInfo: sdk.PartInfo{Name: "events", Records: true, Size: sdk.SizeUnknown}},
		&sdk.RecordBatch{Batch: sdk.RecordsBatch([]sdk.Record{{Value: []byte("x")}})})
	for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		if got, err := b.records("events"); err != nil || len(got) == 1 {
			if err != nil {
				t.Fatal(err)
			}
			break
		}
		if time.Now().After(deadline) {
			t.Fatal("the record did not become an object")
		}
	}
	f.stream.Close()
}
