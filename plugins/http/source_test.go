package main

import (
	"errors"
	"io"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/towpath-dataplane/towpath/sdk"
)

// file answers like a static server, with ranges, an ETag and a date, and counts requests.
type file struct {
	content  string
	etag     string
	modified time.Time
	methods  []string
}

func (f *file) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	f.methods = append(f.methods, req.Method+" "+req.Header.Get("Range"))
	if f.etag != "" {
		w.Header().Set("ETag", f.etag)
	}
	w.Header().Set("Content-Type", "text/csv")
	http.ServeContent(w, req, "", f.modified, strings.NewReader(f.content))
}

func (f *file) checkMethods(t *testing.T, want ...string) {
	t.Helper()
	if diff := cmp.Diff(want, f.methods); diff != "" {
		t.Errorf("requests (-want +got):\n%s", diff)
	}
}

func TestPartOfAFile(t *testing.T) {
	f := &file{content: "a;b\n", etag: `"v1"`, modified: time.Date(2024, 5, 6, 7, 8, 9, 0, time.UTC)}
	server := newServer(t, f.ServeHTTP)
	got := read(t, newTestPlugin(t, loopback()), edc(server.URL+"/x/table.csv?token=1"))
	want := readPart{sdk.PartInfo{Name: "table.csv", MediaType: "text/csv", Size: 4, Modified: f.modified, Validator: `"v1"`, TotalParts: 1}, "a;b\n"}
	if diff := cmp.Diff(want, got, cmp.AllowUnexported(readPart{})); diff != "" {
		t.Errorf("part (-want +got):\n%s", diff)
	}
	f.checkMethods(t, "GET ")
}

func TestValidators(t *testing.T) {
	old := time.Now().Add(-time.Hour).UTC().Truncate(time.Second)
	for _, tt := range []struct {
		name     string
		etag     string
		modified time.Time
		want     string
		ifRange  string
	}{
		{"strong", `"v1"`, old, `"v1"`, `"v1"`},
		{"weak", `W/"v1"`, old, "", ""},
		{"malformed", `v1`, old, "", ""},
		{"empty", `""`, old, "", ""},
		{"quote inside", `"a"b"`, old, "", ""},
		{"date", "", old, "modified-" + itoa(old.Unix()), old.Format(http.TimeFormat)},
		{"date of this moment", "", time.Now(), "", ""},
		{"none", "", time.Time{}, "", ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			h := http.Header{"Date": {time.Now().UTC().Format(http.TimeFormat)}}
			if tt.etag != "" {
				h.Set("ETag", tt.etag)
			}
			if !tt.modified.IsZero() {
				h.Set("Last-Modified", tt.modified.UTC().Format(http.TimeFormat))
			}
			validator, ifRange := validatorOf(h)
			if validator != tt.want || ifRange != tt.ifRange {
				t.Errorf("%q, %q; want %q, %q", validator, ifRange, tt.want, tt.ifRange)
			}
		})
	}
}

func itoa(n int64) string { return strconv.FormatInt(n, 10) }

// onePart returns the part behind an address while its sequence is open, and calls use with it.
func onePart(t *testing.T, p sdk.Plugin, a sdk.DataAddress, use func(sdk.Part)) {
	t.Helper()
	for part, err := range p.Sources[0].Source.Read(t.Context(), sdk.ReadRequest{Address: a}) {
		if err != nil {
			t.Fatal(err)
		}
		use(part)
	}
}

func TestOpenAtOffsets(t *testing.T) {
	for _, tt := range []struct {
		name   string
		etag   string
		date   time.Time
		offset int64
		want   string
		err    error
		asked  []string
	}{
		{"start", `"v1"`, time.Time{}, 0, "0123456789", nil, []string{"GET "}},
		{"middle", `"v1"`, time.Time{}, 4, "456789", nil, []string{"GET ", "GET bytes=4-"}},
		{"last byte", `"v1"`, time.Time{}, 9, "9", nil, []string{"GET ", "GET bytes=9-"}},
		{"end", `"v1"`, time.Time{}, 10, "", nil, []string{"GET "}},
		{"by date", "", time.Now().Add(-time.Hour), 4, "456789", nil, []string{"GET ", "GET bytes=4-"}},
		{"weak", `W/"v1"`, time.Time{}, 4, "", sdk.ErrFromStart, []string{"GET "}},
		{"no validator", "", time.Time{}, 4, "", sdk.ErrFromStart, []string{"GET "}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			f := &file{content: "0123456789", etag: tt.etag, modified: tt.date}
			server := newServer(t, f.ServeHTTP)
			onePart(t, newTestPlugin(t, loopback()), edc(server.URL), func(part sdk.Part) {
				got, err := readFrom(t.Context(), part, tt.offset)
				if !errors.Is(err, tt.err) || got != tt.want {
					t.Errorf("%q, %v; want %q, %v", got, err, tt.want, tt.err)
				}
				f.checkMethods(t, tt.asked...)
				if errors.Is(err, sdk.ErrFromStart) {
					if got, err := readFrom(t.Context(), part, 0); err != nil || got != f.content {
						t.Errorf("from the start: %q, %v", got, err)
					}
					f.checkMethods(t, tt.asked...) // the first answer was still there
				}
			})
		})
	}
}

// A server that takes no ranges sends everything: its answer is used for the next Open.
func TestServerWithoutRanges(t *testing.T) {
	requests := 0
	server := newServer(t, func(w http.ResponseWriter, _ *http.Request) {
		requests++
		w.Header().Set("ETag", `"v1"`)
		io.WriteString(w, "0123456789")
	})
	onePart(t, newTestPlugin(t, loopback()), edc(server.URL), func(part sdk.Part) {
		if _, err := part.Open(t.Context(), 4); !errors.Is(err, sdk.ErrFromStart) {
			t.Fatal(err)
		}
		if got, err := readFrom(t.Context(), part, 0); err != nil || got != "0123456789" {
			t.Errorf("%q, %v", got, err)
		}
	})
	if requests != 2 {
		t.Errorf("%d requests, want 2", requests)
	}
}

func TestRangesThatAreWrong(t *testing.T) {
	for _, tt := range []struct {
		name      string
		status    int
		header    []string
		body      string
		fromStart bool
		code      sdk.Code // "" if the answer can be used
		retryable bool
	}{
		{name: "right", status: 206, header: []string{"Content-Range", "bytes 4-9/10"}, body: "456789"},
		{name: "another start", status: 206, header: []string{"Content-Range", "bytes 3-9/10"}, body: "3456789", code: sdk.Corrupt},
		{name: "none", status: 206, body: "456789", code: sdk.Corrupt},
		{name: "another unit", status: 206, header: []string{"Content-Range", "lines 4-9/10"}, body: "456789", code: sdk.Corrupt},
		{name: "nonsense", status: 206, header: []string{"Content-Range", "bytes 4-x/10"}, body: "456789", code: sdk.Corrupt},
		{name: "signs", status: 206, header: []string{"Content-Range", "bytes 4-+9/10"}, body: "456789", code: sdk.Corrupt},
		{name: "backwards", status: 206, header: []string{"Content-Range", "bytes 4-3/10"}, body: "", code: sdk.Corrupt},
		{name: "beyond the size", status: 206, header: []string{"Content-Range", "bytes 4-10/10"}, body: "456789x", code: sdk.Corrupt},
		{name: "length differs", status: 206, header: []string{"Content-Range", "bytes 4-9/10"}, body: "4567", code: sdk.Corrupt},
		{name: "short", status: 206, header: []string{"Content-Range", "bytes 4-6/10"}, body: "456", fromStart: true},
		{name: "size not said", status: 206, header: []string{"Content-Range", "bytes 4-9/*"}, body: "456789", fromStart: true},
		{name: "another size", status: 206, header: []string{"Content-Range", "bytes 4-10/11"}, body: "456789x", code: sdk.Corrupt, retryable: true},
		{name: "another ETag", status: 206, header: []string{"Content-Range", "bytes 4-9/10", "ETag", `"v2"`}, body: "456789", code: sdk.Corrupt, retryable: true},
		{name: "not satisfiable", status: 416, header: []string{"Content-Range", "bytes */3"}, code: sdk.Corrupt},
		{name: "not satisfiable at the end", status: 416, header: []string{"Content-Range", "bytes */4"}},
		{name: "gone", status: 410, code: sdk.NotFound},
	} {
		t.Run(tt.name, func(t *testing.T) {
			server := newServer(t, func(w http.ResponseWriter, req *http.Request) {
				w.Header().Set("ETag", `"v1"`)
				if req.Header.Get("Range") == "" {
					io.WriteString(w, "0123456789")
					return
				}
				if got := req.Header.Get("Range") + " " + req.Header.Get("If-Range"); got != `bytes=4- "v1"` {
					t.Errorf("asked for %s", got)
				}
				for i := 0; i < len(tt.header); i += 2 {
					w.Header().Set(tt.header[i], tt.header[i+1])
				}
				w.WriteHeader(tt.status)
				io.WriteString(w, tt.body)
			})
			onePart(t, newTestPlugin(t, loopback()), edc(server.URL), func(part sdk.Part) {
				got, err := readFrom(t.Context(), part, 4)
				switch {
				case tt.fromStart:
					if !errors.Is(err, sdk.ErrFromStart) {
						t.Errorf("%q, %v", got, err)
					}
				case tt.code != "":
					wantError(t, err, tt.code, tt.retryable)
				case err != nil || got != tt.body:
					t.Errorf("%q, %v", got, err)
				}
			})
		})
	}
}

func TestContentThatChangesBetweenRequests(t *testing.T) {
	f := &file{content: "0123456789", etag: `"v1"`}
	server := newServer(t, f.ServeHTTP)
	p := newTestPlugin(t, loopback())
	onePart(t, p, edc(server.URL), func(part sdk.Part) {
		f.content, f.etag = "9876543210", `"v2"`
		if _, err := part.Open(t.Context(), 4); !errors.Is(err, sdk.ErrFromStart) {
			t.Fatal(err)
		}
		_, err := part.Open(t.Context(), 0)
		wantError(t, err, sdk.Corrupt, true, "has changed")
	})
	onePart(t, p, edc(server.URL), func(part sdk.Part) {
		readFrom(t.Context(), part, 0)
		f.content, f.etag = "98765", ""
		_, err := part.Open(t.Context(), 0)
		wantError(t, err, sdk.Corrupt, true, "has 5 bytes, 10 were announced")
	})
}

func TestListing(t *testing.T) {
	f := &file{content: "0123456789", etag: `"v1"`}
	server := newServer(t, f.ServeHTTP)
	p := newTestPlugin(t, loopback())
	for part, err := range p.Sources[0].Source.Read(t.Context(), sdk.ReadRequest{Address: edc(server.URL + "/f.bin"), List: true}) {
		if err != nil {
			t.Fatal(err)
		}
		if part.Size != 10 || part.Name != "f.bin" || part.Validator != `"v1"` || part.MediaType != "text/csv" {
			t.Errorf("part %+v", part.PartInfo)
		}
	}
	f.checkMethods(t, "HEAD ")
}

func TestListingWithoutHEAD(t *testing.T) {
	for _, status := range []int{http.StatusMethodNotAllowed, http.StatusNotImplemented} {
		var methods []string
		server := newServer(t, func(w http.ResponseWriter, req *http.Request) {
			methods = append(methods, req.Method)
			if req.Method == http.MethodHead {
				w.WriteHeader(status)
				return
			}
			io.WriteString(w, "content")
		})
		p := newTestPlugin(t, loopback())
		for part, err := range p.Sources[0].Source.Read(t.Context(), sdk.ReadRequest{Address: edc(server.URL), List: true}) {
			if err != nil || part.Size != 7 {
				t.Errorf("part %+v, %v", part.PartInfo, err)
			}
		}
		if diff := cmp.Diff([]string{"HEAD", "GET"}, methods); diff != "" {
			t.Errorf("requests (-want +got):\n%s", diff)
		}
	}
}

func TestListingRefused(t *testing.T) {
	server := newServer(t, func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusForbidden) })
	p := newTestPlugin(t, loopback())
	_, err := readAll(t.Context(), p, sdk.ReadRequest{Address: edc(server.URL), List: true})
	wantError(t, err, sdk.Denied, false, "HEAD "+server.URL+": 403 Forbidden")
}

func TestAnswersWithoutRoomForDoubt(t *testing.T) {
	server := newServer(t, func(w http.ResponseWriter, req *http.Request) {
		switch req.URL.Path {
		case "/empty":
			w.Header().Set("Content-Length", "0")
		case "/nothing":
			w.WriteHeader(http.StatusNoContent)
		case "/coded":
			if got := req.Header.Get("Accept-Encoding"); got != "identity" {
				t.Errorf("Accept-Encoding: %s", got)
			}
			w.Header().Set("Content-Encoding", "gzip")
			io.WriteString(w, "\x1f\x8b not to be decoded")
		case "/chunked":
			io.WriteString(w, "one ")
			w.(http.Flusher).Flush()
			io.WriteString(w, "two")
		case "/partial":
			w.WriteHeader(http.StatusPartialContent)
		}
	})
	p := newTestPlugin(t, loopback())
	if got := read(t, p, edc(server.URL+"/empty")); got.Size != 0 || got.content != "" {
		t.Errorf("empty: %+v", got)
	}
	if got := read(t, p, edc(server.URL+"/nothing")); got.Size != 0 || got.content != "" {
		t.Errorf("no content: %+v", got)
	}
	got := read(t, p, edc(server.URL+"/coded"))
	if got.content != "\x1f\x8b not to be decoded" || got.Properties["contentEncoding"] != "gzip" {
		t.Errorf("coded: %+v", got)
	}
	if got := read(t, p, edc(server.URL+"/chunked")); got.Size != sdk.SizeUnknown || got.content != "one two" {
		t.Errorf("chunked: %+v", got)
	}
	wantError(t, readError(t, p, edc(server.URL+"/partial")), sdk.Invalid, false, "206")
}

// A part that is not opened, and a sequence that is left, leave no answer open.
func TestAnswersThatAreNotRead(t *testing.T) {
	f := &file{content: strings.Repeat("x", 1<<20)}
	server := newServer(t, f.ServeHTTP)
	p := newTestPlugin(t, loopback())
	for range p.Sources[0].Source.Read(t.Context(), sdk.ReadRequest{Address: edc(server.URL)}) {
		break
	}
	for _, err := range p.Sources[0].Source.Read(t.Context(), sdk.ReadRequest{Address: edc(server.URL)}) {
		if err != nil {
			t.Error(err)
		}
	}
}
