// The plugin kafka reads from and writes to topics of Apache Kafka.
//
// It knows EDC's Kafka data addresses, and nothing of flows, tokens or control planes. Where it may connect to is the operator's
// decision: see package outbound.
package main

import "github.com/towpath-dataplane/towpath/sdk/grpcplugin"

func main() {
	grpcplugin.Serve(newPlugin())
}
