package main

import (
	"context"

	"github.com/towpath-dataplane/towpath/sdk"
)

const (
	version = "0.1.0"

	// addressType is the type of address that the sink writes to.
	addressType = "Mail"
)

// newPlugin returns the plugin. It sends nothing until Configure was called.
func newPlugin() sdk.Plugin {
	s := &sink{settings: defaultSettings()}
	return sdk.Plugin{
		Name:          "mail",
		Version:       version,
		Documentation: "Sends parts as attachments of mails, through one SMTP server.",
		Config:        configSchema(),
		Configure: func(_ context.Context, c sdk.Config) error {
			configured, err := configure(c)
			if err == nil {
				s.settings = configured
			}
			return err
		},
		Permissions: &sdk.Permissions{Connect: []string{"*:*"}},
		Sinks: []sdk.SinkType{{
			AddressType: sdk.AddressType{
				Type: addressType,
				Documentation: "Mails to one or several recipients: one for each part, which it has as its attachment, streamed. A part is " +
					"written when the server has accepted its mail. A part whose mail would be larger than `max_message`, or than the server " +
					"announces, is refused for good, and nothing of it is delivered. SMTP can give a mail twice, where a connection or a " +
					"process ends before the server's answer is stored; both then have the same `Message-ID`, which comes from the flow and the part.",
				Address: addressSchema(),
			},
			Sink: s,
		}},
	}
}
