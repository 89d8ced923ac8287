package store_test

import (
	"errors"
	"sync"
	"testing"
	"time"

	"github.com/towpath-dataplane/towpath/host/flow"
	"github.com/towpath-dataplane/towpath/host/store"
	"github.com/towpath-dataplane/towpath/host/store/storetest"
)

// putFlow creates a flow, or moves it to another state.
func putFlow(t *testing.T, db *store.DB, key flow.Key, state flow.State) {
	t.Helper()
	err := db.Update(t.Context(), key, func(tx flow.Tx) error { return tx.Put(&flow.Flow{Key: key, State: state}) })
	if err != nil {
		t.Fatal(err)
	}
}

func TestUploads(t *testing.T) {
	storetest.TestUploads(t, func(t *testing.T) (flow.Uploads, func(flow.Key, flow.State)) {
		db := open(t, options(t))
		return db, func(key flow.Key, state flow.State) { putFlow(t, db, key, state) }
	})
}

// An upload to a flow that has ended is refused, and takes down no update that is stored beside it.
func TestRefusedUploadBesideOthers(t *testing.T) {
	db := open(t, options(t))
	ended, other := flow.Key{Context: flow.DefaultContext, ID: "ended"}, flow.Key{Context: flow.DefaultContext, ID: "other"}
	putFlow(t, db, ended, flow.Completed)
	putFlow(t, db, other, flow.Started)
	var all sync.WaitGroup
	for range 64 {
		all.Go(func() {
			err := db.PutUpload(t.Context(), flow.Upload{Key: ended, Name: "a", ID: "a", Expires: time.Now().Add(time.Hour)})
			if !errors.Is(err, flow.ErrNotFound) {
				t.Errorf("the upload: %v", err)
			}
		})
		all.Go(func() {
			err := db.Update(t.Context(), other, func(tx flow.Tx) error { return tx.Put(&flow.Flow{Key: other, State: flow.Started}) })
			if err != nil {
				t.Errorf("the other flow: %v", err)
			}
		})
	}
	all.Wait()
}
