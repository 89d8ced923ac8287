//go:build !broker

package main

import (
	"fmt"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"
	"go.uber.org/goleak"

	"github.com/towpath-dataplane/towpath/sdk"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// newCluster returns an empty cluster. With the build tag "broker" it is a real one: see make kafka.
func newCluster(t testing.TB) *cluster {
	t.Helper()
	return clusterAt(t, newFake(t).ListenAddrs())
}

func newFake(t testing.TB, opts ...kfake.Opt) *kfake.Cluster {
	t.Helper()
	fake, err := kfake.NewCluster(append([]kfake.Opt{kfake.NumBrokers(1)}, opts...)...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(fake.Close)
	return fake
}

// Members come and go. Nothing is lost, and nothing that was stored comes again.
func TestRebalance(t *testing.T) {
	fake := newFake(t)
	c := clusterAt(t, fake.ListenAddrs())
	c.topic("events", 4)
	p := newTestPlugin(t, loopback())
	a := c.address("events", "kafka.group.id", "readers")
	first := startReading(t, p, a, nil)
	c.fill("events", 4, 0, 50)
	first.until(200).checkpoint()
	first.stream.Acknowledge(first.last)

	second := startReading(t, p, a, nil)
	got := map[*reading]chan string{first: make(chan string, 1000), second: make(chan string, 1000)}
	for r, into := range got {
		seen := len(r.records)
		done := make(chan struct{})
		go func() {
			defer close(done)
			for {
				if _, err := r.next(); err != nil {
					return
				}
				for _, v := range r.values()[seen:] {
					into <- v
				}
				seen = len(r.records)
			}
		}()
		t.Cleanup(func() {
			r.stream.Close()
			<-done
		})
	}
	if _, err := fake.WaitGroupStable(t.Context(), "readers", 2); err != nil {
		t.Fatal(err)
	}
	c.fill("events", 4, 50, 100)
	seen, both := map[string]bool{}, map[bool]bool{}
	for len(seen) < 200 {
		var v string
		select {
		case v = <-got[first]:
			both[false] = true
		case v = <-got[second]:
			both[true] = true
		case <-time.After(20 * time.Second):
			t.Fatalf("%d of 200 messages came", len(seen))
		}
		var partition, n int
		fmt.Sscanf(v, "%d/%d", &partition, &n)
		if n < 50 {
			t.Errorf("%s was stored, and came again", v)
		}
		seen[v] = true
	}
	if len(both) != 2 {
		t.Error("one member got everything")
	}
}

// Brokers that store nothing make the flow wait, and at last fail in a way that can pass.
func TestStuckBrokers(t *testing.T) {
	fake := newFake(t)
	c := clusterAt(t, fake.ListenAddrs())
	c.topic("inbox", 1)
	fake.Control(func(req kmsg.Request) (kmsg.Response, error, bool) {
		fake.KeepControl()
		produce, ok := req.(*kmsg.ProduceRequest)
		if !ok {
			return nil, nil, false
		}
		resp := produce.ResponseKind().(*kmsg.ProduceResponse)
		for _, topic := range produce.Topics {
			rt := kmsg.NewProduceResponseTopic()
			rt.Topic, rt.TopicID = topic.Topic, topic.TopicID
			for _, partition := range topic.Partitions {
				rp := kmsg.NewProduceResponseTopicPartition()
				rp.Partition, rp.ErrorCode = partition.Partition, 19 // NOT_ENOUGH_REPLICAS
				rt.Partitions = append(rt.Partitions, rp)
			}
			resp.Topics = append(resp.Topics, rt)
		}
		return resp, nil, true
	})
	p := newTestPlugin(t, loopback().with("delivery_timeout", "1s"))
	err := startWriting(t, p, c.address("inbox"), nil, false).begin().send(plainRecords(0, 10)...).finish()
	wantError(t, err, sdk.Unavailable, true, "have stored nothing for 1s")
}

// What the brokers have not committed is not durable, whatever they say.
func TestCommitThatIsNone(t *testing.T) {
	fake := newFake(t)
	c := clusterAt(t, fake.ListenAddrs())
	c.topic("inbox", 1)
	p, a := newTestPlugin(t, loopback()), c.address("inbox", "transactional", "true")
	w := startWriting(t, p, a, nil, false).begin().send(plainRecords(0, 3)...).checkpoint()
	stored := w.token
	var once atomic.Bool
	fake.ControlKey(int16(kmsg.EndTxn), func(req kmsg.Request) (kmsg.Response, error, bool) {
		if once.CompareAndSwap(false, true) {
			req.(*kmsg.EndTxnRequest).Commit = false
		}
		return nil, nil, false // the broker does what is left of it
	})
	w.send(plainRecords(3, 10)...)
	wantError(t, w.finish(), sdk.Unavailable, true, "was not committed")
	w.close()
	w = startWriting(t, p, a, stored, true).begin(plainRecords(0, 3)...).send(plainRecords(3, 10)...)
	if err := w.finish(); err != nil {
		t.Fatal(err)
	}
	if got := values(c.messages("inbox")); len(got) != 10 || got[9] != "0/9" {
		t.Errorf("messages %q", got)
	}
}

// What a flow is ahead of the brokers is bounded.
func TestBackpressure(t *testing.T) {
	fake := newFake(t)
	c := clusterAt(t, fake.ListenAddrs())
	c.topic("inbox", 1)
	release := make(chan struct{})
	fake.ControlKey(int16(kmsg.Produce), func(kmsg.Request) (kmsg.Response, error, bool) {
		fake.SleepControl(func() { <-release })
		return nil, nil, false
	})
	p := newTestPlugin(t, loopback().with("send_ahead", "1MiB"))
	w := startWriting(t, p, c.address("inbox"), nil, false).begin()
	sent := make(chan int)
	done := make(chan struct{})
	go func() {
		defer close(done)
		for i := range 8 {
			w.send(slices.Repeat([]sdk.Record{{Value: make([]byte, 100_000)}}, 10)...)
			sent <- i
		}
	}()
	most := 0
	for waiting := true; waiting; {
		select {
		case most = <-sent:
		case <-time.After(500 * time.Millisecond):
			waiting = false
		}
	}
	if most > 6 {
		t.Errorf("%d MB were taken although at most 1 MiB and some frames may be", most+1)
	}
	close(release)
	for most < 7 {
		most = <-sent
	}
	<-done
	if err := w.finish(); err != nil {
		t.Fatal(err)
	}
}

// The place of a flow goes with it. Brokers that are not there any more are no reason to ask for ever.
func TestPlaceIsRemoved(t *testing.T) {
	fake := newFake(t)
	c := clusterAt(t, fake.ListenAddrs())
	c.topic("inbox", 1)
	p := newTestPlugin(t, loopback().with("timeout", "1s"))
	a := c.address("inbox", "transactional", "true")
	if err := startWriting(t, p, a, nil, false).begin().send(plainRecords(0, 10)...).finish(); err != nil {
		t.Fatal(err)
	}
	if fake.GroupInfo(flowName(flow("flow-1"))) == nil {
		t.Fatal("no place is kept")
	}
	for range 2 {
		if err := dataSink(p).Deprovision(t.Context(), flow("flow-1"), a); err != nil {
			t.Fatal(err)
		}
	}
	if fake.GroupInfo(flowName(flow("flow-1"))) != nil {
		t.Error("the place is still kept")
	}
	fake.Close()
	if err := dataSink(p).Deprovision(t.Context(), flow("flow-1"), a); err != nil {
		t.Errorf("with brokers that are gone: %v", err)
	}
}
