package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/towpath-dataplane/towpath/sdk"
)

// block is a configuration block.
type block map[string]any

// loopback is a configuration that lets tests reach their brokers.
func loopback() block { return block{"allow": []string{"loopback"}} }

// with adds a value to a block.
func (b block) with(name string, value any) block {
	b[name] = value
	return b
}

func newTestPlugin(t *testing.T, b block) sdk.Plugin {
	t.Helper()
	p := newPlugin()
	text, err := jsonOf(b)
	if err != nil {
		t.Fatal(err)
	}
	if err := p.Configure(t.Context(), sdk.Config{JSON: text}); err != nil {
		t.Fatal(err)
	}
	// Fake brokers do not notice that nobody waits any more, and suites count their goroutines.
	environmentOf(p).fetchWait = 50 * time.Millisecond
	return p
}

func jsonOf(b block) ([]byte, error) { return json.Marshal(b) }

func environmentOf(p sdk.Plugin) *environment { return p.Sources[0].Source.(*source).env }

// cluster is a Kafka cluster, with a client to look at it from behind. See newCluster.
type cluster struct {
	t       testing.TB
	servers []string
	client  *kgo.Client
	admin   *kadm.Client
}

func clusterAt(t testing.TB, servers []string) *cluster {
	t.Helper()
	client := newClient(t, servers)
	return &cluster{t, servers, client, kadm.NewClient(client)}
}

func newClient(t testing.TB, servers []string, opts ...kgo.Opt) *kgo.Client {
	t.Helper()
	client, err := kgo.NewClient(append([]kgo.Opt{kgo.SeedBrokers(servers...), kgo.RecordPartitioner(kgo.ManualPartitioner()), kgo.DisableClientMetrics(),
		kgo.MetadataMinAge(10 * time.Millisecond)}, opts...)...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(client.Close)
	return client
}

// topic makes a topic whose messages may have 4 MiB.
func (c *cluster) topic(name string, partitions int32) {
	c.t.Helper()
	size := "4194304"
	configs := map[string]*string{"max.message.bytes": &size}
	client := newClient(c.t, c.servers)
	defer client.Close() // not kept: suites count connections
	admin := kadm.NewClient(client)
	if _, err := admin.CreateTopic(context.Background(), partitions, 1, configs, name); err != nil {
		c.t.Fatal(err)
	}
	// A broker learns later than the controller of it.
	eventually(c.t, "topic "+name+" is there", func() bool {
		ends, err := admin.ListEndOffsets(context.Background(), name)
		return err == nil && ends.Error() == nil && len(ends[name]) == int(partitions)
	})
}

func (c *cluster) deleteTopic(name string) {
	c.t.Helper()
	if _, err := c.admin.DeleteTopic(context.Background(), name); err != nil {
		c.t.Fatal(err)
	}
	c.client.PurgeTopicsFromClient(name)
}

// deleteRecords deletes those of partition 0 before an offset.
func (c *cluster) deleteRecords(topic string, before int64) {
	c.t.Helper()
	offsets := kadm.Offsets{}
	offsets.AddOffset(topic, 0, before, -1)
	if _, err := c.admin.DeleteRecords(context.Background(), offsets); err != nil {
		c.t.Fatal(err)
	}
}

// partitions is the number of a topic's partitions, 0 if there is no such topic.
func (c *cluster) partitions(topic string) int {
	c.t.Helper()
	// A client of its own: the other's knows what was so a while ago.
	details, err := kadm.NewClient(newClient(c.t, c.servers)).ListTopics(context.Background(), topic)
	if err != nil {
		c.t.Fatal(err)
	}
	return len(details[topic].Partitions)
}

// address returns an address of the cluster.
func (c *cluster) address(topic string, properties ...string) sdk.DataAddress {
	return address(append([]string{"topic", topic, "kafka.bootstrap.servers", strings.Join(c.servers, ","),
		"kafka.security.protocol", protocolPlain}, properties...)...)
}

func address(properties ...string) sdk.DataAddress {
	a := sdk.DataAddress{Type: addressType, Properties: map[string]string{}}
	for i := 0; i < len(properties); i += 2 {
		a.Properties[properties[i]] = properties[i+1]
	}
	return a
}

// put stores messages.
func (c *cluster) put(messages ...*kgo.Record) {
	c.t.Helper()
	if err := c.client.ProduceSync(context.Background(), messages...).FirstErr(); err != nil {
		c.t.Fatal(err)
	}
}

// fill stores messages with the values from-to of every partition: "partition/number".
func (c *cluster) fill(topic string, partitions int32, from, to int) {
	c.t.Helper()
	var all []*kgo.Record
	for i := from; i < to; i++ {
		for p := range partitions {
			all = append(all, &kgo.Record{Topic: topic, Partition: p, Key: fmt.Appendf(nil, "k%d", i%7), Value: fmt.Appendf(nil, "%d/%d", p, i)})
		}
	}
	c.put(all...)
}

// messages reads what is committed in a topic.
func (c *cluster) messages(topic string) []*kgo.Record {
	c.t.Helper()
	return messages(c.t, topic, c.servers)
}

func messages(t testing.TB, topic string, servers []string) []*kgo.Record {
	t.Helper()
	client, err := kgo.NewClient(kgo.SeedBrokers(servers...), kgo.DisableClientMetrics()) // not kept: suites count connections
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	var ends kadm.ListedOffsets
	admin := kadm.NewClient(client)
	eventually(t, "no transaction is under way", func() bool { // brokers end them behind their answer
		all, err := admin.ListEndOffsets(ctx, topic)
		if err == nil {
			ends, err = admin.ListCommittedOffsets(ctx, topic)
		}
		if err != nil || ends.Error() != nil {
			t.Fatal(err, ends.Error())
		}
		settled := true
		all.Each(func(o kadm.ListedOffset) { settled = settled && ends[topic][o.Partition].Offset == o.Offset })
		return settled
	})
	from, left := map[int32]kgo.Offset{}, map[int32]int64{}
	ends.Each(func(o kadm.ListedOffset) {
		if o.Offset > 0 {
			from[o.Partition], left[o.Partition] = kgo.NewOffset().AtStart(), o.Offset
		}
	})
	if len(left) == 0 {
		return nil
	}
	reader, err := kgo.NewClient(kgo.SeedBrokers(servers...), kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{topic: from}),
		kgo.FetchIsolationLevel(kgo.ReadCommitted()), kgo.KeepControlRecords(), kgo.DisableClientMetrics(),
		kgo.FetchMaxWait(50*time.Millisecond)) // a fake broker waits it out, whether or not the connection is there
	if err != nil {
		t.Fatal(err)
	}
	defer reader.Close()
	var all []*kgo.Record
	for len(left) > 0 {
		fetches := reader.PollFetches(ctx)
		if err := fetches.Err(); err != nil {
			t.Fatal(err)
		}
		fetches.EachRecord(func(m *kgo.Record) {
			if !m.Attrs.IsControl() {
				all = append(all, m)
			}
			if m.Offset+1 >= left[m.Partition] {
				delete(left, m.Partition)
			}
		})
	}
	slices.SortStableFunc(all, func(a, b *kgo.Record) int { return int(a.Partition - b.Partition) })
	return all
}

// values are those of messages, in order.
func values(messages []*kgo.Record) []string {
	var all []string
	for _, m := range messages {
		all = append(all, string(m.Value))
	}
	return all
}

func dataSource(p sdk.Plugin) sdk.DataSource { return sdk.NewDataSource(p.Sources[0]) }
func dataSink(p sdk.Plugin) sdk.DataSink     { return sdk.NewDataSink(p.Sinks[0]) }

func flow(id string) sdk.FlowContext {
	return sdk.FlowContext{ParticipantContext: "default", ID: id, DatasetID: "dataset"}
}

// reading is a flow that is read.
type reading struct {
	t       *testing.T
	stream  sdk.ReadStream
	records []sdk.Record
	token   []byte // of the last checkpoint
	last    uint64
}

func startReading(t *testing.T, p sdk.Plugin, a sdk.DataAddress, token []byte) *reading {
	t.Helper()
	s, err := dataSource(p).Read(t.Context(), sdk.ReadOpen{Flow: flow("flow-1"), Address: a, ResumeToken: token})
	if err != nil {
		t.Fatal(err)
	}
	r := &reading{t: t, stream: s, token: token}
	t.Cleanup(r.close)
	return r
}

func (r *reading) close() {
	r.t.Helper()
	if err := r.stream.Close(); err != nil {
		r.t.Errorf("close: %v", err)
	}
}

// next takes one frame.
func (r *reading) next() (sdk.Frame, error) {
	f, err := r.stream.Recv()
	if err != nil {
		return nil, err
	}
	switch f := f.(type) {
	case *sdk.RecordBatch:
		batch, err := f.Records()
		if err != nil {
			return nil, err
		}
		for _, record := range batch {
			record.Value = slices.Clone(record.Value)
			r.records = append(r.records, record)
		}
	case *sdk.Checkpoint:
		r.token, r.last = f.Token, f.Sequence
	}
	sdk.Release(f)
	return f, nil
}

// until reads until so many records have come.
func (r *reading) until(n int) *reading {
	r.t.Helper()
	for len(r.records) < n {
		if _, err := r.next(); err != nil {
			r.t.Fatalf("after %d of %d records: %v", len(r.records), n, err)
		}
	}
	return r
}

// checkpoint takes a place behind everything that was read, which may be more by then.
func (r *reading) checkpoint() *reading {
	r.t.Helper()
	last := r.last
	r.stream.RequestCheckpoint()
	for r.last == last {
		if _, err := r.next(); err != nil {
			r.t.Fatalf("waiting for a checkpoint: %v", err)
		}
	}
	return r
}

// rest reads to the end.
func (r *reading) rest() error {
	for {
		if _, err := r.next(); err == io.EOF {
			return nil
		} else if err != nil {
			return err
		}
	}
}

func (r *reading) values() []string {
	var all []string
	for _, record := range r.records {
		all = append(all, string(record.Value))
	}
	return all
}

// readAll reads what an address gives.
func readAll(t *testing.T, p sdk.Plugin, a sdk.DataAddress) []string {
	t.Helper()
	r := startReading(t, p, a, nil)
	if err := r.rest(); err != nil {
		t.Fatal(err)
	}
	return r.values()
}

// ofPartition are the numbers of values "partition/number" of a partition, in the order in which they came.
func ofPartition(values []string, partition int) []string {
	var all []string
	for _, v := range values {
		if p, n, _ := strings.Cut(v, "/"); p == fmt.Sprint(partition) {
			all = append(all, n)
		}
	}
	return all
}

// numbers are from-to as text.
func numbers(from, to int) []string {
	var all []string
	for i := from; i < to; i++ {
		all = append(all, fmt.Sprint(i))
	}
	return all
}

// wantError checks an error's code, whether it can pass, and pieces of its message.
func wantError(t *testing.T, err error, code sdk.Code, retryable bool, pieces ...string) {
	t.Helper()
	if err == nil {
		t.Fatal("no error")
	}
	e := sdk.AsError(err)
	if e.Code != code || e.Retryable != retryable {
		t.Errorf("code %q, retryable %t; want %q, %t: %v", e.Code, e.Retryable, code, retryable, err)
	}
	for _, piece := range pieces {
		if !strings.Contains(e.Message, piece) {
			t.Errorf("message %q does not say %q", e.Message, piece)
		}
	}
}

func eventually(t testing.TB, what string, condition func() bool) {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); !condition(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("still not true: %s", what)
		}
	}
}
