//go:build linux

package e2e_test

import "testing"

// One direction of the connection between the hosts ends in good order, in the middle of a part, and the other does not. That is a
// failure that passes, like any other of the network.
func TestHalfClosedConnection(t *testing.T) {
	t.Parallel()
	for _, direction := range []string{"push", "pull"} {
		for name, towardsDataPlane := range map[string]bool{"there": true, "back": false} {
			t.Run(direction+", "+name, func(t *testing.T) {
				t.Parallel()
				d := newDataspace(t, 14, 4*mib)
				guard(t, d.consumer.inbox(), d.files)
				d.provider.network.rate.Store(4 * mib)
				d.consumer.network.rate.Store(4 * mib)
				f, via := d.start(direction)
				for range 3 {
					via.awaitPassed(t, mib)
					via.halfClose(towardsDataPlane)
				}
				d.finish(direction, f)
			})
		}
	}
}
