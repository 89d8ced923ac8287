//go:build linux

package e2e_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/twmb/franz-go/pkg/kgo"
)

// The ways in which flows of the sweep move.
const (
	modePush     = "push"
	modePull     = "pull"
	modeLocal    = "file to file"
	modeRecords  = "records to ledger"
	modeToStore  = "file to store"
	modeStore    = "store to store"
	modeToTopic  = "records to topic"
	modeTopics   = "topic to topic"
	modeToLedger = "topic to ledger"
)

// modes are all of them, each as often as flows have it.
var modes = []string{
	modePush, modePush, modePush, modePush, modePull, modePull, modePull, modePull, modeLocal, modeLocal, modeRecords, modeRecords,
	modeToStore, modeToStore, modeStore, modeStore, modeToTopic, modeToTopic, modeTopics, modeTopics, modeToLedger,
}

func (f *sweepFlow) ofRecords() bool {
	return slices.Contains([]string{modeRecords, modeToTopic, modeTopics, modeToLedger}, f.mode)
}

func (f *sweepFlow) toTopic() bool   { return f.mode == modeToTopic || f.mode == modeTopics }
func (f *sweepFlow) toStore() bool   { return f.mode == modeToStore || f.mode == modeStore }
func (f *sweepFlow) fromTopic() bool { return f.mode == modeTopics || f.mode == modeToLedger }

// once reports whether every record is to be there exactly once.
func (f *sweepFlow) once() bool {
	if f.toTopic() {
		return f.transactional
	}
	return f.form == "segments"
}

// recordShapes makes up the records. Segments take them in the order of their numbers only, and a topic tells parts of a flow apart by
// nothing but their order.
func (f *sweepFlow) recordShapes(random *rand.Rand) {
	f.form = []string{"journal", "segments", "segments"}[random.IntN(3)]
	f.parts, f.records = 1+random.Int64N(3), random.Int64N(3000)
	f.transactional, f.partitions = random.IntN(3) > 0, random.Int64N(3)
	switch {
	case f.fromTopic():
		f.parts = 1
		if f.partitions++; f.mode == modeToLedger && f.form == "segments" {
			f.partitions = 1
		}
	case f.mode == modeToTopic:
		if f.partitions = 0; !f.transactional {
			f.parts = 1
		}
	}
}

// sourceBlock is the source of the flow's dataset.
func (f *sweepFlow) sourceBlock() string {
	switch {
	case f.fromTopic():
		return fmt.Sprintf(`source "Kafka" {
    topic = "out-%s"
    name  = "part-0000"
    stop  = "latest"

    properties = {
      "kafka.bootstrap.servers" = env("E2E_BROKERS")
      "kafka.security.protocol" = "PLAINTEXT"
    }
  }`, f.id)
	case f.ofRecords():
		const recordSize = 500
		return fmt.Sprintf(`source "Generate" {
    mode        = "records"
    record_size = %d
    size        = %d
    parts       = %d
    rate        = 1500
  }`, recordSize, recordSize*f.records, f.parts)
	case f.mode == modeStore:
		return fmt.Sprintf(`source "AmazonS3" {
    bucketName       = %q
    objectPrefix     = "out/%s/"
    endpointOverride = env("E2E_STORE")
  }`, sweepBucket, f.id)
	}
	return fmt.Sprintf(`source "File" {
    path = "out/%s"
  }`, f.id)
}

// destination is the profile and the address of a flow that its own host moves.
func (f *sweepFlow) destination(s *sweep) (profile string, address *dataAddress) {
	switch {
	case f.toTopic():
		return "kafka-push", s.kafka.dataAddress("in-"+f.id, f.transactional)
	case f.ofRecords():
		return "ledger-push", localAddress("Ledger", "path", "rec/"+f.id, "form", f.form)
	case f.toStore():
		collision := strings.ReplaceAll(f.collision, "rename", "replace") // objects have no other names
		return "s3-push", s.store.address(sweepBucket, "folderName", "in/"+f.id, "collision", collision)
	}
	return "file-push", localAddress("File", "path", "in/"+f.id, "collision", f.collision)
}

// messages are those of the topic that is read, by their numbers. Those for a ledger have a value with the number.
func (f *sweepFlow) messages() []*kgo.Record {
	random := rand.New(rand.NewChaCha8(f.seed))
	var all []*kgo.Record
	for n := range f.records {
		m := &kgo.Record{Topic: "out-" + f.id, Partition: int32(n % f.partitions), Key: fmt.Appendf(nil, "%d", n%f.partitions),
			Value: binary.BigEndian.AppendUint64(nil, uint64(n))}
		for range random.IntN(60) {
			m.Value = binary.BigEndian.AppendUint64(m.Value, random.Uint64())
		}
		if f.mode == modeTopics && n%97 == 5 {
			m.Value = nil
		}
		for i := range random.IntN(3) {
			m.Headers = append(m.Headers, kgo.RecordHeader{Key: fmt.Sprintf("h%d", i), Value: binary.BigEndian.AppendUint64(nil, random.Uint64())})
		}
		m.Headers = append(m.Headers, kgo.RecordHeader{Key: "number", Value: strconv.AppendInt(nil, n, 10)})
		all = append(all, m)
	}
	return all
}

func (f *sweepFlow) fillTopic(t *testing.T, k *kafka) {
	t.Helper()
	k.makeTopic("out-"+f.id, int32(f.partitions))
	if err := k.client.ProduceSync(t.Context(), f.messages()...).FirstErr(); err != nil {
		t.Fatal(err)
	}
}

// sums are what a ledger has of the messages of a topic, nil if the flow's records are none.
func (f *sweepFlow) sums() (sums []uint32) {
	if !f.fromTopic() {
		return nil
	}
	for _, m := range f.messages() {
		sum := crc32.ChecksumIEEE(m.Value)
		sum = crc32.Update(sum, crc32.IEEETable, m.Key)
		for _, h := range m.Headers {
			sum = crc32.Update(sum, crc32.IEEETable, []byte(h.Key))
			sum = crc32.Update(sum, crc32.IEEETable, h.Value)
		}
		sums = append(sums, sum)
	}
	return sums
}

// arrivals checks the order in which records arrive: each partition's in theirs, none left out, and none again that may not come again.
type arrivals struct {
	next map[uint64]uint64 // of each partition
	of   uint64            // partitions
	once bool
}

func newArrivals(f *sweepFlow) *arrivals {
	return &arrivals{next: map[uint64]uint64{}, of: uint64(max(1, f.partitions)), once: f.once()}
}

func (a *arrivals) add(number uint64) error {
	partition, n := number%a.of, number/a.of
	switch due := a.next[partition]; {
	case n == due:
		a.next[partition]++
	case n > due:
		return fmt.Errorf("record %d comes where %d is due", number, due*a.of+partition)
	case a.once:
		return fmt.Errorf("record %d comes again", number)
	}
	return nil
}

// count is how many different ones have come.
func (a *arrivals) count() (n uint64) {
	for _, next := range a.next {
		n += next
	}
	return n
}

// checkTopic reads what is committed of the topic that was written.
func (f *sweepFlow) checkTopic(ctx context.Context, k *kafka) error {
	came, err := k.messages(ctx, "in-"+f.id)
	if err != nil {
		return fmt.Errorf("read the topic: %w", err)
	}
	if f.mode == modeToTopic {
		return f.checkMade(came)
	}
	sent, order := f.messages(), newArrivals(f)
	for _, m := range came {
		number, err := strconv.ParseUint(headersOf(m)["number"], 10, 64)
		if err != nil || number >= uint64(len(sent)) {
			return fmt.Errorf("a message has the number %d, of %d, %v", number, len(sent), err)
		}
		if err := order.add(number); err != nil {
			return fmt.Errorf("at %s: %w", placeOf(m), err)
		}
		want := sent[number]
		if diff := cmp.Diff(headersOf(want), headersOf(m)); diff != "" || !bytes.Equal(m.Key, want.Key) || !bytes.Equal(m.Value, want.Value) ||
			(m.Value == nil) != (want.Value == nil) {
			return fmt.Errorf("message %d has the key %q for %q, a value of %d bytes for %d, headers (-want +got):\n%s", number, m.Key, want.Key,
				len(m.Value), len(want.Value), diff)
		}
	}
	if n := order.count(); n != uint64(len(sent)) && !f.terminated {
		return fmt.Errorf("%d of %d messages have come", n, len(sent))
	}
	return nil
}

// checkMade checks messages that were records made up, in one partition, part after part.
func (f *sweepFlow) checkMade(came []*kgo.Record) error {
	order := newArrivals(f)
	parts := int64(0) // that are whole
	for _, m := range came {
		if len(m.Value) < 8 {
			return fmt.Errorf("a message has %d bytes", len(m.Value))
		}
		if order.count() == uint64(f.records) && f.transactional {
			order, parts = newArrivals(f), parts+1
		}
		if err := order.add(binary.BigEndian.Uint64(m.Value)); err != nil {
			return fmt.Errorf("part %d, at %s: %w", parts, placeOf(m), err)
		}
	}
	got, want := parts*f.records+int64(order.count()), f.parts*f.records
	if got > want || got < want && !f.terminated {
		return fmt.Errorf("%d of %d messages have come", got, want)
	}
	return nil
}

// placeOf says where a message is, and who has put it there.
func placeOf(m *kgo.Record) string {
	return fmt.Sprintf("partition %d, offset %d, by producer %d in epoch %d", m.Partition, m.Offset, m.ProducerID, m.ProducerEpoch)
}

func headersOf(m *kgo.Record) map[string]string {
	all := map[string]string{}
	for _, h := range m.Headers {
		all[h.Key] = string(h.Value)
	}
	return all
}
