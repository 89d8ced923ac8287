package main

import (
	"context"
	"crypto/tls"
	"time"

	"github.com/towpath-dataplane/towpath/sdk"
	"github.com/towpath-dataplane/towpath/sdk/outbound"
)

const (
	version = "0.1.0"

	// addressType is the type of address that the source reads and the sink writes to.
	addressType = "Kafka"
)

// newPlugin returns the plugin. Until Configure is called it works with the defaults of its schema.
func newPlugin() sdk.Plugin {
	env := &environment{settings: defaultSettings(), policy: &outbound.Policy{}, tls: &tls.Config{MinVersion: tls.VersionTLS12},
		fetchWait: defaultFetchWait}
	return sdk.Plugin{
		Name:          "kafka",
		Version:       version,
		Documentation: "Reads from and writes to topics of Apache Kafka, by EDC `Kafka` addresses.",
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
				Documentation: "The messages of a topic, as one part of records. Without `stop` it has no end.",
				Address:       sourceSchema(),
				Resumable:     true,
				NonFinite:     true,
				Records:       true,
			},
			Source: &source{env: env},
		}},
		Sinks: []sdk.SinkType{{
			AddressType: sdk.AddressType{
				Type: addressType,
				Documentation: "A topic. Each record becomes a message; a part of bytes becomes one message too, whose key is the name of the part. " +
					"Nothing is lost; with `transactional` nothing comes twice either.",
				Address:   sinkSchema(),
				Resumable: true,
				Records:   true,
			},
			Sink: &sink{env: env},
		}},
	}
}

// environment is what the operator's configuration makes. It is set before the first flow and does not change after.
type environment struct {
	settings  settings
	policy    *outbound.Policy
	tls       *tls.Config
	fetchWait time.Duration // how long a broker keeps a fetch that it has nothing for
}

const defaultFetchWait = 5 * time.Second

func configure(c sdk.Config) (*environment, error) {
	s := defaultSettings()
	if err := c.Decode(&s); err != nil {
		return nil, err
	}
	if err := s.check(); err != nil {
		return nil, err
	}
	policy, err := outbound.NewPolicy(outbound.Rules{Allow: s.Allow})
	if err != nil {
		return nil, invalidField("allow", err.Error())
	}
	tlsConfig, err := s.tlsConfig()
	if err != nil {
		return nil, err
	}
	return &environment{settings: s, policy: policy, tls: tlsConfig, fetchWait: defaultFetchWait}, nil
}
