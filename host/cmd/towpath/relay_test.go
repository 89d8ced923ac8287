//go:build linux

package main

import (
	"context"
	"fmt"
	"io"
	"strconv"
	"testing"

	"google.golang.org/grpc"

	pluginv1 "github.com/towpath-dataplane/towpath/proto/towpath/plugin/v1"
	"github.com/towpath-dataplane/towpath/sdk"
)

// relaySource and relaySink are the plain protobuf relay that Towpath's lane is measured against.
type relaySource struct {
	pluginv1.UnimplementedDataSourceServer
}

func (relaySource) Read(stream grpc.BidiStreamingServer[pluginv1.ReadUp, pluginv1.Frame]) error {
	open, err := stream.Recv()
	if err != nil {
		return err
	}
	size, err := sdk.ParseSize(open.GetOpen().Address.Properties["size"])
	if err != nil {
		return err
	}
	if batch, err := strconv.Atoi(open.GetOpen().Address.Properties["batch"]); err == nil {
		return relayRecords(stream, int(size), batch)
	}
	buf := make([]byte, message)
	for ; size > 0; size -= message {
		copy(buf, block) // as the other lane's source is read
		if err := stream.Send(&pluginv1.Frame{Kind: &pluginv1.Frame_Data{Data: buf}}); err != nil {
			return err
		}
	}
	return nil
}

// relayRecords sends records as the other lanes' source gives them.
func relayRecords(stream grpc.BidiStreamingServer[pluginv1.ReadUp, pluginv1.Frame], left, size int) error {
	given := records{left: left, batch: make([]sdk.Record, size)}
	for {
		batch, _, err := given.Next(stream.Context())
		if err != nil {
			return nil
		}
		frame := &pluginv1.Records{Count: uint32(len(batch)), Records: make([]*pluginv1.Record, len(batch))}
		for i, r := range batch {
			frame.Records[i] = &pluginv1.Record{Value: r.Value}
		}
		if err := stream.Send(&pluginv1.Frame{Kind: &pluginv1.Frame_Records{Records: frame}}); err != nil {
			return err
		}
	}
}

type relaySink struct {
	pluginv1.UnimplementedDataSinkServer
}

func (relaySink) Write(stream grpc.BidiStreamingServer[pluginv1.Frame, pluginv1.WriteUp]) error {
	for {
		_, err := stream.Recv()
		if err == io.EOF {
			return stream.Send(&pluginv1.WriteUp{Kind: &pluginv1.WriteUp_Done{Done: &pluginv1.WriteDone{}}})
		}
		if err != nil {
			return err
		}
	}
}

func relayLane(b *testing.B) lane {
	source := pluginv1.NewDataSourceClient(dial(b, start(b, "relay")))
	sink := pluginv1.NewDataSinkClient(dial(b, start(b, "relay")))
	return func(n int64, batch int) error {
		from, err := source.Read(context.Background())
		if err != nil {
			return err
		}
		properties := map[string]string{"size": fmt.Sprint(n)}
		if batch > 0 {
			properties["batch"] = fmt.Sprint(batch)
		}
		open := &pluginv1.ReadOpen{Address: &pluginv1.DataAddress{Properties: properties}}
		if err := from.Send(&pluginv1.ReadUp{Kind: &pluginv1.ReadUp_Open{Open: open}}); err != nil {
			return err
		}
		to, err := sink.Write(context.Background())
		if err != nil {
			return err
		}
		for {
			f, err := from.Recv()
			if err == io.EOF {
				break
			}
			if err != nil {
				return err
			}
			if err := to.Send(f); err != nil {
				return err
			}
		}
		if err := to.CloseSend(); err != nil {
			return err
		}
		_, err = to.Recv()
		return err
	}
}
