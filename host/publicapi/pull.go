package publicapi

import (
	"bytes"
	"context"
	"io"
	"mime"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/towpath-dataplane/towpath/host/flow"
	"github.com/towpath-dataplane/towpath/sdk"
	"github.com/towpath-dataplane/towpath/sdk/httpfield"
)

// recordTimeout bounds the storing of what a counterparty has read or sent, which goes on when it hangs up.
const recordTimeout = 10 * time.Second

// pull is one GET or HEAD.
type pull struct {
	*exchange
	handler *Handler
	stay    *stay
	source  source
	trails  bool // the answer's digest comes behind it
}

// pull answers with a part, with several, or with their list.
func (h *Handler) pull(x *exchange, s *stay) error {
	data, err := h.Source(s.flow.Local.Type)
	if err != nil {
		return sourceProblem(err)
	}
	p := &pull{exchange: x, handler: h, stay: s,
		source: source{data: data, stay: s, algorithms: h.algorithms, patience: h.Limits.IdleTimeout, replaced: h.Replaced}}
	if x.route.operation == pullFlow && acceptsMultipart(x.r.Header) {
		return p.multipart()
	}
	return p.onePart()
}

// acceptsMultipart reports whether Accept names multipart/mixed. A wildcard is no wish for it.
func acceptsMultipart(h http.Header) bool {
	for _, field := range h.Values("Accept") {
		for item := range strings.SplitSeq(field, ",") {
			mediaType, params, err := mime.ParseMediaType(strings.TrimSpace(item))
			if err != nil || mediaType != "multipart/mixed" {
				continue
			}
			if q, err := strconv.ParseFloat(params["q"], 64); err != nil || q > 0 {
				return true
			}
		}
	}
	return false
}

// onePart answers with the part that the path names, or the only one of the flow. If there are several, it answers with their list.
func (p *pull) onePart() error {
	named, err := p.named()
	if err != nil {
		return err
	}
	// What HEAD and ranges need to know is in the list: the data is opened when it is clear what of it is wanted.
	list := p.r.Method == http.MethodHead || p.r.Header.Get("Range") != ""
	rd, begin, err := p.source.open(p.stay.ctx, list, named)
	if err != nil {
		return err
	}
	defer rd.close()
	switch several, err := p.several(named, begin); {
	case err != nil:
		return err
	case several:
		rd.close()
		return p.list()
	}
	do := planFor(p.r, begin.PartInfo, time.Now())
	if !list || !do.sends(p.r.Method) {
		return p.send(rd, begin, do)
	}
	rd.close()
	return p.sendListed(begin.PartInfo, do)
}

// named selects the part that the path names, nil if it names none.
func (p *pull) named() (*sdk.Selection, error) {
	if p.route.operation != pullPart {
		return nil, nil
	}
	if sdk.CheckName(p.route.name) != nil {
		return nil, notFound.because("no part can have this name")
	}
	return &sdk.Selection{Name: p.route.name, Length: -1}, nil
}

// several reports whether the answer is a list of parts, rather than the one that has begun.
func (p *pull) several(named *sdk.Selection, begin *sdk.PartBegin) (bool, error) {
	switch {
	case named == nil:
		return p.source.several(p.stay.ctx, begin)
	case begin == nil:
		return false, notFound.because("there is no part with this name")
	}
	return false, nil
}

// sendListed opens what is to be sent of a part that is known from the list, and sends it.
func (p *pull) sendListed(listed sdk.PartInfo, do plan) error {
	rd, begin, err := p.reopen(listed, do)
	if err != nil {
		return err
	}
	defer rd.close()
	if begin.Offset != do.offset {
		do = whole(begin.PartInfo)
	}
	return p.send(rd, begin, do)
}

// reopen opens the piece of the part that the plan is about. A source that does not heed the piece gives the part from its start.
func (p *pull) reopen(listed sdk.PartInfo, do plan) (*reading, *sdk.PartBegin, error) {
	rd, begin, err := p.source.open(p.stay.ctx, false, &sdk.Selection{
		Name: listed.Name, Offset: do.offset, Length: do.selected(), Validator: listed.Validator,
	})
	if err != nil {
		return nil, nil, err
	}
	if begin == nil || changed(listed, begin.PartInfo) || begin.Offset != do.offset && begin.Offset != 0 {
		rd.close()
		return nil, nil, unavailable.because("the part changed while it was opened").retryAfter(time.Second)
	}
	return rd, begin, nil
}

func changed(a, b sdk.PartInfo) bool {
	return a.Size != b.Size || a.Validator != b.Validator || !a.Modified.Equal(b.Modified)
}

// plan is how a request for a part is answered.
type plan struct {
	status int
	// offset and length of what is sent. length is sdk.SizeUnknown if it is not known.
	offset, length int64
}

func whole(info sdk.PartInfo) plan {
	p := plan{status: http.StatusOK, length: info.Size}
	if info.Records || info.Size < 0 {
		p.length = sdk.SizeUnknown
	}
	return p
}

// selected is the Length of the sdk.Selection for the plan.
func (p plan) selected() int64 {
	if p.status == http.StatusPartialContent {
		return p.length
	}
	return -1
}

// sends reports whether the plan needs the part's data.
func (p plan) sends(method string) bool {
	return method != http.MethodHead && (p.status == http.StatusOK || p.status == http.StatusPartialContent)
}

// isConditional reports whether a request is for more, or less, than the part as it is.
func isConditional(h http.Header) bool {
	for _, name := range [...]string{"Range", "If-Match", "If-None-Match", "If-Modified-Since", "If-Unmodified-Since"} {
		if len(h[name]) > 0 {
			return true
		}
	}
	return false
}

// planFor evaluates the conditions and the range of a request for a part.
func planFor(r *http.Request, info sdk.PartInfo, now time.Time) plan {
	if !isConditional(r.Header) {
		return whole(info)
	}
	v := validators{etag: entityTag(info.Validator), modified: info.Modified}
	if status := v.status(r.Header); status != 0 {
		return plan{status: status}
	}
	p := whole(info)
	ranges := r.Header.Values("Range")
	if r.Method != http.MethodGet || len(ranges) != 1 || p.length < 0 || !v.rangeApplies(r.Header, now) {
		return p
	}
	piece, ok, err := parseRange(ranges[0], info.Size)
	switch {
	case err != nil:
		return plan{status: http.StatusRequestedRangeNotSatisfiable}
	case ok:
		return plan{status: http.StatusPartialContent, offset: piece.offset, length: piece.length}
	}
	return p
}

// send answers with the part that has begun, by the plan.
func (p *pull) send(rd *reading, begin *sdk.PartBegin, do plan) error {
	p.describe(begin.PartInfo)
	switch do.status {
	case http.StatusPreconditionFailed:
		return conditionFails.because("the part is not the one that the request is about")
	case http.StatusRequestedRangeNotSatisfiable:
		return outOfRange.because("the part has %d bytes", begin.Size).
			with("Content-Range", "bytes */"+strconv.FormatInt(begin.Size, 10))
	case http.StatusNotModified:
		return p.begin(do.status)
	}
	digested := do.status == http.StatusOK && do.sends(p.r.Method) && !begin.PartInfo.Records &&
		len(httpfield.Wanted(p.r.Header, httpfield.WantReprDigest)) > 0
	if digested && do.length >= 0 && do.length <= maxDigested {
		return p.sendDigested(rd, begin, do)
	}
	p.trails = digested && (do.length < 0 || p.r.ProtoMajor >= 2 || takesTrailers(p.r.Header))
	if err := p.announce(begin.PartInfo, do); err != nil {
		return err
	}
	if err := p.begin(do.status); err != nil || !do.sends(p.r.Method) {
		return err
	}
	return p.body(rd, begin, do)
}

// maxDigested is the most bytes that are held back until their digest is known.
const maxDigested = 64 << 10

// sendDigested answers with a small part, behind its digest.
func (p *pull) sendDigested(rd *reading, begin *sdk.PartBegin, do plan) error {
	var content bytes.Buffer
	part, err := p.copyPart(&content, rd, begin, do.length, rd.nothingElse)
	if err != nil {
		return sourceProblem(err)
	}
	rd.close()
	p.header().Set(httpfield.ReprDigest, httpfield.FormatDigests(part.Digests))
	if err := p.announce(begin.PartInfo, do); err != nil {
		return err
	}
	if err := p.begin(do.status); err != nil {
		return err
	}
	if _, err := content.WriteTo(p); err != nil {
		return err
	}
	if err := p.flush(); err != nil {
		return err
	}
	p.record(part)
	return nil
}

// takesTrailers reports whether a client of HTTP/1.1 wants what stands behind an answer, for which it does without the length before it.
func takesTrailers(h http.Header) bool {
	for _, field := range h.Values("Te") {
		for item := range strings.SplitSeq(field, ",") {
			if strings.EqualFold(strings.TrimSpace(item), "trailers") {
				return true
			}
		}
	}
	return false
}

// describe sets the header fields that tell one version of a part from another.
func (p *pull) describe(info sdk.PartInfo) {
	if tag := entityTag(info.Validator); tag != "" {
		p.set("Etag", tag)
	}
	if !info.Modified.IsZero() {
		p.set("Last-Modified", info.Modified.UTC().Format(http.TimeFormat))
	}
}

// announce sets the header fields of the part's content, or refuses what cannot be sent.
func (p *pull) announce(info sdk.PartInfo, do plan) error {
	setContentHeader(p.set, info)
	if p.trails {
		p.set("Trailer", httpfield.ReprDigest)
	}
	if do.length < 0 {
		p.eager = true
		p.set("Accept-Ranges", "none")
		return p.needsFraming()
	}
	p.set("Accept-Ranges", "bytes")
	if !p.trails || p.r.ProtoMajor >= 2 {
		p.set("Content-Length", strconv.FormatInt(do.length, 10))
	}
	if do.status == http.StatusPartialContent {
		p.set("Content-Range", byteRange{do.offset, do.length}.contentRange(info.Size))
	}
	if !do.sends(p.r.Method) {
		return nil
	}
	return p.allowance.check(do.length)
}

// needsFraming refuses an answer of unknown length to a client that could not tell its end from a broken connection.
func (p *pull) needsFraming() error {
	if !p.r.ProtoAtLeast(1, 1) {
		return oldHTTP.because("the length of the answer is not known beforehand")
	}
	return nil
}

// setContentHeader sets the header fields that say what a part's content is.
func setContentHeader(set func(name, value string), info sdk.PartInfo) {
	set("Content-Type", mediaType(info))
	if sdk.CheckName(info.Name) != nil {
		return
	}
	if isToken(info.Name) {
		set("Content-Disposition", "attachment; filename="+info.Name)
	} else if d := mime.FormatMediaType("attachment", map[string]string{"filename": info.Name}); d != "" {
		set("Content-Disposition", d)
	}
}

// isToken reports whether a name is one that needs no quotes, of the usual letters.
func isToken(name string) bool {
	for i := range len(name) {
		switch c := name[i]; {
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9', c == '-', c == '_', c == '.':
		default:
			return false
		}
	}
	return name != ""
}

func mediaType(info sdk.PartInfo) string {
	if info.Records {
		return "application/x-ndjson"
	}
	const unknown = "application/octet-stream"
	if info.MediaType == unknown {
		return unknown
	}
	if _, _, err := mime.ParseMediaType(info.MediaType); err != nil {
		return unknown
	}
	return info.MediaType
}

// body sends the content of the part that has begun, and has it recorded if it was sent whole.
func (p *pull) body(rd *reading, begin *sdk.PartBegin, do plan) error {
	if do.status == http.StatusPartialContent {
		c := copying{w: p, length: do.length, last: rd.nothingElse}
		return c.from(rd)
	}
	part, err := p.copyPart(p, rd, begin, do.length, rd.nothingElse)
	if err == nil && p.trails {
		p.header().Set(httpfield.ReprDigest, httpfield.FormatDigests(part.Digests))
	}
	if err == nil {
		err = p.flush()
	}
	if err != nil {
		return err
	}
	p.record(part)
	return nil
}

// copyPart writes the whole part that has begun, and returns what is to be stored about it.
func (p *pull) copyPart(w io.Writer, rd *reading, begin *sdk.PartBegin, length int64, last func() error) (flow.Part, error) {
	part := flow.Part{Index: begin.Index, Name: begin.Name}
	if begin.PartInfo.Records {
		end, err := copyRecords(w, rd, p.wait, last)
		if err == nil {
			part.Size, part.Records, part.Digests = end.Size, end.Records, end.Digests
		}
		return part, err
	}
	c := copying{w: w, length: length, digest: sdk.NewDigester(p.source.algorithms...), last: last}
	err := c.from(rd)
	part.Size, part.Digests = c.digest.Size(), c.sum
	return part, err
}

// record stores that the counterparty has read a part. It has it, whatever becomes of the record: a failure is logged.
func (p *pull) record(part flow.Part) {
	part.Finished = time.Now().UTC()
	if p.stay.read != nil {
		p.stay.read(part)
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(p.stay.ctx), recordTimeout)
	defer cancel()
	p.stay.waitsForHost()
	if err := p.handler.Flows.Record(ctx, p.route.key, part); err != nil {
		p.handler.Logger.ErrorContext(ctx, "part that was read is not recorded",
			"flow", p.route.key.String(), "part", part.Name, "err", err)
	}
}
