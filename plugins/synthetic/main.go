// Command towpath-plugin-synthetic makes data up and throws data away, as data addresses of type "Generate" and "Discard": for
// benchmarks, and to try a set-up.
package main

import (
	"github.com/towpath-dataplane/towpath/sdk"
	"github.com/towpath-dataplane/towpath/sdk/grpcplugin"
)

func main() { grpcplugin.Serve(newPlugin()) }

func newPlugin() sdk.Plugin {
	return sdk.Plugin{
		Name:          "synthetic",
		Version:       "0.1.0",
		Documentation: "Makes data up (`Generate`) and throws data away (`Discard`).",
		Sources:       []sdk.SourceType{generateType()},
		Sinks:         []sdk.SinkType{discardType()},
	}
}
