// Package grpcplugin is both halves of the wire between a host and its plugins: Serve for the author of a plugin, Client for the
// host. On the wire is towpath.plugin.v1 over gRPC, launched and found by hashicorp/go-plugin.
//
// Data frames cross without being decoded or copied: a codec looks at the first bytes of a message and passes the transport's
// buffers on. Everything else is ordinary protobuf, so a plugin in another language needs nothing of this package.
package grpcplugin
