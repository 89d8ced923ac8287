package publicapi

import (
	"bytes"
	"encoding/json"
	"io"
	"time"

	"github.com/towpath-dataplane/towpath/sdk"
)

// copying writes the bytes of the part that has begun to the client.
//
// The frame that completes an announced length is held back until the source has ended the part and everything about it is checked.
// So the client never has all bytes of what is not as it should be.
type copying struct {
	w io.Writer
	// length is how many bytes there have to be, or sdk.SizeUnknown.
	length int64
	// digest of the whole part; nil for a piece.
	digest *sdk.Digester
	// last, if not nil, is asked after the end of the part.
	last func() error
	// ended, if not nil, is shown the end of the part.
	ended func(*sdk.PartEnd)

	n    int64       // bytes that came
	held *sdk.Data   // nil if none
	sum  sdk.Digests // of the whole part, when it has ended
}

// from copies until the part ends.
func (c *copying) from(rd *reading) error {
	defer c.release()
	for {
		f, err := rd.recv()
		if err != nil {
			return err
		}
		switch f := f.(type) {
		case *sdk.Data:
			err = c.data(f)
		case *sdk.PartEnd:
			return c.end(f)
		case *sdk.Checkpoint:
		default:
			err = misplaced(f)
		}
		if err != nil {
			return err
		}
	}
}

func (c *copying) data(f *sdk.Data) error {
	c.n += int64(f.Len())
	if c.length >= 0 && c.n > c.length {
		f.Release()
		return sdk.Errorf(sdk.Corrupt, "the source sent more than the %d bytes announced", c.length)
	}
	if c.digest != nil {
		f.WriteTo(c.digest) // never fails
	}
	if c.n == c.length && c.held == nil {
		c.held = f
		return nil
	}
	defer f.Release()
	_, err := f.WriteTo(c.w)
	return err
}

func (c *copying) end(e *sdk.PartEnd) error {
	if err := c.check(e); err != nil {
		return err
	}
	if c.ended != nil {
		c.ended(e)
	}
	if c.last != nil {
		if err := c.last(); err != nil {
			return err
		}
	}
	if c.held == nil {
		return nil
	}
	_, err := c.held.WriteTo(c.w)
	return err
}

func (c *copying) check(e *sdk.PartEnd) error {
	switch {
	case c.length >= 0 && c.n != c.length:
		return sdk.Errorf(sdk.Corrupt, "the source sent %d bytes of the %d announced", c.n, c.length)
	case c.digest == nil:
		return nil
	case c.n != e.Size:
		return sdk.Errorf(sdk.Corrupt, "the source sent %d bytes and counted %d", c.n, e.Size)
	}
	c.sum = c.digest.Sum()
	return c.sum.Compare(e.Digests)
}

func (c *copying) release() {
	if c.held != nil {
		c.held.Release()
	}
}

// misplaced releases a frame that does not belong in a part, and says so.
func misplaced(f sdk.Frame) error {
	sdk.Release(f)
	return sdk.Errorf(sdk.Corrupt, "the source sent %T within a part", f)
}

// recordLine is a record as it is written to a client.
type recordLine struct {
	Key     []byte            `json:"key,omitempty"`
	Value   []byte            `json:"value"`
	Time    *time.Time        `json:"time,omitempty"`
	Headers map[string][]byte `json:"headers,omitempty"`
}

// copyRecords writes the records of the part that has begun, a line each and when wait lets them, until the part ends and last, if not
// nil, agrees.
func copyRecords(w io.Writer, rd *reading, wait func(bytes, records int64) error, last func() error) (*sdk.PartEnd, error) {
	var lines bytes.Buffer
	count := int64(0)
	for {
		f, err := rd.recv()
		if err != nil {
			return nil, err
		}
		switch f := f.(type) {
		case *sdk.RecordBatch:
			count += int64(f.Len())
			if err = wait(0, int64(f.Len())); err != nil {
				f.Release()
				return nil, err
			}
			err = writeRecords(w, &lines, f)
		case *sdk.PartEnd:
			if f.Records != count {
				return nil, sdk.Errorf(sdk.Corrupt, "the source sent %d records and counted %d", count, f.Records)
			}
			if last != nil {
				err = last()
			}
			return f, err
		case *sdk.Checkpoint:
		default:
			err = misplaced(f)
		}
		if err != nil {
			return nil, err
		}
	}
}

// writeRecords writes a batch and releases it. The batch is given back before the client takes its lines.
func writeRecords(w io.Writer, lines *bytes.Buffer, f *sdk.RecordBatch) error {
	lines.Reset()
	err := encodeRecords(lines, f)
	f.Release()
	if err != nil {
		return err
	}
	_, err = lines.WriteTo(w)
	return err
}

func encodeRecords(lines *bytes.Buffer, f *sdk.RecordBatch) error {
	records, err := f.Records()
	if err != nil {
		return err
	}
	encoder := json.NewEncoder(lines)
	for _, r := range records {
		line := recordLine{Key: r.Key, Value: r.Value, Headers: r.Headers}
		if line.Value == nil {
			line.Value = []byte{}
		}
		if !r.Time.IsZero() {
			t := r.Time.UTC()
			line.Time = &t
		}
		if err := encoder.Encode(line); err != nil {
			return err
		}
	}
	return nil
}
