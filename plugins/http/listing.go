package main

import (
	"encoding/json"
	"fmt"
	"io"
	"math"
	"net/http"
	"net/url"
	"time"

	"github.com/towpath-dataplane/towpath/sdk"
)

const (
	// listingMediaType is that of a list of parts, as a Towpath host serves it.
	listingMediaType = "application/vnd.towpath.parts+json"
	maxListing       = 64 << 20
)

// listing is the document.
type listing struct {
	Parts     []listedPart `json:"parts"`
	Truncated bool         `json:"truncated"`
}

type listedPart struct {
	Name      string                   `json:"name"`
	Size      *int64                   `json:"size"`
	MediaType string                   `json:"mediaType"`
	Modified  time.Time                `json:"modified"`
	ETag      string                   `json:"etag"`
	Href      string                   `json:"href"`
	Digests   map[sdk.Algorithm]string `json:"digests"`
}

// entry is a part of a listing that was checked.
type entry struct {
	info    sdk.PartInfo
	url     *url.URL
	ifRange string
	digests sdk.Digests
}

// readListing reads an answer that is a listing, and closes its body.
func readListing(resp *http.Response) ([]entry, error) {
	defer resp.Body.Close()
	if !isFramed(resp) {
		return nil, sdk.Errorf(sdk.Unsupported, "the listing has neither a length nor chunks, so that its end cannot be told from a cut")
	}
	text, err := io.ReadAll(io.LimitReader(resp.Body, maxListing+1))
	if err != nil {
		return nil, err
	}
	if len(text) > maxListing {
		return nil, sdk.Errorf(sdk.Exhausted, "the listing has more than %d bytes", maxListing)
	}
	return parseListing(text, resp.Request.URL)
}

// parseListing checks every entry before the first is used, so that a bad listing moves nothing.
func parseListing(text []byte, base *url.URL) ([]entry, error) {
	var l listing
	if err := json.Unmarshal(text, &l); err != nil {
		return nil, sdk.Errorf(sdk.Invalid, "the listing: %v", err)
	}
	if l.Parts == nil {
		return nil, sdk.Errorf(sdk.Invalid, "the listing has no member parts")
	}
	if l.Truncated {
		return nil, sdk.Errorf(sdk.Unsupported, "the listing leaves parts out")
	}
	entries := make([]entry, len(l.Parts))
	total, known := int64(0), true
	seen := make(map[string]bool, len(l.Parts))
	for i, p := range l.Parts {
		e, err := p.entry(base)
		if err == nil && seen[p.Name] {
			err = fmt.Errorf("part name %q is there twice", p.Name)
		}
		if err != nil {
			return nil, sdk.Errorf(sdk.Invalid, "the listing, entry %d: %v", i, err)
		}
		seen[p.Name] = true
		e.info.TotalParts = len(l.Parts)
		entries[i] = e
		if known = known && e.info.Size >= 0 && e.info.Size <= math.MaxInt64-total; known {
			total += e.info.Size
		}
	}
	for i := range entries {
		if known {
			entries[i].info.TotalBytes = total
		}
	}
	return entries, nil
}

func (p listedPart) entry(base *url.URL) (entry, error) {
	if err := sdk.CheckName(p.Name); err != nil {
		return entry{}, err
	}
	u, err := base.Parse(p.Href)
	switch {
	case p.Href == "" || err != nil:
		return entry{}, fmt.Errorf("href is not a URL")
	case u.Scheme != base.Scheme || !sameHost(base, u) || u.User != nil:
		return entry{}, fmt.Errorf("href leads to another host")
	}
	u.Fragment, u.RawFragment = "", ""
	u.RawQuery = escapeQuery(u.RawQuery)
	size := int64(sdk.SizeUnknown)
	if p.Size != nil {
		if size = *p.Size; size < 0 {
			return entry{}, fmt.Errorf("size is %d", size)
		}
	}
	digests, err := decodeDigests(p.Digests)
	if err != nil {
		return entry{}, err
	}
	validator, ifRange := strongETag(p.ETag)
	info := sdk.PartInfo{Name: p.Name, MediaType: p.MediaType, Size: size, Modified: p.Modified, Validator: validator}
	return entry{info: info, url: u, ifRange: ifRange, digests: digests}, nil
}
