package publicapi

import (
	"context"
	"io"
	"sync"
	"time"

	"github.com/towpath-dataplane/towpath/host/flow"
	"github.com/towpath-dataplane/towpath/sdk"
)

// deliver sends the content of an upload to the flow's sink, and returns when it is durable. After an error nothing is visible.
//
// Every delivery may be a repetition: of an upload whose answer was lost, or that became durable just before this process was
// killed. So the sink is always told to take a part that is there with the same content for done.
func (in *ingest) deliver(up *upload) (flow.Part, error) {
	f := in.stay.flow
	sink, err := in.handler.Sink(f.Local.Type)
	if err != nil {
		return flow.Part{}, sinkProblem(err)
	}
	digest := in.digester(up)
	ctx, cancel := context.WithCancel(in.stay.ctx)
	defer cancel()
	stream, err := sink.Write(ctx, sdk.WriteOpen{
		Flow: f.PluginContext(), Address: f.Local, Redelivery: true, Digests: in.handler.algorithms,
	})
	if err != nil {
		return flow.Part{}, sinkProblem(err)
	}
	receipts := make(chan receipt, 1)
	var listening sync.WaitGroup
	listening.Go(func() {
		r := awaitDone(stream, nil)
		receipts <- r
		if r.err != nil && !endOf(ctx, r.err) {
			in.stopReading() // the client is told at once
		}
	})
	sendErr := in.send(stream, up, digest)
	r, err := settle(ctx, sendErr, receipts, cancel)
	// The receipt says what became of the part, whatever closing the stream says.
	_ = stream.Close()
	listening.Wait()
	if err != nil {
		return flow.Part{}, err
	}
	return in.received(up, digest, r)
}

// settle waits for the receipt. If the content could not be sent, for another reason than that the sink has ended the stream, it
// cancels the stream.
func settle(ctx context.Context, sendErr error, receipts <-chan receipt, cancel func()) (receipt, error) {
	if sendErr == nil || sendErr == io.EOF {
		r := <-receipts
		switch {
		case r.err != nil:
			return r, sinkProblem(r.err)
		case sendErr != nil:
			return r, sinkProblem(sdk.Errorf(sdk.Internal, "the sink was done before it had everything"))
		}
		return r, nil
	}
	select {
	case r := <-receipts:
		if r.err != nil && !endOf(ctx, r.err) { // the sink has failed first
			return r, sinkProblem(r.err)
		}
	default:
		cancel()
		<-receipts
	}
	return receipt{}, sendErr
}

// digester computes what is recorded of a part, and what the client has announced.
func (in *ingest) digester(up *upload) *sdk.Digester {
	algorithms := in.handler.algorithms
	if up.want[sdk.SHA256] != nil || announcesDigests(up.trailer) {
		algorithms = sdk.Algorithms()
	}
	return sdk.NewDigester(algorithms...)
}

// receipt is what a sink says at the end of a stream.
type receipt struct {
	part *sdk.PartWritten // nil if it has said nothing about the part
	err  error
}

// awaitDone listens to a sink until it is done. durable, if not nil, is told what the sink says about checkpoints.
func awaitDone(stream sdk.WriteStream, durable func(*sdk.Durable) error) receipt {
	var r receipt
	for {
		said, err := stream.Recv()
		if err == io.EOF {
			err = sdk.Errorf(sdk.Internal, "the sink stopped before it was done")
		}
		if err != nil {
			r.err = err
			return r
		}
		switch said := said.(type) {
		case *sdk.PartWritten:
			r.part = said
		case *sdk.Durable:
			if durable == nil {
				continue
			}
			if r.err = durable(said); r.err != nil {
				return r
			}
		case *sdk.Done:
			return r
		}
	}
}

// send sends the part as the only one of the stream. io.EOF means that the sink has ended the stream.
func (in *ingest) send(stream sdk.WriteStream, up *upload, digest *sdk.Digester) error {
	if err := stream.Send(&sdk.PartBegin{PartInfo: up.info}); err != nil {
		return err
	}
	if err := in.sendBytes(stream, up, digest); err != nil {
		return err
	}
	if err := up.check(digest); err != nil {
		return err
	}
	size := digest.Size()
	if err := stream.Send(&sdk.PartEnd{Size: size, Digests: digest.Sum()}); err != nil {
		return err
	}
	return stream.Send(&sdk.End{Totals: sdk.Totals{Parts: 1, Bytes: size}})
}

// sendBytes sends the body until it ends.
func (in *ingest) sendBytes(stream sdk.WriteStream, up *upload, digest *sdk.Digester) error {
	for {
		b := sdk.NewBuffer()
		readErr := fill(b, up.body)
		digest.Write(b.Bytes())
		err := in.checkSize(digest.Size())
		if readErr != nil && readErr != io.EOF {
			err = readErr
		}
		if err != nil || b.Len() == 0 {
			b.Release()
		} else {
			err = stream.Send(&sdk.Data{Payload: b})
		}
		if err != nil || readErr == io.EOF {
			return err
		}
	}
}

// fill reads until the buffer is half full: a client that sends little at a time does not make many frames.
func fill(b *sdk.Buffer, r io.Reader) error {
	for b.Len() < sdk.BufferSize/2 {
		if _, err := b.ReadOnce(r); err != nil {
			return err
		}
	}
	return nil
}

// check compares what came with what the client announced, before and behind the content.
func (up *upload) check(digest *sdk.Digester) error {
	if up.info.Size >= 0 && digest.Size() != up.info.Size {
		return badRequest.because("%d bytes came, %d were announced", digest.Size(), up.info.Size)
	}
	behind, err := announcedDigests(up.trailer)
	if err != nil {
		return err
	}
	for _, want := range []sdk.Digests{up.want, behind} {
		if err := want.Compare(digest.Sum()); err != nil {
			return wrongDigest(err)
		}
	}
	return nil
}

// received checks the sink's receipt and returns what is recorded of the part.
func (in *ingest) received(up *upload, digest *sdk.Digester, r receipt) (flow.Part, error) {
	part := flow.Part{
		Index: up.info.Index, Name: up.info.Name, Size: digest.Size(), Digests: digest.Sum(), Finished: time.Now().UTC(),
	}
	if r.part == nil {
		return part, nil
	}
	if r.part.Size != part.Size {
		return part, sinkProblem(sdk.Errorf(sdk.Corrupt, "the sink has %d bytes of %d", r.part.Size, part.Size))
	}
	if err := part.Digests.Compare(r.part.Digests); err != nil {
		return part, sinkProblem(err)
	}
	part.Location = r.part.Location
	return part, nil
}
