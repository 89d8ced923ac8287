package main

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net/url"
	"strings"

	"github.com/towpath-dataplane/towpath/sdk"
)

var (
	_ sdk.Copier = (*source)(nil)
	_ sdk.Copier = (*sink)(nil)
)

// Store names the store of the address.
func (s *source) Store(_ context.Context, a sdk.DataAddress) (string, error) {
	r, err := s.env.newReadRange(a)
	if err != nil {
		return "", err
	}
	return s.env.storeName(r.place), nil
}

// Store names the store of the address.
func (s *sink) Store(_ context.Context, a sdk.DataAddress) (string, error) {
	f, err := s.env.newWriteFolder(a)
	if err != nil {
		return "", err
	}
	return s.env.storeName(f.place), nil
}

// storeName stands for an endpoint and credentials, by a key that this process has made up: nobody can try out secrets on it. A region at
// an endpoint may be a store of its own; at Amazon all regions of a partition are one.
func (env *environment) storeName(p *place) string {
	at := "amazon " + partition(p.region)
	if p.endpoint != nil {
		at = origin(p.endpoint) + strings.TrimSuffix(p.endpoint.EscapedPath(), "/") + " " + p.region
	}
	h := hmac.New(sha256.New, env.nameKey)
	fmt.Fprintf(h, "%q %q", at, p.identity)
	return hex.EncodeToString(h.Sum(nil)[:16])
}

// partition is the part of Amazon that a region belongs to. Nothing is copied from one to another.
func partition(region string) string {
	for _, prefix := range []string{"cn-", "us-gov-", "us-iso-", "us-isob-", "us-isof-", "eu-isoe-", "eusc-"} {
		if strings.HasPrefix(region, prefix) {
			return prefix
		}
	}
	return ""
}

// reference is what an object is copied by: it stands for the content that it had when it was announced.
type reference struct {
	Region    string `json:"region"`
	Bucket    string `json:"bucket"`
	PathStyle bool   `json:"pathStyle,omitempty"`
	Key       string `json:"key"`
	Version   string `json:"version,omitempty"`
	ETag      string `json:"etag"`
	Size      int64  `json:"size"`
}

// referTo returns the reference to an object, nil if nothing tells its content from another.
func (s *store) referTo(o *object) ([]byte, error) {
	if o.etag == "" {
		return nil, nil
	}
	return json.Marshal(reference{
		Region: s.region, Bucket: s.bucket, PathStyle: s.pathStyle, Key: o.key, Version: o.version, ETag: o.etag, Size: o.size,
	})
}

// decodeReference reads the reference of a part, and refuses one that the store of the sink may not be asked for.
func (s *store) decodeReference(p *sdk.IncomingPart) (reference, error) {
	var r reference
	d := json.NewDecoder(bytes.NewReader(p.Reference))
	d.DisallowUnknownFields()
	wrong := sdk.Errorf(sdk.NotCopied, "this is not a reference to an object")
	if err := d.Decode(&r); err != nil || d.More() {
		return r, wrong
	}
	if !isBucket(r.Bucket) || !isRegion(r.Region) || r.Key == "" || len(r.Key) > maxKey || r.ETag == "" || r.Size != p.Size || r.Size < 0 {
		return r, wrong
	}
	if s.identity == "" && !s.env.lent.allow(s.endpoint, r.Bucket) {
		return r, sdk.Errorf(sdk.NotCopied, "the operator's credentials may not be used for bucket %q %s", r.Bucket, s.where())
	}
	return r, nil
}

// nonce is the same for all attempts to copy this content, and for no other: who finds it on an object knows what it has.
func (r reference) nonce() string {
	return shortHash(fmt.Sprintf("%q %q %q %q %d", r.Bucket, r.Key, r.Version, r.ETag, r.Size))
}

// from returns the store that the reference leads to, with the credentials of s.
func (r reference) from(s *store) *store {
	p := *s.place
	p.region, p.bucket, p.pathStyle = r.Region, r.Bucket, r.PathStyle
	return s.env.open(&p)
}

// copySource is what the protocol calls the reference.
func (r reference) copySource() string {
	source := r.Bucket + "/" + copySource(r.Key)
	if r.Version != "" {
		source += "?versionId=" + url.QueryEscape(r.Version)
	}
	return source
}
