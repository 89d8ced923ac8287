package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"mime"
	"net/http"
	"net/url"
	"os"
	"slices"

	"github.com/towpath-dataplane/towpath/sdk"
	"github.com/towpath-dataplane/towpath/sdk/httpfield"
)

const (
	// expectAbove is the size from which on a receiver is asked before the body is sent.
	expectAbove = 1 << 20
	// maxHeld is the size up to which a part is held until its digest is known.
	maxHeld = 256 << 10
	// maxDrain is how much of an answer is read so that its connection can be used again.
	maxDrain = 64 << 10
)

// uploader sends the parts of one flow. It is used by one goroutine.
type uploader struct {
	env      *environment
	sink     *sink
	key      flowKey
	target   *sinkTarget
	manifest *manifest // nil if the flow ends without

	asked   bool // whether uploads can go on
	resumes bool
	limits  httpfield.Limits
	wants   []sdk.Algorithm // that the receiver has asked for
}

// send sends one part and commits it once the receiver has it.
func (u *uploader) send(ctx context.Context, part *sdk.IncomingPart) error {
	if part.Records {
		return sdk.Errorf(sdk.Unsupported, "an HTTP sink takes no records")
	}
	if u.target.method == http.MethodPut && (part.Index > 0 || part.TotalParts > 1) {
		return sdk.Errorf(sdk.Invalid, "PUT to one URL replaces what is there: several parts need POST")
	}
	location, digest, err := u.deliver(ctx, part)
	if err != nil {
		return err
	}
	if u.manifest != nil {
		u.manifest.add(part, digest)
	}
	part.Commit(location)
	return nil
}

// deliver sends a part in the way that suits the receiver, and returns where it is then, and the digests of what was sent.
func (u *uploader) deliver(ctx context.Context, part *sdk.IncomingPart) (string, *sdk.Digester, error) {
	location, digest, ok, err := u.resume(ctx, part)
	if !ok && err == nil && u.mayResume(part) {
		location, digest, ok, err = u.create(ctx, part)
	}
	if ok || err != nil {
		return location, digest, err
	}
	content := newContent(part, part.Size, u.digester())
	location, err = u.upload(ctx, part, content)
	if err == nil {
		u.sink.forget(u.key)
	}
	return location, content.digest, err
}

// digester computes what the receiver is told of a part.
func (u *uploader) digester() *sdk.Digester {
	return sdk.NewDigester(slices.Concat(u.target.digests, u.wants)...)
}

// trails reports whether the digest of a part goes behind it. That takes chunks, also where the size is known: only the operator, or a
// receiver that asks for digests, can say that the receiver bears them.
func (u *uploader) trails() bool {
	return !u.target.neverChunk && (u.target.trailer || len(u.wants) > 0)
}

// upload sends the content and returns where the receiver put it.
func (u *uploader) upload(ctx context.Context, part *sdk.IncomingPart, content *content) (string, error) {
	switch {
	case part.Size == 0:
		// There is no byte to hold back: the part has to be known whole before the request begins.
		if _, err := io.Copy(io.Discard, content); err != nil {
			return "", err
		}
	case part.Size < 0 && u.target.neverChunk:
		return u.uploadSpooled(ctx, part, content)
	case part.Size > 0 && part.Size <= maxHeld:
		return u.uploadHeld(ctx, part, content)
	}
	size := part.Size
	if size > 0 && u.trails() {
		size = sdk.SizeUnknown
	}
	req := u.request(part, size, content)
	if u.mayResume(part) {
		ctx = u.listenFor104(ctx, req, part)
	}
	return u.post(ctx, req, content)
}

// uploadHeld sends a small part behind its digest.
func (u *uploader) uploadHeld(ctx context.Context, part *sdk.IncomingPart, content *content) (string, error) {
	held, err := io.ReadAll(content)
	if broken := content.stop(); broken != nil {
		return "", broken
	}
	if err != nil {
		return "", err
	}
	return u.postDigested(ctx, part, bytes.NewReader(held), content)
}

// postDigested sends what was read of a part, behind its digest.
func (u *uploader) postDigested(ctx context.Context, part *sdk.IncomingPart, stored io.Reader, read *content) (string, error) {
	size := read.digest.Size()
	again := newContent(stored, size, u.digester())
	req := u.request(part, size, again)
	req.Header.Set(httpfield.ReprDigest, httpfield.FormatDigests(read.digest.Sum()))
	return u.post(ctx, req, again)
}

// uploadSpooled stores content of unknown size in a temporary file, so that the request can announce its size.
func (u *uploader) uploadSpooled(ctx context.Context, part *sdk.IncomingPart, content *content) (string, error) {
	file, err := os.CreateTemp(u.env.scratchDir, "part-*")
	if err != nil {
		return "", fmt.Errorf("store the part: %w", err)
	}
	defer os.Remove(file.Name())
	defer file.Close()
	if err := fillSpool(file, content, u.env.maxSpool); err != nil {
		return "", err
	}
	return u.postDigested(ctx, part, file, content)
}

func fillSpool(file *os.File, content *content, limit int64) error {
	size, err := io.Copy(file, io.LimitReader(content, limit+1))
	if broken := content.stop(); broken != nil {
		return broken
	}
	if err != nil {
		return sdk.Retryf(sdk.Exhausted, "store the part: %w", err)
	}
	if size > limit {
		return sdk.Errorf(sdk.Exhausted, "its size is not known, and it has more than the %d bytes that may be stored to find out", limit)
	}
	if _, err := file.Seek(0, io.SeekStart); err != nil {
		return fmt.Errorf("store the part: %w", err)
	}
	return nil
}

func (u *uploader) request(part *sdk.IncomingPart, size int64, content *content) *http.Request {
	req := u.target.request(u.target.method)
	if req.ContentLength = size; size != 0 {
		req.Body = content
		// What the digest is shows only behind the content, and only chunks have something there.
		if size < 0 {
			req.Trailer = http.Header{httpfield.ReprDigest: nil}
			content.atEnd = func(d *sdk.Digester) { req.Trailer.Set(httpfield.ReprDigest, httpfield.FormatDigests(d.Sum())) }
		}
	} else if content != nil {
		req.Header.Set(httpfield.ReprDigest, httpfield.FormatDigests(content.digest.Sum()))
	}
	if size < 0 || size > expectAbove {
		req.Header.Set("Expect", "100-continue")
	}
	mediaType := part.MediaType
	if mediaType == "" || !isFieldValue(mediaType) {
		mediaType = u.target.mediaType
	}
	req.Header.Set("Content-Type", mediaType)
	req.Header.Set("Content-Disposition", mime.FormatMediaType("attachment", map[string]string{"filename": part.Name}))
	if !part.Modified.IsZero() {
		req.Header.Set("Last-Modified", part.Modified.UTC().Format(http.TimeFormat))
	}
	return req
}

// post sends a request with its content and takes the receiver's answer.
func (u *uploader) post(ctx context.Context, req *http.Request, content *content) (string, error) {
	resp, err := u.env.writer.send(ctx, req)
	broken := content.stop()
	switch {
	case broken != nil:
		if err == nil {
			resp.Body.Close()
		}
		return "", broken
	case err != nil:
		return "", err
	case resp.StatusCode < 200 || resp.StatusCode > 299:
		refusal := u.env.writer.refused(resp, u.target.target)
		if isDigestMismatch(refusal) {
			return "", sdk.Retryf(sdk.Corrupt, "%w", refusal)
		}
		return "", refusal
	}
	discard(resp)
	if req.Body != nil && !content.whole() {
		return "", sdk.Errorf(sdk.Corrupt, "%s: the receiver answered %d before it had the whole part", describe(req), resp.StatusCode)
	}
	return location(resp, req.URL), nil
}

// discard reads the rest of an answer, within reason, so that the connection can be used again.
func discard(resp *http.Response) {
	io.CopyN(io.Discard, resp.Body, maxDrain) // the status was all that counts
	resp.Body.Close()
}

// location says where a part is, for people.
func location(resp *http.Response, requested *url.URL) string {
	if u, err := resp.Location(); err == nil {
		return shown(u)
	}
	return shown(requested)
}
