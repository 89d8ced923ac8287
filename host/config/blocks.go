package config

import "github.com/hashicorp/hcl/v2"

// The blocks and what may stand in them.
var (
	rootSchema = &hcl.BodySchema{Blocks: []hcl.BlockHeaderSchema{
		{Type: "dataplane", LabelNames: []string{"id"}},
		{Type: "listen", LabelNames: []string{"server"}},
		{Type: "store", LabelNames: []string{"kind"}},
		{Type: "plugins"},
		{Type: "plugin", LabelNames: []string{"name"}},
		{Type: "profile", LabelNames: []string{"value"}},
		{Type: "dataset", LabelNames: []string{"id"}},
		{Type: "control_plane", LabelNames: []string{"id"}},
		{Type: "token"},
		{Type: "transfer"},
		{Type: "telemetry"},
	}}

	dataPlaneSchema = &hcl.BodySchema{Attributes: optional("data_dir")}

	// By the label of the listen block.
	listenSchemas = map[string]*hcl.BodySchema{
		"signaling": {Attributes: optional("address", "base_path"), Blocks: tlsBlock},
		"public":    {Attributes: optional("address", "url"), Blocks: tlsBlock},
		"admin":     {Attributes: optional("address"), Blocks: tlsBlock},
	}
	tlsBlock  = []hcl.BlockHeaderSchema{{Type: "tls"}}
	tlsSchema = &hcl.BodySchema{Attributes: required("certificate", "key")}

	storeSchema   = &hcl.BodySchema{Attributes: optional("path")}
	pluginsSchema = &hcl.BodySchema{Attributes: append(required("directory"), optional("trust")...)}

	pluginSchema = &hcl.BodySchema{
		Attributes: optional("binary", "sha256", "environment", "pass_environment", "start_timeout", "drain_timeout", "stop_timeout"),
		Blocks:     []hcl.BlockHeaderSchema{{Type: "config"}},
	}

	profileSchema = &hcl.BodySchema{Attributes: optional("direction", "endpoint_type", "types", "type", "allow_http")}

	datasetSchema = &hcl.BodySchema{Blocks: []hcl.BlockHeaderSchema{
		{Type: "source", LabelNames: []string{"type"}},
		{Type: "sink", LabelNames: []string{"type"}},
	}}

	controlPlaneSchema = &hcl.BodySchema{Attributes: append(required("endpoint"), optional("protocol", "give_up_after")...)}

	tokenSchema = &hcl.BodySchema{Attributes: optional("lifetime", "max_bytes", "max_concurrent", "max_duration")}

	transferSchema = &hcl.BodySchema{
		Attributes: optional("digests", "checkpoint_interval"),
		Blocks:     []hcl.BlockHeaderSchema{{Type: "retry"}},
	}
	retrySchema = &hcl.BodySchema{Attributes: optional("first", "max", "give_up_after")}

	telemetrySchema = &hcl.BodySchema{Attributes: optional("log_level", "log_format")}
)

func optional(names ...string) []hcl.AttributeSchema { return attributes(names, false) }
func required(names ...string) []hcl.AttributeSchema { return attributes(names, true) }

func attributes(names []string, required bool) []hcl.AttributeSchema {
	list := make([]hcl.AttributeSchema, len(names))
	for i, name := range names {
		list[i] = hcl.AttributeSchema{Name: name, Required: required}
	}
	return list
}
