package grpcplugin

import (
	"time"

	"github.com/hashicorp/go-plugin"
	"google.golang.org/grpc"
	"google.golang.org/grpc/experimental"
	"google.golang.org/grpc/keepalive"
)

// Handshake is how a host and a plugin recognise each other. It keeps a plugin that is started by hand from waiting for a host; it
// is no protection.
var Handshake = plugin.HandshakeConfig{MagicCookieKey: "TOWPATH_PLUGIN", MagicCookieValue: "dataspace"}

// Name is the name under which a plugin is dispensed.
const Name = "towpath"

// Version is the protocol version of towpath.plugin.v1.
const Version = 1

// Versions lists what a host speaks, for plugin.ClientConfig.
func Versions() map[int]plugin.PluginSet {
	return map[int]plugin.PluginSet{Version: {Name: &glue{}}}
}

const (
	// maxMessageSize is more than a frame and less than what could hurt.
	maxMessageSize = 8 << 20
	// hostWindow and pluginWindow bound what either end takes of one flow that it does not read. A fixed window is also one that gRPC
	// does not grow by itself. The host's is as large as leaves it with less than 1 MiB of each flow that is stalled, which
	// BenchmarkMemory of host/cmd/towpath measures.
	hostWindow   = 832 << 10
	pluginWindow = 2 << 20
	// connWindow is shared by the flows of a process. gRPC gives it back as bytes arrive, whether they are read or not.
	connWindow = 4 << 20
	ioBuffer   = 256 << 10
)

// DialOptions are what a host needs to speak to a plugin in clear, for plugin.ClientConfig.
func DialOptions() []grpc.DialOption {
	return append(SecureDialOptions(), grpc.WithTransportCredentials(newPlainCredentials()))
}

// SecureDialOptions are DialOptions without credentials.
func SecureDialOptions() []grpc.DialOption {
	return []grpc.DialOption{
		grpc.WithDefaultCallOptions(grpc.ForceCodecV2(newCodec()),
			grpc.MaxCallRecvMsgSize(maxMessageSize), grpc.MaxCallSendMsgSize(maxMessageSize)),
		grpc.WithInitialWindowSize(hostWindow), grpc.WithInitialConnWindowSize(connWindow),
		grpc.WithReadBufferSize(ioBuffer), grpc.WithWriteBufferSize(ioBuffer),
		experimental.WithBufferPool(newBufferPool()),
		// A stream is never replayed by gRPC, and keeping its messages for that would pin their memory.
		grpc.WithDisableRetry(),
		grpc.WithKeepaliveParams(keepalive.ClientParameters{Time: 10 * time.Second, Timeout: 20 * time.Second}),
	}
}

// NewServer returns a gRPC server with the codec, limits and windows of the protocol.
func NewServer(opts []grpc.ServerOption) *grpc.Server {
	// The caller's credentials, if there are any, win over the plain ones.
	opts = append([]grpc.ServerOption{grpc.Creds(newPlainCredentials())}, opts...)
	return grpc.NewServer(append(opts,
		experimental.BufferPool(newBufferPool()),
		grpc.ForceServerCodecV2(newCodec()),
		grpc.MaxRecvMsgSize(maxMessageSize), grpc.MaxSendMsgSize(maxMessageSize),
		grpc.InitialWindowSize(pluginWindow), grpc.InitialConnWindowSize(connWindow),
		grpc.ReadBufferSize(ioBuffer), grpc.WriteBufferSize(ioBuffer),
		grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{MinTime: 5 * time.Second, PermitWithoutStream: true}),
		grpc.UnaryInterceptor(recoverUnary), grpc.StreamInterceptor(recoverStream),
	)...)
}
