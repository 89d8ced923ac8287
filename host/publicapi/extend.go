package publicapi

import (
	"context"
	"errors"
	"io"
	"net/http"
	"sync"
	"time"

	"github.com/towpath-dataplane/towpath/sdk"
	"github.com/towpath-dataplane/towpath/sdk/httpfield"
)

// flushTime bounds how long a sink may take to make durable what came before a request broke off.
const flushTime = 5 * time.Second

// extending is a request that brings a piece of a resumable upload into the sink.
type extending struct {
	*ingest
	u        *resumable
	up       *upload
	whole    sdk.Digests // that the client announced of the whole
	stream   sdk.WriteStream
	digest   *sdk.Digester // of the whole
	content  *sdk.Digester // of the request's content
	strict   bool          // the content counts only as a whole: it has a digest of its own
	sequence uint64
	asked    time.Time // when a checkpoint was sent last
	told     int64     // the offset that the client was told last
	ended    chan struct{}
	news     chan struct{} // has a value after reached has moved

	mu      sync.Mutex // guards what follows
	marks   []checkpoint
	reached int64 // what is durable and stored
}

// checkpoint is a place in the part that the sink was asked to make durable.
type checkpoint struct {
	sequence uint64
	offset   int64
	digest   sdk.DigestState
}

// extend appends the request's content to the upload, and makes the part of it that it then is, if it is complete. Whatever ends the
// request earlier, what has come stays as far as the sink has made it durable.
func (in *ingest) extend(u *resumable, up *upload, complete bool) (*answer, error) {
	sink, err := in.handler.Sink(in.stay.flow.Local.Type)
	if err != nil {
		return nil, sinkProblem(err)
	}
	digest, err := u.Digest.Digester()
	if err != nil {
		return nil, err
	}
	ctx, cancel := outlive(in.stay.ctx)
	defer cancel()
	stream, err := sink.Write(ctx, sdk.WriteOpen{
		Flow: in.stay.flow.PluginContext(), Address: in.stay.flow.Local, ResumeToken: u.Token, Redelivery: true,
		Digests: in.handler.algorithms,
	})
	if err != nil {
		return nil, in.lost(u, sinkProblem(err))
	}
	_, behind := up.trailer[httpfield.ContentDigest]
	e := &extending{ingest: in, u: u, up: up, whole: u.Want, stream: stream, digest: digest, content: sdk.NewDigester(sdk.Algorithms()...),
		strict: len(up.want) > 0 || behind, asked: time.Now(), told: u.Offset, reached: u.Offset,
		ended: make(chan struct{}), news: make(chan struct{}, 1)}
	if !e.strict {
		e.content = sdk.NewDigester()
	}
	receipts := make(chan receipt, 1)
	var listening sync.WaitGroup
	listening.Go(func() {
		r := awaitDone(stream, func(d *sdk.Durable) error { return e.durable(ctx, d) })
		receipts <- r
		close(e.ended)
		if r.err != nil && !endOf(ctx, r.err) {
			in.stopReading()
		}
	})
	sendErr := e.send(ctx, complete)
	if sendErr == nil && !complete {
		sendErr = errMore
	}
	r, err := settle(ctx, sendErr, receipts, cancel)
	_ = stream.Close()
	listening.Wait()
	if err == errMore {
		return &answer{status: http.StatusNoContent, header: u.header()}, nil
	}
	if err != nil {
		return nil, in.lost(u, err)
	}
	return in.complete(u, up, digest, r)
}

// outlive returns a context that ends with a stay. If that ends because the client has gone, it goes on for as long as what has come
// takes to become durable.
func outlive(stay context.Context) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancelCause(context.WithoutCancel(stay))
	unhook := context.AfterFunc(stay, func() {
		if why := whyEnded(stay); why != errClientGone {
			cancel(why)
			return
		}
		time.AfterFunc(flushTime, func() { cancel(errClientGone) })
	})
	return ctx, func() {
		cancel(nil)
		unhook()
	}
}

// errMore says that everything went well and that the part is not whole yet.
var errMore = errors.New("the upload goes on")

// complete records the part that the upload has become.
func (in *ingest) complete(u *resumable, up *upload, digest *sdk.Digester, r receipt) (*answer, error) {
	part, err := in.received(up, digest, r)
	if err != nil {
		return nil, in.lost(u, err)
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(in.stay.ctx), recordTimeout)
	defer cancel()
	_, exists, err := in.handler.Flows.Part(ctx, u.Key, u.Name)
	if err == nil {
		err = in.record(part)
	}
	if err != nil {
		return nil, err
	}
	if !exists {
		in.added++
	}
	u.Complete, u.Offset, u.Token, u.Digest = true, part.Size, nil, sdk.DigestState{}
	if err := in.handler.put(ctx, u); err != nil {
		// The part is recorded. A client that asks again sends the end of it again.
		in.handler.Logger.WarnContext(ctx, "end of an upload not stored", "flow", u.Key.String(), "part", u.Name, "err", err)
	}
	return in.finished(u, part), nil
}

// lost removes the upload if err says that it cannot go on, and tells the client so.
func (in *ingest) lost(u *resumable, err error) error {
	p := problemOf(err)
	var e *sdk.Error
	switch {
	case errors.As(p.err, &e) && u.Offset > 0 && (e.Code == sdk.Corrupt || e.Code == sdk.Invalid || e.Code == sdk.NotFound):
		p = gone.because("what has come of the upload is lost: it has to begin again").from(err)
	case p.spoils:
		p.with(httpfield.UploadComplete, "?1")
	default:
		return err
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(in.stay.ctx), recordTimeout)
	defer cancel()
	if failure := in.handler.giveUp(ctx, in.stay.flow, u); failure != nil {
		return failure
	}
	return p
}

// durable stores how far the sink is.
func (e *extending) durable(ctx context.Context, d *sdk.Durable) error {
	e.mu.Lock()
	var reached *checkpoint
	for i, m := range e.marks {
		if m.sequence == d.Sequence {
			reached = &m
			e.marks = append(e.marks[:0], e.marks[i+1:]...)
			break
		}
	}
	e.mu.Unlock()
	if reached == nil {
		return sdk.Errorf(sdk.Internal, "the sink acknowledges checkpoint %d, which was not sent to it", d.Sequence)
	}
	next := *e.u // the goroutine that serves the request only looks at e.u when this one has ended
	next.Offset, next.Token, next.Digest = reached.offset, d.Token, reached.digest
	if err := e.handler.put(context.WithoutCancel(ctx), &next); err != nil {
		return err
	}
	e.mu.Lock()
	*e.u, e.reached = next, reached.offset
	e.mu.Unlock()
	select {
	case e.news <- struct{}{}:
	default:
	}
	return nil
}

// send sends the request's content, and the end of the part behind it if that completes it. io.EOF means that the sink has ended the
// stream.
func (e *extending) send(ctx context.Context, complete bool) error {
	if err := e.stream.Send(&sdk.PartBegin{PartInfo: e.u.part(), Offset: e.u.Offset}); err != nil {
		return err
	}
	if err := e.sendContent(); err != nil {
		if err != io.EOF && !e.strict {
			e.flush(ctx)
		}
		return err
	}
	if err := e.checkContent(); err != nil {
		return err
	}
	if !complete {
		if !e.flush(ctx) {
			return backendSlow.because("what came could not be made durable in time")
		}
		return nil
	}
	if err := e.checkWhole(); err != nil {
		return err
	}
	size := e.digest.Size()
	if err := e.stream.Send(&sdk.PartEnd{Size: size, Digests: e.digest.Sum()}); err != nil {
		return err
	}
	return e.stream.Send(&sdk.End{Totals: sdk.Totals{Parts: 1, Bytes: size}})
}

// sendContent sends the body until it ends, all that came of it.
func (e *extending) sendContent() error {
	length := e.up.info.Size
	for {
		b := sdk.NewBuffer()
		readErr := fill(b, e.up.body)
		if n := e.digest.Size() + int64(b.Len()); length >= 0 && n > length {
			b.Release()
			return spoiled(inconsistentLength())
		} else if err := e.checkSize(n); err != nil {
			b.Release()
			return err
		}
		e.digest.Write(b.Bytes())
		e.content.Write(b.Bytes())
		if b.Len() == 0 {
			b.Release()
		} else if err := e.stream.Send(&sdk.Data{Payload: b}); err != nil {
			return err
		}
		if readErr == io.EOF {
			return nil
		}
		if readErr != nil {
			return readErr
		}
		if err := e.progress(); err != nil {
			return err
		}
	}
}

// progress asks the sink for a checkpoint now and then, and tells the client of those that were reached.
func (e *extending) progress() error {
	if e.strict {
		return nil
	}
	e.mu.Lock()
	waiting, reached := len(e.marks), e.reached
	e.mu.Unlock()
	if reached > e.told {
		e.told = reached
		h := http.Header{}
		httpfield.SetCount(h, httpfield.UploadOffset, reached)
		// A client that does not take it is not told, and found out where it sends.
		_ = e.interim(h)
	}
	if waiting > 0 || time.Since(e.asked) < e.handler.Resume.Interval {
		return nil
	}
	return e.ask()
}

// ask sends a checkpoint.
func (e *extending) ask() error {
	e.asked = time.Now()
	e.sequence++
	e.mu.Lock()
	e.marks = append(e.marks, checkpoint{e.sequence, e.digest.Size(), e.digest.State()})
	e.mu.Unlock()
	return e.stream.Send(&sdk.Checkpoint{Sequence: e.sequence})
}

// flush waits until all that came is durable and stored, for a bounded time.
func (e *extending) flush(ctx context.Context) bool {
	all := e.digest.Size()
	if e.far() == all {
		return true
	}
	if e.ask() != nil {
		return false
	}
	timer := time.NewTimer(flushTime)
	defer timer.Stop()
	for e.far() < all {
		select {
		case <-e.news:
		case <-e.ended:
			return e.far() == all
		case <-ctx.Done():
			return false
		case <-timer.C:
			return false
		}
	}
	return true
}

func (e *extending) far() int64 {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.reached
}

// checkContent compares the content of the request with its own digest.
func (e *extending) checkContent() error {
	behind, err := announcedIn(e.up.trailer, httpfield.ContentDigest)
	if err != nil {
		return err
	}
	for _, want := range []sdk.Digests{e.up.want, behind} {
		if err := want.Compare(e.content.Sum()); err != nil {
			return wrongDigest(err)
		}
	}
	return nil
}

// checkWhole compares the whole part with what was announced of it.
func (e *extending) checkWhole() error {
	if length := e.up.info.Size; length >= 0 && e.digest.Size() != length {
		return spoiled(inconsistentLength())
	}
	behind, err := announcedIn(e.up.trailer, httpfield.ReprDigest)
	if err != nil {
		return err
	}
	for _, want := range []sdk.Digests{e.whole, behind} {
		if err := want.Compare(e.digest.Sum()); err != nil {
			return spoiled(wrongDigest(err))
		}
	}
	return nil
}

// wrongDigest says that content is not what its digest says.
func wrongDigest(err error) *problem {
	return digestMismatch.because("the content is not what its digest says: %v", err)
}

// spoiled marks a problem after which an upload cannot go on.
func spoiled(p *problem) *problem {
	p.spoils = true
	return p
}
