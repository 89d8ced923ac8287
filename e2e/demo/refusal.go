package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
)

// piece is how much of a part is fetched to try a token.
const piece = 64 << 10

// listingType is the media type of a list of parts.
const listingType = "application/vnd.towpath.parts+json"

// refuse reads with a token, terminates the flow, and sees that the token does not work any more.
func (d *demo) refuse(ctx context.Context, id string) error {
	from, err := d.provider.plane.start(ctx, id, pullProfile, nil)
	if err != nil {
		return err
	}
	part, err := findPart(ctx, from, largest)
	if err != nil {
		return err
	}
	before, body, err := fetch(ctx, part, from, piece)
	if err != nil {
		return err
	}
	if err := d.checkPiece(before, body); err != nil {
		return err
	}
	if err := d.provider.plane.terminate(ctx, id); err != nil {
		return err
	}
	after, _, err := fetch(ctx, part, from, piece)
	if err != nil {
		return err
	}
	if code := after.StatusCode; code != http.StatusUnauthorized && code != http.StatusForbidden {
		return fmt.Errorf("the flow is terminated, and yet its token is answered with %s", after.Status)
	}
	d.console.print("   With the token: %s, and %s bytes as they are in the file", before.Status, grouped(piece))
	d.console.print("   After terminate: %s", after.Status)
	return d.addRefused(ctx, id)
}

// checkPiece checks the answer to a request for the beginning of the largest file.
func (d *demo) checkPiece(resp *http.Response, body []byte) error {
	if resp.StatusCode != http.StatusPartialContent {
		return problem("the token is good, and yet answered with "+resp.Status, body)
	}
	in, err := os.Open(filepath.Join(d.provider.host.files, datasetID, filepath.FromSlash(largest)))
	if err != nil {
		return err
	}
	defer in.Close()
	want := make([]byte, piece)
	if _, err := in.ReadAt(want, 0); err != nil {
		return err
	}
	if !bytes.Equal(body, want) {
		return errors.New("what came is not what is in the file")
	}
	return nil
}

// findPart returns the URL of a part of the address's dataset.
func findPart(ctx context.Context, from *dataAddress, name string) (string, error) {
	resp, err := get(ctx, from.Endpoint, http.Header{"Authorization": {from.authorization()}, "Accept": {listingType}})
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	body, err := readBody(resp, 1<<20)
	if err != nil {
		return "", err
	}
	if resp.StatusCode != http.StatusOK {
		return "", problem("list of parts: "+resp.Status, body)
	}
	return partURL(from.Endpoint, body, name)
}

// partURL finds a part in a listing.
func partURL(base string, listing []byte, name string) (string, error) {
	var l struct {
		Parts []struct{ Name, Href string }
	}
	if err := json.Unmarshal(listing, &l); err != nil {
		return "", fmt.Errorf("list of parts: %w", err)
	}
	u, err := url.Parse(base)
	if err != nil {
		return "", err
	}
	for _, p := range l.Parts {
		if p.Name != name {
			continue
		}
		if u, err = u.Parse(p.Href); err != nil {
			return "", fmt.Errorf("list of parts: %w", err)
		}
		return u.String(), nil
	}
	return "", fmt.Errorf("list of parts: there is no %q", name)
}

// fetch reads the first n bytes of a part. The answer's body has been read.
func fetch(ctx context.Context, url string, from *dataAddress, n int64) (*http.Response, []byte, error) {
	resp, err := get(ctx, url, http.Header{"Authorization": {from.authorization()}, "Range": {fmt.Sprintf("bytes=0-%d", n-1)}})
	if err != nil {
		return nil, nil, err
	}
	defer resp.Body.Close()
	body, err := readBody(resp, n)
	return resp, body, err
}

func (a *dataAddress) authorization() string { return "Bearer " + a.property("authorization") }
