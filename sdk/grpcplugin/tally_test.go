package grpcplugin

import (
	"bytes"
	"context"
	"crypto/sha256"
	"hash/crc32"
	"io"
	"slices"
	"testing"

	"google.golang.org/grpc"

	pluginv1 "github.com/towpath-dataplane/towpath/proto/towpath/plugin/v1"
	"github.com/towpath-dataplane/towpath/sdk"
	"github.com/towpath-dataplane/towpath/sdk/sdktest"
)

// mute serves a plugin that computes no digests, and says so.
type mute struct{ *pluginServer }

func (m mute) Describe(context.Context, *pluginv1.DescribeRequest) (*pluginv1.DescribeResponse, error) {
	d := descriptionToProto(m.plugin.Description())
	d.Capabilities.Digests = nil
	return d, nil
}

// muteSource fails if it is asked for digests.
type muteSource struct{ sourceServer }

func (m muteSource) Read(stream grpc.BidiStreamingServer[pluginv1.ReadUp, pluginv1.Frame]) error {
	return m.sourceServer.Read(muteRead{stream})
}

type muteRead struct {
	grpc.BidiStreamingServer[pluginv1.ReadUp, pluginv1.Frame]
}

func (m muteRead) Recv() (*pluginv1.ReadUp, error) {
	up, err := m.BidiStreamingServer.Recv()
	if err == nil && len(up.GetOpen().GetDigests()) > 0 {
		return nil, sdk.Errorf(sdk.Internal, "digests are asked for")
	}
	return up, err
}

// muteSink believes what is announced, and says nothing of what it has.
type muteSink struct{ sinkServer }

func (m muteSink) Write(stream grpc.BidiStreamingServer[pluginv1.Frame, pluginv1.WriteUp]) error {
	return m.sinkServer.Write(muteWrite{stream})
}

type muteWrite struct {
	grpc.BidiStreamingServer[pluginv1.Frame, pluginv1.WriteUp]
}

func (m muteWrite) RecvMsg(v any) error {
	err := m.BidiStreamingServer.RecvMsg(v)
	if frame, ok := v.(*message); ok && err == nil {
		if end, ok := frame.frame.(*sdk.PartEnd); ok {
			end.Digests = nil
		}
	}
	return err
}

func (m muteWrite) Send(up *pluginv1.WriteUp) error {
	if w := up.GetPartWritten(); w != nil {
		w.Digests = nil
	}
	return m.BidiStreamingServer.Send(up)
}

// muteClient is the host's half of a plugin that computes no digests, with lanes.
func muteClient(t *testing.T, p sdk.Plugin) *Client {
	t.Helper()
	s := newPluginServer(p)
	return offering(t, NewClient(connectTo(t, func(r *grpc.Server) {
		pluginv1.RegisterPluginServer(r, mute{s})
		pluginv1.RegisterDataSourceServer(r, muteSource{sourceServer{pluginServer: s}})
		pluginv1.RegisterDataSinkServer(r, muteSink{sinkServer{pluginServer: s}})
	}, DialOptions()...)))
}

// A plugin that computes no digests passes the suites, because its host computes them.
func TestHostComputesDigests(t *testing.T) {
	parts := []sdktest.Content{
		{Name: "a.bin", Bytes: sdktest.Pattern(1, 1)},
		{Name: "b/empty", Bytes: []byte{}},
		{Name: "b/large.bin", Bytes: sdktest.Pattern(2, 3<<20+17)},
		{Name: "events", Records: []sdk.Record{{Key: []byte("k"), Value: []byte("v")}, {}, {Value: sdktest.Pattern(3, 100_000)}}},
	}
	memory := &sdktest.Memory{}
	for _, p := range parts {
		if p.Records != nil {
			memory.PutRecords(p.Name, p.Records)
		} else {
			memory.Put(p.Name, p.Bytes)
		}
	}
	sdktest.TestSource(t, sdktest.SourceCase{
		New: func(t *testing.T) sdk.DataSource {
			return demanding{t, muteClient(t, memory.Plugin()).Source(sdktest.MemoryType)}
		},
		Address: memory.Address(""), Parts: parts,
	})
	sdktest.TestSink(t, sdktest.SinkCase{Resumable: true, Records: true, New: func(t *testing.T) sdktest.Store {
		memory := &sdktest.Memory{}
		return sdktest.Store{Sink: demandingSink{t, muteClient(t, memory.Plugin()).Sink(sdktest.MemoryType)}, Address: memory.Address(""),
			Names:   func() ([]string, error) { return memory.Names(), nil },
			Content: memory.Content, Records: memory.Records,
			Begun: func() ([]string, error) { return memory.Begun(), nil }}
	}})
}

// demanding fails the test if a part that comes whole has no digests, which the suite would let pass.
type demanding struct {
	t *testing.T
	sdk.DataSource
}

func (d demanding) Read(ctx context.Context, open sdk.ReadOpen) (sdk.ReadStream, error) {
	s, err := d.DataSource.Read(ctx, open)
	if err != nil || open.List || open.Select != nil || len(open.Digests) == 0 {
		return s, err
	}
	return demandingStream{d.t, s}, nil
}

type demandingStream struct {
	t *testing.T
	sdk.ReadStream
}

func (d demandingStream) Recv() (sdk.Frame, error) {
	f, err := d.ReadStream.Recv()
	if end, ok := f.(*sdk.PartEnd); ok && len(end.Digests) != len(sdk.Algorithms()) {
		d.t.Errorf("a part of %d bytes came with the digests %v", end.Size, end.Digests)
	}
	return f, err
}

type demandingSink struct {
	t *testing.T
	sdk.DataSink
}

func (d demandingSink) Write(ctx context.Context, open sdk.WriteOpen) (sdk.WriteStream, error) {
	s, err := d.DataSink.Write(ctx, open)
	return demandingUps{d.t, s}, err
}

type demandingUps struct {
	t *testing.T
	sdk.WriteStream
}

func (d demandingUps) Recv() (sdk.Up, error) {
	up, err := d.WriteStream.Recv()
	if w, ok := up.(*sdk.PartWritten); ok && len(w.Digests) != len(sdk.Algorithms()) {
		d.t.Errorf("part %d is acknowledged with the digests %v", w.Index, w.Digests)
	}
	return up, err
}

// What goes on in the middle of a part where no state is known has no digests, rather than wrong ones.
func TestTallyWithoutWhatCameBefore(t *testing.T) {
	content := sdktest.Pattern(1, 1000)
	crc, sha := crc32.Checksum(content, crc32.MakeTable(crc32.Castagnoli)), sha256.Sum256(content)
	for _, c := range []struct {
		name   string
		former *tallied
		begin  sdk.PartBegin
		size   int64
		whole  bool
	}{
		{name: "whole", size: 1000, whole: true},
		{name: "in the middle", begin: sdk.PartBegin{Offset: 5}, size: 1005},
		{name: "behind another place", former: &tallied{State: sdk.DigestState{Size: 4}}, begin: sdk.PartBegin{Offset: 5}, size: 1005},
		{name: "in another part", former: &tallied{Index: 1, State: sdk.DigestState{Size: 5}}, begin: sdk.PartBegin{Offset: 5}, size: 1005},
		{name: "a piece", size: 1001},
		{name: "again from the start", former: &tallied{State: sdk.DigestState{Size: 5}}, size: 1000, whole: true},
		{name: "by reference", begin: sdk.PartBegin{PartInfo: sdk.PartInfo{Reference: []byte("x")}}, size: 1000},
	} {
		tally := newTally(sdk.Algorithms(), c.former)
		end := &sdk.PartEnd{Size: c.size}
		for _, f := range []sdk.Frame{&c.begin, &sdk.Data{Payload: sdk.BytesPayload(content)}, end} {
			if err := tally.received(f); err != nil {
				t.Fatal(err)
			}
		}
		switch {
		case c.whole && (end.Digests.Hex(sdk.CRC32C) != hex32(crc) || !bytes.Equal(end.Digests[sdk.SHA256], sha[:])):
			t.Errorf("%s: %v", c.name, end.Digests)
		case !c.whole && len(end.Digests) > 0:
			t.Errorf("%s: %v, want none", c.name, end.Digests)
		}
	}
}

func hex32(n uint32) string {
	return sdk.Digests{sdk.CRC32C: {byte(n >> 24), byte(n >> 16), byte(n >> 8), byte(n)}}.Hex(sdk.CRC32C)
}

// A token that a host has sealed is opened again; any other passes as it is.
func FuzzTallyToken(f *testing.F) {
	d := sdk.NewDigester(sdk.Algorithms()...)
	io.WriteString(d, "some bytes")
	tally := &tally{index: 3, digest: d}
	sealed := sealTally(tally.state(), []byte("token"))
	f.Add([]byte("token"))
	f.Add(sealed)
	f.Add(sealed[:len(sealed)-20])
	f.Add(slices.Concat(tallySeal, []byte{0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1}))
	f.Fuzz(func(t *testing.T, token []byte) {
		former, rest, err := openTally(token)
		switch {
		case err != nil && (former != nil || rest != nil || !bytes.HasPrefix(token, tallySeal)):
			t.Errorf("%v with %v, %q", err, former, rest)
		case err == nil && former == nil && !bytes.Equal(rest, token):
			t.Errorf("%q became %q", token, rest)
		case former != nil:
			newTally(sdk.Algorithms(), former).begin(&sdk.PartBegin{PartInfo: sdk.PartInfo{Index: former.Index}, Offset: former.State.Size})
		}
		if got, rest, err := openTally(sealTally(tally.state(), token)); err != nil || !bytes.Equal(rest, token) || got.State.Size != 10 {
			t.Errorf("sealed and opened: %v, %q, %v", got, rest, err)
		}
	})
}
