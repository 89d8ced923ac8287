package main

import (
	"fmt"
	"io"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"

	"github.com/towpath-dataplane/towpath/sdk"
	"github.com/towpath-dataplane/towpath/sdk/sdktest"
)

// smallCopies has the plugin copy in ranges what is larger than the protocol's smallest.
var smallCopies = map[string]any{"copy_part_size": "5MiB"}

func TestCopySuite(t *testing.T) {
	parts := []sdktest.Content{
		{Name: "a/b +%41 ü.bin", Bytes: sdktest.Pattern(1, 1<<20)},
		{Name: "empty", Bytes: []byte{}},
		{Name: "large.bin", Bytes: sdktest.Pattern(2, 11<<20+5)},
		{Name: "small", Bytes: []byte("s")},
	}
	for _, properties := range [][]string{
		{"folderName", "to"},
		{"folderName", "to", "collision", collisionFail},
		{"folderName", "to", "checksums", checksumsRequired},
	} {
		t.Run(strings.Join(properties, " "), func(t *testing.T) {
			sdktest.TestCopy(t, sdktest.CopyCase{Parts: parts, New: func(t *testing.T) sdktest.Copying {
				return newCopying(t, parts, smallCopies, properties...)
			}})
		})
	}
}

// newCopying is a bucket that is read, and another that is written to.
func newCopying(t *testing.T, parts []sdktest.Content, config map[string]any, properties ...string) sdktest.Copying {
	t.Helper()
	from, to := newBucket(t), newBucket(t)
	for _, p := range parts {
		from.put("from/"+p.Name, p.Bytes)
	}
	plugin := newTestPlugin(t, config)
	store := newSinkStore(t, to, properties...)
	store.Sink = sdk.NewDataSink(plugin.Sinks[0])
	elsewhere := func(name, value string) sdk.DataAddress {
		a := store.Address.Clone()
		a.Properties[name] = value
		return a
	}
	return sdktest.Copying{
		Source: sdk.NewDataSource(plugin.Sources[0]), From: from.address("objectPrefix", "from/"), Store: store,
		Elsewhere: []sdk.DataAddress{
			elsewhere("accessKeyId", "another"), elsewhere("secretAccessKey", "another"), elsewhere("sessionToken", "one"),
			elsewhere("region", "eu-central-1"), elsewhere("endpointOverride", "http://127.0.0.1:1"),
			elsewhere("endpointOverride", server.url+"/below"),
		},
		Secrets: []string{testKey, testSecret},
		Replace: func(name string, content []byte) error { from.put("from/"+name, content); return nil },
	}
}

// copied is a flow by reference between two buckets, through a network that counts.
type copied struct {
	from, to     *bucket
	source       sdk.DataSource
	sink         sdk.DataSink
	read, write  sdk.DataAddress
	up, down     atomic.Int64 // bytes of objects
	ranges, once atomic.Int64 // requests to copy
	// edit, if not nil, sees each request to copy, and says whether it was answered.
	edit atomic.Pointer[func(w http.ResponseWriter, req *http.Request) bool]
}

func newCopied(t *testing.T, properties ...string) *copied {
	t.Helper()
	c := &copied{from: newBucket(t), to: newBucket(t)}
	endpoint := newProxy(t, func(w http.ResponseWriter, req *http.Request) bool {
		q := req.URL.Query()
		switch {
		case req.Header.Get("X-Amz-Copy-Source") != "":
			if q.Has("partNumber") {
				c.ranges.Add(1)
			} else {
				c.once.Add(1)
			}
			if edit := c.edit.Load(); edit != nil {
				return (*edit)(w, req)
			}
		case isWork(req.URL.Path):
		case req.Method == http.MethodPut:
			c.up.Add(max(req.ContentLength, 0))
		case req.Method == http.MethodGet && !q.Has("list-type") && !q.Has("uploads") && !q.Has("uploadId"):
			c.down.Add(1)
		}
		return false
	})
	plugin := newTestPlugin(t, smallCopies)
	c.source, c.sink = sdk.NewDataSource(plugin.Sources[0]), sdk.NewDataSink(plugin.Sinks[0])
	c.read, c.write = c.from.at(endpoint, "objectPrefix", "in/"), c.to.at(endpoint, properties...)
	return c
}

// intercept sets what happens to requests to copy.
func (c *copied) intercept(f func(w http.ResponseWriter, req *http.Request) bool) { c.edit.Store(&f) }

// deprovision is the end of the flow: what is remembered of uploads that were given up goes then.
func (c *copied) deprovision(t *testing.T) {
	t.Helper()
	if err := c.sink.Deprovision(t.Context(), testFlow, c.write); err != nil {
		t.Fatal(err)
	}
}

// run moves everything by reference, and returns what the sink said.
func (c *copied) run(t *testing.T, redelivery bool) ([]sdk.Up, error) {
	t.Helper()
	r, err := c.source.Read(t.Context(), sdk.ReadOpen{Flow: testFlow, Address: c.read, ByReference: true})
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	w, err := c.sink.Write(t.Context(), sdk.WriteOpen{Flow: testFlow, Address: c.write, Redelivery: redelivery})
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	var ups []sdk.Up
	done := make(chan error, 1)
	go func() {
		for {
			up, err := w.Recv()
			if err == io.EOF {
				err = nil
			} else if err == nil {
				ups = append(ups, up)
				continue
			}
			done <- err
			return
		}
	}()
	for {
		f, err := r.Recv()
		if err == io.EOF {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		if err := w.Send(f); err != nil {
			break // Recv says why
		}
	}
	err = <-done
	return ups, err
}

// No byte of an object leaves the store. What the store says of its copies is in the receipts, and they look like what was sent as bytes.
func TestCopyMovesNoBytes(t *testing.T) {
	for _, collision := range []string{collisionReplace, collisionFail} {
		t.Run(collision, func(t *testing.T) {
			c := newCopied(t, "folderName", "out", "collision", collision)
			large, small := sdktest.Pattern(1, 13<<20), sdktest.Pattern(2, 1000)
			for key, content := range map[string][]byte{"in/large.bin": large, "in/small.csv": small} {
				c.from.putWithChecksum(key, content)
			}
			ups, err := c.run(t, false)
			if err != nil {
				t.Fatal(err)
			}
			c.to.expect(t, "out/large.bin", large)
			c.to.expect(t, "out/small.csv", small)
			c.deprovision(t)
			c.to.expectNothingBegun(t)
			if c.up.Load() != 0 || c.down.Load() != 0 {
				t.Errorf("%d bytes of objects were sent, %d objects were read", c.up.Load(), c.down.Load())
			}
			if whole := c.once.Load(); c.ranges.Load() < 3 || whole > 1 {
				t.Errorf("copied by %d requests for ranges and %d for whole objects", c.ranges.Load(), whole)
			}
			for _, up := range ups {
				p, ok := up.(*sdk.PartWritten)
				if !ok {
					continue
				}
				d := sdk.NewDigester(sdk.CRC32C)
				d.Write(map[uint64][]byte{0: large, 1: small}[p.Index])
				if got, want := p.Digests.Hex(sdk.CRC32C), d.Sum().Hex(sdk.CRC32C); got != want {
					t.Errorf("part %d: the receipt has crc32c %q, want %q", p.Index, got, want)
				}
			}
			out, err := c.to.client.HeadObject(t.Context(), &s3.HeadObjectInput{Bucket: &c.to.name, Key: aws.String("out/small.csv")})
			if err != nil || !strings.HasPrefix(aws.ToString(out.ContentType), "text/csv") || out.Metadata[markName] == "" {
				t.Errorf("the copy has type %q and metadata %v, %v", aws.ToString(out.ContentType), out.Metadata, err)
			}
			before := c.ranges.Load() + c.once.Load()
			if _, err := c.run(t, true); err != nil || c.ranges.Load()+c.once.Load() != before {
				t.Errorf("what was copied before is copied again: %v", err)
			}
		})
	}
}

func (b *bucket) putWithChecksum(key string, content []byte) {
	b.t.Helper()
	_, err := b.client.PutObject(b.t.Context(), &s3.PutObjectInput{
		Bucket: &b.name, Key: &key, Body: strings.NewReader(string(content)), ChecksumAlgorithm: types.ChecksumAlgorithmCrc32c,
	})
	if err != nil {
		b.t.Fatal(err)
	}
}

// Another flow's object is no place for a copy where collisions fail.
func TestCopyHeedsCollisions(t *testing.T) {
	c := newCopied(t, "collision", collisionFail)
	c.from.put("in/a", []byte("new"))
	c.to.put("a", []byte("old"))
	for _, redelivery := range []bool{false, true} {
		if _, err := c.run(t, redelivery); err == nil || sdk.AsError(err).Code != sdk.Conflict {
			t.Errorf("redelivery %t: %v", redelivery, err)
		}
	}
	c.to.expect(t, "a", []byte("old"))
	c.to.expectNothingBegun(t)
}

// What a store has against copies is not the end of the transfer, unless it can pass by itself.
func TestCopyIsRefused(t *testing.T) {
	refuse := func(status int, code string) func(http.ResponseWriter, *http.Request) bool {
		return func(w http.ResponseWriter, req *http.Request) bool {
			w.Header().Set("Content-Type", "application/xml")
			w.WriteHeader(status)
			fmt.Fprintf(w, "<Error><Code>%s</Code><Message>not with %s</Message></Error>", code, testSecret)
			return true
		}
	}
	second := func(then func(http.ResponseWriter, *http.Request) bool) func(http.ResponseWriter, *http.Request) bool {
		return func(w http.ResponseWriter, req *http.Request) bool {
			return req.URL.Query().Get("partNumber") == "2" && then(w, req)
		}
	}
	for _, tt := range []struct {
		name      string
		size      int
		answer    func(http.ResponseWriter, *http.Request) bool
		code      sdk.Code
		retryable bool
	}{
		{"denied", 10, refuse(http.StatusForbidden, "AccessDenied"), sdk.NotCopied, false},
		{"not implemented", 10, refuse(http.StatusNotImplemented, "NotImplemented"), sdk.NotCopied, false},
		{"no such method", 10, refuse(http.StatusMethodNotAllowed, "MethodNotAllowed"), sdk.NotCopied, false},
		{"invalid", 10, refuse(http.StatusBadRequest, "InvalidRequest"), sdk.NotCopied, false},
		{"gone", 10, refuse(http.StatusNotFound, "NoSuchKey"), sdk.NotCopied, false},
		{"broken", 10, refuse(http.StatusInternalServerError, "InternalError"), sdk.NotCopied, false},
		{"busy", 10, refuse(http.StatusServiceUnavailable, "SlowDown"), sdk.Unavailable, true},
		{"changed", 10, refuse(http.StatusPreconditionFailed, "PreconditionFailed"), sdk.Corrupt, true},
		{"range denied", 12 << 20, second(refuse(http.StatusForbidden, "AccessDenied")), sdk.NotCopied, false},
		{"range changed", 12 << 20, second(refuse(http.StatusPreconditionFailed, "PreconditionFailed")), sdk.Corrupt, true},
		{"upload gone", 12 << 20, second(refuse(http.StatusNotFound, "NoSuchUpload")), sdk.Corrupt, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			c := newCopied(t)
			c.from.put("in/a", sdktest.Pattern(1, tt.size))
			c.intercept(tt.answer)
			_, err := c.run(t, false)
			if e := sdk.AsError(err); err == nil || e.Code != tt.code || e.Retryable != tt.retryable {
				t.Fatalf("error %v with code %q, retryable %t", err, e.Code, e.Retryable)
			}
			if e := sdk.AsError(err); e.Part != "a" || strings.Contains(err.Error(), testSecret) {
				t.Errorf("error %v is about part %q", err, e.Part)
			}
			if keys, err := c.to.keys("", false); err != nil || len(keys) > 0 {
				t.Errorf("there are %q, %v", keys, err)
			}
			c.to.expectNothingBegun(t)
		})
	}
}

// An object that changes while ranges of it are copied is copied anew, even by a store that does not heed the condition and has copied some
// of each.
func TestCopyIsNeverMixed(t *testing.T) {
	for _, heeds := range []bool{true, false} {
		t.Run(fmt.Sprintf("store heeds conditions %t", heeds), func(t *testing.T) {
			c := newCopied(t)
			before, after := sdktest.Pattern(1, 12<<20), sdktest.Pattern(2, 12<<20)
			c.from.put("in/a", before)
			var once atomic.Bool
			c.intercept(func(w http.ResponseWriter, req *http.Request) bool {
				if req.URL.Query().Get("partNumber") != "3" || !once.CompareAndSwap(false, true) {
					return false
				}
				c.from.put("in/a", after)
				if !heeds {
					c.to.copyPart(w, req)
				}
				return !heeds
			})
			_, err := c.run(t, false)
			if e := sdk.AsError(err); err == nil || e.Code != sdk.Corrupt || !e.Retryable {
				t.Fatalf("error %v", err)
			}
			if keys, err := c.to.keys("", false); err != nil || len(keys) > 0 {
				t.Errorf("there are %q, %v", keys, err)
			}
			c.to.expectNothingBegun(t)
			if _, err := c.run(t, true); err != nil {
				t.Fatal(err)
			}
			c.to.expect(t, "a", after)
		})
	}
}

// copyPart does what a request asks for, but for its condition.
func (b *bucket) copyPart(w http.ResponseWriter, req *http.Request) {
	number, err := strconv.Atoi(req.URL.Query().Get("partNumber"))
	if err != nil {
		b.t.Error(err)
	}
	out, err := b.client.UploadPartCopy(req.Context(), &s3.UploadPartCopyInput{
		Bucket: &b.name, Key: aws.String(strings.TrimPrefix(req.URL.Path, "/"+b.name+"/")), UploadId: aws.String(req.URL.Query().Get("uploadId")),
		PartNumber: aws.Int32(int32(number)), CopySource: aws.String(req.Header.Get("X-Amz-Copy-Source")),
		CopySourceRange: aws.String(req.Header.Get("X-Amz-Copy-Source-Range")),
	})
	if err != nil {
		b.t.Error(err)
		panic(http.ErrAbortHandler)
	}
	w.Header().Set("Content-Type", "application/xml")
	fmt.Fprintf(w, "<CopyPartResult><ETag>%s</ETag></CopyPartResult>", aws.ToString(out.CopyPartResult.ETag))
}

// A flow that is cut keeps what is copied. When it is over, nothing of it is left.
func TestCopyIsCut(t *testing.T) {
	c := newCopied(t)
	content := sdktest.Pattern(1, 17<<20)
	c.from.put("in/a", content)
	stopped := make(chan struct{})
	c.intercept(func(_ http.ResponseWriter, req *http.Request) bool {
		if req.URL.Query().Get("partNumber") == "4" {
			select {
			case <-stopped:
			case <-req.Context().Done():
			}
		}
		return false
	})
	source, sink, inside, _ := c.half(t)
	if begun, err := c.to.begun(); err != nil || len(begun) == 0 {
		t.Errorf("the sink keeps %q, %v", begun, err)
	}
	close(stopped)
	c.intercept(func(http.ResponseWriter, *http.Request) bool { return false })
	before := c.ranges.Load()
	ups := c.rest(t, source, sink)
	if first := ups[0].(*sdk.Copied); first.Bytes <= inside {
		t.Errorf("the copy goes on at %d, although %d bytes were there", first.Bytes, inside)
	}
	if n := c.ranges.Load() - before; n > 4 {
		t.Errorf("%d ranges were copied anew", n)
	}
	c.to.expect(t, "a", content)
	c.to.expectNothingBegun(t)
	if c.up.Load() != 0 || c.down.Load() != 0 {
		t.Errorf("%d bytes of objects were sent, %d objects were read", c.up.Load(), c.down.Load())
	}
}

// half copies until there is something to go on from, and cuts. It returns the tokens, and how much is there.
func (c *copied) half(t *testing.T) (source, sink []byte, bytes, index int64) {
	t.Helper()
	r, err := c.source.Read(t.Context(), sdk.ReadOpen{Flow: testFlow, Address: c.read, ByReference: true})
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	w, err := c.sink.Write(t.Context(), sdk.WriteOpen{Flow: testFlow, Address: c.write})
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	for ended := false; !ended; {
		f, err := r.Recv()
		if err != nil {
			t.Fatal(err)
		}
		if checkpoint, ok := f.(*sdk.Checkpoint); ok {
			source = checkpoint.Token
		}
		_, ended = f.(*sdk.PartEnd)
		if err := w.Send(f); err != nil {
			t.Fatal(err)
		}
	}
	for {
		up, err := w.Recv()
		if err != nil {
			t.Fatal(err)
		}
		switch up := up.(type) {
		case *sdk.Copied:
			bytes, index = up.Bytes, int64(up.Index)
		case *sdk.Durable:
			return source, up.Token, bytes, index
		}
	}
}

// rest goes on from tokens to the end, and returns what the sink said.
func (c *copied) rest(t *testing.T, source, sink []byte) []sdk.Up {
	t.Helper()
	r, err := c.source.Read(t.Context(), sdk.ReadOpen{Flow: testFlow, Address: c.read, ResumeToken: source, ByReference: true})
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	w, err := c.sink.Write(t.Context(), sdk.WriteOpen{Flow: testFlow, Address: c.write, ResumeToken: sink, Redelivery: true})
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	go func() {
		for {
			f, err := r.Recv()
			if err != nil || w.Send(f) != nil {
				return
			}
		}
	}()
	var ups []sdk.Up
	for {
		up, err := w.Recv()
		if err == io.EOF {
			return ups
		}
		if err != nil {
			t.Fatal(err)
		}
		ups = append(ups, up)
	}
}

// An upload that somebody has aborted in between is begun anew.
func TestCopyWithoutItsUpload(t *testing.T) {
	c := newCopied(t)
	content := sdktest.Pattern(1, 17<<20)
	c.from.put("in/a", content)
	source, sink, _, _ := c.half(t)
	out, err := c.to.client.ListMultipartUploads(t.Context(), &s3.ListMultipartUploadsInput{Bucket: &c.to.name})
	if err != nil {
		t.Fatal(err)
	}
	for _, u := range out.Uploads {
		_, err := c.to.client.AbortMultipartUpload(t.Context(), &s3.AbortMultipartUploadInput{Bucket: &c.to.name, Key: u.Key, UploadId: u.UploadId})
		if err != nil {
			t.Fatal(err)
		}
	}
	c.rest(t, source, sink)
	c.to.expect(t, "a", content)
	c.deprovision(t)
	c.to.expectNothingBegun(t)
}

// The operator's credentials are not used for a bucket that they are not for, whatever a reference says.
func TestReferenceToOtherBuckets(t *testing.T) {
	from, to := newBucket(t), newBucket(t)
	from.put("a", []byte("secret"))
	plugin := newTestPlugin(t, map[string]any{
		"access_key_id": testKey, "secret_access_key": testSecret, "default_credentials": []string{server.url + "/" + to.name},
	})
	a := to.address()
	delete(a.Properties, "accessKeyId")
	delete(a.Properties, "secretAccessKey")
	head, err := from.client.HeadObject(t.Context(), &s3.HeadObjectInput{Bucket: &from.name, Key: aws.String("a")})
	if err != nil {
		t.Fatal(err)
	}
	w, err := sdk.NewDataSink(plugin.Sinks[0]).Write(t.Context(), sdk.WriteOpen{Flow: testFlow, Address: a})
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	reference := fmt.Appendf(nil, `{"region":"us-east-1","bucket":%q,"pathStyle":true,"key":"a","etag":%q,"size":6}`, from.name, aws.ToString(head.ETag))
	for _, f := range []sdk.Frame{&sdk.PartBegin{PartInfo: sdk.PartInfo{Name: "a", Size: 6, Reference: reference}}, &sdk.PartEnd{Size: 6}} {
		if err := w.Send(f); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := w.Recv(); err == nil || sdk.AsError(err).Code != sdk.NotCopied {
		t.Errorf("a reference to a bucket that was not granted: %v", err)
	}
	if keys, err := to.keys("", false); err != nil || len(keys) > 0 {
		t.Errorf("there are %q, %v", keys, err)
	}
}

func TestPartition(t *testing.T) {
	var names []string
	for _, region := range []string{"eu-central-1", "us-east-1", "cn-north-1", "us-gov-west-1", "us-iso-east-1"} {
		names = append(names, partition(region))
	}
	if names[0] != names[1] || len(slices.Compact(slices.Sorted(slices.Values(names)))) != 4 {
		t.Errorf("partitions are %q", names)
	}
}

func FuzzReference(f *testing.F) {
	for _, seed := range []string{`{"region":"us-east-1","bucket":"abc","key":"k","etag":"\"e\"","size":3}`, "{}", "x", `{"size":-1}`} {
		f.Add([]byte(seed))
	}
	s := &store{place: &place{identity: "x"}}
	f.Fuzz(func(t *testing.T, text []byte) {
		r, err := s.decodeReference(&sdk.IncomingPart{PartInfo: sdk.PartInfo{Reference: text, Size: 3}})
		if err != nil {
			if sdk.AsError(err).Code != sdk.NotCopied {
				t.Errorf("error %v", err)
			}
			return
		}
		if !isBucket(r.Bucket) || !isRegion(r.Region) || r.Size != 3 || strings.Contains(r.copySource(), " ") {
			t.Errorf("%+v was accepted", r)
		}
	})
}
