package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"

	"github.com/towpath-dataplane/towpath/sdk"
)

// copying is one part on its way to its object inside the store. One that is small is copied by one request; otherwise ranges of it become
// the parts of a multipart upload, side by side.
type copying struct {
	*work
	ctx     context.Context
	part    *sdk.IncomingPart
	from    reference
	key     string
	replace bool
	again   bool // the part may have reached its object in an earlier run

	multipart
	original *object // what is copied, as it is now; nil for one that is small
	badSums  *bool   // of the writer
	done     int64   // bytes in the first parts that are there
	promised bool    // a flow can go on from what was said
}

// copy makes the object of a part that has a reference. Whatever the store has against that, the part can still move as bytes.
func (w *writer) copy(ctx context.Context, p *sdk.IncomingPart, key string) error {
	from, err := w.decodeReference(p)
	if err != nil {
		return err
	}
	c := &copying{work: w.newWork(p.Name, from.nonce()), ctx: ctx, part: p, from: from, key: key, replace: w.replace,
		again: w.redelivery || p.Offset > 0, badSums: &w.badSums}
	if err := c.run(); err != nil {
		c.abandon(err)
		return err
	}
	c.clear(ctx) // what cannot be removed now goes with Deprovision
	return nil
}

func (c *copying) run() error {
	there, err := c.isThere()
	switch {
	case err != nil:
		return err
	case there:
		c.kept = true
	case c.from.Size == 0:
		// Nothing can be copied of it, and nothing has to be.
		c.kept = c.part.Token != nil
		err = (&upload{work: c.work, ctx: c.ctx, part: c.part, key: c.key, replace: c.replace, again: c.again}).putWhole()
	case c.from.Size <= int64(c.env.CopyPartSize) && c.replace && c.part.Token == nil:
		err = c.copyWhole()
	default:
		err = c.copyRanges()
	}
	if err != nil {
		return err
	}
	return c.report()
}

// isThere looks, before anything is copied, whether the key is taken: by this content from an earlier run, or by something else.
func (c *copying) isThere() (bool, error) {
	if c.replace && !c.again {
		return false, nil
	}
	o, err := c.head(c.ctx, c.key)
	switch {
	case isMissing(err):
		return false, nil
	case err != nil:
		return false, err
	case c.again && o.mark == c.mark() && o.size == c.from.Size:
		return true, nil
	case c.replace:
		return false, nil
	case c.again && c.isOwn(o):
		return false, sdk.Errorf(sdk.NotCopied, "it was written before, and only its bytes tell whether with the same content")
	}
	return false, sdk.Errorf(sdk.Conflict, "there is another %q", c.location(c.key))
}

func (c *copying) copyWhole() error {
	in := &s3.CopyObjectInput{
		Bucket: &c.bucket, Key: &c.key, CopySource: aws.String(c.from.copySource()), CopySourceIfMatch: &c.from.ETag,
		ContentType: aws.String(mediaTypeOf(c.part)), MetadataDirective: types.MetadataDirectiveReplace,
		Metadata: map[string]string{markName: c.mark()}, TaggingDirective: types.TaggingDirectiveReplace,
	}
	if c.checksums {
		in.ChecksumAlgorithm = types.ChecksumAlgorithmCrc32c
	}
	_, err := c.client.CopyObject(c.ctx, in)
	return c.refusal(err)
}

// copyRanges goes on with what an earlier run has copied, or begins.
func (c *copying) copyRanges() error {
	if err := c.look(); err != nil {
		return err
	}
	if *c.badSums {
		c.withoutSums()
	}
	if err := c.goOn(); err != nil {
		return err
	}
	if c.id == "" {
		if err := c.start(); err != nil {
			return c.unlessItPasses(err)
		}
	}
	err := c.copyAll()
	if err == errBadSums && c.checksums {
		c.drain()
		c.multipart, c.done, c.part.Token, *c.badSums = multipart{}, 0, nil, true
		return c.copyRanges()
	}
	if err != nil {
		return err
	}
	return c.completeCopy()
}

// copyAll copies what is not there.
func (c *copying) copyAll() error {
	for c.bytes < c.from.Size {
		c.copyRange(min(c.planned(c.from.Size, int64(c.env.CopyPartSize)), c.from.Size-c.bytes))
		if err := c.await(c.env.Parallel - 1); err != nil {
			return err
		}
	}
	return c.await(0)
}

// errBadSums says that the store takes the checksum of the whole object for that of a range of it, as some do. An object that is made of
// that would have a checksum that is not its own.
var errBadSums = errors.New("the store does not compute the checksums of ranges")

// hasBadSums looks at the first range, of so many bytes.
func (c *copying) hasBadSums(size int64) bool {
	sum := aws.ToString(c.parts[0].ChecksumCRC32C)
	return sum != "" && size < c.from.Size && sum == c.original.crc32c
}

// look asks for what is copied, and finds out whether it is still what was announced.
func (c *copying) look() error {
	if c.from.Version != "" {
		c.original = &object{} // the request would be answered for the latest version
		return nil
	}
	o, err := c.from.from(c.store).head(c.ctx, c.from.Key)
	switch {
	case isMissing(err):
		return c.changed()
	case err != nil:
		return c.unlessItPasses(err)
	case o.etag != c.from.ETag || o.size != c.from.Size:
		return c.changed()
	}
	c.original = o
	return nil
}

// withoutSums has the store compute no checksums for this copy.
func (c *copying) withoutSums() {
	p, s := *c.place, *c.store
	p.checksums, s.place = false, &p
	c.store = &s
}

// goOn takes up the upload of a token, if it is still there and has what is copied now.
func (c *copying) goOn() error {
	if c.part.Token == nil {
		return nil
	}
	t, err := decodeToken(c.part.Token, c.part.Offset)
	if err != nil {
		return err
	}
	c.kept = true
	if t.NoSums {
		c.withoutSums()
	}
	if t.Nonce != c.nonce || t.Parts == 0 {
		return nil // the content has changed: the upload goes when the next begins
	}
	switch err := c.takeUp(c.ctx, c.store, c.key, t); {
	case err == nil:
		c.done, c.promised = c.bytes, true
		return nil
	case isGone(err), sdk.AsError(err).Code == sdk.Corrupt:
		c.multipart = multipart{} // all of it again
		return nil
	default:
		return err
	}
}

// start begins the upload. One that an earlier attempt has left goes first.
func (c *copying) start() error {
	return c.begin(c.ctx, &c.multipart, c.key, mediaTypeOf(c.part))
}

// copyRange has the store copy the next bytes, beside others.
func (c *copying) copyRange(n int64) {
	number := aws.Int32(int32(len(c.parts) + 1))
	c.parts = append(c.parts, types.CompletedPart{PartNumber: number})
	f := &sending{part: &types.CompletedPart{PartNumber: number}, size: n, done: make(chan struct{})}
	c.sending = append(c.sending, f)
	in := &s3.UploadPartCopyInput{
		Bucket: &c.bucket, Key: &c.key, UploadId: aws.String(c.id), PartNumber: number, CopySource: aws.String(c.from.copySource()),
		CopySourceIfMatch: &c.from.ETag, CopySourceRange: aws.String(fmt.Sprintf("bytes=%d-%d", c.bytes, c.bytes+n-1)),
	}
	c.bytes += n
	go func() {
		defer close(f.done)
		out, err := c.client.UploadPartCopy(c.ctx, in)
		if f.err = c.refusal(err); err == nil && out.CopyPartResult != nil {
			f.part.ETag, f.part.ChecksumCRC32C = out.CopyPartResult.ETag, out.CopyPartResult.ChecksumCRC32C
		}
	}()
}

// await waits until at most so many ranges are on their way, and says how far the copy is.
func (c *copying) await(most int) error {
	for len(c.sending) > most {
		size := c.sending[0].size
		if err := c.wait(len(c.sending) - 1); err != nil {
			return err
		}
		if c.done += size; c.done == c.from.Size {
			continue // what is left is one request
		}
		there := c.parts[:len(c.parts)-len(c.sending)]
		if len(there) == 1 && c.checksums && c.hasBadSums(size) {
			return errBadSums
		}
		token, err := token{Nonce: c.nonce, Upload: c.id, Parts: len(there), Bytes: c.done, Tags: tagsOf(there), NoSums: !c.checksums}.encode()
		if err != nil {
			return err
		}
		c.promised = true
		if err := c.part.Copied(c.done, token); err != nil {
			return err
		}
	}
	return nil
}

// completeCopy makes the object, if what was copied is still there: a store that knows no If-Match has copied some of each otherwise.
func (c *copying) completeCopy() error {
	if err := c.look(); err != nil {
		return err
	}
	var sum *string
	if o := c.original; o.sum != nil && o.sum.name == string(sdk.CRC32C) {
		sum = aws.String(o.sum.base64())
	}
	err := c.complete(c.ctx, c.store, c.key, sum, c.replace)
	switch {
	case err == nil:
		return nil
	case isGone(err), isTaken(err) && !c.replace:
		// The answer to an earlier attempt was lost, or someone was faster.
		if o, headErr := c.head(c.ctx, c.key); headErr == nil && o.mark == c.mark() && o.size == c.from.Size {
			return nil
		}
		if !isGone(err) {
			return sdk.Errorf(sdk.Conflict, "there is another %q", c.location(c.key))
		}
		return c.refusal(err)
	}
	return c.unlessItPasses(c.failure(c.ctx, err, "write", c.key))
}

// report looks at the object, and says what the store knows of it, or of what it was copied from.
func (c *copying) report() error {
	o, err := c.head(c.ctx, c.key)
	if err != nil {
		return err
	}
	if o.mark == c.mark() && o.size != c.from.Size {
		return c.changed()
	}
	var digests sdk.Digests
	if o.mark == c.mark() {
		digests = o.digests()
	}
	if digests == nil && c.original != nil {
		digests = c.original.digests()
	}
	return c.part.CopiedAll(digests)
}

func (c *copying) changed() error { return (&object{key: c.from.Key}).changed(c.from.from(c.store)) }

// refusal sorts the errors of a request to copy: the content has changed, the attempt can be repeated, or the store does not do it.
func (c *copying) refusal(err error) error {
	var timeout net.Error
	switch status := statusOf(err); {
	case err == nil:
		return nil
	case c.ctx.Err() != nil:
		return c.failure(c.ctx, err, "copy", c.key)
	case isTaken(err):
		return c.changed()
	case isGone(err):
		return sdk.Retryf(sdk.Corrupt, "the upload to %q is gone", c.location(c.key))
	case status == http.StatusServiceUnavailable, status == http.StatusTooManyRequests, status == http.StatusRequestTimeout:
		return c.failure(c.ctx, err, "copy", c.key)
	case status == 0 && codeOf(err) == "" && !(errors.As(err, &timeout) && timeout.Timeout()):
		return c.failure(c.ctx, err, "copy", c.key)
	}
	return sdk.Errorf(sdk.NotCopied, "copy %q to %q: %s", c.from.from(c.store).location(c.from.Key), c.location(c.key), c.reason(err))
}

// unlessItPasses has a part move as bytes that cannot be copied, for a reason that does not pass by itself.
func (c *copying) unlessItPasses(err error) error {
	if e := sdk.AsError(err); c.ctx.Err() == nil && (!e.Retryable || e.Code == sdk.Corrupt) {
		return sdk.Errorf(sdk.NotCopied, "%w", err)
	}
	return err
}

// abandon keeps what the flow may go on from after err, and otherwise removes it.
func (c *copying) abandon(err error) {
	c.drain() // what is on its way ends with the flow's context, or has failed
	if e := sdk.AsError(err); c.promised && e.Retryable && e.Code != sdk.Corrupt {
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(c.ctx), cleanUp)
	defer cancel()
	if c.id != "" {
		c.abort(ctx, c.key, c.id)
	}
	c.clear(ctx) // what cannot be removed now goes with Deprovision
}
