package store

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/towpath-dataplane/towpath/host/flow"
	"github.com/towpath-dataplane/towpath/sdk"
)

// callers is how many signals come at once.
const callers = 64

// BenchmarkSignals compares signals that share commits with signals that have a transaction each: same statements, same driver, same
// pragmas, in one run.
func BenchmarkSignals(b *testing.B) {
	b.StopTimer() // only the grouped signals decide how many there are
	grouped := openBench(b)
	b.StartTimer()
	group := rate(b, b.N, func(i int) error {
		return grouped.Update(context.Background(), benchKey(i), signal(i))
	})
	b.StopTimer()

	single := openBench(b)
	var mu sync.Mutex
	w := takeWriter(b, single)
	one := rate(b, max(b.N/10, callers), func(i int) error {
		mu.Lock()
		defer mu.Unlock()
		w.exec("BEGIN IMMEDIATE")
		t := &tx{sealer: single.sealer, key: benchKey(i), fn: signal(i)}
		err := errors.Join(t.decide(w), t.prepare(), t.write())
		w.exec("COMMIT")
		return errors.Join(err, w.failed)
	})

	b.ReportMetric(0, "ns/op")
	b.ReportMetric(group, "grouped/s")
	b.ReportMetric(one, "single/s")
	b.ReportMetric(group/one, "ratio")
}

// takeWriter replaces a database's writer by one whose goroutine does not run, for the callers to use.
func takeWriter(b *testing.B, db *DB) *writer {
	if err := db.write.close(); err != nil {
		b.Fatal(err)
	}
	path := strings.TrimSuffix(db.lock.file.Name(), ".lock")
	w, err := openWriter(b.Context(), path, time.Now)
	if err != nil {
		b.Fatal(err)
	}
	db.write = w
	return w
}

func openBench(b *testing.B) *DB {
	db, err := Open(b.Context(), Options{Path: filepath.Join(b.TempDir(), "towpath.db"), Key: [32]byte{1}})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { db.Close() })
	rate(b, benchFlows, func(i int) error {
		return db.Update(b.Context(), benchKey(i), func(tx flow.Tx) error { return tx.Put(benchFlow(i)) })
	})
	return db
}

// rate calls fn n times from all callers and returns how many calls there were in a second.
func rate(b *testing.B, n int, fn func(i int) error) float64 {
	var next atomic.Int64
	var wg sync.WaitGroup
	start := time.Now()
	for range callers {
		wg.Go(func() {
			for i := next.Add(1); i <= int64(n); i = next.Add(1) {
				if err := fn(int(i)); err != nil {
					b.Error(err)
				}
			}
		})
	}
	wg.Wait()
	return float64(n) / time.Since(start).Seconds()
}

const benchFlows = 1000

func benchKey(i int) flow.Key {
	return flow.Key{Context: flow.DefaultContext, ID: fmt.Sprintf("urn:uuid:00000000-0000-0000-0000-%012d", i%benchFlows)}
}

func benchFlow(i int) *flow.Flow {
	return &flow.Flow{
		Key: benchKey(i), Role: flow.Provider, Direction: flow.Pull, State: flow.Started, Profile: "HttpData-PULL",
		DatasetID: "dataset", AgreementID: "agreement", ParticipantID: "did:web:provider.example", CounterPartyID: "did:web:consumer.example",
		ControlPlane: "cp", Claims: []byte(`{"membership":"active"}`),
		Local:  sdk.DataAddress{Type: "File", Properties: map[string]string{"path": "a/b/c"}},
		Issued: &sdk.DataAddress{Type: "HttpData", Endpoint: "https://provider.example/public", Properties: map[string]string{"authorization": "a token of some length"}},
	}
}

// signal does what the engine does for a suspend or a resume: it reads a flow, changes its state and stores the answer.
func signal(i int) func(flow.Tx) error {
	message := fmt.Sprintf("urn:uuid:%036d", i)
	return func(tx flow.Tx) error {
		f, err := tx.Flow()
		if err != nil {
			return err
		}
		f.State, f.Reason = [...]flow.State{flow.Started, flow.Suspended}[i/benchFlows%2], message
		return errors.Join(
			tx.Put(f),
			tx.PutAnswer(message, flow.Answer{Operation: "suspend", Body: make([]byte, 32), State: f.State}))
	}
}
