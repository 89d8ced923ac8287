package main

import (
	"fmt"
	"io"
	"maps"
	"slices"
	"testing"
	"time"

	"github.com/towpath-dataplane/towpath/sdk"
)

// writing is a flow into a topic, with one part of records.
type writing struct {
	t        *testing.T
	stream   sdk.WriteStream
	sent     sdk.PartEnd
	sequence uint64
	token    []byte // of the last durable place
}

func startWriting(t *testing.T, p sdk.Plugin, a sdk.DataAddress, token []byte, redelivery bool) *writing {
	t.Helper()
	s, err := dataSink(p).Write(t.Context(), sdk.WriteOpen{Flow: flow("flow-1"), Address: a, ResumeToken: token, Redelivery: redelivery})
	if err != nil {
		t.Fatal(err)
	}
	w := &writing{t: t, stream: s}
	t.Cleanup(w.close)
	return w
}

func (w *writing) close() {
	w.t.Helper()
	if err := w.stream.Close(); err != nil {
		w.t.Errorf("close: %v", err)
	}
}

// begin opens the part, or goes on in it behind those records of it that came before.
func (w *writing) begin(before ...sdk.Record) *writing {
	w.count(before)
	w.stream.Send(&sdk.PartBegin{PartInfo: sdk.PartInfo{Name: "events", Size: sdk.SizeUnknown, Records: true}, Offset: w.sent.Size})
	return w
}

func (w *writing) count(records []sdk.Record) {
	for _, r := range records {
		w.sent.Records++
		w.sent.Size += int64(len(r.Key) + len(r.Value))
	}
}

func (w *writing) send(records ...sdk.Record) *writing {
	w.count(records)
	for batch := range slices.Chunk(records, 10) {
		w.stream.Send(&sdk.RecordBatch{Batch: sdk.RecordsBatch(batch)})
	}
	return w
}

// checkpoint waits until everything that was sent is durable.
func (w *writing) checkpoint() *writing {
	w.t.Helper()
	w.sequence++
	w.stream.Send(&sdk.Checkpoint{Sequence: w.sequence, Token: []byte("token")})
	for {
		up, err := w.stream.Recv()
		if err != nil {
			w.t.Fatalf("waiting for a durable place: %v", err)
		}
		if d, ok := up.(*sdk.Durable); ok && d.Sequence == w.sequence {
			w.token = d.Token
			return w
		}
	}
}

// finish ends the part and the flow, and returns what came of it.
func (w *writing) finish() error {
	end := w.sent
	w.stream.Send(&end)
	w.stream.Send(&sdk.End{Totals: sdk.Totals{Parts: 1, Bytes: end.Size, Records: end.Records}})
	for {
		if _, err := w.stream.Recv(); err == io.EOF {
			return nil
		} else if err != nil {
			return err
		}
	}
}

// plainRecords do not say where they were.
func plainRecords(from, to int) []sdk.Record {
	var all []sdk.Record
	for i := from; i < to; i++ {
		all = append(all, sdk.Record{Key: []byte("k"), Value: fmt.Appendf(nil, "0/%d", i)})
	}
	return all
}

// placedRecords come from partitions of a topic, in turn.
func placedRecords(partitions, from, to int) []sdk.Record {
	var all []sdk.Record
	for i := from; i < to; i++ {
		for p := range partitions {
			all = append(all, sdk.Record{Key: fmt.Append(nil, p), Value: fmt.Appendf(nil, "%d/%d", p, i),
				Headers: map[string][]byte{placeHeader: fmt.Appendf(nil, "%d:%d", p, i)}})
		}
	}
	return all
}

func TestMessages(t *testing.T) {
	c := newCluster(t)
	c.topic("inbox", 1)
	at := time.UnixMilli(1_700_000_000_123)
	w := startWriting(t, newTestPlugin(t, loopback()), c.address("inbox", "compression", "lz4"), nil, false).begin().send(
		sdk.Record{Key: []byte("k"), Value: []byte("v"), Time: at, Headers: map[string][]byte{"b": {1}, "a": {}, placeHeader: []byte("0:0")}},
		sdk.Record{Key: []byte("k"), Headers: map[string][]byte{nullHeader: nil, placeHeader: []byte("0:1")}},
		sdk.Record{Headers: map[string][]byte{placeHeader: []byte("0:2")}},
	)
	if err := w.finish(); err != nil {
		t.Fatal(err)
	}
	m := c.messages("inbox")
	if len(m) != 3 {
		t.Fatalf("%d messages", len(m))
	}
	var headers []string
	for _, h := range m[0].Headers {
		headers = append(headers, h.Key)
	}
	switch {
	case string(m[0].Key) != "k" || string(m[0].Value) != "v" || !m[0].Timestamp.Equal(at) || !slices.Equal(headers, []string{"a", "b"}):
		t.Errorf("the first message is %+v", m[0])
	case m[1].Value != nil || len(m[1].Headers) != 0:
		t.Errorf("no value became %q with headers %v", m[1].Value, m[1].Headers)
	case m[2].Key != nil || m[2].Value == nil || time.Since(m[2].Timestamp) > time.Hour:
		t.Errorf("a record with nothing became %+v", m[2])
	}
}

// What was committed and never stored by the host is not written again, whether records say where they were or not.
func TestTransactionsGoOn(t *testing.T) {
	for name, records := range map[string]struct{ first, ahead, again []sdk.Record }{
		"counted": {plainRecords(0, 30), plainRecords(30, 70), plainRecords(30, 100)},
		"placed":  {placedRecords(3, 0, 30), placedRecords(3, 30, 70), shuffled(placedRecords(3, 30, 100))},
	} {
		t.Run(name, func(t *testing.T) {
			c := newCluster(t)
			c.topic("inbox", 2)
			p := newTestPlugin(t, loopback())
			a := c.address("inbox", "transactional", "true")
			w := startWriting(t, p, a, nil, false).begin().send(records.first...).checkpoint()
			stored := w.token
			w.send(records.ahead...).checkpoint()                            // committed, and the host dies before it stores it
			w.send(records.again[len(records.ahead):][:3]...).stream.Close() // not committed
			if got, want := len(c.messages("inbox")), len(records.first)+len(records.ahead); got != want {
				t.Errorf("%d messages are committed, not %d", got, want)
			}
			// The next run is lost too, where it has not yet passed all that was committed.
			half := len(records.ahead) / 2
			w = startWriting(t, p, a, stored, true).begin(records.first...).send(records.again[:half]...).checkpoint()
			stored = w.token
			w.stream.Close()
			before := slices.Concat(records.first, records.again[:half])
			w = startWriting(t, p, a, stored, true).begin(before...).send(records.again[half:]...)
			if err := w.finish(); err != nil {
				t.Fatal(err)
			}
			want := slices.Concat(records.first, records.again)
			seen := map[string]int{}
			for _, m := range c.messages("inbox") {
				seen[string(m.Value)]++
			}
			for _, r := range want {
				if seen[string(r.Value)] != 1 {
					t.Errorf("%s is there %d times", r.Value, seen[string(r.Value)])
				}
			}

			// The same flow from its beginning, as when its host has stored nothing.
			w = startWriting(t, p, a, nil, true).begin().send(want...)
			if err := w.finish(); err != nil {
				t.Fatal(err)
			}
			if got := len(c.messages("inbox")); got != len(want) {
				t.Errorf("%d messages after all was sent again, not %d", got, len(want))
			}
			// Told to send again, it does.
			w = startWriting(t, p, a, nil, false).begin().send(want...)
			if err := w.finish(); err != nil {
				t.Fatal(err)
			}
			if got := len(c.messages("inbox")); got != 2*len(want) {
				t.Errorf("%d messages after a new run, not %d", got, 2*len(want))
			}
		})
	}
}

// shuffled gives partitions in another order, each in its own.
func shuffled(records []sdk.Record) []sdk.Record {
	by := map[string][]sdk.Record{}
	for _, r := range records {
		by[string(r.Key)] = append(by[string(r.Key)], r)
	}
	var all []sdk.Record
	for _, key := range slices.Backward(slices.Sorted(maps.Keys(by))) {
		all = append(all, by[key]...)
	}
	return all
}

// Without transactions nothing is lost; a second run writes again what it is not sure of.
func TestAtLeastOnce(t *testing.T) {
	c := newCluster(t)
	c.topic("inbox", 1)
	p := newTestPlugin(t, loopback())
	a := c.address("inbox")
	w := startWriting(t, p, a, nil, false).begin().send(plainRecords(0, 30)...).checkpoint()
	stored := w.token
	w.send(plainRecords(30, 40)...).checkpoint().stream.Close()
	w = startWriting(t, p, a, stored, true).begin(plainRecords(0, 30)...).send(plainRecords(30, 50)...)
	if err := w.finish(); err != nil {
		t.Fatal(err)
	}
	want := slices.Concat(numbers(0, 40), numbers(30, 50))
	if got := ofPartition(values(c.messages("inbox")), 0); !slices.Equal(got, want) {
		t.Errorf("the messages are %v", got)
	}
}

// A run that comes while another believes that it is alone has the flow.
func TestFencing(t *testing.T) {
	c := newCluster(t)
	c.topic("inbox", 1)
	p := newTestPlugin(t, loopback())
	a := c.address("inbox", "transactional", "true")
	other := newTestPlugin(t, loopback()) // another process
	w := startWriting(t, p, a, nil, false).begin().send(plainRecords(0, 10)...).checkpoint().send(plainRecords(10, 20)...)
	next := startWriting(t, other, a, w.token, true).begin(plainRecords(0, 10)...).send(plainRecords(10, 20)...)
	if err := next.finish(); err != nil {
		t.Fatal(err)
	}
	if err := w.send(plainRecords(20, 30)...).finish(); err == nil {
		t.Error("the run that was lost ended well")
	}
	if got := ofPartition(values(c.messages("inbox")), 0); !slices.Equal(got, numbers(0, 20)) {
		t.Errorf("the messages are %v", got)
	}
}

func TestSinkRefuses(t *testing.T) {
	c := newCluster(t)
	c.topic("inbox", 1)
	p := newTestPlugin(t, loopback().with("max_message", "4KiB"))
	for name, test := range map[string]struct {
		address sdk.DataAddress
		record  sdk.Record
		code    sdk.Code
		piece   string
	}{
		"too large":            {c.address("inbox"), sdk.Record{Value: make([]byte, 9000)}, sdk.Exhausted, "max_message"},
		"no such topic":        {c.address("nothing"), sdk.Record{}, sdk.NotFound, "nothing"},
		"no such partition":    {c.address("inbox", "partition", "3"), sdk.Record{}, sdk.NotFound, "partition 3"},
		"place that is none":   {c.address("inbox"), sdk.Record{Headers: map[string][]byte{placeHeader: []byte("x")}}, sdk.Invalid, placeHeader},
		"no such topic, exact": {c.address("nothing", "transactional", "true"), sdk.Record{}, sdk.NotFound, "nothing"},
	} {
		t.Run(name, func(t *testing.T) {
			err := startWriting(t, p, test.address, nil, false).begin().send(test.record).finish()
			wantError(t, err, test.code, false, test.piece)
		})
	}
}

// A topic for a counterparty is made once, its address has no secrets of ours, and it goes with the flow if so configured.
func TestProvision(t *testing.T) {
	c := newCluster(t)
	for _, remove := range []bool{false, true} {
		b := loopback().with("provision", map[string]string{
			"kafka.bootstrap.servers": c.servers[0], "kafka.security.protocol": protocolPlain, "kafka.client.id": "ours",
		}).with("hand_out", map[string]string{"username": "guest", "password": "welcome"}).with("partitions", 3).with("retention", "1h").
			with("remove_topics", remove)
		p := newTestPlugin(t, b)
		sink := dataSink(p)
		target := sdk.DataAddress{Type: addressType}
		a, err := sink.Provision(t.Context(), flow("flow-1"), target)
		if err != nil {
			t.Fatal(err)
		}
		again, err := sink.Provision(t.Context(), flow("flow-1"), target)
		if err != nil || !maps.Equal(a.Properties, again.Properties) {
			t.Errorf("a second call gives %v, %v", again, err)
		}
		want := map[string]string{"topic": a.Get("topic"), "kafka.bootstrap.servers": c.servers[0], "kafka.security.protocol": protocolPlain,
			"username": "guest", "password": "welcome"}
		if !maps.Equal(a.Properties, want) || a.Endpoint != "kafka://"+c.servers[0] || a.Type != addressType {
			t.Errorf("the address handed out is %v, %v", a.Endpoint, a.Properties)
		}
		if n := c.partitions(a.Get("topic")); n != 3 {
			t.Fatalf("the topic has %d partitions", n)
		}
		w := startWriting(t, p, target, nil, false)
		if err := w.begin().send(plainRecords(0, 3)...).finish(); err != nil { // this is flow-1
			t.Error(err)
		}
		for range 2 {
			for _, id := range []string{"flow-1", "flow-8"} {
				if err := sink.Deprovision(t.Context(), flow(id), target); err != nil {
					t.Fatal(err)
				}
			}
		}
		if got := c.partitions(a.Get("topic")) == 0; got != remove {
			t.Errorf("remove_topics %t: the topic is gone: %t", remove, got)
		}
	}
	_, err := dataSink(newTestPlugin(t, loopback())).Provision(t.Context(), flow("flow-1"), sdk.DataAddress{Type: addressType})
	wantError(t, err, sdk.Invalid, false, "provision")
}
