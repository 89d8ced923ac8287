package main

import (
	"slices"

	"github.com/towpath-dataplane/towpath/sdk"
)

// sourceSchema lists the properties of an address that is read.
func sourceSchema() sdk.Schema {
	return sdk.Schema{Fields: slices.Concat(commonFields(), []sdk.Field{
		{Name: "topic", Required: true, Documentation: "Name of the topic."},
		{Name: "name", Documentation: "Name of the part. Otherwise it is that of the topic."},
		{Name: "kafka.group.id", Documentation: "Consumer group to read in. Its members share the topic, with others if there are any, and its " +
			"offsets are committed when the host has stored them. Without it the flow reads every partition, or those of `partitions`, and " +
			"commits nothing."},
		{Name: "partitions", Documentation: "Partitions to read, such as `0,2-4`, if there is no group. Otherwise all, also those that are added."},
		{Name: "start", Documentation: "Where to begin: `earliest` (the default), `latest`, a time such as `2026-01-31T12:00:00Z`, or offsets such " +
			"as `0:17,1:4` (other partitions begin at their start). In a group, only where it has committed nothing."},
		{Name: "kafka.auto.offset.reset", OneOf: []string{"earliest", "latest"}, Documentation: "EDC's name for a simple `start`."},
		{Name: "stop", Documentation: "Where to end: `never` (the default), `latest` (the end as it is when the flow begins), a time, or offsets " +
			"such as `0:100,1:80`, which are not read themselves."},
		{Name: "onLoss", Default: lossFail, OneOf: []string{lossFail, lossEarliest, lossLatest}, Documentation: "What happens when messages that are " +
			"to be read are gone, deleted or truncated: `fail`, or skip to the earliest or latest that is there."},
		{Name: "kafka.isolation.level", Default: readCommitted, OneOf: []string{readCommitted, "read_uncommitted"}, Documentation: "Whether messages " +
			"of transactions that are not committed are read."},
		{Name: "repeatedHeaders", Default: repeatedFail, OneOf: []string{repeatedFail, repeatedLast}, Documentation: "What happens to a message " +
			"with several headers of one name, of which a record has only one: `fail`, or the last stays."},
	})}
}

// sinkSchema lists the properties of an address that is written to.
func sinkSchema() sdk.Schema {
	return sdk.Schema{Fields: slices.Concat(commonFields(), []sdk.Field{
		{Name: "topic", Documentation: "Name of the topic. Without it the flow has one of its own, as the plugin's configuration says (`provision`)."},
		{Name: "transactional", Kind: sdk.Bool, Default: "false", Documentation: "Write in transactions, together with the place that the flow has " +
			"reached: consumers that read what is committed get every message exactly once, whatever is killed. Transaction and group are named " +
			"`towpath-` and a digest of the flow's id, which the user has to be allowed to use."},
		{Name: "partition", Kind: sdk.Int, Documentation: "Partition to write to. Otherwise that of the key's hash, as in other clients."},
		{Name: "compression", Default: "none", OneOf: slices.Sorted(codecNames()), Documentation: "Compression of the batches."},
	})}
}

// ignoredFields are properties that addresses carry for others: clients in Java, and hosts that renew tokens.
var ignoredFields = []string{"kafka.key.serializer", "kafka.value.serializer", "kafka.key.deserializer", "kafka.value.deserializer",
	"kafka.enable.auto.commit", "pollDuration", "authType", "expiresIn", "refreshEndpoint", "refreshToken"}

func commonFields() []sdk.Field {
	fields := []sdk.Field{
		{Name: "kafka.bootstrap.servers", Documentation: "Brokers to begin with, as `host:port`, separated by commas. An address's endpoint stands for it, " +
			"with or without `kafka://`."},
		{Name: "kafka.security.protocol", OneOf: []string{protocolPlain, protocolTLS, protocolSASLPlain, protocolSASLTLS}, Documentation: "How brokers " +
			"are connected to. Default: `SASL_SSL` with a mechanism, otherwise `SSL`."},
		{Name: "kafka.sasl.mechanism", OneOf: []string{"PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512", "OAUTHBEARER"}, Documentation: "How to authenticate."},
		{Name: "kafka.sasl.jaas.config", Sensitive: true, Documentation: "User name and password (`username=\"…\" password=\"…\"`) as clients in Java " +
			"have them."},
		{Name: "username", Documentation: "User to authenticate as."},
		{Name: "password", Sensitive: true, Documentation: "Password of the user."},
		{Name: "authorization", Sensitive: true, Documentation: "Access token, for OAUTHBEARER."},
		{Name: "kafka.client.id", Default: defaultClientID, Documentation: "What the brokers call this client in their logs and quotas."},
	}
	for _, name := range ignoredFields {
		fields = append(fields, sdk.Field{Name: name, Sensitive: name == "refreshToken", Documentation: "Accepted, without effect."})
	}
	return fields
}
