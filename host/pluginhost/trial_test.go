package pluginhost

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/towpath-dataplane/towpath/sdk"
)

// What a build on trial is held to: time counts only while somebody asks and nothing moves, and it has proved itself when all that is asked
// for has moved.
func TestTrial(t *testing.T) {
	reads, writes := offering{asSource, "T"}, offering{asSink, "T"}
	away := sdk.Retryf(sdk.Unavailable, "the other side is away")
	wait := func(tr *trial, to offering, d time.Duration) {
		tr.begin(to)
		time.Sleep(d)
		tr.done(to)
	}
	fail := func(tr *trial, q question, err error) error { return tr.judge(t.Context(), q, err) }
	for name, test := range map[string]struct {
		happens func(tr *trial)
		want    string // "failed", "proved" or ""
	}{
		"nobody asks":        {func(tr *trial) { time.Sleep(time.Hour) }, ""},
		"asked now and then": {func(tr *trial) { wait(tr, reads, 20*time.Second); time.Sleep(time.Hour) }, ""},
		"asked for too long": {func(tr *trial) { wait(tr, reads, 31*time.Second) }, "failed"},
		"for too long together": {func(tr *trial) {
			wait(tr, reads, 20*time.Second)
			time.Sleep(time.Hour)
			wait(tr, reads, 11*time.Second)
		}, "failed"},
		"it stirs": {func(tr *trial) { wait(tr, reads, 20*time.Second); tr.stirs(reads); wait(tr, reads, 20*time.Second) }, ""},
		"it stirs under way": {func(tr *trial) {
			tr.begin(reads)
			time.Sleep(20 * time.Second)
			tr.stirs(reads)
			time.Sleep(20 * time.Second)
			tr.done(reads)
		}, ""},
		"two at once count once": {func(tr *trial) {
			tr.begin(reads)
			wait(tr, reads, 20*time.Second)
			tr.done(reads)
		}, ""},
		"another type moves":  {func(tr *trial) { tr.opens(reads); tr.moves(writes); wait(tr, reads, 31*time.Second) }, "failed"},
		"it moves":            {func(tr *trial) { tr.opens(reads); tr.moves(reads); wait(tr, reads, time.Hour) }, "proved"},
		"all that is open":    {func(tr *trial) { tr.opens(reads); tr.opens(writes); tr.moves(reads); tr.moves(writes) }, "proved"},
		"one is still open":   {func(tr *trial) { tr.opens(reads); tr.opens(writes); tr.moves(reads) }, ""},
		"that has ended":      {func(tr *trial) { tr.opens(reads); tr.opens(writes); tr.moves(reads); tr.closes(writes) }, "proved"},
		"it says it failed":   {func(tr *trial) { fail(tr, question{to: reads}, errors.New("a bug")) }, "failed"},
		"after it has moved":  {func(tr *trial) { tr.opens(writes); tr.moves(reads); fail(tr, question{to: reads}, errors.New("a bug")) }, ""},
		"refuses to resume":   {func(tr *trial) { fail(tr, question{to: reads, resumed: true}, sdk.Errorf(sdk.NotFound, "what?")) }, "failed"},
		"a new flow is wrong": {func(tr *trial) { fail(tr, question{to: reads}, sdk.Errorf(sdk.NotFound, "what?")) }, ""},
		"an address is refused": {func(tr *trial) {
			fail(tr, question{to: reads, refuses: func() bool { return true }}, sdk.Errorf(sdk.Invalid, "what?"))
		}, "failed"},
		"a request is wrong": {func(tr *trial) {
			fail(tr, question{to: reads, refuses: func() bool { return false }}, sdk.Errorf(sdk.Invalid, "what?"))
		}, ""},
		"the other side is away once": {func(tr *trial) { fail(tr, question{to: reads, stream: true}, away) }, ""},
		"and long after":              {func(tr *trial) { failEvery(tr, reads, time.Hour, 2, away) }, ""},
		"and always":                  {func(tr *trial) { failEvery(tr, reads, 20*time.Second, 3, away) }, "failed"},
		"checks that fail": {func(tr *trial) {
			fail(tr, question{to: reads}, away)
			time.Sleep(time.Minute)
			fail(tr, question{to: reads}, away)
		}, ""},
		"the end of a stream": {func(tr *trial) { fail(tr, question{to: reads}, io.EOF) }, ""},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var said []string
				tr := &trial{limit: 30 * time.Second, asks: map[offering]*ask{}}
				tr.prove = func() { said = append(said, "proved"); tr.end() }
				tr.fail = func(string) bool { said = append(said, "failed"); tr.lost.Store(true); tr.end(); return true }
				test.happens(tr)
				synctest.Wait()
				var want []string
				if test.want != "" {
					want = []string{test.want}
				}
				if !slices.Equal(said, want) {
					t.Errorf("%q, want %q", said, want)
				}
				if err := tr.judge(t.Context(), question{to: reads}, fmt.Errorf("cut: %w", away)); errors.Is(err, ErrReplaced) != (test.want == "failed") {
					t.Errorf("later a caller is told: %v", err)
				}
				tr.end()
			})
		})
	}
}

func failEvery(tr *trial, to offering, d time.Duration, times int, err error) {
	for range times {
		tr.judge(context.Background(), question{to: to, stream: true}, err)
		time.Sleep(d)
	}
}
