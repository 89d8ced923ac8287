package publicapi

import (
	"context"
	"errors"
	"io"
	"iter"
	"math/rand/v2"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/towpath-dataplane/towpath/host/flow"
	"github.com/towpath-dataplane/towpath/sdk"
)

// noise is content of a length that differs for each seed and compares badly with itself.
func noise(n int, seed uint64) []byte {
	b := make([]byte, n)
	r := rand.New(rand.NewPCG(seed, 1))
	for i := range b {
		b[i] = byte(r.Uint32())
	}
	return b
}

func TestPullOnePart(t *testing.T) {
	w := newWorld(t, nil)
	content := noise(3<<20+17, 1)
	w.memory.Put("dir/data.bin", content)
	a := w.pull("f1")
	res := w.get(a, nil)
	res.wantBody(t, http.StatusOK, string(content))
	for name, want := range map[string]string{
		"Content-Type": "application/octet-stream", "Content-Length": "3145745", "Etag": `"1"`, "Accept-Ranges": "bytes",
		"Content-Disposition": `attachment; filename="dir/data.bin"`, "X-Content-Type-Options": "nosniff",
		"Cache-Control": "private, no-store",
	} {
		if got := res.Header.Get(name); got != want {
			t.Errorf("%s is %q, want %q", name, got, want)
		}
	}
	digest := sdk.NewDigester(sdk.CRC32C)
	digest.Write(content)
	want := []flow.Part{{Index: 0, Name: "dir/data.bin", Size: int64(len(content)), Digests: digest.Sum()}}
	got := w.flows.recorded(key("f1"))
	for i := range got {
		if got[i].Finished.IsZero() {
			t.Error("no time is recorded")
		}
		got[i].Finished = time.Time{}
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error("recorded:", diff)
	}
	if got := w.metric("towpath_public_bytes_total", map[string]string{"direction": "out"}); got != float64(len(content)) {
		t.Errorf("%v bytes counted", got)
	}
}

func TestPullSizes(t *testing.T) {
	w := newWorld(t, nil)
	for _, n := range []int{0, 1, 4095, 64 << 10, sdk.BufferSize, sdk.BufferSize + 1, 1 << 20} {
		w.memory.Put("data", noise(n, uint64(n)))
		w.get(w.pull("f"), nil).wantBody(t, http.StatusOK, string(noise(n, uint64(n))))
	}
}

func TestPullNamesAndTypes(t *testing.T) {
	w := newWorld(t, nil)
	for _, tc := range []struct {
		info            sdk.PartInfo
		disposition, as string
	}{
		{sdk.PartInfo{Name: "a b.txt", MediaType: "text/plain; charset=utf-8"}, `attachment; filename="a b.txt"`, "text/plain; charset=utf-8"},
		{sdk.PartInfo{Name: "über.txt", MediaType: "text/plain"}, "attachment; filename*=utf-8''%C3%BCber.txt", "text/plain"},
		{sdk.PartInfo{Name: `q".txt`, MediaType: ""}, `attachment; filename="q\".txt"`, "application/octet-stream"},
		{sdk.PartInfo{Name: "x", MediaType: "no\r\ntype"}, `attachment; filename=x`, "application/octet-stream"},
		{sdk.PartInfo{Name: "../etc", MediaType: "a/b"}, "", "a/b"},
	} {
		info := tc.info
		info.Size, info.TotalParts = 1, 1
		w.source = scripted(func(sdk.ReadOpen) ([]sdk.Frame, error) {
			return []sdk.Frame{&sdk.PartBegin{PartInfo: info}, buffered(t, "x"), &sdk.PartEnd{Size: 1}, &sdk.End{}}, io.EOF
		})
		res := w.get(w.pull("f"), nil)
		res.wantBody(t, http.StatusOK, "x")
		if got := res.Header.Get("Content-Disposition"); got != tc.disposition {
			t.Errorf("%q: Content-Disposition %q, want %q", info.Name, got, tc.disposition)
		}
		if got := res.Header.Get("Content-Type"); got != tc.as {
			t.Errorf("%q: Content-Type %q, want %q", info.MediaType, got, tc.as)
		}
	}
}

func TestRangesAndConditions(t *testing.T) {
	const content = "0123456789"
	modified := time.Date(2026, 1, 2, 3, 4, 5, 600, time.UTC)
	date := func(d time.Duration) string { return modified.Add(d).UTC().Format(http.TimeFormat) }
	w := newWorld(t, nil)
	w.source = sdk.NewDataSource(sdk.SourceType{AddressType: sdk.AddressType{Type: "Memory"},
		Source: oneFile{sdk.PartInfo{Name: "d", Size: 10, Modified: modified, Validator: "v1", TotalParts: 1}, content}})
	a := w.pull("f")
	for _, tc := range []struct {
		name         string
		header       map[string]string
		status       int
		body         string
		contentRange string
	}{
		{"first bytes", h("Range", "bytes=0-3"), 206, "0123", "bytes 0-3/10"},
		{"middle", h("Range", "bytes=4-4"), 206, "4", "bytes 4-4/10"},
		{"to the end", h("Range", "bytes=7-"), 206, "789", "bytes 7-9/10"},
		{"all of it", h("Range", "bytes=0-"), 206, content, "bytes 0-9/10"},
		{"beyond the end", h("Range", "bytes=8-99"), 206, "89", "bytes 8-9/10"},
		{"far beyond", h("Range", "bytes=8-99999999999999999999"), 206, "89", "bytes 8-9/10"},
		{"last bytes", h("Range", "bytes=-3"), 206, "789", "bytes 7-9/10"},
		{"more last bytes than there are", h("Range", "bytes=-30"), 206, content, "bytes 0-9/10"},
		{"behind the end", h("Range", "bytes=10-"), 416, "", "bytes */10"},
		{"far behind the end", h("Range", "bytes=99999999999999999999-"), 416, "", "bytes */10"},
		{"no last bytes", h("Range", "bytes=-0"), 416, "", "bytes */10"},
		{"several", h("Range", "bytes=0-1,4-5"), 200, content, ""},
		{"backwards", h("Range", "bytes=5-4"), 200, content, ""},
		{"another unit", h("Range", "lines=0-1"), 200, content, ""},
		{"nonsense", h("Range", "bytes=a-b"), 200, content, ""},
		{"signs", h("Range", "bytes=+1-2"), 200, content, ""},
		{"unit in capitals", h("Range", "Bytes=0-1"), 206, "01", "bytes 0-1/10"},

		{"if-range with our tag", h("Range", "bytes=0-1", "If-Range", `"v1"`), 206, "01", "bytes 0-1/10"},
		{"if-range with another", h("Range", "bytes=0-1", "If-Range", `"v0"`), 200, content, ""},
		{"if-range with a weak tag", h("Range", "bytes=0-1", "If-Range", `W/"v1"`), 200, content, ""},
		{"if-range with our date", h("Range", "bytes=0-1", "If-Range", date(0)), 206, "01", "bytes 0-1/10"},
		{"if-range with a later date", h("Range", "bytes=0-1", "If-Range", date(time.Second)), 200, content, ""},
		{"if-range spoils even a range behind the end", h("Range", "bytes=10-", "If-Range", `"v0"`), 200, content, ""},

		{"if-none-match with our tag", h("If-None-Match", `"v0", W/"v1"`), 304, "", ""},
		{"if-none-match with another", h("If-None-Match", `"v0"`), 200, content, ""},
		{"if-none-match with any", h("If-None-Match", `*`), 304, "", ""},
		{"if-none-match wins over if-modified-since", h("If-None-Match", `"v0"`, "If-Modified-Since", date(0)), 200, content, ""},
		{"if-modified-since then", h("If-Modified-Since", date(0)), 304, "", ""},
		{"if-modified-since before", h("If-Modified-Since", date(-time.Second)), 200, content, ""},
		{"if-modified-since nonsense", h("If-Modified-Since", "yesterday"), 200, content, ""},
		{"if-match with our tag", h("If-Match", `"v1"`), 200, content, ""},
		{"if-match with a weak tag", h("If-Match", `W/"v1"`), 412, "", ""},
		{"if-match with another", h("If-Match", `"v0"`, "Range", "bytes=0-1"), 412, "", ""},
		{"if-match with any", h("If-Match", `*`), 200, content, ""},
		{"if-unmodified-since then", h("If-Unmodified-Since", date(0)), 200, content, ""},
		{"if-unmodified-since before", h("If-Unmodified-Since", date(-time.Second)), 412, "", ""},
		{"not modified wins over a range", h("If-None-Match", `"v1"`, "Range", "bytes=0-1"), 304, "", ""},
	} {
		for _, path := range []string{"", "/parts/d"} {
			t.Run(tc.name+path, func(t *testing.T) {
				res := w.do(a, a.Endpoint+path, request{header: tc.header})
				if tc.status >= 400 {
					res.wantStatus(t, tc.status)
				} else {
					res.wantBody(t, tc.status, tc.body)
				}
				if got := res.Header.Get("Content-Range"); got != tc.contentRange {
					t.Errorf("Content-Range is %q, want %q", got, tc.contentRange)
				}
				if tc.status < 400 && res.Header.Get("Etag") != `"v1"` {
					t.Errorf("ETag is %q", res.Header.Get("Etag"))
				}
			})
		}
	}
}

// h makes header fields of names and values.
func h(fields ...string) map[string]string {
	m := map[string]string{}
	for i := 0; i < len(fields); i += 2 {
		m[fields[i]] = fields[i+1]
	}
	return m
}

func TestRangeOfEmptyPart(t *testing.T) {
	w := newWorld(t, nil)
	w.memory.Put("d", nil)
	a := w.pull("f")
	w.get(a, h("Range", "bytes=0-")).wantStatus(t, http.StatusRequestedRangeNotSatisfiable)
	w.get(a, h("Range", "bytes=-5")).wantBody(t, http.StatusOK, "")
	w.get(a, nil).wantBody(t, http.StatusOK, "")
}

func TestHeadHasTheHeaderOfGet(t *testing.T) {
	w := newWorld(t, nil)
	w.memory.Put("a", []byte("some content"))
	a := w.pull("f")
	same := func(url string, header map[string]string) {
		t.Helper()
		get, head := w.do(a, url, request{header: header}), w.do(a, url, request{method: http.MethodHead, header: header})
		if len(head.body) > 0 || head.StatusCode != get.StatusCode {
			t.Errorf("HEAD %s: %d with %d bytes, GET: %d", url, head.StatusCode, len(head.body), get.StatusCode)
		}
		get.Header.Del("Date")
		head.Header.Del("Date")
		for _, header := range []http.Header{get.Header, head.Header} { // the boundary is a new one each time
			if strings.HasPrefix(header.Get("Content-Type"), "multipart/") {
				header.Set("Content-Type", "multipart/mixed")
			}
		}
		if diff := cmp.Diff(get.Header, head.Header); diff != "" {
			t.Errorf("%s: GET to HEAD %s", url, diff)
		}
	}
	same(a.Endpoint, nil)
	same(a.Endpoint, h("If-None-Match", `"1"`))
	same(a.Endpoint+"/parts/a", nil)
	w.memory.Put("b", []byte("other content"))
	same(a.Endpoint, nil)
	same(a.Endpoint, h("Accept", "multipart/mixed"))
	same(a.Endpoint+"/parts/b", nil)
	res := w.do(a, a.Endpoint+"/parts/b", request{method: http.MethodHead, header: h("Range", "bytes=0-1")})
	if res.StatusCode != http.StatusOK || res.ContentLength != 13 {
		t.Errorf("HEAD with a range: %d, %d bytes", res.StatusCode, res.ContentLength)
	}
	w.do(a, a.Endpoint+"/parts/c", request{method: http.MethodHead}).wantStatus(t, http.StatusNotFound)
}

func TestPartNotThere(t *testing.T) {
	w := newWorld(t, nil)
	w.memory.Put("a", []byte("x"))
	a := w.pull("f")
	for _, name := range []string{"b", "..%2Fa", "%2e%2e/a", "", "a//b", "a%00", "a%FF", `a%5Cb`} {
		w.do(a, a.Endpoint+"/parts/"+name, request{}).wantStatus(t, http.StatusNotFound)
	}
}

func TestRecords(t *testing.T) {
	at := time.Date(2026, 1, 2, 3, 4, 5, 123456000, time.UTC)
	w := newWorld(t, nil)
	w.memory.PutRecords("r", []sdk.Record{
		{Key: []byte("k"), Value: []byte("v"), Time: at, Headers: map[string][]byte{"b": []byte("2"), "a": []byte("1")}}, {},
	})
	a := w.pull("f")
	res := w.get(a, nil)
	res.wantBody(t, http.StatusOK, `{"key":"aw==","value":"dg==","time":"2026-01-02T03:04:05.123456Z","headers":{"a":"MQ==","b":"Mg=="}}
{"value":""}
`)
	if got := res.Header.Get("Content-Type"); got != "application/x-ndjson" || res.Header.Get("Accept-Ranges") != "none" {
		t.Errorf("Content-Type %q", got)
	}
	w.get(a, h("Range", "bytes=0-3")).wantStatus(t, http.StatusOK)
	if got := w.flows.recorded(key("f")); len(got) != 1 || got[0].Records != 2 || got[0].Size != 2 {
		t.Errorf("recorded %+v", got)
	}
}

// oneFile is a source of one part that can begin nowhere but at its start.
type oneFile struct {
	info    sdk.PartInfo
	content string
}

func (f oneFile) Read(context.Context, sdk.ReadRequest) iter.Seq2[sdk.Part, error] {
	return func(yield func(sdk.Part, error) bool) {
		yield(sdk.Part{PartInfo: f.info, Open: func(_ context.Context, offset int64) (io.ReadCloser, error) {
			if offset > 0 {
				return nil, sdk.ErrFromStart
			}
			return io.NopCloser(strings.NewReader(f.content)), nil
		}}, nil)
	}
}

func TestUnknownNumberOfParts(t *testing.T) {
	info := sdk.PartInfo{Name: "d", Size: sdk.SizeUnknown}
	part := func(info sdk.PartInfo, content string) []sdk.Frame {
		return []sdk.Frame{&sdk.PartBegin{PartInfo: info}, buffered(t, content), &sdk.PartEnd{Size: int64(len(content))}}
	}
	second := info
	second.Name = "e"
	for _, tc := range []struct {
		name string
		list func() ([]sdk.Frame, error)
		two  bool
		want func(t *testing.T, r response)
	}{
		{"one", func() ([]sdk.Frame, error) {
			return []sdk.Frame{&sdk.PartBegin{PartInfo: info}, &sdk.PartEnd{}, &sdk.End{}}, io.EOF
		}, false, func(t *testing.T, r response) { r.wantBody(t, 200, "first") }},
		{"two", func() ([]sdk.Frame, error) {
			return []sdk.Frame{&sdk.PartBegin{PartInfo: info}, &sdk.PartEnd{}, &sdk.PartBegin{PartInfo: second}, &sdk.PartEnd{}, &sdk.End{}}, io.EOF
		}, true, func(t *testing.T, r response) {
			if r.Header.Get("Content-Type") != partsType || r.err != nil {
				t.Errorf("%s %v", r.Header, r.err)
			}
		}},
		{"one that cannot be listed", func() ([]sdk.Frame, error) {
			return nil, sdk.Errorf(sdk.Unsupported, "cannot list")
		}, false, func(t *testing.T, r response) { r.wantBody(t, 200, "first") }},
		{"two that cannot be listed", func() ([]sdk.Frame, error) {
			return nil, sdk.Errorf(sdk.Unsupported, "cannot list")
		}, true, func(t *testing.T, r response) {
			if r.err == nil {
				t.Error("half was given for whole")
			}
		}},
		{"list that fails", func() ([]sdk.Frame, error) {
			return nil, sdk.Errorf(sdk.Denied, "secret path")
		}, false, func(t *testing.T, r response) {
			r.wantStatus(t, http.StatusBadGateway)
			if strings.Contains(string(r.body), "secret") {
				t.Errorf("the body has internal text: %s", r.body)
			}
		}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			w := newWorld(t, nil)
			w.source = scripted(func(open sdk.ReadOpen) ([]sdk.Frame, error) {
				if open.List {
					return tc.list()
				}
				frames := part(info, "first")
				if tc.two {
					frames = append(frames, part(second, "second")...)
				}
				return append(frames, &sdk.End{}), io.EOF
			})
			tc.want(t, w.get(w.pull("f"), nil))
		})
	}
}

func TestSourceErrors(t *testing.T) {
	for _, tc := range []struct {
		err    error
		status int
		retry  string
	}{
		{sdk.Errorf(sdk.NotFound, "inside"), 404, ""},
		{sdk.Errorf(sdk.Denied, "inside"), 502, ""},
		{sdk.Errorf(sdk.Invalid, "inside"), 502, ""},
		{sdk.Errorf(sdk.Corrupt, "inside"), 502, ""},
		{sdk.Errorf(sdk.Internal, "inside"), 502, ""},
		{sdk.Errorf(sdk.Unavailable, "inside"), 502, ""},
		{&sdk.Error{Code: sdk.Unavailable, Message: "inside", Retryable: true, RetryAfter: 1500 * time.Millisecond}, 503, "2"},
		{sdk.Retryf(sdk.Unavailable, "inside"), 503, "1"},
		{sdk.Errorf(sdk.Exhausted, "inside"), 503, "1"},
		{errors.New("inside"), 502, ""},
	} {
		for _, method := range []string{http.MethodGet, http.MethodHead} {
			w := newWorld(t, nil)
			w.source = scripted(func(sdk.ReadOpen) ([]sdk.Frame, error) { return nil, tc.err })
			a := w.pull("f")
			res := w.do(a, a.Endpoint, request{method: method})
			res.wantStatus(t, tc.status)
			if got := res.Header.Get("Retry-After"); got != tc.retry {
				t.Errorf("%v: Retry-After %q, want %q", tc.err, got, tc.retry)
			}
			if strings.Contains(string(res.body), "inside") {
				t.Errorf("the body has internal text: %s", res.body)
			}
			if n := strings.Count(w.log.String(), "inside"); tc.status >= 500 && n != 1 {
				t.Errorf("logged %d times: %s", n, w.log)
			}
		}
	}
}

func TestNoPlugin(t *testing.T) {
	w := newWorld(t, nil)
	a := w.add(flow.Flow{Key: key("f"), Role: flow.Provider, Direction: flow.Pull, Local: sdk.DataAddress{Type: "Other"}})
	w.get(a, nil).wantStatus(t, http.StatusBadGateway)
	b := w.add(flow.Flow{Key: key("g"), Role: flow.Consumer, Direction: flow.Push, Local: sdk.DataAddress{Type: "Other"}})
	w.put(b, "a", "x", nil).wantStatus(t, http.StatusBadGateway)
}

func TestPartThatChanges(t *testing.T) {
	w := newWorld(t, nil)
	info := sdk.PartInfo{Name: "d", Size: 10, Validator: "1", TotalParts: 1}
	w.source = scripted(func(open sdk.ReadOpen) ([]sdk.Frame, error) {
		if open.List {
			return []sdk.Frame{&sdk.PartBegin{PartInfo: info}, &sdk.PartEnd{}, &sdk.End{}}, io.EOF
		}
		later := info
		later.Validator = "2"
		return []sdk.Frame{&sdk.PartBegin{PartInfo: later}, buffered(t, "0123456789"), &sdk.PartEnd{Size: 10}, &sdk.End{}}, io.EOF
	})
	res := w.get(w.pull("f"), h("Range", "bytes=2-"))
	res.wantStatus(t, http.StatusServiceUnavailable)
	if res.Header.Get("Retry-After") == "" || res.Header.Get("Etag") != "" {
		t.Errorf("header %v", res.Header)
	}
}

func TestSourceThatIgnoresRanges(t *testing.T) {
	w := newWorld(t, nil)
	info := sdk.PartInfo{Name: "d", Size: 10, Validator: "1", TotalParts: 1}
	w.source = scripted(func(open sdk.ReadOpen) ([]sdk.Frame, error) {
		if open.List {
			return []sdk.Frame{&sdk.PartBegin{PartInfo: info}, &sdk.PartEnd{}, &sdk.End{}}, io.EOF
		}
		return []sdk.Frame{&sdk.PartBegin{PartInfo: info}, buffered(t, "0123456789"), &sdk.PartEnd{Size: 10}, &sdk.End{}}, io.EOF
	})
	w.get(w.pull("f"), h("Range", "bytes=2-")).wantBody(t, http.StatusOK, "0123456789")
}

func TestContextInPath(t *testing.T) {
	w := newWorld(t, nil)
	w.memory.Put("d", []byte("x"))
	k := flow.Key{Context: "tenant/1", ID: "f"}
	a := w.add(flow.Flow{Key: k, Role: flow.Provider, Direction: flow.Pull})
	u, err := url.Parse(a.Endpoint)
	if err != nil || u.EscapedPath() != "/contexts/tenant%2F1/flows/f" {
		t.Fatalf("endpoint %s, %v", a.Endpoint, err)
	}
	w.get(a, nil).wantBody(t, http.StatusOK, "x")
	b := w.pull("f")
	w.do(b, a.Endpoint, request{}).wantStatus(t, http.StatusForbidden)
}
