// Command towpath-plugin-mail sends parts as attachments of mails over SMTP, to data addresses of type "Mail".
package main

import "github.com/towpath-dataplane/towpath/sdk/grpcplugin"

func main() { grpcplugin.Serve(newPlugin()) }
