//go:build linux

package main

import (
	"context"
	"fmt"
	"os"
	"runtime/debug"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/towpath-dataplane/towpath/host/pipeline"
)

// BenchmarkLatency is what one small record takes from one process to the other, through an idle pipeline.
func BenchmarkLatency(b *testing.B) {
	for _, lane := range []struct {
		name string
		pair pair
	}{{"grpc", grpcPair(b)}, {"fd1", besidePair(b, 0)}} {
		b.Run(lane.name, func(b *testing.B) {
			var p50, p99 float64
			for b.Loop() {
				from := map[string]string{"batch": "1", "pause": "1ms"}
				err := lane.pair.move(context.Background(), 3000, from, nil, func(parts []pipeline.Part) {
					for _, p := range parts {
						fmt.Sscan(p.Location, &p50, &p99)
					}
				})
				if err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(p50, "p50-us")
			b.ReportMetric(p99, "p99-us")
			b.ReportMetric(0, "ns/op")
		})
	}
}

// peakMemory returns the most that this process, the host, has had resident since the last call, in MiB.
func peakMemory(b *testing.B) float64 {
	b.Helper()
	status, err := os.ReadFile("/proc/self/status")
	if err == nil {
		err = os.WriteFile("/proc/self/clear_refs", []byte("5"), 0)
	}
	if err != nil {
		b.Fatal(err)
	}
	_, line, _ := strings.Cut(string(status), "VmHWM:")
	kib := 0.0
	fmt.Sscan(line, &kib)
	return kib / 1024
}

// Steady flows are watched for so long.
const steadyFor = 3 * time.Second

// steady runs so many flows at a time, and so many more whose sink takes nothing, and returns how many GiB a second they move in all
// from when each of them moves.
func (p pair) steady(b *testing.B, flows, stalled int) float64 {
	b.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	stop := p.stall(stalled)
	var all sync.WaitGroup
	var begun sync.WaitGroup
	steps := make([]func() pipeline.Step, flows)
	for i := range flows {
		begun.Add(1)
		observe := func(step func() pipeline.Step) { steps[i] = step; begun.Done() }
		all.Go(func() { p.run(ctx, 1<<50, nil, nil, nil, observe) })
	}
	begun.Wait()
	for _, step := range steps {
		for step().Totals.Bytes == 0 {
			time.Sleep(time.Millisecond)
		}
	}
	moved := func() (n int64) {
		for _, step := range steps {
			n += step().Totals.Bytes
		}
		return n
	}
	before, start := moved(), time.Now()
	time.Sleep(steadyFor)
	speed := float64(moved()-before) / (1 << 30) / time.Since(start).Seconds()
	cancel()
	all.Wait()
	stop()
	return speed
}

// BenchmarkFlows moves bytes as 1, 10, 100 and 1,000 flows at a time, on one source process and one sink process, and as 1,000 beside
// which 100 are stalled.
func BenchmarkFlows(b *testing.B) {
	const rounds = 3
	type load struct{ flows, stalled int }
	loads := []load{{1, 0}, {10, 0}, {100, 0}, {1000, 0}, {1000, 100}}
	for _, lane := range []struct {
		name string
		pair func(*testing.B) pair
	}{{"grpc", grpcPair}, {"fd1", func(b *testing.B) pair { return besidePair(b, 0) }}} {
		b.Run(lane.name, func(b *testing.B) {
			p := lane.pair(b)
			speeds, memory := map[load][]float64{}, map[load]float64{}
			for b.Loop() {
				for range rounds {
					for _, l := range loads {
						debug.FreeOSMemory()
						peakMemory(b)
						speeds[l] = append(speeds[l], p.steady(b, l.flows, l.stalled))
						memory[l] = max(memory[l], peakMemory(b))
					}
				}
			}
			for _, l := range loads {
				name := fmt.Sprint(l.flows)
				if l.stalled > 0 {
					name += fmt.Sprint("+", l.stalled)
				}
				b.ReportMetric(median(speeds[l]), name+"-GiB/s")
				b.ReportMetric(memory[l], name+"-host-MiB")
			}
			b.ReportMetric(median(speeds[loads[3]])/median(speeds[loads[0]]), "1000/1")
			b.ReportMetric(0, "ns/op")
		})
	}
}

// stall begins flows whose sink takes nothing. They end with stop.
func (p pair) stall(flows int) (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	var all sync.WaitGroup
	for range flows {
		all.Go(func() { p.move(ctx, 64<<30, nil, map[string]string{"stall": "true"}, nil) })
	}
	return func() { cancel(); all.Wait() }
}

// BenchmarkStalledNeighbours moves bytes alone and beside flows whose sink has stopped, on the same two plugin processes.
func BenchmarkStalledNeighbours(b *testing.B) {
	const n, rounds = 1 << 30, 5
	for _, lane := range []struct {
		name    string
		pair    func(*testing.B) pair
		stalled int
	}{
		{"grpc-1", grpcPair, 1}, {"grpc-100", grpcPair, 100},
		{"fd1-1", func(b *testing.B) pair { return besidePair(b, 0) }, 1}, {"fd1-100", func(b *testing.B) pair { return besidePair(b, 0) }, 100},
	} {
		b.Run(lane.name, func(b *testing.B) {
			p := lane.pair(b)
			speed := func() float64 {
				start := time.Now()
				if err := p.lane(n, 0); err != nil {
					b.Fatal(err)
				}
				return float64(n) / (1 << 30) / time.Since(start).Seconds()
			}
			var alone, beside []float64
			memory := 0.0
			for b.Loop() {
				for range rounds {
					alone = append(alone, speed())
					debug.FreeOSMemory()
					peakMemory(b)
					stop := p.stall(lane.stalled)
					time.Sleep(time.Second) // until they are stalled
					beside = append(beside, speed())
					memory = max(memory, peakMemory(b))
					stop()
				}
			}
			b.ReportMetric(median(alone), "alone-GiB/s")
			b.ReportMetric(median(beside), "beside-GiB/s")
			b.ReportMetric(median(beside)/median(alone), "of-alone")
			b.ReportMetric(memory, "host-MiB")
			b.ReportMetric(0, "ns/op")
		})
	}
}
