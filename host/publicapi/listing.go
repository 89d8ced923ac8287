package publicapi

import (
	"bufio"
	"encoding/json"
	"mime/multipart"
	"net/http"
	"net/textproto"
	"strconv"
	"time"

	"github.com/towpath-dataplane/towpath/sdk"
)

// partsType is the media type of a list of parts.
const partsType = "application/vnd.towpath.parts+json"

// listedPart is a part in a list.
type listedPart struct {
	Name      string            `json:"name"`
	Size      *int64            `json:"size,omitempty"`
	MediaType string            `json:"mediaType"`
	Modified  *time.Time        `json:"modified,omitempty"`
	ETag      string            `json:"etag,omitempty"`
	Href      string            `json:"href"`
	Digests   map[string]string `json:"digests,omitempty"`
}

// list answers with the list of the flow's parts. It is sent as it is read, so its length is not known beforehand.
func (p *pull) list() error {
	rd, begin, err := p.source.open(p.stay.ctx, true, nil)
	if err != nil {
		return err
	}
	defer rd.close()
	p.header().Set("Content-Type", partsType)
	p.eager = true
	if p.r.Method == http.MethodHead {
		return p.begin(http.StatusOK)
	}
	if err := p.needsFraming(); err != nil {
		return err
	}
	if err := p.begin(http.StatusOK); err != nil {
		return err
	}
	return p.listParts(rd, begin)
}

func (p *pull) listParts(rd *reading, begin *sdk.PartBegin) error {
	w := bufio.NewWriterSize(p, 16<<10)
	before := `{"parts":[`
	for begin != nil {
		end, err := rd.end()
		if err != nil {
			return err
		}
		entry, err := p.entry(begin.PartInfo, end)
		if err != nil {
			return err
		}
		w.WriteString(before)
		if _, err := w.Write(entry); err != nil {
			return err
		}
		before = ",\n"
		if begin, err = rd.next(); err != nil {
			return err
		}
	}
	if before == ",\n" {
		before = ""
	}
	w.WriteString(before + "]}\n")
	return w.Flush()
}

func (p *pull) entry(info sdk.PartInfo, end *sdk.PartEnd) ([]byte, error) {
	if err := sdk.CheckName(info.Name); err != nil {
		return nil, err
	}
	entry := listedPart{
		Name: info.Name, MediaType: mediaType(info), ETag: entityTag(info.Validator), Digests: hexDigests(end.Digests),
		// Without "./" an id such as urn:x would be taken for a scheme.
		Href: "./" + p.route.last() + "/" + partElement + "/" + escapeName(info.Name),
	}
	if info.Size >= 0 && !info.Records {
		entry.Size = &info.Size
	}
	if !info.Modified.IsZero() {
		t := info.Modified.UTC()
		entry.Modified = &t
	}
	return json.Marshal(entry)
}

// hexDigests are digests as JSON has them, nil if there are none.
func hexDigests(d sdk.Digests) map[string]string {
	if len(d) == 0 {
		return nil
	}
	out := map[string]string{}
	for a := range d {
		out[string(a)] = d.Hex(a)
	}
	return out
}

// end returns the end of a listed part that has begun.
func (rd *reading) end() (*sdk.PartEnd, error) {
	f, err := rd.recv()
	if err != nil {
		return nil, err
	}
	end, ok := f.(*sdk.PartEnd)
	if !ok {
		return nil, misplaced(f)
	}
	return end, nil
}

// multipart answers with all parts, one behind the other.
func (p *pull) multipart() error {
	head := p.r.Method == http.MethodHead
	rd, begin, err := p.source.open(p.stay.ctx, head, nil)
	if err != nil {
		return err
	}
	defer rd.close()
	body := multipart.NewWriter(p)
	p.header().Set("Content-Type", "multipart/mixed; boundary="+body.Boundary())
	p.eager = true
	if err := p.needsFraming(); err != nil && !head {
		return err
	}
	if err := p.begin(http.StatusOK); err != nil || head {
		return err
	}
	for ; begin != nil; begin, err = rd.next() {
		if err := p.bodyPart(body, rd, begin); err != nil {
			return err
		}
	}
	if err != nil {
		return err
	}
	return body.Close()
}

// bodyPart sends the part that has begun as one of several.
func (p *pull) bodyPart(body *multipart.Writer, rd *reading, begin *sdk.PartBegin) error {
	h := http.Header{}
	setContentHeader(h.Set, begin.PartInfo)
	length := whole(begin.PartInfo).length
	if length >= 0 {
		h.Set("Content-Length", strconv.FormatInt(length, 10))
	}
	w, err := body.CreatePart(textproto.MIMEHeader(h))
	if err != nil {
		return err
	}
	part, err := p.copyPart(w, rd, begin, length, nil)
	if err == nil {
		err = p.flush()
	}
	if err != nil {
		return err
	}
	p.record(part)
	return nil
}
