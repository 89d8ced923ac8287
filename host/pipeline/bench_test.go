package pipeline

import (
	"testing"

	"github.com/towpath-dataplane/towpath/sdk"
)

// What it costs to put the time of one frame down to who was waited for.
func BenchmarkAccount(b *testing.B) {
	a := NewAccounts(Watchdog{}, nil).open(sdk.FlowContext{ID: "f"})
	b.ReportAllocs()
	for b.Loop() {
		a.at(atSource)
		a.at(atSink)
	}
}
