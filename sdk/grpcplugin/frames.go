package grpcplugin

import (
	"errors"

	"github.com/towpath-dataplane/towpath/sdk"
)

// sender is a stream of either side that frames are sent on.
type sender interface{ SendMsg(m any) error }

// receiver is a stream of either side that frames come on.
type receiver interface{ RecvMsg(m any) error }

// sendFrame sends a frame on gRPC and sees to its memory whatever comes of that.
func sendFrame(stream sender, f sdk.Frame) error {
	f, err := read(f)
	if err != nil {
		return err
	}
	m := message{frame: f}
	err = stream.SendMsg(&m)
	if !m.taken {
		sdk.Release(f)
	}
	return err
}

// read returns a frame whose payload is in memory.
func read(f sdk.Frame) (sdk.Frame, error) {
	switch f := f.(type) {
	case *sdk.Data:
		if u, ok := f.Payload.(*unread); ok {
			p, err := u.take()
			return &sdk.Data{Payload: p}, err
		}
	case *sdk.RecordBatch:
		if u, ok := f.Batch.(*unreadBatch); ok && u.batch == nil {
			if err := u.decode(); err != nil {
				return nil, err
			}
			return &sdk.RecordBatch{Batch: u.batch}, nil
		}
	}
	return f, nil
}

// frameSender sends the frames of one call: on gRPC, and payload on a lane from when it is worth that.
type frameSender struct {
	stream sender
	// attach begins the lane. It returns nil if there is none after all. nil: there is none.
	attach func() (*laneConn, error)
	after  int64 // bytes of payload before the lane is worth it
	sent   int64 // of these
	lane   *laneConn
}

// send sends a frame and sees to its memory whatever comes of that. io.EOF: the other side has ended the stream.
func (s *frameSender) send(f sdk.Frame) error {
	if err := s.consider(f); err != nil {
		sdk.Release(f)
		return err
	}
	if s.lane == nil {
		return sendFrame(s.stream, f)
	}
	control, err := s.sendOnLane(f)
	if control && err == nil {
		return sendFrame(s.stream, f)
	}
	return err
}

// consider begins the lane if f is payload that makes it worth that.
func (s *frameSender) consider(f sdk.Frame) (err error) {
	if s.attach == nil {
		return nil
	}
	switch f := f.(type) {
	case *sdk.Data:
		s.sent += int64(f.Len())
	case *sdk.RecordBatch:
		s.sent += int64(f.Size())
	default:
		return nil
	}
	if s.sent > s.after {
		s.lane, err = s.attach()
		s.attach = nil
	}
	return err
}

// sendOnLane sends payload, or for a control only its place in the order.
func (s *frameSender) sendOnLane(f sdk.Frame) (control bool, err error) {
	switch f := f.(type) {
	case *sdk.Data:
		err = s.lane.sendPayload(f.Payload)
	case *sdk.RecordBatch:
		err = s.lane.sendBatch(f.Batch)
	default:
		control, err = true, s.lane.sendControl()
	}
	return control, sendFailed(err)
}

// frameReceiver takes the frames of one call: from gRPC, and from the lane once that has begun.
type frameReceiver struct {
	stream receiver
	attach func() (*laneConn, error) // takes the lane that the other side has begun
	unread bool                      // payload may be left in the lane
	lost   func()                    // called when the lane has closed, before gRPC is asked why; may be nil

	lane   *laneReader // nil as long as everything is on gRPC
	closed bool        // the lane has
}

func (r *frameReceiver) next() (message, error) {
	for r.lane == nil {
		var m message
		if err := r.stream.RecvMsg(&m); err != nil || !m.lane {
			return m, err
		}
		conn, err := r.attach()
		if err != nil {
			return message{}, err
		}
		r.lane = &laneReader{conn: conn}
	}
	if r.closed {
		return r.reason()
	}
	i, body, err := r.lane.next()
	switch {
	case err != nil:
		return r.ended(err)
	case i.kind == controlItem:
		return r.control()
	case i.kind == recordsItem:
		return r.records(i, body)
	}
	if r.unread {
		return message{frame: &sdk.Data{Payload: body}}, nil
	}
	p, err := body.take()
	if err != nil {
		return r.ended(err)
	}
	return message{frame: &sdk.Data{Payload: p}}, nil
}

func (r *frameReceiver) records(i item, body *unread) (message, error) {
	batch := &unreadBatch{unread: body}
	if !r.unread {
		if err := batch.decode(); err != nil {
			return r.ended(err)
		}
		return message{frame: &sdk.RecordBatch{Batch: batch.batch}}, nil
	}
	return message{frame: &sdk.RecordBatch{Batch: batch}}, nil
}

// control takes the frame that the lane gave a place to.
func (r *frameReceiver) control() (message, error) {
	var m message
	if err := r.stream.RecvMsg(&m); err != nil {
		return m, err
	}
	switch m.frame.(type) {
	case *sdk.Data, *sdk.RecordBatch:
		sdk.Release(m.frame)
		return message{}, sdk.Errorf(sdk.Internal, "payload came on gRPC beside the lane")
	}
	if m.lane {
		return message{}, sdk.Errorf(sdk.Internal, "the lane began twice")
	}
	return m, nil
}

// ended deals with an error of the lane. One that only says that it has closed gives way to the reason.
func (r *frameReceiver) ended(err error) (message, error) {
	if errors.As(err, new(*sdk.Error)) {
		return message{}, err // it has not closed: it makes no sense
	}
	r.closed = true
	if r.lost != nil {
		r.lost()
	}
	return r.reason()
}

// reason returns what gRPC says about the end of the call. Frames without a place in the order do not count.
func (r *frameReceiver) reason() (message, error) {
	for {
		var m message
		if err := r.stream.RecvMsg(&m); err != nil || m.err != nil {
			return m, err
		}
		sdk.Release(m.frame)
	}
}
