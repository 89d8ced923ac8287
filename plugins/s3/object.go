package main

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"

	"github.com/towpath-dataplane/towpath/sdk"
)

// object is an object as it was when it was announced.
type object struct {
	key       string
	version   string // "" if the bucket keeps none, or the object was found in a list
	size      int64
	etag      string // with its quotes, for If-Match
	mediaType string
	modified  time.Time
	mark      string    // see work.mark
	target    string    // see targetName
	asked     bool      // not only found in a list
	sum       *checksum // of the whole, as the store knows it; nil if it does not or was not asked
	crc32c    string    // what the store has for one, be it of the whole or not; "" as for sum
}

// head asks for an object.
func (s *store) head(ctx context.Context, key string) (*object, error) {
	out, err := s.client.HeadObject(ctx, &s3.HeadObjectInput{Bucket: &s.bucket, Key: &key, ChecksumMode: types.ChecksumModeEnabled})
	if err != nil {
		return nil, s.failure(ctx, err, "read", key)
	}
	o := &object{
		key: key, version: aws.ToString(out.VersionId), size: aws.ToInt64(out.ContentLength), etag: aws.ToString(out.ETag),
		mediaType: aws.ToString(out.ContentType), modified: aws.ToTime(out.LastModified), asked: true,
		mark: out.Metadata[markName], target: out.Metadata[targetName],
	}
	if o.version == "null" {
		o.version = ""
	}
	o.crc32c = aws.ToString(out.ChecksumCRC32C)
	o.sum = newChecksum(out.ChecksumType, out.ChecksumCRC32C, out.ChecksumSHA256, out.ChecksumCRC64NVME, out.ChecksumCRC32)
	return o, nil
}

// validator is the ETag. It does not have the version: an object has one content by its ETag, and a list does not tell versions.
func (o *object) validator() string { return o.etag }

// properties pass on what the store knows of the content.
func (o *object) properties() map[string]string {
	if o.sum == nil {
		return nil
	}
	return map[string]string{o.sum.name: o.sum.hex()}
}

// digests are those that the store knows of the content, nil if there are none.
func (o *object) digests() sdk.Digests {
	if o.sum == nil || o.sum.name != string(sdk.CRC32C) && o.sum.name != string(sdk.SHA256) {
		return nil
	}
	return sdk.Digests{sdk.Algorithm(o.sum.name): o.sum.want}
}

// open returns Part.Open.
func (o *object) open(s *store) func(context.Context, int64) (io.ReadCloser, error) {
	return func(ctx context.Context, offset int64) (io.ReadCloser, error) {
		switch {
		case offset == o.size && offset > 0:
			return http.NoBody, nil
		case offset > o.size:
			return nil, sdk.Errorf(sdk.Invalid, "%q has %d bytes, none at offset %d", s.location(o.key), o.size, offset)
		case offset > 0:
			return newRangeReader(ctx, s, o, offset), nil
		case o.size <= int64(s.env.RangeSize):
			return o.openWhole(ctx, s)
		}
		sum, err := o.checksum(ctx, s)
		if err != nil {
			return nil, err
		}
		return sum.check(newRangeReader(ctx, s, o, 0)), nil
	}
}

// openWhole reads an object by one request, whose answer has the checksum too.
func (o *object) openWhole(ctx context.Context, s *store) (io.ReadCloser, error) {
	r := newRangeReader(ctx, s, o, 0)
	out, err := o.request(r.ctx, s, 0, o.size)
	if err != nil {
		r.Close()
		return nil, err
	}
	r.begin(out.Body)
	return newChecksum(out.ChecksumType, out.ChecksumCRC32C, out.ChecksumSHA256, out.ChecksumCRC64NVME, out.ChecksumCRC32).check(r), nil
}

// checksum asks for what the store knows of an object that was found in a list.
func (o *object) checksum(ctx context.Context, s *store) (*checksum, error) {
	if o.asked {
		return o.sum, nil
	}
	now, err := s.head(ctx, o.key)
	if err != nil {
		return nil, err
	}
	if now.etag != o.etag || now.size != o.size {
		return nil, o.changed(s)
	}
	return now.sum, nil
}

// changed can be retried: what has changed is announced anew, and read from its start.
func (o *object) changed(s *store) error {
	return sdk.Retryf(sdk.Corrupt, "%q has changed since it was announced", s.location(o.key))
}

// request asks for the bytes from offset to end, of the content that was announced and of no other.
func (o *object) request(ctx context.Context, s *store, offset, end int64) (*s3.GetObjectOutput, error) {
	in := &s3.GetObjectInput{Bucket: &s.bucket, Key: &o.key}
	if o.etag != "" {
		in.IfMatch = &o.etag
	}
	if o.version != "" {
		in.VersionId = &o.version
	}
	whole := offset == 0 && end == o.size
	if whole {
		in.ChecksumMode = types.ChecksumModeEnabled
	} else {
		in.Range = aws.String(fmt.Sprintf("bytes=%d-%d", offset, end-1))
	}
	out, err := s.client.GetObject(ctx, in)
	if isTaken(err) || codeOf(err) == "InvalidRange" {
		return nil, o.changed(s)
	}
	if err != nil {
		return nil, s.failure(ctx, err, "read", o.key)
	}
	// A store that knows no If-Match is found out by what it says of its answer.
	want := fmt.Sprintf("bytes %d-%d/%d", offset, end-1, o.size)
	if aws.ToString(out.ETag) != o.etag || aws.ToInt64(out.ContentLength) != end-offset || !whole && aws.ToString(out.ContentRange) != want {
		out.Body.Close()
		return nil, o.changed(s)
	}
	return out, nil
}
