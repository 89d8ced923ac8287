package grpcplugin

import (
	"context"
	"errors"
	"io"
	"sync"
	"sync/atomic"
	"unicode/utf8"

	pluginv1 "github.com/towpath-dataplane/towpath/proto/towpath/plugin/v1"
	"github.com/towpath-dataplane/towpath/sdk"
)

// bodyPiece is the most of a request's body that goes into one message.
const bodyPiece = 64 << 10

func requestToProto(r *sdk.ProxyRequest) *pluginv1.ProxyRequest {
	if r == nil {
		return nil
	}
	p := &pluginv1.ProxyRequest{Method: text(r.Method), Path: text(r.Path), Query: text(r.Query), Headers: fieldsOfHeader(r.Header),
		HasBody: r.Body != nil}
	if r.Body != nil && r.Size >= 0 {
		size := uint64(r.Size)
		p.BodySize = &size
	}
	return p
}

// requestFromProto returns a request without its body.
func requestFromProto(p *pluginv1.ProxyRequest) *sdk.ProxyRequest {
	if p == nil {
		return nil
	}
	r := &sdk.ProxyRequest{Method: p.Method, Path: p.Path, Query: p.Query, Header: headerOfFields(p.Headers)}
	switch {
	case p.BodySize != nil:
		r.Size = int64(*p.BodySize)
	case p.HasBody:
		r.Size = sdk.SizeUnknown
	}
	return r
}

func responseToProto(r *sdk.Response) *pluginv1.Response {
	if r == nil {
		return nil
	}
	return &pluginv1.Response{Status: uint32(r.Status), Headers: fieldsOfHeader(r.Header)}
}

func responseFromProto(p *pluginv1.Response) *sdk.Response {
	if p == nil {
		return nil
	}
	return &sdk.Response{Status: int(p.Status), Header: headerOfFields(p.Headers)}
}

func fieldsOfHeader(h []sdk.HeaderField) (out []*pluginv1.Header) {
	for _, f := range h {
		p := &pluginv1.Header{Name: text(f.Name)}
		if utf8.ValidString(f.Value) {
			p.Value = f.Value
		} else {
			p.RawValue = []byte(f.Value)
		}
		out = append(out, p)
	}
	return out
}

func headerOfFields(in []*pluginv1.Header) (h []sdk.HeaderField) {
	for _, p := range in {
		f := sdk.HeaderField{Name: p.Name, Value: p.Value}
		if len(p.RawValue) > 0 {
			f.Value = string(p.RawValue)
		}
		h = append(h, f)
	}
	return h
}

// bodySender sends the body of a request beside the frames that come. nil: there is none.
type bodySender struct {
	body   io.ReadCloser
	done   chan struct{} // closed when nothing more is sent
	failed atomic.Pointer[sdk.Error]
}

// sendBody begins to send a body on the stream of r.
func (r *readClient) sendBody(body io.ReadCloser) {
	r.body = &bodySender{body: body, done: make(chan struct{})}
	go func() {
		defer close(r.body.done)
		if err := r.copyBody(body); err != nil {
			r.body.failed.Store(sdk.AsError(err))
			r.cancel()
		}
	}()
}

// copyBody returns an error if the body does not become whole.
func (r *readClient) copyBody(body io.Reader) error {
	piece := make([]byte, bodyPiece)
	for {
		n, err := body.Read(piece)
		if err != nil && err != io.EOF {
			return err
		}
		if n == 0 && err == nil {
			continue
		}
		sent := r.sendPiece(&pluginv1.RequestBody{Data: piece[:n], Last: err == io.EOF})
		if sent != nil || err == io.EOF {
			return nil // if the stream has ended, Recv says why
		}
	}
}

func (r *readClient) sendPiece(piece *pluginv1.RequestBody) error {
	r.sending.Lock()
	defer r.sending.Unlock()
	if r.hungUp {
		return io.EOF
	}
	return r.stream.Send(&pluginv1.ReadUp{Kind: &pluginv1.ReadUp_Body{Body: piece}})
}

// why is what broke the body, nil if nothing did.
func (b *bodySender) why() error {
	if b != nil {
		if err := b.failed.Load(); err != nil {
			return err
		}
	}
	return nil
}

// sends reports whether more of the body may be on its way.
func (b *bodySender) sends() bool {
	if b == nil {
		return false
	}
	select {
	case <-b.done:
		return false
	default:
		return true
	}
}

// close lets go of the body and waits until nobody reads it.
func (b *bodySender) close() {
	if b != nil {
		b.body.Close()
		<-b.done
	}
}

// bodyPipe is the body of a request as it comes from the host. What nobody reads is thrown away.
type bodyPipe struct {
	ctx    context.Context // of the stream
	pieces chan []byte     // closed when no more come; end says why
	end    error           // io.EOF: it is whole
	last   bool            // the last piece has come
	closed chan struct{}
	once   sync.Once

	rest []byte // of a piece; for the reader
}

var errBodyClosed = errors.New("the body is no longer read")

func newBodyPipe(ctx context.Context) *bodyPipe {
	return &bodyPipe{ctx: ctx, pieces: make(chan []byte), closed: make(chan struct{})}
}

// put waits until a piece is taken.
func (b *bodyPipe) put(piece *pluginv1.RequestBody) {
	if b == nil || b.last {
		return
	}
	if len(piece.GetData()) > 0 {
		select {
		case b.pieces <- piece.Data:
		case <-b.closed:
		case <-b.ctx.Done():
		}
	}
	if piece.GetLast() {
		b.finish(io.EOF)
	}
}

// finish ends the body, if it has not ended.
func (b *bodyPipe) finish(err error) {
	if b != nil && !b.last {
		b.last, b.end = true, err
		close(b.pieces)
	}
}

func (b *bodyPipe) Read(p []byte) (int, error) {
	select {
	case <-b.closed:
		return 0, errBodyClosed
	default:
	}
	for len(b.rest) == 0 {
		select {
		case piece, ok := <-b.pieces:
			if !ok {
				return 0, b.end
			}
			b.rest = piece
		case <-b.closed:
			return 0, errBodyClosed
		case <-b.ctx.Done():
			return 0, context.Cause(b.ctx)
		}
	}
	n := copy(p, b.rest)
	b.rest = b.rest[n:]
	return n, nil
}

func (b *bodyPipe) Close() error {
	b.once.Do(func() { close(b.closed) })
	return nil
}
