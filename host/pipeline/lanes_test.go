package pipeline_test

import (
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"

	"github.com/towpath-dataplane/towpath/sdk"
	"github.com/towpath-dataplane/towpath/sdk/grpcplugin"
	"github.com/towpath-dataplane/towpath/sdk/sdktest"
)

// lane is how a transfer reaches its source and its sink.
type lane struct {
	source func(*testing.T, *sdktest.Memory) sdk.DataSource
	sink   func(*testing.T, *sdktest.Memory) sdk.DataSink
	seeds  uint64 // of tests that try at random
}

// onEachLane runs a test in one process, over gRPC, with payload spliced beside it, and with one end of either kind.
func onEachLane(t *testing.T, test func(t *testing.T, via lane)) {
	grpcOnly, beside := func(t *testing.T, m *sdktest.Memory) *grpcplugin.Client { return client(t, m, false) },
		func(t *testing.T, m *sdktest.Memory) *grpcplugin.Client { return client(t, m, true) }
	over := func(from, to func(*testing.T, *sdktest.Memory) *grpcplugin.Client) lane {
		return lane{
			func(t *testing.T, m *sdktest.Memory) sdk.DataSource { return from(t, m).Source(sdktest.MemoryType) },
			func(t *testing.T, m *sdktest.Memory) sdk.DataSink { return to(t, m).Sink(sdktest.MemoryType) },
			3,
		}
	}
	for name, via := range map[string]lane{
		"in process": {
			func(_ *testing.T, m *sdktest.Memory) sdk.DataSource { return m.DataSource() },
			func(_ *testing.T, m *sdktest.Memory) sdk.DataSink { return m.DataSink() },
			20,
		},
		"on grpc":         over(grpcOnly, grpcOnly),
		"beside grpc":     over(beside, beside),
		"source on grpc":  over(grpcOnly, beside),
		"sink on grpc":    over(beside, grpcOnly),
		"sink in process": {over(beside, beside).source, func(_ *testing.T, m *sdktest.Memory) sdk.DataSink { return m.DataSink() }, 3},
	} {
		onGRPC = strings.Contains(name, "on grpc")
		t.Run(name, func(t *testing.T) { test(t, via) })
		onGRPC, forgotten = false, sdk.OutstandingBuffers()
	}
}

// gRPC forgets the buffers of a stream that was broken off: they are the garbage collector's.
var (
	onGRPC    bool  // the test that runs has payload on gRPC
	forgotten int64 // buffers that are out for ever
)

// wantBuffersBack waits until all buffers were given back: a plugin lets go of a flow after its host.
func wantBuffersBack(t *testing.T) {
	t.Helper()
	deadline := time.Now().Add(10 * time.Second)
	for !onGRPC && sdk.OutstandingBuffers() > forgotten {
		if time.Now().After(deadline) {
			t.Fatalf("%d buffers were not given back", sdk.OutstandingBuffers()-forgotten)
		}
		time.Sleep(time.Millisecond)
	}
}

// client serves a memory as a plugin, and returns the host's half, with or without lanes.
func client(t *testing.T, m *sdktest.Memory, lanes bool) *grpcplugin.Client {
	t.Helper()
	dir, err := os.MkdirTemp("", "tp")
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("unix", filepath.Join(dir, "s"))
	if err != nil {
		t.Fatal(err)
	}
	s := grpcplugin.NewServer(nil)
	grpcplugin.Register(s, m.Plugin())
	served := make(chan error)
	go func() { served <- s.Serve(l) }()
	conn, err := grpc.NewClient("unix:"+l.Addr().String(), grpcplugin.DialOptions()...)
	if err != nil {
		t.Fatal(err)
	}
	c, stop := grpcplugin.NewClient(conn), func() {}
	if _, err := c.Describe(t.Context(), "test"); err != nil {
		t.Fatal(err)
	}
	if lanes {
		if stop, err = c.OfferLanes(filepath.Join(dir, "lanes"), grpcplugin.LaneOptions{After: -1}); err != nil {
			t.Fatal(err)
		}
	}
	t.Cleanup(func() {
		conn.Close()
		stop()
		s.Stop()
		<-served
		os.RemoveAll(dir)
	})
	return c
}
