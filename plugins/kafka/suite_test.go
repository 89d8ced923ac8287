package main

import (
	"fmt"
	"maps"
	"slices"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/towpath-dataplane/towpath/sdk"
	"github.com/towpath-dataplane/towpath/sdk/sdktest"
)

// sample are messages and the records that they are.
func sample(topic string, n int) (messages []*kgo.Record, records []sdk.Record) {
	for i := range n {
		r := sdk.Record{
			Key: fmt.Appendf(nil, "key-%d", i), Value: sdktest.Pattern(i, i*7%5000), Time: time.UnixMilli(1_700_000_000_000 + int64(i)).UTC(),
			Headers: map[string][]byte{"n": {byte(i), 0}},
		}
		m := messageOf(r)
		m.Topic = topic
		messages, records = append(messages, m), append(records, r)
	}
	return messages, records
}

func TestSourceSuite(t *testing.T) {
	c := newCluster(t)
	c.topic("events", 1)
	messages, records := sample("events", 800)
	c.put(messages...)
	sdktest.TestSource(t, sdktest.SourceCase{
		New:     func(t *testing.T) sdk.DataSource { return dataSource(newTestPlugin(t, loopback())) },
		Address: c.address("events", "stop", "latest", "name", "stream"),
		Parts:   []sdktest.Content{{Name: "stream", Records: records}},
		Bad: []sdktest.BadAddress{
			{Name: "no topic of that name", Address: c.address("nothing"), Code: sdk.NotFound},
			{Name: "no topic", Address: address("kafka.bootstrap.servers", "127.0.0.1:9"), Code: sdk.Invalid},
			{Name: "no brokers", Address: address("topic", "events"), Code: sdk.Invalid},
			{Name: "not allowed", Address: address("topic", "events", "kafka.bootstrap.servers", "10.0.0.1:9092"), Code: sdk.Denied},
		},
	})
}

func TestSinkSuite(t *testing.T) {
	for _, transactional := range []string{"false", "true"} {
		t.Run("transactional "+transactional, func(t *testing.T) {
			sdktest.TestSink(t, sdktest.SinkCase{New: func(t *testing.T) sdktest.Store {
				c := newCluster(t)
				c.topic("inbox", 1)
				var parts map[string][]byte
				return sdktest.Store{
					Sink:    dataSink(newTestPlugin(t, loopback().with("max_message", "3MiB"))),
					Address: c.address("inbox", "transactional", transactional),
					Names: func() ([]string, error) {
						parts = c.parts("inbox")
						return slices.Collect(maps.Keys(parts)), nil
					},
					Content: func(name string) ([]byte, error) { return parts[name], nil },
				}
			}})
		})
	}
}

// parts are the messages of a topic that are parts of bytes, by name.
func (c *cluster) parts(topic string) map[string][]byte {
	parts := map[string][]byte{}
	for _, m := range c.messages(topic) {
		for _, h := range m.Headers {
			if h.Key == partHeader {
				parts[string(h.Value)] = m.Value
			}
		}
	}
	return parts
}

func TestSinkSuiteOfRecords(t *testing.T) {
	for _, transactional := range []string{"false", "true"} {
		t.Run("transactional "+transactional, func(t *testing.T) {
			sdktest.TestSink(t, sdktest.SinkCase{Records: true, New: func(t *testing.T) sdktest.Store {
				c := newCluster(t)
				c.topic("inbox", 3)
				// A message does not say which part it was in.
				return sdktest.Store{
					Sink:    dataSink(newTestPlugin(t, loopback().with("max_message", "3MiB"))),
					Address: c.address("inbox", "transactional", transactional),
				}
			}})
		})
	}
}
