package sdk

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// closeWait bounds how long Close waits for an author's code that does not heed its context.
const closeWait = 10 * time.Second

// NewDataSource returns a source of this process as a host sees it.
func NewDataSource(t SourceType) DataSource { return dataSource{t} }

type dataSource struct{ SourceType }

func (d dataSource) Validate(ctx context.Context, a DataAddress) error {
	return validate(ctx, d.AddressType, d.Source, a)
}

// validate checks an address by type, schema and, if there is one, the author's own check.
func validate(ctx context.Context, t AddressType, impl any, a DataAddress) error {
	if a.Type != t.Type {
		return Errorf(Invalid, "address is of type %q, not %q", a.Type, t.Type)
	}
	if err := InvalidFields(t.Address.Check(a)); err != nil {
		return err
	}
	if v, ok := impl.(Validator); ok {
		return v.Validate(ctx, a)
	}
	return nil
}

func (d dataSource) Store(ctx context.Context, a DataAddress) (string, error) {
	return storeOf(ctx, d.AddressType, d.Source, a)
}

func (d dataSource) Read(ctx context.Context, open ReadOpen) (ReadStream, error) {
	if err := d.Validate(ctx, open.Address); err != nil {
		return nil, err
	}
	if open.Request != nil && !d.Proxies {
		return nil, Errorf(Unsupported, "a source of %q hands no request on", d.Type)
	}
	place, err := parseReadToken(open.ResumeToken)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(ctx)
	s := &readStream{ctx: ctx, cancel: cancel, source: d.Source, open: open, place: place,
		frames: make(chan Frame, ahead), done: make(chan struct{})}
	if open.Request != nil && open.Request.Body != nil {
		// Beside the author's code, which may wait for the body.
		s.body = context.AfterFunc(ctx, func() { open.Request.Body.Close() })
	}
	go s.run()
	return s, nil
}

// readToken is what a Checkpoint of this SDK carries: everything that Read needs to go on from there.
type readToken struct {
	Position
	Index     uint64      `json:"index"` // of the part in Position
	Sequence  uint64      `json:"sequence"`
	Validator string      `json:"validator,omitempty"`
	Digest    DigestState `json:"digest"`
	Records   int64       `json:"records,omitempty"` // of the part in Position
	Totals    Totals      `json:"totals"`            // of the parts that were finished
}

func parseReadToken(token []byte) (readToken, error) {
	var t readToken
	if len(token) == 0 {
		return t, nil
	}
	if err := json.Unmarshal(token, &t); err != nil || t.Part == "" || t.Offset < 0 {
		return t, Errorf(Invalid, "this is not a resume token of this source")
	}
	return t, nil
}

// readStream turns what a Source yields into frames. One goroutine runs the author's code and fills frames; Recv empties it.
type readStream struct {
	ctx    context.Context // ends when the stream is closed
	cancel context.CancelFunc
	source Source
	open   ReadOpen
	frames chan Frame    // closed when no more will come
	err    error         // what Recv says at the end; set before frames is closed
	done   chan struct{} // closed when the author's code has let go of the flow

	emit func(Frame) error // takes frames in place of the channel, see Server

	wantCheckpoint atomic.Bool
	closing        sync.Once
	body           func() bool // keeps the end of ctx from closing the body of the request; nil if there is none
	gathered       gathered

	told told

	// Only run uses what follows.
	place   readToken
	digests []Algorithm // of the part that begins; nil in the middle of one, where place has their state
	reached []byte      // token of the last batch of records
	sent    uint64      // parts begun in this stream
}

func (s *readStream) Recv() (Frame, error) {
	if s.ctx.Err() == nil {
		if b := s.gathered.take(s.idle); b != nil {
			return &RecordBatch{b}, nil
		}
	}
	select {
	case f, ok := <-s.frames:
		if ok {
			return f, nil
		}
		return nil, s.err
	case <-s.ctx.Done():
		return nil, context.Cause(s.ctx)
	}
}

func (s *readStream) RequestCheckpoint() error {
	s.wantCheckpoint.Store(true)
	return nil
}

func (s *readStream) Acknowledge(sequence uint64) error {
	s.told.acknowledge(sequence)
	return nil
}

// Settled is closed when the source has let go of the flow. After End it can still be waiting for the last Acknowledge.
func (s *readStream) Settled() <-chan struct{} { return s.done }

func (s *readStream) Close() error {
	var err error
	s.closing.Do(func() {
		s.cancel()
		err = s.drain()
	})
	return err
}

// drain releases the frames that nobody took, until the author's code has returned.
func (s *readStream) drain() error {
	timer := time.NewTimer(closeWait)
	defer timer.Stop()
	for frames := s.frames; ; {
		select {
		case f, ok := <-frames:
			if !ok {
				frames = nil // what is left is to wait for done
			}
			Release(f)
		case <-s.done:
			for f := range s.frames {
				Release(f)
			}
			if b := s.gathered.take(nil); b != nil {
				b.Release()
			}
			return nil
		case <-timer.C:
			return Errorf(Internal, "the source did not let go of its flow within %s", closeWait)
		}
	}
}

func (s *readStream) run() {
	defer close(s.done)
	defer s.told.close()
	defer s.closeBody()
	err := s.sendAll()
	if flushErr := s.flush(); err == nil {
		err = flushErr
	}
	switch {
	case err == nil:
		s.err = io.EOF
	case s.ctx.Err() != nil:
		s.err = context.Cause(s.ctx)
	default:
		s.err = AsError(err)
	}
	close(s.frames)
	if err == nil {
		s.told.await(s.ctx)
	}
}

// closeBody lets go of the body of the request that was handed on.
func (s *readStream) closeBody() {
	if s.body != nil && s.body() {
		s.open.Request.Body.Close()
	}
}

func (s *readStream) sendAll() (err error) {
	defer func() {
		if r := recover(); r != nil {
			err = Errorf(Internal, "the source panicked: %v", r)
		}
	}()
	return s.sendParts()
}

// send sends a frame behind what was gathered.
func (s *readStream) send(f Frame) error {
	if err := s.flush(); err != nil {
		Release(f)
		return err
	}
	return s.pass(f)
}

// flush sends what was gathered.
func (s *readStream) flush() error {
	if b := s.gathered.take(nil); b != nil {
		return s.pass(&RecordBatch{b})
	}
	return nil
}

// idle reports whether the receiver has taken everything that was sent.
func (s *readStream) idle() bool { return len(s.frames) == 0 }

func (s *readStream) pass(f Frame) error {
	if s.emit != nil {
		return s.emit(f)
	}
	select {
	case s.frames <- f:
		return nil
	case <-s.ctx.Done():
		Release(f)
		return context.Cause(s.ctx)
	}
}

func (s *readStream) request() ReadRequest {
	req := ReadRequest{Flow: s.open.Flow, Address: s.open.Address, List: s.open.List, Request: s.open.Request, Skip: s.open.Skip,
		ByReference: s.open.ByReference}
	if s.open.Select != nil {
		req.Part = s.open.Select.Name
	}
	if s.place.Part != "" {
		after := s.place.Position
		req.After = &after
	}
	return req
}

func (s *readStream) sendParts() error {
	resumeAt := s.place.Part // parts before this one are skipped
	for part, err := range s.source.Read(s.ctx, s.request()) {
		if err != nil && part.Name != "" {
			return aboutPart(part.Name, err)
		}
		if err != nil {
			return err
		}
		if err := s.checkPart(part); err != nil {
			return err
		}
		if resumeAt != "" {
			if part.Name != resumeAt {
				continue
			}
			resumeAt = ""
			if s.place.Finished {
				continue
			}
		}
		if slices.Contains(s.open.Skip, part.Name) {
			s.passOver(part)
			continue
		}
		if s.open.Select != nil {
			if s.open.Select.Name != "" && part.Name != s.open.Select.Name {
				s.begin(part) // for its index
				continue
			}
			return s.sendSelected(part)
		}
		if err := s.sendPart(part); err != nil {
			return aboutPart(part.Name, fmt.Errorf("part %q: %w", part.Name, err))
		}
	}
	if err := s.ctx.Err(); err != nil {
		return context.Cause(s.ctx)
	}
	if resumeAt != "" {
		return Errorf(Corrupt, "part %q, from which the flow goes on, is no longer there", resumeAt)
	}
	if s.open.Select != nil {
		return Errorf(NotFound, "there is no part %q", s.open.Select.Name)
	}
	return s.send(&End{s.place.Totals})
}

func (s *readStream) checkPart(p Part) error {
	if err := CheckName(p.Name); err != nil {
		return err
	}
	if (p.Open == nil) == (p.OpenRecords == nil) {
		return Errorf(Internal, "part %q has to have one of Open and OpenRecords", p.Name)
	}
	switch r := p.Response; {
	case (r == nil) != (s.open.Request == nil):
		return Errorf(Internal, "part %q has to have a Response if, and only if, a request was handed on", p.Name)
	case r != nil && (s.sent > 0 || p.Open == nil):
		return Errorf(Internal, "the answer to a request is not one part of bytes")
	case r != nil && (r.Status < 200 || r.Status > 599):
		return Errorf(Internal, "the answer to a request has status %d", r.Status)
	}
	return nil
}

// begin moves the place to a part, or to the middle of the part in which it is already.
func (s *readStream) begin(p Part) {
	if !s.inside(p) {
		if s.place.Part != "" || s.sent > 0 {
			s.place.Index++
		}
		s.restart(p)
	}
	s.sent++
}

// passOver moves the place behind a part that is not sent.
func (s *readStream) passOver(p Part) {
	s.begin(p)
	s.place.Position = Position{Part: p.Name, Finished: true}
	s.place.Digest, s.place.Records = DigestState{}, 0
}

// inside reports whether the stream goes on in the middle of p.
func (s *readStream) inside(p Part) bool {
	return s.sent == 0 && s.place.Part == p.Name && !s.place.Finished
}

// restart puts the place at the start of p, keeping the index.
func (s *readStream) restart(p Part) {
	s.place.Position = Position{Part: p.Name}
	s.place.Validator = p.Validator
	algorithms := slices.Clone(s.open.Digests)
	if algorithms == nil {
		algorithms = []Algorithm{}
	}
	for a := range p.Digests {
		if !slices.Contains(algorithms, a) {
			algorithms = append(algorithms, a)
		}
	}
	s.place.Digest = DigestState{}
	s.digests = algorithms
	s.place.Records = 0
}

// digester returns that of the part, as the place has it.
func (s *readStream) digester() (*Digester, error) {
	if s.digests != nil {
		return NewDigester(s.digests...), nil
	}
	return s.place.Digest.Digester()
}

func (s *readStream) header(p Part, offset int64) *PartBegin {
	info := p.PartInfo
	info.Index = s.place.Index
	info.Records = p.OpenRecords != nil
	info.Properties = maps.Clone(info.Properties)
	info.Reference = nil
	if info.Records {
		info.Size = SizeUnknown
	}
	return &PartBegin{PartInfo: info, Offset: offset}
}

func (s *readStream) sendPart(p Part) error {
	s.begin(p)
	s.told.close() // of the part before
	var digest *Digester
	var err error
	switch {
	case s.open.List:
		return s.sendListed(p)
	case s.isReferred(p):
		return s.sendReference(p)
	case p.OpenRecords != nil:
		digest, err = s.sendRecords(p)
	default:
		digest, err = s.sendBytes(p)
	}
	if err != nil {
		return err
	}
	end := &PartEnd{Size: digest.Size(), Records: s.place.Records, Digests: digest.Sum()}
	if p.Trailer != nil {
		end.Trailer = p.Trailer()
	}
	if err := s.send(end); err != nil {
		return err
	}
	return s.finish(p, digest.Size())
}

// finish moves the place behind a part that was sent whole.
func (s *readStream) finish(p Part, size int64) error {
	s.place.Position = Position{Part: p.Name, Finished: true}
	s.place.Digest = DigestState{}
	s.place.Totals.Parts++
	s.place.Totals.Bytes += size
	s.place.Totals.Records += s.place.Records
	if s.open.Once || s.open.Request != nil {
		return nil
	}
	return s.sendCheckpoint()
}

func (s *readStream) sendListed(p Part) error {
	if err := s.send(s.header(p, 0)); err != nil {
		return err
	}
	s.place.Totals.Parts++
	return s.send(&PartEnd{Size: max(p.Size, 0)})
}

func (s *readStream) sendCheckpoint() error {
	s.wantCheckpoint.Store(false)
	s.place.Sequence++
	token, err := json.Marshal(s.place)
	if err != nil {
		return err
	}
	s.told.sent(s.place.Sequence, s.reached)
	return s.send(&Checkpoint{Sequence: s.place.Sequence, Token: token})
}
