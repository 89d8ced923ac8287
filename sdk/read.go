package sdk

import (
	"context"
	"encoding/json"
	"errors"
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

// sendBytes sends the content of p, from the place on, and returns the digester of the whole part.
func (s *readStream) sendBytes(p Part) (*Digester, error) {
	body, digest, err := s.openBytes(p)
	if err != nil {
		return nil, err
	}
	defer body.Close()
	if err := s.send(s.header(p, digest.Size())); err != nil {
		return nil, err
	}
	err = s.copyBytes(body, func(b *Buffer) error {
		digest.Write(b.Bytes())
		if p.Size >= 0 && digest.Size() > p.Size {
			return Errorf(Corrupt, "has more than the %d bytes announced", p.Size)
		}
		return nil
	}, func() error {
		if !s.wantCheckpoint.Load() || s.open.Request != nil {
			return nil
		}
		s.place.Offset, s.place.Digest = digest.Size(), digest.State()
		return s.sendCheckpoint()
	})
	if err == nil && p.Size >= 0 && digest.Size() < p.Size {
		err = Errorf(Corrupt, "has %d bytes of the %d announced", digest.Size(), p.Size)
	}
	if err == nil {
		if wrong := digest.Sum().Compare(p.Digests); wrong != nil {
			err = Retryf(Corrupt, "is not what its origin says: %w", wrong)
		}
	}
	return digest, err
}

// copyBytes sends what body gives as Data frames. check sees each buffer before it is sent, after is called behind each.
func (s *readStream) copyBytes(body io.Reader, check func(*Buffer) error, after func() error) error {
	for {
		b := NewBuffer()
		n, readErr := b.ReadOnce(body)
		if n == 0 {
			b.Release()
		} else {
			if err := check(b); err != nil {
				b.Release()
				return err
			}
			if err := s.send(&Data{b}); err != nil {
				return err
			}
			if err := after(); err != nil {
				return err
			}
		}
		if readErr == io.EOF {
			return nil
		}
		if readErr != nil {
			return readErr
		}
		if err := s.ctx.Err(); err != nil {
			return context.Cause(s.ctx)
		}
	}
}

// openBytes opens p where the place says. If the content has changed since, or what can be seen of it is not what was sent, the part
// begins again.
func (s *readStream) openBytes(p Part) (io.ReadCloser, *Digester, error) {
	if s.place.Offset > 0 && s.place.Validator != p.Validator {
		s.restart(p)
	}
	digest, err := s.digester()
	if err != nil {
		return nil, nil, Errorf(Invalid, "resume token: %w", err)
	}
	offset := s.place.Offset
	body, err := p.Open(s.ctx, offset)
	if offset == 0 || !errors.Is(err, ErrFromStart) {
		return body, digest, err
	}
	if body, err = p.Open(s.ctx, 0); err != nil {
		return nil, nil, err
	}
	same, err := skip(body, offset, digest)
	if err == nil && same {
		return body, digest, nil
	}
	body.Close()
	if err != nil {
		return nil, nil, err
	}
	s.restart(p)
	return s.openBytes(p)
}

// skip reads n bytes and reports whether they are those that want was computed over.
func skip(r io.Reader, n int64, want *Digester) (bool, error) {
	got := NewDigester(want.algorithms()...)
	if _, err := io.CopyN(got, r, n); err == io.EOF {
		return false, nil
	} else if err != nil {
		return false, err
	}
	return want.Sum().Compare(got.Sum()) == nil, nil
}

// sendSelected sends one part, or a piece of it.
func (s *readStream) sendSelected(p Part) error {
	sel := *s.open.Select
	if sel.Validator != "" && sel.Validator != p.Validator {
		sel.Offset, sel.Length = 0, -1
	}
	if p.OpenRecords != nil || sel.Offset == 0 && (sel.Length < 0 || sel.Length == p.Size) || s.open.List {
		if err := s.sendPart(p); err != nil {
			return fmt.Errorf("part %q: %w", p.Name, err)
		}
		return s.send(&End{s.place.Totals})
	}
	if p.Size >= 0 && sel.Offset > p.Size {
		return Errorf(Invalid, "part %q has %d bytes, none at offset %d", p.Name, p.Size, sel.Offset)
	}
	n, err := s.sendPiece(p, sel)
	if err != nil {
		return fmt.Errorf("part %q: %w", p.Name, err)
	}
	if err := s.send(&PartEnd{Size: max(p.Size, 0)}); err != nil {
		return err
	}
	return s.send(&End{Totals{Bytes: n}})
}

func (s *readStream) sendPiece(p Part, sel Selection) (int64, error) {
	s.begin(p)
	body, err := p.Open(s.ctx, sel.Offset)
	if errors.Is(err, ErrFromStart) {
		if body, err = p.Open(s.ctx, 0); err == nil {
			_, err = io.CopyN(io.Discard, body, sel.Offset)
		}
	}
	if body != nil {
		defer body.Close()
	}
	if err != nil {
		return 0, err
	}
	if err := s.send(s.header(p, sel.Offset)); err != nil {
		return 0, err
	}
	want := sel.Length
	if rest := p.Size - sel.Offset; p.Size >= 0 && (want < 0 || want > rest) {
		want = rest
	}
	var r io.Reader = body
	if want >= 0 {
		r = io.LimitReader(body, want)
	}
	n := int64(0)
	count := func(b *Buffer) error { n += int64(b.Len()); return nil }
	if err := s.copyBytes(r, count, func() error { return nil }); err != nil {
		return n, err
	}
	if p.Size >= 0 && n < want {
		return n, Errorf(Corrupt, "has %d bytes of the %d announced", sel.Offset+n, p.Size)
	}
	return n, nil
}
