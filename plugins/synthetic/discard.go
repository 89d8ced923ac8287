package main

import (
	"context"
	"crypto/sha256"
	"encoding"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"hash"
	"io"
	"iter"
	"strconv"
	"sync"

	"github.com/towpath-dataplane/towpath/sdk"
)

func discardType() sdk.SinkType {
	return sdk.SinkType{Sink: &discard{}, AddressType: sdk.AddressType{
		Type:          "Discard",
		Documentation: "Counts what comes and throws it away.",
		Resumable:     true,
		Address: sdk.Schema{Fields: []sdk.Field{
			{Name: "digest", Kind: sdk.Bool, Default: "false", Documentation: "Compute SHA-256 of each part of bytes and say it in the part's location."},
			{Name: "rate", Kind: sdk.Size, Default: "0", Documentation: "Bytes per second. 0: as many as come."},
			{Name: "stall_after", Kind: sdk.Size, Documentation: "Take no more after so many bytes, until the flow is cut."},
			{Name: "fail_after", Kind: sdk.Size, Documentation: "Fail once in the life of a flow, after so many bytes, with an error that can be retried."},
		}},
	}}
}

// discard is the sink that keeps nothing but counts.
type discard struct {
	mu     sync.Mutex
	failed map[flowKey]bool // flows that failed as they were asked to, until Deprovision
}

type flowKey struct{ context, id string }

var (
	_ sdk.Sink          = (*discard)(nil)
	_ sdk.Deprovisioner = (*discard)(nil)
)

func (d *discard) Write(ctx context.Context, req sdk.WriteRequest, parts iter.Seq2[*sdk.IncomingPart, error]) error {
	f := fields{address: req.Address}
	w := &drain{
		ctx:        ctx,
		pace:       newPace(f.size("rate", 0)),
		stallAfter: f.size("stall_after", -1),
		failAfter:  f.size("fail_after", -1),
		fail:       func() bool { return d.failOnce(req.Flow) },
	}
	digest, _ := strconv.ParseBool(req.Address.Get("digest"))
	for p, err := range parts {
		if err != nil {
			return err
		}
		if err := w.part(p, digest); err != nil {
			return fmt.Errorf("part %q: %w", p.Name, err)
		}
	}
	return nil
}

// failOnce returns true the first time it is called for a flow.
func (d *discard) failOnce(flow sdk.FlowContext) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	key := flowKey{flow.ParticipantContext, flow.ID}
	if d.failed[key] {
		return false
	}
	if d.failed == nil {
		d.failed = map[flowKey]bool{}
	}
	d.failed[key] = true
	return true
}

// Deprovision forgets that the flow failed.
func (d *discard) Deprovision(_ context.Context, flow sdk.FlowContext, _ sdk.DataAddress) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	delete(d.failed, flowKey{flow.ParticipantContext, flow.ID})
	return nil
}

// drain takes the bytes of one stream.
type drain struct {
	ctx                   context.Context // of the stream
	pace                  *pace
	stallAfter, failAfter int64 // less than 0: never
	fail                  func() bool
	taken                 int64 // in this stream

	count counted // of the current part
}

// counted is what Discard knows of a part, and its token for the middle of one.
type counted struct {
	Bytes   int64  `json:"bytes"`
	Records int64  `json:"records,omitempty"`
	Digest  []byte `json:"digest,omitempty"` // SHA-256 put to rest
	hash    hash.Hash
}

func (d *drain) part(p *sdk.IncomingPart, digest bool) error {
	count, err := begin(p, digest && !p.PartInfo.Records)
	if err != nil {
		return err
	}
	d.count = count
	p.OnCheckpoint(d.count.token)
	if p.PartInfo.Records {
		err = d.records(p)
	} else {
		_, err = p.WriteTo(d)
	}
	if err != nil {
		return err
	}
	p.Commit(d.count.String())
	return nil
}

// begin counts from the start, or from where the token says.
func begin(p *sdk.IncomingPart, digest bool) (counted, error) {
	var c counted
	if digest {
		c.hash = sha256.New()
	}
	if p.Token == nil {
		return c, nil
	}
	if err := json.Unmarshal(p.Token, &c); err != nil {
		return c, sdk.Errorf(sdk.Invalid, "not a token of this sink: %w", err)
	}
	if c.hash != nil {
		if err := c.hash.(encoding.BinaryUnmarshaler).UnmarshalBinary(c.Digest); err != nil {
			return c, sdk.Errorf(sdk.Invalid, "the token has no digest: %w", err)
		}
	}
	return c, nil
}

func (c *counted) token() ([]byte, error) {
	if c.hash != nil {
		state, err := c.hash.(encoding.BinaryMarshaler).MarshalBinary()
		if err != nil {
			return nil, err
		}
		c.Digest = state
	}
	return json.Marshal(c)
}

// String is the location of what is nowhere.
func (c *counted) String() string {
	text := fmt.Sprintf("discarded %d bytes", c.Bytes)
	if c.Records > 0 {
		text += fmt.Sprintf(" in %d records", c.Records)
	}
	if c.hash != nil {
		text += ", sha256 " + hex.EncodeToString(c.hash.Sum(nil))
	}
	return text
}

func (d *drain) records(p *sdk.IncomingPart) error {
	for {
		batch, err := p.NextRecords()
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
		for _, r := range batch {
			d.count.Records++
			if err := d.take(int64(len(r.Key) + len(r.Value))); err != nil {
				return err
			}
		}
	}
}

// Write takes bytes at the pace of the address.
func (d *drain) Write(b []byte) (int, error) {
	written := 0
	for written < len(b) {
		n := int(d.pace.portion(int64(len(b) - written)))
		if d.count.hash != nil {
			d.count.hash.Write(b[written : written+n])
		}
		if err := d.take(int64(n)); err != nil {
			return written, err
		}
		written += n
	}
	return written, nil
}

// take counts n bytes, and does what the address wants to happen after so many.
func (d *drain) take(n int64) error {
	d.count.Bytes += n
	d.taken += n
	d.pace.spend(n)
	if d.failAfter >= 0 && d.taken >= d.failAfter && d.fail() {
		return sdk.Retryf(sdk.Unavailable, "failed after %d bytes, as the address asks", d.taken)
	}
	if d.stallAfter >= 0 && d.taken >= d.stallAfter {
		<-d.ctx.Done()
		return sdk.ErrInterrupted
	}
	if d.pace.wait(d.ctx) != nil {
		return sdk.ErrInterrupted
	}
	return nil
}
