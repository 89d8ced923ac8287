package main

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"iter"
	"maps"
	"strconv"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/towpath-dataplane/towpath/sdk"
)

// sink writes to topics. Each flow has a client of its own.
type sink struct{ env *environment }

var (
	_ sdk.Sink          = (*sink)(nil)
	_ sdk.Validator     = (*sink)(nil)
	_ sdk.Provisioner   = (*sink)(nil)
	_ sdk.Deprovisioner = (*sink)(nil)
)

// Validate says what is wrong with the properties, each by itself and together.
func (s *sink) Validate(_ context.Context, a sdk.DataAddress) error {
	a, err := s.resolve(sdk.FlowContext{}, a)
	if err == nil {
		_, err = newDestination(a)
	}
	return err
}

// destination is what an address asks for.
type destination struct {
	*target
	transactional bool
	partition     int32 // anyPartition: that of the key
	codec         kgo.CompressionCodec
}

const anyPartition = -1

// codecs are the compressions by name.
var codecs = map[string]kgo.CompressionCodec{
	"none": kgo.NoCompression(), "gzip": kgo.GzipCompression(), "snappy": kgo.SnappyCompression(), "lz4": kgo.Lz4Compression(), "zstd": kgo.ZstdCompression(),
}

func codecNames() iter.Seq[string] { return maps.Keys(codecs) }

func newDestination(a sdk.DataAddress) (*destination, error) {
	r := addressReader{address: a}
	d := &destination{target: r.target(), partition: anyPartition, codec: codecs[a.Get("compression")]}
	d.transactional, _ = strconv.ParseBool(a.Get("transactional"))
	if text := a.Get("partition"); text != "" {
		n, err := strconv.ParseInt(text, 10, 32)
		if err != nil || n < 0 {
			r.fail("partition", "is not the number of a partition")
		}
		d.partition = int32(n)
	}
	return d, sdk.InvalidFields(r.errs)
}

// Write makes each record a message, and each part of bytes one too.
func (s *sink) Write(ctx context.Context, req sdk.WriteRequest, parts iter.Seq2[*sdk.IncomingPart, error]) (err error) {
	a, err := s.resolve(req.Flow, req.Address)
	if err != nil {
		return err
	}
	d, err := newDestination(a)
	if err != nil {
		return err
	}
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	w, err := s.env.newWriter(ctx, stop, d, req)
	if err != nil {
		return err
	}
	defer w.close()
	for p, err := range parts {
		if err != nil {
			return err
		}
		if err := w.write(ctx, p); err != nil {
			return fmt.Errorf("part %q: %w", p.Name, err)
		}
	}
	return nil
}

// flowName is what names a flow to brokers: as its transaction, and as the group that keeps its place. A flow's id is chosen by a peer
// and so is not a name.
func flowName(flow sdk.FlowContext) string {
	sum := sha256.Sum256([]byte(flow.ParticipantContext + "\x00" + flow.ID))
	return "towpath-" + hex.EncodeToString(sum[:16])
}
