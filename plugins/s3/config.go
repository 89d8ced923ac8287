package main

import (
	"context"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/credentials"

	"github.com/towpath-dataplane/towpath/sdk"
)

// Limits of the protocol.
const (
	minPartSize = 5 << 20 // of every part of a multipart upload but the last
	maxPartSize = 5 << 30
	maxParts    = 10_000
)

// settings is the plugin's configuration block.
type settings struct {
	Allow              []string     `json:"allow"`
	AllowHTTP          bool         `json:"allow_http"`
	Timeout            sdk.TimeSpan `json:"timeout"`
	IdleTimeout        sdk.TimeSpan `json:"idle_timeout"`
	CAFile             string       `json:"ca_file"`
	DefaultCredentials []string     `json:"default_credentials"`
	AccessKeyID        string       `json:"access_key_id"`
	SecretAccessKey    string       `json:"secret_access_key"`
	SessionToken       string       `json:"session_token"`
	Profile            string       `json:"profile"`
	CredentialsFile    string       `json:"credentials_file"`
	Checksums          string       `json:"checksums"`
	PartSize           sdk.ByteSize `json:"part_size"`
	RangeSize          sdk.ByteSize `json:"range_size"`
	CopyPartSize       sdk.ByteSize `json:"copy_part_size"`
	Parallel           int          `json:"parallel"`
	Memory             sdk.ByteSize `json:"memory"`
}

// Values of settings.Checksums and of the property of that name.
const (
	checksumsSupported = "when_supported"
	checksumsRequired  = "when_required"
)

func checksumModes() []string { return []string{checksumsSupported, checksumsRequired} }

func defaultSettings() settings {
	return settings{
		Timeout:     sdk.TimeSpan(30 * time.Second),
		IdleTimeout: sdk.TimeSpan(2 * time.Minute),
		Checksums:   checksumsSupported,
		PartSize:    8 << 20,
		RangeSize:   8 << 20,
		Parallel:    4,
		Memory:      256 << 20,

		CopyPartSize: 256 << 20,
	}
}

// configSchema describes settings. Its defaults are those of defaultSettings.
func configSchema() sdk.Schema {
	return sdk.Schema{Fields: []sdk.Field{
		{Name: "allow", Kind: sdk.StringList, Documentation: "Destinations to connect to although they are in a range that is refused by " +
			"default (loopback, private, link-local, shared, multicast and reserved addresses, cloud metadata): `loopback`, a host, " +
			"`host:port`, an IP address, or a network such as `10.1.0.0/16`."},
		{Name: "allow_http", Kind: sdk.Bool, Default: "false", Documentation: "Use plain HTTP to hosts other than loopback too."},
		{Name: "timeout", Kind: sdk.Duration, Default: "30s", Documentation: "Longest time to connect."},
		{Name: "idle_timeout", Kind: sdk.Duration, Default: "2m", Documentation: "Longest time in which the store neither gives nor takes a byte."},
		{Name: "ca_file", Documentation: "File of PEM certificates to trust besides those of the system."},
		{Name: "default_credentials", Kind: sdk.StringList, Documentation: "Buckets that addresses without credentials may use the operator's " +
			"credentials for, whoever the address came from: `bucket` for one at Amazon, `https://store.example:9000/bucket` for one at an " +
			"endpoint. `*` in a bucket's name stands for any characters. Nothing else is asked for with these credentials."},
		{Name: "access_key_id", Documentation: "Operator's credentials. Without them, those of the default chain are used: shared files, web " +
			"identity, container and instance roles."},
		{Name: "secret_access_key", Sensitive: true, Documentation: "Secret of `access_key_id`."},
		{Name: "session_token", Sensitive: true, Documentation: "Session token of `access_key_id`, if it has one."},
		{Name: "profile", Documentation: "Profile of the shared files, for the default chain."},
		{Name: "credentials_file", Documentation: "Shared credentials file, for the default chain."},
		{Name: "checksums", Default: checksumsSupported, OneOf: checksumModes(), Documentation: "Send a CRC-32C with every part and object, " +
			"and have the store check it over the whole object: `when_supported`. Not to send any to stores that refuse them: `when_required`."},
		{Name: "part_size", Kind: sdk.Size, Default: "8MiB", Documentation: "Size of the parts of an upload, from 5MiB on. Smaller objects are " +
			"sent at once. It grows by itself where there would be more than 10,000 parts."},
		{Name: "range_size", Kind: sdk.Size, Default: "8MiB", Documentation: "Size of the ranges that a large object is read in."},
		{Name: "copy_part_size", Kind: sdk.Size, Default: "256MiB", Documentation: "Where the store copies by itself: objects up to this size are " +
			"copied at once, larger ones in ranges of it, from 5MiB to 5GiB. The store has to copy one within `idle_timeout`."},
		{Name: "parallel", Kind: sdk.Int, Default: "4", Documentation: "Most requests at once for one object, 1 to 64."},
		{Name: "memory", Kind: sdk.Size, Default: "256MiB", Documentation: "Memory of all flows together for reading ahead and for sending parts " +
			"side by side. A flow that gets none of it works with one request at a time."},
	}}
}

func (s settings) check() error {
	var fields []sdk.FieldError
	refuse := func(field, why string) { fields = append(fields, sdk.FieldError{Field: field, Message: why}) }
	if s.Timeout <= 0 {
		refuse("timeout", "is not more than 0")
	}
	if s.IdleTimeout <= 0 {
		refuse("idle_timeout", "is not more than 0")
	}
	if s.PartSize < minPartSize || s.PartSize > maxPartSize {
		refuse("part_size", "is not between 5MiB and 5GiB")
	}
	if s.RangeSize < 64<<10 || s.RangeSize > maxPartSize {
		refuse("range_size", "is not between 64KiB and 5GiB")
	}
	if s.CopyPartSize < minPartSize || s.CopyPartSize > maxPartSize {
		refuse("copy_part_size", "is not between 5MiB and 5GiB")
	}
	if s.Parallel < 1 || s.Parallel > 64 {
		refuse("parallel", "is not between 1 and 64")
	}
	if s.Checksums != checksumsSupported && s.Checksums != checksumsRequired {
		refuse("checksums", "is not one of when_supported, when_required")
	}
	if (s.AccessKeyID == "") != (s.SecretAccessKey == "") {
		refuse("access_key_id", "needs secret_access_key, and the other way round")
	}
	if s.SessionToken != "" && s.AccessKeyID == "" {
		refuse("session_token", "needs access_key_id")
	}
	return sdk.InvalidFields(fields)
}

// ownCredentials returns the operator's credentials, nil if no address may use them.
func (s settings) ownCredentials(ctx context.Context) (aws.CredentialsProvider, error) {
	switch {
	case len(s.DefaultCredentials) == 0:
		return nil, nil
	case s.AccessKeyID != "":
		return credentials.NewStaticCredentialsProvider(s.AccessKeyID, s.SecretAccessKey, s.SessionToken), nil
	}
	var options []func(*config.LoadOptions) error
	if s.Profile != "" {
		options = append(options, config.WithSharedConfigProfile(s.Profile))
	}
	if s.CredentialsFile != "" {
		options = append(options, config.WithSharedCredentialsFiles([]string{s.CredentialsFile}))
	}
	loaded, err := config.LoadDefaultConfig(ctx, options...)
	if err != nil {
		return nil, invalidField("default_credentials", "the default chain of credentials cannot be used: "+err.Error())
	}
	return loaded.Credentials, nil
}
