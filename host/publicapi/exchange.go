package publicapi

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strconv"
	"sync"
	"time"
)

// pieceSize is the most bytes that are written under one deadline: what a slow reader has to take within the idle timeout.
const pieceSize = 64 << 10

var (
	errCut        = errors.New("the data flow was stopped")
	errClientGone = errors.New("the client has gone")
)

// exchange is one request and its answer. As a reader it is the body of the request, as a writer the body of the answer; a client
// that neither sends nor takes bytes for the idle timeout is given up. All methods but interrupt and stopReading are for the
// goroutine that serves the request.
type exchange struct {
	w          http.ResponseWriter
	r          *http.Request
	connection *http.ResponseController
	idle       time.Duration
	route      route
	allowance  *allowance // nil until the token is known
	metrics    *metrics
	stay       *stay       // nil outside of a flow
	moved      func(n int) // tells the flow of bytes that came or went; nil outside of one

	values [12]string // of header fields
	fields int        // how many of them are in use

	eager  bool // the length is not known: flush whatever is written, so that whoever follows a slow source sees what there is
	status int  // of the answer, 0 until it has begun

	mu          sync.Mutex // guards what follows
	due         time.Time  // the deadline of writes; zero: there is none, or not ours
	begun       bool       // some of the answer may have left
	interrupted bool
	readStopped bool // before the body was read to its end
	readWhole   bool
}

func newExchange(w http.ResponseWriter, r *http.Request, idle time.Duration, m *metrics) *exchange {
	x := &exchange{
		w: w, r: r, connection: http.NewResponseController(w), idle: idle, metrics: m,
		readWhole: r.Body == nil || r.Body == http.NoBody,
	}
	if !x.readWhole {
		// What an earlier request on the connection left behind would hit what the server writes to have the body sent.
		x.connection.SetWriteDeadline(time.Time{})
	}
	h := w.Header()
	h["X-Content-Type-Options"] = noSniff
	h["Cache-Control"] = noStore
	return x
}

// The values of fields that are in every answer. Nobody changes them.
var noSniff, noStore = []string{"nosniff"}, []string{"private, no-store"}

func (x *exchange) header() http.Header { return x.w.Header() }

// set sets a header field, whose name is in its canonical form, without memory of its own.
func (x *exchange) set(name, value string) {
	if x.fields == len(x.values) {
		x.header().Set(name, value)
		return
	}
	at := x.values[x.fields : x.fields+1 : x.fields+1]
	x.fields++
	at[0] = value
	x.header()[name] = at
}

// begin sends the status and the header fields. After that, a failure can only be told by breaking the connection.
func (x *exchange) begin(status int) error {
	if err := x.beginHeader(status); err != nil || !x.eager || x.r.Method == http.MethodHead {
		return err
	}
	return x.flush()
}

func (x *exchange) beginHeader(status int) error {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.interrupted {
		return errCut
	}
	x.begun, x.status = true, status
	x.w.WriteHeader(status)
	return nil
}

// Write sends a piece of the answer's body.
func (x *exchange) Write(b []byte) (int, error) {
	written := 0
	for written < len(b) {
		n, err := x.writePiece(b[written:min(len(b), written+pieceSize)])
		written += n
		if err != nil {
			return written, err
		}
	}
	if !x.eager {
		return written, nil
	}
	return written, x.flush()
}

func (x *exchange) writePiece(b []byte) (int, error) {
	if err := x.allowance.take(len(b)); err != nil {
		return 0, err
	}
	if err := x.wait(int64(len(b)), 0); err != nil {
		return 0, err
	}
	if err := x.startWriting(); err != nil {
		return 0, err
	}
	defer x.pauseWriting()
	n, err := x.w.Write(b)
	x.metrics.sent(n)
	x.count(n)
	if err != nil {
		return n, fmt.Errorf("%w: %w", errClientGone, err)
	}
	return n, nil
}

// wait waits until so much may move.
func (x *exchange) wait(bytes, records int64) error {
	if x.stay == nil || x.stay.meter == nil || bytes == 0 && records == 0 {
		return nil
	}
	return x.stay.meter.Wait(x.stay.ctx, bytes, records)
}

func (x *exchange) count(n int) {
	if x.moved != nil && n > 0 {
		x.moved(n)
	}
}

// flush sends what is buffered.
func (x *exchange) flush() error {
	if err := x.startWriting(); err != nil {
		return err
	}
	defer x.pauseWriting()
	if err := x.connection.Flush(); err != nil && !errors.Is(err, http.ErrNotSupported) {
		return fmt.Errorf("%w: %w", errClientGone, err)
	}
	return nil
}

// startWriting gives the client the idle timeout to take what is written next.
func (x *exchange) startWriting() error {
	x.stay.waitsForSink()
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.interrupted && x.begun {
		return errCut
	}
	x.allowWriting()
	return nil
}

// allowWriting moves the deadline of writes, if it is worth that. mu is held.
func (x *exchange) allowWriting() {
	if now := time.Now(); x.due.Sub(now) < x.idle-x.idle/16 {
		x.due = now.Add(x.idle)
		x.connection.SetWriteDeadline(x.due)
	}
}

// pauseWriting lifts the deadline where it would end the stream while we wait for the source: in HTTP/2.
func (x *exchange) pauseWriting() {
	if x.r.ProtoMajor < 2 {
		return
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	if !x.interrupted {
		x.due = time.Time{}
		x.connection.SetWriteDeadline(x.due)
	}
}

// Read gives the next bytes of the request's body. Every error but io.EOF is a *problem.
func (x *exchange) Read(b []byte) (int, error) {
	x.stay.waitsForSource()
	defer x.stay.waitsForSink()
	n, err := x.readPiece(b)
	if late := x.wait(int64(n), 0); late != nil {
		return 0, late
	}
	return n, err
}

// readPiece is Read without the limits of the flow. It may be called beside Write.
func (x *exchange) readPiece(b []byte) (int, error) {
	if err := x.startReading(); err != nil {
		return 0, err
	}
	n, err := x.r.Body.Read(b)
	x.pauseReading(err == io.EOF)
	x.metrics.received(x.route.operation, n)
	x.count(n)
	if over := x.allowance.take(n); over != nil {
		return 0, over
	}
	if err != nil && err != io.EOF {
		err = bodyProblem(err)
	}
	return n, err
}

// startReading gives the client the idle timeout to send more.
func (x *exchange) startReading() error {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.readStopped {
		return badRequest.because("the body is no longer read")
	}
	x.connection.SetReadDeadline(time.Now().Add(x.idle))
	return nil
}

// pauseReading lifts the deadline: it would end the stream in HTTP/2 while we wait for the sink, and in HTTP/1 hit the server's own
// watch over the connection once the body has ended.
func (x *exchange) pauseReading(ended bool) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if !x.readStopped {
		x.readWhole = x.readWhole || ended
		x.connection.SetReadDeadline(time.Time{})
	}
}

func bodyProblem(err error) *problem {
	switch {
	case isTimeout(err):
		return tooSlow.because("the body did not go on").from(err)
	case errors.Is(err, io.ErrUnexpectedEOF):
		// Not of the client's making, if the connection was cut on its way here.
		return badRequest.because("the body ended before it was whole").from(err).retryAfter(time.Second)
	}
	return badRequest.because("the body could not be read").from(err)
}

// stopReading ends a Read that waits, and all that follow.
func (x *exchange) stopReading() {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.stopReadingLocked()
}

func (x *exchange) stopReadingLocked() {
	if x.readWhole {
		return
	}
	x.readStopped = true
	x.connection.SetReadDeadline(past)
}

// interrupt ends everything that waits for the client. An answer that has not begun can still be given.
func (x *exchange) interrupt() {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.interrupted = true
	x.stopReadingLocked()
	if x.begun {
		x.connection.SetWriteDeadline(past)
	}
}

// past is a deadline that is over whatever the clock says.
var past = time.Unix(1, 0)

// reply sends a whole answer. It also works after interrupt, if the answer has not begun.
func (x *exchange) reply(status int, mediaType string, body []byte) error {
	h := x.header()
	h.Set("Content-Type", mediaType)
	h.Set("Content-Length", strconv.Itoa(len(body)))
	if x.stopped() {
		h.Set("Connection", "close")
	}
	x.connection.SetWriteDeadline(time.Now().Add(x.idle))
	x.status = status
	x.w.WriteHeader(status)
	if x.r.Method == http.MethodHead {
		return nil
	}
	_, err := x.w.Write(body)
	if err == nil && x.stopped() {
		err = x.connection.Flush()
		x.linger("")
	}
	return err
}

// replyEmpty sends a whole answer without a body.
func (x *exchange) replyEmpty(status int) error {
	x.connection.SetWriteDeadline(time.Now().Add(x.idle))
	x.status = status
	if x.stopped() {
		x.header().Set("Connection", "close")
	}
	if status != http.StatusNoContent {
		x.header().Set("Content-Length", "0")
	}
	x.w.WriteHeader(status)
	return nil
}

// lingerTime bounds how long a client that is still sending may take to see its answer.
const lingerTime = 500 * time.Millisecond

// linger closes an HTTP/1 connection on which a body was not read to its end. What still arrives is thrown away until the client has
// hung up: a connection that is closed before that is reset, and the client may lose the answer. last is what is still to be sent.
func (x *exchange) linger(last string) {
	if x.r.ProtoMajor != 1 {
		return
	}
	conn, buffered, err := x.connection.Hijack()
	if err != nil {
		return // the server closes it, if less politely
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(lingerTime))
	buffered.WriteString(last)
	if buffered.Flush() != nil {
		return
	}
	if c, ok := conn.(interface{ CloseWrite() error }); ok {
		c.CloseWrite()
	}
	io.Copy(io.Discard, conn)
}

func (x *exchange) replyJSON(status int, v any) error {
	body, err := json.Marshal(v)
	if err != nil {
		return err
	}
	return x.reply(status, "application/json", body)
}

// stopped reports whether the request's body is no longer read.
func (x *exchange) stopped() bool {
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.readStopped
}

// hasBegun reports whether some of the answer may have left through begin.
func (x *exchange) hasBegun() bool {
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.begun
}

// end leaves deadlines for what the server still has to send, and for what it still reads of a body that was refused.
func (x *exchange) end() {
	x.mu.Lock()
	defer x.mu.Unlock()
	if !x.interrupted || !x.begun {
		x.allowWriting()
	}
	if !x.readWhole && !x.readStopped {
		x.connection.SetReadDeadline(time.Now().Add(x.idle))
	}
}

func isTimeout(err error) bool {
	var timeout net.Error
	return errors.Is(err, os.ErrDeadlineExceeded) || errors.Is(err, context.DeadlineExceeded) ||
		errors.As(err, &timeout) && timeout.Timeout()
}
