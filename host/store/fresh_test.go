package store

import (
	"strconv"
	"sync"
	"testing"

	"github.com/towpath-dataplane/towpath/host/flow"
)

// Whoever reads a flow after an update of it has returned reads what that has left, whoever reads beside it; nobody reads what was before
// what they have read; and what is read belongs to the reader.
func TestFlowsAreFresh(t *testing.T) {
	db := openTest(t)
	key := testKey("f")
	if err := db.Update(t.Context(), key, putTest("f")); err != nil {
		t.Fatal(err)
	}
	stop := make(chan struct{})
	var readers sync.WaitGroup
	for range 4 {
		readers.Go(func() {
			for last := int64(0); ; {
				select {
				case <-stop:
					return
				default:
				}
				f, err := db.Flow(t.Context(), key)
				if err != nil || f.Totals.Parts < last {
					t.Errorf("%d parts after %d: %v", f.Totals.Parts, last, err)
					return
				}
				last = f.Totals.Parts
				f.Totals.Parts, f.Labels = -1, append(f.Labels[:0], "mine")
			}
		})
	}
	for n := int64(1); n <= 60; n++ {
		err := db.Update(t.Context(), key, func(tx flow.Tx) error {
			f, err := tx.Flow()
			if err != nil {
				return err
			}
			f.Totals.Parts = n
			return tx.Put(f)
		})
		if err != nil {
			t.Fatal(err)
		}
		if f, err := db.Flow(t.Context(), key); err != nil || f.Totals.Parts != n {
			t.Fatalf("%d parts after an update to %d: %v", f.Totals.Parts, n, err)
		}
		if f, err := db.View(t.Context(), key); err != nil || f.Totals.Parts != n {
			t.Fatalf("%d parts to see after an update to %d: %v", f.Totals.Parts, n, err)
		}
	}
	close(stop)
	readers.Wait()
}

func numbered(i int) flow.Key { return flow.Key{Context: "c", ID: strconv.Itoa(i)} }

// No more flows are remembered than there is room for.
func TestFreshIsBounded(t *testing.T) {
	var c fresh
	for i := range 3 * maxFresh {
		c.add(&flow.Flow{Key: numbered(i)}, 0)
	}
	if n := len(c.flows); n != maxFresh {
		t.Errorf("%d flows are remembered", n)
	}
	last, before := numbered(3*maxFresh-1), numbered(-1)
	c.commit([]*job{{key: last}}, func() {
		_, epoch := c.view(last)
		if c.add(&flow.Flow{Key: last}, epoch); c.flows[last] != nil {
			t.Error("a flow that is being written is remembered")
		}
		if c.add(&flow.Flow{Key: before}, epoch); c.flows[before] == nil {
			t.Error("a flow beside the one that is being written is not remembered")
		}
	})
	if f, _ := c.get(last); f != nil {
		t.Error("a flow that was written is remembered")
	}
	if c.add(&flow.Flow{Key: last}, 0); c.flows[last] != nil {
		t.Error("what was looked up before others were written is remembered")
	}
}
