package grpcplugin

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

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
	deadline := time.Now().Add(30 * time.Second)
	for !done() {
		if time.Now().After(deadline) {
			t.Fatal("never: " + what)
		}
		time.Sleep(time.Millisecond)
	}
}

// asked returns how many answers are waited for.
func (c *Client) asked() int {
	t := c.talks.Load().talk
	t.mu.Lock()
	defer t.mu.Unlock()
	return len(t.asked)
}

// The suite for sources, with reads that are answered.
func TestSourceThatAnswers(t *testing.T) {
	onEachTalk(t, func(t *testing.T, client newClient) {
		sourceOverTheWire(t, func(t *testing.T, p sdk.Plugin) *Client {
			c := client(t, p)
			warm(t, c)
			return c
		}, true)
	})
}

// warm has a talk, and as many workers at its other end as a test needs: they stay, and are not left behind.
func warm(t *testing.T, c *Client) {
	t.Helper()
	for range 4 {
		stream, err := c.Source(sdktest.MemoryType).Read(t.Context(), sdk.ReadOpen{Once: true,
			Address: sdk.DataAddress{Type: sdktest.MemoryType}})
		if err != nil {
			t.Fatal(err)
		}
		defer stream.Close()
		if _, err := stream.Recv(); err != nil {
			t.Fatal(err)
		}
	}
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

// What is answered is what is read in a call of its own, whatever is asked for.
func TestAnswersAreWhole(t *testing.T) { onEachTalk(t, answersAreWhole) }

func answersAreWhole(t *testing.T, client newClient) {
	before := sdk.OutstandingBuffers()
	memory := &sdktest.Memory{}
	for i, size := range []int{0, 1, 1 << 10, maxAnswer, 50_000, 70_000, 3<<20 + 17} {
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
	if n := c.asked(); n != 0 {
		t.Errorf("%d answers are waited for", n)
	}
	until(t, "all buffers are released", func() bool { return sdk.OutstandingBuffers() == before })
}

// Many reads at a time, each with something else, get what is theirs.
func TestManyAnswersAtATime(t *testing.T) { onEachTalk(t, manyAnswersAtATime) }

func manyAnswersAtATime(t *testing.T, client newClient) {
	memory := &sdktest.Memory{}
	for i := range 50 {
		memory.Put(fmt.Sprint("part-", i), sdktest.Pattern(i, i*1000))
	}
	source := client(t, memory.Plugin()).Source(sdktest.MemoryType)
	var readers sync.WaitGroup
	for i := range 50 {
		readers.Go(func() {
			want := sdk.NewDigester(sdk.CRC32C)
			want.Write(sdktest.Pattern(i, i*1000))
			for range 20 {
				lines, err := everything(t, source, sdk.ReadOpen{Address: memory.Address(""), Once: true,
					Select: &sdk.Selection{Name: fmt.Sprint("part-", i), Length: -1}})
				if err != nil || len(lines) != 4 || lines[1] != fmt.Sprintf("%d bytes, %s", i*1000, want.Sum()) {
					t.Errorf("part %d: %q, %v", i, lines, err)
				}
			}
		})
	}
	readers.Wait()
}

// Neither a source that takes its time, nor readers that take nothing, hold up the answers of others.
func TestAnswersDoNotWaitForEachOther(t *testing.T) { onEachTalk(t, answersDoNotWaitForEachOther) }

func answersDoNotWaitForEachOther(t *testing.T, client newClient) {
	h := hesitant{make(chan struct{})}
	memory := &sdktest.Memory{}
	memory.Put("large", sdktest.Pattern(1, 4<<20))
	memory.Put("small", []byte("abc"))
	p := memory.Plugin()
	p.Sources = append(p.Sources, sdk.SourceType{AddressType: sdk.AddressType{Type: "Slow"}, Source: h})
	c := client(t, p)
	for range 20 {
		for _, a := range []sdk.DataAddress{{Type: "Slow"}, memory.Address("")} {
			stream, err := c.Source(a.Type).Read(t.Context(), sdk.ReadOpen{Address: a, Once: true})
			if err != nil {
				t.Fatal(err)
			}
			defer stream.Close()
		}
		small := sdk.ReadOpen{Address: memory.Address(""), Once: true, Select: &sdk.Selection{Name: "small", Length: -1}}
		if lines, err := everything(t, c.Source(sdktest.MemoryType), small); err != nil || len(lines) != 4 {
			t.Errorf("%q, %v", lines, err)
		}
	}
	close(h.goOn)
}

// A read that is closed early is let go, wherever it is: not answered, answered, or about to go on in a call.
func TestAnswerThatIsLeftEarly(t *testing.T) { onEachTalk(t, answerThatIsLeftEarly) }

func answerThatIsLeftEarly(t *testing.T, client newClient) {
	before := sdk.OutstandingBuffers()
	memory := &sdktest.Memory{}
	memory.Put("a", []byte("abc"))
	memory.Put("b", sdktest.Pattern(1, 1<<20))
	c := client(t, memory.Plugin())
	for _, list := range []bool{false, true} {
		for frames := range 4 {
			stream, err := c.Source(sdktest.MemoryType).Read(t.Context(), sdk.ReadOpen{Address: memory.Address(""), List: list, Once: true})
			if err != nil {
				t.Fatal(err)
			}
			for range frames {
				f, err := stream.Recv()
				if err != nil {
					t.Fatal(err)
				}
				sdk.Release(f)
			}
			if frames == 0 {
				until(t, "it is answered", func() bool { return c.asked() == 0 })
			}
			stream.Close()
		}
	}
	if flows, err := c.Drain(t.Context(), time.Minute); err != nil || flows != 0 {
		t.Errorf("%d reads are left, %v", flows, err)
	}
	until(t, "all buffers are released", func() bool { return sdk.OutstandingBuffers() == before })
}

// A read that is cut ends with the cause, and others are not touched.
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
	if n := c.asked(); n != 0 {
		t.Errorf("%d answers are waited for", n)
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

// A read that was to go on in a call, which nobody makes, is given up.
func TestAnswerThatNobodyTakes(t *testing.T) {
	t.Parallel()
	memory := &sdktest.Memory{}
	memory.Put("b", sdktest.Pattern(1, 1<<20))
	s := newPluginServer(memory.Plugin())
	d := &desk{server: s, out: newOutbox(nil), ctx: t.Context(), orders: make(chan *reply, idleWorkers), open: map[uint64]*reply{}}
	defer close(d.orders)
	if err := d.begin(7, readOpenToProto(sdk.ReadOpen{Address: memory.Address("")})); err != nil {
		t.Fatal(err)
	}
	flows := func() int { s.mu.Lock(); defer s.mu.Unlock(); return s.flows }
	until(t, "it is read", func() bool { return flows() == 1 })
	until(t, "it is let go", func() bool { return flows() == 0 })
	if len(s.waiting.number) != 0 {
		t.Error("it waits for a call")
	}
}
