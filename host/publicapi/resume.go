package publicapi

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"io"
	"mime"
	"net/http"
	"slices"
	"strconv"
	"time"

	"github.com/towpath-dataplane/towpath/host/flow"
	"github.com/towpath-dataplane/towpath/sdk"
	"github.com/towpath-dataplane/towpath/sdk/httpfield"
)

// ResumeOptions let counterparties go on with an upload that was cut (draft-ietf-httpbis-resumable-upload).
type ResumeOptions struct {
	// Uploads keeps what has come. nil: an upload that is cut begins again.
	Uploads flow.Uploads
	// Sink says whether a sink of a type can go on inside a part. Required with Uploads.
	Sink func(typ string) bool
	// MinSize is the size from which on a part is worth it. 0: 1 MiB.
	MinSize int64
	// Lifetime is how long an upload is kept, from its last bytes on. 0: a week.
	Lifetime time.Duration
	// Interval is how often what has come is made durable while it comes. 0: once a second.
	Interval time.Duration
}

func (o ResumeOptions) withDefaults() ResumeOptions {
	if o.MinSize == 0 {
		o.MinSize = 1 << 20
	}
	if o.Lifetime == 0 {
		o.Lifetime = 7 * 24 * time.Hour
	}
	if o.Interval == 0 {
		o.Interval = time.Second
	}
	return o
}

// uploadParameter is the parameter of a query that makes the URL of a part that of an upload.
const uploadParameter = "upload"

// resumable is a part that may come in several requests.
type resumable struct {
	flow.Upload
	uploadState
}

// uploadState is what is stored of a resumable.
type uploadState struct {
	Index     uint64          `json:"index"`
	MediaType string          `json:"mediaType,omitempty"`
	Modified  time.Time       `json:"modified"`
	Length    int64           `json:"length"` // or sdk.SizeUnknown
	Want      sdk.Digests     `json:"want,omitempty"`
	Show      []sdk.Algorithm `json:"show,omitempty"` // in the answer
	Offset    int64           `json:"offset"`         // what is durable
	Token     []byte          `json:"token,omitempty"`
	Digest    sdk.DigestState `json:"digest"`
	Complete  bool            `json:"complete,omitempty"`
}

// part is what the sink is told of it.
func (u *resumable) part() sdk.PartInfo {
	return sdk.PartInfo{Index: u.Index, Name: u.Name, MediaType: u.MediaType, Modified: u.Modified, Size: u.Length}
}

// recordLength keeps a length that a request announces. All requests of an upload have to announce the same.
func (u *resumable) recordLength(n int64) error {
	if u.Length >= 0 && u.Length != n || n < u.Offset {
		return inconsistentLength()
	}
	u.Length = n
	return nil
}

func inconsistentLength() *problem {
	p := badRequest.because("the length is not the one announced before").with(httpfield.UploadComplete, "?0")
	p.Type, p.Title = httpfield.InconsistentLength, "inconsistent length values for upload"
	return p
}

// mismatchingOffset says where the upload is.
func (u *resumable) mismatchingOffset(provided int64) *problem {
	p := conflict.because("the upload goes on at %d", u.Offset).with(httpfield.UploadComplete, "?0").
		with(httpfield.UploadOffset, strconv.FormatInt(u.Offset, 10))
	p.Type, p.Title = httpfield.MismatchingOffset, "offset from request does not match offset of resource"
	p.Expected, p.Provided = &u.Offset, &provided
	return p
}

// announcedLength returns the length of the whole that a request announces, or sdk.SizeUnknown.
func announcedLength(r *http.Request, offset int64, complete bool) (int64, error) {
	length, ok := httpfield.Count(r.Header, httpfield.UploadLength)
	if !ok {
		length = sdk.SizeUnknown
	}
	if complete && r.ContentLength >= 0 {
		whole := offset + r.ContentLength
		if ok && length != whole {
			return 0, inconsistentLength()
		}
		length = whole
	}
	return length, nil
}

// offersResume reports whether parts of the flow may come in several requests.
func (in *ingest) offersResume() bool {
	o := in.handler.Resume
	return o.Uploads != nil && !in.route.operation.responds() && !in.stay.flow.Sealed && o.Sink(in.stay.flow.Local.Type)
}

// resumes reports whether the request begins a resumable upload, and if so whether it brings all of it. Whoever asks for less than a
// whole part has to get that, or a refusal.
func (in *ingest) resumes(up *upload) (complete, ok bool, err error) {
	complete, ok = httpfield.Complete(in.r.Header)
	if !ok {
		return false, false, nil
	}
	offered := in.offersResume() && httpfield.SpeaksDraft(in.r.Header)
	if !complete && !offered {
		return false, false, badRequest.because("the upload cannot come in several requests: that needs version %d of the draft, a sink "+
			"that can go on inside a part, and an ingest that is open", httpfield.Version)
	}
	small := complete && up.info.Size >= 0 && up.info.Size < in.handler.Resume.MinSize
	return complete, offered && !small, nil
}

// create begins a resumable upload with the request's content.
func (in *ingest) create(up *upload, complete bool) (*answer, error) {
	length, err := announcedLength(in.r, 0, complete)
	if err != nil {
		return nil, err
	}
	up.info.Size = length
	release, err := in.prepare(up, true)
	if err != nil {
		return nil, err
	}
	defer release()
	u := &resumable{
		Upload: flow.Upload{Key: in.route.key, Name: up.info.Name, ID: rand.Text()},
		uploadState: uploadState{Index: up.info.Index, MediaType: up.info.MediaType, Modified: up.info.Modified, Length: length,
			Want: up.want, Show: httpfield.Wanted(in.r.Header, httpfield.WantReprDigest)},
	}
	digester := in.digester(up)
	if slices.Contains(u.Show, sdk.SHA256) {
		digester = sdk.NewDigester(sdk.Algorithms()...)
	}
	u.Digest, up.want = digester.State(), nil
	if !complete {
		// What Content-Digest says is then about this request.
		if err := in.splitDigests(u, up); err != nil {
			return nil, err
		}
	}
	if err := in.handler.put(in.stay.ctx, u); err != nil {
		return nil, err
	}
	location := in.handler.uploadURL(u)
	limits := in.handler.limits(u.Expires)
	if err := in.interim(http.Header{"Location": {location}, httpfield.UploadLimit: {limits}}); err != nil {
		return nil, err
	}
	a, err := in.extend(u, up, complete)
	if err == nil && !complete {
		a.status, a.location = http.StatusCreated, location
		a.header.Set(httpfield.UploadLimit, limits)
	}
	return a, err
}

// splitDigests has Content-Digest checked with the request, and Repr-Digest with the whole.
func (in *ingest) splitDigests(u *resumable, up *upload) (err error) {
	if u.Want, err = announcedIn(in.r.Header, httpfield.ReprDigest); err != nil {
		return err
	}
	up.want, err = announcedIn(in.r.Header, httpfield.ContentDigest)
	return err
}

// onUpload does what is asked of an upload that has begun.
func (in *ingest) onUpload() (*answer, error) {
	if in.handler.Resume.Uploads == nil {
		return nil, noUpload()
	}
	release, err := in.handler.uploads.claim(in.stay.ctx, in.route, in.route.name, in.stopReading, true)
	if err != nil {
		return nil, err
	}
	defer release()
	u, err := in.handler.upload(in.stay.ctx, in.route)
	if err != nil {
		return nil, err
	}
	switch in.r.Method {
	case http.MethodDelete:
		return &answer{status: http.StatusNoContent}, in.handler.giveUp(in.stay.ctx, in.stay.flow, u)
	case http.MethodPatch:
		return in.patch(u)
	}
	a := &answer{status: http.StatusNoContent, header: u.header()}
	a.header.Set(httpfield.UploadLimit, in.handler.limits(u.Expires))
	if u.Length >= 0 {
		httpfield.SetCount(a.header, httpfield.UploadLength, u.Length)
	}
	return a, nil
}

func noUpload() *problem { return notFound.because("there is no such upload, or not any more") }

// header says how far the upload is.
func (u *resumable) header() http.Header {
	h := http.Header{}
	httpfield.SetCount(h, httpfield.UploadOffset, u.Offset)
	httpfield.SetComplete(h, u.Complete)
	return h
}

// patch appends the request's content to an upload.
func (in *ingest) patch(u *resumable) (*answer, error) {
	if mediaType, _, err := mime.ParseMediaType(in.r.Header.Get("Content-Type")); err != nil || mediaType != httpfield.PartialUpload {
		return nil, unsupported.because("what is appended has to be %s", httpfield.PartialUpload).with("Accept-Patch", httpfield.PartialUpload)
	}
	complete, hasComplete := httpfield.Complete(in.r.Header)
	offset, hasOffset := httpfield.Count(in.r.Header, httpfield.UploadOffset)
	if !hasComplete || !hasOffset {
		return nil, badRequest.because("%s and %s are needed", httpfield.UploadComplete, httpfield.UploadOffset)
	}
	if offset != u.Offset {
		return nil, u.mismatchingOffset(offset)
	}
	if u.Complete {
		return in.repeat(u)
	}
	if in.stay.flow.Sealed {
		return nil, conflict.because("the manifest has closed the data flow").with(httpfield.UploadComplete, "?0")
	}
	length, err := announcedLength(in.r, offset, complete)
	if err == nil && length >= 0 {
		err = u.recordLength(length)
	}
	if err == nil {
		err = in.checkSize(max(u.Length, 0))
	}
	if err != nil {
		return nil, err
	}
	up := &upload{info: u.part(), body: in, trailer: in.r.Trailer}
	if err := checkCoding(in.r.Header); err != nil {
		return nil, err
	}
	whole := u.Want
	if err := in.splitDigests(u, up); err != nil {
		return nil, err
	}
	if whole.Compare(u.Want) != nil {
		return nil, badRequest.because("%s contradicts what was announced before", httpfield.ReprDigest)
	}
	for a, sum := range whole {
		u.Want[a] = sum
	}
	return in.extend(u, up, complete)
}

// repeat gives the answer to an upload that is complete once more: the client may have lost it.
func (in *ingest) repeat(u *resumable) (*answer, error) {
	if n, err := in.Read(make([]byte, 1)); n > 0 || err != io.EOF {
		return nil, conflict.because("the upload is complete").with(httpfield.UploadComplete, "?0")
	}
	part, exists, err := in.handler.Flows.Part(in.stay.ctx, u.Key, u.Name)
	if err != nil {
		return nil, err
	}
	if !exists || part.Size != u.Offset {
		return nil, conflict.because("another part has taken the place of this one").with(httpfield.UploadComplete, "?1")
	}
	return in.finished(u, part), nil
}

// finished is the answer to an upload that is complete: what one request with all of it would have got.
func (in *ingest) finished(u *resumable, part flow.Part) *answer {
	a := in.answer(stored(part))
	a.header = http.Header{}
	httpfield.SetComplete(a.header, true)
	shown := sdk.Digests{}
	for _, algorithm := range u.Show {
		if sum := part.Digests[algorithm]; sum != nil {
			shown[algorithm] = sum
		}
	}
	if len(shown) > 0 {
		a.header.Set(httpfield.ReprDigest, httpfield.FormatDigests(shown))
	}
	return a
}

// interim sends an answer before the answer, if the client knows the draft. It keeps the header of the answer as it is.
func (in *ingest) interim(fields http.Header) error {
	if !in.r.ProtoAtLeast(1, 1) || !httpfield.SpeaksDraft(in.r.Header) {
		return nil
	}
	if err := in.startWriting(); err != nil {
		return err
	}
	defer in.pauseWriting()
	h := in.header()
	kept := h.Clone()
	clear(h)
	for name, values := range fields {
		h[name] = values
	}
	httpfield.SetCount(h, httpfield.UploadVersion, httpfield.Version)
	in.w.WriteHeader(httpfield.StatusResumptionSupported)
	clear(h)
	for name, values := range kept {
		h[name] = values
	}
	return nil
}

// limits is Upload-Limit for an upload that is kept until then.
func (h *Handler) limits(expires time.Time) string {
	l := httpfield.Limits{MinSize: h.Resume.MinSize, MaxSize: h.Limits.MaxPartSize, MaxAge: max(time.Until(expires), time.Second)}
	return l.String()
}

// options says what an ingest takes.
func (in *ingest) options() (*answer, error) {
	a := &answer{status: http.StatusNoContent, header: http.Header{"Allow": {allowed(in.route.operation)},
		httpfield.WantReprDigest: {httpfield.FormatWanted()}}}
	if in.offersResume() {
		a.header.Set(httpfield.UploadLimit, in.handler.limits(time.Now().Add(in.handler.Resume.Lifetime)))
	}
	return a, nil
}

// uploadURL is where an upload goes on: on whatever host the client has reached us by, to which alone it gives its token.
func (h *Handler) uploadURL(u *resumable) string {
	return h.path + flowPath(ingestElement, u.Key) + "/" + escapeName(u.Name) + "?" + uploadParameter + "=" + u.ID
}

// put stores an upload, which is then kept for its lifetime.
func (h *Handler) put(ctx context.Context, u *resumable) (err error) {
	u.Expires = time.Now().Add(h.Resume.Lifetime)
	if u.Content, err = json.Marshal(u.uploadState); err != nil {
		return err
	}
	return h.Resume.Uploads.PutUpload(ctx, u.Upload)
}

// upload returns the upload that a request is about.
func (h *Handler) upload(ctx context.Context, r route) (*resumable, error) {
	found, ok, err := h.Resume.Uploads.Upload(ctx, r.key, r.name)
	if err != nil {
		return nil, err
	}
	if !ok || found.ID != r.upload || time.Now().After(found.Expires) {
		return nil, noUpload()
	}
	u := &resumable{Upload: found}
	if err := json.Unmarshal(found.Content, &u.uploadState); err != nil {
		return nil, fmt.Errorf("upload of %q to flow %s: %w", r.name, r.key, err)
	}
	return u, nil
}

// forget removes an upload of that name: its place in the sink is about to be taken.
func (h *Handler) forget(ctx context.Context, key flow.Key, name string) error {
	if h.Resume.Uploads == nil {
		return nil
	}
	found, ok, err := h.Resume.Uploads.Upload(ctx, key, name)
	if err != nil || !ok {
		return err
	}
	return h.Resume.Uploads.DeleteUpload(ctx, found)
}
