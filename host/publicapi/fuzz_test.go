package publicapi

import (
	"encoding/json"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/towpath-dataplane/towpath/host/flow"
	"github.com/towpath-dataplane/towpath/sdk"
)

func FuzzRange(f *testing.F) {
	for _, s := range []string{"bytes=0-1", "bytes=-1", "bytes=5-", "bytes=0-1,2-3", "lines=1-2", "bytes=99999999999999999999-", "bytes= 1 - 2", "bytes=--1"} {
		f.Add(s, int64(10))
	}
	f.Fuzz(func(t *testing.T, field string, size int64) {
		if size < 0 {
			return
		}
		r, ok, err := parseRange(field, size)
		if err == nil && ok && (r.offset < 0 || r.length < 1 || r.offset > size-r.length) {
			t.Errorf("%q of %d bytes: %+v", field, size, r)
		}
		if err != nil && !ok {
			t.Errorf("%q is to be ignored and refused: %v", field, err)
		}
	})
}

func FuzzManifest(f *testing.F) {
	for _, s := range []string{
		`{"parts":[{"index":0,"name":"a","size":1,"digests":{"crc32c":"00"}}],"bytes":1}`, `{"parts":[]}`, `{"parts":[{}]}`,
		`{"parts":[{"name":"a","name":"b"}]}`, `[[[[[[[[[[`, `{"parts":null}`, `{"parts":[null]}`,
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		m, err := parseManifest(body)
		if err != nil {
			if p, ok := err.(*problem); !ok || p.Status != http.StatusBadRequest && p.Status != http.StatusUnprocessableEntity {
				t.Fatalf("%v is no answer", err)
			}
			return
		}
		if !json.Valid(body) {
			t.Errorf("%q was taken", body)
		}
		total := int64(0)
		var parts []flow.Part
		for name, p := range m.parts {
			if sdk.CheckName(name) != nil || p.size < 0 {
				t.Errorf("part %q of %d bytes was taken", name, p.size)
			}
			total += p.size
			parts = append(parts, flow.Part{Name: name, Size: p.size, Digests: p.digests})
		}
		if total != m.bytes {
			t.Errorf("%d bytes, counted %d", total, m.bytes)
		}
		// Digests that this SDK does not know are the only ones that cannot be compared.
		for _, d := range m.compare(parts) {
			if d.Problem[:len("has no digest")] != "has no digest" {
				t.Errorf("a manifest differs from itself: %+v", d)
			}
		}
	})
}

func FuzzDispositionName(f *testing.F) {
	for _, s := range []string{`attachment; filename="a/b"`, `attachment; filename*=UTF-8''%C3%BC`, `form-data; name=x`, `attachment; filename="../../x"`,
		`attachment; filename*0="a"; filename*1="b"`, `inline`, `;`} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, field string) {
		name, err := dispositionName(field)
		if err != nil || sdk.CheckName(name) != nil {
			return
		}
		// What we would take, we can give away again.
		h := http.Header{}
		setContentHeader(h.Set, sdk.PartInfo{Name: name})
		back, err := dispositionName(h.Get("Content-Disposition"))
		if err != nil || back != name {
			t.Errorf("%q came back as %q from %q: %v", name, back, h.Get("Content-Disposition"), err)
		}
	})
}

func FuzzRoute(f *testing.F) {
	for _, s := range []string{"/flows/f", "/flows/a%2Fb/parts/c/d", "/contexts/c/ingest/f", "/manifests/f", "/responses/f", "/responses/f/a", keysPath, "/flows/%zz", "//", "/contexts/contexts/flows/flows"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, path string) {
		r, ok := parseRoute(path)
		if !ok || r.operation == publishKeys {
			return
		}
		if r.key.Context == "" || r.key.ID == "" {
			t.Errorf("%q leads to %+v", path, r)
		}
		first := map[operation]string{pullFlow: flowElement, ingestFlow: ingestElement, seal: sealElement, respondFlow: responseElement}[r.operation]
		if first == "" {
			return
		}
		if back, ok := parseRoute(flowPath(first, r.key)); !ok || back != r {
			t.Errorf("%q leads to %+v, written again to %+v", path, r, back)
		}
	})
}

func FuzzDigestField(f *testing.F) {
	f.Add("sha-256=:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=:, crc32c=:AAAAAA==:")
	f.Add("md5=::;x, ,")
	f.Fuzz(func(t *testing.T, field string) {
		d, err := announcedIn(http.Header{"Repr-Digest": {field}}, "Repr-Digest")
		if err != nil {
			return
		}
		for a, sum := range d {
			if want := map[sdk.Algorithm]int{sdk.CRC32C: 4, sdk.SHA256: 32}[a]; len(sum) != want {
				t.Errorf("%s has %d bytes", a, len(sum))
			}
		}
	})
}

func FuzzConditions(f *testing.F) {
	f.Add(`"a", W/"b"`, `"a"`)
	f.Add(`*`, `W/"`)
	f.Fuzz(func(t *testing.T, match, ifRange string) {
		v := validators{etag: entityTag("a"), modified: time.Unix(1000, 0)}
		h := http.Header{"If-None-Match": {match}, "If-Range": {ifRange}}
		v.status(h)
		v.rangeApplies(h, time.Unix(2000, 0))
	})
}

func TestEntityTag(t *testing.T) {
	for validator, want := range map[string]string{"": "", "1": `"1"`, `abc/+=!`: `"abc/+=!"`} {
		if got := entityTag(validator); got != want {
			t.Errorf("%q: %s, want %s", validator, got, want)
		}
	}
	if got := entityTag(`"quoted"`); len(got) != len(`"sha256-"`)+64 {
		t.Errorf("quoted: %s", got)
	}
	if entityTag("a b") == entityTag("a  b") || entityTag("ä") == entityTag("ö") {
		t.Error("different validators have one tag")
	}
}

func TestEscapeName(t *testing.T) {
	for _, name := range []string{"a", "a/b c", "ü/#?%", "a:b", "%2F"} {
		u, err := url.Parse("http://x/flows/f/parts/" + escapeName(name))
		if err != nil {
			t.Fatal(err)
		}
		if r, ok := parseRoute(u.EscapedPath()); !ok || r.name != name {
			t.Errorf("%q came back as %q", name, r.name)
		}
	}
}

// FuzzIngest sends bodies of any media type. Whatever they are, it is no fault of ours, and what is said to be stored is.
func FuzzIngest(f *testing.F) {
	const two = "--b\r\nContent-Disposition: attachment; filename=\"a\"\r\nContent-Length: 1\r\n\r\nx\r\n" +
		"--b\r\nContent-Disposition: form-data; name=\"c\"\r\nLast-Modified: Wed, 04 Mar 2026 05:06:07 GMT\r\n\r\nyz\r\n--b--\r\n"
	f.Add("multipart/mixed; boundary=b", "", "", two)
	f.Add("multipart/form-data; boundary=b", "", "", two[:len(two)-8])
	f.Add("multipart/mixed", "attachment; filename=x", "", "--\r\n\r\n--")
	f.Add("text/csv; charset=utf-8", `attachment; filename*=UTF-8''%e2%82%ac`, "sha-256=:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=:", "a,b")
	f.Add("a/b; c", "x", "crc32c=:AAAAAA==:", "")
	whole := newWorld(f, nil)
	flows := 0
	f.Fuzz(func(t *testing.T, mediaType, disposition, digest, body string) {
		w := *whole
		w.t = t
		flows++
		id := strconv.Itoa(flows)
		a := w.add(flow.Flow{Key: key(id), Role: flow.Consumer, Direction: flow.Push, Local: w.memory.Address(id)})
		r, err := http.NewRequest(http.MethodPost, a.Endpoint, strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		for name, value := range map[string]string{"Authorization": "Bearer " + a.Get("authorization"), "Content-Type": mediaType,
			"Content-Disposition": disposition, "Content-Digest": digest} {
			if value != "" {
				r.Header.Set(name, value)
			}
		}
		res, err := w.client.Do(r)
		if err != nil {
			return // no client sends such a field
		}
		defer res.Body.Close()
		text, err := io.ReadAll(res.Body)
		if err != nil {
			t.Fatal(err)
		}
		var said struct {
			storedPart
			Parts, Stored []storedPart
		}
		if err := json.Unmarshal(text, &said); err != nil || res.StatusCode >= 500 {
			t.Fatalf("%d %s: %v\n%s", res.StatusCode, text, err, w.log)
		}
		parts := append(said.Parts, said.Stored...)
		if res.StatusCode < 300 && said.Name != "" {
			parts = append(parts, said.storedPart)
		}
		if res.StatusCode < 300 && len(parts) == 0 {
			t.Errorf("%d, and no part: %s", res.StatusCode, text)
		}
		for _, p := range parts {
			if stored, ok, err := w.flows.Part(t.Context(), key(id), p.Name); err != nil || !ok || stored.Size != p.Size {
				t.Errorf("%+v is said to be stored, and %+v is: %v", p, stored, err)
			}
		}
	})
}

// FuzzUpload reads what header fields say of a part.
func FuzzUpload(f *testing.F) {
	f.Add("text/plain", "attachment; filename=a/b", "Wed, 04 Mar 2026 05:06:07 GMT", "identity", "")
	f.Add("text/", "inline", "yesterday", "gzip", "bytes 0-1/2")
	f.Fuzz(func(t *testing.T, mediaType, disposition, modified, coding, contentRange string) {
		up, err := newUpload(http.Header{"Content-Type": {mediaType}, "Content-Disposition": {disposition}, "Last-Modified": {modified},
			"Content-Encoding": {coding}, "Content-Range": {contentRange}}, 1)
		if err != nil {
			if p := problemOf(err); p.Status/100 != 4 || p.Title == "" {
				t.Errorf("%d %v", p.Status, err)
			}
			return
		}
		if up.info.MediaType != mediaType || contentRange != "" || !up.info.Modified.IsZero() && modified == "" {
			t.Errorf("%+v", up.info)
		}
	})
}

func FuzzAccept(f *testing.F) {
	f.Add("multipart/mixed;q=0.5, */*")
	f.Add("multipart/mixed; q=0")
	f.Add(",;=")
	f.Fuzz(func(t *testing.T, field string) {
		if acceptsMultipart(http.Header{"Accept": {field}}) && !strings.Contains(strings.ToLower(field), "multipart/mixed") {
			t.Errorf("%q is no wish for several parts", field)
		}
	})
}
