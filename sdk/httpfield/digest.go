// Package httpfield reads and writes the structured header fields (RFC 9651) by which peers check content and go on with uploads: the
// digest fields of RFC 9530, and those of Resumable Uploads for HTTP (draft-ietf-httpbis-resumable-upload, interop version 8). It
// sends nothing and keeps nothing.
package httpfield

import (
	"cmp"
	"fmt"
	"net/http"
	"slices"

	"github.com/dunglas/httpsfv"

	"github.com/towpath-dataplane/towpath/sdk"
)

// The digest fields. For content that is neither encoded nor a piece the first two say the same.
const (
	ContentDigest  = "Content-Digest"
	ReprDigest     = "Repr-Digest"
	WantReprDigest = "Want-Repr-Digest"
)

// digestNames are the algorithms that both the registry of RFC 9530 and the SDK know, the strongest first.
var digestNames = []struct {
	name      string
	algorithm sdk.Algorithm
	length    int
}{
	{"sha-256", sdk.SHA256, 32},
	{"crc32c", sdk.CRC32C, 4},
}

// Digests returns those of a digest field. Algorithms that the SDK does not compute are left out. A field that is malformed is an
// error, and none is no digests.
func Digests(h http.Header, field string) (sdk.Digests, error) {
	values := h.Values(field)
	if len(values) == 0 {
		return sdk.Digests{}, nil
	}
	dictionary, err := httpsfv.UnmarshalDictionary(values)
	if err != nil {
		return nil, sdk.Errorf(sdk.Invalid, "%s is no dictionary of digests", field)
	}
	found := sdk.Digests{}
	for _, name := range dictionary.Names() {
		sum, ok := item(dictionary, name).([]byte)
		if !ok {
			return nil, sdk.Errorf(sdk.Invalid, "%s: %s is no byte sequence", field, name)
		}
		for _, known := range digestNames {
			if known.name != name {
				continue
			}
			if len(sum) != known.length {
				return nil, sdk.Errorf(sdk.Invalid, "%s: a %s digest has %d bytes, not %d", field, name, known.length, len(sum))
			}
			found[known.algorithm] = sum
		}
	}
	return found, nil
}

// FormatDigests is the value of a digest field, "" for no digests.
func FormatDigests(d sdk.Digests) string {
	dictionary := httpsfv.NewDictionary()
	for _, known := range digestNames {
		if sum := d[known.algorithm]; len(sum) > 0 {
			dictionary.Add(known.name, httpsfv.NewItem(sum))
		}
	}
	return marshal(dictionary)
}

// Wanted returns the algorithms that a field such as Want-Repr-Digest asks for, the one it likes best first. Those that the SDK does
// not compute are left out, and so is a field that is malformed: it is a wish.
func Wanted(h http.Header, field string) []sdk.Algorithm {
	values := h.Values(field)
	if len(values) == 0 {
		return nil
	}
	dictionary, err := httpsfv.UnmarshalDictionary(values)
	if err != nil {
		return nil
	}
	type wish struct {
		algorithm sdk.Algorithm
		weight    int64
	}
	var wishes []wish
	for _, known := range digestNames {
		if weight, ok := item(dictionary, known.name).(int64); ok && weight > 0 && weight <= 10 {
			wishes = append(wishes, wish{known.algorithm, weight})
		}
	}
	slices.SortStableFunc(wishes, func(a, b wish) int { return cmp.Compare(b.weight, a.weight) })
	wanted := make([]sdk.Algorithm, len(wishes))
	for i, w := range wishes {
		wanted[i] = w.algorithm
	}
	return wanted
}

// FormatWanted is the value of Want-Repr-Digest for all that the SDK computes.
func FormatWanted() string {
	dictionary := httpsfv.NewDictionary()
	for i, known := range digestNames {
		dictionary.Add(known.name, httpsfv.NewItem(int64(10-i)))
	}
	return marshal(dictionary)
}

// item returns the value of a dictionary's member, nil if it is not there or no item.
func item(d *httpsfv.Dictionary, name string) any {
	member, ok := d.Get(name)
	if !ok {
		return nil
	}
	single, _ := member.(httpsfv.Item)
	return single.Value
}

// marshal writes a dictionary whose names and values are ours.
func marshal(d *httpsfv.Dictionary) string {
	text, err := httpsfv.Marshal(d)
	if err != nil {
		panic(fmt.Errorf("httpfield: %w", err))
	}
	return text
}
