package main

import (
	"context"
	"errors"
	"hash/crc32"
	"io"
	"mime"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"

	"github.com/towpath-dataplane/towpath/sdk"
)

// upload is one part on its way to its object. What has come and is not sent is its tail. A part that fits into the tail is sent when
// it is whole, as one object; otherwise a multipart upload is begun.
type upload struct {
	*work
	ctx     context.Context
	part    *sdk.IncomingPart
	key     string
	replace bool
	again   bool // the part may have reached its object in an earlier run

	multipart
	crc      uint32 // of everything that came
	tail     blocks
	tailCRC  uint32
	tailKept int64 // how much of the tail is in an object
	promised bool  // a flow can go on from a checkpoint in this part
	finished *comparison
}

// begin begins a part, or goes on with what an earlier run left.
func (w *writer) begin(ctx context.Context, p *sdk.IncomingPart, key string) (*upload, error) {
	u := &upload{work: w.newWork(p.Name, newNonce()), ctx: ctx, part: p, key: key, replace: w.replace, again: w.redelivery || p.Offset > 0}
	if !u.replace && !u.again {
		if err := u.checkFree(); err != nil {
			return nil, err
		}
	}
	if p.Offset == 0 {
		return u, nil
	}
	t, err := decodeToken(p.Token, p.Offset)
	if err != nil {
		return nil, err
	}
	u.nonce, u.promised, u.kept = t.Nonce, true, true
	if err := u.goOn(t); err != nil {
		u.abandon(err)
		return nil, err
	}
	return u, nil
}

// checkFree refuses a part whose key is taken, before its content is sent in vain.
func (u *upload) checkFree() error {
	_, err := u.head(u.ctx, u.key)
	switch {
	case err == nil:
		return u.taken()
	case isMissing(err):
		return nil
	}
	return err
}

func (u *upload) taken() error {
	return sdk.Errorf(sdk.Conflict, "there is another %q", u.location(u.key))
}

// goOn takes up what a token tells of.
func (u *upload) goOn(t token) error {
	u.crc = t.CRC
	if t.Done {
		return u.recall()
	}
	err := u.takeUp(u.ctx, u.store, u.key, t)
	if err == nil && t.Tail > 0 {
		err = u.recallTail(t)
	}
	if isGone(err) || isMissing(err) {
		return u.recall()
	}
	return err
}

func (u *upload) recallTail(t token) error {
	if err := u.get(u.ctx, u.tailKey(t.Bytes), t.Tail, &u.tail); err != nil {
		return err
	}
	sum := crc32.New(castagnoli)
	u.tail.WriteTo(sum)
	if u.tailCRC = sum.Sum32(); u.tailCRC != t.TailCRC {
		return sdk.Errorf(sdk.Corrupt, "what was kept of the part is not what was written")
	}
	u.tailKept = t.Tail
	return nil
}

// recall compares with the object, which the part had reached after the checkpoint.
func (u *upload) recall() error {
	o, err := u.head(u.ctx, u.key)
	if err != nil && !isMissing(err) {
		return err
	}
	if err != nil || o.mark != u.mark() || o.size < u.part.Offset {
		return sdk.Retryf(sdk.Corrupt, "what was written before offset %d is gone: neither the upload nor the finished object is there",
			u.part.Offset)
	}
	u.tail.release()
	u.finished = &comparison{object: newRangeReader(u.ctx, u.store, o, u.part.Offset), at: u.part.Offset}
	return nil
}

// Write takes bytes of the part. What is full is sent when more comes, so that the last bytes are held back until the part is whole.
func (u *upload) Write(p []byte) (int, error) {
	if u.finished != nil {
		return u.finished.Write(p)
	}
	written := 0
	for written < len(p) {
		size := u.planned(u.part.Size, int64(u.env.PartSize))
		if u.tail.n >= size {
			if err := u.send(); err != nil {
				return written, err
			}
			continue
		}
		chunk := p[written:min(len(p), written+int(min(size-u.tail.n, 1<<30)))]
		u.tail.Write(chunk)
		u.crc = crc32.Update(u.crc, castagnoli, chunk)
		u.tailCRC = crc32.Update(u.tailCRC, castagnoli, chunk)
		written += len(chunk)
	}
	return written, nil
}

// send sends the tail as the next part of the upload.
func (u *upload) send() error {
	if u.id == "" {
		if err := u.start(); err != nil {
			return err
		}
	}
	content := u.tail
	sum := u.tailCRC
	u.tail, u.tailCRC, u.tailKept = blocks{}, 0, 0
	return u.multipart.send(u.ctx, u.store, u.key, content, sum)
}

// start begins the upload. One that an earlier attempt has left goes first.
func (u *upload) start() error {
	return u.begin(u.ctx, &u.multipart, u.key, mediaTypeOf(u.part))
}

// mediaTypeOf is the media type that a part's object gets.
func mediaTypeOf(p *sdk.IncomingPart) string {
	if _, _, err := mime.ParseMediaType(p.MediaType); err != nil {
		return "application/octet-stream"
	}
	return p.MediaType
}

// checkpoint makes what has come durable: in parts of the upload, and what is too little for one in an object of the plugin's own.
func (u *upload) checkpoint() ([]byte, error) {
	if u.finished != nil {
		return token{Nonce: u.nonce, Bytes: u.finished.at, Done: true}.encode()
	}
	if u.tail.n >= max(minPartSize, u.planned(u.part.Size, int64(u.env.PartSize))/2) {
		if err := u.send(); err != nil {
			return nil, err
		}
	}
	if err := u.wait(0); err != nil {
		return nil, err
	}
	if u.tail.n != u.tailKept {
		if err := u.keepTail(u.ctx, u.bytes, &u.tail); err != nil {
			return nil, err
		}
		u.tailKept = u.tail.n
	}
	u.promised = u.promised || u.bytes+u.tail.n > 0
	t := token{Nonce: u.nonce, CRC: u.crc, Bytes: u.bytes, Parts: len(u.parts), Tail: u.tail.n, TailCRC: u.tailCRC}
	if len(u.parts) > 0 {
		t.Upload, t.Tags = u.id, u.tags()
	}
	return t.encode()
}

// finish makes the object, of a part that is known to be whole.
func (u *upload) finish() error {
	defer u.tail.release()
	if u.finished != nil {
		if err := u.finished.end(); err != nil {
			return err
		}
		u.clear(u.ctx) // what cannot be removed now goes with Deprovision
		return nil
	}
	var err error
	if u.id == "" {
		err = u.putWhole()
	} else {
		err = u.completeAll()
	}
	if err != nil {
		return err
	}
	u.clear(u.ctx) // what cannot be removed now goes with Deprovision
	return nil
}

// putWhole sends the tail as the object.
func (u *upload) putWhole() error {
	in := &s3.PutObjectInput{
		Bucket: &u.bucket, Key: &u.key, Body: u.tail.reader(), ContentLength: &u.tail.n, ContentType: aws.String(mediaTypeOf(u.part)),
		Metadata: map[string]string{markName: u.mark()},
	}
	if u.checksums {
		in.ChecksumCRC32C = aws.String(base64CRC(u.crc))
	}
	var options []func(*s3.Options)
	if !u.replace {
		in.IfNoneMatch, options = aws.String("*"), append(options, askFirst)
	}
	_, err := u.client.PutObject(u.ctx, in, options...)
	if isTaken(err) && !u.replace {
		return u.settle(u.tail.n)
	}
	return u.failure(u.ctx, err, "write", u.key)
}

func (u *upload) completeAll() error {
	if u.tail.n > 0 {
		if err := u.send(); err != nil {
			return err
		}
	}
	if err := u.wait(0); err != nil {
		return err
	}
	err := u.complete(u.ctx, u.store, u.key, aws.String(base64CRC(u.crc)), u.replace)
	switch {
	case isGone(err):
		// The answer to an earlier attempt was lost.
		o, headErr := u.head(u.ctx, u.key)
		if headErr == nil && o.mark == u.mark() && o.size == u.bytes {
			return nil
		}
	case isTaken(err) && !u.replace:
		return u.settle(u.bytes)
	}
	return u.failure(u.ctx, err, "write", u.key)
}

// settle looks at the object that has the key already. One that this flow has written, with the same content, is done.
func (u *upload) settle(size int64) error {
	o, err := u.head(u.ctx, u.key)
	if err != nil {
		return err
	}
	own := o.mark == u.mark() || u.again && u.isOwn(o)
	if !own || o.size != size {
		return u.taken()
	}
	sum := crc32.New(castagnoli)
	r := newRangeReader(u.ctx, u.store, o, 0)
	defer r.Close()
	if _, err := io.Copy(sum, r); err != nil {
		return err
	}
	if sum.Sum32() != u.crc {
		return u.taken()
	}
	if u.id != "" {
		return u.abort(u.ctx, u.key, u.id)
	}
	return nil
}

// abandon keeps what the flow may go on from after err, and otherwise removes it.
func (u *upload) abandon(err error) {
	u.wait(0) // what is on its way ends with the flow's context, or has failed
	u.tail.release()
	if u.finished != nil {
		u.finished.object.Close()
	}
	if u.promised && sdk.AsError(err).Retryable {
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(u.ctx), cleanUp)
	defer cancel()
	if u.id != "" {
		u.abort(ctx, u.key, u.id)
	}
	u.clear(ctx) // what cannot be removed now goes with Deprovision
}

// comparison stands in for an upload whose object is finished: what comes has to be what is there.
type comparison struct {
	object *rangeReader
	at     int64
	buffer [32 << 10]byte
}

func (c *comparison) Write(p []byte) (int, error) {
	written := 0
	for written < len(p) {
		n := min(len(p)-written, len(c.buffer))
		m, err := io.ReadFull(c.object, c.buffer[:n])
		if err != nil && !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
			return written, err
		}
		if string(c.buffer[:m]) != string(p[written:written+n]) {
			return written, c.differs()
		}
		written += n
		c.at += int64(n)
	}
	return written, nil
}

// end says whether the object ends where the part does.
func (c *comparison) end() error {
	defer c.object.Close()
	if _, err := io.ReadFull(c.object, c.buffer[:1]); err == nil {
		return c.differs()
	} else if err != io.EOF {
		return err
	}
	return nil
}

func (c *comparison) differs() error {
	return sdk.Errorf(sdk.Corrupt, "the part had reached its object already, with another content")
}
