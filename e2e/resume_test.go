//go:build linux

package e2e_test

import (
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"testing"
)

// One large file moves, and the connection breaks or one side is killed, at places that the seed says. What is on the other side stays
// there: far less is sent again than would be from the start.
func TestLargeFileGoesOn(t *testing.T) {
	t.Parallel()
	const size, rate = 24 * mib, 16 * mib
	for seed := range uint64(8) {
		direction := []string{"push", "pull"}[seed%2]
		t.Run(fmt.Sprintf("%s, seed %d", direction, seed), func(t *testing.T) {
			t.Parallel()
			random := rand.New(rand.NewPCG(seed, 4))
			d := newOneFile(t, seed, size)
			guard(t, d.consumer.inbox(), d.files)
			d.provider.network.rate.Store(rate)
			d.consumer.network.rate.Store(rate)
			f, via := d.start(direction)

			struck := int64(0) // bytes that had come when something happened
			for range 2 {
				via.awaitPassed(t, 6*mib+random.Int64N(4*mib))
				struck += min(via.passed.Load(), size)
				d.breakDown(random, via)
			}
			d.finish(direction, f)
			d.expectOnePart(f.consumer, size)
			if direction == "push" {
				d.expectSameDigest(f)
			}
			if again := via.passed.Load() - size; again > struck/2 {
				t.Errorf("%d bytes were sent again of %d that had come", again, struck)
			}
		})
	}
}

// newOneFile is a dataspace whose dataset is one file.
func newOneFile(t testing.TB, seed uint64, size int64) *dataspace {
	t.Helper()
	d := &dataspace{t: t, provider: newHost(t, "provider", ""), consumer: newHost(t, "consumer", "")}
	writeRandom(t, filepath.Join(d.provider.outbox(), "large.bin"), rand.NewChaCha8([32]byte{byte(seed), 7}), size)
	d.files = readTree(t, d.provider.outbox())
	for _, h := range []*host{d.provider, d.consumer} {
		h.launch()
	}
	for _, h := range []*host{d.provider, d.consumer} {
		h.awaitReady()
	}
	return d
}

// breakDown cuts the connection, or kills a host or one of its plugins.
func (d *dataspace) breakDown(random *rand.Rand, via *network) {
	d.t.Helper()
	if random.IntN(2) == 0 {
		d.t.Log("cut the connection")
		via.reset()
		return
	}
	d.strike(random)
}

// expectOnePart checks that the consumer has recorded the file once.
func (d *dataspace) expectOnePart(id string, size int64) {
	d.t.Helper()
	if f := d.consumer.flow(id); f.Parts != 1 || f.Bytes != size {
		d.t.Errorf("the consumer has recorded %d parts with %d bytes, want 1 with %d", f.Parts, f.Bytes, size)
	}
}
