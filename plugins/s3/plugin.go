package main

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"net/http"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"

	"github.com/towpath-dataplane/towpath/sdk"
	"github.com/towpath-dataplane/towpath/sdk/outbound"
)

const (
	version = "0.1.0"

	// addressType is the type of address that the source reads and the sink writes to.
	addressType = "AmazonS3"

	// workFolder is where the sink keeps what it needs for flows that have not ended, below the folder of an address. The source does
	// not show it.
	workFolder = ".towpath"
)

// newPlugin returns the plugin. Until Configure is called it works with the defaults of its schema.
func newPlugin() sdk.Plugin {
	env := newEnvironment(defaultSettings(), &outbound.Policy{}, &tls.Config{MinVersion: tls.VersionTLS12}, nil, nil)
	return sdk.Plugin{
		Name:          "s3",
		Version:       version,
		Documentation: "Reads and writes objects of Amazon S3, and of stores that speak its protocol, by EDC `AmazonS3` addresses.",
		Config:        configSchema(),
		Configure: func(ctx context.Context, c sdk.Config) error {
			configured, err := configure(ctx, c)
			if err == nil {
				*env = *configured
			}
			return err
		},
		Sources: []sdk.SourceType{{
			AddressType: sdk.AddressType{
				Type:          addressType,
				Documentation: "One object, or all objects whose keys have a prefix, by the order of their keys.",
				Address:       sourceSchema(),
				Resumable:     true,
			},
			Source: &source{env: env},
		}},
		Sinks: []sdk.SinkType{{
			AddressType: sdk.AddressType{
				Type: addressType,
				Documentation: "A bucket, or a folder in one, that parts are written to as objects by their names. A part of records " +
					"becomes a folder of objects with one JSON document a line, and an empty object `_SUCCESS` when it has ended. What is " +
					"not whole is kept by the store as an upload and in the folder `" + workFolder + "`, until the flow ends. The credentials " +
					"have to allow getting, putting, deleting and listing objects, and listing and aborting uploads and their parts. Where the " +
					"operator lets the store copy, they read the source's bucket.",
				Address:   sinkSchema(),
				Resumable: true,
			},
			Sink: &sink{env: env},
		}},
	}
}

// environment is what the operator's configuration makes. It is set before the first flow and does not change after.
type environment struct {
	settings
	policy *outbound.Policy
	http   *http.Client
	lent   grants                  // where the operator's credentials may be used
	own    aws.CredentialsProvider // of the operator, nil if there are none
	memory *budget
	writes *writes

	nameKey []byte // makes the names of stores
}

func configure(ctx context.Context, c sdk.Config) (*environment, error) {
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
	tlsConfig, err := outbound.TLSFromFiles(s.CAFile, "", "")
	if err != nil {
		return nil, err
	}
	lent, err := parseGrants(s.DefaultCredentials)
	if err != nil {
		return nil, err
	}
	own, err := s.ownCredentials(ctx)
	if err != nil {
		return nil, err
	}
	return newEnvironment(s, policy, tlsConfig, lent, own), nil
}

func newEnvironment(s settings, p *outbound.Policy, t *tls.Config, lent grants, own aws.CredentialsProvider) *environment {
	nameKey := make([]byte, 32)
	rand.Read(nameKey) // which never fails
	return &environment{
		settings: s,
		nameKey:  nameKey,
		policy:   p,
		http:     newHTTPClient(p, t, time.Duration(s.Timeout), time.Duration(s.IdleTimeout)),
		lent:     lent,
		own:      own,
		memory:   newBudget(int64(s.Memory)),
		writes:   &writes{},
	}
}

func invalidField(field, message string) error {
	return sdk.InvalidFields([]sdk.FieldError{{Field: field, Message: message}})
}
