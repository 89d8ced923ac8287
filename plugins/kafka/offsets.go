package main

import (
	"errors"
	"slices"
	"strconv"
	"strings"
	"time"
)

// bound is where a flow begins or ends, as an address says it. The zero value says nothing.
type bound struct {
	edge    string // edgeEarliest or edgeLatest
	time    time.Time
	offsets map[int32]int64
}

const (
	edgeEarliest = "earliest"
	edgeLatest   = "latest"
)

var errBound = errors.New("is not earliest, latest, a time such as 2026-01-31T12:00:00Z, or offsets such as 0:17,1:4")

func parseBound(text string) (bound, error) {
	if text == edgeEarliest || text == edgeLatest {
		return bound{edge: text}, nil
	}
	if t, err := time.Parse(time.RFC3339, text); err == nil {
		return bound{time: t}, nil
	}
	b := bound{offsets: map[int32]int64{}}
	for pair := range strings.SplitSeq(text, ",") {
		partition, offset, _ := strings.Cut(strings.TrimSpace(pair), ":")
		p, err := strconv.ParseInt(partition, 10, 32)
		n, offsetErr := strconv.ParseInt(offset, 10, 64)
		if _, twice := b.offsets[int32(p)]; err != nil || offsetErr != nil || p < 0 || n < 0 || twice {
			return bound{}, errBound
		}
		b.offsets[int32(p)] = n
	}
	return b, nil
}

// maxPartitions bounds what an address can ask for.
const maxPartitions = 10_000

// parsePartitions reads a list such as 0,2-4. The result is in order.
func parsePartitions(text string) ([]int32, error) {
	var all []int32
	for piece := range strings.SplitSeq(text, ",") {
		first, last, isRange := strings.Cut(strings.TrimSpace(piece), "-")
		if !isRange {
			last = first
		}
		from, err := strconv.ParseInt(first, 10, 32)
		to, lastErr := strconv.ParseInt(last, 10, 32)
		if err != nil || lastErr != nil || from < 0 || to < from || to-from >= maxPartitions || len(all) > maxPartitions {
			return nil, errors.New("is not a list of partitions such as 0,2-4")
		}
		for p := from; p <= to; p++ {
			all = append(all, int32(p))
		}
	}
	slices.Sort(all)
	return slices.Compact(all), nil
}
