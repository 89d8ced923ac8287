package publicapi

import (
	"encoding/base64"
	"net/http"
	"strings"

	"github.com/towpath-dataplane/towpath/sdk"
)

// digestFields are those of RFC 9530. For content that is neither encoded nor a range they say the same.
var digestFields = []string{"Content-Digest", "Repr-Digest"}

// digestNames are the algorithms of RFC 9530 that we compute, with the length of a digest.
var digestNames = map[string]struct {
	algorithm sdk.Algorithm
	length    int
}{
	"crc32c":  {sdk.CRC32C, 4},
	"sha-256": {sdk.SHA256, 32},
}

// announcesDigests reports whether the fields are there, even if they have no value yet.
func announcesDigests(h http.Header) bool {
	for _, name := range digestFields {
		if _, ok := h[name]; ok {
			return true
		}
	}
	return false
}

// announcedDigests reads the digests of header or trailer fields. Algorithms that we do not compute are left out. The error is a
// *problem.
func announcedDigests(h http.Header) (sdk.Digests, error) {
	all := sdk.Digests{}
	for _, name := range digestFields {
		d, err := parseDigests(strings.Join(h.Values(name), ","))
		if err != nil {
			return nil, badRequest.because("%s: %v", name, err)
		}
		if all.Compare(d) != nil {
			return nil, badRequest.because("%s and %s contradict each other", digestFields[0], digestFields[1])
		}
		for a, value := range d {
			all[a] = value
		}
	}
	return all, nil
}

// parseDigests reads a dictionary of byte sequences (RFC 8941): name=:base64:, separated by commas.
func parseDigests(field string) (sdk.Digests, error) {
	d := sdk.Digests{}
	for member := range strings.SplitSeq(field, ",") {
		member, _, _ = strings.Cut(member, ";") // parameters
		member = strings.Trim(member, " \t")
		if member == "" {
			continue
		}
		name, value, _ := strings.Cut(member, "=")
		sum, err := parseByteSequence(value)
		if err != nil {
			return nil, err
		}
		known, ok := digestNames[name]
		if !ok {
			continue
		}
		if len(sum) != known.length {
			return nil, sdk.Errorf(sdk.Invalid, "a %s digest has %d bytes, not %d", name, known.length, len(sum))
		}
		d[known.algorithm] = sum
	}
	return d, nil
}

func parseByteSequence(s string) ([]byte, error) {
	inner, ok := strings.CutPrefix(s, ":")
	if ok {
		inner, ok = strings.CutSuffix(inner, ":")
	}
	sum, err := base64.StdEncoding.DecodeString(inner)
	if !ok || err != nil {
		return nil, sdk.Errorf(sdk.Invalid, "%q is not base64 between colons", s)
	}
	return sum, nil
}
