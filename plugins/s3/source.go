package main

import (
	"context"
	"fmt"
	"iter"
	"mime"
	"path"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"

	"github.com/towpath-dataplane/towpath/sdk"
)

// source reads objects. The parts of a prefix are its objects by the order of their keys, which is that of stores' lists.
type source struct{ env *environment }

var (
	_ sdk.Source    = (*source)(nil)
	_ sdk.Validator = (*source)(nil)
)

// Validate checks the address by its letters, and whether its endpoint and the operator's credentials may be used.
func (s *source) Validate(_ context.Context, a sdk.DataAddress) error {
	_, err := s.env.newReadRange(a)
	return err
}

// Read yields the objects of the address.
func (s *source) Read(ctx context.Context, req sdk.ReadRequest) iter.Seq2[sdk.Part, error] {
	return func(yield func(sdk.Part, error) bool) {
		r, err := s.env.newReadRange(req.Address)
		if err != nil {
			yield(sdk.Part{}, err)
			return
		}
		l := &listing{store: s.env.open(r.place), base: r.base(), prefix: r.prefix, only: req.Part, refer: req.ByReference}
		if r.key != "" {
			part, err := l.single(ctx, r.key)
			yield(part, err)
			return
		}
		if err := l.yieldAll(ctx, req.After, yield); err != nil {
			yield(sdk.Part{}, err)
		}
	}
}

// listing is the objects of an address.
type listing struct {
	*store
	base   string // see readRange.base
	prefix string
	only   string // name of the only part that is wanted, "" for all
	refer  bool   // parts get references
}

// single is the object that the address names.
func (l *listing) single(ctx context.Context, key string) (sdk.Part, error) {
	o, err := l.head(ctx, key)
	if err != nil {
		return sdk.Part{}, err
	}
	part, err := l.part(o)
	part.TotalParts = 1
	return part, err
}

// yieldAll returns an error only while more is wanted. Pages before the place to go on from are not asked for.
func (l *listing) yieldAll(ctx context.Context, after *sdk.Position, yield func(sdk.Part, error) bool) error {
	in := &s3.ListObjectsV2Input{Bucket: &l.bucket, Prefix: &l.prefix}
	if after != nil {
		key := l.base + after.Part
		part, err := l.again(ctx, key, after)
		if err != nil {
			return err
		}
		if !yield(part, nil) {
			return nil
		}
		in.StartAfter = &key
	}
	first := after == nil
	for {
		page, err := l.client.ListObjectsV2(ctx, in)
		if err != nil {
			return l.failure(ctx, err, "list", l.prefix)
		}
		total := 0
		if first && !aws.ToBool(page.IsTruncated) {
			total = l.count(page.Contents)
		}
		if first && len(page.Contents) == 0 {
			return sdk.Errorf(sdk.NotFound, "no object has a key that begins as %q", l.location(l.prefix))
		}
		first = false
		if more, err := l.yieldPage(page.Contents, total, yield); err != nil || !more {
			return err
		}
		if !aws.ToBool(page.IsTruncated) {
			return nil
		}
		if aws.ToString(page.NextContinuationToken) == "" {
			return sdk.Errorf(sdk.Corrupt, "the list of %q was cut, and nothing says where to go on", l.location(l.prefix))
		}
		in.ContinuationToken, in.StartAfter = page.NextContinuationToken, nil
	}
}

// again is the part that the flow goes on with, or after.
func (l *listing) again(ctx context.Context, key string, after *sdk.Position) (sdk.Part, error) {
	if after.Finished || l.only != "" && l.only != after.Part {
		return unread(after.Part), nil
	}
	o, err := l.head(ctx, key)
	if err != nil {
		return sdk.Part{}, err
	}
	return l.part(o)
}

// isPart leaves out the plugin's own objects, and the markers that some programs keep for folders.
func isPart(o types.Object) bool {
	key := aws.ToString(o.Key)
	return !isWork(key) && !(strings.HasSuffix(key, "/") && aws.ToInt64(o.Size) == 0)
}

func (l *listing) count(objects []types.Object) int {
	n := 0
	for _, o := range objects {
		if isPart(o) {
			n++
		}
	}
	return n
}

func (l *listing) yieldPage(objects []types.Object, total int, yield func(sdk.Part, error) bool) (more bool, err error) {
	for _, o := range objects {
		if !isPart(o) {
			continue
		}
		part, err := l.part(&object{
			key: aws.ToString(o.Key), size: aws.ToInt64(o.Size), etag: aws.ToString(o.ETag), modified: aws.ToTime(o.LastModified),
		})
		if err != nil {
			return false, err
		}
		part.TotalParts = total
		if !yield(part, nil) {
			return false, nil
		}
	}
	return true, nil
}

// unread is a part that only counts.
func unread(name string) sdk.Part {
	return sdk.BytesPart(name, "", nil)
}

// part describes an object as it is now.
func (l *listing) part(o *object) (sdk.Part, error) {
	name := strings.TrimPrefix(o.key, l.base)
	if err := sdk.CheckName(name); err != nil {
		return sdk.Part{}, fmt.Errorf("object %q: %w", l.location(o.key), err)
	}
	if o.mediaType == "" {
		o.mediaType = mediaType(name)
	}
	part := sdk.Part{
		PartInfo: sdk.PartInfo{
			Name: name, MediaType: o.mediaType, Size: o.size, Modified: o.modified, Validator: o.validator(), Properties: o.properties(),
		},
		Open: o.open(l.store),
	}
	if !l.refer {
		return part, nil
	}
	var err error
	part.Reference, err = l.referTo(o)
	part.Digests = o.digests()
	return part, err
}

func mediaType(name string) string {
	if t := mime.TypeByExtension(path.Ext(name)); t != "" {
		return t
	}
	return "application/octet-stream"
}
