// Command towpath-plugin-s3 reads and writes the objects of S3 and of stores that speak its protocol, as data addresses of type
// "AmazonS3".
package main

import "github.com/towpath-dataplane/towpath/sdk/grpcplugin"

func main() { grpcplugin.Serve(newPlugin()) }
