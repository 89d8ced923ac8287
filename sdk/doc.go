// Package sdk is what a plugin author implements and a host calls: data addresses, parts, sources, sinks, schemas, errors, and the
// streams of frames between them.
//
// A plugin author needs three things: a Source or a Sink, a Plugin value that lists them with the schema of their addresses, and
// grpcplugin.Serve in main. Buffers, digests, checkpoints, size limits and the wire are the SDK's business.
//
// A host sees the same source as a DataSource and the same sink as a DataSink: streams of frames that it passes on without looking
// into their payload. NewDataSource and NewDataSink make the one from the other inside one process; package grpcplugin does so
// across two.
//
// The package knows nothing of gRPC, processes, control planes or stores, and imports the standard library only.
package sdk
