// Command towpath-plugin-file reads and writes files below one folder, as data addresses of type "File".
package main

import "github.com/towpath-dataplane/towpath/sdk/grpcplugin"

func main() { grpcplugin.Serve(newPlugin()) }
