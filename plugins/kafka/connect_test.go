//go:build !broker

package main

import (
	"crypto/tls"
	"encoding/pem"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
	"github.com/twmb/franz-go/pkg/sasl/plain"

	"github.com/towpath-dataplane/towpath/sdk"
)

// certificate is one for 127.0.0.1, with the file of the authority to trust for it.
func certificate(t *testing.T) (tls.Certificate, string) {
	t.Helper()
	server := httptest.NewUnstartedServer(nil)
	server.StartTLS()
	defer server.Close()
	file := filepath.Join(t.TempDir(), "ca.pem")
	text := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw})
	if err := os.WriteFile(file, text, 0o600); err != nil {
		t.Fatal(err)
	}
	return server.TLS.Certificates[0], file
}

// Flows move over TLS with each way to authenticate, and not with credentials or certificates that are wrong.
func TestSecurity(t *testing.T) {
	pair, ca := certificate(t)
	config := &tls.Config{Certificates: []tls.Certificate{pair}}
	fake := newFake(t, kfake.TLS(config), kfake.EnableSASL(), kfake.Superuser("PLAIN", "user", "pass-word"),
		kfake.Superuser("SCRAM-SHA-256", "user256", "pass-word"), kfake.Superuser("SCRAM-SHA-512", "user512", "pass-word"))
	trust := config.Clone()
	trust.InsecureSkipVerify = true // the test's own client
	c := &cluster{t: t, servers: fake.ListenAddrs()}
	client := newClient(t, c.servers, kgo.DialTLSConfig(trust), kgo.SASL(plain.Auth{User: "user", Pass: "pass-word"}.AsMechanism()))
	if err := fake.CreateTopic("events", 1, nil); err != nil {
		t.Fatal(err)
	}
	if err := client.ProduceSync(t.Context(), &kgo.Record{Topic: "events", Value: []byte("0/0")}).FirstErr(); err != nil {
		t.Fatal(err)
	}
	good := newTestPlugin(t, loopback().with("ca_file", ca).with("timeout", "2s"))
	at := func(properties ...string) sdk.DataAddress {
		return address(append([]string{"topic", "events", "stop", "latest", "kafka.bootstrap.servers", strings.Join(c.servers, ",")}, properties...)...)
	}
	for name, a := range map[string]sdk.DataAddress{
		"PLAIN":         at("kafka.sasl.mechanism", "PLAIN", "username", "user", "password", "pass-word"),
		"SCRAM-SHA-256": at("kafka.sasl.mechanism", "SCRAM-SHA-256", "username", "user256", "password", "pass-word"),
		"JAAS": at("kafka.security.protocol", "SASL_SSL", "kafka.sasl.mechanism", "SCRAM-SHA-512", "kafka.sasl.jaas.config",
			`org.apache.kafka.common.security.scram.ScramLoginModule required username="user512" password="pass-word";`),
	} {
		t.Run(name, func(t *testing.T) {
			if got := readAll(t, good, a); len(got) != 1 {
				t.Errorf("read %v", got)
			}
			sink := a.Clone()
			delete(sink.Properties, "stop")
			sink.Properties["transactional"] = "true"
			if err := startWriting(t, good, sink, nil, false).begin().finish(); err != nil {
				t.Errorf("write: %v", err)
			}
		})
	}
	plainAddress := at("kafka.sasl.mechanism", "PLAIN", "username", "user", "password", "pass-word")
	for name, test := range map[string]struct {
		plugin sdk.Plugin
		a      sdk.DataAddress
		code   sdk.Code
		piece  string
	}{
		"unknown authority":    {newTestPlugin(t, loopback()), plainAddress, sdk.Denied, "certificate"},
		"loopback not allowed": {newTestPlugin(t, block{"ca_file": ca}), plainAddress, sdk.Denied, "loopback"},
	} {
		t.Run(name, func(t *testing.T) {
			err := startReading(t, test.plugin, test.a, nil).rest()
			wantError(t, err, test.code, false, test.piece)
			if strings.Contains(err.Error(), "-word") {
				t.Errorf("the password is in %q", err)
			}
		})
	}
}

// Credentials that brokers do not take are a refusal, which does not repeat them.
func TestWrongPassword(t *testing.T) {
	fake := newFake(t, kfake.EnableSASL())
	fake.ControlKey(int16(kmsg.SASLAuthenticate), func(req kmsg.Request) (kmsg.Response, error, bool) {
		fake.KeepControl()
		resp := req.ResponseKind().(*kmsg.SASLAuthenticateResponse)
		resp.ErrorCode = kerr.SaslAuthenticationFailed.Code
		return resp, nil, true
	})
	a := address("topic", "events", "kafka.bootstrap.servers", fake.ListenAddrs()[0], "kafka.security.protocol", protocolSASLPlain,
		"kafka.sasl.mechanism", "PLAIN", "username", "user", "password", "wrong-word")
	err := startReading(t, newTestPlugin(t, loopback()), a, nil).rest()
	wantError(t, err, sdk.Denied, false, "SASL_AUTHENTICATION_FAILED")
	if strings.Contains(err.Error(), "wrong-word") {
		t.Errorf("the password is in %q", err)
	}
}

// A broker that a cluster advertises is checked as those of the address are.
func TestAdvertisedBroker(t *testing.T) {
	for host, piece := range map[string]string{"10.0.0.1": "private", "169.254.169.254": "metadata"} {
		fake := newFake(t)
		fake.ControlKey(int16(kmsg.Metadata), func(req kmsg.Request) (kmsg.Response, error, bool) {
			fake.KeepControl()
			resp := req.ResponseKind().(*kmsg.MetadataResponse)
			broker := kmsg.NewMetadataResponseBroker()
			broker.NodeID, broker.Host, broker.Port = 0, host, 9092
			resp.Brokers = append(resp.Brokers, broker)
			topic := kmsg.NewMetadataResponseTopic()
			topic.Topic, topic.TopicID = kmsg.StringPtr("events"), [16]byte{1}
			partition := kmsg.NewMetadataResponseTopicPartition()
			partition.Replicas, partition.ISR = []int32{0}, []int32{0}
			topic.Partitions = append(topic.Partitions, partition)
			resp.Topics = append(resp.Topics, topic)
			return resp, nil, true
		})
		a := address("topic", "events", "kafka.bootstrap.servers", fake.ListenAddrs()[0], "kafka.security.protocol", protocolPlain)
		err := startReading(t, newTestPlugin(t, loopback()), a, nil).rest()
		wantError(t, err, sdk.Denied, false, host, piece)
	}
}

// Brokers that are not there are a failure that can pass.
func TestNoBroker(t *testing.T) {
	fake := newFake(t)
	a := address("topic", "events", "kafka.bootstrap.servers", fake.ListenAddrs()[0], "kafka.security.protocol", protocolPlain)
	fake.Close()
	p := newTestPlugin(t, loopback().with("timeout", "500ms"))
	wantError(t, startReading(t, p, a, nil).rest(), sdk.Unavailable, true, "look up topic")
	wantError(t, startWriting(t, p, a, nil, false).begin().finish(), sdk.Unavailable, true, "look up topic")
}
