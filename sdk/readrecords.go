package sdk

import (
	"bytes"
	"context"
	"encoding/binary"
	"io"
	"sync"
)

// sendRecords sends the records of p, from the place on, and returns the digester of the whole part.
func (s *readStream) sendRecords(p Part) (*Digester, error) {
	digest, err := s.digester()
	if err != nil {
		return nil, Errorf(Invalid, "resume token: %w", err)
	}
	records, err := p.OpenRecords(s.ctx, s.place.Token)
	if err != nil {
		return nil, err
	}
	if _, ok := records.(Acknowledger); ok {
		s.told.begin(records)
	} else {
		defer records.Close()
	}
	s.reached = s.place.Token
	if err := s.send(s.header(p, digest.Size())); err != nil {
		return nil, err
	}
	for {
		batch, token, err := records.Next(s.ctx)
		if err == io.EOF {
			return digest, nil
		}
		if err != nil {
			return nil, err
		}
		if err := s.sendBatch(batch, digest); err != nil {
			return nil, err
		}
		s.place.Token = bytes.Clone(token)
		s.reached = s.place.Token
		if s.wantCheckpoint.Load() {
			s.place.Offset, s.place.Digest = digest.Size(), digest.State()
			if err := s.sendCheckpoint(); err != nil {
				return nil, err
			}
		}
	}
}

func (s *readStream) sendBatch(batch []Record, digest *Digester) error {
	if len(batch) == 0 {
		return nil
	}
	digest.WriteRecords(batch)
	s.place.Records += int64(len(batch))
	if s.open.Pack != nil {
		return s.gather(batch)
	}
	return s.lend(batch)
}

// gather sends a copy of the batch, or adds it to what waits for a receiver that is busy.
func (s *readStream) gather(batch []Record) error {
	for {
		ready, fits := s.gathered.add(batch, s.open.Pack, s.idle)
		if ready != nil {
			if err := s.pass(&RecordBatch{ready}); err != nil {
				return err
			}
		}
		if fits {
			return s.ctx.Err()
		}
	}
}

// gathered is records that wait while the receiver has others to deal with.
type gathered struct {
	mu     sync.Mutex // guards packer
	packer Packer     // nil: there are none
}

// add adds records, and returns what is to be sent now: all if the receiver is idle, those from before if the new ones do not fit.
func (g *gathered) add(records []Record, pack func() Packer, idle func() bool) (ready Batch, fits bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.packer == nil {
		g.packer = pack()
	}
	if fits = g.packer.Add(records); fits && !idle() {
		return nil, true
	}
	ready, g.packer = g.packer.Batch(), nil
	return ready, fits
}

// take returns what there is; if idle is not nil, only if nothing is on its way to the receiver before it.
func (g *gathered) take(idle func() bool) Batch {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.packer == nil || idle != nil && !idle() {
		return nil
	}
	b := g.packer.Batch()
	g.packer = nil
	return b
}

// lend lends the author's batch to the receiver and waits until it is given back.
func (s *readStream) lend(batch []Record) error {
	lent := &lentBatch{RecordsBatch: batch, back: make(chan struct{})}
	if err := s.send(&RecordBatch{lent}); err != nil {
		return err
	}
	select {
	case <-lent.back:
		return nil
	case <-s.ctx.Done():
		// The receiver may still read the author's memory. It is told to stop by the same context; the author's next call waits.
		<-lent.back
		return context.Cause(s.ctx)
	}
}

type lentBatch struct {
	RecordsBatch
	back chan struct{}
}

func (l *lentBatch) Release() { close(l.back) }

// WriteRecords adds records: key and value, each behind its length. Size counts keys and values only.
func (d *Digester) WriteRecords(records []Record) {
	if len(d.hashes) == 0 {
		for i := range records {
			d.size += int64(len(records[i].Key) + len(records[i].Value))
		}
		return
	}
	// Hashes cost by the call, so lengths go with a key that is short.
	var space [256]byte
	for i := range records {
		r := &records[i]
		head := binary.BigEndian.AppendUint32(space[:0], uint32(len(r.Key)))
		if len(r.Key) <= len(space)-8 {
			head = append(head, r.Key...)
		} else {
			d.hash(head)
			d.hash(r.Key)
			head = head[:0]
		}
		d.hash(binary.BigEndian.AppendUint32(head, uint32(len(r.Value))))
		d.hash(r.Value)
		d.size += int64(len(r.Key) + len(r.Value))
	}
}
