package main

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io"
	"strconv"
	"testing"
	"testing/synctest"
	"time"

	"github.com/towpath-dataplane/towpath/sdk"
	"github.com/towpath-dataplane/towpath/sdk/sdktest"
)

func TestDiscardSuite(t *testing.T) {
	for _, digest := range []string{"false", "true"} {
		t.Run("digest "+digest, func(t *testing.T) {
			sdktest.TestSink(t, sdktest.SinkCase{
				Resumable: true, Records: true,
				New: func(*testing.T) sdktest.Store {
					return sdktest.Store{Sink: sdk.NewDataSink(discardType()), Address: address("Discard", "digest", digest)}
				},
			})
		})
	}
}

func TestDiscardRefuses(t *testing.T) {
	sink := sdk.NewDataSink(discardType())
	for _, a := range []sdk.DataAddress{
		address("Discard", "rate", "fast"), address("Discard", "stall_after", "-1"), address("Discard", "digest", "md5"),
		address("Discard", "path", "x"),
	} {
		if e := sdk.AsError(sink.Validate(t.Context(), a)); e == nil || e.Code != sdk.Invalid {
			t.Errorf("address %v: error %v", a.Properties, e)
		}
	}
}

// copied is what came of copying a source to a sink.
type copied struct {
	locations []string
	sink      []byte // last tokens
	source    []byte
	totals    sdk.Totals
}

// copyParts moves parts from Generate to Discard as a host does, with a checkpoint as often as it gets one.
func copyParts(ctx context.Context, sink sdk.DataSink, from, to sdk.DataAddress, begun copied) (copied, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	in, err := sdk.NewDataSource(generateType()).Read(ctx, sdk.ReadOpen{Address: from, ResumeToken: begun.source})
	if err != nil {
		return begun, err
	}
	defer in.Close()
	out, err := sink.Write(ctx, sdk.WriteOpen{Address: to, ResumeToken: begun.sink, Redelivery: begun.sink != nil})
	if err != nil {
		return begun, err
	}
	defer out.Close()
	tokens := make(chan *sdk.Checkpoint, 1<<16)
	go forward(in, out, tokens)
	for {
		up, err := out.Recv()
		switch up := up.(type) {
		case *sdk.PartWritten:
			begun.locations = append(begun.locations, up.Location)
		case *sdk.Durable:
			c := <-tokens
			for c.Sequence < up.Sequence {
				c = <-tokens
			}
			begun.source, begun.sink = c.Token, up.Token
		case *sdk.Done:
			begun.totals = up.Totals
		}
		if err == io.EOF {
			return begun, nil
		}
		if err != nil {
			return begun, err
		}
	}
}

func forward(in sdk.ReadStream, out sdk.WriteStream, tokens chan<- *sdk.Checkpoint) {
	for {
		f, err := in.Recv()
		if err != nil {
			return
		}
		if c, ok := f.(*sdk.Checkpoint); ok {
			tokens <- c
		}
		if out.Send(f) != nil || in.RequestCheckpoint() != nil {
			return
		}
	}
}

func TestDigestIsOfWholePart(t *testing.T) {
	const size = 5<<20 + 1
	from := address("Generate", "size", strconv.Itoa(size))
	to := address("Discard", "digest", "true", "fail_after", strconv.Itoa(size/2))
	sink := sdk.NewDataSink(discardType())
	half, err := copyParts(t.Context(), sink, from, to, copied{})
	if err == nil || half.sink == nil || len(half.locations) > 0 {
		t.Fatalf("error %v, token %q and locations %q; want to be inside the part", err, half.sink, half.locations)
	}
	whole, err := copyParts(t.Context(), sink, from, to, half)
	if err != nil {
		t.Fatal(err)
	}
	sum := sha256.Sum256(pages(1, 0, size))
	want := "discarded " + strconv.Itoa(size) + " bytes, sha256 " + hex.EncodeToString(sum[:])
	if len(whole.locations) != 1 || whole.locations[0] != want {
		t.Errorf("locations %q, want %q", whole.locations, want)
	}
}

func TestCountsRecords(t *testing.T) {
	from := address("Generate", "mode", "records", "size", "10000", "record_size", "100", "parts", "2")
	got, err := copyParts(t.Context(), sdk.NewDataSink(discardType()), from, address("Discard"), copied{})
	if err != nil {
		t.Fatal(err)
	}
	if want := (sdk.Totals{Parts: 2, Bytes: 20_000, Records: 200}); got.totals != want {
		t.Errorf("totals %+v, want %+v", got.totals, want)
	}
	for _, location := range got.locations {
		if want := "discarded 10000 bytes in 100 records"; location != want {
			t.Errorf("location %q, want %q", location, want)
		}
	}
}

func TestFailsOnce(t *testing.T) {
	from, to := address("Generate", "size", "2MiB"), address("Discard", "fail_after", "1MiB")
	sink := sdk.NewDataSink(discardType())
	for life := range 2 {
		begun, err := copyParts(t.Context(), sink, from, to, copied{})
		if e := sdk.AsError(err); e == nil || e.Code != sdk.Unavailable || !e.Retryable {
			t.Fatalf("life %d: error %v, want one that can be retried", life, err)
		}
		if got, err := copyParts(t.Context(), sink, from, to, begun); err != nil || got.totals.Bytes != 2<<20 {
			t.Errorf("life %d: the second run ended with %+v, %v", life, got.totals, err)
		}
		if err := sink.Deprovision(t.Context(), sdk.FlowContext{}, to); err != nil {
			t.Fatal(err)
		}
	}
}

// TestStalls: the sink takes what it was told to and then waits for the end of the flow, for as long as that takes.
func TestStalls(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), 1000*time.Hour)
		defer cancel()
		start := time.Now()
		got, err := copyParts(ctx, sdk.NewDataSink(discardType()), address("Generate", "size", "2MiB"), address("Discard", "stall_after", "1MiB"), copied{})
		if !errors.Is(err, context.DeadlineExceeded) || time.Since(start) != 1000*time.Hour {
			t.Errorf("ended after %s: %v", time.Since(start), err)
		}
		if len(got.locations) > 0 {
			t.Errorf("parts are done: %q", got.locations)
		}
	})
}

func TestSlowSink(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		start := time.Now()
		_, err := copyParts(t.Context(), sdk.NewDataSink(discardType()), address("Generate", "size", "10MiB"), address("Discard", "rate", "1MiB"), copied{})
		if err != nil {
			t.Fatal(err)
		}
		if took := time.Since(start); took < 9*time.Second || took > 11*time.Second {
			t.Errorf("10 MiB at 1 MiB per second took %s", took)
		}
	})
}
