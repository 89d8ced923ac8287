package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"sync"

	"github.com/towpath-dataplane/towpath/sdk"
)

const manifestMediaType = "application/vnd.towpath.manifest+json"

// manifest collects what was sent for one flow, in all its runs.
type manifest struct {
	mu    sync.Mutex
	parts []manifestPart
}

// manifestDocument is a manifest as it is posted.
type manifestDocument struct {
	Parts []manifestPart `json:"parts"`
	Bytes int64          `json:"bytes"`
}

type manifestPart struct {
	Index   uint64                   `json:"index"`
	Name    string                   `json:"name"`
	Size    int64                    `json:"size"`
	Digests map[sdk.Algorithm]string `json:"digests"`
}

// add notes a part that the receiver has. A flow that begins again replaces what it sent before from there on.
func (m *manifest) add(part *sdk.IncomingPart, digest *sdk.Digester) {
	entry := manifestPart{Index: part.Index, Name: part.Name, Size: digest.Size(), Digests: map[sdk.Algorithm]string{}}
	sums := digest.Sum()
	for a := range sums {
		entry.Digests[a] = sums.Hex(a)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	for len(m.parts) > 0 && m.parts[len(m.parts)-1].Index >= part.Index {
		m.parts = m.parts[:len(m.parts)-1]
	}
	m.parts = append(m.parts, entry)
}

// document returns the manifest, and false if parts are missing from it that an earlier process sent.
func (m *manifest) document() (manifestDocument, bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	d := manifestDocument{Parts: append([]manifestPart{}, m.parts...)}
	for i, p := range d.Parts {
		if p.Index != uint64(i) {
			return d, false
		}
		d.Bytes += p.Size
	}
	return d, true
}

// sendManifest posts the manifest, if the flow ends with one. resumed says that another process may have sent parts before. Their
// digests are not known here, and a manifest without them would be wrong, so that none is sent then: the receiver has answered for
// every part by itself.
func (u *uploader) sendManifest(ctx context.Context, resumed bool) error {
	if u.manifest == nil {
		return nil
	}
	document, complete := u.manifest.document()
	if !complete || resumed && len(document.Parts) == 0 {
		return nil
	}
	text, err := json.Marshal(document)
	if err != nil {
		return fmt.Errorf("manifest: %w", err)
	}
	if err := u.postManifest(ctx, text); err != nil {
		return fmt.Errorf("manifest: %w", err)
	}
	return nil
}

func (u *uploader) postManifest(ctx context.Context, text []byte) error {
	t := &target{url: u.target.manifestURL, header: u.target.header, body: text, secrets: u.target.secrets}
	req := t.request(http.MethodPost)
	req.Header.Set("Content-Type", manifestMediaType)
	resp, err := u.env.writer.send(ctx, req)
	if err != nil {
		return err
	}
	if resp.StatusCode < 200 || resp.StatusCode > 299 {
		return mismatch(u.env.writer.refused(resp, t))
	}
	discard(resp)
	return nil
}

// mismatch turns the refusal of what a manifest says into Corrupt: what was sent is not what arrived.
func mismatch(refusal error) error {
	var e *sdk.Error
	if errors.As(refusal, &e) && !e.Retryable && (e.Code == sdk.Invalid || e.Code == sdk.Conflict) {
		e.Code = sdk.Corrupt
	}
	return refusal
}
