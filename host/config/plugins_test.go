package config

import "github.com/towpath-dataplane/towpath/sdk"

// shippedPlugins describe the plugins that the samples use, as far as the samples use them.
func shippedPlugins() []sdk.Description {
	return []sdk.Description{
		{
			Name: "file",
			Config: sdk.Schema{Fields: []sdk.Field{
				{Name: "root", Required: true, Documentation: "Folder that no address reaches out of."},
				{Name: "read_only", Kind: sdk.Bool},
			}},
			Sources: []sdk.AddressType{{Type: "File", Address: sdk.Schema{Fields: []sdk.Field{
				{Name: "path", Required: true},
			}}}},
			Sinks: []sdk.AddressType{{Type: "File", Address: sdk.Schema{Fields: []sdk.Field{
				{Name: "path", Default: "."},
				{Name: "collision", Default: "fail", OneOf: []string{"fail", "replace", "rename"}},
			}}}},
		},
		{
			Name: "http",
			Config: sdk.Schema{Fields: []sdk.Field{
				{Name: "allow", Kind: sdk.StringList},
				{Name: "timeout", Kind: sdk.Duration, Default: "30s"},
				{Name: "ca_file"},
			}},
			Sources: []sdk.AddressType{{Type: "HttpData", Address: httpSchema("method", "name")}},
			Sinks:   []sdk.AddressType{{Type: "HttpData", Address: httpSchema("method")}},
		},
		{
			Name: "kafka",
			Config: sdk.Schema{Fields: []sdk.Field{
				{Name: "allow", Kind: sdk.StringList},
				{Name: "allow_plaintext", Kind: sdk.Bool},
				{Name: "ca_file"},
				{Name: "provision", Kind: sdk.StringMap, Sensitive: true},
				{Name: "hand_out", Kind: sdk.StringMap, Sensitive: true},
				{Name: "partitions", Kind: sdk.Int},
				{Name: "replication_factor", Kind: sdk.Int},
				{Name: "retention", Kind: sdk.Duration},
				{Name: "remove_topics", Kind: sdk.Bool},
			}},
			Sources: []sdk.AddressType{{Type: "Kafka"}}, Sinks: []sdk.AddressType{{Type: "Kafka", Provisions: true}},
		},
		{
			Name: "s3",
			Config: sdk.Schema{Fields: []sdk.Field{
				{Name: "allow", Kind: sdk.StringList},
				{Name: "default_credentials", Kind: sdk.StringList},
				{Name: "access_key_id"},
				{Name: "secret_access_key", Sensitive: true},
				{Name: "part_size", Kind: sdk.Size, Default: "8MiB"},
				{Name: "memory", Kind: sdk.Size, Default: "256MiB"},
				{Name: "copy_part_size", Kind: sdk.Size, Default: "256MiB"},
			}},
			Sources: []sdk.AddressType{{Type: "AmazonS3", Address: s3Schema("objectName", "objectPrefix"), Copies: true}},
			Sinks:   []sdk.AddressType{{Type: "AmazonS3", Address: s3Schema("folderName", "collision"), Copies: true}},
		},
		{
			Name: "synthetic",
			Sources: []sdk.AddressType{{Type: "Generate", Address: sdk.Schema{Fields: []sdk.Field{
				{Name: "size", Kind: sdk.Size},
				{Name: "duration", Kind: sdk.Duration},
				{Name: "rate", Kind: sdk.Size},
				{Name: "seed", Kind: sdk.Int},
				{Name: "mode", OneOf: []string{"bytes", "records"}},
				{Name: "record_size", Kind: sdk.Size},
				{Name: "parts", Kind: sdk.Int},
			}}}},
			Sinks: []sdk.AddressType{{Type: "Discard", Address: sdk.Schema{Fields: []sdk.Field{
				{Name: "digest", Kind: sdk.Bool},
				{Name: "rate", Kind: sdk.Size},
			}}}},
		},
	}
}

// mailPlugins are those of configs/mail.hcl.
func mailPlugins() []sdk.Description {
	return []sdk.Description{
		{
			Name: "mail",
			Config: sdk.Schema{Fields: []sdk.Field{
				{Name: "server", Required: true},
				{Name: "port", Kind: sdk.Int},
				{Name: "tls", Default: "starttls", OneOf: []string{"implicit", "starttls", "optional", "off"}},
				{Name: "sender", Required: true},
				{Name: "allow_recipients", Kind: sdk.StringList},
				{Name: "max_message", Kind: sdk.Size, Default: "25MiB"},
			}},
			Sinks: []sdk.AddressType{{Type: "Mail", Address: sdk.Schema{Fields: []sdk.Field{{Name: "recipient", Required: true}}}}},
		},
		{
			Name:    "onefile",
			Config:  sdk.Schema{Fields: []sdk.Field{{Name: "root", Required: true}}},
			Sources: []sdk.AddressType{{Type: "File", Address: sdk.Schema{Fields: []sdk.Field{{Name: "sourceFile", Required: true}}}}},
		},
	}
}

func s3Schema(names ...string) sdk.Schema {
	s := sdk.Schema{Open: true, Fields: []sdk.Field{
		{Name: "region"},
		{Name: "bucketName", Required: true},
		{Name: "endpointOverride", Kind: sdk.URL},
	}}
	for _, name := range names {
		s.Fields = append(s.Fields, sdk.Field{Name: name})
	}
	return s
}

func httpSchema(names ...string) sdk.Schema {
	s := sdk.Schema{Open: true, Fields: []sdk.Field{
		{Name: "baseUrl", Kind: sdk.URL},
		{Name: "path"},
		{Name: "queryParams"},
		{Name: "authKey"},
		{Name: "authCode", Sensitive: true},
		{Name: "header:", Prefix: true, Sensitive: true},
	}}
	for _, name := range names {
		s.Fields = append(s.Fields, sdk.Field{Name: name})
	}
	return s
}

// testPlugins are the shipped ones, one with a field of every kind, one that provisions, and one that offers what another offers.
func testPlugins() []sdk.Description {
	return append(shippedPlugins(),
		sdk.Description{
			Name: "kinds",
			Config: sdk.Schema{Fields: []sdk.Field{
				{Name: "text", Kind: sdk.String, Required: true, Documentation: "Any text."},
				{Name: "flag", Kind: sdk.Bool, Default: "true"},
				{Name: "number", Kind: sdk.Int, Default: "7"},
				{Name: "span", Kind: sdk.Duration, Default: "1m"},
				{Name: "bytes", Kind: sdk.Size, Default: "64KiB"},
				{Name: "server", Kind: sdk.URL},
				{Name: "names", Kind: sdk.StringList, Default: `["a","b"]`},
				{Name: "by_name", Kind: sdk.StringMap},
				{Name: "colour", OneOf: []string{"red", "green"}},
				{Name: "password", Sensitive: true},
				{Name: "pin", Kind: sdk.Int, Sensitive: true},
			}},
			Sources: []sdk.AddressType{{Type: "Kinds", Address: sdk.Schema{Fields: []sdk.Field{
				{Name: "label", Kind: sdk.Int},
				{Name: "token", Kind: sdk.Int, Sensitive: true},
			}}}},
		},
		sdk.Description{
			Name:  "topic",
			Sinks: []sdk.AddressType{{Type: "Topic", Provisions: true}},
		},
		sdk.Description{
			Name:    "other-file",
			Config:  sdk.Schema{Fields: []sdk.Field{{Name: "device", Required: true}}},
			Sources: []sdk.AddressType{{Type: "File"}, {Type: "Tape"}},
		},
		sdk.Description{
			Name: "wrong-defaults",
			Config: sdk.Schema{Fields: []sdk.Field{
				{Name: "number", Kind: sdk.Int, Default: "seven"},
				{Name: "names", Kind: sdk.StringList, Default: "a, b"},
			}},
		},
		sdk.Description{
			Name:   "elsewhere",
			Config: sdk.Schema{Fields: []sdk.Field{{Name: "depth", Kind: sdk.Int}}},
		},
		sdk.Description{
			Name:   "open",
			Config: sdk.Schema{Open: true},
		},
	)
}
