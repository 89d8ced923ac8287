package flow

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// TestNext writes the whole state table down: a row for each state, a column for each signal. "=" is a repetition, "-" a refusal.
func TestNext(t *testing.T) {
	want := strings.TrimSpace(`
from        prepare  start    started  suspend   resume   terminate  completed finished  ready    abort      again
(none)      PREPARED STARTED  -        -         -        -          -         -         -        -          -
PREPARING   -        -        -        -         -        TERMINATED -         -         PREPARED TERMINATED =
PREPARED    -        -        STARTED  -         -        TERMINATED -         -         -        TERMINATED =
STARTING    -        -        -        -         -        TERMINATED -         -         STARTED  TERMINATED =
STARTED     -        -        =        SUSPENDED -        TERMINATED COMPLETED COMPLETED -        TERMINATED STARTED
(resumed)   -        -        =        SUSPENDED =        TERMINATED COMPLETED COMPLETED -        TERMINATED STARTED
SUSPENDED   -        -        -        =         STARTED  TERMINATED -         -         -        TERMINATED STARTED
COMPLETED   -        -        -        -         -        -          =         -         -        -          -
TERMINATED  -        -        -        -         -        =          -         -         -        -          -`)
	signals := []Signal{SignalPrepare, SignalStart, SignalStarted, SignalSuspend, SignalResume, SignalTerminate, SignalCompleted, SignalFinished,
		SignalReady, SignalAbort, SignalAgain}
	var rows []string
	for i, line := range strings.Split(want, "\n") {
		if i == 0 {
			rows = append(rows, line)
			continue
		}
		name := strings.Fields(line)[0]
		f := &Flow{Key: Key{DefaultContext, "f"}, Role: Consumer, State: State(name)}
		switch name {
		case "(none)":
			f = nil
		case "(resumed)":
			f.State, f.Resumed = Started, true
		}
		row := fmt.Sprintf("%-11s", name)
		for j, s := range signals {
			cell := "-"
			next, repeated, err := Next(f, s)
			if err == nil {
				cell = string(next)
			}
			if repeated {
				cell = "="
			}
			width := []int{8, 8, 8, 9, 8, 10, 9, 9, 8, 10, 8}[j]
			row += fmt.Sprintf(" %-*s", width, cell)
		}
		rows = append(rows, strings.TrimRight(row, " "))
	}
	if diff := cmp.Diff(want, strings.Join(rows, "\n")); diff != "" {
		t.Error(diff)
	}
}

func TestStartedIsForConsumers(t *testing.T) {
	_, _, err := Next(&Flow{Role: Provider, State: Started}, SignalStarted)
	var wrong *StateError
	if !errors.As(err, &wrong) || wrong.Why == "" {
		t.Errorf("started on a provider's flow: %v", err)
	}
}
