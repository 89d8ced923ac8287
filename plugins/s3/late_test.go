package main

import (
	"context"
	"errors"
	"net"
	"net/http"
	"os/exec"
	"path"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"

	"github.com/towpath-dataplane/towpath/sdk"
	"github.com/towpath-dataplane/towpath/sdk/sdktest"
)

// The answer to the beginning of an upload is lost. The upload that nobody knows of goes when the part is written again.
func TestSinkLosesAnswerToTheBeginning(t *testing.T) {
	b := newBucket(t)
	var lost atomic.Bool
	transport := &http.Transport{DisableKeepAlives: true}
	endpoint := newProxy(t, func(w http.ResponseWriter, req *http.Request) bool {
		if req.Method != http.MethodPost || !req.URL.Query().Has("uploads") || lost.Swap(true) {
			return false
		}
		forward(transport, &discardWriter{header: http.Header{}}, req)
		if c, _, err := http.NewResponseController(w).Hijack(); err == nil {
			c.(*net.TCPConn).SetLinger(0) // resets the connection
			c.Close()
		}
		return true
	})
	part := sdktest.Content{Name: "one.bin", Bytes: sdktest.Pattern(1, 12<<20)}
	sink := sdk.NewDataSink(newTestPlugin(t, nil).Sinks[0])
	write := func() error {
		f := b.open(t, sink, b.at(endpoint), part, nil)
		f.begin(0, int64(len(part.Bytes)))
		f.bytes(0, len(part.Bytes))
		return f.end()
	}
	err := write()
	if err != nil {
		if !sdk.AsError(err).Retryable {
			t.Fatal(err)
		}
		err = write()
	}
	if err != nil || !lost.Load() {
		t.Fatalf("%v, lost: %t", err, lost.Load())
	}
	b.expect(t, "one.bin", part.Bytes)
	b.expectNothingBegun(t)
}

// What a write that was cut has sent comes to be only while the flow is cleared up.
func TestSinkDeprovisionWhileRequestsAreOnTheirWay(t *testing.T) {
	const key = "one.bin"
	for name, c := range map[string]struct {
		until func(req *http.Request) bool // what is answered before it comes
		late  func(t *testing.T, b *bucket, folder string)
	}{
		"tail": {
			func(req *http.Request) bool { return req.URL.Query().Get("list-type") == "2" },
			func(_ *testing.T, b *bucket, folder string) { b.put(path.Join(folder, "tail-0-x"), []byte("late")) },
		},
		"upload": {
			func(req *http.Request) bool { return req.URL.Query().Has("uploads") },
			func(t *testing.T, b *bucket, _ string) {
				in := &s3.CreateMultipartUploadInput{Bucket: &b.name, Key: aws.String(key)}
				if _, err := b.client.CreateMultipartUpload(t.Context(), in); err != nil {
					t.Error(err)
				}
			},
		},
	} {
		t.Run(name, func(t *testing.T) {
			b := newBucket(t)
			k := writerOf(t, b).newWork(key, newNonce())
			if err := k.note(t.Context(), note{Key: key}); err != nil {
				t.Fatal(err)
			}
			var came atomic.Bool
			transport := &http.Transport{DisableKeepAlives: true, ResponseHeaderTimeout: time.Minute}
			endpoint := newProxy(t, func(w http.ResponseWriter, req *http.Request) bool {
				if !c.until(req) || came.Swap(true) {
					return false
				}
				forward(transport, w, req)
				c.late(t, b, strings.TrimSuffix(k.folder, "/"))
				return true
			})
			sink := sdk.NewDataSink(newTestPlugin(t, nil).Sinks[0])
			if err := sink.Deprovision(t.Context(), testFlow, b.at(endpoint)); err != nil || !came.Load() {
				t.Fatalf("%v, it came: %t", err, came.Load())
			}
			b.expectNothingBegun(t)
		})
	}
}

// A write that is cut knows whether what it has begun has come to be, and the flow is not cleared up before that.
func TestSinkWaitsForWhatItHasBegun(t *testing.T) {
	b := newBucket(t)
	ctx, cut := context.WithCancel(t.Context())
	endpoint := newProxy(t, func(_ http.ResponseWriter, req *http.Request) bool {
		if req.Method == http.MethodPut {
			cut()
		}
		return false
	})
	plugin := newTestPlugin(t, nil)
	env := plugin.Sinks[0].Sink.(*sink).env
	to, err := env.newWriteFolder(b.at(endpoint))
	if err != nil {
		t.Fatal(err)
	}
	w := &writer{store: env.open(to.place), to: to, flow: flowHash(testFlow)}
	k := w.newWork("one.bin", newNonce())
	end := env.writes.begin(w.flow)
	if err := k.note(ctx, note{Key: "one.bin"}); err != nil || ctx.Err() == nil {
		t.Fatalf("a note that was on its way: %v, cut: %v", err, ctx.Err())
	}
	if err := k.note(ctx, note{Key: "one.bin"}); !errors.Is(err, context.Canceled) {
		t.Errorf("a note after the cut: %v", err)
	}

	patience, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	deprovision := sdk.NewDataSink(plugin.Sinks[0]).Deprovision
	if err := deprovision(patience, testFlow, b.address()); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("cleared up while a write runs: %v", err)
	}
	end()
	if err := deprovision(t.Context(), testFlow, b.address()); err != nil {
		t.Fatal(err)
	}
	b.expectNothingBegun(t)
}

// A part that was on its way when its upload was aborted brings the upload back, long after anybody has looked: Deprovision still ends it.
func TestSinkEndsAnUploadThatComesBack(t *testing.T) {
	b := newBucket(t)
	sink := sdk.NewDataSink(newTestPlugin(t, nil).Sinks[0])
	part := sdktest.Content{Name: "one.bin", Bytes: sdktest.Pattern(1, 12<<20)}
	f := b.open(t, sink, b.address(), part, nil)
	f.begin(0, int64(len(part.Bytes)))
	f.bytes(0, 11<<20)
	f.checkpoint(1)
	f.stream.Close()
	uploads := filepath.Join(server.folder, b.name, ".sgwtmp", "multipart")
	aside := t.TempDir()
	copyAll := func(from, to string) {
		if out, err := exec.Command("cp", "-a", from+"/.", to).CombinedOutput(); err != nil { // with their attributes
			t.Fatalf("%v: %s", err, out)
		}
	}
	copyAll(uploads, aside)
	f = b.open(t, sink, b.address(), part, nil) // nobody has stored the checkpoint
	f.begin(0, int64(len(part.Bytes)))
	f.bytes(0, len(part.Bytes))
	if err := f.end(); err != nil {
		t.Fatal(err)
	}
	copyAll(aside, uploads)
	if back, err := b.uploads(); err != nil || len(back) == 0 {
		t.Fatalf("the upload has not come back: %q, %v", back, err)
	}
	if err := sink.Deprovision(t.Context(), testFlow, b.address()); err != nil {
		t.Fatal(err)
	}
	b.expectNothingBegun(t)
	b.expect(t, "one.bin", part.Bytes)
}
