package config

import (
	"fmt"
	"strconv"
	"time"

	"github.com/hashicorp/hcl/v2"
	"github.com/zclconf/go-cty/cty"
)

// Limits is the limits block: what may move, and how many transfers may run.
type Limits struct {
	Host Limit
	// Counterparty, Dataset and Flow are what holds for each of them that has no limits of its own.
	Counterparty Limit
	Dataset      Limit
	Flow         Limit
}

// Limit is the limits of one thing. 0 where nothing is said.
type Limit struct {
	Bytes     int64 // per second
	Records   int64 // per second
	Transfers int64 // at a time
	Weight    int64 // in comparison to others of its kind, from 1 to maxWeight
}

const maxWeight = 1000

// Watchdog is the watchdog block of transfer: when a transfer that does not move counts as stalled.
type Watchdog struct {
	StalledAfter time.Duration
	// RestartAfter is when a stalled transfer begins again from its last stored place. 0: it does not.
	RestartAfter time.Duration
	// TrustHealth says that a plugin which answers speaks for its flows.
	TrustHealth bool
}

func (l *loader) limits(b *hcl.Block, into *Limits) {
	f := l.open(b, limitsSchema)
	for _, each := range []struct {
		name string
		into *Limit
	}{{"host", &into.Host}, {"counterparty", &into.Counterparty}, {"dataset", &into.Dataset}, {"flow", &into.Flow}} {
		if b := f.single(each.name); b != nil {
			l.limit(b, limitSchemas[each.name], each.into)
		}
	}
}

// ownLimits reads the limits block of something, if it has one.
func (l *loader) ownLimits(f fields, into *Limit) {
	if b := f.single("limits"); b != nil {
		l.limit(b, ownLimitsSchema, into)
	}
}

func (l *loader) limit(b *hcl.Block, schema *hcl.BodySchema, into *Limit) {
	f := l.open(b, schema)
	set(f, "bytes", &into.Bytes, size)
	set(f, "records", &into.Records, wide)
	set(f, "transfers", &into.Transfers, wide)
	set(f, "weight", &into.Weight, weight)
}

// wide reads a whole number of at least 1.
func wide(v cty.Value) (int64, error) {
	n, err := count(v)
	return int64(n), err
}

// weight reads a weight.
func weight(v cty.Value) (int64, error) {
	s, err := text(v)
	if err != nil {
		return 0, err
	}
	n, err := strconv.ParseInt(s, 10, 64)
	if err != nil || n < 1 || n > maxWeight {
		return 0, fmt.Errorf("%q is not a whole number from 1 to %d", s, maxWeight)
	}
	return n, nil
}

func (l *loader) watchdog(b *hcl.Block, into *Watchdog) {
	f := l.open(b, watchdogSchema)
	set(f, "stalled_after", &into.StalledAfter, duration)
	given := set(f, "restart_after", &into.RestartAfter, durationOrNever)
	set(f, "trust_health", &into.TrustHealth, boolean)
	if into.RestartAfter != 0 && into.RestartAfter < into.StalledAfter {
		if !given {
			into.RestartAfter = into.StalledAfter
			return
		}
		l.report(f.at("restart_after"), "Contradicting durations", "restart_after is %v, which is less than stalled_after, %v.",
			into.RestartAfter, into.StalledAfter)
	}
}

// durationOrNever reads a length of time, or "never", which is 0.
func durationOrNever(v cty.Value) (time.Duration, error) {
	if s, err := text(v); err == nil && s == "never" {
		return 0, nil
	}
	return duration(v)
}
