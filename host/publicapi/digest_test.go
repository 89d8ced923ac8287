package publicapi

import (
	"io"
	"net/http"
	"testing"

	"github.com/towpath-dataplane/towpath/sdk"
	"github.com/towpath-dataplane/towpath/sdk/httpfield"
)

// Who asks for a digest gets it: before a small part, and behind a large one where there is such a place.
func TestPullWithDigest(t *testing.T) {
	protocols(t, func(t *testing.T, start func(func(*world, *Options)) *world) {
		small, large := string(noise(1000, 1)), string(noise(1<<20, 2))
		for _, tc := range []struct {
			name    string
			content string
			header  map[string]string
			before  bool
			behind1 bool // with HTTP/1.1
			behind2 bool
		}{
			{"small", small, h("Want-Repr-Digest", "crc32c=1"), true, false, false},
			{"small, not asked for", small, nil, false, false, false},
			{"not wanted", small, h("Want-Repr-Digest", "crc32c=0"), false, false, false},
			{"range", small, h("Want-Repr-Digest", "crc32c=1", "Range", "bytes=1-2"), false, false, false},
			{"large", large, h("Want-Repr-Digest", "crc32c=1"), false, false, true},
			{"large, with trailers", large, h("Want-Repr-Digest", "crc32c=1", "Te", "trailers"), false, true, true},
			{"large, not asked for", large, h("Te", "trailers"), false, false, false},
			{"empty", "", h("Want-Repr-Digest", "sha-256=1"), true, false, false},
		} {
			w := start(nil)
			w.memory.Put("d", []byte(tc.content))
			a := w.pull("f")
			res, err := w.send(a, a.Endpoint, request{header: tc.header})
			if err != nil {
				t.Fatal(err)
			}
			body, err := io.ReadAll(res.Body)
			res.Body.Close()
			if err != nil || tc.header["Range"] == "" && string(body) != tc.content {
				t.Errorf("%s: %d bytes, %v", tc.name, len(body), err)
			}
			want := httpfield.FormatDigests(digestsOf(tc.content, sdk.CRC32C))
			behind := tc.behind1 && res.ProtoMajor == 1 || tc.behind2 && res.ProtoMajor == 2
			for _, at := range []struct {
				where string
				there bool
				h     http.Header
			}{{"before", tc.before, res.Header}, {"behind", behind, res.Trailer}} {
				got := at.h.Get("Repr-Digest")
				if at.there && got != want || !at.there && got != "" {
					t.Errorf("%s: digest %s the content is %q", tc.name, at.where, got)
				}
			}
		}
	})
}
