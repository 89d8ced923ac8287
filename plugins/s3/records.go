package main

import (
	"context"
	"encoding/json"
	"fmt"
	"hash/crc32"
	"io"
	"path"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"

	"github.com/towpath-dataplane/towpath/sdk"
)

const (
	recordsType   = "application/jsonl"
	recordsSuffix = ".jsonl"
	// successName is the object that says that a part of records has ended.
	successName = "_SUCCESS"

	defaultBatchTime = time.Minute
	retryFlush       = 5 * time.Second
)

// batchLimits say when records that were gathered become an object.
type batchLimits struct {
	size int64
	time time.Duration
}

func batchOf(a sdk.DataAddress) batchLimits {
	l := batchLimits{size: 8 << 20, time: defaultBatchTime}
	if n, err := sdk.ParseSize(a.Get("batchSize")); err == nil && n > 0 {
		l.size = min(n, 1<<30)
	}
	if d, err := time.ParseDuration(a.Get("batchTime")); err == nil && d > 0 {
		l.time = d
	}
	return l
}

// line is a record as a line of an object. encoding/json writes bytes in base64.
type line struct {
	Key     []byte            `json:"key,omitempty"`
	Value   []byte            `json:"value"`
	Time    *time.Time        `json:"time,omitempty"`
	Headers map[string][]byte `json:"headers,omitempty"`
}

// batch gathers the records of one part. Each object is named by the position of its first record, so that records that come again
// replace what they were; objects behind the place that a flow goes on from are removed first. Together that makes each record be there
// once.
type batch struct {
	*work
	ctx    context.Context
	key    string // of the folder of objects, ends with '/'
	flow   string // in the names of objects: other flows may write to the same folder
	limits batchLimits

	mu      sync.Mutex // guards what follows, against the timer
	content blocks
	crc     uint32 // of content
	first   int64  // position of the first record in content
	count   int64  // of records in content
	timer   *time.Timer
	ended   bool
}

func (w *writer) writeRecords(ctx context.Context, p *sdk.IncomingPart, key string) error {
	b := &batch{work: w.newWork(p.Name, newNonce()), ctx: ctx, key: key + "/", flow: w.flow[:16], limits: w.batch}
	b.target = b.objectKey
	if err := b.begin(p, w.redelivery); err != nil {
		return err
	}
	defer b.stop()
	p.OnCheckpoint(b.checkpoint)
	if err := b.gather(p); err != nil {
		b.abandon()
		return err
	}
	if err := b.end(); err != nil {
		return err
	}
	p.Commit(b.location(b.key))
	return nil
}

// begin takes up what a token tells of, and removes the objects behind that place.
func (b *batch) begin(p *sdk.IncomingPart, redelivery bool) error {
	if p.Token != nil {
		t, err := decodeToken(p.Token, -1)
		if err != nil {
			return err
		}
		b.nonce, b.first, b.count, b.kept = t.Nonce, t.First, t.Records, true
		if t.Tail > 0 {
			if err := b.recall(t); err != nil {
				return err
			}
		}
	}
	if p.Token == nil && !redelivery {
		return nil
	}
	if b.count > 0 {
		b.arm(b.limits.time)
	}
	return b.truncate()
}

func (b *batch) recall(t token) error {
	err := b.get(b.ctx, b.tailKey(t.First), t.Tail, &b.content)
	if isMissing(err) {
		return sdk.Errorf(sdk.Corrupt, "the records from %d on, which were kept, are gone", t.First)
	}
	if err != nil {
		return err
	}
	sum := crc32.New(castagnoli)
	b.content.WriteTo(sum)
	if b.crc = sum.Sum32(); b.crc != t.TailCRC {
		return sdk.Errorf(sdk.Corrupt, "the records that were kept are not those that were written")
	}
	return nil
}

// truncate removes this flow's objects from the place on, and tails for such. What is in them comes again, in other portions.
func (b *batch) truncate() error {
	err := b.removeFrom(b.key, func(key string) (int64, bool) { return b.position(key) })
	if err != nil {
		return err
	}
	return b.removeFrom(b.folder, func(key string) (int64, bool) {
		first, ok := tailPosition(key)
		return first, ok && key != b.tailKey(b.first)
	})
}

// removeFrom removes the objects with a prefix whose position is that of the batch or behind.
func (b *batch) removeFrom(prefix string, position func(key string) (int64, bool)) error {
	in := &s3.ListObjectsV2Input{Bucket: &b.bucket, Prefix: &prefix}
	for {
		page, err := b.client.ListObjectsV2(b.ctx, in)
		if err != nil {
			return b.failure(b.ctx, err, "list", prefix)
		}
		for _, o := range page.Contents {
			at, ok := position(aws.ToString(o.Key))
			if !ok || at < b.first {
				continue
			}
			if err := b.remove(b.ctx, aws.ToString(o.Key)); err != nil {
				return err
			}
		}
		if !aws.ToBool(page.IsTruncated) || aws.ToString(page.NextContinuationToken) == "" {
			return nil
		}
		in.ContinuationToken = page.NextContinuationToken
	}
}

// tailPosition is the position of the first record of a tail.
func tailPosition(key string) (int64, bool) {
	name, ok := strings.CutPrefix(path.Base(key), recordsPrefix)
	number, _, _ := strings.Cut(name, "-")
	n, err := strconv.ParseUint(number, 10, 63)
	return int64(n), ok && err == nil
}

// objectKey names an object by the position of its first record.
func (b *batch) objectKey(first int64) string {
	return fmt.Sprintf("%s%019d-%s%s", b.key, first, b.flow, recordsSuffix)
}

// position is the other way round. It knows this flow's objects only.
func (b *batch) position(key string) (int64, bool) {
	name, ok := strings.CutSuffix(strings.TrimPrefix(key, b.key), "-"+b.flow+recordsSuffix)
	if !ok || len(name) != 19 {
		return 0, false
	}
	n, err := strconv.ParseUint(name, 10, 63)
	return int64(n), err == nil
}

func (b *batch) gather(p *sdk.IncomingPart) error {
	for {
		records, err := p.NextRecords()
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
		if err := b.add(records); err != nil {
			return err
		}
	}
}

func (b *batch) add(records []sdk.Record) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, r := range records {
		l := line{Key: r.Key, Value: r.Value, Headers: r.Headers}
		if !r.Time.IsZero() {
			l.Time = &r.Time
		}
		text, err := json.Marshal(l)
		if err != nil {
			return err
		}
		text = append(text, '\n')
		if b.content.n > 0 && b.content.n+int64(len(text)) > b.limits.size {
			if err := b.flush(b.ctx); err != nil {
				return err
			}
		}
		b.content.Write(text)
		b.crc = crc32.Update(b.crc, castagnoli, text)
		if b.count++; b.count == 1 {
			b.arm(b.limits.time)
		}
	}
	return nil
}

// flush makes an object of what was gathered.
func (b *batch) flush(ctx context.Context) error {
	in := &s3.PutObjectInput{
		Bucket: &b.bucket, Key: aws.String(b.objectKey(b.first)), Body: b.content.reader(), ContentLength: &b.content.n,
		ContentType: aws.String(recordsType), Metadata: map[string]string{markName: b.mark()},
	}
	if b.checksums {
		in.ChecksumCRC32C = aws.String(base64CRC(b.crc))
	}
	if _, err := b.client.PutObject(ctx, in); err != nil {
		return b.failure(ctx, err, "write", *in.Key)
	}
	b.content.release()
	b.first, b.count, b.crc = b.first+b.count, 0, 0
	return nil
}

// arm has the batch flushed after d, also while no record comes. A failure is not lost: the records are kept, and tried again.
func (b *batch) arm(d time.Duration) {
	if b.timer != nil {
		b.timer.Reset(d)
		return
	}
	b.timer = time.AfterFunc(d, func() {
		b.mu.Lock()
		defer b.mu.Unlock()
		if !b.ended && b.count > 0 && b.flush(b.ctx) != nil && b.ctx.Err() == nil {
			b.timer.Reset(retryFlush)
		}
	})
}

// stop waits for the timer's work.
func (b *batch) stop() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.ended = true
	if b.timer != nil {
		b.timer.Stop()
	}
	b.content.release()
}

// checkpoint makes what was gathered durable, without making an object of it before its time.
func (b *batch) checkpoint() ([]byte, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	t := token{Nonce: b.nonce, First: b.first, Records: b.count, Tail: b.content.n, TailCRC: b.crc}
	if b.count > 0 {
		if err := b.keepTail(b.ctx, b.first, &b.content); err != nil {
			return nil, err
		}
	}
	b.kept = true
	return t.encode()
}

// end writes what is left, and says that the part has ended.
func (b *batch) end() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.count > 0 {
		if err := b.flush(b.ctx); err != nil {
			return err
		}
	}
	var nothing blocks
	if err := b.put(b.ctx, b.key+successName, &nothing, nil); err != nil {
		return err
	}
	b.clear(b.ctx) // what cannot be removed now goes with Deprovision
	return nil
}

// abandon makes an object of what was gathered: it may be long until the flow goes on, if it does.
func (b *batch) abandon() {
	b.mu.Lock()
	defer b.mu.Unlock()
	ctx, cancel := context.WithTimeout(context.WithoutCancel(b.ctx), cleanUp)
	defer cancel()
	if b.count > 0 {
		b.flush(ctx) // what was acknowledged of it is kept in any case
	}
}
