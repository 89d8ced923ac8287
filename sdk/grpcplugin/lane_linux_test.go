package grpcplugin

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"os"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"

	pluginv1 "github.com/towpath-dataplane/towpath/proto/towpath/plugin/v1"
	"github.com/towpath-dataplane/towpath/sdk"
	"github.com/towpath-dataplane/towpath/sdk/sdktest"
)

func FuzzItem(f *testing.F) {
	for _, i := range []item{{dataItem, 0, 1}, {dataItem, 0, sdk.MaxData}, {recordsItem, maxItemRecords, maxMessageSize}, {controlItem, 0, 0}} {
		h := i.header()
		f.Add(h[:])
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		var h [itemHeader]byte
		copy(h[:], b)
		i, err := parseItem(h)
		if err != nil {
			return
		}
		if i.size > maxMessageSize || i.kind == dataItem && (i.size == 0 || i.size > sdk.MaxData) || i.header() != h {
			t.Errorf("%x was taken for %+v", h, i)
		}
	})
}

func TestItemsThatAreRefused(t *testing.T) {
	for _, i := range []item{{0, 0, 1}, {4, 0, 1}, {dataItem, 0, 0}, {dataItem, 1, 1}, {dataItem, 0, sdk.MaxData + 1}, {recordsItem, 1, 0},
		{recordsItem, 1, maxMessageSize + 1}, {controlItem, 0, 1}, {controlItem, 1, 0}} {
		if _, err := parseItem(i.header()); err == nil {
			t.Errorf("%+v was accepted", i)
		}
	}
}

// descriptors counts the open descriptors of this process.
func descriptors(t *testing.T) int {
	t.Helper()
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(entries)
}

// TestLanesLeaveNoDescriptors: flows that end, that fail and that are cut give back what they had.
func TestLanesLeaveNoDescriptors(t *testing.T) {
	memory := &sdktest.Memory{}
	memory.Put("large", sdktest.Pattern(1, 4<<20))
	c := laneClient(t, memory.Plugin())
	before := descriptors(t)
	for i := range 30 {
		ctx, cancel := context.WithCancel(t.Context())
		stream, err := c.Source(sdktest.MemoryType).Read(ctx, sdk.ReadOpen{Address: memory.Address(""), Unread: i%2 == 0})
		if err != nil {
			t.Fatal(err)
		}
		for n := 0; n < i; n++ {
			f, err := stream.Recv()
			if err != nil {
				break
			}
			sdk.Release(f)
		}
		if i%3 == 0 {
			cancel()
		}
		stream.Close()
		cancel()
	}
	until(t, "all descriptors closed", func() bool { return descriptors(t) <= before })
	until(t, "all buffers given back", func() bool { return sdk.OutstandingBuffers() == 0 })
}

// TestUnreadPayloadIsAnybodys: a payload that was left in the lane can be read, read again, dropped, and outlive the next frame.
func TestUnreadPayloadIsAnybodys(t *testing.T) {
	memory := &sdktest.Memory{}
	content := sdktest.Pattern(1, 5*sdk.BufferSize)
	memory.Put("a", content)
	stream, err := laneClient(t, memory.Plugin()).Source(sdktest.MemoryType).Read(t.Context(),
		sdk.ReadOpen{Address: memory.Address(""), Unread: true})
	if err != nil {
		t.Fatal(err)
	}
	defer stream.Close()
	var got bytes.Buffer
	var held *sdk.Data
	for i := 0; ; i++ {
		f, err := stream.Recv()
		if err == io.EOF {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		data, ok := f.(*sdk.Data)
		if held != nil {
			held.WriteTo(io.Discard)
			held.WriteTo(&got)
			held.Release()
			held = nil
		}
		switch {
		case !ok:
		case i == 2:
			got.Write(content[got.Len() : got.Len()+data.Len()])
			data.Release() // unread
		default:
			held = data
		}
	}
	if !bytes.Equal(got.Bytes(), content) {
		t.Errorf("%d bytes that differ from the %d sent", got.Len(), len(content))
	}
}

// rudeSource is a plugin in another language that takes up the lane and then does as it likes.
type rudeSource struct {
	pluginv1.UnimplementedPluginServer
	pluginv1.UnimplementedDataSourceServer
	do func(lane *net.UnixConn, say func(*pluginv1.Frame)) error
}

func (r rudeSource) Describe(context.Context, *pluginv1.DescribeRequest) (*pluginv1.DescribeResponse, error) {
	return &pluginv1.DescribeResponse{Name: "rude", Capabilities: &pluginv1.Capabilities{Lanes: []string{"later", LaneName}}}, nil
}

func (r rudeSource) Read(stream grpc.BidiStreamingServer[pluginv1.ReadUp, pluginv1.Frame]) error {
	up, err := stream.Recv()
	if err != nil {
		return err
	}
	lane, err := dialLane(stream.Context(), up.GetOpen().GetLane())
	if err != nil {
		return err
	}
	say := func(f *pluginv1.Frame) {
		var m message
		if err := m.fromProto(f); err != nil {
			panic(err)
		}
		stream.SendMsg(&m)
	}
	say(&pluginv1.Frame{Kind: &pluginv1.Frame_Lane{}})
	if err := r.do(lane.UnixConn, say); err != nil {
		return err
	}
	<-stream.Context().Done()
	return nil
}

// rudeSink ignores the lane that it is told of.
type rudeSink struct {
	pluginv1.UnimplementedDataSinkServer
}

func (rudeSink) Write(stream grpc.BidiStreamingServer[pluginv1.Frame, pluginv1.WriteUp]) error {
	<-stream.Context().Done()
	return nil
}

func rude(t *testing.T, do func(lane *net.UnixConn, say func(*pluginv1.Frame)) error) *Client {
	t.Helper()
	r := rudeSource{do: do}
	return offering(t, NewClient(connectTo(t, func(s *grpc.Server) {
		pluginv1.RegisterPluginServer(s, r)
		pluginv1.RegisterDataSourceServer(s, r)
		pluginv1.RegisterDataSinkServer(s, rudeSink{})
	}, DialOptions()...)))
}

func TestLanesOfRudeSources(t *testing.T) {
	begin := &pluginv1.Frame{Kind: &pluginv1.Frame_PartBegin{PartBegin: &pluginv1.PartBegin{Name: "a"}}}
	write := func(c net.Conn, i item, body string) {
		h := i.header()
		c.Write(append(h[:], body...))
	}
	for name, c := range map[string]struct {
		do   func(c *net.UnixConn, say func(*pluginv1.Frame)) error
		says string
	}{
		"closes and is silent":          {func(c *net.UnixConn, _ func(*pluginv1.Frame)) error { return c.Close() }, "did not say why"},
		"closes its half and is silent": {func(c *net.UnixConn, _ func(*pluginv1.Frame)) error { return c.CloseWrite() }, "did not say why"},
		"closes inside a header": {func(c *net.UnixConn, _ func(*pluginv1.Frame)) error {
			c.Write([]byte{1, 0})
			return c.Close()
		}, "did not say why"},
		"closes inside a body and says why": {func(c *net.UnixConn, say func(*pluginv1.Frame)) error {
			write(c, item{kind: dataItem, size: 10}, "abc")
			return statusOf(sdk.Errorf(sdk.NotFound, "it is gone"))
		}, "it is gone"},
		"says why and leaves the lane open": {func(c *net.UnixConn, say func(*pluginv1.Frame)) error {
			return statusOf(sdk.Errorf(sdk.NotFound, "it is gone"))
		}, "it is gone"},
		"sends an item of no kind": {func(c *net.UnixConn, _ func(*pluginv1.Frame)) error {
			write(c, item{kind: 9}, "")
			return nil
		}, "an item of kind 9"},
		"sends payload on gRPC as well": {func(c *net.UnixConn, say func(*pluginv1.Frame)) error {
			write(c, item{kind: controlItem}, "")
			say(&pluginv1.Frame{Kind: &pluginv1.Frame_Lane{}})
			return nil
		}, "began twice"},
		"sends a batch that is none": {func(c *net.UnixConn, say func(*pluginv1.Frame)) error {
			write(c, item{kind: controlItem}, "")
			say(begin)
			write(c, item{kind: recordsItem, count: 1, size: 3}, "abc")
			return nil
		}, "malformed"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			stream, err := rude(t, c.do).Source("").Read(t.Context(), sdk.ReadOpen{})
			if err != nil {
				t.Fatal(err)
			}
			defer stream.Close()
			for err == nil {
				var f sdk.Frame
				f, err = stream.Recv()
				if b, ok := f.(*sdk.RecordBatch); ok {
					_, err = b.Records()
				}
				sdk.Release(f)
			}
			if !strings.Contains(err.Error(), c.says) {
				t.Errorf("got %q", err)
			}
		})
	}
}

func TestSinkThatDoesNotTakeUpItsLane(t *testing.T) {
	t.Parallel()
	stream, err := rude(t, nil).Sink("").Write(t.Context(), sdk.WriteOpen{})
	if err != nil {
		t.Fatal(err)
	}
	defer stream.Close()
	err = stream.Send(&sdk.Data{Payload: sdk.BytesPayload("abc")})
	if e := sdk.AsError(err); err == nil || e.Code != sdk.Unavailable || !e.Retryable {
		t.Errorf("got %v", err)
	}
}

// TestStrangersOnTheLaneSocket: who does not know a token gets nothing, and is in nobody's way.
func TestStrangersOnTheLaneSocket(t *testing.T) {
	memory := &sdktest.Memory{}
	memory.Put("a", sdktest.Pattern(1, 1<<20))
	c := laneClient(t, memory.Plugin())
	addr := c.lanes.Load().listener.Addr()
	for _, says := range []string{"", "short", strings.Repeat("x", laneToken)} {
		conn, err := net.Dial(addr.Network(), addr.String())
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		io.WriteString(conn, says)
		if len(says) == laneToken {
			if _, err := conn.Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
				t.Errorf("a stranger was answered: %v", err)
			}
		}
	}
	stream, err := c.Source(sdktest.MemoryType).Read(t.Context(), sdk.ReadOpen{Address: memory.Address("")})
	if err != nil {
		t.Fatal(err)
	}
	defer stream.Close()
	for err == nil {
		var f sdk.Frame
		f, err = stream.Recv()
		sdk.Release(f)
	}
	if err != io.EOF {
		t.Error(err)
	}
}

// A sink that takes nothing is cut as soon as the host hangs up.
func TestStalledSinkIsCutAtOnce(t *testing.T) {
	gate := sdktest.NewGate(1)
	memory := &sdktest.Memory{Writing: gate.Hook}
	ctx, cancel := context.WithCancel(t.Context())
	stream, err := laneClient(t, memory.Plugin()).Sink(sdktest.MemoryType).Write(ctx, sdk.WriteOpen{Address: memory.Address("")})
	if err != nil {
		t.Fatal(err)
	}
	stream.Send(&sdk.PartBegin{PartInfo: sdk.PartInfo{Name: "a", Size: sdk.SizeUnknown}})
	for range 16 { // more than the sink's side takes, less than the socket does
		if err := stream.Send(&sdk.Data{Payload: sdk.BytesPayload(make([]byte, 8<<10))}); err != nil {
			t.Fatal(err)
		}
	}
	<-gate.Reached()
	start := time.Now()
	cancel()
	stream.Close()
	if took := time.Since(start); took >= hangUpWait {
		t.Errorf("it took %s", took)
	}
}
