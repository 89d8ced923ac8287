//go:build linux

package main

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"iter"
	"maps"
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
		if batch, err := strconv.Atoi(req.Address.Get("batch")); err == nil {
			pause, _ := time.ParseDuration(req.Address.Get("pause"))
			yield(sdk.Part{
				PartInfo: sdk.PartInfo{Name: "records"},
				OpenRecords: func(context.Context, []byte) (sdk.RecordReader, error) {
					return &records{left: int(size), batch: make([]sdk.Record, batch), pause: pause}, nil
				},
			}, nil)
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

// records gives records of 1 KiB. With a pause between them, the key is the time at which each was given.
type records struct {
	left  int
	batch []sdk.Record
	pause time.Duration
}

func (r *records) Next(context.Context) ([]sdk.Record, []byte, error) {
	if r.left == 0 {
		return nil, nil, io.EOF
	}
	batch := r.batch[:min(r.left, len(r.batch))]
	r.left -= len(batch)
	for i := range batch {
		batch[i] = sdk.Record{Value: block[i<<10&(message-1):][:1<<10]}
	}
	if r.pause > 0 {
		time.Sleep(r.pause)
		batch[0].Key = binary.BigEndian.AppendUint64(nil, uint64(time.Now().UnixNano()))
	}
	return batch, nil, nil
}

func (r *records) Close() error { return nil }

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
		location := "nowhere"
		if part.PartInfo.Records {
			location, err = takeRecords(part)
		} else {
			_, err = io.Copy(io.Discard, part)
		}
		if err != nil {
			return err
		}
		part.Commit(location)
	}
	return nil
}

// takeRecords returns what 99 of 100 records that carry a time took at most, in microseconds.
func takeRecords(part *sdk.IncomingPart) (string, error) {
	var took []float64
	for {
		batch, err := part.NextRecords()
		if err == io.EOF {
			slices.Sort(took)
			if len(took) == 0 {
				return "nowhere", nil
			}
			return fmt.Sprint(took[len(took)/2], " ", took[len(took)*99/100]), nil
		}
		if err != nil {
			return "", err
		}
		if len(batch[0].Key) == 8 {
			given := time.Unix(0, int64(binary.BigEndian.Uint64(batch[0].Key)))
			took = append(took, float64(time.Since(given).Microseconds()))
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

// lane is one way for n bytes, or records, to get through this process. Records come in batches of so many; 0: bytes.
type lane func(n int64, batch int) error

// pair is a source and a sink, each a process.
type pair struct{ source, sink *grpcplugin.Client }

func grpcPair(b *testing.B) pair { return pair{pluginClient(b), pluginClient(b)} }

// besidePair is a pair with payload beside gRPC. buffer is that of LaneOptions.
func besidePair(b *testing.B, buffer int) pair {
	p := grpcPair(b)
	offerLanes(b, p.source, grpcplugin.LaneOptions{Buffer: buffer})
	offerLanes(b, p.sink, grpcplugin.LaneOptions{Buffer: buffer})
	return p
}

func (p pair) lane(n int64, batch int) error {
	from := map[string]string{}
	if batch > 0 {
		from["batch"] = fmt.Sprint(batch)
	}
	return p.move(context.Background(), n, from, nil, nil)
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

// flows numbers the flows of a benchmark: a sink does not take the same part of one flow twice at a time.
var flows atomic.Int64

// move moves n bytes or records. written, if not nil, is told of what is durable.
func (p pair) move(ctx context.Context, n int64, from, to map[string]string, written func([]pipeline.Part)) error {
	return p.run(ctx, n, from, to, written, nil)
}

// run is move; observe, if not nil, is that of the job.
func (p pair) run(ctx context.Context, n int64, from, to map[string]string, written func([]pipeline.Part),
	observe func(func() pipeline.Step)) error {
	properties := map[string]string{"size": fmt.Sprint(n)}
	maps.Copy(properties, from)
	job := pipeline.Job{
		Flow: sdk.FlowContext{ID: fmt.Sprint("bench-", flows.Add(1))},
		From: sdk.DataAddress{Type: "Pattern", Properties: properties},
		To:   sdk.DataAddress{Type: "Null", Properties: to},

		Observe: observe,
		Store: func(_ context.Context, _ pipeline.Place, parts []pipeline.Part) error {
			if written != nil {
				written(parts)
			}
			return nil
		},
	}
	return pipeline.Run(ctx, p.source.Source("Pattern"), p.sink.Sink("Null"), job, 0, nil)
}

func rawLane(b *testing.B) lane {
	socket := start(b, "raw")
	return func(n int64, _ int) error {
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
	return func(n int64, _ int) error {
		done := make(chan error)
		go func() {
			runtime.LockOSThread() // and never unlocked: the thread ends with the goroutine
			var set unix.CPUSet
			set.Set(1)
			if err := unix.SchedSetaffinity(0, &set); err != nil {
				done <- err
				return
			}
			done <- run(n, 0)
		}()
		return <-done
	}
}

// catLane is what a shell does: cat file | cat >/dev/null.
func catLane(b *testing.B, n int64) lane {
	file, err := os.CreateTemp("", "bench")
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { os.Remove(file.Name()) })
	defer file.Close()
	for ; n > 0; n -= message {
		if _, err := file.Write(block); err != nil {
			b.Fatal(err)
		}
	}
	return func(int64, int) error {
		return exec.Command("sh", "-c", `cat "$1" | cat >/dev/null`, "sh", file.Name()).Run()
	}
}

// contest lets lanes move the same in turn, several times over.
type contest struct {
	b             *testing.B
	names         []string
	lanes         map[string]lane
	speeds, costs map[string][]float64
}

func newContest(b *testing.B) *contest {
	return &contest{b: b, lanes: map[string]lane{}, speeds: map[string][]float64{}, costs: map[string][]float64{}}
}

func (c *contest) enter(name string, l lane) {
	c.names, c.lanes[name] = append(c.names, name), l
}

// run reports the medians. n is in bytes or records, and per is how many make a unit.
func (c *contest) run(rounds int, n int64, batch int, per float64, unit string) {
	for range rounds {
		for _, name := range c.names {
			start, cpu := time.Now(), cpuSeconds(c.b)
			if err := c.lanes[name](n, batch); err != nil {
				c.b.Fatal(name, err)
			}
			c.speeds[name] = append(c.speeds[name], float64(n)/per/time.Since(start).Seconds())
			c.costs[name] = append(c.costs[name], (cpuSeconds(c.b)-cpu)/float64(n)*per)
		}
	}
	for _, name := range c.names {
		c.b.ReportMetric(median(c.speeds[name]), name+"-"+unit+"/s")
		c.b.ReportMetric(median(c.costs[name]), name+"-cpu-s/"+unit)
	}
	c.b.ReportMetric(0, "ns/op")
}

// ratio reports the speed of one lane as a multiple of another's.
func (c *contest) ratio(one, other string) {
	c.b.ReportMetric(median(c.speeds[one])/median(c.speeds[other]), one+"/"+other)
}

// BenchmarkBytes moves bytes by each lane.
func BenchmarkBytes(b *testing.B) {
	const n = 1 << 30
	c := newContest(b)
	c.enter("grpc", grpcPair(b).lane)
	c.enter("fd1", besidePair(b, 0).lane)
	c.enter("fd1-large", besidePair(b, 2<<20).lane)
	c.enter("relay", relayLane(b))
	c.enter("raw", rawLane(b))
	c.enter("raw-apart", apartLane(b))
	c.enter("cat", catLane(b, n))
	for b.Loop() {
		c.run(5, n, 0, 1<<30, "GiB")
	}
	for _, one := range []string{"grpc", "fd1", "fd1-large"} {
		for _, other := range []string{"relay", "raw", "raw-apart", "cat"} {
			c.ratio(one, other)
		}
	}
}

// BenchmarkRecords moves records of 1 KiB by each lane.
func BenchmarkRecords(b *testing.B) {
	for _, batch := range []int{64, 1024} {
		b.Run(fmt.Sprint(batch), func(b *testing.B) {
			c := newContest(b)
			c.enter("grpc", grpcPair(b).lane)
			c.enter("fd1", besidePair(b, 0).lane)
			c.enter("relay", relayLane(b))
			for b.Loop() {
				c.run(5, 1<<20, batch, 1e6, "M")
			}
			c.ratio("grpc", "relay")
			c.ratio("fd1", "relay")
		})
	}
}

func median(v []float64) float64 {
	v = slices.Sorted(slices.Values(v))
	return v[len(v)/2]
}
