package storetest_test

import (
	"errors"
	"reflect"
	"testing"

	"github.com/towpath-dataplane/towpath/host/flow"
	"github.com/towpath-dataplane/towpath/host/store/storetest"
)

func TestMemory(t *testing.T) {
	storetest.TestStore(t, func(*testing.T) storetest.Store { return storetest.NewMemory() })
}

func TestMemoryDocuments(t *testing.T) {
	storetest.TestDocuments(t, func(*testing.T) flow.Documents { return new(storetest.Documents) })
}

// A field that is new in flow.Flow has to be in Full, or the suite does not see that a store loses it.
func TestFullIsFull(t *testing.T) {
	f := reflect.ValueOf(*storetest.Full("f"))
	for _, field := range reflect.VisibleFields(f.Type()) {
		switch field.Name {
		case "Waiting", "Redelivery", "Created", "Updated":
			continue
		}
		if f.FieldByIndex(field.Index).IsZero() {
			t.Errorf("%s is not set", field.Name)
		}
	}
}

func TestBrokenMemory(t *testing.T) {
	m := storetest.NewMemory()
	f := storetest.Full("f")
	boom := errors.New("boom")
	m.Break(boom)
	if err := m.Update(t.Context(), f.Key, func(tx flow.Tx) error { return tx.Put(f) }); !errors.Is(err, boom) {
		t.Errorf("Update of a broken store: %v", err)
	}
	m.Break(nil)
	if _, err := m.Flow(t.Context(), f.Key); !errors.Is(err, flow.ErrNotFound) {
		t.Errorf("Flow after a broken update: %v, want ErrNotFound", err)
	}
}

func TestMemoryUploads(t *testing.T) {
	storetest.TestUploads(t, func(*testing.T) (flow.Uploads, func(flow.Key, flow.State)) {
		states := map[flow.Key]flow.State{}
		ended := func(key flow.Key) bool { return states[key] == "" || states[key].Final() }
		return &storetest.Uploads{Ended: ended}, func(key flow.Key, state flow.State) { states[key] = state }
	})
}
