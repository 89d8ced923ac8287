package verify

import (
	"context"
	"fmt"
	"io"
	"path/filepath"
	"slices"
	"time"

	pluginv1 "github.com/towpath-dataplane/towpath/proto/towpath/plugin/v1"
	"github.com/towpath-dataplane/towpath/sdk"
	"github.com/towpath-dataplane/towpath/sdk/grpcplugin"
)

// compare reads an address by the client that a host uses, and compares what comes with a reading on bare gRPC.
func compare(ctx context.Context, source sdk.DataSource, a sdk.DataAddress, want *reading) error {
	stream, err := source.Read(ctx, sdk.ReadOpen{Flow: sdk.FlowContext{ParticipantContext: "default", ID: "verify-compare"}, Address: a})
	if err != nil {
		return err
	}
	defer stream.Close()
	var parts []*readPart
	for {
		f, err := stream.Recv()
		if err == io.EOF {
			return sameParts(parts, want.parts)
		}
		if err != nil {
			return err
		}
		err = note(&parts, f)
		sdk.Release(f)
		if err != nil {
			return err
		}
		if _, ok := f.(*sdk.End); ok {
			stream.Acknowledge(1 << 62)
		}
	}
}

// note adds a frame to the parts that came.
func note(parts *[]*readPart, f sdk.Frame) error {
	if b, ok := f.(*sdk.PartBegin); ok {
		*parts = append(*parts, &readPart{begin: &pluginv1.PartBegin{Index: b.Index, Name: b.Name}, sum: newSums()})
		return nil
	}
	if len(*parts) == 0 {
		return nil
	}
	part := (*parts)[len(*parts)-1]
	switch f := f.(type) {
	case *sdk.Data:
		part.got += uint64(f.Len())
		_, err := f.WriteTo(sumWriter{part.sum})
		return err
	case *sdk.RecordBatch:
		records, err := f.Records()
		if err != nil {
			return err
		}
		for _, r := range records {
			part.sum.record(&pluginv1.Record{Key: r.Key, Value: r.Value})
			part.got += uint64(len(r.Key) + len(r.Value))
			part.records++
		}
	}
	return nil
}

type sumWriter struct{ sums }

func (s sumWriter) Write(b []byte) (int, error) {
	s.sums.Write(b)
	return len(b), nil
}

// speaksLane returns a client that offers the lane for each call, and what ends it. It is not applicable if the plugin has none.
func (t *trial) speaksLane() (*process, *grpcplugin.Client, func(), error) {
	if !grpcplugin.LaneSupported {
		return nil, nil, nil, skipf("this system has no such lane")
	}
	if !slices.Contains(t.description.GetCapabilities().GetLanes(), grpcplugin.LaneName) {
		return nil, nil, nil, skipf("the plugin does not declare the lane %s", grpcplugin.LaneName)
	}
	p, err := t.fresh()
	if err != nil {
		return nil, nil, nil, err
	}
	client := grpcplugin.NewClient(p.conn)
	if _, err := client.Describe(t.ctx, t.HostVersion); err != nil {
		return nil, nil, nil, err
	}
	stop, err := client.OfferLanes(filepath.Join(p.folder, "lanes"), grpcplugin.LaneOptions{After: -1})
	return p, client, stop, err
}

func sourceLane(t *trial) error {
	_, a, want, err := t.known()
	if err != nil {
		return err
	}
	p, client, stop, err := t.speaksLane()
	if err != nil {
		return err
	}
	err = compare(t.ctx, client.Source(t.typ.Type), a, want)
	p.end()
	stop()
	return err
}

// writeByClient writes parts with the client that a host uses.
func (t *trial) writeByClient(sink sdk.DataSink, a sdk.DataAddress, flow *pluginv1.FlowContext, parts []content) error {
	stream, err := sink.Write(t.ctx, sdk.WriteOpen{Flow: sdk.FlowContext{ParticipantContext: flow.ParticipantContext, ID: flow.Id}, Address: a})
	if err != nil {
		return err
	}
	defer stream.Close()
	sent := make(chan error, 1)
	go func() { sent <- sendFrames(stream, parts) }()
	for {
		up, err := stream.Recv()
		if err != nil {
			return err
		}
		if done, ok := up.(*sdk.Done); ok {
			if done.Parts != int64(len(parts)) {
				return fmt.Errorf("%d parts are done, not %d", done.Parts, len(parts))
			}
			return <-sent
		}
	}
}

func sendFrames(stream sdk.WriteStream, parts []content) error {
	var totals sdk.Totals
	send := func(f sdk.Frame) error {
		if err := stream.Send(f); err != nil {
			return fmt.Errorf("send: %w", err)
		}
		return nil
	}
	for i, c := range parts {
		info := sdk.PartInfo{Index: uint64(i), Name: c.name, Size: c.size, Records: c.records > 0}
		if c.records > 0 {
			info.Size = sdk.SizeUnknown
		}
		if err := send(&sdk.PartBegin{PartInfo: info}); err != nil {
			return err
		}
		length, step := c.size, int64(512<<10)
		if c.records > 0 {
			length, step = int64(c.records), 100
		}
		for offset := int64(0); offset < length; offset += step {
			if err := send(c.sdkFrame(offset, min(step, length-offset))); err != nil {
				return err
			}
		}
		if err := send(&sdk.PartEnd{Size: c.size, Records: int64(c.records)}); err != nil {
			return err
		}
		totals.Parts++
		totals.Bytes += c.size
		totals.Records += int64(c.records)
	}
	return send(&sdk.End{Totals: totals})
}

func (c content) sdkFrame(offset, n int64) sdk.Frame {
	if c.records == 0 {
		return &sdk.Data{Payload: sdk.BytesPayload(c.frame(offset, n).GetData())}
	}
	var batch sdk.RecordsBatch
	for _, r := range c.frame(offset, n).GetRecords().Records {
		batch = append(batch, sdk.Record{Key: r.Key, Value: r.Value, Time: time.UnixMicro(r.TimeMicros), Headers: r.Headers})
	}
	return &sdk.RecordBatch{Batch: batch}
}
