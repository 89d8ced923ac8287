package grpcplugin

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"syscall"

	"google.golang.org/grpc/mem"

	"github.com/towpath-dataplane/towpath/sdk"
)

// LaneName is the lane for payload that this package speaks besides gRPC: a unix stream socket for each call, as plugin.proto has it.
// Linux only.
const LaneName = "fd1"

// itemHeader is the length of the header of an item.
const itemHeader = 8

// The kinds of item.
const (
	dataItem    = 1
	recordsItem = 2
	controlItem = 3
)

const maxItemRecords = 1<<24 - 1

// item is the header of an item on a lane.
type item struct {
	kind  byte
	count int // of records
	size  int // of the body
}

func (i item) header() (h [itemHeader]byte) {
	binary.BigEndian.PutUint32(h[:], uint32(i.count))
	h[0] = i.kind
	binary.BigEndian.PutUint32(h[4:], uint32(i.size))
	return h
}

func parseItem(h [itemHeader]byte) (item, error) {
	i := item{kind: h[0], size: int(binary.BigEndian.Uint32(h[4:]))}
	h[0] = 0
	i.count = int(binary.BigEndian.Uint32(h[:]))
	switch {
	case i.kind == dataItem && i.size >= 1 && i.size <= sdk.MaxData && i.count == 0:
	case i.kind == recordsItem && i.size >= 1 && i.size <= maxMessageSize:
	case i.kind == controlItem && i.size == 0 && i.count == 0:
	default:
		return i, fmt.Errorf("an item of kind %d with %d records in %d bytes on the lane", i.kind, i.count, i.size)
	}
	return i, nil
}

// laneConn is one end of a lane.
type laneConn struct {
	*net.UnixConn
	raw syscall.RawConn
}

func newLaneConn(c *net.UnixConn, buffer int) (*laneConn, error) {
	raw, err := c.SyscallConn()
	if err != nil {
		return nil, err
	}
	if buffer > 0 {
		c.SetWriteBuffer(buffer) // the kernel gives what it gives
	}
	return &laneConn{c, raw}, nil
}

// sendFailed turns the error of a write into io.EOF if the other side, or whoever owns this one, has closed the lane.
func sendFailed(err error) error {
	if err == nil || errors.Is(err, sdk.ErrUnread) {
		return err
	}
	for _, closed := range []error{syscall.EPIPE, syscall.ECONNRESET, net.ErrClosed} {
		if errors.Is(err, closed) {
			return io.EOF
		}
	}
	return fmt.Errorf("write to the lane: %w", err)
}

func (c *laneConn) sendControl() error {
	h := item{kind: controlItem}.header()
	_, err := c.Write(h[:])
	return err
}

// sendPayload sends bytes, and releases them.
func (c *laneConn) sendPayload(p sdk.Payload) error {
	if p.Len() > sdk.MaxData {
		defer p.Release()
		return sdk.Errorf(sdk.Internal, "a data frame of %d bytes is more than %d", p.Len(), sdk.MaxData)
	}
	if u, ok := p.(*unread); ok {
		return u.moveTo(c)
	}
	return c.sendBody(item{kind: dataItem, size: p.Len()}, p)
}

// sendBatch sends records, and releases them.
func (c *laneConn) sendBatch(b sdk.Batch) error {
	if u, ok := b.(*unreadBatch); ok {
		return u.moveTo(c)
	}
	n := b.Len()
	body, err := encodedBatch(b)
	if err != nil {
		return err
	}
	if n > maxItemRecords || body.Len() > maxMessageSize {
		defer body.Release()
		return sdk.Errorf(sdk.Internal, "a batch of %d records has %d bytes, more than one message can carry", n, body.Len())
	}
	return c.sendBody(item{kind: recordsItem, count: n, size: body.Len()}, body)
}

// sendBody sends an item in as few writes as can be, and releases the body.
func (c *laneConn) sendBody(i item, body sdk.Payload) error {
	defer body.Release()
	h := i.header()
	switch b := body.(type) {
	case *sdk.Buffer:
		_, err := c.Write(b.WithHeader(h[:]))
		return err
	case *pooled:
		copy(b.memory, h[:])
		_, err := c.Write(b.memory[:itemHeader+b.n])
		return err
	}
	pieces := pieces{h[:]}
	if _, err := body.WriteTo(&pieces); err != nil {
		return err
	}
	_, err := (*net.Buffers)(&pieces).WriteTo(c.UnixConn)
	return err
}

// pieces collects what a Payload writes, without copying it.
type pieces [][]byte

func (p *pieces) Write(b []byte) (int, error) {
	*p = append(*p, b)
	return len(b), nil
}

// laneReader takes items off a lane. An item whose body is not taken before the next is asked for is read into memory then.
type laneReader struct {
	conn *laneConn

	mu   sync.Mutex // guards what is read from conn, and the bodies that are to be read from it
	held *unread    // the item whose body is still in conn, behind its header
	skip int        // bytes in conn that nobody wants
}

// next returns the next item. Its body, if it has one, is in the unread.
func (r *laneReader) next() (item, *unread, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.held != nil {
		if _, err := r.held.load(); err != nil {
			return item{}, nil, err
		}
	}
	if err := r.discard(); err != nil {
		return item{}, nil, err
	}
	h, err := r.conn.peek()
	if err != nil {
		return item{}, nil, err
	}
	i, err := parseItem(h)
	if err != nil {
		return i, nil, sdk.Errorf(sdk.Internal, "%w", err)
	}
	if i.kind == controlItem {
		r.skip = itemHeader
		return i, nil, nil
	}
	r.held = &unread{reader: r, item: i}
	return i, r.held, nil
}

// discard reads what nobody wants: mostly the header of a control.
func (r *laneReader) discard() error {
	var h [itemHeader]byte
	for r.skip > itemHeader {
		n, err := io.CopyN(io.Discard, r.conn, int64(r.skip-itemHeader))
		r.skip -= int(n)
		if err != nil {
			return err
		}
	}
	n, err := io.ReadFull(r.conn, h[:r.skip])
	r.skip -= n
	return err
}

// unread is the body of an item that may still be in the lane.
type unread struct {
	reader *laneReader
	item   item
	loaded sdk.Payload // nil if it is still there; guarded by reader.mu
	err    error       // why it never comes; guarded by reader.mu
}

func (u *unread) Len() int { return u.item.size }

func (u *unread) WriteTo(w io.Writer) (int64, error) {
	u.reader.mu.Lock()
	p, err := u.load()
	u.reader.mu.Unlock()
	if err != nil {
		return 0, err
	}
	return p.WriteTo(w)
}

// take reads the body and hands it over. The unread is used no more.
func (u *unread) take() (sdk.Payload, error) {
	u.reader.mu.Lock()
	defer u.reader.mu.Unlock()
	p, err := u.load()
	u.loaded, u.err = nil, errTaken
	return p, err
}

// errTaken marks a body that someone has, or nobody wants.
var errTaken = fmt.Errorf("%w: it was released", sdk.ErrUnread)

func (u *unread) Release() {
	r := u.reader
	r.mu.Lock()
	defer r.mu.Unlock()
	switch {
	case u.loaded != nil:
		u.loaded.Release()
	case u.err == nil:
		r.held, r.skip = nil, itemHeader+u.item.size
	}
	u.loaded, u.err = nil, errTaken
}

// load reads the body. The caller holds reader.mu.
func (u *unread) load() (sdk.Payload, error) {
	if u.loaded != nil || u.err != nil {
		return u.loaded, u.err
	}
	body := newBody(u.item.size)
	if _, err := io.ReadFull(u.reader.conn, body.memory[:itemHeader+u.item.size]); err != nil {
		body.Release()
		return nil, u.fail(err)
	}
	body.fill(u.item.size)
	u.loaded, u.reader.held = body.Payload, nil
	return u.loaded, nil
}

// fail gives the body up, and with it the lane: nobody knows where in it the next item begins.
func (u *unread) fail(err error) error {
	u.err = fmt.Errorf("%w: %w", sdk.ErrUnread, err)
	u.reader.held = nil
	u.reader.conn.Close()
	return u.err
}

// moveTo sends the item to another lane, and releases it. Bytes that are still in this lane go there without being copied.
func (u *unread) moveTo(to *laneConn) error {
	r := u.reader
	r.mu.Lock()
	defer r.mu.Unlock()
	loaded, err := u.loaded, u.err
	u.loaded, u.err = nil, errTaken
	switch {
	case err != nil:
		return err
	case loaded != nil:
		return to.sendBody(u.item, loaded)
	}
	r.held = nil
	if err := move(r.conn, to, itemHeader+u.item.size); err != nil {
		r.conn.Close() // nobody knows where in it the next item begins
		return err
	}
	return nil
}

// body is memory for the body of an item, with room for its header before it.
type body struct {
	sdk.Payload
	memory []byte // with the header
	fill   func(n int)
}

// newBody returns one with room for at least so many bytes. It is filled once.
func newBody(room int) body {
	if room <= sdk.BufferSize {
		b := sdk.NewBuffer()
		whole := b.WithHeader(make([]byte, itemHeader))
		return body{b, whole[:itemHeader+sdk.BufferSize], b.Grow}
	}
	p := takePooled(itemHeader + room)
	return body{p, p.memory, func(n int) { p.n = n }}
}

// space is the room behind the header.
func (b body) space() []byte { return b.memory[itemHeader:] }

// pooled is a body that is larger than a sdk.Buffer.
type pooled struct {
	memory []byte // with the header
	n      int    // bytes filled behind the header
	pool   *sync.Pool
	bytes  []byte // what gRPC holds
}

// pools have memory of smallestPooled bytes and twice, four times that, and so on.
var pools [8]sync.Pool

const smallestPooled = 256 << 10

func takePooled(size int) *pooled {
	room := smallestPooled
	for i := range pools {
		if size <= room {
			p, ok := pools[i].Get().(*pooled)
			if !ok {
				p = &pooled{memory: make([]byte, room), pool: &pools[i]}
			}
			p.n = 0
			return p
		}
		room *= 2
	}
	return &pooled{memory: make([]byte, size), pool: &sync.Pool{}}
}

func (p *pooled) Len() int { return p.n }

func (p *pooled) WriteTo(w io.Writer) (int64, error) {
	n, err := w.Write(p.memory[itemHeader:][:p.n])
	return int64(n), err
}

func (p *pooled) Release() { p.pool.Put(p) }

// wire returns the body as gRPC has it, and takes it over.
func wire(p sdk.Payload) mem.BufferSlice {
	switch p := p.(type) {
	case *sdk.Buffer:
		return mem.BufferSlice{lend(p, nil)}
	case *pooled:
		p.bytes = p.memory[itemHeader:][:p.n]
		return mem.BufferSlice{mem.NewBuffer(&p.bytes, p)}
	}
	panic(fmt.Sprintf("grpcplugin: the body of an item is a %T", p))
}

// Get makes pooled stand in for the pool that a mem.Buffer returns its memory to.
func (p *pooled) Get(int) *[]byte { panic("not a pool to take from") }

// Put returns the memory.
func (p *pooled) Put(*[]byte) { p.Release() }

// unreadBatch is records that may still be in the lane.
type unreadBatch struct {
	*unread            // of which nothing but Release is used as a Payload
	batch   *wireBatch // nil as long as they are
}

func (b *unreadBatch) Len() int  { return b.item.count }
func (b *unreadBatch) Size() int { return b.item.size }

func (b *unreadBatch) Records() ([]sdk.Record, error) {
	if b.batch == nil {
		if err := b.decode(); err != nil {
			return nil, err
		}
	}
	return b.batch.Records()
}

func (b *unreadBatch) decode() error {
	p, err := b.take()
	if err == nil {
		b.batch = &wireBatch{raw: wire(p), count: b.item.count}
	}
	return err
}

func (b *unreadBatch) Release() {
	if b.batch != nil {
		b.batch.Release()
		b.batch = nil
	}
	b.unread.Release()
}
