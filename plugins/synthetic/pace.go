package main

import (
	"context"
	"time"
)

// pace spreads what a stream spends evenly over time. It makes up for small delays, but not for a stream that had stood still.
type pace struct {
	rate int64     // units per second; 0: not limited
	due  time.Time // when the next unit is
}

// catchUp is the longest delay that a pace makes up for.
const catchUp = time.Second

func newPace(rate int64) *pace { return &pace{rate: rate, due: time.Now()} }

// portion returns how many of n units to spend at once, at least 1: about a twentieth of a second's.
func (p *pace) portion(n int64) int64 {
	if p.rate == 0 {
		return n
	}
	return min(n, max(1, p.rate/20))
}

// wait waits until the next unit is due.
func (p *pace) wait(ctx context.Context) error {
	if p.rate == 0 {
		return ctx.Err()
	}
	delay := time.Until(p.due)
	if delay < -catchUp {
		p.due = time.Now().Add(-catchUp)
	}
	if delay <= 0 {
		return ctx.Err()
	}
	timer := time.NewTimer(delay)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// spend counts n units.
func (p *pace) spend(n int64) {
	if p.rate > 0 {
		p.due = p.due.Add(time.Duration(float64(n) / float64(p.rate) * float64(time.Second)))
	}
}
