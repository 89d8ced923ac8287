//go:build linux

package e2e_test

import (
	"fmt"
	"math/rand/v2"
	"syscall"
	"testing"
)

// Something is killed while files move, once or twice: a host, or a plugin. The flow goes on, and ends with equal files.
func TestKill(t *testing.T) {
	t.Parallel()
	const size, rate = 40 * mib, 24 * mib
	for seed := range uint64(16) {
		direction := []string{"push", "pull"}[seed%2]
		t.Run(fmt.Sprintf("%s, seed %d", direction, seed), func(t *testing.T) {
			t.Parallel()
			random := rand.New(rand.NewPCG(seed, 1))
			d := newDataspace(t, seed, size)
			guard(t, d.consumer.inbox(), d.files)
			d.provider.network.rate.Store(rate)
			d.consumer.network.rate.Store(rate)
			f, via := d.start(direction)
			left := int64(size)
			for range 1 + random.IntN(2) {
				next := random.Int64N(left)
				via.awaitPassed(t, next)
				d.strike(random)
				left -= next
			}
			d.finish(direction, f)
			if direction == "push" {
				d.expectParts(d.provider, f.provider)
				d.expectSameDigest(f)
			}
		})
	}
}

// strike kills one of the processes that take part in a transfer. A host that is killed is started again.
func (d *dataspace) strike(random *rand.Rand) {
	d.t.Helper()
	h := []*host{d.provider, d.consumer}[random.IntN(2)]
	switch victim := []string{"host", "host", "file", "http"}[random.IntN(4)]; victim {
	case "host":
		d.t.Logf("kill the %s", h.name)
		h.kill()
		h.start()
	default:
		d.t.Logf("kill plugin %s of the %s", victim, h.name)
		if pid := h.plugin(victim).PID; pid > 0 {
			sendSignal(d.t, pid, syscall.SIGKILL)
		}
	}
}

// A plugin that is frozen answers nobody. The host finds out, ends it and starts another, and the flow goes on.
func TestFrozenPlugin(t *testing.T) {
	t.Parallel()
	for name, whose := range map[string]func(d *dataspace) *host{
		"file plugin of the consumer": func(d *dataspace) *host { return d.consumer },
		"file plugin of the provider": func(d *dataspace) *host { return d.provider },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			d := newDataspace(t, 7, 8*mib)
			guard(t, d.consumer.inbox(), d.files)
			d.consumer.network.rate.Store(8 * mib)
			f := d.startPush("push")
			d.consumer.network.awaitPassed(t, 2*mib)

			h := whose(d)
			frozen := h.plugin("file").PID
			sendSignal(t, frozen, syscall.SIGSTOP)
			eventually(t, "another process of the plugin", func() bool {
				p := h.plugin("file")
				return p.PID != 0 && p.PID != frozen && p.State == "ready" && p.Restarts > 0
			})
			if exists(frozen) {
				t.Errorf("the frozen process %d is still there", frozen)
			}
			d.finishPush(f)
			d.expectSameDigest(f)
		})
	}
}
