package main

import (
	"context"
	"crypto/tls"

	"github.com/towpath-dataplane/towpath/sdk"
	"github.com/towpath-dataplane/towpath/sdk/outbound"
)

const (
	version   = "0.1.0"
	userAgent = "towpath-http/" + version

	// addressType is the type of address that the source reads and the sink writes to.
	addressType = "HttpData"
)

// newPlugin returns the plugin. Until Configure is called it works with the defaults of its schema.
func newPlugin() sdk.Plugin {
	env := newEnvironment(defaultSettings(), &outbound.Policy{}, &tls.Config{MinVersion: tls.VersionTLS12}, "")
	return sdk.Plugin{
		Name:          "http",
		Version:       version,
		Documentation: "Reads from and writes to HTTP servers, by EDC `HttpData` addresses and by addresses of the DPS HTTP profile.",
		Config:        configSchema(),
		Configure: func(_ context.Context, c sdk.Config) error {
			configured, err := configure(c)
			if err == nil {
				*env = *configured
			}
			return err
		},
		Sources: []sdk.SourceType{{
			AddressType: sdk.AddressType{
				Type:          addressType,
				Documentation: "What an HTTP server answers: one part, or the parts of a listing that a Towpath host serves.",
				Address:       sourceSchema(),
				Resumable:     true,
				Proxies:       true,
			},
			Source: &source{env: env},
		}},
		Sinks: []sdk.SinkType{{
			AddressType: sdk.AddressType{
				Type:          addressType,
				Documentation: "An HTTP server that takes one request for each part, or several if it can go on with uploads.",
				Address:       sinkSchema(),
				Resumable:     true,
			},
			Sink: &sink{env: env, manifests: map[flowKey]*manifest{}, uploads: map[flowKey]begun{}},
		}},
	}
}

// environment is what the operator's configuration makes. It is set before the first flow and does not change after.
type environment struct {
	reader     *client
	proxy      *client // of requests that are handed on
	writer     *client
	scratchDir string
	maxSpool   int64
}

func configure(c sdk.Config) (*environment, error) {
	s := defaultSettings()
	if err := c.Decode(&s); err != nil {
		return nil, err
	}
	if err := s.check(); err != nil {
		return nil, err
	}
	policy, err := outbound.NewPolicy(outbound.Rules{Allow: s.Allow, AllowHTTP: s.AllowHTTP})
	if err != nil {
		return nil, invalidField("allow", err.Error())
	}
	tlsConfig, err := s.tlsConfig()
	if err != nil {
		return nil, err
	}
	return newEnvironment(s, policy, tlsConfig, c.ScratchDir), nil
}

func newEnvironment(s settings, p *outbound.Policy, tlsConfig *tls.Config, scratchDir string) *environment {
	reader := newReader(s, p, tlsConfig)
	return &environment{
		reader:     reader,
		proxy:      newProxy(s, p, reader),
		writer:     newWriter(s, p, tlsConfig),
		scratchDir: scratchDir,
		maxSpool:   int64(s.MaxSpool),
	}
}
