package main

import (
	"crypto/tls"
	"time"

	"github.com/towpath-dataplane/towpath/sdk"
	"github.com/towpath-dataplane/towpath/sdk/outbound"
)

// settings is the plugin's configuration block.
type settings struct {
	Allow              []string          `json:"allow"`
	AllowPlaintext     bool              `json:"allow_plaintext"`
	Timeout            sdk.TimeSpan      `json:"timeout"`
	DeliveryTimeout    sdk.TimeSpan      `json:"delivery_timeout"`
	TransactionTimeout sdk.TimeSpan      `json:"transaction_timeout"`
	CAFile             string            `json:"ca_file"`
	ClientCertificate  string            `json:"client_certificate"`
	ClientKey          string            `json:"client_key"`
	MaxMessage         sdk.ByteSize      `json:"max_message"`
	FetchAhead         sdk.ByteSize      `json:"fetch_ahead"`
	SendAhead          sdk.ByteSize      `json:"send_ahead"`
	Provision          map[string]string `json:"provision"`
	HandOut            map[string]string `json:"hand_out"`
	TopicPrefix        string            `json:"topic_prefix"`
	Partitions         int64             `json:"partitions"`
	ReplicationFactor  int64             `json:"replication_factor"`
	Retention          sdk.TimeSpan      `json:"retention"`
	RemoveTopics       bool              `json:"remove_topics"`
}

// mostMessage is the largest message that fits into a frame between plugin and host, with its headers.
const mostMessage = 6 << 20

func defaultSettings() settings {
	return settings{
		Timeout:            sdk.TimeSpan(30 * time.Second),
		DeliveryTimeout:    sdk.TimeSpan(2 * time.Minute),
		TransactionTimeout: sdk.TimeSpan(time.Minute),
		MaxMessage:         1_000_000,
		FetchAhead:         4 << 20,
		SendAhead:          8 << 20,
		TopicPrefix:        "towpath-",
		Partitions:         1,
		ReplicationFactor:  -1,
	}
}

// configSchema describes settings. Its defaults are those of defaultSettings.
func configSchema() sdk.Schema {
	return sdk.Schema{Fields: []sdk.Field{
		{Name: "allow", Kind: sdk.StringList, Documentation: "Brokers to connect to although they are in a range that is refused by default " +
			"(loopback, private, link-local, shared, multicast and reserved addresses, cloud metadata): `loopback`, a host, `host:port`, an IP " +
			"address, or a network such as `10.1.0.0/16`. It holds for the brokers that a cluster advertises too."},
		{Name: "allow_plaintext", Kind: sdk.Bool, Default: "false", Documentation: "Connect without TLS to hosts other than loopback too."},
		{Name: "timeout", Kind: sdk.Duration, Default: "30s", Documentation: "Longest time to connect, and for a request other than a fetch " +
			"to be answered, with its retries."},
		{Name: "delivery_timeout", Kind: sdk.Duration, Default: "2m", Documentation: "Longest time for a message to be stored by the brokers, " +
			"with its retries."},
		{Name: "transaction_timeout", Kind: sdk.Duration, Default: "1m", Documentation: "When the brokers abort the transaction of a sink that " +
			"was lost. Consumers that read what is committed wait that long for what comes behind it, unless the flow goes on earlier."},
		{Name: "ca_file", Kind: sdk.String, Documentation: "File of PEM certificates to trust besides those of the system."},
		{Name: "client_certificate", Kind: sdk.String, Documentation: "File with the PEM certificate chain to show to brokers that ask for one."},
		{Name: "client_key", Kind: sdk.String, Documentation: "File with the PEM private key of `client_certificate`."},
		{Name: "max_message", Kind: sdk.Size, Default: "1000000", Documentation: "Largest message that a sink makes, at most 6MiB. Topics limit " +
			"it too (`max.message.bytes`)."},
		{Name: "fetch_ahead", Kind: sdk.Size, Default: "4MiB", Documentation: "How much a flow fetches ahead of each broker."},
		{Name: "send_ahead", Kind: sdk.Size, Default: "8MiB", Documentation: "How much a flow sends ahead of what the brokers have stored."},
		{Name: "provision", Kind: sdk.StringMap, Sensitive: true, Documentation: "Where flows have topics of their own, made for " +
			"counterparties to read: properties of the sink's address, such as `kafka.bootstrap.servers`, credentials (which are not handed out) " +
			"and `transactional`."},
		{Name: "hand_out", Kind: sdk.StringMap, Sensitive: true, Documentation: "Properties of the address that is handed out for such a topic, " +
			"besides or in place of the topic, the servers and how they are secured: credentials of the counterparty, public names of brokers."},
		{Name: "topic_prefix", Kind: sdk.String, Default: "towpath-", Documentation: "What the name of such a topic begins with."},
		{Name: "partitions", Kind: sdk.Int, Default: "1", Documentation: "Partitions of such a topic."},
		{Name: "replication_factor", Kind: sdk.Int, Default: "-1", Documentation: "Copies of such a topic. -1: the brokers' own."},
		{Name: "retention", Kind: sdk.Duration, Default: "0s", Documentation: "How long such a topic keeps messages. 0: the brokers' own."},
		{Name: "remove_topics", Kind: sdk.Bool, Default: "false", Documentation: "Remove such a topic, with what is in it, when its flow ends."},
	}}
}

func (s settings) check() error {
	var fields []sdk.FieldError
	refuse := func(wrong bool, field, message string) {
		if wrong {
			fields = append(fields, sdk.FieldError{Field: field, Message: message})
		}
	}
	refuse(s.Timeout <= 0, "timeout", "is not more than 0")
	refuse(s.DeliveryTimeout < sdk.TimeSpan(time.Second), "delivery_timeout", "is less than 1s")
	refuse(s.TransactionTimeout < sdk.TimeSpan(time.Second), "transaction_timeout", "is less than 1s")
	refuse(s.MaxMessage < 1024 || s.MaxMessage > mostMessage, "max_message", "is not between 1KiB and 6MiB")
	refuse(s.FetchAhead < 64<<10 || s.FetchAhead > 1<<30, "fetch_ahead", "is not between 64KiB and 1GiB")
	refuse(s.SendAhead < s.MaxMessage || s.SendAhead > 1<<30, "send_ahead", "is not between max_message and 1GiB")
	refuse(s.Partitions < 1 || s.Partitions > 10_000, "partitions", "is not between 1 and 10000")
	refuse(s.ReplicationFactor < -1 || s.ReplicationFactor == 0 || s.ReplicationFactor > 100, "replication_factor", "is not -1 or a number from 1 to 100")
	refuse(s.Retention < 0, "retention", "is less than 0")
	refuse(!isTopic(s.TopicPrefix+"x") || len(s.TopicPrefix) > 200, "topic_prefix", "has other characters than letters, digits, '.', '_' and '-'")
	for _, wrong := range sinkSchema().Check(sdk.DataAddress{Type: addressType, Properties: s.Provision}) {
		refuse(true, "provision", wrong.String())
	}
	return sdk.InvalidFields(fields)
}

func (s settings) tlsConfig() (*tls.Config, error) {
	return outbound.TLSFromFiles(s.CAFile, s.ClientCertificate, s.ClientKey)
}

func invalidField(field, message string) error {
	return sdk.InvalidFields([]sdk.FieldError{{Field: field, Message: message}})
}
