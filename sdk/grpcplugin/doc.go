// Package grpcplugin is both halves of the wire between a host and its plugins: Serve for the author of a plugin, Client for the
// host. On the wire is towpath.plugin.v1 over gRPC, launched and found by hashicorp/go-plugin.
//
// Between processes of one Linux machine payload does not go through gRPC at all: see "The lane fd1" in plugin.proto. Authors of
// plugins do not see it. A host offers it with Client.OfferLanes; a payload that comes from one lane and goes to another is spliced.
//
// On gRPC, data frames cross without being decoded or copied: a codec looks at the first bytes of a message and passes the transport's
// buffers on. Everything else is ordinary protobuf, so a plugin in another language needs nothing of this package.
package grpcplugin
