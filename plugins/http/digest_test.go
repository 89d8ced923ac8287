package main

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"testing"

	"github.com/towpath-dataplane/towpath/sdk"
	"github.com/towpath-dataplane/towpath/sdk/httpfield"
)

func sumsOf(content string) string {
	d := sdk.NewDigester(sdk.Algorithms()...)
	io.WriteString(d, content)
	return httpfield.FormatDigests(d.Sum())
}

// Content is held against what its server says of it, before it and behind it.
func TestDigestsOfAnswers(t *testing.T) {
	for _, tc := range []struct {
		name          string
		field, digest string
		trailer       bool
		corrupt       bool
	}{
		{"none", "", "", false, false},
		{"right, before", "Repr-Digest", sumsOf("content"), false, false},
		{"right, behind", "Repr-Digest", sumsOf("content"), true, false},
		{"of the message, before", "Content-Digest", sumsOf("content"), false, false},
		{"unknown algorithm", "Repr-Digest", "md5=:AAAA:", false, false},
		{"malformed", "Repr-Digest", "crc32c=5", false, false},
		{"wrong, before", "Repr-Digest", sumsOf("another"), false, true},
		{"wrong, behind", "Repr-Digest", sumsOf("another"), true, true},
		{"of the message, wrong", "Content-Digest", sumsOf("another"), false, true},
		{"of the message, wrong, behind", "Content-Digest", sumsOf("another"), true, true},
	} {
		t.Run(tc.name, func(t *testing.T) {
			server := newServer(t, func(w http.ResponseWriter, r *http.Request) {
				if got := r.Header.Get("Want-Repr-Digest"); got == "" {
					t.Error("no digest is asked for")
				}
				if tc.trailer {
					w.Header().Set("Trailer", tc.field)
				} else if tc.field != "" {
					w.Header().Set(tc.field, tc.digest)
				}
				io.WriteString(w, "content")
				if tc.trailer {
					w.Header().Set(tc.field, tc.digest)
				}
			})
			parts, err := readAll(t.Context(), newTestPlugin(t, loopback()), sdk.ReadRequest{Address: edc(server.URL)})
			if tc.corrupt {
				wantError(t, err, sdk.Corrupt, true)
				return
			}
			if err != nil || len(parts) != 1 || parts[0].content != "content" {
				t.Errorf("%v, %v", parts, err)
			}
		})
	}
}

// The digest of the whole also holds for a part that goes on in its middle: what came before the cut counts too.
func TestDigestAfterACut(t *testing.T) {
	const content = "0123456789"
	for name, digest := range map[string]string{"right": sumsOf(content), "wrong": sumsOf("01x3456789")} {
		server := newServer(t, func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("ETag", `"1"`)
			w.Header().Set("Repr-Digest", digest)
			offset := 0
			if ranged := r.Header.Get("Range"); ranged != "" {
				fmt.Sscanf(ranged, "bytes=%d-", &offset)
				w.Header().Set("Content-Range", fmt.Sprintf("bytes %d-9/10", offset))
			}
			w.Header().Set("Content-Length", fmt.Sprint(len(content)-offset))
			if offset > 0 {
				w.WriteHeader(http.StatusPartialContent)
			}
			io.WriteString(w, content[offset:])
		})
		before := sdk.NewDigester(sdk.Algorithms()...)
		io.WriteString(before, content[:4])
		state, err := jsonOf(before.State())
		if err != nil {
			t.Fatal(err)
		}
		token := fmt.Sprintf(`{"Part":"x","Finished":false,"Offset":4,"index":0,"sequence":1,"validator":"\"1\"","digest":%s,"totals":{}}`, state)
		stream, err := sdk.NewDataSource(newTestPlugin(t, loopback()).Sources[0]).Read(t.Context(), sdk.ReadOpen{
			Address: edc(server.URL, "name", "x"), ResumeToken: []byte(token), Digests: []sdk.Algorithm{sdk.CRC32C}})
		if err != nil {
			t.Fatal(err)
		}
		for err == nil {
			var f sdk.Frame
			if f, err = stream.Recv(); f != nil {
				if begin, ok := f.(*sdk.PartBegin); ok && begin.Offset != 4 {
					t.Errorf("%s: begins at %d", name, begin.Offset)
				}
				sdk.Release(f)
			}
		}
		stream.Close()
		if name == "right" && err != io.EOF {
			t.Errorf("%s: %v", name, err)
		}
		if name == "wrong" {
			wantError(t, err, sdk.Corrupt, true)
		}
	}
}

func jsonOf(v any) (string, error) {
	text, err := json.Marshal(v)
	return string(text), err
}
