package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/towpath-dataplane/towpath/sdk"
	"github.com/towpath-dataplane/towpath/sdk/httpfield"
)

// resource is the content behind one URL. It is used by one goroutine.
type resource struct {
	client  *client
	target  *target
	info    sdk.PartInfo
	ifRange string      // strong validator as If-Range takes it; "" if there is none
	digests sdk.Digests // of the whole, announced in a listing or with the first answer

	// held is an answer that begins at the first byte and that nobody has read.
	held *http.Response
}

// newResource describes the content by the answer to a first request, and keeps the answer for open.
func newResource(c *client, t *target, resp *http.Response, a sdk.DataAddress) *resource {
	r := &resource{client: c, target: t}
	r.info = sdk.PartInfo{
		Name:       partName(a.Get("name"), resp.Header.Get("Content-Disposition"), t.url),
		MediaType:  resp.Header.Get("Content-Type"),
		Size:       resp.ContentLength,
		TotalParts: 1,
	}
	if r.info.MediaType == "" {
		r.info.MediaType = a.Get("contentType")
	}
	if coding := resp.Header.Get("Content-Encoding"); coding != "" && coding != "identity" {
		r.info.Properties = map[string]string{"contentEncoding": coding}
	}
	r.info.Modified, _ = http.ParseTime(resp.Header.Get("Last-Modified"))
	r.info.Validator, r.ifRange = validatorOf(resp.Header)
	if resp.StatusCode == http.StatusOK {
		r.digests = reprDigests(resp.Header)
	}
	if resp.Request.Method == http.MethodHead {
		resp.Body.Close()
	} else {
		r.held = resp
	}
	return r
}

// reprDigests returns the digests of the whole content that an answer announces. A field that is malformed is none: it was to be a help.
func reprDigests(h http.Header) sdk.Digests {
	d, err := httpfield.Digests(h, httpfield.ReprDigest)
	if err != nil {
		return nil
	}
	return d
}

func (r *resource) part() sdk.Part {
	return sdk.Part{PartInfo: r.info, Open: r.open, Digests: r.digests}
}

// close lets go of an answer that was not read.
func (r *resource) close() {
	if r.held != nil {
		r.held.Body.Close()
		r.held = nil
	}
}

// open is Part.Open.
func (r *resource) open(ctx context.Context, offset int64) (io.ReadCloser, error) {
	switch {
	case offset == 0:
		return r.openStart(ctx)
	case offset == r.info.Size:
		return http.NoBody, nil
	case r.ifRange == "" || r.target.method != http.MethodGet:
		// Without a validator the server could answer with a range of something else.
		return nil, sdk.ErrFromStart
	}
	r.close()
	return r.openAt(ctx, offset)
}

func (r *resource) openStart(ctx context.Context) (io.ReadCloser, error) {
	resp := r.held
	if r.held = nil; resp == nil {
		var err error
		if resp, err = r.client.send(ctx, r.target.request(r.target.method)); err != nil {
			return nil, err
		}
	}
	if !isWhole(resp.StatusCode) {
		return nil, r.client.refused(resp, r.target)
	}
	if err := r.checkWhole(resp); err != nil {
		resp.Body.Close()
		return nil, fmt.Errorf("%s: %w", describe(resp.Request), err)
	}
	return newCheckedBody(resp), nil
}

// checkWhole says whether an answer with the whole content can be taken for the part that was announced.
func (r *resource) checkWhole(resp *http.Response) error {
	if !isFramed(resp) {
		return sdk.Errorf(sdk.Unsupported, "the answer has neither a length nor chunks, so that its end cannot be told from a cut")
	}
	return r.checkSame(resp.Header, resp.ContentLength)
}

// checkSame compares an answer with what was announced of the content. size is that of the whole, less than 0 if it is not known.
func (r *resource) checkSame(h http.Header, size int64) error {
	validator, _ := validatorOf(h)
	switch {
	case r.info.Validator != "" && validator != "" && validator != r.info.Validator:
		return sdk.Retryf(sdk.Corrupt, "the content has changed since it was announced")
	case r.info.Size >= 0 && size >= 0 && size != r.info.Size:
		return sdk.Retryf(sdk.Corrupt, "the content has %d bytes, %d were announced", size, r.info.Size)
	}
	return nil
}

func (r *resource) openAt(ctx context.Context, offset int64) (io.ReadCloser, error) {
	req := r.target.request(r.target.method)
	req.Header.Set("Range", fmt.Sprintf("bytes=%d-", offset))
	req.Header.Set("If-Range", r.ifRange)
	resp, err := r.client.send(ctx, req)
	if err != nil {
		return nil, err
	}
	switch {
	case resp.StatusCode == http.StatusPartialContent:
		err = r.checkRange(resp, offset)
	case resp.StatusCode == http.StatusRequestedRangeNotSatisfiable:
		return r.atEnd(resp, offset)
	case isWhole(resp.StatusCode):
		r.held = resp
		return nil, sdk.ErrFromStart
	default:
		return nil, r.client.refused(resp, r.target)
	}
	if err != nil {
		resp.Body.Close()
		return nil, fmt.Errorf("%s: %w", describe(resp.Request), err)
	}
	return newCheckedBody(resp), nil
}

// checkRange says whether an answer has the bytes from offset to the end. One that stops earlier is legal, but of no use.
func (r *resource) checkRange(resp *http.Response, offset int64) error {
	first, last, size, ok := parseContentRange(resp.Header.Get("Content-Range"))
	switch {
	case !ok || first != offset || size >= 0 && last >= size:
		return sdk.Errorf(sdk.Corrupt, "asked for the bytes from %d on, the answer has range %q", offset,
			printable(resp.Header.Get("Content-Range")))
	case resp.ContentLength >= 0 && resp.ContentLength != last-first+1:
		return sdk.Errorf(sdk.Corrupt, "the answer has %d bytes for %d to %d", resp.ContentLength, first, last)
	case size < 0 || last != size-1:
		return sdk.ErrFromStart
	case !isFramed(resp):
		return sdk.ErrFromStart
	}
	return r.checkSame(resp.Header, size)
}

// atEnd takes the answer that no byte is there. It is right if the content ends exactly at offset.
func (r *resource) atEnd(resp *http.Response, offset int64) (io.ReadCloser, error) {
	defer resp.Body.Close()
	size := r.info.Size
	if text, ok := strings.CutPrefix(resp.Header.Get("Content-Range"), "bytes */"); ok {
		if n, err := strconv.ParseInt(text, 10, 64); err == nil && n >= 0 {
			size = n
		}
	}
	if size == offset {
		return http.NoBody, nil
	}
	return nil, sdk.Errorf(sdk.Corrupt, "%s: has no byte at offset %d", describe(resp.Request), offset)
}

// parseContentRange reads "bytes first-last/size". size is -1 for "*".
func parseContentRange(value string) (first, last, size int64, ok bool) {
	text, isBytes := strings.CutPrefix(value, "bytes ")
	span, total, hasTotal := strings.Cut(text, "/")
	from, to, hasSpan := strings.Cut(span, "-")
	if !isBytes || !hasTotal || !hasSpan {
		return 0, 0, 0, false
	}
	first, err1 := parseCount(from)
	last, err2 := parseCount(to)
	size = -1
	var err3 error
	if total != "*" {
		size, err3 = parseCount(total)
	}
	return first, last, size, err1 == nil && err2 == nil && err3 == nil && first <= last
}

// parseCount reads a decimal number without sign.
func parseCount(s string) (int64, error) {
	n, err := strconv.ParseUint(s, 10, 63)
	return int64(n), err
}

// settled is how long content has to be unchanged before its date can stand for it: dates have seconds only.
const settled = time.Minute

// validatorOf returns what stands for the content of an answer, for comparison and for If-Range: a strong ETag or, failing that, a date
// of change that lies well before the answer. Both are "" if there is neither.
func validatorOf(h http.Header) (validator, ifRange string) {
	if etag := h.Get("Etag"); etag != "" {
		return strongETag(etag)
	}
	modified, err := http.ParseTime(h.Get("Last-Modified"))
	if err != nil {
		return "", ""
	}
	date, err := http.ParseTime(h.Get("Date"))
	if err != nil || date.Sub(modified) < settled {
		return "", ""
	}
	return "modified-" + strconv.FormatInt(modified.Unix(), 10), h.Get("Last-Modified")
}

// strongETag returns an ETag, with its quotes, as both. It is no validator if it is weak or malformed.
func strongETag(etag string) (validator, ifRange string) {
	if len(etag) < 3 || etag[0] != '"' || strings.IndexByte(etag[1:], '"') != len(etag)-2 || strings.ContainsAny(etag, " \t") {
		return "", ""
	}
	return etag, etag
}

// request returns a new request for the target.
func (t *target) request(method string) *http.Request {
	req := &http.Request{Method: method, URL: t.url, Header: t.header.Clone(), Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1}
	req.Header.Set("Accept-Encoding", "identity")
	if method == http.MethodGet || method == http.MethodHead {
		req.Header.Set(httpfield.WantReprDigest, httpfield.FormatWanted())
	}
	if req.Header.Get("User-Agent") == "" {
		req.Header.Set("User-Agent", userAgent)
	}
	if len(t.body) > 0 && method != http.MethodHead {
		req.ContentLength = int64(len(t.body))
		req.GetBody = func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(t.body)), nil }
		req.Body, _ = req.GetBody()
	}
	return req
}

// at returns the target for another URL. Credentials go along only to the same host.
func (t *target) at(u *url.URL) *target {
	header := t.header.Clone()
	if !sameHost(t.url, u) {
		header = withoutCredentials(header)
	}
	header.Set("Accept", "*/*")
	return &target{url: u, method: http.MethodGet, header: header, secrets: t.secrets}
}
