package sdktest_test

import (
	"context"
	"errors"
	"io"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/towpath-dataplane/towpath/sdk"
	"github.com/towpath-dataplane/towpath/sdk/sdktest"
)

// move copies everything from one memory to another, as a host without checkpoints does.
func move(ctx context.Context, from, to *sdktest.Memory, open sdk.WriteOpen) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	in, err := from.DataSource().Read(ctx, sdk.ReadOpen{Address: from.Address("")})
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := to.DataSink().Write(ctx, open)
	if err != nil {
		return err
	}
	defer out.Close()
	broken := make(chan error, 1)
	go func() {
		for {
			f, err := in.Recv()
			if err != nil {
				broken <- err
				return
			}
			if out.Send(f) != nil {
				return
			}
		}
	}()
	for {
		_, err := out.Recv()
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
		select {
		case err := <-broken:
			if err != io.EOF {
				return err
			}
		default:
		}
	}
}

// sourceError reads a memory to its end or failure, and returns the bytes that came.
func sourceError(ctx context.Context, m *sdktest.Memory) (n int, err error) {
	s, err := m.DataSource().Read(ctx, sdk.ReadOpen{Address: m.Address("")})
	if err != nil {
		return 0, err
	}
	defer s.Close()
	for {
		f, err := s.Recv()
		if err != nil {
			return n, err
		}
		if d, ok := f.(*sdk.Data); ok {
			n += d.Len()
		}
		sdk.Release(f)
	}
}

func TestFailAfter(t *testing.T) {
	failure := sdk.Retryf(sdk.Unavailable, "the disk is away")
	source := &sdktest.Memory{Piece: 100, Reading: sdktest.FailAfter(250, failure)}
	source.Put("a", make([]byte, 200))
	source.Put("b", make([]byte, 200))
	for range 2 {
		n, err := sourceError(t.Context(), source)
		if e := sdk.AsError(err); e.Code != sdk.Unavailable || !e.Retryable || n != 300 {
			t.Errorf("%d bytes and error %v", n, err)
		}
	}
}

func TestFailOnce(t *testing.T) {
	source := &sdktest.Memory{}
	source.Put("a", make([]byte, 1<<20))
	sink := &sdktest.Memory{Writing: sdktest.FailOnce(512<<10, sdk.Retryf(sdk.Exhausted, "no room"))}
	open := sdk.WriteOpen{Address: sink.Address("")}
	if e := sdk.AsError(move(t.Context(), source, sink, open)); e == nil || e.Code != sdk.Exhausted {
		t.Errorf("the first stream: %v", e)
	}
	if err := move(t.Context(), source, sink, open); err != nil {
		t.Errorf("the second stream: %v", err)
	}
	if diff := cmp.Diff(source.Names(), sink.Names()); diff != "" {
		t.Errorf("(-source +sink):\n%s", diff)
	}
}

func TestGate(t *testing.T) {
	gate := sdktest.NewGate(128 << 10)
	source := &sdktest.Memory{Reading: gate.Hook}
	source.Put("a", make([]byte, 1<<20))
	done := make(chan int)
	go func() {
		n, err := sourceError(t.Context(), source)
		if err != io.EOF {
			t.Errorf("read: %v", err)
		}
		done <- n
	}()
	<-gate.Reached()
	select {
	case n := <-done:
		t.Errorf("a closed gate let %d bytes pass", n)
	default:
	}
	gate.Open()
	gate.Open()
	if n := <-done; n != 1<<20 {
		t.Errorf("%d bytes", n)
	}
}

// TestGateEndsWithItsFlow: what stands before a gate goes when its flow is cut, at a source as well as at a sink.
func TestGateEndsWithItsFlow(t *testing.T) {
	for _, at := range []string{"source", "sink"} {
		gate := sdktest.NewGate(100)
		source, sink := &sdktest.Memory{}, &sdktest.Memory{}
		source.Put("a", make([]byte, 1<<20))
		if at == "source" {
			source.Reading = gate.Hook
		} else {
			sink.Writing = gate.Hook
		}
		ctx, cancel := context.WithCancel(t.Context())
		go func() {
			<-gate.Reached()
			cancel()
		}()
		if err := move(ctx, source, sink, sdk.WriteOpen{Address: sink.Address("")}); !errors.Is(err, context.Canceled) {
			t.Errorf("gate at the %s: %v", at, err)
		}
		if names := sink.Names(); len(names) > 0 {
			t.Errorf("gate at the %s: %q are visible", at, names)
		}
	}
}

func TestSlow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		source := &sdktest.Memory{Piece: 1000, Reading: sdktest.Slow(time.Second)}
		source.Put("a", make([]byte, 9000))
		start := time.Now()
		if _, err := sourceError(t.Context(), source); err != io.EOF {
			t.Fatal(err)
		}
		if took := time.Since(start); took != 10*time.Second { // nine pieces, and the end
			t.Errorf("took %s", took)
		}
	})
}

func TestMemoryCollision(t *testing.T) {
	for _, test := range []struct {
		name       string
		there      string
		collision  string
		redelivery bool
		want       string
		code       sdk.Code
	}{
		{name: "free", want: "new"},
		{name: "taken", there: "old", want: "old", code: sdk.Conflict},
		{name: "replace", there: "old", collision: "replace", want: "new"},
		{name: "redelivery", there: "new", redelivery: true, want: "new"},
		{name: "redelivery of another", there: "old", redelivery: true, want: "old", code: sdk.Conflict},
	} {
		source, sink := &sdktest.Memory{}, &sdktest.Memory{}
		source.Put("a", []byte("new"))
		if test.there != "" {
			sink.Put("a", []byte(test.there))
		}
		open := sdk.WriteOpen{Address: sdk.DataAddress{Type: sdktest.MemoryType}, Redelivery: test.redelivery}
		if test.collision != "" {
			open.Address.Properties = map[string]string{"collision": test.collision}
		}
		err := move(t.Context(), source, sink, open)
		if e := sdk.AsError(err); (e == nil) != (test.code == "") || e != nil && e.Code != test.code {
			t.Errorf("%s: error %v, want code %q", test.name, err, test.code)
		}
		if got, err := sink.Content("a"); err != nil || string(got) != test.want {
			t.Errorf("%s: content %q (%v), want %q", test.name, got, err, test.want)
		}
	}
}
