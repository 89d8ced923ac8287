// The plugin http reads from and writes to HTTP servers.
//
// It knows two kinds of data address, EDC's HttpData and those of the DPS HTTP profile, and nothing of flows, tokens or control
// planes. Where it may connect to is the operator's decision: see package outbound.
package main

import "github.com/towpath-dataplane/towpath/sdk/grpcplugin"

func main() {
	grpcplugin.Serve(newPlugin())
}
