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
		{Type: "participant_context", LabelNames: []string{"name"}},
		{Type: "control_plane", LabelNames: []string{"id"}},
		{Type: "signaling"},
		{Type: "outbound"},
		{Type: "token"},
		{Type: "transfer"},
		{Type: "limits"},
		{Type: "access"},
		{Type: "telemetry"},
	}}

	dataPlaneSchema = &hcl.BodySchema{Attributes: optional("data_dir")}

	// By the label of the listen block.
	listenSchemas = map[string]*hcl.BodySchema{
		"signaling": {Attributes: optional("address", "url", "base_path"), Blocks: tlsBlock},
		"public":    {Attributes: optional("address", "url", "proxy_headers"), Blocks: tlsBlock},
		"admin":     {Attributes: optional("address", "token"), Blocks: tlsBlock},
	}
	tlsBlock  = []hcl.BlockHeaderSchema{{Type: "tls"}}
	tlsSchema = &hcl.BodySchema{Attributes: append(required("certificate", "key"), optional("client_ca")...)}

	storeSchema   = &hcl.BodySchema{Attributes: optional("path")}
	pluginsSchema = &hcl.BodySchema{
		Attributes: append(required("directory"), optional("trust", "watch")...),
		Blocks:     []hcl.BlockHeaderSchema{{Type: "publisher", LabelNames: []string{"name"}}},
	}

	pluginSchema = &hcl.BodySchema{
		Attributes: optional("binary", "sha256", "publisher", "environment", "pass_environment", "start_timeout", "drain_timeout", "stop_timeout",
			"handover_timeout", "lane", "lane_buffer", "mtls", "server_side_copy", "start", "isolation", "max_processes", "quarantine_after",
			"address"),
		Blocks: []hcl.BlockHeaderSchema{{Type: "config"}, {Type: "limits"}, {Type: "permissions"}, {Type: "tls"}},
	}

	profileSchema = &hcl.BodySchema{
		Attributes: optional("direction", "endpoint_type", "types", "type", "allow_http", "strict", "mode", "renewal", "provision", "weight",
			"dataset_in_message"),
		Blocks: []hcl.BlockHeaderSchema{{Type: "response"}},
	}
	responseSchema = &hcl.BodySchema{Attributes: optional("type", "endpoint_type", "provision", "linger")}

	datasetSchema = &hcl.BodySchema{
		Attributes: optional("participant_context", "mode"),
		Blocks: []hcl.BlockHeaderSchema{
			{Type: "source", LabelNames: []string{"type"}},
			{Type: "sink", LabelNames: []string{"type"}},
			{Type: "response", LabelNames: []string{"type"}},
			{Type: "limits"},
		},
	}

	participantContextSchema = &hcl.BodySchema{
		Attributes: optional("did", "key", "key_id", "registration_key"),
		Blocks:     []hcl.BlockHeaderSchema{{Type: "limits"}},
	}

	controlPlaneSchema = &hcl.BodySchema{
		Attributes: append(required("endpoint"), optional("participant_context", "protocol", "give_up_after", "timeout",
			"callback_addresses", "token_lifetime", "renewal")...),
		Blocks: []hcl.BlockHeaderSchema{
			{Type: "tls"}, {Type: "authorization", LabelNames: []string{"type"}}, {Type: "registration"},
		},
	}
	clientTLSSchema = &hcl.BodySchema{Attributes: optional("ca", "certificate", "key")}

	// By the label of the authorization block, in control_plane and in registration.
	authorizationSchemas = map[AuthorizationType]*hcl.BodySchema{
		ClientCredentials: {Attributes: optional("issuer", "subject", "audiences", "jwks_uri", "jwks", "insecure_skip_signature",
			"single_use", "token_endpoint", "client_id", "client_secret", "scope", "audience", "resource")},
		TokenExchange: {Attributes: append(required("issuer", "jwks_uri"), optional("subject", "audiences", "required_scope",
			"single_use", "token_exchange_endpoint", "subject_token", "audience", "resource", "scope")...)},
		StaticCredential: {Attributes: optional("header", "inbound", "outbound")},
	}
	entrySchemas = map[AuthorizationType]*hcl.BodySchema{
		ClientCredentials: {Attributes: append(required("token_endpoint", "client_id", "client_secret"), optional("jwks_uri", "jwks")...)},
		TokenExchange: {Attributes: append(required("token_exchange_endpoint", "issuer", "jwks_uri"),
			optional("resource", "audience", "scope")...)},
	}

	registrationSchema = &hcl.BodySchema{
		Attributes: optional("endpoint", "dataplane_endpoint", "labels", "headers", "deregister_on_stop", "destination_provision_types"),
		Blocks:     []hcl.BlockHeaderSchema{{Type: "authorization", LabelNames: []string{"type"}}},
	}

	signalingSchema = &hcl.BodySchema{Attributes: optional("answer_within")}
	outboundSchema  = &hcl.BodySchema{Attributes: optional("allow", "allow_http", "timeout")}

	tokenSchema = &hcl.BodySchema{
		Attributes: optional("lifetime", "max_bytes", "max_concurrent", "max_duration", "refresh_lifetime", "renewal_grace"),
	}

	transferSchema = &hcl.BodySchema{
		Attributes: optional("digests", "checkpoint_interval", "upload_lifetime"),
		Blocks:     []hcl.BlockHeaderSchema{{Type: "retry"}, {Type: "watchdog"}},
	}
	retrySchema    = &hcl.BodySchema{Attributes: optional("first", "max", "give_up_after")}
	watchdogSchema = &hcl.BodySchema{Attributes: optional("stalled_after", "restart_after", "trust_health")}

	limitsSchema = &hcl.BodySchema{Blocks: []hcl.BlockHeaderSchema{{Type: "host"}, {Type: "counterparty"}, {Type: "dataset"}, {Type: "flow"}}}

	ownLimitsSchema = &hcl.BodySchema{Attributes: optional("bytes", "records", "transfers", "weight")}
	// By what the limits are for.
	limitSchemas = map[string]*hcl.BodySchema{
		"host":         {Attributes: optional("bytes", "records", "transfers")},
		"counterparty": {Attributes: optional("bytes", "records", "transfers", "weight")},
		"dataset":      {Attributes: optional("bytes", "records", "transfers")},
		"flow":         {Attributes: optional("bytes", "records")},
	}

	accessSchema = &hcl.BodySchema{Attributes: required("default"),
		Blocks: []hcl.BlockHeaderSchema{{Type: "rule", LabelNames: []string{"name"}}, {Type: "decision_point"}}}
	ruleSchema          = &hcl.BodySchema{Attributes: required("effect", "when")}
	decisionPointSchema = &hcl.BodySchema{Attributes: append(required("url"), optional("timeout", "on_failure", "headers")...)}

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
