package sdk

import (
	"bytes"
	"context"
	"io"
	"path"
	"strings"
	"time"
)

// SizeUnknown is the Size of a part whose size is not known before its end.
const SizeUnknown = -1

// PartInfo describes a part.
type PartInfo struct {
	// Index is the part's ordinal in the flow, from 0. The SDK sets it.
	Index uint64
	// Name is a relative path with '/' between its elements, without "." and "..". Unique in the flow. See CheckName.
	Name string
	// MediaType is "" if not known.
	MediaType string
	// Size of the whole part in bytes, or SizeUnknown.
	Size int64
	// Modified is when the content last changed; zero if not known.
	Modified   time.Time
	Properties map[string]string
	// Validator is equal as long as the content is, as strong as an HTTP ETag. "" if there is none.
	Validator string
	// Records: the part carries records, not bytes.
	Records bool
	// TotalParts is the number of parts in the flow, 0 if not known.
	TotalParts int
	// TotalBytes is the size of all parts of the flow together, 0 if not known.
	TotalBytes int64
	// Reference, if not nil, stands for the content: it is what a Copier of the same plugin needs to copy that content, and no other, inside
	// their store. A Source sets it when it is asked for references, of parts of bytes whose Size it knows. It is opaque to all others,
	// has no secrets, and at most MaxReference bytes.
	Reference []byte
	// Response is the head of the answer to a ProxyRequest, nil without one.
	Response *Response
}

// MaxReference is the most bytes of a Reference.
const MaxReference = 64 << 10

// Part is what a Source yields. Exactly one of Open and OpenRecords is set.
type Part struct {
	PartInfo
	// Open returns the bytes of the part from offset on. It returns ErrFromStart for an offset it cannot begin at. The reader is
	// read by one goroutine and closed before the next part is asked for. ctx ends with the flow.
	Open func(ctx context.Context, offset int64) (io.ReadCloser, error)
	// Digests are what the origin says of the whole content, nil if it says nothing. A part that is read to its end and has others fails
	// with Corrupt, retryable, however often it was cut in between.
	Digests Digests
	// Trailer, if not nil, returns what stood behind the content of a part with a Response. It is called when that was read to its end.
	Trailer func() []HeaderField
	// OpenRecords returns the records of the part after the place that token marks, nil for the beginning.
	OpenRecords func(ctx context.Context, token []byte) (RecordReader, error)
}

// RecordReader reads the records of a part.
type RecordReader interface {
	// Next returns the records that are there, at least one, waiting if there is none, and a token for the place behind them. The
	// batch is the caller's until the next call. The error is io.EOF at the end.
	//
	// A reader whose server can be silent for long returns an empty batch now and then, with the token: a checkpoint that was asked
	// for is given then.
	Next(ctx context.Context) (batch []Record, token []byte, err error)
	Close() error
}

// Acknowledger is a RecordReader that tells its server what need not be sent again.
type Acknowledger interface {
	// Acknowledge says that the place behind token, and all before it, are stored. It does not wait. It is called beside Next, and
	// behind its io.EOF, until Close, which comes when the last place is stored or the flow has ended.
	Acknowledge(token []byte)
}

// Record is one message of a part that is a stream of messages.
type Record struct {
	Key     []byte
	Value   []byte
	Time    time.Time // microseconds survive; zero if not known
	Headers map[string][]byte
}

// BytesPart returns a part whose content is in memory.
func BytesPart(name, mediaType string, content []byte) Part {
	return Part{
		PartInfo: PartInfo{Name: name, MediaType: mediaType, Size: int64(len(content))},
		Open: func(_ context.Context, offset int64) (io.ReadCloser, error) {
			return io.NopCloser(bytes.NewReader(content[min(offset, int64(len(content))):])), nil
		},
	}
}

// ReaderPart returns a part that is read once, from its start, until r ends.
func ReaderPart(name, mediaType string, r io.ReadCloser) Part {
	return Part{
		PartInfo: PartInfo{Name: name, MediaType: mediaType, Size: SizeUnknown},
		Open: func(_ context.Context, offset int64) (io.ReadCloser, error) {
			if offset > 0 {
				return nil, ErrFromStart
			}
			return r, nil
		},
	}
}

// CheckName says what is wrong with the name of a part. A name that passes is safe to join to a folder on every system, and to
// show on a terminal.
func CheckName(name string) error {
	reject := func(why string) error { return Errorf(Invalid, "part name %q %s", name, why) }
	switch {
	case name == "":
		return reject("is empty")
	case len(name) > 1024:
		return Errorf(Invalid, "part name has more than 1024 bytes: %.64q...", name)
	case strings.HasPrefix(name, "/"), strings.Contains(name, `\`), path.Clean(name) != name, name == ".":
		return reject("is not a plain relative path")
	case name == "..", strings.HasPrefix(name, "../"):
		return reject("leads out of its folder")
	}
	for _, r := range name {
		if r < 0x20 || r == 0x7f || r == '\uFFFD' {
			return reject("has control characters or is not UTF-8")
		}
	}
	return nil
}
