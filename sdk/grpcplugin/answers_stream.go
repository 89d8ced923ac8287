package grpcplugin

import (
	"context"
	"sync"
	"time"

	"google.golang.org/grpc"

	pluginv1 "github.com/towpath-dataplane/towpath/proto/towpath/plugin/v1"
	"github.com/towpath-dataplane/towpath/sdk"
)

// streamTalk is a talk on gRPC.
type streamTalk struct {
	stream grpc.BidiStreamingClient[pluginv1.ReadOpen, pluginv1.Frame]
	cancel context.CancelFunc
	bundle []*pluginv1.Frame // came together, and were not taken yet

	cutting sync.Once
	giveUp  *time.Timer // set by cutting
}

// converse begins a talk on gRPC.
func (c *Client) converse(context.Context) (talk, error) {
	ctx, cancel := context.WithCancel(context.Background())
	stream, err := c.source.Answer(ctx)
	if err != nil {
		cancel()
		return nil, err
	}
	return &streamTalk{stream: stream, cancel: cancel}, nil
}

func (t *streamTalk) ask(open *pluginv1.ReadOpen) error { return t.stream.Send(open) }

func (t *streamTalk) next() (m message, err error) {
	for len(t.bundle) == 0 {
		if err := t.stream.RecvMsg(&m); err != nil || m.bundle == nil {
			return m, err
		}
		t.bundle, m.bundle = m.bundle, nil
	}
	f := t.bundle[0]
	t.bundle = t.bundle[1:]
	if data, ok := f.Kind.(*pluginv1.Frame_Data); ok {
		if n := len(data.Data); n == 0 || n > sdk.MaxData {
			return m, sdk.Errorf(sdk.Internal, "a data frame of %d bytes", n)
		}
		return message{frame: &sdk.Data{Payload: sdk.BytesPayload(data.Data)}}, nil
	}
	if err := m.fromProto(f); err != nil {
		return m, sdk.Errorf(sdk.Internal, "a frame in a bundle: %w", err)
	}
	return m, nil
}

func (t *streamTalk) pending() bool { return len(t.bundle) > 0 }

func (t *streamTalk) clean() bool { return len(t.bundle) == 0 }

// cut ends the host's half: the plugin lets go of what it reads and ends the other. If it does not, the stream is broken off.
func (t *streamTalk) cut() {
	t.cutting.Do(func() {
		t.stream.CloseSend()
		t.giveUp = time.AfterFunc(hangUpWait, t.cancel)
	})
}

func (t *streamTalk) close(bool) {
	t.cut()
	defer t.giveUp.Stop()
	defer t.cancel()
	for {
		var m message
		err := t.stream.RecvMsg(&m)
		sdk.Release(m.frame)
		if err != nil {
			return
		}
	}
}
