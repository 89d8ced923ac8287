package main

import (
	"slices"
	"strings"
	"testing"

	"github.com/towpath-dataplane/towpath/sdk"
)

func TestAddresses(t *testing.T) {
	servers := []string{"topic", "events", "kafka.bootstrap.servers", "a.example:9092"}
	for name, test := range map[string]struct {
		properties []string
		field      string // that is wrong; "" if none is
	}{
		"least":                        {nil, ""},
		"EDC's":                        {[]string{"kafka.key.deserializer", "x", "kafka.auto.offset.reset", "latest", "pollDuration", "PT1S"}, ""},
		"full names":                   {[]string{"https://w3id.org/edc/v0.0.1/ns/kafka.group.id", "g"}, ""},
		"typo":                         {[]string{"topicc", "x"}, "topicc"},
		"unknown kafka property":       {[]string{"kafka.max.poll.records", "5"}, "kafka.max.poll.records"},
		"not a topic":                  {[]string{"topic", "a/b"}, "topic"},
		"no port":                      {[]string{"kafka.bootstrap.servers", "a.example"}, "kafka.bootstrap.servers"},
		"user in servers":              {[]string{"kafka.bootstrap.servers", "u@a.example:1"}, "kafka.bootstrap.servers"},
		"mechanism without user":       {[]string{"kafka.sasl.mechanism", "PLAIN"}, "password"},
		"user without mechanism":       {[]string{"username", "u", "password", "p"}, "kafka.sasl.mechanism"},
		"SASL without mechanism":       {[]string{"kafka.security.protocol", "SASL_SSL"}, "kafka.sasl.mechanism"},
		"mechanism without SASL":       {[]string{"kafka.security.protocol", "SSL", "kafka.sasl.mechanism", "OAUTHBEARER", "authorization", "t"}, "kafka.security.protocol"},
		"token":                        {[]string{"kafka.sasl.mechanism", "OAUTHBEARER", "authorization", "Bearer t"}, ""},
		"no token":                     {[]string{"kafka.sasl.mechanism", "OAUTHBEARER"}, "authorization"},
		"JAAS without password":        {[]string{"kafka.sasl.mechanism", "PLAIN", "kafka.sasl.jaas.config", `username="u"`}, "kafka.sasl.jaas.config"},
		"start that is none":           {[]string{"start", "yesterday"}, "start"},
		"start twice":                  {[]string{"start", "latest", "kafka.auto.offset.reset", "latest"}, "start"},
		"stop at the start":            {[]string{"stop", "earliest"}, "stop"},
		"offsets of a partition twice": {[]string{"stop", "0:1,0:2"}, "stop"},
		"partitions in a group":        {[]string{"partitions", "0", "kafka.group.id", "g"}, "partitions"},
		"partitions that are none":     {[]string{"partitions", "3-1"}, "partitions"},
		"too many partitions":          {[]string{"partitions", "0-2000000000"}, "partitions"},
		"name that leads away":         {[]string{"name", "../x"}, "name"},
	} {
		t.Run(name, func(t *testing.T) {
			a := address(slices.Concat(servers, test.properties)...)
			err := dataSource(newPlugin()).Validate(t.Context(), a)
			if test.field == "" {
				if err != nil {
					t.Error(err)
				}
				return
			}
			wantError(t, err, sdk.Invalid, false, test.field)
		})
	}
	byEndpoint := sdk.DataAddress{Type: addressType, Endpoint: "kafka://a.example:9092,b.example:9092", Properties: map[string]string{"topic": "t"}}
	if s, err := newSelection(byEndpoint); err != nil || len(s.servers) != 2 || !s.tls {
		t.Errorf("an address with an endpoint: %+v, %v", s, err)
	}
}

// What is secret is marked as such, and no error repeats it.
func TestSecrets(t *testing.T) {
	for _, name := range []string{"password", "authorization", "kafka.sasl.jaas.config", "refreshToken"} {
		for _, schema := range []sdk.Schema{sourceSchema(), sinkSchema()} {
			if f, ok := schema.Lookup(name); !ok || !f.Sensitive {
				t.Errorf("%s is not sensitive", name)
			}
		}
	}
	a := address("topic", "t", "kafka.bootstrap.servers", "a.example:1", "kafka.sasl.jaas.config", "s3cret", "password", "s3cret")
	if err := dataSink(newPlugin()).Validate(t.Context(), a); err == nil || strings.Contains(err.Error(), "s3cret") {
		t.Errorf("the error is %v", err)
	}
}

func TestConfigurations(t *testing.T) {
	for name, test := range map[string]struct {
		b     block
		field string
	}{
		"allow":                {block{"allow": []string{"a/b/c"}}, "allow"},
		"timeout":              {block{"timeout": "0s"}, "timeout"},
		"max_message":          {block{"max_message": "7MiB"}, "max_message"},
		"send_ahead":           {block{"send_ahead": "1KiB"}, "send_ahead"},
		"topic_prefix":         {block{"topic_prefix": "a/"}, "topic_prefix"},
		"replication_factor":   {block{"replication_factor": 0}, "replication_factor"},
		"ca_file":              {block{"ca_file": "/nonexistent"}, "ca_file"},
		"key without its pair": {block{"client_key": "x"}, "client_certificate"},
	} {
		t.Run(name, func(t *testing.T) {
			text, err := jsonOf(test.b)
			if err != nil {
				t.Fatal(err)
			}
			wantError(t, newPlugin().Configure(t.Context(), sdk.Config{JSON: text}), sdk.Invalid, false, test.field)
		})
	}
}

// The defaults that the schema shows are those in force.
func TestDefaults(t *testing.T) {
	b := block{}
	for _, f := range configSchema().Fields {
		if f.Default == "" {
			continue
		}
		switch f.Kind {
		case sdk.Bool:
			b[f.Name] = f.Default == "true"
		case sdk.Int:
			b[f.Name] = map[string]int{"1": 1, "-1": -1}[f.Default]
		default:
			b[f.Name] = f.Default
		}
	}
	shown, want := environmentOf(newTestPlugin(t, b)).settings, defaultSettings()
	if shown.Timeout != want.Timeout || shown.DeliveryTimeout != want.DeliveryTimeout || shown.TransactionTimeout != want.TransactionTimeout ||
		shown.MaxMessage != want.MaxMessage || shown.FetchAhead != want.FetchAhead || shown.SendAhead != want.SendAhead ||
		shown.TopicPrefix != want.TopicPrefix || shown.Partitions != want.Partitions || shown.ReplicationFactor != want.ReplicationFactor {
		t.Errorf("the schema's defaults give %+v, not %+v", shown, want)
	}
}
