package grpcplugin

import (
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	pluginv1 "github.com/towpath-dataplane/towpath/proto/towpath/plugin/v1"
	"github.com/towpath-dataplane/towpath/sdk"
	"github.com/towpath-dataplane/towpath/sdk/sdktest"
)

// connect serves p on a unix socket and returns a connection with the given options.
func connect(t *testing.T, p sdk.Plugin, options ...grpc.DialOption) *grpc.ClientConn {
	t.Helper()
	return connectTo(t, func(s *grpc.Server) { Register(s, p) }, options...)
}

func connectTo(t *testing.T, register func(*grpc.Server), options ...grpc.DialOption) *grpc.ClientConn {
	t.Helper()
	dir, err := os.MkdirTemp("", "tp")
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("unix", filepath.Join(dir, "s"))
	if err != nil {
		t.Fatal(err)
	}
	s := NewServer(nil)
	register(s)
	served := make(chan error)
	go func() { served <- s.Serve(l) }()
	conn, err := grpc.NewClient("unix:"+l.Addr().String(), append(options, grpc.WithTransportCredentials(insecure.NewCredentials()))...)
	if err != nil {
		t.Fatal(err)
	}
	conn.Connect()
	t.Cleanup(func() {
		conn.Close()
		s.Stop()
		<-served
		os.RemoveAll(dir)
	})
	return conn
}

// newClient makes the host's half of a plugin that is served on a unix socket.
type newClient func(t *testing.T, p sdk.Plugin) *Client

func client(t *testing.T, p sdk.Plugin) *Client {
	t.Helper()
	c := NewClient(connect(t, p, DialOptions()...))
	if _, err := c.Health(t.Context()); err != nil {
		t.Fatal(err)
	}
	return c
}

// laneClient offers lanes from the first byte of payload.
func laneClient(t *testing.T, p sdk.Plugin) *Client {
	t.Helper()
	return offering(t, client(t, p))
}

func offering(t *testing.T, c *Client) *Client {
	t.Helper()
	if _, err := c.Describe(t.Context(), "test"); err != nil {
		t.Fatal(err)
	}
	dir, err := os.MkdirTemp("", "tp")
	if err != nil {
		t.Fatal(err)
	}
	stop, err := c.OfferLanes(filepath.Join(dir, "lanes"), LaneOptions{After: -1})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		stop()
		os.RemoveAll(dir)
	})
	return c
}

// onEachLane runs a test on gRPC and, where there is one, on the lane.
func onEachLane(t *testing.T, test func(t *testing.T, client newClient)) {
	t.Run("grpc", func(t *testing.T) { test(t, client) })
	if laneSupported {
		t.Run(LaneName, func(t *testing.T) { test(t, laneClient) })
	}
}

func TestSourceOverTheWire(t *testing.T) {
	onEachLane(t, func(t *testing.T, client newClient) { sourceOverTheWire(t, client, false) })
}

func sourceOverTheWire(t *testing.T, client newClient, once bool) {
	parts := []sdktest.Content{
		{Name: "a.bin", Bytes: sdktest.Pattern(1, 1)},
		{Name: "b/empty", Bytes: []byte{}},
		{Name: "b/large.bin", Bytes: sdktest.Pattern(2, 3<<20+17)},
		{Name: "events", Records: []sdk.Record{
			{Key: []byte("k"), Value: []byte("v"), Time: time.UnixMicro(1_700_000_000_000_001).UTC(), Headers: map[string][]byte{"h": {0, 1}, "": {}}},
			{}, {Value: sdktest.Pattern(3, 100_000)},
		}},
		{Name: "z ü/last.bin", Bytes: sdktest.Pattern(3, 70_000)},
	}
	memory := &sdktest.Memory{}
	for _, p := range parts {
		if p.Records != nil {
			memory.PutRecords(p.Name, p.Records)
		} else {
			memory.Put(p.Name, p.Bytes)
		}
	}
	sdktest.TestSource(t, sdktest.SourceCase{
		New:     func(t *testing.T) sdk.DataSource { return client(t, memory.Plugin()).Source(sdktest.MemoryType) },
		Address: memory.Address(""),
		Parts:   parts,
		Once:    once,
		Bad: []sdktest.BadAddress{
			{Name: "no such folder", Address: memory.Address("out"), Code: sdk.NotFound},
			{Name: "unknown type", Address: sdk.DataAddress{Type: "Other"}, Code: sdk.Invalid},
		},
	})
}

func TestSinkOverTheWire(t *testing.T) { onEachLane(t, sinkOverTheWire) }

func sinkOverTheWire(t *testing.T, client newClient) {
	sdktest.TestSink(t, sdktest.SinkCase{Resumable: true, Records: true, New: func(t *testing.T) sdktest.Store {
		memory := &sdktest.Memory{}
		return sdktest.Store{
			Sink:    client(t, memory.Plugin()).Sink(sdktest.MemoryType),
			Address: memory.Address(""),
			Names:   func() ([]string, error) { return memory.Names(), nil },
			Content: memory.Content, Records: memory.Records,
			Begun: func() ([]string, error) { return memory.Begun(), nil },
		}
	}})
}

func TestDescriptionSurvivesTheTrip(t *testing.T) {
	p := sdk.Plugin{
		Name: "all", Version: "1.2.3", Documentation: "Everything.",
		Config: sdk.Schema{Fields: []sdk.Field{
			{Name: "a", Kind: sdk.StringList, Required: true, Documentation: "A."},
			{Name: "b", Kind: sdk.StringMap, Sensitive: true, Default: `{"x":"y"}`},
			{Name: "c", Kind: sdk.Size, Default: "1MiB"}, {Name: "d:", Kind: sdk.String, Prefix: true, OneOf: []string{"x", "y"}},
			{Name: "e", Kind: sdk.Bool}, {Name: "f", Kind: sdk.Int}, {Name: "g", Kind: sdk.Duration}, {Name: "h", Kind: sdk.URL},
		}},
		Sources: []sdk.SourceType{{AddressType: sdk.AddressType{Type: "S", Documentation: "S.", Resumable: true, NonFinite: true, Records: true,
			Address: sdk.Schema{Open: true}}}},
		Sinks: []sdk.SinkType{{AddressType: sdk.AddressType{Type: "T"}}},
	}
	got, err := client(t, p).Describe(t.Context(), "test")
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(p.Description(), got); diff != "" {
		t.Error(diff)
	}
}

func TestErrorsSurviveTheTrip(t *testing.T) { onEachLane(t, errorsSurviveTheTrip) }

func errorsSurviveTheTrip(t *testing.T, client newClient) {
	for code := range errorCodes {
		want := &sdk.Error{Code: code, Message: "why", Retryable: true, RetryAfter: 1500 * time.Millisecond,
			Fields: []sdk.FieldError{{Field: "a", Message: "is wrong"}}}
		memory := &sdktest.Memory{Reading: sdktest.FailAfter(0, want)}
		memory.Put("a", []byte("abc"))
		plugin := memory.Plugin()
		plugin.Configure = func(context.Context, sdk.Config) error { return fmt.Errorf("more about %w", want) }
		c := client(t, plugin)

		var got *sdk.Error
		if err := c.Configure(t.Context(), sdk.Config{}); !errors.As(err, &got) {
			t.Fatalf("%s: %v", code, err)
		}
		wrapped := *want
		wrapped.Message = "more about why"
		if diff := cmp.Diff(&wrapped, got); diff != "" {
			t.Errorf("%s, of a call: %s", code, diff)
		}
		stream, err := c.Source(sdktest.MemoryType).Read(t.Context(), sdk.ReadOpen{Address: memory.Address("")})
		if err != nil {
			t.Fatal(err)
		}
		for err == nil {
			_, err = stream.Recv()
		}
		stream.Close()
		if !errors.As(err, &got) || got.Code != code || !got.Retryable || got.RetryAfter != want.RetryAfter || !strings.HasSuffix(got.Message, "why") {
			t.Errorf("%s, of a stream: %+v", code, err)
		}
	}
}

func TestPanicsStayInTheirCall(t *testing.T) { onEachLane(t, panicsStayInTheirCall) }

func panicsStayInTheirCall(t *testing.T, client newClient) {
	p := (&sdktest.Memory{}).Plugin()
	p.Configure = func(context.Context, sdk.Config) error { panic("oh") }
	p.Sources[0].Source = panicking{}
	c := client(t, p)
	if err := c.Configure(t.Context(), sdk.Config{}); err == nil || !strings.Contains(err.Error(), "panicked: oh") {
		t.Errorf("configure: %v", err)
	}
	stream, err := c.Source(sdktest.MemoryType).Read(t.Context(), sdk.ReadOpen{Address: sdk.DataAddress{Type: sdktest.MemoryType}})
	if err != nil {
		t.Fatal(err)
	}
	defer stream.Close()
	if _, err := stream.Recv(); err == nil || !strings.Contains(err.Error(), "panicked: oh") {
		t.Errorf("read: %v", err)
	}
	if _, err := c.Health(t.Context()); err != nil {
		t.Errorf("the plugin did not survive: %v", err)
	}
}

type panicking struct{}

func (panicking) Read(context.Context, sdk.ReadRequest) iter.Seq2[sdk.Part, error] { panic("oh") }

func TestDrain(t *testing.T) { onEachLane(t, drain) }

func drain(t *testing.T, client newClient) {
	gate := sdktest.NewGate(0)
	memory := &sdktest.Memory{Reading: gate.Hook}
	memory.Put("a", []byte("abc"))
	c := client(t, memory.Plugin())
	source, open := c.Source(sdktest.MemoryType), sdk.ReadOpen{Address: memory.Address("")}
	stream, err := source.Read(t.Context(), open)
	if err != nil {
		t.Fatal(err)
	}
	<-gate.Reached()
	if flows, err := c.Drain(t.Context(), time.Millisecond); err != nil || flows != 1 {
		t.Errorf("drain with a flow that runs: %d, %v", flows, err)
	}
	if h, err := c.Health(t.Context()); err != nil || !h.Draining || h.Flows != 1 {
		t.Errorf("health while draining: %+v, %v", h, err)
	}
	late, err := source.Read(t.Context(), open)
	if err != nil {
		t.Fatal(err)
	}
	defer late.Close()
	if _, err := late.Recv(); err == nil || !sdk.AsError(err).Retryable {
		t.Errorf("a flow while draining: %v", err)
	}
	stream.Close()
	if flows, err := c.Drain(t.Context(), time.Minute); err != nil || flows != 0 {
		t.Errorf("drain: %d, %v", flows, err)
	}
}

// TestCloseWaitsForTheAuthor: when Close returns, the other process has let go of the flow.
func TestCloseWaitsForTheAuthor(t *testing.T) { onEachLane(t, closeWaitsForTheAuthor) }

func closeWaitsForTheAuthor(t *testing.T, client newClient) {
	returned := make(chan struct{})
	reading := make(chan struct{})
	p := sdk.Plugin{Name: "slow", Sources: []sdk.SourceType{{
		AddressType: sdk.AddressType{Type: "Slow"}, Source: lingering{reading, returned}}}}
	ctx, cancel := context.WithCancelCause(t.Context())
	stream, err := client(t, p).Source("Slow").Read(ctx, sdk.ReadOpen{Address: sdk.DataAddress{Type: "Slow"}})
	if err != nil {
		t.Fatal(err)
	}
	<-reading
	suspended := errors.New("suspended")
	cancel(suspended)
	if _, err := stream.Recv(); !errors.Is(err, suspended) {
		t.Errorf("recv after the end of the context: %v", err)
	}
	stream.Close()
	select {
	case <-returned:
	default:
		t.Error("close returned while the source still had the flow")
	}
}

// lingering takes its time to let go.
type lingering struct{ reading, returned chan struct{} }

func (l lingering) Read(ctx context.Context, _ sdk.ReadRequest) iter.Seq2[sdk.Part, error] {
	return func(func(sdk.Part, error) bool) {
		close(l.reading)
		<-ctx.Done()
		time.Sleep(50 * time.Millisecond)
		close(l.returned)
	}
}

// TestStockClient: what passes undecoded between two ends of this package is ordinary protobuf to any other.
func TestStockClient(t *testing.T) {
	memory := &sdktest.Memory{}
	content := sdktest.Pattern(1, 1<<20)
	memory.Put("a", content)
	memory.PutRecords("b", []sdk.Record{{Key: []byte("k"), Value: []byte("v")}})
	conn := connect(t, memory.Plugin())
	read, err := pluginv1.NewDataSourceClient(conn).Read(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	open := &pluginv1.ReadOpen{Address: &pluginv1.DataAddress{Type: sdktest.MemoryType}}
	if err := read.Send(&pluginv1.ReadUp{Kind: &pluginv1.ReadUp_Open{Open: open}}); err != nil {
		t.Fatal(err)
	}
	write, err := pluginv1.NewDataSinkClient(connect(t, (&sdktest.Memory{}).Plugin())).Write(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	to := &pluginv1.WriteOpen{Address: &pluginv1.DataAddress{Type: sdktest.MemoryType}}
	if err := write.Send(&pluginv1.Frame{Kind: &pluginv1.Frame_Open{Open: to}}); err != nil {
		t.Fatal(err)
	}
	var got []byte
	for {
		f, err := read.Recv()
		if err == io.EOF {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, f.GetData()...)
		if err := write.Send(f); err != nil {
			t.Fatal(err)
		}
	}
	if string(got) != string(content) {
		t.Errorf("%d bytes, want %d", len(got), len(content))
	}
	for {
		up, err := write.Recv()
		if err != nil {
			t.Fatal(err)
		}
		if done := up.GetDone(); done != nil {
			if done.Parts != 2 || done.Records != 1 {
				t.Errorf("done says %v", done)
			}
			return
		}
		if up.GetError() != nil {
			t.Fatal(up.GetError())
		}
	}
}

// TestStalledFlowTakesNoMoreThanAWindow: a flow that nobody reads takes a fixed number of bytes from its source, whatever its size,
// and does not stop another flow on the same connection.
func TestStalledFlowTakesNoMoreThanAWindow(t *testing.T) {
	onEachLane(t, stalledFlowTakesNoMoreThanAWindow)
}

func stalledFlowTakesNoMoreThanAWindow(t *testing.T, client newClient) {
	const size = 64 << 20
	var mu sync.Mutex
	taken := map[string]int64{}
	memory := &sdktest.Memory{Reading: func(_ context.Context, at sdktest.Point) error {
		mu.Lock()
		defer mu.Unlock()
		taken[at.Flow.ID] = at.Total
		return nil
	}}
	memory.Put("large", make([]byte, size))
	source := client(t, memory.Plugin()).Source(sdktest.MemoryType)
	open := func(id string) sdk.ReadStream {
		t.Helper()
		s, err := source.Read(t.Context(), sdk.ReadOpen{Flow: sdk.FlowContext{ID: id}, Address: memory.Address("")})
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	stalled := open("stalled")
	defer stalled.Close()
	if _, err := stalled.Recv(); err != nil {
		t.Fatal(err)
	}
	moving := open("moving")
	defer moving.Close()
	// By the time the other flow has moved all its bytes, the stalled one has had every chance to take more.
	for {
		f, err := moving.Recv()
		if err == io.EOF {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		sdk.Release(f)
	}
	mu.Lock()
	defer mu.Unlock()
	// The stream's window, gRPC's quota for writing, and the frames on their way there.
	if n := taken["stalled"]; taken["moving"] != size || n > hostWindow+8*sdk.BufferSize {
		t.Errorf("the stalled flow took %d bytes, the other %d", n, taken["moving"])
	}
}
