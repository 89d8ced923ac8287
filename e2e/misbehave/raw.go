package main

import (
	"context"

	"github.com/hashicorp/go-plugin"
	"google.golang.org/grpc"

	pluginv1 "github.com/towpath-dataplane/towpath/proto/towpath/plugin/v1"
	"github.com/towpath-dataplane/towpath/sdk/grpcplugin"
)

// rawPlugin speaks the protocol without the SDK, which would not let it misbehave.
type rawPlugin struct {
	plugin.NetRPCUnsupportedPlugin
	pluginv1.UnimplementedPluginServer
	pluginv1.UnimplementedDataSourceServer
	name     string
	describe func() // instead of an answer
}

func serveRaw(p *rawPlugin) {
	plugin.Serve(&plugin.ServeConfig{
		HandshakeConfig:  grpcplugin.Handshake,
		VersionedPlugins: map[int]plugin.PluginSet{grpcplugin.Version: {grpcplugin.Name: p}},
		GRPCServer:       func(opts []grpc.ServerOption) *grpc.Server { return grpc.NewServer(opts...) },
	})
}

func (p *rawPlugin) GRPCServer(_ *plugin.GRPCBroker, s *grpc.Server) error {
	pluginv1.RegisterPluginServer(s, p)
	pluginv1.RegisterDataSourceServer(s, rawSource{})
	return nil
}

func (p *rawPlugin) GRPCClient(context.Context, *plugin.GRPCBroker, *grpc.ClientConn) (any, error) {
	return nil, nil
}

func (p *rawPlugin) Describe(context.Context, *pluginv1.DescribeRequest) (*pluginv1.DescribeResponse, error) {
	if p.describe != nil {
		p.describe()
	}
	return &pluginv1.DescribeResponse{Name: p.name, Version: "0.0.1",
		SourceTypes: []*pluginv1.AddressType{{Type: "Oversized", Address: &pluginv1.Schema{Open: true}}}}, nil
}

func (p *rawPlugin) Configure(context.Context, *pluginv1.ConfigureRequest) (*pluginv1.ConfigureResponse, error) {
	return &pluginv1.ConfigureResponse{}, nil
}

func (p *rawPlugin) Health(context.Context, *pluginv1.HealthRequest) (*pluginv1.HealthResponse, error) {
	return &pluginv1.HealthResponse{Status: pluginv1.HealthStatus_HEALTH_STATUS_NOT_SERVING, Message: "too fat to serve"}, nil
}

func (p *rawPlugin) Drain(context.Context, *pluginv1.DrainRequest) (*pluginv1.DrainResponse, error) {
	return &pluginv1.DrainResponse{Flows: 3}, nil
}

// rawSource sends one message that is larger than any host takes.
type rawSource struct {
	pluginv1.UnimplementedDataSourceServer
}

func (rawSource) Validate(context.Context, *pluginv1.ValidateRequest) (*pluginv1.ValidateResponse, error) {
	return &pluginv1.ValidateResponse{}, nil
}

func (rawSource) Read(stream grpc.BidiStreamingServer[pluginv1.ReadUp, pluginv1.Frame]) error {
	return stream.Send(&pluginv1.Frame{Kind: &pluginv1.Frame_Data{Data: make([]byte, 64<<20)}})
}
