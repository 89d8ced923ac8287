package main

import (
	"context"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/towpath-dataplane/towpath/sdk"
)

// A flow that starts and stops somewhere reads what lies between, every partition in order.
func TestBounds(t *testing.T) {
	c := newCluster(t)
	c.topic("events", 2)
	day := time.Date(2026, 3, 1, 0, 0, 0, 0, time.UTC)
	for i := range 10 {
		for p := range int32(2) {
			c.put(&kgo.Record{Topic: "events", Partition: p, Value: fmt.Appendf(nil, "%d/%d", p, i), Timestamp: day.AddDate(0, 0, i)})
		}
	}
	p := newTestPlugin(t, loopback())
	for name, test := range map[string]struct {
		properties []string
		want       [2][]string
	}{
		"all":              {[]string{"stop", "latest"}, [2][]string{numbers(0, 10), numbers(0, 10)}},
		"nothing":          {[]string{"stop", "latest", "start", "latest"}, [2][]string{}},
		"earliest":         {[]string{"stop", "latest", "kafka.auto.offset.reset", "earliest"}, [2][]string{numbers(0, 10), numbers(0, 10)}},
		"from offsets":     {[]string{"stop", "latest", "start", "0:3,1:8"}, [2][]string{numbers(3, 10), numbers(8, 10)}},
		"from one offset":  {[]string{"stop", "latest", "start", "1:8"}, [2][]string{numbers(0, 10), numbers(8, 10)}},
		"to offsets":       {[]string{"stop", "0:3,1:10"}, [2][]string{numbers(0, 3), numbers(0, 10)}},
		"to one offset":    {[]string{"stop", "1:4"}, [2][]string{nil, numbers(0, 4)}},
		"from a time":      {[]string{"stop", "latest", "start", "2026-03-04T00:00:00Z"}, [2][]string{numbers(3, 10), numbers(3, 10)}},
		"between times":    {[]string{"stop", "2026-03-08T00:00:00Z", "start", "2026-03-03T12:00:00Z"}, [2][]string{numbers(3, 7), numbers(3, 7)}},
		"one partition":    {[]string{"stop", "latest", "partitions", "1"}, [2][]string{nil, numbers(0, 10)}},
		"partitions":       {[]string{"stop", "latest", "partitions", "0-1"}, [2][]string{numbers(0, 10), numbers(0, 10)}},
		"a group":          {[]string{"stop", "latest", "kafka.group.id", "a"}, [2][]string{numbers(0, 10), numbers(0, 10)}},
		"a group, offsets": {[]string{"stop", "0:7,1:6", "start", "0:2,1:3", "kafka.group.id", "b"}, [2][]string{numbers(2, 7), numbers(3, 6)}},
	} {
		t.Run(name, func(t *testing.T) {
			values := readAll(t, p, c.address("events", test.properties...))
			for partition, want := range test.want {
				if got := ofPartition(values, partition); !slices.Equal(got, want) {
					t.Errorf("partition %d gives %v, want %v", partition, got, want)
				}
			}
		})
	}
}

// A flow without an end stays when nothing comes, gives a place nevertheless, and goes on from it, also with partitions that were added.
func TestEndless(t *testing.T) {
	c := newCluster(t)
	c.topic("events", 3)
	c.fill("events", 3, 0, 50)
	p := newTestPlugin(t, loopback())
	a := c.address("events")
	first := startReading(t, p, a, nil).until(150).checkpoint()
	c.fill("events", 3, 50, 60)
	first.until(180)
	first.close() // what came behind the checkpoint comes again
	if _, err := c.admin.CreatePartitions(t.Context(), 1, "events"); err != nil {
		t.Fatal(err)
	}
	c.client.ForceMetadataRefresh()
	eventually(t, "the fourth partition takes messages", func() bool {
		return c.client.ProduceSync(t.Context(), &kgo.Record{Topic: "events", Partition: 3, Value: []byte("3/0")}).FirstErr() == nil
	})
	second := startReading(t, p, a, first.token).until(31)
	for partition := range 3 {
		if got := ofPartition(second.values(), partition); !slices.Equal(got, numbers(50, 60)) {
			t.Errorf("partition %d goes on with %v", partition, got)
		}
	}
	if got := ofPartition(second.values(), 3); !slices.Equal(got, numbers(0, 1)) {
		t.Errorf("the partition that was added gives %v", got)
	}
}

// A finite flow that goes on ends where it would have ended, not where the topic ends now.
func TestEndStays(t *testing.T) {
	c := newCluster(t)
	c.topic("events", 2)
	c.fill("events", 2, 0, 2000)
	p := newTestPlugin(t, loopback())
	a := c.address("events", "stop", "latest")
	first := startReading(t, p, a, nil)
	first.stream.RequestCheckpoint()
	first.until(1)
	for first.token == nil {
		if _, err := first.next(); err != nil {
			t.Fatal(err)
		}
	}
	before := slices.Clone(first.values())
	first.close()
	c.fill("events", 2, 2000, 2100)
	second := startReading(t, p, a, first.token)
	if err := second.rest(); err != nil {
		t.Fatal(err)
	}
	all := append(before, second.values()...)
	for partition := range 2 {
		if got := ofPartition(all, partition); !slices.Equal(got, numbers(0, 2000)) {
			t.Errorf("partition %d gave %d messages in all, want 2000 in order", partition, len(got))
		}
	}
}

// What is read in a group is committed when it is stored and not before, the last of it after the end of the part.
func TestGroupCommitsWhatIsStored(t *testing.T) {
	c := newCluster(t)
	c.topic("events", 2)
	c.fill("events", 2, 0, 100)
	p := newTestPlugin(t, loopback())
	a := c.address("events", "kafka.group.id", "readers")
	r := startReading(t, p, a, nil).until(200).checkpoint()
	if got := c.committed("readers"); got != 0 {
		t.Errorf("%d messages are committed, and nothing is stored", got)
	}
	r.stream.Acknowledge(r.last)
	eventually(t, "what is stored is committed", func() bool { return c.committed("readers") == 200 })
	r.close()

	c.fill("events", 2, 100, 150)
	finite := c.address("events", "kafka.group.id", "readers", "stop", "latest")
	next := startReading(t, p, finite, nil) // another flow: the group knows
	if err := next.rest(); err != nil {
		t.Fatal(err)
	}
	for partition := range 2 {
		if got := ofPartition(next.values(), partition); !slices.Equal(got, numbers(100, 150)) {
			t.Errorf("partition %d goes on with %v", partition, got)
		}
	}
	next.stream.Acknowledge(next.last)
	next.close()
	if got := c.committed("readers"); got != 300 {
		t.Errorf("%d messages are committed after the end, not 300", got)
	}
}

// committed sums a group's offsets.
func (c *cluster) committed(group string) (n int64) {
	c.t.Helper()
	offsets, err := c.admin.FetchOffsets(context.Background(), group)
	if err != nil {
		return 0
	}
	offsets.Each(func(o kadm.OffsetResponse) { n += max(o.At, 0) })
	return n
}

// Messages that are gone are an error, unless the address says that they may be skipped.
func TestLoss(t *testing.T) {
	c := newCluster(t)
	c.topic("events", 1)
	c.fill("events", 1, 0, 20)
	p := newTestPlugin(t, loopback())
	first := startReading(t, p, c.address("events"), nil).until(20).checkpoint()
	first.close()
	c.fill("events", 1, 20, 50)
	c.deleteRecords("events", 30)
	err := startReading(t, p, c.address("events"), first.token).rest()
	wantError(t, err, sdk.Corrupt, false, "partition 0", "offset 20", "30 to 50")
	err = startReading(t, p, c.address("events", "start", "0:60"), nil).rest()
	wantError(t, err, sdk.Corrupt, false, "offset 60")

	got := startReading(t, p, c.address("events", "onLoss", "earliest"), first.token).until(20).values()
	if want := numbers(30, 50); !slices.Equal(ofPartition(got, 0), want) {
		t.Errorf("with onLoss = earliest it goes on with %v", got)
	}
	r := startReading(t, p, c.address("events", "onLoss", "latest"), first.token).checkpoint()
	c.fill("events", 1, 50, 51)
	if got := r.until(1).values(); got[0] != "0/50" {
		t.Errorf("with onLoss = latest it goes on with %v", got)
	}
}

// A group whose place is gone is an error too.
func TestLossInGroup(t *testing.T) {
	c := newCluster(t)
	c.topic("events", 1)
	c.fill("events", 1, 0, 50)
	offsets := kadm.Offsets{}
	offsets.AddOffset("events", 0, 10, -1)
	if err := c.admin.CommitAllOffsets(t.Context(), "readers", offsets); err != nil {
		t.Fatal(err)
	}
	c.deleteRecords("events", 30)
	err := startReading(t, newTestPlugin(t, loopback()), c.address("events", "kafka.group.id", "readers"), nil).rest()
	wantError(t, err, sdk.Corrupt, false, "partition 0", "OFFSET_OUT_OF_RANGE")
}

// A topic that was removed and made again is not the one that the flow goes on with.
func TestTopicMadeAgain(t *testing.T) {
	c := newCluster(t)
	c.topic("events", 1)
	c.fill("events", 1, 0, 10)
	p := newTestPlugin(t, loopback())
	r := startReading(t, p, c.address("events"), nil).until(10).checkpoint()
	r.close()
	c.deleteTopic("events")
	c.topic("events", 1)
	wantError(t, startReading(t, p, c.address("events"), r.token).rest(), sdk.Corrupt, false, "another one of the same name")
}

// Messages of transactions that were not committed are not read, and do not keep a flow from its end.
func TestTransactionsOfOthers(t *testing.T) {
	c := newCluster(t)
	c.topic("events", 1)
	writer := newClient(t, c.servers, kgo.TransactionalID("writer"))
	for i, end := range []kgo.TransactionEndTry{kgo.TryCommit, kgo.TryAbort} {
		if err := writer.BeginTransaction(); err != nil {
			t.Fatal(err)
		}
		if err := writer.ProduceSync(t.Context(), &kgo.Record{Topic: "events", Value: fmt.Appendf(nil, "0/%d", i)}).FirstErr(); err != nil {
			t.Fatal(err)
		}
		if err := writer.EndTransaction(t.Context(), end); err != nil {
			t.Fatal(err)
		}
	}
	p := newTestPlugin(t, loopback())
	for level, want := range map[string][]string{readCommitted: numbers(0, 1), "read_uncommitted": numbers(0, 2)} {
		got := readAll(t, p, c.address("events", "stop", "latest", "kafka.isolation.level", level))
		if !slices.Equal(ofPartition(got, 0), want) {
			t.Errorf("%s: %v, want %v", level, got, want)
		}
	}
}

// Records are messages in every respect that a record has.
func TestRecords(t *testing.T) {
	c := newCluster(t)
	c.topic("events", 1)
	at := time.UnixMilli(1_700_000_000_123)
	c.put(
		&kgo.Record{Topic: "events", Key: []byte("k"), Value: []byte("v"), Timestamp: at, Headers: []kgo.RecordHeader{{Key: "h", Value: []byte("1")}}},
		&kgo.Record{Topic: "events", Key: []byte("k"), Timestamp: at},
		&kgo.Record{Topic: "events", Value: []byte{}, Timestamp: at},
		&kgo.Record{Topic: "events", Timestamp: at, Headers: []kgo.RecordHeader{{Key: "h", Value: []byte("1")}, {Key: "h", Value: []byte("2")}}},
	)
	p := newTestPlugin(t, loopback())
	err := startReading(t, p, c.address("events", "stop", "latest"), nil).rest()
	wantError(t, err, sdk.Unsupported, false, "offset 3", `"h"`)
	r := startReading(t, p, c.address("events", "stop", "latest", "repeatedHeaders", "last"), nil)
	if err := r.rest(); err != nil {
		t.Fatal(err)
	}
	_, null := r.records[1].Headers[nullHeader]
	_, empty := r.records[2].Headers[nullHeader]
	switch first := r.records[0]; {
	case string(first.Key) != "k" || string(first.Value) != "v" || !first.Time.Equal(at) || string(first.Headers["h"]) != "1":
		t.Errorf("the first record is %+v", first)
	case string(first.Headers[placeHeader]) != "0:0" || string(r.records[3].Headers[placeHeader]) != "0:3":
		t.Error("records do not say where they were")
	case !null || empty:
		t.Error("no value is not told from an empty one")
	case string(r.records[3].Headers["h"]) != "2":
		t.Errorf("the last of two headers is not %q", r.records[3].Headers["h"])
	}
}
