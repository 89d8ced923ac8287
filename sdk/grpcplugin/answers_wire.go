package grpcplugin

import (
	"errors"
	"fmt"
	"io"
	"runtime"
	"sync"

	"google.golang.org/grpc/mem"
	"google.golang.org/protobuf/encoding/protowire"

	"github.com/towpath-dataplane/towpath/sdk"
)

// AnswersLaneName is the lane for reads that are many and short, as plugin.proto has it. Linux only.
const AnswersLaneName = "fd1-answers"

const (
	// maxElement is the most bytes of an Order or an Answer.
	maxElement = 64 << 10
	// elementField is the field of both Orders and Answers that has their elements.
	elementField = protowire.Number(1)
	elementHead  = 1 + paddedVarint
)

// The fields of Order and Answer.
const (
	numberField = protowire.Number(1)
	orderField  = protowire.Number(2) // of Order
	framesField = protowire.Number(2) // of Answer
	goesOnField = protowire.Number(3) // of Answer
)

// takeElement returns the first element of an Orders or Answers message of which more may come, and its length with what is before it. n
// is 0 if it is not whole yet.
func takeElement(b []byte) (element []byte, n int, err error) {
	if len(b) == 0 {
		return nil, 0, nil
	}
	if b[0] != byte(protowire.EncodeTag(elementField, protowire.BytesType)) {
		return nil, 0, fmt.Errorf("a field %x among orders and answers", b[0])
	}
	size, m := protowire.ConsumeVarint(b[1:])
	switch {
	case m < 0 && len(b) < elementHead:
		return nil, 0, nil
	case m < 0 || m > paddedVarint || size > maxElement:
		return nil, 0, errors.New("an order or an answer is too large")
	case uint64(len(b)-1-m) < size:
		return nil, 0, nil
	}
	n = 1 + m + int(size)
	return b[1+m : n], n, nil
}

// connection is what orders travel on one way, and answers the other.
type connection interface {
	// send sends elements. It returns memory to use for the next, which may be nil. For one goroutine.
	send(b []byte) ([]byte, error)
	// receive waits for elements and calls take with each, which is valid until take returns. io.EOF: nothing comes any more. For one
	// goroutine.
	receive(take func(element []byte) error) error
	// close makes send and receive return. It can be called at any time, and more than once.
	close()
}

// outbox sends what many goroutines have to say: whatever has gathered while the last of it was sent goes together.
type outbox struct {
	to   connection
	wake chan struct{} // gets a value when there is something, if the outbox waits

	mu      sync.Mutex // guards what follows
	bytes   []byte
	waiting bool
	closed  bool
}

func newOutbox(to connection) *outbox { return &outbox{to: to, wake: make(chan struct{}, 1)} }

// add lets append add one element to what is sent. It does not wait. It does nothing when nothing is sent any more.
func (o *outbox) add(append func([]byte) []byte) {
	o.mu.Lock()
	if o.closed {
		o.mu.Unlock()
		return
	}
	o.bytes = append(o.bytes)
	wake := o.waiting
	o.waiting = false
	o.mu.Unlock()
	if wake {
		o.wake <- struct{}{}
	}
}

// run sends until that fails, or the outbox is closed.
func (o *outbox) run() {
	var spare []byte
	for {
		b, ok := o.take(spare[:0])
		if !ok {
			return
		}
		var err error
		if spare, err = o.to.send(b); err != nil {
			o.to.close()
			return
		}
		if cap(spare) > 4*maxElement {
			spare = nil
		}
	}
}

// take returns what there is, and puts spare in its place.
func (o *outbox) take(spare []byte) ([]byte, bool) {
	for {
		o.mu.Lock()
		if o.closed {
			o.mu.Unlock()
			return nil, false
		}
		if b := o.bytes; len(b) > 0 {
			o.bytes = spare
			o.mu.Unlock()
			return b, true
		}
		o.waiting = true
		o.mu.Unlock()
		<-o.wake
		runtime.Gosched() // those who are about to add something do so first
	}
}

func (o *outbox) close() {
	o.mu.Lock()
	defer o.mu.Unlock()
	if !o.closed {
		o.closed = true
		if o.waiting {
			o.wake <- struct{}{}
		}
	}
}

// laneConnection is a lane for answers.
type laneConnection struct {
	conn *laneConn
	elementReader
}

func (c *laneConnection) send(b []byte) ([]byte, error) {
	_, err := c.conn.Write(b)
	return b, err
}

func (c *laneConnection) close() { c.conn.Close() }

// elementReader reads elements from a stream of bytes, as many at a time as have come.
type elementReader struct {
	from io.Reader
	buf  []byte
	have []byte // of buf: read and not taken
}

func (r *elementReader) receive(take func([]byte) error) error {
	if r.buf == nil {
		r.buf = make([]byte, 2*(elementHead+maxElement)) // there is always room: what is left is less than one element
	}
	r.have = r.buf[:copy(r.buf, r.have)]
	n, err := r.from.Read(r.buf[len(r.have):])
	r.have = r.buf[:len(r.have)+n]
	if n == 0 && err != nil {
		if err == io.EOF && len(r.have) > 0 {
			err = io.ErrUnexpectedEOF
		}
		return err
	}
	r.have, err = takeElements(r.have, take)
	return err
}

// takeElements calls take with the elements that are whole, and returns what is left.
func takeElements(b []byte, take func([]byte) error) ([]byte, error) {
	for {
		element, n, err := takeElement(b)
		if err != nil || n == 0 {
			return b, err
		}
		if err := take(element); err != nil {
			return b, err
		}
		b = b[n:]
	}
}

// streamConnection is a call of Answer, from either side.
type streamConnection struct {
	stream interface {
		sender
		receiver
	}
	cancel func()
}

func (c *streamConnection) send(b []byte) ([]byte, error) {
	for len(b) > 0 {
		n := 0
		for n < len(b) && n < maxMessageSize-2*maxElement {
			_, size, err := takeElement(b[n:])
			if err != nil {
				return nil, err
			}
			n += size
		}
		if err := c.stream.SendMsg(&rawMessage{b[:n:n]}); err != nil { // gRPC has it now
			return nil, err
		}
		b = b[n:]
	}
	return nil, nil
}

func (c *streamConnection) receive(take func([]byte) error) error {
	var m rawMessage
	if err := c.stream.RecvMsg(&m); err != nil {
		return err
	}
	rest, err := takeElements(m.bytes, take)
	if err == nil && len(rest) > 0 {
		err = sdk.Errorf(sdk.Internal, "half an order or an answer")
	}
	return err
}

func (c *streamConnection) close() { c.cancel() }

// rawMessage is a message that the codec passes as it is.
type rawMessage struct{ bytes []byte }

func (m *rawMessage) marshal() mem.BufferSlice { return mem.BufferSlice{mem.SliceBuffer(m.bytes)} }
