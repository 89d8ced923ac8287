package main

import (
	"io"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/towpath-dataplane/towpath/sdk"
	"github.com/towpath-dataplane/towpath/sdk/httpfield"
)

// What a receiver that cannot resume is told of a part: its length and its digest before it, its digest behind it, or its length alone.
func TestDigestsOfUploads(t *testing.T) {
	small, large := strings.Repeat("s", maxHeld), strings.Repeat("l", resumeAbove+1)
	middle := strings.Repeat("m", maxHeld+1)
	crc32c := func(content string) string {
		d := sdk.NewDigester(sdk.CRC32C)
		io.WriteString(d, content)
		return httpfield.FormatDigests(d.Sum())
	}
	for name, tc := range map[string]struct {
		address func(url string) sdk.DataAddress
		wants   string // of the receiver
		parts   []outgoing
		want    []string // how many bytes are announced, and the digests before and behind the content
	}{
		"by themselves": {func(url string) sdk.DataAddress { return edc(url) }, "", []outgoing{text("s", small), text("m", middle), text("l", large)},
			[]string{"262144 " + crc32c(small) + " -", "262145 - -", "1048577 - -"}},
		"as the address has it": {func(url string) sdk.DataAddress { return edc(url, "digestTrailer", "true") }, "",
			[]outgoing{text("s", small), text("m", middle), text("l", large)},
			[]string{"262144 " + crc32c(small) + " -", "-1 - " + crc32c(middle), "-1 - " + crc32c(large)}},
		"as the receiver asks": {func(url string) sdk.DataAddress { return dps(url) }, "sha-256=3",
			[]outgoing{text("m", middle), text("l", large), text("m2", middle), text("s", small)},
			// It is asked for the sake of the large one.
			[]string{"262145 - -", "-1 - " + sumsOf(large), "-1 - " + sumsOf(middle), "262144 " + sumsOf(small) + " -"}},
		"not wanted":       {func(url string) sdk.DataAddress { return dps(url) }, "sha-256=0", []outgoing{text("l", large)}, []string{"1048577 - -"}},
		"not known":        {func(url string) sdk.DataAddress { return dps(url) }, "md5=3", []outgoing{text("l", large)}, []string{"1048577 - -"}},
		"asks for nothing": {func(url string) sdk.DataAddress { return dps(url) }, "", []outgoing{text("l", large)}, []string{"1048577 - -"}},
		"never in chunks": {func(url string) sdk.DataAddress {
			return dps(url, "nonChunkedTransfer", "true", "digestTrailer", "true")
		}, "sha-256=3",
			[]outgoing{text("s", small), text("l", large)}, []string{"262144 " + crc32c(small) + " -", "1048577 - -"}},
	} {
		t.Run(name, func(t *testing.T) {
			var mu sync.Mutex // guards got
			var got []string
			server := newServer(t, func(w http.ResponseWriter, r *http.Request) {
				if r.Method == http.MethodOptions {
					if tc.wants != "" {
						w.Header().Set(httpfield.WantReprDigest, tc.wants)
					}
					return
				}
				io.Copy(io.Discard, r.Body)
				said := func(h http.Header) string {
					if value := h.Get(httpfield.ReprDigest); value != "" {
						return value
					}
					return "-"
				}
				mu.Lock()
				defer mu.Unlock()
				got = append(got, strings.Join([]string{strconv.FormatInt(r.ContentLength, 10), said(r.Header), said(r.Trailer)}, " "))
			})
			if _, err := write(t, newTestPlugin(t, loopback()), tc.address(server.URL), tc.parts...); err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tc.want, got); diff != "" {
				t.Errorf("what the receiver was told (-want +got):\n%s", diff)
			}
		})
	}
}
