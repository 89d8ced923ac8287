package main

import (
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/towpath-dataplane/towpath/sdk"
)

func TestListedParts(t *testing.T) {
	content := map[string]string{"/flows/parts/a/b.bin": "first", "/flows/parts/c%20d": "second", "/abs": ""}
	var accepts []string
	server := newServer(t, func(w http.ResponseWriter, req *http.Request) {
		accepts = append(accepts, req.Method+" "+req.Header.Get("Accept"))
		if req.Header.Get("Authorization") != "Bearer token" {
			t.Errorf("%s without the token", req.URL)
		}
		if req.URL.Path == "/flows/1" {
			w.Header().Set("Content-Type", listingMediaType+"; charset=utf-8")
			fmt.Fprintf(w, `{"parts":[
				{"name":"a/b.bin","size":5,"mediaType":"text/x","modified":"2026-01-02T03:04:05Z","etag":"\"e1\"","href":"./parts/a/b.bin",
				 "digests":{"crc32c":"%s","md5":"ignored"}},
				{"name":"c d","href":"parts/c%%20d","etag":"W/\"e2\"","extra":1},
				{"name":"e","size":0,"href":"http://%s/abs?x=1"}]}`, hex.EncodeToString(crc32c("first")), req.Host)
			return
		}
		io.WriteString(w, content[req.URL.EscapedPath()])
	})
	p := newTestPlugin(t, loopback())
	req := sdk.ReadRequest{Address: dps(server.URL+"/flows/1", "authorization", "token")}
	got, err := readAll(t.Context(), p, req)
	if err != nil {
		t.Fatal(err)
	}
	want := []readPart{
		{sdk.PartInfo{Name: "a/b.bin", Size: 5, MediaType: "text/x", Modified: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC), Validator: `"e1"`,
			TotalParts: 3}, "first"},
		{sdk.PartInfo{Name: "c d", Size: -1, TotalParts: 3}, "second"},
		{sdk.PartInfo{Name: "e", Size: 0, TotalParts: 3}, ""},
	}
	if diff := cmp.Diff(want, got, cmp.AllowUnexported(readPart{})); diff != "" {
		t.Errorf("parts (-want +got):\n%s", diff)
	}
	list := "GET application/vnd.towpath.parts+json, */*;q=0.9"
	if diff := cmp.Diff([]string{list, "GET */*", "GET */*", "GET */*"}, accepts); diff != "" {
		t.Errorf("requests (-want +got):\n%s", diff)
	}

	accepts = nil
	for part, err := range p.Sources[0].Source.Read(t.Context(), sdk.ReadRequest{Address: req.Address, List: true}) {
		if err != nil || part.TotalParts != 3 {
			t.Errorf("%v, %v", part.PartInfo, err)
		}
	}
	if diff := cmp.Diff([]string{strings.Replace(list, "GET", "HEAD", 1), list}, accepts); diff != "" {
		t.Errorf("requests (-want +got):\n%s", diff)
	}
}

func crc32c(s string) []byte {
	d := sdk.NewDigester(sdk.CRC32C)
	io.WriteString(d, s)
	return d.Sum()[sdk.CRC32C]
}

func TestListedPartIsNotWhatIsSent(t *testing.T) {
	for _, tt := range []struct {
		name, entry string
		retryable   bool
		says        string
	}{
		{"digest", `"size":7,"digests":{"crc32c":"00000000"}`, true, "crc32c"},
		{"size", `"size":8`, true, "has 7 bytes, 8 were announced"},
		{"ETag", `"etag":"\"old\""`, true, "has changed"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			server := newServer(t, func(w http.ResponseWriter, req *http.Request) {
				if req.URL.Path == "/" {
					w.Header().Set("Content-Type", listingMediaType)
					fmt.Fprintf(w, `{"parts":[{"name":"a","href":"a",%s}]}`, tt.entry)
					return
				}
				w.Header().Set("ETag", `"new"`)
				io.WriteString(w, "content")
			})
			wantError(t, readError(t, newTestPlugin(t, loopback()), dps(server.URL)), sdk.Corrupt, tt.retryable, tt.says)
		})
	}
}

func TestListingsThatAreRefused(t *testing.T) {
	for _, tt := range []struct {
		name, listing string
		code          sdk.Code
		says          string
	}{
		{"empty", ``, sdk.Invalid, "listing"},
		{"no JSON", `parts`, sdk.Invalid, "listing"},
		{"an array", `[]`, sdk.Invalid, "listing"},
		{"null", `null`, sdk.Invalid, "no member parts"},
		{"no parts", `{}`, sdk.Invalid, "no member parts"},
		{"more than one value", `{"parts":[]}{"parts":[]}`, sdk.Invalid, "listing"},
		{"truncated", `{"parts":[],"truncated":true}`, sdk.Unsupported, "leaves parts out"},
		{"escape", `{"parts":[{"name":"../a","href":"a"}]}`, sdk.Invalid, "leads out of its folder"},
		{"absolute name", `{"parts":[{"name":"/a","href":"a"}]}`, sdk.Invalid, "relative"},
		{"control character", `{"parts":[{"name":"a\u001b[2J","href":"a"}]}`, sdk.Invalid, "control"},
		{"no name", `{"parts":[{"href":"a"}]}`, sdk.Invalid, "entry 0"},
		{"twice", `{"parts":[{"name":"a","href":"a"},{"name":"a","href":"b"}]}`, sdk.Invalid, "entry 1: part name \"a\" is there twice"},
		{"no href", `{"parts":[{"name":"a"}]}`, sdk.Invalid, "href"},
		{"another host", `{"parts":[{"name":"a","href":"http://b.example/a"}]}`, sdk.Invalid, "another host"},
		{"another port", `{"parts":[{"name":"a","href":"http://127.0.0.1:1/a"}]}`, sdk.Invalid, "another host"},
		{"another scheme", `{"parts":[{"name":"a","href":"file:///etc/passwd"}]}`, sdk.Invalid, "another host"},
		{"negative size", `{"parts":[{"name":"a","href":"a","size":-1}]}`, sdk.Invalid, "size"},
		{"fractional size", `{"parts":[{"name":"a","href":"a","size":1.5}]}`, sdk.Invalid, "listing"},
		{"date", `{"parts":[{"name":"a","href":"a","modified":"yesterday"}]}`, sdk.Invalid, "listing"},
		{"digest", `{"parts":[{"name":"a","href":"a","digests":{"sha256":"00"}}]}`, sdk.Invalid, "sha256"},
		{"digest that is no hex", `{"parts":[{"name":"a","href":"a","digests":{"crc32c":"zzzzzzzz"}}]}`, sdk.Invalid, "crc32c"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			server := newServer(t, func(w http.ResponseWriter, req *http.Request) {
				if req.URL.Path != "/" {
					t.Errorf("%s was read", req.URL)
				}
				w.Header().Set("Content-Type", listingMediaType)
				io.WriteString(w, tt.listing)
			})
			wantError(t, readError(t, newTestPlugin(t, loopback()), dps(server.URL)), tt.code, false, tt.says)
		})
	}
}

func TestListingTooLarge(t *testing.T) {
	server := newServer(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", listingMediaType)
		io.WriteString(w, `{"parts":[`)
		for chunk, n := strings.Repeat(" ", 1<<20), 0; n <= maxListing; n += len(chunk) {
			if _, err := io.WriteString(w, chunk); err != nil {
				return
			}
		}
	})
	wantError(t, readError(t, newTestPlugin(t, loopback()), dps(server.URL)), sdk.Exhausted, false, "more than")
}

func FuzzListing(f *testing.F) {
	f.Add(`{"parts":[{"name":"a/b","size":1,"mediaType":"t","modified":"2026-01-02T03:04:05Z","etag":"\"e\"","href":"./x",` +
		`"digests":{"crc32c":"00000000"}}]}`)
	f.Add(`{"parts":[{"name":"a","href":"//h/x"},{"name":"b","href":"?q#f"}],"truncated":false}`)
	f.Add(`{"parts":[{"name":"..","href":"http://a:1/../..%2f"}]}`)
	base := &url.URL{Scheme: "https", Host: "a.example:8443", Path: "/flows/1"}
	f.Fuzz(func(t *testing.T, text string) {
		entries, err := parseListing([]byte(text), base)
		if err != nil {
			if len(entries) > 0 {
				t.Error("entries beside an error")
			}
			wantError(t, err, sdk.AsError(err).Code, false)
			return
		}
		if !json.Valid([]byte(text)) {
			t.Error("what is not JSON was taken")
		}
		seen := map[string]bool{}
		for _, e := range entries {
			if err := sdk.CheckName(e.info.Name); err != nil || seen[e.info.Name] {
				t.Errorf("name %q: %v", e.info.Name, err)
			}
			seen[e.info.Name] = true
			if e.url.Scheme != "https" || !sameHost(base, e.url) || e.url.User != nil {
				t.Errorf("URL %q", e.url)
			}
			if e.info.Size < sdk.SizeUnknown {
				t.Errorf("size %d", e.info.Size)
			}
			if _, err := http.NewRequest(http.MethodGet, e.url.String(), nil); err != nil {
				t.Errorf("URL %q: %v", e.url, err)
			}
		}
	})
}
