package main

import (
	"context"
	"crypto/sha256"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"

	"github.com/towpath-dataplane/towpath/sdk"
)

// multipart is the protocol's multipart upload. It is used by one goroutine, and sends parts by others.
type multipart struct {
	id      string // "" until it is begun
	parts   []types.CompletedPart
	bytes   int64      // of the parts, with those on their way
	sending []*sending // parts on their way, in order
}

// sending is a part on its way.
type sending struct {
	part *types.CompletedPart
	size int64
	done chan struct{} // closed when part and err are final
	err  error
}

// planned is how large the next part should be, so that there is room for the rest of the object. size is that of the object, less than
// 0 if it is not known: then parts grow twofold every thousand.
func (m *multipart) planned(size, least int64) int64 {
	n := int64(len(m.parts))
	if size < 0 {
		return min(least<<min(n/1000, 20), maxPartSize)
	}
	left := max(maxParts-n, 1)
	return min(max(least, (size-m.bytes+left-1)/left), maxPartSize)
}

func (m *multipart) create(ctx context.Context, s *store, key, mediaType, mark string) error {
	in := &s3.CreateMultipartUploadInput{
		Bucket: &s.bucket, Key: &key, ContentType: &mediaType, Metadata: map[string]string{markName: mark},
	}
	if s.checksums {
		in.ChecksumAlgorithm, in.ChecksumType = types.ChecksumAlgorithmCrc32c, types.ChecksumTypeFullObject
	}
	longer, cancel := outlive(ctx)
	defer cancel()
	out, err := s.client.CreateMultipartUpload(longer, in, onlyOnce) // of one that was begun unheard only the note tells
	if err != nil {
		return s.failure(ctx, err, "begin an upload to", key)
	}
	if m.id = aws.ToString(out.UploadId); m.id == "" {
		return sdk.Errorf(sdk.Corrupt, "the store has begun an upload to %q without an id", s.location(key))
	}
	return nil
}

// send sends a part, beside others if there is memory for it, and takes its content over. An error may be that of an earlier part.
func (m *multipart) send(ctx context.Context, s *store, key string, content blocks, sum uint32) error {
	if len(m.parts) == maxParts {
		content.release()
		return sdk.Errorf(sdk.Exhausted, "%q has more than %d parts", s.location(key), maxParts)
	}
	m.parts = append(m.parts, types.CompletedPart{PartNumber: aws.Int32(int32(len(m.parts) + 1))})
	m.bytes += content.n
	f := &sending{part: &types.CompletedPart{PartNumber: m.parts[len(m.parts)-1].PartNumber}, size: content.n, done: make(chan struct{})}
	m.sending = append(m.sending, f)
	size, id := f.size, m.id
	if !s.env.memory.take(size) {
		f.run(ctx, s, key, id, &content, sum)
		return m.wait(0)
	}
	go func() {
		defer s.env.memory.give(size)
		f.run(ctx, s, key, id, &content, sum)
	}()
	return m.wait(s.env.Parallel - 1)
}

func (f *sending) run(ctx context.Context, s *store, key, id string, content *blocks, sum uint32) {
	defer close(f.done)
	defer content.release()
	in := &s3.UploadPartInput{
		Bucket: &s.bucket, Key: &key, UploadId: &id, PartNumber: f.part.PartNumber, Body: content.reader(), ContentLength: &content.n,
	}
	if s.checksums {
		in.ChecksumCRC32C = aws.String(base64CRC(sum))
	}
	out, err := s.client.UploadPart(ctx, in)
	if err != nil {
		f.err = s.failure(ctx, err, "write a part of", key)
		return
	}
	f.part.ETag, f.part.ChecksumCRC32C = out.ETag, out.ChecksumCRC32C
}

// wait waits until at most so many parts are on their way, and returns what went wrong.
func (m *multipart) wait(most int) error {
	for len(m.sending) > most {
		f := m.sending[0]
		<-f.done
		if f.err != nil {
			m.drain()
			return f.err
		}
		m.parts[*f.part.PartNumber-1] = *f.part
		m.sending = m.sending[1:]
	}
	return nil
}

// drain waits for all parts on their way, whatever becomes of them.
func (m *multipart) drain() {
	for _, f := range m.sending {
		<-f.done
	}
	m.sending = nil
}

// tags is a digest of the parts' ETags. No part is on its way.
func (m *multipart) tags() []byte { return tagsOf(m.parts) }

func tagsOf(parts []types.CompletedPart) []byte {
	h := sha256.New()
	for _, p := range parts {
		h.Write([]byte(aws.ToString(p.ETag)))
		h.Write([]byte{0})
	}
	return h.Sum(nil)[:16]
}

// takeUp goes on with the upload of a token, whose parts have to be there as they were.
func (m *multipart) takeUp(ctx context.Context, s *store, key string, t token) error {
	if t.Upload == "" {
		return nil
	}
	m.id = t.Upload
	in := &s3.ListPartsInput{Bucket: &s.bucket, Key: &key, UploadId: &t.Upload}
	for len(m.parts) < t.Parts {
		page, err := s.client.ListParts(ctx, in)
		if err != nil {
			m.id = ""
			return s.failure(ctx, err, "go on with the upload to", key)
		}
		for _, p := range page.Parts {
			if len(m.parts) == t.Parts {
				break
			}
			if int(aws.ToInt32(p.PartNumber)) != len(m.parts)+1 {
				return errPartsGone(s, key)
			}
			m.parts = append(m.parts, types.CompletedPart{PartNumber: p.PartNumber, ETag: p.ETag, ChecksumCRC32C: p.ChecksumCRC32C})
			m.bytes += aws.ToInt64(p.Size)
		}
		if !aws.ToBool(page.IsTruncated) {
			break
		}
		in.PartNumberMarker = page.NextPartNumberMarker
	}
	if len(m.parts) != t.Parts || m.bytes != t.Bytes || string(m.tags()) != string(t.Tags) {
		return errPartsGone(s, key)
	}
	return nil
}

func errPartsGone(s *store, key string) error {
	return sdk.Errorf(sdk.Corrupt, "the upload to %q does not have the parts that were sent", s.location(key))
}

// complete makes the object. sum is the CRC-32C of the whole as the protocol writes it, which the store compares if it knows checksums; nil
// if it is not known.
func (m *multipart) complete(ctx context.Context, s *store, key string, sum *string, replace bool) error {
	in := &s3.CompleteMultipartUploadInput{
		Bucket: &s.bucket, Key: &key, UploadId: &m.id, MultipartUpload: &types.CompletedMultipartUpload{Parts: m.parts},
	}
	if s.checksums {
		in.ChecksumCRC32C, in.ChecksumType, in.MpuObjectSize = sum, types.ChecksumTypeFullObject, &m.bytes
	}
	if !replace {
		in.IfNoneMatch = aws.String("*")
	}
	_, err := s.client.CompleteMultipartUpload(ctx, in)
	return err
}
