package httpfield_test

import (
	"net/http"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/towpath-dataplane/towpath/sdk"
	"github.com/towpath-dataplane/towpath/sdk/httpfield"
)

func sums(content string) sdk.Digests {
	d := sdk.NewDigester(sdk.Algorithms()...)
	d.Write([]byte(content))
	return d.Sum()
}

func TestDigests(t *testing.T) {
	both := sums("hello")
	text := httpfield.FormatDigests(both)
	for _, tc := range []struct {
		name   string
		values []string
		want   sdk.Digests
		bad    bool
	}{
		{"none", nil, sdk.Digests{}, false},
		{"ours", []string{text}, both, false},
		{"over two fields", []string{"crc32c=:mnG7TA==:", "sha-512=:AA==:"}, sdk.Digests{sdk.CRC32C: both[sdk.CRC32C]}, false},
		{"unknown only", []string{"sha-512=:AA==:"}, sdk.Digests{}, false},
		{"parameters", []string{"crc32c=:mnG7TA==:;x=1"}, sdk.Digests{sdk.CRC32C: both[sdk.CRC32C]}, false},
		{"the last one counts", []string{"crc32c=:AAAAAA==:, crc32c=:mnG7TA==:"}, sdk.Digests{sdk.CRC32C: both[sdk.CRC32C]}, false},
		{"too short", []string{"sha-256=:AA==:"}, nil, true},
		{"no byte sequence", []string{`crc32c="mnG7TA=="`}, nil, true},
		{"an unknown one that is none", []string{"md5=1"}, nil, true},
		{"hexadecimal", []string{"crc32c=9a71bb4c"}, nil, true},
		{"broken base64", []string{"crc32c=:mn*7TA==:"}, nil, true},
		{"no dictionary", []string{":mnG7TA==:"}, nil, true},
	} {
		h := http.Header{httpfield.ReprDigest: tc.values}
		got, err := httpfield.Digests(h, httpfield.ReprDigest)
		if (err != nil) != tc.bad || !tc.bad && !cmp.Equal(tc.want, got) {
			t.Errorf("%s: %v, %v", tc.name, got, err)
		}
	}
	if got := httpfield.FormatDigests(nil); got != "" {
		t.Errorf("no digests are %q", got)
	}
}

func TestWanted(t *testing.T) {
	for value, want := range map[string][]sdk.Algorithm{
		"":                               {},
		httpfield.FormatWanted():         {sdk.SHA256, sdk.CRC32C},
		"sha-512=9, crc32c=5, sha-256=1": {sdk.CRC32C, sdk.SHA256},
		"sha-256=0, crc32c=11":           {},
		"sha-256":                        {},
		"crc32c=x":                       {},
		"crc32c=3,":                      nil,
	} {
		got := httpfield.Wanted(http.Header{httpfield.WantReprDigest: {value}}, httpfield.WantReprDigest)
		if !cmp.Equal(want, got) {
			t.Errorf("%q: %v, want %v", value, got, want)
		}
	}
}

func TestItems(t *testing.T) {
	for value, want := range map[string]int64{
		"0": 0, "15": 15, " 7 ": 7, "7;x=y": 7, "999999999999999": 999999999999999,
		"-1": -1, "1.0": -1, "?1": -1, `"1"`: -1, "1000000000000000": -1, "": -1, "1, 2": -1, "+1": -1,
	} {
		got, ok := httpfield.Count(http.Header{httpfield.UploadOffset: {value}}, httpfield.UploadOffset)
		if !ok {
			got = -1
		}
		if got != want {
			t.Errorf("Upload-Offset %q: %d, want %d", value, got, want)
		}
	}
	for value, want := range map[string]string{"?1": "yes", "?0": "no", "1": "", "true": "", "?2": "", "": ""} {
		complete, ok := httpfield.Complete(http.Header{httpfield.UploadComplete: {value}})
		got := map[bool]string{true: "yes", false: "no"}[complete]
		if !ok {
			got = ""
		}
		if got != want {
			t.Errorf("Upload-Complete %q: %q, want %q", value, got, want)
		}
	}
	if _, ok := httpfield.Complete(http.Header{httpfield.UploadComplete: {"?1", "?1"}}); ok {
		t.Error("two fields count as one item")
	}
	h := http.Header{}
	if httpfield.SpeaksDraft(h) {
		t.Error("a message without a version speaks the draft")
	}
	httpfield.SetCount(h, httpfield.UploadVersion, httpfield.Version)
	httpfield.SetComplete(h, true)
	if complete, ok := httpfield.Complete(h); !complete || !ok || !httpfield.SpeaksDraft(h) {
		t.Errorf("%v is not understood", h)
	}
}

func TestLimits(t *testing.T) {
	for value, want := range map[string]httpfield.Limits{
		"min-size=0": {},
		"max-size=5, min-size=2, max-append-size=3, min-append-size=1, max-age=60": {MaxSize: 5, MinSize: 2, MaxAppendSize: 3,
			MinAppendSize: 1, MaxAge: time.Minute},
	} {
		got, ok := httpfield.ParseLimits(http.Header{httpfield.UploadLimit: {value}})
		if !ok || got != want {
			t.Errorf("%q: %+v, %t", value, got, ok)
		}
		again, ok := httpfield.ParseLimits(http.Header{httpfield.UploadLimit: {want.String()}})
		if !ok || again != want {
			t.Errorf("%q becomes %q", value, want.String())
		}
	}
	if got, ok := httpfield.ParseLimits(http.Header{httpfield.UploadLimit: {"new=?1, max-age=999999999999999"}}); !ok || got.MaxAge <= 0 {
		t.Errorf("%+v, %t", got, ok)
	}
	for _, value := range []string{"max-size", "max-size=?1", "max-size=1.5", "max-age=-1", "min-size=(1)", "=", "max-size=1,"} {
		if got, ok := httpfield.ParseLimits(http.Header{httpfield.UploadLimit: {value}}); ok {
			t.Errorf("%q: %+v", value, got)
		}
	}
}

// Whatever a peer sends, it is understood or ignored; what is understood means the same when it is written again.
func FuzzFields(f *testing.F) {
	for _, seed := range []string{"", "sha-256=:AA==:", "crc32c=:mnG7TA==:", "?1", "12", "max-size=1, min-size=0", "sha-256=10, crc32c=1", "a=(1 2)", "\x00"} {
		f.Add(seed, seed)
	}
	f.Fuzz(func(t *testing.T, a, b string) {
		h := http.Header{}
		for _, name := range []string{httpfield.ReprDigest, httpfield.WantReprDigest, httpfield.UploadComplete, httpfield.UploadOffset,
			httpfield.UploadLimit, httpfield.UploadVersion} {
			h[name] = []string{a, b}
		}
		if d, err := httpfield.Digests(h, httpfield.ReprDigest); err == nil && len(d) > 0 {
			again, err := httpfield.Digests(http.Header{httpfield.ReprDigest: {httpfield.FormatDigests(d)}}, httpfield.ReprDigest)
			if err != nil || !cmp.Equal(d, again) {
				t.Errorf("%v is read again as %v, %v", d, again, err)
			}
		}
		httpfield.Wanted(h, httpfield.WantReprDigest)
		httpfield.Complete(h)
		httpfield.SpeaksDraft(h)
		if n, ok := httpfield.Count(h, httpfield.UploadOffset); ok && n < 0 {
			t.Errorf("offset %d", n)
		}
		if l, ok := httpfield.ParseLimits(h); ok {
			if again, ok := httpfield.ParseLimits(http.Header{httpfield.UploadLimit: {l.String()}}); !ok || again.MaxSize != l.MaxSize {
				t.Errorf("%+v is read again as %+v", l, again)
			}
		}
	})
}
