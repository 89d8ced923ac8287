//go:build linux

package e2e_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net"
	"syscall"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
)

// kafkaConfiguration offers a topic, and takes pushes to topics elsewhere.
const kafkaConfiguration = `
plugin "kafka" {
  config {
    allow = ["loopback"]
  }
}

profile "kafka-push" {
  type = "Kafka"
}

dataset "events" {
  source "Kafka" {
    topic = "outbox"
    stop  = env("E2E_STOP")

    properties = {
      "kafka.bootstrap.servers" = env("E2E_BROKERS")
      "kafka.security.protocol" = "PLAINTEXT"
    }
  }
}
`

// A topic is pushed to another while the host or the plugin is killed, twice. Nothing is lost; with transactions nothing comes twice either.
func TestKafkaSurvivesKills(t *testing.T) {
	t.Parallel()
	const partitions, perPartition = 3, 20_000
	for _, transactional := range []bool{false, true} {
		for seed := range uint64(4) {
			t.Run(fmt.Sprintf("transactional %t, seed %d", transactional, seed), func(t *testing.T) {
				t.Parallel()
				random := rand.New(rand.NewPCG(seed, 5))
				k := newKafka(t)
				k.makeTopic("outbox", partitions)
				k.makeTopic("inbox", partitions)
				k.fill("outbox", partitions, perPartition)
				h := newHost(t, "provider", kafkaConfiguration, "E2E_BROKERS="+k.address, "E2E_STOP=latest")
				h.start()
				h.signal("start", creation("events-1", "kafka-push", "events", k.dataAddress("inbox", transactional)))
				for range 2 {
					next := k.stored("inbox") + 1 + random.Int64N(partitions*perPartition/4)
					eventually(t, "some messages have arrived", func() bool { return k.stored("inbox") >= next || h.state("events-1") == "COMPLETED" })
					if pid := h.plugin("kafka").PID; pid > 0 && random.IntN(3) == 0 {
						t.Log("kill the plugin")
						sendSignal(t, pid, syscall.SIGKILL)
						continue
					}
					t.Log("kill the host")
					h.kill()
					h.start()
				}
				eventually(t, "the flow is COMPLETED", func() bool { return h.state("events-1") == "COMPLETED" })
				k.expectAll("inbox", partitions, perPartition, transactional)
			})
		}
	}
}

// A flow without an end stays STARTED when nothing comes, holds its place while it is suspended, and goes on.
func TestKafkaWithoutEnd(t *testing.T) {
	t.Parallel()
	k := newKafka(t)
	k.makeTopic("outbox", 1)
	k.makeTopic("inbox", 1)
	h := newHost(t, "provider", kafkaConfiguration, "E2E_BROKERS="+k.address, "E2E_STOP=never")
	h.start()
	address := k.dataAddress("inbox", true)
	h.signal("start", creation("events-1", "kafka-push", "events", address))
	arrived := func(n int) {
		t.Helper()
		eventually(t, fmt.Sprintf("%d messages have arrived", n), func() bool { return len(k.read("inbox")) == n })
	}
	k.fill("outbox", 1, 100)
	arrived(100)
	h.signal("events-1/suspend", nil)
	k.fill("outbox", 1, 100)
	h.signal("events-1/resume", message{"messageId": newID(), "dataAddress": address})
	arrived(200)
	h.expectState("events-1", "STARTED")
	h.signal("events-1/terminate", nil)
	h.expectNothingLeft("events-1")
}

// kafka is a cluster in this process, behind a network. What the test does itself goes past that.
type kafka struct {
	t       *testing.T
	fake    *kfake.Cluster
	address string // that it advertises, in the network
	network *network
	direct  kgo.Opt // leads past the network
	client  *kgo.Client
}

func newKafka(t *testing.T) *kafka {
	t.Helper()
	k := &kafka{t: t}
	var err error
	k.fake, err = kfake.NewCluster(kfake.NumBrokers(1), kfake.ListenFn(k.listen))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(k.fake.Close)
	k.address = k.network.address
	k.client, err = kgo.NewClient(kgo.SeedBrokers(k.address), k.direct, kgo.RecordPartitioner(kgo.ManualPartitioner()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(k.client.Close)
	return k
}

// advertised is a listener with another address than its own.
type advertised struct {
	net.Listener
	address net.Addr
}

func (a advertised) Addr() net.Addr { return a.address }

func (k *kafka) listen(network, address string) (net.Listener, error) {
	l, err := net.Listen(network, address)
	if err != nil {
		return nil, err
	}
	k.direct = kgo.Dialer(func(ctx context.Context, network, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, network, l.Addr().String())
	})
	k.network = newNetwork(k.t, l.Addr().String())
	in, err := net.ResolveTCPAddr(network, k.network.address)
	return advertised{l, in}, err
}

func (k *kafka) makeTopic(name string, partitions int32) {
	k.t.Helper()
	if err := k.fake.CreateTopic(name, partitions, nil); err != nil {
		k.t.Fatal(err)
	}
}

// fill stores n messages in each partition, all different.
func (k *kafka) fill(topic string, partitions int32, n int) {
	k.t.Helper()
	var all []*kgo.Record
	for i := range n {
		for p := range partitions {
			all = append(all, &kgo.Record{Topic: topic, Partition: p, Key: fmt.Append(nil, p), Value: fmt.Appendf(nil, "%d/%d", p, i)})
		}
	}
	if err := k.client.ProduceSync(k.t.Context(), all...).FirstErr(); err != nil {
		k.t.Fatal(err)
	}
}

// dataAddress is the address of a topic, as a counterparty gives it.
func (k *kafka) dataAddress(topic string, transactional bool) *dataAddress {
	a := &dataAddress{Type: "DataAddress", EndpointType: "Kafka", Endpoint: "kafka://" + k.address}
	for name, value := range map[string]string{
		"topic": topic, "kafka.security.protocol": "PLAINTEXT", "transactional": fmt.Sprint(transactional),
	} {
		a.EndpointProperties = append(a.EndpointProperties, endpointProperty{Type: "EndpointProperty", Name: name, Value: value})
	}
	return a
}

// ends are the offsets behind what is committed.
func (k *kafka) ends(ctx context.Context, topic string) (kadm.ListedOffsets, error) {
	ends, err := kadm.NewClient(k.client).ListCommittedOffsets(ctx, topic)
	if err == nil {
		err = ends.Error()
	}
	return ends, err
}

// stored is about the number of messages that are committed.
func (k *kafka) stored(topic string) (n int64) {
	k.t.Helper()
	ends, err := k.ends(k.t.Context(), topic)
	if err != nil {
		k.t.Fatal(err)
	}
	ends.Each(func(o kadm.ListedOffset) { n += o.Offset })
	return n
}

// read returns the values of what is committed, each partition in order.
func (k *kafka) read(topic string) (values []string) {
	k.t.Helper()
	messages, err := k.messages(k.t.Context(), topic)
	if err != nil {
		k.t.Fatal(err)
	}
	for _, m := range messages {
		values = append(values, string(m.Value))
	}
	return values
}

// messages returns what is committed, each partition in order.
func (k *kafka) messages(ctx context.Context, topic string) (all []*kgo.Record, err error) {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	ends, err := k.ends(ctx, topic)
	if err != nil {
		return nil, err
	}
	from, left := map[int32]kgo.Offset{}, map[int32]int64{}
	ends.Each(func(o kadm.ListedOffset) {
		if o.Offset > 0 {
			from[o.Partition], left[o.Partition] = kgo.NewOffset().AtStart(), o.Offset
		}
	})
	reader, err := kgo.NewClient(kgo.SeedBrokers(k.address), k.direct, kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{topic: from}),
		kgo.FetchIsolationLevel(kgo.ReadCommitted()), kgo.KeepControlRecords())
	if err != nil {
		return nil, err
	}
	defer reader.Close()
	for len(left) > 0 {
		fetches := reader.PollFetches(ctx)
		if err := fetches.Err(); err != nil {
			return nil, err
		}
		fetches.EachRecord(func(m *kgo.Record) {
			if !m.Attrs.IsControl() && m.Offset < left[m.Partition] {
				all = append(all, m)
			}
			if m.Offset+1 >= left[m.Partition] {
				delete(left, m.Partition)
			}
		})
	}
	return all, nil
}

// expectAll expects every message of another topic: at least once and in order, or exactly once and in order.
func (k *kafka) expectAll(topic string, partitions, n int, once bool) {
	k.t.Helper()
	next, repeated := make([]int, partitions), 0
	for _, v := range k.read(topic) {
		var partition, i int
		if _, err := fmt.Sscanf(v, "%d/%d", &partition, &i); err != nil {
			k.t.Fatal(err)
		}
		switch {
		case i == next[partition]:
			next[partition]++
		case i < next[partition]:
			repeated++
		default:
			k.t.Fatalf("message %d of partition %d came where %d was due", i, partition, next[partition])
		}
	}
	for partition, got := range next {
		if got != n {
			k.t.Errorf("%d of %d messages of partition %d arrived", got, n, partition)
		}
	}
	if once && repeated > 0 {
		k.t.Errorf("%d messages came twice", repeated)
	}
	k.t.Logf("%d messages, and %d again", partitions*n, repeated)
}
