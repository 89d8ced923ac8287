package sdktest_test

import (
	"path"
	"strings"
	"testing"
	"time"

	"github.com/towpath-dataplane/towpath/sdk"
	"github.com/towpath-dataplane/towpath/sdk/sdktest"
)

func TestMemoryAsSource(t *testing.T) {
	parts := []sdktest.Content{
		{Name: "a.bin", Bytes: sdktest.Pattern(1, 1)},
		{Name: "b/empty", Bytes: []byte{}},
		{Name: "b/large.bin", Bytes: sdktest.Pattern(2, 3<<20+17)},
		{Name: "events", Records: records(100)},
		{Name: "no events", Records: []sdk.Record{}},
		{Name: "z ü/last.bin", Bytes: sdktest.Pattern(3, 70_000)},
	}
	memory := &sdktest.Memory{}
	for _, p := range parts {
		if p.Records != nil {
			memory.PutRecords("in/"+p.Name, p.Records)
		} else {
			memory.Put("in/"+p.Name, p.Bytes)
		}
	}
	memory.Put("elsewhere", []byte("not of this address"))
	sdktest.TestSource(t, sdktest.SourceCase{
		New:     func(*testing.T) sdk.DataSource { return memory.DataSource() },
		Address: memory.Address("in"),
		Parts:   parts,
		Bad: []sdktest.BadAddress{
			{Name: "no such folder", Address: memory.Address("out"), Code: sdk.NotFound},
			{Name: "unknown property", Code: sdk.Invalid, Address: sdk.DataAddress{
				Type: sdktest.MemoryType, Properties: map[string]string{"fodler": "in"},
			}},
		},
	})
}

func TestEmptyMemoryAsSource(t *testing.T) {
	memory := &sdktest.Memory{}
	sdktest.TestSource(t, sdktest.SourceCase{
		New:     func(*testing.T) sdk.DataSource { return memory.DataSource() },
		Address: memory.Address(""),
	})
}

func records(n int) []sdk.Record {
	records := make([]sdk.Record, n)
	for i := range records {
		records[i] = sdk.Record{
			Key:     []byte{byte(i)},
			Value:   sdktest.Pattern(i, i*7%50),
			Time:    time.UnixMicro(1_700_000_000_000_000 + int64(i)).UTC(),
			Headers: map[string][]byte{"n": {byte(i), 0}},
		}
	}
	return records
}

func TestMemoryAsSink(t *testing.T) {
	for _, folder := range []string{"", "inbox"} {
		t.Run("folder "+folder, func(t *testing.T) {
			sdktest.TestSink(t, sdktest.SinkCase{New: func(*testing.T) sdktest.Store { return newStore(folder) }, Resumable: true, Records: true})
		})
	}
}

func newStore(folder string) sdktest.Store { return newStoreIn(&sdktest.Memory{}, folder) }

// newStoreIn is a folder of a memory as a sink.
func newStoreIn(memory *sdktest.Memory, folder string) sdktest.Store {
	return sdktest.Store{
		Sink: memory.DataSink(), Address: memory.Address(folder),
		Names: func() ([]string, error) {
			var names []string
			for _, name := range memory.Names() {
				if folder == "" || strings.HasPrefix(name, folder+"/") {
					names = append(names, relative(folder, name))
				}
			}
			return names, nil
		},
		Content: func(name string) ([]byte, error) { return memory.Content(path.Join(folder, name)) },
		Records: func(name string) ([]sdk.Record, error) { return memory.Records(path.Join(folder, name)) },
		Begun:   func() ([]string, error) { return memory.Begun(), nil },
	}
}

func relative(folder, name string) string {
	return strings.TrimPrefix(strings.TrimPrefix(name, folder), "/")
}

func TestMemoryAsStore(t *testing.T) {
	parts := []sdktest.Content{
		{Name: "a/empty", Bytes: []byte{}},
		{Name: "b.bin", Bytes: sdktest.Pattern(1, 3<<20+17)},
		{Name: "c ü", Bytes: sdktest.Pattern(2, 1)},
	}
	sdktest.TestCopy(t, sdktest.CopyCase{Parts: parts, New: func(*testing.T) sdktest.Copying {
		memory := &sdktest.Memory{}
		for _, p := range parts {
			memory.Put("from/"+p.Name, p.Bytes)
		}
		to := newStoreIn(memory, "to")
		return sdktest.Copying{
			Source: memory.DataSource(), From: memory.Address("from"), Store: to,
			Replace: func(name string, content []byte) error { memory.Put("from/"+name, content); return nil },
		}
	}})
}
