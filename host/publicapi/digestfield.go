package publicapi

import (
	"net/http"

	"github.com/towpath-dataplane/towpath/sdk"
	"github.com/towpath-dataplane/towpath/sdk/httpfield"
)

// digestFields are those of RFC 9530. For content that is neither encoded nor a range they say the same.
var digestFields = []string{httpfield.ContentDigest, httpfield.ReprDigest}

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
		d, err := announcedIn(h, name)
		if err != nil {
			return nil, err
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

// announcedIn reads the digests of one field. The error is a *problem.
func announcedIn(h http.Header, field string) (sdk.Digests, error) {
	d, err := httpfield.Digests(h, field)
	if err != nil {
		return nil, badRequest.because("%v", err)
	}
	return d, nil
}
