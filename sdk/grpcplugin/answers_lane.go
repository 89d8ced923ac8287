package grpcplugin

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	"google.golang.org/protobuf/proto"

	pluginv1 "github.com/towpath-dataplane/towpath/proto/towpath/plugin/v1"
	"github.com/towpath-dataplane/towpath/sdk"
)

// The kinds of item on a lane for answers, besides those with payload.
const (
	frameItem = 4
	orderItem = 5
)

const (
	maxOrder = 1 << 20
	// talkBuffer is what either end reads at once: an answer that is small comes whole.
	talkBuffer = 8 << 10
)

// parseAnswerItem reads the header of an item that a plugin sends.
func parseAnswerItem(h [itemHeader]byte) (item, error) {
	if h[0] == dataItem || h[0] == recordsItem {
		return parseItem(h)
	}
	return parseWhole(h, frameItem, maxMessageSize)
}

// parseOrder reads the header of what a host sends.
func parseOrder(h [itemHeader]byte) (item, error) { return parseWhole(h, orderItem, maxOrder) }

func parseWhole(h [itemHeader]byte, kind byte, most int) (item, error) {
	i := item{kind: h[0], size: int(binary.BigEndian.Uint32(h[4:]))}
	if i.kind != kind || h[1] != 0 || h[2] != 0 || h[3] != 0 || i.size > most {
		return i, fmt.Errorf("an item %x on a lane for answers", h)
	}
	return i, nil
}

// appendMessage adds an item with an encoded message.
func appendMessage(b []byte, kind byte, m proto.Message) ([]byte, error) {
	start := len(b)
	b = append(b, make([]byte, itemHeader)...)
	b, err := proto.MarshalOptions{Deterministic: kind == orderItem}.MarshalAppend(b, m) // so that what is the same looks the same
	if err == nil {
		h := item{kind: kind, size: len(b) - start - itemHeader}.header()
		copy(b[start:], h[:])
	}
	return b, err
}

// itemReader reads items from a stream of bytes, with as few reads as can be.
type itemReader struct {
	from io.Reader
	buf  []byte // memory
	have []byte // of buf: read and not used
}

// need reads until there are n bytes, which fit into the buffer.
func (r *itemReader) need(n int) error {
	if len(r.have) >= n {
		return nil
	}
	if r.buf == nil {
		r.buf = make([]byte, talkBuffer)
	}
	r.have = r.buf[:copy(r.buf, r.have)]
	for len(r.have) < n {
		m, err := r.from.Read(r.buf[len(r.have):])
		r.have = r.buf[:len(r.have)+m]
		if len(r.have) >= n {
			return nil
		}
		if err == io.EOF && len(r.have) > 0 {
			return io.ErrUnexpectedEOF
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// more waits for more than there is, unless the buffer is full.
func (r *itemReader) more() error {
	if len(r.have) == talkBuffer {
		return nil
	}
	return r.need(len(r.have) + 1)
}

func (r *itemReader) header() (h [itemHeader]byte, err error) {
	if err := r.need(itemHeader); err != nil {
		return h, err
	}
	copy(h[:], r.have)
	r.have = r.have[itemHeader:]
	return h, nil
}

// body calls use with the n bytes of a body, which are valid until it returns.
func (r *itemReader) body(n int, use func([]byte) error) error {
	if n > talkBuffer {
		whole := make([]byte, n)
		if err := r.fill(whole); err != nil {
			return err
		}
		return use(whole)
	}
	if err := r.need(n); err != nil {
		return noEOF(err)
	}
	b := r.have[:n]
	r.have = r.have[n:]
	return use(b)
}

// fill reads a body into b.
func (r *itemReader) fill(b []byte) error {
	n := copy(b, r.have)
	r.have = r.have[n:]
	if n == len(b) {
		return nil
	}
	_, err := io.ReadFull(r.from, b[n:])
	return noEOF(err)
}

func noEOF(err error) error {
	if err == io.EOF {
		return io.ErrUnexpectedEOF
	}
	return err
}

// frame reads the next item of an answer.
func (r *itemReader) frame() (m message, err error) {
	h, err := r.header()
	if err != nil {
		return m, err
	}
	i, err := parseAnswerItem(h)
	if err != nil {
		return m, sdk.Errorf(sdk.Internal, "%w", err)
	}
	if i.kind == frameItem {
		return m, r.body(i.size, func(b []byte) error { return m.decode(b) })
	}
	body := newBody(i.size)
	if err := r.fill(body.space()[:i.size]); err != nil {
		body.Release()
		return m, err
	}
	body.fill(i.size)
	if i.kind == dataItem {
		return message{frame: &sdk.Data{Payload: body.Payload}}, nil
	}
	return message{frame: &sdk.RecordBatch{Batch: &wireBatch{raw: wire(body.Payload), count: i.count}}}, nil
}

// decode reads a frame that is no payload.
func (m *message) decode(b []byte) error {
	var f pluginv1.Frame
	err := proto.Unmarshal(b, &f)
	if err == nil {
		err = m.fromProto(&f)
	}
	if err == nil && m.frame == nil && m.err == nil {
		err = errors.New("it does not belong in an answer")
	}
	if err != nil {
		return sdk.Errorf(sdk.Internal, "a frame on a lane for answers: %w", err)
	}
	return nil
}

// laneTalk is a talk on a lane.
type laneTalk struct {
	conn *laneConn
	in   itemReader
	out  []byte

	mu     sync.Mutex // guards the deadline, and what follows
	isCut  bool
	closed bool
}

func newLaneTalk(c *laneConn) *laneTalk { return &laneTalk{conn: c, in: itemReader{from: c}} }

func (t *laneTalk) ask(open *pluginv1.ReadOpen) (err error) {
	if t.out, err = appendMessage(t.out[:0], orderItem, open); err != nil {
		return err
	}
	if len(t.out) > itemHeader+maxOrder {
		return sdk.Errorf(sdk.Exhausted, "an order of %d bytes", len(t.out))
	}
	_, err = t.conn.Write(t.out)
	if cap(t.out) > talkBuffer {
		t.out = nil
	}
	return err
}

func (t *laneTalk) next() (message, error) { return t.in.frame() }

func (t *laneTalk) pending() bool {
	if len(t.in.have) < itemHeader {
		return false
	}
	i, err := parseAnswerItem([itemHeader]byte(t.in.have))
	return err == nil && len(t.in.have) >= itemHeader+i.size
}

func (t *laneTalk) clean() bool { return len(t.in.have) == 0 }

func (t *laneTalk) cut() {
	t.mu.Lock()
	defer t.mu.Unlock()
	if !t.isCut && !t.closed {
		t.isCut = true
		t.conn.CloseWrite()
		t.conn.SetReadDeadline(time.Unix(1, 0))
	}
}

func (t *laneTalk) close(polite bool) {
	t.mu.Lock()
	if polite || t.closed {
		t.closed = true
		t.mu.Unlock()
		t.conn.Close()
		return
	}
	t.closed = true
	t.conn.CloseWrite()
	t.conn.SetReadDeadline(time.Now().Add(hangUpWait))
	t.mu.Unlock()
	io.Copy(io.Discard, struct{ io.Reader }{t.conn}) // the plugin closes it when it has let go
	t.conn.Close()
}

// attend has the plugin connect a lane for answers.
func (c *Client) attend(ctx context.Context) (talk, error) {
	offer := c.offer()
	if offer == nil {
		return nil, errNoTalk
	}
	ctx, cancel := context.WithTimeout(ctx, laneWait)
	defer cancel()
	p := offer.proto()
	p.Name = AnswersLaneName
	_, err := c.source.Attend(ctx, p)
	if err == nil {
		var lane *laneConn
		if lane, err = offer.await(ctx); err == nil {
			return newLaneTalk(lane), nil
		}
	}
	offer.close()
	return nil, err
}

var errNoTalk = errors.New("there is no lane to talk on")
