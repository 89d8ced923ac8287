package grpcplugin

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	pluginv1 "github.com/towpath-dataplane/towpath/proto/towpath/plugin/v1"
	"github.com/towpath-dataplane/towpath/sdk"
	"github.com/towpath-dataplane/towpath/sdk/sdktest"
)

// talkingClient talks on gRPC: it knows what the plugin can do, and offers no lane.
func talkingClient(t *testing.T, p sdk.Plugin) *Client {
	t.Helper()
	c := client(t, p)
	if _, err := c.Describe(t.Context(), "test"); err != nil {
		t.Fatal(err)
	}
	return c
}

// onEachTalk runs a test with the reads of requests on gRPC and, where there is one, on the lane for answers.
func onEachTalk(t *testing.T, test func(t *testing.T, client newClient)) {
	t.Run("grpc", func(t *testing.T) { test(t, talkingClient) })
	if laneSupported {
		t.Run(AnswersLaneName, func(t *testing.T) { test(t, laneClient) })
	}
}

// until waits for a condition, for a bounded time.
func until(t *testing.T, what string, done func() bool) {
	t.Helper()
	deadline := time.Now().Add(10 * time.Second)
	for !done() {
		if time.Now().After(deadline) {
			t.Fatal("never: " + what)
		}
		time.Sleep(time.Millisecond)
	}
}

// countTalks returns the number of talks that wait, and of all.
func (c *Client) countTalks() (idle, open int) {
	p := c.talks.Load()
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.idle), len(p.open)
}

// everything reads a stream to its end, and tells what came as lines, with the payload of each part together.
func everything(t *testing.T, source sdk.DataSource, open sdk.ReadOpen) (lines []string, err error) {
	t.Helper()
	stream, err := source.Read(t.Context(), open)
	if err != nil {
		return nil, err
	}
	defer stream.Close()
	var payload bytes.Buffer
	for {
		f, err := stream.Recv()
		if err == io.EOF {
			return lines, nil
		}
		if err != nil {
			return lines, err
		}
		switch f := f.(type) {
		case *sdk.Data:
			f.WriteTo(&payload)
		case *sdk.RecordBatch:
			records, err := f.Records()
			if err != nil {
				t.Fatal(err)
			}
			fmt.Fprintf(&payload, "%q", records)
		case *sdk.Checkpoint:
		case *sdk.PartEnd:
			d := sdk.NewDigester(sdk.CRC32C)
			d.Write(payload.Bytes())
			lines = append(lines, fmt.Sprintf("%d bytes, %s", payload.Len(), d.Sum()), fmt.Sprintf("%+v", f))
			payload.Reset()
		default:
			lines = append(lines, fmt.Sprintf("%+v", f))
		}
		sdk.Release(f)
	}
}

// What is read on a talk is what is read in a call of its own, whatever is asked for, and one talk does for all.
func TestAnswersAreWhole(t *testing.T) { onEachTalk(t, answersAreWhole) }

func answersAreWhole(t *testing.T, client newClient) {
	before := sdk.OutstandingBuffers()
	memory := &sdktest.Memory{}
	for i, size := range []int{0, 1, 1 << 10, smallPayload, smallPayload + 1, 70_000, 3<<20 + 17} {
		memory.Put(fmt.Sprintf("d/%d ü", size), sdktest.Pattern(i, size))
	}
	memory.PutRecords("records", []sdk.Record{{Key: []byte("k"), Value: []byte("v"), Headers: map[string][]byte{"h": {0}}}, {},
		{Value: sdktest.Pattern(3, 100_000)}})
	c := client(t, memory.Plugin())
	source := c.Source(sdktest.MemoryType)
	for name, open := range map[string]sdk.ReadOpen{
		"everything":  {},
		"a list":      {List: true},
		"small":       {Select: &sdk.Selection{Name: "d/1024 ü", Length: -1}},
		"a piece":     {Select: &sdk.Selection{Name: "d/70000 ü", Offset: 5, Length: 60_000}},
		"records":     {Select: &sdk.Selection{Name: "records", Length: -1}},
		"no such one": {Select: &sdk.Selection{Name: "none", Length: -1}},
		"refused":     {Select: &sdk.Selection{Name: "d/1 ü", Offset: 7, Length: -1}},
		"skipped":     {Skip: []string{"d/1 ü", "records"}},
	} {
		open.Address, open.Digests = memory.Address(""), sdk.Algorithms()
		want, wantErr := everything(t, source, open)
		open.Once = true
		for range 3 {
			got, err := everything(t, source, open)
			if fmt.Sprintf("%#v", sdk.AsError(wantErr)) != fmt.Sprintf("%#v", sdk.AsError(err)) {
				t.Errorf("%s: error %v, want %v", name, err, wantErr)
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("%s: %s", name, diff)
			}
		}
	}
	if idle, open := c.countTalks(); idle != 1 || open != 1 {
		t.Errorf("%d talks, of which %d wait", open, idle)
	}
	until(t, "all buffers are released", func() bool { return sdk.OutstandingBuffers() == before })
}

// A read that is closed when what is left of it has come already leaves a talk that is as good as new.
func TestAnswerThatIsLeftEarly(t *testing.T) { onEachTalk(t, answerThatIsLeftEarly) }

func answerThatIsLeftEarly(t *testing.T, client newClient) {
	memory := &sdktest.Memory{}
	memory.Put("small", []byte("abc"))
	c := client(t, memory.Plugin())
	stream, err := c.Source(sdktest.MemoryType).Read(t.Context(), sdk.ReadOpen{Address: memory.Address(""), List: true, Once: true})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := stream.Recv(); err != nil {
		t.Fatal(err)
	}
	stream.Close()
	if idle, open := c.countTalks(); idle != open {
		t.Errorf("%d talks, of which %d wait", open, idle)
	}
}

// A read that is cut ends with the cause; its talk is used no more, and others are not touched.
func TestAnswerThatIsCut(t *testing.T) { onEachTalk(t, answerThatIsCut) }

func answerThatIsCut(t *testing.T, client newClient) {
	before := sdk.OutstandingBuffers()
	memory := &sdktest.Memory{}
	memory.Put("large", sdktest.Pattern(1, 16<<20))
	c := client(t, memory.Plugin())
	open := sdk.ReadOpen{Address: memory.Address(""), Once: true}
	other, err := c.Source(sdktest.MemoryType).Read(t.Context(), open)
	if err != nil {
		t.Fatal(err)
	}
	suspended := errors.New("suspended")
	for range 10 {
		ctx, cancel := context.WithCancelCause(t.Context())
		stream, err := c.Source(sdktest.MemoryType).Read(ctx, open)
		if err != nil {
			t.Fatal(err)
		}
		for range 3 {
			f, err := stream.Recv()
			if err != nil {
				t.Fatal(err)
			}
			sdk.Release(f)
		}
		cancel(suspended)
		if _, err := stream.Recv(); err != suspended {
			t.Errorf("after the cut: %v", err)
		}
		stream.Close()
		stream.Close()
	}
	for {
		f, err := other.Recv()
		if err == io.EOF {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		sdk.Release(f)
	}
	other.Close()
	if idle, open := c.countTalks(); idle != 1 || open != 1 {
		t.Errorf("%d talks, of which %d wait", open, idle)
	}
	until(t, "all buffers are released", func() bool { return sdk.OutstandingBuffers() == before })
}

// When Close returns, the other process has let go of what it read.
func TestAnswerIsLetGo(t *testing.T) { onEachTalk(t, answerIsLetGo) }

func answerIsLetGo(t *testing.T, client newClient) {
	returned, reading := make(chan struct{}), make(chan struct{})
	p := sdk.Plugin{Name: "slow", Sources: []sdk.SourceType{{
		AddressType: sdk.AddressType{Type: "Slow"}, Source: lingering{reading, returned}}}}
	ctx, cancel := context.WithCancelCause(t.Context())
	stream, err := client(t, p).Source("Slow").Read(ctx, sdk.ReadOpen{Address: sdk.DataAddress{Type: "Slow"}, Once: true})
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

// hesitant says what part comes, and nothing more until it is let go on.
type hesitant struct{ goOn chan struct{} }

func (h hesitant) Read(context.Context, sdk.ReadRequest) iter.Seq2[sdk.Part, error] {
	return func(yield func(sdk.Part, error) bool) {
		yield(sdk.Part{PartInfo: sdk.PartInfo{Name: "slow", Size: 1}, Open: func(context.Context, int64) (io.ReadCloser, error) {
			return io.NopCloser(io.MultiReader(waiting(h.goOn), strings.NewReader("x"))), nil
		}}, nil)
	}
}

type waiting chan struct{}

func (w waiting) Read([]byte) (int, error) {
	<-w
	return 0, io.EOF
}

// Frames that are small are not held back by a source that takes its time.
func TestSlowAnswer(t *testing.T) { onEachTalk(t, slowAnswer) }

func slowAnswer(t *testing.T, client newClient) {
	h := hesitant{make(chan struct{})}
	p := sdk.Plugin{Name: "slow", Sources: []sdk.SourceType{{AddressType: sdk.AddressType{Type: "Slow"}, Source: h}}}
	stream, err := client(t, p).Source("Slow").Read(t.Context(), sdk.ReadOpen{Address: sdk.DataAddress{Type: "Slow"}, Once: true})
	if err != nil {
		t.Fatal(err)
	}
	defer stream.Close()
	if f, err := stream.Recv(); err != nil || f.(*sdk.PartBegin).Name != "slow" {
		t.Errorf("%v %v", f, err)
	}
	close(h.goOn)
	f, err := stream.Recv()
	if err != nil || f.(*sdk.Data).Len() != 1 {
		t.Errorf("%v %v", f, err)
	}
	sdk.Release(f)
}

func TestPanicsStayInTheirAnswer(t *testing.T) { onEachTalk(t, panicsStayInTheirAnswer) }

func panicsStayInTheirAnswer(t *testing.T, client newClient) {
	p := (&sdktest.Memory{}).Plugin()
	p.Sources[0].Source = panicking{}
	c := client(t, p)
	for range 2 {
		_, err := everything(t, c.Source(sdktest.MemoryType), sdk.ReadOpen{Address: sdk.DataAddress{Type: sdktest.MemoryType}, Once: true})
		if err == nil || !strings.Contains(err.Error(), "panicked: oh") {
			t.Errorf("read: %v", err)
		}
	}
	if _, err := c.Health(t.Context()); err != nil {
		t.Errorf("the plugin did not survive: %v", err)
	}
}

// Talks that wait are no flows, and a plugin that drains answers nothing new.
func TestDrainOfTalks(t *testing.T) { onEachTalk(t, drainOfTalks) }

func drainOfTalks(t *testing.T, client newClient) {
	gate := sdktest.NewGate(0)
	memory := &sdktest.Memory{Reading: gate.Hook}
	memory.Put("a", []byte("abc"))
	c := client(t, memory.Plugin())
	source, open := c.Source(sdktest.MemoryType), sdk.ReadOpen{Address: memory.Address(""), Once: true}
	if _, err := everything(t, source, sdk.ReadOpen{Address: memory.Address(""), Once: true, List: true}); err != nil {
		t.Fatal(err)
	}
	stream, err := source.Read(t.Context(), open)
	if err != nil {
		t.Fatal(err)
	}
	<-gate.Reached()
	if flows, err := c.Drain(t.Context(), time.Millisecond); err != nil || flows != 1 {
		t.Errorf("drain with a read that runs: %d, %v", flows, err)
	}
	if _, err := everything(t, source, open); err == nil || !sdk.AsError(err).Retryable {
		t.Errorf("a read while draining: %v", err)
	}
	stream.Close()
	if flows, err := c.Drain(t.Context(), time.Minute); err != nil || flows != 0 {
		t.Errorf("drain: %d, %v", flows, err)
	}
}

// A plugin from before there were answers gets a call for each read.
func TestPluginThatDoesNotAnswer(t *testing.T) {
	memory := &sdktest.Memory{}
	memory.Put("a", []byte("abc"))
	c := client(t, memory.Plugin()) // has not heard that it could
	for range 2 {
		if _, err := everything(t, c.Source(sdktest.MemoryType), sdk.ReadOpen{Address: memory.Address(""), Once: true}); err != nil {
			t.Error(err)
		}
	}
	if c.talks.Load() != nil {
		t.Error("it talks")
	}
}

// FuzzAnswer feeds both decoders of a lane for answers what they would never be sent.
func FuzzAnswer(f *testing.F) {
	begin, err := appendMessage(nil, frameItem, frameToProto(&message{frame: &sdk.PartBegin{PartInfo: sdk.PartInfo{Name: "a", Size: 3}}}))
	if err != nil {
		f.Fatal(err)
	}
	order, err := appendMessage(nil, orderItem, &pluginv1.ReadOpen{Address: &pluginv1.DataAddress{Type: "a"}})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(begin)
	f.Add(order)
	f.Add(append(begin, dataItem, 0, 0, 0, 0, 0, 0, 3, 'a', 'b', 'c'))
	f.Add([]byte{frameItem, 0, 0, 0, 0xff, 0xff, 0xff, 0xff})
	f.Add([]byte{recordsItem, 0, 0, 1, 0, 0, 0, 1, 0})
	f.Fuzz(func(t *testing.T, b []byte) {
		before := sdk.OutstandingBuffers()
		in := itemReader{from: bytes.NewReader(b)}
		for {
			m, err := in.frame()
			if err != nil {
				if err == io.EOF && len(in.have) > 0 {
					t.Errorf("an end in the middle of %x was taken for one", b)
				}
				break
			}
			if m.frame == nil && m.err == nil {
				t.Fatalf("nothing was read from %x", b)
			}
			sdk.Release(m.frame)
		}
		if n := sdk.OutstandingBuffers(); n != before {
			t.Errorf("%d buffers are left", n-before)
		}
		s := &pluginServer{}
		for in := (&itemReader{from: bytes.NewReader(b)}); ; {
			open, err := s.nextOrder(in)
			if err != nil || open == nil {
				break
			}
			readOpenFromProto(open)
		}
	})
}
