package sdk

import (
	"context"
	"io"
	"iter"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// heldPayload is released only when the test lets it.
type heldPayload struct{ let chan struct{} }

func (heldPayload) Len() int                         { return 1 }
func (heldPayload) WriteTo(io.Writer) (int64, error) { return 1, nil }
func (p heldPayload) Release()                       { <-p.let }

// idleSink takes nothing until it is cut.
type idleSink struct{ Sink }

func (idleSink) Validate(context.Context, DataAddress) error { return nil }
func (idleSink) Write(ctx context.Context, _ WriteRequest, _ iter.Seq2[*IncomingPart, error]) error {
	<-ctx.Done()
	return ErrInterrupted
}

// When Close has returned, whoever sent something has its memory back.
func TestCloseReleasesWhatWasNotTaken(t *testing.T) {
	for range 20 {
		synctest.Test(t, func(t *testing.T) {
			sink := NewDataSink(SinkType{AddressType: AddressType{Type: "T"}, Sink: idleSink{}})
			stream, err := sink.Write(t.Context(), WriteOpen{Address: DataAddress{Type: "T"}})
			if err != nil {
				t.Fatal(err)
			}
			p := heldPayload{make(chan struct{})}
			if err := stream.Send(&Data{Payload: p}); err != nil {
				t.Fatal(err)
			}
			closed := make(chan struct{})
			go func() {
				defer close(closed)
				stream.Close()
			}()
			synctest.Wait()
			select {
			case <-closed:
				t.Error("Close has returned, and what was sent is not released")
			default:
			}
			close(p.let)
			<-closed
		})
	}
}

// slowSink takes a while to stop when it is cut, and leaves something behind until Deprovision.
type slowSink struct {
	Sink
	left *[]string
}

func (slowSink) Validate(context.Context, DataAddress) error { return nil }
func (s slowSink) Write(ctx context.Context, _ WriteRequest, _ iter.Seq2[*IncomingPart, error]) error {
	<-ctx.Done()
	time.Sleep(time.Second)
	*s.left = append(*s.left, "written")
	return ErrInterrupted
}
func (s slowSink) Deprovision(context.Context, FlowContext, DataAddress) error {
	*s.left = append(*s.left, "removed")
	return nil
}

// What a flow writes is over before what it has left is removed, but for how long that takes there is a bound.
func TestDeprovisionWaitsForWrite(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var left []string
		sink := NewDataSink(SinkType{AddressType: AddressType{Type: "T"}, Sink: slowSink{left: &left}})
		flow, other, address := FlowContext{ID: "f"}, FlowContext{ID: "other"}, DataAddress{Type: "T"}
		for _, f := range []FlowContext{flow, other} {
			if _, err := sink.Write(t.Context(), WriteOpen{Flow: f, Address: address}); err != nil {
				t.Fatal(err)
			}
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
		defer cancel()
		if err := sink.Deprovision(ctx, flow, address); err == nil || !AsError(err).Retryable {
			t.Errorf("while the flow is being written: %v", err)
		}
		if err := sink.Deprovision(t.Context(), flow, address); err != nil {
			t.Error(err)
		}
		if got := strings.Join(left, " "); got != "written removed" {
			t.Errorf("%s", got)
		}
		if err := sink.Deprovision(t.Context(), other, address); err != nil {
			t.Error(err)
		}
	})
}
