// Command towpath-plugin-onefile reads single files below one folder, as data addresses of type "File" whose property sourceFile is the
// file's path.
package main

import "github.com/towpath-dataplane/towpath/sdk/grpcplugin"

func main() { grpcplugin.Serve(newPlugin()) }
