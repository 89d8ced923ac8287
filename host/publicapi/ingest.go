package publicapi

import (
	"context"
	"errors"
	"io"
	"mime"
	"mime/multipart"
	"net/http"
	"strconv"
	"strings"

	"github.com/towpath-dataplane/towpath/host/flow"
	"github.com/towpath-dataplane/towpath/sdk"
)

// ingest is one request that brings parts.
type ingest struct {
	*exchange
	handler *Handler
	stay    *stay
	added   int64 // parts that are new
}

// storedPart is what is said about a part that is durable.
type storedPart struct {
	Name    string            `json:"name"`
	Size    int64             `json:"size"`
	Digests map[string]string `json:"digests"`
}

// ingest takes the parts of the request into the flow's sink.
func (h *Handler) ingest(x *exchange, s *stay) (*answer, error) {
	in := &ingest{exchange: x, handler: h, stay: s}
	switch {
	case x.r.Method == http.MethodOptions:
		return in.options()
	case x.route.operation == uploadPart:
		return in.onUpload()
	}
	if boundary := multipartBoundary(x.r.Header); boundary != "" && !x.route.operation.names() {
		return in.several(boundary)
	}
	return in.one()
}

// multipartBoundary returns the boundary of a body that carries several parts, "" for any other.
func multipartBoundary(h http.Header) string {
	mediaType, params, err := mime.ParseMediaType(h.Get("Content-Type"))
	if err != nil || mediaType != "multipart/mixed" && mediaType != "multipart/form-data" {
		return ""
	}
	return params["boundary"]
}

// one takes the request's body as one part.
func (in *ingest) one() (*answer, error) {
	up, err := newUpload(in.r.Header, in.r.ContentLength)
	if err != nil {
		return nil, err
	}
	if in.route.operation.names() {
		up.info.Name = in.route.name
	}
	up.body, up.trailer = in, in.r.Trailer
	if complete, ok, err := in.resumes(up); err != nil {
		return nil, err
	} else if ok {
		return in.create(up, complete)
	}
	part, err := in.take(up)
	if err != nil {
		return nil, err
	}
	return in.answer(part), nil
}

// answer says that a part is durable.
func (in *ingest) answer(part storedPart) *answer {
	a := &answer{status: http.StatusOK, body: part,
		location: in.handler.base + flowPath(in.route.operation.element(), in.route.key) + "/" + escapeName(part.Name)}
	if in.added > 0 {
		a.status = http.StatusCreated
	}
	return a
}

// several takes each part of a multipart body as one.
func (in *ingest) several(boundary string) (*answer, error) {
	if want, err := announcedDigests(in.r.Header); err != nil || len(want) > 0 {
		return nil, badRequest.because("digests belong to the parts of a multipart body").from(err)
	}
	if err := checkCoding(in.r.Header); err != nil {
		return nil, err
	}
	stored := []storedPart{}
	for body := multipart.NewReader(in, boundary); ; {
		part, err := in.nextPart(body)
		if err == io.EOF {
			break
		}
		if err != nil {
			return nil, withStored(err, stored)
		}
		stored = append(stored, part)
	}
	if len(stored) == 0 {
		return nil, badRequest.because("the multipart body has no part")
	}
	a := &answer{status: http.StatusOK, body: map[string]any{"parts": stored}}
	if in.added > 0 {
		a.status = http.StatusCreated
	}
	return a, nil
}

// nextPart takes the next part of a multipart body, or returns io.EOF.
func (in *ingest) nextPart(body *multipart.Reader) (storedPart, error) {
	part, err := body.NextRawPart()
	if err == io.EOF {
		return storedPart{}, err
	}
	if err != nil {
		return storedPart{}, multipartProblem(err)
	}
	h := http.Header(part.Header)
	size, err := partLength(h)
	if err != nil {
		return storedPart{}, err
	}
	up, err := newUpload(h, size)
	if err != nil {
		return storedPart{}, err
	}
	if up.info.Name == "" {
		up.info.Name = part.FormName()
	}
	up.body = multipartBody{part}
	return in.take(up)
}

// multipartBody is the content of one part of a multipart body.
type multipartBody struct{ part io.Reader }

func (m multipartBody) Read(b []byte) (int, error) {
	n, err := m.part.Read(b)
	if err != nil && err != io.EOF {
		err = multipartProblem(err)
	}
	return n, err
}

func multipartProblem(err error) error {
	var p *problem
	if errors.As(err, &p) {
		return p
	}
	return badRequest.because("the multipart body is malformed or not whole").from(err)
}

func partLength(h http.Header) (int64, error) {
	field := h.Get("Content-Length")
	if field == "" {
		return sdk.SizeUnknown, nil
	}
	n, ok := parseOffset(field)
	if !ok {
		return 0, badRequest.because("Content-Length %q is not a number of bytes", field)
	}
	return n, nil
}

// withStored adds to a problem what is durable nevertheless.
func withStored(err error, stored []storedPart) error {
	p := problemOf(err)
	p.Stored = stored
	return p
}

// upload is one part on its way into a sink.
type upload struct {
	info     sdk.PartInfo // Name is "" if the client gave none
	numbered bool         // info.Index is set
	known    flow.Part    // of that name, if it exists
	exists   bool
	want     sdk.Digests // that the client announced
	body     io.Reader
	trailer  http.Header // filled when body has ended
}

// newUpload reads what the header fields of a request, or of a part of a multipart body, say about a part.
func newUpload(h http.Header, size int64) (*upload, error) {
	if err := checkCoding(h); err != nil {
		return nil, err
	}
	if h.Get("Content-Range") != "" {
		return nil, badRequest.because("a part is sent whole, not by ranges")
	}
	up := &upload{info: sdk.PartInfo{Size: size}}
	var err error
	if up.info.Name, err = dispositionName(h.Get("Content-Disposition")); err != nil {
		return nil, err
	}
	if up.info.MediaType = h.Get("Content-Type"); up.info.MediaType != "" {
		if _, _, err := mime.ParseMediaType(up.info.MediaType); err != nil {
			return nil, badRequest.because("Content-Type: %v", err)
		}
	}
	if field := h.Get("Last-Modified"); field != "" {
		if up.info.Modified, err = http.ParseTime(field); err != nil {
			return nil, badRequest.because("Last-Modified %q is not a date", field)
		}
	}
	up.want, err = announcedDigests(h)
	return up, err
}

// checkCoding refuses content that does not arrive byte for byte.
func checkCoding(h http.Header) error {
	for _, coding := range h.Values("Content-Encoding") {
		if !strings.EqualFold(coding, "identity") {
			return unsupported.because("Content-Encoding %q: parts are stored as they come", coding).with("Accept-Encoding", "identity")
		}
	}
	switch coding := strings.ToLower(h.Get("Content-Transfer-Encoding")); coding {
	case "", "binary", "7bit", "8bit":
		return nil
	default:
		return unsupported.because("Content-Transfer-Encoding %q: parts are stored as they come", coding)
	}
}

// dispositionName returns the file name of a Content-Disposition with all its folders, "" if there is none.
func dispositionName(field string) (string, error) {
	if field == "" {
		return "", nil
	}
	_, params, err := mime.ParseMediaType(field)
	if err != nil {
		return "", badRequest.because("Content-Disposition: %v", err)
	}
	return params["filename"], nil
}

// take has the upload stored and recorded, unless it is there already.
func (in *ingest) take(up *upload) (storedPart, error) {
	release, err := in.prepare(up, false)
	if err != nil {
		return storedPart{}, err
	}
	defer release()
	if in.stay.flow.Sealed {
		return in.takeSealed(up)
	}
	part, err := in.deliver(up)
	if err != nil {
		return storedPart{}, err
	}
	if err := in.record(part); err != nil {
		return storedPart{}, err
	}
	if !up.exists {
		in.added++
	}
	return stored(part), nil
}

// prepare checks what is known of the part, and gives it its place in the flow, of which release lets go.
func (in *ingest) prepare(up *upload, resumable bool) (release func(), err error) {
	if err := in.checkSize(max(up.info.Size, 0)); err != nil {
		return nil, err
	}
	if err := in.name(up); err != nil {
		return nil, err
	}
	key, h := in.route.key, in.handler
	var cut func()
	if resumable {
		cut = in.stopReading
	}
	if release, err = h.uploads.claim(in.stay.ctx, in.route, up.info.Name, cut, resumable); err != nil {
		return nil, err
	}
	up.known, up.exists, err = h.service(in.route).Part(in.stay.ctx, key, up.info.Name)
	switch {
	case err != nil, in.stay.flow.Sealed:
	case up.exists:
		up.info.Index = up.known.Index
	default:
		err = in.number(up)
	}
	if err == nil && !resumable && !in.route.operation.responds() {
		err = h.forget(in.stay.ctx, key, up.info.Name)
	}
	if err != nil {
		release()
		return nil, err
	}
	return release, nil
}

// checkSize says whether a part of n bytes is too large.
func (in *ingest) checkSize(n int64) error {
	if limit := in.handler.Limits.MaxPartSize; limit > 0 && n > limit {
		return tooLarge.because("a part may have %d bytes", limit)
	}
	return nil
}

// name checks the part's name, and gives it one if it has none.
func (in *ingest) name(up *upload) error {
	if up.info.Name == "" && !in.route.operation.names() && !in.stay.flow.Sealed {
		if err := in.number(up); err != nil {
			return err
		}
		up.info.Name = "part-" + strconv.FormatUint(up.info.Index, 10)
		up.numbered = true
	}
	if err := sdk.CheckName(up.info.Name); err != nil {
		return badRequest.because("%v", err)
	}
	return nil
}

// number gives the part an index in the flow.
func (in *ingest) number(up *upload) error {
	if up.numbered {
		return nil
	}
	if limit := in.handler.Limits.MaxParts; limit > 0 && in.stay.flow.Totals.Parts+in.added >= limit {
		return tooLarge.because("the data flow may have %d parts", limit)
	}
	var err error
	up.info.Index, err = in.handler.service(in.route).NextIndex(in.stay.ctx, in.route.key)
	return err
}

// takeSealed answers an upload to an ingest that is closed: a part that is there may come again, and has to be the same.
func (in *ingest) takeSealed(up *upload) (storedPart, error) {
	known := up.known
	if !up.exists {
		return storedPart{}, conflict.because("the manifest has closed the data flow")
	}
	digest := in.digester(up)
	if _, err := io.Copy(digest, io.LimitReader(up.body, known.Size+1)); err != nil {
		return storedPart{}, err
	}
	if digest.Size() != known.Size || digest.Sum().Compare(known.Digests) != nil {
		return storedPart{}, conflict.because("the manifest has closed the data flow, and part %q is another", up.info.Name)
	}
	return stored(known), nil
}

// record stores a part that is durable. That goes on when the client hangs up: it would otherwise have to send the part again.
func (in *ingest) record(part flow.Part) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(in.stay.ctx), recordTimeout)
	defer cancel()
	in.stay.waitsForHost()
	return in.handler.service(in.route).Record(ctx, in.route.key, part)
}

func stored(p flow.Part) storedPart {
	return storedPart{Name: p.Name, Size: p.Size, Digests: hexDigests(p.Digests)}
}
