package main

import (
	"context"
	"fmt"
	"io"
	"iter"
	"math"
	"strconv"
	"time"

	"github.com/towpath-dataplane/towpath/sdk"
)

// The modes of Generate.
const (
	modeBytes   = "bytes"
	modeRecords = "records"
)

func generateType() sdk.SourceType {
	return sdk.SourceType{Source: generate{}, AddressType: sdk.AddressType{
		Type: "Generate",
		Documentation: "Content made up from a seed: the same at every reading, and different in every page of 4 KiB or every record. " +
			"Without `size` and `duration` it has no end.",
		Resumable: true,
		Address: sdk.Schema{Fields: []sdk.Field{
			{Name: "size", Kind: sdk.Size, Documentation: "Bytes in each part. Records: as many whole ones as that holds."},
			{Name: "duration", Kind: sdk.Duration, Documentation: "How long each part goes on, from when it is opened."},
			{Name: "rate", Kind: sdk.Size, Default: "0", Documentation: "Bytes, or records, per second. 0: as many as possible."},
			{Name: "seed", Kind: sdk.Int, Default: "1", Documentation: "Another seed makes other content."},
			{Name: "mode", Default: modeBytes, OneOf: []string{modeBytes, modeRecords}, Documentation: "What the parts carry."},
			{Name: "record_size", Kind: sdk.Size, Default: "1KiB", Documentation: "Bytes in each record: 8 for its number, and what follows."},
			{Name: "parts", Kind: sdk.Int, Default: "1", Documentation: "Number of parts."},
		}},
	}}
}

// plan is what an address asks Generate for.
type plan struct {
	size       int64 // of each part, less than 0: not bounded
	duration   time.Duration
	rate       int64
	seed       int64
	records    bool
	recordSize int64
	parts      int64
}

// The bounds of what Generate makes.
const (
	minRecordSize = 8
	maxRecordSize = 256 << 10
	maxParts      = 1_000_000
)

// newPlan reads an address that its schema has accepted.
func newPlan(a sdk.DataAddress) (plan, error) {
	f := fields{address: a}
	p := plan{
		size:       f.size("size", -1),
		duration:   f.duration("duration"),
		rate:       f.size("rate", 0),
		seed:       f.int("seed", 1),
		records:    a.Get("mode") == modeRecords,
		recordSize: f.size("record_size", 1<<10),
		parts:      f.int("parts", 1),
	}
	if p.records && (p.recordSize < minRecordSize || p.recordSize > maxRecordSize) {
		f.refuse("record_size", fmt.Sprintf("has to be from %d to %d", minRecordSize, maxRecordSize))
	}
	if p.parts < 1 || p.parts > maxParts {
		f.refuse("parts", fmt.Sprintf("has to be from 1 to %d", maxParts))
	}
	if p.parts > 1 && p.size < 0 && p.duration == 0 {
		f.refuse("parts", "the first part has no end: set size or duration")
	}
	if p.duration < 0 {
		f.refuse("duration", "must not be negative")
	}
	return p, sdk.InvalidFields(f.errors)
}

// fields reads the properties of an address and collects what is wrong with them.
type fields struct {
	address sdk.DataAddress
	errors  []sdk.FieldError
}

func (f *fields) refuse(field, why string) {
	f.errors = append(f.errors, sdk.FieldError{Field: field, Message: why})
}

// size returns a number of bytes, and absent if the address has none.
func (f *fields) size(name string, absent int64) int64 {
	return field(f, name, absent, sdk.ParseSize)
}

func (f *fields) int(name string, absent int64) int64 {
	return field(f, name, absent, func(text string) (int64, error) { return strconv.ParseInt(text, 10, 64) })
}

func (f *fields) duration(name string) time.Duration {
	return field(f, name, 0, time.ParseDuration)
}

func field[V any](f *fields, name string, absent V, parse func(string) (V, error)) V {
	text := f.address.Get(name)
	if text == "" {
		return absent
	}
	v, err := parse(text)
	if err != nil {
		f.refuse(name, err.Error())
	}
	return v
}

// generate is the source of made-up content.
type generate struct{}

var (
	_ sdk.Source    = generate{}
	_ sdk.Validator = generate{}
)

func (generate) Validate(_ context.Context, a sdk.DataAddress) error {
	_, err := newPlan(a)
	return err
}

func (generate) Read(_ context.Context, req sdk.ReadRequest) iter.Seq2[sdk.Part, error] {
	return func(yield func(sdk.Part, error) bool) {
		p, err := newPlan(req.Address)
		if err != nil {
			yield(sdk.Part{}, err)
			return
		}
		for i := range p.parts {
			if !yield(p.part(i), nil) {
				return
			}
		}
	}
}

func (p plan) part(index int64) sdk.Part {
	part := sdk.Part{PartInfo: sdk.PartInfo{
		MediaType: "application/octet-stream", Size: sdk.SizeUnknown, TotalParts: int(p.parts), Records: p.records,
	}}
	if p.records {
		part.Name = fmt.Sprintf("part-%04d", index)
		part.OpenRecords = func(_ context.Context, token []byte) (sdk.RecordReader, error) {
			return p.openRecords(index, token)
		}
		return part
	}
	part.Name = fmt.Sprintf("part-%04d.bin", index)
	if p.duration == 0 && p.size >= 0 {
		part.Size = p.size
		part.Validator = fmt.Sprintf("%d-%d-%d", p.seed, index, p.size)
		if p.size <= math.MaxInt64/p.parts {
			part.TotalBytes = p.size * p.parts
		}
	}
	part.Open = func(ctx context.Context, offset int64) (io.ReadCloser, error) {
		return p.openBytes(ctx, index, offset)
	}
	return part
}

// limit is where a part ends.
type limit struct {
	rest     int64 // bytes or records
	deadline time.Time
}

func (p plan) limit(rest int64) limit {
	l := limit{rest: rest}
	if p.duration > 0 {
		l.deadline = time.Now().Add(p.duration)
	}
	return l
}

// take returns how many of n come before the end: 0 at the end.
func (l *limit) take(n int64) int64 {
	if !l.deadline.IsZero() && !time.Now().Before(l.deadline) {
		return 0
	}
	n = min(n, l.rest)
	l.rest -= n
	return n
}

func (p plan) openBytes(ctx context.Context, index, offset int64) (io.ReadCloser, error) {
	end := p.size
	if end < 0 {
		end = math.MaxInt64
	}
	if offset > end {
		return nil, sdk.Errorf(sdk.Invalid, "has %d bytes, none at offset %d", end, offset)
	}
	return &byteReader{ctx: ctx, content: newContent(p.seed, index), offset: offset, limit: p.limit(end - offset), pace: newPace(p.rate)}, nil
}

type byteReader struct {
	ctx     context.Context // of the part
	content *content
	offset  int64
	limit   limit
	pace    *pace
}

func (r *byteReader) Read(b []byte) (int, error) {
	if len(b) == 0 {
		return 0, nil
	}
	if err := r.pace.wait(r.ctx); err != nil {
		return 0, err
	}
	n := r.limit.take(r.pace.portion(int64(len(b))))
	if n == 0 {
		return 0, io.EOF
	}
	r.content.fill(b[:n], r.offset)
	r.offset += n
	r.pace.spend(n)
	return int(n), nil
}

func (r *byteReader) Close() error { return nil }

func (p plan) openRecords(index int64, token []byte) (sdk.RecordReader, error) {
	next := int64(0)
	if token != nil {
		var err error
		if next, err = strconv.ParseInt(string(token), 10, 64); err != nil || next < 0 {
			return nil, sdk.Errorf(sdk.Invalid, "%q is not the number of a record", token)
		}
	}
	end := int64(math.MaxInt64)
	if p.size >= 0 {
		end = p.size / p.recordSize
	}
	if next > end {
		return nil, sdk.Errorf(sdk.Invalid, "has %d records, none with number %d", end, next)
	}
	batch := max(1, (128<<10)/p.recordSize)
	return &recordReader{
		content: newContent(p.seed, index), size: int(p.recordSize), next: next, limit: p.limit(end - next), pace: newPace(p.rate),
		memory: make([]byte, batch*p.recordSize), records: make([]sdk.Record, batch),
	}, nil
}

// recordReader makes records in memory that it uses again for each batch.
type recordReader struct {
	content *content
	size    int
	next    int64 // number of the next record
	limit   limit
	pace    *pace
	memory  []byte
	records []sdk.Record
}

func (r *recordReader) Next(ctx context.Context) ([]sdk.Record, []byte, error) {
	if err := r.pace.wait(ctx); err != nil {
		return nil, nil, err
	}
	n := r.limit.take(r.pace.portion(int64(len(r.records))))
	if n == 0 {
		return nil, nil, io.EOF
	}
	for i := range n {
		value := r.memory[i*int64(r.size) : (i+1)*int64(r.size)]
		r.content.record(value, r.next+i)
		r.records[i] = sdk.Record{Value: value}
	}
	r.next += n
	r.pace.spend(n)
	return r.records[:n], strconv.AppendInt(nil, r.next, 10), nil
}

func (r *recordReader) Close() error { return nil }
