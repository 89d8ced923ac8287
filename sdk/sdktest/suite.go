package sdktest

import (
	"bytes"
	"fmt"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/towpath-dataplane/towpath/sdk"
)

// Content is a part as a suite expects it.
type Content struct {
	Name  string
	Bytes []byte
	// Records, if not nil, are what the part carries instead of Bytes.
	Records []sdk.Record
}

// size is what a PartEnd says.
func (c Content) size() int64 { return int64(len(c.Bytes)) + recordBytes(c.Records) }

// patience is how long a suite waits for something that has to happen, before it fails.
const patience = 20 * time.Second

// Pattern returns n bytes in which every position can be told from its neighbours, different for each seed.
func Pattern(seed, n int) []byte {
	content := make([]byte, n)
	x := uint64(seed)*0x9e3779b97f4a7c15 + 1
	for i := range content {
		x ^= x << 13
		x ^= x >> 7
		x ^= x << 17
		content[i] = byte(x >> 32)
	}
	return content
}

// flow returns the context of a flow with that id.
func flow(id string) sdk.FlowContext {
	return sdk.FlowContext{
		ParticipantContext: "default", ID: id, ParticipantID: "did:web:provider.example",
		CounterPartyID: "did:web:consumer.example", DatasetID: "dataset-1", Profile: "test",
	}
}

// checkLeaks fails the test if, when it has ended, goroutines or Buffers are left that were not there now.
func checkLeaks(t *testing.T) {
	t.Helper()
	buffers := sdk.OutstandingBuffers()
	goroutines := goleak.IgnoreCurrent()
	t.Cleanup(func() {
		// What serves the plugin may be in this process, and hears in its own time that a connection has ended.
		err := goleak.Find(goroutines)
		for deadline := time.Now().Add(patience); err != nil && time.Now().Before(deadline); {
			err = goleak.Find(goroutines)
		}
		if err != nil {
			t.Errorf("goroutines were left behind: %v", err)
		}
		eventually(t, "all Buffers are released", func() bool { return sdk.OutstandingBuffers() == buffers })
	})
}

func eventually(t *testing.T, what string, condition func() bool) {
	t.Helper()
	for deadline := time.Now().Add(patience); !condition(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Errorf("still not true: %s", what)
			return
		}
	}
}

// within runs f, which has to return.
func within(t *testing.T, what string, f func()) {
	t.Helper()
	done := make(chan struct{})
	go func() {
		defer close(done)
		f()
	}()
	select {
	case <-done:
	case <-time.After(patience):
		t.Fatalf("%s did not return", what)
	}
}

// wantCode checks the code of an error that a host gets.
func wantCode(t *testing.T, what string, err error, code sdk.Code) {
	t.Helper()
	switch e := sdk.AsError(err); {
	case err == nil:
		t.Errorf("%s: no error, want one with code %q", what, code)
	case e.Code != code:
		t.Errorf("%s: error %q has code %q, want %q", what, err, e.Code, code)
	case e.Message == "":
		t.Errorf("%s: the error has no message", what)
	}
}

// digests computes what a source or a sink should.
func digests(content []byte) sdk.Digests {
	d := sdk.NewDigester(sdk.Algorithms()...)
	d.Write(content)
	return d.Sum()
}

func equalRecords(got, want []sdk.Record) error {
	if len(got) != len(want) {
		return fmt.Errorf("%d records, want %d", len(got), len(want))
	}
	for i, g := range got {
		if w := want[i]; !bytes.Equal(g.Key, w.Key) || !bytes.Equal(g.Value, w.Value) {
			return fmt.Errorf("record %d is %.40q: %.40q, want %.40q: %.40q", i, g.Key, g.Value, w.Key, w.Value)
		}
		if w := want[i]; !g.Time.Equal(w.Time.Truncate(time.Microsecond)) {
			return fmt.Errorf("record %d has time %v, want %v", i, g.Time, w.Time)
		}
		for name, value := range want[i].Headers {
			if !bytes.Equal(g.Headers[name], value) {
				return fmt.Errorf("record %d has header %s %q, want %q", i, name, g.Headers[name], value)
			}
		}
	}
	return nil
}

// differ says where two contents differ, "" if they do not.
func differ(got, want []byte) string {
	if bytes.Equal(got, want) {
		return ""
	}
	if len(got) != len(want) {
		return fmt.Sprintf("%d bytes, want %d", len(got), len(want))
	}
	for i := range got {
		if got[i] != want[i] {
			return fmt.Sprintf("byte %d is %#02x, want %#02x", i, got[i], want[i])
		}
	}
	return ""
}

// sampleRecords returns n records that all differ, with every field in use.
func sampleRecords(n int) []sdk.Record {
	records := make([]sdk.Record, n)
	for i := range records {
		records[i] = sdk.Record{
			Key:     fmt.Appendf(nil, "key-%d", i),
			Value:   Pattern(i, i*7%50),
			Time:    time.UnixMicro(1_700_000_000_000_000 + int64(i)).UTC(),
			Headers: map[string][]byte{"n": {byte(i), 0}},
		}
	}
	return records
}
