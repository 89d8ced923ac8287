package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptrace"
	"net/textproto"
	"net/url"
	"time"

	"github.com/towpath-dataplane/towpath/sdk"
	"github.com/towpath-dataplane/towpath/sdk/httpfield"
)

const (
	// resumeAbove is the size from which on a receiver is asked whether an upload can go on after a cut.
	resumeAbove = 1 << 20
	// checkpointShare bounds what checkpoints cost: between two of them lies so many times as long as the first one took.
	checkpointShare = 20
)

// resumption is where an upload to a receiver that can resume is (draft-ietf-httpbis-resumable-upload): what a sink token holds.
type resumption struct {
	URL    string          `json:"url"`
	Digest sdk.DigestState `json:"digest"` // of what lies before the token's place
}

// begun is an upload that this process knows of.
type begun struct {
	part sdk.PartInfo
	url  string
}

// isFor reports whether the upload is of this part with this content, as far as can be told.
func (b begun) isFor(p sdk.PartInfo) bool {
	return b.url != "" && p.Validator != "" && b.part.Name == p.Name && b.part.Index == p.Index && b.part.Validator == p.Validator &&
		b.part.Size == p.Size
}

// note remembers the upload of the part on its way, so that the flow's next run finds it although no checkpoint was stored.
func (s *sink) note(key flowKey, b begun) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.uploads[key] = b
}

func (s *sink) noted(key flowKey) begun {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.uploads[key]
}

// forget forgets the upload, and returns it.
func (s *sink) forget(key flowKey) begun {
	s.mu.Lock()
	defer s.mu.Unlock()
	b := s.uploads[key]
	delete(s.uploads, key)
	return b
}

// mayResume reports whether it is worth to find out if the part's upload can go on after a cut.
func (u *uploader) mayResume(part *sdk.IncomingPart) bool {
	return !u.target.neverChunk && (part.Size < 0 || part.Size > resumeAbove)
}

// resume sends what the receiver does not have yet of a part that was begun in an earlier run. ok is false if it has to be sent whole.
func (u *uploader) resume(ctx context.Context, part *sdk.IncomingPart) (location string, digest *sdk.Digester, ok bool, err error) {
	at := resumption{Digest: u.digester().State()}
	if part.Offset > 0 {
		if err := json.Unmarshal(part.Token, &at); err != nil || at.URL == "" || at.Digest.Size != part.Offset {
			return "", nil, false, sdk.Errorf(sdk.Invalid, "the resume token is not of this sink")
		}
	} else if known := u.sink.noted(u.key); known.isFor(part.PartInfo) {
		at.URL = known.url
	} else {
		return "", nil, false, nil
	}
	url, err := url.Parse(at.URL)
	if err != nil {
		return "", nil, false, sdk.Errorf(sdk.Invalid, "the resume token has no URL")
	}
	// The receiver may be reached at another host by now. If it is another one, it does not know the upload.
	url.Scheme, url.Host = u.target.url.Scheme, u.target.url.Host
	digest, err = at.Digest.Digester()
	if err != nil {
		return "", nil, false, sdk.Errorf(sdk.Invalid, "resume token: %w", err)
	}
	r := &remote{uploader: u, target: u.target.at(url), part: part, digest: digest}
	err = r.find(ctx)
	if err == nil && r.offset < part.Offset {
		err = errLost
	}
	if err == errLost {
		u.sink.forget(u.key)
		if part.Offset == 0 {
			return "", nil, false, nil
		}
		return "", nil, false, sdk.Retryf(sdk.Corrupt, "the receiver has lost the %d bytes that it had", part.Offset)
	}
	if err != nil {
		return "", nil, false, err
	}
	u.sink.note(u.key, begun{part.PartInfo, at.URL})
	location, err = r.run(ctx)
	return location, digest, true, err
}

// create begins an upload that can go on, if the receiver offers that, and sends the part. ok is false if it does not.
func (u *uploader) create(ctx context.Context, part *sdk.IncomingPart) (location string, digest *sdk.Digester, ok bool, err error) {
	offered, err := u.offers(ctx, part.Size)
	if err != nil || !offered {
		return "", nil, false, err
	}
	req := u.request(part, 0, nil)
	req.Header.Del("Expect")
	setDraft(req.Header, false)
	if part.Size >= 0 {
		httpfield.SetCount(req.Header, httpfield.UploadLength, part.Size)
	}
	resp, err := u.env.writer.send(ctx, req)
	if err != nil {
		return "", nil, false, err
	}
	if resp.StatusCode < 200 || resp.StatusCode > 299 {
		return "", nil, false, u.env.writer.refused(resp, u.target.target)
	}
	discard(resp)
	to, err := resp.Location()
	if err != nil || resp.Header.Get("Location") == "" || to.User != nil {
		return "", nil, false, sdk.Errorf(sdk.Invalid, "%s: the receiver says that uploads can go on, but not where", describe(req))
	}
	if !sameHost(u.target.url, to) { // where no token may go
		u.resumes = false
		return "", nil, false, nil
	}
	u.sink.note(u.key, begun{part.PartInfo, to.String()})
	r := &remote{uploader: u, target: u.target.at(to), part: part, digest: u.digester()}
	location, err = r.run(ctx)
	return location, r.digest, true, err
}

// setDraft marks a request as one of the draft.
func setDraft(h http.Header, complete bool) {
	httpfield.SetComplete(h, complete)
	httpfield.SetCount(h, httpfield.UploadVersion, httpfield.Version)
}

// offers asks the receiver, once a run, whether an upload of that size can go on after a cut.
func (u *uploader) offers(ctx context.Context, size int64) (bool, error) {
	if !u.target.asks {
		return false, nil
	}
	if !u.asked {
		resp, err := u.env.writer.send(ctx, u.target.request(http.MethodOptions))
		if err != nil {
			return false, err
		}
		discard(resp)
		limits, ok := httpfield.ParseLimits(resp.Header)
		// A receiver that wants pieces of a certain size takes the part whole.
		u.asked, u.resumes = true, ok && resp.StatusCode < 300 && limits.MinAppendSize == 0 && limits.MaxAppendSize == 0
		u.limits, u.wants = limits, httpfield.Wanted(resp.Header, httpfield.WantReprDigest)
	}
	return u.resumes && (size < 0 || size >= u.limits.MinSize), nil
}

// listenFor104 has the URL noted that a receiver may tell while it takes a part in one request.
func (u *uploader) listenFor104(ctx context.Context, req *http.Request, part *sdk.IncomingPart) context.Context {
	setDraft(req.Header, true)
	if part.Size >= 0 {
		httpfield.SetCount(req.Header, httpfield.UploadLength, part.Size)
	}
	info := part.PartInfo
	return httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{Got1xxResponse: func(code int, h textproto.MIMEHeader) error {
		fields := http.Header(h)
		if code != httpfield.StatusResumptionSupported || !httpfield.SpeaksDraft(fields) || fields.Get("Location") == "" {
			return nil
		}
		if to, err := req.URL.Parse(fields.Get("Location")); err == nil && to.User == nil && sameHost(req.URL, to) {
			u.sink.note(u.key, begun{info, to.String()})
		}
		return nil
	}})
}

// cancel tells the receiver that an upload is not gone on with. It keeps it for a while if it is not told.
func (u *uploader) cancel(ctx context.Context, b begun) {
	to, err := url.Parse(b.url)
	if err != nil || b.url == "" {
		return
	}
	req := u.target.at(to).request(http.MethodDelete)
	httpfield.SetCount(req.Header, httpfield.UploadVersion, httpfield.Version)
	if resp, err := u.env.writer.send(ctx, req); err == nil {
		discard(resp)
	}
}

// remote is an upload at the receiver, in pieces: each is one request, which a checkpoint ends, so that the receiver says what it has.
// The last one has no content, but the digest of the whole. It is used by one goroutine.
type remote struct {
	*uploader
	target   *target
	part     *sdk.IncomingPart
	digest   *sdk.Digester // of all that the part has given, in this run and before
	offset   int64         // that the receiver has confirmed
	complete bool
	piece    *piece    // nil if none is on its way
	next     time.Time // when the next checkpoint is due
}

// errLost says that there is no such upload at the receiver.
var errLost = sdk.Errorf(sdk.NotFound, "the receiver does not know the upload any more")

// find asks the receiver how far the upload is.
func (r *remote) find(ctx context.Context) error {
	req := r.target.request(http.MethodHead)
	httpfield.SetCount(req.Header, httpfield.UploadVersion, httpfield.Version)
	resp, err := r.env.writer.send(ctx, req)
	if err != nil {
		return err
	}
	switch status := resp.StatusCode; {
	case status == http.StatusNotFound || status == http.StatusGone:
		discard(resp)
		return errLost
	case status < 200 || status > 299:
		return r.env.writer.refused(resp, r.target)
	}
	discard(resp)
	var ok bool
	if r.offset, ok = httpfield.Count(resp.Header, httpfield.UploadOffset); !ok {
		return sdk.Errorf(sdk.Invalid, "%s: the receiver does not say how far the upload is", describe(req))
	}
	r.complete, _ = httpfield.Complete(resp.Header)
	return nil
}

// run sends what the receiver does not have, and completes the upload. It returns where the part is then.
func (r *remote) run(ctx context.Context) (string, error) {
	w := &remoteWriter{remote: r, ctx: ctx}
	if r.offset > r.digest.Size() {
		// The receiver has more than the last checkpoint says.
		if _, err := io.CopyN(r.digest, r.part, r.offset-r.digest.Size()); err == io.EOF {
			return "", r.spoiled(ctx, sdk.Retryf(sdk.Corrupt, "the receiver has %d bytes of it, more than there are", r.offset))
		} else if err != nil {
			return "", err
		}
	}
	r.part.OnCheckpoint(w.checkpoint)
	_, err := r.part.WriteTo(w)
	if err != nil {
		r.piece.abort(err)
		if !sdk.AsError(err).Retryable {
			return "", r.spoiled(ctx, err)
		}
		return "", err
	}
	if err := w.finishPiece(); err != nil {
		return "", err
	}
	return r.finish(ctx)
}

// finish completes the upload.
func (r *remote) finish(ctx context.Context) (string, error) {
	req := r.patch(true)
	req.Header.Set(httpfield.ReprDigest, httpfield.FormatDigests(r.digest.Sum()))
	resp, err := r.env.writer.send(ctx, req)
	if err != nil {
		return "", err
	}
	if resp.StatusCode < 200 || resp.StatusCode > 299 {
		return "", r.refusal(ctx, resp)
	}
	discard(resp)
	if complete, ok := httpfield.Complete(resp.Header); ok && !complete {
		return "", sdk.Retryf(sdk.Unavailable, "%s: the receiver does not take the upload for complete", describe(req))
	}
	if err := checkEcho(resp, r.digest); err != nil {
		return "", err
	}
	r.sink.forget(r.key)
	return location(resp, r.uploader.target.url), nil
}

// checkEcho compares the digests that a receiver has found with those of what was sent.
func checkEcho(resp *http.Response, digest *sdk.Digester) error {
	echo, err := httpfield.Digests(resp.Header, httpfield.ReprDigest)
	if err != nil {
		return nil // it was to be a help
	}
	if err := echo.Compare(digest.Sum()); err != nil {
		return sdk.Retryf(sdk.Corrupt, "%s: the receiver has something else: %w", describe(resp.Request), err)
	}
	return nil
}

// patch returns a request that appends to the upload.
func (r *remote) patch(complete bool) *http.Request {
	req := r.target.request(http.MethodPatch)
	setDraft(req.Header, complete)
	httpfield.SetCount(req.Header, httpfield.UploadOffset, r.offset)
	req.Header.Set("Content-Type", httpfield.PartialUpload)
	return req
}

// refusal is the error for an answer that does not take what was appended.
func (r *remote) refusal(ctx context.Context, resp *http.Response) error {
	status := resp.StatusCode
	err := r.env.writer.refused(resp, r.target)
	switch {
	case status == http.StatusNotFound, status == http.StatusGone, isDigestMismatch(err):
		return r.spoiled(ctx, sdk.Retryf(sdk.Corrupt, "%w", err))
	case status == http.StatusConflict && resp.Header.Get(httpfield.UploadOffset) != "":
		return sdk.Retryf(sdk.Unavailable, "%w", err) // asking where it is helps
	}
	return err
}

// spoiled gives the upload up.
func (r *remote) spoiled(ctx context.Context, err error) error {
	r.cancel(ctx, r.sink.forget(r.key))
	return err
}

// remoteWriter sends what it is given, in pieces.
type remoteWriter struct {
	*remote
	ctx context.Context
}

// Write hands bytes to the piece on its way, or begins one.
func (w *remoteWriter) Write(p []byte) (int, error) {
	if w.complete && len(p) > 0 {
		return 0, w.spoiled(w.ctx, sdk.Retryf(sdk.Corrupt, "the receiver took %d bytes of it for all", w.offset))
	}
	if w.piece == nil {
		w.piece = w.begin(w.ctx)
	}
	n, err := w.piece.out.Write(p)
	w.digest.Write(p[:n])
	if err != nil {
		// The request has ended before it should.
		return n, early(w.finishPiece())
	}
	if !time.Now().Before(w.next) {
		w.part.OnCheckpoint(w.checkpoint)
	}
	return n, nil
}

// checkpoint makes what was sent durable at the receiver, and returns a token to go on from there.
func (w *remoteWriter) checkpoint() ([]byte, error) {
	start := time.Now()
	if err := w.finishPiece(); err != nil {
		return nil, err
	}
	w.next = time.Now().Add(checkpointShare * time.Since(start))
	w.part.OnCheckpoint(nil)
	return json.Marshal(resumption{URL: w.target.url.String(), Digest: w.digest.State()})
}

// finishPiece ends the piece on its way, and has the receiver confirm all of it.
func (w *remoteWriter) finishPiece() error {
	p := w.piece
	if p == nil {
		return nil
	}
	w.piece = nil
	p.out.Close()
	<-p.done
	if p.err != nil {
		return p.err
	}
	if p.resp.StatusCode < 200 || p.resp.StatusCode > 299 {
		return w.refusal(w.ctx, p.resp)
	}
	discard(p.resp)
	offset, ok := httpfield.Count(p.resp.Header, httpfield.UploadOffset)
	if complete, _ := httpfield.Complete(p.resp.Header); complete || ok && offset != w.digest.Size() {
		return sdk.Retryf(sdk.Unavailable, "%s: the receiver has %d bytes after %d were sent", describe(p.resp.Request), offset, w.digest.Size())
	}
	w.offset = w.digest.Size()
	return nil
}

// piece is a request on its way.
type piece struct {
	out  *io.PipeWriter
	done chan struct{} // closed when the answer, or a failure, is there
	resp *http.Response
	err  error
}

// begin begins to append to the upload.
func (r *remote) begin(ctx context.Context) *piece {
	in, out := io.Pipe()
	p := &piece{out: out, done: make(chan struct{})}
	req := r.patch(false)
	req.Body, req.ContentLength = in, -1
	go func() {
		defer close(p.done)
		p.resp, p.err = r.env.writer.send(ctx, req)
		in.CloseWithError(errUploadOver)
	}()
	return p
}

// abort breaks the request off. The receiver keeps what it has.
func (p *piece) abort(err error) {
	if p == nil {
		return
	}
	p.out.CloseWithError(err)
	<-p.done
	if p.err == nil {
		p.resp.Body.Close()
	}
}

// early is the error of a request that ended before its content did. An answer that takes it all is wrong.
func early(err error) error {
	if err == nil {
		err = sdk.Retryf(sdk.Unavailable, "the receiver answered before it had everything")
	}
	return fmt.Errorf("cut: %w", err)
}
