package flow

import (
	"math"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/towpath-dataplane/towpath/sdk"
)

func TestPace(t *testing.T) {
	at := func(seconds float64) time.Time { return time.Unix(0, int64(seconds*1e9)) }
	for _, tt := range []struct {
		name string
		// add is called once a second with these
		moved []int64
		after float64 // seconds after the last
		want  float64
	}{
		{"nothing", nil, 0, 0},
		{"steady from the start", []int64{0, 100, 100, 100}, 0, 100},
		{"steady for long", slicesOf(60, 100), 0, 100},
		{"stopped", slicesOf(60, 100), 60, 0},
		{"half as fast for long", append(slicesOf(60, 100), slicesOf(60, 50)...), 0, 50},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var p pace
			for i, n := range tt.moved {
				p.add(n, at(float64(i)))
			}
			got := p.at(at(float64(len(tt.moved)-1) + tt.after))
			if math.Abs(got-tt.want) > max(1, tt.want*0.15) {
				t.Errorf("%f a second, want about %f", got, tt.want)
			}
		})
	}
}

func slicesOf(n int, v int64) []int64 {
	all := make([]int64, n)
	for i := range all {
		all[i] = v
	}
	return all
}

func TestEnd(t *testing.T) {
	now := time.Unix(1000, 0)
	for name, tt := range map[string]struct {
		total, sent int64
		rate        float64
		want        time.Duration // 0: not known
	}{
		"half way":          {total: 2000, sent: 1000, rate: 100, want: 10 * time.Second},
		"unknown size":      {sent: 1000, rate: 100},
		"stands still":      {total: 2000, sent: 1000, rate: 0.1},
		"more than it said": {total: 1000, sent: 1001, rate: 100},
		"not in our time":   {total: 1 << 62, rate: 1},
	} {
		m := Movement{Step: Step{TotalBytes: tt.total, Totals: sdk.Totals{Bytes: tt.sent}}, Rate: tt.rate}
		switch end := m.End(now); {
		case tt.want == 0 && !end.IsZero():
			t.Errorf("%s: ends %v", name, end)
		case tt.want != 0 && !end.Equal(now.Add(tt.want)):
			t.Errorf("%s: ends %v, want in %v", name, end, tt.want)
		}
	}
}

// A further attempt goes back to where the last place was. What it sends again moves again, but what stands in between is no step back.
func TestTrackerOfSeveralAttempts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var tr tracker
		var sent atomic.Int64
		step := func() Step { return Step{Totals: sdk.Totals{Bytes: sent.Load()}} }
		first, second := &progress{}, &progress{}
		tr.observe(first, step)
		for range 30 {
			time.Sleep(time.Second)
			sent.Add(1000)
			tr.look(time.Now())
		}
		sent.Store(5000)
		tr.observe(second, step)
		tr.forget(first) // is late
		if !tr.observed() {
			t.Error("the second attempt is forgotten")
		}
		time.Sleep(time.Second)
		sent.Add(1000)
		m := tr.movement(time.Now())
		if m.Rate < 900 || m.Rate > 1100 || m.Step.Totals.Bytes != 6000 || !m.Last.Equal(time.Now()) {
			t.Errorf("movement %+v", m)
		}
		time.Sleep(time.Minute)
		if m := tr.movement(time.Now()); m.Rate > 1 || !m.Last.Equal(time.Now().Add(-time.Minute)) {
			t.Errorf("at rest: movement %+v", m)
		}
		tr.forget(second)
		tr.moved(7, time.Now())
		if m := tr.movement(time.Now()); m.Rate < 1 || !m.Last.Equal(time.Now()) || tr.observed() {
			t.Errorf("served: movement %+v", m)
		}
	})
}
