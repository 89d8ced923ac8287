package flow_test

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/towpath-dataplane/towpath/host/flow"
)

// counting counts the transactions of a store.
type counting struct {
	flow.Store
	updates atomic.Int64
}

func (c *counting) Update(ctx context.Context, key flow.Key, fn func(flow.Tx) error) error {
	c.updates.Add(1)
	return c.Store.Update(ctx, key, fn)
}

// What requests read is stored at once when a flow is quiet, in few transactions when it is not, and always before a signal that stops
// the flow returns, and before Close does.
func TestReads(t *testing.T) {
	w := newWorld(t)
	var store *counting
	w.restart(func(o *flow.Options) {
		store = &counting{Store: o.Store}
		o.Store = store
	})
	must(t)(w.Start(bg, create("f", "pull")))
	before := store.updates.Load()
	read := func(name string) {
		j, err := w.Join(bg, key("f"))
		if err != nil {
			t.Error(err)
			return
		}
		defer j.Leave()
		j.Read(flow.Part{Name: name, Size: 1})
	}
	parts := func() int64 {
		f, err := w.store.Flow(bg, key("f"))
		if err != nil {
			t.Fatal(err)
		}
		return f.Totals.Parts
	}
	read("first")
	for deadline := time.Now().Add(20 * time.Second); parts() != 1; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("it is never stored")
		}
	}
	var all sync.WaitGroup
	for i := range 4 {
		all.Go(func() {
			for j := range 500 {
				read(fmt.Sprint("part-", i, "-", j%50))
			}
		})
	}
	all.Wait()
	must(t)(w.Suspend(bg, message("f"), ""))
	if n := parts(); n != 201 {
		t.Errorf("%d parts are stored when suspend has returned", n)
	}
	if n := store.updates.Load() - before; n > 400 {
		t.Errorf("%d transactions for 2001 reads", n)
	}
	must(t)(w.Resume(bg, message("f"), nil))
	read("last")
	read("the very last")
	w.close()
	if n := parts(); n != 203 {
		t.Errorf("%d parts are stored when the engine is closed", n)
	}
}
