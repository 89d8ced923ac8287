package sdk

import (
	"context"
	"io"
	"iter"
	"testing"
	"testing/synctest"
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
