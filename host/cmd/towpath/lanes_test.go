//go:build linux

package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/towpath-dataplane/towpath/host/pipeline"
	pluginv1 "github.com/towpath-dataplane/towpath/proto/towpath/plugin/v1"
	"github.com/towpath-dataplane/towpath/sdk"
	"github.com/towpath-dataplane/towpath/sdk/grpcplugin"
	"github.com/towpath-dataplane/towpath/sdk/sdktest"
)

// The benchmarks of this file compare ways for bytes to get from one process through this one to another. The other processes are
// this test binary again, in the role that the environment gives it.
const (
	roleVariable   = "TOWPATH_BENCH_ROLE"
	socketVariable = "TOWPATH_BENCH_SOCKET"
	message        = 256 << 10
)

// block is what every lane sends, over and over: bytes that no page of zeros stands in for.
var block = sdktest.Pattern(1, message)

// TestMain lets the binary play the other side of a benchmark.
func TestMain(m *testing.M) {
	role, socket := os.Getenv(roleVariable), os.Getenv(socketVariable)
	if role == "" {
		os.Exit(m.Run())
	}
	if err := play(role, socket); err != nil {
		fmt.Fprintln(os.Stderr, role+":", err)
		os.Exit(1)
	}
}

func play(role, socket string) error {
	l, err := net.Listen("unix", socket)
	if err != nil {
		return err
	}
	// The parent holds the other end of standard input: when it is gone, so is this process.
	go func() { io.Copy(io.Discard, os.Stdin); os.Exit(0) }()
	switch role {
	case "plugin":
		s := grpcplugin.NewServer(nil)
		grpcplugin.Register(s, sdk.Plugin{Name: "bench", Version: "1.0.0",
			Sources: []sdk.SourceType{{AddressType: sdk.AddressType{Type: "Pattern", Address: sdk.Schema{Open: true}}, Source: pattern{}}},
			Sinks:   []sdk.SinkType{{AddressType: sdk.AddressType{Type: "Null", Address: sdk.Schema{Open: true}}, Sink: null{}}},
		})
		return s.Serve(l)
	case "relay":
		s := grpc.NewServer()
		pluginv1.RegisterDataSourceServer(s, relaySource{})
		pluginv1.RegisterDataSinkServer(s, relaySink{})
		return s.Serve(l)
	case "raw":
		for {
			c, err := l.Accept()
			if err != nil {
				return err
			}
			buf := make([]byte, message)
			for err == nil {
				_, err = c.Read(buf)
			}
			c.Close()
		}
	}
	return errors.New("no such role")
}

// pattern reads addresses with a property size, and optionally records.
type pattern struct{}

func (pattern) Read(_ context.Context, req sdk.ReadRequest) iter.Seq2[sdk.Part, error] {
	return func(yield func(sdk.Part, error) bool) {
		size, err := sdk.ParseSize(req.Address.Get("size"))
		if err != nil {
			yield(sdk.Part{}, err)
			return
		}
		yield(sdk.Part{
			PartInfo: sdk.PartInfo{Name: "pattern", Size: size},
			Open: func(_ context.Context, offset int64) (io.ReadCloser, error) {
				return io.NopCloser(&blocks{left: size - offset}), nil
			},
		}, nil)
	}
}

// blocks gives the block again and again.
type blocks struct{ left int64 }

func (b *blocks) Read(p []byte) (int, error) {
	if b.left == 0 {
		return 0, io.EOF
	}
	n := copy(p, block[:min(message, b.left)])
	b.left -= int64(n)
	return n, nil
}

// null takes everything; with a property stall it stops taking after so many bytes.
type null struct{}

func (null) Write(ctx context.Context, req sdk.WriteRequest, parts iter.Seq2[*sdk.IncomingPart, error]) error {
	for part, err := range parts {
		if err != nil {
			return err
		}
		if req.Address.Get("stall") != "" {
			<-ctx.Done()
			return sdk.ErrInterrupted
		}
		if _, err := io.Copy(io.Discard, part); err != nil {
			return err
		}
		part.Commit("nowhere")
	}
	return nil
}

// relaySource and relaySink are the plain protobuf relay that Towpath's lane is measured against.
type relaySource struct {
	pluginv1.UnimplementedDataSourceServer
}

func (relaySource) Read(stream grpc.BidiStreamingServer[pluginv1.ReadUp, pluginv1.Frame]) error {
	open, err := stream.Recv()
	if err != nil {
		return err
	}
	size, err := sdk.ParseSize(open.GetOpen().Address.Properties["size"])
	if err != nil {
		return err
	}
	buf := make([]byte, message)
	for ; size > 0; size -= message {
		copy(buf, block) // as the other lane's source is read
		if err := stream.Send(&pluginv1.Frame{Kind: &pluginv1.Frame_Data{Data: buf}}); err != nil {
			return err
		}
	}
	return nil
}

type relaySink struct {
	pluginv1.UnimplementedDataSinkServer
}

func (relaySink) Write(stream grpc.BidiStreamingServer[pluginv1.Frame, pluginv1.WriteUp]) error {
	for {
		_, err := stream.Recv()
		if err == io.EOF {
			return stream.Send(&pluginv1.WriteUp{Kind: &pluginv1.WriteUp_Done{Done: &pluginv1.WriteDone{}}})
		}
		if err != nil {
			return err
		}
	}
}

// players are the processes of the benchmark that runs, this one first.
var players = []int{os.Getpid()}

// cpuSeconds is what all players have used so far, in user and system mode.
func cpuSeconds(b *testing.B) float64 {
	ticks := 0
	for _, pid := range players {
		stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
		if err != nil {
			continue // a player of an earlier benchmark
		}
		fields := strings.Fields(string(stat[bytes.LastIndexByte(stat, ')'):]))
		user, err1 := strconv.Atoi(fields[12])
		system, err2 := strconv.Atoi(fields[13])
		if err := errors.Join(err1, err2); err != nil {
			b.Fatal(err)
		}
		ticks += user + system
	}
	return float64(ticks) / 100
}

// start runs this binary in a role and returns the socket it serves.
func start(b *testing.B, role string) string {
	b.Helper()
	dir, err := os.MkdirTemp("", "tp")
	if err != nil {
		b.Fatal(err)
	}
	socket := filepath.Join(dir, "s")
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), roleVariable+"="+role, socketVariable+"="+socket)
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { in.Close(); cmd.Wait(); os.RemoveAll(dir) })
	players = append(players, cmd.Process.Pid)
	for range 1000 {
		if c, err := net.Dial("unix", socket); err == nil {
			c.Close()
			return socket
		}
		time.Sleep(5 * time.Millisecond)
	}
	b.Fatal(role, "did not start")
	return ""
}

func dial(b *testing.B, socket string, options ...grpc.DialOption) *grpc.ClientConn {
	b.Helper()
	conn, err := grpc.NewClient("unix:"+socket, append([]grpc.DialOption{grpc.WithTransportCredentials(insecure.NewCredentials())}, options...)...)
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { conn.Close() })
	return conn
}

// lane is one way for n bytes to get through this process.
type lane func(n int64) error

func towpathLane(b *testing.B) lane {
	source := grpcplugin.NewClient(dial(b, start(b, "plugin"), grpcplugin.DialOptions()...))
	sink := grpcplugin.NewClient(dial(b, start(b, "plugin"), grpcplugin.DialOptions()...))
	return func(n int64) error {
		return move(context.Background(), source, sink, n, nil)
	}
}

// pluginClient is the host's half of a new process in the role of a plugin.
func pluginClient(b *testing.B) *grpcplugin.Client {
	b.Helper()
	return grpcplugin.NewClient(dial(b, start(b, "plugin"), grpcplugin.DialOptions()...))
}

// offerLanes makes a client use the lane besides gRPC.
func offerLanes(b *testing.B, c *grpcplugin.Client, o grpcplugin.LaneOptions) *grpcplugin.Client {
	b.Helper()
	dir, err := os.MkdirTemp("", "tp")
	if err != nil {
		b.Fatal(err)
	}
	if _, err := c.Describe(context.Background(), "bench"); err != nil || !c.SpeaksLane() {
		b.Fatal("no lane", err)
	}
	stop, err := c.OfferLanes(filepath.Join(dir, "lanes"), o)
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { stop(); os.RemoveAll(dir) })
	return c
}

func fastLane(b *testing.B, buffer int) lane {
	o := grpcplugin.LaneOptions{Buffer: buffer}
	source, sink := offerLanes(b, pluginClient(b), o), offerLanes(b, pluginClient(b), o)
	return func(n int64) error { return move(context.Background(), source, sink, n, nil) }
}

// flows numbers the flows of a benchmark: a sink does not take the same part of one flow twice at a time.
var flows atomic.Int64

func move(ctx context.Context, source, sink *grpcplugin.Client, n int64, to map[string]string) error {
	job := pipeline.Job{
		Flow:  sdk.FlowContext{ID: fmt.Sprint("bench-", flows.Add(1))},
		From:  sdk.DataAddress{Type: "Pattern", Properties: map[string]string{"size": fmt.Sprint(n)}},
		To:    sdk.DataAddress{Type: "Null", Properties: to},
		Store: func(context.Context, pipeline.Place, []pipeline.Part) error { return nil },
	}
	return pipeline.Run(ctx, source.Source("Pattern"), sink.Sink("Null"), job, 0, nil)
}

func relayLane(b *testing.B) lane {
	source := pluginv1.NewDataSourceClient(dial(b, start(b, "relay")))
	sink := pluginv1.NewDataSinkClient(dial(b, start(b, "relay")))
	return func(n int64) error {
		from, err := source.Read(context.Background())
		if err != nil {
			return err
		}
		open := &pluginv1.ReadOpen{Address: &pluginv1.DataAddress{Properties: map[string]string{"size": fmt.Sprint(n)}}}
		if err := from.Send(&pluginv1.ReadUp{Kind: &pluginv1.ReadUp_Open{Open: open}}); err != nil {
			return err
		}
		to, err := sink.Write(context.Background())
		if err != nil {
			return err
		}
		for {
			f, err := from.Recv()
			if err == io.EOF {
				break
			}
			if err != nil {
				return err
			}
			if err := to.Send(f); err != nil {
				return err
			}
		}
		if err := to.CloseSend(); err != nil {
			return err
		}
		_, err = to.Recv()
		return err
	}
}

func rawLane(b *testing.B) lane {
	socket := start(b, "raw")
	return func(n int64) error {
		c, err := net.Dial("unix", socket)
		if err != nil {
			return err
		}
		defer c.Close()
		for ; n > 0; n -= message {
			if _, err := c.Write(block); err != nil {
				return err
			}
		}
		return nil
	}
}

// pin keeps the threads of a process to one processor.
func pin(b *testing.B, pid, cpu int) {
	b.Helper()
	tasks, err := os.ReadDir(fmt.Sprintf("/proc/%d/task", pid))
	if err != nil {
		b.Fatal(err)
	}
	var set unix.CPUSet
	set.Set(cpu)
	for _, t := range tasks {
		tid, err := strconv.Atoi(t.Name())
		if err == nil {
			err = unix.SchedSetaffinity(tid, &set)
		}
		if err != nil && err != unix.ESRCH {
			b.Fatal(err)
		}
	}
}

// apartLane is the raw hop from one processor to another. Left alone, the kernel now and then runs both ends on one processor, where the
// bytes never leave its cache, and which no lane that works at both ends can have.
func apartLane(b *testing.B) lane {
	run := rawLane(b)
	pin(b, players[len(players)-1], 0)
	return func(n int64) error {
		done := make(chan error)
		go func() {
			runtime.LockOSThread() // and never unlocked: the thread ends with the goroutine
			var set unix.CPUSet
			set.Set(1)
			if err := unix.SchedSetaffinity(0, &set); err != nil {
				done <- err
				return
			}
			done <- run(n)
		}()
		return <-done
	}
}

// BenchmarkBytes moves bytes by each lane in turn, several times over, and reports the medians and their ratios.
func BenchmarkBytes(b *testing.B) {
	const n, rounds = 1 << 30, 5
	lanes := []struct {
		name string
		run  lane
	}{{"towpath", towpathLane(b)}, {"fd1", fastLane(b, 0)}, {"fd1-large", fastLane(b, 2<<20)}, {"relay", relayLane(b)}, {"raw", rawLane(b)}, {"raw-apart", apartLane(b)}}
	speeds, costs := map[string][]float64{}, map[string][]float64{}
	for b.Loop() {
		for range rounds {
			for _, l := range lanes {
				start, cpu := time.Now(), cpuSeconds(b)
				if err := l.run(n); err != nil {
					b.Fatal(l.name, err)
				}
				speeds[l.name] = append(speeds[l.name], float64(n)/(1<<30)/time.Since(start).Seconds())
				costs[l.name] = append(costs[l.name], (cpuSeconds(b)-cpu)/float64(n)*(1<<30))
			}
		}
	}
	report := func(name string) float64 {
		m := median(speeds[name])
		b.ReportMetric(m, name+"-GiB/s")
		b.ReportMetric(median(costs[name]), name+"-cpu-s/GiB")
		return m
	}
	fd1, large := report("fd1"), report("fd1-large")
	towpath, relay, raw, apart := report("towpath"), report("relay"), report("raw"), report("raw-apart")
	b.ReportMetric(towpath/relay, "of-relay")
	b.ReportMetric(towpath/raw, "of-raw-hop")
	b.ReportMetric(fd1/relay, "fd1/relay")
	b.ReportMetric(fd1/raw, "fd1/raw")
	b.ReportMetric(large/relay, "large/relay")
	b.ReportMetric(large/raw, "large/raw")
	b.ReportMetric(towpath/apart, "of-raw-hop-apart")
	b.ReportMetric(0, "ns/op")
}

// BenchmarkStalledNeighbour moves bytes alone and beside a flow whose sink has stopped, on the same two plugin processes.
func BenchmarkStalledNeighbour(b *testing.B) {
	const n, rounds = 1 << 30, 5
	source := grpcplugin.NewClient(dial(b, start(b, "plugin"), grpcplugin.DialOptions()...))
	sink := grpcplugin.NewClient(dial(b, start(b, "plugin"), grpcplugin.DialOptions()...))
	speed := func() float64 {
		start := time.Now()
		if err := move(context.Background(), source, sink, n, nil); err != nil {
			b.Fatal(err)
		}
		return float64(n) / (1 << 30) / time.Since(start).Seconds()
	}
	var alone, beside []float64
	for b.Loop() {
		for range rounds {
			alone = append(alone, speed())
			ctx, cancel := context.WithCancel(context.Background())
			stalled := make(chan error, 1)
			go func() { stalled <- move(ctx, source, sink, 64<<30, map[string]string{"stall": "true"}) }()
			beside = append(beside, speed())
			cancel()
			<-stalled
		}
	}
	b.ReportMetric(median(alone), "alone-GiB/s")
	b.ReportMetric(median(beside), "beside-GiB/s")
	b.ReportMetric(median(beside)/median(alone), "of-alone")
	b.ReportMetric(0, "ns/op")
}

func median(v []float64) float64 {
	v = slices.Sorted(slices.Values(v))
	return v[len(v)/2]
}

func BenchmarkTmp(b *testing.B) {
	for _, k := range []int{64, 128, 208, 512, 1024, 2048} {
		run := fastLane(b, k<<10)
		run(1 << 30)
		for range 2 {
			start, cpu := time.Now(), cpuSeconds(b)
			if err := run(3 << 30); err != nil {
				b.Fatal(err)
			}
			b.Logf("%d KiB: %.2f GiB/s, %.3f", k, 3/time.Since(start).Seconds(), (cpuSeconds(b)-cpu)/3)
		}
	}
}
